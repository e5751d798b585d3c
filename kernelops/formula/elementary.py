"""Elementary functions that are written in terms of others: inverses of sines, rounding, remainders."""

from __future__ import annotations

from ..errors import FormulaError
from .definition import Defined
from .expr import Expr, apply, const

MOST_DECIMALS = 22  # 10^22 is the last power of ten that a double holds exactly


def _beside_on_circle(f: Expr) -> Expr:
    """The root of 1 - f^2, without what the square of a number near 1 would lose."""
    return apply("Sqrt", apply("Mult", apply("Subtract", const(1), f), apply("Add", const(1), f)))


def _asin(f: Expr) -> Expr:
    return apply("Atan2", f, _beside_on_circle(f))


def _acos(f: Expr) -> Expr:
    return apply("Atan2", _beside_on_circle(f), f)


def _xlogx(f: Expr) -> Expr:
    # 1 within the logarithm, and no condition around a product with it: so its derivatives are finite at 0
    return apply("Mult", f, apply("Log", apply("IfElse", apply("Minus", apply("Abs", f)), const(1), f)))


def _nearest(f: Expr) -> Expr:
    """The nearest whole number, that farther from 0 of two: |f| + 1/2 would be rounded itself."""
    size = apply("Abs", f)
    floor = apply("Floor", size)
    up = apply("LessOrEqual", const(0.5), apply("Subtract", size, floor))
    return apply("Mult", apply("Sign", f), apply("Add", floor, up))


def _round(f: Expr, d: int) -> Expr:
    if abs(d) > MOST_DECIMALS:
        raise FormulaError(f"Round(f, d) wants a d from -{MOST_DECIMALS} to {MOST_DECIMALS}, got {d}")
    if d == 0:
        return _nearest(f)
    unit = const(10 ** abs(d))
    there, back = ("Mult", "Divide") if d > 0 else ("Divide", "Mult")
    return apply(back, _nearest(apply(there, f, unit)), unit)


def _mod(f: Expr, m: Expr, offset: Expr) -> Expr:
    turns = apply("Floor", apply("Divide", apply("Subtract", f, offset), m))
    return apply("Subtract", f, apply("Mult", m, turns))


def _clamp(f: Expr, a: int, b: int) -> Expr:
    return apply("Clamp", f, const(a), const(b))


def _between(f: Expr, a: int, b: int) -> Expr:
    return apply("Mult", apply("LessOrEqual", const(a), f), apply("LessOrEqual", f, const(b)))


ELEMENTARY: dict[str, Defined] = {
    "ClampInt": Defined("ClampInt(f, a, b)", _clamp, "f held between the integers a and b", 1, ("a", "b")),
    "DiffClampInt": Defined(
        "DiffClampInt(f, a, b)",
        _between,
        "1 where a <= f <= b, else 0: the derivative of ClampInt; its derivative is 0",
        1,
        ("a", "b"),
    ),
    "Asin": Defined("Asin(f)", _asin, "angle whose sine is f; NaN beyond -1 and 1, where its derivative is taken as 0"),
    "Acos": Defined(
        "Acos(f)", _acos, "angle whose cosine is f; NaN beyond -1 and 1, where its derivative is taken as 0"
    ),
    "Atan": Defined("Atan(f)", lambda f: apply("Atan2", f, const(1)), "angle whose tangent is f"),
    "XLogX": Defined(
        "XLogX(f)", _xlogx, "f times its natural logarithm; 0 at f = 0, where its derivative is taken as 0"
    ),
    "Round": Defined(
        "Round(f, d)",
        _round,
        "f rounded to d decimals, or to a multiple of 10^-d for d < 0; halves away from 0; its derivative is 0",
        1,
        ("d",),
    ),
    "Mod": Defined(
        "Mod(f, m, offset)",
        _mod,
        "f - m*Floor((f - offset)/m), which lies from offset to offset + m; the multiple of m counts as a constant",
        3,
    ),
}
