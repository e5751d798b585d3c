"""The largest and the smallest component of a vector, where it stands, and the unit vector at a place."""

from __future__ import annotations

from ..errors import FormulaError
from .definition import Defined, component, iota
from .expr import Expr, apply, const


def _extreme(f: Expr, largest: bool, places: Expr | None = None) -> Expr:
    """The best component, or (of the places of all components) its place: a tournament, in which neighbours meet.

    So the first of equal ones wins. A NaN wins against numbers.
    """
    while f.dim > 1:
        n = f.dim // 2
        first, second = _every_second(f, 0, n), _every_second(f, 1, n)
        if places is not None:
            better = (second, first) if largest else (first, second)
            stays = apply("Add", apply("LessOrEqual", *better), apply("NotEqual", first, first))
            moved = (_every_second(places, 0, n), _every_second(places, 1, n))
            winners = apply("IfElse", apply("Subtract", stays, const(1)), *moved)
            places = _with_last(winners, places)
        # Clamp looks at the lower bound first, and returns a NaN of any operand
        winners = apply("Clamp", first, second, first) if largest else apply("Clamp", first, first, second)
        f = _with_last(winners, f)
    return f if places is None else places


def _every_second(f: Expr, start: int, n: int) -> Expr:
    return component(f, start) if n == 1 else apply("Slice", f, params=(start, n, 2))


def _with_last(winners: Expr, f: Expr) -> Expr:
    """The winners, and the last component of f if it met no other."""
    return apply("Concat", winners, component(f, f.dim - 1)) if f.dim % 2 else winners


def _place(f: Expr, largest: bool) -> Expr:
    return _extreme(f, largest, iota(f.dim))


def _one_hot(f: Expr, d: int) -> Expr:
    if f.dim != 1 or d < 1:
        raise FormulaError(f"OneHot(f, d) wants an f of length 1 and d >= 1, got length {f.dim} and {d}")
    away = apply("Subtract", f, iota(d))
    return apply("Mult", apply("LessOrEqual", const(-0.5), away), apply("LessThan", away, const(0.5)))


COMPONENTS: dict[str, Defined] = {
    "Max": Defined(
        "Max(f)",
        lambda f: _extreme(f, True),
        "the largest component of f; the derivative goes to the first of equal ones",
    ),
    "Min": Defined(
        "Min(f)",
        lambda f: _extreme(f, False),
        "the smallest component of f; the derivative goes to the first of equal ones",
    ),
    "ArgMax": Defined(
        "ArgMax(f)", lambda f: _place(f, True), "the place of the first largest component of f; its derivative is 0"
    ),
    "ArgMin": Defined(
        "ArgMin(f)", lambda f: _place(f, False), "the place of the first smallest component of f; its derivative is 0"
    ),
    "OneHot": Defined(
        "OneHot(f, d)",
        _one_hot,
        "1 at place k of a vector of length d for an f from k - 1/2 to k + 1/2, else 0; its derivative is 0",
        1,
        ("d",),
    ),
}
