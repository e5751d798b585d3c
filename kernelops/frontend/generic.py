"""generic_sum and its kin: a Genred whose axis is read off the alias of its output. Written once for both doors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import ArgumentError, KeywordError
from ..formula.parse import parse_alias
from . import Genred


def _genred(
    door: type[Genred], op: str, formula: str, output: str, aliases: Sequence[str], keywords: Mapping[str, Any]
) -> Genred:
    """A Genred whose axis, and whose K for ArgKMin, are read off the alias of its output, as in "a = Vi(3)"."""
    _, result = parse_alias(output, 0)
    for name in ("axis", "reduction_op") + ("opt_arg",) * (op == "ArgKMin"):
        if name in keywords:
            raise KeywordError(f"{name} is settled by the function and its output {output!r}: leave it out")
    if result.op == "Pm":
        raise ArgumentError(f"the output {output!r} must be indexed by i or by j")
    axis = 1 if result.op == "Vi" else 0
    many: dict[str, Any] = {"opt_arg": result.dim} if op == "ArgKMin" else {}
    made = door(formula, aliases, op, axis, **many, **keywords)
    spec = made.spec
    length = result.dim if op == "ArgKMin" else spec.expr.dim if spec.weight is None else spec.weight.dim
    if length != result.dim:
        raise ArgumentError(f"the output {output!r} has length {result.dim}, the result {length}")
    return made


def generic_functions(door: type[Genred]) -> tuple[Callable[..., Genred], ...]:
    """generic_sum, generic_logsumexp, generic_argmin and generic_argkmin of a door, for its Genred."""

    def generic_sum(formula: str, output: str, *aliases: str, **keywords: Any) -> Genred:
        """Genred for the sum of a formula, its axis read off the alias of the output.

        Parameters
        ----------
        formula : str
            The formula, over the names of the aliases.
        output : str
            Alias of the output: "a = Vi(D)" for a sum over j, "a = Vj(D)" for one over i. D is that of the formula.
        *aliases : str
            Aliases of the arguments, in their order.
        **keywords
            Further arguments of :class:`Genred`.

        Returns
        -------
        Genred

        Raises
        ------
        FormulaError, ArgumentError

        Examples
        --------
        >>> import numpy as np
        >>> from kernelops.numpy import generic_sum
        >>> gauss = generic_sum("Exp(-SqDist(x,y))", "a = Vi(1)", "x = Vi(2)", "y = Vj(2)")
        >>> gauss(np.zeros((3, 2)), np.zeros((4, 2))).shape
        (3, 1)
        """
        return _genred(door, "Sum", formula, output, aliases, keywords)

    def generic_logsumexp(formula: str, output: str, *aliases: str, **keywords: Any) -> Genred:
        """Genred for LogSumExp, its axis read off the alias of the output.

        Parameters
        ----------
        formula : str
            The formula, over the names of the aliases.
        output : str
            Alias of the output: "a = Vi(D)" for a reduction over j, "a = Vj(D)" for one over i. D is 1, or the
            length of formula2.
        *aliases : str
            Aliases of the arguments, in their order.
        **keywords
            Further arguments of :class:`Genred`.

        Returns
        -------
        Genred

        Raises
        ------
        FormulaError, ArgumentError

        Examples
        --------
        >>> import numpy as np
        >>> from kernelops.numpy import generic_logsumexp
        >>> soft = generic_logsumexp("-SqDist(x,y)", "a = Vi(1)", "x = Vi(2)", "y = Vj(2)")
        >>> soft(np.zeros((3, 2)), np.zeros((4, 2))).shape
        (3, 1)
        """
        return _genred(door, "LogSumExp", formula, output, aliases, keywords)

    def generic_argmin(formula: str, output: str, *aliases: str, **keywords: Any) -> Genred:
        """Genred for ArgMin, its axis read off the alias of the output.

        Parameters
        ----------
        formula : str
            The formula, over the names of the aliases.
        output : str
            Alias of the output: "a = Vi(D)" for a reduction over j, "a = Vj(D)" for one over i. D is that of the
            formula.
        *aliases : str
            Aliases of the arguments, in their order.
        **keywords
            Further arguments of :class:`Genred`.

        Returns
        -------
        Genred

        Raises
        ------
        FormulaError, ArgumentError

        Examples
        --------
        >>> import numpy as np
        >>> from kernelops.numpy import generic_argmin
        >>> nearest = generic_argmin("SqDist(x,y)", "a = Vi(1)", "x = Vi(2)", "y = Vj(2)")
        >>> nearest(np.zeros((3, 2)), np.zeros((4, 2))).tolist()
        [[0], [0], [0]]
        """
        return _genred(door, "ArgMin", formula, output, aliases, keywords)

    def generic_argkmin(formula: str, output: str, *aliases: str, **keywords: Any) -> Genred:
        """Genred for ArgKMin, its axis and K read off the alias of the output.

        Parameters
        ----------
        formula : str
            The formula, over the names of the aliases.
        output : str
            Alias of the output: "a = Vi(D)" for a reduction over j, "a = Vj(D)" for one over i. D is K, how many
            indices are wanted.
        *aliases : str
            Aliases of the arguments, in their order.
        **keywords
            Further arguments of :class:`Genred`.

        Returns
        -------
        Genred

        Raises
        ------
        FormulaError, ArgumentError

        Examples
        --------
        >>> import numpy as np
        >>> from kernelops.numpy import generic_argkmin
        >>> nearest = generic_argkmin("SqDist(x,y)", "a = Vi(2)", "x = Vi(2)", "y = Vj(2)")
        >>> nearest(np.zeros((3, 2)), np.zeros((4, 2))).tolist()
        [[0, 1], [0, 1], [0, 1]]
        """
        return _genred(door, "ArgKMin", formula, output, aliases, keywords)

    functions = (generic_sum, generic_logsumexp, generic_argmin, generic_argkmin)
    for function in functions:  # so that they are found, and pickle, where the door shows them
        function.__module__, function.__qualname__ = door.__module__, function.__name__
    return functions
