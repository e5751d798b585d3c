"""generic_sum and its kin: a Genred whose axis is read off the alias of its output. Written once for both doors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import ArgumentError, KeywordError
from ..formula.parse import parse_alias
from . import Genred

DOCSTRING = """Genred for {what}, its axis read off the alias of the output.

    Parameters
    ----------
    formula : str
        The formula, over the names of the aliases.
    output : str
        Alias of the output: "a = Vi(D)" for a reduction over j, "a = Vj(D)" for one over i.
        D is {length}.
    *aliases : str
        Aliases of the arguments, in their order.
    **keywords
        Further arguments of :class:`Genred`.

    Returns
    -------
    Genred

    Raises
    ------
    FormulaError, ArgumentError, KeywordError
        If the formula or an alias cannot be read, the output does not fit the formula, or a keyword is unknown or
        settled by the function.

    See Also
    --------
    kernelops.numpy.Genred : with the axis and the reduction as arguments.

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops.numpy import {name}
    {example}
    """


class Generic(NamedTuple):
    """A reduction with a function of its own, and what the docstring of that function says."""

    op: str
    what: str
    length: str
    example: str


GENERIC = {
    "generic_sum": Generic(
        "Sum",
        "the sum of a formula",
        "that of the formula",
        """>>> gauss = generic_sum("Exp(-SqDist(x,y))", "a = Vi(1)", "x = Vi(2)", "y = Vj(2)")
    >>> gauss(np.zeros((3, 2)), np.zeros((4, 2))).shape
    (3, 1)""",
    ),
    "generic_logsumexp": Generic(
        "LogSumExp",
        "the logarithm of a sum of exponentials",
        "1, or the length of formula2",
        """>>> soft = generic_logsumexp("-SqDist(x,y)", "a = Vi(1)", "x = Vi(2)", "y = Vj(2)")
    >>> soft(np.zeros((3, 2)), np.zeros((4, 2))).shape
    (3, 1)""",
    ),
    "generic_argmin": Generic(
        "ArgMin",
        "the index of the least value",
        "that of the formula",
        """>>> nearest = generic_argmin("SqDist(x,y)", "a = Vi(1)", "x = Vi(2)", "y = Vj(2)")
    >>> nearest(np.zeros((3, 2)), np.zeros((4, 2))).tolist()
    [[0], [0], [0]]""",
    ),
    "generic_argkmin": Generic(
        "ArgKMin",
        "the indices of the K least values",
        "K, how many indices are wanted",
        """>>> nearest = generic_argkmin("SqDist(x,y)", "a = Vi(2)", "x = Vi(2)", "y = Vj(2)")
    >>> nearest(np.zeros((3, 2)), np.zeros((4, 2))).tolist()
    [[0, 1], [0, 1], [0, 1]]""",
    ),
}


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
    return tuple(_generic_function(door, name, generic) for name, generic in GENERIC.items())


def _generic_function(door: type[Genred], name: str, generic: Generic) -> Callable[..., Genred]:
    """The function of one reduction; it is found, and pickles, where the door shows it."""

    def function(formula: str, output: str, *aliases: str, **keywords: Any) -> Genred:
        return _genred(door, generic.op, formula, output, aliases, keywords)

    function.__name__ = function.__qualname__ = name
    function.__module__ = door.__module__
    function.__doc__ = DOCSTRING.format(name=name, **generic._asdict())
    return function
