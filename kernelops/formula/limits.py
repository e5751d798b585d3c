"""Derivatives at points where a distance is 0: the limit of the derivative, in place of what its terms give.

A kernel that is smooth in the squared distance s may be written with r = sqrt(s). Its derivative by s is then a sum
of terms, some of which are infinite at s = 0, and the engine, for which 1/sqrt(0) is 0, would leave them out. So
wherever a cotangent arrives at such an s (a *base*: what stands under a root, or within Abs), its limit for s to 0 is
worked out by expansion.py and chosen where s = 0:

    IfElse(-s, limit, cotangent)

By the chain rule the derivative by x is that cotangent times ds/dx, which is 0 where s is. So all derivatives of
order n of a function phi(s) need of phi at s = 0 its derivatives up to n/2, and those exist where the n-th derivative
in x does. Higher ones may be infinite, but come with factors ds/dx; such terms are left out of the limit: those whose
coefficient is 0 where s is 0. Derivatives of derivatives meet the choice again: on the way to s = 0 it takes its second
branch, and the outer choice replaces it.

Conventions if there is no limit:

* an infinite derivative by a distance s counts as 0 (exp(-r) has a cone at r = 0; its second derivative there is 0);
* a jump at a = 0, of |a| say, leaves what the operations say (the derivative of |a| is 0 there); the derivative of
  something that jumps is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from .distances import NAN, ROOTS, base_of_root, bases, is_distance, is_zero_with, nodes_on_the_way
from .expansion import Expansion
from .expr import Expr, apply, const, substitute, topological
from .fold import is_nonnegative
from .identities import Point, are_equal, points
from .polynomial import Monomial, Polynomial
from .series import LOG, ZERO, Series, TooShortError, UnknownError, value_at_zero
from .simplify import build, simplify

_DEPTHS = (4, 8, 16)
_COMPONENTS = 32  # a vector of up to so many components is taken apart if its components mix
_SQUARED = (2, 1)  # s = e*e
_SIDES = ((1, 1), (1, -1))  # a = e and a = -e


class MixedComponentsError(Exception):
    """The components of a base mix: the expression has to be written component by component."""

    def __init__(self, base: Expr) -> None:
        self.base = base


@dataclass(frozen=True)
class Limit:
    """The limit of an expression: ``value``, and terms c*e**q whose exponents q are known with the data only.

    A term (q, None) has a logarithm of e in its coefficient.
    """

    value: Expr
    open: tuple[tuple[Expr, Expr | None], ...] = ()  # (q, c)

    def expr(self) -> Expr:
        """The limit as an expression; infinite terms make it 0."""
        total = self.value
        for q, c in self.open:
            if c is not None:
                total = build("Add", total, build("IfElse", build("Minus", build("Abs", q)), c, const(0)))
        for q, c in self.open:
            if c is None:
                total = build("IfElse", build("Minus", q), const(0), total)
            else:
                total = build("IfElse", q, total, const(0))
        return total


@lru_cache(maxsize=512)  # the derivatives by several variables have the same cotangents
def take_limit(g: Expr, base: Expr, signed: bool, expr: Expr) -> Expr:
    """The cotangent g of base, of a derivative of expr, with its limit chosen where base is 0.

    Nothing is chosen if the engine computes the limit anyway, and if there is no other convention.
    """
    at = points()
    plain = simplify(g)
    if not any(base in (b for b, _ in base_of_root(n)) for n in nodes_on_the_way(plain) if n.op in ROOTS):
        return g
    if not signed:
        plain = _drop_signs(plain, base)
    value = value_at_zero(plain, base)
    try:
        limit = _two_sided(plain, base, expr, at) if signed else _one_sided(plain, base, expr, at)
    except UnknownError:
        # where the best of the absolute values is looked for, each order of them would be a case of its own
        if 1 < base.dim <= _COMPONENTS and not (signed and any(n.op == "Slice" for n in nodes_on_the_way(expr))):
            raise MixedComponentsError(base) from None
        return g if value is None else _choice(base, signed, NAN, plain)
    if limit is None:
        return g
    if value is not None and not limit.open and are_equal(value, limit.value, at):
        return plain
    return _choice(base, signed, limit.expr(), plain)


def _drop_signs(g: Expr, base: Expr) -> Expr:
    """g with 1 for the sign of a distance, which is what its root over its root is: at 0 that is the limit."""
    signs = [
        n for n in topological(g) if n.op == "Sign" and is_nonnegative(n.args[0]) and base in dict(base_of_root(n))
    ]
    return simplify(substitute(g, {n: const(1, n.dim) for n in signs})) if signs else g


def take_finite_powers(expr: Expr, at: Sequence[Point]) -> Expr:
    """expr with its limit chosen where a power of something that is 0 is infinite, but all of expr is not."""
    if not any(n.op == "Powf" for n in topological(expr)):
        return expr
    for base, signed in bases(expr).items():
        if base.dim not in (1, expr.dim) or value_at_zero(expr, base) is not None:
            continue
        try:
            limit = _common_limit(expr, base, at) if signed else limit_of(expr, base, _SQUARED, at)
        except UnknownError:
            continue
        if limit is not None:
            expr = _choice(base, signed, limit.expr(), expr)
    return expr


def _choice(base: Expr, signed: bool, at_zero: Expr, elsewhere: Expr) -> Expr:
    # base stays a node of the condition, which simplification would take apart if it were a difference
    size = apply("Abs", base) if signed else base if is_nonnegative(base) else apply("ReLU", base)
    return build("IfElse", apply("Minus", size), at_zero, elsewhere)


def _one_sided(g: Expr, base: Expr, expr: Expr, at: Sequence[Point]) -> Limit | None:
    """The value of g at base = 0, for a base that is never negative; None if g stays as it is."""
    limit = limit_of(g, base, _SQUARED, at)
    if limit is None and is_distance(base) and _limit_of_function(expr, base, _SQUARED, at) is not None:
        return Limit(const(0))
    return limit


def _two_sided(g: Expr, base: Expr, expr: Expr, at: Sequence[Point]) -> Limit | None:
    """The same for a base of either sign."""
    right, left = (_limit_of_function(expr, base, side, at) for side in _SIDES)
    if right is None or left is None:
        return None
    if not are_equal(right.expr(), left.expr(), at):
        return Limit(const(0))
    right, left = (limit_of(g, base, side, at) for side in _SIDES)
    if right is None or left is None:
        return Limit(const(0))
    return right if are_equal(right.expr(), left.expr(), at) else None


def _common_limit(expr: Expr, base: Expr, at: Sequence[Point]) -> Limit | None:
    """The limit of expr if it is the same from both sides."""
    right, left = (limit_of(expr, base, side, at) for side in _SIDES)
    return right if right is not None and left is not None and are_equal(right.expr(), left.expr(), at) else None


def _limit_of_function(expr: Expr, base: Expr, small: tuple[int, int], at: Sequence[Point]) -> Limit | None:
    """The limit of what is differentiated, which has few poles that cancel: few of its terms are enough, as a rule."""
    return limit_of(expr, base, small, at, (1, *_DEPTHS))


def limit_of(
    expr: Expr, base: Expr, small: tuple[int, int], at: Sequence[Point], depths: Sequence[int] = _DEPTHS
) -> Limit | None:
    """The limit of expr where base is small; None for an infinite one. Raises UnknownError."""
    for depth in depths:
        try:
            series = Expansion(base, *small, depth, at).of(expr)
        except TooShortError:
            continue
        if series.order > 0:
            return _limit(series, base, at)
    raise UnknownError


def _limit(series: Series, base: Expr, at: Sequence[Point]) -> Limit | None:
    """The limit of a series; infinite terms must have coefficients that are 0 where base is.

    Such a factor belongs to one derivative by base, which is infinite then: its finite part is left out too.
    """
    value, infinite = None, set[Monomial]()
    found: list[tuple[Expr, Expr | None]] = []
    for exponent, c in series.terms:
        if exponent == ZERO and not c.contains(LOG):
            value = c
        elif not exponent.positive:
            if not is_zero_with(base, c.expr(), at):
                if exponent.negative or exponent == ZERO:
                    return None
                found.append((exponent.expr(), None if c.contains(LOG) else c.expr()))
            elif not exponent.symbols:
                infinite.update(_factors_zero_with(base, c, at))
    infinite.discard(())
    if value is not None and infinite:
        factors = _factors_zero_with(base, value, at)
        value = value.drop(m for m, f in zip(value.terms, factors, strict=True) if f in infinite)
    return Limit(const(0) if value is None else value.expr(), tuple(found))


def _factors_zero_with(base: Expr, c: Polynomial, at: Sequence[Point]) -> list[Monomial]:
    """The factors of each term of c that are 0 where base is."""
    atoms = c.ring.atoms
    zero = {k: is_zero_with(base, atoms[k], at) for k in sorted({k for m in c.terms for k, _ in m})}
    return [tuple((k, p) for k, p in m if zero[k]) for m in c.terms]
