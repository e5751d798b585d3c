"""Tile programs as CUDA C++: one kernel for each program, as text.

A block of threads takes a task: some rows of the result and the intervals of columns that they meet. Each thread holds
the exports of a few rows in registers; columns are computed once for a block, tile by tile, in shared memory; the pair
stage is straight-line code on a thread's own numbers. Sums run in the working type over ``span`` columns and in double
from there on. The real files in ``cuda/`` hold the rest: the value table as device functions, accumulators.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import ArgumentError
from ..instructions import Program
from ..options import KernelOptions
from .combine import finish_text
from .kernel import KernelText
from .layout import Layout, finishes, layout, parts
from .register_tiles import BLOCK
from .signature import argument_names, check_options, finish_argument_names

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
    """The folders of the files that a kernel's text includes: those of ``cuda/`` and ops.h."""
    package = Path(__file__).resolve().parent.parent.parent
    shipped = package / "cuda"
    return (shipped if shipped.is_dir() else package.parent / "cuda"), package / "_tile"


def cuda_source(
    program: Program,
    options: KernelOptions = KernelOptions(),  # noqa: B008 (a value that cannot change)
    *,
    rows: int | None = None,
    name: str = "kernelops_reduce",
) -> str:
    """The text of a program's kernel; the same program and options give the same text.

    Parameters
    ----------
    program : Program
    options : KernelOptions
        If ``finish`` is None, :func:`finish_source` combines what the kernel writes.
    rows : int, optional
        Rows of a thread; those that take the least time unless given.
    name : str
        The name of the kernel.
    """
    check_options(program, options)
    best, finish = options.best, options.finish
    if finish is not None and not finishes(program, best):
        raise ArgumentError(f"finish: {best} values of {program.n_out} components need a second pass, got {finish!r}")
    return KernelText(program, layout(program, options, rows), options, name).text()


def finish_source(program: Program, options: KernelOptions, *, name: str = "kernelops_finish") -> str:
    """The text of the kernel that combines the partial results of all parts, in their order, in the final form.

    The options are those of the kernel that writes the partial results, with their ``finish`` and ``out``. It runs in
    blocks of ``BLOCK`` threads, one after another through all results; the grid may have any number of them.
    """
    check_options(program, options)
    return finish_text(program, options, name)
