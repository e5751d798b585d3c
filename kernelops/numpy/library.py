"""numpy's arrays, and arrays on a GPU that are no tensors, as LazyTensors see them; see frontend.lazy.library."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays.arguments import is_tensor
from ..arrays.device_array import device_view, on_device
from ..arrays.libraries import library_like
from ..errors import BackendError, DtypeError
from ..frontend.genred import Genred
from ..frontend.kernel_solve import KernelSolve

_NAMES = {np.dtype(name): name for name in ("float16", "float32", "float64")}  # numpy takes longer to find them


class NumpyLibrary:
    """The functions of an LazyLibrary, for the Genred and the KernelSolve of kernelops.numpy."""

    noun = "a numpy array"
    door = "kernelops.numpy"

    def __init__(self, genred: type[Genred], kernel_solve: type[KernelSolve]) -> None:
        self.genred, self.kernel_solve = genred, kernel_solve

    @staticmethod
    def is_array(x: Any) -> bool:
        return isinstance(x, np.ndarray) or (not isinstance(x, _PLAIN) and not is_tensor(x) and on_device(x))

    @staticmethod
    def check(x: Any) -> None:
        if type(x) is np.ndarray:
            return
        if isinstance(x, np.ma.MaskedArray):
            raise DtypeError("wanted a plain array, got a masked one; .filled(value) makes a plain one of it")
        if isinstance(x, np.matrix):
            raise DtypeError("wanted a plain array, got a numpy.matrix; np.asarray makes a plain one of it")

    @staticmethod
    def is_complex(x: Any) -> bool:
        return bool(np.dtype(x.dtype).kind == "c")

    @staticmethod
    def dtype_name(x: Any) -> str:
        return _NAMES.get(x.dtype) or str(np.dtype(x.dtype).name)

    @staticmethod
    def drop_axis(x: Any, axis: int) -> Any:
        if isinstance(x, np.ndarray):
            return x.squeeze(axis)
        shape = list(x.shape)
        del shape[axis]
        return x.reshape(tuple(shape))

    @staticmethod
    def parameter(values: Sequence[float], dtype: str | None, like: Any) -> Any:
        found = np.asarray(values, dtype or np.float64)
        if like is None or isinstance(like, np.ndarray):
            return found
        # a number is a parameter for a GPU too, without a copy
        return float(found[0]) if len(found) == 1 else library_like(device_view(like, "an array")).from_host(found)

    @staticmethod
    def concatenate(parts: Sequence[Any]) -> Any:
        return _module(parts[0]).concatenate(parts, -1)

    @staticmethod
    def exchange_axes(x: Any) -> Any:
        return x.swapaxes(-1, -2)

    @staticmethod
    def join_complex(real: Any, imaginary: Any) -> Any:
        module = _module(real)
        joined = module.empty(real.shape, np.result_type(real.dtype, np.complex64))
        joined.real, joined.imag = real, imaginary  # 1j * imaginary would make nan of an infinite one
        return joined

    @staticmethod
    def broadcast(x: Any, shape: tuple[int, ...]) -> Any:
        return _module(x).broadcast_to(x, shape).copy()

    @staticmethod
    def keep(x: Any, mask: Any) -> Any:
        module = _module(x)
        return module.where(module.asarray(mask), x, x.dtype.type(0))

    @staticmethod
    def take(x: Any, indices: Any) -> Any:
        return x[..., _module(x).asarray(indices), :]

    @staticmethod
    def to_host(x: Any) -> Any:
        return x


_PLAIN = (int, float, complex, str, list, tuple, np.generic, type(None))  # what is no array, asked first


def _module(x: Any) -> Any:
    """The module whose functions take x: numpy, or CuPy."""
    if isinstance(x, np.ndarray):
        return np
    module = sys.modules.get(type(x).__module__.split(".")[0])
    if module is None or not hasattr(module, "broadcast_to"):
        raise BackendError(f"this wants an array of numpy or CuPy, got {type(x).__module__}.{type(x).__name__}")
    return module
