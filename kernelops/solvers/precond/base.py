"""The base class of preconditioners: a SciPy LinearOperator near the inverse of A, with a factor and a determinant."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from ..units import SINGLE_DIGITS


class Preconditioner(LinearOperator):  # type: ignore[misc]  # SciPy has no annotations
    """P^-1 = W^T W for a symmetric positive definite P near A = diag(alpha) + K.

    Products keep the dtype of the block: float32 in, float32 out. SciPy's own solvers take it as ``M``.

    Attributes
    ----------
    name : str
        The value of `precond=` that names it.
    rank : int
        Columns of the low-rank part; 0 without one.
    evaluated : int
        Number of entries of K that were evaluated to build it.
    logdet : float
        log det P.
    certificate : float
        Proved upper bound of the condition number of P^-1 A; inf if there is none.
    inverse_bound : float
        The smallest c for which A^-1 <= c P^-1 is proved; inf if there is none.
    """

    name = "none"
    rank = 0
    columns = 0  # number of whole columns of K that were evaluated
    pairs = 0  # number of entries that were evaluated besides
    logdet = 0.0

    def __init__(self, n: int) -> None:
        super().__init__(np.dtype(np.float64), (n, n))

    @property
    def certificate(self) -> float:
        """Proved upper bound of the condition number of P^-1 A; inf if there is none."""
        return math.inf

    @property
    def inverse_bound(self) -> float:
        """The smallest c for which A^-1 <= c P^-1 is proved; inf if there is none."""
        return math.inf

    @property
    def evaluated(self) -> int:
        """Number of entries of K that were evaluated to build it."""
        return int(self.columns * self.shape[0] + self.pairs)

    def _matvec(self, v: np.ndarray) -> np.ndarray:
        result: np.ndarray = self._matmat(np.asarray(v).reshape(-1, 1))[:, 0]
        return result

    def _rmatvec(self, v: np.ndarray) -> np.ndarray:
        return self._matvec(v)

    def _rmatmat(self, V: np.ndarray) -> np.ndarray:
        result: np.ndarray = self._matmat(V)
        return result

    def _adjoint(self) -> Preconditioner:
        return self

    def _transpose(self) -> Preconditioner:
        return self

    def factor_matmat(self, V: np.ndarray) -> np.ndarray:
        """W V."""
        raise NotImplementedError

    def factor_rmatmat(self, V: np.ndarray) -> np.ndarray:
        """W^T V."""
        raise NotImplementedError

    def factor_solve(self, V: np.ndarray) -> np.ndarray:
        """W^-1 V."""
        raise NotImplementedError

    def withdraw(self) -> None:
        """Withdraw the certificate and the bound of the inverse: a solve has refuted them."""

    def describe(self) -> str:
        """A clause for the report of a solve."""
        return self.name


class Identity(Preconditioner):
    """No preconditioner."""

    def _matmat(self, V: np.ndarray) -> np.ndarray:
        return V

    def factor_matmat(self, V: np.ndarray) -> np.ndarray:
        return V

    factor_rmatmat = factor_solve = factor_matmat

    def describe(self) -> str:
        return "none"


class Rescaled(Preconditioner):
    """P^-1 / 4^k of a preconditioner P, as an operator; its other attributes are those of P."""

    def __init__(self, inner: Preconditioner, unit: int) -> None:
        super().__init__(inner.shape[0])
        self.inner, self.unit = inner, unit
        self.name, self.rank, self.columns, self.pairs = inner.name, inner.rank, inner.columns, inner.pairs
        self.logdet = inner.logdet + inner.shape[0] * unit * math.log(2.0)

    @property
    def certificate(self) -> float:
        return self.inner.certificate

    @property
    def inverse_bound(self) -> float:
        return self.inner.inverse_bound

    def withdraw(self) -> None:
        self.inner.withdraw()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def _matmat(self, V: np.ndarray) -> np.ndarray:
        V = inexact(V)
        digits = -self.unit // 2
        part = V if abs(digits) <= SINGLE_DIGITS else V.astype(np.result_type(V, np.float64))
        result: np.ndarray = (self.inner.matmat(part * 2.0**digits) * 2.0**digits).astype(V.dtype, copy=False)
        return result

    def factor_matmat(self, V: np.ndarray) -> np.ndarray:
        return self.inner.factor_matmat(V * 2.0 ** (-self.unit // 2))

    def factor_rmatmat(self, V: np.ndarray) -> np.ndarray:
        return self.inner.factor_rmatmat(V) * 2.0 ** (-self.unit // 2)

    def factor_solve(self, V: np.ndarray) -> np.ndarray:
        return self.inner.factor_solve(V) * 2.0 ** (self.unit // 2)

    def describe(self) -> str:
        return self.inner.describe()


def inexact(V: np.ndarray) -> np.ndarray:
    """V in the dtype of products with it: its own if that is float32, float64 or complex, else float64."""
    return V if V.dtype.char in "fdFD" else V.astype(np.float64)
