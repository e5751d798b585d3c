"""What a formula is at all pairs, in extended precision, and how far an engine of some precision may be from it.

Every node has a value and a bound of its error: what the errors of its operands move it by, found by moving them, and
a few units of its own rounding. Where a bound is infinite there is no right answer: a switch may have flipped, a
divisor may be 0, a number may have left the range.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
from language.interpreter import TRUTH

from kernelops.formula.expr import topological

WIDE = np.longdouble
COMPARISONS = ("Equal", "NotEqual", "LessThan", "LessOrEqual")
EXACT = ("Minus", "Abs", "ReLU", "Sign", "Step", "Floor", "Clamp", "IfElse", *COMPARISONS)
MOVES = ("Extract", "ExtractT", "Slice", "SliceT", "Concat")
OWN = 4  # eps of a result that are its own rounding
FAR = 60  # beyond which the truth table's integral for sin(x)/x is not right


class Rough(NamedTuple):
    """Values, and bounds of their errors."""

    value: np.ndarray
    error: np.ndarray


def evaluate(expr, arrays, dtype):
    """The formula at all pairs (M or 1, N or 1, dim) of one batch element; arrays by position, (rows, dim) each.

    dtype is what the engine computes in; the arrays have it, or are rounded to it.
    """
    done = {}
    with np.errstate(all="ignore"):
        for node in topological(expr):
            operands = [done[id(a)] for a in node.args]
            done[id(node)] = _limited(_evaluated(node, operands, arrays, np.finfo(dtype)), np.finfo(dtype))
    return done[id(expr)]


def _limited(found, info):
    """Without a bound where a number may leave the range of the engine's type; and what is below it may become 0."""
    beyond = np.isfinite(found.value) & ~(np.abs(found.value) + found.error < info.max)
    return Rough(found.value, np.where(beyond | np.isnan(found.error), np.inf, found.error))


def _evaluated(node, operands, arrays, info):
    if node.op in ("Vi", "Vj", "Pm"):
        place = {"Vi": (slice(None), None), "Vj": (None, slice(None)), "Pm": (None,)}[node.op]
        value = arrays[node.position].astype(info.dtype).astype(WIDE)[place]
        return Rough(value, np.zeros_like(value))
    if node.op == "Const":
        value = np.full((1, 1, node.dim), node.value, WIDE)
        return Rough(value, np.abs(value) * WIDE(info.eps))
    if node.op in MOVES:
        return Rough(*(TRUTH[node.op](*parts, *node.params) for parts in zip(*operands, strict=True)))
    if node.op in ("Sum", "TensorDot"):
        return _contracted(node, operands, info)
    return _elementwise(node, operands, info)


def _contracted(node, operands, info):
    """Sums of products: the error of each, and the rounding of a sum in any order, relative to the sum of magnitudes.

    Squared distances of long vectors have four times that (wide.h).
    """
    truth = TRUTH[node.op]
    value = truth(*(a.value for a in operands), *node.params)
    sizes = [np.abs(a.value) for a in operands]
    size = truth(*sizes, *node.params)
    most = truth(*(s + a.error for s, a in zip(sizes, operands, strict=True)), *node.params)
    terms = max(a.dim for a in node.args)
    rounding = 4 * (terms + 6) * WIDE(info.eps) * most
    bound = most - size + rounding + terms * WIDE(info.tiny)
    same = np.isfinite(value)
    return Rough(value, np.where(same, bound, np.inf))


def _elementwise(node, operands, info):
    op, values = node.op, [a.value for a in operands]
    truth = _truth(op, node.params)
    value = truth(*values)
    error = np.zeros(np.broadcast_shapes(value.shape, *(a.error.shape for a in operands)), WIDE)
    for signs in product((-1, 1), repeat=len(operands)):
        moved = truth(*(v + s * a.error for v, s, a in zip(values, signs, operands, strict=True)))
        same = (moved == value) | (np.isnan(moved) & np.isnan(value))
        error = np.maximum(error, np.where(same, 0, np.abs(moved - value)))
    error = np.where(np.isnan(error), np.inf, error)
    first, last = operands[0], operands[-1]
    if op in COMPARISONS:  # equal numbers may have become different ones, and the other way round
        close = np.abs(first.value - last.value) <= first.error + last.error
        error = np.where(close & (first.error + last.error > 0), 1, error)
    if op in ("Sin", "Cos", "SinXDivX"):
        error = np.minimum(first.error, 2) + (WIDE(4e-15) if op == "SinXDivX" else 0)
        error = np.where(np.isfinite(first.value), error, np.where(first.error == 0, 0, np.inf))
        if op == "SinXDivX":
            error = np.where(np.abs(first.value) > FAR, np.inf, error)
    if op == "Atan2":  # behind the origin the angle jumps, and the sign of a 0 is not kept
        error = np.where((np.abs(first.value) <= first.error) & (last.value <= last.error), np.inf, error)
    divisor = {"Inv": first, "Divide": last, "Rsqrt": first, "Powf": first, "Log": first}.get(op)
    if op == "Pow" and node.params[0] < 0:
        divisor = first
    if divisor is not None:
        error = np.where((np.abs(divisor.value) <= divisor.error) & (divisor.error > 0), np.inf, error)
    own = OWN + (abs(node.params[0]) if op == "Pow" else 0)
    if op not in EXACT:
        error = error + own * WIDE(info.eps) * np.where(np.isfinite(value), np.abs(value), 0) + WIDE(info.tiny)
    return Rough(value, np.broadcast_to(error, np.broadcast_shapes(value.shape, error.shape)))


def _truth(op, params):
    """The line of the truth table, with what IEEE arithmetic says of NaN where the engine follows it."""
    line = TRUTH[op]
    if op == "Step":
        return lambda f: np.where(np.isnan(f), f, line(f))
    if op == "Clamp":
        return lambda f, a, b: np.where(np.isnan(a), a, np.where(np.isnan(b), b, line(f, a, b)))
    if op == "Pow":
        return lambda f: np.power(f, WIDE(params[0]))
    return lambda *f: line(*f, *params)
