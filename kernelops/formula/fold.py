"""Constants of an expression: folded, and taken apart from the rest; products and sums taken apart.

A product is written c*(s*v), where c is a number, s of length 1 and v a longer vector; each part may be absent.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .expr import Expr, apply, const, is_const

VALUES: dict[str, Callable[..., float]] = {  # values of constants, in float64
    "Minus": lambda a: -a,
    "Inv": lambda a: 1 / a,
    "Exp": math.exp,
    "Log": math.log,
    "Sqrt": math.sqrt,
    "Rsqrt": lambda a: 1 / math.sqrt(a) if a else 0.0,
    "Square": lambda a: a * a,
    "Abs": abs,
    "Sin": math.sin,
    "Cos": math.cos,
    "Pow": math.pow,
    "ReLU": lambda a: max(a, 0.0),
    "Sign": lambda a: float((a > 0) - (a < 0)),
    "Step": lambda a: float(a >= 0),
    "Floor": lambda a: float(math.floor(a)),
    "Tanh": math.tanh,
    "Add": lambda a, b: a + b,
    "Subtract": lambda a, b: a - b,
    "Mult": lambda a, b: a * b,
    "Divide": lambda a, b: a / b,
    "Powf": math.pow,
    "Atan2": math.atan2,
    "Equal": lambda a, b: float(a == b),
    "NotEqual": lambda a, b: float(a != b),
    "LessThan": lambda a, b: float(a < b),
    "LessOrEqual": lambda a, b: float(a <= b),
    "IfElse": lambda c, a, b: a if c >= 0 else b,
}


_LEAST, _MOST = 2.0**-100, 2.0**100  # constants are not merged beyond: float32 ends at 2**-126 and 2**128


def is_usable(value: float) -> bool:
    return value == 0 or _LEAST <= abs(value) <= _MOST  # also False for nan


def fold(node: Expr) -> Expr | None:
    """The constant, unless it cannot be computed: infinities and NaN are left to the machine."""
    value_of = VALUES.get(node.op)
    if value_of is None or not all(is_const(a) for a in node.args):
        return None
    try:
        value = value_of(*(a.value for a in node.args), *node.params)
    except (ValueError, OverflowError, ZeroDivisionError):
        return None
    return const(value, node.dim) if is_usable(value) else None


def shrink(node: Expr) -> Expr:
    """Operands that were stretched to node.dim go back to length 1 if another operand has that length."""
    if node.dim == 1 or len(node.args) == 1:
        return node
    args = list(node.args)
    for k, a in enumerate(args):
        if any(b.dim == node.dim for i, b in enumerate(args) if i != k):
            args[k] = core(a)
    return node if tuple(args) == node.args else apply(node.op, *args, params=node.params)


def core(a: Expr) -> Expr:
    """The vector of length 1 of which a consists, if a is a stretched one, else a."""
    if is_const(a):
        return const(a.value)
    return a.args[0] if a.op == "Mult" and is_const(a.args[1], 1) and a.args[0].dim == 1 else a


def coefficient(a: Expr) -> tuple[float, Expr | None]:
    """(c, rest) with a = c*rest, where rest has no constant factor; rest is None for a constant."""
    if is_const(a):
        return a.value, None
    if a.op == "Minus":
        return -1.0, a.args[0]
    if a.op == "Divide" and is_const(a.args[1]) and a.args[0].dim == a.dim and not is_const(a.args[0]):
        (c, rest), d = coefficient(a.args[0]), a.args[1].value
        return (c / d, rest) if d and is_usable(c / d) else (1.0, a)
    if a.op == "Mult" and a.args[0].dim == 1:
        if is_const(a.args[0]):
            return a.args[0].value, a.args[1]
        if a.dim > 1:  # (c*s)*v
            c, s = coefficient(a.args[0])
            if s is not None and c != 1:
                return c, apply("Mult", s, a.args[1])
    return 1.0, a


def scale(c: float, rest: Expr) -> Expr | None:
    """c*rest, where rest has no constant factor; None if c is out of range. In (c*s)*v it goes to the scalar s."""
    if c == 1:
        return rest
    if c == 0:
        return const(0, rest.dim)
    if not is_usable(c):
        return None
    factors = scalar_factor(rest)
    if factors:
        scalar = scale(c, factors[0])
        return None if scalar is None else apply("Mult", scalar, factors[1])
    if c == -1:
        return apply("Subtract", *reversed(rest.args)) if rest.op == "Subtract" else apply("Minus", rest)
    return apply("Mult", const(c), rest)


def scalar_factor(a: Expr) -> tuple[Expr, Expr] | None:
    """(s, v) with a = s*v, s of length 1 and v longer."""
    if a.op == "Mult" and a.args[0].dim == 1 < a.args[1].dim and not is_const(a.args[0]):
        return a.args[0], a.args[1]
    return None


_ROUNDING = 2.0**-50  # the error of a sum of few numbers, relative to their absolute values
MOST_PARTS = 16  # a product or sum is taken apart up to so many parts: shared ones would be listed again and again


def factors(e: Expr) -> list[Expr]:
    """The factors of a product; those of a square stand twice."""
    found: list[Expr] = []
    stack = [e]
    while stack:
        node = stack.pop()
        if node.op in ("Mult", "Square") and len(found) + len(stack) < MOST_PARTS:
            stack.extend(reversed(node.args) if node.op == "Mult" else node.args * 2)
        else:
            found.append(node)
    return found


def summands(e: Expr) -> list[tuple[float, Expr | None]]:
    """The (c, rest) of which a sum consists, as ``coefficient`` gives them."""
    found: list[tuple[float, Expr | None]] = []
    stack = [(1.0, e)]
    while stack:
        sign, node = stack.pop()
        if node.op in ("Add", "Subtract", "Minus") and len(found) + len(stack) < MOST_PARTS:
            signs = {"Add": (sign, sign), "Subtract": (sign, -sign), "Minus": (-sign,)}[node.op]
            stack.extend(reversed(list(zip(signs, node.args, strict=True))))
        else:
            c, rest = coefficient(node)
            if rest is not None and rest is not node and rest.op in ("Add", "Subtract"):
                stack.append((sign * c, rest))
            else:
                found.append((sign * c, rest))
    return found


def merge_terms(terms: list[tuple[float, Expr | None]]) -> list[tuple[float, Expr | None]] | None:
    """The same sum with each term once, at least one left; None if each stands once already.

    A term of which only rounding is left is gone: near a pole it would be all that is left.
    """
    total: dict[Expr | None, tuple[float, float]] = {}
    for c, rest in terms:
        value, size = total.get(rest, (0.0, 0.0))
        total[rest] = (value + c, size + abs(c))
    if len(total) == len(terms):
        return None
    return [(c, rest) for rest, (c, size) in total.items() if abs(c) > _ROUNDING * size] or [(0.0, None)]


def split_common(f: list[Expr], g: list[Expr]) -> tuple[list[Expr], list[Expr], list[Expr]]:
    """(the factors of both, those of f alone, those of g alone); numbers are not shared."""
    common, left, right = [], [], list(g)
    for factor in f:
        if factor in right and not is_const(factor):
            right.remove(factor)
            common.append(factor)
        else:
            left.append(factor)
    return common, left, right


def cancel_roots(parts: list[Expr]) -> list[Expr] | None:
    """Factors in which sqrt(s) met 1/sqrt(s), or Sign(|v|^2) met v; None if nothing of the sort is found.

    For s >= 0 the two roots are Sign(s). Times v, if s = |v|^2, that is v.
    """
    for f in parts:
        others = [h for h in parts if h is not f]
        if f.op == "Rsqrt" and is_nonnegative(f.args[0]) and len(others) + 1 == len(parts):
            for k, h in enumerate(others):
                if h.op == "Sqrt" and h.args[0] is f.args[0]:
                    return [*others[:k], apply("Sign", f.args[0]), *others[k + 1 :]]
        if f.op == "Sign":
            (s,) = f.args
            square = s.args[0] if s.op == "Sum" else s
            if square.op == "Square" and any(h is square.args[0] for h in others):
                return others
    return None


def is_nonnegative(e: Expr) -> bool:
    """Whether e shows that it is at least 0."""
    stack = [e]
    while stack:
        node = stack.pop()
        if node.op in ("Sum", "Add"):
            stack.extend(node.args)
        elif node.op not in ("Square", "Abs", "Exp", "Sqrt", "Rsqrt"):
            return False
    return True
