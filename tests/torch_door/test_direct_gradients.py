"""Gradients through a solve with a dense factor in float32, by a dense solve in float64."""

import numpy as np
import pytest
import usual

torch = pytest.importorskip("torch")

from kernelops.solvers import policy  # noqa: E402
from kernelops.solvers.cost_model import Costs  # noqa: E402
from kernelops.torch import KernelSolve  # noqa: E402

N = 150
ALIASES = usual.aliases(2, 2, "g")
SOLVER = KernelSolve(usual.SCALED_GAUSS, ALIASES, "b", axis=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_backward_solve_takes_the_factor(monkeypatch, dtype):
    monkeypatch.setattr(policy, "SINGLE_FROM", 1)
    monkeypatch.setattr(Costs, "single", lambda self, rate: 0.0)
    built, cholesky = [], policy.Cholesky
    monkeypatch.setattr(policy, "Cholesky", lambda *how: built.append(cholesky(*how)) or built[-1])
    draw = torch.Generator().manual_seed(0)
    x, b = torch.rand(N, 2, generator=draw, dtype=dtype), torch.randn(N, 2, generator=draw, dtype=dtype)
    leaves = [x, b, torch.tensor([3.0], dtype=dtype), torch.tensor(0.1, dtype=torch.float64)]
    x, b, g, alpha = (t.clone().requires_grad_() for t in leaves)
    a = SOLVER(x, x, b, g, alpha=alpha, method="direct", rtol=1e-9)
    weights = torch.randn(N, 2, generator=draw, dtype=dtype)
    (a * weights).sum().backward()
    assert [p.single for p in built] == [True]

    X, B, G, S = (t.to(torch.float64).requires_grad_() for t in leaves)
    K = torch.exp(-G * ((X[:, None] - X) ** 2).sum(-1)) + S * torch.eye(N, dtype=torch.float64)
    (torch.linalg.solve(K, B) * weights).sum().backward()
    tolerance = 1e-4 if dtype == torch.float32 else 1e-7  # float32: of sums that cancel; else rtol times the condition
    for found, wanted in zip((x, b, g, alpha), (X, B, G, S), strict=True):
        error = (found.grad.to(torch.float64) - wanted.grad).abs().max()
        assert error <= tolerance * wanted.grad.abs().max()
    assert np.isfinite(alpha.grad.item())
