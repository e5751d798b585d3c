"""Single values of an operation, computed where it is asked for: once, for each row, for each column, for each pair;
and their errors in units in the last place.

A reduction keeps no values of pairs, but the N smallest of N columns are all of them, with their columns.
"""

import numpy as np
from bound_reduction import BoundReduction

from kernelops.formula.expr import apply, variable

STAGES = ("pair", "col", "row", "param")
WIDTH = 256  # columns of a full tile


def _kept(expr, variables, arrays, ranges=None):
    """The value of expr at every column, for each element of a batch: (B, N)."""
    columns = next(a.shape[1] for v, a in zip(variables, arrays, strict=True) if v.op == "Vj")
    call = BoundReduction(expr, "KMin_ArgKMin", 1, arrays, opt_arg=columns, ranges=ranges, variables=variables)
    found, at = (np.moveaxis(a, 1, -1)[..., 0] for a in call())  # one row
    values = np.full_like(found, np.nan)
    inside = at >= 0
    batch = np.broadcast_to(np.arange(len(at))[:, None], at.shape)
    values[batch[inside], at[inside]] = found[inside]
    return values


def by_pair(op, params, *arrays, ranges=None):
    """op of (B, N) arrays, every operand a sum of -0, a row's, and a column's number: a tile in the machine.

    A product would be no operand of its own: exp takes a factor in.
    """
    return _joined("Add", -0.0, op, params, arrays, ranges)


def by_product(op, params, *arrays):
    """The same with products of 1 and a column's number as operands."""
    return _joined("Mult", 1.0, op, params, arrays)


def _joined(how, neutral, op, params, arrays, ranges=None):
    variables, operands, data = [], [], []
    for a in arrays:
        x, y = variable("Vi", len(variables), 1), variable("Vj", len(variables) + 1, 1)
        variables += [x, y]
        operands.append(apply(how, x, y))
        data += [np.full((len(a), 1, 1), neutral, a.dtype), a[..., None]]
    return _kept(apply(op, *operands, params=params), variables, data, ranges)


def by_column(op, params, *arrays):
    """The same of the columns' own numbers, once for each column."""
    variables = [variable("Vj", k, 1) for k in range(len(arrays))]
    return _kept(apply(op, *variables, params=params), variables, [a[..., None] for a in arrays])


def by_row(op, params, *arrays):
    """The same once for each row: sums over the one column. (A sum begins at +0, so that -0 becomes 0.)"""
    variables = [variable("Vi", k, 1) for k in range(len(arrays))]
    expr = apply(op, *variables, params=params)
    return BoundReduction(expr, "Sum", 1, [a[..., None] for a in arrays], variables=variables)()[..., 0]


def by_param(op, params, *arrays):
    """The same once for each element of a batch, of numbers that are parameters."""
    variables = [variable("Pm", k, 1) for k in range(len(arrays))]
    expr = apply(op, *variables, params=params)
    flat = [a.reshape(-1, 1) for a in arrays]
    return BoundReduction(expr, "Sum", 1, flat, variables=variables, sizes=(1, 1))().reshape(arrays[0].shape)


_BY = {"pair": by_pair, "col": by_column, "row": by_row, "param": by_param}


def values(stage, op, params, *arrays):
    """op, element by element, of arrays of one dimension and one length, in full tiles of the stage."""
    count = len(arrays[0])
    full = -(-count // WIDTH) * WIDTH
    tiles = [np.resize(a, full).reshape(-1, WIDTH) for a in arrays]
    return _BY[stage](op, params, *tiles).reshape(-1)[:count]


def errors(got, want):
    """Errors in units in the last place of the wanted values, which are given in a wider type.

    Beyond the largest finite value the next power of two stands for all that rounds to infinity; below the smallest
    normal one the unit is the smallest subnormal. Where nan, infinity or 0 is wanted exactly, all else is infinitely
    wrong.
    """
    info = np.finfo(got.dtype)
    top = want.dtype.type(2) ** info.maxexp
    with np.errstate(all="ignore"):
        # the spacing of the largest number is infinite; that of the power of two below it is the one wanted
        unit = np.spacing(np.minimum(abs(want), top / 2).astype(got.dtype)).astype(want.dtype)
        error = abs(np.clip(got.astype(want.dtype), -top, top) - np.clip(want, -top, top)) / unit
        exact = np.isnan(want) | np.isinf(want) | (want == 0)
        same = (got == want) | (np.isnan(got) & np.isnan(want))
    return np.where(same, 0, np.where(exact | np.isnan(got), np.inf, error))


def assert_within(bound, got, want, *points):
    """No error is above the bound; prints the worst one and where it is."""
    error = errors(got, want)
    worst = int(np.argmax(error))
    at = ", ".join(repr(p[worst]) for p in points)
    print(f"{float(error[worst]):.3f} ulp at {at}: got {got[worst]!r}, wanted {want[worst]!r}")
    assert error[worst] <= bound, f"{float(error[worst])} ulp at {at}: got {got[worst]!r}, wanted {want[worst]!r}"
