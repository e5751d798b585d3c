"""The dense kernel matrices of pykeops.numpy.utils and pykeops.torch.utils, which scripts compare results with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError

# s2 is the square of a radial kernel's length s, and d2 the squared distances; each serves arrays and tensors
_KERNELS: dict[str, Callable[[Any, Any], Any]] = {
    "gaussian": lambda d2, s2: _exp(-d2 / s2),
    "laplacian": lambda d2, s2: _exp(-((d2 / s2) ** 0.5)),
    "cauchy": lambda d2, s2: 1 / (1 + d2 / s2),
    "inverse_multiquadric": lambda d2, s2: (1 + d2 / s2) ** -0.5,
}
_LOGARITHMS: dict[str, Callable[[Any, Any], Any]] = {
    "gaussian": lambda d2, s2: -d2 / s2,
    "laplacian": lambda d2, s2: -((d2 / s2) ** 0.5),
    "cauchy": lambda d2, s2: -np.log1p(d2 / s2),
    "inverse_multiquadric": lambda d2, s2: -0.5 * np.log1p(d2 / s2),
}
_DERIVATIVES: dict[str, Callable[[Any, Any], Any]] = {  # by d2
    "gaussian": lambda d2, s2: -_exp(-d2 / s2) / s2,
    "laplacian": lambda d2, s2: -_exp(-((d2 / s2) ** 0.5)) / (2 * (d2 * s2) ** 0.5),
    "cauchy": lambda d2, s2: -1 / (s2 * (1 + d2 / s2) ** 2),
    "inverse_multiquadric": lambda d2, s2: -0.5 / (s2 * (1 + d2 / s2) ** 1.5),
}

# of the dot product c of two unit vectors
_SPHERICAL: dict[str, Callable[[Any, Any], Any]] = {
    "binet": lambda c, s2: c**2,
    "linear": lambda c, s2: c,
    "gaussian_unoriented": lambda c, s2: _exp(-2 * (1 - c**2) / s2),
    "gaussian_oriented": lambda c, s2: _exp(-2 * (1 - c) / s2),
}


def _exp(x: Any) -> Any:
    return np.exp(x) if isinstance(x, np.ndarray) else x.exp()


def _evaluate(table: dict[str, Callable[[Any, Any], Any]], kernel: str, argument: Any, s: float) -> Any:
    if kernel not in table:
        raise ArgumentError(f"kernel: wanted one of {', '.join(table)}, got {kernel!r}")
    return table[kernel](argument, s**2)


def squared_distances(x: Any, y: Any) -> Any:
    """The squared distances of all pairs of points (M, D) and (N, D), an array (M, N)."""
    return ((x[:, None, :] - y[None, :, :]) ** 2).sum(-1)


def differences(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The differences of all pairs of points (M, D) and (N, D), an array (D, M, N)."""
    return np.moveaxis(x[:, None, :] - y[None, :, :], -1, 0)


def dense_kernel(x: Any, y: Any, s: float, kernel: str) -> Any:
    """A kernel matrix (M, N): "gaussian", "laplacian", "cauchy" or "inverse_multiquadric", of length s."""
    return _evaluate(_KERNELS, kernel, squared_distances(x, y), s)


def np_kernel_sphere(nalpha: np.ndarray, nbeta: np.ndarray, s: float, kernel: str) -> Any:
    """A kernel matrix of unit vectors: "binet", "linear", "gaussian_unoriented" or "gaussian_oriented"."""
    return _evaluate(_SPHERICAL, kernel, nalpha @ nbeta.T, s)


def log_np_kernel(x: np.ndarray, y: np.ndarray, s: float, kernel: str) -> Any:
    """The logarithm of a kernel matrix."""
    return _evaluate(_LOGARITHMS, kernel, squared_distances(x, y), s)


def grad_np_kernel(x: np.ndarray, y: np.ndarray, s: float, kernel: str) -> Any:
    """The derivatives of a kernel matrix by the squared distances."""
    return _evaluate(_DERIVATIVES, kernel, squared_distances(x, y), s)


def chain_rules(q: np.ndarray, ax: np.ndarray, by: np.ndarray, Aa: np.ndarray, p: np.ndarray) -> Any:
    """The gradient of ``q . (K p)`` by the points ax, for the derivatives Aa of K by the squared distances."""
    return np.einsum("ie,je,ij,ijd->id", q, p, 2 * Aa, ax[:, None, :] - by[None, :, :]).astype("float32")


def log_sum_exp(mat: np.ndarray, axis: int = 0) -> Any:
    """The logarithm of the sum of exponentials along an axis, without overflow."""
    return np.logaddexp.reduce(mat, axis=axis)


def functions(half: str) -> dict[str, Callable[..., Any]]:
    """The functions of one half by their names in KeOps."""
    if half == "torch":
        return {"squared_distances": squared_distances, "torch_kernel": dense_kernel}
    return {
        "squared_distances": squared_distances,
        "np_kernel": dense_kernel,
        "np_kernel_sphere": np_kernel_sphere,
        "differences": differences,
        "log_np_kernel": log_np_kernel,
        "grad_np_kernel": grad_np_kernel,
        "chain_rules": chain_rules,
        "log_sum_exp": log_sum_exp,
    }


__all__ = ["functions", "squared_distances"]
