"""solve: A x = b for one or many right-hand sides, with a report in the Solution."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from ..engines.blas import one_blas_thread, take_memory
from ..errors import ConvergenceWarning, ShapeError, SolveError
from .block_cg import block_conjugate_gradients
from .cg import Exits, Watch, conjugate_gradients
from .operator import Operator, as_system, check_symmetric, density, inexact, prefers_rows, row_product
from .options import SolveOptions
from .plan import Plan
from .policy import factorize_in_float64, plan_for
from .problem import (
    Problem,
    as_numbers,
    check_real,
    finite,
    start_from,
    with_caller_errstate,
)
from .progress import ProgressBar, log_line
from .refine import correct, iterate_in_double, refine
from .request import SolveRequest
from .solution import Solution
from .state import SolveState
from .status import FAILURES
from .summarize import summarize
from .vectors import Block


def solve(
    A: Any,
    B: Any,
    x0: Any = None,
    *,
    rtol: float = 1e-6,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
    precond: str | None = "auto",
    method: str = "auto",
    state: SolveState | None = None,
    seed: int = 0,
    callback: Callable[[np.ndarray], Any] | None = None,
    progress: bool = False,
    verbose: bool = False,
    on_fail: str = "warn",
) -> Solution:
    """Solve A X = B for a symmetric (Hermitian) positive definite A.

    Parameters
    ----------
    A : KernelOperator, LinearOperator, sparse or dense matrix, shape (n, n)
        For a KernelOperator on float32 (or float16) data the iterations run in float32 and the residuals in float64.
        For anything else all is float64, and the residual is as precise as A's own products.
    B : array_like, shape (n,), (n, k) or (..., n, k)
        Right-hand sides, one in each column.
    x0 : array_like or "Mb", optional
        The first iterate, in the shape of B; zero by default, M B for "Mb". It is not overwritten.
    rtol, atol : float, default 1e-6 and 0
        A column is converged when ``norm(b - A x) <= max(rtol * norm(b), atol)``, for the float64 iterate x and with
        the residual recomputed in float64.
    maxiter : int, optional
        The largest number of iterations; by default 10 n, but at least 100.
    M : LinearOperator, sparse or dense matrix, optional
        A preconditioner of your own, instead of `precond`: a positive definite approximation of the inverse of A.
    precond : {"auto", None, "pivoted_cholesky", "fsai", "nystrom", "jacobi"}, default "auto"
        The preconditioner to build: a low-rank part from randomly pivoted Cholesky factorisation [4]_ or from a random
        sketch [5]_, a factorised sparse approximate inverse [6]_, or the diagonal. "auto" builds one for a kernel
        operator if that is expected to pay, by counted work; for anything else there is none. "pivoted_cholesky",
        "fsai" and "jacobi" need entries of A, which a KernelOperator and an array have.
    method : {"auto", "cg", "block_cg", "direct"}, default "auto"
        Conjugate gradients, for every column by itself [1]_ or in a subspace that all columns share [2]_; or a dense
        Cholesky factor with them, for kernel operators and arrays. "auto" takes the factor if it is predicted to be
        faster, for kernel operators alone, and if it takes at most a GiB; else the shared subspace from four columns
        on.
    state : SolveState, optional
        Carries preconditioner and solution from one solve to the next.
    seed : int, default 0
        Seed for the random choices made when a preconditioner is built; the same seed gives the same solution.
    callback : callable, optional
        ``callback(x)`` is called after each iteration with a copy of the iterate, in the shape of B. If it raises
        StopIteration, the iteration ends there, with status "stopped".
    progress : bool, default False
        Show a progress bar: that of tqdm if it is installed, else a line on stderr every two seconds.
    verbose : bool, default False
        Write to stderr which method and preconditioner are used, and why, and how the solve ended.
    on_fail : {"warn", "raise", "ignore"}, default "warn"
        What to do if a column does not converge: issue a ConvergenceWarning, raise a SolveError, or nothing. A stop by
        the callback does not warn.

    Returns
    -------
    Solution
        The iterate x in float64, the status and a message, the number of iterations, true residuals and more.

    Raises
    ------
    ArgumentError, ShapeError, DtypeError, KeywordError
        If an argument is not as described; the text names it, what was wanted and what came. If A is not symmetric.
    SolveError
        If a column does not converge and on_fail is "raise".

    See Also
    --------
    cg : conjugate gradients for one right-hand side, with the signature of scipy.sparse.linalg.cg
    kernelops.numpy.KernelSolve : solves with a kernel matrix from a formula and its arrays
    kernelops.torch.KernelSolve : the same for tensors, differentiable
    SolveState : carries preconditioner and solution from one solve to the next

    Notes
    -----
    The residual that conjugate gradients carry along differs from b - A x by the rounding of the products [3]_. A
    column counts as converged only if the residual that is recomputed from x meets the tolerance.

    References
    ----------
    .. [1] M. R. Hestenes, E. Stiefel, Methods of conjugate gradients for solving linear systems, J. Res. Nat. Bur.
       Standards 49 (1952).
    .. [2] D. P. O'Leary, The block conjugate gradient algorithm and related methods, Linear Algebra Appl. 29 (1980).
    .. [3] A. Greenbaum, Estimating the attainable accuracy of recursively computed residual methods, SIAM J. Matrix
       Anal. Appl. 18 (1997).
    .. [4] Y. Chen, E. N. Epperly, J. A. Tropp, R. J. Webber, Randomly pivoted Cholesky: practical approximation of a
       kernel matrix with few entry evaluations, Comm. Pure Appl. Math. (2024).
    .. [5] Z. Frangella, J. A. Tropp, M. Udell, Randomized Nystrom preconditioning, SIAM J. Matrix Anal. Appl. 44
       (2023).
    .. [6] L. Yu. Kolotilina, A. Yu. Yeremin, Factorized sparse approximate inverse preconditionings I: theory, SIAM J.
       Matrix Anal. Appl. 14 (1993).

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops import solve
    >>> solution = solve(np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([1.0, 2.0]))
    >>> solution.status, np.round(solution.x, 4).tolist()
    ('converged', [0.0909, 0.6364])
    """
    options = SolveOptions.from_arguments(locals())
    solution = solve_with(A, B, options)
    warn_or_raise(solution, options.on_fail, stacklevel=3)
    return solution


def solve_with(A: Any, B: Any, options: SolveOptions) -> Solution:
    """The Solution that `solve` returns; it is for the caller to do what on_fail says."""
    if options.callback is not None:
        options = replace(options, callback=with_caller_errstate(options.callback))
    with np.errstate(all="ignore"):  # what leaves the range of numbers becomes a status, not a warning of numpy
        solution = _solution(A, B, options)
    if options.verbose:
        log_line(str(solution))
    return solution


def _solution(A: Any, B: Any, options: SolveOptions) -> Solution:
    """The Solution, computed under floating-point settings that ignore all errors."""
    rtol, state = options.rtol, options.state
    system = as_system(A)
    vectors = system.vectors
    B = B if vectors.is_block(B) else vectors.from_host(as_numbers(B, "B"))
    b = _block(B, system.n)
    request = SolveRequest.of(system, options, b.shape[:-2])
    shape = tuple(B.shape)
    maxiter = options.most_iterations(system.global_n)
    x0 = _start(options.x0, shape, b, system)

    returned = np.result_type(inexact(vectors.dtype(b)), *([np.complex64] if system.dtype.kind == "c" else []))
    take_memory()
    problem = Problem(system, b, rtol, options.atol, returned)
    faulty = "" if finite(b, vectors) else "B"
    if not faulty and x0 is not None and not isinstance(x0, str) and not finite(x0, vectors):
        faulty = "x0"
    if faulty:
        x, exits = vectors.zeros(b.shape, problem.dtype), Exits.none(problem.goal.shape, nonfinite=True)
        plan = Plan(request, "cg", "none", f"there is NaN or Inf in {faulty}")
    else:
        images = problem.look_for_units()
        system, request = problem.system, replace(request, system=problem.system)
        check_symmetric(system, problem.product, b.shape[:-2], images)
        plan = problem.log.time_calls("setup", lambda b: plan_for(request, b.shape[-1], rtol, state))(b)
        if options.verbose:
            kept = f" ({100 * density(system):.2g} % of the entries kept)" if density(system) < 1 else ""
            log_line(f"{system.global_n} unknowns{kept}, {_describe_columns(b)}: {plan}")
        if isinstance(x0, str):
            x0 = start_from(problem, plan.apply(vectors), lambda: plan.exponent(problem.unit))
        elif x0 is None and state is not None:
            x0, problem.carried = state.start(tuple(b.shape), problem.dtype), True
            x0 = None if x0 is None else problem.to_scaled_units(vectors.from_host(x0))
        elif x0 is not None:
            x0 = problem.to_scaled_units(x0)
        x, exits, plan = _iterate(problem, x0, shape, maxiter, request, plan, options)
    figures = {"maxiter": maxiter, "asked": _describe_tolerances(rtol, options.atol), "faulty": faulty}
    solution = summarize(problem, x, x0, exits, shape, plan, figures)
    if state is not None and not faulty:
        broken = solution.status in FAILURES
        state.leave(solution.x.reshape(tuple(b.shape)), plan, solution.iterations, broken)
    return solution


def _start(x0: Any, shape: tuple[int, ...], b: Block, system: Operator) -> Any:
    """x0 as a block, None or "Mb"."""
    if x0 is None or isinstance(x0, str):
        return x0
    x0 = as_numbers(x0, "x0")
    if x0.shape != shape:
        raise ShapeError(f"x0 must have the shape of B, {shape}, got {x0.shape}")
    x0 = x0.reshape(tuple(b.shape))
    check_real(x0, np.result_type(system.dtype, system.vectors.dtype(b)))
    return system.vectors.from_host(x0)


def _describe_columns(b: Block) -> str:
    columns = math.prod(b.shape) // max(1, b.shape[-2])
    return f"{columns} right-hand side{'s' * (columns != 1)}"


def warn_or_raise(solution: Solution, on_fail: str, stacklevel: int = 2) -> None:
    """Warn of a solution that did not converge, raise SolveError, or do nothing, as on_fail says."""
    if solution.converged or (solution.status == "stopped" and on_fail != "raise"):
        return  # a callback that stops the solve knows that it does
    report_failure(solution, on_fail, stacklevel)


class Outcome(Protocol):
    """A result that can say what is wrong with it."""

    @property
    def message(self) -> str: ...


def report_failure(outcome: Outcome, on_fail: str, stacklevel: int) -> None:
    """Raise SolveError with an outcome that has failed, warn of it, or do nothing, as on_fail says.

    stacklevel is that of a warning that the caller would give itself.
    """
    if on_fail == "raise":
        raise SolveError(outcome)
    if on_fail == "warn":
        warnings.warn(outcome.message, ConvergenceWarning, stacklevel=stacklevel + 1)


def _block(b: Block, n: int) -> Block:
    """B as a block (..., n, k)."""
    if b.ndim == 0 or (b.shape[0] if b.ndim == 1 else b.shape[-2]) != n:
        raise ShapeError(
            f"B must have shape ({n},), ({n}, k) or (..., {n}, k) to fit A of shape ({n}, {n}), got {tuple(b.shape)}"
        )
    return b[:, None] if b.ndim == 1 else b


def _iterate(
    problem: Problem,
    x0: Any,
    shape: tuple[int, ...],
    maxiter: int,
    request: SolveRequest,
    plan: Plan,
    options: SolveOptions,
) -> tuple[Block, Exits, Plan]:
    """The last iterate in scaled units, how the columns ended, and the plan that was followed in the end."""
    system, log = problem.system, problem.log
    asked = np.max(problem.goal * log.unit, initial=0.0)  # of the column that may stop first
    bar = ProgressBar(float(asked)) if options.progress else None
    callback = options.callback

    def show(bar: ProgressBar) -> None:
        bar.show(log.iterations, float(np.max(log.history[-1], initial=0.0)))

    def watch(present: Callable[[], Block]) -> None:
        if bar is not None:
            show(bar)
        if callback is not None:
            callback(system.vectors.to_host(problem.to_units_of_b(present())).reshape(shape))

    watching = None if bar is None and callback is None else watch
    try:
        x, r = problem.start(x0)
        iterate = block_conjugate_gradients if plan.method == "block_cg" else conjugate_gradients
        mixed = system.native and np.finfo(system.dtype).bits < 64 and plan.method != "direct"
        with one_blas_thread() if system.native else nullcontext():
            if plan.method == "direct" and not plan.reused:
                exits, plan = _correct_by_factors(problem, x, r, maxiter, request, plan, watching)
                problem.row_product = None
                if exits is not None:
                    return x, exits, plan
            apply = plan.apply(system.vectors)
            precondition = None if apply is None else log.time_calls("preconditioner", apply)
            run = refine if mixed else iterate_in_double
            exits = run(problem, x, r, maxiter, iterate=iterate, precondition=precondition, watch=watching)
            if plan.method == "block_cg" and exits.status == "stagnated" and log.iterations < maxiter:
                # near the end of float64 the common directions are lost before the columns are
                r = problem.residual(x, np.arange(r.shape[-1]))
                exits = iterate_in_double(problem, x, r, maxiter, precondition=precondition, watch=watching)
        return x, exits, plan
    finally:
        if bar is not None:
            if log.history:
                show(bar)
            bar.close()


def _correct_by_factors(
    problem: Problem,
    x: Block,
    r: Block,
    maxiter: int,
    request: SolveRequest,
    plan: Plan,
    watch: Watch | None,
) -> tuple[Exits | None, Plan]:
    """Correct by dense factors: how that ended, None if it does not get far enough; and the plan with these factors.

    If factors in float32 hardly help, others in float64 take their place.
    """
    log, vectors = problem.log, problem.system.vectors
    if prefers_rows(problem.system, x):
        problem.row_product = log.count_products(row_product(problem.system))
    while True:
        problem.projects = not plan.single
        rate = max(p.rate for p in plan.preconditioners)
        apply = plan.apply(vectors)
        assert apply is not None
        precondition = log.time_calls("preconditioner", apply)
        exits = correct(problem, x, r, maxiter, precondition, rate, watch)
        if exits is not None or not plan.single or log.iterations >= maxiter:
            return exits, plan
        plan = log.time_calls("setup", factorize_in_float64)(request)
        if plan.method != "direct":
            return None, plan


def _describe_tolerances(rtol: float, atol: float) -> str:
    return f"rtol = {rtol:g}" if atol == 0 else f"rtol = {rtol:g} or atol = {atol:g}"
