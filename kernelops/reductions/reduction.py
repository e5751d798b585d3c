"""Reduction: a formula reduced over j or i, bound to arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..arrays.arguments import Arguments, bind_arguments, compute_dtype
from ..engines import cpu, gpu
from ..errors import ShapeError
from ..formula.expr import Expr
from ..ranges import Ranges
from .kinds import REDUCTIONS, ReductionKind, check_accumulation, check_reduction
from .pairs import aligned, indices_of


class Method(NamedTuple):
    """How a reduction goes, whatever its arrays: called with those, it returns an array or a tuple of two."""

    kind: ReductionKind
    axis: int
    prepared: cpu.Prepared
    best: int
    wide_sums: bool
    compensated: bool

    def __call__(self, arguments: Arguments, ranges: Ranges | None, dtype: np.dtype) -> Any:
        """The result, computed and returned in dtype; the ranges have been checked to fit the arrays."""
        kind = self.kind
        how: dict[str, Any] = {"wide_sums": self.wide_sums, "compensated": self.compensated, "best": self.best}
        how["largest"], how["nan_first"] = kind.largest, not kind.many
        if arguments.device is not None:
            finish = kind.results[0] if len(kind.results) == 1 else "both"
            found = gpu.run(self.prepared, arguments, self.axis, ranges, dtype, finish=finish, **how)
            found = tuple(_shelved(a, kind) for a in found) if kind.accumulator == "best" else found
            return found[0] if len(found) == 1 else found
        raw = cpu.run(self.prepared, arguments, self.axis, ranges, compute_dtype(dtype), **how)
        if len(kind.results) == 1:
            return _finished(kind.results[0], raw, kind, dtype)
        return tuple(_finished(name, raw, kind, dtype) for name in kind.results)


@lru_cache(maxsize=2048)
def method(
    expr: Expr,
    weight: Expr | None,
    op: str,
    axis: int,
    best: int,
    dtype_acc: str,
    sum_scheme: str,
    dtype: np.dtype,
) -> Method:
    """The method of a reduction of data of this dtype, its op and formulas checked before; kept for the next call."""
    kind = REDUCTIONS[op]
    prepared = cpu.prepare(kind.accumulator, expr, weight, kind.results == ("mean",), axis)
    return Method(kind, axis, prepared, best, *check_accumulation(dtype_acc, sum_scheme, dtype))


def _finished(name: str, raw: cpu.Raw, kind: ReductionKind, dtype: np.dtype) -> np.ndarray:
    """A result of kind: (*batch, rows, dim), or (*batch, rows, K, dim) for vectors of which many are kept."""
    if name in ("values", "indices"):
        found = raw.values if name == "values" else raw.indices
        assert found is not None
        found = np.swapaxes(found, -1, -2)  # (*batch, rows, K, dim)
        with np.errstate(all="ignore"):
            found = found.astype(dtype) if name == "values" else np.ascontiguousarray(found)
        return _shelved(found, kind)
    sums = raw.sums
    assert sums is not None
    with np.errstate(all="ignore"):
        if name == "log":
            assert raw.maxima is not None
            top = raw.maxima[..., None]
            sums = np.log(sums) + np.where(np.isfinite(top), top, 0.0)
        elif name == "mean":
            empty = ~(raw.maxima > -np.inf)[..., None] & (sums[..., -1:] == 0)
            sums = np.where(empty, 0.0, sums[..., :-1] / np.where(empty, 1.0, sums[..., -1:]))
        return sums.astype(dtype, copy=False)


def _shelved(found: Any, kind: ReductionKind) -> Any:
    """(*batch, rows, K, dim) best values as they are returned: numbers of which many are kept stand in one row."""
    *lead, K, D = found.shape
    return found.reshape(*lead, *((K, D) if kind.many and D > 1 else (K * D,)))


class Reduction:
    """A formula reduced over j (axis 1) or over i (axis 0), bound to arrays.

    Parameters
    ----------
    expr : Expr
        What is reduced.
    op : str
        A key of ``REDUCTIONS``.
    axis : {0, 1}
        The index that is reduced: 1 for j (the result is indexed by i), 0 for i.
    args : sequence of array, or Arguments
        By position; Arguments have been checked already.
    weight : Expr, optional
        Weight of LogSumExp and SumSoftMaxWeight.
    opt_arg : int, optional
        How many values KMin keeps.
    ranges : Ranges, optional
        Which rows meet which columns; all, if absent.
    variables : sequence of Expr, optional
        The variables that the arguments stand for; those of the formulas, if absent.
    names : mapping, optional
        Names of the variables, for messages.
    """

    def __init__(
        self,
        expr: Expr,
        op: str,
        axis: int,
        args: Sequence[Any] | Arguments,
        *,
        weight: Expr | None = None,
        opt_arg: int | None = None,
        ranges: Ranges | None = None,
        dtype_acc: str = "auto",
        sum_scheme: str = "auto",
        variables: Sequence[Expr] | None = None,
        names: Mapping[Expr, str] | None = None,
        sizes: tuple[int | None, int | None] = (None, None),
    ) -> None:
        self.expr, self.op, self.axis, self.weight, self.ranges = expr, op, axis, weight, ranges
        self.dtype_acc, self.sum_scheme = dtype_acc, sum_scheme
        check_reduction(op, expr, weight, opt_arg)
        if isinstance(args, Arguments):
            self.arguments = args
        else:
            used = {v.params[0]: v for e in (expr, weight) if e is not None for v in e.vars}
            if variables is None:
                variables, args = list(used.values()), args[: max(used, default=-1) + 1]
            self.arguments = bind_arguments(variables, args, names, sizes=sizes)
        if ranges is not None:
            ranges.check(self.arguments.M, self.arguments.N)
        self.best = int(opt_arg) if opt_arg is not None else 1
        check_accumulation(dtype_acc, sum_scheme, self.arguments.dtype)

    def __call__(self, dtype: np.dtype | None = None) -> Any:
        """The result (a tuple where there are two), computed and returned in dtype (that of the data unless given)."""
        arguments = self.arguments
        how = (self.expr, self.weight, self.op, self.axis, self.best, self.dtype_acc, self.sum_scheme, arguments.dtype)
        return method(*how)(arguments, self.ranges, arguments.dtype if dtype is None else np.dtype(dtype))

    def evaluate(self, rows: Any, columns: Any, dtype: np.dtype | None = None) -> np.ndarray:
        """The formula at given pairs, not reduced.

        Parameters
        ----------
        rows, columns : (P,) int
            Indices i and j of the pairs.
        dtype : dtype, optional
            Precision of the computation and of the result; that of the data unless given.

        Returns
        -------
        (..., P, D) array; 0 where a pair lies outside the ranges.
        """
        I = indices_of(rows, self.arguments.M, "i")
        J = indices_of(columns, self.arguments.N, "j")
        if I.shape != J.shape:
            raise ShapeError(f"wanted as many i as j, got {len(I)} and {len(J)}")
        expr, arguments = aligned(self.expr, self.arguments, I, J)
        result = Reduction(expr, "Sum", 1, arguments)(dtype)
        if self.ranges is not None:
            result[..., ~self.ranges.contains(I, J), :] = 0
        return result
