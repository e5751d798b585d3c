"""Checks of the user's input: arrays, whole numbers, distances."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import RangesError

LARGEST_INT64 = int(np.iinfo(np.int64).max)


def describe(a: Any) -> str:
    """A description of what came, for an error: its type, and the shape and the dtype of an array."""
    shape = getattr(a, "shape", None)
    return type(a).__name__ if shape is None else f"{type(a).__name__} of {a.dtype} of shape {tuple(shape)}"


def as_array(name: str, a: Any) -> np.ndarray:
    """Anything like an array as a numpy array."""
    try:
        if hasattr(a, "detach"):  # a torch tensor, on any device
            a = a.detach().cpu().numpy()
        return np.asarray(a)
    except (TypeError, ValueError):
        raise RangesError(f"{name}: wanted an array, got {describe(a)}") from None


def as_int64(name: str, a: Any) -> np.ndarray:
    """Integers as int64, a copy."""
    array = as_array(name, a)
    if array.size == 0 and not hasattr(a, "dtype"):
        array = array.astype(np.int64)  # an empty list has no type of its own
    if array.dtype.kind not in "iu":
        raise RangesError(
            f"{name}: wanted integers, got {describe(a if hasattr(a, 'shape') or not array.ndim else array)}"
        )
    if array.dtype == np.uint64 and array.size and int(array.max()) > LARGEST_INT64:
        raise RangesError(f"{name}: {array.max()} does not fit int64")
    return array.astype(np.int64)


def check_count(name: str, value: Any, least: int = 0) -> int:
    """A number, checked to be whole and at least so large."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise RangesError(f"{name}: wanted a whole number of at least {least}, got {_short(value)}")
    if value > LARGEST_INT64:
        raise RangesError(f"{name}: wanted a whole number that fits int64, got {value}")
    return int(value)


def check_distance(name: str, r: Any) -> float:
    """A number, checked to be at least 0."""
    if isinstance(r, bool) or not isinstance(r, (int, float, np.integer, np.floating)) or not r >= 0:
        raise RangesError(f"{name}: wanted a distance, a number of at least 0, got {_short(r)}")
    try:
        return float(r)
    except OverflowError:
        raise RangesError(f"{name}: wanted a distance that fits float64, got {len(str(r))} digits") from None


def _short(value: Any) -> str:
    return describe(value) if hasattr(value, "shape") and value.shape else repr(value)
