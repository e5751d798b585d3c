"""Permutations of arrays to the order of ranges, and of results back to that of the arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from .arguments import Arguments


def permute_rows(arguments: Arguments, orders: Mapping[int, np.ndarray | None]) -> Arguments:
    """The arrays at these positions with their rows in an order; one array in one order is sorted once."""
    arrays, done = list(arguments.arrays), {}
    for p, order in orders.items():
        a = arrays[p]
        if order is None or a is None:
            continue
        same = a.__array_interface__["data"][0], a.shape, a.strides, a.dtype.str, id(order)
        if same not in done:
            done[same] = _take_rows(a, order)
        arrays[p] = done[same]
    return arguments._replace(arrays=tuple(arrays))


def _take_rows(a: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Rows of a in an order, or some of them; batch elements that are one memory stay so."""
    once = a[tuple(slice(1 if step == 0 else None) for step in a.strides[:-2])]
    return np.broadcast_to(np.take(once, order, axis=-2), (*a.shape[:-2], len(order), a.shape[-1]))


def restore_order(
    raw: Iterable[np.ndarray | None], rows: np.ndarray | None, columns: np.ndarray | None, lead: int
) -> list[np.ndarray | None]:
    """The sums, maxima, values, indices and entries of an engine, by the rows and columns of the arrays as they came.

    lead is the number of batch dimensions; the next one is that of rows, and entries have one of columns behind it.
    """
    sums, maxima, values, indices, entries = (_scatter(a, rows, lead) for a in raw)
    if columns is not None:
        entries = _scatter(entries, columns, lead + 1)
        indices = None if indices is None else _map_positions(indices, columns)
    return [sums, maxima, values, indices, entries]


def _scatter(a: np.ndarray | None, order: np.ndarray | None, axis: int) -> np.ndarray | None:
    if a is None or order is None:
        return a
    found = np.empty_like(a)
    found[(slice(None),) * axis + (order,)] = a
    return found


def _map_positions(positions: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The columns at some positions; -1, which stands for none, stays."""
    return np.append(columns, -1).take(positions)
