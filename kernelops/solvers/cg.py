"""Conjugate gradients for a symmetric (Hermitian) positive definite matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .journal import SolveLog
from .stagnation import ResidualGap
from .vectors import HOST, QUIET, Block, BlockFunction, Vectors

HOPELESS = 0.1  # share of the first residual: a float32 round that can reach no less costs more than float64 alone

Residual: TypeAlias = Callable[[Block, np.ndarray], Block]  # (columns of x, their positions) -> b - A x
Watch: TypeAlias = Callable[[Callable[[], Block]], None]  # called with a function that returns the present iterate


@dataclass
class Exits:
    """The way in which each column left the iteration: boolean arrays (..., k); all False if it ran to the end."""

    converged: np.ndarray
    stagnated: np.ndarray
    indefinite: np.ndarray  # p.Ap <= 0, or 0 to rounding
    indefinite_preconditioner: np.ndarray  # r.Mr <= 0
    nonfinite: bool = False
    stopped: bool = False

    @classmethod
    def none(cls, shape: tuple[int, ...], nonfinite: bool = False, stopped: bool = False) -> Exits:
        converged, stagnated, indefinite, indefinite_preconditioner = (np.zeros(shape, bool) for _ in range(4))
        return cls(converged, stagnated, indefinite, indefinite_preconditioner, nonfinite, stopped)

    @property
    def status(self) -> str:
        """The status of the worst column."""
        if self.nonfinite:
            return "nonfinite"
        if ((self.indefinite | self.indefinite_preconditioner) & ~self.converged).any():
            return "not positive definite"
        if self.converged.all():
            return "converged"
        if self.stopped:
            return "stopped"
        return "stagnated" if self.stagnated.any() else "maxiter"


def conjugate_gradients(
    product: BlockFunction,
    x: Block,
    r: Block,
    goal: np.ndarray,
    maxiter: int,
    log: SolveLog,
    *,
    precondition: BlockFunction | None = None,
    recompute: Residual | None = None,
    watch: Watch | None = None,
    keep_best: bool = False,
    gap: ResidualGap | None = None,
    vectors: Vectors = HOST,
) -> Exits:
    """Solve A x = b for every column of a block, each with its own step.

    With r = b - A x, z = M r and, at first, p = z, a step is that of Hestenes and Stiefel (1952, J. Res. Nat. Bur.
    Standards 49):

        q = A p,  s = <r, z> / <p, q>,  x += s p,  r -= s q,  z = M r,  p = z + t p  with t = <r, z> / (<r, z> before).

    Columns that are done leave the block. Memory: the blocks x, r, p, q, with a preconditioner z, and with keep_best
    another x.

    Parameters
    ----------
    product : callable
        A V for a block V like x.
    x, r : array, shape (..., n, k)
        The first iterate, which becomes the last, and its residual b - A x, which becomes the last one: of a column
        that converged by a recomputed residual, that one.
    goal : ndarray, shape (..., k)
        A column is done when the norm of its residual is at most this.
    maxiter : int
        Most steps.
    log : SolveLog
        Records the residuals and the coefficients.
    precondition : callable, optional
        M V for a block V.
    recompute : callable, optional
        (columns of x, their positions) -> b - A x, from scratch. With it a column counts as converged only if this
        residual meets the goal, and starts anew from it if not; without it, the carried residual counts.
    watch : callable, optional
        Called after each step with a function that returns the present iterate; StopIteration ends the iteration.
    keep_best : bool
        Leave in x, for a column that does not converge, the iterate with the smallest residual instead of the last.
    gap : ResidualGap, optional
        Estimates down to where a carried residual is meaningful, and sets the norm at which a column is done.
    """
    shape = goal.shape
    exits = Exits.none(shape)
    running = np.ones(shape, bool)
    norm, best = np.zeros(shape), np.full(shape, np.inf)
    previous, last = np.ones(shape), np.ones(shape)  # <r, z> and the step, one iteration ago
    fresh = np.ones(shape, bool)  # the next direction is the residual itself
    pp = start = following = nothing = np.zeros(shape)  # <p, p>, the first norm, and <r, z> of a step that is begun
    eps = np.finfo(vectors.dtype(r)).eps / 2
    gap = ResidualGap(shape, eps) if gap is None else gap

    whole, left, columns = x, r, np.arange(shape[-1])  # columns that are done leave x, r and p, and stay in these two
    overlaps = vectors.overlaps and watch is None
    if keep_best:
        x = vectors.copy(x)
    p, q = (
        vectors.zeros(r.shape, vectors.dtype(r)),
        None,
    )  # q is A p, once that is begun: perhaps before a step is judged

    def scatter(found: np.ndarray) -> np.ndarray:
        """Numbers of the active columns, (..., active), at the places of all columns, (..., k); 0 elsewhere."""
        if len(columns) == shape[-1]:
            return found
        values = np.zeros(shape)
        values[..., columns] = found
        return values

    def gather(values: np.ndarray) -> np.ndarray:
        """The numbers of the active columns among those of all columns."""
        return values if len(columns) == shape[-1] else values[..., columns]

    def current() -> Block:
        """The iterate of all columns."""
        if not keep_best and x is whole:
            return whole
        full = vectors.copy(whole)
        vectors.put(full, columns, x, gather(running) if keep_best else None)
        return full

    def write_back() -> None:
        """Copy the active columns to the arrays of all columns."""
        if x is not whole and not keep_best:
            vectors.put(whole, columns, x)
        if r is not left:
            vectors.put(left, columns, r)

    rr = vectors.dot(r, r).real
    for k in range(maxiter + 1):
        before, norm = norm, np.where(running, np.sqrt(rr), norm)
        if not np.isfinite(norm).all():
            exits.nonfinite = True
            log.record(norm)
            break

        # A column that claims to be done, or to be below what rounding allows, is looked at again from scratch.
        ends = gap.target(goal, norm)
        claims = running & (norm <= ends)
        sure = claims  # if norm is that of the true residual, or must do for it
        if recompute is None or k == 0:
            start = norm if k == 0 else start
            claims |= running & (gap.attainable > HOPELESS * start)  # even |r| = |b| could not be told from rounding
            exits.converged |= claims
        elif claims.any():
            norm, sure, replaced = check_claims(recompute, gap, exits, claims, norm, goal, (x, r, columns), vectors)
            fresh |= replaced
            rr = np.where(sure, norm**2, rr)
        if keep_best:
            better = running & (sure | (norm < best))  # what was carried along before a check was not sure
            best[better] = norm[better]
            if better.any():
                vectors.put(whole, columns, x, gather(better))
        running &= ~(exits.converged | exits.stagnated)
        log.record(norm)
        if k == maxiter or exits.stopped or not running.any():
            break

        remaining = np.flatnonzero(any_in_batch(gather(running)))
        if len(remaining) < len(columns):
            write_back()
            x, r, p = vectors.take(x, remaining), vectors.take(r, remaining), vectors.take(p, remaining)
            q = None if q is None else vectors.take(q, remaining)
            columns = columns[remaining]

        anew = q is not None and bool((fresh & running).any())
        if q is None or anew:
            z = r if precondition is None else precondition(r)
            rz = rr if precondition is None else scatter(vectors.dot(r, z).real)
        else:
            rz = following
        if not np.isfinite(rz[running]).all():
            exits.nonfinite = True
            break
        exits.indefinite_preconditioner |= running & ~(rz > 0)
        running &= ~exits.indefinite_preconditioner
        if not running.any():
            break
        ratio = np.where(fresh | ~running, 0.0, rz / previous)
        previous = np.where(running, rz, 1.0)
        if q is None:
            vectors.aypx(gather(ratio), z, p)
        elif anew:
            vectors.put(p, np.arange(len(columns)), z, gather(fresh))
        if q is None or anew:
            del z
            q = product(p)
        fresh[...] = False
        pp = rr + ratio**2 * pp  # r is orthogonal to the last p
        least = eps * gap.matrix_norm * pp if precondition is None else nothing
        look, stretch = k % gap.interval == 0, k % gap.interval == 0 and precondition is not None
        dots = [(x, x)] * look + [(q, q), (p, p)] * stretch
        found = vectors.cg_update(p, q, x, r, gather(rz), gather(least), gather(running), dots)
        del dots
        q = None  # before the next product makes another
        # A device goes on while the step is judged. What a check upsets (a residual that is replaced) is redone above.
        if overlaps and 0 < k < maxiter - 1 and (will_continue(norm, before, ends) & running).any():
            z = r if precondition is None else precondition(r)
            turned = vectors.next_direction(found, r, z, p, gather(previous), gather(running))
            del z
            q = product(p)
            following = scatter(vectors.read(turned)[0])
        curvature, step, rr, *sizes = map(scatter, vectors.read(found))
        if not np.isfinite(curvature[running]).all():
            exits.nonfinite = True
            break
        exits.indefinite |= running & ~(curvature > least)
        running &= ~exits.indefinite
        if not running.any():
            break
        if precondition is None:  # a diagonal entry of Lanczos' matrix, between two eigenvalues of A
            gap.observe_norm(np.divide(1.0, step, out=np.zeros(shape), where=running) + ratio / last)
            last = np.where(running, step, 1.0)
        elif stretch:
            gap.observe_norm(np.sqrt(np.divide(sizes[1], sizes[2], out=np.zeros(shape), where=running)))
        if look:
            gap.update(np.sqrt(sizes[0]))

        log.step(np.where(running, step, np.nan), ratio)
        if watch is not None:
            try:
                watch(current)
            except StopIteration:
                exits.stopped = True

    write_back()
    return exits


def check_claims(
    recompute: Residual,
    gap: ResidualGap,
    exits: Exits,
    claims: np.ndarray,
    norm: np.ndarray,
    goal: np.ndarray,
    work: tuple[Block, Block, np.ndarray],
    vectors: Vectors,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check the columns that claim to be done by residuals recomputed from scratch, which replace their own.

    work is (x, r, columns): the active columns and their places among all. Returns the norms, the columns of which
    they are now those of the true residual, and those of these that must start anew.
    """
    x, r, columns = work
    places = np.flatnonzero(any_in_batch(claims[..., columns]))
    true = recompute(x if len(places) == len(columns) else vectors.take(x, places), columns[places])
    size = norm.copy()
    size[..., columns[places]] = np.sqrt(vectors.dot(true, true).real)
    met, replaced = gap.compare(claims, norm, size, goal)
    exits.converged |= met
    exits.stagnated |= gap.has_stagnated(replaced)
    sure = met | replaced
    part = vectors.take(r, places)
    vectors.put(part, np.arange(len(places)), true, sure[..., columns[places]])
    vectors.put(r, places, part)
    return np.where(sure, size, norm), sure, replaced


@QUIET
def will_continue(norm: np.ndarray, before: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Whether a column would not be done after one more step that reduces its norm as much as the last one."""
    result: np.ndarray = norm**2 > ends * before
    return result


def any_in_batch(flags: np.ndarray) -> np.ndarray:
    """Whether a column is flagged in any element of the batch."""
    return np.asarray(flags.any(axis=tuple(range(flags.ndim - 1))))
