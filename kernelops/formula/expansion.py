"""Expansions of an expression in powers of one small quantity.

Where a distance is 0, roots of it cannot be differentiated term by term: one term has 1/r, another takes it off again,
and at r = 0 both are infinite. What the whole tends to is found here: the distance s becomes e*e for a small e > 0
(or, for a number a of either sign, a = e and a = -e), every operation maps the series of its operands to that of its
result, and poles cancel as coefficients.

For a vector each component is the small quantity for the same component of what is made of it, while its other
components are as they are. Only elementwise operations and ``Sum`` are expanded so; others raise UnknownError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import comb, factorial, inf, pi

from .definition import stretch
from .expr import Expr, const, is_const, topological
from .identities import Point, are_equal
from .ops import HIGHEST_ORDER, OPS
from .polynomial import Polynomial, Ring
from .series import (
    LOG,
    ZERO,
    Exponent,
    Series,
    Term,
    TooShortError,
    UnknownError,
    collect,
    linear,
    sinc_at_zero,
    value_at_zero,
)
from .simplify import build


class Expansion:
    """Expands the nodes of expressions in powers of a small e, where ``base`` is ``sign*e**power``.

    Parameters
    ----------
    base : Expr
        The node that is small; nodes that do not contain it are constants.
    power, sign : int
        What it is: (2, 1) for e*e, (1, 1) for e, (1, -1) for -e.
    depth : int
        How far terms are kept beyond the first.
    points : sequence of Point
        Where coefficients are evaluated that may be 0.
    """

    def __init__(self, base: Expr, power: int, sign: int, depth: int, points: Sequence[Point]) -> None:
        self.base = base
        self.depth = depth
        self.points = points
        self.ring = Ring(points)
        self.known = {base: Series(((Exponent(Fraction(power)), self.ring.number(sign)),))}
        self.inside = {base: True}

    def of(self, expr: Expr) -> Series:
        """The expansion of expr; raises UnknownError or TooShortError."""
        for n in topological(expr):
            if n not in self.inside:
                self.inside[n] = any(self.inside[a] for a in n.args)
        stack = [expr]
        while stack:  # operands first; of a choice, only what is taken
            node = stack[-1]
            if node in self.known:
                stack.pop()
                continue
            if not self.inside[node]:
                self.known[node] = self.constant(self.ring.of(node))
                continue
            missing = [a for a in self._operands(node) if a not in self.known]
            if missing:
                stack.extend(missing)
            else:
                self.known[node] = self._step(node)
        return self.known[expr]

    def constant(self, c: Polynomial) -> Series:
        return Series(((ZERO, c),)) if c.terms else Series(())

    def _operands(self, node: Expr) -> tuple[Expr, ...]:
        """The operands of node; of a choice the condition first, and then the branch that is taken."""
        if node.op != "IfElse":
            return node.args
        condition, *branches = node.args
        if condition not in self.known:
            return (condition,)
        taken = self._decide(self.known[condition])
        return node.args if taken is None else (branches[0] if taken else branches[1],)

    def _decide(self, condition: Series) -> bool | None:
        """Whether a condition holds for every small e; None where that depends on data."""
        lead = condition.lead()
        if lead is None:
            return True
        value = lead[1].constant()
        return None if value is None else value >= 0

    # ---- one operation ----

    def _step(self, node: Expr) -> Series:
        if node.op == "IfElse":
            return self._if_else(node)
        args = [self.known[a] for a in node.args]
        op, f = node.op, args[0]
        if not OPS[op].elementwise:
            return self._mixing(node, args)
        if op == "Minus":
            return -f
        if op in ("Add", "Subtract"):
            return f + (args[1] if op == "Add" else -args[1])
        if op == "Mult":
            return self.product(f, args[1])
        if op == "Divide":
            return self.product(f, self.power(args[1], Fraction(-1)))
        if op in _POWERS or op == "Pow":
            return self.power(f, _POWERS[op] if op in _POWERS else Fraction(node.params[0]))
        if op == "Powf":
            return self._powf(f, args[1])
        if op == "Atan2":
            return self._atan2(f, args[1])
        if op == "Floor":
            return self._floor(f)
        if op in ("Exp", "Sin", "Cos", "Tanh", "SinXDivX", "Log"):
            return self._analytic(node, f)
        return self._piecewise(op, args)

    def _mixing(self, node: Expr, args: list[Series]) -> Series:
        if self.base.dim > 1:
            return self._sum_of_own(node, args[0])
        of = self.ring.of
        lengths = [a.dim for a in node.args]

        def vector(c: Polynomial, k: int = 0) -> Expr:
            return stretch(c.expr(), lengths[k])

        if node.op == "Concat":
            left = args[0].map(lambda c: of(build("Concat", vector(c), const(0, lengths[1]))))
            return left + args[1].map(lambda c: of(build("Concat", const(0, lengths[0]), vector(c, 1))))
        if node.op == "TensorDot":
            return self.product(
                args[0], args[1], lambda a, b: of(build("TensorDot", vector(a), vector(b, 1), params=node.params))
            )
        return args[0].map(lambda c: of(build(node.op, vector(c), params=node.params)))

    def _sum_of_own(self, node: Expr, f: Series) -> Series:
        """Seen from one component, a sum is itself where that component is 0, and varies with it as the term does."""
        if node.op != "Sum" or not f.own or node.args[0].dim != self.base.dim or not f.tends() or f.order <= 0:
            raise UnknownError
        value, limit = value_at_zero(node.args[0], self.base), f.at_zero() or self.ring.zero
        if value is None or not are_equal(value, limit.expr(), self.points):
            raise UnknownError
        return Series(((ZERO, self.ring.atom(node)), *(t for t in f.terms if t[0] != ZERO)), f.order, own=False)

    def product(
        self, f: Series, g: Series, combine: Callable[[Polynomial, Polynomial], Polynomial] = lambda a, b: a * b
    ) -> Series:
        """The product of two series, of coefficients that ``combine`` multiplies."""
        own = f.own and g.own
        if (not f.terms and f.order == inf) or (not g.terms and g.order == inf):
            return Series((), own=own)
        least_f = f.terms[0][0].nominal if f.terms else f.order
        least_g = g.terms[0][0].nominal if g.terms else g.order
        order = min(f.order + least_g, g.order + least_f)
        cut = least_f + least_g + self.depth
        pairs = [(a + b, c, d) for a, c in f.terms for b, d in g.terms]
        if any(e.nominal >= cut for e, _, _ in pairs):
            order = min(order, cut)
        return collect(((e, combine(c, d)) for e, c, d in pairs if e.nominal < order), order, own)

    def _powers(self, delta: Series, coefficient: Callable[[int], Polynomial | None]) -> Series:
        """The sum of coefficient(k)*delta^k, for a delta that tends to 0; None ends it."""
        if any(not e.positive for e, _ in delta.terms):
            raise UnknownError
        first = coefficient(0)
        total = Series(self.constant(first).terms if first is not None else (), own=delta.own)
        power, k = delta, 1
        while power.terms or power.order < inf:
            c = coefficient(k)
            if c is None:
                return total
            least = power.terms[0][0].nominal if power.terms else power.order
            if not power.terms or least >= self.depth:
                return collect(total.terms, min(total.order, least), delta.own)
            total = total + power.map(lambda d, c=c: c * d)  # type: ignore[misc]
            power, k = self.product(power, delta), k + 1
        return total

    def power(self, f: Series, p: Fraction) -> Series:
        """f to a power that is a number."""
        if p == 0:
            return self.constant(self.ring.one)
        lead = f.lead()
        if lead is None:
            if p < 0:
                raise UnknownError
            return f
        return self._times_power(f, lead[0] * p, lead[1].power(p), lambda k: self._binomial(p, k))

    def _times_power(
        self, f: Series, exponent: Exponent, factor: Polynomial, binomial: Callable[[int], Polynomial | None]
    ) -> Series:
        """factor * e**exponent * (1 + delta)**p, where f = c*e**a*(1 + delta)."""
        first, c = f.terms[0]
        inverse = c.power(Fraction(-1))
        rest = [(e + -first, d * inverse) for e, d in f.terms[1:]]
        ratio = self._powers(collect(rest, f.order - first.nominal, f.own), binomial)
        return collect(((e + exponent, factor * d) for e, d in ratio.terms), ratio.order + exponent.nominal, f.own)

    def _binomial(self, p: Fraction, k: int) -> Polynomial | None:
        value = Fraction(1)
        for i in range(k):
            value = value * (p - i) / (i + 1)
        return self.ring.number(float(value)) if value else None

    def _powf(self, f: Series, p: Series) -> Series:
        if not p.terms:
            return self.power(f, Fraction(0))
        if len(p.terms) != 1 or p.order < inf or p.terms[0][0] != ZERO:
            raise UnknownError
        number, exponent = p.terms[0][1].constant(), p.terms[0][1].expr()
        if number is not None:
            return self.power(f, Fraction(number))
        lead = f.lead()
        if lead is None or lead[0].symbols:
            raise UnknownError
        shift = linear(exponent) * lead[0].number if lead[0] != ZERO else ZERO
        factor = self.ring.of(build("Powf", lead[1].expr(), exponent))
        return self._times_power(f, shift, factor, lambda k: self._symbolic_binomial(p.terms[0][1], k))

    def _symbolic_binomial(self, p: Polynomial, k: int) -> Polynomial:
        value = self.ring.one
        for i in range(k):
            value = (value * (p + self.ring.number(-float(i)))).scale(1 / (i + 1))
        return value

    def _analytic(self, node: Expr, f: Series) -> Series:
        if node.op == "Log":
            return self._log(f)
        if not f.tends():
            raise UnknownError
        if f.order <= 0:
            raise TooShortError
        at, shift = f.at_zero() or self.ring.zero, ZERO
        if at.contains(LOG):  # exp(m*log(e) + c) is e^m*exp(c)
            m, at = at.linear_in(LOG)
            if node.op != "Exp" or m is None or at.contains(LOG):
                raise UnknownError
            shift = Exponent(Fraction(m).limit_denominator(10**6))
        point = at.expr()
        delta = Series(tuple(t for t in f.terms if t[0] != ZERO), f.order, f.own)
        found = self._powers(delta, lambda k: self.ring.of(_derivative(node, point, k)).scale(1 / factorial(k)))
        return Series(tuple((e + shift, c) for e, c in found.terms), found.order + shift.nominal, found.own)

    def _log(self, f: Series) -> Series:
        lead = f.lead()
        if lead is None or lead[0].symbols:
            raise UnknownError
        inverse = lead[1].power(Fraction(-1))
        rest = [(e + -lead[0], c * inverse) for e, c in f.terms[1:]]
        delta = collect(rest, f.order - lead[0].nominal, f.own)
        whole = self.ring.of(build("Log", lead[1].expr())) + self.ring.atom(LOG).scale(float(lead[0].number))
        return self._powers(delta, lambda k: self.ring.number(-((-1.0) ** k) / k) if k else whole)

    def _floor(self, f: Series) -> Series:
        """What f tends to, rounded down; below a whole number, which f may tend to from below, the one before."""
        if not f.tends():
            raise UnknownError
        if f.order <= 0:
            raise TooShortError
        at = f.at_zero() or self.ring.zero
        rest = Series(tuple(t for t in f.terms if t[0] != ZERO), f.order, f.own)
        floor = build("Floor", at.expr())
        before = build("Subtract", build("Minus", build("Floor", build("Minus", at.expr()))), const(1))
        return self._choose(rest.lead(), self.constant(self.ring.of(floor)), self.constant(self.ring.of(before)), f.own)

    def _atan2(self, f: Series, g: Series) -> Series:
        """Near the angle of the leading terms an arc tangent of the quotient, of the one of both that stays finite."""
        a, b = f.lead(), g.lead()
        if any(t is not None and t[0].symbols for t in (a, b)):
            raise UnknownError
        up = const(0) if a is None else a[1].expr()
        right = const(0) if b is None else b[1].expr()
        if a is None or b is None or a[0] == b[0]:
            angle = build("Atan2", up, right)
        elif a[0].nominal < b[0].nominal:
            angle = build("Mult", build("Sign", up), const(pi / 2))
        else:
            angle = build("IfElse", right, const(0), build("Mult", build("Sign", up), const(pi)))
        if a is None or b is None:
            return self.constant(self.ring.of(angle))
        steep = a[0].nominal < b[0].nominal
        quotient = (
            self.product(g, self.power(f, Fraction(-1))) if steep else self.product(f, self.power(g, Fraction(-1)))
        )
        if not quotient.tends():
            raise UnknownError
        if quotient.order <= 0:
            raise TooShortError
        at = (quotient.at_zero() or self.ring.zero).expr()
        delta = Series(tuple(t for t in quotient.terms if t[0] != ZERO), quotient.order, quotient.own)
        sign = -1.0 if steep else 1.0
        return self._powers(delta, lambda k: self.ring.of(_atan_term(at, k)).scale(sign) if k else self.ring.of(angle))

    def _if_else(self, node: Expr) -> Series:
        condition, *branches = node.args
        taken = self._decide(self.known[condition])
        if taken is not None:
            return self.known[branches[0] if taken else branches[1]]
        lead = self.known[condition].lead()
        a, b = (self.known[e] for e in branches)
        return self._choose(lead, a, b, own=self.known[condition].own and a.own and b.own)

    def _choose(self, lead: Term | None, a: Series, b: Series, own: bool) -> Series:
        """a where the leading term of a condition is at least 0, else b."""
        value = 0.0 if lead is None else lead[1].constant()
        if lead is None or value is not None:
            return a if value is not None and value >= 0 else b
        left, right = dict(a.terms), dict(b.terms)
        terms = []
        for e in {**left, **right}:
            pair = [side[e].expr() if e in side else const(0) for side in (left, right)]
            terms.append((e, self.ring.of(build("IfElse", lead[1].expr(), *pair))))
        return collect(terms, min(a.order, b.order), own)

    def _piecewise(self, op: str, args: list[Series]) -> Series:
        f, own = args[0], all(a.own for a in args)
        if op == "Clamp":
            inner = self._choose((args[2] + -f).lead(), f, args[2], own)
            return self._choose((f + -args[1]).lead(), inner, args[1], own)
        if op in ("Abs", "Sign", "Step", "ReLU"):
            lead = f.lead()
            if op in ("Abs", "ReLU") and lead is None:
                return f
            sign = build("Step" if op in ("Step", "ReLU") else "Sign", const(0) if lead is None else lead[1].expr())
            factor = self.ring.of(sign)
            return f.map(lambda c: factor * c) if op in ("Abs", "ReLU") else self.constant(factor)
        lead = (args[1] + -f).lead()  # comparisons
        if lead is None or (lead[0] != ZERO and op in ("Equal", "NotEqual")):
            holds = op in (("Equal", "LessOrEqual") if lead is None else ("NotEqual",))
            return self.constant(self.ring.number(float(holds)))
        return self.constant(self.ring.of(build(op, const(0), lead[1].expr())))


_POWERS = {"Inv": Fraction(-1), "Square": Fraction(2), "Sqrt": Fraction(1, 2), "Rsqrt": Fraction(-1, 2)}


def _atan_term(at: Expr, k: int) -> Expr:
    """The coefficient of d^k in the arc tangent of at + d: by the imaginary part of 1/(at - i)^k."""
    total = const(0)
    for j in range(1, k + 1, 2):
        c = comb(k, j) * (-1.0) ** (j // 2 + k - 1) / k
        total = build("Add", total, build("Mult", const(c), build("Pow", at, params=(k - j,))))
    return build("Divide", total, build("Pow", build("Add", const(1), build("Square", at)), params=(k,)))


def _tanh_derivative(at: Expr, k: int) -> Expr:
    """The derivative of order k of tanh, a polynomial in it: by t' = 1 - t^2."""
    coefficients = [0.0, 1.0]
    for _ in range(k):
        slope = [n * c for n, c in enumerate(coefficients)][1:]
        coefficients = [a - b for a, b in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)]
    total = const(0)
    for c in reversed(coefficients):
        total = build("Add", build("Mult", total, build("Tanh", at)), const(c))
    return total


def _derivative(node: Expr, at: Expr, k: int) -> Expr:
    """The derivative of order k of an analytic operation."""
    if node.op == "Exp":
        return build("Exp", at)
    if node.op in ("Sin", "Cos"):
        turn = (k + (node.op == "Cos")) % 4
        value = build("Sin" if turn % 2 == 0 else "Cos", at)
        return value if turn < 2 else build("Minus", value)
    if node.op == "Tanh":
        return _tanh_derivative(at, k)
    order = node.params[0] + k
    if order > HIGHEST_ORDER:
        raise UnknownError
    return const(sinc_at_zero(order)) if is_const(at, 0) else build("SinXDivX", at, params=(order,))
