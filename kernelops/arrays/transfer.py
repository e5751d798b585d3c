"""Copies of arrays to the GPU that computes with them, for calls that use them again and again."""

from __future__ import annotations

import numpy as np

from ..gpu.device import Device, device
from .arguments import Arguments
from .device_array import DeviceArray


def to_device(arguments: Arguments, left_out: int = -1) -> Arguments:
    """The arguments with all arrays but one on the GPU of the call; equal arrays share one copy."""
    if arguments.device is None:
        return arguments
    gpu, done, arrays = device(arguments.device), {}, list(arguments.arrays)
    for p, a in enumerate(arrays):
        if p != left_out and isinstance(a, np.ndarray):
            same = a.__array_interface__["data"][0], a.shape, a.strides, a.dtype.str
            if same not in done:
                done[same] = upload(a, gpu)
            arrays[p] = done[same]
    if done:
        gpu.synchronise()  # kernels of any stream may read them from now on
    return arguments._replace(arrays=tuple(arrays), device=gpu.number)


def upload(a: np.ndarray, gpu: Device, stream: int | None = None) -> DeviceArray:
    """A copy of an array of the host, whose rows and batch elements that are one memory stay so."""
    once = a[tuple(slice(1 if step == 0 else None) for step in a.strides)]
    once = np.ascontiguousarray(once)
    memory = gpu.upload(once, stream)
    strides = tuple(0 if step == 0 else new for step, new in zip(a.strides, once.strides, strict=True))
    return DeviceArray(memory.pointer, a.shape, strides, a.dtype, gpu.number, memory, "host", a)
