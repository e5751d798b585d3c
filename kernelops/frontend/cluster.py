"""KeOps' cluster helpers, as far as they are the same for arrays and for tensors: checks, labels, ranges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..arrays.arguments import compute_dtype, is_scalar
from ..errors import ArgumentError, DtypeError, RangesError, ShapeError
from ..ranges import NAMES, Ranges
from ..ranges.block_rows import check_pairs
from ..ranges.clusters import clusters_of_labels
from ..ranges.validate import as_array, as_int64, describe

FLOATS = ("float16", "float32", "float64")


class Labelled(NamedTuple):
    """Points with labels: the label of each, (n,) int64, and how many points each cluster has, (C,) int64."""

    labels: np.ndarray
    sizes: np.ndarray

    @property
    def ranges(self) -> np.ndarray:
        """The rows of each cluster once the points are sorted by label, half-open, (C, 2)."""
        ends = np.cumsum(self.sizes)
        return np.stack([ends - self.sizes, ends], axis=1)


def check_points(x: Any) -> None:
    """Refuse what is not (n, D), array or tensor."""
    if x.ndim != 2:
        hint = " (.reshape(-1, 1) makes one column of it)" if x.ndim == 1 else ""
        raise ShapeError(f"x: wanted points of shape (n, D), got shape {tuple(x.shape)}{hint}")


def check_one_each(name: str, a: Any, count: int, of: str) -> None:
    """Refuse what is not one number for each point or cluster, array or tensor."""
    if tuple(a.shape) not in ((count,), (count, 1)):
        raise ShapeError(f"{name}: wanted one number for each {of}, shape ({count},), got shape {tuple(a.shape)}")


def check_totals(weights: Any, weights_c: Any) -> None:
    """Refuse weights of clusters without weights of points: KeOps would not look at them."""
    if weights is None and weights_c is not None:
        raise ArgumentError("weights_c: wanted weights too, whose totals these are, got weights = None")


def check_weights(low: float, min_weight: Any) -> None:
    """Refuse a smallest weight below 0, which min_weight would raise as if it were a small one; and nan."""
    if not is_scalar(min_weight) or not 0 <= min_weight < np.inf:
        raise ArgumentError(f"min_weight: wanted a number of at least 0, got {min_weight!r}")
    if not low >= 0:
        raise ArgumentError(f"weights: wanted numbers of at least 0, got {low}")


def check_labels(lab: Any, Nlab: Any = None, points: int | None = None) -> Labelled:
    """Labels checked, and the points of each cluster counted; Nlab may tell of empty clusters behind the last label."""
    blocks = clusters_of_labels("lab", lab).blocks
    labels, sizes = as_int64("lab", lab), blocks[:, 1] - blocks[:, 0]
    if points is not None and len(labels) != points:
        raise ShapeError(f"lab: wanted one label for each point, shape ({points},), got shape {labels.shape}")
    if Nlab is None:
        return Labelled(labels, sizes)
    given = as_array("Nlab", Nlab)
    if given.ndim != 1 or len(given) < len(sizes):
        raise ShapeError(
            f"Nlab: wanted the number of points of each cluster, shape ({len(sizes)},), got {describe(given)}"
        )
    sizes = np.concatenate([sizes, np.zeros(len(given) - len(sizes), np.int64)])
    if (given != sizes).any():
        k = int((given != sizes).argmax())
        raise ArgumentError(f"Nlab: wanted {sizes[k]} points in cluster {k}, as lab has, got {given[k]}")
    return Labelled(labels, sizes)


def cells(x: np.ndarray, size: Any, from_least: bool) -> np.ndarray:
    """The cell of the grid that each point is in, whole floats (n, D): no integer is too small for them.

    KeOps' grid begins at 0 for arrays and at the least coordinates for tensors; both are followed, to the bit.
    """
    check_points(x)
    if x.dtype.kind not in "iu" and x.dtype.name not in FLOATS:
        raise DtypeError(f"x: wanted float16, float32 or float64, got {x.dtype}")
    x = x.astype(np.float64 if x.dtype.kind in "iu" else compute_dtype(x.dtype))
    if not np.isfinite(x).all():
        raise ArgumentError(f"x: wanted finite coordinates, got {x[~np.isfinite(x)][0]}")
    sides = _sides(size, x.shape[1])
    with np.errstate(over="ignore"):
        found: np.ndarray = np.floor((x - x.min(0, initial=np.inf) if from_least else x) / sides)
    if not np.isfinite(found).all():
        raise ArgumentError(f"size: {size} is too small for x, the number of cells overflows {found.dtype}")
    return found


def _sides(size: Any, D: int) -> Any:
    """The sides of a cell; one number stays a number, by which float32 points stay float32."""
    sides = as_array("size", size)
    if sides.dtype.kind not in "iuf" or sides.shape not in ((), (1,), (D,)):
        raise ShapeError(f"size: wanted a number or {D} of them, one for each coordinate, got {describe(sides)}")
    if not (np.isfinite(sides) & (sides > 0)).all():
        raise ArgumentError(f"size: wanted numbers above 0, got {size}")
    return sides if sides.ndim else float(sides)


def grid_labels(x: np.ndarray, size: Any, from_least: bool) -> np.ndarray:
    """The number of the cell of each point, (n,) int64, counting in lexicographic order those that hold points."""
    found = cells(x, size, from_least)
    order = np.lexsort(found.T[::-1]) if found.shape[1] else np.arange(len(found))
    found = found[order]
    labels = np.zeros(len(found), np.int64)
    labels[order[1:]] = (found[1:] != found[:-1]).any(1).cumsum()
    return labels


def order_of(lab: Any) -> np.ndarray:
    """The rows in the order of their labels; rows of one label stay in their order."""
    labels = as_int64("lab", lab)
    if labels.ndim != 1:
        raise RangesError(f"lab: wanted one label for each point, shape (n,), got shape {labels.shape}")
    return np.argsort(labels, kind="stable")


def sort_each(x: Any, rows: int, take: Callable[[str, Any], Any]) -> Any:
    """Apply ``take`` to x, or to each of a tuple or a list."""
    if isinstance(x, (tuple, list)):
        made = [_sort_one(f"x[{k}]", a, rows, take) for k, a in enumerate(x)]
        return made if isinstance(x, list) else tuple(made)
    return _sort_one("x", x, rows, take)


def _sort_one(name: str, a: Any, rows: int, take: Callable[[str, Any], Any]) -> Any:
    shape = tuple(getattr(a, "shape", (rows,)))  # what has none is refused by take
    if shape[:1] != (rows,):
        raise ShapeError(f"{name}: wanted {rows} rows, one for each label, got shape {shape}")
    return take(name, a)


def means(x: Any, weights: Any, totals: Any, sizes: Any, add: Callable[[Any], Any]) -> tuple[Any, Any]:
    """The weighted means of clusters and their weights, arrays or tensors; add sums rows by label."""
    down = 2.0 ** -len(x).bit_length()  # so many numbers, times this, have no sum beyond float64
    moments = add(x * down if weights is None else x * down * weights[:, None])
    if totals is None:
        totals = sizes if weights is None else add(weights)
    return moments / totals[:, None] / down, totals


def six_arrays(ranges_i: Any, ranges_j: Any, keep: Any) -> tuple[np.ndarray, ...]:
    """Which cluster meets which, as the six arrays; they are the caller's own."""
    pairs = check_pairs("ranges_i", ranges_i), check_pairs("ranges_j", ranges_j)
    return tuple(a.copy() for a in Ranges.from_mask(*pairs, keep).as_tuple())


def swap_axes(ranges: Any) -> Any:
    """Exchange i and j in ranges.

    Parameters
    ----------
    ranges : None, tuple of six arrays or tensors, or Ranges
        What a ``ranges=`` argument takes.

    Returns
    -------
    None, tuple of six arrays or tensors, or Ranges
        As what came: the last three arrays and then the first three, or ``ranges.T``.

    Raises
    ------
    RangesError
        If they are none of these.

    See Also
    --------
    kernelops.Ranges.T : the same for a Ranges.

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops.numpy.cluster import from_matrix, swap_axes
    >>> ranges = from_matrix(np.array([[0, 2], [2, 5]]), np.array([[0, 3]]), np.array([[True], [False]]))
    >>> [a.tolist() for a in swap_axes(ranges)]
    [[[0, 3]], [1], [[0, 2]], [[0, 2], [2, 5]], [1, 1], [[0, 3]]]
    """
    if ranges is None:
        return None
    if isinstance(ranges, Ranges):
        return ranges.T
    if not isinstance(ranges, (tuple, list)) or len(ranges) != len(NAMES):
        came = len(ranges) if isinstance(ranges, (tuple, list)) else describe(ranges)
        raise RangesError(f"ranges: wanted None, a Ranges or the six arrays {NAMES}, got {came}")
    return (*ranges[3:], *ranges[:3])
