"""How the work of a tile program is laid out on a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ArgumentError
from .cuda_chunks import View, chunked, plain, viewed
from .cuda_text import pair_length
from .instructions import COL, ROW, Program

BLOCK = 128  # threads
WIDEST_TILE = 256  # columns
SPAN = 64  # columns that are summed one after another before the sum of all takes over
TILE_BYTES, SHARED_BYTES = 1 << 14, 48 << 10  # of a tile, where its columns are short; of any tile
LONGEST_ROW_BYTES = 1 << 13  # of what a thread keeps of a row
# A register has 4 bytes, and a thread has 255 at most. So many hold addresses and what a column's work needs, so many
# may be taken by rows where a thread has several, and by one long row with what it keeps.
OTHERS, MOST_HELD, MOST_OF_ONE = 64, 128, 180
RESIDENT = {128: 4, 168: 3, 255: 2}  # registers of a thread -> blocks of which a multiprocessor has registers for
COLUMN_IN_REGISTERS = 16  # numbers of a column up to which a thread loads all of them at once
SHELF_IN_REGISTERS = 32  # best values of a row up to which they stand in registers
WHOLE = 8  # components of a result up to which it is not worth taking them in chunks
MOST_COPIES = 8  # of the code, where each chunk has one
CHUNKS = (8, 16, 24, 32, 48, 64)
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
        Numbers of each column of a tile; 0 where the pairs read nothing of the columns, or so much that each thread
        computes it for itself.
    resident : int
        Blocks that a multiprocessor can hold at once, as far as registers go.
    chunk, passes : int
        Components of the result that are computed at a time, and how many times that is done.
    """

    block: int
    rows: int
    tile: int
    span: int
    width: int
    resident: int
    chunk: int
    passes: int


def layout(
    program: Program,
    dtype: str = "float32",
    best: int = 1,
    rows: int | None = None,
    compensated: bool = False,
    wide_sums: bool = False,
) -> Layout:
    """The layout of a program's kernel; rows of a thread as given, else those which take the least time."""
    if dtype not in ITEM_BYTES:
        raise ArgumentError(f"dtype: wanted float32 or float64, got {dtype!r}")
    if rows is not None and rows < 1:
        raise ArgumentError(f"rows: wanted at least 1, got {rows}")
    short, _ = shortened(plain(program), dtype)
    work = _Work(short, ITEM_BYTES[dtype], best, compensated, wide_sums)
    several = (rows,) if rows else (1,) if program.kind == "entries" else (1, 2, 4)
    choices = [(r, c) for r in several for c in work.chunks()]
    fitting = [(r, c) for r, c in choices if r * work.held(c) <= (MOST_HELD if r > 1 else work.most_of_one())]
    r, chunk = min(fitting or choices[:1], key=lambda choice: work.time(*choice))
    width, size = work.width(chunk), work.size
    if width * size > SHARED_BYTES:
        width = 0
    tile = WIDEST_TILE
    while tile > 1 and tile * width * size > TILE_BYTES:
        tile //= 2
    span = min(SPAN, tile) if program.kind in ("sum", "exp") else tile
    registers = r * work.held(chunk) + OTHERS + min(width, COLUMN_IN_REGISTERS) * size // 4
    resident = next((n for most, n in RESIDENT.items() if registers <= most), min(RESIDENT.values()))
    return Layout(BLOCK, r, tile, span, width, resident, chunk, work.passes(chunk))


def shortened(program: Program, dtype: str) -> tuple[Program, list[View]]:
    """The program with variables that are too long for registers or shared memory read where they lie."""
    views: list[View] = []
    for place, most in ((ROW, LONGEST_ROW_BYTES), (COL, SHARED_BYTES)):
        whole = chunked(program)
        stage = program.row if place == ROW else whole.program.col if whole else program.col
        if len(stage.exports) * ITEM_BYTES[dtype] > most:
            program, more = viewed(program, place)
            views += more
    return program, views


class _Work:
    """Counts what a program takes on a processor."""

    def __init__(self, program: Program, size: int, best: int, compensated: bool, wide_sums: bool) -> None:
        self.program, self.size, self.chunked = program, size, chunked(program)
        words = size // 4
        shelf = best if finishes(program, best) else 0
        part = 2 if wide_sums else words
        of_sum = part + 2 + 2 * compensated
        self.kept = {"sum": of_sum, "exp": of_sum, "best": (words + 2) * shelf, "entries": 0}[program.kind]
        self.fixed = (len(program.row.exports) + program.pair.planes + 2 * (program.kind == "exp")) * words
        self.work = pair_length(program) - program.n_out

    def chunks(self) -> list[int]:
        """How many components may be taken at a time."""
        n = self.program.n_out
        if n <= WHOLE or (self.chunked is None and self.program.kind != "sum"):
            return [n]
        most = n if self.chunked else MOST_COPIES
        return [c for c in CHUNKS if c < n <= c * most] + [n]

    def passes(self, chunk: int) -> int:
        return -(-self.program.n_out // chunk) if self.chunked is None else self.chunked.passes(chunk)

    def most_of_one(self) -> int:
        """Registers that a thread's only row may take: rows that are too long do not make chunks short."""
        return max(MOST_HELD, min(self.fixed + 64, MOST_OF_ONE))

    def held(self, chunk: int) -> int:
        """Registers of a row."""
        return self.fixed + self.kept * chunk

    def width(self, chunk: int) -> int:
        """Numbers of a column, so many that all columns begin where 16 bytes can be read at once."""
        found, per_pack = len(self.program.col.exports), 16 // self.size
        if self.chunked is not None and chunk < self.program.n_out:
            found = len(self.chunked.program.col.exports) + chunk
        return found if found <= 2 else -(-found // per_pack) * per_pack

    def time(self, rows: int, chunk: int) -> float:
        """Cycles for a row and 128 columns: of arithmetic, or of reading the columns where that takes longer."""
        words = self.size // 4
        reading = self.width(chunk) * words
        instructions = rows * words * (self.work + chunk) + reading / 4 + 3
        return self.passes(chunk) * max(reading, instructions / 4) / rows


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
