"""Sets of pairs (i, j) as rectangles (K, 2, 2): [block, interval] of [start, end]. Covered, compared."""

from __future__ import annotations

import numpy as np

from .block_rows import BlockRows


def rectangles(block_rows: BlockRows) -> np.ndarray:
    """The pairs of block rows as disjoint rectangles."""
    return np.stack([block_rows.blocks[block_rows.owners()], block_rows.intervals], axis=1)


def cover(some: np.ndarray, times: int = 1) -> BlockRows:
    """The pairs that lie in at least so many of the rectangles, as block rows of their first index.

    The first index is cut wherever a rectangle begins or ends. Along the second one, within each piece, the number of
    rectangles is a running sum of +1 at their starts and -1 at their ends: one sort of both, for all pieces together.
    Neighbouring pieces that meet the same intervals are made one block again.
    """
    some = some[(some[:, :, 0] < some[:, :, 1]).all(1)]
    cuts = np.unique(some[:, 0])
    begin, end = np.searchsorted(cuts, some[:, 0, 0]), np.searchsorted(cuts, some[:, 0, 1])
    count = end - begin
    piece = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - begin, count)
    spans = np.repeat(some[:, 1], count, axis=0)

    at, piece = spans.T.reshape(-1), np.tile(piece, 2)
    step = np.repeat([1, -1], len(spans))
    sort = np.lexsort((at, piece))
    at, piece, step = at[sort], piece[sort], step[sort]
    first = np.flatnonzero(np.r_[True, (at[1:] != at[:-1]) | (piece[1:] != piece[:-1])][: len(at)])
    depth = np.cumsum(np.add.reduceat(step, first)) if len(first) else np.zeros(0, np.int64)
    held = depth >= times
    starts, ends = first[held & ~np.r_[False, held][:-1]], first[~held & np.r_[False, held][:-1]]
    intervals, owners = np.stack([at[starts], at[ends]], axis=1), piece[starts]
    return _join_pieces(np.stack([cuts[:-1], cuts[1:]], axis=1), intervals, owners)


def _join_pieces(pieces: np.ndarray, intervals: np.ndarray, owners: np.ndarray) -> BlockRows:
    """Block rows of these pieces, without those that meet nothing; neighbours that meet the same become one."""
    counts = np.bincount(owners, minlength=len(pieces))
    pieces, counts = pieces[counts > 0], counts[counts > 0]
    if not len(pieces):
        return BlockRows(pieces, counts, intervals)
    first = np.cumsum(counts) - counts
    alike = np.r_[False, (counts[1:] == counts[:-1]) & (pieces[1:, 0] == pieces[:-1, 1])]
    owners = np.repeat(np.arange(len(pieces)), counts)
    same = np.zeros(len(intervals), bool)
    k = np.flatnonzero(alike[owners])
    same[k] = (intervals[k] == intervals[k - counts[owners[k]]]).all(1)
    alike &= np.logical_and.reduceat(same, first)
    begin = np.flatnonzero(~alike)
    blocks = np.stack([pieces[begin, 0], np.maximum.reduceat(pieces[:, 1], begin)], axis=1)
    return BlockRows(blocks, np.cumsum(counts[begin]), intervals[~alike[owners]])


def first_difference(some: np.ndarray, others: np.ndarray) -> tuple[int, int, int] | None:
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
