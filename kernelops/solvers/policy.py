"""The choice of a method and a preconditioner, by counted work, fixed constants and bytes, never by a clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError

from ..engines.blas import one_blas_thread
from ..errors import ArgumentError
from .cost_model import Costs, extrapolate
from .entries import Entries
from .plan import Plan
from .precond.base import Identity, Preconditioner
from .precond.cholesky import Cholesky
from .precond.fsai import fsai
from .precond.jacobi import Jacobi
from .precond.low_rank import LowRank, low_rank
from .precond.nystrom import nystrom, nystrom_unshifted
from .precond.pivoted_cholesky import Partial, Scaled, pivoted_cholesky, shift_by_alpha
from .request import SolveRequest
from .state import SolveState

BLOCK_FROM = 4  # number of right-hand sides from which method="auto" iterates in a common subspace
DIRECT_BYTES = 1 << 30  # bytes of the largest dense matrix that method="auto" may build
LARGEST_DIRECT = 1 << 33  # bytes of the largest dense matrix that method="direct" may build
FIRST_RANK, RANK_GROWTH = 64, 1.5  # columns of the first low-rank part, and the factor by which they grow
SAMPLED = 16  # number of columns of K whose sums estimate its norm
SPARSE = 0.05  # share of nonzero entries below which K has no low-rank part to look for
SPARSE_RANK = (200, 800)  # largest rank before a sparse approximate inverse: points in few dimensions, all others
NEIGHBOURS = (30, 50)  # number of neighbours of each row in a sparse approximate inverse, likewise
LARGEST_RANK = 1500  # largest number of columns of a low-rank part
RANK_BYTES = 1 << 30  # bytes that a low-rank part may take while it is built
SKETCH = 200  # number of columns of the sketch of a matrix of which only products are known
SINGLE_FROM = 1024  # number of rows from which a factor in float32 is considered
SINGLE_RATE = 0.05  # largest share of a residual that a correction by a float32 factor may leave
WORTH = 0.25  # share of the cost of a dense factor that the smallest low-rank part may have, to be tried at all
RESIDUAL_SHARE = 0.05  # share of the trace of alpha at which a low-rank part that was asked for by name ends


def plan_for(
    request: SolveRequest, columns: int, rtol: float, state: SolveState | None = None, exact: bool = False
) -> Plan:
    """The plan for a block of this many columns: that of the state if it still holds, else a new one.

    exact: a dense factor must be of float64, because it is used for more than a solve.
    """
    earlier = None if state is None or request.M is not None else state.lookup(request.key)
    if earlier is None or (exact and earlier.single):
        return build_plan(request, columns, math.log(2 / max(rtol, 1e-15)), exact)
    return replace(earlier, reused=True)


def build_plan(request: SolveRequest, columns: int, digits: float, exact: bool = False) -> Plan:
    """A new plan, with the preconditioner built; digits is the logarithm of the residual's reduction."""
    q, system = request, request.system
    method = ("cg" if columns < BLOCK_FROM else "block_cg") if q.method == "auto" else q.method
    if q.M is not None:
        return Plan(q, method, q.M[1], f"preconditioner given: {q.M[1]}")
    if not system.global_n or not columns or 0 in q.batch:
        return Plan(q, "cg", "none", "nothing to solve")
    if q.method == "direct":
        return _factorize(q, _cost_models(q, columns, digits), "as asked for", exact)
    if q.precond is None:
        return Plan(q, method, "none", "no preconditioner, as asked for")
    if q.precond != "auto":
        return _build_named(q, method, q.precond, "as asked for")
    if not (system.native and system.entries):
        return Plan(q, method, "none", "no preconditioner: nothing is known of A but its products")
    return _select_automatic(q, method, columns, digits, exact)


def factorize_in_float64(request: SolveRequest) -> Plan:
    """A plan with dense factors in float64, after those in float32 were not precise enough."""
    return _factorize(request, (), "as one in float32 is not enough", exact=True)


def _cost_models(q: SolveRequest, columns: int, digits: float) -> list[Costs]:
    """The cost model of each element of the batch."""
    double, on_gpu = q.system.dtype != np.float32, q.system.vectors.overlaps
    return [Costs(e, columns, double, digits, on_gpu) for e in q.system.entries]


def _predict_rate(q: SolveRequest, costs: Sequence[Costs], exact: bool) -> float:
    """The predicted share of a residual that a correction by a float32 factor leaves; 0 if float64 is to be used."""
    if exact or q.system.global_n < SINGLE_FROM or not all((a > 0).all() for a in q.alphas()):
        return 0.0
    try:
        condition = max(_estimate_condition(c.entries, a, q.seed) for c, a in zip(costs, q.alphas(), strict=True))
    except FloatingPointError:
        return 0.0
    rate = float(np.finfo(np.float32).eps) / 2 * condition
    return rate if rate <= SINGLE_RATE and costs[0].single(rate) < costs[0].direct() else 0.0


def _factorize(q: SolveRequest, costs: Sequence[Costs], why: str, exact: bool) -> Plan:
    """A plan with a dense Cholesky factor for each element of the batch."""
    size = 8 * q.system.global_n**2 * len(q.system.entries)
    if size > LARGEST_DIRECT:
        allowed = f"at most {LARGEST_DIRECT} are allowed"
        raise ArgumentError(f'method = "direct" would make arrays of {size} bytes, {allowed}: use method = "cg"')
    rate = _predict_rate(q, costs, exact)
    for single in (True, False) if rate else (False,):
        how = (np.dtype(np.float32), rate) if single else ()
        try:
            factors = tuple(Cholesky(e, a, *how) for e, a in zip(q.system.entries, q.alphas(), strict=True))
        except LinAlgError:
            continue
        return Plan(q, "direct", "cholesky", f"{factors[0].describe()}, {why}", factors)
    return Plan(q, "cg", "none", "no preconditioner: A has no Cholesky factor in float64")


def _build_named(q: SolveRequest, method: str, name: str, why: str) -> Plan:
    """A plan with the preconditioner of this name for each element of the batch."""
    try:
        with one_blas_thread():
            if q.system.entries:
                found = [
                    BUILDERS[name](q, at, e, a)
                    for at, (e, a) in enumerate(zip(q.system.entries, q.alphas(), strict=True))
                ]
            else:
                found = [BUILDERS[name](q, 0, None, q.system.alpha)]
    except FloatingPointError as error:  # NaN or Inf, which the iteration meets at once and reports
        return Plan(q, "cg", "none", f"no preconditioner: {error}")
    return Plan(q, method, found[0].name, f"{found[0].describe()}, {why}", tuple(found))


def _pivoted_cholesky(q: SolveRequest, _at: int, entries: Entries, alpha: np.ndarray) -> Preconditioner:
    """Build the preconditioner from a partial Cholesky factor of K."""
    return low_rank(entries, alpha, most=_largest_rank(entries.n), share=RESIDUAL_SHARE, seed=q.seed)


def _nystrom(q: SolveRequest, at: int, _entries: Entries | None, alpha: np.ndarray) -> Preconditioner:
    """Build the preconditioner from products of A with random vectors."""
    n, most = q.system.n, _largest_rank(q.system.global_n)
    column = alpha if alpha.ndim == 0 else alpha[:, None]

    vectors = q.system.vectors

    def whole(V: np.ndarray) -> np.ndarray:
        """A V, of one element of the batch, on the host."""
        blocks = np.broadcast_to(V, (*q.batch, *V.shape)).copy() if q.batch else V
        image: np.ndarray = vectors.to_host(q.system.product(vectors.from_host(blocks)))
        return image.reshape(-1, *V.shape)[at] if q.batch else image

    if not (alpha > 0).all():  # nothing is known of A but its products
        return nystrom_unshifted(whole, n, most=min(most, SKETCH), seed=q.seed)
    shown = bool(np.all(q.system.least >= 0))
    return nystrom(lambda V: whole(V) - column * V, n, alpha, most=most, seed=q.seed, semidefinite=shown)


BUILDERS: dict[str, Callable[[SolveRequest, int, Any, np.ndarray], Preconditioner]] = {
    "pivoted_cholesky": _pivoted_cholesky,
    "nystrom": _nystrom,
    "fsai": lambda q, at, entries, alpha: _build_fsai(q, entries, alpha, None),
    "jacobi": lambda q, at, entries, alpha: Jacobi(entries, alpha),
}


def _select_automatic(q: SolveRequest, method: str, columns: int, digits: float, exact: bool) -> Plan:
    """A plan for precond = "auto" and a matrix whose entries are known."""
    costs = _cost_models(q, columns, digits)
    direct = math.inf  # the predicted cost of a dense factor
    if q.method == "auto" and 8 * q.system.global_n**2 * len(costs) <= DIRECT_BYTES:
        rate = _predict_rate(q, costs, exact)
        direct = costs[0].single(rate) if rate else costs[0].direct()
    for limit in (direct, math.inf):
        try:
            with one_blas_thread():
                found = [_select_preconditioner(q, c, a, limit) for c, a in zip(costs, q.alphas(), strict=True)]
        except FloatingPointError as error:
            return Plan(q, "cg", "none", f"no preconditioner: {error}")
        selected = [(p, why) for p, why in found if p is not None]
        if len(selected) == len(found):
            break
        plan = _factorize(q, costs, "predicted to be faster than iterating", exact)
        if plan.method == "direct":
            return plan
    first, why = next(((p, why) for p, why in selected if p.name != "none"), selected[0])  # names them all
    if first.name == "none":
        return Plan(q, method, "none", f"no preconditioner: {why}")
    return Plan(q, method, first.name, f"{first.describe()}: {why}", tuple(p for p, _ in selected))


def _select_preconditioner(
    q: SolveRequest, costs: Costs, alpha: np.ndarray, direct: float
) -> tuple[Preconditioner | None, str]:
    """The preconditioner that is predicted to cost least, and why; None if that is a dense factor."""
    entries, n = costs.entries, costs.entries.n
    sparse = costs.sparse(*_fsai_sizes(costs, flat=True), flat=True)  # at least: what it is takes a look at the points
    if direct < min(sparse, costs.low_rank(FIRST_RANK, 0.0) / WORTH):  # nothing else can be much faster
        return None, ""
    if sparse <= direct:
        sparse = costs.sparse(*_fsai_sizes(costs))
    if not (alpha > 0).all() or entries.density < SPARSE:
        if direct < sparse:
            return None, ""
        why = "most of K is 0" if (alpha > 0).all() else "alpha is 0 somewhere"
        return _build_fsai(q, entries, alpha, None), why
    condition = _estimate_condition(entries, alpha, q.seed)
    if costs.plain(condition) <= (direct if direct < sparse else costs.sparse(0, NEIGHBOURS[0])):
        return Identity(n), f"the condition number is at most about {condition:.0e}"
    scaled, most = Scaled.by_alpha(entries, alpha), max(1, min(n // 8, _largest_rank(n)))
    pivots, other = _fsai_sizes(costs)[0] if sparse <= direct else 0, min(sparse, direct)
    partial, before, last, k = None, math.inf, 1, min(FIRST_RANK, most)
    while True:
        partial = pivoted_cholesky(scaled, most=k, seed=q.seed, start=partial)
        trace = partial.residual.sum() / n
        if partial.stopped in ("rank", "stalled"):
            return LowRank.of(
                partial, alpha, overwrite=True, semidefinite=entries.semidefinite
            ), "that is all of K, to rounding"
        power = 1.0 if math.isinf(before) else max(0.0, math.log(before / trace) / math.log(k / last))
        best, cost = extrapolate(costs, k, trace, power, most)
        if cost > other and direct < sparse:  # columns are of no use to a dense factor
            return None, ""
        if cost > other and k >= min(pivots, most):  # up to there, columns are of use in either way
            return _build_fsai(q, entries, alpha, partial), f"the spectrum falls slowly, {trace:.2g} of alpha n at {k}"
        if best == k and cost <= other:
            return LowRank.of(
                partial, alpha, overwrite=True, semidefinite=entries.semidefinite
            ), "the spectrum falls fast"
        before, last = trace, k
        k = min(most, math.ceil(RANK_GROWTH * k), pivots if cost > other else most)


def _estimate_condition(entries: Entries, alpha: np.ndarray, seed: int) -> float:
    """An estimate of the condition number of S A S with S = alpha^(-1/2), from sums of sampled columns."""
    chosen = np.random.default_rng([seed, 1]).choice(entries.n, min(entries.n, SAMPLED), replace=False)
    sums = np.abs(Scaled.by_alpha(entries, alpha).columns(chosen)).sum(0)
    if not np.isfinite(sums).all():
        raise FloatingPointError("K has entries that are NaN or infinite")
    return 1.0 + float(sums.max())


def _build_fsai(q: SolveRequest, entries: Entries, alpha: np.ndarray, partial: Partial | None) -> Preconditioner:
    """A sparse approximate inverse, after a low-rank part if K is not mostly 0."""
    k, count = _fsai_sizes(Costs(entries, 1, False, 1.0))
    if entries.density < SPARSE:
        k = 0
    if partial is not None and len(partial.pivots) < k:
        partial = pivoted_cholesky(Scaled.by_alpha(entries, alpha), most=k, seed=q.seed, start=partial)
    if partial is None:
        shifted = pivoted_cholesky(entries, alpha, most=k, seed=q.seed)
    else:
        shifted = shift_by_alpha(partial, alpha)
    return fsai(entries, alpha, shifted, count=count, seed=q.seed)


def _fsai_sizes(costs: Costs, flat: bool | None = None) -> tuple[int, int]:
    """Numbers of pivots and of neighbours of a sparse approximate inverse."""
    wide = not (costs.flat if flat is None else flat)
    return min(costs.entries.n // 16, SPARSE_RANK[wide]), NEIGHBOURS[wide]


def _largest_rank(n: int) -> int:
    """The largest rank of a low-rank part for n rows."""
    return max(1, min(n, LARGEST_RANK, RANK_BYTES // (8 * max(1, n))))
