"""The methods that are one operation of the language each, as a table; vectors.py has those of several operations.

A row becomes a plain function on the class, so that ``LazyTensor.exp(K)`` is ``K.exp()``. The reference pages are made
from the same table, and a test compares it with the operations of the language.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Any, TypeVar

import numpy as np

from ...arrays.arguments import unwrap_whole
from ...errors import ArgumentError, KeywordError
from .base import BaseLazyTensor
from .complex_products import PRODUCTS

REQUIRED = Parameter.empty


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table.

    Attributes
    ----------
    op : str
        The operation of the language.
    text : str
        The first line of the docstring.
    operands : tuple of (str, default)
        What is given besides the LazyTensor itself: LazyTensors, arrays or numbers.
    params : tuple of (str, default)
        The whole numbers that follow.
    own_place : int
        Which operand of the operation the LazyTensor itself is.
    """

    op: str
    text: str
    operands: tuple[tuple[str, Any], ...] = ()
    params: tuple[tuple[str, Any], ...] = ()
    own_place: int = 0


def _one(name: str, default: Any = REQUIRED) -> tuple[tuple[str, Any], ...]:
    return ((name, default),)


METHODS: dict[str, Method] = {
    # component by component
    "exp": Method("Exp", "exp(x)."),
    "log": Method("Log", "The natural logarithm of x."),
    "xlogx": Method("XLogX", "x log(x); 0 at x = 0."),
    "sqrt": Method("Sqrt", "The square root of x; its derivative at 0 is taken as 0."),
    "rsqrt": Method("Rsqrt", "1/sqrt(x); 0 at x = 0."),
    "square": Method("Square", "x*x."),
    "abs": Method("Abs", "The absolute value of x."),
    "sin": Method("Sin", "sin(x)."),
    "cos": Method("Cos", "cos(x)."),
    "asin": Method("Asin", "arcsin(x)."),
    "acos": Method("Acos", "arccos(x)."),
    "atan": Method("Atan", "arctan(x)."),
    "atan2": Method("Atan2", "The angle of the point (other, x), from -pi to pi.", _one("other")),
    "tanh": Method("Tanh", "tanh(x)."),
    "sinxdivx": Method("SinXDivX", "sin(x)/x; 1 at x = 0."),
    "relu": Method("ReLU", "max(x, 0)."),
    "sign": Method("Sign", "-1, 0 or 1 by the sign of x."),
    "step": Method("Step", "1 if x >= 0, else 0."),
    "floor": Method("Floor", "The largest whole number that is not above x."),
    "round": Method("Round", "x rounded to d decimal places, halves away from 0.", params=_one("d", 0)),
    "mod": Method(
        "Mod", "x - modulus floor((x - offset)/modulus).", (("modulus", REQUIRED), ("offset", 0))
    ),
    "ifelse": Method(
        "IfElse", "The first value if x >= 0, else the second.", (("first", REQUIRED), ("second", REQUIRED))
    ),
    # vectors
    "sqnorm2": Method("SqNorm2", "The squared Euclidean length of x."),
    "norm2": Method("Norm2", "The Euclidean length of x; its derivative at 0 is taken as 0."),
    "normalize": Method("Normalize", "x divided by its Euclidean length; 0 at x = 0."),
    "sqdist": Method("SqDist", "The squared Euclidean distance of x and other.", _one("other")),
    "weightedsqnorm": Method(
        "WeightedSqNorm",
        "x . S x, where weights hold a number, the diagonal of S, or S row by row.",
        _one("weights"),
        own_place=1,
    ),
    "elem": Method("Elem", "Component k of x.", params=_one("k")),
    "extract": Method(
        "Extract", "Components start to start + n - 1 of x.", params=(("start", REQUIRED), ("n", REQUIRED))
    ),
    "matvecmult": Method("MatVecMult", "The matrix x, row by row, times the vector other.", _one("other")),
    "vecmatmult": Method("VecMatMult", "The row vector x times the matrix other, row by row.", _one("other")),
    "tensorprod": Method("TensorProd", "All products x[k] other[l], row by row.", _one("other")),
    "one_hot": Method("OneHot", "A vector of length D: 1 at component round(x), 0 elsewhere.", params=_one("D")),
    "bspline": Method("BSpline", "The B-splines of order k for the knots x, at other.", _one("other"), _one("k", 0)),
    "softdtw_sqdist": Method(
        "SoftDTW_SqDist",
        "The soft dynamic time warping distance of the series x and other, with squared differences as costs.",
        (("other", REQUIRED), ("gamma", REQUIRED)),
    ),
}  # fmt: skip


def _function(name: str, row: Method) -> Callable[..., Any]:
    """The method of a row."""
    given = (*row.operands, *row.params)
    if not given:

        def plain(self: BaseLazyTensor) -> Any:
            return self._apply(row.op)

        function: Callable[..., Any] = plain
    else:
        parameters = [Parameter("self", Parameter.POSITIONAL_ONLY)]
        parameters += [Parameter(p, Parameter.POSITIONAL_OR_KEYWORD, default=default) for p, default in given]
        signature = Signature(parameters)
        count = len(row.operands)

        def with_arguments(self: BaseLazyTensor, *args: Any, **keywords: Any) -> Any:
            try:
                bound = signature.bind(self, *args, **keywords)
            except TypeError as error:
                raise KeywordError(f"LazyTensor.{name}: {error}") from None
            bound.apply_defaults()
            _, *values = bound.arguments.values()
            if name in PRODUCTS and self.looks_complex(values[0]):
                return getattr(self.complex_class.of(self), name)(*values)
            params = tuple(whole(p, f"{name}: {given[count + k][0]}") for k, p in enumerate(values[count:]))
            if row.own_place == 0:
                return self._apply(row.op, *values[:count], params=params)
            return self._apply(row.op, *values[:count], params=params, reverse=True)

        with_arguments.__signature__ = signature  # type: ignore[attr-defined]
        function = with_arguments
    function.__name__, function.__qualname__ = name, f"LazyTensor.{name}"
    function.__doc__ = _docstring(row)
    return function


def whole(value: Any, name: str) -> int:
    """A static parameter: a whole number."""
    value = unwrap_whole(value)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ArgumentError(f"{name}: wanted a whole number, got {value!r}")
    return int(value)


def _docstring(row: Method) -> str:
    """The docstring of a row, in numpydoc."""
    lines = [row.text]
    if row.operands or row.params:
        lines += ["", "Parameters", "----------"]
    kinds = [(row.operands, "LazyTensor, array, number or list of numbers"), (row.params, "int")]
    for given, kind in kinds:
        for name, default in given:
            lines.append(f"{name} : {kind}" + ("" if default is REQUIRED else f", default {default}"))
    lines += ["", "Returns", "-------", "LazyTensor", "", "Notes", "-----", f"The operation {row.op} of the language."]
    return "\n".join(lines)


Class = TypeVar("Class", bound=type)


def with_methods(cls: Class) -> Class:
    """A decorator that gives a class the methods of the table."""
    for name, row in METHODS.items():
        setattr(cls, name, _function(name, row))
    return cls
