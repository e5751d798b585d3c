"""Polynomials of r, the root of a kernel of negative type: those that make a function of Matern of exp(-s r).

A node may be known as such a polynomial: by r^2, which is a node too (None for a number), and the coefficient of each
power of r, shape (...,).
"""

from __future__ import annotations

import numpy as np

from ..formula.expr import Expr

Polynomial = tuple[Expr | None, dict[int, np.ndarray]]  # the node r^2, and the coefficient of each power of r
COEFFICIENT_ROUNDING = 1e-13  # share of the sum of all coefficients by which one may be below 0


def add(f: Polynomial | None, g: Polynomial | None, sign: float = 1.0) -> Polynomial | None:
    """f + sign g, or None if they are no polynomials of one r."""
    if f is None or g is None or not _share_root(f, g):
        return None
    a, b = f[1], g[1]
    return f[0] or g[0], {k: a.get(k, np.zeros(1)) + sign * b.get(k, np.zeros(1)) for k in {*a, *b}}


def multiply(f: Polynomial | None, g: Polynomial | None) -> Polynomial | None:
    """f g, or None if they are no polynomials of one r."""
    if f is None or g is None or not _share_root(f, g):
        return None
    total: dict[int, np.ndarray] = {}
    for k, c in f[1].items():
        for m, d in g[1].items():
            total[k + m] = total.get(k + m, np.zeros(1)) + c * d
    return f[0] or g[0], total


def _share_root(f: Polynomial, g: Polynomial) -> bool:
    """Whether both are polynomials of the same r, as a number is of any."""
    return f[0] is None or g[0] is None or f[0] is g[0]


def is_sum(polynomial: Polynomial, exponent: Polynomial) -> bool:
    """Whether polynomial * exp(exponent) is a nonnegative sum of Matern's functions of a multiple of r."""
    base, slope = exponent
    if base is None or set(slope) != {1} or polynomial[0] not in (None, base) or not set(polynomial[1]) <= {0, 1, 2, 3}:
        return False
    s = -slope[1]
    if not (s > 0).all():
        return False
    a0, a1, a2, a3 = (polynomial[1].get(k, np.zeros(1)) / s**k for k in range(4))
    c3 = 15 * a3
    c2 = 3 * (a2 - 0.4 * c3)
    c1 = a1 - c2 - c3
    c0 = a0 - c1 - c2 - c3
    least = -COEFFICIENT_ROUNDING * (abs(a0) + abs(a1) + abs(a2) + abs(a3))
    return all(bool((c >= least).all()) for c in (c0, c1, c2, c3))
