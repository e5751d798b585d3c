"""LinearForm: a formula that is linear in one of its variables, seen as the matrix that multiplies this variable.

What solves and operators ask of a formula does not depend on arrays, so it is found once for each formula and unknown:
expressions are interned, and `linear_form` remembers its answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from ..errors import ArgumentError
from .cached import cached_property
from .expr import Expr, apply, const, is_const, substitute, topological, variable
from .grad import grad
from .parse import Formula
from .simplify import build, simplify
from .structure import linear_in, symmetric
from .tokens import nearest


@dataclass(frozen=True, eq=False)
class LinearForm:
    """A formula F(x_i, y_j, v) = k(x_i, y_j) v that is linear in its unknown v.

    Attributes
    ----------
    expr : Expr
        The formula.
    unknown : Expr
        The variable v, a Vi or a Vj.
    kernel : Expr or None
        The k of length 1 with F = k v; None if F is a matrix-valued kernel, or does not show a scalar one.
    axis : int
        The index that a product sums over, which is the unknown's: 1 for j, 0 for i.
    position : int
        The position of the unknown among the arguments.
    outer : str
        The kind of variable that has the index of the result, "Vi" or "Vj".
    """

    expr: Expr
    unknown: Expr
    kernel: Expr | None

    axis: int = field(init=False)
    position: int = field(init=False)
    outer: str = field(init=False)

    def __post_init__(self) -> None:
        derived = {"axis": axis_of(self.unknown), "position": self.unknown.position, "outer": opposite(self.unknown)}
        for name, value in derived.items():  # asked for in every product, hence no properties
            object.__setattr__(self, name, value)

    def columns(self, k: int, kind: str | None = None) -> Expr:
        """The scalar kernel times k columns at the unknown's place, which are of its kind or of another one."""
        return _kernel_times(self, k, self.unknown.op if kind is None else kind)

    def widened(self, k: int) -> LinearForm:
        """The same scalar kernel for an unknown of k columns."""
        if self.unknown.dim == k:
            return self
        return linear_form(self.columns(k), variable(self.unknown.op, self.position, k))

    @cached_property
    def transposed(self) -> Expr:
        """<e, F(v)> differentiated with respect to v: the transposed kernel applied to e, which takes v's place."""
        last = 1 + max(x.position for x in self.expr.vars)
        e, place = (variable(self.outer, position, self.expr.dim) for position in (last, self.position))
        return substitute(grad(self.expr, self.unknown, e), {e: place})

    def symmetric(self, pairs: Iterable[tuple[int, int]]) -> str:
        """Whether the matrix is symmetric, "yes", "no" or "unknown", if these pairs of positions hold equal arrays."""
        return symmetric(self.expr, self.unknown, pairs)


def axis_of(unknown: Expr) -> int:
    """The axis of the sum that multiplies by this unknown: 1 for a Vj, 0 for a Vi."""
    return 1 if unknown.op == "Vj" else 0


def opposite(v: Expr) -> str:
    """The kind of variable that has the other index: "Vi" for a Vj, "Vj" for a Vi."""
    return "Vi" if v.op == "Vj" else "Vj"


@lru_cache(maxsize=1024)  # asked in every solve, often for formulas that were read anew
def linear_form(expr: Expr, unknown: Expr) -> LinearForm:
    """The form of a formula that is known to be linear in the unknown."""
    return LinearForm(expr, unknown, scalar_kernel(expr, unknown))


@lru_cache(maxsize=4096)
def _kernel_times(form: LinearForm, k: int, kind: str) -> Expr:
    assert form.kernel is not None
    return apply("Mult", form.kernel, variable(kind, form.position, k))


def find_unknown(formula: Formula, name: str, argument: str = "var") -> LinearForm:
    """The form of a formula in the variable of this name.

    Raises
    ------
    ArgumentError
        If there is no such variable, it is a parameter, or the formula is not linear in it; `argument` is the name of
        the argument that said so.
    """
    known = list(formula.names.values())
    if name not in known:
        raise ArgumentError(f"{argument}: wanted one of {', '.join(known)}, got {name!r}{nearest(str(name), known)}")
    v = formula.find(name)
    if v.op == "Pm":
        raise ArgumentError(f"{argument} = {name!r} is a parameter; the unknown is a Vi or a Vj variable")
    if not linear_in(formula.expr, v):
        raise ArgumentError(f"{argument}: the formula is not linear in {name!r}: {formula.text}")
    return linear_form(formula.expr, v)


def scalar_kernel(expr: Expr, var: Expr) -> Expr | None:
    """The k of length 1, free of var, with expr = k*var; None if expr does not show one."""
    if expr.dim != var.dim or not linear_in(expr, var):
        return None
    if var.dim == 1:
        return grad(expr, var, const(1))
    kernels: dict[int, Expr | None] = {}
    expr = simplify(expr)
    for node in topological(expr):
        if var in node.vars:
            parts = [kernels[id(a)] if var in a.vars else None for a in node.args]
            kernels[id(node)] = const(1) if node is var else _kernel_step(node, var, parts)
    found = kernels.get(id(expr), const(0))
    return None if found is None else simplify(found)


def _kernel_step(node: Expr, var: Expr, parts: list[Expr | None]) -> Expr | None:
    """The kernel of node from those of its operands, which are None for an operand free of var."""
    parts = [const(0) if is_const(a, 0) else k for a, k in zip(node.args, parts, strict=True)]
    known = [k for k in parts if k is not None]
    if node.op in ("Minus", "Add", "Subtract"):
        return build(node.op, *known) if len(known) == len(parts) else None
    if node.op == "IfElse" and node.args[0].dim == 1 and len(known) == 2:
        return build("IfElse", node.args[0], *known)
    if node.op in ("Mult", "Divide") and len(known) == 1:
        others = [a for a in node.args if var not in a.vars]
        return build(node.op, known[0], others[0]) if others[0].dim == 1 else None
    return None
