"""The CPU: tile programs, encoded for kernelops._core and run on arrays and ranges."""

from __future__ import annotations

import os
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..arrays.arguments import Arguments
from ..arrays.permute import permute_rows, restore_order
from ..errors import ArgumentError
from ..formula.expr import Expr
from ..formula.structure import is_mirrored
from ..program.compile import compile_best, compile_entries, compile_exp, compile_sum
from ..program.instructions import Operand, Program, Stage
from ..program.options import KernelOptions
from ..program.placement import pair_factor
from ..ranges import BlockRows, Ranges
from .tasks import cut
from .threads import thread_count

try:
    from .. import _core
except ImportError as error:  # a source tree whose extension was not built
    raise ImportError(
        f"kernelops._core cannot be loaded ({error}); in a source tree, build it with: pip install -e ."
    ) from error

# Instructions times pairs below which one thread runs: there waking the others saves less than a tenth of a
# millisecond, and costs ten if the threads of another library still spin after their work and one of ours waits.
SERIAL_BELOW = 1 << 22
SYMMETRIC_FROM = 1024  # a symmetric sum of at least so many points, four blocks, evaluates each pair once
# Results for each unit of counted work of a pair's value up to which that pays: every result is added twice for a pair,
# by the rows and by the columns, and the second way takes longer than what is saved if there are many results.
SYMMETRIC_RESULTS = 6
# Counted work of a row's pairs, for each of its results and for each strip that adds to it (mirror.h), from which that
# pays under ranges which leave pairs out: what the strips keep and add takes as long whether few pairs meet or all.
SYMMETRIC_WORK = 128
MOST_STRIPS = 64  # a mirrored sum is made in at most so many strips, as in _core.pyx
SMALL_TASK = 8  # rows of a task if there are too few rows to keep all threads busy with full tasks
_BEST = tuple(_core.INSTRUCTION_SETS)[-1]
_COMPILERS = {"sum": compile_sum, "best": compile_best, "entries": compile_entries}


class Raw(NamedTuple):
    """The results of a program: (batch, rows, ...) arrays, those that its kind makes."""

    sums: np.ndarray | None
    maxima: np.ndarray | None
    values: np.ndarray | None
    indices: np.ndarray | None
    entries: np.ndarray | None


class Prepared(NamedTuple):
    """A program, its verified encoding, and the factor of the pairs if that could serve the rows of i and of j.

    ``cache`` holds what another engine has made of the program, by keys of its own.
    """

    program: Program
    encoded: Any
    factor: Expr | None = None
    cache: dict[Any, Any] | None = None


@lru_cache(maxsize=2048)
def prepare(kind: str, expr: Expr, weight: Expr | None, normalise: bool, axis: int) -> Prepared:
    """The program for a reduction over j (axis 1) or i (axis 0), ready to run; kept for the next call."""
    if kind == "exp":
        program = compile_exp(expr, weight, normalise, axis)
    else:
        program = _COMPILERS[kind](expr, axis)
    stages = (_encode(s) for s in (program.param, program.row, program.col, program.pair))
    encoded = _core.Program(
        _core.KINDS[program.kind],
        program.n_out,
        program.constants,
        program.n_params,
        program.contractions,
        *stages,
        program.centred,
    )
    return Prepared(program, encoded, pair_factor(expr, axis) if encoded.two_sided else None, {})


def _encode(stage: Stage) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
    code = np.zeros((len(stage.code), _core.WIDTH), np.int32)
    for row, instruction in zip(code, stage.code, strict=True):
        operands = (instruction.out, *instruction.args, *(None,) * (3 - len(instruction.args)))
        row[:3] = _core.OPCODES[instruction.op], instruction.aux0, instruction.aux1
        row[3:] = [number for x in operands for number in _encode_operand(x)]
    return code, stage.planes, np.array(stage.loads, np.int32).reshape(-1, 3), np.array(stage.exports, np.int32)


def _encode_operand(x: Operand | None) -> tuple[int, int, int]:
    return (0, 0, 0) if x is None else (_core.PLACES[x.space], x.base, x.stride)


def run(
    prepared: Prepared,
    arguments: Arguments,
    axis: int,
    ranges: Ranges | None,
    options: KernelOptions = KernelOptions(),  # noqa: B008 (a value that cannot change)
) -> Raw:
    """Run a program on the arrays of a call."""
    if ranges is not None and ranges.plain is not ranges:
        program, by_row, by_column = prepared.program, ranges.order_i, ranges.order_j
        if axis == 0:
            by_row, by_column = by_column, by_row
        orders = {p: by_row for p, *_ in program.row.loads} | {p: by_column for p, *_ in program.col.loads}
        raw = run(prepared, permute_rows(arguments, orders), axis, ranges.plain, options)
        return Raw(*restore_order(raw, by_row, by_column, len(arguments.batch)))
    rows, columns = (arguments.M, arguments.N) if axis == 1 else (arguments.N, arguments.M)
    count = prod(arguments.batch) if arguments.batch else 1
    met = None
    mirrored = not (options.wide_sums or options.compensated) and _is_symmetric(prepared, arguments)
    if mirrored and ranges is not None and ranges.pairs < rows * columns:
        met = _tiles(ranges, rows) if _pays_to_mirror(prepared, ranges, rows) else None
        mirrored = met is not None
    if mirrored:
        work, pairs = None, rows * columns if ranges is None else ranges.pairs
    else:
        work = _dense_work(rows, columns, _task_height(count * rows)) if ranges is None else _work(ranges, axis, count)
        pairs = work.pairs
    return Raw(
        *_core.reduce(
            prepared.encoded,
            arguments.arrays,
            arguments.batch,
            rows,
            columns,
            work,
            mirrored=mirrored,
            met=met,
            float64=options.dtype == "float64",
            best=options.best,
            largest=options.largest,
            nan_first=options.nan_first,
            wide_sums=options.wide_sums,
            compensated=options.compensated,
            threads=_threads(count * pairs * prepared.encoded.cost),
            isa=_core.INSTRUCTION_SETS[instruction_set()],
        )
    )


def _is_symmetric(prepared: Prepared, arguments: Arguments) -> bool:
    """Whether each pair can serve the rows of both its points: the formula and the arrays show that exchanging i and j
    changes nothing, and there are enough points."""
    if prepared.factor is None or arguments.M != arguments.N or arguments.M < SYMMETRIC_FROM:
        return False
    results = prepared.encoded.n_out
    if results > SYMMETRIC_RESULTS * (prepared.encoded.cost - 1 - results // 4):
        return False
    i, j = ([v for v in prepared.factor.vars if v.op == kind] for kind in ("Vi", "Vj"))
    pairs = tuple((v.position, w.position) for v in i for w in j if v.dim == w.dim and _is_same_memory(arguments, v, w))
    return bool(pairs) and is_mirrored(prepared.factor, pairs)


def _pays_to_mirror(prepared: Prepared, ranges: Ranges, rows: int) -> bool:
    """Whether so many pairs meet that it pays to evaluate each once."""
    strips, program = min(-(-rows // _core.TILE), MOST_STRIPS), prepared.encoded
    return bool(ranges.pairs * program.cost >= SYMMETRIC_WORK * rows * strips * program.n_out)


def _is_same_memory(arguments: Arguments, v: Expr, w: Expr) -> bool:
    """Whether two variables are the same memory."""
    a, b = arguments.arrays[v.position], arguments.arrays[w.position]
    if a is b:
        return a is not None
    if a is None or b is None or a.shape != b.shape or a.strides != b.strides or a.dtype != b.dtype:
        return False
    return bool(a.__array_interface__["data"][0] == b.__array_interface__["data"][0])


def _task_height(rows: int) -> int:
    """Rows of a task, if so many rows are to be shared among the threads."""
    return _core.TASK_ROWS if rows >= 16 * _core.TASK_ROWS else SMALL_TASK


def _work(ranges: Ranges, axis: int, count: int) -> Any:
    """Ranges cut into tasks; what they are cut into is kept with them."""
    block_rows = ranges.cache.get(("joined", axis))
    if block_rows is None:  # neighbours that meet the same are one block, and intervals that touch are one
        block_rows = ranges.cache["joined", axis] = ranges.joined(axis)
    key = "work", axis, _task_height(count * int(np.diff(block_rows.blocks).sum()))
    found = ranges.cache.get(key)
    if found is None:
        found = ranges.cache[key] = _cut(block_rows, key[2])
    return found


def _tiles(ranges: Ranges, rows: int) -> np.ndarray | None:
    """The tiles of rows and of columns that meet, if ranges are symmetric and made of whole tiles; else None."""
    key = "tiles", rows
    if key not in ranges.cache:
        ranges.cache[key] = ranges.tiles(rows, _core.TILE) if ranges.is_symmetric() else None
    return ranges.cache[key]


@lru_cache(maxsize=64)
def _dense_work(rows: int, columns: int, height: int) -> Any:
    """The one-block case, made once for each size."""
    return _cut(Ranges.dense(rows, columns).joined(1), height)


def _cut(block_rows: BlockRows, height: int) -> Any:
    return _core.Work(cut(block_rows, height), block_rows.intervals)


def _threads(work: int) -> int:
    return 1 if work < SERIAL_BELOW else thread_count()


def available_instruction_sets() -> tuple[str, ...]:
    """The instruction sets that this processor has and the engine was compiled for, plainest first."""
    return tuple(_core.INSTRUCTION_SETS)


def instruction_set() -> str:
    """The instruction set in use: the best one, or what the environment variable KERNELOPS_ISA names."""
    wished = os.environ.get("KERNELOPS_ISA")
    if not wished:
        return _BEST
    if wished not in _core.INSTRUCTION_SETS:
        usable = ", ".join(available_instruction_sets())
        raise ArgumentError(f"KERNELOPS_ISA = {wished!r}: wanted one of {usable}, which this processor has")
    return wished
