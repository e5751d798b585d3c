"""Operations written in terms of the primitive ones; they disappear when a formula is read.

``DEFINED`` is the table of all of them; other rooms of it are elementary, components, complex and sequences.
:func:`call` makes any operation of the language, primitive or defined, by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi
from typing import Any

from ..errors import FormulaError
from .complex import COMPLEX
from .components import COMPONENTS
from .definition import Defined, stretch
from .definition import sum_of as _sum
from .elementary import ELEMENTARY
from .expr import Expr, apply, const
from .ops import OPS
from .sequences import SEQUENCES

CONSTANTS = {"pi": pi}  # names that stand for numbers where no variable is called so


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


def _ratio(p: int, q: int) -> Expr:
    if q == 0:
        raise FormulaError("a constant fraction with denominator 0")
    return const(p / q)


def _kron(f: Expr, g: Expr, dims_f: Sequence[int], dims_g: Sequence[int]) -> Expr:
    if len(dims_f) != len(dims_g):
        raise FormulaError(f"Kron wants as many dimensions of f as of g, got {list(dims_f)} and {list(dims_g)}")
    n = len(dims_f)
    permute = (*range(0, 2 * n, 2), *range(1, 2 * n, 2))
    return apply("TensorDot", f, g, params=(tuple(dims_f), tuple(dims_g), (), (), permute))


def _weighted(form: str, s: Expr, f: Expr) -> Expr:
    """WeightedSqNorm with weights of the one form that the name says."""
    wanted = {"SqNormIso": 1, "SqNormDiag": f.dim, "SymSqNorm": f.dim**2}[form]
    if s.dim != wanted:
        raise FormulaError(f"{form}(s, f) wants weights of length {wanted} for a vector of length {f.dim}, got {s.dim}")
    return _weighted_sq_norm(s, f)


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
    "SqNormIso": Defined(
        "SqNormIso(s, f)", lambda s, f: _weighted("SqNormIso", s, f), "s . |f|^2, where s has length 1", 2
    ),
    "SqNormDiag": Defined(
        "SqNormDiag(s, f)", lambda s, f: _weighted("SqNormDiag", s, f), "sum of s[k]*f[k]^2, where s is as long as f", 2
    ),
    "SymSqNorm": Defined(
        "SymSqNorm(A, f)", lambda a, f: _weighted("SymSqNorm", a, f), "f . A f, where A holds a matrix row by row", 2
    ),
    "MatVecMult": Defined("MatVecMult(A, b)", _mat_vec, "matrix A, row by row, times vector b", 2),
    "VecMatMult": Defined("VecMatMult(b, A)", _vec_mat, "row vector b times matrix A, row by row", 2),
    "TensorProd": Defined("TensorProd(f, g)", _tensor_prod, "all products f[k]*g[l], row by row", 2),
    "Kron": Defined(
        "Kron(f, g, dimsf, dimsg)",
        _kron,
        "Kronecker product of f and g as row-major tensors with as many dimensions",
        2,
        ("dimsf", "dimsg"),
    ),
    "Factorize": Defined(
        "Factorize(f, g)",
        lambda f, g: f,
        "f; what g is stands in it once without that, as all that occurs twice does",
        2,
    ),
    "AutoFactorize": Defined("AutoFactorize(f)", lambda f: f, "f; what occurs twice is computed once without that"),
    **ELEMENTARY,
    **COMPONENTS,
    **COMPLEX,
    **SEQUENCES,
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
