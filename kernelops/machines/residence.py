"""Arrays that are used again and again, brought to the GPU that computes with them."""

from __future__ import annotations

import numpy as np

from ..arrays import Bound
from ..gpu.device import device
from .gpu import uploaded


def resident(bound: Bound, left_out: int = -1) -> Bound:
    """The arrays in the memory of the GPU of the call, one copy of each, but for the one at a position."""
    if bound.device is None:
        return bound
    gpu, done, arrays = device(bound.device), {}, list(bound.arrays)
    for p, a in enumerate(arrays):
        if p != left_out and isinstance(a, np.ndarray):
            same = a.__array_interface__["data"][0], a.shape, a.strides, a.dtype.str
            if same not in done:
                done[same] = uploaded(a, gpu)
            arrays[p] = done[same]
    if done:
        gpu.synchronise()  # kernels of any stream may read them from now on
    return bound._replace(arrays=tuple(arrays), device=gpu.number)
