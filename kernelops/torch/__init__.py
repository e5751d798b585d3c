"""Genred and KernelSolve for torch tensors, differentiable any number of times.

>>> import torch
>>> from kernelops.torch import KernelSolve
>>> x = torch.tensor([[0.0], [1.0]], requires_grad=True)
>>> b = torch.tensor([[1.0], [0.0]])
>>> solver = KernelSolve("Exp(-SqDist(x,y))*b", ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"], "b", axis=1)
>>> a = solver(x, x, b, alpha=1.0)
>>> (gradient,) = torch.autograd.grad((a**2).sum(), x)
>>> gradient.shape
torch.Size([2, 1])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from ..errors import MissingExtraError

try:
    import torch
except ImportError as error:
    raise MissingExtraError(
        'kernelops.torch needs PyTorch, which is not installed: pip install "kernelops[torch]"'
    ) from error

from .. import frontend
from ..arrays.arguments import Arguments, cast_parameter, float_dtype, is_scalar, is_tensor, label, to_numpy
from ..errors import BackendError, DtypeError
from ..formula.expr import Expr
from ..frontend.gaussian_process import completed
from ..frontend.generic import generic_functions
from ..operators.shift import check_alpha
from ..operators.system import SolveSpec
from ..ranges import Ranges
from ..reductions.kinds import REDUCTIONS
from ..reductions.reduction import Reduction
from ..solvers import Solution, SolveState
from ..solvers.quadrature import Estimate
from . import cluster
from . import gaussian_process as beside
from .autograd import Reduce
from .extrema import AtWinners, Best, best
from .older_vmap import Function
from .solve import Account, Solve, shaped_alpha, users_level
from .uncompiled import leave_uncompiled
from .unwrap import Look, bound_of

__all__ = ["Genred", "KernelSolve", "cluster", "generic_argkmin", "generic_argmin", "generic_logsumexp", "generic_sum"]


def _tensors(args: Sequence[Any], variables: Sequence[Expr], names: Mapping[Expr, str]) -> list[torch.Tensor | None]:
    """The arguments as tensors; a number for a parameter takes the dtype and the device of the others."""
    device = next((a.device for a in args if is_tensor(a) and a.ndim), None)
    common = next((a.dtype for a in args if is_tensor(a) and a.is_floating_point() and a.ndim), None)
    usable = device is None or device.type in ("cpu", "cuda")
    kinds = {v.params[0]: v.op for v in variables}
    last = max(kinds, default=-1)
    found: list[torch.Tensor | None] = []
    for k, a in enumerate(args):
        kind = kinds.get(k)
        if kind is None and k < last:  # no variable stands at this position
            found.append(None)
            continue
        if kind == "Pm" and _is_number(a):
            called = {v.params[0]: label(v, names) for v in variables}[k]
            number = np.atleast_1d(to_numpy(a, called)).astype(np.float64)
            dtype = common or torch.get_default_dtype()
            if dtype in (torch.float16, torch.float32):
                cast_parameter(number, float_dtype(dtype), called)
            a = torch.full((1,), float(number[0]), dtype=dtype, device=device)
        elif not (usable and is_tensor(a) and (a.device == device or (kind == "Pm" and a.ndim == 0))):
            called = {v.params[0]: f"{label(v, names)}, " for v in variables}
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


class Genred(frontend.Genred):
    """A formula reduced over i or j, for torch tensors.

    Parameters
    ----------
    formula, aliases, reduction_op, axis, dtype, opt_arg, formula2, dtype_acc, use_double_acc, sum_scheme
        As for :class:`kernelops.numpy.Genred`.
    cuda_type, **ignored
        Accepted from old scripts and without effect: cuda_type, enable_chunks, rec_multVar_highdim, use_fast_math. Any
        other keyword is refused.

    Notes
    -----
    A call is ``genred(*tensors, backend="auto", device_id=-1, ranges=None, out=None)``. The result is differentiable
    with respect to every tensor, any number of times, by backward, torch.func.grad, jvp and vmap: Sum, LogSumExp and
    SumSoftMaxWeight everywhere, the values of Min, Max and KMin at the first winner. Indices have no derivative.

    Examples
    --------
    >>> import torch
    >>> from kernelops.torch import Genred
    >>> x, y = torch.zeros(2, 3), torch.ones(4, 3)
    >>> gauss = Genred("Exp(-SqDist(x,y))", ["x = Vi(3)", "y = Vj(3)"], axis=1)
    >>> gauss(x, y)
    tensor([[0.1991],
            [0.1991]])
    """

    def _reduce(self, spec: Reduction, args: Sequence[Any]) -> Any:
        tensors = _tensors(args, spec.variables, spec.names)
        kind = REDUCTIONS[spec.op]
        if kind.accumulator != "best" or kind.results == ("indices",):
            return Reduce.apply(spec, *tensors)
        values, indices = best(spec, tensors)
        return values if kind.results == ("values",) else (values, indices)

    def _bound(self, spec: Reduction, args: Sequence[Any]) -> Arguments:
        return bound_of(spec, _tensors(args, spec.variables, spec.names))


class KernelSolve(frontend.KernelSolve):
    """Solves (alpha I + K) a = b for a kernel matrix K written as a formula, for torch tensors.

    Parameters
    ----------
    formula, aliases, varinvalias, axis, dtype, dtype_acc, use_double_acc, sum_scheme
        As for :class:`kernelops.numpy.KernelSolve`.
    cuda_type, **ignored
        Accepted from old scripts and without effect: cuda_type, enable_chunks, rec_multVar_highdim, use_fast_math. Any
        other keyword is refused.

    Notes
    -----
    A call takes the keywords of :class:`kernelops.numpy.KernelSolve`. The result is differentiable with respect to
    every tensor and to alpha (a number has no gradient, a tensor of any accepted shape has), any number of times, by
    backward, torch.func.grad, jvp and vmap. The backward pass is one more solve, to the same tolerance, and obeys
    on_fail too. The Solution that ``return_solution=True`` adds is detached: its x is a numpy array.

    Examples
    --------
    >>> import torch
    >>> from kernelops.torch import KernelSolve
    >>> x, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [0.0]])
    >>> solver = KernelSolve("Exp(-SqDist(x,y))*b", ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"], "b", axis=1)
    >>> solver(x, x, b, alpha=1.0)
    tensor([[ 0.5175],
            [-0.0952]])
    """

    def _bound(self, spec: SolveSpec, args: Sequence[Any]) -> Arguments:
        return bound_of(spec, _tensors(args, spec.variables, spec.names))

    def _completed(self, spec: SolveSpec, args: Sequence[Any]) -> Sequence[Any]:
        return completed(spec, args, _zeros)

    def _solve(self, spec: SolveSpec, args: Sequence[Any], alpha: Any) -> tuple[torch.Tensor, Solution]:
        tensors = _tensors(args, spec.variables, spec.names)
        x0, start = spec.options["x0"], []
        if is_tensor(x0):  # which a transform of torch.func may have wrapped
            spec, start = replace(spec, options={**spec.options, "x0": None}), [x0.detach()]
        alpha = _alpha(alpha)
        if spec.options["state"] is None:  # the backward solves take the preconditioner from here
            spec = replace(spec, options={**spec.options, "state": SolveState(warm=False)})
        account = Account()
        a = Solve.apply(spec, account, shaped_alpha(alpha, spec, tensors), *tensors, *start)
        assert account.solution is not None
        dtype = tensors[spec.unknown.params[0]].dtype
        return a.to(dtype), spec.returned(account.solution, dtype, stacklevel=1 + users_level())

    def _logdet(self, spec: SolveSpec, args: Sequence[Any], alpha: Any, n_probes: int) -> tuple[Any, Any, Estimate]:
        tensors = _tensors(self._completed(spec, args), spec.variables, spec.names)
        return beside.logdet(spec, tensors, _alpha(alpha), n_probes)

    def _inv_quad_logdet(
        self, spec: SolveSpec, args: Sequence[Any], alpha: Any, n_probes: int
    ) -> tuple[Any, Any, Any, Estimate]:
        tensors, alpha = _tensors(args, spec.variables, spec.names), _alpha(alpha)
        value, stderr, estimate = beside.logdet(spec, tensors, alpha, n_probes)  # leaves the plan to the solve
        return beside.inv_quad(spec, tensors, alpha), value, stderr, estimate

    def _predict(
        self, spec: SolveSpec, args: Sequence[Any], alpha: Any, new: dict[int, Any], variance: bool
    ) -> tuple[Any, Any]:
        tensors = _tensors(args, spec.variables, spec.names)
        for a in new.values():
            if not is_tensor(a):
                _refuse("at", a, None, None)
        return beside.predict(spec, tensors, _alpha(alpha), new, variance)


def _alpha(alpha: Any) -> torch.Tensor:
    """alpha as a dense tensor; a number is held in float64."""
    if not is_tensor(alpha):
        return torch.from_numpy(np.atleast_1d(check_alpha(alpha)))
    if alpha.layout is not torch.strided:
        raise DtypeError(f"alpha is a tensor of layout {alpha.layout}: wanted a dense one, as .to_dense() gives")
    return alpha


def _zeros(like: Any, shape: tuple[int, ...]) -> torch.Tensor:
    """Zeros of the dtype of a tensor that may turn out to be something else."""
    fits = is_tensor(like) and like.is_floating_point()
    return torch.zeros(shape, dtype=like.dtype, device=like.device) if fits else torch.zeros(shape)


generic_sum, generic_logsumexp, generic_argmin, generic_argkmin = generic_functions(Genred)

leave_uncompiled(frontend.Genred, "__init__", "__call__")
leave_uncompiled(frontend.KernelSolve, "__init__", "__call__", "logdet", "inv_quad_logdet", "predict")
leave_uncompiled(cluster, *cluster.__all__)
leave_uncompiled(Ranges, "from_tuple", "of", "dense", "from_mask", "from_clusters", "from_radius", "band", "order")
leave_uncompiled(Function, "apply")
for rule in (Reduce, Best, AtWinners, Solve, beside.LogDet, beside.Quadratic, beside.Rounded, Look):
    leave_uncompiled(rule, "forward", "setup_context", "backward", "jvp", "vmap")
