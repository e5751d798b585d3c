"""Placed expressions -> instructions of the tile engine.

Four stages: what needs neither rows nor columns runs once, what needs one of them runs once for each row or column,
and the rest for each pair; what an earlier stage has computed is an operand of the later ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from ..formula.expr import Expr, topological
from .allocate import allocate
from .instructions import COL, FILLED_LATER, PARAM, ROW, TILE, Operand, Program, Stage
from .lowering import Lowering, check_room
from .placement import Level, level_of, regroup
from .verify import count_work

Leaves = dict[Expr, Operand]


@lru_cache(maxsize=1024)
def compile_sum(expr: Expr, axis: int) -> Program:
    """The program of a sum over columns."""
    return _compile((expr,), axis, "sum", expr.dim)


@lru_cache(maxsize=256)
def compile_exp(expr: Expr, weight: Expr | None, normalise: bool, axis: int) -> Program:
    """Sums of exp(expr)*weight over columns; ``normalise`` adds the plain sum of exp(expr) as the last component."""
    width = 1 if weight is None else weight.dim + normalise
    return _compile((expr,) if weight is None else (expr, weight), axis, "exp", width)


@lru_cache(maxsize=256)
def compile_best(expr: Expr, axis: int) -> Program:
    """The smallest or largest values over columns, of each component."""
    return _compile((expr,), axis, "best", expr.dim)


@lru_cache(maxsize=256)
def compile_entries(expr: Expr, axis: int) -> Program:
    """The values of the pairs themselves."""
    return _compile((expr,), axis, "entries", expr.dim)


@lru_cache(maxsize=1024)
def work_of_sum(expr: Expr, axis: int) -> int:
    """The counted work of a pair of the program of a sum over columns, without making the other stages of it."""
    roots = regroup((expr,), axis)
    wanted = _wanted(roots, axis)
    spaces = {Level.PARAM: PARAM, Level.ROW: ROW, Level.COL: COL}
    known, ends = {}, dict.fromkeys(spaces.values(), 0)
    for n in wanted:
        space = spaces[level_of(n, axis)]
        known[n] = Operand(space, ends[space], int(n.dim > 1))
        ends[space] += n.dim
    tables: list[int] = []
    lowering = Lowering(known, roots, tables, {ROW: ends[ROW], COL: ends[COL]})
    lowering.end("sum", roots, expr.dim)
    return count_work(((i.op, i.aux0, i.aux1) for i in lowering.code), tables)


def _wanted(roots: Sequence[Expr], axis: int) -> list[Expr]:
    """The nodes of earlier stages that pairs read."""
    pairs = [n for n in topological(*roots) if level_of(n, axis) is Level.PAIR]
    return _unique([*(a for n in pairs for a in n.args), *roots], pairs)


def _compile(roots: tuple[Expr, ...], axis: int, kind: str, n_out: int) -> Program:
    roots = regroup(roots, axis)
    wanted = _wanted(roots, axis)
    params = _Params()
    row = _low_stage([n for n in wanted if level_of(n, axis) is Level.ROW], axis, params)
    col = _low_stage([n for n in wanted if level_of(n, axis) is Level.COL], axis, params)
    for n in wanted:
        if level_of(n, axis) is Level.PARAM:
            params.want(n)
    param, leaves = params.finish()
    tables: list[int] = []
    row_stage, row_leaves = row(leaves, tables)
    col_stage, col_leaves = col(leaves, tables)
    sizes = {ROW: len(row_stage.exports), COL: len(col_stage.exports)}
    lowering = Lowering(leaves | _as(ROW, row_leaves) | _as(COL, col_leaves), roots, tables, sizes)
    lowering.end(kind, roots, n_out)
    later = (FILLED_LATER,) * sum(d + 1 for *_, d in lowering.centred)
    row_stage, col_stage = (replace(s, exports=s.exports + later) for s in (row_stage, col_stage))
    code, _, planes = allocate(lowering.code, lowering.sizes, {}, ())
    check_room(planes)
    param_stage = param(tables)
    return Program(
        kind,
        n_out,
        tuple(params.constants),
        params.size,
        param_stage,
        row_stage,
        col_stage,
        Stage(code, planes),
        tuple(tables),
        tuple(lowering.centred),
    )


def _unique(nodes: Iterable[Expr], without: Sequence[Expr]) -> list[Expr]:
    skip = set(without)
    return list(dict.fromkeys(n for n in nodes if n not in skip))


def _as(place: str, bases: dict[Expr, int]) -> dict[Expr, Operand]:
    return {n: Operand(place, base, int(n.dim > 1)) for n, base in bases.items()}


class _Params:
    """Collects what the other stages read as parameters: constants, raw variables, computed values."""

    def __init__(self) -> None:
        self.constants: list[float] = []
        self.nodes: dict[Expr, None] = {}
        self.size = 0

    def want(self, node: Expr) -> None:
        self.nodes[node] = None

    def finish(self) -> tuple[Callable[[list[int]], Stage], Leaves]:
        """The operand that each wanted node will be, and the stage that computes it once the tables are known."""
        everything = list(topological(*self.nodes))
        consts = [n for n in everything if n.op == "Const"]
        places: dict[float, int] = {}
        leaves = {n: Operand(PARAM, places.setdefault(n.value, len(places)), 0) for n in consts}
        self.constants = list(places)
        at, loads = len(self.constants), []
        for n in everything:
            if n.op == "Pm":
                leaves[n] = Operand(PARAM, at, int(n.dim > 1))
                loads.append((n.position, n.dim, at))
                at += n.dim
        raw = dict(leaves)
        computed = [n for n in self.nodes if n not in raw]
        for n in computed:
            leaves[n] = Operand(PARAM, at, int(n.dim > 1))
            at += n.dim
        self.size = at

        def stage(tables: list[int]) -> Stage:
            lowering = Lowering(raw, computed, tables)
            code, planes, exports = lowering.exported(computed, {})
            return Stage(code, planes, tuple(loads), exports)

        return stage, leaves


def _low_stage(
    wanted: list[Expr], axis: int, params: _Params
) -> Callable[[Leaves, list[int]], tuple[Stage, dict[Expr, int]]]:
    """The stage that evaluates nodes of rows (or columns) from their variables; names the parameters that it needs."""
    inner = [n for n in topological(*wanted) if level_of(n, axis) is not Level.PARAM]
    for n in inner:
        for a in n.args:
            if level_of(a, axis) is Level.PARAM:
                params.want(a)
    variables = [n for n in inner if not n.args]

    def stage(leaves: Leaves, tables: list[int]) -> tuple[Stage, dict[Expr, int]]:
        lowering = Lowering(dict(leaves), wanted, tables)
        fixed, loads, plane = {}, [], 0
        for v in variables:
            number = lowering.new(v.dim)
            lowering.known[v] = Operand(TILE, 0, int(v.dim > 1), number)
            fixed[number] = plane
            loads.append((v.position, v.dim, plane))
            plane += v.dim
        code, planes, exports = lowering.exported(wanted, fixed)
        bases, at = {}, 0
        for n in wanted:
            bases[n] = at
            at += n.dim
        return Stage(code, planes, tuple(loads), exports), bases

    return stage
