"""Tile programs as CUDA C++: one kernel for each program, as text.

A block of threads takes a task: some rows of the result and the intervals of columns that they meet. Each thread holds
the exports of a few rows in registers; columns are computed once for a block, tile by tile, in shared memory; the pair
stage is straight-line code on a thread's own numbers. Sums run in the working type over ``span`` columns and in double
from there on. The real files in ``cuda/`` hold the rest: the value table as device functions, accumulators.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import ArgumentError
from .cuda_kernel import Kernel
from .cuda_layout import Layout, arguments, layout
from .instructions import Program

__all__ = ["Layout", "arguments", "cuda_source", "include_folders", "layout"]


def include_folders() -> tuple[Path, ...]:
    """Where the files lie that a kernel's text includes: those of ``cuda/`` and ops.h."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "cuda"
    return (shipped if shipped.is_dir() else package.parent / "cuda"), package / "_tile"


def cuda_source(
    program: Program,
    dtype: str = "float32",
    best: int = 1,
    largest: bool = False,
    nan_first: bool = True,
    compensated: bool = False,
    wide_sums: bool = False,
    rows: int | None = None,
    name: str = "kernelops_reduce",
) -> str:
    """The text of a program's kernel; the same program gives the same text.

    Parameters
    ----------
    program : Program
    dtype : {"float32", "float64"}
        In which the data are and the kernel computes.
    best, largest, nan_first
        How many values are kept, whether the largest ones, whether a NaN goes before all other values.
    compensated, wide_sums : bool
        Compensated sums across spans of columns; sums in double inside a span too.
    rows : int, optional
        Rows of a thread.
    name : str
        Of the kernel.
    """
    if best < 1:
        raise ArgumentError(f"best: wanted at least 1, got {best}")
    how = layout(program, dtype, best, rows)
    return Kernel(program, dtype, how, best, largest, nan_first, compensated, wide_sums, name).text()


def finish_source(*args: object, **how: object) -> str:
    raise NotImplementedError


def finish_arguments(*args: object) -> tuple[str, ...]:
    raise NotImplementedError


def parts(*args: object) -> int:
    raise NotImplementedError
