"""The interface from which preconditioners and dense factors are built: entries, columns and small blocks of K."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike


class Entries(Protocol):
    """A symmetric K of which any entry can be had. The matrix of a solve is diag(alpha) + K.

    Attributes
    ----------
    n : int
        Rows of K.
    width : int
        Rows that belong to one point: 1, or the length of the blocks of a matrix-valued kernel. Row r belongs to point
        r // width.
    work : float
        Counted work of one entry in a product: vector instructions for each pair of points.
    density : float
        Share of the entries that are not 0 because of a block-sparse pattern; 1 without one.
    semidefinite : bool
        Whether K is known to be positive semidefinite.
    coordinates : ndarray or None
        (n // width, D) float64: the points, if K[i, j] decreases with their Euclidean distance; else None.
    """

    @property
    def n(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def work(self) -> float: ...

    @property
    def density(self) -> float: ...

    @property
    def semidefinite(self) -> bool: ...

    @property
    def coordinates(self) -> np.ndarray | None: ...

    def diagonal(self) -> np.ndarray:
        """K[i, i]: shape (n,)."""

    def columns(self, J: np.ndarray, first: int = 0, dtype: DTypeLike = np.float64) -> np.ndarray:
        """K[first:, J] for J of shape (k,): shape (n - first, k), evaluated in float64 or float32."""

    def blocks(self, I: np.ndarray) -> np.ndarray:
        """K[I[p]][:, I[p]] for I of shape (P, m): shape (P, m, m)."""

    def neighbours(self, rank: np.ndarray, count: int) -> np.ndarray:
        """For each point i the points j of smaller rank that it is most correlated with.

        rank holds the numbers 0 ... points - 1 in some order. Correlation is |k_ij| / sqrt(|k_ii| |k_jj|), with the
        Frobenius norms of the blocks of a matrix-valued kernel. The result has shape (points, count), most correlated
        first, and -1 if there are fewer, or if the rest has correlation 0.
        """


class DenseEntries:
    """The entries of a matrix that is given as an array."""

    def __init__(
        self, K: np.ndarray, width: int = 1, coordinates: np.ndarray | None = None, semidefinite: bool = False
    ) -> None:
        self.K, self.n, self.width, self.coordinates = np.asarray(K, np.float64), len(K), width, coordinates
        self.semidefinite = semidefinite
        self.work, self.density = 1.0, 1.0

    def diagonal(self) -> np.ndarray:
        """The diagonal of K."""
        return np.diagonal(self.K).copy()

    def columns(self, J: np.ndarray, first: int = 0, dtype: DTypeLike = np.float64) -> np.ndarray:
        """K[first:, J] in a dtype."""
        return self.K[first:, J].astype(dtype, copy=False)

    def blocks(self, I: np.ndarray) -> np.ndarray:
        """K[I[p]][:, I[p]] for I of shape (P, m)."""
        result: np.ndarray = self.K[I[:, :, None], I[:, None, :]]
        return result

    def neighbours(self, rank: np.ndarray, count: int) -> np.ndarray:
        """For each point the points of smaller rank that it is most correlated with; see `Entries`."""
        points = self.n // self.width
        blocks = self.K.reshape(points, self.width, points, self.width)
        top = np.abs(blocks).max(axis=(1, 3), initial=np.finfo(float).tiny)
        size = top * np.sqrt(((blocks / top[:, None, :, None]) ** 2).sum(axis=(1, 3)))
        own = np.sqrt(np.maximum(np.diagonal(size), np.finfo(float).tiny))
        return most_correlated(np.where(rank < rank[:, None], size / own[:, None] / own, -1.0), count)


def most_correlated(correlation: np.ndarray, count: int) -> np.ndarray:
    """The positions of the `count` largest positive numbers in each row, largest first; -1 if there are fewer."""
    points = correlation.shape[1]
    order = np.argsort(-correlation, axis=1, kind="stable")[:, :count]
    found = np.where(np.take_along_axis(correlation, order, 1) > 0, order, -1)
    return np.pad(found, ((0, 0), (0, max(0, count - points))), constant_values=-1)
