"""A formula reduced over i or over j: a value without arrays, which it is called with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from ..arrays.arguments import Arguments, bind_arguments, compute_dtype
from ..engines import cpu, gpu
from ..formula.expr import Expr
from ..program.options import KernelOptions
from ..ranges import Ranges
from .kinds import REDUCTIONS, ReductionKind, check_accumulation


@dataclass(frozen=True, slots=True, eq=False)
class Reduction:
    """A formula reduced over j (axis 1) or over i (axis 0): everything but the arrays.

    Pickles hold the values of the attributes in their order: new ones come last.

    Attributes
    ----------
    expr, weight : Expr
        The formula and, for the reductions that have one, its weight.
    op : str
        A key of ``REDUCTIONS``.
    axis : {0, 1}
        The index that is reduced: 1 for j (the result is indexed by i), 0 for i.
    opt_arg : int or None
        The number of values that KMin returns.
    variables : tuple of Expr
        The variables that the arrays stand for, used by the formula or not; only ``bind`` needs them.
    names : mapping
        Names of the variables, for messages.
    dtype : dtype or None
        The precision that the arrays must have; None allows any.
    ranges : Ranges or None
        Which rows meet which columns; None if all do.
    sizes : (M, N)
        Numbers of rows, used if no variable has rows of that index.
    parts : tuple of int
        Lengths of the pieces in which a sum is returned, a tuple of arrays then; in one piece, if empty.
    device : int or None
        The GPU to which arrays of the host are sent, -1 for the current one; None computes where the arrays are.
    """

    expr: Expr
    op: str
    axis: int
    variables: tuple[Expr, ...] = ()
    names: Mapping[Expr, str] = field(default_factory=dict)
    weight: Expr | None = None
    opt_arg: int | None = None
    dtype: np.dtype | None = None
    ranges: Ranges | None = None
    dtype_acc: str = "auto"
    sum_scheme: str = "auto"
    sizes: tuple[int | None, int | None] = (None, None)
    parts: tuple[int, ...] = ()
    device: int | None = None

    def bind(self, args: Sequence[Any]) -> Arguments:
        """The arrays of a call, checked against the variables and the ranges.

        Raises
        ------
        ArgumentError, ShapeError, DtypeError, RangesError, BackendError
            Naming the argument, what was wanted and what came.
        """
        names, dtype = self.names, self.dtype
        arguments = bind_arguments(self.variables, args, names, dtype=dtype, sizes=self.sizes, device=self.device)
        if self.ranges is not None:
            self.ranges.check(arguments.M, arguments.N)
        check_accumulation(self.dtype_acc, self.sum_scheme, arguments.dtype)
        return arguments

    def __call__(self, arguments: Arguments, dtype: np.dtype | None = None) -> Any:
        """The result, an array or a tuple of them, for checked arrays.

        Parameters
        ----------
        arguments : Arguments
        dtype : dtype, optional
            Precision of the computation and of the result; that of the arrays unless given.
        """
        dtype = arguments.dtype if dtype is None else np.dtype(dtype)
        best = 1 if self.opt_arg is None else int(self.opt_arg)
        how = (self.expr, self.weight, self.op, self.axis, best, self.dtype_acc, self.sum_scheme)
        kind, prepared, options = prepare_reduction(*how, arguments.dtype, dtype)
        result: Any
        if arguments.device is not None:
            found = gpu.run(prepared, arguments, self.axis, self.ranges, options)
            found = tuple(_join_values(a, kind) for a in found) if kind.accumulator == "best" else found
            result = found[0] if len(found) == 1 else found
        else:
            raw = cpu.run(prepared, arguments, self.axis, self.ranges, options)
            if len(kind.results) == 1:
                result = _finish(kind.results[0], raw, kind, dtype)
            else:
                result = tuple(_finish(name, raw, kind, dtype) for name in kind.results)
        if not self.parts:
            return result
        ends = np.cumsum((0, *self.parts)).tolist()
        return tuple(result[..., a:b] for a, b in zip(ends, ends[1:], strict=False))


@lru_cache(maxsize=2048)
def prepare_reduction(
    expr: Expr,
    weight: Expr | None,
    op: str,
    axis: int,
    best: int,
    dtype_acc: str,
    sum_scheme: str,
    data: np.dtype,
    dtype: np.dtype,
) -> tuple[ReductionKind, cpu.Prepared, KernelOptions]:
    """The kind, the program and the options of a reduction of data of one dtype to results of another, made once."""
    kind = REDUCTIONS[op]
    prepared = cpu.prepare(kind.accumulator, expr, weight, kind.results == ("mean",), axis)
    wide_sums, compensated = check_accumulation(dtype_acc, sum_scheme, data)
    return (
        kind,
        prepared,
        KernelOptions(
            compute_dtype(dtype).name,
            best=best,
            largest=kind.largest,
            nan_first=not kind.many,
            compensated=compensated,
            wide_sums=wide_sums,
            finish=kind.results[0] if len(kind.results) == 1 else "both",
            out=dtype.name,
        ),
    )


def _finish(name: str, raw: cpu.Raw, kind: ReductionKind, dtype: np.dtype) -> np.ndarray:
    """A result of kind: (*batch, rows, dim), or (*batch, rows, K, dim) for vectors of which many are kept."""
    if name in ("values", "indices"):
        found = raw.values if name == "values" else raw.indices
        assert found is not None
        found = np.swapaxes(found, -1, -2)  # (*batch, rows, K, dim)
        with np.errstate(all="ignore"):
            found = found.astype(dtype) if name == "values" else np.ascontiguousarray(found)
        joined: np.ndarray = _join_values(found, kind)
        return joined
    sums = raw.sums
    assert sums is not None
    with np.errstate(all="ignore"):
        if name == "log":
            assert raw.maxima is not None
            top = raw.maxima[..., None]
            sums = np.log(sums) + np.where(np.isfinite(top), top, 0.0)
        elif name == "mean":
            assert raw.maxima is not None
            empty = ~(raw.maxima > -np.inf)[..., None] & (sums[..., -1:] == 0)
            sums = np.where(empty, 0.0, sums[..., :-1] / np.where(empty, 1.0, sums[..., -1:]))
        return sums.astype(dtype, copy=False)


def _join_values(found: Any, kind: ReductionKind) -> Any:
    """(*batch, rows, K, dim) best values as they are returned: numbers of which many are kept stand in one row."""
    *lead, K, D = found.shape
    return found.reshape(*lead, *((K, D) if kind.many and D > 1 else (K * D,)))
