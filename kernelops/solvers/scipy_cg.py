"""cg: conjugate gradients with SciPy's signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .cg import conjugate_gradients
from .operator import as_preconditioner, as_system, inexact
from .options import check_callback, check_maxiter, check_tolerance, check_word
from .problem import (
    Problem,
    check_real,
    finite,
    one_column,
    start_from,
    with_caller_errstate,
)
from .status import info_of
from .summarize import return_in_units
from .vectors import Block


def cg(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
    callback: Callable[[np.ndarray], Any] | None = None,
) -> tuple[np.ndarray, int]:
    """Solve A x = b by conjugate gradients, with the signature and the meaning of scipy.sparse.linalg.cg.

    Parameters
    ----------
    A : KernelOperator, LinearOperator, sparse or dense matrix, shape (N, N)
        Real symmetric or complex Hermitian, positive definite.
    b : array_like, shape (N,) or (N, 1)
        Right-hand side.
    x0 : array_like or "Mb", optional
        The first iterate; zero by default, M b for "Mb". It is not overwritten.
    rtol, atol : float, default 1e-5 and 0
        Converged when ``norm(b - A @ x) <= max(rtol * norm(b), atol)``.
    maxiter : int, optional
        The largest number of iterations; 10 N by default.
    M : LinearOperator, sparse or dense matrix, optional
        Approximation of the inverse of A, positive definite.
    callback : callable, optional
        ``callback(xk)`` is called after each iteration with a copy of the iterate. If it raises StopIteration, the
        iteration ends there.

    Returns
    -------
    x : ndarray, shape (N,)
        The solution, in the dtype that A and b have in common.
    info : int
        0: converged. k > 0: not converged after k iterations. -1: NaN or Inf turned up, and x is NaN; or x is too large
        for its dtype, and holds Inf. -2: A or M turned out not to be positive definite.

    Raises
    ------
    ArgumentError, ShapeError, DtypeError, KeywordError
        If an argument is not as described; the text names it, what was wanted and what came.

    See Also
    --------
    solve : many right-hand sides, preconditioners, mixed precision, and a report
    scipy.sparse.linalg.cg : the function whose signature this one has

    Notes
    -----
    Vectors and scalars are float64 or complex128 whatever the dtypes of A and b. It differs from SciPy in four ways:

    - converging in the last allowed step counts as converged;
    - info is 0 only if the residual, recomputed as b - A x, meets the tolerance, for the x that is returned: if A
      and b are float32, x is too, and its rounding alone may miss a tolerance that a b of float64 would meet;
    - StopIteration from the callback ends the iteration;
    - a breakdown (NaN, Inf, a direction of negative curvature) ends the iteration with a negative info.

    References
    ----------
    .. [1] M. R. Hestenes, E. Stiefel, Methods of conjugate gradients for solving linear systems, J. Res. Nat. Bur.
       Standards 49 (1952).

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops import cg
    >>> x, info = cg(np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([1.0, 2.0]))
    >>> info, np.round(x, 4).tolist()
    (0, [0.0909, 0.6364])
    """
    check_callback(callback)
    if callback is not None:
        callback = with_caller_errstate(callback)
    with np.errstate(all="ignore"):
        return _solve(A, b, x0, rtol, atol, maxiter, M, callback)


def _solve(
    A: Any, b: Any, x0: Any, rtol: Any, atol: Any, maxiter: Any, M: Any, callback: Callable[[np.ndarray], Any] | None
) -> tuple[np.ndarray, int]:
    """The result of cg."""
    system = as_system(A)
    n, vectors = system.n, system.vectors
    b = one_column(b, n, "b")
    rtol, atol, maxiter = check_tolerance(rtol, "rtol"), check_tolerance(atol, "atol"), check_maxiter(maxiter)
    maxiter = 10 * system.global_n if maxiter is None else maxiter
    dtype = np.result_type(system.dtype, inexact(b.dtype))
    precondition, _, scaled = (None, "none", None) if M is None else as_preconditioner(M, n, vectors)
    b = vectors.from_host(b)
    if isinstance(x0, str):
        check_word(x0)
    elif x0 is not None:
        x0 = one_column(x0, n, "x0")
        check_real(x0, dtype)
        x0 = vectors.from_host(x0)
    if not (finite(b, vectors) and (x0 is None or isinstance(x0, str) or finite(x0, vectors))):
        return np.full(n, np.nan, dtype), info_of("nonfinite", 0)

    def watch(present: Callable[[], Block]) -> None:
        assert callback is not None
        callback(_to_returned_dtype(vectors.to_host(problem.to_units_of_b(present())), dtype))

    problem = Problem(system, b, rtol, atol, dtype)
    problem.look_for_units(1)
    if isinstance(x0, str):
        x0 = start_from(problem, precondition, lambda: problem.unit - (0 if scaled is None else scaled.exponent))
    elif x0 is not None:
        x0 = problem.to_scaled_units(x0)
    x, r = problem.start(x0)
    exits = conjugate_gradients(
        problem.product,
        x,
        r,
        problem.goal,
        maxiter,
        problem.log,
        precondition=precondition,
        recompute=problem.residual,
        watch=None if callback is None else watch,
        vectors=vectors,
    )
    problem.compute_skipped_residuals(x)
    return_in_units(problem, x, problem.size.copy(), exits)
    status = exits.status
    if status == "converged" and problem.rounded is not None and not (problem.size_rounded <= problem.goal).all():
        status = "overflow" if problem.unfit.any() else "stagnated"
    return _to_returned_dtype(vectors.to_host(x), dtype), info_of(status, problem.log.iterations)


def _to_returned_dtype(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The column in the dtype that is returned; numbers that do not fit are infinite, which info tells."""
    with np.errstate(over="ignore"):
        return x[:, 0].astype(dtype, copy=False)
