"""The smallest and largest values of a formula as differentiable functions of tensors.

Each value belongs to one pair, the winner. Derivatives are sums of formulas over these pairs, and so are those of such
sums: ``AtWinners`` is one, ``Best`` the reduction. Rows of the tensors are gathered for a few pairs at a time,
so that the memory is that of tensors and results, not one row for each of K values of each component.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..formula.expr import Expr, apply, const, is_const, substitute, variable
from ..reductions.reduction import Reduction
from .autograd import Tensors, _tensor, core_ranks, derivative, forward_rule, gradient, mapped_in_front, result_kind
from .older_vmap import Function

NUMBERS_AT_ONCE = 1 << 20  # numbers that are gathered and computed at a time

_BOTH = {"Min": "Min_ArgMin", "Max": "Max_ArgMax", "KMin": "KMin_ArgKMin"}


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """A sum over winning pairs: all of it but its tensors and the numbers of the winners.

    Pair p of row p // each is a winner for the component p % dim. A tensor has a row for each row of the result
    ("mine"), for each one that is reduced ("theirs"), for each pair ("pair") or for each component ("component"); or it
    is a parameter ("Pm"). The result has rows of one of these kinds too.

    Attributes
    ----------
    expr : Expr
        The formula at a pair, in which every variable that is no parameter is a Vi.
    kinds : tuple of str
        What the rows of the tensors are, by position.
    result : str
        What those of the result are.
    rows, columns : int
        How many there are of "mine" and of "theirs".
    each, dim : int
        How many winners a row of the result has, and how many components a value.
    device : int or None
        As for a Reduction.
    """

    expr: Expr
    kinds: tuple[str, ...]
    result: str
    rows: int
    columns: int
    each: int
    dim: int
    device: int | None

    def cores(self) -> dict[int, int]:
        """Position -> dimensions of one tensor without its batch dimensions."""
        return {p: 1 if kind == "Pm" else 2 for p, kind in enumerate(self.kinds)}

    def shape(self, lead: Sequence[int]) -> tuple[int, ...]:
        """That of the result."""
        counts = {"mine": self.rows, "theirs": self.columns, "pair": self.rows * self.each}
        return (*lead, self.expr.dim) if self.result == "Pm" else (*lead, counts[self.result], self.expr.dim)


class AtWinners(Function):
    """``AtWinners.apply(pairs, winners, *tensors)``: a formula summed over winning pairs, in the dtype of the tensors.

    winners (..., P) are numbers of rows of "theirs". If there is no winner it is -1, and the pair counts as 0.
    """

    @staticmethod
    def forward(pairs: Pairs, winners: torch.Tensor, *tensors: torch.Tensor | None) -> torch.Tensor:
        cores, given = pairs.cores(), [(p, t) for p, t in enumerate(tensors) if t is not None]
        lead = torch.broadcast_shapes(winners.shape[:-1], *(t.shape[: -cores[p]] for p, t in given))
        winners, dtype = winners.expand(*lead, winners.shape[-1]), given[0][1].dtype
        total = winners.new_zeros(pairs.shape(lead), dtype=dtype if pairs.result == "pair" else torch.float64)
        width = sum(v.dim for v in pairs.expr.vars) + 2 * pairs.expr.dim
        length = max(1, NUMBERS_AT_ONCE // (width * max(1, lead.numel())))
        for first in range(0, winners.shape[-1] if pairs.columns else 0, length):
            _add(total, pairs, winners, tensors, slice(first, min(first + length, winners.shape[-1])))
        return total.to(dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        ctx.pairs = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> tuple:
        winners, *tensors = ctx.saved_tensors
        return None, None, *_pull_back(ctx.pairs, winners, tensors, cotangent, ctx.needs_input_grad[2:])

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: list, _pairs: None, _winners: None, *tangents: torch.Tensor | None) -> torch.Tensor:
        winners, *tensors = saved
        return _push_forward(ctx.pairs, winners, tensors, tangents)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, pairs: Pairs, *tensors: torch.Tensor | None) -> tuple:
        cores = {0: 1} | {1 + p: core for p, core in pairs.cores().items()}
        return AtWinners.apply(pairs, *mapped_in_front(cores, tensors, in_dims[1:])), 0


def _add(total: torch.Tensor, pairs: Pairs, winners: torch.Tensor, tensors: Tensors, part: slice) -> None:
    """Add the terms of some pairs to the result."""
    some = winners[..., part]
    theirs, numbers = some.clamp(min=0)[..., None], torch.arange(part.start, part.stop, device=winners.device)
    place = {"mine": numbers // pairs.each, "component": numbers % pairs.dim}
    args: list[torch.Tensor | None] = [None] * (1 + max(v.position for v in pairs.expr.vars))
    for v in pairs.expr.vars:
        p = v.position
        t, kind = tensors[p], pairs.kinds[p]
        assert t is not None
        if kind == "theirs":
            t = t.expand(*some.shape[:-1], *t.shape[-2:]).gather(-2, theirs.expand(*some.shape, t.shape[-1]))
        elif kind != "Pm":
            t = t[..., part, :] if kind == "pair" else t.index_select(-2, place[kind])
        args[p] = t
    spec = Reduction(pairs.expr, "Sum", 1, pairs.expr.vars, sizes=(len(numbers), 1), device=pairs.device)
    terms = _tensor(spec(spec.bind(args))).to(total.dtype).masked_fill((some < 0)[..., None], 0.0)
    terms = terms.expand(*some.shape, pairs.expr.dim)
    if pairs.result == "theirs":
        total.scatter_add_(-2, theirs.expand_as(terms), terms)
    elif pairs.result == "mine":
        total.index_add_(-2, place["mine"], terms)
    elif pairs.result == "pair":
        total[..., part, :] = terms
    else:
        total += terms.sum(-2)


def _pull_back(
    pairs: Pairs, winners: torch.Tensor, tensors: Tensors, cotangent: torch.Tensor, wanted: Sequence[bool]
) -> list[torch.Tensor | None]:
    """The gradients of <cotangent, sum over pairs> with respect to the tensors that want one."""
    kinds = {v.position: v for v in pairs.expr.vars}
    e = variable("Pm" if pairs.result == "Pm" else "Vi", len(tensors), pairs.expr.dim)
    found: list[torch.Tensor | None] = [None] * len(tensors)
    for p, t in enumerate(tensors):
        if t is None or not wanted[p]:
            continue
        formula = gradient(pairs.expr, kinds[p], e) if p in kinds else const(0.0)
        if is_const(formula, 0):
            found[p] = torch.zeros_like(t)
            continue
        summed = replace(pairs, expr=formula, kinds=(*pairs.kinds, pairs.result), result=pairs.kinds[p])
        found[p] = AtWinners.apply(summed, winners, *tensors, cotangent).sum_to_size(t.shape)
    return found


def _push_forward(pairs: Pairs, winners: torch.Tensor, tensors: Tensors, tangents: Tensors) -> torch.Tensor:
    """The derivative of the sum over pairs along the tangents."""
    total = None
    for v in pairs.expr.vars:
        p = v.position
        if tangents[p] is None:
            continue
        u = variable(v.op, len(tensors), v.dim)
        formula = derivative(pairs.expr, v, u)
        if is_const(formula, 0):
            continue
        summed = replace(pairs, expr=formula, kinds=(*pairs.kinds, pairs.kinds[p]))
        part = AtWinners.apply(summed, winners, *tensors, tangents[p])
        total = part if total is None else total + part
    if total is None:
        dtype = next(t.dtype for t in tensors if t is not None)
        return winners.new_zeros(pairs.shape(winners.shape[:-1]), dtype=dtype)
    return total


class Best(Function):
    """``Best.apply(spec, *tensors)``: values and indices of a Min, Max or KMin; the values are differentiable.

    Their derivatives are those of the formula at the winning pairs.
    """

    @staticmethod
    def forward(spec: Reduction, *tensors: torch.Tensor | None) -> tuple:
        values, indices = spec(spec.bind(tensors))
        return _tensor(values), _tensor(indices)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.spec = inputs[0]
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs[1:], output[1])
        ctx.save_for_forward(*inputs[1:], output[1])

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor | None, _: None) -> tuple:
        if cotangent is None:
            return (None,) * len(ctx.needs_input_grad)
        *tensors, indices = ctx.saved_tensors
        pairs, tensors, winners = _at_winners(ctx.spec, tensors, indices)
        wanted = (*ctx.needs_input_grad[1:], False)
        found = _pull_back(pairs, winners, tensors, cotangent.reshape(*winners.shape, 1), wanted)
        return None, *found[:-1]

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: list, _: None, *tangents: torch.Tensor | None) -> tuple:
        *tensors, indices = saved
        pairs, tensors, winners = _at_winners(ctx.spec, tensors, indices)
        return _push_forward(pairs, winners, tensors, (*tangents, None)).reshape(indices.shape), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, spec: Reduction, *tensors: torch.Tensor | None) -> tuple:
        return Best.apply(spec, *mapped_in_front(core_ranks(spec.variables), tensors, in_dims[1:])), (0, 0)


def _at_winners(
    spec: Reduction, tensors: Tensors, indices: torch.Tensor
) -> tuple[Pairs, list[torch.Tensor | None], torch.Tensor]:
    """The values as a sum over pairs, one term each; its tensors, and the winners (..., P).

    One more tensor says which component of the formula a pair stands for. The others are left out by a condition, as
    they may be infinite there.
    """
    dim, mine = spec.expr.dim, result_kind(spec.axis)
    core = 3 if spec.opt_arg is not None and dim > 1 else 2  # rows, K, components or rows, either
    lead, rows = indices.shape[:-core], indices.shape[-core]
    kinds, counts = ["Pm"] * (len(tensors) + 1), {mine: rows}
    for v in spec.variables:
        if v.op != "Pm":
            kinds[v.position] = "mine" if v.op == mine else "theirs"
            counts[v.op] = tensors[v.position].shape[-2]  # type: ignore[union-attr]
    kinds[-1] = "component"
    one = {v: variable("Vi", v.position, v.dim) for v in spec.expr.vars if v.op != "Pm"}
    expr = substitute(spec.expr, one)
    if dim > 1:
        expr = apply("Sum", apply("IfElse", variable("Vi", len(tensors), dim), expr, const(0.0, dim)))
    dtype = next((t.dtype for t in tensors if t is not None), torch.float64)
    which = 2 * torch.eye(dim, dtype=dtype, device=indices.device) - 1
    columns = counts.get("Vj" if mine == "Vi" else "Vi", 1 if spec.sizes[spec.axis] is None else spec.sizes[spec.axis])
    each = indices.shape[-core:].numel() // max(1, rows)
    pairs = Pairs(expr, tuple(kinds), "pair", rows, columns, each, dim, spec.device)
    return pairs, [*tensors, which], indices.reshape(*lead, rows * each)


def best(spec: Reduction, tensors: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and indices of a Min, Max or KMin."""
    values, indices = Best.apply(replace(spec, op=_BOTH.get(spec.op, spec.op)), *tensors)
    return values, indices
