"""The earlier rows that a row of a sparse triangular factor refers to: those it is most correlated with.

The order is a rank: rank[i] is the place of point i, and its predecessors are the points of smaller rank. In a random
order the first points are spread over everything and the last ones have close predecessors, so that the rows together
see all scales. (Schaefer, Katzfuss and Owhadi, SIAM J. Sci. Comput. 43, 2021, where the order is a maximin one.)
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from ...engines.threads import thread_count
from ...ranges.clusters import scale_near_one
from ..entries import Entries

ALL_DISTANCES = 256  # number of points up to which all distances are computed
TREE_FROM = 1 << 17  # number of points from which a tree in 4 to 6 dimensions is faster than all pairs
QUERIES_AT_ONCE = 1 << 14  # number of queries of the tree at a time, whose answers take 16 bytes for each candidate


def random_rank(points: int, last: np.ndarray, seed: int = 0) -> np.ndarray:
    """A random order of the points, with those of `last` behind all others, of which they precede none."""
    draw = np.random.default_rng(seed).permutation(points)
    behind = np.zeros(points, bool)
    behind[last] = True
    rank = np.empty(points, np.int64)
    rank[np.concatenate([draw[~behind[draw]], draw[behind[draw]]])] = np.arange(points)
    return rank


def predecessors(entries: Entries, rank: np.ndarray, count: int) -> np.ndarray:
    """For each point the `count` points of smaller rank that it is most correlated with.

    If the entries decrease with the distance of points in few dimensions, these are its nearest ones, which a k-d tree
    finds in O(n log n); else the entries find them, by looking at all pairs.

    Parameters
    ----------
    entries : Entries
    rank : ndarray, shape (points,)
        The numbers 0 ... points - 1 in some order.
    count : int

    Returns
    -------
    ndarray, shape (points, count), int64
        Most correlated first; -1 if there are fewer.
    """
    if not count:
        return np.empty((len(rank), 0), np.int64)
    x = entries.coordinates
    if x is not None and tree_is_faster(entries):
        return nearest_predecessors(x, rank, count)
    return entries.neighbours(rank, count)


def tree_is_faster(entries: Entries) -> bool:
    """Whether a tree finds the neighbours faster than a look at all pairs."""
    x = entries.coordinates
    return x is not None and x.shape[1] <= (3 if len(x) < TREE_FROM else 6)


def nearest_predecessors(x: np.ndarray, rank: np.ndarray, count: int) -> np.ndarray:
    """For each point the `count` points of smaller rank that are nearest to it; shaped as `predecessors` has it.

    Points whose squared distance is beyond float64 are not near. The ranks are cut into [n/2, n), [n/4, n/2), ...
    A tree of the points below n answers for the first part: at least half of what it holds precedes any of them, so
    that 3 times as many candidates as wanted are nearly always enough.
    """
    order = np.argsort(rank)  # of the points
    y = np.ascontiguousarray(scale_near_one(x)[order])
    found = np.full((len(y), count), -1, np.int64)
    few = min(len(y), max(ALL_DISTANCES, 4 * count))
    found[:few] = _search_all(y[:few], count)
    stop = len(y)
    while stop > few and count:
        start = max(few, stop // 2)
        tree = cKDTree(y[:stop])
        for low in range(start, stop, QUERIES_AT_ONCE):
            rows = np.arange(low, min(low + QUERIES_AT_ONCE, stop))
            found[rows] = _search_tree(tree, y, rows, count)
        stop = start
    result = np.full_like(found, -1)
    result[order] = np.where(found < 0, -1, order[found])
    return result


def _search_all(y: np.ndarray, count: int) -> np.ndarray:
    """Nearest predecessors by all distances; the points stand in their order."""
    distance = cdist(y, y)
    distance[np.triu_indices(len(y))] = np.inf
    near = np.argsort(distance, axis=1, kind="stable")[:, :count]
    near = np.where(np.take_along_axis(distance, near, 1) < np.inf, near, -1)
    return np.pad(near, ((0, 0), (0, count - near.shape[1])), constant_values=-1)


def _query_tree(tree: cKDTree, y: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The distances of the nearest points of a tree, and these points."""
    wanted = np.arange(1, count + 1)
    try:
        result: tuple[np.ndarray, np.ndarray] = tree.query(y, k=wanted, workers=thread_count())
        return result
    except RuntimeError:  # no thread can be started
        result = tree.query(y, k=wanted)
        return result


def _search_tree(tree: cKDTree, y: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Nearest predecessors of some points: more candidates until there are enough, or the tree has no more."""
    found = np.empty((len(rows), count), np.int64)
    short, candidates = np.arange(len(rows)), 3 * count
    while len(short):
        candidates = min(candidates, tree.n)
        distance, near = _query_tree(tree, y[rows[short]], candidates)
        earlier = near < rows[short, None]  # False for tree.n, which stands for none
        first = np.argsort(~earlier, axis=1, kind="stable")[:, :count]
        found[short] = np.where(np.take_along_axis(earlier, first, 1), np.take_along_axis(near, first, 1), -1)
        more = (earlier.sum(1) < count) & np.isfinite(distance).all(1)
        short = short[more & (candidates < tree.n)]
        candidates *= 2
    return found
