"""Clusters of points: from labels, from the points themselves; the boxes and the centres of clusters."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..errors import RangesError
from .halves import as_array, what, whole

BOX_SLACK = 1e-9  # by which distances of boxes may come out too large, relatively: rounding drops no pair


class Clusters(NamedTuple):
    """Points in clusters: the rows of each, half-open, (C, 2), in an order of the points (None: as they stand)."""

    blocks: np.ndarray
    order: np.ndarray | None


def points_of(name: str, x: Any) -> np.ndarray:
    """Points as (n, D) float64, finite."""
    a = as_array(name, x)
    if a.dtype.kind not in "iuf" or a.ndim != 2:
        raise RangesError(f"{name}: wanted points of shape (n, D), got {what(a)}")
    a = a.astype(np.float64)
    if not np.isfinite(a).all():
        raise RangesError(f"{name}: wanted finite coordinates, got {a[~np.isfinite(a)][0]}")
    return a


def by_labels(name: str, labels: Any) -> Clusters:
    """The clusters of labels (n,); an order is needed where the labels do not ascend."""
    labels = whole(name, labels)
    if labels.ndim != 1:
        raise RangesError(f"{name}: wanted one label for each point, shape (n,), got shape {labels.shape}")
    if labels.size and labels.min() < 0:
        raise RangesError(f"{name}: wanted labels from 0 on, got {labels.min()}")
    ends = np.cumsum(np.bincount(labels))
    ascending = bool((np.diff(labels) >= 0).all())
    order = None if ascending else np.argsort(labels, kind="stable")
    return Clusters(np.stack([np.r_[0, ends][: len(ends)], ends], axis=1), order)


def consecutive(n: int, height: int) -> np.ndarray:
    """n rows in blocks of so many, (C, 2)."""
    ends = np.minimum(np.arange(0, n + height, height), n)
    return np.stack([ends[:-1], ends[1:]], axis=1)[: -(-n // height)]


def split(x: np.ndarray, points_per_cluster: int) -> Clusters:
    """Compact clusters of so many points each (the last has the rest), by a k-d tree.

    The points are halved across the longest side of their box, at a whole number of clusters, until one cluster is
    left. Where nothing is gained by another order, as for one cluster, the points stay as they stand.
    """
    n = len(x)
    order, todo = np.arange(n), [(0, n)] if x.shape[1] else []
    while todo:
        begin, end = todo.pop()
        clusters = -(-(end - begin) // points_per_cluster)
        if clusters < 2:
            order[begin:end].sort()
            continue
        half = begin + clusters // 2 * points_per_cluster
        part = x[order[begin:end]]
        along = part[:, np.argmax(part.max(0) - part.min(0))]
        order[begin:end] = order[begin:end][np.argpartition(along, half - begin)]
        todo += [(begin, half), (half, end)]
    return Clusters(consecutive(n, points_per_cluster), order)


def boxes(x: np.ndarray, clusters: Clusters) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest coordinates in each cluster, (C, D) each; an empty one has +inf and -inf."""
    return _each(np.minimum, x, clusters, np.inf), _each(np.maximum, x, clusters, -np.inf)


def centres(x: np.ndarray, clusters: Clusters) -> np.ndarray:
    """The mean of the points of each cluster, (C, D); of an empty one nan."""
    sizes = (clusters.blocks[:, 1] - clusters.blocks[:, 0])[:, None]
    with np.errstate(invalid="ignore"):
        return np.divide(_each(np.add, x, clusters, 0.0), sizes, out=None)


def _each(combine: np.ufunc, x: np.ndarray, clusters: Clusters, empty: float) -> np.ndarray:
    x = x if clusters.order is None else x[clusters.order]
    begin, end = clusters.blocks.T
    found = np.full((len(begin), x.shape[1]), empty)
    filled = np.flatnonzero(begin < end)
    if len(filled):
        sort = filled[np.argsort(begin[filled], kind="stable")]
        edges = np.stack([begin[sort], end[sort]], axis=1).reshape(-1)
        # what lies between two clusters is a segment too, which nobody reads; so is the row behind the last one
        found[sort] = combine.reduceat(np.concatenate([x, x[-1:]]), edges)[::2]
    return found


def box_distances(i: tuple[np.ndarray, np.ndarray], j: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The smallest distance between two boxes, (C, D), a little too small; inf where one is empty."""
    squares = np.zeros((len(i[0]), len(j[0])))
    for d in range(i[0].shape[1]):
        gap = np.maximum(i[0][:, None, d] - j[1][None, :, d], j[0][None, :, d] - i[1][:, None, d])
        squares += np.square(np.maximum(gap, 0.0))
    return np.sqrt(squares) * (1 - BOX_SLACK)
