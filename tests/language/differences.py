"""Derivatives by central differences of fourth order, in extended precision where the machine has it."""

import numpy as np
from interpreter import evaluate

STEP = 1e-3


def slope(f):
    """The derivative at 0 of a function of one number, with an error of STEP**4 times its fifth derivative."""
    h = np.longdouble(STEP)
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def extended(point):
    return {v: np.asarray(a, dtype=np.longdouble) for v, a in point.items()}


def gradient(expr, var, seed, point):
    """The gradient of <seed, expr> with respect to var, where seed is an array that does not depend on var."""
    point = extended(point)

    def moved(k):
        unit = np.eye(var.dim, dtype=np.longdouble)[k]
        return lambda h: (seed * evaluate(expr, point | {var: point[var] + h * unit})).sum()

    return np.array([slope(moved(k)) for k in range(var.dim)])


def assert_gradient(got, want, size=1.0):
    """Up to the error of the differences: 1e-8, relative to the largest entry or to size."""
    np.testing.assert_allclose(got, want.astype(float), rtol=0, atol=1e-8 * max(size, float(np.abs(want).max())))
