"""The operations of the language: name -> operands, static parameters, length of the result, properties, text.

This table holds the *primitive* operations, those that the derivative table (grad.py), the value table
(_tile/ops.h) and the truth table (tests) know. Operations that are written in terms of others (SqDist, Norm2,
MatVecMult, ...) stand in defined.py and disappear when a formula is read.

Every value of the language is a vector. Elementwise operations want equal lengths, or a length of 1, which is
stretched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from ..errors import FormulaError

Lengths = tuple[int, ...]
Params = tuple[Any, ...]  # static parameters: integers, or tuples of integers


@dataclass(frozen=True, slots=True)
class Op:
    """One row of the table.

    Attributes
    ----------
    arity : int
        Number of operands, each an expression.
    params : tuple of str
        Names of the static parameters (integers or lists of integers) that follow the operands in the text.
    dim : callable
        (lengths of the operands, static parameters) -> length of the result; raises FormulaError.
    text : str
        One line for people, used by the reference pages.
    elementwise : bool
        Whether component k of the result needs only component k of the operands.
    parity : {"even", "odd", "parameter"} or None
        Of an operation of one operand: whether it gives the same for -f, or that with the other sign; "parameter" if
        it is even for an even static parameter and odd for an odd one.
    masks_nan : bool
        Whether the result may be a number though an operand is NaN, and another number for other operands.
    slow : bool
        Whether it takes about 16 additions' time for a number, as a library function without vector instructions does.
    """

    arity: int
    params: tuple[str, ...]
    dim: Callable[[Lengths, Params], int]
    text: str
    elementwise: bool = False
    parity: Literal["even", "odd", "parameter"] | None = None
    masks_nan: bool = False
    slow: bool = False

    def parity_of(self, params: Params) -> Literal["even", "odd"] | None:
        """The parity with these static parameters."""
        if self.parity == "parameter":
            return "odd" if params[0] % 2 else "even"
        return self.parity


def _stretch(lengths: Lengths, params: Params) -> int:
    longest = max(lengths)
    if any(n not in (1, longest) for n in lengths):
        raise FormulaError(
            f"operands of lengths {' and '.join(map(str, lengths))}: wanted equal lengths, or a length of 1"
        )
    return longest


LARGEST = 2**31 - 1  # lengths, positions and static parameters are 32-bit integers in every machine
MOST_AXES = 16  # an operand of TensorDot, or its result, has no more axes; so derivatives, which exchange these, fit
HIGHEST_ORDER = 100  # SinXDivX takes no higher order: its series has some forty steps more than that for each number


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _power(lengths: Lengths, params: Params) -> int:
    if not _whole(params[0]):
        raise FormulaError(f"Pow(f, m) wants a whole number m, got {params[0]!r}; Powf(f, g) takes any exponent")
    if abs(params[0]) > LARGEST:
        raise FormulaError(f"Pow(f, m) wants an m from -{LARGEST} to {LARGEST}, got {params[0]}")
    return lengths[0]


def _order(lengths: Lengths, params: Params) -> int:
    if not _whole(params[0]) or not 0 <= params[0] <= HIGHEST_ORDER:
        raise FormulaError(f"the order of a derivative is a whole number from 0 to {HIGHEST_ORDER}, got {params[0]!r}")
    return lengths[0]


def _extract(lengths: Lengths, params: Params) -> int:
    start, count = params
    if not (_whole(start) and _whole(count) and 0 <= start and 1 <= count and start + count <= lengths[0]):
        raise FormulaError(f"components {start} to {start}+{count}-1 asked of a vector of length {lengths[0]}")
    return int(count)


def _embed(lengths: Lengths, params: Params) -> int:
    start, total = params
    if not (_whole(start) and _whole(total) and 0 <= start and start + lengths[0] <= total):
        raise FormulaError(f"a vector of length {lengths[0]} at place {start} does not fit into length {total}")
    return int(total)


def _slice(lengths: Lengths, params: Params) -> int:
    start, count, step = params
    if not (all(map(_whole, params)) and start >= 0 and count >= 1 and step >= 1):
        raise FormulaError(
            f"Slice(f, start, n, step) wants start >= 0, n >= 1 and step >= 1, got {start}, {count}, {step}"
        )
    if start + (count - 1) * step >= lengths[0]:
        raise FormulaError(
            f"{count} components, every {step}-th from {start} on, asked of a vector of length {lengths[0]}"
        )
    return int(count)


def _spread(lengths: Lengths, params: Params) -> int:
    start, total, step = params
    if not (all(map(_whole, params)) and start >= 0 and step >= 1 and start + (lengths[0] - 1) * step < total):
        raise FormulaError(
            f"a vector of length {lengths[0]} at every {step}-th place from {start} on does not fit into length {total}"
        )
    return int(total)


def _tensordot(lengths: Lengths, params: Params) -> int:
    dims_f, dims_g, cont_f, cont_g, permute = params
    for name, axes in (("the first operand", dims_f), ("the second operand", dims_g), ("the result", permute)):
        if len(axes) > MOST_AXES:
            raise FormulaError(f"TensorDot: {name} has {len(axes)} dimensions, wanted {MOST_AXES} at most")
    for name, length, dims in (("first", lengths[0], dims_f), ("second", lengths[1], dims_g)):
        if any(d < 1 for d in dims) or prod(dims) != length:
            raise FormulaError(
                f"TensorDot: the {name} operand has length {length}, its dimensions {list(dims)} make {prod(dims)}"
            )
    if len(cont_f) != len(cont_g):
        raise FormulaError(f"TensorDot: {len(cont_f)} and {len(cont_g)} dimensions to contract, wanted the same number")
    for name, cont, dims in (("first", cont_f, dims_f), ("second", cont_g, dims_g)):
        if len(set(cont)) != len(cont) or any(not 0 <= c < len(dims) for c in cont):
            raise FormulaError(
                f"TensorDot: {list(cont)} are not distinct dimensions of the {name} operand {list(dims)}"
            )
    if any(dims_f[a] != dims_g[b] for a, b in zip(cont_f, cont_g, strict=True)):
        raise FormulaError(
            f"TensorDot: contracted dimensions {[dims_f[a] for a in cont_f]} and {[dims_g[b] for b in cont_g]} differ"
        )
    kept = [d for k, d in enumerate(dims_f) if k not in cont_f] + [d for k, d in enumerate(dims_g) if k not in cont_g]
    if sorted(permute) != list(range(len(kept))):
        raise FormulaError(
            f"TensorDot: {list(permute)} is not a permutation of the {len(kept)} dimensions of the result"
        )
    return prod(kept)


def _elementwise(
    arity: int,
    text: str,
    params: tuple[str, ...] = (),
    dim: Callable[[Lengths, Params], int] = _stretch,
    **properties: Any,
) -> Op:
    return Op(arity, params, dim, text, elementwise=True, **properties)


OPS: dict[str, Op] = {
    # one operand, elementwise
    "Minus": _elementwise(1, "-f", parity="odd"),
    "Inv": _elementwise(1, "1/f", parity="odd"),
    "Exp": _elementwise(1, "exp(f)"),
    "Log": _elementwise(1, "natural logarithm of f"),
    "Sqrt": _elementwise(1, "square root of f; its derivative at 0 is taken as 0"),
    "Rsqrt": _elementwise(1, "1/sqrt(f); 0 at f = 0"),
    "Square": _elementwise(1, "f*f", parity="even"),
    "Abs": _elementwise(1, "|f|; its derivative at 0 is taken as 0", parity="even"),
    "Sin": _elementwise(1, "sin(f)", parity="odd", slow=True),
    "Cos": _elementwise(1, "cos(f)", parity="even", slow=True),
    "Pow": _elementwise(1, "f to the whole power m", ("m",), _power, parity="parameter", slow=True),
    "ReLU": _elementwise(1, "max(f, 0); its derivative at 0 is taken as 1", masks_nan=True),
    "Sign": _elementwise(1, "-1, 0 or 1 by the sign of f; its derivative is 0", parity="odd", masks_nan=True),
    "Step": _elementwise(1, "1 where f >= 0, else 0; its derivative is 0", masks_nan=True),
    "Floor": _elementwise(1, "the largest whole number that is at most f; its derivative is 0"),
    "Tanh": _elementwise(1, "hyperbolic tangent of f", parity="odd", slow=True),
    "SinXDivX": _elementwise(
        1,
        "derivative of order n (0 unless given) of sin(f)/f; at 0 its limit",
        ("n",),
        _order,
        parity="parameter",
        slow=True,
    ),
    # several operands, elementwise
    "Add": _elementwise(2, "f + g"),
    "Subtract": _elementwise(2, "f - g"),
    "Mult": _elementwise(2, "f*g"),
    "Divide": _elementwise(2, "f/g"),
    "Powf": _elementwise(2, "f to the power g", slow=True),
    "Atan2": _elementwise(
        2,
        "angle of the point (g, f), from -pi to pi, 0 for g > 0 and f = 0; its derivatives at g = f = 0 are taken as 0",
        slow=True,
    ),
    "Equal": _elementwise(2, "1 where f = g, else 0; derivative 0", masks_nan=True),
    "NotEqual": _elementwise(2, "1 where f differs from g, else 0; derivative 0", masks_nan=True),
    "LessThan": _elementwise(2, "1 where f < g, else 0; derivative 0", masks_nan=True),
    "LessOrEqual": _elementwise(2, "1 where f <= g, else 0; derivative 0", masks_nan=True),
    "Clamp": _elementwise(
        3,
        "f held between g and h; the derivative goes to f where g <= f <= h, else to the bound",
        masks_nan=True,
    ),
    "IfElse": _elementwise(3, "g where f >= 0, else h; derivative 0 with respect to f", masks_nan=True),
    # vectors
    "Sum": Op(1, (), lambda d, p: 1, "sum of the components of f"),
    "Extract": Op(1, ("start", "n"), _extract, "components start to start+n-1 of f"),
    "ExtractT": Op(1, ("start", "n"), _embed, "f written at place start into a zero vector of length n"),
    "Slice": Op(1, ("start", "n", "step"), _slice, "n components of f, every step-th from start on"),
    "SliceT": Op(
        1,
        ("start", "n", "step"),
        _spread,
        "f written at every step-th place from start on into a zero vector of length n",
    ),
    "Concat": Op(2, (), lambda d, p: d[0] + d[1], "the components of f, then those of g"),
    "TensorDot": Op(
        2,
        ("dimsf", "dimsg", "contf", "contg", "permute"),
        _tensordot,
        "f and g as row-major tensors, dimensions contf of f contracted with contg of g; "
        "dimension k of what remains, counted through f and then g, becomes dimension permute[k]",
    ),
}

VARIABLES = ("Vi", "Vj", "Pm")  # indexed by i, by j, by nothing; the place in this tuple is KeOps' category
LEAVES = ("Const", *VARIABLES)
