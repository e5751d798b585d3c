"""What the two front doors share of Genred and KernelSolve: parse once, check at the door, call.

A door adds how arrays of its kind are reduced and solved with: kernelops.numpy calls the specs straight away,
kernelops.torch wraps them into differentiable functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from inspect import signature
from typing import Any

import numpy as np

from .arrays import float_dtype, is_tensor
from .errors import ArgumentError, BackendError, KeywordError, ShapeError
from .formula.expr import Expr
from .formula.parse import parse
from .formula.tokens import nearest
from .kernel_product import unknown_of
from .ranges import Ranges
from .reduction import SUM_SCHEMES, check_reduction
from .solvers import Solution, SolveState
from .solvers.problem import check_callback, check_tolerance
from .specs import ReduceSpec, SolveSpec

BACKENDS = (
    *("auto", "CPU", "GPU", "GPU_1D", "GPU_1D_device", "GPU_1D_host"),
    *("GPU_2D", "GPU_2D_device", "GPU_2D_host"),
)
IGNORED = ("cuda_type", "enable_chunks", "rec_multVar_highdim", "use_fast_math")  # accepted for old scripts
DTYPE_ACC = ("auto", "float16", "float32", "float64")


def check_backend(backend: Any, device_id: Any) -> None:
    """Refuse a backend that does not exist, or cannot be used by this version."""
    if backend not in BACKENDS:
        hint = nearest(backend, BACKENDS) if isinstance(backend, str) else ""
        raise BackendError(f"backend: wanted one of {', '.join(BACKENDS)}, got {backend!r}{hint}")
    if isinstance(device_id, bool) or not isinstance(device_id, (int, np.integer)) or device_id < -1:
        raise ArgumentError(f"device_id: wanted the number of a GPU, or -1, got {device_id!r}")
    if backend.startswith("GPU"):
        raise BackendError(f'backend = {backend!r}: this version has no GPU engine; use "auto" or "CPU"')


def check_keywords(function: Callable[..., Any], keywords: Mapping[str, Any], ignored: Sequence[str] = ()) -> None:
    """Refuse keywords that a function has no parameter for and that are not on the list of the ignored ones."""
    for name in keywords:
        if name not in ignored:
            known = [p.name for p in signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
            owner = function.__qualname__.removesuffix(".__init__").replace(".__call__", "(...)")
            also = f" (ignored for old scripts are {', '.join(ignored)})" if ignored else ""
            raise KeywordError(f"{owner} has no keyword {name!r}{also}{nearest(name, known[1:])}")


def check_axis(axis: Any) -> int:
    """0 or 1."""
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)) or axis not in (0, 1):
        raise ArgumentError(f"axis: wanted 1 (reduce over j) or 0 (reduce over i), got {axis!r}")
    return int(axis)


def check_accumulator(dtype_acc: Any, use_double_acc: Any, sum_scheme: Any) -> str:
    """dtype_acc, or what use_double_acc says in its place."""
    if dtype_acc not in DTYPE_ACC:
        raise ArgumentError(f"dtype_acc: wanted one of {', '.join(DTYPE_ACC)}, got {dtype_acc!r}")
    if sum_scheme not in SUM_SCHEMES:
        raise ArgumentError(f"sum_scheme: wanted one of {', '.join(SUM_SCHEMES)}, got {sum_scheme!r}")
    if not isinstance(use_double_acc, (bool, int, np.bool_)):
        raise ArgumentError(f"use_double_acc: wanted True or False, got {use_double_acc!r}")
    if use_double_acc and dtype_acc != "auto":
        raise KeywordError(f'use_double_acc=True means dtype_acc="float64"; dtype_acc = {dtype_acc!r} was given too')
    return "float64" if use_double_acc else dtype_acc


class Genred:
    """Shared half of Genred; a door adds ``_reduce(spec, args)``."""

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
        check_keywords(Genred.__init__, ignored, IGNORED)
        read, weight = parse(formula, aliases), None
        variables: Mapping[int, Expr] = {v.params[0]: v for v in read.variables}
        if formula2 is not None:
            second = parse(formula2, aliases)
            weight = second.expr
            variables = {**variables, **{v.params[0]: v for v in second.variables}}
        check_reduction(reduction_op, read.expr, weight, opt_arg)
        self.formula, self.formula2, self.aliases = formula, formula2, tuple(aliases)
        self.spec = ReduceSpec(
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

    def __call__(
        self,
        *args: Any,
        backend: str = "auto",
        device_id: int = -1,
        ranges: Any = None,
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
            "auto" or "CPU"; the names of GPU backends are known and refused by this version.
        device_id : int, default -1
            Number of a GPU; without effect on a CPU.
        ranges : Ranges or 6-tuple, optional
            Which blocks of i meet which blocks of j; all pairs, if absent.
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
        """
        check_keywords(Genred.__call__, unknown)
        check_backend(backend, device_id)
        spec = self.spec if ranges is None else replace(self.spec, ranges=Ranges.of(ranges))
        result = self._reduce(spec, args)
        return result if out is None else _written(out, result)

    def _reduce(self, spec: ReduceSpec, args: Sequence[Any]) -> Any:
        raise NotImplementedError

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


class KernelSolve:
    """Shared half of KernelSolve; a door adds ``_solve(spec, args, alpha)``, which returns (a, Solution)."""

    def __init__(
        self,
        formula: str,
        aliases: Sequence[str],
        varinvalias: str,
        axis: int = 0,
        dtype: Any = None,
        cuda_type: Any = None,
        dtype_acc: str = "auto",
        use_double_acc: bool = False,
        sum_scheme: str = "auto",
        **ignored: Any,
    ) -> None:
        check_keywords(KernelSolve.__init__, ignored, IGNORED)
        read = parse(formula, aliases)
        unknown = unknown_of(read, varinvalias, "varinvalias")
        right = 1 if unknown.op == "Vj" else 0
        if check_axis(axis) != right:
            raise ArgumentError(f"axis = {axis} does not go with {varinvalias} = {unknown.op}(...): use axis = {right}")
        if read.expr.dim != unknown.dim:
            raise ArgumentError(
                f"varinvalias: the formula must be as long as the unknown; it has length {read.expr.dim}, "
                f"{varinvalias!r} has length {unknown.dim}"
            )
        self.formula, self.aliases, self.varinvalias = formula, tuple(aliases), varinvalias
        self.spec = SolveSpec(
            read.expr,
            unknown,
            read.variables,
            read.names,
            None if dtype is None else float_dtype(dtype),
            None,
            check_accumulator(dtype_acc, use_double_acc, sum_scheme),
            sum_scheme,
        )

    def __call__(
        self,
        *args: Any,
        backend: str = "auto",
        device_id: int = -1,
        alpha: Any = 1e-10,
        eps: float | None = None,
        ranges: Any = None,
        rtol: float | None = None,
        atol: float = 0.0,
        maxiter: int | None = None,
        M: Any = None,
        precond: str | None = "auto",
        method: str = "auto",
        state: SolveState | None = None,
        seed: int = 0,
        x0: Any = None,
        callback: Callable[[np.ndarray], Any] | None = None,
        progress: bool = False,
        verbose: bool = False,
        on_fail: str = "warn",
        return_solution: bool = False,
        **unknown: Any,
    ) -> Any:
        """Solve (alpha I + K) a = b for these arrays.

        Parameters
        ----------
        *args : array or tensor
            One for each alias, in their order, all of one dtype; the right-hand side b, (..., n, k), stands at the
            unknown's place. Leading dimensions broadcast.
        backend, device_id
            As for Genred.
        alpha : number, array or tensor, default 1e-10
            Added to the diagonal; finite and nonnegative, held in float64. Shape (), (1,), (n,) or (n, 1), with batch
            dimensions in front.
        eps : float, optional
            Another name for rtol; giving both is an error.
        ranges : Ranges or 6-tuple, optional
            Block-sparse K; the pattern must be symmetric.
        rtol, atol : float, default 1e-6 and 0
            A column is converged when ``norm(b - (alpha I + K) a) <= max(rtol * norm(b), atol)``, for the float64
            iterate and with the residual recomputed in float64.
        maxiter : int, optional
            Most iterations; by default 10 n, but at least 100.
        M : LinearOperator, sparse or dense matrix, optional
            A preconditioner of your own: near the inverse of alpha I + K, symmetric positive definite, (n, n). For a
            matrix-valued kernel (n D, n D), where D is the length of the unknown.
        precond : {"auto", None, "pivoted_cholesky", "fsai", "nystrom", "jacobi"}
            Which preconditioner to build; "auto" builds what is expected to pay.
        method : {"auto", "cg", "block_cg", "direct"}
            Conjugate gradients, by columns or in a subspace that these share, or a dense Cholesky factor; "auto" takes
            what is predicted to be faster.
        state : SolveState, optional
            Carries preconditioner and solution from one call to the next.
        seed : int, default 0
            Of what is drawn at random in a preconditioner.
        x0 : array or tensor, or "Mb", optional
            Where to start, in the shape of b; zero by default, M b for "Mb".
        callback : callable, optional
            ``callback(x)`` after each iteration, with a float64 numpy copy of the iterate in the shape of a. If it
            raises StopIteration, the solve ends with status "stopped".
        progress : bool, default False
            Show how far it is.
        verbose : bool, default False
            Say on stderr which method and preconditioner are taken, and why, and how it went.
        on_fail : {"warn", "raise", "ignore"}, default "warn"
            What to do when a column does not converge: ConvergenceWarning, SolveError, nothing.
        return_solution : bool, default False
            Return (a, Solution) instead of a.

        Returns
        -------
        a : array or tensor
            In the shape (batch dimensions broadcast) and the dtype of b.
        solution : Solution
            With ``return_solution=True``: what came out of the solve, as numpy arrays.

        Raises
        ------
        ArgumentError, ShapeError, DtypeError, RangesError, BackendError, KeywordError
            Naming the argument, what was wanted and what came.
        SolveError
            When a column does not converge and on_fail is "raise".
        """
        check_keywords(KernelSolve.__call__, unknown)
        check_backend(backend, device_id)
        if eps is not None and rtol is not None:
            raise KeywordError(f"eps is KernelSolve's other name for rtol: give one of them, got {eps!r} and {rtol!r}")
        tolerance = 1e-6 if eps is None and rtol is None else rtol if eps is None else check_tolerance(eps, "eps")
        check_callback(callback)
        if on_fail not in ("warn", "raise", "ignore"):
            raise ArgumentError(f'on_fail must be "warn", "raise" or "ignore", got {on_fail!r}')
        options = {
            **{"rtol": tolerance, "atol": atol, "maxiter": maxiter, "M": M, "x0": x0},
            **{"precond": precond, "method": method, "state": state, "seed": seed},
            **{"callback": callback, "progress": progress, "verbose": verbose},
        }
        spec = replace(self.spec, ranges=Ranges.of(ranges), options=options, on_fail=on_fail)
        a, solution = self._solve(spec, args, alpha)
        return (a, solution) if return_solution else a

    def _solve(self, spec: SolveSpec, args: Sequence[Any], alpha: Any) -> tuple[Any, Solution]:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"KernelSolve({self.formula!r}, {list(self.aliases)!r}, {self.varinvalias!r}, axis={self.spec.axis})"
