"""Distances in an expression: what stands under its roots, what is 0 with it, and two distances that are one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce

from ..errors import FormulaError
from .expr import Expr, apply, const, is_const, substitute, topological
from .fold import is_nonnegative
from .identities import Point, ratio
from .ops import OPS
from .polynomial import is_zero
from .simplify import build, simplify

ROOTS = ("Sqrt", "Rsqrt", "Powf", "Abs", "Sign", "Log")
MOST_NESTED = 24  # absolute values within one another in what is differentiated: their limits take seconds then
_CONDITIONS = ("Step", "Floor", "Equal", "NotEqual", "LessThan", "LessOrEqual")


def bases(expr: Expr) -> dict[Expr, bool]:
    """The nodes of whose roots expr is made; True for those of either sign, of which it contains the absolute value.

    What is only asked by a condition does not count: nothing is differentiated there. A logarithm counts for distances
    alone: that of other data has no limit at 0.
    """
    found: dict[Expr, bool] = {}
    for node in nodes_on_the_way(expr):
        if node.op in ROOTS and not (node.op == "Powf" and _is_whole(node.args[1])):
            for base, signed in base_of_root(node):
                if node.op != "Log" or is_distance(base):
                    found[base] = found.get(base, True) and signed
    return found


def check_nesting(expr: Expr, var: Expr, found: Mapping[Expr, bool]) -> None:
    """Refuse absolute values that are nested too deeply; found is what ``bases`` gives.

    What an outer one tends to where an inner one is 0 is expanded with the signs of all those between: the work for a
    chain of n grows by more than n squared.
    """
    deep: dict[int, int] = {}
    for node in topological(expr):
        inner = max((deep[id(a)] for a in node.args), default=0)
        deep[id(node)] = inner + (found.get(node, False) and var in node.vars)
    if deep[id(expr)] > MOST_NESTED:
        raise FormulaError(
            f"a derivative of absolute values nested {deep[id(expr)]} deep: wanted {MOST_NESTED} levels at most"
        )


def nodes_on_the_way(expr: Expr) -> Iterator[Expr]:
    """The nodes below expr through which a derivative may go, in the order of ``topological``."""
    reached, stack = {expr}, [expr]
    while stack:
        node = stack.pop()
        for a in node.args[1:] if node.op == "IfElse" else () if node.op in _CONDITIONS else node.args:
            if a not in reached:
                reached.add(a)
                stack.append(a)
    return (n for n in topological(expr) if n in reached)


def _is_whole(p: Expr) -> bool:
    return is_const(p) and p.value == int(p.value)


def _has_both_indices(node: Expr) -> bool:
    return node.indices == 3


def base_of_root(root: Expr) -> list[tuple[Expr, bool]]:
    """The nodes that are 0 where the operand of a root is, and whether only their absolute values count.

    These are the factors of the operand, down to what is no product, power or root.
    """
    found = []
    stack = [(root, False)]
    while stack:
        node, signed = stack.pop()
        if node.op in ("Abs", "Sign", "Square") or (node.op == "Pow" and node.params[0] % 2 == 0):
            stack.append((node.args[0], True))
        elif node.op in ("Minus", "Inv", "Pow"):
            stack.append((node.args[0], signed))
        elif node.op in ("Sqrt", "Rsqrt", "Powf", "Log"):
            stack.append((node.args[0], False))
        elif node.op in ("Mult", "Divide"):
            moving = [a for a in node.args if not is_const(a)]
            stack.extend((a, signed) for a in [a for a in moving if _has_both_indices(a)] or moving)
        elif node.vars and not _is_positive(node):
            found.append((node, signed and not is_nonnegative(node)))
    return found


def _is_positive(node: Expr) -> bool:
    """Whether node shows that it is never 0: exponentials, and sums of them or a constant with squares."""
    parts, stack = [], [node]
    while stack:
        n = stack.pop()
        if n.op == "Add":
            stack.extend(n.args)
        else:
            parts.append(n)
    above = [p.op == "Exp" or (is_const(p) and p.value > 0) for p in parts]
    return any(above) and all(a or is_nonnegative(p) for a, p in zip(above, parts, strict=True))


# ---- what is 0 where a distance is ----


def is_distance(base: Expr) -> bool:
    """Whether base shows that its derivative is 0 where it is: it is never negative."""
    same = _same_points(base)
    return is_nonnegative(base) or (bool(same) and is_const(simplify(substitute(base, same)), 0))


def _same_points(base: Expr) -> dict[Expr, Expr]:
    """The points of j in base -> those of i, of the same length."""
    points = {v.dim: v for v in base.vars if v.op == "Vi"}
    return {v: points[v.dim] for v in base.vars if v.op == "Vj" and v.dim in points}


def is_zero_with(base: Expr, e: Expr, at: Sequence[Point]) -> bool:
    """Whether e is 0 where base is: where the points of i and j are the same, or the terms of a sum of squares 0."""
    same = _same_points(base)
    if same and is_zero(simplify(substitute(base, same)), at) and is_zero(simplify(substitute(e, same)), at):
        return True
    zero = {node: const(0, node.dim) for node in _zero_with(base)}
    for node in topological(e):
        if node.op == "Subtract" and any(z.op == "Subtract" and z.args == node.args[::-1] for z in zero):
            zero[node] = const(0, node.dim)
    return any(n in zero for n in topological(e)) and is_zero(simplify(substitute(e, zero)), at)


def _zero_with(base: Expr) -> list[Expr]:
    """The nodes that are 0 where base, of squares and absolute values, is 0."""
    found, stack = [], [base]
    while stack:
        node = stack.pop()
        found.append(node)
        if node.op in ("Square", "Abs") or (node.op == "Sum" and is_nonnegative(node)):
            stack.append(node.args[0])
        elif node.op == "Add" and is_nonnegative(node):
            stack.extend(node.args)
    return found


# ---- two distances that are one ----


def align(expr: Expr, at: Sequence[Point]) -> Expr:
    """The same, simplified, with one node for distances that differ by a factor of length 1.

    |g*(x-y)|^2 is g*g*|x-y|^2, and (x|x) + (y|y) - 2*(x|y) is |x-y|^2; a kernel that has more than one of them has
    one distance, of which it can be seen to be smooth.
    """
    plain = simplify(expr)
    done: dict[Expr, Expr] = {}
    for node in topological(plain):
        done[node] = (
            _pull_factor(build(node.op, *(done[a] for a in node.args), params=node.params)) if node.args else node
        )
    pulled = done[plain]
    roots = [b for b in bases(pulled) if b.dim == 1 and _has_both_indices(b)]
    same: dict[Expr, Expr] = {}
    for node in topological(pulled):
        if node.dim > 1 or node.op not in ("Sum", "Add", "Subtract") or not _has_both_indices(node):
            continue
        for first in roots:
            if first is node:
                break  # the first of equal ones stays
            c = ratio(node, first, at) if node.vars == first.vars else None
            if c:
                same[node] = build("Mult", const(c), first)
                break
    return simplify(substitute(pulled, same)) if same else pulled


def _pull_factor(node: Expr) -> Expr:
    """node with a factor of length 1 in front, if it is a square, an absolute value or a difference of products."""
    if node.op in ("Square", "Abs", "Sum"):
        f = _factor(node.args[0])
        if f is not None:
            scale = f[0] if node.op == "Sum" else build(node.op, f[0])
            return build("Mult", scale, _pull_factor(build(node.op, f[1])))
    if node.op == "Subtract":
        left, right = node.args
        if "Vi" in {v.op for v in right.vars} and "Vi" not in {v.op for v in left.vars}:  # y - x is -(x - y)
            return apply("Minus", _pull_factor(build("Subtract", right, left)))
        left_factor, right_factor = (_factor(a) for a in node.args)
        if left_factor is not None and right_factor is not None and left_factor[0] is right_factor[0]:
            return build("Mult", left_factor[0], build("Subtract", left_factor[1], right_factor[1]))
    return node


def _factor(node: Expr) -> tuple[Expr, Expr] | None:
    """(s, f) with node = s*f, and s of length 1 is no constant and has not both indices."""
    if node.op == "Mult":
        for s, f in (node.args, node.args[::-1]):
            if s.dim == 1 and not is_const(s) and f.dim == node.dim and not _has_both_indices(s):
                return s, f
    if node.op == "Divide" and node.args[1].dim == 1 and node.args[0].dim == node.dim:
        return build("Inv", node.args[1]), node.args[0]
    return None


# ---- component by component ----


def split(expr: Expr, base: Expr) -> Expr:
    """The same with every component of base on its own: what is elementwise in it becomes a Concat of numbers."""
    parts: dict[Expr, list[Expr]] = {}
    done: dict[Expr, Expr] = {}
    inside = {base}
    for node in topological(expr):
        args = [done[a] for a in node.args]
        if any(a in inside for a in node.args):
            inside.add(node)
        if node is base or (node in inside and node.dim == base.dim and OPS[node.op].elementwise):
            parts[node] = [_component(node, k, parts, done) for k in range(node.dim)]
            done[node] = reduce(lambda f, g: build("Concat", f, g), parts[node])
        elif node.op == "Sum" and node.args[0] in parts:
            done[node] = reduce(lambda f, g: build("Add", f, g), parts[node.args[0]])
        else:
            done[node] = build(node.op, *args, params=node.params) if args else node
    return done[expr]


def _component(node: Expr, k: int, parts: Mapping[Expr, list[Expr]], done: Mapping[Expr, Expr]) -> Expr:
    """Component k of a node."""
    if not node.args or not OPS[node.op].elementwise:
        return build("Extract", node, params=(k, 1))
    args = []
    for a in node.args:
        if a in parts:
            args.append(parts[a][k])
        else:
            args.append(done[a] if a.dim == 1 else build("Extract", done[a], params=(k, 1)))
    return build(node.op, *args, params=node.params)


NAN = apply("Log", const(-1))
