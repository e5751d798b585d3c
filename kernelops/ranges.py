"""Ranges: which intervals of j each block of i meets, and the same with i and j exchanged.

The i half says, for block k of rows ``ranges_i[k]``, that it meets the intervals
``redranges_j[slices_i[k-1] : slices_i[k]]``; the j half says the same for reductions over i, which gradients with
respect to j-variables use. Blocks and intervals are half-open. A pair (i, j) that no block and interval hold is not
part of a sum. Dense is the case of one block that meets one interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .errors import RangesError

NAMES = ("ranges_i", "slices_i", "redranges_j", "ranges_j", "slices_j", "redranges_i")


class Half(NamedTuple):
    """Blocks of one index and the intervals of the other that each meets; three of the six arrays."""

    blocks: np.ndarray  # (C, 2)
    slices: np.ndarray  # (C,): block k owns intervals[slices[k-1] : slices[k]]
    intervals: np.ndarray  # (K, 2), none empty, ascending within a block

    def owners(self) -> np.ndarray:
        """The number of the block that each interval belongs to."""
        return np.repeat(np.arange(len(self.blocks)), np.diff(self.slices, prepend=0))


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

    Raises
    ------
    RangesError
        Where blocks or intervals overlap, slices are no prefix ends, or the halves hold different pairs.

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

    def __post_init__(self) -> None:
        six = self.as_tuple()
        i_half = _half(NAMES[:3], six[:3])
        j_half = _half(NAMES[3:], six[3:])
        for name, array in zip(NAMES, (*i_half, *j_half), strict=True):
            object.__setattr__(self, name, _frozen(array))
        found = _first_difference(_rectangles(i_half), _rectangles(j_half)[:, ::-1])
        if found is not None:
            i, j, sign = found
            here, there = ("ranges_i", "ranges_j") if sign > 0 else ("ranges_j", "ranges_i")
            raise RangesError(
                f"the halves of ranges must be transposes of each other: the pair (i, j) = ({i}, {j}) "
                f"is in the half of {here} and not in the half of {there}"
            )

    @classmethod
    def _made(cls, *six: np.ndarray) -> Ranges:
        """From six arrays that are known to be right."""
        self = object.__new__(cls)
        for name, array in zip(NAMES, six, strict=True):
            object.__setattr__(self, name, _frozen(array))
        return self

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
            raise RangesError(f"ranges: wanted a Ranges or six integer arrays {NAMES}, got {_what(six)}") from None
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
    def from_mask(cls, ranges_i: Any, ranges_j: Any, keep: Any) -> Ranges:
        """From disjoint clusters of i and of j, and which cluster meets which.

        Parameters
        ----------
        ranges_i, ranges_j : (C, 2) and (D, 2) integers
            Half-open clusters.
        keep : (C, D) booleans
            Whether cluster k of i meets cluster l of j.

        Returns
        -------
        Ranges

        Raises
        ------
        RangesError
        """
        keep = _numpy("keep", keep)
        clusters_i, clusters_j = _pairs("ranges_i", ranges_i), _pairs("ranges_j", ranges_j)
        if keep.dtype != bool or keep.shape != (len(clusters_i), len(clusters_j)):
            wanted = f"({len(clusters_i)}, {len(clusters_j)})"
            raise RangesError(f"keep: wanted booleans of shape {wanted}, got {keep.dtype} of shape {keep.shape}")
        slices_i, slices_j = keep.sum(1).cumsum(), keep.sum(0).cumsum()
        i_half = _half(NAMES[:3], (clusters_i, slices_i, clusters_j[keep.nonzero()[1]]))
        j_half = _half(NAMES[3:], (clusters_j, slices_j, clusters_i[keep.T.nonzero()[1]]))
        return cls._made(*i_half, *j_half)

    @cached_property
    def kept(self) -> dict[Any, Any]:
        """What was made of these ranges, by what it is; ranges never change, so it holds as long as they do."""
        return {}

    @cached_property
    def _ends(self) -> dict[str, int]:
        return {name: _end(getattr(self, name)) for name in NAMES if "ranges" in name}

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
        return self._made(*six[3:], *six[:3])

    @property
    def extent(self) -> tuple[int, int]:
        """The smallest (M, N) that these ranges fit."""
        ends = self._ends
        return max(ends["ranges_i"], ends["redranges_i"]), max(ends["ranges_j"], ends["redranges_j"])

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
        rectangles = _rectangles(self._half(1))
        return _first_difference(rectangles, rectangles[:, ::-1]) is None

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
        (a, b), (c, d) = _rectangles(self._half(1)).transpose(1, 2, 0).astype(float)
        return float(((b - a) * (d - c)).sum() / (M * N)) if M * N else 0.0

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
        i, j = np.broadcast_arrays(_whole("I", I), _whole("J", J))
        blocks, first, intervals = self.rows(1)
        filled = np.flatnonzero(blocks[:, 0] < blocks[:, 1])
        if not len(intervals) or not len(filled):
            return np.zeros(i.shape, bool)
        order = filled[np.argsort(blocks[filled, 0])]
        block = order[np.searchsorted(blocks[order, 0], i, side="right") - 1]
        # intervals ascend by (block, start): one number for both makes one binary search of it
        width = int(intervals.max())
        starts = self._half(1).owners() * width + intervals[:, 0]
        at = np.searchsorted(starts, block * width + j.clip(0, width - 1), side="right") - 1
        held = (blocks[block, 0] <= i) & (i < blocks[block, 1])
        return held & (at >= first[block]) & (0 <= j) & (j < intervals[at, 1])

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
        for (a, b), (c, d) in _rectangles(self._half(1)):
            dense[a:b, c:d] = True
        return dense

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ranges):
            return NotImplemented
        return all(np.array_equal(a, b) for a, b in zip(self.as_tuple(), other.as_tuple(), strict=True))

    def __hash__(self) -> int:
        return hash(tuple(a.tobytes() for a in self.as_tuple()))

    def __reduce__(self) -> tuple:
        return Ranges._made, self.as_tuple()

    def __repr__(self) -> str:
        M, N = self.extent
        share = f"{100 * self.density(M, N):.3g}% of {M} x {N}"
        return f"Ranges({len(self.ranges_i)} i-blocks, {len(self.ranges_j)} j-blocks, {share})"


def _what(a: Any) -> str:
    shape = getattr(a, "shape", None)
    return type(a).__name__ if shape is None else f"{type(a).__name__} of {a.dtype} of shape {tuple(shape)}"


def _frozen(a: np.ndarray) -> np.ndarray:
    a = np.ascontiguousarray(a, np.int64)
    a.setflags(write=False)
    return a


def _end(a: np.ndarray) -> int:
    return int(a[:, 1].max(initial=0))


def _numpy(name: str, a: Any) -> np.ndarray:
    if hasattr(a, "detach"):  # a torch tensor, on whatever device
        a = a.detach().cpu().numpy()
    try:
        return np.asarray(a)
    except (TypeError, ValueError):
        raise RangesError(f"{name}: wanted an array, got {_what(a)}") from None


def _whole(name: str, a: Any) -> np.ndarray:
    array = _numpy(name, a)
    if array.size == 0 and not hasattr(a, "dtype"):
        array = array.astype(np.int64)  # an empty list has no type of its own
    if array.dtype.kind not in "iu":
        raise RangesError(f"{name}: wanted integers, got {_what(a if hasattr(a, 'shape') else array)}")
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise RangesError(f"{name}: {array.max()} does not fit int64")
    return array.astype(np.int64)


def _pairs(name: str, a: Any) -> np.ndarray:
    pairs = _whole(name, a)
    if pairs.size == 0 and pairs.ndim < 2:
        pairs = pairs.reshape(0, 2)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise RangesError(f"{name}: wanted shape (C, 2), a start and an end in each row, got shape {pairs.shape}")
    for bad, wanted in ((pairs[:, 0] < 0, "0 <= start"), (pairs[:, 0] > pairs[:, 1], "start <= end")):
        if bad.any():
            row = int(bad.argmax())
            raise RangesError(f"{name}: wanted {wanted}, got [{pairs[row, 0]}, {pairs[row, 1]}) in row {row}")
    return pairs


def _slices(name: str, a: Any, blocks: int, intervals: int) -> np.ndarray:
    slices = _whole(name, a)
    if slices.shape != (blocks,):
        raise RangesError(f"{name}: wanted shape ({blocks},), one entry a block, got shape {slices.shape}")
    if (np.diff(slices, prepend=0) < 0).any():
        raise RangesError(f"{name}: wanted prefix ends that never decrease from 0 on, got {_short(slices)}")
    last = int(slices[-1]) if blocks else 0
    if last != intervals:
        raise RangesError(f"{name}: wanted the last entry to be the number of intervals, {intervals}, got {last}")
    return slices


def _short(a: np.ndarray) -> str:
    return np.array2string(a, threshold=8, separator=", ")


def _half(names: tuple[str, ...], three: tuple[Any, ...]) -> Half:
    """Three arrays checked on their own and put in order: intervals ascending within a block, empty ones dropped."""
    blocks = _pairs(names[0], three[0])
    intervals = _pairs(names[2], three[2])
    half = Half(blocks, _slices(names[1], three[1], len(blocks), len(intervals)), intervals)
    owners, filled = half.owners(), intervals[:, 0] < intervals[:, 1]
    owners, intervals = owners[filled], intervals[filled]
    order = np.lexsort((intervals[:, 0], owners))
    owners, intervals = owners[order], intervals[order]
    _refuse_overlap(names[0], blocks[np.lexsort((blocks[:, 1], blocks[:, 0]))], None)
    _refuse_overlap(names[2], intervals, owners)
    return Half(blocks, np.bincount(owners, minlength=len(blocks)).cumsum(), intervals)


def _refuse_overlap(name: str, ascending: np.ndarray, owners: np.ndarray | None) -> None:
    """Refuse two neighbours that share a row; with owners, only two of the same block."""
    filled = ascending[:, 0] < ascending[:, 1]
    a = ascending[filled]
    shared = a[:-1, 1] > a[1:, 0]
    if owners is not None:
        shared &= owners[filled][:-1] == owners[filled][1:]
    if shared.any():
        k = int(shared.argmax())
        where = (
            "wanted disjoint blocks" if owners is None else f"wanted disjoint intervals in block {owners[filled][k]}"
        )
        raise RangesError(f"{name}: {where}, got [{a[k, 0]}, {a[k, 1]}) and [{a[k + 1, 0]}, {a[k + 1, 1]})")


def _rectangles(half: Half) -> np.ndarray:
    """The pairs of a half as disjoint rectangles (K, 2, 2): [block, interval] of [start, end]."""
    return np.stack([half.blocks[half.owners()], half.intervals], axis=1)


def _first_difference(some: np.ndarray, others: np.ndarray) -> tuple[int, int, int] | None:
    """The first pair that is in one of two sets of disjoint rectangles only: (i, j, +1 or -1), or None.

    The indicator of [a, b) x [c, d) is the double running sum of +1 at (a, c) and (b, d) and -1 at (a, d) and (b, c).
    So two sets are equal just where their signed corners cancel at every point, which takes a sort of 8 K points and
    memory for them, whatever M and N are. Nothing lies before the first point that is left: there the sets differ.
    """
    both = np.concatenate([some, others])
    signs = np.repeat([1, -1], [len(some), len(others)])
    i = np.concatenate([both[:, 0, 0], both[:, 0, 1], both[:, 0, 0], both[:, 0, 1]])
    j = np.concatenate([both[:, 1, 0], both[:, 1, 1], both[:, 1, 1], both[:, 1, 0]])
    weights = np.concatenate([signs, signs, -signs, -signs])
    order = np.lexsort((j, i))
    i, j = i[order], j[order]
    starts = np.flatnonzero(np.r_[True, (i[1:] != i[:-1]) | (j[1:] != j[:-1])][: len(i)])
    left = np.add.reduceat(weights[order], starts) if len(starts) else weights
    if not left.any():
        return None
    at = int(np.flatnonzero(left)[0])
    return int(i[starts[at]]), int(j[starts[at]]), int(left[at])
