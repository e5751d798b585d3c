"""Derivatives of every operation against torch's own, and what is agreed at kinks."""

import pytest
import usual
from cases import CASES
from torch_dense import all_near, assert_near, derivatives, torch, truth

from kernelops.torch import Genred

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_against_torch(case, axis):
    """The value, all first derivatives, and for one axis all second ones (the other is theirs already)."""
    leaves = [torch.from_numpy(a).requires_grad_() for a in case.data(4, 3, "float64")]
    ours, dense = Genred(case.formula, case.aliases, axis=axis)(*leaves), truth(case, leaves).sum(axis)
    assert_near(ours, dense)
    order = 1 + axis
    all_near(derivatives(ours, leaves, order), derivatives(dense, leaves, order))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_forward_is_the_transpose_of_backward(case):
    """<w, J t> = <J^T w, t>."""
    at = tuple(torch.from_numpy(a) for a in case.data(4, 3, "float64"))
    along = tuple(torch.from_numpy(a) for a in case.data(4, 3, "float64", seed=1))
    genred = Genred(case.formula, case.aliases, axis=1)
    value, pullback = torch.func.vjp(genred, *at)
    w = torch.linspace(-1, 2, value.numel(), dtype=value.dtype).reshape(value.shape)
    _, pushed = torch.func.jvp(genred, at, along)
    back = sum((g * t).sum() for g, t in zip(pullback(w), along, strict=True))
    assert_near((w * pushed).sum(), back)


# formula of x and c, where x is, what it is there, its derivative by x there
KINKS = [
    ("Sqrt(x)", 0, 0, 0),
    ("Rsqrt(x)", 0, 0, 0),
    ("Abs(x)", 0, 0, 0),
    ("Abs(x)", -2, 2, -1),
    ("ReLU(x)", 0, 0, 1),
    ("ReLU(x)", -1, 0, 0),
    ("Sign(x)", 0, 0, 0),
    ("Step(x)", 0, 1, 0),
    ("Norm2(x)", 0, 0, 0),
    ("Norm2(x-c)", 1, 0, 0),
    ("Normalize(x)", 0, 0, 0),
    ("Exp(-Norm2(x-c))", 1, 1, 0),
    ("SinXDivX(x)", 0, 1, 0),
    ("SinXDivX(x,1)", 0, 0, -1 / 3),
    ("ClampInt(x,-1,1)", -1, -1, 1),
    ("ClampInt(x,-1,1)", 1, 1, 1),
    ("ClampInt(x,-1,1)", 2, 1, 0),
    ("Clamp(2,-1,x)", 2, 2, 0),
    ("Clamp(2,-1,x)", 1, 1, 1),
    ("Clamp(2,x,5)", 2, 2, 0),
    ("Clamp(2,x,5)", 3, 3, 1),
    ("IfElse(x,2*x,5*x)", 0, 0, 2),
    ("IfElse(x,3,c)", 0, 3, 0),
    ("Powf(x,2)", 0, 0, 0),
    ("Powf(x,c)", 0, 0, 1),
    ("Powf(x,0)", 0, 1, 0),
    ("x**2", 0, 0, 0),
    ("x**1", 0, 0, 1),
    ("x**0", 0, 1, 0),
    ("x/c", 0, 0, 1),
    ("Log(x)", 0, -INF, INF),
    ("Log(x)", -1, NAN, -1),
    ("Inv(x)", 0, INF, -INF),
    ("IfElse(x-1,Sqrt(x-1),x)", 0, 0, 1),  # the branch that is not taken is NaN
    ("IfElse(x-1,Log(x),x)", 0, 0, 1),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("formula", "at", "value", "derivative"), KINKS, ids=str)
def test_what_is_agreed_at_kinks(formula, at, value, derivative, dtype):
    x, c = torch.tensor([[float(at)]], dtype=dtype, requires_grad=True), torch.ones(1, 1, dtype=dtype)
    got = Genred(formula, ["x = Vi(1)", "c = Vj(1)"], axis=1)(x, c)
    (slope,) = torch.autograd.grad(got.sum(), x)
    want = torch.tensor([[value, derivative]], dtype=dtype)
    torch.testing.assert_close(torch.cat([got, slope], -1).detach(), want, rtol=1e-6, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("formula", ["Norm2(x-y)*b", usual.LAPLACE, "(1+Norm2(x-y))*Exp(-Norm2(x-y))*b"])
def test_distances_of_a_point_to_itself_have_derivatives_0(formula):
    """Of any order: as if the diagonal were not there, where torch's own would be NaN."""
    draw = torch.Generator().manual_seed(2)
    x, b = (torch.randn(5, d, generator=draw, dtype=torch.float64, requires_grad=True) for d in (3, 1))
    off = ~torch.eye(5, dtype=torch.bool)
    r = torch.where(off, ((x[:, None] - x) ** 2).sum(-1), 1.0).sqrt()
    kernel = {"N": lambda: r, "E": lambda: torch.exp(-r), "(": lambda: (1 + r) * torch.exp(-r)}[formula[0]]()
    dense = torch.where(off, kernel, 0.0 if formula[0] == "N" else 1.0) @ b
    ours = Genred(formula, usual.aliases(3, 1), axis=1)(x, x, b)
    assert_near(ours, dense)
    all_near(derivatives(ours, [x, b]), derivatives(dense, [x, b]))
