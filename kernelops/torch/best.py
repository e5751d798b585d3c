"""The smallest and largest values of a formula as differentiable functions of tensors.

The winners are found without derivatives; then the formula is evaluated at them, on gathered tensors. That evaluation
is a reduction of its own, so its derivatives are those of ``Reduce``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from ..formula.expr import substitute, variable
from ..specs import ReduceSpec
from .autograd import Reduce, Tensors, result_kind

_BOTH = {"Min": "Min_ArgMin", "Max": "Max_ArgMax", "KMin": "KMin_ArgKMin"}


class AtWinners(torch.autograd.Function):
    """``AtWinners.apply(values, evaluated, kept)``: values, with the derivative of evaluated where kept, else 0.

    The two are equal but for rounding; values are what the reduction compared, so that they stay in order.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(values: torch.Tensor, evaluated: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        return values.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        ctx.save_for_backward(inputs[2])
        ctx.save_for_forward(inputs[2])

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> tuple:
        (kept,) = ctx.saved_tensors
        return None, torch.where(kept, cotangent, 0.0), None

    @staticmethod
    def jvp(ctx: Any, _values: Any, tangent: torch.Tensor, _kept: None) -> torch.Tensor:
        (kept,) = ctx.saved_tensors
        return torch.where(kept, tangent, 0.0)


def best(spec: ReduceSpec, tensors: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and indices of a Min, Max or KMin; the values are differentiable, at the winning pairs."""
    values, indices = Reduce.apply(replace(spec, op=_BOTH.get(spec.op, spec.op)), *tensors)
    dim, K = spec.expr.dim, (1 if spec.opt_arg is None else spec.opt_arg)
    core = 3 if spec.opt_arg is not None and dim > 1 else 2  # rows, K, components or rows, either
    lead, rows = values.shape[:-core], values.shape[-core]
    found = indices.reshape(*lead, rows * K * dim)
    winners = torch.arange(rows, device=indices.device).repeat_interleave(K * dim)
    evaluated = evaluate(spec, tensors, winners, found.clamp(min=0), lead)
    component = torch.arange(dim, device=indices.device).repeat(rows * K)
    chosen = evaluated[..., torch.arange(rows * K * dim, device=indices.device), component]
    return AtWinners.apply(values, chosen.reshape(values.shape), (indices >= 0)), indices


def evaluate(
    spec: ReduceSpec, tensors: Tensors, rows: torch.Tensor, columns: torch.Tensor, lead: Sequence[int]
) -> torch.Tensor:
    """The formula at pairs, (*lead, P, dim): rows (P,) are indices of the result, columns (*lead, P) reduced ones."""
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
            if t.shape[-2] == 0:  # nobody wins; something must stand where index 0 points
                t = torch.nn.functional.pad(t, (0, 0, 0, 1))
            index = columns[..., None].expand(*columns.shape, t.shape[-1])
            gathered[v.params[0]] = t.expand(*lead, *t.shape[-2:]).gather(-2, index)
        mapping[v] = variable("Vi", v.params[0], v.dim)
    expr = substitute(spec.expr, mapping)
    used = {v.params[0] for v in expr.vars}
    pairs = ReduceSpec(expr, "Sum", 1, expr.vars, sizes=(len(rows), 1), device=spec.device)
    args = [t if p in used else None for p, t in enumerate(gathered)]
    args = args[: 1 + max(used, default=-1)]
    result = Reduce.apply(pairs, *args)
    return result.expand(*lead, *result.shape[-2:])
