"""Calls in which torch records operators, or works out shapes, and computes nothing.

That is so under FakeTensorMode, for tensors on the device "meta", in ``torch.export``, ``torch.jit.trace`` and
``make_fx``. What is recorded is an operator of custom_ops.py. The values of tensors are not there, and what depends on
them is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import numpy as np
import torch
from torch.autograd import forward_ad

from ..arrays.arguments import is_tensor, label
from ..errors import BackendError, DtypeError
from ..operators.shift import check_alpha
from ..operators.system import SolveSpec
from ..reductions.reduction import Reduction
from .custom_ops import call_reduce, call_solve, can_be_told
from .solve import shaped_alpha
from .tensors import OF_TORCH

_PLAIN = (torch.Tensor, torch.nn.Parameter)


def is_recorded(tensors: Sequence[torch.Tensor | None]) -> bool:
    """Whether torch records what is done with the tensors; where it transforms or differentiates forward, it is not."""
    if torch._C._is_tracing() or torch._C._len_torch_dispatch_stack():
        return torch._C._functorch.get_dynamic_layer_stack_depth() == 0 and forward_ad._current_level < 0
    for t in tensors:
        if t is not None and (t.is_meta or (type(t) not in _PLAIN and _is_dispatched(t))):
            return True
    return False


def _is_dispatched(t: torch.Tensor) -> bool:
    """Whether a tensor is of a class that is told of operators, as FakeTensor is."""
    return type(t).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__


def record_reduction(
    spec: Reduction, tensors: Sequence[torch.Tensor | None]
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """The result of a reduction by its operator."""
    if not can_be_told(spec):
        refuse_recording("ranges= and backend=")
    _check_shapes(spec, tensors)
    return call_reduce(spec, *tensors)


def record_solve(spec: SolveSpec, tensors: Sequence[torch.Tensor | None], alpha: object) -> tuple[torch.Tensor, None]:
    """The solution by the operator; there is no account of it."""
    options, start = spec.options, None
    if is_tensor(options.x0):
        start, options = options.x0.detach(), replace(options, x0=None)
    spec = replace(spec, options=options)
    if options.state is not None or not can_be_told(spec):
        refuse_recording("ranges=, M=, state=, callback=, backend=, and an x0 that is an array of numpy")
    _check_shapes(spec, tensors)
    if not isinstance(alpha, torch.Tensor):
        given = check_alpha(alpha)
        if given.size == 1:
            alpha = torch.full((), given.item(), dtype=torch.float64)
        else:
            alpha = torch.tensor(given.tolist(), dtype=torch.float64)
    b = tensors[spec.unknown.position]
    assert b is not None
    return call_solve(spec, shaped_alpha(alpha, spec, tensors), tensors, start, None)[0].to(b.dtype), None


def _check_shapes(spec: Reduction | SolveSpec, tensors: Sequence[torch.Tensor | None]) -> None:
    """Refuse what a call with these tensors would refuse, by arrays of their shapes that take no memory.

    Where torch stands for a size by a symbol, the operator refuses it when it runs.
    """
    stand_ins: list[np.ndarray | None] = []
    for p, t in enumerate(tensors):
        if t is None:
            stand_ins.append(None)
            continue
        if any(type(size) is not int for size in t.shape):
            return
        if t.dtype is torch.bfloat16:
            called = {v.position: label(v, spec.names) for v in spec.variables}[p]
            raise DtypeError(f"{called} is bfloat16: wanted float16, float32 or float64; .float() makes float32 of it")
        dtype = OF_TORCH.get(t.dtype, str(t.dtype).removeprefix("torch."))
        stand_ins.append(np.broadcast_to(np.zeros((), dtype), t.shape))
    spec.bind(stand_ins)


def refuse_recording(what: str) -> NoReturn:
    """Raise the error for what needs the values of tensors."""
    raise BackendError(
        f"{what}: not possible while torch only records operations or works out shapes, "
        "in FakeTensorMode, on the device meta, in torch.export and torch.jit.trace"
    )
