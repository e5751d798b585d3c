"""Reading formulas: the grammar, the aliases, and a caret under whatever is wrong."""

import pickle
import subprocess
import sys
from os import environ

import numpy as np
import pytest
import usual
from hypothesis import example, given, settings
from hypothesis import strategies as st
from interpreter import evaluate
from strategies import formulas

from kernelops.errors import FormulaError
from kernelops.formula.calculus import CALCULUS
from kernelops.formula.expr import Expr, apply, const, text, variable
from kernelops.formula.grad import grad
from kernelops.formula.parse import parse, parse_alias

ALIASES = ["x = Vi(3)", "y = Vj(3)", "s = Vi(1)", "t = Pm(1)", "b = Vj(2)"]


def read(formula, aliases=ALIASES):
    return parse(formula, aliases).expr


SAME = [  # two ways to write one expression
    ("x-y|x-y", "Scalprod(Subtract(x,y),Subtract(x,y))"),
    ("-x**2", "Minus(Square(x))"),
    ("-2**2", "Minus(Square(2))"),
    ("2**-1", "Pow(2,-1)"),
    ("x**-s", "Powf(x,Minus(s))"),
    ("x**2", "Square(x)"),
    ("x**3", "Pow(x,3)"),
    ("x**2.0", "Square(x)"),
    ("x**(3)", "Pow(x,3)"),
    ("x**-1", "Pow(x,-1)"),
    ("x**0.5", "Sqrt(x)"),
    ("x**1.5", "Powf(x,1.5)"),
    ("x**s", "Powf(x,s)"),
    ("s**t**2", "Powf(s,Square(t))"),
    ("2**s**2", "Powf(2,Square(s))"),
    ("x-y-s", "Subtract(Subtract(x,y),s)"),
    ("x/y*s", "Mult(Divide(x,y),s)"),
    ("x+y*s", "Add(x,Mult(y,s))"),
    ("(x+y)*s", "Mult(Add(x,y),s)"),
    ("-x*y", "Mult(Minus(x),y)"),
    ("x*-y", "Mult(x,Minus(y))"),
    ("--x", "Minus(Minus(x))"),
    ("+x", "x"),
    ("x+-1", "Add(x,-1)"),
    ("-(3)", "-3"),
    ("x|y|s", "Scalprod(Scalprod(x,y),s)"),
    ("x|y+s", "Scalprod(x,Add(y,s))"),
    ("x|y<s", "LessThan(Scalprod(x,y),s)"),
    ("x>y", "LessThan(y,x)"),
    ("x>=y", "LessOrEqual(y,x)"),
    ("x<=y", "LessOrEqual(x,y)"),
    ("x==y", "Equal(x,y)"),
    ("x!=y", "NotEqual(x,y)"),
    ("(x<y)==(s<t)", "Equal(LessThan(x,y),LessThan(s,t))"),
    ("Var(0,3,0)-Var(1,3,1)", "x-y"),
    ("Vi(0,3)-Vy(1,3)+Pm(3,1)", "x-y+t"),
    (" \n Exp ( -\ts )  ", "Exp(-s)"),
    ("1e-3*s+.5", "0.001*s+0.5"),
    ("1.E+2", "100"),
    ("SumT(-1,3)", "-SumT(1,3)"),
    ("Zero(3)", "SumT(0,3)"),
    ("Elem(x,1)", "Extract(x,1,1)"),
    ("SinXDivX(s)", "SinXDivX(s,0)"),
    ("TensorDot(x,y,[3],[3],[],[])", "TensorDot(x,y,[3],[3],[],[],[0,1])"),
    ("TensorDot( x, y, [ 3 ], [3,1], [0], [ 0 ] )", "TensorDot(x,y,[3],[3,1],[0],[0],[0])"),
    ("SqDist(x,y)", "Sum(Square(x-y))"),
    ("Grad(SqDist(x,y),x,1)", "2*(x-y)"),
    ("Grad(Exp(-SqDist(x,y))*b,b,b)", usual.GAUSS),
    ("Grad(Grad(SqDist(x,y),x,s),y,x)", "-2*(s*x)"),
    ("s*pi", "s*3.141592653589793"),
    ("Diff(SqDist(x,y),x,y)", "2*Sum((x-y)*y)"),
    ("GradMatrix(SqDist(x,y),x)", "2*(x-y)"),
    ("Divergence(x*y,x)", "Sum(y)"),
    ("Laplacian(SqDist(x,y),x)", "6"),
    ("TraceOperator(x*y,x)", "Sum(y)"),
]


@pytest.mark.parametrize(("formula", "same"), SAME)
def test_grammar(formula, same):
    if formula.startswith(tuple(CALCULUS)):
        found, want = read(formula), read(same)
        at = {v: np.linspace(-0.4, 0.9, v.dim) + v.position for v in parse("x", ALIASES).variables}
        np.testing.assert_allclose(evaluate(found, at), evaluate(want, at), rtol=1e-14)
    else:
        assert read(formula) is read(same)


def test_constants():
    assert read("-3") is const(-3)
    assert read("- 3") is const(-3)
    assert read("Minus(3)") is apply("Minus", const(3))
    assert str(read("-0.0")) == "-0.0" and read("-0.0") is not read("0")
    assert read("IntInv(4)*RatCst(1,2)*IntCst(3)") is read("0.25*0.5*3")


ALIAS = [
    ("x = Vi(3)", 4, ("Vi", 4, 3)),
    ("x=Vj( 0 , 3 )", 4, ("Vj", 0, 3)),
    (" _a1 = Pm(1)", 0, ("Pm", 0, 1)),
    ("x = Var(2,3,0)", 0, ("Vi", 2, 3)),
    ("x = Vx(5)", 1, ("Vi", 1, 5)),
    ("x = Vy(2,5)", 1, ("Vj", 2, 5)),
]


@pytest.mark.parametrize(("alias", "index", "want"), ALIAS)
def test_aliases(alias, index, want):
    name, node = parse_alias(alias, index)
    assert name == alias.split("=")[0].strip() and node is variable(*want)


def test_formula():
    f = parse(usual.GAUSS, ["y = Vj(1,3)", "x = Vi(0,3)", "b = Vj(2)", "unused = Pm(4)"])
    assert [v.position for v in f.variables] == [0, 1, 2, 3]
    assert [f.names[v] for v in f.variables] == ["x", "y", "b", "unused"]
    assert f.find("b") is f.variables[2] and str(f) == f.text == usual.GAUSS
    assert text(f.expr, f.names) == "Exp(-Sum(Square(x-y)))*b"
    with pytest.raises(FormulaError, match="no variable 'bb'; did you mean b"):
        f.find("bb")
    copy = pickle.loads(pickle.dumps(f))
    assert copy.expr is f.expr and copy.variables == f.variables and copy.names == f.names


def test_variables_in_the_text_only():
    f = parse("Exp(-SqDist(Var(0,2,0),Var(1,2,1)))*Var(4,1,1)")
    assert [v.position for v in f.variables] == [0, 1, 4] and f.names == {}


WRONG = [  # formula, message, column of the caret
    ("Exp(x,y)", r"Exp takes 1 argument\(s\), got 2", 0),
    ("2*Exp(s,s)", r"Exp takes 1 argument\(s\), got 2", 2),
    ("SqDist(x)", r"SqDist takes 2 argument\(s\), got 1", 0),
    ("SinXDivX(x,1,2)", r"SinXDivX takes 1 or 2 argument\(s\), got 3", 0),
    ("TensorDot(x,y,[3])", r"TensorDot takes 6 or 7 argument\(s\), got 3", 0),
    ("Exp()", "Exp wants arguments, got none", 0),
    ("Exq(x)", "unknown operation Exq; did you mean Exp", 0),
    ("sqdist(x,y)", "unknown operation sqdist; did you mean SqDist", 0),
    ("x+Zzzzz(y)", "unknown operation Zzzzz\n", 2),
    ("x+why", "unknown variable why", 2),
    ("X", "unknown variable X; did you mean x", 0),
    ("x(3)", "x is a variable, not an operation", 0),
    ("s*Exp", r"Exp is an operation and wants its arguments: Exp\(f\)", 2),
    ("x+ComplexMult(x,y)", r"complex numbers \(re, im, re, im, ...\), got a vector of odd length 3", 2),
    ("ComplexAdd(SumT(s,4),SumT(s,6))", "operands of one length, or one of length 2, got 4 and 6", 0),
    ("ComplexRealScal(x,y)", "a vector of length 1 and one of even length, got 3 and 3", 0),
    ("ComplexSumT(b,3)", "an even d >= 2, got length 2 and 3", 0),
    ("Kron(x,y,[3],[1,3])", r"as many dimensions of f as of g, got \[3\] and \[1, 3\]", 0),
    ("Kron(x,y,3,[3])", "expected a list of integers", 9),
    ("SqNormIso(x,y)", r"SqNormIso\(s, f\) wants weights of length 1 for a vector of length 3, got 3", 0),
    ("SqNormDiag(s,y)", "wants weights of length 3 for a vector of length 3, got 1", 0),
    ("SymSqNorm(y,y)", "wants weights of length 9 for a vector of length 3, got 3", 0),
    ("Round(x,23)", "a d from -22 to 22, got 23", 0),
    ("Round(x,0.5)", "expected an integer", 8),
    ("Mod(x,2)", r"Mod takes 3 argument\(s\), got 2", 0),
    ("OneHot(x,3)", "an f of length 1 and d >= 1, got length 3 and 3", 0),
    ("OneHot(s,0)", "got length 1 and 0", 0),
    ("BSpline(x,s,2)", "at least k \\+ 2 knots and an x of length 1, got k = 2, 3 knots and an x of length 1", 0),
    ("SoftDTW_SqDist(x,y,b)", "wants a gamma of length 1, got 2", 0),
    ("SoftDTW_SqDist(SumT(s,40),SumT(s,25),s)", "at most 64 components in x and y, got 40 and 25", 0),
    ("Slice(x,0,2,3)", "2 components, every 3-th from 0 on, asked of a vector of length 3", 0),
    ("Slice(x,0,2,0)", "step >= 1, got 0, 2, 0", 0),
    ("SliceT(x,1,7,3)", "length 3 at every 3-th place from 1 on does not fit into length 7", 0),
    ("x+b", "operands of lengths 3 and 2", 1),
    ("x|b", "operands of lengths 3 and 2", 1),
    ("SqDist(x,b)", "operands of lengths 3 and 2", 0),
    ("Elem(x,3)", "of a vector of length 3", 0),
    ("Elem(x,-1)", "of a vector of length 3", 0),
    ("Elem(x,s)", "expected an integer", 7),
    ("Elem(x,1.5)", "expected an integer", 7),
    ("Elem(x,[1])", "expected an integer", 7),
    ("Elem(x,99999999999)", "expected an integer of at most 2147483647", 7),
    ("Pow(x,s)", "expected an integer", 6),
    ("Exp([1,2])", "a list of integers cannot stand here", 4),
    ("[1]", "expected a variable, a number or an operation, got '\\['", 0),
    ("TensorDot(x,y,3,[3],[0],[0])", "expected a list of integers", 14),
    ("TensorDot(x,y,[3],[3],[0],[1])", "not distinct dimensions of the second operand", 0),
    ("TensorDot(x,y,[2],[3],[0],[0])", "its dimensions", 0),
    ("TensorDot(x,y,[3],[3],[],[],[0,0])", "not a permutation", 0),
    ("TensorDot(x,y,[3 3],[3],[],[])", "expected ','", 17),
    ("MatVecMult(x,b)", "has no rows of length 2", 0),
    ("VecMatMult(b,x)", "has no columns of length 2", 0),
    ("WeightedSqNorm(b,x)", "wanted 1, 3 or 9", 0),
    ("SumT(x,4)", "cannot be stretched to length 4", 0),
    ("Zero(0)", "cannot be stretched to length 0", 0),
    ("IntInv(0)", "denominator 0", 0),
    ("SinXDivX(x,-1)", "whole number from 0 to 100", 0),
    ("TensorProd(Zero(2147483647),Zero(2))", "the longest is 2147483647", 0),
    ("Grad(x,x+y,s)", "wants a variable for v", 7),
    ("Grad(x,x)", r"Grad takes 3 argument\(s\), got 2", 0),
    ("Grad(x,x,b)", "wants e of length 1 or 3, got 2", 9),
    ("Diff(x,y,b)", r"Diff\(F, v, u\) wants u of length 1 or 3, got 2", 9),
    ("Diff(x,y)", r"Diff takes 3 argument\(s\), got 2", 0),
    ("GradMatrix(x,x,s)", r"GradMatrix takes 2 argument\(s\), got 3", 0),
    ("Laplacian(x,x)", "wants an F of length 1, got 3", 0),
    ("Laplacian(x|y,y-x)", r"Laplacian\(F, v\) wants a variable for v", 14),
    ("s+Divergence(b,x)", "wants an F as long as v, 3, got length 2", 2),
    ("TraceOperator(b,x)", "wants an F of length 1 or 3, as v has, got 2", 0),
    ("TraceOperator(x*x,x)", "wants an F that is linear in v", 0),
    ("Laplacian", r"an operation and wants its arguments: Laplacian\(F, v\)", 0),
    ("Exp(x", "expected ',' or '\\)' in the arguments of Exp", 5),
    ("Exp(x y)", "expected ',' or '\\)' in the arguments of Exp", 6),
    ("(x", "expected '\\)'", 2),
    ("x)", "expected an operator or the end, got '\\)'", 1),
    ("x y", "expected an operator or the end, got 'y'", 2),
    ("x+", "but the text ends", 2),
    ("*x", "got '\\*'", 0),
    ("x***y", "got '\\*'", 3),
    ("", "the formula is empty", 0),
    (" \n", "the formula is empty", 0),
    ("s<t<s", "comparisons do not chain", 3),
    ("s = t", "expected an operator or the end, got '='", 2),
    ("x ? y", "unexpected character '\\?'", 2),
    ("x+\n y+π", "unexpected character 'π'", 3),
    ("x+٣", "unexpected character", 2),
    ("2x", "expected an operator or the end, got 'x'", 1),
    ("1.2.3", "expected an operator or the end", 3),
    ("1e999", "the number 1e999 is too large", 0),
    ("9" * 5000, "is too large", 0),
    ("Var(0,2,0)", "position 0 is Vi of length 3 elsewhere", 0),
    ("Var(9,2,0)+Var(9,2,1)", "position 9 is Vi of length 2 elsewhere", 11),
    ("Var(9,2,3)", "expected category 0", 8),
    ("Var(9,2)", r"Var\(position, length, category\) got 2", 0),
    ("Vi(3)", r"expected Vi\(position, length\), got 1", 0),
    ("Vi(-1,3)", "expected a position >= 0", 0),
    ("Vi(9,0)", "a length >= 1", 0),
    ("(" * 300 + "x", "nested more than 200 levels", None),
    ("-" * 300 + "x", "nested more than 200 levels", None),
    ("Exp(" * 300 + "x", "nested more than 200 levels", None),
    ("s**" * 300 + "s", "nested more than 200 levels", None),
]


@pytest.mark.parametrize(("formula", "message", "column"), WRONG)
def test_complaints(formula, message, column):
    with pytest.raises(FormulaError, match=message) as caught:
        read(formula)
    *_, line, caret = str(caught.value).split("\n")
    assert caret.strip() == "^" and len(line) <= 122
    if column is not None:
        assert len(caret) - 1 == column + 2


WRONG_ALIASES = [
    (["x = Vi(3)", "x = Vj(3)"], "the name x is given twice"),
    (["x = Vi(3)", "y = Vj(0,3)"], "position 0 is taken by x already"),
    (["x = Vi(0)"], "a length >= 1"),
    (["x = Vi(-1,2)"], "a position >= 0"),
    (["x = Vi()"], "wants arguments"),
    (["x = Vi(1,2,3)"], r"expected Vi\(length\) or Vi\(position, length\), got 3"),
    (["x = Vi(1.5)"], "expected an integer"),
    (["x = Vi(3) + 1"], "expected the end of the alias"),
    (["x Vi(3)"], "expected '='"),
    (["x ="], "expected Vi, Vj, Pm or Var"),
    (["x = Vk(3)"], "expected Vi, Vj, Pm or Var"),
    (["1x = Vi(3)"], "an alias begins with the name"),
    (["Vi = Vi(3)"], "an alias begins with the name"),
    (["é = Vi(3)"], "unexpected character"),
    ([""], "an alias begins with the name"),
    ([3], "an alias is a text .* got int"),
    ("x = Vi(3)", "aliases are a list of texts"),
    (3, "aliases are a list of texts"),
    (["x = Vi([3])"], "expected an integer"),
]


@pytest.mark.parametrize(("aliases", "message"), WRONG_ALIASES)
def test_complaints_about_aliases(aliases, message):
    with pytest.raises(FormulaError, match=message):
        parse("1", aliases)


@pytest.mark.parametrize("formula", [None, 3, b"x", ["x"], const(1)])
def test_a_formula_is_a_text(formula):
    with pytest.raises(FormulaError, match="a formula is a text"):
        parse(formula, ALIASES)


def test_long_lines_are_cut_around_the_caret():
    with pytest.raises(FormulaError) as caught:
        read("+".join(["x"] * 100) + "+oops+" + "+".join(["x"] * 100))
    _, line, caret = str(caught.value).split("\n")
    assert line[caret.index("^") :].startswith("oops")


@settings(max_examples=300, deadline=None)
@given(formulas())
def test_text_is_read_back_to_the_same_node(expr):
    assert read(str(expr), []) is expr
    assert pickle.loads(pickle.dumps(expr)) is expr


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-300, -2.5, 1e22, 2.0**60, 1 / 3])
@pytest.mark.parametrize("dim", [1, 4])
def test_constants_are_read_back(value, dim):
    for expr in (const(value, dim), apply("Minus", const(value, dim)), apply("Mult", const(2), const(value, dim))):
        assert read(str(expr), []) is expr


def test_gradients_are_read_back():
    f = parse("Exp(-t*SqDist(x,y))*(x-y)*((x-y)|x)/Norm2(x-y)**3", ALIASES)
    g = grad(grad(f.expr, f.find("x"), const(1)), f.find("y"), const(1))
    assert read(text(g, f.names)) is g


PIECES = st.sampled_from(
    """x y s t b Exp SqDist Grad TensorDot Elem Vi Var Pow Sum IntInv ( ) [ ] , + - * ** / | < <= == != = 0 1 2 3 -1
    0.5 1e3 1e400 999999999999 é . ? \n""".split(" ")
)


@settings(max_examples=300, deadline=None)
@given(st.text() | st.lists(PIECES, max_size=30).map("".join) | st.text("xystExp()[]+-*/|,0123.e ", max_size=40))
@example("x**1e308")
@example("Pow(x,1e300)")
@example("1e308*1e308")
@example("Elem(x,1e308)")
@example("\ud800")
@example("TensorDot(x,y,[],[],[],[])")
@example("TensorDot(x,y,[0],[3],[],[])")
@example("TensorDot(x,y,[-3,-1],[3],[],[])")
@example("SumT(1,2147483647)")
@example("ExtractT(x,0,1)")
@example("2**2147483648")
@example("Grad(SqDist(x,y),x,1e308)*1e308")
def test_any_text_is_a_formula_or_a_formula_error(text):
    for aliases in (ALIASES, [text]):
        try:
            assert isinstance(parse(text, aliases).expr, Expr)
        except FormulaError as error:
            assert str(error)


def test_near_the_end_of_the_stack():
    def down(n):
        return down(n - 1) if n else parse("(" * 190 + "x" + ")" * 190, ALIASES)

    with pytest.raises(FormulaError, match="nested too deeply"):
        down(sys.getrecursionlimit() - 300)


def test_a_long_sum_is_not_deep():
    assert read("+".join(["x"] * 2000)).dim == 3


def test_same_text_in_every_process():
    """Nothing depends on the order of a set: caches are keyed by text."""
    program = (
        "from kernelops.formula.parse import parse; from kernelops.formula.grad import grad;"
        "f = parse('Exp(-g*SqDist(x,y))*(x|y)', ['x = Vi(3)', 'y = Vj(3)', 'g = Pm(1)']);"
        "print(grad(f.expr, f.find('x'), f.find('g')))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, check=True, env=environ | {"PYTHONHASHSEED": k}
        )
        for k in "12"
    ]
    assert outputs[0].stdout == outputs[1].stdout != b""
