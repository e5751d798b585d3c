"""Ranges cut into tasks: rows of the result with the intervals of columns that they meet."""

from __future__ import annotations

import numpy as np

from ..ranges import BlockRows


def cut(block_rows: BlockRows, height: int) -> np.ndarray:
    """Blocks of rows cut into tasks of at most ``height`` rows.

    Returns
    -------
    (T, 4) int64
        First row, last row, first interval, last interval of the block rows; last is excluded.
    """
    blocks, slices, _ = block_rows
    first = np.concatenate([np.zeros(1, np.int64), slices])
    pieces = np.maximum(-(-(blocks[:, 1] - blocks[:, 0]) // height), 0)
    block = np.repeat(np.arange(len(blocks)), pieces)
    start = blocks[block, 0] + height * (np.arange(len(block)) - np.repeat(np.cumsum(pieces) - pieces, pieces))
    tasks = np.empty((len(block), 4), np.int64)
    tasks[:, 0], tasks[:, 1] = start, np.minimum(start + height, blocks[block, 1])
    tasks[:, 2], tasks[:, 3] = first[block], first[block + 1]
    return tasks


def cut_in_parts(
    block_rows: BlockRows, rows: int, height: int, parts: int, grain: int
) -> tuple[np.ndarray, np.ndarray]:
    """Tasks that cover every row once in each of some parts, among which the columns of a block are shared.

    Parameters
    ----------
    block_rows : BlockRows
        Of ranges, as :meth:`Ranges.joined` gives it.
    rows : int
        Of the result. Those that meet nothing stand in tasks without intervals.
    height : int
        Most rows of a task.
    parts : int
    grain : int
        Columns of a part are a multiple of this, if there are enough.

    Returns
    -------
    tasks : (T, 5) int64
        First row, last row, first interval, last interval, part.
    intervals : (I, 2) int64
    """
    whole = _with_gaps(block_rows, rows)
    tasks, intervals, before = [], [], 0
    for part in range(parts):
        share = _share(whole, part, parts, grain)
        found = np.empty((0, 5), np.int64) if rows == 0 else np.insert(cut(share, height), 4, part, axis=1)
        found[:, 2:4] += before
        before += len(share.intervals)
        tasks.append(found)
        intervals.append(share.intervals)
    return np.ascontiguousarray(np.concatenate(tasks)), np.ascontiguousarray(np.concatenate(intervals))


def _with_gaps(block_rows: BlockRows, rows: int) -> BlockRows:
    """The block rows with blocks that meet nothing for the rows that are in no block."""
    ends = np.concatenate([[0], block_rows.blocks[:, 1]])
    starts = np.concatenate([block_rows.blocks[:, 0], [rows]])
    gaps = np.column_stack([ends, starts])
    blocks = np.stack([gaps[:-1], block_rows.blocks], axis=1).reshape(-1, 2)
    slices = np.stack([np.concatenate([[0], block_rows.slices])[:-1], block_rows.slices], axis=1).reshape(-1)
    last = block_rows.slices[-1:] if len(block_rows.slices) else np.zeros(1, np.int64)
    return BlockRows(
        np.concatenate([blocks, gaps[-1:]]), np.concatenate([slices, last]).astype(np.int64), block_rows.intervals
    )


def _share(block_rows: BlockRows, part: int, parts: int, grain: int) -> BlockRows:
    """The block rows with a part of the columns of each block, counted through its intervals."""
    if parts == 1:
        return block_rows
    owners, lengths = block_rows.owners(), block_rows.intervals[:, 1] - block_rows.intervals[:, 0]
    ends = np.cumsum(lengths)
    total = np.bincount(owners, lengths, len(block_rows.blocks)).astype(np.int64)
    offset = ends - lengths - (np.cumsum(total) - total)[owners]  # columns of the block before an interval
    size = -(-total // (parts * grain)) * grain
    low = np.clip((part * size)[owners] - offset, 0, lengths)
    high = np.clip(((part + 1) * size)[owners] - offset, 0, lengths)
    kept = low < high
    found = block_rows.intervals[kept, :1] + np.column_stack([low, high])[kept]
    return BlockRows(block_rows.blocks, np.bincount(owners[kept], minlength=len(block_rows.blocks)).cumsum(), found)
