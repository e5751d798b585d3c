"""The layout of the work of a tile program on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import inf

from ...errors import ArgumentError
from ..instructions import COL, ROW, Program
from ..options import KernelOptions
from .emit import count_instructions
from .register_tiles import BLOCK, LANES, THREAD_RECTANGLE, TILE_DEPTH, find_contraction
from .rewrite import View, find_chunks, view_long_vectors, without_shifts

WIDEST_TILE = 256  # a tile has at most so many columns
SPAN = 64  # so many columns are summed in the working type before the sum in double takes over
TILE_BYTES, SHARED_BYTES = 1 << 14, 48 << 10  # bytes of a tile of short columns, and of any tile, at most
LONGEST_ROW_BYTES = 1 << 13  # a thread keeps at most so many bytes of a row; longer ones are read where they lie
# A register has 4 bytes, and a thread has 255 at most. So many hold addresses and what a column's work needs, so many
# may be taken by rows if a thread has several, and by one long row with what it keeps.
OTHERS, MOST_HELD, MOST_OF_ONE = 96, 128, 180
INDICES = 8  # registers for the indices of the best values of a row
RESIDENT = {128: 4, 168: 3, 255: 2}  # registers of a thread -> blocks of which a multiprocessor has registers for
SPARE = 12  # registers that a compiler may want beyond those counted, for sums in float
COLUMN_IN_REGISTERS = 16  # a thread loads a column at once if it has at most so many numbers
SHELF_IN_REGISTERS = 32  # the best values of a row stand in registers if there are at most so many
WHOLE = 8  # a result of at most so many components is not worth taking in chunks
MOST_COPIES = 8  # the code stands at most so often in a kernel in which each chunk has its own
CHUNKS = (2, 4, 8, 16, 24, 32, 48, 64)
ITEM_BYTES = {"float32": 4, "float64": 8}
SLOWER = 1.1  # rectangles of pairs take this times what their arithmetic alone does
SPREAD_WRITES = 16  # cycles for 32 numbers that are written one by one
SCATTERED = 16  # reading vectors where they lie takes about so many times as long
FULL = 4  # the blocks of a kernel fill the GPU about so many times over
LEAST_COLUMNS = 256  # a part of the columns has at least so many


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of the work of a kernel.

    Attributes
    ----------
    block : int
        Threads of a block.
    rows : int
        Rows of a thread: a block takes ``block * rows`` at a time. Where threads have rectangles, rows for each thread.
    tile : int
        Columns that are in shared memory at a time.
    span : int
        Columns that are summed in the working type before double takes over.
    width : int
        Numbers of each column of a tile; 0 if the pairs read nothing of the columns, or so much that each thread
        computes it for itself.
    resident : int
        Blocks that a multiprocessor can hold at once, as far as registers go.
    chunk, passes : int
        Components of the result that are computed at a time, and how many times that is done.
    rectangle : (int, int) or None
        Rows and columns of a thread, in kernels in which several threads share rows.
    """

    block: int
    rows: int
    tile: int
    span: int
    width: int
    resident: int
    chunk: int
    passes: int
    rectangle: tuple[int, int] | None = None

    @property
    def held(self) -> int:
        """Rows of a thread."""
        return self.rectangle[0] if self.rectangle else self.rows

    @property
    def height(self) -> int:
        """Rows that a block takes at a time."""
        return self.block // LANES * self.rectangle[0] if self.rectangle else self.block * self.rows


@lru_cache(maxsize=1024)
def layout(
    program: Program,
    options: KernelOptions = KernelOptions(),  # noqa: B008 (a value that cannot change)
    rows: int | None = None,
) -> Layout:
    """The layout of a program's kernel; rows of a thread as given, else those which take the least time.

    Of the options it depends on ``dtype``, ``best``, ``compensated`` and ``wide_sums``.
    """
    if options.dtype not in ITEM_BYTES:
        raise ArgumentError(f"dtype: wanted float32 or float64, got {options.dtype!r}")
    if rows is not None and rows < 1:
        raise ArgumentError(f"rows: wanted at least 1, got {rows}")
    short, views = shorten(without_shifts(program), options.dtype)
    time, found = _rows_of_threads(_Work(short, options), rows)
    taken_apart = find_contraction(without_shifts(program)) if rows is None else None
    if taken_apart:
        time_too, rectangles = _rectangles(_Work(taken_apart.program, options), taken_apart.length)
        if time_too < (SCATTERED if views else 1) * time:
            return rectangles
    return found


def _rows_of_threads(work: _Work, rows: int | None) -> tuple[float, Layout]:
    """The cycles and the layout if each row belongs to one thread."""
    several = (rows,) if rows else (1,) if work.program.kind == "entries" else (1, 2, 4)
    choices = [(r, c) for r in several for c in work.chunks()]
    fitting = [(r, c) for r, c in choices if r * work.row_registers(c) <= (MOST_HELD if r > 1 else work.most_of_one())]
    r, chunk = min(fitting or choices[:1], key=lambda choice: work.time(*choice))
    width, size = work.width(chunk), work.size
    if width * size > SHARED_BYTES:
        width = 0
    tile = WIDEST_TILE
    while tile > 1 and tile * width * size > TILE_BYTES:
        tile //= 2
    span = min(SPAN, tile) if work.sums else tile
    beside = OTHERS + min(width, COLUMN_IN_REGISTERS) * size // 4 + INDICES * r * (work.program.kind == "best")
    resident = _resident(r * work.row_registers(chunk) + beside, work)
    return work.time(r, chunk), Layout(BLOCK, r, tile, span, width, resident, chunk, work.passes(chunk))


def _rectangles(work: _Work, length: int) -> tuple[float, Layout]:
    """The same if threads have rectangles of pairs, which begin with a contraction of so many components."""
    rows, columns = THREAD_RECTANGLE[work.size]
    words, n = work.size // 4, work.program.n_out
    rectangle, beside = (rows * columns + rows + columns) * words, OTHERS // 2
    chunk = max(
        [c for c in work.chunks(1) if rectangle + rows * work.row_registers(c) + beside <= max(RESIDENT)], default=0
    )
    if not chunk:
        return inf, Layout(BLOCK, 1, 1, 1, 0, 1, n, 1)
    registers, tile = rectangle + rows * work.row_registers(chunk) + beside, LANES * columns
    time = SLOWER * work.passes(chunk) * words * (2 * length + work.work + chunk) / 4
    time += 0 if work.sums else SPREAD_WRITES * n
    width, resident = work.width(chunk), _resident(registers, work)
    # parts of both sides with a pack behind each line, weights, and the rest of a tile
    shared = TILE_DEPTH * (BLOCK // LANES * rows + tile + 2 * (16 // work.size) + 1) + tile * width
    if shared * work.size > SHARED_BYTES:
        time = inf
    return time, Layout(BLOCK, 1, tile, tile, width, resident, chunk, work.passes(chunk), (rows, columns))


def _resident(registers: int, work: _Work) -> int:
    wanted = registers + SPARE * (work.size // 4) * (1 if work.sums else 3)
    return next((n for most, n in RESIDENT.items() if wanted <= most), min(RESIDENT.values()))


def shorten(program: Program, dtype: str) -> tuple[Program, list[View]]:
    """The program with variables that are too long for registers or shared memory read where they lie."""
    views: list[View] = []
    for space, most in ((ROW, LONGEST_ROW_BYTES), (COL, SHARED_BYTES)):
        whole = find_chunks(program)
        stage = program.row if space == ROW else whole.program.col if whole else program.col
        if len(stage.exports) * ITEM_BYTES[dtype] > most:
            program, more = view_long_vectors(program, space)
            views += more
    return program, views


class _Work:
    """Counts the registers and the cycles that a program takes on a multiprocessor."""

    def __init__(self, program: Program, options: KernelOptions) -> None:
        self.program, self.size, self.chunked = program, ITEM_BYTES[options.dtype], find_chunks(program)
        words = self.size // 4
        shelf = options.best if finishes(program, options.best) else 0
        part = 2 if options.wide_sums else words
        of_sum = part + 2 + 2 * options.compensated
        self.kept = {"sum": of_sum, "exp": of_sum, "best": (words + 2) * shelf, "entries": 0}[program.kind]
        self.fixed = (len(program.row.exports) + program.pair.planes + 2 * (program.kind == "exp")) * words
        self.work = count_instructions(program) - program.n_out

    @property
    def sums(self) -> bool:
        return self.program.kind in ("sum", "exp")

    def chunks(self, least: int = WHOLE) -> list[int]:
        """The numbers of components that may be taken at a time: at least so many, if there are more."""
        n = self.program.n_out
        if n <= least or (self.chunked is None and self.program.kind != "sum"):
            return [n]
        most = n if self.chunked else MOST_COPIES
        return [c for c in CHUNKS if least <= c < n <= c * most] + [n]

    def passes(self, chunk: int) -> int:
        return -(-self.program.n_out // chunk) if self.chunked is None else self.chunked.passes(chunk)

    def most_of_one(self) -> int:
        """Registers that a thread's only row may take: rows that are too long do not make chunks short."""
        return max(MOST_HELD, min(self.fixed + 64, MOST_OF_ONE))

    def row_registers(self, chunk: int) -> int:
        """Registers of a row."""
        return self.fixed + self.kept * chunk

    def width(self, chunk: int) -> int:
        """Numbers of a column, so many that all columns begin where 16 bytes can be read at once."""
        found, per_pack = len(self.program.col.exports), 16 // self.size
        if self.chunked is not None and chunk < self.program.n_out:
            found = len(self.chunked.program.col.exports) + chunk
        return found if found <= 2 else -(-found // per_pack) * per_pack

    def time(self, rows: int, chunk: int) -> float:
        """Cycles for a row and 128 columns: of arithmetic, or of reading the columns if that takes longer."""
        words = self.size // 4
        reading = self.width(chunk) * words
        if self.fixed > MOST_OF_ONE:  # rows are not in registers
            reading += rows * self.fixed
        instructions = rows * words * (self.work + chunk) + reading / 4 + 3
        return self.passes(chunk) * max(reading, instructions / 4) / rows


def parts(layout: Layout, rows: int, columns: int, batches: int, multiprocessors: int) -> int:
    """The number of parts of the columns: as many as fill the GPU a few times over, 1 if there are many rows."""
    if min(rows, columns, batches) < 1:
        return 1
    blocks = -(-rows // (layout.block * layout.rows)) * batches
    wanted = -(-FULL * multiprocessors * layout.resident // blocks)
    return max(1, min(wanted, columns // max(layout.tile, LEAST_COLUMNS)))


def finishes(program: Program, best: int = 1) -> bool:
    """Whether a kernel can write the final results: shelves that are too long for registers stand in partial ones."""
    return program.kind != "best" or best * program.n_out <= SHELF_IN_REGISTERS
