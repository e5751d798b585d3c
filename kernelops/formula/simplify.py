"""Shorter expressions of the same value: constants folded, x*1, x+0, double minus; gradients stay short.

Values are kept up to rounding, with one convention: 0*x, 0/x and x-x are 0 whatever x is, as if all data were finite.
Constants move to the front of a product, then factors of length 1, so that a vector is multiplied once. Lengths are
kept: a factor ``SumT(1,d)`` that stretches a vector of length 1 stays where nothing else has length d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from ..errors import FormulaError
from .definition import stretch
from .expr import Expr, apply, const, is_const, topological
from .fold import (
    MOST_PARTS,
    cancel_roots,
    coefficient,
    core,
    factors,
    fold,
    merge_terms,
    scalar_factor,
    scale,
    shrink,
    split_common,
    summands,
)
from .ops import LARGEST, OPS

_DIVISORS = 16  # more divisors of one vector stay where they are, since they would be walked through again and again


def simplify(expr: Expr) -> Expr:
    """The same value in fewer operations; the length is that of expr."""
    done: dict[int, Expr] = {}
    try:
        for node in topological(expr):
            args = [done[id(a)] for a in node.args]
            done[id(node)] = build(node.op, *args, params=node.params) if args else node
    except RecursionError:  # of rules that go into choices within choices
        raise FormulaError("the formula is nested too deeply to be simplified, or to be differentiated") from None
    return done[id(expr)]


def build(op: str, *args: Expr, params: tuple[Any, ...] = ()) -> Expr:
    """``apply(op, ...)`` on operands that are simple already, simplified."""
    node = apply(op, *args, params=params)
    if OPS[op].elementwise:
        folded = fold(node)
        if folded is not None:
            return folded
        node = shrink(node)
    rule = _RULES.get(op)
    found = rule(node, *node.args) if rule else None
    return node if found is None else stretch(found, node.dim)


def _linear(node: Expr, a: Expr) -> Expr | None:
    """Minus, Sum, Extract, ExtractT: constants and factors of length 1 go in front."""
    c, rest = coefficient(a)
    if rest is not None and c != 1:
        return scale(c, build(node.op, rest, params=node.params))
    factors = scalar_factor(a)
    if factors:
        return build("Mult", factors[0], build(node.op, factors[1], params=node.params))
    return None


# sums and products


def _minus(node: Expr, a: Expr) -> Expr | None:
    c, rest = coefficient(a)
    return None if rest is None else scale(-c, rest)


def _mult(node: Expr, a: Expr, b: Expr) -> Expr | None:
    (c, p), (d, q) = coefficient(a), coefficient(b)
    if p is None and q is None:
        return None  # a product out of range
    if p is None or q is None:
        rest = q if p is None else p
        found = scale(c * d, rest) if rest is not None else None
        return found if found is None or found.dim == node.dim else stretch(found, node.dim)
    if (c, d) != (1, 1):
        return scale(c * d, build("Mult", p, q))
    if a is b:
        return build("Square", a)
    for v, w in ((b, a), (a, b)):
        parted = scalar_factor(v)
        if parted and w.dim == 1:
            scalar = build("Mult", w, parted[0]) if v is b else build("Mult", parted[0], w)
            return build("Mult", scalar, parted[1])
        if parted:
            return build("Mult", parted[0], build("Mult", *((parted[1], w) if v is a else (w, parted[1]))))
    for v, w in ((a, b), (b, a)):
        vector, divisors = _split_divisors(v)
        if divisors:  # a division of all components comes last
            return _over(build("Mult", *((vector, w) if v is a else (w, vector))), divisors)
    others = cancel_roots(factors(node))
    if others is not None:
        return _product(others)
    return build("Mult", b, a) if b.dim < a.dim else None


def _split_divisors(v: Expr) -> tuple[Expr, list[Expr]]:
    """A vector and the divisors of length 1 that it was divided by, the last one first; none where there are many."""
    vector, divisors = v, list[Expr]()
    while vector.op == "Divide" and vector.args[1].dim == 1 < vector.dim:
        vector, divisor = vector.args
        divisors.append(divisor)
        if len(divisors) > _DIVISORS:
            return v, []
    return vector, divisors


def _over(vector: Expr, divisors: Sequence[Expr]) -> Expr:
    return reduce(lambda f, g: build("Divide", f, g), reversed(divisors), vector)


def _product(parts: Sequence[Expr]) -> Expr:
    return reduce(lambda f, g: build("Mult", f, g), parts) if parts else const(1)


def _add(node: Expr, a: Expr, b: Expr) -> Expr | None:
    if is_const(a, 0) or is_const(b, 0):
        return b if is_const(a, 0) else a
    (c, p), (d, q) = coefficient(a), coefficient(b)
    if c == -1 and d == -1 and p and q:
        return build("Minus", build("Add", p, q))
    if d == -1 and q:
        return build("Subtract", a, q)
    if c == -1 and p:
        return build("Subtract", b, p)
    return _add_like_terms(node, a, b)


def _subtract(node: Expr, a: Expr, b: Expr) -> Expr | None:
    if is_const(b, 0):
        return a
    if is_const(a, 0):
        return build("Minus", b)
    (c, p), (d, q) = coefficient(a), coefficient(b)
    if c == -1 and d == -1 and p and q:
        return build("Subtract", q, p)
    if d == -1 and q:
        return build("Add", a, q)
    if c == -1 and p:
        return build("Minus", build("Add", p, b))
    return _add_like_terms(node, a, b)


def _add_like_terms(node: Expr, a: Expr, b: Expr) -> Expr | None:
    """s*v + t*v is (s + t)*v; two choices by one condition are one choice."""
    if a.op == b.op == "IfElse" and a.args[0] is b.args[0]:
        return build("IfElse", a.args[0], *(build(node.op, f, g) for f, g in zip(a.args[1:], b.args[1:], strict=True)))
    (s, v), (t, w) = _terms(a), _terms(b)
    if v is not None and v is w:
        total = build(node.op, s, t)
        if total.op != node.op or not is_const(total.args[0]):  # else a constant out of range
            return build("Mult", total, v)
    return _collect(node) or _factor_out(node, a, b)


def _collect(node: Expr) -> Expr | None:
    """A sum in which some term stands twice, or is taken off again, with each term once."""
    terms = merge_terms(summands(node))
    if terms is None:
        return None
    parts = [const(c) if rest is None else scale(c, rest) for c, rest in terms]
    kept = [p for p in parts if p is not None]
    return reduce(lambda f, g: build("Add", f, g), kept) if len(kept) == len(parts) else None


def _factor_out(node: Expr, a: Expr, b: Expr) -> Expr | None:
    """f*v + f*w is f*(v + w), if f needs both indices: else f*v and f*w are computed before they meet a pair."""
    (c, p), (d, q) = coefficient(a), coefficient(b)
    if p is None or q is None:
        return None
    f, g = factors(p), factors(q)
    if min(len(f), len(g)) >= MOST_PARTS:
        return None  # what is left of both would have as many again, and again
    common, left, right = split_common(f, g)
    if not any(h.indices == 3 for h in common):
        return None
    v, w = (build("Mult", const(k), _product(rest)) for k, rest in ((c, left), (d, right)))
    return build("Mult", _product(common), build(node.op, v, w))


def _terms(a: Expr) -> tuple[Expr, Expr | None]:
    """(s, v) with a = s*v, where s is of length 1: a constant, or everything of length 1 if v is longer."""
    c, rest = coefficient(a)
    if rest is None:
        return a, None
    factors = scalar_factor(rest)
    return (build("Mult", const(c), factors[0]), factors[1]) if factors else (const(c), rest)


def _divide(node: Expr, a: Expr, b: Expr) -> Expr | None:
    if is_const(b, 1) or is_const(a, 0):
        return a
    (c, p), (d, q) = coefficient(a), coefficient(b)
    if q is not None and d == -1:
        return build("Minus", build("Divide", a, q))
    if p is None:
        return build("Inv", b) if c == 1 and a.dim in (1, b.dim) else None
    if q is None and d != 0 and c != 1:
        return scale(c / d, p)
    if c != 1:
        return scale(c, build("Divide", p, b))
    factors = scalar_factor(a)
    if factors and b.dim == 1:
        return build("Mult", build("Divide", factors[0], b), factors[1])
    return None


# functions


def _even(node: Expr, a: Expr) -> Expr | None:
    return build(node.op, a.args[0]) if a.op == "Minus" else None


def _odd(node: Expr, a: Expr) -> Expr | None:
    return build("Minus", build(node.op, a.args[0])) if a.op == "Minus" else None


def _square(node: Expr, a: Expr) -> Expr | None:
    if a.op == "Abs":
        return build("Square", a.args[0])
    c, rest = coefficient(a)
    return None if rest is None or c == 1 else scale(c * c, build("Square", rest))


def _abs(node: Expr, a: Expr) -> Expr | None:
    if a.op in ("Abs", "Square", "Exp"):
        return a
    c, rest = coefficient(a)
    return None if rest is None or c == 1 else scale(abs(c), build("Abs", rest))


def _sqrt(node: Expr, a: Expr) -> Expr | None:
    return build("Abs", a.args[0]) if a.op == "Square" else None  # both have derivative 0 at 0


def _pow(node: Expr, a: Expr) -> Expr | None:
    (m,) = node.params
    if m in (0, 1):
        return a if m else const(1)
    if m in (-1, 2):
        return build("Square" if m == 2 else "Inv", a)
    if a.op == "Minus":
        power = build("Pow", a.args[0], params=(m,))
        return build("Minus", power) if m % 2 else power
    if a.op == "Square" or (a.op == "Pow" and m > 0 and a.params[0] > 0):
        m *= 2 if a.op == "Square" else a.params[0]
        return build("Pow", a.args[0], params=(m,)) if abs(m) <= LARGEST else None
    return None


def _powf(node: Expr, a: Expr, b: Expr) -> Expr | None:
    if is_const(b) and b.dim == 1 and abs(b.value) <= 16 and b.value == int(b.value):
        return build("Pow", a, params=(int(b.value),))
    return const(1) if is_const(a, 1) else None


def _if_else(node: Expr, c: Expr, a: Expr, b: Expr) -> Expr | None:
    if is_const(c):
        return a if c.value >= 0 else b
    if b.op == "IfElse" and b.args[0] is c and b.args[2].dim == b.dim == node.dim:
        return build("IfElse", c, a, b.args[2])
    if a.op == "IfElse" and a.args[0] is c and a.args[1].dim == a.dim == node.dim:
        return build("IfElse", c, a.args[1], b)
    return a if core(a) is core(b) else None


# vectors


def _sum(node: Expr, a: Expr) -> Expr | None:
    if a.dim == 1:
        return a
    if is_const(a):
        return build("Mult", const(a.dim), const(a.value))
    if a.op == "ExtractT":
        return build("Sum", a.args[0])
    vector, divisors = _split_divisors(a)
    if divisors:
        return _over(build("Sum", vector), divisors)
    if a.op == "IfElse" and a.args[0].dim == 1 and any(is_const(b, 0) for b in a.args[1:]):
        return build("IfElse", a.args[0], *(build("Sum", stretch(b, a.dim)) for b in a.args[1:]))
    return _linear(node, a)


def _extract(node: Expr, a: Expr) -> Expr | None:
    start, count = node.params
    whole = a
    while a.op == "Concat" and (start + count <= a.args[0].dim or start >= a.args[0].dim):
        behind = start >= a.args[0].dim
        start, a = (start - a.args[0].dim, a.args[1]) if behind else (start, a.args[0])
    if a is not whole:
        return build("Extract", a, params=(start, count))
    if count == a.dim:
        return a
    if is_const(a):
        return core(a)
    inner = a.args[0] if a.args else a
    if a.op == "Extract":
        return build("Extract", inner, params=(start + a.params[0], count))
    if a.op == "Slice":
        return build("Slice", inner, params=(a.params[0] + start * a.params[2], count, a.params[2]))
    if a.op == "ExtractT":
        first = start - a.params[0]
        if first >= 0 and first + count <= inner.dim:
            return build("Extract", inner, params=(first, count))
        return const(0) if first + count <= 0 or first >= inner.dim else None
    return _linear(node, a)


def _extract_t(node: Expr, a: Expr) -> Expr | None:
    start, total = node.params
    if total == a.dim or is_const(a, 0):
        return a if total == a.dim else const(0)
    if a.op == "ExtractT":
        return build("ExtractT", a.args[0], params=(start + a.params[0], total))
    return _linear(node, a)


def _slice(node: Expr, a: Expr) -> Expr | None:
    start, count, step = node.params
    if step == 1 or count == 1:
        return build("Extract", a, params=(start, count))
    if is_const(a):
        return core(a)
    if a.op in ("SliceT", "Slice", "Extract") and a.args[0].dim > 1:
        (inner,) = a.args
        if a.op == "SliceT" and a.params[2] == step and a.params[0] % step != start % step:
            return const(0)
        if (
            a.op == "SliceT"
            and a.params[2] == step
            and a.params[0] <= start
            and count <= inner.dim - (start - a.params[0]) // step
        ):
            return build("Extract", inner, params=((start - a.params[0]) // step, count))
        if a.op == "Extract":
            return build("Slice", inner, params=(a.params[0] + start, count, step))
        if a.op == "Slice":
            return build("Slice", inner, params=(a.params[0] + start * a.params[2], count, step * a.params[2]))
    return _linear(node, a)


def _slice_t(node: Expr, a: Expr) -> Expr | None:
    start, total, step = node.params
    if is_const(a, 0):
        return const(0)
    if step == 1 or a.dim == 1:
        return build("ExtractT", a, params=(start, total))
    return _linear(node, a)


def _concat(node: Expr, a: Expr, b: Expr) -> Expr | None:
    if is_const(a) and is_const(b, a.value):
        return core(a)
    if a.op == b.op == "Extract" and a.args[0] is b.args[0] and sum(a.params) == b.params[0]:
        return build("Extract", a.args[0], params=(a.params[0], node.dim))
    return None


def _outer(a: Expr, b: Expr, dims: tuple[int, ...], axes: tuple[int, ...]) -> Expr | None:
    """The matrix a = p q^T of these dims, with one of its axes contracted with all of the vector b."""
    outer = a.op == "TensorDot" and a.params == (dims[:1], dims[1:], (), (), (0, 1))
    if not outer or len(axes) != 1 or b.dim != dims[axes[0]]:
        return None
    contracted, kept = a.args if axes == (0,) else reversed(a.args)
    return build("Mult", build("Sum", build("Mult", contracted, b)), kept)


def _tensordot(node: Expr, a: Expr, b: Expr) -> Expr | None:
    if is_const(a, 0) or is_const(b, 0):
        return const(0)
    dims_f, dims_g, cont_f, cont_g, permute = node.params
    longer = [k for d, k in sorted(zip(cont_f, cont_g, strict=True)) if dims_f[d] > 1]
    if a.dim == b.dim and node.dim == 1 and longer == sorted(longer):
        return build("Sum", build("Mult", a, b))
    kept = [d for k, d in enumerate(dims_f) if k not in cont_f] + [d for k, d in enumerate(dims_g) if k not in cont_g]
    moved = [place for d, place in zip(kept, permute, strict=True) if d > 1]
    if 1 in (a.dim, b.dim) and moved == sorted(moved):
        return build("Mult", a, b)
    for v, w, dims, axes in ((a, b, dims_f, cont_f), (b, a, dims_g, cont_g)):
        found = _outer(v, w, dims, axes)
        if found:
            return found
    for v in (a, b):
        c, rest = coefficient(v)
        factors = (const(c), rest) if rest is not None and c != 1 else scalar_factor(v)
        if factors and factors[1] is not None:
            operands = (factors[1], b) if v is a else (a, factors[1])
            return build("Mult", factors[0], build("TensorDot", *operands, params=node.params))
    return None


_PARITY: dict[str | None, Callable[..., Expr | None]] = {"even": _even, "odd": _odd}
_RULES: dict[str, Callable[..., Expr | None]] = {  # (node, *operands) -> something simpler, or None
    **{name: _PARITY[op.parity] for name, op in OPS.items() if op.parity in _PARITY},
    "Minus": _minus,
    "Add": _add,
    "Subtract": _subtract,
    "Mult": _mult,
    "Divide": _divide,
    "Square": _square,
    "Abs": _abs,
    "Sqrt": _sqrt,
    "Pow": _pow,
    "Powf": _powf,
    "IfElse": _if_else,
    "Sum": _sum,
    "Extract": _extract,
    "ExtractT": _extract_t,
    "Slice": _slice,
    "SliceT": _slice_t,
    "Concat": _concat,
    "TensorDot": _tensordot,
}
