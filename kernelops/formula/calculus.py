"""The symbolic calculus of the language: matrices of derivatives and their traces, as expressions.

A divergence, a Laplacian and a trace are those of a linear map that is written as an expression in a variable w. The
structure of the expression shows a short sum for most; for others it is taken component by component.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..errors import FormulaError
from .definition import joined, stretch, tree
from .expr import Expr, apply, const, substitute, topological
from .grad import diff, grad, new_variable, times
from .ops import VARIABLES
from .simplify import simplify
from .structure import linear_in

MOST_DERIVED = 10_000  # a derivative may have so many operations; a derivative of one takes some seconds


def grad_matrix(f: Expr, x: Expr) -> Expr:
    """The transposed Jacobian by rows: the gradients of the components of f by x, one after another.

    Parameters
    ----------
    f : Expr
        The expression to be differentiated.
    x : Expr
        A variable.

    Returns
    -------
    Expr
        Of length f.dim * x.dim; component k * x.dim + l is the derivative of f[k] by x[l].

    Raises
    ------
    FormulaError
        If x is no variable.
    """
    _check_variable("GradMatrix", x)
    if f.dim == 1:
        return grad(f, x, const(1))
    w = new_variable("Pm", f.dim, f, x)
    gradient = grad(f, x, w)
    return joined([simplify(substitute(gradient, {w: unit(f.dim, k)})) for k in range(f.dim)])


def divergence(f: Expr, x: Expr) -> Expr:
    """The sum of the derivatives of f[k] by x[k], of length 1.

    Parameters
    ----------
    f : Expr
        As long as x.
    x : Expr
        A variable.

    Raises
    ------
    FormulaError
        If x is no variable, or the lengths differ.
    """
    _check_variable("Divergence", x)
    if f.dim != x.dim:
        raise FormulaError(f"Divergence(F, v) wants an F as long as v, {x.dim}, got length {f.dim}")
    w = new_variable("Pm", f.dim, f, x)
    return simplify(_trace(grad(f, x, w), w, const(1)))  # a matrix and the transposed one have the same trace


def laplacian(f: Expr, x: Expr) -> Expr:
    """The sum of the second derivatives of f by each component of x, of length 1.

    Parameters
    ----------
    f : Expr
        Of length 1.
    x : Expr
        A variable.

    Raises
    ------
    FormulaError
        If x is no variable, or f is longer.
    """
    _check_variable("Laplacian", x)
    if f.dim != 1:
        raise FormulaError(f"Laplacian(F, v) wants an F of length 1, got {f.dim}")
    return divergence(grad(f, x, const(1)), x)


def trace_operator(f: Expr, x: Expr) -> Expr:
    """The trace of the linear map from x to f, of length 1; x is in it no longer.

    Parameters
    ----------
    f : Expr
        Linear in x, and as long as x; or of length 1, which is stretched.
    x : Expr
        A variable.

    Raises
    ------
    FormulaError
        If x is no variable, f is not seen to be linear in it, or the lengths do not fit.
    """
    _check_variable("TraceOperator", x)
    if f.dim not in (1, x.dim):
        wanted = "1" if x.dim == 1 else f"1 or {x.dim}, as v has,"
        raise FormulaError(f"TraceOperator(F, v) wants an F of length {wanted} got {f.dim}")
    f = simplify(f)
    if not linear_in(f, x):
        raise FormulaError("TraceOperator(F, v) wants an F that is linear in v")
    return simplify(_trace(f, x, const(1)))


def unit(d: int, k: int) -> Expr:
    """The k-th unit vector of length d."""
    return const(1) if d == 1 else apply("ExtractT", const(1), params=(k, d))


def _check_variable(name: str, x: Expr) -> None:
    if x.op not in VARIABLES:
        raise FormulaError(f"{name}(F, v) wants a variable for v, got {x}")


def _trace(f: Expr, w: Expr, c: Expr) -> Expr:
    """The sum over k of c[k] f[k] where w is the k-th unit vector; f is linear in w, and as long as it or of length 1.

    A weight c of length 1 stands for one that is the same for all k.
    """
    found: list[Expr] = []
    todo = [(f, c)]
    while todo:
        f, c = todo.pop()
        if w not in f.vars:
            continue
        if f.op == "Minus":
            todo.append((f.args[0], times(c, const(-1))))
        elif f.op in ("Add", "Subtract"):
            todo.append((f.args[0], c))
            todo.append((f.args[1], c if f.op == "Add" else times(c, const(-1))))
        elif f.op == "Mult":
            a, b = f.args if w in f.args[0].vars else reversed(f.args)
            todo.append((a, times(c, b)))
        elif f.op == "Divide":
            todo.append((f.args[0], apply("Divide", c, f.args[1])))
        elif f.dim == 1:  # <u, w> for some u, and the sum over k of c[k] u[k] is what it gives for c in the place of w
            found.append(substitute(f, {w: stretch(c, w.dim)}))
        elif f is w:
            found.append(times(c, const(w.dim)) if c.dim == 1 else apply("Sum", c))
        elif f.op == "IfElse" and f.args[0].dim == 1:
            condition, *branches = f.args
            found.append(apply("IfElse", condition, *(_trace(b, w, c) for b in branches)))
        else:
            found.append(_by_component(f, w, c))
    return tree("Add", found) if found else const(0)


def _by_component(f: Expr, w: Expr, c: Expr) -> Expr:
    if sum(1 for n in topological(f) if w in n.vars) * w.dim > MOST_DERIVED:
        raise FormulaError(f"the trace has more than {MOST_DERIVED} operations")
    diagonal = [apply("Extract", substitute(f, {w: unit(w.dim, k)}), params=(k, 1)) for k in range(w.dim)]
    if c.dim == 1:
        return times(tree("Add", diagonal), c)
    return tree("Add", [times(e, apply("Extract", c, params=(k, 1))) for k, e in enumerate(diagonal)])


@dataclass(frozen=True, slots=True)
class Calculus:
    """One row of the table.

    Attributes
    ----------
    signature : str
        How it is written; the second argument is a variable.
    build : callable
        (f, variable) -> Expr, or (f, variable, direction) -> Expr; raises FormulaError.
    text : str
        One line for people, used by the reference pages.
    along : {"f", "v"} or None
        The argument as long as which the direction is, which may have length 1 besides; None if there is none.
    """

    signature: str
    build: Callable[..., Expr]
    text: str
    along: Literal["f", "v"] | None = None


CALCULUS: dict[str, Calculus] = {
    "Grad": Calculus(
        "Grad(F, v, e)", grad, "the gradient of the dot product of F and e with respect to the variable v", "f"
    ),
    "Diff": Calculus("Diff(F, v, u)", diff, "the derivative of F along u, a direction of the variable v", "v"),
    "GradMatrix": Calculus(
        "GradMatrix(F, v)", grad_matrix, "the gradients of the components of F by the variable v, row by row"
    ),
    "Divergence": Calculus(
        "Divergence(F, v)", divergence, "the sum over k of the derivative of component k of F by component k of v"
    ),
    "Laplacian": Calculus(
        "Laplacian(F, v)", laplacian, "the sum of the second derivatives of F, of length 1, by the components of v"
    ),
    "TraceOperator": Calculus(
        "TraceOperator(F, v)",
        trace_operator,
        "the trace of the matrix A with F = A v, for an F that is linear in the variable v; v is in it no longer",
    ),
}
