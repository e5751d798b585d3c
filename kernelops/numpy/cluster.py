"""KeOps' cluster helpers for numpy arrays: label points, sort them, and say which clusters meet.

>>> import numpy as np
>>> from kernelops.numpy import Genred
>>> from kernelops.numpy.cluster import cluster_ranges_centroids, from_matrix, grid_cluster, sort_clusters
>>> x = np.random.default_rng(0).random((1000, 2))
>>> labels = grid_cluster(x, 0.2)
>>> clusters, centroids, _ = cluster_ranges_centroids(x, labels)
>>> x, labels = sort_clusters(x, labels)
>>> near = ((centroids[:, None] - centroids) ** 2).sum(-1) < 0.5**2
>>> gauss = Genred("Exp(-50*SqDist(x,y))", ["x = Vi(2)", "y = Vj(2)"], axis=1)
>>> bool(abs(gauss(x, x, ranges=from_matrix(clusters, clusters, near)) - gauss(x, x)).max() < 0.1)
True
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.arguments import is_tensor, to_numpy
from ..errors import DtypeError
from ..frontend import cluster as shared
from ..frontend.cluster import swap_axes

__all__ = [
    "cluster_centroids",
    "cluster_ranges",
    "cluster_ranges_centroids",
    "from_matrix",
    "grid_cluster",
    "sort_clusters",
    "swap_axes",
]


def _refuse_tensors(**named: Any) -> None:
    for name, a in named.items():
        if is_tensor(a):
            raise DtypeError(f"{name} is a torch tensor: use kernelops.torch.cluster, or pass its .numpy()")


def _floats(name: str, a: Any) -> np.ndarray:
    array = to_numpy(a, name)
    if array.dtype.kind not in "iuf":
        raise DtypeError(f"{name}: wanted float16, float32 or float64, got {array.dtype}")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _one_each(name: str, a: Any, count: int, of: str) -> np.ndarray:
    array = _floats(name, a)
    shared.check_one_each(name, array, count, of)
    return array.reshape(count)


def _means(
    x: np.ndarray, clusters: shared.Labelled, weights: np.ndarray | None, totals: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The centroids in the dtype of x, and the weights of clusters; sums are float64, an empty cluster has nan."""
    count = len(clusters.sizes)

    def add(rows: np.ndarray) -> np.ndarray:
        if rows.ndim == 1:
            return np.bincount(clusters.labels, rows, count)
        sums = np.empty((count, rows.shape[1]))
        for d in range(rows.shape[1]):
            sums[:, d] = np.bincount(clusters.labels, rows[:, d], count)
        return sums

    wide = (None if a is None else a.astype(np.float64) for a in (x, weights, totals))
    with np.errstate(invalid="ignore", divide="ignore"):
        found, totals = shared.means(*wide, clusters.sizes, add)
    return found.astype(x.dtype), totals


def grid_cluster(x: np.ndarray, size: float | np.ndarray) -> np.ndarray:
    """Label points by the cell of a grid that they are in.

    Parameters
    ----------
    x : (n, D) array
        The points, of any dimension D.
    size : float or (D,) array
        The sides of a cell.

    Returns
    -------
    (n,) int64
        Labels from 0 on, without gaps: the cells that hold points, in lexicographic order. The cell of a point is
        ``floor(x / size)``, so one corner of a cell is at 0 (in :mod:`kernelops.torch.cluster` it is at the least
        coordinates, as in KeOps).

    Raises
    ------
    ArgumentError, ShapeError, DtypeError
        If size is not above 0 or too small for x, x is not (n, D), or either is no array of numbers.

    See Also
    --------
    sort_clusters, cluster_ranges_centroids : take the labels.

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops.numpy.cluster import grid_cluster
    >>> grid_cluster(np.array([[0.1, 0.1], [0.9, 0.2], [0.2, 0.8], [0.8, 0.1]]), 0.5)
    array([0, 2, 1, 2])
    """
    _refuse_tensors(x=x, size=size)
    return shared.grid_labels(to_numpy(x, "x"), size, from_least=False)


def sort_clusters(x: Any, lab: np.ndarray) -> tuple[Any, np.ndarray]:
    """Sort points by label.

    Parameters
    ----------
    x : (n, ...) array, or a tuple or list of such arrays
        The points and what else belongs to them.
    lab : (n,) integers
        Their labels.

    Returns
    -------
    x : array, or a tuple or list of arrays
        The rows in the order of their labels; rows of one label stay in their order.
    lab : (n,) array
        The labels, ascending.

    Raises
    ------
    RangesError, ShapeError, DtypeError
        If lab is not (n,) integers, or x has another number of rows.

    See Also
    --------
    cluster_ranges : the rows of each cluster then.

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops.numpy.cluster import sort_clusters
    >>> (x, b), lab = sort_clusters((np.array([[0.0], [5.0], [1.0]]), np.array([7, 8, 9])), np.array([0, 1, 0]))
    >>> x[:, 0], b, lab
    (array([0., 1., 5.]), array([7, 9, 8]), array([0, 0, 1]))
    """
    _refuse_tensors(lab=lab)
    order = shared.order_of(lab)

    def take(name: str, a: Any) -> np.ndarray:
        _refuse_tensors(**{name: a})
        return to_numpy(a, name)[order]

    return shared.sort_each(x, len(order), take), np.asarray(lab)[order]


def cluster_ranges(lab: np.ndarray, Nlab: np.ndarray | None = None) -> np.ndarray:
    """The rows of each cluster, from begin to end, once the points are sorted by label.

    Parameters
    ----------
    lab : (n,) integers
        The label of each point, from 0 on, in any order.
    Nlab : (C,) integers, optional
        How many points each cluster has: it is checked, and it may count empty clusters behind the last label.

    Returns
    -------
    (C, 2) int64
        Half-open; a label that no point has gives an empty cluster.

    Raises
    ------
    RangesError, ShapeError, ArgumentError, DtypeError
        If lab is not (n,) integers of at least 0, or Nlab does not count them.

    See Also
    --------
    from_matrix : takes these rows.

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops.numpy.cluster import cluster_ranges
    >>> cluster_ranges(np.array([0, 0, 2, 2, 2])).tolist()
    [[0, 2], [2, 2], [2, 5]]
    """
    _refuse_tensors(lab=lab, Nlab=Nlab)
    return shared.check_labels(lab, Nlab).ranges


def cluster_centroids(
    x: np.ndarray,
    lab: np.ndarray,
    Nlab: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    weights_c: np.ndarray | None = None,
) -> np.ndarray:
    """The mean of the points of each cluster.

    Parameters
    ----------
    x : (n, D) array
        The points.
    lab : (n,) integers
        The label of each point, from 0 on, in any order.
    Nlab : (C,) integers, optional
        As for :func:`cluster_ranges`.
    weights : (n,) or (n, 1) array, optional
        The weight of each point; all are alike by default.
    weights_c : (C,) or (C, 1) array, optional
        What the sums are divided by; by default the sum of the weights of each cluster.

    Returns
    -------
    (C, D) array
        In the dtype of x, summed in float64. An empty cluster has nan.

    Raises
    ------
    RangesError, ShapeError, ArgumentError, DtypeError
        If an argument does not have the shape, or the kind of numbers, that is wanted of it.

    See Also
    --------
    cluster_ranges_centroids : with the rows and weights of the clusters.

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops.numpy.cluster import cluster_centroids
    >>> x, lab = np.array([[0.0], [8.0], [1.0]]), np.array([0, 1, 0])
    >>> cluster_centroids(x, lab, weights=np.array([1.0, 1.0, 3.0]))
    array([[0.75],
           [8.  ]])
    """
    _refuse_tensors(x=x, lab=lab, Nlab=Nlab, weights=weights, weights_c=weights_c)
    shared.check_totals(weights, weights_c)
    x = _floats("x", x)
    shared.check_points(x)
    clusters = shared.check_labels(lab, Nlab, len(x))
    if weights is not None:
        weights = _one_each("weights", weights, len(x), "point")
    if weights_c is not None:
        weights_c = _one_each("weights_c", weights_c, len(clusters.sizes), "cluster")
    return _means(x, clusters, weights, weights_c)[0]


def cluster_ranges_centroids(
    x: np.ndarray, lab: np.ndarray, weights: np.ndarray | None = None, min_weight: float = 1e-9
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows, the centroid and the weight of each cluster.

    Parameters
    ----------
    x : (n, D) array
        The points.
    lab : (n,) integers
        The label of each point, from 0 on, in any order.
    weights : (n,) or (n, 1) array, optional
        The weight of each point, at least 0; all are 1 by default.
    min_weight : float, default 1e-9
        Smaller weights count as this one, so that a cluster of points without weight has a centroid.

    Returns
    -------
    ranges : (C, 2) int64
        As of :func:`cluster_ranges`.
    centroids : (C, D) array
        As of :func:`cluster_centroids`.
    weights_c : (C,) array
        The sum of the weights of each cluster, in the dtype of the weights or else of x; float32 for float16.

    Raises
    ------
    RangesError, ShapeError, ArgumentError, DtypeError
        If an argument does not have the shape, or the kind of numbers, that is wanted of it, or a weight is below 0.

    See Also
    --------
    from_matrix : takes the rows, and a mask that may be found by the centroids.

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops.numpy.cluster import cluster_ranges_centroids
    >>> ranges, centroids, weights_c = cluster_ranges_centroids(np.array([[0.0], [8.0], [1.0]]), np.array([0, 1, 0]))
    >>> ranges.tolist(), centroids.tolist(), weights_c.tolist()
    ([[0, 2], [2, 3]], [[0.5], [8.0]], [2.0, 1.0])
    """
    _refuse_tensors(x=x, lab=lab, weights=weights)
    x = _floats("x", x)
    shared.check_points(x)
    clusters, dtype = shared.check_labels(lab, None, len(x)), x.dtype
    if weights is not None:
        weights = _one_each("weights", weights, len(x), "point")
        shared.check_weights(float(weights.min(initial=np.inf)), min_weight)
        weights, dtype = weights.astype(np.float64).clip(min_weight), weights.dtype
    centroids, totals = _means(x, clusters, weights, None)
    return clusters.ranges, centroids, totals.astype(np.promote_types(dtype, np.float32))


def from_matrix(ranges_i: np.ndarray, ranges_j: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, ...]:
    """Ranges from clusters of i and of j, and which cluster meets which.

    Parameters
    ----------
    ranges_i, ranges_j : (C, 2) and (C', 2) integers
        Disjoint half-open clusters of rows.
    keep : (C, C') booleans
        Whether cluster k of i meets cluster l of j.

    Returns
    -------
    tuple of six int64 arrays
        What every ``ranges=`` takes. Make a :class:`kernelops.Ranges` of it if it is used often; it is checked once.

    Raises
    ------
    RangesError, DtypeError
        If clusters overlap, or keep does not have a row and a column for each.

    See Also
    --------
    kernelops.Ranges.from_mask : the same as a Ranges.

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops import Ranges
    >>> from kernelops.numpy.cluster import from_matrix
    >>> clusters = np.array([[0, 2], [2, 5]])
    >>> ranges = from_matrix(clusters, clusters, np.array([[True, False], [False, True]]))
    >>> Ranges.from_tuple(ranges).mask(5, 5).astype(int)
    array([[1, 1, 0, 0, 0],
           [1, 1, 0, 0, 0],
           [0, 0, 1, 1, 1],
           [0, 0, 1, 1, 1],
           [0, 0, 1, 1, 1]])
    """
    _refuse_tensors(ranges_i=ranges_i, ranges_j=ranges_j, keep=keep)
    return shared.six_arrays(ranges_i, ranges_j, keep)
