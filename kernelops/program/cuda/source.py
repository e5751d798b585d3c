"""Tile programs as CUDA C++: one kernel for each program, as text.

A block of threads takes a task: some rows of the result and the intervals of columns that they meet. Each thread holds
the exports of a few rows in registers; columns are computed once for a block, tile by tile, in shared memory; the pair
stage is straight-line code on a thread's own numbers. Sums run in the working type over ``span`` columns and in double
from there on. The real files in ``cuda/`` hold the rest: the value table as device functions, accumulators.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...errors import ArgumentError
from ..instructions import Program
from .combine import finish_text
from .kernel import Kernel
from .layout import Layout, finishes, layout, parts
from .register_tiles import BLOCK
from .signature import argument_names, finish_argument_names, options

__all__ = [
    "BLOCK",
    "Layout",
    "argument_names",
    "cuda_source",
    "finish_argument_names",
    "finish_source",
    "finishes",
    "include_folders",
    "layout",
    "parts",
]


def include_folders() -> tuple[Path, ...]:
    """Where the files lie that a kernel's text includes: those of ``cuda/`` and ops.h."""
    package = Path(__file__).resolve().parent.parent.parent
    shipped = package / "cuda"
    return (shipped if shipped.is_dir() else package.parent / "cuda"), package / "_tile"


def cuda_source(
    program: Program,
    dtype: str = "float32",
    *,
    data: str | Mapping[int, str] | None = None,
    best: int = 1,
    largest: bool = False,
    nan_first: bool = True,
    compensated: bool = False,
    wide_sums: bool = False,
    rows: int | None = None,
    finish: str | None = None,
    out: str | None = None,
    arithmetic: str | None = None,
    name: str = "kernelops_reduce",
) -> str:
    """The text of a program's kernel; the same program gives the same text.

    Parameters
    ----------
    program : Program
    dtype : {"float32", "float64"}
        In which the kernel computes.
    data : {"float16", "float32", "float64"}, optional
        In which the arrays are, or those of each variable by its position; dtype unless given.
    best, largest, nan_first
        How many values are kept, whether the largest ones, whether a NaN goes before all other values.
    compensated, wide_sums : bool
        Compensated sums across spans of columns; sums in double inside a span too.
    rows : int, optional
        Rows of a thread.
    finish : str, optional
        Write results in their final form: "sum", "log" or "mean", "values", "indices" or "both", "entries". Else
        partial results are written, in double, of each part of the columns, which :func:`finish_source` combines.
    out : {"float16", "float32", "float64"}, optional
        In which the final results are; dtype unless given.
    arithmetic : {"twofloat", "again"}, optional
        For sums in float64: "twofloat" computes pairs in two floats (``cuda/twofloat.cuh``), and "again" in double
        those rows only whose results have left the range in which such numbers are good.
    name : str
        Of the kernel.
    """
    how = options(program, dtype, data, best, largest, nan_first, compensated, wide_sums, finish, out, arithmetic)
    if finish is not None and not finishes(program, best):
        raise ArgumentError(f"finish: {best} values of {program.n_out} components need a second pass, got {finish!r}")
    return Kernel(program, layout(program, dtype, best, rows, compensated, wide_sums), how, name).text()


def finish_source(
    program: Program,
    dtype: str = "float32",
    *,
    data: str | Mapping[int, str] | None = None,
    best: int = 1,
    largest: bool = False,
    nan_first: bool = True,
    compensated: bool = False,
    wide_sums: bool = False,
    rows: int | None = None,
    finish: str,
    out: str | None = None,
    name: str = "kernelops_finish",
) -> str:
    """The text of the kernel that combines the partial results of all parts, in their order, in the final form.

    The arguments are those of :func:`cuda_source`. It runs in blocks of ``BLOCK`` threads, one after another through
    all results; the grid may have any number of them.
    """
    how = options(program, dtype, data, best, largest, nan_first, compensated, wide_sums, finish, out)
    return finish_text(program, how, name)
