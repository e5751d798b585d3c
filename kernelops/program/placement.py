"""The level of each node of a formula: parameter, row, column or pair.

A reduction runs over *columns* and leaves one result for each *row*: with axis = 1 the rows are i and the columns are
j, with axis = 0 the other way round. A node that holds no variable of the rows needs evaluating once for each
column only, and so on; what is left for the pairs is what costs. :func:`regroup` rewrites products so that as little
as possible is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache, reduce

from ..formula.expr import Expr, apply, const, is_const, topological

FACTORS = 64  # a product inside a sum is split up to so many factors: longer ones, in many sums, take quadratic work


class Level(IntEnum):
    """The lowest level at which a node can be evaluated."""

    PARAM = 0
    ROW = 1
    COL = 2
    PAIR = 3


def variable_level(op: str, axis: int) -> Level:
    """Level of a variable ("Vi", "Vj" or "Pm") in a reduction over j (axis 1) or over i (axis 0)."""
    if op == "Pm":
        return Level.PARAM
    return Level.ROW if (op == "Vi") == (axis == 1) else Level.COL


_LEVELS = (  # axis -> the levels of nodes that depend on nothing, on i, on j and on both
    (Level.PARAM, Level.COL, Level.ROW, Level.PAIR),
    (Level.PARAM, Level.ROW, Level.COL, Level.PAIR),
)


def level_of(node: Expr, axis: int) -> Level:
    """Level of a node, from the variables it holds."""
    return _LEVELS[axis == 1][node.indices]


def _use_counts(roots: Sequence[Expr]) -> dict[Expr, int]:
    counts: dict[Expr, int] = {}
    for node in topological(*roots):
        for a in node.args:
            counts[a] = counts.get(a, 0) + 1
    return counts


def _is_product(node: Expr, axis: int) -> bool:
    return node.op in ("Mult", "Minus") and level_of(node, axis) is Level.PAIR


def _factors(node: Expr, inner: set[Expr]) -> list[Expr]:
    """The factors of a product of pairs, those of the products inside it among them."""
    found: list[Expr] = []
    todo = [node]
    while todo:
        part = todo.pop()
        if part is not node and part not in inner:
            found.append(part)
        else:
            todo.extend(reversed(part.args))
            if part.op == "Minus":
                found.append(const(-1.0))
    return found


def _product(factors: list[Expr]) -> list[Expr]:
    """The factors multiplied, scalars before vectors, so that few products are as long as the vectors; [] for 1."""
    factors = sorted((f for f in factors if not (is_const(f, 1.0) and f.dim == 1)), key=lambda f: f.dim > 1)
    return [_chain(factors)] if factors else []


def _multiply_low(factors: list[Expr], axis: int) -> Expr:
    """A product whose parameter, row and column factors are multiplied before they meet a pair."""
    at: dict[Level, list[Expr]] = {p: [] for p in Level}
    for f in factors:
        at[level_of(f, axis)].append(f)
    host = Level.COL if at[Level.COL] else Level.ROW if at[Level.ROW] else Level.PARAM
    if host is not Level.PARAM:
        at[host] = at[Level.PARAM] + at[host]
        at[Level.PARAM] = []
    low = [p for level in (Level.PARAM, Level.ROW, Level.COL) for p in _product(at[level])]
    # the pairs first: another product may have the same ones
    scalars = [p for p in low if p.dim == 1] + _product([p for p in at[Level.PAIR] if p.dim == 1])
    vectors = [p for p in at[Level.PAIR] + low if p.dim > 1]
    # the column factor comes last: a sum over columns of (pair scalar) * (column) is then one contraction
    scalars.sort(key=lambda f: level_of(f, axis) is Level.COL and not vectors)
    return _chain([_chain(part) for part in (scalars, vectors) if part])


def _chain(factors: Sequence[Expr]) -> Expr:
    return reduce(lambda f, g: apply("Mult", f, g), factors)


def _move_scalars_in_front(roots: Sequence[Expr], axis: int) -> tuple[Expr, ...]:
    """For pairs, ``Sum(s*v)`` becomes ``s*Sum(v)`` and ``v/s`` becomes ``(1/s)*v``, for an s of length 1."""
    done: dict[Expr, Expr] = {}
    for node in topological(*roots):
        args = [done[a] for a in node.args]
        done[node] = apply(node.op, *args, params=node.params) if args else node
        if level_of(node, axis) is not Level.PAIR:
            continue
        if node.op == "Divide" and args[0].dim > args[1].dim:
            done[node] = apply("Mult", apply("Inv", args[1]), args[0])
        elif node.op == "Sum" and args[0].op == "Mult":
            scalars, vectors = _scalar_factors(args[0])
            if scalars and vectors:
                total = apply("Sum", _chain(vectors))
                done[node] = _chain([*(s for s in scalars if not is_const(s, 1.0)), total])
    return tuple(done[r] for r in roots)


def _scalar_factors(node: Expr) -> tuple[list[Expr], list[Expr]]:
    """The factors of length 1 of a vector, a constant among them, and the others."""
    scalars: list[Expr] = []
    vectors: list[Expr] = []
    todo = [node]
    while todo:
        part = todo.pop()
        if part.dim == 1 or is_const(part):
            scalars.append(const(part.value) if is_const(part) else part)
        elif part.op == "Mult" and len(scalars) + len(vectors) + len(todo) < FACTORS:
            todo.extend(reversed(part.args))
        else:
            vectors.append(part)
    return scalars, vectors


def regroup(roots: Sequence[Expr], axis: int) -> tuple[Expr, ...]:
    """The expressions with every product of pairs regrouped, so that its parts meet at the lowest level.

    The value changes by rounding only: ``a*(b*c)`` may become ``(a*b)*c``.
    """
    return _regrouped(tuple(roots), axis)


@lru_cache(maxsize=8)  # a formula is asked about several times when its program is made, and seldom later
def _regrouped(roots: tuple[Expr, ...], axis: int) -> tuple[Expr, ...]:
    roots = _move_scalars_in_front(roots, axis)
    counts = _use_counts(roots)
    for r in roots:
        counts[r] = counts.get(r, 0) + 1
    done: dict[Expr, Expr] = {}
    nodes = list(topological(*roots))
    # pairs of length 1 in one order everywhere, so that two products of the same factors are one
    order = {n: k for k, n in enumerate(nodes) if n.dim == 1 and level_of(n, axis) is Level.PAIR}
    products = {n for n in nodes if _is_product(n, axis)}
    # one that is used elsewhere too stays whole, to be computed once
    inner = {a for n in products for a in n.args if a in products and counts[a] == 1}
    for node in nodes:
        if node in inner:
            continue  # its factors go into the product that it is in
        if node in products:
            factors = sorted(_factors(node, inner), key=lambda f: order.get(f, -1))
            done[node] = _multiply_low([done.get(f, f) for f in factors], axis)
        elif node.args:
            done[node] = apply(node.op, *(done[a] for a in node.args), params=node.params)
        else:
            done[node] = node
    return tuple(done[r] for r in roots)


def pair_factor(expr: Expr, axis: int) -> Expr | None:
    """The scalar of the pairs that a sum multiplies with what the columns hold; None where there is none."""
    (root,) = regroup((expr,), axis)
    if root.op == "Mult" and level_of(root.args[1], axis) is Level.COL:
        root = root.args[0]
    return root if root.dim == 1 and level_of(root, axis) is Level.PAIR else None
