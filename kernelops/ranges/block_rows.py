"""Block rows: blocks of one index with the intervals of the other that each meets, a CSR matrix over intervals."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..errors import RangesError
from .validate import as_int64

NAMES = ("ranges_i", "slices_i", "redranges_j", "ranges_j", "slices_j", "redranges_i")


class BlockRows(NamedTuple):
    """Blocks of one index and the intervals of the other that each meets; three of the six arrays."""

    blocks: np.ndarray  # (C, 2)
    slices: np.ndarray  # (C,): block k owns intervals[slices[k-1] : slices[k]]
    intervals: np.ndarray  # (K, 2), none empty, ascending within a block

    def owners(self) -> np.ndarray:
        """The number of the block that each interval belongs to."""
        return np.repeat(np.arange(len(self.blocks)), np.diff(self.slices, prepend=0))


def as_frozen_int64(a: np.ndarray) -> np.ndarray:
    """The array as contiguous int64 that cannot be written to."""
    a = np.ascontiguousarray(a, np.int64)
    a.setflags(write=False)
    return a


def largest_end(a: np.ndarray) -> int:
    """The largest end of some intervals, 0 if there are none."""
    return int(a[:, 1].max(initial=0))


def check_pairs(name: str, a: Any) -> np.ndarray:
    """Starts and ends, (C, 2), checked."""
    pairs = as_int64(name, a)
    if pairs.size == 0 and pairs.ndim < 2:
        pairs = pairs.reshape(0, 2)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise RangesError(f"{name}: wanted shape (C, 2), a start and an end in each row, got shape {pairs.shape}")
    for bad, wanted in ((pairs[:, 0] < 0, "0 <= start"), (pairs[:, 0] > pairs[:, 1], "start <= end")):
        if bad.any():
            row = int(bad.argmax())
            raise RangesError(f"{name}: wanted {wanted}, got [{pairs[row, 0]}, {pairs[row, 1]}) in row {row}")
    return pairs


def check_slices(name: str, a: Any, blocks: int, intervals: int) -> np.ndarray:
    """Inclusive prefix ends, one for each block, checked."""
    slices = as_int64(name, a)
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


def check_block_rows(names: tuple[str, ...], three: tuple[Any, ...]) -> BlockRows:
    """Block rows from three arrays, checked on their own: intervals ascending within a block, empty ones dropped."""
    blocks = check_pairs(names[0], three[0])
    intervals = check_pairs(names[2], three[2])
    block_rows = BlockRows(blocks, check_slices(names[1], three[1], len(blocks), len(intervals)), intervals)
    owners, filled = block_rows.owners(), intervals[:, 0] < intervals[:, 1]
    owners, intervals = owners[filled], intervals[filled]
    order = np.lexsort((intervals[:, 0], owners))
    owners, intervals = owners[order], intervals[order]
    _refuse_overlap(names[0], blocks[np.lexsort((blocks[:, 1], blocks[:, 0]))], None)
    _refuse_overlap(names[2], intervals, owners)
    return BlockRows(blocks, np.bincount(owners, minlength=len(blocks)).cumsum(), intervals)


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
