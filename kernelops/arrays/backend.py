"""The backend that a call asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, BackendError
from ..formula.tokens import nearest
from .device_array import on_device

BACKENDS = (
    *("auto", "CPU", "GPU", "GPU_1D", "GPU_1D_device", "GPU_1D_host"),
    *("GPU_2D", "GPU_2D_device", "GPU_2D_host"),
)


def check_backend(backend: Any, device_id: Any, args: Sequence[Any]) -> int | None:
    """The GPU that arrays of the host are sent to, -1 for the current one, or None; what does not fit is refused."""
    if backend not in BACKENDS:
        hint = nearest(backend, BACKENDS) if isinstance(backend, str) else ""
        raise BackendError(f"backend: wanted one of {', '.join(BACKENDS)}, got {backend!r}{hint}")
    if isinstance(device_id, bool) or not isinstance(device_id, (int, np.integer)) or device_id < -1:
        raise ArgumentError(f"device_id: wanted the number of a GPU, or -1, got {device_id!r}")
    if backend == "CPU":
        for k, a in enumerate(args):
            if on_device(a):
                raise BackendError(
                    f'backend = "CPU", but argument {k} is on a GPU: copy it to the host first, or leave backend away'
                )
    return int(device_id) if backend.startswith("GPU") else None
