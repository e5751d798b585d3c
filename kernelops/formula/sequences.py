"""Vectors as sequences: B-splines on knots, and the alignment of two series in time."""

from __future__ import annotations

from ..errors import FormulaError
from .definition import Defined, component, joined, part
from .expr import Expr, apply, const

LONGEST_SERIES = 64  # so many components the two series of SoftDTW_SqDist have at most, both together


def _b_spline(knots: Expr, x: Expr, k: int) -> Expr:
    """The recursion of de Boor and Cox, one order after another, each for all knots at once."""
    if x.dim != 1 or k < 0 or knots.dim < k + 2:
        raise FormulaError(
            f"BSpline(knots, x, k) wants k >= 0, at least k + 2 knots and an x of length 1, "
            f"got k = {k}, {knots.dim} knots and an x of length {x.dim}"
        )
    n = knots.dim
    found = apply("Mult", apply("LessOrEqual", part(knots, 0, n - 1), x), apply("LessThan", x, part(knots, 1, n - 1)))
    for order in range(1, k + 1):
        left, right, count = part(knots, 0, n - order), part(knots, order, n - order), n - order - 1
        empty = apply("Subtract", left, right)  # at least 0 if the knots coincide
        width = apply("IfElse", empty, const(1), apply("Subtract", right, left))
        ramp = apply("IfElse", empty, const(0), apply("Divide", apply("Subtract", x, left), width))
        rising = apply("Mult", part(ramp, 0, count), part(found, 0, count))
        falling = apply("Mult", apply("Subtract", const(1), part(ramp, 1, count)), part(found, 1, count))
        found = apply("Add", rising, falling)
    return found


def _soft_minimum(gamma: Expr, *terms: Expr) -> Expr:
    """-gamma log(sum of exp(-t/gamma)), from the least of the terms."""
    least = terms[0]
    for t in terms[1:]:
        least = apply("Clamp", least, least, t)
    shares = [apply("Exp", apply("Divide", apply("Subtract", least, t), gamma)) for t in terms]
    total = apply("Add", apply("Add", shares[0], shares[1]), shares[2])
    return apply("Subtract", least, apply("Mult", gamma, apply("Log", total)))


def _soft_dtw(x: Expr, y: Expr, gamma: Expr) -> Expr:
    """Diagonal by diagonal of the table of alignments, each a vector."""
    n, m = x.dim, y.dim
    if gamma.dim != 1:
        raise FormulaError(f"SoftDTW_SqDist(x, y, gamma) wants a gamma of length 1, got {gamma.dim}")
    if n + m > LONGEST_SERIES:
        raise FormulaError(
            f"SoftDTW_SqDist(x, y, gamma) wants at most {LONGEST_SERIES} components in x and y, got {n} and {m}"
        )
    backwards = joined([component(y, k) for k in reversed(range(m))])
    before, last, first = None, None, 0  # the diagonals before, and the row in which the last one begins
    first_before = 0
    for s in range(n + m - 1):  # i + j = s
        low, high = max(0, s - m + 1), min(n - 1, s)
        count = high - low + 1
        cost = apply("Subtract", part(x, low, count), part(backwards, m - 1 - s + low, count))
        cost = apply("Square", cost)
        if last is not None:
            cost = apply("Add", cost, _arrive(gamma, s, low, high, (last, first), (before, first_before)))
        before, first_before, last, first = last, first, cost, low
    assert last is not None
    return last


def _arrive(gamma: Expr, s: int, low: int, high: int, last: tuple[Expr, int], before: tuple[Expr | None, int]) -> Expr:
    """What the best ways to each cell of a diagonal have cost before: from above, from the left, from both."""
    (diagonal, first), (older, first_older) = last, before
    pieces = []
    if low == 0:  # the top row, reached from the left alone
        pieces.append(component(diagonal, 0))
    top, bottom = max(low, 1), min(high, s - 1)
    if top <= bottom:
        assert older is not None
        count = bottom - top + 1
        above, beside = part(diagonal, top - 1 - first, count), part(diagonal, top - first, count)
        pieces.append(_soft_minimum(gamma, part(older, top - 1 - first_older, count), above, beside))
    if high == s:  # the left column
        pieces.append(component(diagonal, s - 1 - first))
    return joined(pieces)


SEQUENCES: dict[str, Defined] = {
    "BSpline": Defined(
        "BSpline(knots, x, k)",
        _b_spline,
        "values at x, of length 1, of the B-splines of degree k on increasing knots: as many as knots, less k + 1",
        2,
        ("k",),
    ),
    "SoftDTW_SqDist": Defined(
        "SoftDTW_SqDist(x, y, gamma)",
        _soft_dtw,
        "soft dynamic time warping of the series x and y with squared differences: the minimum over their alignments, "
        "softened by gamma > 0",
        3,
    ),
}
