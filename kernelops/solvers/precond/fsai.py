"""Partial Cholesky with a factorised sparse approximate inverse of what is left: for kernels of high numerical rank.

With the pivots first and A = K + diag(alpha),

    P = [L11  0] [I         0      ] [L11^T  F2^T]      F2 = A21 L11^-T,    G^T G near S^-1,  S = A22 - F2 F2^T,
        [F2   I] [0  (G^T G)^-1    ] [0      I   ]

which is A itself if G^T G = S^-1, and symmetric positive definite for any lower triangular G with a positive
diagonal. The low-rank part takes what is smooth, G what is near. (The adaptive factorised Nystrom preconditioner of
Zhao, Xu, Huang, Chow and Xi, SIAM J. Sci. Comput. 46, 2024, with pivots and neighbours that need no coordinates.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import spsolve_triangular

from ..entries import Entries
from .base import Preconditioner
from .local_factors import Schur, factor_rows
from .neighbours import predecessors, random_rank, tree_is_faster
from .pivoted_cholesky import Partial

ROUGH = 1e-4  # share of A_ii that must be left for float32 to be precise enough for the low-rank part
VANISHED = 1e-20  # share of the root of the diagonal below which a number is set to 0: its products are slow subnormals
PROMOTED = 1 << 16  # number of entries of F that are promoted to float64 at a time, so that they stay in the cache


class Fsai(Preconditioner):
    """P^-1 = W^T W with W = [L11 0; F2 G^-1]^-1, the rows of the pivots first.

    Attributes
    ----------
    repaired : int
        Number of points whose small matrix had no Cholesky factor, and got a jitter or fewer neighbours.
    """

    name = "fsai"

    def __init__(
        self,
        pivots: np.ndarray,
        rest: np.ndarray,
        L11: np.ndarray,
        F2: np.ndarray,
        G: csr_array,
        order: np.ndarray,
        *,
        clause: str,
        repaired: int = 0,
        pairs: int = 0,
    ) -> None:
        """The parts: `order` are the rows of G such that it is lower triangular when they are sorted by it."""
        super().__init__(len(pivots) + len(rest))
        self.rank = self.columns = len(pivots)
        self.pairs = pairs
        self.repaired, self._clause = repaired, clause
        self._pivots, self._rest, self._order = pivots, rest, order
        self._L11, self._F2, self._G, self._GT = L11, F2, G, G.T  # a view, and as fast as rows of its own
        self.logdet = 2.0 * float(np.log(np.diagonal(L11)).sum() - np.log(G.diagonal().astype(np.float64)).sum())

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled preconditioner, also one of version 0.1.0, which called `repaired` mended."""
        self.__dict__.update(state)
        if "mended" in state:
            self.repaired = self.__dict__.pop("mended")

    def describe(self) -> str:
        low = f"partial Cholesky of rank {self.rank} + " if self.rank else ""
        return low + self._clause + (f" ({self.repaired} mended)" if self.repaired else "")

    def factor_matmat(self, V: np.ndarray) -> np.ndarray:
        t = self._solve(V[self._pivots])
        return np.concatenate([t, self._G @ (V[self._rest] - self._low(t))])

    def factor_rmatmat(self, V: np.ndarray) -> np.ndarray:
        t, w = V[: self.rank], V[self.rank :]
        result = np.empty_like(V)
        result[self._rest] = c = self._GT @ w
        result[self._pivots] = self._solve(t - self._low_transposed(c), trans=True)
        return result

    def factor_solve(self, V: np.ndarray) -> np.ndarray:
        t, w = V[: self.rank], V[self.rank :]
        result = np.empty_like(V)
        result[self._pivots] = (self._L11 @ t).astype(V.dtype)
        result[self._rest] = self._low(t) + self._sparse_solve(w)
        return result

    def _matmat(self, V: np.ndarray) -> np.ndarray:
        V = np.asarray(V, np.result_type(V, np.float32))
        return self.factor_rmatmat(self.factor_matmat(V))

    def _solve(self, V: np.ndarray, trans: bool = False) -> np.ndarray:
        """L11^-1 V or L11^-T V, in float64: it is small."""
        if not self.rank:
            return V
        result: np.ndarray = solve_triangular(self._L11, V, lower=True, trans=int(trans), check_finite=False).astype(
            V.dtype
        )
        return result

    def _low(self, t: np.ndarray) -> np.ndarray:
        """F2 t in the dtype of t."""
        if self._F2.dtype == t.dtype:
            result: np.ndarray = self._F2 @ t
            return result
        result = np.empty((len(self._F2), t.shape[1]), t.dtype)
        for rows in self._chunks():
            np.matmul(self._F2[rows].astype(t.dtype), t, out=result[rows])
        return result

    def _low_transposed(self, c: np.ndarray) -> np.ndarray:
        """F2^T c in the dtype of c."""
        if self._F2.dtype == c.dtype:
            result: np.ndarray = self._F2.T @ c
            return result
        result = np.zeros((self.rank, c.shape[1]), c.dtype)
        for rows in self._chunks():
            result += self._F2[rows].astype(c.dtype).T @ c[rows]
        return result

    def _chunks(self) -> list[slice]:
        step = max(1, PROMOTED // max(1, self.rank))
        return [slice(low, low + step) for low in range(0, len(self._F2), step)]

    def _sparse_solve(self, w: np.ndarray) -> np.ndarray:
        """G^-1 w."""
        if not len(w):
            return w
        G = self._G[self._order][:, self._order].astype(np.float64)
        scale = 1.0 / G.diagonal()  # a unit diagonal spares SciPy's solver a copy
        result = np.empty(w.shape, w.dtype)
        result[self._order] = spsolve_triangular(
            csr_array(diags_array(scale) @ G), scale[:, None] * w[self._order], unit_diagonal=True
        )
        return result


def fsai(entries: Entries, alpha: float | np.ndarray, partial: Partial, *, count: int = 30, seed: int = 0) -> Fsai:
    """The preconditioner from a partial Cholesky factorisation and `count` neighbours of each row.

    Parameters
    ----------
    entries : Entries
        Of K.
    alpha : float or ndarray, shape (n,)
        A = K + diag(alpha). Zeros may be among it.
    partial : Partial
        `F`, shape (n, k), float32 or float64, and `pivots`, shape (k,), with A = F F^T in the rows and columns of the
        pivots. k may be 0.
    count : int, default 30
        Rows before each row that its row of G looks at. Of a matrix-valued kernel they are those of
        count / width points, rounded up.
    seed : int, default 0
        Seed of the random order of the rows.

    Returns
    -------
    Fsai
    """
    n, width = entries.n, entries.width
    schur, L11, F2 = _schur(entries, alpha, np.asarray(partial.F), np.asarray(partial.pivots, np.int64))
    points = n // width
    left = np.zeros(points, bool)
    left[schur.rest // width] = True
    rank = random_rank(points, np.flatnonzero(~left), seed)
    near = predecessors(entries, rank, min(-(-count // width), max(points - 1, 0)))[left]
    components = np.concatenate([near, np.flatnonzero(left)[:, None]], axis=1)[:, :, None] * width + np.arange(width)
    components[:, :-1][near < 0] = -1
    G, repaired = factor_rows(schur, [(components.reshape(len(near), components.shape[1] * width), width)])
    order = np.lexsort((schur.rest % width, rank[schur.rest // width]))
    clause = f"FSAI of {count} neighbours"
    pairs = near.shape[0] * (components.shape[1] * width) ** 2 + (0 if tree_is_faster(entries) else n * n // 2)
    return Fsai(
        np.asarray(partial.pivots), schur.rest, L11, F2, G, order, clause=clause, repaired=repaired, pairs=pairs
    )


def block_jacobi(entries: Entries, alpha: float | np.ndarray, labels: np.ndarray) -> Fsai:
    """The inverses of diagonal blocks of A: one for each cluster of points of the same label.

    Parameters
    ----------
    entries : Entries
        Of K.
    alpha : float or ndarray, shape (n,)
    labels : ndarray of int, shape (n // width,)
        The cluster of each point.

    Returns
    -------
    Fsai
        Without a low-rank part, where each row looks at all earlier rows of its own cluster.
    """
    n = entries.n
    schur, L11, F2 = _schur(entries, alpha, np.empty((n, 0), np.float32), np.empty(0, np.int64))
    _, labels, sizes = np.unique(np.repeat(labels, entries.width), return_inverse=True, return_counts=True)
    clusters = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    groups = [(np.array([c for c in clusters if len(c) == size]), int(size)) for size in np.unique(sizes)]
    G, repaired = factor_rows(schur, groups)
    clause = f"block Jacobi of {len(sizes)} clusters"
    return Fsai(np.empty(0, np.int64), schur.rest, L11, F2, G, np.arange(n), clause=clause, repaired=repaired)


def _schur(
    entries: Entries, alpha: float | np.ndarray, F: np.ndarray, pivots: np.ndarray
) -> tuple[Schur, np.ndarray, np.ndarray]:
    """The Schur complement of the pivots in A, the factor L11 of the pivots' block, and F2 in float32."""
    rest = np.setdiff1d(np.arange(entries.n), pivots, assume_unique=True)
    alpha = np.broadcast_to(np.asarray(alpha, np.float64), (entries.n,))
    L11, F2 = np.tril(F[pivots]).astype(np.float64), F[rest].astype(np.float32)
    size = (entries.diagonal() + alpha)[rest]
    F2[np.abs(F2) < VANISHED * np.sqrt(np.maximum(size, 0.0)).astype(np.float32)[:, None]] = 0.0
    left = size - np.einsum("ik,ik->i", F2, F2, dtype=np.float64)
    if (left >= ROUGH * size).all():
        return Schur(entries, alpha, rest, F2, np.arange(len(rest))), L11, F2
    return Schur(entries, alpha, rest, F.astype(np.float64, copy=False), rest), L11, F2
