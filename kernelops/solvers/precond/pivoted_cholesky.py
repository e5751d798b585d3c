"""Randomly pivoted partial Cholesky factorisation, many pivots at a time.

A pivot is drawn with probability proportional to the diagonal of the residual K - F F^T (Chen, Epperly, Tropp and
Webber, Comm. Pure Appl. Math. 2024). Drawing one at a time leaves nothing for matrix-matrix products, so a round draws
many points at once and keeps those that the one-at-a-time method would have kept (Epperly, Tropp and Webber, "Embrace
rejection", 2024). Why the law of the pivots is the same: a draw is a row i and a height below d_i, that is, a point
uniform under the graph of the residual diagonal d. Pivots only lower the graph. A point that is still under it when
its turn comes is uniform under the lower graph, hence its row is distributed as a fresh draw; any other is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import DTypeLike
from scipy.linalg import cholesky, solve_triangular
from scipy.linalg.blas import dtrsm

from ...errors import ArgumentError
from ..entries import Entries

LEAST, MOST = 16, 128  # smallest and largest number of candidates of a round; MOST makes the products fast
EXHAUSTED = 1e-12  # share of the trace of K below which the residual is rounding
PIVOT = 1e-13  # share of alpha_i + K[i, i] below which no row is a pivot: a tenth of EXHAUSTED for all rows together
STALLS = 3  # number of rounds in a row without a pivot after which the factorisation ends
ROWS_AT_ONCE = 8192  # number of rows of F that are worked on at a time


@dataclass(frozen=True)
class Partial:
    """The first k columns of a Cholesky factor, rows in their own order: diag(alpha) + K = F F^T + what is left.

    Attributes
    ----------
    F : ndarray, shape (n, k)
        float64; ``F[pivots]`` is lower triangular with a positive diagonal.
    pivots : ndarray, shape (k,)
        The rows, in the order in which they were taken.
    residual : ndarray, shape (n,)
        diag(K - F F^T) if alpha = 0; else the diagonal of the Schur complement of diag(alpha) + K, less alpha, which
        is at least as large. 0 at the pivots, never negative.
    trace : float
        Sum of the diagonal of K.
    negative : float
        The most negative diagonal entry of a residual before it was set to 0, relative to the largest diagonal entry
        of diag(alpha) + K. For a positive semidefinite K it is rounding: above -1e-10.
    stopped : str
        "trace": the sum of the residual is at most `enough`. "rank": it is rounding. "stalled": no row is left that
        could be a pivot, as at the numerical rank or if K is not positive semidefinite. "most": as many columns as
        were asked for.
    columns : int
        Number of columns of K that were evaluated: k.
    """

    F: np.ndarray
    pivots: np.ndarray
    residual: np.ndarray
    trace: float
    negative: float
    stopped: str
    seed: int
    rounds: int = field(repr=False)
    waiting: tuple[np.ndarray, np.ndarray] = field(repr=False)  # rows and heights of the points not yet looked at

    @property
    def columns(self) -> int:
        return len(self.pivots)


def pivoted_cholesky(
    entries: Entries,
    alpha: float | np.ndarray = 0.0,
    *,
    most: int,
    enough: float = 0.0,
    seed: int = 0,
    budget: int | None = None,
    start: Partial | None = None,
) -> Partial:
    """Columns of the Cholesky factor of K, or of diag(alpha) + K, at pivots drawn by the residual diagonal of K.

    Parameters
    ----------
    entries : Entries
        K, of n rows; k of its columns are evaluated.
    alpha : float or ndarray of shape (n,)
        At least 0. With 0, F F^T approximates K from below. Otherwise F is part of the factor of diag(alpha) + K, whose
        Schur complements are at least alpha, so that nothing breaks down; the pivots still go by what is left of K.
    most : int
        Most columns.
    enough : float
        Stop when the sum of the residual is at most this.
    seed : int, default 0
        Seed of the draws. The same seed gives the same pivots.
    budget : int, optional
        Most bytes of F, which takes 8 n for each column.
    start : Partial, optional
        Go on from here, with its seed; its F is copied. The result is that of one run, up to rounding, if `enough`
        stopped neither.

    Raises
    ------
    FloatingPointError
        An entry of K is NaN or infinite.

    Notes
    -----
    Memory: F and the columns of one round. Work: k n entries and n k^2 multiplications, in matrix-matrix products.
    The size of a round depends on nothing but n and the columns so far: half as many candidates as columns lower the
    sum of the residual to two thirds if it falls like 1/k, so most of them are kept, and up to n/8 of them the round's
    own matrix costs at most a quarter of its columns.

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops.solvers.entries import DenseEntries
    >>> x = np.linspace(0, 1, 200)
    >>> partial = pivoted_cholesky(DenseEntries(np.exp(-((x[:, None] - x) ** 2))), most=50)
    >>> partial.stopped, partial.F.shape[1] < 15
    ('rank', True)
    """
    n = entries.n
    alpha = np.broadcast_to(np.asarray(alpha, np.float64), (n,))
    if not (alpha >= 0).all():
        raise ArgumentError("alpha must be at least 0 in every row")
    most = min(most, n, n if budget is None else budget // (8 * max(n, 1)))
    diagonal = finite(np.array(entries.diagonal(), np.float64))
    size = np.abs(diagonal) + alpha  # what rounding is relative to
    scale = max(float(size.max(initial=0.0)), np.finfo(float).tiny)
    if start is None:
        d, pivots, negative = diagonal.copy(), np.zeros(0, np.intp), 0.0
        rounds, waiting = 0, (pivots, np.zeros(0))
    else:
        d, pivots, negative, seed = start.residual.copy(), start.pivots, start.negative, start.seed
        rounds, waiting = start.rounds, start.waiting
    negative, trace = min(negative, float(d.min(initial=0.0)) / scale), float(np.maximum(diagonal, 0.0).sum())
    np.maximum(d, 0.0, out=d)
    i, stalls = len(pivots), 0
    F = np.empty((n, max(most, i)), order="F")  # memory is only taken as columns are filled
    if start is not None:
        F[:, :i] = start.F

    while not (stopped := stopping_reason(float(d.sum()), trace, enough, i, most, stalls)):
        if not len(waiting[0]):
            waiting = candidates(d, min(max(i // 2, LEAST), max(n // 8, LEAST), MOST), seed, rounds)
            rounds += 1
            stalls += 1
        index, height = waiting
        height = np.maximum(height, np.maximum(PIVOT * size[index], -negative * scale))
        H = entries.blocks(index[None])[0] - F[index, :i] @ F[index, :i].T
        H += np.where(index[:, None] == index, alpha[index], 0.0)
        kept, L, seen = survivors(finite(H), alpha[index], height, most - i)
        waiting = waiting[0][seen:], waiting[1][seen:]
        if not len(kept):
            continue
        T, stalls = index[kept], 0
        extend(F, i, entries.columns(T), T, L, d)
        F[pivots, i : i + len(T)] = 0.0
        pivots = np.concatenate([pivots, T])
        i += len(T)
        d[pivots] = 0.0
        negative = min(negative, float(finite(d).min()) / scale)
        np.maximum(d, 0.0, out=d)
    return Partial(F[:, :i], pivots, d, trace, negative, stopped, seed, rounds, waiting)


def finite(x: np.ndarray) -> np.ndarray:
    """x, of finite numbers."""
    if not np.isfinite(x).all():
        raise FloatingPointError("K has entries that are NaN or infinite")
    return x


def stopping_reason(left: float, trace: float, enough: float, i: int, most: int, stalls: int) -> str:
    """The reason to stop, or ""."""
    if left <= EXHAUSTED * trace:
        return "rank"
    if left <= enough:
        return "trace"
    if i >= most:
        return "most"
    return "stalled" if stalls >= STALLS else ""


def candidates(d: np.ndarray, size: int, seed: int, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and heights of points that are uniform under the graph of d."""
    draw = np.random.default_rng([seed, rounds])
    below = np.cumsum(d)
    index = np.searchsorted(below, draw.random(size) * below[-1], side="right").clip(max=len(d) - 1)
    return index, draw.random(size) * d[index]


def survivors(H: np.ndarray, alpha: np.ndarray, height: np.ndarray, room: int) -> tuple[list[int], np.ndarray, int]:
    """The candidates that are still under the graph at their turn, the Cholesky factor of H there, the number of turns.

    H is the Schur complement of diag(alpha) + K at the candidates.
    """
    b = len(H)
    L = np.zeros((b, min(b, room)))
    kept: list[int] = []
    left = np.diagonal(H) - alpha
    for j in range(b):
        if not height[j] < left[j]:
            continue
        t = len(kept)
        if t == room:
            return kept, np.tril(L[np.array(kept, np.intp), :t]), j
        column = (H[:, j] - L[:, :t] @ L[j, :t]) / np.sqrt(left[j] + alpha[j])
        L[:, t] = column
        left = left - column**2  # nothing but rounding, or -alpha, for the same row drawn again
        kept.append(j)
    return kept, np.tril(L[np.array(kept, np.intp), : len(kept)]), b


def extend(F: np.ndarray, i: int, G: np.ndarray, T: np.ndarray, L: np.ndarray, d: np.ndarray) -> None:
    """Put the columns i, i + 1, ... of F for the pivots T, of columns G of K, and take their squares from d."""
    new, old = slice(i, i + len(T)), F[T, :i]
    for first in range(0, len(F), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        x = old @ F[rows, :i].T
        np.subtract(G[rows].T, x, out=x)
        x = dtrsm(1.0, L, x.T, side=1, lower=1, trans_a=1, overwrite_b=1)  # x L^T = what G has left
        F[rows, new] = x
        d[rows] -= np.einsum("ij,ij->i", x, x)
    F[T, new] = L  # exactly triangular; and here alpha is in, which G lacks


def shift_by_alpha(partial: Partial, alpha: float | np.ndarray) -> Partial:
    """From the factor of S K S, S = alpha^(-1/2), to that of diag(alpha) + K with the same pivots T.

    With L = F[T] the columns T of S K S are F L^T, and its block of T is L L^T. So with L' L'^T = I + L L^T the
    columns T of the factor of I + S K S are (F L^T + I[:, T]) L'^-T; multiplied by S^-1 they are those of
    diag(alpha) + K. No entry is evaluated again. The residual stays that of S K S.
    """
    T, F = partial.pivots, partial.F
    root = np.sqrt(check_positive(alpha, len(F)))
    L = F[T]
    shifted = cholesky(np.eye(len(T)) + L @ L.T, lower=True)
    G = np.empty(F.shape, order="F")
    for first in range(0, len(F), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        G[rows] = solve_triangular(shifted, L @ F[rows].T, lower=True, check_finite=False).T
    G[T] = shifted
    G *= root[:, None]
    return replace(partial, F=G)


class Scaled:
    """The entries of S K S for a diagonal S: what low rank sees of diag(alpha) + K with S = alpha^(-1/2).

    diag(alpha) + K = S^-1 (I + S K S) S^-1, and pivots that go by the diagonal of S K S lower the trace that counts
    for the condition number, sum_i residual_i / alpha_i.
    """

    coordinates: np.ndarray | None = None  # a scaled K does not decrease with the distance

    def __init__(self, entries: Entries, s: float | np.ndarray) -> None:
        self.entries, self.n, self.width = entries, entries.n, entries.width
        self.work, self.density, self.semidefinite = entries.work, entries.density, entries.semidefinite
        self.s = np.broadcast_to(np.asarray(s, np.float64), (self.n,))

    @classmethod
    def by_alpha(cls, entries: Entries, alpha: float | np.ndarray) -> Scaled:
        """With S = alpha^(-1/2), for alpha > 0."""
        return cls(entries, check_positive(alpha, entries.n) ** -0.5)

    def diagonal(self) -> np.ndarray:
        result: np.ndarray = self.s**2 * self.entries.diagonal()
        return result

    def columns(self, J: np.ndarray, first: int = 0, dtype: DTypeLike = np.float64) -> np.ndarray:
        result: np.ndarray = (self.s[first:, None] * self.entries.columns(J, first) * self.s[J]).astype(
            dtype, copy=False
        )
        return result

    def blocks(self, I: np.ndarray) -> np.ndarray:
        result: np.ndarray = self.s[I][:, :, None] * self.entries.blocks(I) * self.s[I][:, None, :]
        return result

    def neighbours(self, rank: np.ndarray, count: int) -> np.ndarray:
        return self.entries.neighbours(rank, count)  # scaling changes no correlation of points


def check_positive(alpha: float | np.ndarray, n: int) -> np.ndarray:
    """alpha in every row, for low rank, which cannot do without."""
    alpha = np.broadcast_to(np.asarray(alpha, np.float64), (n,))
    bad = np.flatnonzero(~((alpha > 0) & np.isfinite(alpha)))
    if len(bad):
        raise ArgumentError(
            f"alpha must be positive for a low-rank preconditioner, got {alpha[bad[0]]:g} in row {bad[0]}"
            f"; there are {len(bad)} such rows"
        )
    return alpha
