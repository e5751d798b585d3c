"""Var, Vi, Vj and Pm: LazyTensors of arrays, and of symbolic variables, by short names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .lazy_tensor import LazyTensor

Function = Callable[..., Any]

_ROLES = {
    "Vi": (0, "indexed by i: (..., M, D)"),
    "Vj": (1, "indexed by j: (..., N, D)"),
    "Pm": (2, "that is a parameter: (D,), a number, or a list of numbers"),
}


def variable_functions(cls: type[LazyTensor]) -> tuple[Function, Function, Function, Function]:
    """Var, Vi, Vj and Pm for the LazyTensors of one array library."""

    def Var(x_or_ind: Any, dim: int | None = None, cat: int | None = None) -> Any:
        """A variable: of an array with its category, or symbolic.

        Parameters
        ----------
        x_or_ind : array or int
            The array; or the position of a symbolic variable among the arguments of the call.
        dim : int, optional
            The length of a symbolic variable.
        cat : {0, 1, 2}
            0 for i, 1 for j, 2 for a parameter.

        Returns
        -------
        LazyTensor
        """
        return cls(x_or_ind, axis=cat) if dim is None else cls((x_or_ind, dim, cat))

    def function(name: str) -> Function:
        category, what = _ROLES[name]

        def made(x_or_ind: Any, dim: int | None = None) -> Any:
            return Var(x_or_ind, dim, category)

        made.__name__ = made.__qualname__ = name
        made.__doc__ = f"""A variable {what}.

        Parameters
        ----------
        x_or_ind : array or int
            The array; or the position of a symbolic variable among the arguments of the call.
        dim : int, optional
            The length of a symbolic variable.

        Returns
        -------
        LazyTensor
        """
        return made

    return Var, function("Vi"), function("Vj"), function("Pm")
