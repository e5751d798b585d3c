"""Complex numbers as vectors (re, im, re, im, ...).

A number of length 2 is stretched, as one of length 1 is elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import FormulaError
from .definition import Defined, component, stretch, sum_of
from .expr import Expr, apply

Parts = tuple[Expr, Expr]  # real and imaginary


def _from_real(f: Expr) -> Expr:
    return apply("SliceT", f, params=(0, 2 * f.dim, 2))


def _from_imaginary(f: Expr) -> Expr:
    return apply("SliceT", f, params=(1, 2 * f.dim, 2))


def _make(re: Expr, im: Expr) -> Expr:
    """The numbers with these parts, one of which may have length 1 and is stretched."""
    n = max(re.dim, im.dim)
    return apply("Add", _from_real(stretch(re, n)), _from_imaginary(stretch(im, n)))


def _parts(name: str, f: Expr) -> Parts:
    """The real and the imaginary parts: those that the numbers were made of, if they were made here."""
    if f.dim % 2:
        raise FormulaError(f"{name} wants complex numbers (re, im, re, im, ...), got a vector of odd length {f.dim}")
    n = f.dim // 2
    if f.op == "Add" and [(a.op, a.params) for a in f.args] == [("SliceT", (k, f.dim, 2)) for k in (0, 1)]:
        return f.args[0].args[0], f.args[1].args[0]
    if n == 1:
        return component(f, 0), component(f, 1)
    return apply("Slice", f, params=(0, n, 2)), apply("Slice", f, params=(1, n, 2))


def _parts_of_both(name: str, f: Expr, g: Expr) -> tuple[Expr, Expr, Expr, Expr]:
    found = *_parts(name, f), *_parts(name, g)
    if f.dim != g.dim and 2 not in (f.dim, g.dim):
        raise FormulaError(f"{name} wants operands of one length, or one of length 2, got {f.dim} and {g.dim}")
    return found


def _of_parts(name: str, build: Callable[[Expr, Expr], Expr]) -> Defined:
    """An operation of one operand by its parts."""
    return Defined(f"{name}(f)", lambda f: build(*_parts(name, f)), _TEXTS[name])


def _of_both(name: str, build: Callable[[Expr, Expr, Expr, Expr], Expr]) -> Defined:
    """An operation of two operands by their parts."""
    return Defined(f"{name}(f, g)", lambda f, g: build(*_parts_of_both(name, f, g)), _TEXTS[name], 2)


def _square(re: Expr, im: Expr) -> Expr:
    return apply("Add", apply("Square", re), apply("Square", im))


def _product(a: Expr, b: Expr, c: Expr, d: Expr) -> Expr:
    re = apply("Subtract", apply("Mult", a, c), apply("Mult", b, d))
    return _make(re, apply("Add", apply("Mult", a, d), apply("Mult", b, c)))


def _quotient(a: Expr, b: Expr, c: Expr, d: Expr) -> Expr:
    below = _square(c, d)
    re = apply("Add", apply("Mult", a, c), apply("Mult", b, d))
    im = apply("Subtract", apply("Mult", b, c), apply("Mult", a, d))
    return _make(apply("Divide", re, below), apply("Divide", im, below))


def _exp(re: Expr, im: Expr) -> Expr:
    size = apply("Exp", re)
    return _make(apply("Mult", size, apply("Cos", im)), apply("Mult", size, apply("Sin", im)))


def _real_times(f: Expr, g: Expr) -> Expr:
    if g.dim == 1:
        f, g = g, f
    if f.dim != 1 or g.dim % 2:
        raise FormulaError(
            f"ComplexRealScal wants a vector of length 1 and one of even length, got {f.dim} and {g.dim}"
        )
    return apply("Mult", f, g)


def _repeated(f: Expr, d: int) -> Expr:
    if f.dim != 2 or d < 2 or d % 2:
        raise FormulaError(f"ComplexSumT(f, d) wants an f of length 2 and an even d >= 2, got length {f.dim} and {d}")
    return _make(*(stretch(a, d // 2) for a in _parts("ComplexSumT", f)))


_TEXTS = {
    "ComplexReal": "the real parts of f",
    "ComplexImag": "the imaginary parts of f",
    "Conj": "the complex conjugate of f",
    "ComplexAbs": "|f|; its derivative at 0 is taken as 0",
    "ComplexSquareAbs": "|f|^2",
    "ComplexAngle": "the angles of f, from -pi to pi; the derivative at 0 is taken as 0",
    "ComplexExp": "exp(f)",
    "ComplexSum": "the sum of the complex numbers in f",
    "ComplexAdd": "f + g",
    "ComplexSubtract": "f - g",
    "ComplexMult": "the product of f and g",
    "ComplexDivide": "f/g",
}
COMPLEX: dict[str, Defined] = {
    "Real2Complex": Defined("Real2Complex(f)", _from_real, "the real numbers f as complex ones"),
    "Imag2Complex": Defined("Imag2Complex(f)", _from_imaginary, "the numbers i*f, for real f"),
    "ComplexReal": _of_parts("ComplexReal", lambda re, im: re),
    "ComplexImag": _of_parts("ComplexImag", lambda re, im: im),
    "Conj": _of_parts("Conj", lambda re, im: _make(re, apply("Minus", im))),
    "ComplexAbs": _of_parts("ComplexAbs", lambda re, im: apply("Sqrt", _square(re, im))),
    "ComplexSquareAbs": _of_parts("ComplexSquareAbs", _square),
    "ComplexAngle": _of_parts("ComplexAngle", lambda re, im: apply("Atan2", im, re)),
    "ComplexExp": _of_parts("ComplexExp", _exp),
    "ComplexExp1j": Defined(
        "ComplexExp1j(f)", lambda f: _make(apply("Cos", f), apply("Sin", f)), "exp(i*f), for real f"
    ),
    "ComplexSum": _of_parts("ComplexSum", lambda re, im: _make(sum_of(re), sum_of(im))),
    "ComplexSumT": Defined(
        "ComplexSumT(f, d)", _repeated, "the complex number f, of length 2, repeated up to length d", 1, ("d",)
    ),
    "ComplexAdd": _of_both("ComplexAdd", lambda a, b, c, d: _make(apply("Add", a, c), apply("Add", b, d))),
    "ComplexSubtract": _of_both(
        "ComplexSubtract", lambda a, b, c, d: _make(apply("Subtract", a, c), apply("Subtract", b, d))
    ),
    "ComplexMult": _of_both("ComplexMult", _product),
    "ComplexDivide": _of_both("ComplexDivide", _quotient),
    "ComplexRealScal": Defined(
        "ComplexRealScal(f, g)",
        _real_times,
        "the real number f, of length 1, times the complex numbers g, or g times f",
        2,
    ),
}
