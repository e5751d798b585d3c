"""Programs as kernels take them: without the product form of distances, and with long results taken apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .instructions import COL, FILLED_LATER, TILE, Instruction, Operand, Program, Stage


def plain(program: Program) -> Program:
    """The program without vectors that are shifted to a mean: one thread has no use for the product form."""
    if not program.centred:
        return program

    def without(stage: Stage) -> Stage:
        return replace(stage, exports=tuple(e for e in stage.exports if e != FILLED_LATER))

    code = tuple(
        replace(p, op="SqDist", args=p.args[:2], aux1=0) if p.op == "WideSqDist" else p for p in program.pair.code
    )
    pair = replace(program.pair, code=code)
    return replace(program, row=without(program.row), col=without(program.col), pair=pair, centred=())


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
        """1 where the last component of the result is the sum of the weights alone: each chunk has it, too."""
        return self.program.n_out - self.count

    @property
    def at(self) -> int:
        """Where a chunk stands among a column's exports."""
        return len(self.program.col.exports)

    def passes(self, chunk: int) -> int:
        """How many chunks there are."""
        return 1 if chunk >= self.program.n_out else -(-self.count // (chunk - self.weights))

    def of(self, chunk: int) -> Program:
        """The program of one chunk."""
        code = tuple(
            replace(p, aux1=chunk) if p.op == "OutDot" else p for p in self.program.pair.code if p.op != "OutSum"
        )
        return replace(self.program, n_out=chunk, pair=Stage(code, self.program.pair.planes))


def chunked(program: Program) -> Chunked | None:
    """A program taken apart, if it is such a sum."""
    dots = [p for p in program.pair.code if p.op == "OutDot"]
    others = [p for p in program.pair.code if p.op.startswith("Out") and p.op not in ("OutDot", "OutExp")]
    if len(dots) != 1 or program.kind not in ("sum", "exp"):
        return None
    dot, vector = dots[0], dots[0].args[1]
    count = dot.aux1
    whole = count > 1 and dot.aux0 == 0 and vector.place == COL and vector.stride == 1
    if not whole or [p.aux0 for p in others] != [count] * (program.n_out - count):
        return None
    if others and not _is_weight(others[0], dot):
        return None
    planes = program.col.exports[vector.base : vector.base + count]
    if planes != tuple(range(planes[0], planes[0] + count)):
        return None
    found = [load for load in program.col.loads if load[2] <= planes[0] and planes[-1] < load[2] + load[1]]
    if not found or any(_meets(x, vector.base, count) for p in program.pair.code if p is not dot for x in p.args):
        return None
    position, _, plane = found[0]
    return Chunked(_without(program, dot, vector.base, count, found[0]), position, planes[0] - plane, count)


def _is_weight(p: Instruction, dot: Instruction) -> bool:
    """Whether an instruction sums what the vector is multiplied by."""
    return p.op == "OutSum" and p.args[0] == dot.args[0]


def _meets(x: Operand, base: int, count: int) -> bool:
    """Whether an operand reads some of count exports from base: none crosses the border of a vector."""
    return x.place == COL and base <= x.base < base + count


def _without(program: Program, dot: Instruction, base: int, count: int, load: tuple[int, int, int]) -> Program:
    """The program without count exports of the columns from base; their load goes too, where nothing else needs it."""
    col = program.col
    exports = col.exports[:base] + col.exports[base + count :]
    planes = range(load[2], load[2] + load[1])
    needed = [*exports, *(x.base for p in col.code for x in p.args if x.place == TILE)]
    loads = col.loads if any(plane in planes for plane in needed) else tuple(k for k in col.loads if k != load)

    def moved(p: Instruction) -> Instruction:
        if p is dot:
            return replace(p, args=(p.args[0], Operand(COL, len(exports), 1)))
        args = (replace(x, base=x.base - count) if x.place == COL and x.base >= base + count else x for x in p.args)
        return replace(p, args=tuple(args))

    code = tuple(moved(p) for p in program.pair.code)
    return replace(program, col=Stage(col.code, col.planes, loads, exports), pair=Stage(code, program.pair.planes))
