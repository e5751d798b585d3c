"""Tests whether expressions are 0 for all data: they are evaluated at a few points, with a bound of the rounding.

Simplification does not see every identity (g/2 - g*g/(2*g), or sqrt(5)*sqrt(5) - 5 in floating point). A value that
is within its own rounding error at three points that have nothing to do with each other is 0. Parameters take positive
values, as scales have them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from .expr import Expr, apply, is_const, topological
from .fold import VALUES, is_nonnegative

Value = tuple[float, float]  # a value, and how far it may be off

SAMPLE_POINTS = 3  # number of random points at which expressions are compared
ATTEMPTS = 12  # so many points are tried if an expression is not defined at some
SLACK = 64.0  # bounds are of the first order, and some operations are a few ulp off
_ULP = 2.0**-53
_LONGEST_VECTOR = 4096  # a vector of more components, or a larger contraction, counts as a variable of its own


class Point:
    """Values of expressions at one random point, the same in every run."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.random: random.Random | None = None  # made when it is needed: most points never are
        self.known: dict[Expr, list[Value] | None] = {}

    def values(self, expr: Expr) -> list[Value] | None:
        """The components of expr, one for all if they are equal; None if it is not defined here."""
        if expr not in self.known:
            for node in topological(expr):
                if node not in self.known:
                    self.known[node] = self._of(node)
        return self.known[expr]

    def value(self, expr: Expr) -> Value | None:
        """The value of the first component."""
        found = self.values(expr)
        return None if found is None else found[0]

    def _of(self, node: Expr) -> list[Value] | None:
        if node.op == "Const":
            return [(node.value, _ULP * abs(node.value))]
        rule = _MIXING.get(node.op) or (_elementwise if node.op in VALUES else None)
        if rule is None or node.dim > _LONGEST_VECTOR:
            return [self._draw(node) for _ in range(min(node.dim, _LONGEST_VECTOR))]
        args = [self.known[a] for a in node.args]
        known = [a for a in args if a is not None]
        if len(known) < len(args):
            return None
        try:
            found = rule(node, known)
        except (ValueError, OverflowError, ZeroDivisionError):
            return None
        return found if all(math.isfinite(v) and math.isfinite(e) for v, e in found) else None

    def _draw(self, node: Expr) -> Value:
        if self.random is None:
            self.random = random.Random(self.number)
        size, sign = self.random.uniform(0.3, 1.7), self.random.random()
        return (-size if sign < 0.5 and node.op != "Pm" and not is_nonnegative(node) else size, 0.0)


def points() -> list[Point]:
    """The points at which expressions are compared."""
    return [Point(number) for number in range(ATTEMPTS)]


def _elementwise(node: Expr, args: list[list[Value]]) -> list[Value]:
    length = max(map(len, args))
    wide = [a if len(a) == length else a * length for a in args]
    return [_operate(VALUES[node.op], operands, node) for operands in zip(*wide, strict=True)]


def _operate(f: Callable[..., float], args: Sequence[Value], node: Expr) -> Value:
    """The value of one operation, and how far it may be off: the operands are moved by what they may be off."""
    values = [v for v, _ in args]
    value = f(*values, *node.params)
    error = _ULP * abs(value)
    for k, (v, e) in enumerate(args):
        if e and not (node.op == "IfElse" and k == 0):
            moved = [f(*values[:k], w, *values[k + 1 :], *node.params) for w in (v - e, v + e)]
            error += max(abs(w - value) for w in moved)
    return value, error


def _total(parts: Sequence[Value]) -> Value:
    value = math.fsum(v for v, _ in parts)
    return value, math.fsum(e for _, e in parts) + _ULP * math.fsum(abs(v) for v, _ in parts)


def _full(a: list[Value], dim: int) -> list[Value]:
    return a if len(a) == dim else a * dim


def _tensordot(node: Expr, args: list[list[Value]]) -> list[Value]:
    dims_f, dims_g, cont_f, cont_g, permute = node.params
    f, g = (_full(a, e.dim) for a, e in zip(args, node.args, strict=True))
    if len(f) * len(g) > _LONGEST_VECTOR:
        raise ValueError
    kept_f = [k for k in range(len(dims_f)) if k not in cont_f]
    kept_g = [k for k in range(len(dims_g)) if k not in cont_g]
    shape = [0] * len(permute)
    for place, d in zip(permute, [dims_f[k] for k in kept_f] + [dims_g[k] for k in kept_g], strict=True):
        shape[place] = d
    parts: dict[int, list[Value]] = {}
    for i, (v, e) in enumerate(f):
        at_f = _indices(i, dims_f)
        for j, (w, h) in enumerate(g):
            at_g = _indices(j, dims_g)
            if all(at_f[p] == at_g[q] for p, q in zip(cont_f, cont_g, strict=True)):
                at = [0] * len(permute)
                for place, index in zip(permute, [at_f[k] for k in kept_f] + [at_g[k] for k in kept_g], strict=True):
                    at[place] = index
                flat = 0
                for index, d in zip(at, shape, strict=True):
                    flat = flat * d + index
                parts.setdefault(flat, []).append((v * w, abs(v) * h + abs(w) * e + _ULP * abs(v * w)))
    return [_total(parts[k]) for k in range(node.dim)]


def _embed(a: list[Value], start: int, total: int) -> list[Value]:
    zero = (0.0, 0.0)
    return [zero] * start + a + [zero] * (total - start - len(a))


def _spread(a: list[Value], start: int, total: int, step: int) -> list[Value]:
    found = [(0.0, 0.0)] * total
    found[start : start + (len(a) - 1) * step + 1 : step] = a
    return found


def _indices(flat: int, dims: Sequence[int]) -> list[int]:
    found = []
    for d in reversed(dims):
        flat, k = divmod(flat, d)
        found.append(k)
    return found[::-1]


_MIXING: dict[str, Callable[[Expr, list[list[Value]]], list[Value]]] = {
    "Sum": lambda node, args: [_total(_full(args[0], node.args[0].dim))],
    "Extract": lambda node, args: _full(args[0], node.args[0].dim)[node.params[0] : sum(node.params)],
    "ExtractT": lambda node, args: _embed(_full(args[0], node.args[0].dim), *node.params),
    "Slice": lambda node, args: _full(args[0], node.args[0].dim)[node.params[0] :: node.params[2]][: node.dim],
    "SliceT": lambda node, args: _spread(_full(args[0], node.args[0].dim), *node.params),
    "Concat": lambda node, args: _full(args[0], node.args[0].dim) + _full(args[1], node.args[1].dim),
    "TensorDot": _tensordot,
}


def is_zero_everywhere(find: Callable[[Point], list[Value] | None], at: Sequence[Point]) -> bool:
    """Whether all that find gives is 0, as far as rounding tells, at enough points."""
    seen = 0
    for point in at:
        found = find(point)
        if found is None:
            continue
        if any(abs(v) > SLACK * e for v, e in found):
            return False
        seen += 1
        if seen == SAMPLE_POINTS:
            return True
    return False


def are_equal(f: Expr, g: Expr, at: Sequence[Point]) -> bool:
    """Whether two expressions have one value, as far as rounding tells."""
    if f is g or (is_const(f) and is_const(g) and f.params == g.params):
        return True
    if max(f.dim, g.dim) > 1 and 1 not in (f.dim, g.dim) and f.dim != g.dim:
        return False
    difference = apply("Subtract", f, g)
    return is_zero_everywhere(lambda point: point.values(difference), at)


def ratio(f: Expr, g: Expr, at: Sequence[Point]) -> float | None:
    """The number c with f = c*g for all data; None if there is none. Both are of length 1."""
    c = None
    for point in at[:SAMPLE_POINTS]:
        a, b = point.value(f), point.value(g)
        if a is None or b is None or b[0] == 0:
            return None
        c = a[0] / b[0] if c is None else c
        if abs(a[0] - c * b[0]) > SLACK * (a[1] + abs(c) * b[1] + _ULP * abs(a[0])):
            return None
    return c
