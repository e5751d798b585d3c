"""Frame: the shape, the dtype and the ranges of a LazyTensor, apart from its formula."""

from __future__ import annotations

from operator import index
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError, DtypeError, ShapeError
from ...ranges import Ranges


class Frame(NamedTuple):
    """What operands of one formula have in common.

    Attributes
    ----------
    batch : tuple of int
        The batch dimensions.
    M, N : int or None
        How many i and j there are; None if nothing has said so.
    dtype : str or None
        "float16", "float32" or "float64"; None if there are numbers alone.
    ranges : Ranges or None
        Which i meet which j; None if all do.
    backend : str or None
        Where reductions are computed; None for what they take by default.
    """

    batch: tuple[int, ...] = ()
    M: int | None = None
    N: int | None = None
    dtype: str | None = None
    ranges: Ranges | None = None
    backend: str | None = None

    @property
    def transposed(self) -> Frame:
        """The same with i and j exchanged."""
        ranges = None if self.ranges is None else self.ranges.T
        return self._replace(M=self.N, N=self.M, ranges=ranges)


EMPTY = Frame()


def join_frames(a: Frame, b: Frame) -> Frame:
    """What two operands have in common.

    Raises
    ------
    ShapeError, DtypeError, ArgumentError
        If they differ in i, j, batch dimensions, dtype, ranges or backend, with both values.
    """
    if b is a or b is EMPTY:
        return a
    if a is EMPTY:
        return b
    M = a.M if b.M is None or a.M == b.M else b.M if a.M is None else _refuse_count("i", a.M, b.M)
    N = a.N if b.N is None or a.N == b.N else b.N if a.N is None else _refuse_count("j", a.N, b.N)
    dtype = a.dtype if b.dtype is None or a.dtype == b.dtype else b.dtype
    if a.dtype is not None and dtype != a.dtype:
        raise DtypeError(f"operands differ in dtype: {a.dtype} and {b.dtype}; wanted one, as .astype or .to makes it")
    batch = a.batch if not b.batch or a.batch == b.batch else _broadcast(a.batch, b.batch)
    ranges = a.ranges if b.ranges is None or b.ranges is a.ranges else b.ranges
    if a.ranges is not None and ranges is not a.ranges:
        if a.ranges != b.ranges:
            raise ArgumentError("operands differ in ranges: wanted the same pattern, or one operand that has none")
        ranges = a.ranges
    backend = a.backend if b.backend is None or a.backend == b.backend else b.backend
    if a.backend is not None and backend != a.backend:
        raise ArgumentError(f"operands differ in backend: {a.backend!r} and {b.backend!r}")
    for same in (a, b):  # most operations change nothing, and share the frame
        if same[:4] == (batch, M, N, dtype) and same.ranges is ranges and same.backend == backend:
            return same
    return Frame(batch, M, N, dtype, ranges, backend)


def _refuse_count(index: str, first: int, second: int) -> int:
    raise ShapeError(f"operands differ in {index}: {first} and {second}")


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(a, b)
    except ValueError:
        raise ShapeError(f"operands differ in batch dimensions: {a} and {b} do not broadcast") from None


def check_batch(batch: Any) -> tuple[int, ...]:
    """Batch dimensions as they are set by hand: a sequence of whole numbers, or None for none."""
    if batch is None:
        return ()
    try:
        found = tuple(index(n) for n in batch)
    except TypeError:
        found = (-1,)
    if min(found, default=0) < 0:
        raise ArgumentError(f"batchdims: wanted a sequence of whole numbers, 0 and above, or None, got {batch!r}")
    return found
