"""Reductions as differentiable functions of tensors, any number of times.

Everything is two functions. ``Reduce`` is a reduction; its derivatives are reductions of symbolic gradients. ``Solve``
(solve.py) is a solve; its derivatives are one more solve and reductions. Both are written with themselves, so that
gradients of gradients, forward mode and vmap come without another rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, wraps
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch.autograd.forward_ad import _set_fwd_grad_enabled, unpack_dual

from ..formula.expr import Expr, apply, const, is_const, variable
from ..formula.fold import coefficient
from ..formula.grad import diff, grad
from ..formula.simplify import build
from ..reductions.reduction import Reduction
from .fusion import joined, passes
from .older_vmap import Function

Tensors = Sequence["torch.Tensor | None"]
Reduced = Callable[..., Any]  # a reduction as a function of a Reduction and of tensors, as Reduce.apply is

# grad and diff take longer than a small reduction, and are the same at every step of an optimisation
gradient, derivative = lru_cache(maxsize=1024)(grad), lru_cache(maxsize=1024)(diff)


def forward_rule(rule: Callable[..., Any]) -> Callable[..., Any]:
    """``rule(ctx, saved, *tangents)`` as the jvp of a Function, for any number of forward levels.

    torch turns forward mode off while it calls a jvp, and with the level that the jvp serves those around it: what a
    plain operation made there would be a constant to them. So it is turned on, and the saved tensors come without the
    tangents of this level, which the rule has as arguments.
    """

    @wraps(rule)
    def jvp(ctx: Any, *tangents: Any) -> Any:
        with _set_fwd_grad_enabled(True):
            saved = [None if t is None else unpack_dual(t).primal for t in ctx.saved_tensors]
            return rule(ctx, saved, *tangents)

    return jvp


class Reduce(Function):
    """``Reduce.apply(spec, *tensors)``: the result of a reduction; a tuple where the reduction gives several.

    Sum, LogSumExp and SoftMax are differentiable; the others give values and indices without a derivative (extrema.py
    differentiates the values). Of a sum in parts, those that nobody differentiates cost nothing in the backward pass.
    """

    @staticmethod
    def forward(spec: Reduction, *tensors: torch.Tensor | None) -> Any:
        result = spec(spec.bind(tensors))
        return tuple(map(_tensor, result)) if isinstance(result, tuple) else _tensor(result)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.spec = inputs[0]
        results = output if isinstance(output, tuple) else (output,)
        ctx.results = len(results)
        ctx.set_materialize_grads(False)
        if has_derivative(ctx.spec):
            ctx.save_for_backward(*inputs[1:], *results)
            ctx.save_for_forward(*inputs[1:], *results)
        else:
            ctx.mark_non_differentiable(*results)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> tuple:
        if not has_derivative(ctx.spec):
            return (None,) * len(ctx.needs_input_grad)
        tensors, output = ctx.saved_tensors[: -ctx.results], ctx.saved_tensors[-1]
        return None, *gradients(ctx.spec, tensors, output, cotangents, ctx.needs_input_grad[1:])

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: Tensors, _: None, *tangents: torch.Tensor | None) -> Any:
        if not has_derivative(ctx.spec):
            return None if ctx.results == 1 else (None,) * ctx.results
        tensors, outputs = saved[: -ctx.results], saved[-ctx.results :]
        summand, more = _summand(ctx.spec, tensors, outputs[-1])
        found = pushforward(ctx.spec, summand, tensors, more, tangents)
        parts = [None] * ctx.results if found is None else found.split(ctx.spec.parts or found.shape[-1], -1)
        moved = [torch.zeros_like(o) if f is None else f.expand_as(o) for f, o in zip(parts, outputs, strict=True)]
        return tuple(moved) if ctx.spec.parts else moved[0]

    @staticmethod
    def vmap(info: Any, in_dims: tuple, spec: Reduction, *tensors: torch.Tensor | None) -> tuple:
        result = Reduce.apply(spec, *mapped_in_front(core_ranks(spec.variables), tensors, in_dims[1:]))
        return result, (0,) * len(result) if isinstance(result, tuple) else 0


# apply asks for this at every call, and to find it takes longer than a small reduction
Reduce.forward.__signature__ = signature(Reduce.forward)  # type: ignore[attr-defined]


def _tensor(result: Any) -> torch.Tensor:
    """What a reduction returned, in memory of its own: an array of the host, or a tensor on a GPU."""
    return torch.from_numpy(np.ascontiguousarray(result)) if isinstance(result, np.ndarray) else result.contiguous()


def has_derivative(spec: Reduction) -> bool:
    """Whether a reduction is differentiated by reductions of its symbolic gradients."""
    return spec.op in ("Sum", "LogSumExp", "LogSumExpWeight", "SumSoftMaxWeight", "SoftMax")


def result_kind(axis: int) -> str:
    """The index of the result of a reduction over j (axis 1) or i (axis 0)."""
    return "Vi" if axis == 1 else "Vj"


def _extended(spec: Reduction, expr: Expr, axis: int, *more: Expr, parts: tuple[int, ...] = ()) -> Reduction:
    """A sum of another formula over the same arrays and some more, returned in parts if there are any."""
    new = {"expr": expr, "op": "Sum", "axis": axis, "variables": (*spec.variables, *more), "parts": parts}
    return replace(spec, **new, weight=None, opt_arg=None, dtype=None)


def _used(summand: Expr, parts: Sequence[int], cotangents: Tensors) -> tuple[Expr, torch.Tensor | None]:
    """The components of a summand in parts that have a cotangent, and these cotangents as one."""
    starts = [sum(parts[:k]) for k in range(len(parts))]
    used = [
        (build("Extract", summand, params=(start, length)), c)
        for start, length, c in zip(starts, parts, cotangents, strict=True)
        if c is not None
    ]
    return (joined(tuple(f for f, _ in used)), torch.cat([c for _, c in used], -1)) if used else (summand, None)


def gradients(
    spec: Reduction,
    tensors: Tensors,
    output: torch.Tensor,
    cotangents: Tensors,
    wanted: Sequence[bool],
    reduced: Reduced | None = None,
) -> list[torch.Tensor | None]:
    """The gradients of a reduction with respect to the tensors that want one; output is its last result.

    ``reduced(spec, *tensors)`` computes the sums that they consist of; by default, and for None, ``Reduce.apply``.
    """
    reduced = Reduce.apply if reduced is None else reduced
    summand, more = _summand(spec, tensors, output, reduced)
    if spec.parts:
        summand, cotangent = _used(summand, spec.parts, cotangents)
    else:
        (cotangent,) = cotangents
    return pullback(spec, summand, tensors, more, cotangent, wanted, reduced)


def _summand(
    spec: Reduction, tensors: Tensors, output: torch.Tensor, reduced: Reduced | None = None
) -> tuple[Expr, list[tuple[Expr, torch.Tensor]]]:
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
    plain = (reduced or Reduce.apply)(replace(spec, op="LogSumExp", weight=None), *tensors)
    level, mean = variable(kind, place, 1), variable(kind, place + 1, output.shape[-1])
    shifted = apply("Exp", apply("Subtract", spec.expr, level))
    summand = apply("Mult", shifted, apply("Subtract", weight, mean))
    return summand, [(level, _without_minus_inf(plain)), (mean, output)]


def _without_minus_inf(t: torch.Tensor) -> torch.Tensor:
    return torch.where(t == -torch.inf, torch.full_like(t, torch.inf), t)


def pullback(
    spec: Reduction,
    summand: Expr,
    tensors: Tensors,
    more: list[tuple[Expr, torch.Tensor]],
    cotangent: torch.Tensor | None,
    wanted: Sequence[bool],
    reduced: Reduced | None = None,
) -> list[torch.Tensor | None]:
    """The gradients of <cotangent, sum of summand> with respect to the tensors that want one."""
    reduced = Reduce.apply if reduced is None else reduced
    found: list[torch.Tensor | None] = [None] * len(tensors)
    if cotangent is None:
        return found
    e = variable(result_kind(spec.axis), len(tensors) + len(more), summand.dim)
    nodes, extra = [v for v, _ in more] + [e], [t for _, t in more] + [cotangent]
    kinds = {v.position: v for v in summand.vars}
    numbers, formulas = dict[int, float](), dict[int, Expr]()
    for p, tensor in enumerate(tensors):
        if tensor is None or not wanted[p]:
            continue
        formula = gradient(summand, kinds[p], e) if p in kinds else const(0.0)
        if is_const(formula, 0):
            found[p] = torch.zeros_like(tensor)
        else:
            numbers[p], formulas[p] = _without_number(formula, kinds[p].op)
    places = tuple(formulas)
    for axis, members in passes(tuple(formulas.values()), tuple(kinds[p].op for p in places), spec.axis):
        together = [places[k] for k in members]
        parts = tuple(formulas[p].dim for p in together) if len(together) > 1 else ()
        formula = joined([formulas[p] for p in together])
        results = reduced(_extended(spec, formula, axis, *nodes, parts=parts), *tensors, *extra)
        for p, g in zip(together, results if parts else (results,), strict=True):
            g = g.sum(-2) if kinds[p].op == "Pm" else g
            g = g if numbers[p] == 1 else numbers[p] * g
            found[p] = g.sum_to_size(tensors[p].shape)
    return found


def _without_number(formula: Expr, kind: str) -> tuple[float, Expr]:
    """(c, f) with the formula = c*f: a number is multiplied once for each result, if that keeps the sums in range.

    A difference as the last factor begins with what has the index of the result, as the engine has it.
    """
    c, rest = coefficient(formula)
    c, rest = (c, rest) if rest is not None and 2.0**-10 <= abs(c) <= 2.0**10 else (1.0, formula)
    if rest.op == "Mult" and rest.args[1].op == "Subtract":
        scalar, (f, g) = rest.args[0], rest.args[1].args
        first, second = ({v.op for v in h.vars} - {"Pm"} for h in (f, g))
        if second == {kind} != first:
            return -c, apply("Mult", scalar, apply("Subtract", g, f))
    return c, rest


def pushforward(
    spec: Reduction,
    summand: Expr,
    tensors: Tensors,
    more: list[tuple[Expr, torch.Tensor]],
    tangents: Tensors,
) -> torch.Tensor | None:
    """The derivative of the sum of summand along the tangents."""
    total = None
    place = len(tensors) + len(more)
    for v in summand.vars:
        p = v.position
        tangent = tangents[p] if p < len(tangents) else None
        if tangent is None:
            continue
        u = variable(v.op, place, v.dim)
        formula = derivative(summand, v, u)
        if is_const(formula, 0):
            continue
        extended = _extended(spec, formula, spec.axis, *(node for node, _ in more), u)
        part = Reduce.apply(extended, *tensors, *(t for _, t in more), tangent)
        total = part if total is None else total + part
    return total


def core_ranks(variables: Sequence[Expr]) -> dict[int, int]:
    """Position -> dimensions of one tensor without its batch dimensions."""
    return {v.position: 1 if v.op == "Pm" else 2 for v in variables}


def mapped_in_front(
    cores: Mapping[int, int], tensors: Tensors, in_dims: Sequence[int | None]
) -> list[torch.Tensor | None]:
    """The mapped dimension in front of every tensor that has it, with room for the batch dimensions of the others."""
    own = {
        p: t.ndim - (in_dims[p] is not None) - cores[p] for p, t in enumerate(tensors) if t is not None and p in cores
    }
    rank = max(own.values(), default=0)
    return [
        t if t is None or d is None else _in_front(t, d, rank - own.get(p, rank))
        for p, (t, d) in enumerate(zip(tensors, in_dims, strict=True))
    ]


def _in_front(t: torch.Tensor, d: int, missing: int) -> torch.Tensor:
    t = t.movedim(d, 0)
    return t.reshape(t.shape[0], *(1,) * missing, *t.shape[1:])
