"""Formulas of thousands of terms and of hundreds of levels at every door; limits that have names."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import usual
from bound_reduction import BoundReduction
from cuda_texts import kernel_text

from kernelops import KernelOperator
from kernelops.errors import FormulaError
from kernelops.formula.distances import MOST_NESTED
from kernelops.formula.elementary import MOST_DECIMALS
from kernelops.formula.expr import LONGEST, apply, const, topological, variable
from kernelops.formula.grad import grad
from kernelops.formula.ops import HIGHEST_ORDER, LARGEST, MOST_AXES
from kernelops.formula.parse import (
    DEEPEST,
    MOST_ARGUMENTS,
    MOST_DERIVED,
    MOST_OPERATIONS,
    parse,
    parse_alias,
)
from kernelops.formula.sequences import LONGEST_SERIES
from kernelops.formula.structure import symmetric
from kernelops.numpy import Genred, KernelSolve
from kernelops.program import lowering
from kernelops.program.compile import compile_sum
from kernelops.truncation.intervals import interval_of

ALIASES = usual.aliases(3, 1, "g")
MANY = 1200  # terms, at every door; Python's calls go a thousand deep
X = np.random.default_rng(0).random((4, 3))
B = np.random.default_rng(1).random((4, 1))
G = np.ones(1)
SQUARES = ((X[:, None] - X) ** 2).sum(-1)
K = sum(np.exp(-(k + 1) * SQUARES / MANY) for k in range(MANY))


def nested(before, middle, behind, levels=DEEPEST - 10):
    return before * levels + middle + behind * levels


@pytest.fixture(scope="module")
def kernel():
    """A sum of Gaussians."""
    return "(" + "+".join(f"Exp(SqDist(x,y)*{-(k + 1) / MANY!r})" for k in range(MANY)) + ")*b"


def test_a_sum_of_5000_terms():
    formula = "(" + "+".join(f"Exp(SqDist(x,y)*{-(k + 1) / 5000!r})" for k in range(5000)) + ")*b"
    found = Genred(formula, ALIASES[:3], axis=1)(X, X, B)
    want = sum(np.exp(-(k + 1) / 5000 * SQUARES) for k in range(5000)) @ B
    np.testing.assert_allclose(found, want, rtol=1e-12)


def test_its_logarithm(kernel):
    found = Genred(kernel, ALIASES[:3], "LogSumExp", axis=1)(X, X, B)
    terms = K * B.T
    np.testing.assert_allclose(found[:, 0], np.logaddexp.reduce(terms, axis=1), rtol=1e-12)


def test_its_operator_and_solve(kernel):
    operator = KernelOperator(kernel, ALIASES[:3], "b", X, X, alpha=1.0)
    np.testing.assert_allclose(operator @ B[:, 0], K @ B[:, 0] + B[:, 0], rtol=1e-12)
    assert operator.symmetric == "yes"
    a = KernelSolve(kernel, ALIASES[:3], "b", axis=1)(X, X, B, alpha=1.0)
    np.testing.assert_allclose(a, np.linalg.solve(K + np.eye(4), B), rtol=1e-6, atol=1e-8)


def test_its_gradient(kernel):
    formula = parse(kernel, ALIASES[:3])
    found = grad(formula.expr, formula.find("x"), const(1))
    rates = -(np.arange(MANY) + 1) / MANY
    slopes = (2 * rates[:, None, None] * np.exp(rates[:, None, None] * SQUARES)).sum(0)
    want = (slopes[..., None] * (X[:, None] - X) * B[:, 0][None, :, None]).sum(1)
    np.testing.assert_allclose(BoundReduction(found, "Sum", 1, [X, X, B])(), want, rtol=1e-10, atol=1e-10)


def test_its_bounds_text_and_copies(kernel):
    formula = parse(kernel, ALIASES[:3])
    boxes = {v: (np.zeros(v.dim), np.ones(v.dim)) for v in formula.variables}
    lo, hi = interval_of(formula.expr, boxes)
    assert lo[0] >= 0 and MANY <= hi[0] < np.inf
    assert parse(str(formula.expr)).expr is formula.expr
    assert pickle.loads(pickle.dumps(formula)).expr is copy.deepcopy(formula).expr is formula.expr
    assert len(repr(formula.expr)) < 100
    assert "kernel" in kernel_text(compile_sum(formula.expr, 1), name="kernel")


def test_a_formula_that_is_gone_leaves_nothing():
    """The nodes of a long one go, too, without a call for each within that of the next."""
    e = variable("Vi", 0, 1)
    for k in range(20_000):
        e = apply("Add", e, const(float(k)))
    del e


def test_the_text_of_what_is_shared_again_and_again():
    """200 operations, whose text would have 2**200: it is cut, and its end says so."""
    e = variable("Vi", 0, 1)
    for _ in range(100):
        e = apply("Sin", apply("Add", e, e))
    assert str(e).endswith("...") and LONGEST < len(str(e)) < LONGEST + 100 and len(repr(e)) < 100
    assert pickle.loads(pickle.dumps(e)) is e


LONG = {
    "a difference": ("-".join(f"Sin({k + 1}*x*y)" for k in range(400)), None),
    "a product": ("*".join(["x"] * 400) + "*y", lambda x, y: x**400.0 * y),
    "a product of functions": ("*".join(f"Cos(x*y/{k + 1000})" for k in range(400)), None),
    "divided again and again": ("y" + "/Exp(x|x)" * 400, lambda x, y: y * np.exp(-400 * (x * x).sum(-1))[..., None]),
    "their sum": ("Sum(y" + "/Exp(x|x)" * 400 + ")", None),
    "choices": ("+".join(f"IfElse(Sum(x-y)-{k},x,y)" for k in range(400)), None),
    "Concat to the left": (nested("Concat(", "x", ",y)"), None),
    "Concat to the right": (nested("Concat(y,", "x", ")"), None),
    "a part of it": (f"Extract({nested('Concat(', 'x*y', ',y)')},1,2)", lambda x, y: (x * y)[..., 1:]),
    "choices within choices": (nested("IfElse(x-y,", "x*y", ",y)"), None),
    "functions of functions": (nested("Sin(", "x*y", ")"), None),
    "signs": (nested("-", "(x*y)", ""), lambda x, y: x * y),
    "held within bounds": (nested("Clamp(", "x*y", ",0,y)"), None),
}


@pytest.mark.parametrize("name", LONG)
def test_long_and_deep_formulas(name):
    formula, value = LONG[name]
    points = X * 1e-2 + 0.99 if "product" == name[-7:] else X
    found = Genred(formula, ALIASES[:2], axis=1)(points, points)
    assert np.isfinite(found).all()
    if value is not None:
        with np.errstate(under="ignore"):
            want = value(points[:, None], points[None]).sum(1)
        np.testing.assert_allclose(found, want, rtol=1e-10)
    if len(formula) < 20_000:
        assert Genred(f"Grad(Sum({formula}),x,1)", ALIASES[:2], axis=1)(points, points).shape == (4, 3)


def test_symmetry_of_a_long_sum_whose_terms_change_places():
    formula = parse(
        "(" + "+".join(f"Exp({k}*Sum(x)-Sum(y))+Exp({k}*Sum(y)-Sum(x))" for k in range(200)) + ")*b", ALIASES
    )
    assert symmetric(formula.expr, formula.find("b"), [(0, 1)]) == "yes"


# ---- built by repeated operations, without text ----

DEEP = 2000
DOT = apply("Sum", apply("Mult", variable("Vi", 0, 3), variable("Vj", 1, 3)))
DOTS = X @ X.T
ROUNDS = range(DEEP)


def chain(step, first=DOT):
    for k in ROUNDS:
        first = step(k, first)
    return first


CHAINS = {  # 2000 operations on one another, and what they give for numbers from 1 on
    "sums to the right": (
        lambda: chain(lambda k, e: apply("Add", apply("Sin", apply("Mult", const(k + 1.0), DOT)), e)),
        lambda dots: dots + sum(np.sin((k + 1) * dots) for k in ROUNDS),
    ),
    "functions of functions": (
        lambda: chain(lambda k, e: apply("Sin", e)),
        lambda dots: chain(lambda k, e: np.sin(e), dots),
    ),
    "choices to the right": (
        lambda: chain(lambda k, e: apply("IfElse", apply("Subtract", DOT, const(k / DEEP)), LINES[k], e)),
        lambda dots: np.sin(dots) * DEEP,  # the last condition is asked first, and holds
    ),
}
LINES = [apply("Mult", const(k + 1.0), apply("Sin", DOT)) for k in ROUNDS]


@pytest.mark.parametrize("name", CHAINS)
def test_chains_of_2000_operations(name):
    """Values; derivatives, whose length is by that of the formula; copies."""
    build, value = CHAINS[name]
    e, points = build(), X + 1.0
    taken = BoundReduction(e, "Sum", 1, [points, points])()
    np.testing.assert_allclose(taken[:, 0], value(points @ points.T).sum(1), rtol=1e-9)
    derivative = grad(e, e.vars[0], const(1))
    assert sum(1 for _ in topological(derivative)) < 40 * DEEP
    step = 1e-6
    moved = BoundReduction(e, "Sum", 1, [points + step * np.eye(1, 3), points])()
    found = BoundReduction(derivative, "Sum", 1, [points, points])()
    np.testing.assert_allclose(found[:, 0], (moved - taken)[:, 0] / step, rtol=1e-2, atol=1e-2)
    assert pickle.loads(pickle.dumps(e)) is copy.deepcopy(e) is e


def test_a_branch_that_is_not_taken_leaves_no_trace_in_a_derivative():
    """Even if it is infinite, and deep inside more choices than masks are kept around one another."""
    x = variable("Vi", 0, 1)
    e = apply("Mult", apply("Inv", x), x)  # its derivative is NaN at 0
    for k in range(30):
        holds, fails = apply("Subtract", x, const(-k - 1.0)), apply("Subtract", x, const(k + 1.0))
        other = apply("Mult", const(k + 2.0), apply("Sin", x))
        e = apply("IfElse", holds, e, other) if k % 2 else apply("IfElse", fails, other, e)
        e = apply("IfElse", holds, apply("Mult", const(3.0), x), e) if k == 0 else e
    derivative = apply("Mult", grad(e, x, const(1)), variable("Vj", 1, 1))
    found = BoundReduction(derivative, "Sum", 1, [np.zeros((1, 1)), np.ones((1, 1))])()
    np.testing.assert_array_equal(found, [[3.0]])


# ---- limits ------------------------------------------------------------------------------------------------------

ONES = ",".join(["1"] * (MOST_AXES + 1))
LIMITS = [
    ("+".join(["x"] * (MOST_OPERATIONS + 2)), f"more than {MOST_OPERATIONS} operations"),
    ("x" + "+x" * LONGEST, rf"the text has \d+ characters, wanted {LONGEST} at most: x\+x"),
    ("(" * (DEEPEST + 1), f"nested more than {DEEPEST} levels"),
    (f"TensorDot(b,g,[{ONES}],[1],[],[])", rf"the first operand has {MOST_AXES + 1} dimensions, wanted {MOST_AXES}"),
    (f"TensorDot(b,g,[1],[{ONES}],[],[])", "the second operand has"),
    (
        f"TensorDot(b,g,[{ONES[2:]}],[{ONES[2:]}],[],[])",
        f"the result has {2 * MOST_AXES} dimensions, wanted {MOST_AXES} at most",
    ),
    (f"Pow(x,{LARGEST + 1})", f"an integer of at most {LARGEST}"),
    ("q" * 100_000, r"unknown variable qqq.*\.\.\.$"),
    ("q" * 100_000 + "(x)", r"unknown operation qqq.*\.\.\.$"),
    ("x " + "9" * 100_000, r"got '999.*\.\.\.'$"),
    (f"Vi({MOST_ARGUMENTS},3)", f"a position below {MOST_ARGUMENTS}, got {MOST_ARGUMENTS}"),
    ("Grad(SinXDivX(x,100),x,1)", "from 0 to 100, got 101"),
]


@pytest.mark.parametrize(("formula", "message"), LIMITS, ids=[m[:30] for _, m in LIMITS])
def test_limits_have_names(formula, message):
    with pytest.raises(FormulaError) as caught:
        parse(formula, ALIASES)
    lines = str(caught.value).split("\n")
    assert caught.match("(?m)" + message) and len(lines) <= 3 and max(map(len, lines)) < 200


def test_the_documents_have_these_limits():
    page = (Path(__file__).parent.parent.parent / "docs" / "formulas.md").read_text()
    rows = (
        ("characters of a text", LONGEST),
        ("operations of a formula", MOST_OPERATIONS),
        ("operations of what `Grad` gives", MOST_DERIVED),
        ("brackets within brackets", DEEPEST),
        ("aliases, and positions", MOST_ARGUMENTS),
        ("static parameters such as the exponent of `Pow`", LARGEST),
        ("and of its result", MOST_AXES),
        ("the order of `SinXDivX`", HIGHEST_ORDER),
        ("absolute values within one another in what is differentiated", MOST_NESTED),
        ("decimals of `Round`", MOST_DECIMALS),
        ("components of both series of `SoftDTW_SqDist` together", LONGEST_SERIES),
        ("for a row, a column or a pair", lowering.MOST_COMPONENTS),
    )
    for of, most in rows:
        assert f"{of} | {most:,}" in page, of


def absolute_values(n):
    """|...||x - y| + x - 1/64| + x - 2/64...|, n deep."""
    x, e = variable("Vi", 0, 1), apply("Subtract", variable("Vi", 0, 1), variable("Vj", 1, 1))
    for k in range(n):
        e = apply("Abs", apply("Subtract", apply("Add", e, x), const(k / 64)))
    return e


def test_absolute_values_within_one_another():
    """They are evaluated at any depth; a derivative works out a limit for each, and refuses too many."""
    x, y = np.array([[0.3], [-0.7]]), np.array([[0.1]])
    deep = absolute_values(60)
    value = x - y
    for k in range(60):
        value = np.abs(value + x - k / 64)
    np.testing.assert_allclose(BoundReduction(deep, "Sum", 1, [x, y])(), value, rtol=1e-12)
    with pytest.raises(FormulaError, match=f"nested 60 deep: wanted {MOST_NESTED} levels at most"):
        grad(deep, variable("Vi", 0, 1), const(1.0))
    small = grad(absolute_values(4), variable("Vi", 0, 1), const(1.0))
    step = 1e-6
    there, here = (BoundReduction(absolute_values(4), "Sum", 1, [x + s, y])() for s in (step, -step))
    np.testing.assert_allclose(BoundReduction(small, "Sum", 1, [x, y])(), (there - here) / (2 * step), rtol=1e-6)


def test_limits_of_aliases():
    with pytest.raises(FormulaError, match=f"a position below {MOST_ARGUMENTS}, got 1000000000"):
        parse_alias("x = Vi(1000000000,3)", 0)
    with pytest.raises(FormulaError, match=f"there are {MOST_ARGUMENTS + 1} aliases, wanted {MOST_ARGUMENTS} at most"):
        parse("v0", [f"v{k} = Vi(3)" for k in range(MOST_ARGUMENTS + 1)])
    with pytest.raises(FormulaError, match="the text has"):
        parse_alias("x = Vi(3)" + " " * LONGEST, 0)


def test_a_derivative_within_a_derivative_ends(monkeypatch):
    """Each of them is longer than the one before: one of them is too long. Fewer are enough here."""
    monkeypatch.setattr("kernelops.formula.parse.MOST_DERIVED", 2000)
    formula = "Exp(-g*g*SqDist(x,y))*Sin(g*Sum(x*y))/Sqrt(1+g*g)"
    with pytest.raises(FormulaError, match="the derivative has more than 2000 operations"):
        parse(nested("Grad(", formula, ",g,1)", 60), ALIASES)


@pytest.mark.parametrize(
    "formula", ["Zero(2000000000)*x|x", "Sum(ExtractT(x,0,100000000)*ExtractT(y,0,100000000))", "SumT(b,1000000000)*g"]
)
def test_vectors_that_are_too_long_to_be_stored(formula):
    with pytest.raises((FormulaError, MemoryError), match=f"numbers at a time .* wanted {lowering.MOST_COMPONENTS}|"):
        Genred(formula, ALIASES, axis=1)(X, X, B, G)


@pytest.mark.parametrize("blanks", [" " * 400_000, "\n" * 400_000, " \t\n" * 100_000])
@pytest.mark.parametrize("where", ["{0}x", "x{0}", "x{0}+{1}y", "x+{0}"])
def test_blanks_take_time_by_their_number(blanks, where):
    """Each blank behind the last token was once tried from all of those before it: minutes."""
    formula = where.format(blanks, blanks[:3])
    if where == "x+{0}":
        with pytest.raises(FormulaError, match="but the text ends"):
            parse(formula, ALIASES)
    else:
        assert parse(formula, ALIASES).expr in (parse("x", ALIASES).expr, parse("x+y", ALIASES).expr)
    assert parse_alias(f"x ={blanks}Vi(3){blanks[:9]}", 0)[0] == "x"


# ---- exponents ---------------------------------------------------------------------------------------------------

BASE = 1 + np.random.default_rng(2).uniform(-1, 1, (4, 3)) * 2.0**-34  # whose powers of 2**31 are near 1
POWERS = [  # formula, exponent, factor
    ("Pow(Pow(x,2147483647),4)", 4 * LARGEST, 1),
    ("Pow(Pow(x,100000),100000)", 10**10, 1),
    ("(x**100000)**100000", 10**10, 1),
    ("Pow(Square(x),2147483647)", 2 * LARGEST, 1),
    ("Pow(Square(x),-2147483647)", -2 * LARGEST, 1),
    ("Square(Pow(x,1500000000))", 3 * 10**9, 1),
    ("Inv(Pow(x,-2147483647))", LARGEST, 1),
    ("Pow(Inv(x),2147483647)", -LARGEST, 1),
    ("Pow(Minus(Pow(x,2147483647)),3)", 3 * LARGEST, -1),
    ("Grad(Pow(x,-2147483647),x,1)", -LARGEST - 1, -LARGEST),
    ("Grad(Grad(Pow(x,-2147483647),x,1),x,1)", -LARGEST - 2, LARGEST * (LARGEST + 1)),
    ("Grad(Grad(Grad(Pow(x,-2147483647),x,1),x,1),x,1)", -LARGEST - 3, -LARGEST * (LARGEST + 1) * (LARGEST + 2)),
]


@pytest.mark.parametrize(("formula", "exponent", "factor"), POWERS, ids=[p[0] for p in POWERS])
def test_exponents_beyond_32_bits(formula, exponent, factor):
    expr = parse(formula, ALIASES).expr
    assert (
        all(abs(n.params[0]) <= LARGEST for n in topological(expr) if n.op == "Pow") and parse(str(expr)).expr is expr
    )
    found = Genred(f"({formula})+0*y", ALIASES[:2], axis=1)(BASE, X[:1])
    want = factor * np.exp(exponent * np.log(BASE.astype(np.longdouble)))
    np.testing.assert_allclose(found, want.astype(float), rtol=1e-5)  # 2**33 products, each rounded


def test_an_exponent_that_no_rule_can_make():
    with pytest.raises(FormulaError, match=f"an m from -{LARGEST} to {LARGEST}, got {2**31}"):
        apply("Pow", variable("Vi", 0, 1), params=(2**31,))
