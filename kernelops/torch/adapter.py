"""How tensors are reduced and solved with, differentiably; see frontend.adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import torch

from ..arrays.arguments import Arguments, cast_parameter, float_dtype, is_scalar, is_tensor, label, to_numpy
from ..errors import BackendError, DtypeError
from ..formula.expr import Expr
from ..operators.shift import check_alpha
from ..operators.system import SolveSpec
from ..reductions.kinds import REDUCTIONS
from ..reductions.reduction import Reduction
from ..solvers import Solution
from ..solvers.quadrature import Estimate
from . import gaussian_process as gp
from .autograd import Reduce
from .extrema import best
from .recording import is_recorded, record_reduction, record_solve, refuse_recording
from .solve import Account, Solve, shaped_alpha, users_level
from .unwrap import bound_of


def bind(spec: Reduction | SolveSpec, args: Sequence[Any]) -> Arguments:
    """The tensors, checked, without what torch.func wraps around them."""
    return bound_of(spec, _with_data(args, spec))


def reduce(spec: Reduction, args: Sequence[Any]) -> Any:
    """The result of a reduction."""
    tensors = _tensors(args, spec.variables, spec.names)
    if is_recorded(tensors):
        return record_reduction(spec, tensors)
    kind = REDUCTIONS[spec.op]
    if kind.accumulator != "best" or kind.results == ("indices",):
        return Reduce.apply(spec, *tensors)
    values, indices = best(spec, tensors)
    return values if kind.results == ("values",) else (values, indices)


def solve(spec: SolveSpec, args: Sequence[Any], alpha: Any) -> tuple[torch.Tensor, Solution]:
    """The solution, in the dtype of the right-hand side, and the account of it."""
    tensors = _tensors(args, spec.variables, spec.names)
    if is_recorded(tensors):
        return record_solve(spec, tensors, alpha)
    x0, start = spec.options.x0, []
    if is_tensor(x0):  # which a transform of torch.func may have wrapped
        spec, start = replace(spec, options=replace(spec.options, x0=None)), [x0.detach()]
    alpha = _alpha(alpha)
    spec = replace(spec, options=spec.options.with_state())  # the backward solves have the preconditioner from it
    account = Account()
    a = Solve.apply(spec, account, shaped_alpha(alpha, spec, tensors), *tensors, *start)
    assert account.solution is not None
    dtype = tensors[spec.unknown.position].dtype
    return a.to(dtype), spec.returned(account.solution, dtype, stacklevel=1 + users_level())


def logdet(spec: SolveSpec, args: Sequence[Any], alpha: Any, n_probes: int) -> tuple[Any, Any, Estimate]:
    """log det (alpha I + K), its standard error, and the estimate that both are of."""
    return gp.logdet(spec, _with_data(args, spec), _alpha(alpha), n_probes)


def inv_quad_logdet(spec: SolveSpec, args: Sequence[Any], alpha: Any, n_probes: int) -> tuple[Any, Any, Any, Estimate]:
    """b^T (alpha I + K)^-1 b, log det (alpha I + K), its standard error, and the estimate of the latter."""
    tensors, alpha = _with_data(args, spec), _alpha(alpha)
    value, stderr, estimate = gp.logdet(spec, tensors, alpha, n_probes)  # leaves the plan to the solve
    return gp.inv_quad(spec, tensors, alpha), value, stderr, estimate


def predict(
    spec: SolveSpec, args: Sequence[Any], alpha: Any, new: Mapping[int, Any], variance: bool
) -> tuple[Any, Any]:
    """Mean and variance at new points, in the dtype of the right-hand side."""
    tensors = _with_data(args, spec)
    for a in new.values():
        if not is_tensor(a):
            _refuse("at", a, None, None)
    return gp.predict(spec, tensors, _alpha(alpha), new, variance)


def _with_data(args: Sequence[Any], spec: Reduction | SolveSpec) -> list[torch.Tensor | None]:
    """The arguments as tensors, for what no operator of torch.library computes."""
    tensors = _tensors(args, spec.variables, spec.names)
    if is_recorded(tensors):
        refuse_recording("truncate=, logdet, inv_quad_logdet and predict")
    return tensors


def _tensors(args: Sequence[Any], variables: Sequence[Expr], names: Mapping[Expr, str]) -> list[torch.Tensor | None]:
    """The arguments as tensors; a number for a parameter takes the dtype and the device of the others."""
    device = next((a.device for a in args if is_tensor(a) and a.ndim), None)
    common = next((a.dtype for a in args if is_tensor(a) and a.is_floating_point() and a.ndim), None)
    usable = device is None or device.type in ("cpu", "cuda", "meta")
    kinds = {v.position: v.op for v in variables}
    last = max(kinds, default=-1)
    found: list[torch.Tensor | None] = []
    for k, a in enumerate(args):
        kind = kinds.get(k)
        if kind is None and k < last:  # no variable stands at this position
            found.append(None)
            continue
        if kind == "Pm" and _is_number(a):
            called = {v.position: label(v, names) for v in variables}[k]
            number = np.atleast_1d(to_numpy(a, called)).astype(np.float64)
            dtype = common or torch.get_default_dtype()
            if dtype in (torch.float16, torch.float32):
                cast_parameter(number, float_dtype(dtype), called)
            a = torch.full((1,), float(number[0]), dtype=dtype, device=device)
        elif not (usable and is_tensor(a) and (a.device == device or (kind == "Pm" and a.ndim == 0))):
            called = {v.position: f"{label(v, names)}, " for v in variables}
            _refuse(f"{called.get(k, '')}argument {k}", a, kind, device)
        elif kind == "Pm" and a.ndim == 0:
            a = a.reshape(1)
            a = a if a.is_complex() or a.dtype == torch.bool else a.to(device, common or a.dtype)
        found.append(a)
    return found


def _refuse(name: str, a: Any, kind: str | None, device: torch.device | None) -> NoReturn:
    """What is wrong with an argument that is no tensor on the CPU or on the GPU of the others."""
    if not is_tensor(a):
        raise DtypeError(
            f"{name}: wanted {'a number or ' * (kind == 'Pm')}a torch tensor, got {type(a).__name__}"
            + "; kernelops.numpy takes arrays" * isinstance(a, np.ndarray)
        )
    if a.device != device:
        raise BackendError(f"{name} is on {a.device}, an earlier one on {device}: all must be on one device")
    raise BackendError(f"{name} is on {a.device}: wanted the CPU or a GPU of NVIDIA; move it with .cpu()")


def _is_number(a: Any) -> bool:
    return is_scalar(a) or (isinstance(a, np.ndarray) and a.ndim == 0 and a.dtype.kind in "iuf")


def _alpha(alpha: Any) -> torch.Tensor:
    """alpha as a dense tensor; a number is held in float64."""
    if not is_tensor(alpha):
        return torch.from_numpy(np.atleast_1d(check_alpha(alpha)))
    if alpha.layout is not torch.strided:
        raise DtypeError(f"alpha is a tensor of layout {alpha.layout}: wanted a dense one, as .to_dense() gives")
    return alpha
