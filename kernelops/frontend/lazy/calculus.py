"""Derivatives of LazyTensors as LazyTensors: symbolic, by the rules of the language, of any order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import ArgumentError, ShapeError
from ...formula.calculus import divergence, grad_matrix, laplacian, trace_operator
from ...formula.expr import Expr
from ...formula.grad import diff, grad
from ...formula.ops import VARIABLES
from .base import describe
from .vectors import VectorMethods

if TYPE_CHECKING:
    from typing import Self


class Calculus(VectorMethods):
    """Methods that differentiate by a variable: a LazyTensor made of an array, or a symbolic one."""

    def _by_variable(self, v: Any, *others: Any) -> tuple[Self, Expr, Expr, list[Expr]]:
        """A LazyTensor over common slots, this formula, the variable, and the others."""
        if not isinstance(v, type(self)) or v.expr.op not in VARIABLES:
            raise ArgumentError(
                f"a derivative is by a variable, a LazyTensor made of an array or a symbolic one, got {describe(v)}"
            )
        (f, x, *rest), slots, frame = self._join(v, *others)
        return self._new(f, slots, frame), f, x, rest

    def grad(self, v: Any, gradin: Any) -> Self:
        """The gradient by v of the dot product of x and gradin, as long as v.

        Parameters
        ----------
        v : LazyTensor
            The variable.
        gradin : LazyTensor, array or number
            As long as x, or of length 1.
        """
        made, f, x, (g,) = self._by_variable(v, gradin)
        _check_length(g, f.dim, "gradin")
        return made._new(grad(f, x, g))

    def diff(self, v: Any, diffin: Any) -> Self:
        """The derivative of x when v moves by diffin, as long as x.

        Parameters
        ----------
        v : LazyTensor
            The variable.
        diffin : LazyTensor, array or number
            As long as v, or of length 1.
        """
        made, f, x, (u,) = self._by_variable(v, diffin)
        _check_length(u, x.dim, "diffin")
        return made._new(diff(f, x, u))

    def grad_matrix(self, v: Any) -> Self:
        """The gradients by v of the components of x, one after another: D rows of the length of v.

        Parameters
        ----------
        v : LazyTensor
            The variable.
        """
        made, f, x, _ = self._by_variable(v)
        return made._new(grad_matrix(f, x))

    def trace_operator(self, v: Any) -> Self:
        """The trace of x as a linear operator on v, of length 1; x is linear in v, and as long as it.

        Parameters
        ----------
        v : LazyTensor
            The variable, which the result does not contain.
        """
        made, f, x, _ = self._by_variable(v)
        return made._new(trace_operator(f, x))

    def divergence(self, v: Any) -> Self:
        """The sum of the derivatives of component k of x by component k of v, of length 1.

        Parameters
        ----------
        v : LazyTensor
            The variable, as long as x.
        """
        made, f, x, _ = self._by_variable(v)
        return made._new(divergence(f, x))

    def laplacian(self, v: Any) -> Self:
        """The sum of the second derivatives of x by the components of v, of length 1.

        Parameters
        ----------
        v : LazyTensor
            The variable.
        """
        made, f, x, _ = self._by_variable(v)
        return made._new(laplacian(f, x))

    def factorize(self, other: Any) -> Self:
        """x itself: what stands in a formula twice is computed once.

        Parameters
        ----------
        other : LazyTensor
            Ignored.
        """
        return self._new(self.expr)

    def auto_factorize(self) -> Self:
        """x itself: what stands in a formula twice is computed once."""
        return self._new(self.expr)


def _check_length(e: Expr, wanted: int, name: str) -> None:
    if e.dim not in (1, wanted):
        lengths = "1" if wanted == 1 else f"{wanted} or 1"
        raise ShapeError(f"{name}: wanted a vector of length {lengths}, got one of length {e.dim}")
