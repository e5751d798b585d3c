"""Proofs that kernels are positive semidefinite, by rules for the operations of the language; nothing is measured.

A kernel k(x, y) is psd if every matrix k(x_i, x_j) is positive semidefinite. psi is a negative type, here, if
sum c_i c_j psi(x_i, x_j) <= 0 for all c of sum 0, and psi(x, x) >= 0; then psi >= 0 everywhere. The rules are those of
Schoenberg and Schur (C. Berg, J. Christensen, P. Ressel, Harmonic Analysis on Semigroups, 1984, chapter 3):

- f(x) f(y) is psd, and so are sums, products and nonnegative multiples of psd kernels, their whole powers and their
  exponentials; (f(x) - f(y))^2 is of negative type, and so are sums, nonnegative multiples and powers from 0 to 1;
- exp(k) is psd if k is conditionally so: psd, minus a negative type, any number, a sum of these;
- 1/psi^s for s > 0 is psd if psi is of negative type and above 0 on the diagonal: an integral of exp(-t psi);
- cos, and sin(u)/u, of a difference f(x) - f(y) are psd: Fourier transforms of measures. 1 - cos is of negative type;
- with r = sqrt(psi), the functions of Matern exp(-r), (1 + r) exp(-r), (1 + r + r^2/3) exp(-r) and
  (1 + r + 2 r^2/5 + r^3/15) exp(-r) are mixtures of exp(-t psi), and psd.

Where no rule applies nothing is said. Numbers, which depend on parameters alone, are computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..formula.expr import Expr, apply, substitute, topological, variable
from . import matern

MOST_NODES = 300  # nothing is proved of formulas of more nodes

ARITHMETIC: dict[str, Callable[..., np.ndarray]] = {  # (node, values of the operands) -> value
    "Minus": lambda node, f: -f,
    "Inv": lambda node, f: 1 / f,
    "Exp": lambda node, f: np.exp(f),
    "Log": lambda node, f: np.log(f),
    "Sqrt": lambda node, f: np.sqrt(f),
    "Rsqrt": lambda node, f: np.where(f == 0, 0.0, 1 / np.sqrt(f)),
    "Square": lambda node, f: f * f,
    "Abs": lambda node, f: abs(f),
    "Pow": lambda node, f: f ** float(node.params[0]),
    "Add": lambda node, f, g: f + g,
    "Subtract": lambda node, f, g: f - g,
    "Mult": lambda node, f, g: f * g,
    "Divide": lambda node, f, g: f / g,
    "Powf": lambda node, f, g: np.power(f, g),
    "Sum": lambda node, f: f.sum(-1, keepdims=True),
    "Floor": lambda node, f: np.floor(f),
    "Tanh": lambda node, f: np.tanh(f),
    "Atan2": lambda node, f, g: np.arctan2(f, g),
    "Slice": lambda node, f: f[..., node.params[0] :: node.params[2]][..., : node.dim],
    "Extract": lambda node, f: f[..., node.params[0] : sum(node.params)],
}


@dataclass
class Facts:
    """Facts known of a node, of each of its components alike.

    Attributes
    ----------
    value : ndarray or None
        (..., length): its value, if that is one for all pairs of points.
    psd, conditional, negative, away : bool
        Positive semidefinite; conditionally so; of negative type; and that above 0 on the diagonal.
    difference : int
        2: f(x) - f(y). 1: that up to the sign, which even functions do not see.
    polynomial : tuple or None
        It as a polynomial of the root r of a negative type.
    """

    value: np.ndarray | None = None
    psd: bool = False
    conditional: bool = False
    negative: bool = False
    away: bool = False
    difference: int = 0
    polynomial: matern.Polynomial | None = None

    @classmethod
    def number(cls, value: np.ndarray) -> Facts:
        """Facts of a number, or of components that are numbers."""
        if not np.isfinite(value).all():
            return cls()
        some, sure = bool((value >= 0).all()), bool((value > 0).all())
        return cls(value, some, True, some, sure, 0, (None, {0: value}) if value.shape[-1] == 1 else None)


def semidefinite(kernel: Expr, pairs: Iterable[tuple[int, int]], parameters: Mapping[int, np.ndarray]) -> bool:
    """Whether a kernel of length 1 is proved to be positive semidefinite for all points.

    Parameters
    ----------
    kernel : Expr
    pairs : iterable of (int, int)
        The positions of a Vi and a Vj whose arrays are equal.
    parameters : mapping
        Position -> the values of a Pm, (..., its length), float64.
    """
    return _prove(kernel, tuple(pairs), tuple((p, a.shape, a.tobytes()) for p, a in sorted(parameters.items())))


@lru_cache(maxsize=256)  # it takes as long as a small solve, and is the same at every step of many loops
def _prove(kernel: Expr, pairs: tuple[tuple[int, int], ...], parameters: tuple[tuple[int, tuple, bytes], ...]) -> bool:
    values = {p: np.frombuffer(data).reshape(shape) for p, shape, data in parameters}
    return _Proof(kernel, pairs, values).root.psd


class _Proof:
    """Facts of all nodes of a kernel, from the leaves up; root has those of the kernel itself."""

    def __init__(self, kernel: Expr, pairs: tuple[tuple[int, int], ...], parameters: Mapping[int, np.ndarray]) -> None:
        # one variable of i and one of j for all that hold the same array: to exchange i and j is to exchange these
        first = {q: p for p, q in sorted(pairs, reverse=True)}
        place = {p: first[q] for p, q in pairs} | first
        names = {v: variable(v.op, 2 * place.get(v.position, v.position) + (v.op == "Vj"), v.dim) for v in kernel.vars}
        self.parameters = {2 * p: a for p, a in parameters.items()}
        kernel = substitute(kernel, names)
        of = {v.position: v for v in kernel.vars}
        both = [(of[2 * p], of[2 * p + 1]) for p in set(first.values()) if 2 * p in of and 2 * p + 1 in of]
        self.exchange = {a: b for x, y in both for a, b in ((x, y), (y, x))}
        self.known: dict[Expr, Facts] = {}
        nodes = list(topological(kernel))
        self.root = Facts()
        if len(nodes) <= MOST_NODES:
            with np.errstate(all="ignore"):
                for node in nodes:
                    self.root = self.known[node] = self.facts(node)

    def is_mirrored(self, f: Expr, g: Expr) -> bool:
        """Whether f is of one index only, and g the same of the other one."""
        points = [v for v in f.vars if v.op != "Pm"]
        one_sided = len({v.op for v in points}) == 1 and all(v in self.exchange for v in points)
        return one_sided and substitute(f, self.exchange) is g

    def facts(self, node: Expr) -> Facts:
        """Facts of a node whose operands are known."""
        if node.op == "Const":
            return Facts.number(np.full(node.dim, float(node.value)))
        if node.op == "Pm":
            return Facts.number(self.parameters[node.position])
        if not node.args:
            return Facts()
        args = [self.known[a] for a in node.args]
        values = [a.value for a in args]
        if node.op in ARITHMETIC and all(v is not None for v in values):
            return Facts.number(ARITHMETIC[node.op](node, *values))
        rule = _RULES.get(node.op)
        found = Facts() if rule is None else rule(self, node, *args)
        found.conditional |= found.psd
        if found.polynomial is None and found.negative and node.dim == 1:
            found.polynomial = (node, {2: np.ones(1)})
        return found


# ---- rules: (proof, node, facts of the operands) -> what is known of the node ----


def _add(proof: _Proof, node: Expr, f: Facts, g: Facts) -> Facts:
    return Facts(
        psd=f.psd and g.psd,
        conditional=(f.conditional and g.conditional) or proof.is_mirrored(*node.args),
        negative=f.negative and g.negative,
        away=f.negative and g.negative and (f.away or g.away),
        difference=2 * (f.difference == g.difference == 2),
        polynomial=matern.add(f.polynomial, g.polynomial),
    )


def _subtract(proof: _Proof, node: Expr, f: Facts, g: Facts) -> Facts:
    return Facts(
        conditional=f.conditional and (g.negative or g.value is not None),
        difference=2 * (proof.is_mirrored(*node.args) or f.difference == g.difference == 2),
        polynomial=matern.add(f.polynomial, g.polynomial, -1.0),
    )


def _minus(proof: _Proof, node: Expr, f: Facts) -> Facts:
    return Facts(
        conditional=f.negative,
        difference=f.difference,
        polynomial=matern.multiply((None, {0: -np.ones(1)}), f.polynomial),
    )


def _product(proof: _Proof, node: Expr, *_: Facts) -> Facts:
    """Facts of a Mult or Divide, from all factors above and below, however they are nested."""
    number, rest, stack = np.ones(1), list[tuple[Expr, Facts]](), [node]
    while stack:
        e = stack.pop()
        found = proof.known.get(e)
        if found is not None and found.value is not None:
            number = number * found.value
        elif e.op == "Mult":
            stack += e.args
        elif e.op == "Minus":
            number = -number
            stack.append(e.args[0])
        elif e.op == "Divide":
            below = proof.known[e.args[1]]
            stack.append(e.args[0])
            if below.value is not None:
                number = number / below.value
            else:
                inverse = apply("Inv", e.args[1])
                rest.append((inverse, _inverse(proof, inverse, below)))
        else:
            rest.append((e, Facts() if found is None else found))
    if not np.isfinite(number).all():
        return Facts()
    some = bool((number >= 0).all())
    whole = Facts.number(number)
    if len(rest) == 1:
        f = rest[0][1]
        return Facts(
            psd=some and f.psd,
            conditional=(some and f.conditional) or (f.negative and bool((number <= 0).all())),
            negative=some and f.negative,
            away=f.away and bool((number > 0).all()),
            difference=f.difference,
            polynomial=matern.multiply(whole.polynomial, f.polynomial),
        )
    polynomial = whole.polynomial
    for factor in rest:
        polynomial = matern.multiply(polynomial, factor[1].polynomial)
    return Facts(psd=(some and _pairs_up(proof, rest)) or _is_matern(rest, whole, proof), polynomial=polynomial)


def _pairs_up(proof: _Proof, factors: list[tuple[Expr, Facts]]) -> bool:
    """Whether each factor is psd, or has its mirror image beside it."""
    left = [e for e, f in factors if not f.psd]
    while left:
        e = left.pop()
        other = next((k for k, g in enumerate(left) if proof.is_mirrored(e, g)), None)
        if other is None:
            return False
        del left[other]
    return True


def _is_matern(factors: list[tuple[Expr, Facts]], number: Facts, proof: _Proof) -> bool:
    """Whether number times the factors is psd as functions of Matern, times other psd factors, are."""
    exponents = [proof.known[e.args[0]].polynomial if e.op == "Exp" else None for e, _ in factors]
    decays = [k for k, p in enumerate(exponents) if p is not None and set(p[1]) == {1}]
    if len(decays) != 1:
        return False
    exponent = exponents[decays[0]]
    others = [f for k, (_, f) in enumerate(factors) if k != decays[0]]
    polynomial = number.polynomial
    for f in others:
        polynomial = polynomial if f.psd and f.polynomial is None else matern.multiply(polynomial, f.polynomial)
    return polynomial is not None and exponent is not None and matern.is_sum(polynomial, exponent)


def _inverse(proof: _Proof, node: Expr, f: Facts) -> Facts:
    return Facts(psd=f.away)


def _pow(proof: _Proof, node: Expr, f: Facts) -> Facts:
    m = node.params[0]
    polynomial = matern.multiply(f.polynomial, matern.multiply(f.polynomial, f.polynomial)) if m == 3 else None
    return Facts(psd=f.psd if m > 0 else f.away if m < 0 else True, polynomial=polynomial)


def _powf(proof: _Proof, node: Expr, f: Facts, g: Facts) -> Facts:
    if g.value is None:
        return Facts()
    root = bool(((g.value > 0) & (g.value <= 1)).all())
    whole = bool(((g.value > 0) & (g.value == np.round(g.value))).all())
    return Facts(
        psd=(f.away and bool((g.value <= 0).all())) or (f.psd and whole),
        negative=f.negative and root,
        away=f.away and root,
    )


def _square(proof: _Proof, node: Expr, f: Facts) -> Facts:
    (inner,) = node.args
    wave = inner.op == "Sin" and proof.known[inner.args[0]].difference > 0
    atom = f.difference > 0 or wave
    return Facts(psd=f.psd, negative=atom, polynomial=None if atom else matern.multiply(f.polynomial, f.polynomial))


def _sqrt(proof: _Proof, node: Expr, f: Facts) -> Facts:
    (inner,) = node.args
    polynomial = None
    if f.polynomial is not None and set(f.polynomial[1]) == {2} and (f.polynomial[1][2] >= 0).all():
        polynomial = f.polynomial[0], {1: np.sqrt(f.polynomial[1][2])}
    flat = inner.op == "Square" and proof.known[inner.args[0]].difference > 0
    return Facts(negative=f.negative, away=f.away, difference=int(flat), polynomial=polynomial)


def _abs(proof: _Proof, node: Expr, f: Facts) -> Facts:
    if not f.difference:
        return Facts()
    polynomial = (apply("Square", node.args[0]), {1: np.ones(1)}) if node.dim == 1 else None
    return Facts(negative=True, difference=1, polynomial=polynomial)


def _sum(proof: _Proof, node: Expr, f: Facts) -> Facts:
    (inner,) = node.args
    found = Facts(f.value, f.psd, f.conditional, f.negative, f.away, 2 * (f.difference == 2))
    found.negative |= inner.op == "Mult" and any(_quadratic(proof, *pair) for pair in (inner.args, inner.args[::-1]))
    return found


def _quadratic(proof: _Proof, f: Expr, image: Expr) -> bool:
    """Whether f . image is f . S f for a difference f and a positive semidefinite matrix S of numbers."""
    d = f.dim
    if image.op != "TensorDot" or image.args[1] is not f or image.params != ((d, d), (d,), (1,), (0,), (0,)):
        return False
    S = proof.known[image.args[0]].value
    if S is None or proof.known[f].difference != 2:
        return False
    S = S.reshape(-1, d, d)
    values = np.linalg.eigvalsh(S + np.swapaxes(S, 1, 2))
    return bool((values[:, 0] > 0).all())


def _tensordot(proof: _Proof, node: Expr, f: Facts, g: Facts) -> Facts:
    linear = (f.difference == 2 and g.value is not None) or (g.difference == 2 and f.value is not None)
    return Facts(difference=2 * linear)


def _part(proof: _Proof, node: Expr, f: Facts) -> Facts:
    return Facts(None, f.psd, f.conditional, f.negative, f.away, f.difference)


def _pad(proof: _Proof, node: Expr, f: Facts) -> Facts:
    return Facts(None, f.psd, f.conditional, f.negative, False, f.difference)


def _concat(proof: _Proof, node: Expr, f: Facts, g: Facts) -> Facts:
    psd, conditional, negative = f.psd and g.psd, f.conditional and g.conditional, f.negative and g.negative
    return Facts(None, psd, conditional, negative, f.away and g.away, min(f.difference, g.difference))


_RULES: dict[str, Callable[..., Facts]] = {
    "Add": _add,
    "Subtract": _subtract,
    "Minus": _minus,
    "Mult": _product,
    "Divide": _product,
    "Exp": lambda proof, node, f: Facts(psd=f.conditional),
    "Inv": _inverse,
    "Rsqrt": _inverse,
    "Pow": _pow,
    "Powf": _powf,
    "Square": _square,
    "Sqrt": _sqrt,
    "Abs": _abs,
    "Cos": lambda proof, node, f: Facts(psd=f.difference > 0),
    "SinXDivX": lambda proof, node, f: Facts(psd=f.difference > 0 and node.params[0] == 0),
    "Sum": _sum,
    "TensorDot": _tensordot,
    "Extract": _part,
    "ExtractT": _pad,
    "Slice": _part,
    "SliceT": _pad,
    "Concat": _concat,
}
