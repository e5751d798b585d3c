"""Operations written in terms of the primitive ones; they disappear when a formula is read.

:func:`call` makes any operation of the language, primitive or defined, by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import FormulaError
from .expr import Expr, apply, const, is_const
from .ops import OPS


@dataclass(frozen=True, slots=True)
class Defined:
    """One row of the table.

    Attributes
    ----------
    signature : str
        How it is written.
    build : callable
        (operands, then static parameters) -> Expr.
    text : str
        One line for people, used by the reference pages.
    arity : int
        Number of operands, each an expression.
    params : tuple of str
        Names of the static parameters that follow the operands; all of them are integers.
    """

    signature: str
    build: Callable[..., Expr]
    text: str
    arity: int = 1
    params: tuple[str, ...] = ()


def _sum(f: Expr) -> Expr:
    return f if f.dim == 1 else apply("Sum", f)


def _scalprod(f: Expr, g: Expr) -> Expr:
    return _sum(apply("Mult", f, g))


def _sq_norm(f: Expr) -> Expr:
    return _sum(apply("Square", f))


def _sq_dist(f: Expr, g: Expr) -> Expr:
    return _sq_norm(apply("Subtract", f, g))


def _normalize(f: Expr) -> Expr:
    return apply("Mult", f, apply("Rsqrt", _sq_norm(f)))


def _weighted_sq_norm(s: Expr, f: Expr) -> Expr:
    if s.dim == 1:
        return apply("Mult", s, _sq_norm(f))
    if s.dim == f.dim:
        return _sum(apply("Mult", s, apply("Square", f)))
    if s.dim == f.dim**2:
        return _scalprod(f, _mat_vec(s, f))
    raise FormulaError(f"weights of length {s.dim} for a vector of length {f.dim}: wanted 1, {f.dim} or {f.dim**2}")


def _mat_vec(a: Expr, b: Expr) -> Expr:
    if a.dim % b.dim:
        raise FormulaError(f"a matrix of {a.dim} entries has no rows of length {b.dim}")
    return apply("TensorDot", a, b, params=((a.dim // b.dim, b.dim), (b.dim,), (1,), (0,), (0,)))


def _vec_mat(b: Expr, a: Expr) -> Expr:
    if a.dim % b.dim:
        raise FormulaError(f"a matrix of {a.dim} entries has no columns of length {b.dim}")
    return apply("TensorDot", b, a, params=((b.dim,), (b.dim, a.dim // b.dim), (0,), (0,), (0,)))


def _tensor_prod(f: Expr, g: Expr) -> Expr:
    return apply("TensorDot", f, g, params=((f.dim,), (g.dim,), (), (), (0, 1)))


def stretch(f: Expr, d: int) -> Expr:
    """f with length d; f has that length already, or length 1."""
    if f.dim == d:
        return f
    if f.dim != 1 or d < 1:
        raise FormulaError(f"a vector of length {f.dim} cannot be stretched to length {d}")
    return const(f.value, d) if is_const(f) else apply("Mult", f, const(1, d))


def _ratio(p: int, q: int) -> Expr:
    if q == 0:
        raise FormulaError("a constant fraction with denominator 0")
    return const(p / q)


DEFINED: dict[str, Defined] = {
    # constants
    "IntCst": Defined("IntCst(n)", const, "the constant n", 0, ("n",)),
    "IntInv": Defined("IntInv(n)", lambda n: _ratio(1, n), "the constant 1/n", 0, ("n",)),
    "RatCst": Defined("RatCst(p, q)", _ratio, "the constant p/q", 0, ("p", "q")),
    "Zero": Defined("Zero(d)", lambda d: stretch(const(0), d), "the zero vector of length d", 0, ("d",)),
    # one operand
    "SqNorm2": Defined("SqNorm2(f)", _sq_norm, "sum of the squares of the components of f"),
    "Norm2": Defined(
        "Norm2(f)", lambda f: apply("Sqrt", _sq_norm(f)), "Euclidean length of f; its derivative at 0 is taken as 0"
    ),
    "Normalize": Defined("Normalize(f)", _normalize, "f divided by its Euclidean length; 0 at f = 0"),
    "ClampInt": Defined(
        "ClampInt(f, a, b)",
        lambda f, a, b: apply("Clamp", f, const(a), const(b)),
        "f held between the integers a and b",
        1,
        ("a", "b"),
    ),
    "Elem": Defined("Elem(f, m)", lambda f, m: apply("Extract", f, params=(m, 1)), "component m of f", 1, ("m",)),
    "ElemT": Defined(
        "ElemT(f, n, m)",
        lambda f, n, m: apply("ExtractT", f, params=(m, n)),
        "f, of length 1, written at place m into a zero vector of length n",
        1,
        ("n", "m"),
    ),
    "SumT": Defined("SumT(f, d)", stretch, "f, of length 1, repeated d times", 1, ("d",)),
    # two and three operands
    "Scalprod": Defined("Scalprod(f, g)", _scalprod, "dot product of f and g, also written f | g", 2),
    "SqDist": Defined("SqDist(f, g)", _sq_dist, "squared Euclidean distance of f and g", 2),
    "WeightedSqNorm": Defined(
        "WeightedSqNorm(s, f)",
        _weighted_sq_norm,
        "f . S f, where s holds a number, the diagonal of S, or S row by row",
        2,
    ),
    "WeightedSqDist": Defined(
        "WeightedSqDist(s, f, g)",
        lambda s, f, g: _weighted_sq_norm(s, apply("Subtract", f, g)),
        "WeightedSqNorm(s, f - g)",
        3,
    ),
    "MatVecMult": Defined("MatVecMult(A, b)", _mat_vec, "matrix A, row by row, times vector b", 2),
    "VecMatMult": Defined("VecMatMult(b, A)", _vec_mat, "row vector b times matrix A, row by row", 2),
    "TensorProd": Defined("TensorProd(f, g)", _tensor_prod, "all products f[k]*g[l], row by row", 2),
}


def call(name: str, *args: Expr, params: tuple[Any, ...] = ()) -> Expr:
    """The operation of that name, primitive or defined; raises FormulaError where counts or lengths do not fit.

    Two static parameters may be left out: the order of SinXDivX (0) and the permutation of TensorDot (none).
    """
    if name in OPS:
        return apply(name, *args, params=_complete(name, params))
    row = DEFINED[name]
    if (len(args), len(params)) != (row.arity, len(row.params)):
        raise FormulaError(f"{row.signature} got {len(args) + len(params)} argument(s)")
    return row.build(*args, *params)


def _complete(name: str, params: tuple[Any, ...]) -> tuple[Any, ...]:
    if name == "SinXDivX" and not params:
        return (0,)
    if name == "TensorDot" and len(params) == 4:
        dims_f, dims_g, cont_f, cont_g = params
        return (*params, tuple(range(len(dims_f) + len(dims_g) - len(cont_f) - len(cont_g))))
    return params


def signature(name: str) -> str:
    """The operation with its arguments as text, for messages and the reference pages."""
    if name in DEFINED:
        return DEFINED[name].signature
    row = OPS[name]
    return f"{name}({', '.join(['f', 'g', 'h'][: row.arity] + list(row.params))})"
