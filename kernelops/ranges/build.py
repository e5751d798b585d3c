"""How ranges are made from less than their six arrays; ranges.py says what each way means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..errors import RangesError
from .clusters import Clusters, box_distances, boxes, by_labels, centres, consecutive, points_of, split
from .halves import Half, as_array, checked_half, pairs_of, what, whole

ROWS = 64  # of one piece of work in the engine
COLUMNS = 256  # of one of its tiles
BEGIN = 8.0  # what it costs to begin a piece of a tile for a row, in columns


class Built(NamedTuple):
    """The halves of ranges, which hold the same pairs, and the orders of the rows."""

    i_half: Half
    j_half: Half
    order_i: np.ndarray | None = None
    order_j: np.ndarray | None = None


def count(name: str, value: Any, least: int) -> int:
    """A whole number of at least so much."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise RangesError(f"{name}: wanted a whole number of at least {least}, got {value!r}")
    return int(value)


def radius(name: str, r: Any) -> float:
    """A distance."""
    if isinstance(r, bool) or not isinstance(r, (int, float, np.integer, np.floating)) or not r >= 0:
        raise RangesError(f"{name}: wanted a distance, a number of at least 0, got {r!r}")
    return float(r)


def meeting(i: Clusters, j: Clusters, keep: np.ndarray) -> Built:
    """Clusters of i and of j, and which meets which."""
    if keep.dtype != bool or keep.shape != (len(i.blocks), len(j.blocks)):
        wanted = f"({len(i.blocks)}, {len(j.blocks)})"
        raise RangesError(f"keep: wanted booleans of shape {wanted}, got {keep.dtype} of shape {keep.shape}")
    halves = []
    names = (("ranges_i", "keep", "ranges_j"), ("ranges_j", "keep", "ranges_i"))
    for name, own, other, held in zip(names, (i, j), (j, i), (keep, keep.T), strict=True):
        halves.append(checked_half(name, (own.blocks, held.sum(1).cumsum(), other.blocks[held.nonzero()[1]])))
    return Built(*halves, i.order, j.order)


def from_mask(i: Any, j: Any, keep: np.ndarray) -> Built:
    """From labels, or from clusters of rows."""
    return meeting(*(_clusters(name, a) for name, a in (("i", i), ("j", j))), keep)


def _clusters(letter: str, a: Any) -> Clusters:
    if as_array(letter, a).ndim == 1 and np.size(as_array(letter, a)):
        return by_labels(f"labels_{letter}", a)
    return Clusters(pairs_of(f"ranges_{letter}", a), None)


def from_clusters(
    x: Any, y: Any, keep: float | Callable[..., Any], labels_i: Any, labels_j: Any, points_per_cluster: Any
) -> Built:
    """From clusters of points, by a radius or a rule."""
    points_per_cluster = count("points_per_cluster", points_per_cluster, 1)
    points = points_of("x", x), points_of("y", y)
    if points[0].shape[1] != points[1].shape[1]:
        raise RangesError(f"y: wanted points of {points[0].shape[1]} coordinates as x has, got {points[1].shape[1]}")
    given = (("labels_i", labels_i, points[0]), ("labels_j", labels_j, points[1]))
    i, j = (_labelled(*one, points_per_cluster) for one in given)
    if callable(keep):
        found = as_array("keep", keep(centres(points[0], i), centres(points[1], j)))
    else:
        r = radius("keep", keep)
        found = box_distances(boxes(points[0], i), boxes(points[1], j)) <= r
    return meeting(i, j, found)


def _labelled(name: str, labels: Any, x: np.ndarray, points_per_cluster: int) -> Clusters:
    if labels is None:
        return split(x, points_per_cluster)
    if np.shape(whole(name, labels)) != (len(x),):
        raise RangesError(
            f"{name}: wanted one label for each point, shape ({len(x)},), got {what(as_array(name, labels))}"
        )
    return by_labels(name, labels)


def band(n: Any, width: Any, block: Any) -> Built:
    """|i - j| <= width, widened to blocks."""
    n, width, block = count("n", n, 0), count("width", width, 0), count("block", block, 1)
    blocks = consecutive(n, block)
    first, last = ((blocks[:, 0] - width).clip(0), (blocks[:, 1] + width).clip(0, n))
    spans = np.stack([first // block * block, np.minimum(-(-last // block) * block, n)], axis=1)
    half = Half(blocks, np.arange(1, len(blocks) + 1), spans)
    return Built(half, half)


def lower_triangular(n: Any, block: Any) -> Built:
    """j <= i, widened to blocks."""
    blocks = consecutive(count("n", n, 0), count("block", block, 1))
    ends = np.arange(1, len(blocks) + 1)
    left = np.stack([np.zeros_like(blocks[:, 0]), blocks[:, 1]], axis=1)
    right = np.stack([blocks[:, 0], np.full_like(blocks[:, 0], n)], axis=1)
    return Built(Half(blocks, ends, left), Half(blocks, ends, right))


def work(half: Half) -> float:
    """Columns that the engine goes through for all rows, and what it costs to begin, in columns."""
    begin, end = half.intervals.T
    pieces = (end - 1) // COLUMNS - begin // COLUMNS + 1
    columns = end - begin + BEGIN * pieces
    heights = (half.blocks[:, 1] - half.blocks[:, 0])[half.owners()]
    return float((heights * columns).sum())
