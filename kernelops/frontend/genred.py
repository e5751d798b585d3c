"""The half of Genred that both doors share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..arrays.arguments import float_dtype, is_tensor, unwrap_whole
from ..arrays.backend import check_backend
from ..errors import ArgumentError, ShapeError
from ..formula.cached import cached_property
from ..formula.expr import Expr, text
from ..formula.parse import parse
from ..ranges import Ranges
from ..reductions.kinds import check_reduction
from ..reductions.reduction import Reduction
from ..truncation.truncate import check_truncate, truncate_reduction
from .adapter import Adapter
from .checks import IGNORED, check_accumulator, check_axis, check_keywords
from .written import Written

if TYPE_CHECKING:
    pass


class Genred(Written):
    """The half of Genred that is the same for all array libraries; ``adapter`` is what one of them gives to it."""

    adapter: ClassVar[Adapter]
    spec: Reduction

    def __init__(
        self,
        formula: str,
        aliases: Sequence[str],
        reduction_op: str = "Sum",
        axis: int = 0,
        dtype: Any = None,
        opt_arg: int | None = None,
        formula2: str | None = None,
        cuda_type: Any = None,
        dtype_acc: str = "auto",
        use_double_acc: bool = False,
        sum_scheme: str = "auto",
        **ignored: Any,
    ) -> None:
        check_keywords(Genred.__init__, ignored, IGNORED, Genred.__call__)
        read, weight = parse(formula, aliases), None
        variables: Mapping[int, Expr] = {v.position: v for v in read.variables}
        if formula2 is not None:
            second = parse(formula2, aliases)
            weight = second.expr
            variables = {**variables, **{v.position: v for v in second.variables}}
        opt_arg = unwrap_whole(opt_arg)
        check_reduction(reduction_op, read.expr, weight, opt_arg)
        self.formula, self.formula2, self.aliases = formula, formula2, tuple(aliases)
        self.spec = Reduction(
            read.expr,
            reduction_op,
            check_axis(axis),
            tuple(variables[p] for p in sorted(variables)),
            read.names,
            weight,
            opt_arg,
            None if dtype is None else float_dtype(dtype),
            None,
            check_accumulator(dtype_acc, use_double_acc, sum_scheme),
            sum_scheme,
        )

    @cached_property
    def formula2(self) -> str | None:
        """The weight as text; None if there is none."""
        return None if self.spec.weight is None else text(self.spec.weight, self.spec.names)

    def __call__(
        self,
        *args: Any,
        backend: str = "auto",
        device_id: int = -1,
        ranges: Any = None,
        truncate: float | None = None,
        out: Any = None,
        **unknown: Any,
    ) -> Any:
        """Reduce the formula for these arrays.

        Parameters
        ----------
        *args : array or tensor
            One for each alias, in their order, all of one dtype: (..., M, D) for Vi, (..., N, D) for Vj, (..., D) for
            Pm, where a number will do too. Leading dimensions broadcast.
        backend : str, default "auto"
            "auto" computes where the arrays are, "CPU" on the host. "GPU", and KeOps' names that begin with it, send
            arrays of the host to a GPU and bring the result back.
        device_id : int, default -1
            Number of that GPU; -1 for the current one.
        ranges : Ranges or 6-tuple, or "auto", optional
            Which blocks of i meet which blocks of j; all pairs, if absent. "auto" means ``truncate=1e-3``.
        truncate : float, optional
            Drop blocks of negligible pairs; 0 <= truncate < 1. Of a sum that is linear in a vector, each row of the
            matrix loses at most truncate times the largest row sum of absolute values; a row of LogSumExp or
            SumSoftMaxWeight at most truncate times its own sum of exponentials; minima, maxima and their kin lose
            nothing. The points may be in any order. Derivatives are those of what is kept.
        out : array or tensor, optional
            Where to write the result: of its shape and dtype. For reductions with one result.

        Returns
        -------
        array or tensor, or a tuple of two
            (..., M, dim) for axis 1, (..., N, dim) for axis 0, (..., M, K) or (..., M, K, dim) for KMin and its kin; in
            the dtype of the arrays, or int64 for indices.

        Raises
        ------
        ArgumentError, ShapeError, DtypeError, RangesError, BackendError
            Naming the argument, what was wanted and what came.

        See Also
        --------
        kernelops.KernelOperator : a sum that is linear in a vector, as a linear operator of SciPy.
        kernelops.Ranges : block-sparse patterns.

        Examples
        --------
        >>> import numpy as np
        >>> from kernelops.numpy import Genred
        >>> x, y = np.array([[0.0], [1.0]]), np.array([[0.0], [2.0], [3.0]])
        >>> nearest = Genred("SqDist(x,y)", ["x = Vi(1)", "y = Vj(1)"], "Min_ArgMin", axis=1)
        >>> values, indices = nearest(x, y)
        >>> values.tolist(), indices.tolist()
        ([[0.0], [1.0]], [[0], [0]])
        """
        check_keywords(Genred.__call__, unknown)
        device = check_backend(backend, device_id, args)
        spec, tol = self.spec if device is None else replace(self.spec, device=device), check_truncate(truncate, ranges)
        if tol is not None:
            how = spec.expr, spec.weight, spec.op, spec.axis, spec.opt_arg
            spec = replace(spec, ranges=truncate_reduction(*how, self.adapter.bind(spec, args), tol))
        elif ranges is not None:
            spec = replace(spec, ranges=Ranges.of(ranges))
        result = self.adapter.reduce(spec, args)
        return result if out is None else _written(out, result)

    def __repr__(self) -> str:
        more = "" if self.spec.opt_arg is None else f", opt_arg={self.spec.opt_arg}"
        more += "" if self.formula2 is None else f", formula2={self.formula2!r}"
        return f"Genred({self.formula!r}, {list(self.aliases)!r}, {self.spec.op!r}, axis={self.spec.axis}{more})"


def _written(out: Any, result: Any) -> Any:
    """The result, written into the array that the caller gave."""
    if isinstance(result, tuple):
        raise ArgumentError("out is for reductions with one result; this one has two")
    if is_tensor(out) is not is_tensor(result) or not (is_tensor(out) or isinstance(out, np.ndarray)):
        raise ArgumentError(f"out: wanted {type(result).__name__}, got {type(out).__name__}")
    if tuple(out.shape) != tuple(result.shape) or out.dtype != result.dtype:
        raise ShapeError(
            f"out: wanted shape {tuple(result.shape)} of {result.dtype}, got {tuple(out.shape)} of {out.dtype}"
        )
    if not (out.flags.writeable if isinstance(out, np.ndarray) else not (out.is_leaf and out.requires_grad)):
        what = "a leaf that requires grad" if is_tensor(out) else "a read-only one"
        raise ArgumentError(f"out: wanted an array that can be written, got {what}")
    out[...] = result
    return out
