"""Linear in v? A scalar kernel times v? Symmetric in i and j? Also: what is claimed is true of dense matrices."""

import numpy as np
import pytest
import usual
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import evaluate
from strategies import TAME, S, T, X, Y, formulas

from kernelops.formula.expr import apply, substitute, text, variable
from kernelops.formula.linear import scalar_kernel
from kernelops.formula.parse import parse
from kernelops.formula.structure import linear_in, symmetric

ALIASES = [
    "x = Vi(3)",
    "y = Vj(3)",
    "s = Vi(1)",
    "t = Vj(1)",
    "u = Vi(1)",
    "w = Vj(1)",
    "g = Pm(1)",
    "A = Pm(9)",
    "b = Vj(1)",
    "c = Vj(3)",
    "d = Vi(3)",
]
PAIRS = [(0, 1), (2, 3)]  # x with y and s with t; u and w are arrays of their own


def read(formula, unknown):
    f = parse(formula, ALIASES)
    return f, f.find(unknown)


LINEAR = """
b  -b  2*b  b*s  s*b/t  b+t*b  b-0  Sum(c)  (x|c)  c*x  c|x-y  Extract(c,1,2)  ExtractT(b,1,3)  Concat(b,s*b)
Concat(b,Zero(2))  MatVecMult(A,c)  TensorProd(c,x)  VecMatMult(c,A)  IfElse(s,b,t*b)  IfElse(s-t,b,0)  b**1
Exp(-SqDist(x,y))*b  SumT(b,4)  Grad(Exp(-SqDist(x,y))*b,x,1)
""".split()
NOT_LINEAR = """
x  b*b  b+1  b+t  b-s  Exp(b)  s/b  Inv(b)  Abs(b)  c|c  Square(b)  b**2  Concat(b,s)  IfElse(b,s,t)  IfElse(s,b,t)
TensorProd(c,c)  Sqrt(b*b)  Norm2(c)  Sign(b)  b*Exp(b)  Clamp(b,-1,1)  0
""".split()


@pytest.mark.parametrize("formula", LINEAR)
def test_linear(formula):
    f, _ = read(formula, "b")
    assert linear_in(f.expr, f.find("b" if f.find("b") in f.expr.vars else "c"))


@pytest.mark.parametrize("formula", NOT_LINEAR)
def test_not_linear(formula):
    f, b = read(formula, "b")
    assert not linear_in(f.expr, b) and not linear_in(f.expr, f.find("c"))


@settings(max_examples=100, deadline=None)
@given(formulas(TAME, leaves=6), st.sampled_from([X, Y, S, T]))
def test_linear_is_linear(expr, var):
    if linear_in(expr, var):
        rng = np.random.default_rng(0)
        at = {v: rng.normal(size=v.dim) for v in (X, Y, S, T)}
        p, q = rng.normal(size=(2, var.dim))
        both, one, other = (evaluate(expr, at | {var: a}) for a in (2 * p + q, p, q))
        np.testing.assert_allclose(both, 2 * one + other, rtol=1e-9, atol=1e-9 * (1 + np.abs(one).max()))


KERNELS = [
    (usual.SCALED_GAUSS, "b", "Exp(-(g*Sum(Square(x-y))))"),
    ("b*Exp(-Norm2(x-y))", "b", "Exp(-Sqrt(Sum(Square(x-y))))"),
    ("(x|y)*c", "c", "Sum(x*y)"),
    ("Sum(x*y*b)", "b", "Sum(x*y)"),
    ("s*c*t/g", "c", "s*t/g"),
    ("c/(1+SqDist(x,y))", "c", "Inv(1+Sum(Square(x-y)))"),
    ("Exp(s)*c+Exp(t)*c", "c", "Exp(s)+Exp(t)"),
    ("-s*c-c", "c", "-(s+1)"),
    ("IfElse(s,t*c,0)", "c", "IfElse(s,t,0)"),
    ("c", "c", "1"),
    ("s*b", "b", "s"),
    ("x*c", "c", None),
    ("x*(y|c)", "c", None),
    ("x*b", "b", None),
    ("Sum(c)", "c", None),
    ("MatVecMult(A,c)", "c", None),
    ("c+s", "c", None),
    ("IfElse(x,c,0)", "c", None),
    ("c*c", "c", None),
]


@pytest.mark.parametrize(("formula", "unknown", "want"), KERNELS)
def test_scalar_kernel(formula, unknown, want):
    f, var = read(formula, unknown)
    kernel = scalar_kernel(f.expr, var)
    if want is None:
        assert kernel is None
    else:
        assert kernel.dim == 1 and var not in kernel.vars and text(kernel, f.names) == want
        rng = np.random.default_rng(0)
        at = {v: rng.normal(size=v.dim) for v in f.variables}
        product = apply("Mult", kernel, var)
        np.testing.assert_allclose(evaluate(product, at), evaluate(f.expr, at), rtol=1e-12)


SYMMETRIC = [
    (usual.SCALED_GAUSS, "b", "yes"),
    ("Exp(-g*SqDist(x,y))*c", "c", "yes"),
    (usual.LAPLACE, "b", "yes"),
    ("Exp(-Norm2(y-x)/g)*b", "b", "yes"),
    ("Exp(-Sum(Abs(x-y)))*b", "b", "yes"),
    (usual.MATERN, "b", "yes"),
    ("(1+Norm2(x-y)+SqDist(x,y)/3)*Exp(-Norm2(x-y))*c", "c", "yes"),
    ("Inv(1+SqDist(x,y))*b", "b", "yes"),
    ("(SqDist(x,y)+g)**-0.5*b", "b", "yes"),
    ("Powf(g+SqDist(x,y),-g)*b", "b", "yes"),
    ("(x|y)*b", "b", "yes"),
    ("(g+(x|y))**3*c", "c", "yes"),
    ("Cos(s-t)*b", "b", "yes"),
    ("SinXDivX(s-t)*c", "c", "yes"),
    ("Clamp(SqDist(x,y),0,g)*b", "b", "yes"),
    ("IfElse(1-SqDist(x,y),(1-SqDist(x,y))**2*b,0)", "b", "yes"),
    ("(s==t)*b", "b", "yes"),
    ("WeightedSqDist(A,x,y)*b", "b", "yes"),
    ("s*t*b", "b", "yes"),
    ("(x|y)*b+Exp(-SqDist(x,y))*b", "b", "yes"),
    ("(s+t)*b", "b", "yes"),
    ("x*(y|c)", "c", "yes"),
    ("y*(x|c)", "c", "yes"),
    ("x*(y|c)+y*(x|c)", "c", "yes"),
    ("Exp(-SqDist(x,y))*(x-y)*((x-y)|c)", "c", "yes"),
    ("Exp(-SqDist(x,y))*(c-2*(x-y)*((x-y)|c))", "c", "yes"),
    ("MatVecMult(TensorProd(x-y,x-y),c)", "c", "yes"),
    ("x*c*y", "c", "yes"),
    ("Concat(Elem(c,0)*s*t,Extract(c,1,2)*s*t)", "c", "yes"),
    ("Grad(Grad(Exp(-SqDist(x,y)),x,1),y,c)", "c", "yes"),
    ("Exp(-SqDist(x,y))*d", "d", "yes"),  # the unknown is indexed by i
    ("(s-t)*b", "b", "no"),
    ("Sin(s-t)*b", "b", "no"),
    ("(x-y)*(s-t)*SqDist(x,y)*(g*c)/(1+Abs(s-t))", "c", "yes"),
    ("(s-t)*SqDist(x,y)*c", "c", "no"),
    ("Extract(c,0,1)", "c", "no"),  # not square
    ("s*b", "b", "unknown"),
    ("u*w*b", "b", "unknown"),
    ("u*b", "b", "unknown"),
    ("Exp(s-t)*b", "b", "unknown"),
    ("(s+2*t)*b", "b", "unknown"),
    ("IfElse(s-t,b,0)", "b", "unknown"),
    ("(s<t)*b", "b", "unknown"),
    ("MatVecMult(A,c)", "c", "unknown"),
    ("Exp(-SqDist(x,y))*(x-y)*(y|c)", "c", "unknown"),
    ("b*b", "b", "unknown"),
]


@pytest.mark.parametrize(("formula", "unknown", "want"), SYMMETRIC)
def test_symmetric(formula, unknown, want):
    f, var = read(formula, unknown)
    assert symmetric(f.expr, var, PAIRS) == want


@pytest.mark.parametrize("formula", [usual.GAUSS, "s*t*b"])
def test_nothing_is_known_without_pairs(formula):
    f, b = read(formula, "b")
    assert symmetric(f.expr, b, []) == "unknown"


def test_one_array_in_three_places():
    """x, y and z hold one array: pairing is by what they hold, not by position."""
    f = parse("Exp(-SqDist(x,y))*(x|z)*b", ["x = Vi(2)", "y = Vj(2)", "z = Vj(2)", "b = Vj(1)"])
    assert symmetric(f.expr, f.find("b"), [(0, 1), (0, 2)]) == "yes"
    assert symmetric(f.expr, f.find("b"), [(0, 1)]) == "unknown"


def dense(expr, var, points):
    """The operator as a matrix, all arrays of a pair being the same points."""
    n, side = len(points), {"Vi": (slice(None), None), "Vj": (None, slice(None)), "Pm": (None, None)}
    at = {}
    for v in expr.vars:
        at[v] = points[:, : v.dim][side[v.op]] if v.op != "Pm" else np.full(v.dim, 0.7)
    blocks = []
    for e in np.eye(var.dim):
        blocks.append(np.broadcast_to(evaluate(expr, at | {var: e}), (n, n, expr.dim)))
    return np.stack(blocks, -1).transpose(0, 2, 1, 3).reshape(n * expr.dim, n * var.dim)


@pytest.mark.parametrize(("formula", "unknown", "want"), [c for c in SYMMETRIC if c[2] != "unknown" and c[1] != "d"])
def test_the_claim_is_true_of_the_matrix(formula, unknown, want):
    f, var = read(formula, unknown)
    if f.expr.dim != var.dim:
        return
    matrix = dense(f.expr, var, np.random.default_rng(0).normal(size=(5, 3)))
    np.testing.assert_allclose(matrix, matrix.T if want == "yes" else -matrix.T, rtol=1e-9, atol=1e-12)


B = variable("Vj", 9, 1)
R, Q = variable("Vi", 2, 1), variable("Vj", 4, 1)


@settings(max_examples=150, deadline=None)
@given(formulas((*TAME, "Abs", "Exp", "Inv", "Sign"), leaves=7))
def test_random_claims(kernel):
    """Random kernels, alone and made symmetric or skew by adding or subtracting the swapped kernel."""
    kernel = kernel if kernel.dim == 1 else apply("Sum", kernel)
    swap = {X: Y, Y: X, R: Q, Q: R}
    points = np.random.default_rng(0).normal(size=(4, 3))
    for k in (kernel, *(apply(op, kernel, substitute(kernel, swap)) for op in ("Add", "Subtract", "Mult"))):
        expr = apply("Mult", k, B)
        answer = symmetric(expr, B, [(0, 1), (2, 4)])
        matrix = dense(expr, B, points).astype(float)
        if answer != "unknown" and np.abs(matrix).max() < 1e6:
            size = 1e-9 * (1 + np.abs(matrix).max())
            np.testing.assert_allclose(matrix, matrix.T if answer == "yes" else -matrix.T, atol=size)
