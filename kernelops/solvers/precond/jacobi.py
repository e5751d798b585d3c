"""The diagonal of diag(alpha) + K, or its diagonal blocks if a point has several rows."""

from __future__ import annotations

import numpy as np

from ..entries import Entries
from .base import Preconditioner, inexact

SMALLEST = 1e-12  # share of the largest eigenvalue of a block to which smaller ones, which are rounding, are raised


class Jacobi(Preconditioner):
    """The inverse of the blocks of diag(alpha) + K that belong to one point each.

    Blocks have `entries.width` rows: one for a scalar kernel, which makes P the diagonal of the matrix. Where a block
    is not positive definite, its eigenvalues are raised to 1e-12 of its largest; if none is positive, the block is
    replaced by the mean of the positive eigenvalues of all blocks, or by 1, times the identity.

    Parameters
    ----------
    entries : Entries
        K.
    alpha : float or ndarray, shape (n,)
        At least 0.

    Attributes
    ----------
    replaced : int
        Blocks that were not positive definite.

    Raises
    ------
    FloatingPointError
        An entry is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops.solvers.entries import DenseEntries
    >>> M = Jacobi(DenseEntries(np.array([[3.0, 1.0], [1.0, 7.0]])), 1.0)
    >>> np.round(M @ np.ones(2), 6).tolist()
    [0.25, 0.125]
    """

    name = "jacobi"

    def __init__(self, entries: Entries, alpha: float | np.ndarray) -> None:
        super().__init__(entries.n)
        width = entries.width
        rows = np.arange(entries.n).reshape(-1, width)
        blocks = np.array(entries.blocks(rows) if width > 1 else entries.diagonal(), np.float64)
        blocks = blocks.reshape(-1, width, width)
        np.einsum("pii->pi", blocks)[...] += np.broadcast_to(np.asarray(alpha, np.float64), (entries.n,))[rows]
        if not np.isfinite(blocks).all():
            raise FloatingPointError("K has entries that are NaN or infinite")
        values, vectors = np.linalg.eigh(blocks)
        largest = values.max(axis=1, initial=-np.inf, keepdims=True)
        bad = values <= SMALLEST * largest
        self.replaced = int((bad.any(axis=1) | (largest[:, 0] <= 0)).sum())
        values = np.maximum(values, SMALLEST * largest)
        positive = largest[:, 0] > 0
        values[~positive] = values[positive].mean() if positive.any() else 1.0
        root = np.sqrt(values)
        self.W = vectors.transpose(0, 2, 1) / root[:, :, None]
        self.unW = vectors * root[:, None, :]
        self.logdet = float(np.log(values).sum())

    def _matmat(self, V: np.ndarray) -> np.ndarray:
        V = inexact(V)
        W = self.W.astype(V.real.dtype, copy=False)  # W^T (W v) stays positive in float32, which P^-1 v might not
        return by_blocks(W.transpose(0, 2, 1), by_blocks(W, V))

    def factor_matmat(self, V: np.ndarray) -> np.ndarray:
        return by_blocks(self.W, V)

    def factor_rmatmat(self, V: np.ndarray) -> np.ndarray:
        return by_blocks(self.W.transpose(0, 2, 1), V)

    def factor_solve(self, V: np.ndarray) -> np.ndarray:
        return by_blocks(self.unW, V)

    def describe(self) -> str:
        width = self.W.shape[1]
        return "the diagonal" if width == 1 else f"diagonal blocks of {width} rows"


def by_blocks(B: np.ndarray, V: np.ndarray) -> np.ndarray:
    """The block diagonal matrix of B, shape (points, width, width), times V."""
    result: np.ndarray = np.einsum("pij,pjk->pik", B, V.reshape(len(B), B.shape[1], V.shape[1])).reshape(V.shape)
    return result
