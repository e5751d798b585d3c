"""How the work of a tile program is laid out on a GPU."""

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
FULL = 4  # how many times the blocks of a kernel are to fill a machine
LEAST_COLUMNS = 256  # of a part


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


def parts(layout: Layout, rows: int, columns: int, batches: int, multiprocessors: int) -> int:
    """Into how many parts the columns are cut: as many as fill the machine some times over, 1 where rows are many."""
    if min(rows, columns, batches) < 1:
        return 1
    blocks = -(-rows // (layout.block * layout.rows)) * batches
    wanted = -(-FULL * multiprocessors * layout.resident // blocks)
    return max(1, min(wanted, columns // max(layout.tile, LEAST_COLUMNS)))


def finishes(program: Program, best: int = 1) -> bool:
    """Whether a kernel can write the final results: shelves that are too long for registers stand in partial ones."""
    return program.kind != "best" or best * program.n_out <= SHELF_IN_REGISTERS


def _held(program: Program, size: int, best: int) -> int:
    """What a thread holds for a row, in numbers of 4 bytes."""
    if best * program.n_out > SHELF_IN_REGISTERS:
        best = 0
    kept = {"sum": 3, "exp": 3, "best": 3 * best, "entries": 1}[program.kind] * program.n_out
    return (exports_of(program.row) + program.pair.planes) * (size // 4) + kept


def exports_of(stage: Stage) -> int:
    """How many numbers a stage exports; vectors that are shifted to a mean are none of them here."""
    return sum(plane != FILLED_LATER for plane in stage.exports)
