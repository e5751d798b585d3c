"""Ranges: which intervals of j each block of i meets, and the same with i and j exchanged.

The i half says, for block k of rows ``ranges_i[k]``, that it meets the intervals
``redranges_j[slices_i[k-1] : slices_i[k]]``; the j half says the same for reductions over i, which gradients with
respect to j-variables use. Blocks and intervals are half-open. A pair (i, j) that no block and interval hold is not
part of a sum. Dense is the case of one block that meets one interval.

Blocks count positions. Position p is row p of the arrays, or row order[p] where there is an order: so points need not
be sorted for a pattern to have few blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import RangesError
from . import build
from .clusters import points_of, split
from .halves import NAMES, Half, as_array, checked_half, end_of, frozen, what, whole
from .lookup import Lookup, inverse, permutation, same_order
from .picture import draw
from .rectangles import covered, first_difference, rectangles

MOST_TILES = 8192  # in a row, up to which there is a table of those that meet


@dataclass(frozen=True, eq=False, repr=False)
class Ranges:
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
        Where blocks or intervals overlap, slices are no prefix ends, the halves hold different pairs, or an order is no
        permutation.

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

    ranges_i: np.ndarray
    slices_i: np.ndarray
    redranges_j: np.ndarray
    ranges_j: np.ndarray
    slices_j: np.ndarray
    redranges_i: np.ndarray
    order_i: np.ndarray | None = None
    order_j: np.ndarray | None = None

    def __post_init__(self) -> None:
        six = self.as_tuple()
        i_half = checked_half(NAMES[:3], six[:3])
        j_half = checked_half(NAMES[3:], six[3:])
        self._set(*i_half, *j_half, permutation("order_i", self.order_i), permutation("order_j", self.order_j))
        found = first_difference(rectangles(i_half), rectangles(j_half)[:, ::-1])
        if found is not None:
            i, j, sign = found
            here, there = ("ranges_i", "ranges_j") if sign > 0 else ("ranges_j", "ranges_i")
            raise RangesError(
                f"the halves of ranges must be transposes of each other: the pair (i, j) = ({i}, {j}) "
                f"is in the half of {here} and not in the half of {there}"
            )
        self._check_orders()

    def _set(self, *arrays: np.ndarray | None) -> None:
        for name, array in zip((*NAMES, "order_i", "order_j"), arrays, strict=True):
            object.__setattr__(self, name, None if array is None else frozen(array))
        if self.order_j is not None and same_order(self.order_i, self.order_j):
            object.__setattr__(self, "order_j", self.order_i)  # one array, so that what is sorted by it is sorted once

    @classmethod
    def _made(cls, *arrays: np.ndarray | None) -> Ranges:
        """From six arrays, and two orders or none, that are known to be right."""
        self = object.__new__(cls)
        self._set(*arrays, *(None,) * (8 - len(arrays)))
        return self

    @classmethod
    def _built(cls, made: build.Built) -> Ranges:
        return cls._made(*made.i_half, *made.j_half, made.order_i, made.order_j)

    @classmethod
    def from_tuple(cls, six: Any) -> Ranges:
        """From the six arrays in KeOps' order.

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
        """
        try:
            six = tuple(six)
        except TypeError:
            raise RangesError(f"ranges: wanted a Ranges or six integer arrays {NAMES}, got {what(six)}") from None
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
        """None as None, a Ranges as itself, six arrays as a Ranges.

        Parameters
        ----------
        obj : None, Ranges or 6-tuple
            What a ``ranges=`` argument takes.

        Returns
        -------
        Ranges or None
        """
        return obj if obj is None or isinstance(obj, cls) else cls.from_tuple(obj)

    @classmethod
    def dense(cls, M: int, N: int) -> Ranges:
        """Every i meets every j: one block, one interval.

        Parameters
        ----------
        M, N : int
            Rows of i and of j.

        Returns
        -------
        Ranges
        """
        rows, columns = np.array([[0, M]]), np.array([[0, N]])
        return cls.from_mask(rows, columns, np.ones((1, 1), bool))

    @classmethod
    def from_mask(cls, i: Any, j: Any, keep: Any) -> Ranges:
        """From clusters of i and of j, and which cluster meets which.

        Parameters
        ----------
        i, j : (M,) and (N,) integers, or (C, 2) and (D, 2) integers
            The cluster of each row, from 0 on, in any order; or disjoint half-open clusters of rows.
        keep : (C, D) booleans
            Whether cluster k of i meets cluster l of j.

        Returns
        -------
        Ranges

        Raises
        ------
        RangesError
        """
        return cls._built(build.from_mask(i, j, as_array("keep", keep)))

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
        """From clusters of points, by a rule for which meet.

        Parameters
        ----------
        x, y : (M, D) and (N, D) arrays
            The points of i and of j, in any order.
        keep : float or callable
            A radius: clusters meet where their boxes come as near as that, so that every pair of points that near is
            kept. Or ``keep(centres_i, centres_j)``, which gets the means of the clusters, (C, D) and (C', D), and says
            which meet, (C, C') booleans; an empty cluster has nan.
        labels_i, labels_j : (M,) and (N,) integers, optional
            The cluster of each point; by default those of :meth:`order`.
        points_per_cluster : int, default 256
            For clusters that are made here.

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
        >>> ranges = Ranges.from_clusters(x, x, lambda a, b: np.linalg.norm(a[:, None] - b, axis=-1) < 0.3)
        >>> ranges.is_symmetric(), round(ranges.density(5000, 5000), 1)
        (True, 0.3)
        """
        return cls._built(build.from_clusters(x, y, keep, labels_i, labels_j, points_per_cluster))

    @classmethod
    def from_radius(cls, x: Any, y: Any, r: float, points_per_cluster: int = 256) -> Ranges:
        """All pairs of points up to a distance, and those that share a block with one of them.

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
        """
        return cls._built(build.from_clusters(x, y, build.radius("r", r), None, None, points_per_cluster))

    @classmethod
    def band(cls, n: int, width: int, block: int = 1) -> Ranges:
        """The pairs (i, j) of n rows and columns with |i - j| <= width.

        Parameters
        ----------
        n, width : int
        block : int, default 1
            Rows and columns in whole blocks of so many: a band of blocks, which holds this one, is faster.

        Returns
        -------
        Ranges

        Raises
        ------
        RangesError
        """
        return cls._built(build.band(n, width, block))

    @classmethod
    def lower_triangular(cls, n: int, block: int = 1) -> Ranges:
        """The pairs (i, j) of n rows and columns with j <= i.

        Parameters
        ----------
        n : int
        block : int, default 1
            Rows and columns in whole blocks of so many: a triangle of blocks, which holds this one, is faster.

        Returns
        -------
        Ranges

        Raises
        ------
        RangesError
        """
        return cls._built(build.lower_triangular(n, block))

    @staticmethod
    def order(x: Any, points_per_cluster: int = 256) -> tuple[np.ndarray, np.ndarray]:
        """An order of points in which neighbours are near each other, cut into compact clusters.

        Parameters
        ----------
        x : (n, D) array
        points_per_cluster : int, default 256

        Returns
        -------
        permutation : (n,) int64
            ``x[permutation]`` has the clusters one after the other.
        labels : (n,) int64
            The cluster of each point, for x as it stands; ``labels[permutation]`` ascends.

        Raises
        ------
        RangesError

        Notes
        -----
        A k-d tree: the points are halved across the longest side of their box until clusters are left, which all have
        points_per_cluster points but the last.
        """
        x = points_of("x", x)
        order = split(x, build.count("points_per_cluster", points_per_cluster, 1)).order
        labels = np.empty(len(x), np.int64)
        labels[order] = np.arange(len(x)) // points_per_cluster
        return order, labels

    def ordered(self, order_i: Any = None, order_j: Any = None) -> Ranges:
        """The same blocks for points that stand in another order.

        Parameters
        ----------
        order_i, order_j : (M,) and (N,) integers, optional
            Permutations: position p of the pattern is row order[p] of the arrays.

        Returns
        -------
        Ranges

        Raises
        ------
        RangesError
            Where an order is no permutation or does not have the rows, or there is one already.
        """
        if self.order_i is not None or self.order_j is not None:
            raise RangesError("ordered: these ranges have an order already")
        orders = permutation("order_i", order_i), permutation("order_j", order_j)
        found = self._made(*self.as_tuple(), *orders)
        found._check_orders()
        return found

    def union(self, other: Ranges) -> Ranges:
        """The pairs that are in one of two; ``a | b``.

        Parameters
        ----------
        other : Ranges
            In the same order of rows.

        Returns
        -------
        Ranges

        Raises
        ------
        RangesError
        """
        return self._combined(other, 1)

    def intersection(self, other: Ranges) -> Ranges:
        """The pairs that are in both of two; ``a & b``.

        Parameters
        ----------
        other : Ranges
            In the same order of rows.

        Returns
        -------
        Ranges

        Raises
        ------
        RangesError
        """
        return self._combined(other, 2)

    __or__, __and__ = union, intersection

    def _combined(self, other: Ranges, times: int) -> Ranges:
        if not isinstance(other, Ranges):
            raise RangesError(f"wanted other Ranges to combine with, got {what(other)}")
        for name in ("order_i", "order_j"):
            if not same_order(getattr(self, name), getattr(other, name)):
                raise RangesError(f"{name}: wanted two Ranges in one order of rows, got two orders")
        both = np.concatenate([rectangles(self._half(1)), rectangles(other._half(1))])
        halves = covered(both, times), covered(both[:, ::-1], times)
        return self._made(*halves[0], *halves[1], self.order_i, self.order_j)

    @cached_property
    def kept(self) -> dict[Any, Any]:
        """What was made of these ranges, by what it is; ranges never change, so it holds as long as they do."""
        return {}

    @cached_property
    def _ends(self) -> dict[str, int]:
        return {name: end_of(getattr(self, name)) for name in NAMES if "ranges" in name}

    def as_tuple(self) -> tuple[np.ndarray, ...]:
        """The six arrays in KeOps' order.

        Returns
        -------
        tuple of ndarray
            ranges_i, slices_i, redranges_j, ranges_j, slices_j, redranges_i; int64 and read-only.
        """
        return tuple(getattr(self, name) for name in NAMES)

    @property
    def T(self) -> Ranges:
        """The same pairs with i and j exchanged."""
        six = self.as_tuple()
        return self._made(*six[3:], *six[:3], self.order_j, self.order_i)

    @property
    def plain(self) -> Ranges:
        """The same blocks and intervals, for arrays whose rows stand in these orders already."""
        # kept only where it is another one: ranges that hold themselves would stay until Python looks for cycles
        return self if self.order_i is None and self.order_j is None else self._unordered

    @cached_property
    def _unordered(self) -> Ranges:
        return self._made(*self.as_tuple())

    @property
    def extent(self) -> tuple[int, int]:
        """The smallest (M, N) that these ranges fit."""
        ends, orders = self._ends, (self.order_i, self.order_j)
        found = max(ends["ranges_i"], ends["redranges_i"]), max(ends["ranges_j"], ends["redranges_j"])
        return tuple(k if order is None else len(order) for k, order in zip(found, orders, strict=True))

    def _check_orders(self) -> None:
        self.check(*(np.iinfo(np.int64).max if k is None else len(k) for k in (self.order_i, self.order_j)))

    def rows(self, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a reduction over ``axis`` runs through: the i half for axis 1, the j half for axis 0.

        Parameters
        ----------
        axis : {0, 1}
            The index that is reduced: 1 for j, 0 for i.

        Returns
        -------
        blocks : (C, 2) int64
        first : (C+1,) int64
            Block k meets ``intervals[first[k] : first[k+1]]``.
        intervals : (K, 2) int64, ascending within a block, none empty
        """
        blocks, slices, intervals = self._half(axis)
        return blocks, np.concatenate([np.zeros(1, np.int64), slices]), intervals

    def joined(self, axis: int) -> Half:
        """The half that a reduction over ``axis`` runs through, of the fewest blocks and intervals.

        Neighbouring blocks that meet the same are one, and so are intervals that touch; blocks without any are gone.
        """
        return covered(rectangles(self._half(axis)))

    def tiles(self, rows: int, width: int) -> np.ndarray | None:
        """Which tiles of so many rows meet which of columns, for square ranges of whole tiles; else None.

        Parameters
        ----------
        rows : int
            Of i and of j; the last tile may have fewer.
        width : int

        Returns
        -------
        (T, T) uint8 or None
        """
        held, count = rectangles(self._half(1)), -(-rows // width)
        if ((held % width != 0) & (held != rows)).any() or count > MOST_TILES:
            return None
        (a, b), (c, d) = -(-held // width).transpose(1, 2, 0)
        # running sums of a byte: they end at 0 or 1, and that they wrap on the way does not matter
        corners = np.zeros((count + 1, count + 1), np.uint8)
        for at, sign in (((a, c), 1), ((b, d), 1), ((a, d), 255), ((b, c), 255)):
            np.add.at(corners, at, np.uint8(sign))
        for axis in (0, 1):
            np.cumsum(corners, axis, out=corners)
        return np.ascontiguousarray(corners[:count, :count])

    def _half(self, axis: int) -> Half:
        six = self.as_tuple()
        return Half(*(six[:3] if axis == 1 else six[3:]))

    def check(self, M: int, N: int) -> None:
        """Raise RangesError unless every block and interval lies within M rows of i and N rows of j.

        Parameters
        ----------
        M, N : int
            Rows of i and of j.

        Raises
        ------
        RangesError
        """
        for name, letter, size in (("i", "M", M), ("j", "N", N)):
            order = getattr(self, f"order_{name}")
            if order is not None and len(order) != size:
                raise RangesError(f"order_{name}: has {len(order)} rows, there are {letter} = {size} rows of {name}")
            for kind in ("ranges_", "redranges_"):
                if self._ends[kind + name] > size:
                    array = getattr(self, kind + name)
                    start, end = array[array[:, 1].argmax()]
                    raise RangesError(
                        f"{kind}{name}: [{start}, {end}) is out of bounds, there are {letter} = {size} rows of {name}"
                    )

    def is_symmetric(self) -> bool:
        """Whether (j, i) is held wherever (i, j) is.

        Returns
        -------
        bool
        """
        if not same_order(self.order_i, self.order_j):
            return False
        held = rectangles(self._half(1))
        return first_difference(held, held[:, ::-1]) is None

    def density(self, M: int, N: int) -> float:
        """The share of the M x N pairs that is held.

        Parameters
        ----------
        M, N : int
            Rows of i and of j.

        Returns
        -------
        float, from 0 to 1
        """
        return self.pairs / (M * N) if M * N else 0.0

    @cached_property
    def pairs(self) -> int:
        """How many pairs (i, j) are held."""
        sides = np.diff(rectangles(self._half(1)), axis=2)[:, :, 0]
        return int(sides.prod(1).sum())

    def predicted_cost(self, M: int, N: int) -> float:
        """The expected time of a reduction over j, in units of one over all M x N pairs.

        Counted, not measured: the pairs that are held, what it costs to begin a new block or interval, and the
        columns that share a vector register with others. For points in few dimensions; less is lost in many.

        Parameters
        ----------
        M, N : int
            Rows of i and of j.

        Returns
        -------
        float
        """
        dense = Half(np.array([[0, M]]), np.ones(1, np.int64), np.array([[0, N]]))
        return build.work(self._half(1)) / build.work(dense) if M * N else 0.0

    def plot(self, M: int | None = None, N: int | None = None, ax: Any = None) -> Any:
        """Draw the pattern, with matplotlib.

        Parameters
        ----------
        M, N : int, optional
            Rows of i and of j; by default as many as the pattern or its orders need.
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib Axes
            In the order of the pattern, i downwards and j to the right.
        """
        rows, columns = self.extent
        M, N = rows if M is None else M, columns if N is None else N
        self.check(M, N)
        return draw(rectangles(self._half(1)), M, N, f"{100 * self.density(M, N):.3g} % of {M} x {N}", ax)

    def contains(self, I: Any, J: Any) -> np.ndarray:
        """Whether the pairs (I, J) are held, entry by entry.

        Parameters
        ----------
        I, J : integers or arrays of them
            Indices i and j, which broadcast.

        Returns
        -------
        ndarray of bool
        """
        i, j = np.broadcast_arrays(whole("I", I), whole("J", J))
        return self._lookup(*(self._positions(name, k) for name, k in (("order_i", i), ("order_j", j))))

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self._half(1))

    @cached_property
    def _inverses(self) -> dict[str, np.ndarray]:
        orders = {name: getattr(self, name) for name in ("order_i", "order_j")}
        return {name: inverse(order) for name, order in orders.items() if order is not None}

    def _positions(self, name: str, k: np.ndarray) -> np.ndarray:
        """Where rows k of the arrays stand in the pattern; those that do not exist stay as they are."""
        places = self._inverses.get(name)
        if places is None:
            return k
        there = (0 <= k) & (k < len(places))
        return places[k] if there.all() else np.where(there, places[k.clip(0, len(places) - 1)], k)

    def mask(self, M: int, N: int) -> np.ndarray:
        """The pairs held, as a dense array.

        Parameters
        ----------
        M, N : int
            Rows of i and of j.

        Returns
        -------
        ndarray of bool, shape (M, N)

        Raises
        ------
        RangesError
            Where a block or an interval is out of bounds.
        """
        self.check(M, N)
        dense = np.zeros((M, N), bool)
        for (a, b), (c, d) in rectangles(self._half(1)):
            dense[a:b, c:d] = True
        for axis, places in enumerate(self._inverses.get(name) for name in ("order_i", "order_j")):
            dense = dense if places is None else dense.take(places, axis)
        return dense

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ranges):
            return NotImplemented
        six = all(np.array_equal(a, b) for a, b in zip(self.as_tuple(), other.as_tuple(), strict=True))
        return six and same_order(self.order_i, other.order_i) and same_order(self.order_j, other.order_j)

    def __hash__(self) -> int:
        return hash(tuple(a.tobytes() for a in self.as_tuple()))

    def __reduce__(self) -> tuple:
        return Ranges._made, (*self.as_tuple(), self.order_i, self.order_j)

    def __repr__(self) -> str:
        M, N = self.extent
        share = f"{100 * self.density(M, N):.3g}% of {M} x {N}"
        own = ", in an order of their own" if self.plain is not self else ""
        return f"Ranges({len(self.ranges_i)} i-blocks, {len(self.ranges_j)} j-blocks, {share}{own})"
