"""Reductions and solves as differentiable functions of tensors, any number of times.

Everything is two functions. ``Reduce`` is a reduction; its derivatives are reductions of symbolic gradients. ``Solve``
is a solve; its derivatives are one more solve and reductions. Both are written with themselves, so that gradients of
gradients, forward mode and vmap come without another rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ..formula.expr import Expr, apply, const, is_const, substitute, variable
from ..formula.grad import diff, grad
from ..front import ReduceSpec, SolveSpec
from ..linear_operator import alpha_layout, check_alpha
from ..solvers import Solution

Tensors = Sequence["torch.Tensor | None"]


class Reduce(torch.autograd.Function):
    """``Reduce.apply(spec, *tensors)``: the result of a reduction; a tuple where the reduction gives two.

    Sum, LogSumExp and SoftMax are differentiable; the others give values and indices without a derivative (``best``
    in this file differentiates the values).
    """

    @staticmethod
    def forward(spec: ReduceSpec, *tensors: torch.Tensor | None) -> Any:
        result = spec(spec.bind([_array(t) for t in tensors]))
        if isinstance(result, tuple):
            return tuple(torch.from_numpy(np.ascontiguousarray(r)) for r in result)
        return torch.from_numpy(np.ascontiguousarray(result))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.spec = inputs[0]
        results = output if isinstance(output, tuple) else (output,)
        ctx.results = len(results)
        if _has_derivative(ctx.spec):
            ctx.save_for_backward(*inputs[1:], *results)
            ctx.save_for_forward(*inputs[1:], *results)
        else:
            ctx.mark_non_differentiable(*results)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> tuple:
        if not _has_derivative(ctx.spec):
            return (None,) * len(ctx.needs_input_grad)
        *tensors, output = ctx.saved_tensors
        summand, more = _summand(ctx.spec, tensors, output)
        gradients = _pullback(ctx.spec, summand, tensors, more, cotangents[0], ctx.needs_input_grad[1:])
        return (None, *gradients)

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: torch.Tensor | None) -> Any:
        if not _has_derivative(ctx.spec):
            return None if ctx.results == 1 else (None,) * ctx.results
        *tensors, output = ctx.saved_tensors
        summand, more = _summand(ctx.spec, tensors, output)
        found = _pushforward(ctx.spec, summand, tensors, more, tangents)
        return torch.zeros_like(output) if found is None else found.expand_as(output)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, spec: ReduceSpec, *tensors: torch.Tensor | None) -> tuple:
        moved = _batched(spec.variables, tensors, in_dims[1:])
        result = Reduce.apply(spec, *moved)
        return result, (0,) * len(result) if isinstance(result, tuple) else 0


def _array(t: torch.Tensor | None) -> np.ndarray | None:
    return None if t is None else t.detach().resolve_conj().resolve_neg().numpy()


def _has_derivative(spec: ReduceSpec) -> bool:
    return spec.op in ("Sum", "LogSumExp", "LogSumExpWeight", "SumSoftMaxWeight", "SoftMax")


def result_kind(axis: int) -> str:
    """The index of the result of a reduction over j (axis 1) or i (axis 0)."""
    return "Vi" if axis == 1 else "Vj"


def _extended(spec: ReduceSpec, expr: Expr, axis: int, *more: Expr) -> ReduceSpec:
    """A sum of another formula over the same arrays and some more."""
    return replace(
        spec, expr=expr, op="Sum", axis=axis, weight=None, opt_arg=None, variables=(*spec.variables, *more), dtype=None
    )


def _summand(spec: ReduceSpec, tensors: Tensors, output: torch.Tensor) -> tuple[Expr, list[tuple[Expr, torch.Tensor]]]:
    """A formula whose sum has the derivatives of the reduction, and the tensors that it needs beside the arguments.

    log sum_j w exp(f) = L has dL = sum_j exp(f - L) (w df + dw): the derivative of sum_j exp(f - L) w at constant L.
    sum_j exp(f) w / sum_j exp(f) = S has dS = sum_j exp(f - L) ((w - S) df + dw), L now without weight: that of
    sum_j exp(f - L) (w - S) at constant L and S. L and S depend on the arguments, which counts when these derivatives
    are differentiated once more; so they enter as tensors of the graph. Where nothing was summed L is -inf; +inf
    in its place makes the terms, and all derivatives, 0.
    """
    if spec.op == "Sum":
        return spec.expr, []
    kind, place = result_kind(spec.axis), len(tensors)
    weight = const(1.0) if spec.weight is None else spec.weight
    if spec.op in ("LogSumExp", "LogSumExpWeight"):
        level = variable(kind, place, output.shape[-1])
        shifted = apply("Exp", apply("Subtract", spec.expr, level))
        return apply("Mult", shifted, weight), [(level, _without_minus_inf(output))]
    plain = Reduce.apply(replace(spec, op="LogSumExp", weight=None), *tensors)
    level, mean = variable(kind, place, 1), variable(kind, place + 1, output.shape[-1])
    shifted = apply("Exp", apply("Subtract", spec.expr, level))
    summand = apply("Mult", shifted, apply("Subtract", weight, mean))
    return summand, [(level, _without_minus_inf(plain)), (mean, output)]


def _without_minus_inf(t: torch.Tensor) -> torch.Tensor:
    return torch.where(t == -torch.inf, torch.full_like(t, torch.inf), t)


def _pullback(
    spec: ReduceSpec,
    summand: Expr,
    tensors: Tensors,
    more: list[tuple[Expr, torch.Tensor]],
    cotangent: torch.Tensor | None,
    wanted: Sequence[bool],
) -> list[torch.Tensor | None]:
    """The gradients of <cotangent, sum of summand> with respect to the tensors that want one."""
    found: list[torch.Tensor | None] = [None] * len(tensors)
    if cotangent is None:
        return found
    e = variable(result_kind(spec.axis), len(tensors) + len(more), summand.dim)
    nodes, extra = [v for v, _ in more] + [e], [t for _, t in more] + [cotangent]
    kinds = {v.params[0]: v for v in summand.vars}
    for p, tensor in enumerate(tensors):
        if tensor is None or not wanted[p]:
            continue
        formula = grad(summand, kinds[p], e) if p in kinds else const(0.0)
        if is_const(formula, 0):
            found[p] = torch.zeros_like(tensor)
            continue
        axis = 1 - spec.axis if kinds[p].op not in (e.op, "Pm") else spec.axis
        g = Reduce.apply(_extended(spec, formula, axis, *nodes), *tensors, *extra)
        g = g.sum(-2) if kinds[p].op == "Pm" else g
        found[p] = g.sum_to_size(tensor.shape)
    return found


def _pushforward(
    spec: ReduceSpec,
    summand: Expr,
    tensors: Tensors,
    more: list[tuple[Expr, torch.Tensor]],
    tangents: Tensors,
) -> torch.Tensor | None:
    """The derivative of the sum of summand along the tangents."""
    total = None
    place = len(tensors) + len(more)
    for v in summand.vars:
        p = v.params[0]
        tangent = tangents[p] if p < len(tangents) else None
        if tangent is None:
            continue
        u = variable(v.op, place, v.dim)
        formula = diff(summand, v, u)
        if is_const(formula, 0):
            continue
        extended = _extended(spec, formula, spec.axis, *(node for node, _ in more), u)
        part = Reduce.apply(extended, *tensors, *(t for _, t in more), tangent)
        total = part if total is None else total + part
    return total


def _batched(variables: Sequence[Expr], tensors: Tensors, in_dims: Sequence[int | None]) -> list[torch.Tensor | None]:
    """The mapped dimension in front of every tensor that has it, with room for the batch dimensions of the others."""
    cores = {v.params[0]: 1 if v.op == "Pm" else 2 for v in variables}
    pairs = list(zip(tensors, in_dims, strict=True))
    rank = max((t.ndim - (d is not None) - cores[p] for p, (t, d) in enumerate(pairs) if t is not None), default=0)
    return [
        t if t is None or d is None else _in_front(t, d, rank - (t.ndim - 1 - cores[p]))
        for p, (t, d) in enumerate(pairs)
    ]


def _in_front(t: torch.Tensor, d: int, missing: int) -> torch.Tensor:
    t = t.movedim(d, 0)
    return t.reshape(t.shape[0], *(1,) * missing, *t.shape[1:])


# ---- smallest and largest values ----


_BOTH = {"Min": "Min_ArgMin", "Max": "Max_ArgMax", "KMin": "KMin_ArgKMin"}


def best(spec: ReduceSpec, tensors: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and indices of a Min, Max or KMin; the values are differentiable, at the winning pairs.

    The winners are found without derivatives; then the formula is evaluated at them, on gathered tensors.
    """
    values, indices = Reduce.apply(replace(spec, op=_BOTH.get(spec.op, spec.op)), *tensors)
    dim, K = spec.expr.dim, (1 if spec.opt_arg is None else spec.opt_arg)
    core = 3 if spec.opt_arg is not None and dim > 1 else 2  # rows, K, components or rows, either
    lead, rows = values.shape[:-core], values.shape[-core]
    found = indices.reshape(*lead, rows * K * dim)
    winners = torch.arange(rows).repeat_interleave(K * dim)
    kept = found >= 0
    evaluated = evaluate(spec, tensors, winners, found.clamp(min=0), lead)
    component = torch.arange(dim).repeat(rows * K)
    chosen = evaluated[..., torch.arange(rows * K * dim), component]
    return torch.where(kept, chosen, values.reshape(found.shape)).reshape(values.shape), indices


def evaluate(
    spec: ReduceSpec, tensors: Tensors, rows: torch.Tensor, columns: torch.Tensor, lead: Sequence[int]
) -> torch.Tensor:
    """The formula at pairs, (*lead, P, dim): rows (P,) counts the result's index, columns (*lead, P) the reduced one."""
    mine = result_kind(spec.axis)
    gathered: list[torch.Tensor | None] = list(tensors)
    mapping = {}
    for v in spec.expr.vars:
        t = tensors[v.params[0]]
        if t is None or v.op == "Pm":
            continue
        if v.op == mine:
            gathered[v.params[0]] = t.index_select(-2, rows)
        else:
            index = columns[..., None].expand(*columns.shape, t.shape[-1])
            gathered[v.params[0]] = t.expand(*lead, *t.shape[-2:]).gather(-2, index)
        mapping[v] = variable("Vi", v.params[0], v.dim)
    expr = substitute(spec.expr, mapping)
    used = {v.params[0] for v in expr.vars}
    pairs = ReduceSpec(expr, "Sum", 1, expr.vars, sizes=(len(rows), 1))
    args = [t if p in used else None for p, t in enumerate(gathered)]
    args = args[: 1 + max(used, default=-1)]
    result = Reduce.apply(pairs, *args)
    return result.expand(*lead, *result.shape[-2:])


# ---- solves ----


@dataclass
class Account:
    """Where a solve leaves its Solution, which no tensor function can return."""

    solution: Solution | None = field(default=None)


class Solve(torch.autograd.Function):
    """``Solve.apply(spec, account, alpha, *tensors)``: a with (alpha I + K) a = b, b standing at the unknown's place.

    alpha has shape () or (..., n, 1). With A = alpha I + K(theta) symmetric, A a = b gives
    da = A^-1 (db - dalpha a - dK a). Hence, for a cotangent g of a and z = A^-1 g: b gets z, alpha gets -z a (summed to
    its shape), and theta gets -<z, (dK/dtheta) a>, the pullback of the sum K(theta) a for the cotangent -z.
    """

    @staticmethod
    def forward(spec: SolveSpec, account: Account, alpha: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        bound = spec.bind([_array(t) for t in tensors])
        account.solution = spec(bound, check_alpha(alpha), stacklevel=2)
        return torch.from_numpy(account.solution.x.astype(bound.dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        ctx.spec = inputs[0]
        ctx.save_for_backward(*inputs[2:], output)
        ctx.save_for_forward(*inputs[2:], output)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple:
        alpha, *tensors, a = ctx.saved_tensors
        spec, place = ctx.spec, ctx.spec.unknown.params[0]
        at = [a if p == place else t for p, t in enumerate(tensors)]
        z = Solve.apply(_again(spec), Account(), alpha, *(g if p == place else t for p, t in enumerate(tensors)))
        wanted = [w and p != place for p, w in enumerate(ctx.needs_input_grad[3:])]
        found = _pullback(_product_spec(spec), spec.expr, at, [], -z, wanted)
        if ctx.needs_input_grad[3 + place]:
            found[place] = z.sum_to_size(tensors[place].shape)
        for_alpha = None
        if ctx.needs_input_grad[2]:
            product = -(z.to(alpha.dtype) * a.to(alpha.dtype))
            for_alpha = product.sum() if alpha.ndim == 0 else product.sum(-1, keepdim=True).sum_to_size(alpha.shape)
        return (None, None, for_alpha, *found)

    @staticmethod
    def jvp(ctx: Any, _spec: None, _account: None, alpha_tangent: Any, *tangents: torch.Tensor | None) -> torch.Tensor:
        alpha, *tensors, a = ctx.saved_tensors
        spec, place = ctx.spec, ctx.spec.unknown.params[0]
        at = [a if p == place else t for p, t in enumerate(tensors)]
        others = [None if p == place else t for p, t in enumerate(tangents)]
        b = torch.zeros_like(a) if tangents[place] is None else tangents[place].expand_as(a)
        moved = _pushforward(_product_spec(spec), spec.expr, at, [], others)
        b = b if moved is None else b - moved
        b = b if alpha_tangent is None else b - (alpha_tangent * a).to(a.dtype)
        return Solve.apply(_again(spec), Account(), alpha, *(b if p == place else t for p, t in enumerate(tensors)))

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple, spec: SolveSpec, account: Account, alpha: torch.Tensor, *tensors: torch.Tensor
    ) -> tuple:
        moved = _batched(spec.variables, tensors, in_dims[3:])
        if in_dims[2] is not None:
            cores = [1 if v.op == "Pm" else 2 for v in spec.variables]
            places = [v.params[0] for v in spec.variables]
            own = [tensors[p].ndim - (in_dims[3 + p] is not None) - c for p, c in zip(places, cores, strict=True)]
            alpha = alpha.movedim(in_dims[2], 0)
            core = min(alpha.ndim - 1, 2)
            missing = max(own) - (alpha.ndim - 1 - core)
            rest = alpha.shape[1:] if core else (1, 1)
            alpha = alpha.reshape(alpha.shape[0], *(1,) * missing, *rest)
        return Solve.apply(spec, account, alpha, *moved), 0


def _again(spec: SolveSpec) -> SolveSpec:
    """The same solve for another right-hand side: no start, no callback, no bar."""
    return replace(spec, dtype=None, options={**spec.options, "x0": None, "callback": None, "progress": False})


def _product_spec(spec: SolveSpec) -> ReduceSpec:
    """K times the unknown as a sum."""
    return ReduceSpec(
        spec.expr,
        "Sum",
        spec.axis,
        spec.variables,
        spec.names,
        ranges=spec.ranges,
        dtype_acc=spec.dtype_acc,
        sum_scheme=spec.sum_scheme,
    )


def shaped_alpha(alpha: torch.Tensor, spec: SolveSpec, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """alpha as Solve takes it, () or (..., n, 1), by an operation that is differentiable and can be mapped."""
    cores = {v.params[0]: 1 if v.op == "Pm" else 2 for v in spec.variables}
    try:
        batch = torch.broadcast_shapes(*(tensors[p].shape[:-core] for p, core in cores.items()))
        n = tensors[spec.unknown.params[0]].shape[-2]
    except (RuntimeError, IndexError):
        return alpha  # shapes that do not fit: Solve names the tensor
    return alpha.reshape(alpha_layout(tuple(alpha.shape), n, tuple(batch)))


__all__ = ["Account", "Reduce", "Solve", "best", "evaluate", "shaped_alpha"]
