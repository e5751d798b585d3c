"""Bounds of an expression over boxes: interval arithmetic, for arrays of boxes at once.

An interval (lo, hi) holds every value of a component for variables anywhere in their boxes, also as float32 computes
it: the result of each operation is widened by a few units of float32's last place, and is infinite beyond its range.
Where a value may be nan, because a variable is or because an operation is not defined somewhere in a box, nothing is
known: the interval is everything, (-inf, inf), and so is that of whatever is computed from it (but comparisons, which
are 0 or 1 whatever they compare, and the branch of IfElse that is not taken). Operands are taken as independent of each
other, after the expression was simplified: if a variable is left in it more than once, bounds are wide.
"""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Callable, Mapping
from functools import reduce
from itertools import product

import numpy as np

from ..formula.expr import Expr, topological
from ..formula.simplify import simplify

Interval = tuple[np.ndarray, np.ndarray]  # lo and hi, (..., dim) each

WIDENED = 2.0**-20  # each operation widens its interval by this, relatively: eight units of float32's last place
TINY = 2.0**-126  # and by this, absolutely, unless an end is 0: smaller float32 values may become 0
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


def interval_of(expr: Expr, given: Mapping[Expr, Interval]) -> Interval:
    """Bounds of the components of an expression.

    Parameters
    ----------
    expr : Expr
    given : mapping
        Variable -> (lo, hi), each (..., its length), float64; what comes before the last axis broadcasts.

    Returns
    -------
    (lo, hi)
        (..., expr.dim) each.
    """
    expr = simplify(expr)
    nodes, found = list(topological(expr)), dict[int, Interval]()
    uses = Counter(id(a) for node in nodes for a in node.args)
    with np.errstate(all="ignore"):
        for node in nodes:
            if node.op == "Const":
                found[id(node)] = _constant(node.value, node.dim)
            elif node in given:
                found[id(node)] = given[node]
            else:
                found[id(node)] = _widen(*_RULES[node.op](node, *(found[id(a)] for a in node.args)))
            uses.subtract(map(id, node.args))
            for a in node.args:
                if not uses[id(a)]:
                    found.pop(id(a), None)  # arrays of so many boxes: only what is wanted is kept
    lo, hi = found[id(expr)]
    unknown = np.isnan(lo) | np.isnan(hi)
    return np.where(unknown, -np.inf, lo), np.where(unknown, np.inf, hi)


def _constant(value: float, dim: int) -> Interval:
    """The interval of a number and its float32 rounding."""
    both = np.array([value, np.float32(value)], np.float64)
    return np.full(dim, both.min()), np.full(dim, both.max())


def _widen(lo: np.ndarray, hi: np.ndarray) -> Interval:
    """The interval a little wider; nan on both sides if an end is nan, or if it holds everything."""
    below, above = lo - WIDENED * np.abs(lo) - TINY, hi + WIDENED * np.abs(hi) + TINY
    below, above = np.where(lo >= 0, np.maximum(below, 0.0), below), np.where(hi <= 0, np.minimum(above, 0.0), above)
    below, above = np.where(lo == np.inf, lo, below), np.where(hi == -np.inf, hi, above)
    below, above = np.where(below < -LARGEST_FLOAT32, -np.inf, below), np.where(above > LARGEST_FLOAT32, np.inf, above)
    unknown = np.isnan(below + above)  # also if one is -inf and the other inf
    return np.where(unknown, np.nan, below), np.where(unknown, np.nan, above)


# ---- rules: (node, intervals of the operands) -> interval, nan if nothing is known ----

Rule = Callable[..., Interval]


def _monotone(function: Callable[[np.ndarray], np.ndarray]) -> Rule:
    return lambda node, f: (function(f[0]), function(f[1]))


def _if_known(known: np.ndarray, value: Interval) -> Interval:
    return np.where(known, value[0], np.nan), np.where(known, value[1], np.nan)


def _hull(*values: np.ndarray) -> Interval:
    """The least and the largest of some arrays; nan if one is."""
    return reduce(np.minimum, values), reduce(np.maximum, values)


def _corners(operation: Callable[[np.ndarray, np.ndarray], np.ndarray], f: Interval, g: Interval) -> Interval:
    """The hull of an operation at the ends of both intervals: it is monotone in each operand."""
    return _hull(*(operation(a, b) for a, b in product(f, g)))


def _mult(node: Expr, f: Interval, g: Interval) -> Interval:
    return _corners(np.multiply, f, g)


def _minus(node: Expr, f: Interval) -> Interval:
    return -f[1], -f[0]


def _inv(node: Expr, f: Interval) -> Interval:
    return _if_known((f[0] > 0) | (f[1] < 0), (1 / f[1], 1 / f[0]))


def _abs(node: Expr, f: Interval) -> Interval:
    least = np.maximum(np.maximum(f[0], -f[1]), 0.0)
    return least, np.maximum(np.abs(f[0]), np.abs(f[1]))


def _square(node: Expr, f: Interval) -> Interval:
    lo, hi = _abs(node, f)
    return lo * lo, hi * hi


def _rsqrt(node: Expr, f: Interval) -> Interval:
    # 0 at 0: next to it the values are as large as can be
    lo, hi = 1 / np.sqrt(np.maximum(f[1], 0.0)), 1 / np.sqrt(np.maximum(f[0], 0.0))
    touches = f[0] <= 0
    return _if_known(f[0] >= 0, (np.where(touches, 0.0, lo), np.where(touches, np.inf, hi)))


def _pow(node: Expr, f: Interval) -> Interval:
    m = int(node.params[0])
    if m < 0:
        return _inv(node, _pow_of(f, -m))
    return _pow_of(f, m)


def _pow_of(f: Interval, m: int) -> Interval:
    if m == 0:
        return np.ones_like(f[0]), np.ones_like(f[1])
    lo, hi = f if m % 2 else _abs(None, f)  # type: ignore[arg-type]
    return lo**m, hi**m


def _sin(node: Expr, f: Interval) -> Interval:
    return _waves(f, np.pi / 2, np.sin)


def _cos(node: Expr, f: Interval) -> Interval:
    return _waves(f, 0.0, np.cos)


def _waves(f: Interval, crest: float, function: Callable[[np.ndarray], np.ndarray]) -> Interval:
    """sin or cos: 1 if a crest lies in the interval, -1 if a trough does, else the ends."""
    lo, hi = f[0] - WIDENED * np.abs(f[0]), f[1] + WIDENED * np.abs(f[1])  # the argument's own rounding

    def holds(at: float) -> np.ndarray:
        return np.floor((hi - at) / (2 * np.pi)) >= np.ceil((lo - at) / (2 * np.pi))

    least, most = _hull(function(lo), function(hi))
    least, most = least - 1e-6, most + 1e-6  # large arguments are reduced with an error
    lowest, highest = np.where(holds(crest + np.pi), -1.0, least), np.where(holds(crest), 1.0, most)
    return _if_known(np.isfinite(hi - lo), (np.maximum(lowest, -1.0), np.minimum(highest, 1.0)))


def _sinc(node: Expr, f: Interval) -> Interval:
    # the derivative of order n of sin(x)/x is the integral of t^n times a wave of t x over [0, 1]; by parts, over x
    most = np.minimum(1.0 / (int(node.params[0]) + 1), 2.0 / _abs(node, f)[0])
    return _if_known(np.isfinite(f[1] - f[0]), (-most, most))


def _divide(node: Expr, f: Interval, g: Interval) -> Interval:
    return _mult(node, f, _widen(*_inv(node, g)))  # the engine may divide 1 by g


def _powf(node: Expr, f: Interval, g: Interval) -> Interval:
    # for a base above 0 the power is monotone in the base and in the exponent, each for itself
    inside = f[0] > 0
    lo, hi = _corners(np.power, (np.where(inside, f[0], 1.0), np.where(inside, f[1], 1.0)), g)
    rises = (f[0] >= 0) & (g[0] >= 0)  # 0 to the power 0 is 1, and 0 to a positive power 0
    top = np.maximum(*(np.power(np.maximum(f[1], 0.0), end) for end in g))
    lo, hi = np.where(inside, lo, 0.0), np.where(inside, hi, top)
    return _if_known(inside | rises, (lo, hi))


def _atan2(node: Expr, f: Interval, g: Interval) -> Interval:
    # seen from a point outside, a box lies between two of its corners; behind the origin the angle jumps
    cut = (f[0] <= 0) & (f[1] >= 0) & (g[0] <= 0)
    lo, hi = _corners(np.arctan2, f, g)
    unknown = np.isnan(lo + hi)
    return np.where(cut & ~unknown, -np.pi, lo), np.where(cut & ~unknown, np.pi, hi)


def _interval_of_truth(sure: np.ndarray, never: np.ndarray) -> Interval:
    """The value of a comparison that surely holds, or never does."""
    return sure * 1.0, ~never * 1.0


def _equal(node: Expr, f: Interval, g: Interval) -> Interval:
    apart = (f[1] < g[0]) | (g[1] < f[0])
    sure = (f[0] == f[1]) & (g[0] == g[1]) & (f[0] == g[0])
    return _interval_of_truth(sure, apart) if node.op == "Equal" else _interval_of_truth(apart, sure)


def _less(node: Expr, f: Interval, g: Interval) -> Interval:
    if node.op == "LessThan":
        return _interval_of_truth(f[1] < g[0], f[0] >= g[1])
    return _interval_of_truth(f[1] <= g[0], f[0] > g[1])


def _clamp(node: Expr, f: Interval, g: Interval, h: Interval) -> Interval:
    # rising in all three if g <= h; if these may be crossed, one of the three
    lo, hi = (np.minimum(np.maximum(f[k], g[k]), h[k]) for k in (0, 1))
    least, most = _hull(*f, *g, *h)
    crossed = g[1] > h[0]
    return np.where(crossed, least, lo), np.where(crossed, most, hi)


def _if_else(node: Expr, c: Interval, f: Interval, g: Interval) -> Interval:
    lo, hi = np.minimum(f[0], g[0]), np.maximum(f[1], g[1])
    yes, no = c[0] >= 0, c[1] < 0
    return np.where(yes, f[0], np.where(no, g[0], lo)), np.where(yes, f[1], np.where(no, g[1], hi))


def _sum(node: Expr, f: Interval) -> Interval:
    # many terms lose more: of squares relatively, as the engine computes long distances, of others absolutely
    share = 4 * (f[0].shape[-1] + 6) * 2.0**-24
    size = _overflow_to_inf(np.maximum(np.abs(f[0]), np.abs(f[1])).sum(-1, keepdims=True))
    lo, hi = (a.sum(-1, keepdims=True) for a in f)
    above, below = (f[0] >= 0).all(-1, keepdims=True), (f[1] <= 0).all(-1, keepdims=True)
    return lo - share * np.where(above, lo, size), hi + share * np.where(below, -hi, size)


def _overflow_to_inf(size: np.ndarray) -> np.ndarray:
    """A sum of magnitudes; infinite if partial sums may overflow float32."""
    return np.where(size > LARGEST_FLOAT32, np.inf, size)


def _extract(node: Expr, f: Interval) -> Interval:
    start, count = node.params
    return f[0][..., start : start + count], f[1][..., start : start + count]


def _extract_t(node: Expr, f: Interval) -> Interval:
    start, total = node.params
    lo = np.zeros((*f[0].shape[:-1], total))
    hi = lo.copy()
    lo[..., start : start + f[0].shape[-1]], hi[..., start : start + f[0].shape[-1]] = f
    return lo, hi


def _slice(node: Expr, f: Interval) -> Interval:
    start, count, step = node.params
    taken = slice(start, start + (count - 1) * step + 1, step)
    return f[0][..., taken], f[1][..., taken]


def _slice_t(node: Expr, f: Interval) -> Interval:
    start, total, step = node.params
    lo = np.zeros((*f[0].shape[:-1], total))
    hi, places = lo.copy(), slice(start, start + (f[0].shape[-1] - 1) * step + 1, step)
    lo[..., places], hi[..., places] = f
    return lo, hi


def _concat(node: Expr, f: Interval, g: Interval) -> Interval:
    lead = np.broadcast_shapes(f[0].shape[:-1], g[0].shape[:-1])
    both = [[np.broadcast_to(a, (*lead, a.shape[-1])) for a in ends] for ends in zip(f, g, strict=True)]
    return np.concatenate(both[0], -1), np.concatenate(both[1], -1)


def _tensordot(node: Expr, f: Interval, g: Interval) -> Interval:
    dims_f, dims_g, cont_f, cont_g, permute = node.params
    letters = string.ascii_letters
    of_f = list(letters[: len(dims_f)])
    of_g = list(letters[len(dims_f) : len(dims_f) + len(dims_g)])
    for a, b in zip(cont_f, cont_g, strict=True):
        of_g[b] = of_f[a]
    kept = [x for k, x in enumerate(of_f) if k not in cont_f] + [x for k, x in enumerate(of_g) if k not in cont_g]
    out = [""] * len(kept)
    for k, x in enumerate(kept):
        out[permute[k]] = x
    spell = f"...{''.join(of_f)},...{''.join(of_g)}->...{''.join(out)}"
    # a product of intervals by centre and radius: |fg - cd| <= |c| s + r |d| + r s
    centre_f, radius_f = (f[0] + f[1]) / 2, (f[1] - f[0]) / 2
    centre_g, radius_g = (g[0] + g[1]) / 2, (g[1] - g[0]) / 2

    def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        found = np.einsum(spell, a.reshape(*a.shape[:-1], *dims_f), b.reshape(*b.shape[:-1], *dims_g))
        return found.reshape(*found.shape[: found.ndim - len(out)], node.dim)

    centre = dot(centre_f, centre_g)
    radius = dot(np.abs(centre_f), radius_g) + dot(radius_f, np.abs(centre_g) + radius_g)
    terms = math.prod(dims_f[k] for k in cont_f)
    size = _overflow_to_inf(dot(np.abs(centre_f) + radius_f, np.abs(centre_g) + radius_g))
    rounding = 4 * (terms + 6) * 2.0**-24 * size
    return centre - radius - rounding, centre + radius + rounding


_RULES: dict[str, Rule] = {
    "Minus": _minus,
    "Inv": _inv,
    "Exp": _monotone(np.exp),
    "Log": lambda node, f: _if_known(f[0] >= 0, (np.log(f[0]), np.log(f[1]))),
    "Sqrt": lambda node, f: _if_known(f[0] >= 0, (np.sqrt(f[0]), np.sqrt(f[1]))),
    "Rsqrt": _rsqrt,
    "Square": _square,
    "Abs": _abs,
    "Sin": _sin,
    "Cos": _cos,
    "Pow": _pow,
    "ReLU": _monotone(lambda a: np.maximum(a, 0.0)),
    "Sign": _monotone(np.sign),
    "Step": _monotone(lambda a: np.where(np.isnan(a), a, (a >= 0) * 1.0)),
    "Floor": _monotone(np.floor),
    "Tanh": _monotone(np.tanh),
    "SinXDivX": _sinc,
    "Add": lambda node, f, g: (f[0] + g[0], f[1] + g[1]),
    "Subtract": lambda node, f, g: (f[0] - g[1], f[1] - g[0]),
    "Mult": _mult,
    "Divide": _divide,
    "Powf": _powf,
    "Atan2": _atan2,
    "Equal": _equal,
    "NotEqual": _equal,
    "LessThan": _less,
    "LessOrEqual": _less,
    "Clamp": _clamp,
    "IfElse": _if_else,
    "Sum": _sum,
    "Extract": _extract,
    "ExtractT": _extract_t,
    "Slice": _slice,
    "SliceT": _slice_t,
    "Concat": _concat,
    "TensorDot": _tensordot,
}
