"""Solves as differentiable functions of tensors, any number of times: one more solve and reductions for each order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch

from ..arrays.arguments import to_numpy
from ..formula.expr import variable
from ..formula.linear import linear_form
from ..operators.shift import alpha_layout
from ..operators.system import SolveSpec
from ..reductions.reduction import Reduction
from ..solvers import Solution
from .autograd import Reduce, core_ranks, forward_rule, mapped_in_front, pullback, pushforward
from .older_vmap import Function
from .polish import Polish, Use
from .system import run


@dataclass
class Account:
    """Where a solve leaves its Solution, which no tensor function can return."""

    solution: Solution | None = field(default=None)


class Solve(Function):
    """``Solve.apply(spec, account, alpha, *tensors)``: a with (alpha I + K) a = b, b standing at the unknown's place.

    One more tensor behind the arguments is where the iteration starts. Nothing is differentiated by it.

    a is float64 whatever the dtype of the tensors: it is what derivatives are made of, and rounding it to float32 would
    be their largest error.

    alpha has shape () or (..., n, 1). With A = alpha I + K(theta), A a = b gives da = A^-1 (db - dalpha a - dK a).
    Hence, for a cotangent g of a and z = A^-T g: b gets z, alpha gets -z a (summed to its shape), and theta gets
    -<z, (dK/dtheta) a>, the pullback of the sum K(theta) a for the cotangent -z. A is symmetric, but its derivative by
    x alone is not: z is the solution of a solve with the transposed formula, so that it has the right derivatives too.

    The products (dK/dtheta) a run in float64 whatever the dtype of the data. a and z are large where alpha is small,
    and K smooths them, so that these sums are far smaller than their terms: float32 would be the largest error of all.
    """

    @staticmethod
    def forward(spec: SolveSpec, account: Account, alpha: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        count = _count(spec)
        if len(tensors) > count:
            tensors, start = tensors[:count], tensors[count]
            start = start.cpu() if start.device == tensors[spec.unknown.position].device else start
            spec = replace(spec, options=replace(spec.options, x0=to_numpy(start, "x0")))
        account.solution = run(spec, alpha, tensors, 1 + users_level())
        return torch.from_numpy(account.solution.x.copy()).to(tensors[spec.unknown.position].device)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        ctx.spec, kept = inputs[0], inputs[2 : 3 + _count(inputs[0])]
        ctx.save_for_backward(*kept, output)
        ctx.save_for_forward(*kept, output)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple:
        alpha, *tensors, a = ctx.saved_tensors
        for_alpha, *found = cotangents(ctx.spec, alpha, tensors, a, g, ctx.needs_input_grad[2:])
        return None, None, for_alpha, *found, *(None,) * (len(ctx.needs_input_grad) - 3 - len(found))

    @staticmethod
    @forward_rule
    def jvp(
        ctx: Any, saved: list, _spec: None, _account: None, alpha_tangent: Any, *tangents: torch.Tensor | None
    ) -> torch.Tensor:
        alpha, *tensors, a = saved
        spec, place = ctx.spec, ctx.spec.unknown.position
        if alpha_tangent is not None:  # of what K smooths, errors do not grow
            a = Polish.apply((_again(spec),), Use(solved=True), alpha, a, None, None, *tensors)[0]
        at = [a if p == place else t for p, t in enumerate(tensors)]
        others = [None if p == place else t for p, t in enumerate(tangents)]
        b = torch.zeros_like(a) if tangents[place] is None else tangents[place].expand_as(a).to(a.dtype)
        moved = pushforward(product_spec(spec, (a.shape[-2], a.shape[-2])), spec.expr, _wide(at), [], _wide(others))
        b = b if moved is None else b - moved
        b = b if alpha_tangent is None else b - alpha_tangent.to(a.device) * a
        again, arguments = _again(spec), _with(tensors, place, b)
        moved = Solve.apply(again, Account(), alpha, *arguments)
        return Polish.apply((again,), Use(unknown=True), alpha, moved, None, None, *arguments)[0]

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple, spec: SolveSpec, account: Account, alpha: torch.Tensor, *tensors: torch.Tensor
    ) -> tuple:
        if in_dims[2] is not None and alpha.ndim == 1:  # a number for each
            alpha, in_dims = alpha[:, None, None], (None, None, 0, *in_dims[3:])
        place, count = spec.unknown.position, _count(spec)
        if all(d is None for d in in_dims[: 3 + count]):  # the start alone is mapped: all problems are the same
            b = tensors[place].expand(info.batch_size, *tensors[place].shape)
            tensors = (*tensors[:place], b, *tensors[place + 1 :])
            in_dims = (*in_dims[: 3 + place], 0, *in_dims[4 + place :])
        cores = {0: 2, 1 + count: 2} | {1 + p: core for p, core in core_ranks(spec.variables).items()}
        return Solve.apply(spec, account, *mapped_in_front(cores, (alpha, *tensors), in_dims[2:])), 0


class Parts(NamedTuple):
    """What the backward pass of a solve is made of, as functions of specs and tensors: further solves, polished
    solutions, sums."""

    solve: Callable[..., Any]
    polish: Callable[..., Any]
    reduce: Callable[..., Any]


def _solve_again(spec: SolveSpec, alpha: torch.Tensor, *tensors: torch.Tensor) -> Any:
    return Solve.apply(spec, Account(), alpha, *tensors)


def cotangents(
    spec: SolveSpec,
    alpha: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    a: torch.Tensor,
    g: torch.Tensor,
    wanted: Sequence[bool],
    parts: Parts | None = None,
) -> list[torch.Tensor | None]:
    """The gradients of <g, a> with respect to alpha and to the tensors that want one; a is the solution.

    parts are the functions that compute them; by default those of this module and its kin.
    """
    parts = Parts(_solve_again, Polish.apply, Reduce.apply) if parts is None else parts
    place = spec.unknown.position
    again = _again(spec)
    across = _transposed(again)
    z = parts.solve(across, alpha, *_with(tensors, place, g))
    others = [w and p != place for p, w in enumerate(wanted[1:])]
    use = Use(wanted[0], any(others))
    if any(use):
        a, z = parts.polish((again, across), use, alpha, a, z, g, *tensors)
    at = [a if p == place else t for p, t in enumerate(tensors)]
    product = product_spec(spec, (a.shape[-2], a.shape[-2]))
    wide = pullback(product, spec.expr, _wide(at), [], -z.to(torch.float64), others, parts.reduce)
    found = [f if f is None else f.to(t.dtype) for f, t in zip(wide, tensors, strict=True)]
    if wanted[1 + place]:
        found[place] = z.sum_to_size(tensors[place].shape).to(tensors[place].dtype)
    if not wanted[0]:
        return [None, *found]
    each = -(z * a)
    for_alpha = each.sum() if alpha.ndim == 0 else each.sum(-1, keepdim=True).sum_to_size(alpha.shape)
    return [for_alpha.to(alpha), *found]  # in its dtype, on its device


def _count(spec: SolveSpec) -> int:
    """How many arguments the formula has, those at positions without a variable included."""
    return 1 + max(v.position for v in spec.variables)


def _with(tensors: Sequence[torch.Tensor], place: int, b: torch.Tensor) -> list[torch.Tensor]:
    """The tensors with another right-hand side, in float64: rounding it is an error that the solve would amplify."""
    return [b.to(torch.float64) if p == place else t for p, t in enumerate(tensors)]


def _wide(tensors: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
    return [t if t is None else t.to(torch.float64) for t in tensors]


def users_level() -> int:
    """How many frames above the caller of this function the user's line stands, in the count of warnings.warn.

    Forward, backward and the transforms of torch.func come here by different ways; a warning is for whoever is first
    on the way up and neither in this package nor in torch.
    """
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).split(".")[0] in ("kernelops", "torch"):
        frame, level = frame.f_back, level + 1
    return level


def _again(spec: SolveSpec) -> SolveSpec:
    """The same solve for another right-hand side: the same preconditioner, no start, no callback, no bar."""
    return replace(spec, dtype=None, options=spec.options.for_other_right_hand_side(), wide=True)


def _transposed(spec: SolveSpec) -> SolveSpec:
    """The solve with the transposed matrix, its unknown at the same place: <e, K v> differentiated by v."""
    form = spec.form
    return spec.with_form(linear_form(form.transposed, variable(form.outer, form.position, form.expr.dim)))


def product_spec(spec: SolveSpec, sizes: tuple[int, int]) -> Reduction:
    """K a as a sum, for a float64 a at the unknown's place and so many i and j."""
    return Reduction(
        spec.expr,
        "Sum",
        spec.axis,
        spec.variables,
        spec.names,
        ranges=spec.ranges,
        sum_scheme=spec.sum_scheme,
        sizes=sizes,
        device=spec.device,
    )


def shaped_alpha(alpha: torch.Tensor, spec: SolveSpec, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """alpha as Solve takes it, () or (..., n, 1), by an operation that is differentiable and can be mapped."""
    try:
        cores = core_ranks(spec.variables).items()
        batch = torch.broadcast_shapes(*(tensors[p].shape[:-core] for p, core in cores))
        n = tensors[spec.unknown.position].shape[-2]
    except (RuntimeError, IndexError):
        return alpha  # shapes that do not fit: Solve names the tensor
    return alpha.reshape(alpha_layout(tuple(alpha.shape), n, tuple(batch)))
