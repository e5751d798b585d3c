"""Libraries that hold arrays on a GPU: results go to the one whose arrays came in, or to the host."""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import prod
from typing import Any, Protocol

import numpy as np

from ..gpu.device import Device, device
from .arguments import Arguments, compute_dtype
from .device_array import DeviceArray, device_view


class ArrayLibrary(Protocol):
    """A library that holds arrays on a GPU.

    Attributes
    ----------
    stream : int or None
        The stream that its work goes to now.
    """

    stream: int | None

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        """Memory of the GPU, its numbers unwritten."""

    def wrap(self, a: DeviceArray) -> Any:
        """An array that ``empty`` has made, as the library's own."""

    def from_host(self, a: np.ndarray) -> Any:
        """An array of the host, copied to the library."""


class Host:
    """Results are copied to the host; work goes to the stream of the arrays, if these have one."""

    def __init__(self, gpu: Device, beside: ArrayLibrary | None = None) -> None:
        self.gpu, self.stream = gpu, None if beside is None else beside.stream

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        memory = self.gpu.allocate(prod(shape) * dtype.itemsize)
        return DeviceArray(memory.pointer, shape, None, dtype, self.gpu.number, memory, "host")

    def wrap(self, a: DeviceArray) -> Any:
        return self.gpu.download(a.pointer, a.shape, a.dtype, self.stream)

    def from_host(self, a: np.ndarray) -> Any:
        return a


class Torch:
    """Tensors, on the device of one that came in; memory and order are those of torch's current stream."""

    def __init__(self, like: Any) -> None:
        self.like = like
        torch = sys.modules["torch"]
        self.stream = torch.cuda.current_stream(like.device).cuda_stream if like.is_cuda else None

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        return device_view(self.like.new_empty(shape, dtype=getattr(sys.modules["torch"], dtype.name)), "result")

    def wrap(self, a: DeviceArray) -> Any:
        return a.owner

    def from_host(self, a: np.ndarray) -> Any:
        return sys.modules["torch"].from_numpy(np.ascontiguousarray(a)).to(self.like.device)


class Cupy:
    """CuPy's arrays, in the order of its current stream."""

    def __init__(self, gpu: Device) -> None:
        self.gpu = gpu
        self.cupy = sys.modules["cupy"]
        with self.cupy.cuda.Device(gpu.number):
            self.stream = self.cupy.cuda.get_current_stream().ptr

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        with self.cupy.cuda.Device(self.gpu.number):
            return device_view(self.cupy.empty(shape, dtype), "result")

    def wrap(self, a: DeviceArray) -> Any:
        return a.owner

    def from_host(self, a: np.ndarray) -> Any:
        with self.cupy.cuda.Device(self.gpu.number):
            return self.cupy.asarray(a)


class Pycuda:
    """PyCUDA's GPUArrays, on the default stream; what is of no library known here gets them too."""

    stream = None

    def __init__(self, gpu: Device) -> None:
        self.gpu = gpu

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        from pycuda.gpuarray import empty

        with self.gpu.current():
            return device_view(empty(shape, dtype), "result", self.gpu.number)

    def wrap(self, a: DeviceArray) -> Any:
        return a.owner

    def from_host(self, a: np.ndarray) -> Any:
        from pycuda.gpuarray import to_gpu

        with self.gpu.current():
            return to_gpu(np.ascontiguousarray(a))


def library_of(arguments: Arguments, gpu: Device) -> ArrayLibrary:
    """The library of a call's results."""
    on_device = {a.library: a for a in arguments.arrays if isinstance(a, DeviceArray)}
    if arguments.library != "host":
        return library_like(on_device[arguments.library], gpu)
    other = next((a for name, a in on_device.items() if name != "host"), None)
    return Host(gpu, None if other is None else library_like(other, gpu))


def library_like(a: DeviceArray, gpu: Device | None = None) -> ArrayLibrary:
    """The library of an array on a GPU."""
    if a.library == "torch":
        return Torch(a.owner)
    return {"cupy": Cupy, "pycuda": Pycuda, "host": Host}[a.library](device(a.device) if gpu is None else gpu)


def to_library(arguments: Arguments, a: np.ndarray) -> Any:
    """An array of the host in the library that the results of a call belong to."""
    return a if arguments.library == "host" else library_of(arguments, device(arguments.device or 0)).from_host(a)


def arguments_to_host(arguments: Arguments) -> Arguments:
    """The arguments with all arrays on the host; float16 becomes float32, as everywhere on the host."""
    if arguments.device is None:
        return arguments
    arrays = [to_host(a) if isinstance(a, DeviceArray) else a for a in arguments.arrays]
    return arguments._replace(arrays=tuple(arrays), device=None, library="host")


def to_host(a: DeviceArray) -> np.ndarray:
    """A copy on the host, made once."""
    if a.host is None:
        if a.library == "torch":  # its library knows what its stream has still to do
            a.host = _strided_view(a, sys.modules["torch"].as_strided).cpu().numpy()
        elif a.library == "cupy":
            a.host = _strided_view(a, sys.modules["cupy"].lib.stride_tricks.as_strided).get()
        else:
            a.host = _copy_with_gaps(a)
        a.host = a.host.astype(compute_dtype(a.dtype), copy=False)
    return a.host


def _strided_view(a: DeviceArray, as_strided: Callable[..., Any]) -> Any:
    """The array in its library, in the shape of the DeviceArray."""
    size = a.dtype.itemsize
    if a.library == "torch":
        offset = a.owner.storage_offset() + (a.pointer - a.owner.data_ptr()) // size
        return as_strided(a.owner, a.shape, [s // size for s in a.strides], offset)
    assert a.pointer == a.owner.data.ptr
    return as_strided(a.owner, a.shape, a.strides)


def _copy_with_gaps(a: DeviceArray) -> np.ndarray:
    """A copy of the memory from the first number to the last; if the array has gaps, these come along."""
    if a.size == 0:
        return np.empty(a.shape, a.dtype)
    steps = [(size - 1) * stride for size, stride in zip(a.shape, a.strides, strict=True)]
    first, last = sum(min(s, 0) for s in steps), sum(max(s, 0) for s in steps)
    nbytes = last - first + a.dtype.itemsize
    memory = device(a.device).download(a.pointer + first, (nbytes,), np.dtype(np.uint8))
    return np.ndarray(a.shape, a.dtype, memory, -first, a.strides)
