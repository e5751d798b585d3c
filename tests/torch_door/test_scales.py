"""Solves of tensors, what goes beside them and all derivatives, at the ends of float64: as they are in the middle."""

import numpy as np
import pytest
import usual
from tensor_systems import DEVICES, gaussian, pair, right_hand_sides
from torch_dense import torch

from kernelops import SolveState, solve
from kernelops.torch import KernelSolve

SOLVER = KernelSolve("s*Exp(-20*SqDist(x,y))*b", usual.aliases(2, 1, "s"), "b", axis=1)
N = 60
X = torch.from_numpy(np.random.default_rng(0).random((N, 2)))
B = torch.sin(5 * X[:, :1])


def everything(digits, how):
    """Solution, determinant, prediction and their gradients with s and alpha of the size 2^digits, in units of it."""
    unit = 2.0**digits
    leaves = [X.clone(), torch.tensor([unit], dtype=torch.float64), torch.tensor(0.1 * unit, dtype=torch.float64)]
    x, s, alpha = (leaf.requires_grad_(True) for leaf in leaves)

    def gradients(value):
        found = torch.autograd.grad(value, (x, s, alpha))
        return [found[0].numpy(), *(float(g) * unit for g in found[1:])]

    a, solution = SOLVER(x, x, unit * B, s, alpha=alpha, return_solution=True, rtol=1e-10, **how)
    value, _ = SOLVER.logdet(x, x, s, alpha=alpha, **how)
    mean, variance = SOLVER.predict(x, x, unit * B, s, at=X[:3] + 0.01, alpha=alpha, **how)
    assert solution.converged
    yield a.detach().numpy()
    yield from gradients((a * B).sum())
    yield float(value.detach()) - N * digits * np.log(2)
    yield from gradients(value)
    yield mean.detach().numpy() / unit
    yield variance.detach().numpy() / unit


@pytest.mark.parametrize("how", [{}, {"method": "cg"}, {"method": "cg", "precond": "jacobi"}], ids=str)
@pytest.mark.parametrize("digits", [-990, -300, 300, 900])
def test_all_that_a_gaussian_process_needs(digits, how):
    for far, near in zip(everything(digits, how), everything(0, how), strict=True):
        np.testing.assert_allclose(far, near, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("how", [{"method": m} for m in ("cg", "block_cg", "direct")] + [{"precond": "fsai"}], ids=str)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("digits", [-900, -100, 100, 900])
def test_vectors_on_a_device(digits, device, how):
    """With vectors of tensors as with those of numpy; M, which is the host's, is scaled too."""
    b, unit = right_hand_sides(200, 5), 2.0**digits
    for M in (None, 1e200 * np.eye(200)):
        if M is not None and (how.get("method") == "direct" or "precond" in how):
            continue
        there, here = (
            solve(A, b, M=M, rtol=1e-8, **how) for A in pair(unit * gaussian(), alpha=0.01 * unit, device=device)
        )
        near = solve(pair(gaussian(), alpha=0.01)[1], b, M=M, rtol=1e-8, **how)
        assert (
            there.converged and here.converged and abs(there.iterations - near.iterations) <= 1 + near.iterations // 10
        )
        np.testing.assert_allclose(there.x * unit, near.x, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(here.x * unit, near.x, rtol=1e-5, atol=1e-6)


def test_a_state_in_a_checkpoint(tmp_path):
    """torch.save and torch.load of a state that has seen solves, and their backward ones."""
    state, x = SolveState(), X.clone().requires_grad_(True)
    SOLVER(x, x, B, 1.0, alpha=0.1, state=state, method="cg", precond="jacobi").sum().backward()
    torch.save(state, tmp_path / "state")
    twin = torch.load(tmp_path / "state", weights_only=False)
    first, second = (
        SOLVER(X, X, B, 1.0, alpha=0.1, state=s, method="cg", precond="jacobi", return_solution=True)[1]
        for s in (state, twin)
    )
    assert twin.builds == state.builds and first.iterations == second.iterations == 0 and "kept" in second.reason
