"""What the tests of symmetric sums share: points, declarations, sums."""

import numpy as np
import usual
from bound_reduction import BoundReduction

from kernelops.formula.parse import parse


def points(n, d=3, dtype="float64", seed=0, batch=()):
    return (np.random.default_rng(seed).standard_normal((*batch, n, d)) / np.sqrt(d)).astype(dtype)


def declared(d, v):
    return [f"x = Vi({d})", f"y = Vj({d})", f"b = Vj({v})", "g = Pm(1)", f"w = Pm({d})"]


def summed(formula, names, data, axis=1, op="Sum", **options):
    expr = parse(formula, names).expr
    used = {v.position for v in expr.vars}
    given = [a if k in used else None for k, a in enumerate(data)][: max(used) + 1]
    return BoundReduction(expr, op, axis, given, **options)()


GAUSS, NAMES = usual.GAUSS, declared(3, 2)[:3]
