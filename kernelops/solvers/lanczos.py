"""Lanczos' process from many vectors at once, and eigenvalues from its tridiagonal matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh_tridiagonal

from .vectors import QUIET

RITZ_FLOOR = 1e-15  # share of the largest eigenvalue of T to which smaller ones are raised
FOUND = 1e-3  # share of the distance to the next Ritz value that the residual of an eigenvector may have


class Lanczos:
    """Lanczos' process with a symmetric matrix from every column of a block, reorthogonalised in full, in float64.

    Attributes
    ----------
    size : ndarray, shape (elements, k)
        |g|^2 of the first vectors.
    diagonal, beside : list of ndarray, shape (elements, k)
        T; a column that has come to its end has zeros.
    length : ndarray, shape (elements, k)
        Rows of T that count.
    alive : ndarray, shape (elements, k)
        The columns that go on.
    """

    def __init__(self, product: Callable[[np.ndarray], np.ndarray], start: np.ndarray) -> None:
        self.product = product
        first = np.swapaxes(start, 1, 2)  # (elements, k, n): a vector lies in one piece
        self.size = np.einsum("ekn,ekn->ek", first, first)
        self.basis = np.empty((*first.shape[:2], 16, first.shape[2]))
        self.basis[:, :, 0] = first / np.sqrt(self.size)[:, :, None]
        self.diagonal: list[np.ndarray] = []
        self.beside: list[np.ndarray] = []
        self.length = np.zeros(self.size.shape, np.int64)
        self.alive = np.ones(self.size.shape, bool)
        self.largest = np.zeros(self.size.shape)

    @property
    def steps(self) -> int:
        return len(self.diagonal)

    @QUIET
    def step(self) -> None:
        """Add one row to T, and find the next vector."""
        m = self.steps
        v = self.basis[:, :, m]
        w = np.swapaxes(self.product(np.ascontiguousarray(np.swapaxes(v, 1, 2))), 1, 2).copy()
        a = np.einsum("ekn,ekn->ek", v, w)
        w -= a[:, :, None] * v
        if m:
            w -= self.beside[-1][:, :, None] * self.basis[:, :, m - 1]
        done = self.basis[:, :, : m + 1]
        w -= ((done @ w[:, :, :, None]).swapaxes(2, 3) @ done)[:, :, 0]
        b = np.sqrt(np.einsum("ekn,ekn->ek", w, w))
        self.largest = np.maximum(self.largest, np.maximum(np.abs(a), b))
        self.length += self.alive
        self.alive = self.alive & (b > w.shape[-1] * np.finfo(np.float64).eps * self.largest) & (m + 1 < w.shape[-1])
        b = np.where(self.alive, b, 0.0)
        self.diagonal.append(a)
        self.beside.append(b)
        if m + 1 == self.basis.shape[2]:
            self.basis = np.concatenate([self.basis, np.empty_like(self.basis)], axis=2)
        self.basis[:, :, m + 1] = np.where(self.alive[:, :, None], w / np.where(b > 0, b, 1.0)[:, :, None], 0.0)

    def logarithms(self) -> tuple[np.ndarray, bool]:
        """|g|^2 e_1^T log(T) e_1 of every column, nan if T is not finite; and whether every T was definite."""
        diagonal, beside = np.array(self.diagonal), np.array(self.beside)
        values, definite = np.full(self.size.shape, np.nan), True
        for at in np.ndindex(self.size.shape):
            m = self.length[at]
            d, e = diagonal[(slice(m), *at)], beside[(slice(m - 1), *at)]
            if not (np.isfinite(d).all() and np.isfinite(e).all()):
                continue
            theta, vectors = eigh_tridiagonal(d, e)
            least = max(RITZ_FLOOR * theta[-1], np.finfo(np.float64).tiny)
            definite = definite and bool(theta[0] > least)
            values[at] = self.size[at] * (vectors[0] ** 2 @ np.log(np.maximum(theta, least)))
        return values, definite

    def runs(self, element: int) -> list[Ritz]:
        """The results from every column of an element of the batch, whose T are definite."""
        diagonal, beside = np.array(self.diagonal)[:, element], np.array(self.beside)[:, element]
        found = []
        for k, m in enumerate(self.length[element]):
            theta, vectors = eigh_tridiagonal(diagonal[:m, k], beside[: m - 1, k])
            weights = self.size[element, k] * vectors[0] ** 2
            found.append(Ritz(weights, np.log(theta), theta, vectors, beside[m - 1, k], self.basis[element, k, :m]))
        return found


@dataclass(frozen=True)
class Ritz:
    """Lanczos' process from one vector g, after m steps.

    Attributes
    ----------
    weights, logs, theta : ndarray, shape (m,)
        |g|^2 times the squares of the first components of T's eigenvectors; the logarithms of its eigenvalues; these.
    vectors : ndarray, shape (m, m)
        T's eigenvectors.
    next : float
        The entry of T that the next step would have added.
    basis : ndarray, shape (m, n)
    """

    weights: np.ndarray
    logs: np.ndarray
    theta: np.ndarray
    vectors: np.ndarray
    next: float
    basis: np.ndarray

    @property
    def separation(self) -> np.ndarray:
        """The distance of each Ritz value to the next."""
        apart = np.diff(self.theta, prepend=-np.inf, append=np.inf)
        return np.minimum(apart[:-1], apart[1:])

    @property
    def found(self) -> np.ndarray:
        """Whether each Ritz vector is an eigenvector."""
        result: np.ndarray = np.abs(self.next * self.vectors[-1]) <= FOUND * self.separation
        return result

    @property
    def rounding(self) -> float:
        """The error of tr log M from the rounding of products: at most eps |M| tr M^-1."""
        return float(np.finfo(np.float64).eps * self.theta[-1] * (self.weights / self.theta).sum())

    def eigenvectors(self, which: np.ndarray) -> list[tuple[float, float, float, np.ndarray]]:
        """(theta, its logarithm, the distance to the next, the vector) of some."""
        close = np.minimum(self.separation, self.theta)
        return [(self.theta[j], self.logs[j], close[j], self.vectors[:, j] @ self.basis) for j in np.flatnonzero(which)]
