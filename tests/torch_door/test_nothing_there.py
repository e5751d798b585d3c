"""Calls without rows, columns or batch elements: both doors give the same empty or neutral results, and derivatives."""

import numpy as np
import pytest
import usual
from torch_dense import torch

import kernelops.numpy
import kernelops.torch

ALIASES = usual.aliases(2, 1)
FORMULA = usual.GAUSS
COUPLED = "Exp(-SqDist(x,y))*MatVecMult(TensorProd(p,p),b)", ["x = Vi(2)", "y = Vj(2)", "b = Vj(2)", "p = Pm(2)"]
OPS = {"Sum": {}, "LogSumExp": {}, "SumSoftMaxWeight": {"formula2": "b"}, "Min": {}, "ArgMax": {}, "Max_ArgMax": {},
       "KMin": {"opt_arg": 2}, "KMin_ArgKMin": {"opt_arg": 2}}  # fmt: skip


def listed(found):
    return [a for a in (found if isinstance(found, tuple) else (found,)) if a is not None]


def agree(call, *shapes):
    """A call at both doors, by ones of these shapes: equal results, and derivatives of two orders without an error."""
    want = listed(call(kernelops.numpy, *(np.ones(s) for s in shapes)))
    leaves = [torch.ones(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    got = listed(call(kernelops.torch, *leaves))
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g.detach().numpy(), w, rtol=1e-9)

    def total(*leaves):
        found = [t.sum() for t in listed(call(kernelops.torch, *leaves)) if t.is_floating_point()]
        return sum(found, (0 * leaves[0]).sum())

    first = torch.autograd.grad(total(*leaves), leaves, create_graph=True, materialize_grads=True)
    assert [g.shape for g in first] == [t.shape for t in leaves]
    slopes = sum((g**2).sum() for g in first)
    if slopes.requires_grad:
        torch.autograd.grad(slopes, leaves, materialize_grads=True)
    still = tuple(t.detach() for t in leaves)
    torch.func.jvp(lambda *t: torch.func.jvp(total, t, still)[1], still, still)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("op", OPS)
def test_reductions(op, axis):
    for formula in ("SqDist(x,y)", "x-y") if op in ("Min", "KMin") else ("SqDist(x,y)",):
        for lead, M, N in (((), 0, 3), ((), 3, 0), ((), 0, 0), ((2,), 3, 0), ((0,), 4, 3)):
            agree(lambda door, *t, f=formula: door.Genred(f, ALIASES, op, axis=axis, **OPS[op])(*t),
                  (*lead, M, 2), (N, 2), (N, 1))  # fmt: skip


HOW = [{}, {"method": "cg", "precond": None}, {"method": "cg", "precond": "jacobi"}, {"method": "direct"},
       {"method": "cg", "precond": "pivoted_cholesky"}, {"method": "cg", "precond": "nystrom"}]  # fmt: skip
POINTS = [(0, 2), (2, 0, 2), (0, 3, 2), (3, 2)]
NEW = [(0, True), (0, False), (2, True)]  # new points, and whether variances are wanted: every way meets each of them


@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize("points", POINTS, ids=str)
def test_solves(points, how):
    n = points[-2]

    def made(door):
        return door.KernelSolve(FORMULA, ALIASES, "b", axis=1)

    agree(lambda door, x, b: made(door)(x, x, b, alpha=0.1, **how), points, (n, 1))
    agree(lambda door, x: made(door).logdet(x, x, alpha=0.1, **how), points)
    agree(lambda door, x, b: tuple(made(door).inv_quad_logdet(x, x, b, alpha=0.1, **how)), points, (n, 1))
    m, variance = NEW[(POINTS.index(points) + HOW.index(how)) % 3]
    agree(lambda door, x, b, at: made(door).predict(x, x, b, at=at, variance=variance, alpha=0.1, **how),
          points, (n, 1), (m, 2))  # fmt: skip


@pytest.mark.parametrize("points", [(0, 2), (0, 3, 2)], ids=str)
def test_matrix_valued_kernels(points):
    n = points[-2]

    def made(door):
        return door.KernelSolve(*COUPLED, "b", axis=1)

    agree(lambda door, x, b, p: made(door)(x, x, b, p, alpha=0.1), points, (n, 2), (2,))
    agree(lambda door, x, p: made(door).logdet(x, x, p, alpha=0.1), points, (2,))
    agree(lambda door, x, b, p: made(door).predict(x, x, b, p, at=x[..., :0, :], alpha=0.1, variance=False),
          points, (n, 2), (2,))  # fmt: skip
