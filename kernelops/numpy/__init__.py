"""Genred and KernelSolve for numpy arrays.

>>> import numpy as np
>>> from kernelops.numpy import Genred
>>> x, y = np.array([[0.0], [1.0]]), np.array([[0.0], [2.0], [3.0]])
>>> distances = Genred("SqDist(x,y)", ["x = Vi(1)", "y = Vj(1)"], "Min", axis=1)
>>> distances(x, y)
array([[0.],
       [1.]])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import frontend
from ..arrays.arguments import Arguments, is_tensor, label, to_numpy
from ..arrays.libraries import to_library
from ..errors import DtypeError
from ..frontend.gaussian_process import completed, determinant, predict, quadratic, ready, rounded
from ..frontend.generic import generic_functions
from ..operators.shift import alpha_for_solve
from ..operators.system import SolveSpec
from ..reductions.reduction import Reduction
from ..solvers import Solution
from ..solvers.quadrature import Estimate
from . import cluster

__all__ = ["Genred", "KernelSolve", "cluster", "generic_argkmin", "generic_argmin", "generic_logsumexp", "generic_sum"]


def _refuse_tensors(args: Sequence[Any], spec: Reduction | SolveSpec, alpha: Any = 0.0) -> None:
    for k, a in [*enumerate(args), (-1, alpha)]:
        if is_tensor(a):
            called = {v.params[0]: label(v, spec.names) for v in spec.variables}
            name = "alpha" if k < 0 else called.get(k, f"argument {k}")
            raise DtypeError(f"{name} is a torch tensor: use kernelops.torch, or pass its .numpy()")


class Genred(frontend.Genred):
    """A formula reduced over i or j, for numpy arrays.

    Parameters
    ----------
    formula : str
        The formula, over the names of the aliases.
    aliases : sequence of str
        ``"x = Vi(3)"``, ``"y = Vj(3)"``, ``"g = Pm(1)"``: the arguments in their order.
    reduction_op : str, default "Sum"
        Sum, LogSumExp, SumSoftMaxWeight, Min, Max, ArgMin, ArgMax, Min_ArgMin, Max_ArgMax, KMin, ArgKMin or
        KMin_ArgKMin.
    axis : {0, 1}, default 0
        1 reduces over j, the result is indexed by i; 0 reduces over i.
    dtype : str, optional
        "float16", "float32" or "float64": arrays of another dtype are refused. By default that of the arrays counts.
    opt_arg : int, optional
        K, for KMin, ArgKMin and KMin_ArgKMin.
    formula2 : str, optional
        The weight, for LogSumExp and SumSoftMaxWeight.
    dtype_acc : {"auto", "float16", "float32", "float64"}
        "float64" adds in float64 within blocks too; across blocks sums are always float64.
    use_double_acc : bool
        The same as dtype_acc="float64".
    sum_scheme : {"auto", "block_sum", "direct_sum", "kahan_scheme"}
        "kahan_scheme" compensates the sums across blocks; the others are one.
    cuda_type, **ignored
        Accepted from old scripts and without effect: cuda_type, enable_chunks, rec_multVar_highdim, use_fast_math. Any
        other keyword is refused.

    Notes
    -----
    A call is ``genred(*args, backend="auto", device_id=-1, ranges=None, out=None)``: arrays (..., M, D) for Vi,
    (..., N, D) for Vj, (..., D) for Pm (or a number), whose leading dimensions broadcast. It returns (..., M, dim) for
    axis 1, (..., N, dim) for axis 0, in the dtype of the arrays; int64 for indices; a tuple for Min_ArgMin and its kin;
    (..., M, K) or (..., M, K, dim) for KMin. ``ranges`` restricts which blocks of i meet which blocks of j.

    Raises
    ------
    FormulaError, ArgumentError, ShapeError, DtypeError, RangesError, BackendError, KeywordError

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops.numpy import Genred
    >>> x, y, b = np.zeros((2, 3)), np.ones((4, 3)), np.ones((4, 1))
    >>> gauss = Genred("Exp(-SqDist(x,y))*b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"], axis=1)
    >>> gauss(x, y, b).round(4)
    array([[0.1991],
           [0.1991]])
    """

    def _reduce(self, spec: Reduction, args: Sequence[Any]) -> Any:
        return spec(self._bound(spec, args))

    def _bound(self, spec: Reduction, args: Sequence[Any]) -> Arguments:
        _refuse_tensors(args, spec)
        return spec.bind(args)


class KernelSolve(frontend.KernelSolve):
    """Solves (alpha I + K) a = b for a kernel matrix K written as a formula, for numpy arrays.

    Parameters
    ----------
    formula : str
        A formula that is linear in the unknown and as long as it, as in ``"Exp(-g*SqDist(x,y))*b"``.
    aliases : sequence of str
        The arguments in their order.
    varinvalias : str
        Name of the unknown; the right-hand side is passed in its place.
    axis : {0, 1}, default 0
        1 where the unknown is a Vj, 0 where it is a Vi.
    dtype, dtype_acc, use_double_acc, sum_scheme
        As for Genred.
    cuda_type, **ignored
        Accepted from old scripts and without effect: cuda_type, enable_chunks, rec_multVar_highdim, use_fast_math. Any
        other keyword is refused.

    Notes
    -----
    A call is ``solver(*args, alpha=1e-10, eps=1e-6, ranges=None, rtol=None, atol=0., maxiter=None, M=None, x0=None,
    callback=None, progress=False, on_fail="warn", return_solution=False, backend="auto", device_id=-1)``.
    alpha is finite and nonnegative, a number or one for each row: shape (), (1,), (n,) or (n, 1), batch dimensions in
    front. eps is another name for rtol; the other keywords are those of :func:`kernelops.solve`. It returns a, in the
    shape and dtype of b (batch dimensions broadcast), or (a, Solution).

    Raises
    ------
    FormulaError, ArgumentError, ShapeError, DtypeError, RangesError, BackendError, KeywordError, SolveError

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops.numpy import KernelSolve
    >>> x, b = np.array([[0.0], [1.0]]), np.array([[1.0], [0.0]])
    >>> solver = KernelSolve("Exp(-SqDist(x,y))*b", ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"], "b", axis=1)
    >>> solver(x, x, b, alpha=1.0).round(4)
    array([[ 0.5175],
           [-0.0952]])
    """

    def _bound(self, spec: SolveSpec, args: Sequence[Any]) -> Arguments:
        _refuse_tensors(args, spec)
        return spec.bind(args)

    def _completed(self, spec: SolveSpec, args: Sequence[Any]) -> Sequence[Any]:
        return completed(spec, args, _zeros)

    def _solve(self, spec: SolveSpec, args: Sequence[Any], alpha: Any) -> tuple[np.ndarray, Solution]:
        arguments, checked = self._checked(spec, args, alpha)
        solution = spec.returned(spec(arguments, checked, stacklevel=4), arguments.dtype, stacklevel=4)
        with np.errstate(over="ignore"):  # that is said
            return to_library(arguments, solution.x.astype(arguments.dtype)), solution

    def _logdet(self, spec: SolveSpec, args: Sequence[Any], alpha: Any, n_probes: int) -> tuple[Any, Any, Estimate]:
        arguments, checked = self._checked(spec, self._completed(spec, args), alpha)
        options = spec.options
        found = determinant(ready(spec, arguments, checked, n_probes), n_probes, options["seed"], options["rtol"])
        return found.value[()], found.stderr[()], found

    def _inv_quad_logdet(
        self, spec: SolveSpec, args: Sequence[Any], alpha: Any, n_probes: int
    ) -> tuple[Any, Any, Any, Estimate]:
        arguments, checked = self._checked(spec, args, alpha)
        options = spec.options
        found = ready(spec, arguments, checked, n_probes + spec.unknown.dim)
        solution = spec(arguments, checked, stacklevel=4)
        inv_quad = quadratic(found.kernel, found.system, found.kernel.b, solution.x).sum(-1)
        estimate = determinant(found, n_probes, options["seed"], options["rtol"])
        return inv_quad, estimate.value[()], estimate.stderr[()], estimate

    def _predict(
        self, spec: SolveSpec, args: Sequence[Any], alpha: Any, new: dict[int, Any], variance: bool
    ) -> tuple[Any, Any]:
        arguments, checked = self._checked(spec, args, alpha)
        points = {}
        for p, a in new.items():
            if is_tensor(a):
                raise DtypeError("at is a torch tensor: use kernelops.torch, or pass its .numpy()")
            points[p] = to_numpy(a, "at")
        mean, spread = predict(spec, args, checked, points, variance, stacklevel=4)
        mean = to_library(arguments, rounded(mean, arguments.dtype, "mean", spec.on_fail, stacklevel=3))
        if spread is None:
            return mean, None
        return mean, to_library(arguments, rounded(spread, arguments.dtype, "variance", spec.on_fail, stacklevel=3))

    @staticmethod
    def _checked(spec: SolveSpec, args: Sequence[Any], alpha: Any) -> tuple[Arguments, np.ndarray]:
        """The arrays, and alpha for a solve with them."""
        _refuse_tensors(args, spec, alpha)
        arguments = spec.bind(args)
        return arguments, alpha_for_solve(alpha, arguments)


def _zeros(like: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros of the dtype of an array that may turn out to be something else."""
    dtype = getattr(like, "dtype", None)
    return np.zeros(shape, dtype if isinstance(dtype, np.dtype) and dtype.kind == "f" else np.float64)


generic_sum, generic_logsumexp, generic_argmin, generic_argkmin = generic_functions(Genred)
