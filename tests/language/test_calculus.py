"""Matrices of derivatives, divergences, Laplacians and traces against differences and against their definitions."""

import numpy as np
import pytest
from differences import assert_gradient, gradient
from interpreter import evaluate
from strategies import POINT, S, X

from kernelops.errors import FormulaError
from kernelops.formula import calculus
from kernelops.formula.expr import topological
from kernelops.formula.grad import grad
from kernelops.formula.parse import parse

ALIASES = ["x = Vi(3)", "y = Vj(3)", "s = Vi(1)", "t = Pm(1)"]
FIELDS = """
Exp(-t*SqDist(x,y))*(x-y)*y  x/(1+Square(y))  x*Elem(x,0)/s-(-x)+Zero(3)  IfElse(x-y,x*x,y*x)  IfElse(s,x*x,y*x)*s
Concat(Extract(x,1,2),Elem(x,0)*Elem(x,1))*y  MatVecMult(TensorProd(x,y),x*x)  SumT(x|y,3)  Norm2(x-y)*Sin(x)  y
""".split()
FUNCTIONS = """
Exp(-t*SqDist(x,y))  (1+Norm2(x-y))*Exp(-Norm2(x-y))  (x|y)**3  Sum(Sin(x*y)*Elem(x,1))  Sum(Concat(x,y)*Concat(y*x,x))
Sum(IfElse(x-y,x**3,y*x))  s
""".split()
MAPS = """
x*y*s  Elem(x,0)*y  x|y  MatVecMult(TensorProd(y,y),x)-x/s  IfElse(y,x,-x)  IfElse(s,x,Concat(Extract(x,1,2),Elem(x,0)))
SumT(x|y,3)*y
""".split()


def jacobian(f, x):
    """Row k is the gradient of component k of f, by differences."""
    return np.array([gradient(f, x, e, POINT) for e in np.eye(f.dim)])


@pytest.mark.parametrize("formula", [*FIELDS, "x|y", "Concat(s*x,s)"])
def test_matrices_of_gradients(formula):
    f = parse(formula, ALIASES).expr
    for x in (X, S):
        found = evaluate(calculus.grad_matrix(f, x), POINT)
        assert_gradient(found.reshape(f.dim, x.dim), jacobian(f, x))


@pytest.mark.parametrize("formula", FIELDS)
def test_divergences(formula):
    f = parse(formula, ALIASES).expr
    assert_gradient(evaluate(calculus.divergence(f, X), POINT), np.trace(jacobian(f, X))[None])


@pytest.mark.parametrize("formula", FUNCTIONS)
def test_laplacians(formula):
    f = parse(formula, ALIASES).expr
    want = np.trace(jacobian(grad(f, X, calculus.const(1)), X))
    assert_gradient(evaluate(calculus.laplacian(f, X), POINT), want[None])


@pytest.mark.parametrize("formula", MAPS)
def test_traces(formula):
    """A map to one number counts as that number three times."""
    f = parse(formula, ALIASES).expr
    columns = [evaluate(f, POINT | {X: e}) for e in np.eye(3)]
    found = calculus.trace_operator(f, X)
    assert X not in found.vars
    want = sum(np.broadcast_to(c, 3)[k] for k, c in enumerate(columns))
    np.testing.assert_allclose(evaluate(found, POINT), [want], rtol=1e-14)


def test_a_laplacian_does_not_grow_with_the_length():
    sizes = []
    for d in (2, 50):
        f = parse("Exp(-g*SqDist(x,y))", [f"x = Vi({d})", f"y = Vj({d})", "g = Pm(1)"])
        sizes.append(sum(1 for _ in topological(calculus.laplacian(f.expr, f.find("x")))))
    assert sizes[0] == sizes[1] < 20


def test_a_laplacian_where_points_coincide():
    """Of a kernel with two derivatives its limit; 0 for one that has a cone."""
    at = POINT | {X: POINT[parse("y", ALIASES).expr]}
    for formula, want in [("(1+Norm2(x-y))*Exp(-Norm2(x-y))", -3), ("Exp(-Norm2(x-y))", 0)]:
        assert evaluate(calculus.laplacian(parse(formula, ALIASES).expr, X), at) == pytest.approx([want])


def test_traces_that_would_be_too_long():
    f = parse("Concat(Elem(x,3999),Extract(x,0,3999))", ["x = Vi(4000)"])
    with pytest.raises(FormulaError, match="the trace has more than 10000 operations"):
        calculus.divergence(f.expr, f.find("x"))
