"""Derivatives of smooth kernels where points coincide: many spellings against the Taylor series of the kernel.

The oracle is mpmath's: the derivative of order n of f(g*|t*v|) at t = 0 is n! times a Taylor coefficient times g^n for
an even n and 0 for an odd one; away from 0 it is a derivative by differences of 40 digits. KERNELOPS_FUZZ_SEEDS says
how many of the thousands of spellings are tried.
"""

import os

import numpy as np
import pytest
import torch
import usual
from smooth_kernels import ALIASES, KERNELS, G, along, away, spellings

import kernelops.numpy
from kernelops.torch import Genred

pytestmark = pytest.mark.thorough

POINT = [0.3, 0.4]
OTHER = [0.9, -0.2]
V = [0.6, 0.8]  # of length 1
SPELLINGS = spellings(int(os.environ.get("KERNELOPS_FUZZ_SEEDS", "120")))
ROUNDING = {torch.float64: 2e-10, torch.float32: 2e-4}  # coefficients of up to 60, in sums of some dozens of terms


def taken(order, value, x, v):
    """The derivatives of a number by x along v, up to an order."""
    found = []
    for _ in range(order):
        (gradient,) = torch.autograd.grad(value, x, create_graph=True)
        value = (gradient * v).sum()
        found.append(value)
        if not value.requires_grad:
            break
    return found + [torch.zeros(())] * (order - len(found))


def test_the_spellings_are_many_and_of_every_kind():
    few = spellings(120)
    assert len(few) == 120 and len(spellings(10_000)) >= 2000
    assert {s.kernel.name for s in few} == {k.name for k in KERNELS}


@pytest.mark.parametrize("spelling", SPELLINGS, ids=str)
def test_orders_one_to_three(spelling):
    """At equal points; of the second order also the derivative by the scale g."""
    for dtype, rounding in ROUNDING.items():
        x = torch.tensor([POINT], dtype=dtype, requires_grad=True)
        y, v = x.detach().clone(), torch.tensor([V], dtype=dtype)
        g = torch.tensor([G], dtype=dtype, requires_grad=True)
        order = min(3, spelling.kernel.smooth)
        found = taken(order, Genred(spelling.formula, ALIASES, axis=1)(x, y, g).sum(), x, v)
        for k, got in enumerate(found, 1):
            want = along(spelling.kernel, k)
            assert abs(got.item() - want) <= rounding * max(1.0, abs(want)), (k, got.item(), want)
        (by_g,) = torch.autograd.grad(found[1], g, allow_unused=True)
        want = 2 * along(spelling.kernel, 2) / G
        assert abs(by_g.item() - want) <= 4 * rounding * max(1.0, abs(want))


@pytest.mark.parametrize("spelling", SPELLINGS[::8], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_the_numpy_door(spelling, axis):
    """Grad of Grad in the text of a formula, over both axes."""
    f = f"Grad((Grad({spelling.formula},x,1)|w),x,1)"
    for dtype, rounding in ((np.float64, 2e-10), (np.float32, 2e-4)):
        x, y = np.array([POINT], dtype), np.array([POINT, OTHER], dtype)
        got = kernelops.numpy.Genred(f, [*ALIASES, "w = Pm(2)"], axis=axis)(x, y, dtype(G), np.array(V, dtype))
        want = [along(spelling.kernel, 2), away(spelling.kernel, np.subtract(POINT, OTHER), V, 2)]
        got = (got if axis == 0 else got - np.zeros(2)) @ np.array(V)
        want = want if axis == 0 else [sum(want)]
        np.testing.assert_allclose(got, want, rtol=0, atol=4 * rounding * max(1, np.abs(want).max()))


@pytest.mark.parametrize("spelling", SPELLINGS[1::8], ids=str)
def test_equal_points_among_others(spelling):
    """The choice is made for each pair: in one sum there are pairs that coincide, and others."""
    x = torch.tensor([POINT, OTHER, [0.1, 0.15]], dtype=torch.float64, requires_grad=True)
    v = torch.tensor([V, [0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    value = Genred(spelling.formula, ALIASES, axis=1)(x, x.detach(), torch.tensor([G], dtype=torch.float64)).sum()
    found = taken(2, value, x, v)
    want = along(spelling.kernel, 2) + sum(
        away(spelling.kernel, np.subtract(POINT, o), V, 2) for o in (OTHER, [0.1, 0.15])
    )
    assert abs(found[1].item() - want) <= 1e-9 * max(1.0, abs(want))


@pytest.mark.parametrize("spelling", [s for s in SPELLINGS[::2] if s.kernel.smooth >= 4][:24], ids=str)
def test_the_fourth_order(spelling):
    x = torch.tensor([POINT], dtype=torch.float64, requires_grad=True)
    v, g = torch.tensor([V], dtype=torch.float64), torch.tensor([G], dtype=torch.float64)
    found = taken(4, Genred(spelling.formula, ALIASES, axis=1)(x, x.detach().clone(), g).sum(), x, v)
    want = along(spelling.kernel, 4)
    assert abs(found[3].item() - want) <= 1e-8 * max(1.0, abs(want))


@pytest.mark.parametrize("spelling", SPELLINGS[2::16], ids=str)
def test_forward_mode(spelling):
    """jvp of a gradient, and a gradient of a jvp."""
    x, y = torch.tensor([POINT], dtype=torch.float64), torch.tensor([POINT], dtype=torch.float64)
    v, g = torch.tensor([V], dtype=torch.float64), torch.tensor([G], dtype=torch.float64)
    genred, want = Genred(spelling.formula, ALIASES, axis=1), along(spelling.kernel, 2)

    def f(x):
        return genred(x, y, g).sum()

    forward = torch.func.jvp(torch.func.grad(f), (x,), (v,))[1]
    backward = torch.func.grad(lambda x: torch.func.jvp(f, (x,), (v,))[1])(x)
    for got in (forward, backward):
        assert abs((got * v).sum().item() - want) <= 1e-9 * max(1.0, abs(want))


# ---- other distances ----

MATERN = "(1+{r})*Exp(-{r})"  # its second derivative is -1 along each unit vector
ONE, TWO = ["x = Vi(1)", "y = Vj(1)", "g = Pm(1)"], ["x = Vi(2)", "y = Vj(2)", "g = Pm(1)"]


def second(formula, aliases, x, y, g, v):
    x = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    y, v = torch.tensor([y], dtype=torch.float64), torch.tensor([v], dtype=torch.float64)
    value = Genred(formula, aliases, axis=1)(x, y, torch.tensor([g], dtype=torch.float64)).sum()
    return [t.item() for t in taken(2, value, x, v)]


@pytest.mark.parametrize(
    ("formula", "want"),
    [
        (MATERN.format(r="g*Abs(x-y)"), -4.0),
        (MATERN.format(r="Abs(g*y-g*x)"), -4.0),
        (MATERN.format(r="Norm2(g*(x-y))"), -4.0),
        ("(1+Norm2(g*(x-y)))*Exp(-Norm2(g*x-g*y))", -4.0),
        ("(1+g*Abs(x-y)+g*g*Square(x-y)/3)*Exp(-g*Abs(y-x))", -4 / 3),
        ("(1+g*Abs(x-y)+g*g*(x-y)*(y-x)/(-3))*Exp(-g*Abs(y-x))", -4 / 3),
        ("Cos(g*Abs(x-y))", -4.0),
        ("Powf(Abs(x-y),2.5)", 0.0),
        ("Sign(x-y)*Sin(x-y)*Abs(x-y)", 2.0),
    ],
)
def test_one_coordinate(formula, want):
    first, got = second(formula, ONE, [0.7], [0.7], 2.0, [1.0])
    assert first == 0 and abs(got - want) <= 1e-13


@pytest.mark.parametrize(
    ("formula", "want"),  # v is not of length 1: |v|^2 = 5, its components 1 and 2
    [
        ("Sum((1+g*Abs(x-y))*Exp(-g*Abs(x-y)))", -20.0),
        ("Exp(Sum(Log(1+g*Abs(x-y))-g*Abs(x-y)))", -20.0),
        ("Exp(-g*Sum(Abs(x-y)))*(1+g*Abs(Elem(x,0)-Elem(y,0)))*(1+g*Abs(Elem(x,1)-Elem(y,1)))", -20.0),
        ("Sum(MatVecMult(TensorProd(SumT(g,2),SumT(g,2)),(1+Abs(x-y))*Exp(-Abs(x-y))))", -2 * 4 * 5.0),
        ("Sum(Concat((1+Abs(x-y))*Exp(-Abs(x-y)),y))", -5.0),
        ("Sum(Sqrt(Square(x-y))*Abs(y-x))", 10.0),
        ("Exp(-Powf(SqDist(x,y),g/2))", -10.0),  # g = 2: a Gaussian, whose exponent is data
        ("Exp(-Powf(Norm2(x-y),g))", -10.0),
        ("(1+Exp(0.5*Log(SqDist(x,y))))*Exp(-Exp(0.5*Log(SqDist(x,y))))", -5.0),
        ("Sqrt(2-2*Cos(Norm2(x-y)))*Norm2(x-y)", 10.0),
        ("(1+Norm2(x-y)+((x|x)+(y|y)-2*(x|y))/3)*Exp(-Norm2(x-y))", -5 / 3),
    ],
)
def test_several_coordinates(formula, want):
    first, got = second(formula, TWO, [0.3, 0.4], [0.3, 0.4], 2.0, [1.0, 2.0])
    assert abs(first) <= 1e-15 and abs(got - want) <= 1e-12


@pytest.mark.parametrize(
    ("difference", "x", "y", "want"),
    [
        ("x", [0.0, 0.0], [0.3, 0.4], -1.0),
        ("x-y-SumT(g,2)", [3.0, 5.0], [1.0, 3.0], -1.0),
        ("g*x-y", [3.0, 5.0], [6.0, 10.0], -4.0),
        ("MatVecMult(TensorProd(y,y),x-y)", [3.0, 4.0], [3.0, 4.0], -(5.0**4)),  # v = y/|y|
    ],
)
def test_where_else_a_norm_is_zero(difference, x, y, want):
    got = second(MATERN.format(r=f"Norm2({difference})"), TWO, x, y, 2.0, V if want > -5 else [0.6, 0.8])
    assert abs(got[0]) <= 1e-15 and abs(got[1] - want) <= 1e-12 * abs(want)


@pytest.mark.parametrize(
    ("formula", "want"),
    [
        ("Exp(-Norm2(x-y))", [0.0, 0.0, 0.0, 0.0]),
        ("Exp(-Norm2(x-y))+Exp(-SqDist(x,y))", [0.0, 0.0, 0.0, 0.0]),
        ("Norm2(x-y)", [0.0, 0.0, 0.0, 0.0]),
        ("Exp(-Sum(Abs(x-y)))", [0.0, 0.0, 0.0, 0.0]),
        ("IfElse(-SqDist(x,y),0,SqDist(x,y)*Log(Norm2(x-y)))", [0.0, 0.0]),
        ("Powf(SqDist(x,y),0.75)", [0.0, 0.0]),
        ("Exp(-Powf(SqDist(x,y),g/4))", [0.0, 0.0]),  # g/4 = 0.5: exp(-r)
    ],
)
def test_where_there_is_no_derivative_it_counts_as_zero(formula, want):
    x = torch.tensor([POINT], dtype=torch.float64, requires_grad=True)
    g, v = torch.tensor([2.0], dtype=torch.float64), torch.tensor([V], dtype=torch.float64)
    value = Genred(formula, TWO, axis=1)(x, x.detach().clone(), g).sum()
    assert [t.item() for t in taken(len(want), value, x, v)] == want


@pytest.mark.parametrize("formula", ["Inv(Norm2(x-y))", "Log(Norm2(x-y))", "Log(Sum(x)-Sum(y))"])
def test_a_pole_stays_one(formula):
    got = second(formula, TWO, POINT, POINT, 2.0, V)
    assert not np.isfinite(got[0])


def test_kriging_with_observed_gradients():
    """Gradients of a field with a Matern 5/2 covariance, in the spelling that most people use."""
    rng, g, n = np.random.default_rng(0), 5.0, 50
    x = rng.random((n, 2))
    d = x[:, None] - x
    r = np.sqrt((d**2).sum(-1))
    e = np.exp(-g * r)[..., None, None]
    K = g**2 / 3 * e * ((1 + g * r)[..., None, None] * np.eye(2) - g**2 * d[..., :, None] * d[..., None, :])
    K = K.transpose(0, 2, 1, 3).reshape(2 * n, 2 * n)
    b = np.stack([np.cos(6 * x[:, 1]), np.sin(6 * x[:, 0])], 1)
    k = "(1+g*Norm2(x-y)+g*g*SqDist(x,y)/3)*Exp(-g*Norm2(x-y))"
    solver = kernelops.numpy.KernelSolve(f"Grad((Grad({k},y,1)|b),x,1)", usual.aliases(2, 2, "g"), "b", axis=1)
    a = solver(x, x, b, g, alpha=0.1, rtol=1e-12)
    want = np.linalg.solve(K + 0.1 * np.eye(2 * n), b.reshape(-1)).reshape(n, 2)
    np.testing.assert_allclose(a, want, rtol=0, atol=1e-9 * np.abs(want).max())
