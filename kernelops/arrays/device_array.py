"""Arrays in the memory of a GPU, as any library shows them: torch, CuPy, PyCUDA and all that speak their protocols.

Nothing here touches a GPU, or imports what would.
"""

from __future__ import annotations

import sys
from itertools import accumulate
from math import prod
from operator import mul
from typing import Any

import numpy as np

from ..errors import BackendError, DtypeError

CUDA = 2  # DLPack's number for the memory of NVIDIA's GPUs


class DeviceArray:
    """Numbers in the memory of a GPU.

    Attributes
    ----------
    pointer : int
        Address of the first number.
    shape, strides : tuple of int
        Strides in bytes.
    dtype : dtype
    device : int
        Number of the GPU.
    owner : object
        What keeps the memory.
    library : str
        The library whose array it is, and which is to hold results: "torch", "cupy", "pycuda", or "host" for a copy of
        an array of the host.
    host : ndarray or None
        The same numbers on the host, if they are known.
    stream : int or None
        The stream that is still to write them, if the array names one.
    """

    __slots__ = ("device", "dtype", "library", "host", "owner", "pointer", "shape", "stream", "strides")

    def __init__(
        self,
        pointer: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None,
        dtype: np.dtype,
        device: int,
        owner: Any,
        library: str,
        host: np.ndarray | None = None,
        stream: int | None = None,
    ) -> None:
        if strides is None:  # the protocols' word for an array in C order
            strides = tuple(accumulate(shape[:0:-1], mul, initial=dtype.itemsize))[::-1] if shape else ()
        self.pointer, self.shape, self.strides, self.dtype = pointer, shape, strides, dtype
        self.device, self.owner, self.library, self.host, self.stream = device, owner, library, host, stream

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def contiguous(self) -> bool:
        """Whether the numbers lie one after another in C order."""
        step = self.dtype.itemsize
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size > 1 and stride != step:
                return False
            step *= size
        return True

    def vector(self) -> DeviceArray:
        """A single number as an array of one."""
        return self.view((1,), (self.dtype.itemsize,), None if self.host is None else self.host.reshape(1))

    def as_row(self) -> DeviceArray:
        """(..., D) as (..., 1, D)."""
        shape, strides = (*self.shape[:-1], 1, self.shape[-1]), (*self.strides[:-1], 0, self.strides[-1])
        return self.view(shape, strides, None if self.host is None else self.host[..., None, :])

    def view(self, shape: tuple[int, ...], strides: tuple[int, ...], host: np.ndarray | None = None) -> DeviceArray:
        """The same memory in another shape."""
        rest = self.device, self.owner, self.library, host, self.stream
        return DeviceArray(self.pointer, shape, strides, self.dtype, *rest)

    def __repr__(self) -> str:
        return f"DeviceArray({self.dtype} of shape {self.shape} on GPU {self.device}, of {self.library})"


def on_device(a: Any) -> bool:
    """Whether a is an array in the memory of a GPU."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(a, torch.Tensor):
        return bool(a.is_cuda)
    if isinstance(a, (np.ndarray, np.generic, int, float)):
        return False
    return hasattr(a, "__cuda_array_interface__") or _gives_gpu_memory(a)


def _gives_gpu_memory(a: Any) -> bool:
    tells = getattr(a, "__dlpack_device__", None)
    return tells is not None and int(tells()[0]) == CUDA


def device_view(a: Any, name: str, device: int = -1) -> DeviceArray:
    """An array on a GPU as a DeviceArray; device is its number if the array does not tell."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(a, torch.Tensor):
        return _view_of_tensor(a, name)
    if not hasattr(a, "__cuda_array_interface__"):
        if torch is None:
            raise DtypeError(f"{name}: to take a {type(a).__name__} by DLPack, import torch first")
        return _view_of_tensor(torch.from_dlpack(a), name)
    said = a.__cuda_array_interface__
    if said.get("mask") is not None:
        raise DtypeError(f"{name} is a masked array: wanted a plain one")
    library = type(a).__module__.split(".")[0]
    library = library if library in ("cupy", "pycuda") else "pycuda"
    number = getattr(getattr(a, "device", None), "id", None)
    return DeviceArray(
        int(said["data"][0] or 0),
        tuple(map(int, said["shape"])),
        None if said.get("strides") is None else tuple(map(int, said["strides"])),
        np.dtype(said["typestr"]),
        max(device, 0) if number is None else int(number),
        a,
        library,
        stream=said.get("stream"),
    )


def _view_of_tensor(a: Any, name: str) -> DeviceArray:
    """A view of a dense tensor of numbers."""
    torch = sys.modules["torch"]
    if a.layout is not torch.strided:
        raise DtypeError(f"{name} is a tensor of layout {a.layout}: wanted a dense one, as .to_dense() gives")
    if a.dtype is torch.bfloat16:
        raise DtypeError(f"{name} is bfloat16: wanted float16, float32 or float64")
    a = a.detach().resolve_conj().resolve_neg()
    if a._is_zerotensor():  # has no memory
        a = a.clone()
    try:
        dtype = np.dtype(str(a.dtype).removeprefix("torch."))
    except TypeError:
        raise DtypeError(f"{name} is {a.dtype}: wanted float16, float32 or float64") from None
    strides = tuple(s * dtype.itemsize for s in a.stride())
    return DeviceArray(a.data_ptr(), tuple(a.shape), strides, dtype, a.device.index or 0, a, "torch")


def common_device(found: dict[str, Any], device: int | None) -> tuple[int, str]:
    """The GPU of all these arrays, by their names, and their library; device is the one that was asked for.

    Raises
    ------
    BackendError
        If some are on the host and some on a GPU, or on different GPUs.
    """
    first = next(((name, a) for name, a in found.items() if isinstance(a, DeviceArray)), None)
    if first is None:
        raise BackendError("a number is on a GPU, the arrays are on the host: give it as a number, float(...)")
    name, a = first
    for other, b in found.items():
        its, first_one = _device_name(b), _device_name(a)
        if its != first_one:
            raise BackendError(
                f"{other} is on {its}, {name} is on {first_one}: all arrays of a call must be on one device"
            )
    if device is not None and device not in (-1, a.device):
        raise BackendError(f"device_id = {device}, but {name} is on GPU {a.device}")
    return a.device, a.library


def _device_name(a: Any) -> str:
    return f"GPU {a.device}" if isinstance(a, DeviceArray) else "the host"
