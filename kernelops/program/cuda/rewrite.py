"""Programs as kernels take them: without the product form of distances, long vectors and results taken apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..instructions import COL, FILLED_LATER, ROW, Instruction, Operand, Program, Stage
from .emit import find_raw_planes, find_read_planes

Load = tuple[int, int, int]
SHORTEST_VIEW = 64  # a vector of fewer components is not worth reading where it lies


def without_shifts(program: Program) -> Program:
    """The program without vectors that are shifted to a mean: one thread has no use for the product form.

    For the values of all pairs rows and columns are exchanged: threads side by side write columns side by side.
    """
    if program.kind == "entries":
        program = _exchange(program)
    if not program.centred:
        return program

    def without(stage: Stage) -> Stage:
        return replace(stage, exports=tuple(e for e in stage.exports if e != FILLED_LATER))

    code = tuple(
        replace(p, op="SqDist", args=p.args[:2], aux1=0) if p.op == "WideSqDist" else p for p in program.pair.code
    )
    pair = replace(program.pair, code=code)
    return replace(program, row=without(program.row), col=without(program.col), pair=pair, centred=())


def _exchange(program: Program) -> Program:
    """The program with rows and columns exchanged."""
    other = {ROW: COL, COL: ROW}

    def turn(p: Instruction) -> Instruction:
        return replace(p, args=tuple(replace(x, space=other.get(x.space, x.space)) for x in p.args))

    pair = replace(program.pair, code=tuple(map(turn, program.pair.code)))
    return replace(program, row=program.col, col=program.row, pair=pair)


@dataclass(frozen=True, slots=True)
class Chunked:
    """A sum over columns of a scalar times a vector that is loaded as it stands; and, if asked for, of the scalar.

    Attributes
    ----------
    program : Program
        The same without the vector in its column stage; its ``OutDot`` reads what comes behind the other exports.
    position, first, count : int
        Which components of which variable the vector consists of.
    """

    program: Program
    position: int
    first: int
    count: int

    @property
    def weights(self) -> int:
        """1 if the last component of the result is the sum of the weights alone: each chunk has it, too."""
        return self.program.n_out - self.count

    @property
    def at(self) -> int:
        """The position of a chunk among a column's exports."""
        return len(self.program.col.exports)

    def passes(self, chunk: int) -> int:
        """The number of chunks."""
        return 1 if chunk >= self.program.n_out else -(-self.count // (chunk - self.weights))

    def of(self, chunk: int) -> Program:
        """The program of one chunk."""
        code = tuple(
            replace(p, aux1=chunk) if p.op == "OutDot" else p for p in self.program.pair.code if p.op != "OutSum"
        )
        return replace(self.program, n_out=chunk, pair=Stage(code, self.program.pair.planes))


def find_chunks(program: Program) -> Chunked | None:
    """The program as a sum in chunks, or None if it is no such sum."""
    dots = [p for p in program.pair.code if p.op == "OutDot"]
    others = [p for p in program.pair.code if p.op.startswith("Out") and p.op not in ("OutDot", "OutExp")]
    if len(dots) != 1 or program.kind not in ("sum", "exp"):
        return None
    dot, vector = dots[0], dots[0].args[1]
    count = dot.aux1
    whole = count > 1 and dot.aux0 == 0 and vector.space == COL and vector.stride == 1
    if not whole or [p.aux0 for p in others] != [count] * (program.n_out - count):
        return None
    if others and not _is_weight(others[0], dot):
        return None
    planes, load = program.col.exports[vector.base : vector.base + count], load_of(program.col, vector, count)
    if not load or any(_reads(x, vector.base, count) for p in program.pair.code if p is not dot for x in p.args):
        return None
    position, _, plane = load
    return Chunked(_drop_vector(program, vector.base, count, load), position, planes[0] - plane, count)


def load_of(stage: Stage, x: Operand, count: int) -> Load | None:
    """The load that count exports from where an operand points are, as they stand; None if they are computed."""
    planes = stage.exports[x.base : x.base + count]
    if not x.stride or planes != tuple(range(planes[0], planes[0] + count)):
        return None
    if not set(planes) <= find_raw_planes(stage):
        return None
    return next((k for k in stage.loads if k[2] <= planes[0] and planes[-1] < k[2] + k[1]), None)


def _is_weight(p: Instruction, dot: Instruction) -> bool:
    """Whether an instruction sums what the vector is multiplied by."""
    return p.op == "OutSum" and p.args[0] == dot.args[0]


def _reads(x: Operand, base: int, count: int) -> bool:
    """Whether an operand reads some of count exports from base: none crosses the border of a vector."""
    return x.space == COL and base <= x.base < base + count


def _drop_vector(program: Program, base: int, count: int, load: Load) -> Program:
    """The program without count exports of the columns from base, which a sum's vector is read from."""
    behind = len(program.col.exports) - count

    def moved(x: Operand) -> Operand:
        return Operand(COL, behind, 1)

    return drop_exports(program, COL, base, count, load, moved)


def drop_exports(
    program: Program, space: str, base: int, count: int, load: Load, moved: Callable[[Operand], Operand]
) -> Program:
    """The program without count exports of a stage from base; ``moved`` says where the pairs read them instead.

    Their load goes too, if nothing else needs it.
    """
    stage = program.row if space == ROW else program.col
    exports = stage.exports[:base] + stage.exports[base + count :]
    planes = range(load[2], load[2] + load[1])
    needed = {*exports, *find_read_planes(stage)}
    loads = stage.loads if any(k in planes for k in needed) else tuple(k for k in stage.loads if k != load)

    def operand(x: Operand) -> Operand:
        if x.space != space or x.base < base:
            return x
        return moved(x) if x.base < base + count else replace(x, base=x.base - count)

    code = tuple(replace(p, args=tuple(map(operand, p.args))) for p in program.pair.code)
    pair, stage = replace(program.pair, code=code), replace(stage, loads=loads, exports=exports)
    return replace(program, pair=pair, row=stage) if space == ROW else replace(program, pair=pair, col=stage)


# ---- vectors that are read where they lie --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class View:
    """A vector of rows or columns that is read where it lies: a whole variable."""

    space: str
    position: int

    @property
    def name(self) -> str:
        return f"{self.space}_x{self.position}" + "[r]" * (self.space == ROW)


def view_long_vectors(program: Program, space: str) -> tuple[Program, list[View]]:
    """The program with the long variables of its rows, or of its columns, read where they lie."""
    views: list[View] = []
    for load in (program.row if space == ROW else program.col).loads:
        position, count, plane = load
        stage = program.row if space == ROW else program.col
        exports = stage.exports
        wanted = tuple(range(plane, plane + count))
        base = next((k for k in range(len(exports)) if exports[k : k + count] == wanted), None)
        if count < SHORTEST_VIEW or base is None or not find_raw_planes(stage) >= set(wanted):
            continue
        view = View(space, position)

        def moved(x: Operand, name: str = view.name, base: int = base) -> Operand:
            return Operand(name, x.base - base, x.stride)

        program = drop_exports(program, space, base, count, load, moved)
        views.append(view)
    return program, views
