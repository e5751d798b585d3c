"""Clusters of points: from labels, from the points themselves; the boxes and the centres of clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import RangesError
from .validate import as_array, as_int64, describe

BOX_SLACK = 1e-9  # distances of boxes may come out too large by this, relatively, and rounding drops no pair
DISTANCES_AT_ONCE = 1 << 20  # so many distances of boxes are in memory at a time
EMPTY_CLUSTERS = 1 << 20  # labels may leave so many clusters empty besides one for each point


class ClusterTree(NamedTuple):
    """A binary tree of clusters, whose leaves are the clusters in their order.

    Attributes
    ----------
    blocks : (T, 2) int64
        The rows of each node in the order of the points, half-open; node 0 is the root, and has all of them.
    children : (T, 2) int64
        The two nodes that share the rows of a node, lower rows first; -1 at a leaf.
    """

    blocks: np.ndarray
    children: np.ndarray


class Clusters(NamedTuple):
    """Points in clusters.

    Attributes
    ----------
    blocks : (C, 2) int64
        The rows of each cluster in the order of the points, half-open.
    order : (n,) int64 or None
        The point at each row; None if the points stay as they are.
    tree : ClusterTree or None
        How the clusters were made by halving larger ones, if they were.
    """

    blocks: np.ndarray
    order: np.ndarray | None
    tree: ClusterTree | None = None


def check_points(name: str, x: Any) -> np.ndarray:
    """Points as (n, D) float64, finite."""
    a = as_array(name, x)
    if a.dtype.kind not in "iuf" or a.ndim != 2:
        raise RangesError(f"{name}: wanted points of shape (n, D), got {describe(a)}")
    a = a.astype(np.float64)
    if not np.isfinite(a).all():
        raise RangesError(f"{name}: wanted finite coordinates, got {a[~np.isfinite(a)][0]}")
    return a


def clusters_of_labels(name: str, labels: Any, clusters: int = 0) -> Clusters:
    """The clusters of labels (n,), at least so many; an order is needed if the labels do not ascend."""
    labels = as_int64(name, labels)
    if labels.ndim != 1:
        raise RangesError(f"{name}: wanted one label for each point, shape (n,), got shape {labels.shape}")
    if labels.size and labels.min() < 0:
        raise RangesError(f"{name}: wanted labels from 0 on, got {labels.min()}")
    if labels.max(initial=0) >= len(labels) + EMPTY_CLUSTERS:
        raise RangesError(
            f"{name}: wanted labels with few gaps, got {labels.max()} among {len(labels)} labels; "
            "numpy.unique(labels, return_inverse=True)[1] has none"
        )
    ends = np.cumsum(np.bincount(labels, minlength=clusters))
    ascending = bool((np.diff(labels) >= 0).all())
    order = None if ascending else np.argsort(labels, kind="stable")
    return Clusters(np.stack([np.r_[0, ends][: len(ends)], ends], axis=1), order)


def consecutive_blocks(n: int, height: int) -> np.ndarray:
    """n rows in blocks of so many, (C, 2)."""
    height = min(height, max(n, 1))
    ends = np.minimum(np.arange(0, n + height, height), n)
    return np.stack([ends[:-1], ends[1:]], axis=1)[: -(-n // height)]


def split(x: np.ndarray, points_per_cluster: int) -> Clusters:
    """Compact clusters of so many points each (the last has the rest), by a k-d tree.

    The points are halved across the longest side of their box, at a whole number of clusters, until one cluster is
    left. Where nothing is gained by another order, as for one cluster, the points stay as they stand.
    """
    n = len(x)
    points_per_cluster = min(points_per_cluster, max(n, 1))
    order, todo, blocks, children = np.arange(n), [0], [(0, n)], [(-1, -1)]
    while todo:
        node = todo.pop()
        begin, end = blocks[node]
        clusters = -(-(end - begin) // points_per_cluster)
        if clusters < 2:
            order[begin:end].sort()
            continue
        half = begin + clusters // 2 * points_per_cluster
        if x.shape[1]:
            part = x[order[begin:end]]
            with np.errstate(over="ignore"):
                along = part[:, np.argmax(part.max(0) - part.min(0))]
            order[begin:end] = order[begin:end][np.argpartition(along, half - begin)]
        children[node] = len(blocks), len(blocks) + 1
        todo += children[node]
        blocks += [(begin, half), (half, end)]
        children += [(-1, -1)] * 2
    tree = ClusterTree(np.array(blocks, np.int64), np.array(children, np.int64))
    return Clusters(consecutive_blocks(n, points_per_cluster), order, tree)


def boxes(x: np.ndarray, clusters: Clusters) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest coordinates in each cluster, (C, D) each; an empty one has +inf and -inf."""
    return _combine_rows(np.minimum, x, clusters, np.inf), _combine_rows(np.maximum, x, clusters, -np.inf)


def centres(x: np.ndarray, clusters: Clusters) -> np.ndarray:
    """The mean of the points of each cluster, (C, D); of an empty one nan."""
    sizes = (clusters.blocks[:, 1] - clusters.blocks[:, 0])[:, None]
    down = int(np.frexp(len(x))[1])  # so many points, times 2**-down, have no sum beyond float64
    with np.errstate(invalid="ignore"):
        return np.ldexp(_combine_rows(np.add, np.ldexp(x, -down), clusters, 0.0) / sizes, down)


def _combine_rows(combine: np.ufunc, x: np.ndarray, clusters: Clusters, empty: float) -> np.ndarray:
    """Reduce the rows of each cluster by a ufunc; one without rows gets `empty`."""
    x = x if clusters.order is None else x[clusters.order]
    begin, end = clusters.blocks.T
    found = np.full((len(begin), x.shape[1]), empty)
    filled = np.flatnonzero(begin < end)
    if len(filled):
        sort = filled[np.argsort(begin[filled], kind="stable")]
        edges = np.stack([begin[sort], end[sort]], axis=1).reshape(-1)
        # rows between two clusters are a segment too, which is not read; so is the row behind the last one
        found[sort] = combine.reduceat(np.concatenate([x, x[-1:]]), edges)[::2]
    return found


def scale_near_one(x: np.ndarray) -> np.ndarray:
    """Points times a power of two that brings most of them near 1, so that few squared distances leave float64.

    Their distances keep their order, to the bit. What lies 1e154 times as far out as most points do is at distance
    infinity from them, which a k-d tree tells by the index behind the last one.
    """
    sizes = np.abs(x[x != 0])
    if not sizes.size:
        return x
    usual, largest = (int(e) for e in np.frexp(np.partition(sizes, [sizes.size // 2, -1])[[sizes.size // 2, -1]])[1])
    return np.ldexp(x, -max(usual, largest - 1000))  # and none becomes infinite


def boxes_within(i: tuple[np.ndarray, np.ndarray], j: tuple[np.ndarray, np.ndarray], r: float) -> np.ndarray:
    """Whether each box of i, (C, D), is within r of each of j, (C, C') booleans; a hair farther counts too."""
    largest = max(np.abs(a[np.isfinite(a)]).max(initial=0) for a in (*i, *j))
    scale = -int(np.frexp(largest)[1])  # a power of two, which rounds nothing: so no square is beyond float64
    with np.errstate(over="ignore"):
        i, j, r = [np.ldexp(a, scale) for a in i], [np.ldexp(a, scale) for a in j], np.ldexp(r, scale)
    found = np.empty((len(i[0]), len(j[0])), bool)
    step = max(1, DISTANCES_AT_ONCE // max(1, found.shape[1]))
    for first in range(0, len(found), step):
        rows = slice(first, first + step)
        found[rows] = _box_distances((i[0][rows], i[1][rows]), j) * (1 - BOX_SLACK) <= r
    return found


def _box_distances(i: Sequence[np.ndarray], j: Sequence[np.ndarray]) -> np.ndarray:
    """The smallest distance between two boxes; inf if one is empty."""
    squares = np.zeros((len(i[0]), len(j[0])))
    for d in range(i[0].shape[1]):
        gap = np.maximum(i[0][:, None, d] - j[1][None, :, d], j[0][None, :, d] - i[1][:, None, d])
        squares += np.square(np.maximum(gap, 0.0))
    return np.sqrt(squares)
