"""A formula at pairs of rows and columns, not reduced."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.arguments import Arguments, compute_dtype
from ..arrays.libraries import arguments_to_host
from ..engines import cpu
from ..errors import ArgumentError, ShapeError
from ..formula.expr import Expr, substitute, variable
from ..program.options import KernelOptions
from ..ranges import Ranges
from .reduction import Reduction


def evaluate(
    expr: Expr, arguments: Arguments, ranges: Ranges | None, rows: Any, columns: Any, dtype: np.dtype | None = None
) -> np.ndarray:
    """The formula at given pairs.

    Parameters
    ----------
    expr : Expr
    arguments : Arguments
    ranges : Ranges or None
    rows, columns : (P,) int
        Indices i and j of the pairs.
    dtype : dtype, optional
        Precision of the computation and of the result; that of the data unless given.

    Returns
    -------
    (..., P, D) array; 0 if a pair lies outside the ranges.
    """
    I = check_indices(rows, arguments.M, "i")
    J = check_indices(columns, arguments.N, "j")
    if I.shape != J.shape:
        raise ShapeError(f"wanted as many i as j, got {len(I)} and {len(J)}")
    result: np.ndarray = Reduction(_along_rows(expr), "Sum", 1)(_gather(expr, arguments, I, J), dtype)
    if ranges is not None:
        result[..., ~ranges.contains(I, J), :] = 0
    return result


def check_indices(indices: Any, count: int, name: str) -> np.ndarray:
    """Indices as int64, checked to be whole numbers from 0 to below count."""
    found = np.asarray(indices)
    if found.size == 0:
        return np.zeros(0, np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise ArgumentError(f"{name}: wanted a list of whole numbers, got {found.dtype} of shape {found.shape}")
    if found.min() < 0 or found.max() >= count:
        raise ArgumentError(f"{name}: wanted indices from 0 to {count - 1}, got {found.min()} to {found.max()}")
    return found.astype(np.int64)


def _along_rows(expr: Expr) -> Expr:
    """The formula with its Vj turned into Vi: a sum over one column then has a row for each pair."""
    return substitute(expr, {v: variable("Vi", v.position, v.dim) for v in expr.vars if v.op == "Vj"})


def _gather(expr: Expr, arguments: Arguments, I: np.ndarray, J: np.ndarray) -> Arguments:
    """The rows of the arrays that the pairs meet, a row for each pair."""
    index = {"Vi": I, "Vj": J}
    arguments, arrays = arguments_to_host(arguments), [None] * len(arguments.arrays)
    for v in expr.vars:
        a = arguments.arrays[v.position]
        arrays[v.position] = a[..., index[v.op], :] if v.op in index else a
    return Arguments(tuple(arrays), arguments.dtype, arguments.batch, len(I), 1)


def evaluate_all_pairs(expr: Expr, arguments: Arguments, ranges: Ranges | None, dtype: np.dtype) -> np.ndarray:
    """The formula at every pair of a row i and a column j, (*batch, M, N, dim), in dtype; 0 outside the ranges."""
    options = KernelOptions(compute_dtype(dtype).name)
    found = cpu.run(cpu.prepare("entries", expr, None, False, 1), arguments, 1, ranges, options).entries
    assert found is not None
    return found.astype(dtype, copy=False)


def pair_work(expr: Expr, axis: int) -> int:
    """Counted work of one pair in a sum of the formula, an addition of numbers being 1."""
    return int(cpu.prepare("sum", expr, None, False, axis).encoded.cost)
