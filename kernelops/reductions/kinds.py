"""The table of reductions, and the checks of what each takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArgumentError, FormulaError
from ..formula.expr import Expr
from ..formula.ops import LARGEST
from ..formula.tokens import nearest


@dataclass(frozen=True, slots=True)
class ReductionKind:
    """One kind of reduction: what an engine accumulates and what is returned.

    Attributes
    ----------
    accumulator : str
        "sum", "exp" or "best".
    results : tuple of str
        "values" and/or "indices" for "best"; "sum", "log" or "mean" otherwise.
    largest : bool
        Whether the largest values are wanted.
    weighted : bool or None
        Whether a second formula is needed (True), refused (False) or optional (None).
    many : bool
        Whether opt_arg is the number of values kept.
    """

    accumulator: str
    results: tuple[str, ...]
    largest: bool = False
    weighted: bool | None = False
    many: bool = False


REDUCTIONS: dict[str, ReductionKind] = {
    "Sum": ReductionKind("sum", ("sum",)),
    "LogSumExp": ReductionKind("exp", ("log",), weighted=None),
    "LogSumExpWeight": ReductionKind("exp", ("log",), weighted=True),
    "SumSoftMaxWeight": ReductionKind("exp", ("mean",), weighted=True),
    "SoftMax": ReductionKind("exp", ("mean",), weighted=True),
    "Min": ReductionKind("best", ("values",)),
    "Max": ReductionKind("best", ("values",), largest=True),
    "ArgMin": ReductionKind("best", ("indices",)),
    "ArgMax": ReductionKind("best", ("indices",), largest=True),
    "Min_ArgMin": ReductionKind("best", ("values", "indices")),
    "Max_ArgMax": ReductionKind("best", ("values", "indices"), largest=True),
    "KMin": ReductionKind("best", ("values",), many=True),
    "ArgKMin": ReductionKind("best", ("indices",), many=True),
    "KMin_ArgKMin": ReductionKind("best", ("values", "indices"), many=True),
}

# (dtype_acc, dtype of the data) -> sums in float64 inside a tile too; across tiles sums are always float64
_HALF, _SINGLE, _DOUBLE = map(np.dtype, (np.float16, np.float32, np.float64))
_ACCUMULATORS = {
    ("auto", _HALF): False,
    ("auto", _SINGLE): False,
    ("auto", _DOUBLE): False,
    ("float16", _HALF): False,
    ("float32", _HALF): False,
    ("float32", _SINGLE): False,
    ("float64", _SINGLE): True,
    ("float64", _DOUBLE): True,
}
SUM_SCHEMES = {"auto": False, "block_sum": False, "direct_sum": False, "kahan_scheme": True}  # -> compensated


def check_reduction(op: str, expr: Expr, weight: Expr | None, opt_arg: Any) -> ReductionKind:
    """The row of ``REDUCTIONS`` for a reduction, its formulas and its argument checked."""
    if not isinstance(op, str) or op not in REDUCTIONS:
        hint = nearest(op, list(REDUCTIONS)) if isinstance(op, str) else ""
        raise ArgumentError(f"reduction_op: wanted one of {', '.join(REDUCTIONS)}, got {op!r}{hint}")
    kind = REDUCTIONS[op]
    if kind.weighted and weight is None:
        raise ArgumentError(f"{op} needs formula2, the weight")
    if kind.weighted is False and weight is not None:
        raise ArgumentError(f"formula2 is a weight for LogSumExp and SumSoftMaxWeight; {op} takes none")
    if kind.accumulator == "exp" and expr.dim != 1:
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
    found = _ACCUMULATORS.get((dtype_acc, dtype)) if isinstance(dtype_acc, str) else None
    if found is None:
        allowed = [name for name, data in _ACCUMULATORS if data == dtype]
        raise ArgumentError(f"dtype_acc: wanted one of {', '.join(allowed)} for {dtype.name} data, got {dtype_acc!r}")
    if not isinstance(sum_scheme, str) or sum_scheme not in SUM_SCHEMES:
        raise ArgumentError(f"sum_scheme: wanted one of {', '.join(SUM_SCHEMES)}, got {sum_scheme!r}")
    return found, SUM_SCHEMES[sum_scheme]
