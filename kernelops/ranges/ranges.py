"""Ranges: the public class of patterns, and the ways to make one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import RangesError
from . import build
from .block_rows import NAMES
from .clusters import check_points, split
from .queries import Queries
from .validate import check_count, check_distance, describe


class Ranges(Queries):
    """Block-sparse ranges, checked when they are made; the arrays are int64 and read-only.

    Intervals are kept in ascending order within a block and empty ones are dropped; empty blocks, and blocks that meet
    nothing, are kept. The order of the blocks is free.

    Parameters
    ----------
    ranges_i : (C, 2) integers
        Half-open blocks of i, disjoint.
    slices_i : (C,) integers
        Inclusive prefix ends: block k of i meets ``redranges_j[slices_i[k-1] : slices_i[k]]``.
    redranges_j : (K, 2) integers
        Half-open intervals of j, disjoint within a block.
    ranges_j, slices_j, redranges_i
        The same with i and j exchanged. Both halves must hold the same pairs (i, j).
    order_i, order_j : (M,) and (N,) integers, optional
        Which row of the arrays stands at each position, permutations; as they stand by default.

    Raises
    ------
    RangesError
        If blocks or intervals overlap, slices are no prefix ends, the halves hold different pairs, or an order is no
        permutation.

    See Also
    --------
    kernelops.KernelOperator, kernelops.numpy.Genred, kernelops.numpy.KernelSolve : take them as ``ranges=``.

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops import Ranges
    >>> ranges = Ranges.from_mask([[0, 2], [2, 4]], [[0, 3], [3, 5]], np.eye(2, dtype=bool))
    >>> ranges.mask(4, 5).astype(int)
    array([[1, 1, 1, 0, 0],
           [1, 1, 1, 0, 0],
           [0, 0, 0, 1, 1],
           [0, 0, 0, 1, 1]])
    """

    @classmethod
    def from_tuple(cls, six: Any) -> Ranges:
        """Ranges from the six arrays in KeOps' order.

        Parameters
        ----------
        six : (ranges_i, slices_i, redranges_j, ranges_j, slices_j, redranges_i)
            numpy or torch, any integers.

        Returns
        -------
        Ranges

        Raises
        ------
        RangesError
            If there are not six arrays, or they do not fit together.

        See Also
        --------
        as_tuple : the way back.

        Examples
        --------
        >>> from kernelops import Ranges
        >>> blocks, ends = [[0, 2], [2, 3]], [1, 2]
        >>> Ranges.from_tuple((blocks, ends, blocks, blocks, ends, blocks)).mask(3, 3).astype(int)
        array([[1, 1, 0],
               [1, 1, 0],
               [0, 0, 1]])
        """
        try:
            six = tuple(six)
        except TypeError:
            raise RangesError(f"ranges: wanted a Ranges or six integer arrays {NAMES}, got {describe(six)}") from None
        if len(six) != 6:
            raise RangesError(f"ranges: wanted the six arrays {NAMES}, both halves, got {len(six)}")
        missing = [name for name, array in zip(NAMES, six, strict=True) if array is None]
        if missing:
            raise RangesError(
                f"ranges: both halves are wanted, all six arrays {NAMES}, got None for {', '.join(missing)}"
            )
        return cls(*six)

    @classmethod
    def of(cls, obj: Any) -> Ranges | None:
        """Convert the value of a ``ranges=`` argument: None stays None, a Ranges itself, six arrays become a Ranges.

        Parameters
        ----------
        obj : None, Ranges or 6-tuple
            The value.

        Returns
        -------
        Ranges or None

        Raises
        ------
        RangesError
            If it is none of these, or the six arrays do not fit together.

        Examples
        --------
        >>> from kernelops import Ranges
        >>> ranges = Ranges.dense(4, 3)
        >>> Ranges.of(ranges) is ranges, Ranges.of(ranges.as_tuple()) == ranges, Ranges.of(None)
        (True, True, None)
        """
        return obj if obj is None or isinstance(obj, cls) else cls.from_tuple(obj)

    @classmethod
    def dense(cls, M: int, N: int) -> Ranges:
        """Ranges in which every i meets every j: one block, one interval.

        Parameters
        ----------
        M, N : int
            Rows of i and of j.

        Returns
        -------
        Ranges

        Raises
        ------
        RangesError
            If M or N is no whole number of at least 0.

        Examples
        --------
        >>> from kernelops import Ranges
        >>> Ranges.dense(4, 3).pairs
        12
        """
        M, N = check_count("M", M), check_count("N", N)
        return cls.from_mask([[0, M]], [[0, N]], np.ones((1, 1), bool))

    @classmethod
    def from_mask(cls, i: Any, j: Any, keep: Any) -> Ranges:
        """Ranges from clusters of i and of j, and which cluster meets which.

        Parameters
        ----------
        i, j : (M,) and (N,) integers, or (C, 2) and (D, 2) integers
            The cluster of each row, from 0 on, in any order; or disjoint half-open clusters of rows.
        keep : (C, D) booleans, or a sparse array of them
            Whether cluster k of i meets cluster l of j. Clusters that no label names are empty. A sparse array, of
            ``scipy.sparse``, takes memory for the clusters that meet alone.

        Returns
        -------
        Ranges
            In an order of its own if labels do not ascend.

        Raises
        ------
        RangesError
            If clusters overlap, or keep does not have a row and a column for each.

        Examples
        --------
        >>> from kernelops import Ranges
        >>> Ranges.from_mask([1, 0, 1], [0, 0, 1], [[True, False], [False, True]]).mask(3, 3).astype(int)
        array([[0, 0, 1],
               [1, 1, 0],
               [0, 0, 1]])
        """
        return cls._from_build(build.from_mask(i, j, keep))

    @classmethod
    def from_clusters(
        cls,
        x: Any,
        y: Any,
        keep: float | Callable[[np.ndarray, np.ndarray], Any],
        *,
        labels_i: Any = None,
        labels_j: Any = None,
        points_per_cluster: int = 256,
    ) -> Ranges:
        """Ranges from clusters of points, by a rule for which meet.

        Parameters
        ----------
        x, y : (M, D) and (N, D) arrays
            The points of i and of j, in any order.
        keep : float or callable
            A radius: clusters meet if their boxes come as near as that, so that every pair of points that near is
            kept. Or ``keep(centres_i, centres_j)``, which gets the means of the clusters, (C, D) and (C', D), and says
            which meet, (C, C') booleans, which may be sparse; an empty cluster has nan.
        labels_i, labels_j : (M,) and (N,) integers, optional
            The cluster of each point; by default those of :meth:`order`.
        points_per_cluster : int, default 256
            For clusters that are made here.

        Returns
        -------
        Ranges
            In an order of its own, but for labels that ascend: the arrays of a call stay as they stand.

        Raises
        ------
        RangesError

        Examples
        --------
        >>> import numpy as np
        >>> from kernelops import Ranges
        >>> x = np.random.default_rng(0).random((5000, 2))
        >>> ranges = Ranges.from_clusters(x, x, lambda a, b: np.linalg.norm(a[:, None] - b, axis=-1) < 0.3)
        >>> ranges.is_symmetric(), round(ranges.density(5000, 5000), 2)
        (True, 0.24)
        """
        return cls._from_build(build.from_clusters(x, y, keep, labels_i, labels_j, points_per_cluster))

    @classmethod
    def from_radius(cls, x: Any, y: Any, r: float, points_per_cluster: int = 256) -> Ranges:
        """Ranges of all pairs of points up to a distance, and of those that share a block with one of them.

        Parameters
        ----------
        x, y : (M, D) and (N, D) arrays
            The points of i and of j, in any order.
        r : float
            Euclidean distance up to which every pair is kept.
        points_per_cluster : int, default 256
            Points of a block: fewer keep less beyond r, and cost more for each pair.

        Returns
        -------
        Ranges
            In an order of its own: the arrays of a call stay as they stand.

        Raises
        ------
        RangesError

        Examples
        --------
        >>> import numpy as np
        >>> from kernelops import Ranges
        >>> x = np.random.default_rng(0).random((5000, 2))
        >>> ranges = Ranges.from_radius(x, x, 0.1)
        >>> i, j = np.array([0, 1]), np.abs(x - x[[0, 1], None]).max(-1).argsort(1)[:, 1]  # the nearest point
        >>> ranges.contains(i, j)
        array([ True,  True])
        """
        return cls._from_build(build.from_clusters(x, y, check_distance("r", r), None, None, points_per_cluster))

    @classmethod
    def band(cls, n: int, width: int, block: int = 1) -> Ranges:
        """The pairs (i, j) of n rows and columns with ``abs(i - j) <= width``.

        Parameters
        ----------
        n, width : int
            Rows and columns, and how far from the diagonal pairs are held.
        block : int, default 1
            Rows and columns in whole blocks of so many: a band of blocks, which holds this one, is faster.

        Returns
        -------
        Ranges

        Raises
        ------
        RangesError

        Examples
        --------
        >>> from kernelops import Ranges
        >>> Ranges.band(4, 1).mask(4, 4).astype(int)
        array([[1, 1, 0, 0],
               [1, 1, 1, 0],
               [0, 1, 1, 1],
               [0, 0, 1, 1]])
        """
        return cls._from_build(build.band(n, width, block))

    @classmethod
    def lower_triangular(cls, n: int, block: int = 1) -> Ranges:
        """The pairs (i, j) of n rows and columns with j <= i.

        Parameters
        ----------
        n : int
            Rows and columns.
        block : int, default 1
            Rows and columns in whole blocks of so many: a triangle of blocks, which holds this one, is faster.

        Returns
        -------
        Ranges

        Raises
        ------
        RangesError

        Examples
        --------
        >>> from kernelops import Ranges
        >>> Ranges.lower_triangular(4, block=2).mask(4, 4).astype(int)
        array([[1, 1, 0, 0],
               [1, 1, 0, 0],
               [1, 1, 1, 1],
               [1, 1, 1, 1]])
        """
        return cls._from_build(build.lower_triangular(n, block))

    @staticmethod
    def order(x: Any, points_per_cluster: int = 256) -> tuple[np.ndarray, np.ndarray]:
        """An order of points in which neighbours are near each other, cut into compact clusters.

        Parameters
        ----------
        x : (n, D) array
            The points, finite.
        points_per_cluster : int, default 256
            Points of a cluster; the last one may have fewer.

        Returns
        -------
        permutation : (n,) int64
            ``x[permutation]`` has the clusters one after the other.
        labels : (n,) int64
            The cluster of each point, for x as it stands; ``labels[permutation]`` ascends.

        Raises
        ------
        RangesError
            If x is not (n, D) finite numbers, or points_per_cluster no whole number of at least 1.

        Notes
        -----
        A k-d tree: the points are halved across the longest side of their box until clusters are left, which all have
        points_per_cluster points but the last.

        See Also
        --------
        from_clusters, from_radius : order points themselves.

        Examples
        --------
        >>> from kernelops import Ranges
        >>> permutation, labels = Ranges.order([[0.0], [9.0], [1.0], [8.0]], points_per_cluster=2)
        >>> permutation, labels
        (array([0, 2, 1, 3]), array([0, 1, 0, 1]))
        """
        x = check_points("x", x)
        clusters = split(x, check_count("points_per_cluster", points_per_cluster, 1))
        labels = np.empty(len(x), np.int64)
        labels[clusters.order] = np.repeat(np.arange(len(clusters.blocks)), np.diff(clusters.blocks)[:, 0])
        return clusters.order, labels

    def __repr__(self) -> str:
        M, N = self.extent
        share = f"{100 * self.density(M, N):.3g}% of {M} x {N}"
        own = ", in an order of their own" if self.plain is not self else ""
        return f"Ranges({len(self.ranges_i)} i-blocks, {len(self.ranges_j)} j-blocks, {share}{own})"
