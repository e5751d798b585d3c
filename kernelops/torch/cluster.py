"""KeOps' cluster helpers for torch tensors; centroids and sorted points are differentiable.

What holds for arrays too is said in kernelops.numpy.cluster.

>>> import torch
>>> from kernelops.torch import Genred
>>> from kernelops.torch.cluster import cluster_ranges_centroids, from_matrix, grid_cluster, sort_clusters
>>> x = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0))
>>> labels = grid_cluster(x, 0.2)
>>> clusters, centroids, _ = cluster_ranges_centroids(x, labels)
>>> x, labels = sort_clusters(x, labels)
>>> near = ((centroids[:, None] - centroids) ** 2).sum(-1) < 0.5**2
>>> gauss = Genred("Exp(-50*SqDist(x,y))", ["x = Vi(2)", "y = Vj(2)"], axis=1)
>>> bool((gauss(x, x, ranges=from_matrix(clusters, clusters, near)) - gauss(x, x)).abs().max() < 0.1)
True
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

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


def _tensor(name: str, a: Any) -> torch.Tensor:
    if not is_tensor(a):
        raise DtypeError(f"{name}: wanted a torch tensor, got {type(a).__name__}")
    if a.layout is not torch.strided:
        raise DtypeError(f"{name} is a tensor of layout {a.layout}: wanted a dense one, as .to_dense() gives")
    return a


def _array(name: str, a: Any) -> np.ndarray:
    """The values of a tensor on the host, which no gradient goes through."""
    return to_numpy(_tensor(name, a).detach().cpu(), name)


def _floats(name: str, a: Any) -> torch.Tensor:
    tensor = _tensor(name, a)
    if tensor.dtype is torch.bool or tensor.is_complex():
        raise DtypeError(f"{name}: wanted floating point numbers, got {tensor.dtype}")
    return tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())


def _one_each(name: str, a: Any, count: int, of: str) -> torch.Tensor:
    tensor = _floats(name, a)
    shared.check_one_each(name, tensor, count, of)
    return tensor.reshape(count)


def _check_labels(lab: Any, Nlab: Any = None, points: int | None = None) -> shared.Labelled:
    return shared.check_labels(_array("lab", lab), None if Nlab is None else _array("Nlab", Nlab), points)


def _means(
    x: torch.Tensor, clusters: shared.Labelled, weights: torch.Tensor | None, totals: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The centroids in the dtype of x, and the weights of clusters; sums are float64, an empty cluster has nan."""
    labels, sizes = (torch.from_numpy(a).to(x.device) for a in clusters)

    def add(rows: torch.Tensor) -> torch.Tensor:
        return rows.new_zeros((len(sizes), *rows.shape[1:])).index_add(0, labels, rows)

    wide = (None if a is None else a.double() for a in (x, weights, totals))
    found, totals = shared.means(*wide, sizes.double(), add)
    return found.to(x.dtype), totals


def grid_cluster(x: torch.Tensor, size: float | torch.Tensor) -> torch.Tensor:
    """Label points by the cell of a grid that they are in.

    Parameters
    ----------
    x : (n, D) tensor
        The points, of any dimension D.
    size : float or (D,) tensor
        The sides of a cell.

    Returns
    -------
    (n,) int32
        Labels from 0 on, without gaps: the cells that hold points, in lexicographic order. The cell of a point is
        ``floor((x - x.min(0)) / size)``, so one corner of a cell is at the least coordinates.

    Raises
    ------
    ArgumentError, ShapeError, DtypeError
        As for arrays.

    See Also
    --------
    kernelops.numpy.cluster.grid_cluster : the same for arrays, with a corner of a cell at 0, as in KeOps.

    Examples
    --------
    >>> import torch
    >>> from kernelops.torch.cluster import grid_cluster
    >>> grid_cluster(torch.tensor([[0.1, 0.1], [0.9, 0.2], [0.2, 0.8], [0.8, 0.1]]), 0.5)
    tensor([0, 2, 1, 2], dtype=torch.int32)
    """
    sides = _array("size", size) if is_tensor(size) else size
    labels = shared.grid_labels(_array("x", x), sides, from_least=True)
    return torch.from_numpy(labels.astype(np.int32)).to(x.device)


def sort_clusters(x: Any, lab: torch.Tensor) -> tuple[Any, torch.Tensor]:
    """Sort points by label, differentiably.

    Parameters
    ----------
    x : (n, ...) tensor, or a tuple or list of such tensors
    lab : (n,) integers
        As for arrays.

    Returns
    -------
    x : tensor, or a tuple or list of tensors
    lab : (n,) tensor
        The rows in the order of their labels, and these; rows of one label stay in their order.

    Raises
    ------
    RangesError, ShapeError, DtypeError
        As for arrays.

    See Also
    --------
    kernelops.numpy.cluster.sort_clusters : the same for arrays.

    Examples
    --------
    >>> import torch
    >>> from kernelops.torch.cluster import sort_clusters
    >>> x, b, lab = torch.tensor([[0.0], [5.0], [1.0]]), torch.tensor([7, 8, 9]), torch.tensor([0, 1, 0])
    >>> (x, b), lab = sort_clusters((x, b), lab)
    >>> x[:, 0], b, lab
    (tensor([0., 1., 5.]), tensor([7, 9, 8]), tensor([0, 0, 1]))
    """
    order = torch.from_numpy(shared.order_of(_array("lab", lab)))

    def take(name: str, a: Any) -> torch.Tensor:
        return _tensor(name, a)[order.to(a.device)]

    return shared.sort_each(x, len(order), take), lab[order.to(lab.device)]


def cluster_ranges(lab: torch.Tensor, Nlab: torch.Tensor | None = None) -> torch.Tensor:
    """The rows of each cluster, from begin to end, once the points are sorted by label.

    Parameters
    ----------
    lab : (n,) integers
    Nlab : (C,) integers, optional
        As for arrays.

    Returns
    -------
    (C, 2) int64
        Half-open, on the device of lab; a label that no point has gives an empty cluster.

    Raises
    ------
    RangesError, ShapeError, ArgumentError, DtypeError
        As for arrays.

    See Also
    --------
    kernelops.numpy.cluster.cluster_ranges : the same for arrays.

    Examples
    --------
    >>> import torch
    >>> from kernelops.torch.cluster import cluster_ranges
    >>> cluster_ranges(torch.tensor([0, 0, 2, 2, 2])).tolist()
    [[0, 2], [2, 2], [2, 5]]
    """
    return torch.from_numpy(_check_labels(lab, Nlab).ranges).to(lab.device)


def cluster_centroids(
    x: torch.Tensor,
    lab: torch.Tensor,
    Nlab: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
    weights_c: torch.Tensor | None = None,
) -> torch.Tensor:
    """The mean of the points of each cluster.

    Parameters
    ----------
    x : (n, D) tensor
    lab : (n,) integers
    Nlab : (C,) integers, optional
    weights : (n,) or (n, 1) tensor, optional
    weights_c : (C,) or (C, 1) tensor, optional
        As for arrays.

    Returns
    -------
    (C, D) tensor
        In the dtype of x, summed in float64; differentiable with respect to x, weights and weights_c. An empty cluster
        has nan.

    Raises
    ------
    RangesError, ShapeError, ArgumentError, DtypeError
        As for arrays.

    See Also
    --------
    kernelops.numpy.cluster.cluster_centroids : the same for arrays.

    Examples
    --------
    >>> import torch
    >>> from kernelops.torch.cluster import cluster_centroids
    >>> x, lab = torch.tensor([[0.0], [8.0], [1.0]]), torch.tensor([0, 1, 0])
    >>> cluster_centroids(x, lab, weights=torch.tensor([1.0, 1.0, 3.0]))
    tensor([[0.7500],
            [8.0000]])
    """
    shared.check_totals(weights, weights_c)
    x = _floats("x", x)
    shared.check_points(x)
    clusters = _check_labels(lab, Nlab, len(x))
    if weights is not None:
        weights = _one_each("weights", weights, len(x), "point")
    if weights_c is not None:
        weights_c = _one_each("weights_c", weights_c, len(clusters.sizes), "cluster")
    return _means(x, clusters, weights, weights_c)[0]


def cluster_ranges_centroids(
    x: torch.Tensor, lab: torch.Tensor, weights: torch.Tensor | None = None, min_weight: float = 1e-9
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The rows, the centroid and the weight of each cluster.

    Parameters
    ----------
    x : (n, D) tensor
    lab : (n,) integers
    weights : (n,) or (n, 1) tensor, optional
    min_weight : float, default 1e-9
        As for arrays.

    Returns
    -------
    ranges : (C, 2) int64
    centroids : (C, D) tensor
    weights_c : (C,) tensor
        As for arrays. Centroids and weights are differentiable.

    Raises
    ------
    RangesError, ShapeError, ArgumentError, DtypeError
        As for arrays.

    See Also
    --------
    kernelops.numpy.cluster.cluster_ranges_centroids : the same for arrays.

    Examples
    --------
    >>> import torch
    >>> from kernelops.torch.cluster import cluster_ranges_centroids
    >>> x, lab = torch.tensor([[0.0], [8.0], [1.0]]), torch.tensor([0, 1, 0])
    >>> ranges, centroids, weights_c = cluster_ranges_centroids(x, lab)
    >>> ranges.tolist(), centroids.tolist(), weights_c.tolist()
    ([[0, 2], [2, 3]], [[0.5], [8.0]], [2.0, 1.0])
    """
    x = _floats("x", x)
    shared.check_points(x)
    clusters, dtype = _check_labels(lab, None, len(x)), x.dtype
    if weights is not None:
        weights = _one_each("weights", weights, len(x), "point")
        shared.check_weights(float(weights.detach().amin()) if len(x) else np.inf, min_weight)
        weights, dtype = weights.double().clamp(min=min_weight), weights.dtype
    centroids, totals = _means(x, clusters, weights, None)
    totals = totals.to(torch.promote_types(dtype, torch.float32))
    return torch.from_numpy(clusters.ranges).to(lab.device), centroids, totals


def from_matrix(ranges_i: torch.Tensor, ranges_j: torch.Tensor, keep: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Ranges from clusters of i and of j, and which cluster meets which.

    Parameters
    ----------
    ranges_i, ranges_j : (C, 2) and (C', 2) integers
    keep : (C, C') booleans
        As for arrays.

    Returns
    -------
    tuple of six int64 tensors
        What every ``ranges=`` takes, on the device of ranges_i.

    Raises
    ------
    RangesError, DtypeError
        As for arrays.

    See Also
    --------
    kernelops.numpy.cluster.from_matrix : the same for arrays.

    Examples
    --------
    >>> import torch
    >>> from kernelops.torch.cluster import from_matrix
    >>> clusters = torch.tensor([[0, 2], [2, 5]])
    >>> ranges = from_matrix(clusters, clusters, torch.tensor([[True, False], [True, True]]))
    >>> [a.tolist() for a in ranges[:3]]
    [[[0, 2], [2, 5]], [1, 3], [[0, 2], [0, 2], [2, 5]]]
    """
    three = (("ranges_i", ranges_i), ("ranges_j", ranges_j), ("keep", keep))
    six = shared.six_arrays(*(_array(name, a) for name, a in three))
    return tuple(torch.from_numpy(a).to(ranges_i.device) for a in six)
