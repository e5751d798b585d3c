"""Orders of rows: is this a permutation, are two orders one, where does each row stand."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import RangesError
from .validate import as_int64


def check_permutation(name: str, order: Any) -> np.ndarray | None:
    """An order as int64, checked; None stays None."""
    if order is None:
        return None
    order = as_int64(name, order)
    if order.ndim != 1:
        raise RangesError(f"{name}: wanted a permutation of 0 to n - 1, shape (n,), got shape {order.shape}")
    missing = np.setdiff1d(np.arange(len(order)), order)
    if len(missing):
        raise RangesError(f"{name}: wanted a permutation of 0 to {len(order) - 1}, got no {missing[0]} in it")
    return order


def inverse_permutation(order: np.ndarray) -> np.ndarray:
    """The position of each row in an order."""
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places


def is_same_order(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """Whether two orders are one; None is that of the rows as they stand."""
    if a is b:
        return True
    known = a if b is None else b
    assert known is not None
    rows = np.arange(len(known))
    return np.array_equal(rows if a is None else a, rows if b is None else b)
