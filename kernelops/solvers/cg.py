"""Conjugate gradients for a symmetric (Hermitian) positive definite matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .solution import Journal
from .stagnation import Trust
from .vectors import HOST, QUIET

HOPELESS = 0.1  # of the first residual: a round of float32 that cannot go deeper costs more than float64 all the way


@dataclass
class Exits:
    """How the columns left the iteration: boolean arrays of shape (..., k); those in no array ran to the end."""

    converged: np.ndarray
    stagnated: np.ndarray
    indefinite: np.ndarray  # p.Ap <= 0, or 0 to rounding
    misled: np.ndarray  # r.Mr <= 0
    nonfinite: bool = False
    stopped: bool = False

    @classmethod
    def none(cls, shape: tuple[int, ...], nonfinite: bool = False, stopped: bool = False) -> Exits:
        return cls(*(np.zeros(shape, bool) for _ in range(4)), nonfinite, stopped)

    @property
    def status(self) -> str:
        """The word for the worst column."""
        if self.nonfinite:
            return "nonfinite"
        if ((self.indefinite | self.misled) & ~self.converged).any():
            return "not positive definite"
        if self.converged.all():
            return "converged"
        if self.stopped:
            return "stopped"
        return "stagnated" if self.stagnated.any() else "maxiter"


def conjugate_gradients(
    product: Callable[[Any], Any],
    x: Any,
    r: Any,
    goal: np.ndarray,
    maxiter: int,
    journal: Journal,
    *,
    precondition: Callable[[Any], Any] | None = None,
    recompute: Callable[[Any, np.ndarray], Any] | None = None,
    watch: Callable[[Callable[[], Any]], None] | None = None,
    keep_best: bool = False,
    trust: Trust | None = None,
    verbs: Any = HOST,
) -> Exits:
    """Solve A x = b for every column of a block, each with its own step.

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
    journal : Journal
        Takes the residuals and the coefficients.
    precondition : callable, optional
        M V for a block V.
    recompute : callable, optional
        (columns of x, their positions) -> b - A x, from scratch. With it a column counts as converged only if this
        residual meets the goal, and starts anew from it where it does not; without it, the carried residual counts.
    watch : callable, optional
        Called after each step with a function that returns the present iterate; StopIteration ends the iteration.
    keep_best : bool
        Leave in x, for a column that does not converge, the iterate with the smallest residual instead of the last.
    trust : Trust, optional
        Says down to where a carried residual is trusted, and when a column has done enough.
    """
    shape = goal.shape
    exits = Exits.none(shape)
    running = np.ones(shape, bool)
    norm, best = np.zeros(shape), np.full(shape, np.inf)
    previous, last = np.ones(shape), np.ones(shape)  # <r, z> and the step, one iteration ago
    fresh = np.ones(shape, bool)  # the next direction is the residual itself
    pp = start = following = nothing = np.zeros(shape)  # <p, p>, the first norm, and <r, z> of a step that is begun
    eps = np.finfo(verbs.dtype(r)).eps / 2
    trust = Trust(shape, eps) if trust is None else trust

    whole, left, columns = x, r, np.arange(shape[-1])  # columns that are done leave x, r and p, and stay in these two
    ahead = verbs.ahead and watch is None
    if keep_best:
        x = verbs.copy(x)
    p, q = verbs.zeros(r.shape, verbs.dtype(r)), None  # q is A p, once that is begun: perhaps before a step is judged

    def spread(found: np.ndarray) -> np.ndarray:
        """Numbers of the columns at work in the places of all columns."""
        if len(columns) == shape[-1]:
            return found
        values = np.zeros(shape)
        values[..., columns] = found
        return values

    def of_work(values: np.ndarray) -> np.ndarray:
        """The numbers of the columns at work, of those of all columns."""
        return values if len(columns) == shape[-1] else values[..., columns]

    def present() -> Any:
        """The iterate of all columns."""
        if not keep_best and x is whole:
            return whole
        full = verbs.copy(whole)
        verbs.put(full, columns, x, of_work(running) if keep_best else None)
        return full

    def set_down() -> None:
        """Leave the columns at work in the arrays of all columns."""
        if x is not whole and not keep_best:
            verbs.put(whole, columns, x)
        if r is not left:
            verbs.put(left, columns, r)

    rr = verbs.dot(r, r).real
    for k in range(maxiter + 1):
        before, norm = norm, np.where(running, np.sqrt(rr), norm)
        if not np.isfinite(norm).all():
            exits.nonfinite = True
            journal.record(norm)
            break

        # A column that claims to be done, or to be below what rounding allows, is looked at again from scratch.
        ends = trust.enough(goal, norm)
        claims = running & (norm <= ends)
        sure = claims  # where norm is that of the true residual, or must do for it
        if recompute is None or k == 0:
            start = norm if k == 0 else start
            claims |= running & (trust.level > HOPELESS * start)  # even |r| = |b| could not be told from rounding
            exits.converged |= claims
        elif claims.any():
            norm, sure, astray = look_again(recompute, trust, exits, claims, norm, goal, (x, r, columns), verbs)
            fresh |= astray
            rr = np.where(sure, norm**2, rr)
        if keep_best:
            better = running & (sure | (norm < best))  # what was carried along before a check was not sure
            best[better] = norm[better]
            if better.any():
                verbs.put(whole, columns, x, of_work(better))
        running &= ~(exits.converged | exits.stagnated)
        journal.record(norm)
        if k == maxiter or exits.stopped or not running.any():
            break

        kept = np.flatnonzero(anywhere(of_work(running)))
        if len(kept) < len(columns):
            set_down()
            x, r, p = verbs.take(x, kept), verbs.take(r, kept), verbs.take(p, kept)
            q = None if q is None else verbs.take(q, kept)
            columns = columns[kept]

        anew = q is not None and bool((fresh & running).any())
        if q is None or anew:
            z = r if precondition is None else precondition(r)
            rz = rr if precondition is None else spread(verbs.dot(r, z).real)
        else:
            rz = following
        if not np.isfinite(rz[running]).all():
            exits.nonfinite = True
            break
        exits.misled |= running & ~(rz > 0)
        running &= ~exits.misled
        if not running.any():
            break
        ratio = np.where(fresh | ~running, 0.0, rz / previous)
        previous = np.where(running, rz, 1.0)
        if q is None:
            verbs.aypx(of_work(ratio), z, p)
        elif anew:
            verbs.put(p, np.arange(len(columns)), z, of_work(fresh))
        if q is None or anew:
            del z
            q = product(p)
        fresh[...] = False
        pp = rr + ratio**2 * pp  # r is orthogonal to the last p
        least = eps * trust.growth * pp if precondition is None else nothing
        look, stretch = k % trust.every == 0, k % trust.every == 0 and precondition is not None
        dots = [(x, x)] * look + [(q, q), (p, p)] * stretch
        found = verbs.descend(p, q, x, r, of_work(rz), of_work(least), of_work(running), dots)
        del dots
        q = None  # before the next product makes another
        # A device goes on while the step is judged. What a check upsets (a residual that is replaced) is redone above.
        if ahead and 0 < k < maxiter - 1 and (goes_on(norm, before, ends) & running).any():
            z = r if precondition is None else precondition(r)
            turned = verbs.turn(found, r, z, p, of_work(previous), of_work(running))
            del z
            q = product(p)
            following = spread(verbs.read(turned)[0])
        curvature, step, rr, *sizes = map(spread, verbs.read(found))
        if not np.isfinite(curvature[running]).all():
            exits.nonfinite = True
            break
        exits.indefinite |= running & ~(curvature > least)
        running &= ~exits.indefinite
        if not running.any():
            break
        if precondition is None:  # a diagonal entry of Lanczos' matrix, between two eigenvalues of A
            trust.stretched(np.divide(1.0, step, out=np.zeros(shape), where=running) + ratio / last)
            last = np.where(running, step, 1.0)
        elif stretch:
            trust.stretched(np.sqrt(np.divide(sizes[1], sizes[2], out=np.zeros(shape), where=running)))
        if look:
            trust.look(np.sqrt(sizes[0]))

        journal.step(np.where(running, step, np.nan), ratio)
        if watch is not None:
            try:
                watch(present)
            except StopIteration:
                exits.stopped = True

    set_down()
    return exits


def look_again(
    recompute: Callable[[Any, np.ndarray], Any],
    trust: Trust,
    exits: Exits,
    claims: np.ndarray,
    norm: np.ndarray,
    goal: np.ndarray,
    work: tuple[Any, Any, np.ndarray],
    verbs: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Judge the columns that claim to be done by residuals recomputed from scratch, which take the place of their own.

    work is (x, r, columns): the columns at work and their places among all. Returns the norms, the columns of which
    they are now those of the true residual, and those of these that must start anew.
    """
    x, r, columns = work
    places = np.flatnonzero(anywhere(claims[..., columns]))
    true = recompute(x if len(places) == len(columns) else verbs.take(x, places), columns[places])
    size = norm.copy()
    size[..., columns[places]] = np.sqrt(verbs.dot(true, true).real)
    met, astray = trust.judge(claims, norm, size, goal)
    exits.converged |= met
    exits.stagnated |= trust.exhausted(astray)
    sure = met | astray
    part = verbs.take(r, places)
    verbs.put(part, np.arange(len(places)), true, sure[..., columns[places]])
    verbs.put(r, places, part)
    return np.where(sure, size, norm), sure, astray


@QUIET
def goes_on(norm: np.ndarray, before: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Which columns would not be done after one more step, if as much of the norm goes with it as with the last."""
    return norm**2 > ends * before


def anywhere(flags: np.ndarray) -> np.ndarray:
    """Whether a column is flagged in any element of the batch."""
    return flags.any(axis=tuple(range(flags.ndim - 1)))
