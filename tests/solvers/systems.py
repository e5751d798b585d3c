"""Systems to solve, by name: ordinary ones and nasty ones, as dense matrices that the truth is computed with.

`Dense` is to the solvers what a KernelOperator is: a float32 block gets a float32 product of float32 data, a float64
block a float64 product of the same data, promoted.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import LinearOperator

from kernelops.solvers.vectors import HOST


class Dense:
    """A matrix function of data, evaluated in the precision asked for: matrix(dtype) -> (..., n, n)."""

    name, native, vectors, entries, alpha, least = "Dense", True, HOST, (), np.zeros(()), -np.inf

    def __init__(self, matrix, dtype="float64", symmetric="unknown"):
        self.dtype = np.dtype(dtype)
        self.matrix = matrix if callable(matrix) else lambda dtype: np.asarray(matrix).astype(dtype)
        self.truth = self.matrix(np.result_type(self.dtype, np.float64))
        self.cache = {self.truth.dtype: self.truth}
        self.n = self.global_n = self.truth.shape[-1]
        self.symmetric = symmetric

    def product(self, block):
        dtype = np.result_type(self.dtype, block.dtype)
        if dtype.kind == "c" and self.dtype.kind != "c":
            return self.product(block.real.copy()) + 1j * self.product(block.imag.copy())
        if dtype not in self.cache:
            self.cache[dtype] = self.matrix(dtype)
        return self.cache[dtype] @ block


def points(n, seed=0, dim=2):
    return np.random.default_rng(seed).random((n, dim)).astype(np.float32)


def gaussian(x, sigma=0.1, alpha=0.01):
    """alpha I + K as a function of dtype, from float32 points."""

    def matrix(dtype):
        real = np.dtype(dtype).type(0).real.dtype
        z = x.astype(real)
        distances = ((z[..., :, None, :] - z[..., None, :, :]) ** 2).sum(-1)
        return (
            np.exp(distances * real.type(-0.5 / sigma**2)) + real.type(alpha) * np.eye(x.shape[-2], dtype=real)
        ).astype(dtype)

    return matrix


def kernel(n=300, dtype="float32", sigma=0.1, alpha=0.01, seed=0):
    """An ordinary kernel system."""
    return Dense(gaussian(points(n, seed), sigma, alpha), dtype, symmetric="yes")


def right_hand_sides(n, *shape, seed=1, dtype="float64"):
    b = np.random.default_rng(seed).standard_normal((*shape[:-1], n, *shape[-1:]) if shape else (n,))
    return b.astype(dtype)


def spd(n=40, condition=100.0, dtype="float64", seed=2):
    """A random Hermitian positive definite matrix with a given condition number."""
    draw = np.random.default_rng(seed)
    a = draw.standard_normal((n, n))
    if np.dtype(dtype).kind == "c":
        a = a + 1j * draw.standard_normal((n, n))
    q, _ = np.linalg.qr(a)
    a = (q * np.geomspace(1, condition, n)) @ q.conj().T
    return ((a + a.conj().T) / 2).astype(dtype)


def indefinite(n=30):
    """Symmetric, with eigenvalues of both signs."""
    q, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((n, n)))
    a = (q * np.linspace(-1, 2, n)) @ q.T
    return (a + a.T) / 2


def duplicates(n=40, dtype="float64"):
    """Every point twice and alpha = 0: singular."""
    x = np.repeat(points(n // 2, seed=4), 2, axis=0)
    return Dense(gaussian(x, alpha=0.0), dtype)


def one_point(dtype="float64"):
    return Dense(np.array([[4.0]]), dtype)


def isolated(n=20):
    """Rows without any interval: the identity times alpha."""
    return Dense(0.01 * np.eye(n))


def poisoned(n=20, value=np.nan):
    """One bad number in the data."""
    a = spd(n)
    a[3, 5] = a[5, 3] = value
    return a


def hilbert(n=12):
    """A condition number of 1e16: beyond float64."""
    i = np.arange(n)
    return 1.0 / (1 + i[:, None] + i)


def rotation(n=20):
    """Not symmetric, though v . A v > 0."""
    a = np.random.default_rng(5).standard_normal((n, n))
    return n * np.eye(n) + a - a.T


def rough(a):
    """A black box that rounds its products to float32, while claiming to be float64."""
    return LinearOperator(a.shape, matvec=lambda v: (a @ v).astype(np.float32).astype(np.float64), dtype=np.float64)


def matrix_of(A):
    return A.truth if isinstance(A, Dense) else np.asarray(A)


def relative_residual(A, x, b):
    """|b - A x| / |b| by columns, in float64 against the dense matrix."""
    block = b[..., None] if b.ndim == 1 else b
    r = block - matrix_of(A).astype(np.result_type(x.dtype, np.float64)) @ x.reshape(block.shape)
    size = np.linalg.norm(block.astype(np.result_type(block.dtype, np.float64)), axis=-2)
    return np.linalg.norm(r, axis=-2) / np.where(size > 0, size, 1)


def assert_solves(A, x, b, rtol):
    """x meets 1.1 times what was asked, in every column."""
    worst = relative_residual(A, x, b).max(initial=0.0)
    assert worst <= 1.1 * rtol, f"relative residual {worst:.2e}, asked {rtol:.0e}"
