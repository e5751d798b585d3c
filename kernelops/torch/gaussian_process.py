"""Quadratic forms and predictions of Gaussian processes as differentiable functions of tensors, any number of times.

    d b^T A^-1 b = 2 db^T a - a^T dA a                    for a = A^-1 b,

a bilinear form of dA = diag(dalpha) + dK (bilinear_forms.py). As a is the result of a Solve, its derivatives are those
of Solve and of sums. log_determinant.py has log-determinants, whose derivatives are such forms too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.autograd import forward_ad

from ..formula.expr import substitute, variable
from ..frontend.gaussian_process import (
    Unfit,
    across,
    check_new_points,
    chunks,
    complain,
    kernel_of,
    quadratic,
    widen,
    without_warm_start,
)
from ..operators.shift import check_alpha
from ..operators.system import SolveSpec
from ..reductions.reduction import Reduction
from ..solvers.operator import as_system
from ..solvers.quadrature import Estimate
from .autograd import Reduce, core_ranks, forward_rule
from .bilinear_forms import Form, arguments_in_front, narrow_rows, pull_back, push_forward
from .log_determinant import LogDet, LogDetRecord, device_of
from .older_vmap import Function
from .polish import Polish, Use
from .solve import Account, Solve, _again, _wide, shaped_alpha, users_level
from .system import narrow_right_hand_side

__all__ = ["LogDet", "Quadratic", "Rounded", "inv_quad", "logdet", "predict"]


class Quadratic(Function):
    """``Quadratic.apply(spec, alpha, a, *tensors)``: b^T A^-1 b of every column, float64 (..., k), for a = A^-1 b.

    b is the tensor at the unknown's position, and a the result of a Solve. The value is 2 b^T a - a^T A a; its
    derivative by a is 2 (b - A a), which is 0 if a is exact, so that a gets no gradient. The derivatives by all else
    hold a, through which the next ones pass.
    """

    @staticmethod
    def forward(spec: SolveSpec, alpha: torch.Tensor, a: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        arguments = spec.bind(narrow_right_hand_side(spec, tensors))
        kernel = spec.system(arguments, check_alpha(alpha))
        b = tensors[spec.unknown.position].expand(kernel.b_shape).numpy(force=True)
        found = quadratic(kernel, as_system(kernel), b, a.numpy(force=True))
        return torch.from_numpy(found).to(a.device)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        ctx.spec = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple:
        alpha, a, *tensors = ctx.saved_tensors
        spec, position = ctx.spec, ctx.spec.unknown.position
        a = _polish(spec, alpha, a, tensors, ctx.needs_input_grad[1], ctx.needs_input_grad[3:])
        weighed = g[..., None, :] * a.to(torch.float64)
        form = _energy(spec, a, weighed)
        wanted = (ctx.needs_input_grad[1], *ctx.needs_input_grad[3:])
        for_alpha, found = pull_back([form], alpha, tensors, wanted)
        if ctx.needs_input_grad[3 + position]:
            found[position] = (2 * weighed).to(tensors[position].dtype).sum_to_size(tensors[position].shape)
        return (None, for_alpha, None, *found)

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: list, _spec: None, alpha_tangent: Any, _a: Any, *tangents: Any) -> torch.Tensor:
        alpha, a, *tensors = saved
        position = ctx.spec.unknown.position
        moving = [t is not None for t in tangents]
        a = _polish(ctx.spec, alpha, a, tensors, alpha_tangent is not None, moving)
        (moved,) = push_forward([_energy(ctx.spec, a, a.to(torch.float64))], alpha, tensors, alpha_tangent, tangents)
        if tangents[position] is not None:
            moved = moved + 2 * a.to(torch.float64) * tangents[position]
        coupled = ctx.spec.form.kernel is None
        return moved.sum((-2, -1))[..., None] if coupled else moved.sum(-2)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple, spec: SolveSpec, alpha: torch.Tensor, a: torch.Tensor, *tensors: torch.Tensor
    ) -> tuple:
        return Quadratic.apply(spec, *arguments_in_front(spec, (alpha, a, *tensors), in_dims[1:], extra=1)), 0


def _polish(
    spec: SolveSpec,
    alpha: torch.Tensor,
    a: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    by_alpha: bool,
    wanted: Sequence[bool],
) -> torch.Tensor:
    """a, as good as the derivatives by alpha, and by those tensors that are wanted, need it."""
    use = Use(by_alpha, any(w for p, w in enumerate(wanted) if p != spec.unknown.position))
    if not any(use):
        return a
    found: torch.Tensor = Polish.apply((_again(spec),), use, alpha, a, None, None, *tensors)[0]
    return found


def _energy(spec: SolveSpec, a: torch.Tensor, weighed: torch.Tensor) -> Form:
    """-a^T dA a."""
    return Form(spec, -weighed, a.to(torch.float64))


class Rounded(Function):
    """``Rounded.apply(a, dtype, name, on_fail)``: a float64 tensor in a dtype; what does not fit into it is said."""

    @staticmethod
    def forward(a: torch.Tensor, dtype: torch.dtype, name: str, on_fail: str) -> torch.Tensor:
        found = a.to(dtype)
        if bool(found.isinf().any()) and bool(a.isfinite().all()):
            complain(Unfit.of(a, dtype, name), on_fail, stacklevel=users_level())
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        ctx.dtypes = inputs[0].dtype, output.dtype

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple:
        return g.to(ctx.dtypes[0]), None, None, None

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, _saved: list, tangent: torch.Tensor, *_: None) -> torch.Tensor:
        return tangent.to(ctx.dtypes[1])

    @staticmethod
    def vmap(info: Any, in_dims: tuple, a: torch.Tensor, dtype: torch.dtype, name: str, on_fail: str) -> tuple:
        return Rounded.apply(a, dtype, name, on_fail), in_dims[0]


def round_to(a: torch.Tensor, dtype: torch.dtype, name: str, on_fail: str) -> torch.Tensor:
    return a if a.dtype == dtype else Rounded.apply(a, dtype, name, on_fail)


def _is_differentiated(tensors: Sequence[torch.Tensor | None]) -> bool:
    """Whether derivatives by one of these may be asked for, by any transform."""
    if torch._C._are_functorch_transforms_active():
        return True
    given = [t for t in tensors if t is not None]
    if forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(t.requires_grad for t in given)


# ---- what the door calls ----


def logdet(
    spec: SolveSpec, tensors: list[torch.Tensor], alpha: torch.Tensor, n_probes: int
) -> tuple[torch.Tensor, torch.Tensor, Estimate]:
    """log det A, its standard error, and the Estimate that they come from."""
    record = LogDetRecord()
    value, stderr, _, _ = LogDet.apply(spec, record, n_probes, shaped_alpha(alpha, spec, tensors), *tensors)
    assert record.estimate is not None
    return value, stderr, record.estimate


def inv_quad(spec: SolveSpec, tensors: list[torch.Tensor], alpha: torch.Tensor) -> torch.Tensor:
    """b^T A^-1 b, summed over the columns."""
    shaped = shaped_alpha(alpha, spec, tensors)
    a = Solve.apply(spec, Account(), shaped, *tensors)
    return Quadratic.apply(spec, shaped, a, *tensors).sum(-1)


def predict(
    spec: SolveSpec, tensors: list[torch.Tensor], alpha: torch.Tensor, new: Mapping[int, torch.Tensor], variance: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The mean (..., m, k) and the variance (..., m) at new points, as compositions of Solve, Quadratic and Reduce."""
    v = spec.unknown
    outer, dtype = spec.form.outer, tensors[v.position].dtype
    kernel = kernel_of(spec) if variance else None
    alpha = shaped_alpha(alpha, spec, tensors)
    cores = {0: 2} | {1 + p: core for p, core in core_ranks(spec.variables).items()}
    batch = torch.broadcast_shapes(*(t.shape[: max(0, t.ndim - cores[p])] for p, t in enumerate((alpha, *tensors))))
    m = check_new_points(spec, new, dtype, tuple(batch))

    def product(spec: SolveSpec, points: Mapping[int, Any], kinds: Sequence[str], unknown: torch.Tensor) -> Any:
        """K u in float64 with some kinds of variables are at new points."""
        at = across(spec, tensors, points, kinds)
        at[v.position] = unknown
        how = {"sum_scheme": spec.sum_scheme, "device": spec.device}
        summed = Reduction(spec.expr, "Sum", spec.axis, spec.variables, spec.names, **how)
        return Reduce.apply(summed, *_wide(at))

    spread = None
    if kernel is not None:
        one = {x: variable("Vi", x.position, x.dim) for x in kernel.vars if x.op == "Vj"}
        others = tuple(one.get(x, x) for x in spec.variables if x is not v)
        summed = Reduction(substitute(kernel, one), "Sum", 1, others, sizes=(m, 1), device=spec.device)
        at = across(spec, tensors, new, ("Vi", "Vj"))
        at[v.position] = None
        own = Reduce.apply(summed, *_wide(at[: 1 + max(x.position for x in others)]))[..., 0].expand(*batch, m)
        found, besides = [], replace(without_warm_start(spec), wide=True)
        for part in chunks(m):
            columns = part.stop - part.start
            wide = widen(besides, columns)
            some = {p: narrow_rows(t, part) for p, t in new.items()}
            right = product(wide, some, (v.op,), torch.eye(columns, dtype=torch.float64, device=device_of(tensors)))
            b = [right if p == v.position else t for p, t in enumerate(tensors)]
            found.append(Quadratic.apply(wide, alpha, Solve.apply(wide, Account(), alpha, *b), *b).expand(*batch, -1))
        if found:
            own = own - torch.cat(found, -1)
            spec.options.state.hold(besides.options.state.plan)  # chosen for many columns
        spread = round_to(own.clamp(min=0), dtype, "variance", spec.options.on_fail)
    a = Solve.apply(spec, Account(), alpha, *tensors)
    if _is_differentiated((alpha, *tensors, *new.values())):
        a = Polish.apply((_again(spec),), Use(unknown=True), alpha, a, None, None, *tensors)[0]
    mean = product(spec, new, (outer,), a)
    return round_to(mean, dtype, "mean", spec.options.on_fail), spread
