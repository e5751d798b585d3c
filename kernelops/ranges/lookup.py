"""Questions about single pairs and about orders: is (i, j) held, is this a permutation, are two orders one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import RangesError
from .halves import Half, whole

TABLE = 1 << 26  # entries of a table of blocks, a byte each, up to which there is one


def permutation(name: str, order: Any) -> np.ndarray | None:
    """An order as int64, checked; None stays None."""
    if order is None:
        return None
    order = whole(name, order)
    if order.ndim != 1 or not np.array_equal(np.sort(order), np.arange(len(order))):
        raise RangesError(f"{name}: wanted a permutation of 0 to n - 1, shape (n,), got shape {order.shape}")
    return order


def inverse(order: np.ndarray) -> np.ndarray:
    """Where each row stands in an order."""
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places


def same_order(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """Whether two orders are one; None is that of the rows as they stand."""
    if a is b:
        return True
    known = a if b is None else b
    assert known is not None
    rows = np.arange(len(known))
    return np.array_equal(rows if a is None else a, rows if b is None else b)


class Lookup:
    """Which pairs (i, j) a half holds, asked for many at once.

    Both indices are cut where a block or an interval begins or ends. The number of its piece is looked up for i and for
    j, each alone; which pieces meet stands in a table, or, where that would be large, in a sorted list.
    """

    def __init__(self, half: Half) -> None:
        blocks, _, intervals = half
        owners = half.owners()
        self.cuts = np.unique(blocks), np.unique(intervals)
        begin, end = (np.searchsorted(self.cuts[1], intervals[:, k]) for k in (0, 1))
        count = end - begin
        column = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - begin, count)
        first, last = (np.searchsorted(self.cuts[0], blocks[:, k]) for k in (0, 1))
        row = np.repeat(np.where(first < last, first, -1)[owners], count)
        # pieces are counted from 1; 0 is what lies before the first one
        self.width = len(self.cuts[1]) + 1
        keys = (row + 1) * self.width + column + 1
        self.keys = np.sort(keys[row >= 0])
        self.table: np.ndarray | None = None
        if (len(self.cuts[0]) + 1) * self.width <= TABLE:
            self.table = np.zeros((len(self.cuts[0]) + 1) * self.width, bool)
            self.table[self.keys] = True

    def __call__(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Whether (i, j) is held; i and j broadcast, after their pieces are found."""
        keys = np.searchsorted(self.cuts[0], i, side="right") * self.width
        keys = keys + np.searchsorted(self.cuts[1], j, side="right")
        if self.table is not None:
            return self.table[keys]
        if not len(self.keys):
            return np.zeros(keys.shape, bool)
        return self.keys[np.searchsorted(self.keys, keys).clip(0, len(self.keys) - 1)] == keys
