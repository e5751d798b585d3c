"""Products of a kernel matrix with vectors that are on a GPU, of whatever library."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from ..arrays.arguments import Arguments
from ..arrays.device_array import DeviceArray, device_view, on_device
from ..arrays.libraries import library_like
from ..errors import BackendError, DtypeError, ShapeError
from ..formula.expr import apply, variable
from ..reductions.reduction import method
from .kernel_product import KernelProduct


class Anywhere(LinearOperator):
    """An operator whose vectors may be on a GPU: these go by ``_there``, all others SciPy's way.

    SciPy's own methods ask numpy for every vector first, which other libraries refuse.
    """

    def _there(self, V: Any, transposed: bool) -> Any:
        """The product with a vector or block on a GPU."""
        raise NotImplementedError

    def matvec(self, x: Any) -> Any:
        return self._there(x, False) if on_device(x) else super().matvec(x)

    def rmatvec(self, x: Any) -> Any:
        return self._there(x, True) if on_device(x) else super().rmatvec(x)

    def matmat(self, X: Any) -> Any:
        return self._there(X, False) if on_device(X) else super().matmat(X)

    def rmatmat(self, X: Any) -> Any:
        return self._there(X, True) if on_device(X) else super().rmatmat(X)

    def dot(self, x: Any) -> Any:
        return self._there(x, False) if on_device(x) else super().dot(x)


def product_there(product: KernelProduct, alpha: np.ndarray, V: Any, transposed: bool, shape: tuple[int, int]) -> Any:
    """(alpha I + K) V for an array V on the GPU of the operator, (columns,) or (columns, k), in its library.

    Raises
    ------
    BackendError, DtypeError, ShapeError
        Naming the vector, what was wanted and what came.
    """
    own = product.arguments.device
    if own is None:
        raise BackendError(
            "the vector is on a GPU, the operator's arrays are on the host: make it of arrays of that GPU"
        )
    given = device_view(V, "the vector", own)
    if own != given.device:
        raise BackendError(f"the vector is on GPU {given.device}, the operator's arrays are on GPU {own}")
    if given.dtype not in (np.float32, np.float64):
        raise DtypeError(f"the vector: wanted float32 or float64, got {given.dtype}")
    if given.ndim not in (1, 2) or given.shape[0] != shape[1]:
        raise ShapeError(f"an operator of shape {shape} does not fit a vector of shape {given.shape}")
    if 0 in (*given.shape, *shape):
        dtype = np.result_type(product.data_dtype, given.dtype)
        return library_like(given).from_host(np.zeros((shape[0], *given.shape[1:]), dtype))
    single = given.ndim == 1
    step = given.dtype.itemsize if single else given.strides[1]
    block = given.viewed((shape[1], 1 if single else given.shape[1]), (given.strides[0], step))
    image = _image(product, block, transposed)
    if np.count_nonzero(alpha):
        image = _plus(image, product.noise_there(alpha), block)
    return image.reshape(shape[0]) if single else image


def _image(product: KernelProduct, V: DeviceArray, transposed: bool) -> Any:
    """K V, (rows, k)."""
    dtype = np.result_type(product.data_dtype, V.dtype)
    axis = product.axis ^ transposed
    if product.kernel is not None:
        kind = product.outer if transposed else product.v.op
        return product.reduce(product.times(V.shape[1], kind), axis, V, dtype)
    # columns of a matrix-valued kernel are elements of a batch
    expr = product.transposed if transposed else product.expr
    d, k = (product.expr.dim if transposed else product.v.dim), V.shape[1]
    down, across = V.strides
    elements = V.viewed((k, V.shape[0] // d, d), (across, down * d, down))
    image = product.reduce(expr, axis, elements, dtype)
    return image.reshape(k, -1).T if k > 1 else image.reshape(-1, 1)


def _plus(image: Any, alpha: DeviceArray, V: DeviceArray) -> Any:
    """image + alpha V: a sum over one column, so that no library needs to know how to add on a GPU."""
    there = device_view(image, "the product", V.device)
    n, k = V.shape
    v, w = (variable("Vi", p, k) for p in (0, 1))
    a = variable("Vi" if alpha.size > 1 else "Pm", 2, 1)
    expr = apply("Add", w, apply("Mult", a, v))
    arguments = Arguments((V, there, alpha), there.dtype, (), n, 1, V.device, V.library)
    return method(expr, None, "Sum", 1, 1, "auto", "auto", there.dtype)(arguments, None, there.dtype)
