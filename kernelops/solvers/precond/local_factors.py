"""Rows of a sparse G with G^T G near the inverse of a Schur complement, each from the small matrix of its neighbours.

Let S be symmetric positive definite and I a set of rows that ends with i. Among the rows g with support I, that which
makes G S G^T best in the sense of Kaporin's condition number is, with S[I, I] = R R^T and e the last unit vector,

    g = R^-T e:    along S[I, I]^-1 e = R^-T R^-1 e = R^-T e / R_last, and of size g^T S[I, I] g = |R^T g|^2 = 1.

Where I holds all predecessors of i this is the row of the inverse of the Cholesky factor. With a wrong size (divided by
R_last, say) all still converges, in many times the iterations. (Kolotilina and Yeremin, SIAM J. Matrix Anal. Appl. 14,
1993.) A set may end with several rows of its own i_1 < i_2 < ...: the leading blocks of R are the factors of the
smaller sets, so that the last rows of R^-1 are the rows of G for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat

import numpy as np
from scipy.sparse import csr_array

from ...engines.blas import has_room, one_blas_thread
from ...engines.threads import map_on_threads, thread_count
from ..entries import Entries

ENTRIES_AT_ONCE = 1 << 21  # number of entries of the small matrices that are evaluated together
GATHERED = 1 << 22  # number of entries of F that one task gathers
SUBSTITUTED = 6  # number of own rows up to which they are found by substitution, beyond by LAPACK
NOISE = 1e-13  # share of A_ii below which a pivot is the rounding of 0
JITTER = 1e-10  # share of the trace that is added to the diagonal of a small matrix that has no Cholesky factor


@dataclass(frozen=True)
class Schur:
    """S = A[rest, rest] - F[at] F[at]^T: what a partial Cholesky factorisation has left of A = K + diag(alpha)."""

    entries: Entries
    alpha: np.ndarray  # (n,)
    rest: np.ndarray  # (r,) rows of A, ascending
    F: np.ndarray  # float32 or float64, as the products are
    at: np.ndarray  # (r,) the rows of F that belong to `rest`

    @property
    def place(self) -> np.ndarray:
        """The position of each row of A in `rest`, -1 if it is not there. The last one is for the row -1."""
        place = np.full(len(self.alpha) + 1, -1, np.int64)
        place[self.rest] = np.arange(len(self.rest))
        return place


def factor_rows(schur: Schur, groups: list[tuple[np.ndarray, int]]) -> tuple[csr_array, int]:
    """G, whose rows belong to `rest`, and the number of sets that had to be repaired.

    Parameters
    ----------
    schur : Schur
    groups : list of (sets, own)
        A set is a row of an array of shape (P, m): rows of A, first neighbours, most correlated first, and then `own`
        rows to make rows of G for. The own rows of all sets together are all of `rest`, each once. What is not in
        `rest` is passed over, and so is -1, which cannot stand last.

    Returns
    -------
    G : csr_array, shape (r, r), float32
    repaired : int
    """
    place, k = schur.place, schur.F.shape[1]
    parts = []
    with one_blas_thread():
        threads = thread_count() if has_room(thread_count()) else 1
        for sets, own in groups:
            m = sets.shape[1]
            slab, task = max(1, ENTRIES_AT_ONCE // m**2), max(1, GATHERED // (m * (k + m)))
            for low in range(0, len(sets), slab):
                I = sets[low : low + slab]
                A = _blocks(schur, np.where(I < 0, I[:, -1:], I))  # asked for here: entries have threads of their own
                tasks = [slice(start, start + task) for start in range(0, len(I), task)]
                places = (place[I[rows]] for rows in tasks)
                blocks = (A[rows] for rows in tasks)
                parts += map_on_threads(_factor_task, blocks, repeat(schur), places, repeat(own), threads=threads)
    return _assemble(parts, len(schur.rest))


def _blocks(schur: Schur, I: np.ndarray) -> np.ndarray:
    """A[I[p], I[p]]."""
    A = schur.entries.blocks(I)
    diagonal = np.einsum("pii->pi", A)
    diagonal += schur.alpha[I]
    return A


def _assemble(parts: list[tuple], size: int) -> tuple[csr_array, int]:
    """The rows in their order and the number of repaired sets, from the results of the tasks."""
    if not size:
        return csr_array((0, 0), dtype=np.float32), 0
    rows, counts, columns, values = (np.concatenate(x) for x in list(zip(*parts))[:4])
    G = csr_array((values, columns, np.concatenate([[0], np.cumsum(counts)])), (size, size))
    if (rows[1:] < rows[:-1]).any():
        G = G[np.argsort(rows)]
    G.sort_indices()
    return G, sum(part[4] for part in parts)


@np.errstate(all="ignore")  # a thread of a pool does not have that of its caller
def _factor_task(A: np.ndarray, schur: Schur, I: np.ndarray, own: int) -> tuple:
    """One task: rows of G, their lengths, columns and values, and how many sets were repaired.

    A (P, m, m) holds the entries of A and is overwritten; I (P, m) places in `rest`, or -1.
    """
    there = I >= 0
    size = np.einsum("pii->pi", A).copy()
    if schur.F.shape[1]:
        Z = schur.F[schur.at[I]]
        A -= Z @ Z.transpose(0, 2, 1)
    S = _mask(A, there)
    R, there, repaired = _factor(S, there, size, own)
    X = last_rows_of_inverse(R, own)
    m = I.shape[1]
    below = np.tri(own, m, m - own, dtype=bool)  # an own row may look at earlier own rows only
    keep = there[:, None, :] & below & there[:, m - own :, None]
    columns = np.broadcast_to(I[:, None, :], keep.shape)[keep].astype(np.int32)
    owners = there[:, m - own :]
    return I[:, m - own :][owners], keep.sum(2)[owners], columns, X[keep].astype(np.float32), repaired


def last_rows_of_inverse(R: np.ndarray, count: int) -> np.ndarray:
    """The last rows of R^-1 for lower triangular R of shape (P, m, m): shape (P, count, m)."""
    P, m, _ = R.shape
    if count > SUBSTITUTED:  # elimination of a triangular matrix changes nothing, and what is left is substitution
        E = np.eye(m)[:, m - count :]
        return np.linalg.solve(R.transpose(0, 2, 1), E[None]).transpose(0, 2, 1)
    X = np.zeros((P, count, m))
    X[:, np.arange(count), np.arange(m - count, m)] = 1.0
    for j in range(m - 1, -1, -1):  # X R = E, from the last column of X to the first
        X[:, :, j] /= R[:, None, j, j]
        X[:, :, :j] -= X[:, :, j, None] * R[:, None, j, :j]
    return X


def _mask(S: np.ndarray, there: np.ndarray) -> np.ndarray:
    """S with the rows and columns that are not there replaced by those of the identity, in place."""
    if not there.all():
        S *= there[:, :, None]
        S *= there[:, None, :]
        np.einsum("pii->pi", S)[~there] = 1.0
    return S


def _factor(S: np.ndarray, there: np.ndarray, size: np.ndarray, own: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Cholesky factors; what does not factor gets a jitter, then half the neighbours, then only the diagonal.

    Returns the factors, what is still there of the sets, and how many sets were repaired.
    """
    noise = NOISE * size
    R, bad = _cholesky(S, noise * there)
    first = np.flatnonzero(bad)
    for mend in (_add_jitter, _drop_half, _keep_diagonal):
        if not bad.any():
            break
        there = there.copy()
        S[bad], there[bad] = mend(S[bad], there[bad], size[bad], own)
        rows = np.flatnonzero(bad)
        R[rows], bad[rows] = _cholesky(S[rows], noise[rows] * there[rows])
    return R, there, len(first)


def _cholesky(S: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors of all that have one, and which have none, or pivots that are not above the noise: found by halving."""
    try:
        R = np.linalg.cholesky(S)
        return R, (np.einsum("pii->pi", R) ** 2 < noise).any(1)
    except np.linalg.LinAlgError:
        if len(S) == 1:
            return np.full_like(S, np.nan), np.ones(1, bool)
        half = len(S) // 2
        (R, bad), (other_R, other_bad) = _cholesky(S[:half], noise[:half]), _cholesky(S[half:], noise[half:])
        return np.concatenate([R, other_R]), np.concatenate([bad, other_bad])


def _add_jitter(S: np.ndarray, there: np.ndarray, size: np.ndarray, own: int) -> tuple[np.ndarray, np.ndarray]:
    diagonal = np.einsum("pii->pi", S)
    diagonal += JITTER * (diagonal * there).sum(1, keepdims=True)
    return S, there


def _drop_half(S: np.ndarray, there: np.ndarray, size: np.ndarray, own: int) -> tuple[np.ndarray, np.ndarray]:
    """Without the less correlated half of the neighbours."""
    near = there.copy()
    near[:, : there.shape[1] - own] &= (
        np.cumsum(there, 1)[:, : there.shape[1] - own] <= near[:, : there.shape[1] - own].sum(1, keepdims=True) // 2
    )
    return _mask(S, near), near


def _keep_diagonal(S: np.ndarray, there: np.ndarray, size: np.ndarray, own: int) -> tuple[np.ndarray, np.ndarray]:
    """Own rows only and each for itself, by a diagonal that stands above the rounding of what was subtracted."""
    m = S.shape[1]
    alone = there.copy()
    alone[:, : m - own] = False
    diagonal = np.maximum(np.einsum("pii->pi", S), np.finfo(np.float32).eps * size)
    S[...] = np.eye(m) * np.where(alone & (diagonal > 0), diagonal, 1.0)[:, None, :]
    return S, alone
