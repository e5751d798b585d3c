"""Kernel matrices for the tests of preconditioners, dense and in float64."""

import numpy as np

from kernelops.solvers.entries import DenseEntries


def points(n, dim=2, seed=0):
    return np.random.default_rng(seed).random((n, dim))


def gaussian(x, length):
    return np.exp(-((x[:, None] - x) ** 2).sum(-1) / (2 * length**2))


def exponential(x, length):
    return np.exp(-np.sqrt(((x[:, None] - x) ** 2).sum(-1)) / length)


def diagonal_of(alpha, n):
    return np.diag(np.broadcast_to(np.asarray(alpha, float), (n,)))


class Counting(DenseEntries):
    """Counts the columns that are asked for, and hands out arrays that cannot be written to."""

    def __init__(self, K, width=1):
        super().__init__(K, width)
        self.asked = []

    def columns(self, J):
        self.asked.extend(J.tolist())
        return locked(super().columns(J))

    def blocks(self, I):
        return locked(super().blocks(I))

    def diagonal(self):
        return locked(super().diagonal())


def locked(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def assert_factor(P, M):
    """The factor, its transpose and inverse, logdet and the product agree with each other and with a dense matrix P."""
    n = len(P)
    one = np.eye(n)
    W, Wt, unW = M.factor_matmat(one), M.factor_rmatmat(one), M.factor_solve(one)
    product = M._matmat(one)
    size = np.linalg.cond(P)
    np.testing.assert_allclose(Wt, W.T, rtol=0, atol=1e-13 * abs(W).max())
    np.testing.assert_allclose(W.T @ W, product, rtol=0, atol=1e-12 * abs(product).max())
    np.testing.assert_allclose(unW @ W, one, rtol=0, atol=1e-14 * n * np.sqrt(size))
    np.testing.assert_allclose(product, product.T, rtol=0, atol=1e-14 * abs(product).max())
    assert np.linalg.eigvalsh((product + product.T) / 2)[0] > 0
