"""Polynomials in expressions, with numbers in front: coefficients that cancel.

A term is a number and whole powers, negative ones too, of *atoms*: expressions that are no products or sums. Each
number carries the sum of the absolute values of which it was made, and is 0 if only rounding is left of it. Sums in
a denominator, under a root or in a function become atoms; for identities among those, identities.py is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from .expr import Expr, apply, const
from .fold import is_nonnegative
from .identities import SLACK, Point, Value, is_zero_everywhere
from .simplify import build

Monomial = tuple[tuple[int, int], ...]  # (number of an atom, power)
Terms = dict[Monomial, tuple[float, float]]  # the number in front, and the sum of the absolute values in it

_ROUNDING = 1e-12  # the relative error that a sum of some dozens of numbers may have
_MOST_TERMS = 48  # a product of sums is multiplied out up to so many terms
_MOST_SUMMANDS = 6  # an expression of up to so many summands is taken apart


class Ring:
    """Makes polynomials; atoms are numbered as they are met, so that the same work has the same result.

    Parameters
    ----------
    points : sequence of Point
        Where polynomials are evaluated that may be 0.
    """

    def __init__(self, points: Sequence[Point]) -> None:
        self.points = points
        self.atoms: list[Expr] = []
        self.numbers: dict[Expr, int] = {}
        self.zero: Polynomial = Polynomial(self, {})
        self.one: Polynomial = self.number(1.0)

    def number(self, value: float) -> Polynomial:
        return Polynomial(self, {(): (value, abs(value))} if value else {})

    def atom(self, e: Expr, power: int = 1) -> Polynomial:
        """e to a power; of roots and absolute values the power 1 remains at most."""
        if e.op in ("Sqrt", "Abs") and power not in (0, 1):
            whole = power - power % 2
            rest = self.of(e.args[0]).power(Fraction(whole // 2 if e.op == "Sqrt" else whole))
            return rest * self.atom(e) if power % 2 else rest
        if e.op == "Sum" and e.args[0].op == "Mult" and e not in self.numbers:  # (a|b) is (b|a)
            swapped = apply("Sum", apply("Mult", *reversed(e.args[0].args)))
            e = swapped if swapped in self.numbers else e
        k = self.numbers.setdefault(e, len(self.atoms))
        if k == len(self.atoms):
            self.atoms.append(e)
        return Polynomial(self, {((k, power),): (1.0, 1.0)})

    def terms(self, e: Expr) -> Polynomial:
        """The polynomial that a sum is, of vectors as well."""
        if e.op in ("Add", "Subtract"):
            left, right = map(self.terms, e.args)
            return left + (right if e.op == "Add" else right.scale(-1.0))
        if e.op == "Mult":
            left, right = map(self.terms, e.args)
            return left * right
        return self.of(e)

    def of(self, e: Expr) -> Polynomial:
        """The polynomial that e is."""
        op = e.op
        if op == "Const":
            return self.number(e.value)
        if op == "Minus":
            return self.of(e.args[0]).scale(-1.0)
        if op in ("Mult", "Divide"):
            left, right = map(self.of, e.args)
            return left * (right if op == "Mult" else right.power(Fraction(-1)))
        if op in ("Square", "Inv"):
            return self.of(e.args[0]).power(Fraction(2 if op == "Square" else -1))
        if op == "Pow":
            return self.of(e.args[0]).power(Fraction(e.params[0]))
        if op in ("Add", "Subtract") and e.dim == 1 and _terms_of_sum(e) <= _MOST_SUMMANDS:
            left, right = map(self.of, e.args)
            return left + (right if op == "Add" else right.scale(-1.0))
        return self.atom(e)


def _terms_of_sum(e: Expr) -> int:
    count, stack = 0, [e]
    while stack and count <= _MOST_SUMMANDS:
        node = stack.pop()
        if node.op in ("Add", "Subtract"):
            stack.extend(node.args)
        else:
            count += 1
    return count + len(stack)


class Polynomial:
    """A sum of terms; made by a Ring."""

    __slots__ = ("_expr", "ring", "terms")

    def __init__(self, ring: Ring, terms: Terms) -> None:
        self.ring = ring
        self.terms = {m: t for m, t in terms.items() if abs(t[0]) > _ROUNDING * t[1]}
        self._expr: Expr | None = None

    def __add__(self, other: Polynomial) -> Polynomial:
        total = dict(self.terms)
        for m, (v, size) in other.terms.items():
            w, more = total.get(m, (0.0, 0.0))
            total[m] = (v + w, size + more)
        return Polynomial(self.ring, total)

    def __mul__(self, other: Polynomial) -> Polynomial:
        if len(self.terms) * len(other.terms) > _MOST_TERMS:
            left, right = (p if len(p.terms) == 1 else self.ring.atom(p.expr()) for p in (self, other))
            return left * right
        total: Terms = {}
        for m, (v, size) in self.terms.items():
            for n, (w, more) in other.terms.items():
                for key, (factor, _) in self.ring_product(m, n).items():
                    x, most = total.get(key, (0.0, 0.0))
                    total[key] = (x + v * w * factor, most + size * more * abs(factor))
        return Polynomial(self.ring, total)

    def ring_product(self, m: Monomial, n: Monomial) -> Terms:
        """The product of two monomials; a root that meets itself is gone."""
        if not m or not n:
            return {m or n: (1.0, 1.0)}
        powers = dict(m)
        for k, p in n:
            powers[k] = powers.get(k, 0) + p
        undone = [k for k, p in powers.items() if p not in (0, 1) and self.ring.atoms[k].op in ("Sqrt", "Abs")]
        key = tuple(sorted((k, p) for k, p in powers.items() if p and k not in undone))
        product = Polynomial(self.ring, {key: (1.0, 1.0)})
        for k in undone:
            product = product * self.ring.atom(self.ring.atoms[k], powers[k])
        return product.terms

    def scale(self, c: float) -> Polynomial:
        return Polynomial(self.ring, {m: (c * v, abs(c) * size) for m, (v, size) in self.terms.items()})

    def power(self, p: Fraction) -> Polynomial:
        """The power p, a number."""
        ring = self.ring
        if p == 1 or (not self.terms and p > 0):
            return self
        if p == 0:
            return ring.one
        if len(self.terms) == 1:
            ((m, (v, _)),) = self.terms.items()
            if p.denominator == 1 or v > 0:
                found = ring.number(float(v) ** float(p) if p.denominator > 1 else float(v) ** int(p))
                for k, q in m:
                    found = found * _atom_power(ring, ring.atoms[k], q, p)
                return found
        if p.denominator == 1 and 1 < p <= 4:
            return self * self.power(p - 1)
        e = self.expr()
        if p.denominator == 1:
            return ring.atom(e, int(p))
        if p.denominator == 2:
            return ring.atom(build("Sqrt", e), int(2 * p))
        return ring.atom(build("Powf", e, const(float(p))))

    def expr(self) -> Expr:
        """The polynomial as an expression."""
        if self._expr is None:
            total = const(0)
            for m, (v, _) in self.terms.items():
                term = const(v)
                for k, p in m:
                    term = build("Mult", term, _whole_power(self.ring.atoms[k], p))
                total = build("Add", total, term)
            self._expr = total
        return self._expr

    def constant(self) -> float | None:
        """The number that it is, if it is one."""
        if not self.terms:
            return 0.0
        return self.terms[()][0] if len(self.terms) == 1 and () in self.terms else None

    def drop(self, monomials: Iterable[Monomial]) -> Polynomial:
        """The other terms."""
        left_out = set(monomials)
        return Polynomial(self.ring, {m: t for m, t in self.terms.items() if m not in left_out})

    def contains(self, e: Expr) -> bool:
        """Whether e is an atom of it."""
        k = self.ring.numbers.get(e)
        return k is not None and any(k == n for m in self.terms for n, _ in m)

    def linear_in(self, e: Expr) -> tuple[float | None, Polynomial]:
        """(m, what is left) of m*e + what is left, for a number m; None in place of m if there is none."""
        own = ((self.ring.numbers[e], 1),)
        rest = {m: t for m, t in self.terms.items() if m != own}
        return self.terms[own][0] if own in self.terms else None, Polynomial(self.ring, rest)

    def vanishes(self) -> bool:
        """Whether it is 0 for all data, as identities.py has it."""
        if len(self.terms) < 2:
            return not self.terms
        if all(not self.ring.atoms[k].args for m in self.terms for k, _ in m):
            return False  # variables have nothing to do with each other
        return is_zero_everywhere(self._values, self.ring.points)

    def _values(self, point: Point) -> list[Value] | None:
        """The components of the value at a point, and how far they may be off; None if it is not defined there."""
        total: list[Value] = [(0.0, 0.0)]
        for m, (v, size) in self.terms.items():
            term = [(v, _ROUNDING * size / SLACK)]
            for k, p in m:
                atom = point.values(self.ring.atoms[k])
                if atom is None or (p < 0 and any(a == 0 for a, _ in atom)):
                    return None
                powers = [(a**p, abs(p * a ** (p - 1)) * e) for a, e in atom]
                term = [(a * b, abs(a) * h + abs(b) * e) for (a, e), (b, h) in _pairs(term, powers)]
            total = [(a + b, e + h) for (a, e), (b, h) in _pairs(total, term)]
        return total


def _pairs(f: list[Value], g: list[Value]) -> list[tuple[Value, Value]]:
    length = max(len(f), len(g))
    return list(zip(*(a if len(a) == length else a * length for a in (f, g)), strict=True))


def is_zero(e: Expr, points: Sequence[Point]) -> bool:
    """Whether e is 0 for all data."""
    stack = [e]
    while stack:
        node = stack.pop()
        if node.op == "Const" and node.value == 0:
            return True
        if node.op in ("Minus", "Sum", "Extract", "ExtractT", "Slice", "SliceT", "Square"):
            stack.append(node.args[0])
        elif node.op in ("Mult", "TensorDot"):
            stack.extend(node.args)
        elif node.op in ("Add", "Subtract"):
            if Ring(points).terms(node).vanishes():
                return True
    return False


def _whole_power(e: Expr, p: int) -> Expr:
    return e if p == 1 else build("Pow", e, params=(p,))


def _atom_power(ring: Ring, e: Expr, q: int, p: Fraction) -> Polynomial:
    """(e**q)**p for an atom e."""
    total = q * p
    if p.denominator == 1:
        return ring.atom(e, int(total))
    if is_nonnegative(e) or q % 2:  # an odd power under a root is not negative, or nan is due
        if total.denominator == 1:
            return ring.atom(e, int(total))
        if total.denominator == 2:
            return ring.atom(build("Sqrt", e), int(2 * total))
        return ring.atom(build("Powf", e, const(float(total))))
    size = build("Abs", e)
    if total.denominator == 1:
        return ring.atom(size, int(total))
    return ring.atom(build("Powf", size, const(float(total))))
