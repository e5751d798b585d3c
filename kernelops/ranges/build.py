"""Ranges made from less than their six arrays; ranges.py documents each way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array, issparse

from ..errors import RangesError
from .block_rows import BlockRows, check_block_rows, check_pairs
from .clusters import (
    Clusters,
    boxes,
    boxes_within,
    centres,
    check_points,
    clusters_of_labels,
    consecutive_blocks,
    split,
)
from .validate import as_array, as_int64, check_count, check_distance, describe

COLUMNS = 256  # a tile of the engine has so many columns
BEGIN, ROW = 12.0, 64.0  # beginning a piece of a tile for a row, and a row itself, take as long as so many columns


class Built(NamedTuple):
    """The block rows of i and of j, which hold the same pairs, and the orders of the rows."""

    i_rows: BlockRows
    j_rows: BlockRows
    order_i: np.ndarray | None = None
    order_j: np.ndarray | None = None


def from_keep(i: Clusters, j: Clusters, keep: Any, names: tuple[str, str] = ("ranges_i", "ranges_j")) -> Built:
    """From clusters of i and of j, and which meets which."""
    held = _held_pairs(keep, (len(i.blocks), len(j.blocks)))
    halves = []
    for named, own, other, table in ((names, i, j, held), (names[::-1], j, i, held.T.tocsr())):
        three = own.blocks, table.indptr[1:], other.blocks[table.indices]
        halves.append(check_block_rows((named[0], "keep", named[1]), three))
    return Built(*halves, i.order, j.order)


def _held_pairs(keep: Any, wanted: tuple[int, int]) -> csr_array:
    """The clusters that meet, as a sparse matrix without zeros; keep is one too, or a table."""
    if issparse(keep):
        if keep.dtype != bool or keep.shape != wanted:
            raise RangesError(
                f"keep: wanted booleans of shape {wanted}, got a sparse array of {keep.dtype}, {keep.shape}"
            )
        held = csr_array(keep, copy=True)
        held.sum_duplicates()
        held.eliminate_zeros()
        return held
    table = as_array("keep", keep)
    if table.dtype != bool or table.shape != wanted:
        came = keep if hasattr(keep, "shape") or not table.ndim else table
        raise RangesError(f"keep: wanted booleans of shape {wanted}, got {describe(came)}")
    return csr_array(table)


def from_mask(i: Any, j: Any, keep: Any) -> Built:
    """From labels, or from clusters of rows."""
    shape = keep.shape if issparse(keep) else as_array("keep", keep).shape
    counts = shape if len(shape) == 2 else (0, 0)  # clusters that no label names may be the last ones
    return from_keep(_clusters("i", i, counts[0]), _clusters("j", j, counts[1]), keep, ("i", "j"))


def _clusters(name: str, a: Any, clusters: int) -> Clusters:
    shape = as_int64(name, a).shape
    if len(shape) == 1:
        return clusters_of_labels(name, a, clusters)
    if shape[1:] != (2,):
        raise RangesError(f"{name}: wanted labels of shape (n,) or clusters of shape (C, 2), got {describe(a)}")
    return Clusters(check_pairs(name, a), None)


def from_clusters(
    x: Any, y: Any, keep: float | Callable[..., Any], labels_i: Any, labels_j: Any, points_per_cluster: Any
) -> Built:
    """From clusters of points, by a radius or a rule."""
    points_per_cluster = check_count("points_per_cluster", points_per_cluster, 1)
    r = None if callable(keep) else check_distance("keep", keep)
    points = check_points("x", x), check_points("y", y)
    if points[0].shape[1] != points[1].shape[1]:
        raise RangesError(f"y: wanted points of {points[0].shape[1]} coordinates as x has, got {points[1].shape[1]}")
    i = _clusters_of_points("labels_i", labels_i, points[0], points_per_cluster)
    shared = x is y and labels_i is labels_j
    j = i if shared else _clusters_of_points("labels_j", labels_j, points[1], points_per_cluster)
    if r is None:
        return from_keep(i, j, keep(centres(points[0], i), centres(points[1], j)))
    return from_keep(i, j, boxes_within(boxes(points[0], i), boxes(points[1], j), r))


def _clusters_of_points(name: str, labels: Any, x: np.ndarray, points_per_cluster: int) -> Clusters:
    if labels is None:
        return split(x, points_per_cluster)
    found = as_int64(name, labels)
    if found.shape != (len(x),):
        raise RangesError(f"{name}: wanted one label for each point, shape ({len(x)},), got shape {found.shape}")
    return clusters_of_labels(name, found)


def band(n: Any, width: Any, block: Any) -> Built:
    """|i - j| <= width, widened to blocks."""
    n, width, block = check_count("n", n), check_count("width", width), check_count("block", block, 1)
    width, block = min(width, n), min(block, max(n, 1))
    blocks = consecutive_blocks(n, block)
    first, last = ((blocks[:, 0] - width).clip(0), (blocks[:, 1] + width).clip(0, n))
    spans = np.stack([first // block * block, np.minimum(-(-last // block) * block, n)], axis=1)
    block_rows = BlockRows(blocks, np.arange(1, len(blocks) + 1), spans)
    return Built(block_rows, block_rows)


def lower_triangular(n: Any, block: Any) -> Built:
    """j <= i, widened to blocks."""
    blocks = consecutive_blocks(check_count("n", n), check_count("block", block, 1))
    ends = np.arange(1, len(blocks) + 1)
    left = np.stack([np.zeros_like(blocks[:, 0]), blocks[:, 1]], axis=1)
    right = np.stack([blocks[:, 0], np.full_like(blocks[:, 0], n)], axis=1)
    return Built(BlockRows(blocks, ends, left), BlockRows(blocks, ends, right))


def work(block_rows: BlockRows) -> float:
    """The work of the engine in columns: those it goes through for all rows, and the cost of beginning."""
    begin, end = block_rows.intervals.T
    pieces = (end - 1) // COLUMNS - begin // COLUMNS + 1
    columns = end - begin + BEGIN * pieces
    heights = block_rows.blocks[:, 1] - block_rows.blocks[:, 0]
    met = heights[np.diff(block_rows.slices, prepend=0) > 0]
    return float((heights[block_rows.owners()] * columns).sum() + ROW * met.sum())
