"""The options of a kernel: precisions, which values are kept, how sums are made, the form of the results."""

from __future__ import annotations

from typing import NamedTuple


class KernelOptions(NamedTuple):
    """Everything that a kernel is made for besides its program.

    The engine of the CPU reads ``dtype``, ``best``, ``largest``, ``nan_first``, ``compensated`` and ``wide_sums``.

    Attributes
    ----------
    dtype : {"float32", "float64"}
        The precision of the computation.
    data : tuple of (int, str)
        Positions of variables and the precisions of their arrays, "float16", "float32" or "float64"; arrays of other
        variables are in ``dtype``.
    best : int
        The number of values that are kept for each row.
    largest : bool
        Whether the largest values are kept, not the smallest.
    nan_first : bool
        Whether a NaN goes before all other values.
    compensated : bool
        Whether sums are compensated across spans of columns.
    wide_sums : bool
        Whether sums are in double inside a span of columns too.
    finish : {"sum", "log", "mean", "values", "indices", "both", "entries"} or None
        The final form of the results; None for partial results, in double, of each part of the columns.
    out : {"float16", "float32", "float64"} or None
        The precision of the final results; None for ``dtype``.
    arithmetic : {"twofloat", "again"} or None
        For sums in float64: "twofloat" computes pairs in two floats (``cuda/twofloat.cuh``), and "again" in double
        those rows only whose results have left the range in which such numbers are good.
    """

    dtype: str = "float32"
    data: tuple[tuple[int, str], ...] = ()
    best: int = 1
    largest: bool = False
    nan_first: bool = True
    compensated: bool = False
    wide_sums: bool = False
    finish: str | None = None
    out: str | None = None
    arithmetic: str | None = None

    def data_of(self, position: int) -> str:
        """The precision of a variable's array."""
        return dict(self.data).get(position, self.dtype)

    @property
    def result(self) -> str:
        """The precision of the results; partial ones are in double, but for the values of all pairs."""
        return self.dtype if self.finish is None or self.out is None else self.out
