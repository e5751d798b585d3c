"""Simplification keeps the value and the length, and finds the short forms that it is meant to find."""

import numpy as np
import pytest
from hypothesis import given, settings
from interpreter import evaluate
from strategies import POINT, formulas

from kernelops.formula.expr import apply, const, text, variable
from kernelops.formula.parse import parse
from kernelops.formula.simplify import simplify

ALIASES = ["x = Vi(3)", "y = Vj(3)", "s = Vi(1)", "t = Pm(1)"]


def short(formula):
    f = parse(formula, ALIASES)
    return text(simplify(f.expr), f.names)


SHORTER = [
    # constants
    ("1+2*3", "7"),
    ("Exp(0)+Sqrt(4)-Rsqrt(0)", "3"),
    ("1/0", "Inv(0)"),
    ("Log(0)", "Log(0)"),
    ("Exp(1000)", "Exp(1000)"),
    ("1e300*1e300", "1e+300*1e+300"),
    ("Sum(SumT(0.5,4))", "2"),
    ("Square(SumT(3,2))", "SumT(9,2)"),
    ("(2>1)*x", "x"),
    # neutral and absorbing
    ("x*1", "x"),
    ("1*x+0", "x"),
    ("x-0", "x"),
    ("0-x", "-x"),
    ("0*x", "SumT(0,3)"),
    ("0*s+y", "y"),
    ("x/1", "x"),
    ("0/x", "SumT(0,3)"),
    ("x**1", "x"),
    ("x**0", "SumT(1,3)"),
    ("Pow(x,2)", "Square(x)"),
    ("Pow(x,-1)", "Inv(x)"),
    ("Powf(x,3)", "Pow(x,3)"),
    # lengths are kept
    ("SumT(1,3)*s", "s*SumT(1,3)"),
    ("s*SumT(2,3)", "2*s*SumT(1,3)"),
    ("s+Zero(3)", "s*SumT(1,3)"),
    ("SumT(s,3)+x", "s+x"),
    ("SumT(s,3)*SumT(t,3)", "s*t*SumT(1,3)"),
    ("Sum(SumT(s,3))", "3*s"),
    ("Square(SumT(s,3))", "Square(s*SumT(1,3))"),
    # signs and numbers in front
    ("--x", "x"),
    ("x*-1", "-x"),
    ("x+(-y)", "x-y"),
    ("-x+y", "y-x"),
    ("-(x-y)", "y-x"),
    ("-x-y", "-(x+y)"),
    ("(-s)*(-t)", "s*t"),
    ("2*(3*x)", "6*x"),
    ("2*s*x", "2*s*x"),
    ("x*s*2", "2*s*x"),
    ("x*s*t", "s*t*x"),
    ("2*x+3*x", "5*x"),
    ("x-x", "SumT(0,3)"),
    ("s*x+t*x", "(s+t)*x"),
    ("s*x-2*x", "(s-2)*x"),
    ("2*x/s", "2*(x/s)"),
    ("x/-s", "-(x/s)"),
    ("Square(-3*x)", "9*Square(x)"),
    ("Abs(-2*x)", "2*Abs(x)"),
    ("Cos(-x)", "Cos(x)"),
    ("Sin(-x)", "-Sin(x)"),
    ("x*x", "Square(x)"),
    ("Norm2(s)", "Abs(s)"),
    ("x*(y/s)", "x*y/s"),
    ("x|(y/s)", "Sum(x*y)/s"),
    # equal terms and common factors
    ("x+y-x", "y"),
    ("s-(1+s)", "-1"),
    ("2*s+1-(t+s+s)", "1-t"),
    ("2*(s/3)+s/4-2*s/3", "0.25*s"),
    ("3*(s-t)-3*s", "-3*t"),
    ("SqDist(x,y)*s-t*SqDist(x,y)", "Sum(Square(x-y))*(s-t)"),
    ("Exp(x-y)*t*x+x*Exp(x-y)", "(t+1)*(Exp(x-y)*x)"),
    ("Square(s-Elem(y,0))-(s-Elem(y,0))*t", "(s-Extract(y,0,1))*(s-Extract(y,0,1)-t)"),
    # roots
    ("Norm2(x-y)*s*Rsqrt(SqDist(x,y))", "Sign(Sum(Square(x-y)))*s"),
    ("t*(Norm2(x-y)*Rsqrt(SqDist(x,y)))*(x-y)", "t*(x-y)"),
    ("Sqrt(Abs(s))*Rsqrt(Abs(s))", "Sign(Abs(s))"),
    # vectors
    ("Sum(s)", "s"),
    ("Sum(2*s*x)", "2*(s*Sum(x))"),
    ("Sum(x/s)", "Sum(x)/s"),
    ("Extract(x,0,3)", "x"),
    ("Elem(Concat(x,y),4)", "Extract(y,1,1)"),
    ("Extract(Concat(x,y),1,2)", "Extract(x,1,2)"),
    ("Extract(Extract(x,1,2),1,1)", "Extract(x,2,1)"),
    ("Extract(ExtractT(x,2,6),3,2)", "Extract(x,1,2)"),
    ("Extract(ExtractT(x,2,6),0,2)", "SumT(0,2)"),
    ("Extract(SumT(5,4),1,2)", "SumT(5,2)"),
    ("Concat(Elem(x,0),Extract(x,1,2))", "x"),
    ("ExtractT(Zero(2),1,4)", "SumT(0,4)"),
    ("TensorProd(x,Zero(2))", "SumT(0,6)"),
    ("TensorDot(x,y,[3],[3],[0],[0])", "Sum(x*y)"),
    ("TensorDot(x,y,[1,3],[3,1],[1],[0])", "Sum(x*y)"),
    ("TensorProd(s,x)", "s*x"),
    ("TensorDot(x,s,[3],[1,1],[],[],[1,0,2])", "s*x"),
    (
        "TensorDot(TensorProd(x,y),s,[3,3],[1],[],[],[1,0,2])",
        "TensorDot(TensorDot(x,y,[3],[3],[],[],[0,1]),s,[3,3],[1],[],[],[1,0,2])",
    ),
    ("MatVecMult(TensorProd(x,y),s*y)", "s*Sum(Square(y))*x"),
    ("VecMatMult(2*x,TensorProd(y,x))", "2*Sum(y*x)*x"),
    ("IfElse(1,x,y)", "x"),
    ("IfElse(s,x,x)", "x"),
    ("IfElse(-1,x,s)", "s*SumT(1,3)"),
]


@pytest.mark.parametrize(("formula", "want"), SHORTER)
def test_short_forms(formula, want):
    assert short(formula) == want


UNCHANGED = ["x/3", "Sqrt(x+s)", "Exp(-(s*t))", "x*y", "s*SumT(1,3)", "1e-40*x", "1e-20*(1e-20*s)", "(x-y)/s"]
UNCHANGED += ["t*x-t*y", "t*s+Square(t)", "Sqrt(s)*Rsqrt(s)", "Sign(Sum(Square(x)))*y"]


@pytest.mark.parametrize("formula", UNCHANGED)
def test_nothing_to_do(formula):
    assert short(formula) == text(parse(formula, ALIASES).expr, parse("x", ALIASES).names) == short(short(formula))


@settings(max_examples=250, deadline=None)
@given(formulas())
def test_value_and_length_are_kept(expr):
    found = simplify(expr)
    assert found.dim == expr.dim
    with np.errstate(all="ignore"):
        want, got = (np.broadcast_to(evaluate(e, POINT), expr.dim).astype(float) for e in (expr, found))
        size = _largest(expr)
    if np.isfinite(size):  # 0*inf is 0 by convention, and rounding is relative to what stood in between
        got, want = (np.where(np.isinf(a), np.inf, a) for a in (got, want))  # nobody keeps the sign of a 0 below a line
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12 * size)


def _largest(expr):
    """The largest magnitude, or inverse of one, on the way to the value; infinite where a comparison could tip."""
    value = np.abs(evaluate(expr, POINT).astype(float))
    if expr.op in ("Sign", "Step", "ReLU", "Equal", "NotEqual", "LessThan", "LessOrEqual", "IfElse", "Clamp"):
        if _close(expr):
            return np.inf
    sizes = [value.max(), *(_largest(a) for a in expr.args)]
    if expr.op in ("Inv", "Log", "Rsqrt", "Sqrt", "Divide", "Pow", "Powf"):
        below = np.abs(evaluate(expr.args[-1 if expr.op == "Divide" else 0], POINT))
        sizes.append(np.inf if below.min() < 1e-6 else (1 / below.min()) ** 4)
    return max(sizes) if np.isfinite(sizes).all() else np.inf


def _close(expr):
    first = evaluate(expr.args[0], POINT)
    others = [evaluate(a, POINT) for a in expr.args[1:]] if expr.op not in ("IfElse", "Sign", "Step", "ReLU") else [0.0]
    return any(np.abs(first - o).min() < 1e-9 for o in others)


def test_infinite_and_nan_constants_are_refused():
    for value in (np.inf, -np.inf, np.nan):
        with pytest.raises(ValueError, match="finite"):
            const(value)


def test_deep_expressions():
    expr = variable("Vi", 0, 1)
    for _ in range(3000):
        expr = apply("Add", apply("Sin", expr), const(1))
    assert simplify(expr) is expr
