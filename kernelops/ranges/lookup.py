"""Is the pair (i, j) held? Asked for many pairs at once."""

from __future__ import annotations

import numpy as np

from .block_rows import BlockRows

TABLE = 1 << 26  # a table of blocks is made if it has at most so many entries, of a byte each


class Lookup:
    """Tells which pairs (i, j) some block rows hold.

    The columns are cut where an interval begins or ends. A row is looked up among the blocks and a column among its
    pieces, each alone; which block meets which piece stands in a table. Where that would be large the intervals of all
    blocks are one sorted list instead, and the last one that begins at or before (block, piece) tells.
    """

    def __init__(self, block_rows: BlockRows) -> None:
        blocks, _, intervals = block_rows
        filled = np.flatnonzero(blocks[:, 0] < blocks[:, 1])
        filled = filled[np.argsort(blocks[filled, 0])]
        self.starts = blocks[filled, 0]
        # blocks and pieces are counted from 1; 0 is what lies before the first one, and a row that is in no block
        self.ends = np.r_[0, blocks[filled, 1]]
        self.numbers = np.r_[0, filled + 1]
        self.cuts = np.unique(intervals)
        self.width = len(self.cuts) + 1
        row = (block_rows.owners() + 1) * self.width
        begin, end = row[:, None].T + np.searchsorted(self.cuts, intervals.T) + 1
        self.begins, self.until = begin, np.r_[0, end]
        self.table: np.ndarray | None = None
        if (len(blocks) + 1) * self.width <= TABLE:
            self.table = self._fill((len(blocks) + 1) * self.width, begin, end)

    @staticmethod
    def _fill(size: int, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """True from each begin up to its end: a running sum of +1 and -1, which cancel if two intervals touch."""
        steps = np.zeros(size, np.int8)
        steps[begin] += 1
        steps[end] -= 1
        return np.cumsum(steps, out=steps, dtype=np.int8).view(bool)

    def __call__(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Whether (i, j) is held; i and j broadcast, after each is looked up."""
        block = np.searchsorted(self.starts, i, side="right")
        row = np.where(i < self.ends[block], self.numbers[block], 0)
        keys = row * self.width + np.searchsorted(self.cuts, j, side="right")
        if self.table is not None:
            return self.table[keys]
        return keys < self.until[np.searchsorted(self.begins, keys, side="right")]
