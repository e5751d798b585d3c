"""Products of a kernel matrix with vectors that are on a GPU, of any array library."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.device_array import DeviceArray, device_view
from ..arrays.libraries import library_like
from ..errors import BackendError, DtypeError, ShapeError
from .kernel_product import KernelProduct
from .shift import Shift


def device_product(product: KernelProduct, shift: Shift, V: Any, transposed: bool, shape: tuple[int, int]) -> Any:
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
    block = given.view((shape[1], 1 if single else given.shape[1]), (given.strides[0], step))
    image = _image(product, block, transposed)
    image = shift.add(image, block)
    return image.reshape(shape[0]) if single else image


def _image(product: KernelProduct, V: DeviceArray, transposed: bool) -> Any:
    """K V, (rows, k)."""
    dtype = np.result_type(product.data_dtype, V.dtype)
    form = product.form
    axis = form.axis ^ transposed
    if form.kernel is not None:
        kind = form.outer if transposed else form.unknown.op
        return product.reduce(form.columns(V.shape[1], kind), axis, V, dtype)
    # columns of a matrix-valued kernel are elements of a batch
    expr = form.transposed if transposed else form.expr
    d, k = (form.expr.dim if transposed else form.unknown.dim), V.shape[1]
    down, across = V.strides
    elements = V.view((k, V.shape[0] // d, d), (across, down * d, down))
    image = product.reduce(expr, axis, elements, dtype)
    return image.reshape(k, -1).T if k > 1 else image.reshape(-1, 1)
