"""Reductions of and solves with numpy arrays, and arrays on a GPU that are no tensors; see frontend.adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays.arguments import Arguments, is_tensor, label, to_numpy
from ..arrays.libraries import to_library
from ..errors import DtypeError
from ..frontend import gaussian_process as gp
from ..operators.shift import alpha_for_solve
from ..operators.system import SolveSpec
from ..reductions.reduction import Reduction
from ..solvers import Solution
from ..solvers.quadrature import Estimate


def bind(spec: Reduction | SolveSpec, args: Sequence[Any]) -> Arguments:
    """The arrays, checked."""
    _refuse_tensors(args, spec)
    return spec.bind(args)


def reduce(spec: Reduction, args: Sequence[Any]) -> Any:
    """The result of a reduction."""
    return spec(bind(spec, args))


def solve(spec: SolveSpec, args: Sequence[Any], alpha: Any) -> tuple[np.ndarray, Solution]:
    """The solution, in the dtype of the right-hand side, and the account of it."""
    arguments, checked = _bind_with_alpha(spec, args, alpha)
    solution = spec.returned(spec(arguments, checked, stacklevel=4), arguments.dtype, stacklevel=4)
    with np.errstate(over="ignore"):  # spec.returned has warned of it
        return to_library(arguments, solution.x.astype(arguments.dtype)), solution


def logdet(spec: SolveSpec, args: Sequence[Any], alpha: Any, n_probes: int) -> tuple[Any, Any, Estimate]:
    """log det (alpha I + K), its standard error, and the estimate that both are of."""
    arguments, checked = _bind_with_alpha(spec, args, alpha)
    matrix = gp.ready(spec, arguments, checked, n_probes)
    found = gp.determinant(matrix, n_probes, spec.options.seed, spec.options.rtol)
    return found.value[()], found.stderr[()], found


def inv_quad_logdet(spec: SolveSpec, args: Sequence[Any], alpha: Any, n_probes: int) -> tuple[Any, Any, Any, Estimate]:
    """b^T (alpha I + K)^-1 b, log det (alpha I + K), its standard error, and the estimate of the latter."""
    arguments, checked = _bind_with_alpha(spec, args, alpha)
    matrix = gp.ready(spec, arguments, checked, n_probes + spec.unknown.dim)
    solution = spec(arguments, checked, stacklevel=4)
    inv_quad = gp.quadratic(matrix.kernel, matrix.system, matrix.kernel.b, solution.x).sum(-1)
    found = gp.determinant(matrix, n_probes, spec.options.seed, spec.options.rtol)
    return inv_quad, found.value[()], found.stderr[()], found


def predict(
    spec: SolveSpec, args: Sequence[Any], alpha: Any, new: Mapping[int, Any], variance: bool
) -> tuple[Any, Any]:
    """Mean and variance at new points, in the dtype of the right-hand side."""
    arguments, checked = _bind_with_alpha(spec, args, alpha)
    points = {}
    for p, a in new.items():
        if is_tensor(a):
            raise DtypeError("at is a torch tensor: use kernelops.torch, or pass its .numpy()")
        points[p] = to_numpy(a, "at")
    mean, spread = gp.predict(spec, args, checked, points, variance, stacklevel=4)
    on_fail = spec.options.on_fail
    mean = to_library(arguments, gp.round_to(mean, arguments.dtype, "mean", on_fail, stacklevel=3))
    if spread is None:
        return mean, None
    return mean, to_library(arguments, gp.round_to(spread, arguments.dtype, "variance", on_fail, stacklevel=3))


def _bind_with_alpha(spec: SolveSpec, args: Sequence[Any], alpha: Any) -> tuple[Arguments, np.ndarray]:
    """The arrays, and alpha for a solve with them."""
    _refuse_tensors(args, spec, alpha)
    arguments = spec.bind(args)
    return arguments, alpha_for_solve(alpha, arguments)


def _refuse_tensors(args: Sequence[Any], spec: Reduction | SolveSpec, alpha: Any = 0.0) -> None:
    for k, a in [*enumerate(args), (-1, alpha)]:
        if is_tensor(a):
            called = {v.position: label(v, spec.names) for v in spec.variables}
            name = "alpha" if k < 0 else called.get(k, f"argument {k}")
            raise DtypeError(f"{name} is a torch tensor: use kernelops.torch, or pass its .numpy()")
