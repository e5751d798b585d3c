"""Every operation against its line of NumPy, at every place, and on special values under every instruction set."""

import re

import numpy as np
import pytest
from bound_reduction import BoundReduction
from cases import CASES, REST
from judges import assert_sum_close

from kernelops.formula.defined import DEFINED
from kernelops.formula.expr import apply, const, topological, variable
from kernelops.formula.ops import OPS
from kernelops.formula.parse import parse
from kernelops.numpy import Genred
from kernelops.program.compile import compile_sum

DTYPES = ("float32", "float64")
A, B, C = (variable("Vi", k, 1) for k in range(3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_against_numpy(case, axis, dtype):
    arrays, formula = case.data(21, 35, dtype), parse(case.formula, case.aliases)
    terms = case.dense(arrays, np.longdouble if dtype == "float64" else np.float64)
    got = BoundReduction(formula.expr, "Sum", axis, arrays, variables=formula.variables)()
    assert got.dtype == dtype
    assert_sum_close(got, terms, axis, case.units)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_under_every_instruction_set(case, isa):
    arrays, formula = case.data(3, 270, "float32"), parse(case.formula, case.aliases)
    got = BoundReduction(formula.expr, "Sum", 1, arrays, variables=formula.variables)()
    assert_sum_close(got, case.dense(arrays), 1, case.units)


def test_every_operation_is_in_the_table():
    formulas = [parse(c.formula, c.aliases).expr for c in CASES]
    assert {n.op for f in formulas for n in topological(f)} >= set(OPS)
    assert {word for c in CASES for word in re.findall(r"[A-Za-z]\w*(?=\()", c.formula)} >= set(DEFINED)


def test_every_instruction_is_tried_at_every_place():
    programs = [compile_sum(parse(c.formula, c.aliases).expr, axis) for c in CASES for axis in (0, 1)]
    wanted = {name for name, row in OPS.items() if row.elementwise} | {"TensorDot", "Copy"}
    for place in ("param", "row", "col", "pair"):
        tried = {i.op for p in programs for i in getattr(p, place).code}
        # among pairs, Minus is a factor -1 of a product
        assert tried >= wanted - ({"Minus"} if place == "pair" else set()), place


@pytest.mark.parametrize("case", REST, ids=lambda c: c.name)
def test_half_precision(case):
    """Data and results have 11 bits, what is between 24."""
    data = [np.round(a * 8) / 8 for a in case.data(6, 9, "float16")]  # nothing is near where a function jumps
    found = Genred(case.formula, case.aliases, axis=1)(*data)
    want = case.dense(data).sum(1)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, want, rtol=2e-3, atol=2e-3 * abs(want).max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_components_with_nan_and_infinities(dtype):
    """As NumPy has it: a NaN is larger and smaller than all numbers, and the first of equal ones counts."""
    rng = np.random.default_rng(0)
    x = rng.choice(np.array([np.nan, np.inf, -np.inf, 0, 0, 1, -2], dtype), (200, 5), p=[0.05, *[0.95 / 6] * 6])
    for d in (1, 4, 5):
        for name, truth in {"Max": np.max, "Min": np.min, "ArgMax": np.argmax, "ArgMin": np.argmin}.items():
            found = Genred(f"{name}(Extract(x,0,{d}))", ["x = Vi(5)", "y = Vj(1)"], axis=1)(x, np.zeros((1, 1), dtype))
            np.testing.assert_array_equal(found[:, 0], truth(x[:, :d], -1))


# ---- special values -----------------------------------------------------------------------------------------------


def specials(dtype):
    f = np.finfo(dtype)
    positive = [0.0, 1.0, 0.5, 3.0, 1e4, f.smallest_subnormal, 3 * f.smallest_subnormal, f.tiny, f.eps, f.max, np.inf]
    return np.array([*positive, *(-v for v in positive), np.nan], dtype)


def keeping_nan(value):
    return lambda *t: np.where(np.isnan(t).any(0), np.nan, value(*t))


UNARY = {  # what is exact, in the arithmetic of the operand
    "Minus": lambda t: -t,
    "Inv": lambda t: 1 / t,
    "Sqrt": np.sqrt,
    "Rsqrt": lambda t: np.where(t == 0, 0, 1 / np.sqrt(t)),
    "Square": lambda t: t * t,
    "Abs": np.abs,
    "ReLU": lambda t: np.maximum(t, 0),
    "Sign": np.sign,
    "Step": keeping_nan(lambda t: t >= 0),
    "Floor": np.floor,
}
ROUNDED = {  # what is right to two units in the last place
    ("Exp", ()): np.exp,
    ("Log", ()): np.log,
    ("Sin", ()): np.sin,
    ("Cos", ()): np.cos,
    ("Tanh", ()): np.tanh,
    ("Pow", (0,)): np.ones_like,
    ("Pow", (3,)): lambda t: t * t * t,
    ("Pow", (-1,)): lambda t: 1 / t,
    ("SinXDivX", (0,)): lambda t: np.where(t == 0, 1, np.sin(t) / t),
}
BINARY = {
    "Add": lambda s, t: s + t,
    "Subtract": lambda s, t: s - t,
    "Mult": lambda s, t: s * t,
    "Divide": lambda s, t: s / t,
    "Powf": np.power,
    "Atan2": np.arctan2,
    "Equal": np.equal,
    "NotEqual": np.not_equal,
    "LessThan": np.less,
    "LessOrEqual": np.less_equal,
}
TERNARY = {
    "Clamp": keeping_nan(lambda t, low, high: np.where(t < low, low, np.minimum(t, high))),
    "IfElse": lambda t, yes, no: np.where(t >= 0, yes, no),
}


def values(expr, *arrays):
    """The value of an expression of A, B, C, entry by entry: the sum over a single column."""
    return BoundReduction(expr, "Sum", 1, [a[:, None] for a in arrays])()[:, 0]


def assert_same(got, want, ulps=0):
    with np.errstate(all="ignore"):
        want = np.asarray(want).astype(got.dtype)
        near = (got == want) | (abs(got - want) <= ulps * np.spacing(abs(want)))
    wrong = ~(near | (np.isnan(got) & np.isnan(want)))
    assert not wrong.any(), f"got {got[wrong]}, wanted {want[wrong]} at {np.flatnonzero(wrong)}"


def test_the_tables_here_are_complete():
    unary = [*UNARY, *(name for name, _ in ROUNDED)]
    assert {*unary, *BINARY, *TERNARY} == {name for name, row in OPS.items() if row.elementwise}


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values_of_one_operand(dtype, isa):
    a = np.resize(specials(dtype), 97)  # several times, and no whole number of vectors
    with np.errstate(all="ignore"):
        for name, value in UNARY.items():
            assert_same(values(apply(name, A), a), value(a))
        for (name, params), value in ROUNDED.items():
            assert_same(values(apply(name, A, params=params), a), value(a.astype(np.float64)), ulps=2)


def diagonal(op, axis, *arrays):
    """op at (i, i), for operands indexed by i and by j in turn, computed among pairs: all others are held at 0."""
    operands = [variable(("Vi", "Vj")[k % 2], k, 1) for k in range(len(arrays))]
    i, j = variable("Vi", len(arrays), 1), variable("Vj", len(arrays) + 1, 1)
    here = apply("IfElse", apply("Minus", apply("Square", apply("Subtract", i, j))), apply(op, *operands), const(0))
    count = np.arange(len(arrays[0]), dtype=arrays[0].dtype)[:, None]
    return BoundReduction(here, "Sum", axis, [*(a[:, None] for a in arrays), count, count])()[:, 0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BINARY)
def test_special_values_of_two_operands(name, dtype, isa):
    """Vector with vector, scalar with vector and vector with scalar are separate loops in the engine."""
    a, b = (c.ravel() for c in np.meshgrid(specials(dtype), specials(dtype)))
    ulps = 2 if name in ("Powf", "Atan2") else 0
    with np.errstate(all="ignore"):
        want = BINARY[name](a.astype(np.float64) if ulps else a, b)
    assert_same(values(apply(name, A, B), a, b), want, ulps)
    for axis in (0, 1):
        assert_same(diagonal(name, axis, a, b), want, ulps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TERNARY)
def test_special_values_of_three_operands(name, dtype, isa):
    some = specials(dtype)[[0, 1, 3, 10, 11, 12, 14, 21, 22]]
    a, b, c = (g.ravel() for g in np.meshgrid(some, some, some))
    want = TERNARY[name](a, b, c)
    assert_same(values(apply(name, A, B, C), a, b, c), want)
    for axis in (0, 1):
        assert_same(diagonal(name, axis, a, b, c), want)
