"""The solve of examples/kernel_solve.py, and its gradient, on a GPU: random points of the unit square, float32.

Tensors are on the GPU where torch has CUDA; else they are on the host, and are sent. KeOps and a dense Cholesky factor
of torch solve the same beside. Every function here is called in a process apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from engines import OURS
from gpu_timing import DENSE, DENSE_BYTES, KEOPS, Place, cuda_torch
from timing import seconds_of

SIGMA, ALPHA, COLUMNS, RTOL = 0.1, 0.01, 2, 1e-6
FORMULA, ALIASES = "Exp(-g*SqDist(x,y))*b", ["x = Vi(2)", "y = Vj(2)", f"b = Vj({COLUMNS})", "g = Pm(1)"]
KNOWN = 6000  # points up to which the answer is known from a dense float64 factor
JUDGED_ROWS = 64  # of the residual, where it is not
LARGEST = {"error": 1e-6, "gradient error": 1e-5, "residual": 2e-6}  # relative


@dataclass
class Solved:
    """What was measured on one size.

    Attributes
    ----------
    N : int
    seconds : dict
        Engine -> seconds of a solve.
    gradient : dict
        Engine -> seconds of the gradient to the points.
    first : float or None
        Seconds of our first solve.
    errors : dict
        "error" and "gradient error" of ours, relative, against a dense factor in float64, or "residual" of some rows.
    said : str
        What our solver says of its way, or why it has no answer.
    failed : list of str
        What is wrong with ours.
    """

    N: int
    seconds: dict[str, float] = field(default_factory=dict)
    gradient: dict[str, float] = field(default_factory=dict)
    first: float | None = None
    errors: dict[str, float] = field(default_factory=dict)
    said: str = ""
    failed: list[str] = field(default_factory=list)


def problem(N: int) -> tuple[Any, Any, Any]:
    """x, b and the cotangent e, as tensors of the host: those of examples/kernel_solve.py."""
    import torch

    draw = torch.Generator().manual_seed(0)
    return torch.rand(N, 2, generator=draw), *(torch.randn(N, COLUMNS, generator=draw) for _ in range(2))


def rate() -> float:
    """The formula's g, as float32 has it."""
    return float(np.float32(0.5 / SIGMA**2))


def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The kernel matrix in float64."""
    squares = sum((x[:, None, d].astype(float) - y[None, :, d]) ** 2 for d in range(x.shape[1]))
    return np.exp(-rate() * squares)


def truth(x: np.ndarray, b: np.ndarray, e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The solution c and the gradient of <c, e> with respect to the points, from a factor in float64.

    With A c = b and A l = e the change of <c, e> is -l' dA c; dA is that of the kernel, in both of its arguments.
    """
    from scipy.linalg import cho_factor, cho_solve

    x = x.astype(float)
    K = kernel(x, x)
    A = K.copy()
    A[np.diag_indices(len(x))] += ALPHA
    factor = cho_factor(A, overwrite_a=True, check_finite=False)
    c, adjoint = (cho_solve(factor, a.astype(float), check_finite=False) for a in (b, e))
    W = K * (adjoint @ c.T + c @ adjoint.T)
    return c, 2 * rate() * (W.sum(1)[:, None] * x - W @ x)


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def residual(x: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """That of some rows, relative to the right-hand sides there."""
    rows = np.linspace(0, len(x) - 1, JUDGED_ROWS).astype(int)
    return relative(ALPHA * c[rows] + kernel(x[rows], x.astype(float)) @ c, b[rows].astype(float))


def ours(N: int, budget: float, repeat: int = 9) -> Solved:
    """Solves and gradients, and how wrong they are; both are repeated within about so many seconds."""
    from kernelops.torch import KernelSolve

    place, result, torch = Place(), Solved(N), cuda_torch()
    tensors = problem(N)
    x, b, e = (t.cuda() if torch else t for t in tensors)
    g, how = x.new_tensor([rate()]), {} if torch else {"backend": "GPU"}
    solver = KernelSolve(FORMULA, ALIASES, "b", axis=1)
    start, taken = perf_counter(), []
    for k in range(repeat + 1):
        if k > 1 and perf_counter() - start > budget:
            break
        at = x.clone().requires_grad_()
        call = partial(solver, at, at, b, g, alpha=ALPHA, rtol=RTOL, on_fail="ignore", return_solution=True, **how)
        solving, (c, solution) = place.waited(call)
        value = (c * e).sum()
        differentiating, (gradient,) = place.waited(partial(torch_grad, value, at))
        taken.append((solving, differentiating))
    result.first = taken[0][0]
    later = taken[1:] or taken
    result.seconds[OURS], result.gradient[OURS] = (median(seconds) for seconds in zip(*later))
    result.said = f"{solution.status} by {solution.method}, {solution.precond or 'no preconditioner'}"
    if not solution.converged:
        result.failed.append(f"the solve says {solution.status}")
    found, slope = (t.detach().cpu().numpy() for t in (c, gradient))
    x, b, e = (t.numpy() for t in tensors)
    if N <= KNOWN:
        c, wanted = truth(x, b, e)
        result.errors = {"error": relative(found, c), "gradient error": relative(slope, wanted)}
    else:
        result.errors = {"residual": residual(x, b, np.asarray(solution.x, float))}
    for name, error in result.errors.items():
        if not error <= LARGEST[name]:
            result.failed.append(f"{name} {error:.1e}, allowed {LARGEST[name]:.0e}")
    return result


def torch_grad(value: Any, at: Any) -> Any:
    import torch

    return torch.autograd.grad(value, at)


def dense(N: int) -> float | None:
    """Seconds of a solve by torch's Cholesky factor in float32 on the GPU, the matrix made each time."""
    torch = cuda_torch()
    if torch is None or 4 * N**2 > DENSE_BYTES:
        return None
    x, b, _ = (t.cuda() for t in problem(N))

    def solve() -> Any:
        squares = (x**2).sum(1)
        A = torch.addmm(squares, x, x.T, beta=-1, alpha=2).sub_(squares[:, None]).mul_(rate()).exp_()
        A.diagonal().add_(ALPHA)
        return torch.cholesky_solve(b, torch.linalg.cholesky_ex(A)[0])

    return repeated(solve)


def keops(N: int) -> float | None:
    """Seconds of a solve by KeOps on the GPU; its eps is absolute, the root mean square of the residual."""
    torch = cuda_torch()
    if torch is None:
        return None
    import pykeops
    from pykeops.torch import KernelSolve

    pykeops.set_verbose(False)
    x, b, _ = (t.cuda() for t in problem(N))
    g, eps = x.new_tensor([rate()]), RTOL * float(b.norm(dim=0).min()) / b.numel() ** 0.5
    solver = KernelSolve(FORMULA, ALIASES, "b", axis=1)
    small = x[:200], x[:200], b[:200], g
    solver(*small, alpha=1.0, eps=1e-2, backend="GPU")  # compiles
    return repeated(lambda: solver(x, x, b, g, alpha=ALPHA, eps=eps, backend="GPU"))


def repeated(solve: Callable[[], Any], again: float = 1.0) -> float:
    """The median of three solves, after one; of a long one, the time of that."""
    import torch

    def whole() -> None:
        solve()
        torch.cuda.synchronize()

    seconds, _ = seconds_of(whole)
    return seconds if seconds > again else median(seconds_of(whole)[0] for _ in range(3))


PEERS = {KEOPS: keops, DENSE: dense}
