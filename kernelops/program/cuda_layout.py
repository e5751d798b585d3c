"""How the work of a tile program is laid out on a GPU, and what a kernel's arguments are."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ArgumentError, FormulaError
from .instructions import FILLED_LATER, Program, Stage

BLOCK = 128  # threads
WIDEST_TILE = 256  # columns
SPAN = 64  # columns that are summed one after another before the sum of all takes over
TILE_BYTES, SHARED_BYTES = 1 << 14, 48 << 10  # of a tile, where its columns are short; of any tile
REGISTERS = 48  # numbers of 4 bytes that the rows of a thread may hold before it has fewer rows
RESIDENT = 4  # blocks that a multiprocessor is to hold at once: 128 registers a thread; half as many for long rows
COLUMN_IN_REGISTERS = 16  # numbers of a column up to which a thread loads all of them at once
SHELF_IN_REGISTERS = 32  # best values of a row up to which they stand in registers
ITEM_BYTES = {"float32": 4, "float64": 8}
TYPES = {"float32": "float", "float64": "double"}
RESULTS = {"sum": ("sums",), "exp": ("sums", "maxima"), "best": ("values", "indices"), "entries": ("entries",)}
WORK = ("tasks", "intervals", "n_tasks", "M", "N", "batches")


@dataclass(frozen=True, slots=True)
class Layout:
    """How the work of a kernel is laid out.

    Attributes
    ----------
    block : int
        Threads of a block.
    rows : int
        Rows of a thread: a block takes ``block * rows`` at a time.
    tile : int
        Columns that are in shared memory at a time.
    span : int
        Columns that are summed in the working type before double takes over.
    width : int
        Numbers of each column of a tile; 0 where the pairs read nothing of the columns.
    resident : int
        Blocks that a multiprocessor can hold at once, as far as registers go.
    """

    block: int
    rows: int
    tile: int
    span: int
    width: int
    resident: int


def arguments(program: Program) -> tuple[str, ...]:
    """The names of a kernel's arguments in order. Each has 8 bytes: an address or a whole number."""
    names = [f"x{p}{part}" for p in variables_of(program) for part in ("", "_row", "_component", "_batch")]
    return (*names, *RESULTS[program.kind], *WORK)


def parameters(program: Program, dtype: str) -> list[str]:
    """The same as the parameters of a kernel, in lines."""
    name, lines = TYPES[dtype], []
    for q in variables_of(program):
        strides = f"long long x{q}_row, long long x{q}_component"
        lines.append(f"const {name} *__restrict__ x{q}, {strides}, const long long *__restrict__ x{q}_batch,")
    types = {"indices": "long long", "entries": name}
    lines += [f"{types.get(result, 'double')} *__restrict__ {result}," for result in RESULTS[program.kind]]
    lines.append("const long long *__restrict__ tasks, const long long *__restrict__ intervals,")
    return [*lines, "long long n_tasks, long long M, long long N, long long batches)"]


def described(program: Program, best: int) -> list[str]:
    """What the arguments are, in lines."""
    n = program.n_out
    results = {
        "sums": f"(batches, M, {n})",
        "maxima": "(batches, M): what the exponents were measured from",
        "values": f"(batches, M, {n}, {best})",
        "indices": f"(batches, M, {n}, {best}); -1 where there is none",
        "entries": f"(batches, M, N, {n}); only pairs that meet are written",
    }
    return [
        *(
            f"x{q}, x{q}_row, x{q}_component, x{q}_batch: variable {q}, its strides, where batch elements begin"
            for q in variables_of(program)
        ),
        *(f"{name} {results[name]}" for name in RESULTS[program.kind]),
        "tasks (n_tasks, 4): first row, last row, first interval, last interval; last is excluded",
        "intervals (., 2): columns from, to",
        "M, N, batches: rows, columns, batch elements",
    ]


def layout(program: Program, dtype: str = "float32", best: int = 1, rows: int | None = None) -> Layout:
    """The layout of a program's kernel; rows of a thread as given, else as many as registers allow."""
    if dtype not in ITEM_BYTES:
        raise ArgumentError(f"dtype: wanted float32 or float64, got {dtype!r}")
    if rows is not None and rows < 1:
        raise ArgumentError(f"rows: wanted at least 1, got {rows}")
    size = ITEM_BYTES[dtype]
    exports, per_pack = exports_of(program.col), 16 // size
    width = exports if exports <= 2 else -(-exports // per_pack) * per_pack
    if width * size > SHARED_BYTES:
        raise FormulaError(f"a column of {exports} numbers in {dtype}: a GPU takes {SHARED_BYTES // size} at most")
    tile = WIDEST_TILE
    while tile > 1 and tile * width * size > TILE_BYTES:
        tile //= 2
    span = min(SPAN, tile) if program.kind in ("sum", "exp") else tile
    held = _held(program, size, best)
    rows = rows or max([n for n in (1, 2, 4) if n * held <= REGISTERS], default=1)
    return Layout(BLOCK, rows, tile, span, width, RESIDENT if rows * held <= 2 * REGISTERS else RESIDENT // 2)


def _held(program: Program, size: int, best: int) -> int:
    """What a thread holds for a row, in numbers of 4 bytes."""
    if best * program.n_out > SHELF_IN_REGISTERS:
        best = 0
    kept = {"sum": 3, "exp": 3, "best": 3 * best, "entries": 1}[program.kind] * program.n_out
    return (exports_of(program.row) + program.pair.planes) * (size // 4) + kept


def exports_of(stage: Stage) -> int:
    """How many numbers a stage exports; vectors that are shifted to a mean are none of them here."""
    return sum(plane != FILLED_LATER for plane in stage.exports)


def variables_of(program: Program) -> list[int]:
    """The positions of the variables that a program reads."""
    return sorted({p for stage in (program.param, program.row, program.col) for p, *_ in stage.loads})
