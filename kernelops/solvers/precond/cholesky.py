"""The matrix itself, factored: as a preconditioner it leaves conjugate gradients one step to do."""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular

from ..entries import Entries
from .base import Preconditioner

COLUMNS_AT_ONCE = 512  # of K while the matrix is filled
JITTERS = (0.0, 1.0, 1e2, 1e4)  # times eps and the mean of the diagonal: what may be added before a factor is given up


class Cholesky(Preconditioner):
    """A = L L^T in float64, for n (n + 1) / 2 entries and n^3 / 3 multiplications.

    Where A is not positive definite to the precision of float64, the smallest of a few multiples of the identity is
    added that makes it so: what comes out is still a preconditioner, and the iteration judges A itself.

    Parameters
    ----------
    entries : Entries
        K.
    alpha : ndarray, shape () or (n,)
        The rest of the diagonal.

    Attributes
    ----------
    jitter : float
        What was added to the diagonal.

    Raises
    ------
    LinAlgError
        Where no such multiple is small: A is far from positive definite, or holds NaN.
    """

    name = "cholesky"

    def __init__(self, entries: Entries, alpha: np.ndarray) -> None:
        super().__init__(entries.n)
        self.columns = entries.n
        diagonal = entries.diagonal() + alpha
        unit = np.finfo(np.float64).eps * float(np.abs(diagonal).mean())
        for share in JITTERS:
            self.jitter = share * unit
            try:
                self.L = _factor(entries, diagonal + self.jitter)
                break
            except (LinAlgError, ValueError):  # ValueError: NaN or Inf
                if share == JITTERS[-1] or not np.isfinite(unit):
                    raise LinAlgError("A is not positive definite") from None
        self.logdet = 2.0 * float(np.log(np.diagonal(self.L)).sum())

    def _matmat(self, V: np.ndarray) -> np.ndarray:
        return self.half_transposed(self.half(V)).astype(V.dtype, copy=False)

    def half(self, V: np.ndarray) -> np.ndarray:
        return solve_triangular(self.L, V, lower=True, check_finite=False)

    def half_transposed(self, V: np.ndarray) -> np.ndarray:
        return solve_triangular(self.L, V, lower=True, trans="T", check_finite=False)

    def unhalf(self, V: np.ndarray) -> np.ndarray:
        return self.L @ V

    def describe(self) -> str:
        return "dense Cholesky factor" + (f", {self.jitter:.1e} added to the diagonal" if self.jitter else "")


def _factor(entries: Entries, diagonal: np.ndarray) -> np.ndarray:
    n = entries.n
    A = np.zeros((n, n), order="F")  # what is above the blocks of the diagonal stays 0
    for first in range(0, n, COLUMNS_AT_ONCE):
        last = min(first + COLUMNS_AT_ONCE, n)
        A[first:, first:last] = entries.columns(np.arange(first, last), first)
    A[np.arange(n), np.arange(n)] = diagonal
    L: np.ndarray = cholesky(A, lower=True, overwrite_a=True)
    return L
