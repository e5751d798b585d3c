"""The matrix itself, factored: as a preconditioner it leaves conjugate gradients one step to do."""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError

from ...engines import dense
from ..entries import Entries
from .base import Preconditioner

COLUMNS_AT_ONCE = 128  # number of columns of K that are evaluated at a time
WHOLE_UP_TO = 1024  # number of rows up to which all of K is evaluated at once
JITTERS = (0.0, 1.0, 1e2, 1e4)  # multiples of eps and the mean of the diagonal that are added, one after another
FLOAT64 = np.dtype(np.float64)


class Cholesky(Preconditioner):
    """A = L L^T, for n (n + 1) / 2 entries and n^3 / 3 multiplications and additions.

    If A is not positive definite to the precision of float64, the smallest of a few multiples of the identity is
    added that makes it so: what comes out is still a preconditioner, and the iteration judges A itself. In float32
    nothing is added: if that is not enough, float64 is what is wanted.

    Parameters
    ----------
    entries : Entries
        K.
    alpha : ndarray, shape () or (n,)
        The diagonal besides K.
    dtype : dtype
        Dtype of the entries and of the factor: float64 or float32.
    rate : float
        Predicted share of a residual that a correction by this factor leaves.

    Attributes
    ----------
    L : ndarray, shape (n, n)
        In Fortran order, with zeros above the diagonal.
    jitter : float
        The number that was added to the diagonal.

    Raises
    ------
    LinAlgError
        If no such multiple is small: A is far from positive definite, or holds NaN.
    """

    name = "cholesky"

    def __init__(self, entries: Entries, alpha: np.ndarray, dtype: np.dtype = FLOAT64, rate: float = 0.0) -> None:
        super().__init__(entries.n)
        self.columns, self.rate, self.single = entries.n, rate, dtype != FLOAT64
        diagonal = entries.diagonal() + alpha
        unit = np.finfo(np.float64).eps * float(np.abs(diagonal).mean())
        jitters = JITTERS[:1] if self.single else JITTERS
        for share in jitters:
            self.jitter = share * unit
            try:
                self.L = _factor(entries, diagonal + self.jitter, dtype)
                break
            except LinAlgError:
                if share == jitters[-1] or not np.isfinite(unit):
                    raise LinAlgError("A is not positive definite") from None
        self.logdet = 2.0 * float(np.log(np.diagonal(self.L), dtype=np.float64).sum())

    def _matmat(self, V: np.ndarray) -> np.ndarray:
        return self._solve_triangles(V, "LLT")

    def factor_matmat(self, V: np.ndarray) -> np.ndarray:
        return self._solve_triangles(V, "L")

    def factor_rmatmat(self, V: np.ndarray) -> np.ndarray:
        return self._solve_triangles(V, "LT")

    def factor_solve(self, V: np.ndarray) -> np.ndarray:
        result: np.ndarray = self.L @ V
        return result

    def _solve_triangles(self, V: np.ndarray, which: str) -> np.ndarray:
        if not self.single or V.dtype == np.float32:
            return dense.solve(self.L, V, which).astype(V.dtype, copy=False)
        exponents = np.frexp(np.abs(V).max(axis=0, initial=0.0))[1]  # a small residual is no smaller for float32
        result: np.ndarray = np.ldexp(dense.solve(self.L, np.ldexp(V, -exponents), which), exponents, dtype=V.dtype)
        return result

    def describe(self) -> str:
        precision = " in float32" if self.single else ""
        return f"dense Cholesky factor{precision}" + (
            f", {self.jitter:.1e} added to the diagonal" if self.jitter else ""
        )


def _factor(entries: Entries, diagonal: np.ndarray, dtype: np.dtype) -> np.ndarray:
    n = entries.n
    A = _whole(entries, dtype) if n <= WHOLE_UP_TO else _by_columns(entries, dtype)
    A[np.arange(n), np.arange(n)] = diagonal
    dense.factor(A)
    return A


def _whole(entries: Entries, dtype: np.dtype) -> np.ndarray:
    """The lower triangle of K, from all of it: for few rows, starting threads for half of it takes longer."""
    n = entries.n
    A = np.asfortranarray(entries.columns(np.arange(n), 0, dtype))
    for first in range(0, n, COLUMNS_AT_ONCE):
        J = slice(first, min(first + COLUMNS_AT_ONCE, n))
        A[: J.start, J], A[J, J] = 0.0, np.tril(A[J, J])
    return A


def _by_columns(entries: Entries, dtype: np.dtype) -> np.ndarray:
    """The lower triangle of K."""
    n = entries.n
    A = np.zeros((n, n), dtype, order="F")

    def fill(J: slice) -> None:
        A[J.start :, J] = entries.columns(np.arange(n)[J], J.start, dtype)
        A[J, J] = np.tril(A[J, J])

    dense.share(n, COLUMNS_AT_ONCE, fill)
    return A
