"""Which preconditioner, and whether to iterate at all: by counted work, fixed constants and bytes, never by a clock."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
from scipy.linalg import LinAlgError

from ..errors import ArgumentError
from ..machines.blas import one_blas_thread
from .costs import Costs, extrapolated
from .entries import Entries
from .plan import Plan, Question
from .precond.base import Identity, Preconditioner
from .precond.cholesky import Cholesky
from .precond.fsai import fsai
from .precond.jacobi import Jacobi
from .precond.low_rank import LowRank, low_rank
from .precond.nystrom import nystrom, nystrom_unshifted
from .precond.pivoted_cholesky import Partial, Scaled, pivoted_cholesky, with_noise
from .state import SolveState
from .verbs import HOST

BLOCK_FROM = 4  # right-hand sides that share their directions: fewer products, more work with vectors
DIRECT_BYTES = 1 << 30  # that a dense matrix may take where nobody asked for it
LARGEST_DIRECT = 1 << 33  # and where somebody did
FIRST, GROWTH = 64, 1.5  # columns of a low-rank part to begin with, and how it grows
SAMPLED = 16  # columns of K whose sums say how large it is
SPARSE = 0.05  # share of entries that are not 0, below which there is nothing for low rank to find
SPARSE_RANK = (200, 800)  # most columns before a sparse approximate inverse: of points in few dimensions, of others
NEIGHBOURS = (30, 50)  # of each row, likewise
RANK = 1500  # most columns of a low-rank part
RANK_BYTES = 1 << 30  # that it may take while it is built
SKETCH = 200  # columns of the sketch of a matrix of which only products are known
SHARED_FROM = 2048  # rows from which a dense factorisation is worth several threads
SHARE = 0.05  # of the trace of alpha that is left of that of K, where low rank was asked for


def planned(question: Question, columns: int, rtol: float, state: SolveState | None = None) -> Plan:
    """The plan for a block of so many columns: that of the state where it still holds, else a new one."""
    kept = None if state is None or question.M is not None else state.kept(question.key)
    if kept is None:
        return make_plan(question, columns, math.log(2 / max(rtol, 1e-15)))
    return replace(kept, kept=True)


def make_plan(question: Question, columns: int, digits: float) -> Plan:
    """Choose, and build what was chosen."""
    q, system = question, question.system
    method = ("cg" if columns < BLOCK_FROM else "block_cg") if q.method == "auto" else q.method
    if q.M is not None:
        return Plan(q, method, q.M[1], f"preconditioner given: {q.M[1]}")
    if not system.n or not columns or 0 in q.batch:
        return Plan(q, "cg", "none", "nothing to solve")
    if q.method == "direct":
        return _factored(q, "as asked for")
    if q.precond is None:
        return Plan(q, method, "none", "no preconditioner, as asked for")
    if q.precond != "auto":
        return _built(q, method, q.precond, "as asked for")
    if not (system.native and system.entries):
        return Plan(q, method, "none", "no preconditioner: nothing is known of A but its products")
    return _chosen(q, method, columns, digits)


def _factored(q: Question, why: str) -> Plan:
    """A dense Cholesky factor for each element of the batch."""
    size = 8 * q.system.n**2 * len(q.system.entries)
    if size > LARGEST_DIRECT:
        allowed = f"at most {LARGEST_DIRECT} are allowed"
        raise ArgumentError(f'method = "direct" would make arrays of {size} bytes, {allowed}: use method = "cg"')
    try:
        with one_blas_thread() if q.system.n < SHARED_FROM else nullcontext():
            factors = tuple(Cholesky(e, a) for e, a in zip(q.system.entries, q.alphas(), strict=True))
    except LinAlgError:
        return Plan(q, "cg", "none", "no preconditioner: A has no Cholesky factor in float64")
    return Plan(q, "direct", "cholesky", f"{factors[0].describe()}, {why}", factors)


def _built(q: Question, method: str, name: str, why: str) -> Plan:
    """The preconditioner of this name for each element of the batch."""
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


def _pivoted_cholesky(q: Question, _at: int, entries: Entries, alpha: np.ndarray) -> Preconditioner:
    return low_rank(entries, alpha, most=_most(entries.n), share=SHARE, seed=q.seed)


def _nystrom(q: Question, at: int, _entries: Entries | None, alpha: np.ndarray) -> Preconditioner:
    n, most = q.system.n, _most(q.system.n)
    column = alpha if alpha.ndim == 0 else alpha[:, None]

    verbs = q.system.verbs

    def whole(V: np.ndarray) -> np.ndarray:
        """A V, of one element of the batch, on the host."""
        blocks = np.broadcast_to(V, (*q.batch, *V.shape)).copy() if q.batch else V
        image: np.ndarray = verbs.to_host(q.system.product(verbs.from_host(blocks)))
        return image.reshape(-1, *V.shape)[at] if q.batch else image

    if not (alpha > 0).all():  # nothing is known of A but its products
        return nystrom_unshifted(whole, n, most=min(most, SKETCH), seed=q.seed)
    shown = q.system.least >= 0
    return nystrom(lambda V: whole(V) - column * V, n, alpha, most=most, seed=q.seed, semidefinite=shown)


BUILDERS = {
    "pivoted_cholesky": _pivoted_cholesky,
    "nystrom": _nystrom,
    "fsai": lambda q, at, entries, alpha: _sparse(q, entries, alpha, None),
    "jacobi": lambda q, at, entries, alpha: Jacobi(entries, alpha),
}


def _chosen(q: Question, method: str, columns: int, digits: float) -> Plan:
    """precond = "auto" of a matrix whose entries can be had."""
    elements = list(zip(q.system.entries, q.alphas(), strict=True))
    double, there = q.system.dtype != np.float32, q.system.verbs is not HOST
    costs = [Costs(e, columns, double, digits, there) for e, _ in elements]
    if q.method == "auto" and 8 * q.system.n**2 * len(elements) <= DIRECT_BYTES:
        if costs[0].direct() < costs[0].sparse(*_sizes(costs[0])):
            plan = _factored(q, "predicted to be faster than iterating")
            if plan.method == "direct":
                return plan
    try:
        with one_blas_thread():
            found = [_automatic(q, c, a) for c, (_, a) in zip(costs, elements, strict=True)]
    except FloatingPointError as error:
        return Plan(q, "cg", "none", f"no preconditioner: {error}")
    first, why = next(((p, why) for p, why in found if p.name != "none"), found[0])  # names them all
    if first.name == "none":
        return Plan(q, method, "none", f"no preconditioner: {why}")
    return Plan(q, method, first.name, f"{first.describe()}: {why}", tuple(p for p, _ in found))


def _automatic(q: Question, costs: Costs, alpha: np.ndarray) -> tuple[Preconditioner, str]:
    """The preconditioner that is predicted to cost least, and why."""
    entries, n = costs.entries, costs.entries.n
    if not (alpha > 0).all():
        return _sparse(q, entries, alpha, None), "alpha is 0 somewhere"
    if entries.density < SPARSE:
        return _sparse(q, entries, alpha, None), "most of K is 0"
    condition = _condition(entries, alpha, q.seed)
    if costs.plain(condition) <= costs.sparse(0, NEIGHBOURS[0]):
        return Identity(n), f"the condition number is at most about {condition:.0e}"
    scaled, most = Scaled.by_noise(entries, alpha), max(1, min(n // 8, _most(n)))
    pivots, count = _sizes(costs)
    other = costs.sparse(pivots, count)
    partial, before, last, k = None, math.inf, 1, min(FIRST, most)
    while True:
        partial = pivoted_cholesky(scaled, most=k, seed=q.seed, start=partial)
        trace = partial.residual.sum() / n
        if partial.stopped in ("rank", "stalled"):
            return LowRank.of(
                partial, alpha, overwrite=True, semidefinite=entries.semidefinite
            ), "that is all of K, to rounding"
        power = 1.0 if math.isinf(before) else max(0.0, math.log(before / trace) / math.log(k / last))
        best, cost = extrapolated(costs, k, trace, power, most)
        if cost > other and k >= min(pivots, most):  # up to there, columns are of use in either way
            return _sparse(q, entries, alpha, partial), f"the spectrum falls slowly, {trace:.2g} of alpha n at {k}"
        if best == k and cost <= other:
            return LowRank.of(
                partial, alpha, overwrite=True, semidefinite=entries.semidefinite
            ), "the spectrum falls fast"
        before, last = trace, k
        k = min(most, math.ceil(GROWTH * k), pivots if cost > other else most)


def _condition(entries: Entries, alpha: np.ndarray, seed: int) -> float:
    """An estimate of the condition number of S A S with S = alpha^(-1/2), from above as samples go: by column sums."""
    chosen = np.random.default_rng([seed, 1]).choice(entries.n, min(entries.n, SAMPLED), replace=False)
    sums = np.abs(Scaled.by_noise(entries, alpha).columns(chosen)).sum(0)
    if not np.isfinite(sums).all():
        raise FloatingPointError("K has entries that are NaN or infinite")
    return 1.0 + float(sums.max())


def _sparse(q: Question, entries: Entries, alpha: np.ndarray, partial: Partial | None) -> Preconditioner:
    """A sparse approximate inverse, behind pivots where there is something for them to find."""
    k, count = _sizes(Costs(entries, 1, False, 1.0))
    if entries.density < SPARSE:
        k = 0
    if partial is not None and len(partial.pivots) < k:
        partial = pivoted_cholesky(Scaled.by_noise(entries, alpha), most=k, seed=q.seed, start=partial)
    if partial is None:
        shifted = pivoted_cholesky(entries, alpha, most=k, seed=q.seed)
    else:
        shifted = with_noise(partial, alpha)
    return fsai(entries, alpha, shifted, count=count, seed=q.seed)


def _sizes(costs: Costs) -> tuple[int, int]:
    """Pivots and neighbours of a sparse approximate inverse."""
    wide = not costs.flat
    return min(costs.entries.n // 16, SPARSE_RANK[wide]), NEIGHBOURS[wide]


def _most(n: int) -> int:
    """The largest rank."""
    return max(1, min(n, RANK, RANK_BYTES // (8 * max(1, n))))
