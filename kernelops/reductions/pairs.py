"""A formula at given pairs of rows and columns, not reduced."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.arguments import Arguments, compute_dtype
from ..arrays.libraries import arguments_to_host
from ..engines import cpu
from ..errors import ArgumentError
from ..formula.expr import Expr, substitute, variable
from ..ranges import Ranges


def indices_of(indices: Any, count: int, name: str) -> np.ndarray:
    """Indices, checked to be whole numbers below count."""
    found = np.asarray(indices)
    if found.size == 0:
        return np.zeros(0, np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise ArgumentError(f"{name}: wanted a list of whole numbers, got {found.dtype} of shape {found.shape}")
    if found.min() < 0 or found.max() >= count:
        raise ArgumentError(f"{name}: wanted indices from 0 to {count - 1}, got {found.min()} to {found.max()}")
    return found.astype(np.int64)


def aligned(expr: Expr, arguments: Arguments, I: np.ndarray, J: np.ndarray) -> tuple[Expr, Arguments]:
    """The formula with its variables indexed by the pairs, and the arrays gathered to match: a sum over one column."""
    index = {"Vi": I, "Vj": J}
    arguments, arrays = arguments_to_host(arguments), [None] * len(arguments.arrays)
    for v in expr.vars:
        a = arguments.arrays[v.params[0]]
        arrays[v.params[0]] = a[..., index[v.op], :] if v.op in index else a
    gathered = Arguments(tuple(arrays), arguments.dtype, arguments.batch, len(I), 1)
    return substitute(expr, {v: variable("Vi", v.params[0], v.dim) for v in expr.vars if v.op == "Vj"}), gathered


def pairwise(expr: Expr, arguments: Arguments, ranges: Ranges | None, dtype: np.dtype) -> np.ndarray:
    """The formula at every pair of a row i and a column j, (*batch, M, N, dim), in dtype; 0 outside the ranges."""
    found = cpu.run(cpu.prepare("entries", expr, None, False, 1), arguments, 1, ranges, compute_dtype(dtype)).entries
    assert found is not None
    return found.astype(dtype, copy=False)


def pair_work(expr: Expr, axis: int) -> int:
    """Counted work of one pair in a sum of the formula, an addition of numbers being 1."""
    return int(cpu.prepare("sum", expr, None, False, axis).encoded.cost)
