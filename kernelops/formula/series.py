"""Series in powers of one small quantity e, with polynomials in expressions as coefficients.

Exponents are fractions, for roots of roots, plus multiples of exponents that are expressions themselves, as in
``Powf(s, p)``; those are taken to be positive. A logarithm of e is an atom of coefficients, ``LOG``, greater than any
number. expansion.py makes the series of an expression; here is also what the engine makes of it where the small
quantity is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import inf

from .definition import stretch
from .expr import Expr, const, is_const, text, topological, variable
from .fold import summands
from .ops import OPS
from .polynomial import Polynomial
from .simplify import build


class UnknownError(Exception):
    """No expansion is known: an essential singularity, a logarithm of 0, components that mix."""


class TooShortError(Exception):
    """More terms are needed than were kept."""


@dataclass(frozen=True)
class Exponent:
    """number + sum of m*p over the pairs (p, m); the p are expressions of length 1 with positive values."""

    number: Fraction = Fraction(0)
    symbols: tuple[tuple[Expr, Fraction], ...] = ()

    @property
    def nominal(self) -> Fraction:
        """The number by which terms are ordered: the exponent as if every p were 1."""
        return sum((m for _, m in self.symbols), self.number) if self.symbols else self.number

    @property
    def positive(self) -> bool:
        """Whether it is greater than 0 for all positive p."""
        return self.number >= 0 and all(m > 0 for _, m in self.symbols) and (self.number > 0 or bool(self.symbols))

    @property
    def negative(self) -> bool:
        """Whether it is less than 0 for all positive p."""
        return (-self).positive

    def __add__(self, other: Exponent) -> Exponent:
        if not self.symbols and not other.symbols:
            return Exponent(self.number + other.number)
        total = dict(self.symbols)
        for p, m in other.symbols:
            total[p] = total.get(p, Fraction(0)) + m
        symbols = sorted(((p, m) for p, m in total.items() if m), key=lambda symbol: text(symbol[0]))
        return Exponent(self.number + other.number, tuple(symbols))

    def __mul__(self, factor: Fraction) -> Exponent:
        return Exponent(self.number * factor, tuple((p, m * factor) for p, m in self.symbols if factor))

    def __neg__(self) -> Exponent:
        return self * Fraction(-1)

    def expr(self) -> Expr:
        """The exponent as an expression."""
        total = const(float(self.number))
        for p, m in self.symbols:
            total = build("Add", total, build("Mult", const(float(m)), p))
        return total


ZERO = Exponent()
LOG = variable("Pm", 10**9, 1)  # log(e) in coefficients; it is in none that leave this package of three modules
Term = tuple[Exponent, Polynomial]


@dataclass(frozen=True)
class Series:
    """Terms (exponent, coefficient) in nominal order, without those that vanish; what follows is of ``order``.

    Attributes
    ----------
    terms : tuple of (Exponent, Polynomial)
    order : Fraction or inf
        The nominal exponent from which on terms are not known; inf if there are no others.
    own : bool
        Whether component k depends on component k of the small vector alone.
    """

    terms: tuple[Term, ...]
    order: Fraction | float = inf
    own: bool = True

    def lead(self) -> Term | None:
        """The term that counts most for a small e; None for 0."""
        if not self.terms:
            if self.order < inf:
                raise TooShortError
            return None
        first = self.terms[0]
        if any(e.symbols and not (e + -first[0]).positive for e, _ in self.terms[1:]):
            raise UnknownError
        return first

    def at_zero(self) -> Polynomial | None:
        """The coefficient of the power 0; None if there is none."""
        return next((c for e, c in self.terms if e == ZERO), None)

    def tends(self) -> bool:
        """Whether there are no powers that may be negative."""
        return all(e == ZERO or e.positive for e, _ in self.terms)

    def map(self, step: Callable[[Polynomial], Polynomial]) -> Series:
        """The same with a linear step made on every coefficient."""
        return collect(((e, step(c)) for e, c in self.terms), self.order, self.own)

    def __neg__(self) -> Series:
        return self.map(lambda c: c.scale(-1.0))

    def __add__(self, other: Series) -> Series:
        return collect((*self.terms, *other.terms), min(self.order, other.order), self.own and other.own)


def collect(terms: Iterable[Term], order: Fraction | float, own: bool) -> Series:
    """The series of these terms, those of one exponent added up."""
    total: dict[Exponent, Polynomial] = {}
    for exponent, c in terms:
        if exponent.nominal < order:
            total[exponent] = total[exponent] + c if exponent in total else c
    kept = [(exponent, c) for exponent, c in total.items() if not c.vanishes()]
    return Series(tuple(sorted(kept, key=lambda term: (term[0].nominal, len(term[0].symbols)))), order, own)


def linear(p: Expr) -> Exponent:
    """An exponent that is an expression: a number, and multiples of what is left."""
    if p.dim > 1:
        raise UnknownError
    total = ZERO
    for c, rest in summands(p):
        total += Exponent(Fraction(c)) if rest is None else Exponent(symbols=((rest, Fraction(c)),))
    return total


def sinc_at_zero(n: int) -> float:
    """The derivative of order n of sin(x)/x at 0."""
    return 0.0 if n % 2 else (-1.0) ** (n // 2) / (n + 1)


def value_at_zero(expr: Expr, base: Expr) -> Expr | None:
    """The value of expr at base = 0 as the engine computes it; None if an infinity or NaN comes up on the way."""
    done: dict[Expr, Expr | None] = {}
    for node in topological(expr):
        if node is base:
            done[node] = const(0, node.dim)
        elif all(done[a] is a for a in node.args):
            done[node] = node
        else:
            done[node] = _value(node, [done[a] for a in node.args], base)
    return done[expr]


def _value(node: Expr, args: list[Expr | None], base: Expr) -> Expr | None:
    if node.op == "IfElse" and args[0] is not None and is_const(args[0]):
        taken = args[1] if args[0].value >= 0 else args[2]
        return None if taken is None else stretch(taken, node.dim)
    known = [a for a in args if a is not None]
    if len(known) < len(args) or not _is_finite(node, known):
        return None
    if base.dim > 1 and not OPS[node.op].elementwise:
        return node if node.op == "Sum" else None
    if node.op == "SinXDivX" and is_const(known[0], 0):
        return const(sinc_at_zero(node.params[0]), node.dim)
    return build(node.op, *known, params=node.params)


def _is_finite(node: Expr, args: list[Expr]) -> bool:
    """Whether the operation is finite for operands some of which may be 0."""
    if node.op in ("Inv", "Log"):
        return not is_const(args[0], 0)
    if node.op == "Divide":
        return not is_const(args[1], 0)
    if node.op == "Pow":
        return node.params[0] >= 0 or not is_const(args[0], 0)
    if node.op == "Powf" and is_const(args[0], 0):
        if is_const(args[1]):
            return bool(args[1].value >= 0)
        return args[1].dim == 1 and linear(args[1]).positive
    return True
