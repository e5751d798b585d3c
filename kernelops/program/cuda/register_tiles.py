"""Kernels in which each thread has a rectangle of pairs: for contractions of long vectors, which come first in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..instructions import PARAM, Instruction, Operand, Program, Stage
from .emit import CONTRACTIONS, find_read_planes, loop_over_rows, wrap_block, write_sum
from .rewrite import drop_exports, load_of

SHORTEST_CONTRACTION = 8  # contractions of vectors of fewer components are not taken apart
MOST_OF_ROW, MOST_OF_COLUMN = 8, 16  # the rest of a pair may read at most so many numbers of a row, of a column
BLOCK, LANES = 128, 8  # threads of a block, and how many neighbours among them share rows
TILE_DEPTH = 16  # so many components of the vectors are in shared memory at a time
THREAD_RECTANGLE = {4: (8, 8), 8: (8, 4)}  # bytes of a number -> rows and columns of a thread
ACCUMULATED = Operand("contracted[r][b]", 0)


@dataclass(frozen=True, slots=True)
class Vector:
    """Components of a variable that is read as it stands."""

    position: int
    first: int


@dataclass(frozen=True, slots=True)
class Tiled:
    """A program whose pairs begin with a contraction of vectors that are read as they stand.

    Attributes
    ----------
    program : Program
        The same without these vectors; it reads the contraction from ``contracted``.
    op : str
        SqDist, Dot, L1Dist or WeightedSqDist.
    length : int
        Of the vectors.
    row, column, weight : Vector
        What is contracted.
    """

    program: Program
    op: str
    length: int
    row: Vector
    column: Vector
    weight: Vector | None


def find_contraction(program: Program) -> Tiled | None:
    """The program as a contraction and the rest, or None; programs that look for the best values are left whole."""
    if program.kind == "best":
        return None
    depth = 0
    for p in program.pair.code:
        depth += (p.op == "Loop") - (p.op == "End")
        if p.op in CONTRACTIONS and p.aux0 >= SHORTEST_CONTRACTION and not depth:
            found = _take_apart(program, p)
            if found:
                return found
    return None


def _take_apart(program: Program, p: Instruction) -> Tiled | None:
    """The program with the contraction of an instruction taken out; None if that is not possible."""
    vectors, n = p.args[:2], p.aux0
    loads = [load_of(stage, x, n) for stage, x in zip((program.row, program.col), vectors, strict=True)]
    others = [x for other in program.pair.code if other is not p for x in other.args]
    if None in loads or any(v.space == x.space and v.base <= x.base < v.base + n for v in vectors for x in others):
        return None
    weight = None
    if len(p.args) == 3:
        weight = _find_parameter(program, p.args[2], n)
        if weight is None:
            return None
    code = tuple(Instruction("Copy", p.out, (ACCUMULATED,)) if q is p else q for q in program.pair.code)
    rest, places = replace(program, pair=Stage(code, program.pair.planes)), list[Vector]()
    for x, load, stage in zip(vectors, loads, (program.row, program.col), strict=True):
        assert load is not None
        places.append(Vector(load[0], stage.exports[x.base] - load[2]))
        rest = drop_exports(rest, x.space, x.base, n, load, lambda x: x)
    if len(rest.row.exports) > MOST_OF_ROW or max(map(_count_planes, (rest.row, rest.col))) > MOST_OF_COLUMN:
        return None
    return Tiled(rest, p.op, n, places[0], places[1], weight)


def _count_planes(stage: Stage) -> int:
    """About how many numbers a thread has of a row or a column while it computes what the pairs read."""
    rounds, numbers = 1, find_read_planes(stage)
    for p in stage.code:
        rounds = p.aux0 if p.op == "Loop" else 1 if p.op == "End" else rounds
        if p.out:
            numbers |= {p.out.base + k * p.out.stride for k in range(rounds if p.out.stride else 1)}
    return len(numbers)


def _find_parameter(program: Program, x: Operand, n: int) -> Vector | None:
    """The parameter that an operand points to."""
    if x.space != PARAM or not x.stride:
        return None
    found = (k for k in program.param.loads if k[2] <= x.base and x.base + n <= k[2] + k[1])
    return next((Vector(q, x.base - at) for q, _, at in found), None)


# ---- text ------------------------------------------------------------------------------------------------------------


def tile_constants(found: Tiled, size: int) -> dict[str, int]:
    """Constants of the text. Components are so far apart that those of neighbours lie in different banks."""
    rows, columns = THREAD_RECTANGLE[size]
    depth, pack = min(TILE_DEPTH, -(-found.length // 8) * 8), 16 // size
    height, width = BLOCK // LANES * rows, LANES * columns
    return {
        "LANES": LANES,
        "COLUMNS": columns,
        "LENGTH": found.length,
        "DEPTH": depth,
        "PACK": pack,
        "X": height + pack,
        "Y": width + pack,
    }


def declare_shared(found: Tiled) -> list[str]:
    """The shared arrays for components of a block's rows and columns."""
    weights = ", w_part[DEPTH]" if found.weight else ""
    return [f"__shared__ __align__(16) T x_part[DEPTH * X], y_part[DEPTH * Y]{weights};"]


def write_contraction(found: Tiled, load: Callable[[int, str, str], str]) -> list[str]:
    """The contraction of a thread's rows and columns of one tile; ``load`` gives a number of a variable."""

    def components(part: str, v: Vector, index: str, count: str, stride: str) -> str:
        q = f"x{v.position}"
        start = f"{q} + {q}_batch[batch] + {index} * {q}_row + {write_sum(v.first, (1, 'k0'))} * {q}_component"
        start = start.replace(f"{v.first} + k0 *", f"({v.first} + k0) *")
        numbers = f"{part}, {start}, {q}_row, {q}_component, {count}, LENGTH - k0"
        return f"load_components<BLOCK, DEPTH, {stride}>({numbers});"

    weights = []
    if found.weight:
        line = load(
            found.weight.position, "0", f"({write_sum(found.weight.first, (1, 'k0'), (1, '(int)threadIdx.x'))})"
        )
        weights = [f"if (threadIdx.x < DEPTH && k0 + threadIdx.x < LENGTH) w_part[threadIdx.x] = {line};"]
    mine = "contracted, x_part + threadIdx.x / LANES * ROWS, y_part + threadIdx.x % LANES * PACK"
    call = f"contract<adds::{found.op}, {{}}, LANES, X, Y>({mine}, {'w_part' if weights else '(const T *)nullptr'});"
    whole = [call.format("DEPTH")]
    depth = tile_constants(found, 4)["DEPTH"]
    if found.length % depth:
        whole = [f"if (k0 + DEPTH <= LENGTH) {whole[0]}", f"else {call.format('LENGTH % DEPTH')}"]
    chunk = [
        "__syncthreads(); // all threads are done with the components before",
        f"if (LENGTH > DEPTH || fresh) {components('x_part', found.row, 'first', 'm', 'X')}",
        "fresh = false;",
        components("y_part", found.column, "from", "n", "Y"),
        *weights,
        "__syncthreads();",
        *whole,
    ]
    return [
        "const int m = last - first < HEIGHT ? (int)(last - first) : HEIGHT;",
        "T contracted[ROWS][COLUMNS][1] = {};",
        "#pragma unroll 1",
        *wrap_block("for (int k0 = 0; k0 < LENGTH; k0 += DEPTH)", chunk),
    ]


def write_pairs(width: int, lines: list[str]) -> list[str]:
    """The rest of each pair of a thread, computed from its contraction."""
    column = ["const T *const col = tile + c * WIDTH;"] if width else []
    one = ["const int c = column_of<LANES, T>(b);", "if (c >= n) continue;", *column, *lines]
    return ["#pragma unroll", *wrap_block("for (int b = 0; b < COLUMNS; b++)", one)]


def write_sum_over_threads(kind: str, n: int, compensated: bool) -> list[str]:
    """Add up the sums of all threads that share rows."""
    lines = []
    if kind == "exp":
        arrays = ("sum", "lost") if compensated else ("sum",)
        lines = ["const T all = top_of_lanes<LANES>(top[r]);"]
        lines += [f"rescale<{n}>({a}[r], (double)top[r], (double)all);" for a in arrays]
        lines.append("top[r] = all;")
    return loop_over_rows([*lines, f"sum_lanes<LANES, {n}>(sum[r]{', lost[r]' if compensated else ''});"])
