"""What a defined operation is, and what definitions are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import FormulaError
from .expr import Expr, apply, const, is_const


@dataclass(frozen=True, slots=True)
class Defined:
    """One row of the table.

    Attributes
    ----------
    signature : str
        How it is written.
    build : callable
        (operands, then static parameters) -> Expr.
    text : str
        One line for people, used by the reference pages.
    arity : int
        Number of operands, each an expression.
    params : tuple of str
        Names of the static parameters that follow the operands; integers, or lists of integers.
    """

    signature: str
    build: Callable[..., Expr]
    text: str
    arity: int = 1
    params: tuple[str, ...] = ()


def stretch(f: Expr, d: int) -> Expr:
    """f with length d; f has that length already, or length 1."""
    if f.dim == d:
        return f
    if f.dim != 1 or d < 1:
        raise FormulaError(f"a vector of length {f.dim} cannot be stretched to length {d}")
    return const(f.value, d) if is_const(f) else apply("Mult", f, const(1, d))


def sum_of(f: Expr) -> Expr:
    """The sum of the components of f."""
    return f if f.dim == 1 else apply("Sum", f)


def component(f: Expr, k: int) -> Expr:
    """Component k of f."""
    return f if f.dim == 1 else apply("Extract", f, params=(k, 1))


def part(f: Expr, start: int, count: int) -> Expr:
    """count components of f from start on."""
    return f if f.dim == count else apply("Extract", f, params=(start, count))


def joined(parts: Sequence[Expr]) -> Expr:
    """The components of all the parts, in a tree whose depth is the logarithm of their number."""
    return tree("Concat", parts)


def tree(op: str, parts: Sequence[Expr]) -> Expr:
    """An operation of two operands on all the parts, in order, in such a tree."""
    parts = list(parts)
    while len(parts) > 1:
        pairs = [apply(op, *parts[k : k + 2]) for k in range(0, len(parts) - 1, 2)]
        parts = pairs + parts[len(pairs) * 2 :]
    return parts[0]


def iota(d: int) -> Expr:
    """The constant vector (0, 1, ..., d - 1), by doubling."""
    found = const(0)
    while found.dim < d:
        found = apply("Concat", found, apply("Add", found, const(found.dim)))
    return part(found, 0, d)
