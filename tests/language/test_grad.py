"""Symbolic gradients against differences: every operation, every order, and what is agreed at kinks."""

import numpy as np
import pytest
from differences import assert_gradient, gradient
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from interpreter import evaluate
from strategies import POINT, TAME_TENSOR, S, T, X, Y, formulas

from kernelops.errors import FormulaError
from kernelops.formula.expr import apply, const, text, variable
from kernelops.formula.grad import diff, grad
from kernelops.formula.ops import OPS
from kernelops.formula.parse import parse

ALIASES = ["x = Vi(3)", "y = Vj(3)", "s = Vi(1)", "t = Pm(1)", "m = Vj(6)", "w = Pm(9)"]
VARIABLES = {f.split()[0]: v for f, v in zip(ALIASES, parse("x", ALIASES).variables, strict=True)}
POINT6 = POINT | {
    VARIABLES["m"]: np.array([0.3, -1.1, 0.8, 0.5, -0.2, 1.4]),
    VARIABLES["w"]: np.array([0.7, -0.3, 0.2, 0.9, 1.1, -0.6, 0.4, 0.1, 0.5]),
}

# every operation away from its kinks, with operands of equal lengths and stretched ones
FORMULAS = """
-x  Minus(s)+x  Inv(x)  Exp(x)  Log(x**2)  Sqrt(x**2+s)  Rsqrt(x**2+s)  Square(x)  Abs(x)  Sin(x)  Cos(x)  ReLU(x)
Sign(x)*y  Pow(x,3)  x**-2  x**0  x**1  Step(x)*y  SinXDivX(x)  SinXDivX(x,1)  SinXDivX(x*4,2)  x+y  x+s  s+x  x-y
s-x  x*y  x*s  s*t*x  x/y  x/s  s/x  Powf(x*x,y)  Powf(s,x)  Powf(x*x,s)  (x*x)**1.5  s**x  (x==y)*x  (x!=y)*x
(x<y)*x  (x<=s)*y  x>y  x>=s  Clamp(x,-s,t)  Clamp(s,x,y+1)  Clamp(x,y,y+s)  ClampInt(x*3,-1,2)  IfElse(x,y,x*y)
IfElse(s,x,y)  IfElse(x,s,t)  IfElse(x-s,y,t)  Sum(x)  Sum(x*s)  Sum(s)*x  SqNorm2(x)  Norm2(x)  Norm2(s)
Normalize(x)  SqDist(x,y)  Scalprod(x,y)  x|y  x|s  x-y|x-y  Elem(x,1)*y  Extract(x,1,2)  ElemT(s,4,2)
ExtractT(x,1,5)  SumT(s,4)  Concat(x,s)  Concat(s,Concat(t,x))  Extract(Concat(x,y*s),2,3)
Extract(ExtractT(x*y,2,7),1,3)
Tanh(x)  Tanh(s)*y  Floor(x)*y  Atan2(x,y)  Atan2(s,x)  Atan2(-x,-s)  Slice(x,0,2,2)*t  SliceT(x,1,9,3)
SliceT(s,1,3,2)*y  Slice(SliceT(x*y,1,7,2),1,2,4)  Asin(x/2)*y  Acos(x/2)  Acos(s/2)*x  Atan(x*y)  XLogX(x*x)
Mod(x,t,s)  Max(x*y)  Min(x)*s  BSpline(m,s,2)  SoftDTW_SqDist(x,y,t)
WeightedSqNorm(s,x)  WeightedSqNorm(y,x)  WeightedSqNorm(w,x)  WeightedSqDist(s,x,y)
WeightedSqDist(x,y,s)  WeightedSqDist(w,x,y)  MatVecMult(m,x)  VecMatMult(x,m)  MatVecMult(w,x)
MatVecMult(TensorProd(x,y),x)  TensorProd(x,m)  TensorProd(s,x)  TensorDot(m,x,[2,3],[3],[1],[0])
TensorDot(m,w,[2,3],[3,3],[1],[1],[1,0])  TensorDot(m,w*t,[3,2],[3,3],[0],[1],[1,0])
TensorDot(m,w,[2,3],[3,3],[],[],[2,0,3,1])  TensorDot(m,TensorProd(x,m),[2,3],[3,2,3],[1,0],[2,1])
TensorDot(TensorProd(x,m),m,[3,2,3],[3,2],[1],[1],[2,0,1])  TensorDot(TensorProd(x,m),m,[3,2,3],[3,2],[2,1],[0,1])
Exp(-t*SqDist(x,y))*x  Exp(-Norm2(x-y)/s)*y  Inv(1+t*SqDist(x,y))*s  (1+Norm2(x-y))*Exp(-Norm2(x-y))*y
Exp(-SqDist(x,y))*(x-y)*((x-y)|x)  Grad(Exp(-t*SqDist(x,y)),x,s)  Grad(Grad(Exp(-SqDist(x,y)),x,s),y,x)
""".split("\n")
FORMULAS = [f for line in FORMULAS for f in line.split("  ") if f]


def seeded(expr):
    return np.linspace(-1.2, 0.7, expr.dim) + 0.1


@pytest.mark.parametrize("formula", FORMULAS)
def test_first_order(formula):
    """Every variable, with a seed of full length and with one that is stretched."""
    expr = parse(formula, ALIASES).expr
    for length in {1, expr.dim}:
        seed = variable("Vj", 99, length)
        at = POINT6 | {seed: seeded(expr)[:length]}
        for var in expr.vars:
            found = grad(expr, var, seed)
            assert found.dim == var.dim
            assert_gradient(evaluate(found, at), gradient(expr, var, at[seed], POINT6))


@pytest.mark.parametrize("formula", FORMULAS)
def test_second_order(formula):
    """The gradient of a gradient, which is what a backward pass through a backward pass asks for."""
    expr = parse(formula, ALIASES).expr
    seed = variable("Vj", 99, expr.dim)
    at = POINT6 | {seed: seeded(expr)}
    for var in expr.vars[:2]:
        first = grad(expr, var, seed)
        for other in first.vars:
            weights = seeded(first)
            cotangent = variable("Pm", 98, first.dim)
            found = evaluate(grad(first, other, cotangent), at | {cotangent: weights})
            assert_gradient(found, gradient(first, other, weights, at))


@pytest.mark.parametrize("formula", FORMULAS)
def test_forward_is_the_transpose_of_backward(formula):
    expr = parse(formula, ALIASES).expr
    seed, tangent = seeded(expr), variable("Pm", 97, 3)
    cotangent = variable("Vj", 99, expr.dim)
    for var in [v for v in expr.vars if v.dim == 3]:
        at = POINT6 | {tangent: np.array([0.3, -0.7, 1.1]), cotangent: seed}
        pushed = diff(expr, var, tangent)
        assert pushed.dim == expr.dim
        forward = (evaluate(pushed, at) * seed).sum()
        backward = (evaluate(grad(expr, var, cotangent), at) * at[tangent]).sum()
        assert forward == pytest.approx(backward, rel=1e-12, abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(formulas(TAME_TENSOR, leaves=8), st.sampled_from([X, Y, S, T]))
def test_random_formulas(expr, var):
    assume(np.abs(evaluate(expr, POINT)).max() < 100)
    seed = variable("Vj", 99, expr.dim)
    found = evaluate(grad(expr, var, seed), POINT | {seed: seeded(expr)})
    assert_gradient(found, gradient(expr, var, seeded(expr), POINT), size=100)


@settings(max_examples=40, deadline=None)
@given(formulas(TAME_TENSOR, leaves=6))
def test_random_hessians(expr):
    """The Hessian by gradients of gradients is symmetric, and agrees with differences of the gradient."""
    first = grad(expr, X, const(1))
    value = evaluate(first, POINT)
    assume(np.abs(value).max() < 100)
    unit = variable("Pm", 98, 3)
    hessian = np.array([evaluate(grad(first, X, unit), POINT | {unit: e}) for e in np.eye(3)])
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-9 * max(1, np.abs(hessian).max()))
    for k, e in enumerate(np.eye(3)):
        assert_gradient(hessian[k], gradient(first, X, e, POINT), size=100)


def test_third_order():
    expr = parse("Exp(-SqDist(x,y))*s", ALIASES).expr
    u = variable("Pm", 98, 3)
    second = grad(grad(expr, X, const(1)), X, u)
    at = POINT | {u: np.array([0.2, 0.5, -1.0])}
    assert_gradient(evaluate(grad(second, Y, u), at), gradient(second, Y, at[u], at))


def test_grad_of_a_sum_is_the_sum_of_grads():
    f, g = (parse(t, ALIASES).expr for t in ("Exp(-SqDist(x,y))", "(x|y)*s"))
    both = evaluate(grad(apply("Add", f, g), X, const(1)), POINT)
    np.testing.assert_allclose(both, sum(evaluate(grad(e, X, const(1)), POINT) for e in (f, g)), rtol=1e-14)


KINKS = [  # formula, its point s, x and t, the gradient with respect to s
    ("Sqrt(s)", 0, 0),
    ("Sqrt(s*s)", 0, 0),
    ("Norm2(s*x)", 0, 0),
    ("Rsqrt(s)", 0, 0),
    ("Abs(s)", 0, 0),
    ("ReLU(s)", 0, 1),
    ("ReLU(s)", -1, 0),
    ("Sign(s)", 0, 0),
    ("Step(s)", 0, 0),
    ("SinXDivX(s)", 0, 0),
    ("SinXDivX(s,1)", 0, -1 / 3),
    ("Clamp(s,0,1)", 0, 1),
    ("Clamp(s,0,1)", 1, 1),
    ("Clamp(s,0,1)", 1.5, 0),
    ("Clamp(2,s,3)", 1, 0),
    ("Clamp(2,s,4)", 3, 1),
    ("Clamp(2,0,s)", 1, 1),
    ("IfElse(s,3*s,5*s)", 0, 3),
    ("IfElse(s,3*s,5*s)", -1, 5),
    ("Powf(s,t)", 0, 0),
    ("Powf(t-t,s)", 2, 0),
    ("Powf(s,t-t)", 0, 0),
    ("s**0", 0, 0),
    ("s**1", 0, 1),
    ("s**2", 0, 0),
    ("s==0", 0, 0),
    ("Floor(s)", 1, 0),
    ("Tanh(s)", 0, 1),
    ("Atan2(s,t-t)", 0, 0),
    ("Atan2(t-t,s)", 0, 0),
    ("Asin(s)", 0, 1),
    ("Asin(s)", 1, 0),
    ("Acos(s)", 0, -1),
    ("Acos(s)", -1, 0),
    ("Atan(s)", 0, 1),
    ("XLogX(s)", 0, 0),
    ("Round(s,0)", 0.5, 0),
    ("Mod(s,2,0)", 2, 1),
    ("Mod(5,s,0)", 2, -2),
    ("DiffClampInt(s,0,1)", 0, 0),
    ("Max(Concat(s,Concat(2*s,3)))", 0, 0),
    ("Max(Concat(s,Concat(2*s,0)))", 0, 1),
    ("Min(Concat(2*s,Concat(s,3)))", 0, 2),
    ("ArgMax(Concat(s,2*s))", 0, 0),
    ("OneHot(s,3)|SumT(t,3)", 1, 0),
    ("Tanh(Norm2(s*x))", 0, 0),
    ("Atan(Norm2(s*x))", 0, 0),
    ("Acos(1-Square(s))", 0, 0),
    ("Floor(Norm2(s*x))", 0, 0),
    ("ComplexAbs(s*Concat(s,t))", 0, 0),
    ("BSpline(Concat(Concat(-2,-1),Concat(1,2)),s,2)", 0, 0),
]


@pytest.mark.parametrize(("formula", "s", "slope"), KINKS)
def test_agreed_at_kinks(formula, s, slope):
    expr = parse(formula, ALIASES).expr
    found = evaluate(grad(expr, S, const(1)), POINT | {S: np.array([float(s)])})
    np.testing.assert_allclose(found, [slope], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "formula",
    [
        "IfElse(s,Sqrt(s),Sqrt(-s))",
        "IfElse(s,Log(s)*x,Log(-s)*x)",
        "IfElse(s,x/s,x/(s+1))",
        "IfElse(s,SumT(Log(s),3),x)",
        "IfElse(s,Norm2(x*Log(s)),Norm2(x))",
        "IfElse(s,Concat(Log(s),Log(s)),Concat(s,s))",
        "IfElse(s,MatVecMult(TensorProd(x,x),x*Log(s)),x)",
        "IfElse(s,Extract(x*Log(s),0,2),Extract(x,1,2))",
        "IfElse(s,IfElse(t,Log(s),Log(t)),s)",
    ],
)
@pytest.mark.parametrize("s", [0.5, -0.5])
def test_the_branch_not_taken_gives_no_nan(formula, s):
    expr = parse(formula, ALIASES).expr
    at = POINT | {S: np.array([s])}
    for var in expr.vars:
        assert_gradient(evaluate(grad(expr, var, const(1)), at), gradient(expr, var, np.ones(expr.dim), at))


def test_powf_has_no_nan_at_zero():
    at = POINT | {S: np.array([0.0]), T: np.array([2.0])}
    expr = parse("Powf(s,t)", ALIASES).expr
    for var in (S, T):
        assert evaluate(grad(expr, var, const(1)), at) == 0
        second = grad(grad(expr, var, const(1)), var, const(1))
        assert evaluate(second, at) == {S: 2, T: 0}[var]


def test_the_gradient_of_a_gaussian_is_short():
    f = parse("Exp(-t*SqDist(x,y))*s", ALIASES)
    seed = variable("Vj", 4, 1)
    names = {**f.names, seed: "e"}
    assert text(grad(f.expr, X, seed), names) == "-2*(e*s*Exp(-(t*Sum(Square(x-y))))*t)*(x-y)"
    assert text(grad(f.expr, S, seed), names) == "e*Exp(-(t*Sum(Square(x-y))))"


def test_absent_variable_and_bad_calls():
    expr = parse("Exp(x)", ALIASES).expr
    assert grad(expr, Y, const(1)) is const(0, 3)
    assert diff(expr, Y, const(1)) is const(0, 3)
    with pytest.raises(FormulaError, match="wanted a variable"):
        grad(expr, expr, const(1))
    with pytest.raises(FormulaError, match="a seed of length 2"):
        grad(expr, X, const(1, 2))


def test_every_operation_is_tried():
    tried = {n.op for f in FORMULAS for n in _nodes(parse(f, ALIASES).expr)}
    assert set(OPS) <= tried


def _nodes(expr):
    yield expr
    for a in expr.args:
        yield from _nodes(a)


@pytest.mark.parametrize(
    "formula",
    [
        "(1+t*Norm2(x-y))*Exp(-t*Norm2(x-y))",
        "(1+t*Norm2(x-y)+Square(t*Norm2(x-y))/3)*Exp(-t*Norm2(x-y))",
        "Exp(-t*Norm2(x-y))",
        "Rsqrt(1+SqDist(x,y))",
        "Exp(-Sum(Abs(x-y)))",
    ],
)
def test_no_condition_where_what_is_infinite_cancels_by_itself(formula):
    """A choice of limits costs each pair something: there is one only where the terms need it."""
    gradient = grad(parse(formula, ALIASES).expr, X, const(1))
    assert "IfElse" not in text(gradient)
