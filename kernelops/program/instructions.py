"""Instructions of the tile engine, as frozen data with a readable listing."""

from __future__ import annotations

from dataclasses import dataclass

TILE, ROW, COL, PARAM = "tile", "row", "col", "param"
FILLED_LATER = -1  # marks an export that is no plane but is left for a shifted vector


@dataclass(frozen=True, slots=True)
class Operand:
    """Component ``base + k*stride`` of its space, k being the counter of the surrounding loop.

    Before allocation a tile operand counts within ``value`` (the number of a value); afterwards within the tile's
    planes, and ``value`` is None.
    """

    space: str
    base: int
    stride: int = 0
    value: int | None = None

    def __str__(self) -> str:
        return f"{self.space}[{self.base}{'+k' if self.stride else ''}]"


@dataclass(frozen=True, slots=True)
class Instruction:
    """``out = op(a, b, c)`` on every pair of a tile; aux0 and aux1 as _tile/ops.h says."""

    op: str
    out: Operand | None = None
    args: tuple[Operand, ...] = ()
    aux0: int = 0
    aux1: int = 0

    def __str__(self) -> str:
        if self.op == "Loop":
            return f"for k < {self.aux0}:"
        aux = [str(self.aux0)] if self.op in _WITH_AUX0 else [str(self.aux1)] if self.aux1 > 1 else []
        call = f"{self.op}({', '.join([*map(str, self.args), *aux])})"
        if self.op.startswith("Out") and self.out is None:
            return f"result[{self.aux0}+k] <- {call}"
        return f"{self.out} = {call}"


_WITH_AUX0 = ("Pow", "SinXDivX", "SqDist", "Dot", "L1Dist", "WeightedSqDist", "WideSqDist", "TensorDot")


@dataclass(frozen=True, slots=True)
class Stage:
    """One straight-line program: raw data in, instructions, components out.

    Attributes
    ----------
    code : tuple of Instruction
        What runs.
    planes : int
        Planes of the tile that it needs.
    loads : tuple of (position, components, plane)
        Variables that are copied into the tile first.
    exports : tuple of int
        Planes that are copied out afterwards.
    """

    code: tuple[Instruction, ...]
    planes: int
    loads: tuple[tuple[int, int, int], ...] = ()
    exports: tuple[int, ...] = ()

    def __str__(self) -> str:
        lines, depth = [f"  load variable {p} ({d}) -> {plane}" for p, d, plane in self.loads], 1
        for instruction in self.code:
            if instruction.op == "End":
                depth -= 1
                continue
            lines.append("  " * depth + str(instruction))
            depth += instruction.op == "Loop"
        if self.exports:
            later = self.exports.count(FILLED_LATER)
            names = [str(e) for e in self.exports if e != FILLED_LATER] + [f"{later} of shifted vectors"] * (later > 0)
            lines.append(f"  export {', '.join(names)}")
        return "\n".join(lines) or "  nothing"


@dataclass(frozen=True, slots=True)
class Program:
    """The instructions of one reduction for the tile engine.

    ``param`` runs once, ``row`` once for each row of the result, ``col`` once for each column that is reduced, ``pair``
    for all pairs. The parameters are the constants, the raw parameter variables (``param.loads``) and the exports of
    the param stage, in this order.

    Attributes
    ----------
    kind : str
        "sum", "exp" (sums weighted by exponentials, with a running maximum), "best" (smallest or largest values) or
        "entries" (the values of all pairs).
    n_out : int
        Components that are accumulated for each row.
    centred : tuple of (row, column, shifted row, shifted column, length)
        Vectors of rows and columns of which a copy, shifted to the columns' mean, and its square are exported too.
    """

    kind: str
    n_out: int
    constants: tuple[float, ...]
    n_params: int
    param: Stage
    row: Stage
    col: Stage
    pair: Stage
    contractions: tuple[int, ...] = ()
    centred: tuple[tuple[int, int, int, int, int], ...] = ()

    def __str__(self) -> str:
        constants = f"constants {', '.join(f'{c:.6g}' for c in self.constants) or 'none'}"
        stages = (("once", self.param), ("each row", self.row), ("each column", self.col), ("each pair", self.pair))
        return "\n".join([constants, *(f"{name}:\n{stage}" for name, stage in stages)])
