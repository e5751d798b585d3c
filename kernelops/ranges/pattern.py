"""Pattern: which intervals of j each block of i meets, and the same with i and j exchanged.

The block rows of i say, for block k of rows ``ranges_i[k]``, that it meets the intervals
``redranges_j[slices_i[k-1] : slices_i[k]]``; those of j say the same for reductions over i, which gradients with
respect to j-variables use. Blocks and intervals are half-open. A pair (i, j) that no block and interval hold is not
part of a sum. Dense is the case of one block that meets one interval.

Blocks count positions. Position p is row p of the arrays, or row order[p] if there is an order: so points need not
be sorted for a pattern to have few blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RangesError
from ..formula.cached import cached_property
from . import build
from .block_rows import NAMES, BlockRows, as_frozen_int64, check_block_rows, largest_end
from .permutation import check_permutation, is_same_order
from .rectangles import cover, first_difference, rectangles
from .validate import check_count, describe

if TYPE_CHECKING:
    from typing import Self

MOST_TILES = 8192  # a table of the tiles that meet is made for at most so many in a row


@dataclass(frozen=True, eq=False, repr=False)
class Pattern:
    """Six arrays, and the orders of rows that they count in; :class:`Ranges` documents them."""

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
        i_rows = check_block_rows(NAMES[:3], six[:3])
        j_rows = check_block_rows(NAMES[3:], six[3:])
        orders = (check_permutation(name, getattr(self, name)) for name in ("order_i", "order_j"))
        self._set(*i_rows, *j_rows, *orders)
        found = first_difference(rectangles(i_rows), rectangles(j_rows)[:, ::-1])
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
            object.__setattr__(self, name, None if array is None else as_frozen_int64(array))
        if self.order_i is not None and self.order_j is not None and is_same_order(self.order_i, self.order_j):
            object.__setattr__(self, "order_j", self.order_i)  # one array, so that what is sorted by it is sorted once

    @classmethod
    def _made(cls, *arrays: np.ndarray | None) -> Self:
        """From six arrays, and two orders or none, that are known to be right."""
        self = object.__new__(cls)
        self._set(*arrays, *(None,) * (8 - len(arrays)))
        return self

    @classmethod
    def _from_build(cls, made: build.Built) -> Self:
        return cls._made(*made.i_rows, *made.j_rows, made.order_i, made.order_j)

    def ordered(self, order_i: Any = None, order_j: Any = None) -> Self:
        """These blocks, for points that stand in another order.

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
            If an order is no permutation or has fewer rows than the pattern, or there is one already.

        Examples
        --------
        >>> from kernelops import Ranges
        >>> Ranges.band(3, 0).ordered([2, 0, 1]).mask(3, 3).astype(int)
        array([[0, 1, 0],
               [0, 0, 1],
               [1, 0, 0]])
        """
        if self.order_i is not None or self.order_j is not None:
            raise RangesError("ordered: these ranges have an order already")
        orders = check_permutation("order_i", order_i), check_permutation("order_j", order_j)
        found = self._made(*self.as_tuple(), *orders)
        found._check_orders()
        return found

    def union(self, other: Pattern) -> Self:
        """The pairs that are in one of two patterns; ``a | b``.

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
            If other is no Ranges, or the two have different orders of rows.

        Examples
        --------
        >>> from kernelops import Ranges
        >>> (Ranges.band(3, 0) | Ranges.lower_triangular(3)).mask(3, 3).astype(int)
        array([[1, 0, 0],
               [1, 1, 0],
               [1, 1, 1]])
        """
        return self._combine(other, 1)

    def intersection(self, other: Pattern) -> Self:
        """The pairs that are in both of two patterns; ``a & b``.

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
            If other is no Ranges, or the two have different orders of rows.

        Examples
        --------
        >>> from kernelops import Ranges
        >>> (Ranges.band(3, 1) & Ranges.lower_triangular(3)).mask(3, 3).astype(int)
        array([[1, 0, 0],
               [1, 1, 0],
               [0, 1, 1]])
        """
        return self._combine(other, 2)

    __or__, __and__ = union, intersection

    def _combine(self, other: Pattern, times: int) -> Self:
        """The pairs that at least so many of two patterns hold."""
        if not isinstance(other, Pattern):
            raise RangesError(f"other: wanted a Ranges, got {describe(other)}")
        orders = []
        for name in ("order_i", "order_j"):
            here, there = getattr(self, name), getattr(other, name)
            if not is_same_order(here, there):
                raise RangesError(f"{name}: wanted two Ranges in one order of rows, got two orders")
            orders.append(there if here is None else here)
        halves = []
        for axis in (1, 0):
            both = np.concatenate([rectangles(self._block_rows(axis)), rectangles(other._block_rows(axis))])
            halves += cover(both, times)
        found = self._made(*halves, *orders)
        found._check_orders()
        return found

    @cached_property
    def cache(self) -> dict[Any, Any]:
        """Values computed from these ranges, by keys; ranges never change, so the values hold as long as they do."""
        return {}

    @cached_property
    def _ends(self) -> dict[str, int]:
        return {name: largest_end(getattr(self, name)) for name in NAMES if "ranges" in name}

    def as_tuple(self) -> tuple[np.ndarray, ...]:
        """The six arrays in KeOps' order.

        Returns
        -------
        tuple of ndarray
            ranges_i, slices_i, redranges_j, ranges_j, slices_j, redranges_i; int64 and read-only.

        Examples
        --------
        >>> from kernelops import Ranges
        >>> [a.tolist() for a in Ranges.dense(4, 3).as_tuple()]
        [[[0, 4]], [1], [[0, 3]], [[0, 3]], [1], [[0, 4]]]
        """
        return tuple(getattr(self, name) for name in NAMES)

    @property
    def T(self) -> Self:
        """The same pairs with i and j exchanged."""
        six = self.as_tuple()
        return self._made(*six[3:], *six[:3], self.order_j, self.order_i)

    @property
    def plain(self) -> Self:
        """The same blocks and intervals, for arrays whose rows stand in these orders already."""
        # kept only if it is another one: ranges that hold themselves would stay until Python looks for cycles
        return self if self.order_i is None and self.order_j is None else self._plain

    @cached_property
    def _plain(self) -> Self:
        return self._made(*self.as_tuple())

    @property
    def extent(self) -> tuple[int, int]:
        """The smallest (M, N) that these ranges fit."""
        M, N = self._positions_held
        return M if self.order_i is None else len(self.order_i), N if self.order_j is None else len(self.order_j)

    @property
    def _positions_held(self) -> tuple[int, int]:
        ends = self._ends
        return max(ends["ranges_i"], ends["redranges_i"]), max(ends["ranges_j"], ends["redranges_j"])

    def _check_orders(self) -> None:
        """Refuse an order of fewer rows than the pattern has."""
        for name, least in zip(("order_i", "order_j"), self._positions_held, strict=True):
            order = getattr(self, name)
            if order is not None and len(order) < least:
                raise RangesError(f"{name}: wanted the {least} rows of the pattern or more, got {len(order)}")

    def joined(self, axis: int) -> BlockRows:
        """The block rows that a reduction over ``axis`` runs through, with as few blocks and intervals as there can be.

        Neighbouring blocks that meet the same are one, and so are intervals that touch; blocks without any are gone.

        Parameters
        ----------
        axis : {0, 1}
            1 for the block rows of i, which reductions over j use; 0 for those of j.

        Returns
        -------
        BlockRows
            The arrays blocks (C, 2), slices (C,) and intervals (K, 2).

        Raises
        ------
        RangesError
            If axis is neither 0 nor 1.
        """
        return cover(rectangles(self._block_rows(axis)))

    def tiles(self, rows: int, width: int) -> np.ndarray | None:
        """The tiles of rows and of columns that meet, for square ranges of whole tiles; else None.

        Parameters
        ----------
        rows : int
            Of i and of j; the last tile may have fewer.
        width : int
            Rows, and columns, of a tile.

        Returns
        -------
        (T, T) uint8 or None
            1 if the tiles meet, else 0.
        """
        held, tiles = rectangles(self._block_rows(1)), -(-rows // width)
        if ((held % width != 0) & (held != rows)).any() or tiles > MOST_TILES:
            return None
        (a, b), (c, d) = -(-held // width).transpose(1, 2, 0)
        # running sums of a byte: they end at 0 or 1, and that they wrap on the way does not matter
        corners = np.zeros((tiles + 1, tiles + 1), np.uint8)
        for at, sign in (((a, c), 1), ((b, d), 1), ((a, d), 255), ((b, c), 255)):
            np.add.at(corners, at, np.uint8(sign))
        for axis in (0, 1):
            np.cumsum(corners, axis, out=corners)
        return np.ascontiguousarray(corners[:tiles, :tiles])

    def _block_rows(self, axis: int) -> BlockRows:
        if axis not in (0, 1):
            raise RangesError(f"axis: wanted 0 or 1, got {axis!r}")
        six = self.as_tuple()
        return BlockRows(*(six[:3] if axis == 1 else six[3:]))

    def check(self, M: int, N: int) -> None:
        """Raise RangesError unless every block and interval lies within M rows of i and N rows of j.

        Parameters
        ----------
        M, N : int
            Rows of i and of j.

        Raises
        ------
        RangesError
            If a block or an interval ends later, or an order has another number of rows.

        Examples
        --------
        >>> from kernelops import Ranges
        >>> Ranges.band(4, 1).check(4, 4)
        """
        for name, letter, given in (("i", "M", M), ("j", "N", N)):
            size = check_count(letter, given)
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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pattern):
            return NotImplemented
        same = [np.array_equal(a, b) for a, b in zip(self.as_tuple(), other.as_tuple(), strict=True)]
        same += [is_same_order(self.order_i, other.order_i), is_same_order(self.order_j, other.order_j)]
        return all(same) and self.extent == other.extent

    def __hash__(self) -> int:
        return hash(tuple(a.tobytes() for a in self.as_tuple()))

    def __reduce__(self) -> tuple:
        return type(self)._made, (*self.as_tuple(), self.order_i, self.order_j)
