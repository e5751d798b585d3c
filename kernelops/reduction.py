"""Reduction: a formula reduced over j or i, bound to arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .arrays.arguments import Bound, bind, working
from .arrays.libraries import on_host
from .engines import cpu, gpu
from .errors import ArgumentError, FormulaError, ShapeError
from .formula.expr import Expr, substitute, variable
from .formula.parse import LARGEST
from .formula.tokens import nearest
from .ranges import Ranges


@dataclass(frozen=True, slots=True)
class Kind:
    """One reduction: what the machine accumulates and what is returned.

    Attributes
    ----------
    machine : str
        "sum", "exp" or "best".
    results : tuple of str
        "values" and/or "indices" for "best"; "sum", "log" or "mean" otherwise.
    largest : bool
        Whether the largest values are wanted.
    weighted : bool or None
        Whether a second formula is needed (True), refused (False) or optional (None).
    many : bool
        Whether opt_arg says how many values are kept.
    """

    machine: str
    results: tuple[str, ...]
    largest: bool = False
    weighted: bool | None = False
    many: bool = False


REDUCTIONS: dict[str, Kind] = {
    "Sum": Kind("sum", ("sum",)),
    "LogSumExp": Kind("exp", ("log",), weighted=None),
    "LogSumExpWeight": Kind("exp", ("log",), weighted=True),
    "SumSoftMaxWeight": Kind("exp", ("mean",), weighted=True),
    "SoftMax": Kind("exp", ("mean",), weighted=True),
    "Min": Kind("best", ("values",)),
    "Max": Kind("best", ("values",), largest=True),
    "ArgMin": Kind("best", ("indices",)),
    "ArgMax": Kind("best", ("indices",), largest=True),
    "Min_ArgMin": Kind("best", ("values", "indices")),
    "Max_ArgMax": Kind("best", ("values", "indices"), largest=True),
    "KMin": Kind("best", ("values",), many=True),
    "ArgKMin": Kind("best", ("indices",), many=True),
    "KMin_ArgKMin": Kind("best", ("values", "indices"), many=True),
}

# (dtype_acc, dtype of the data) -> sums in float64 inside a tile too; across tiles sums are always float64
_ACCUMULATORS = {
    ("auto", "float16"): False,
    ("auto", "float32"): False,
    ("auto", "float64"): False,
    ("float16", "float16"): False,
    ("float32", "float16"): False,
    ("float32", "float32"): False,
    ("float64", "float32"): True,
    ("float64", "float64"): True,
}
SUM_SCHEMES = {"auto": False, "block_sum": False, "direct_sum": False, "kahan_scheme": True}  # -> compensated


def check_reduction(op: str, expr: Expr, weight: Expr | None, opt_arg: Any) -> Kind:
    """The row of ``REDUCTIONS`` for a reduction, its formulas and its argument checked."""
    if not isinstance(op, str) or op not in REDUCTIONS:
        hint = nearest(op, list(REDUCTIONS)) if isinstance(op, str) else ""
        raise ArgumentError(f"reduction_op: wanted one of {', '.join(REDUCTIONS)}, got {op!r}{hint}")
    kind = REDUCTIONS[op]
    if kind.weighted and weight is None:
        raise ArgumentError(f"{op} needs formula2, the weight")
    if kind.weighted is False and weight is not None:
        raise ArgumentError(f"formula2 is a weight for LogSumExp and SumSoftMaxWeight; {op} takes none")
    if kind.machine == "exp" and expr.dim != 1:
        raise FormulaError(f"{op} needs a formula of length 1, got one of length {expr.dim}")
    whole = isinstance(opt_arg, (int, np.integer)) and not isinstance(opt_arg, bool)
    if kind.many and not (whole and opt_arg >= 1):
        raise ArgumentError(f"{op} needs opt_arg = K, a whole number >= 1, got {opt_arg!r}")
    if kind.many and opt_arg > LARGEST:
        raise ArgumentError(f"{op}: the largest opt_arg is {LARGEST}, got {opt_arg}")
    if not kind.many and opt_arg is not None:
        raise ArgumentError(f"opt_arg is the K of KMin, ArgKMin and KMin_ArgKMin; {op} takes none, got {opt_arg!r}")
    return kind


def check_accumulation(dtype_acc: str, sum_scheme: str, dtype: np.dtype) -> tuple[bool, bool]:
    """(float64 inside tiles, compensated across tiles) for data of this dtype."""
    if not isinstance(dtype_acc, str) or (dtype_acc, dtype.name) not in _ACCUMULATORS:
        allowed = [name for name, data in _ACCUMULATORS if data == dtype.name]
        raise ArgumentError(f"dtype_acc: wanted one of {', '.join(allowed)} for {dtype.name} data, got {dtype_acc!r}")
    if not isinstance(sum_scheme, str) or sum_scheme not in SUM_SCHEMES:
        raise ArgumentError(f"sum_scheme: wanted one of {', '.join(SUM_SCHEMES)}, got {sum_scheme!r}")
    return _ACCUMULATORS[dtype_acc, dtype.name], SUM_SCHEMES[sum_scheme]


class Method(NamedTuple):
    """How a reduction goes, whatever its arrays: called with those, it returns an array or a tuple of two."""

    kind: Kind
    axis: int
    prepared: cpu.Prepared
    best: int
    wide_sums: bool
    compensated: bool

    def __call__(self, bound: Bound, ranges: Ranges | None, dtype: np.dtype) -> Any:
        """The result, computed and returned in dtype; the ranges have been checked to fit the arrays."""
        kind = self.kind
        how: dict[str, Any] = {"wide_sums": self.wide_sums, "compensated": self.compensated, "best": self.best}
        how["largest"], how["nan_first"] = kind.largest, not kind.many
        if bound.device is not None:
            finish = kind.results[0] if len(kind.results) == 1 else "both"
            found = gpu.run(self.prepared, bound, self.axis, ranges, dtype, finish=finish, **how)
            found = tuple(_shelved(a, kind) for a in found) if kind.machine == "best" else found
            return found[0] if len(found) == 1 else found
        raw = cpu.run(self.prepared, bound, self.axis, ranges, working(dtype), **how)
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
    prepared = cpu.prepare(kind.machine, expr, weight, kind.results == ("mean",), axis)
    return Method(kind, axis, prepared, best, *check_accumulation(dtype_acc, sum_scheme, dtype))


def _finished(name: str, raw: cpu.Raw, kind: Kind, dtype: np.dtype) -> np.ndarray:
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


def _shelved(found: Any, kind: Kind) -> Any:
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
    args : sequence of array, or Bound
        By position; a Bound has been checked already.
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
        args: Sequence[Any] | Bound,
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
        if isinstance(args, Bound):
            self.bound = args
        else:
            used = {v.params[0]: v for e in (expr, weight) if e is not None for v in e.vars}
            if variables is None:
                variables, args = list(used.values()), args[: max(used, default=-1) + 1]
            self.bound = bind(variables, args, names, sizes=sizes)
        if ranges is not None:
            ranges.check(self.bound.M, self.bound.N)
        self.best = int(opt_arg) if opt_arg is not None else 1
        check_accumulation(dtype_acc, sum_scheme, self.bound.dtype)

    def __call__(self, dtype: np.dtype | None = None) -> Any:
        """The result (a tuple where there are two), computed and returned in dtype (that of the data unless given)."""
        bound = self.bound
        how = (self.expr, self.weight, self.op, self.axis, self.best, self.dtype_acc, self.sum_scheme, bound.dtype)
        return method(*how)(bound, self.ranges, bound.dtype if dtype is None else np.dtype(dtype))

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
        I = _indices(rows, self.bound.M, "i")
        J = _indices(columns, self.bound.N, "j")
        if I.shape != J.shape:
            raise ShapeError(f"wanted as many i as j, got {len(I)} and {len(J)}")
        expr, bound = aligned(self.expr, self.bound, I, J)
        result = Reduction(expr, "Sum", 1, bound)(dtype)
        if self.ranges is not None:
            result[..., ~self.ranges.contains(I, J), :] = 0
        return result


def _indices(indices: Any, count: int, name: str) -> np.ndarray:
    found = np.asarray(indices)
    if found.size == 0:
        return np.zeros(0, np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise ArgumentError(f"{name}: wanted a list of whole numbers, got {found.dtype} of shape {found.shape}")
    if found.min() < 0 or found.max() >= count:
        raise ArgumentError(f"{name}: wanted indices from 0 to {count - 1}, got {found.min()} to {found.max()}")
    return found.astype(np.int64)


def aligned(expr: Expr, bound: Bound, I: np.ndarray, J: np.ndarray) -> tuple[Expr, Bound]:
    """The formula with its variables indexed by the pairs, and the arrays gathered to match: a sum over one column."""
    index = {"Vi": I, "Vj": J}
    bound, arrays = on_host(bound), [None] * len(bound.arrays)
    for v in expr.vars:
        a = bound.arrays[v.params[0]]
        arrays[v.params[0]] = a[..., index[v.op], :] if v.op in index else a
    gathered = Bound(tuple(arrays), bound.dtype, bound.batch, len(I), 1)
    return substitute(expr, {v: variable("Vi", v.params[0], v.dim) for v in expr.vars if v.op == "Vj"}), gathered


def pairwise(expr: Expr, bound: Bound, ranges: Ranges | None, dtype: np.dtype) -> np.ndarray:
    """The formula at every pair of a row i and a column j, (*batch, M, N, dim), in dtype; 0 outside the ranges."""
    found = cpu.run(cpu.prepare("entries", expr, None, False, 1), bound, 1, ranges, working(dtype)).entries
    assert found is not None
    return found.astype(dtype, copy=False)


def pair_work(expr: Expr, axis: int) -> int:
    """Counted work of one pair in a sum of the formula, an addition of numbers being 1."""
    return int(cpu.prepare("sum", expr, None, False, axis).encoded.cost)
