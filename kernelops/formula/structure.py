"""Questions about an expression: linear in v? symmetric in i and j?

Symmetry compares canonical forms. A form is a sum of monomials with numbers in front; a monomial is a product of whole
powers of atoms, which are variables and the operations that are not sums or products. Products of few sums are
multiplied out, Sum and the other linear operations are taken through, so x - y and y - x meet in Square, Abs or Cos.
Two expressions with one form are equal wherever both are finite; the converse need not hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from .expr import Expr, is_const, topological
from .grad import grad, new_variable
from .ops import OPS
from .simplify import simplify

Monomial = tuple[tuple[int, int], ...]  # (atom, power), by atom
Form = dict[Monomial, float]

_MOST_TERMS = 64  # a product of sums is multiplied out up to so many terms
_LINEAR = frozenset(("Minus", "Sum", "Extract", "ExtractT", "Slice", "SliceT"))


def linear_in(expr: Expr, var: Expr) -> bool:
    """Whether expr is linear in var, as far as its operations show; False if var is absent."""
    if var not in expr.vars:
        return False
    return all(node is var or _linear_step(node, var) for node in topological(expr) if var in node.vars)


def _linear_step(node: Expr, var: Expr) -> bool:
    """Whether node is linear in var, given that those of its operands which contain var are."""
    inside = [var in a.vars for a in node.args]
    if node.op in _LINEAR or (node.op == "Pow" and node.params == (1,)):
        return True
    if node.op in ("Add", "Subtract", "Concat"):
        return all(k or is_const(a, 0) for k, a in zip(inside, node.args, strict=True))
    if node.op in ("Mult", "TensorDot"):
        return not all(inside)
    if node.op == "Divide":
        return not inside[1]
    if node.op == "IfElse":
        branches = zip(inside[1:], node.args[1:], strict=True)
        return not inside[0] and all(k or is_const(a, 0) for k, a in branches)
    return False


def symmetric(expr: Expr, var: Expr, pairs: Iterable[tuple[int, int]]) -> str:
    """Whether the operator that expr stands for, linear in var, is symmetric: "yes", "no" or "unknown".

    The transposed operator is grad(expr, var, e). It is compared with expr after i and j are exchanged and e is put in
    the place of var. Equal: symmetric. The negative: skew. Otherwise nothing is known.

    Parameters
    ----------
    expr, var : Expr
        A formula, and the variable (Vi or Vj) in which it is linear.
    pairs : iterable of (int, int)
        The positions of a Vi and a Vj whose arrays are equal.
    """
    return _symmetric(expr, var, tuple(pairs))


@lru_cache(maxsize=1024)
def _symmetric(expr: Expr, var: Expr, pairs: tuple[tuple[int, int], ...]) -> str:
    """Compare the operator with its transpose, in canonical forms; see :func:`symmetric`."""
    if expr.dim != var.dim:
        return "no"
    if var.op == "Pm" or not linear_in(expr, var):
        return "unknown"
    unknown = new_variable("Vi" if var.op == "Vj" else "Vj", expr.dim, expr)
    same = _classes(expr, var, pairs)
    forms = _Forms()
    here = forms.of(simplify(expr), lambda v: _key(v, var, same, swapped=False))
    there = forms.of(grad(expr, var, unknown), lambda v: _key(v, unknown, same, swapped=True))
    name = forms.name(here, expr.dim)
    if name == forms.name(there, expr.dim):
        return "yes"
    return "no" if here and name == forms.name(_scale(there, -1), expr.dim) else "unknown"


@lru_cache(maxsize=1024)
def is_mirrored(expr: Expr, pairs: tuple[tuple[int, int], ...]) -> bool:
    """Whether exchanging i and j leaves expr as it is, as far as it shows; pairs as for :func:`symmetric`.

    Up to rounding, hence 15 digits; and what is infinite or nan must stay so, hence no atom of only one side may have
    cancelled: x/x counts as a function of x.
    """
    same, forms = _classes(expr, None, pairs), _Forms(digits=15)
    found = []
    for swapped in (False, True):
        forms.met = set()
        form = forms.of(expr, lambda v: _key(v, None, same, swapped=swapped))  # noqa: B023
        found.append((forms.name(form, expr.dim), forms.met))
    return found[0] == found[1]


def _classes(expr: Expr, var: Expr | None, pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Position -> the least position of those that hold the same array."""
    dims = {v.position: v.dim for v in expr.vars if v is not var}
    same = {p: p for p in dims}
    for a, b in pairs:
        if dims.get(a, -1) == dims.get(b, -2):
            low, high = sorted((same[a], same[b]))
            same = {p: low if c == high else c for p, c in same.items()}
    return same


def _key(v: Expr, unknown: Expr | None, same: Mapping[int, int], swapped: bool) -> tuple[object, ...]:
    if v is unknown:
        return ("unknown",)
    if v.op == "Pm":
        return "Pm", v.position
    return "point", same[v.position], (v.op == "Vi") is not swapped


def _scale(form: Form, c: float) -> Form:
    return {m: c * k for m, k in form.items()}


def _plus(f: Form, g: Form) -> Form:
    return _add_to(dict(f), g)


def _add_to(total: Form, g: Form) -> Form:
    """total, to which g was added; what cancels is gone."""
    for monomial, k in g.items():
        found = total.get(monomial, 0.0) + k
        if found != 0:
            total[monomial] = found
        else:
            total.pop(monomial, None)
    return total


def _merge(*monomials: Monomial) -> Monomial:
    powers: dict[int, int] = {}
    for atom, power in (factor for monomial in monomials for factor in monomial):
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted((a, p) for a, p in powers.items() if p))


def _product(f: Form, g: Form) -> Form:
    total: Form = {}
    for m, c in f.items():
        for n, d in g.items():
            total = _plus(total, {_merge(m, n): c * d})
    return total


class _Forms:
    """Canonical forms; equal keys get equal numbers, so forms made by one object can be compared."""

    def __init__(self, digits: int = 12) -> None:
        self.numbers: dict[tuple[object, ...], int] = {}
        self.dims: dict[int, int] = {}
        self.digits = digits
        self.met: set[object] = set()  # atoms, and what was divided by, even if they cancel later

    def of(self, expr: Expr, key: Callable[[Expr], tuple[object, ...]]) -> Form:
        """The form of expr; key tells which variables count as the same."""
        done: dict[int, Form] = {}
        nodes = list(topological(expr))
        uses = Counter(id(a) for node in nodes for a in node.args)
        for node in nodes:
            form: Form
            uses.subtract(map(id, node.args))
            if node.op == "Const":
                form = {(): node.value} if node.value else {}
            elif not node.args:
                form = self.atom(*key(node), dim=node.dim)
            elif node.op in ("Add", "Subtract") and not uses[id(node.args[0])] and node.args[0] is not node.args[1]:
                # the first one is used nowhere else: so a long sum takes time by its length
                f, g = done.pop(id(node.args[0])), done[id(node.args[1])]
                form = _add_to(f, g if node.op == "Add" else _scale(g, -1))
            else:
                form = self.step(node, [done[id(a)] for a in node.args])
            done[id(node)] = form
        return done[id(expr)]

    def number(self, *key: object, dim: int) -> int:
        """The number that stands for a key, the same for equal keys."""
        found = self.numbers.setdefault((*key, dim), len(self.numbers))
        self.dims[found] = dim
        if key[0] != "form":
            self.met.add(found)
        return found

    def atom(self, *key: object, dim: int) -> Form:
        """The form of one atom."""
        return {((self.number(*key, dim=dim), 1),): 1.0}

    def name(self, form: Form, dim: int) -> int:
        """A number that stands for the form; numbers in front are compared to some digits."""
        return self.number("form", *sorted((m, f"{k:.{self.digits}g}") for m, k in form.items()), dim=dim)

    def step(self, node: Expr, args: list[Form]) -> Form:
        """The form of an operation from the forms of its operands."""
        f, g = args[0], args[-1]
        if node.op in ("Add", "Subtract"):
            return _plus(f, g if node.op == "Add" else _scale(g, -1))
        if node.op == "Minus":
            return _scale(f, -1)
        if node.op in ("Mult", "Divide"):
            return self.times(f, g if node.op == "Mult" else self.power(g, -1, node.args[1].dim), node)
        if node.op in ("Square", "Inv", "Pow"):
            return self.power(f, {"Square": 2, "Inv": -1}.get(node.op) or node.params[0], node.dim)
        if node.op in ("Sum", "Extract", "ExtractT", "Slice", "SliceT"):
            return self.linear(node.op, node.params, f, node.args[0].dim, node.dim)
        if node.op == "Concat":
            first, second = (a.dim for a in node.args)
            left = self.linear("ExtractT", (0, node.dim), f, first, node.dim)
            return _plus(left, self.linear("ExtractT", (first, node.dim), g, second, node.dim))
        if node.op == "IfElse":  # b + (a - b)*Step(c)
            chosen = self.atom("Step", self.name(f, node.args[0].dim), dim=node.args[0].dim)
            return _plus(g, self.times(_plus(args[1], _scale(g, -1)), chosen, node))
        if node.op == "TensorDot" and len(f) * len(g) <= _MOST_TERMS:
            return self.bilinear(node, f, g)
        return self.function(node, args)

    def function(self, node: Expr, args: list[Form]) -> Form:
        """The form of an operation that is an atom, up to the sign that its parity takes out."""
        sign, parity = 1.0, OPS[node.op].parity_of(node.params)
        if parity is not None:
            sign = -1.0 if args[0] and args[0][min(args[0])] < 0 else 1.0
            args = [_scale(args[0], sign)]
        names = [self.name(f, a.dim) for f, a in zip(args, node.args, strict=True)]
        if node.op in ("Equal", "NotEqual"):
            names.sort()
        return _scale(self.atom(node.op, *node.params, *names, dim=node.dim), sign if parity == "odd" else 1.0)

    def times(self, f: Form, g: Form, node: Expr) -> Form:
        """The product of two forms, multiplied out unless it has too many terms."""
        if len(f) * len(g) > _MOST_TERMS:
            f, g = self.close(f, node.args[0].dim), self.close(g, node.args[-1].dim)
        return _product(f, g)

    def close(self, form: Form, dim: int) -> Form:
        """A sum as one atom with 1 before its first term, and a number in front."""
        if len(form) < 2:
            return form
        first = form[min(form)]
        return _scale(self.atom("closed", self.name(_scale(form, 1 / first), dim), dim=dim), first)

    def power(self, form: Form, m: int, dim: int) -> Form:
        """The form to a whole power."""
        if m == 0:
            return {(): 1.0}
        if m < 0:
            self.met.add(("below", *self.close(form, dim)))
        if m < 0 and not form:
            return self.atom("infinity", dim=dim)
        if 0 < m <= 4 and 1 < len(form) and len(form) ** m <= _MOST_TERMS:
            total: Form = {(): 1.0}
            for _ in range(m):
                total = _product(total, form)
            return total
        try:
            return {tuple((a, p * m) for a, p in n if p * m): c**m for n, c in self.close(form, dim).items()}
        except OverflowError:
            return self.atom("Pow", m, self.name(form, dim), dim=dim)

    def split(self, monomial: Monomial) -> tuple[Monomial, Monomial]:
        """The factors of length 1, and the others."""
        scalars = tuple(x for x in monomial if self.dims[x[0]] == 1)
        return scalars, tuple(x for x in monomial if self.dims[x[0]] != 1)

    def linear(self, op: str, params: tuple[int, ...], form: Form, dim: int, result: int) -> Form:
        """Sum, or some components taken or written, term by term, with the factors of length 1 in front."""
        if dim == 1 and result == 1:
            return dict(form)
        total: Form = {}
        for monomial, c in form.items():
            scalars, vectors = self.split(monomial)
            inner: Monomial
            if op in ("Extract", "Slice"):
                inner = tuple((self.number(op, *params, atom, dim=result), power) for atom, power in vectors)
            elif op == "Sum" and not vectors:
                inner, c = (), c * dim
            elif dim == 1:
                inner = ((self.number(op, *params, (), dim, dim=result), 1),)
            else:
                inner = ((self.number(op, *params, vectors, dim, dim=result), 1),)
            total = _plus(total, {_merge(scalars, inner): c})
        return total

    def bilinear(self, node: Expr, f: Form, g: Form) -> Form:
        """The form of a contraction, term by term."""
        total: Form = {}
        for m, c in f.items():
            for n, d in g.items():
                (s, v), (t, w) = self.split(m), self.split(n)
                atom = self.number(node.op, *node.params, v, w, dim=node.dim)
                total = _plus(total, {_merge(s, t, ((atom, 1),)): c * d})
        return total
