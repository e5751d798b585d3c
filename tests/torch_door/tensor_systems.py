"""Matrices whose blocks are tensors, and the same for numpy arrays: only the operations on vectors differ."""

import numpy as np
from torch_dense import torch

from kernelops.solvers.entries import DenseEntries
from kernelops.solvers.vectors import HOST
from kernelops.torch.vectors import TensorVectors

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


class Matrix:
    """A matrix (..., n, n) with products in the precision of the block: K and alpha where a preconditioner is built."""

    name, symmetric, native, least = "a matrix", "yes", True, -np.inf

    def __init__(self, a, dtype="float64", alpha=0.0, vectors=HOST, entries=True):
        self.vectors, self.dtype, self.alpha = vectors, np.dtype(dtype), np.asarray(alpha)
        self.truth = np.asarray(a).astype(self.dtype).astype(np.result_type(dtype, np.float64))
        self.n = self.global_n = self.truth.shape[-1]
        K = self.truth - alpha * np.eye(self.n)
        self.entries = tuple(map(DenseEntries, K.reshape(-1, self.n, self.n))) if entries else ()
        there = np.float32 if self.dtype == np.float32 else self.truth.dtype
        self.factors = {d: vectors.from_host(self.truth.astype(d)) for d in {np.dtype(there), self.truth.dtype}}

    def product(self, V):
        assert isinstance(V, np.ndarray if self.vectors is HOST else torch.Tensor)
        return self.factors[self.vectors.dtype(V)] @ V


def pair(a, dtype="float64", alpha=0.0, device="cpu", **keywords):
    """The matrix on a device, and on the host."""
    vectors = TensorVectors(device)
    return Matrix(a, dtype, alpha, vectors, **keywords), Matrix(a, dtype, alpha, **keywords)


def gaussian(n=200, sigma=0.1, alpha=0.01, dim=2, seed=0, batch=()):
    x = np.random.default_rng(seed).random((*batch, n, dim))
    squares = ((x[..., :, None, :] - x[..., None, :, :]) ** 2).sum(-1)
    return np.exp(-0.5 / sigma**2 * squares) + alpha * np.eye(n)


def right_hand_sides(*shape, seed=1, dtype="float64"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def residual(A, x, b):
    """|b - A x| / |b| by columns, in float64 by a dense product."""
    b = b[:, None] if b.ndim == 1 else b
    r = b - A.truth @ x.reshape(b.shape)
    return np.linalg.norm(r, axis=-2) / np.linalg.norm(b, axis=-2)
