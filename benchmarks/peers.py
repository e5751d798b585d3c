"""Who solves: each package in the way its documentation shows, in float64 where it has the choice, setup included.

A peer is asked for a relative residual, and says how good it believes its answer to be. What it believes is held
against the truth elsewhere.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from problems import KERNELS, Solve

MOST_STEPS = 20_000  # of the peers that have a limit
RANK = 100  # of GPyTorch's and HiGP's preconditioners; their defaults are 15 and 50


@dataclass(frozen=True)
class Answer:
    """What a package returns, and what it says of it.

    Attributes
    ----------
    x : ndarray
        (N, columns).
    believed : float or None
        The relative residual that the package claims, of the worst column; for a stop rule that tells nothing, what it
        stopped at. None where it makes no claim.
    steps : int or None
        Iterations, where they are known.
    note : str
    """

    x: np.ndarray
    believed: float | None = None
    steps: int | None = None
    note: str = ""


def our_options(**options: Any) -> dict[str, Any]:
    """Options of KernelSolve, without those that an older version does not know."""
    from kernelops.numpy import KernelSolve

    known = inspect.signature(KernelSolve.__call__).parameters
    return {name: value for name, value in options.items() if name in known}


def kernelops(problem: Solve, rtol: float, **options: Any) -> Answer:
    """float32 data, as it comes."""
    from kernelops.numpy import KernelSolve

    solver = KernelSolve(problem.formula, problem.aliases, "a", axis=1)
    arrays = problem.x, problem.x, problem.b, problem.g
    given = our_options(rtol=rtol, on_fail="ignore", return_solution=True, **options)
    _, found = solver(*arrays, alpha=problem.alpha, **given)
    note = found.status if not found.converged else f"{getattr(found, 'method', 'cg')}, {found.precond}"
    return Answer(found.x, float(found.residual.max()), found.iterations, note)


def keops(dtype: str, problem: Solve, rtol: float) -> Answer:
    """Its eps is absolute, the root mean square of the residual of all columns; here it is made relative."""
    from pykeops.numpy import KernelSolve

    x, b, g = (array.astype(dtype) for array in (problem.x, problem.b, problem.g))
    eps = rtol * float(np.linalg.norm(problem.b, axis=0).min()) / problem.b.size**0.5
    solver = KernelSolve(problem.formula, problem.aliases, "a", axis=1)
    return Answer(solver(x, x, b, g, alpha=problem.alpha, eps=eps, backend="CPU"), rtol)


def gpytorch(dtype: str, problem: Solve, rtol: float) -> Answer:
    """Conjugate gradients of linear_operator with a pivoted Cholesky preconditioner, on a stored kernel matrix."""
    import gpytorch as gp
    import torch
    from linear_operator import settings

    kernel = gp.kernels.RBFKernel() if problem.kernel == "gaussian" else gp.kernels.MaternKernel(nu=_nu(problem))
    kernel = kernel.to(getattr(torch, dtype))
    kernel.lengthscale = problem.rounded_length
    x, b = (torch.from_numpy(array.astype(dtype)) for array in (problem.x, problem.b))
    with (
        torch.no_grad(),
        settings.cg_tolerance(rtol),
        settings.max_cg_iterations(MOST_STEPS),
        settings.max_cholesky_size(0),
        settings.max_preconditioner_size(RANK),
        settings.min_preconditioning_size(1),
        warnings.catch_warnings(record=True) as said,
    ):
        warnings.simplefilter("always")
        found = kernel(x).evaluate_kernel().add_diagonal(torch.tensor(problem.alpha, dtype=x.dtype)).solve(b)
    failed = [str(warning.message) for warning in said if "CG terminated" in str(warning.message)]
    believed = float(failed[-1].split("residual norm ")[1].split(" ")[0]) if failed else rtol
    return Answer(found.numpy(), believed, note="its own warning" if failed else "")


def scipy_on_ours(problem: Solve, rtol: float) -> Answer:
    """SciPy's cg on our operator, without a preconditioner."""
    from kernelops import KernelOperator

    x, g = problem.x.astype(float), problem.g.astype(float)
    aliases = [*problem.aliases[:2], "a = Vj(1)", "g = Pm(1)"]
    return _scipy_cg(KernelOperator(problem.formula, aliases, "a", x, x, g, alpha=problem.alpha), problem, rtol)


def scipy_on_dense(problem: Solve, rtol: float) -> Answer:
    """SciPy's cg on the stored matrix."""
    return _scipy_cg(_matrix(problem), problem, rtol)


def higp(problem: Solve, rtol: float) -> Answer:
    """HiGP's kernel matrix (H2 for at most three dimensions) and its AFN preconditioner, in SciPy's cg.

    Its own iteration is reached only through its predictions.
    """
    import higp_cext
    from scipy.sparse.linalg import LinearOperator

    x = np.ascontiguousarray(problem.x.T.astype(float))
    kind = {"gaussian": 1, "matern32": 2}[problem.kernel]
    given = {"data": x, "kernel_type": kind, "l": problem.rounded_length, "f": 1.0, "s": problem.alpha}
    matrix = higp_cext.krnlmat.setup(**given, use_h2=int(len(x) <= 3))
    afn = higp_cext.precond.setup_afn(**given, rank=RANK, seed=0)
    A, M = (
        LinearOperator((problem.N, problem.N), lambda v, apply=apply: apply(np.ascontiguousarray(v)), dtype=float)
        for apply in (matrix.matmul, afn.matmul)
    )
    return _scipy_cg(A, problem, rtol, M)


def kernel_ridge(problem: Solve, rtol: float) -> Answer:
    """scikit-learn's: a Cholesky factor of its own kernel's matrix."""
    from sklearn.gaussian_process.kernels import Matern
    from sklearn.kernel_ridge import KernelRidge

    x, b = problem.x.astype(float), problem.b.astype(float)
    if problem.kernel == "gaussian":
        return Answer(KernelRidge(alpha=problem.alpha, kernel="rbf", gamma=float(problem.g[0])).fit(x, b).dual_coef_)
    K = Matern(problem.rounded_length, nu=_nu(problem))(x)
    return Answer(KernelRidge(alpha=problem.alpha, kernel="precomputed").fit(K, b).dual_coef_)


def cholesky(problem: Solve, rtol: float) -> Answer:
    """A Cholesky factor in SciPy, in place."""
    from scipy.linalg import cho_factor, cho_solve

    factor = cho_factor(_matrix(problem).T, lower=True, overwrite_a=True, check_finite=False)
    return Answer(cho_solve(factor, problem.b.astype(float), check_finite=False))


def _matrix(problem: Solve) -> np.ndarray:
    """What a careful user writes; it differs from Solve.matrix by going through distances at once."""
    from scipy.spatial.distance import cdist

    x, g = problem.x.astype(float), float(problem.g[0])
    if problem.kernel == "gaussian":
        A = cdist(x, x, "sqeuclidean")
        A *= -g
        np.exp(A, out=A)
    else:
        A = cdist(x, x)
        A *= g
        K = np.exp(-A)
        if problem.kernel == "matern32":
            A += 1
            A *= K
        else:
            A = K
    A[np.diag_indices(problem.N)] += problem.alpha
    return A


def _scipy_cg(A: Any, problem: Solve, rtol: float, M: Any = None) -> Answer:
    """One column after the other; steps are those of all columns."""
    from scipy.sparse.linalg import cg

    steps, columns, failed = 0, [], False

    def count(_: Any) -> None:
        nonlocal steps
        steps += 1

    for b in problem.b.T.astype(float):
        x, info = cg(A, b, rtol=rtol, maxiter=MOST_STEPS, M=M, callback=count)
        columns.append(x)
        failed = failed or info != 0
    return Answer(np.column_stack(columns), None if failed else rtol, steps, "did not converge" if failed else "")


def _nu(problem: Solve) -> float:
    return {"matern32": 1.5, "exponential": 0.5}[problem.kernel]


@dataclass(frozen=True)
class Peer:
    """A column of the tables.

    Attributes
    ----------
    package, distribution : str
        What is imported; what pip calls it.
    solve : callable
        (problem, rtol) -> Answer.
    power : int
        How its time grows with N, iterations apart.
    dense : bool
        Whether it stores the kernel matrix.
    lacks : tuple of str
        Kernels that it has not.
    single : bool
        Whether it works in float32, from which few systems can be solved to what is asked.
    """

    package: str
    distribution: str
    solve: Callable[[Solve, float], Answer]
    power: int = 2
    dense: bool = False
    lacks: tuple[str, ...] = ()
    single: bool = False


OURS, DENSE = "kernelops", "Cholesky"
PEERS = {
    OURS: Peer("kernelops", "kernelops", kernelops),
    "KeOps": Peer("pykeops", "pykeops", partial(keops, "float64")),
    "KeOps, float32": Peer("pykeops", "pykeops", partial(keops, "float32"), single=True),
    "GPyTorch": Peer("gpytorch", "gpytorch", partial(gpytorch, "float64"), dense=True),
    "GPyTorch, float32": Peer("gpytorch", "gpytorch", partial(gpytorch, "float32"), dense=True, single=True),
    "HiGP": Peer("higp", "higp", higp, lacks=("exponential",)),
    "SciPy cg on kernelops": Peer("scipy", "scipy", scipy_on_ours),
    "SciPy cg, dense": Peer("scipy", "scipy", scipy_on_dense, dense=True),
    "KernelRidge": Peer("sklearn", "scikit-learn", kernel_ridge, power=3, dense=True),
    DENSE: Peer("scipy", "scipy", cholesky, power=3, dense=True),
}
assert set(KERNELS) == {"gaussian", "matern32", "exponential"}  # that _matrix and _nu know


def present() -> list[str]:
    """The peers that can be imported."""
    return [name for name, peer in PEERS.items() if find_spec(peer.package)]
