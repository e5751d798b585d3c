"""Helpers for blocks of tensors: dtypes, copies to and from a device, products of matrices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

PINNED = 1 << 20  # bytes up to which arrays are copied to a device through pinned memory, which torch keeps
PROMOTED = 1 << 24  # number of entries of a block that are promoted to float64 at a time: 128 MiB

OF_NUMPY = {np.dtype(str(t).removeprefix("torch.")): t for t in (torch.float16, torch.float32, torch.float64)}
OF_NUMPY |= {np.dtype(np.complex64): torch.complex64, np.dtype(np.complex128): torch.complex128}
OF_TORCH = {t: d for d, t in OF_NUMPY.items()}


def sum_dtype(x: torch.Tensor) -> torch.dtype:
    """The dtype in which numbers of a block are summed."""
    return torch.complex128 if x.is_complex() else torch.float64


def on(device: torch.device, a: np.ndarray) -> torch.Tensor:
    """A numpy array as a tensor on a device. The host does not wait for a small one, which arrives before later work.

    On the host it shares the memory of a, if a can be written and is in C order.
    """
    tensor = torch.from_numpy(np.require(a, requirements=["C", "W"]))
    if device.type == "cpu" or a.nbytes > PINNED:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def row_chunks(x: torch.Tensor) -> Iterator[tuple[Any, ...]]:
    """Slices of rows that cover x, of at most CHUNK numbers each (at least one row)."""
    n = x.shape[-2]
    length = max(1, PROMOTED * n // max(1, x.numel()))
    for first in range(0, n, length):
        yield ..., slice(first, first + length), slice(None)


def product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x y with the digits of its dtype, even if the process allows TF32 for products in float32.

    TF32 keeps 10 bits: r, updated with it, would leave b - A x at once, and a preconditioner would not be symmetric.
    """
    if x.is_cuda and x.dtype is torch.float32 and _uses_tf32():
        return (x.to(torch.float64) @ y.to(torch.float64)).to(torch.float32)
    return x @ y


def _uses_tf32() -> bool:
    """Whether float32 products of matrices go by TF32 on a GPU."""
    settings: Any = torch.backends.cuda.matmul
    if hasattr(settings, "fp32_precision"):  # from torch 2.9 on; there the older word may raise
        return bool(settings.fp32_precision == "tf32")
    return bool(settings.allow_tf32)
