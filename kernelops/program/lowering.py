"""The instructions of one stage: which vectors are stored, which are computed component by component.

A vector is consumed component by component: ``Sum(f(x, y))`` is a loop over components whose body is a scalar tile
program. Only vectors that are used twice, or by an operation that mixes components, are stored whole.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from math import prod
from typing import Any

from ..errors import FormulaError
from ..formula.expr import Expr, topological
from ..formula.ops import OPS
from .allocate import allocate
from .instructions import COL, PARAM, ROW, TILE, Instruction, Operand

Steps = Generator[Any, Any, Any]  # a function that asks `run` for the results of others instead of calling them

MOST_COMPONENTS = 2**20  # live at a time for a row, column or pair: a tile of 256 columns of float64 then has 2 GiB
WIDE_FROM = 32  # components from which a squared distance takes the product form (_tile/wide.h)
_CHEAP = ("Add", "Subtract", "Mult", "Minus")  # recomputed rather than stored, if their operands are known


def check_room(components: int) -> None:
    """Refuse a formula that keeps too many numbers at a time."""
    if components > MOST_COMPONENTS:
        raise FormulaError(
            f"the formula keeps {components} numbers at a time for a row, a column or a pair, wanted {MOST_COMPONENTS} "
            "at most: shorter vectors, or such that are consumed component by component, as in Sum(f(x,y))"
        )


def run(steps: Steps) -> Any:
    """Run a function in steps, and those it asks for, and return its result: formulas nest deeper than Python calls."""
    stack, answer = [steps], None
    while stack:
        try:
            stack.append(stack[-1].send(answer))
            answer = None
        except StopIteration as done:
            stack.pop()
            answer = done.value
    return answer


class Lowering:
    """Emits the instructions of one stage; ``known`` tells where a node can be read."""

    def __init__(
        self,
        known: dict[Expr, Operand],
        roots: Sequence[Expr],
        tables: list[int],
        exports: Mapping[str, int] | None = None,
    ) -> None:
        self.known = known
        self.tables = tables
        self.exports = dict(exports or {})  # how many components rows and columns export
        self.centred: list[tuple[int, int, int, int, int]] = []
        self.code: list[Instruction] = []
        self.sizes: list[int] = []
        self.uses: dict[Expr, int] = {}
        for node in topological(*roots):
            for a in node.args:
                self.uses[a] = self.uses.get(a, 0) + 1

    def new(self, size: int = 1) -> int:
        check_room(size)
        self.sizes.append(size)
        return len(self.sizes) - 1

    def emit(self, op: str, out: Operand | None, *args: Operand, aux: tuple[int, int] = (0, 0)) -> None:
        self.code.append(Instruction(op, out, args, *aux))

    def is_component(self, node: Expr) -> bool:
        """Whether a vector is better computed component by component where it is consumed."""
        if node in self.known or node.dim == 1 or not OPS[node.op].elementwise:
            return False
        cheap = node.op in _CHEAP and all(a in self.known for a in node.args)
        return cheap or self.uses.get(node, 0) <= 1

    def prepare(self, *nodes: Expr) -> Steps:
        """Store everything that a loop over the components of nodes will read."""
        for node in nodes:
            if self.is_component(node):
                yield self.prepare(*node.args)
            elif node not in self.known:
                yield self.stored(node)

    def components(self, nodes: Sequence[Expr], here: dict[Expr, Operand]) -> Steps:
        """Component k of each node inside a loop; ``here`` holds what the loop's body has computed."""
        found = []
        for node in nodes:
            if not self.is_component(node):
                found.append((yield self.stored(node)))
                continue
            if node not in here:
                args = yield self.components(node.args, here)
                here[node] = Operand(TILE, 0, 0, self.new())
                self.emit(node.op, here[node], *args, aux=_aux(node))
            found.append(here[node])
        return found

    def loop(self, count: int) -> int:
        """Open a loop (none for a single round); returns what ``close`` needs."""
        if count > 1:
            self.emit("Loop", None, aux=(count, 0))
        return len(self.code) - 1 if count > 1 else -1

    def close(self, opened: int) -> None:
        if opened >= 0:
            self.emit("End", None)
            self.code[opened] = Instruction("Loop", None, (), self.code[opened].aux0, len(self.code) - 1)

    def stored(self, node: Expr) -> Steps:
        """The operand from which node can be read whole; computed now if it has not been."""
        if node not in self.known:
            self.known[node] = yield _STORE.get(node.op, Lowering._elementwise)(self, node)
        return self.known[node]

    def _elementwise(self, node: Expr) -> Steps:
        yield self.prepare(*node.args)
        number, opened = self.new(node.dim), self.loop(node.dim)
        args = yield self.components(node.args, {})
        out = Operand(TILE, 0, int(node.dim > 1), number)
        self.emit(node.op, out, *args, aux=_aux(node))
        self.close(opened)
        return out

    def _sum(self, node: Expr) -> Steps:
        f = node.args[0]
        out = Operand(TILE, 0, 0, self.new())
        if self._contraction(out, f):
            return out
        yield self.prepare(f)
        self.emit("Zero", out)
        opened = self.loop(f.dim)
        self.emit("Accum", out, *(yield self.components([f], {})))
        self.close(opened)
        return out

    def _contraction(self, out: Operand, f: Expr) -> bool:
        """Sums over a row's and a column's vector that are one instruction: ``f`` is what is summed."""
        name, pair, weight = _match_contraction(f)
        if name is None or any(a.dim != f.dim or not self._lies_together(a) for a in pair):
            return False
        a, b = sorted((self.known[a] for a in pair), key=lambda x: x.space == COL)
        if (a.space, b.space) != (ROW, COL):
            return False
        weights = []
        if weight is not None:
            if weight.dim != f.dim or not self._lies_together(weight) or self.known[weight].space not in (ROW, PARAM):
                return False
            weights = [self.known[weight]]
        if name == "SqDist" and f.dim >= WIDE_FROM:
            row, col = self._shifted_vectors(a, b, f.dim)
            self.emit("WideSqDist", out, a, b, row, aux=(f.dim, col))
        else:
            self.emit(name, out, a, b, *weights, aux=(f.dim, 0))
        return True

    def _lies_together(self, node: Expr) -> bool:
        """Whether a vector is known, and its components lie one after another."""
        return node in self.known and self.known[node].stride == int(node.dim > 1)

    def _shifted_vectors(self, a: Operand, b: Operand, d: int) -> tuple[Operand, int]:
        """The copies of a row's and a column's vector, shifted to the mean of the columns, and their squares."""
        for row, col, shifted_row, shifted_col, length in self.centred:
            if (row, col, length) == (a.base, b.base, d):
                return Operand(ROW, shifted_row, 1), shifted_col
        row, col = self.exports[ROW], self.exports[COL]
        self.centred.append((a.base, b.base, row, col, d))
        self.exports = {ROW: row + d + 1, COL: col + d + 1}
        return Operand(ROW, row, 1), col

    def _square_or_abs(self, node: Expr) -> Steps:
        """The square or absolute value; of a difference of numbers it is a contraction of vectors of length 1."""
        if node.dim == 1 and node.args[0] not in self.known and self.uses.get(node.args[0], 0) <= 1:
            out = Operand(TILE, 0, 0, self.new())
            if self._contraction(out, node):
                return out
            self.sizes.pop()
        return (yield self._elementwise(node))

    def _split_scale(self, node: Expr, uses: int) -> tuple[Expr, Operand | None]:
        """node as (f, scale) with a scale that is one number for each row at most, where only its product is wanted."""
        if node.op == "Mult" and node not in self.known and self.uses.get(node, 0) <= uses:
            for c, f in (node.args, node.args[::-1]):
                if c in self.known and self.known[c].space in (ROW, PARAM) and f is not c:
                    return f, self.known[c]
        return node, None

    def _exp(self, node: Expr) -> Steps:
        f, scale = self._split_scale(node.args[0], 1) if node.dim == 1 else (node, None)
        if scale is None:
            return (yield self._elementwise(node))
        a, out = (yield self.stored(f)), Operand(TILE, 0, 0, self.new())
        self.emit("ExpScaled", out, a, scale)
        return out

    def _extract(self, node: Expr) -> Steps:
        source = yield self.stored(node.args[0])
        step = node.params[2] if node.op == "Slice" else 1
        stride = source.stride * step * (node.dim > 1)
        return Operand(source.space, source.base + node.params[0] * source.stride, stride, source.value)

    def _copy(self, node: Expr, at: int, number: int, step: int = 1) -> Steps:
        yield self.prepare(node)
        opened = self.loop(node.dim)
        self.emit("Copy", Operand(TILE, at, step * (node.dim > 1), number), *(yield self.components([node], {})))
        self.close(opened)

    def _concat(self, node: Expr) -> Steps:
        parts = self._parts(node)
        yield self.prepare(*parts)
        number, at = self.new(node.dim), 0
        for part in parts:
            yield self._copy(part, at, number)
            at += part.dim
        return Operand(TILE, 0, 1, number)

    def _embed(self, node: Expr) -> Steps:
        yield self.prepare(*node.args)
        number, (start, total), f = self.new(node.dim), node.params, node.args[0]
        for at, count in ((0, start), (start + f.dim, total - start - f.dim)):
            if count:
                opened = self.loop(count)
                self.emit("Zero", Operand(TILE, at, int(count > 1), number))
                self.close(opened)
        yield self._copy(f, start, number)
        return Operand(TILE, 0, int(total > 1), number)

    def _spread(self, node: Expr) -> Steps:
        yield self.prepare(*node.args)
        number, (start, total, step) = self.new(node.dim), node.params
        opened = self.loop(total)
        self.emit("Zero", Operand(TILE, 0, int(total > 1), number))
        self.close(opened)
        yield self._copy(node.args[0], start, number, step)
        return Operand(TILE, 0, int(total > 1), number)

    def _tensordot(self, node: Expr) -> Steps:
        a, b = (yield self.stored(node.args[0])), (yield self.stored(node.args[1]))
        out = Operand(TILE, 0, int(node.dim > 1), self.new(node.dim))
        self.emit("TensorDot", out, a, b, aux=(len(self.tables), 0))
        self.tables.extend(_contraction_table(node.params, a.stride, b.stride))
        return out

    def end(self, kind: str, roots: tuple[Expr, ...], n_out: int) -> None:
        """The instructions that add the pairs to the result."""
        if kind == "sum":
            self._out_sum(roots[0])
        elif kind in ("best", "entries"):
            run(self.prepare(roots[0]))
            opened = self.loop(n_out)
            self.emit("OutBest" if kind == "best" else "OutEntry", None, *run(self.components([roots[0]], {})))
            self.close(opened)
        else:
            self._out_exp(roots, n_out)

    def _out_sum(self, root: Expr) -> None:
        at = 0
        for part in self._parts(root):
            self._out_part(part, at)
            at += part.dim

    def _parts(self, root: Expr) -> list[Expr]:
        """The parts of a Concat: each is added where it stands in the result, and none is stored for that."""
        found: list[Expr] = []
        todo = [root]
        while todo:
            part = todo.pop()
            if part.op == "Concat" and part not in self.known:
                todo.extend(reversed(part.args))
            else:
                found.append(part)
        return found

    def _out_part(self, part: Expr, at: int) -> None:
        factors = part.args if part.op == "Mult" and part not in self.known else (part,)
        if len(factors) == 2 and self._out_vector(*factors, at=at):
            return
        run(self.prepare(*factors))
        opened = self.loop(part.dim)
        operands = run(self.components(factors, {}))
        self.emit("OutDot" if len(factors) == 2 else "OutSum", None, *operands, aux=(at, int(len(factors) == 2)))
        self.close(opened)

    def _out_vector(self, scalar: Expr, vector: Expr, at: int = 0) -> bool:
        """A scalar of the pairs times a column's vector, or times x_i - y_j: one instruction for all components."""
        parts = (vector,) if vector in self.known else vector.args if vector.op == "Subtract" else ()
        spaces = [self.known[v].space for v in parts if v.dim == vector.dim and self._lies_together(v)]
        if scalar.dim > 1 or len(spaces) != len(parts) or spaces not in ([COL], [ROW, COL], [COL, ROW]):
            return False
        a = run(self.stored(scalar))
        if a.space != TILE:
            return False
        if spaces == [COL, ROW]:  # y - x = -(x - y)
            parts, negative = parts[::-1], Operand(TILE, 0, 0, self.new())
            self.emit("Minus", negative, a)
            a = negative
        op = "OutDot" if spaces == [COL] else "OutDiff"
        self.emit(op, None, a, *(self.known[v] for v in parts), aux=(at, vector.dim))
        return True

    def _out_exp(self, roots: tuple[Expr, ...], n_out: int) -> None:
        f, scale = self._split_scale(roots[0], 0)
        run(self.prepare(f, *roots[1:]))
        out, a = Operand(TILE, 0, 0, self.new()), run(self.stored(f))
        self.emit("OutExp", out, a, *([] if scale is None else [scale]))
        if len(roots) == 2 and self._lies_together(roots[1]) and self.known[roots[1]].space == COL:
            self.emit("OutDot", None, out, self.known[roots[1]], aux=(0, roots[1].dim))
        elif len(roots) == 2:
            opened = self.loop(roots[1].dim)
            self.emit("OutDot", None, out, *run(self.components([roots[1]], {})), aux=(0, 1))
            self.close(opened)
        if len(roots) == 1 or n_out > roots[1].dim:
            self.emit("OutSum", None, out, aux=(n_out - 1, 0))

    def exported(
        self, wanted: Sequence[Expr], fixed: dict[int, int]
    ) -> tuple[tuple[Instruction, ...], int, tuple[int, ...]]:
        """Instructions, planes, and the planes of the wanted nodes, one after another."""
        check_room(sum(n.dim for n in wanted))
        operands = [self._in_tile(n) for n in wanted]
        code, planes, highest = allocate(
            self.code, self.sizes, fixed, [x.value for x in operands if x.value is not None]
        )
        exports = [
            planes[x.value] + x.base + k * x.stride
            for n, x in zip(wanted, operands, strict=True)
            for k in range(n.dim)
            if x.value is not None
        ]
        check_room(highest)
        return code, highest, tuple(exports)

    def _in_tile(self, node: Expr) -> Operand:
        """A copy where an export would name a parameter (Extract of one, say)."""
        source: Operand = run(self.stored(node))
        if source.space == TILE:
            return source
        number, opened = self.new(node.dim), self.loop(node.dim)
        out = Operand(TILE, 0, int(node.dim > 1), number)
        self.emit("Copy", out, source)
        self.close(opened)
        return out


_STORE: dict[str, Callable[[Lowering, Expr], Steps]] = {
    "Sum": Lowering._sum,
    "Exp": Lowering._exp,
    "Square": Lowering._square_or_abs,
    "Abs": Lowering._square_or_abs,
    "Extract": Lowering._extract,
    "ExtractT": Lowering._embed,
    "Slice": Lowering._extract,
    "SliceT": Lowering._spread,
    "Concat": Lowering._concat,
    "TensorDot": Lowering._tensordot,
}


def _aux(node: Expr) -> tuple[int, int]:
    return (node.params[0], 0) if node.op in ("Pow", "SinXDivX") else (0, 0)


def _match_contraction(f: Expr) -> tuple[str | None, tuple[Expr, ...], Expr | None]:
    """The contraction that a sum of f is, the pair of vectors and the weights; None where it is none."""
    if f.op == "Mult":
        for square, weight in (f.args, f.args[::-1]):
            if square.op == "Square" and square.args[0].op == "Subtract":
                return "WeightedSqDist", square.args[0].args, weight
        return "Dot", f.args, None
    if f.op in ("Square", "Abs") and f.args[0].op == "Subtract":
        return ("SqDist" if f.op == "Square" else "L1Dist"), f.args[0].args, None
    return None, (), None


def _strides(dims: Sequence[int]) -> list[int]:
    return [prod(dims[k + 1 :]) for k in range(len(dims))]


def _contraction_table(params: tuple[Any, ...], step_a: int, step_b: int) -> list[int]:
    """The entry of a TensorDot in the engine's table (tile.h says how it is read)."""
    dims_f, dims_g, cont_f, cont_g, permute = params
    of_f, of_g = _strides(dims_f), _strides(dims_g)
    kept = [(dims_f[k], of_f[k] * step_a, 0) for k in range(len(dims_f)) if k not in cont_f]
    kept += [(dims_g[k], 0, of_g[k] * step_b) for k in range(len(dims_g)) if k not in cont_g]
    shape = [0] * len(kept)
    for k, position in enumerate(permute):
        shape[position] = kept[k][0]
    of_out = _strides(shape)
    table = [len(kept), len(cont_f)]
    for k, (size, sa, sb) in enumerate(kept):
        table += [size, of_out[permute[k]], sa, sb]
    for p, q in zip(cont_f, cont_g, strict=True):
        table += [dims_f[p], of_f[p] * step_a, of_g[q] * step_b]
    return table
