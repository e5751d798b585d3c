"""Reductions and solves as operators of ``torch.library``, which torch records in graphs without looking into them.

``torch.compile``, ``torch.export``, ``torch.jit.trace`` and FakeTensorMode take a call down as one of these operators.
Each is told its spec as text (spec_text.py), computes the shapes of its results without data, and has a backward pass
that consists of these operators again. They compute what ``Reduce``, ``Best`` and ``Solve`` compute, by the same
functions. A plain call does not come here: those three have forward mode and vmap besides, which an operator has not.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.library import custom_op

from ..arrays.arguments import to_numpy
from ..operators.system import SolveSpec
from ..reductions.kinds import REDUCTIONS
from ..reductions.reduction import Reduction
from ..solvers import SolveState
from .autograd import _tensor, core_ranks, gradients, has_derivative
from .polish import Polish, Use
from .solve import Parts, cotangents, users_level
from .spec_text import reduction_of, solve_of, text_of
from .system import run
from .uncompiled import leave_uncompiled

Tensor = torch.Tensor


# ---- reductions ----


@custom_op("kernelops::reduce", mutates_args=(), schema="(Tensor[] tensors, SymInt[] sizes, str spec) -> Tensor[]")
def reduce_op(tensors: Sequence[Tensor], sizes: Sequence[int], spec: str) -> list[Tensor]:
    """The results of a reduction; tensors of its variables alone, by position, and numbers of rows or -1."""
    reduction = _with_sizes(reduction_of(spec), sizes)
    result = reduction(reduction.bind(_by_position(reduction, tensors)))
    return [_tensor(r) for r in (result if isinstance(result, tuple) else (result,))]


@reduce_op.register_fake
def _(tensors: Sequence[Tensor], sizes: Sequence[int], spec: str) -> list[Tensor]:
    reduction = _with_sizes(reduction_of(spec), sizes)
    like = tensors[0]
    return [
        like.new_empty(shape, dtype=torch.int64 if name == "indices" else like.dtype)
        for name, shape in _result_shapes(reduction, _by_position(reduction, tensors))
    ]


def _keep_reduction(ctx: Any, inputs: tuple, output: list[Tensor]) -> None:
    tensors, ctx.sizes, ctx.spec = inputs
    ctx.set_materialize_grads(False)
    if has_derivative(reduction_of(ctx.spec)):
        ctx.save_for_backward(*tensors, output[-1])


def _pull_reduction(ctx: Any, grads: Sequence[Tensor | None]) -> tuple:
    spec = _with_sizes(reduction_of(ctx.spec), ctx.sizes)
    wanted = ctx.needs_input_grad[0]
    if not has_derivative(spec):
        return [None] * len(wanted), None, None
    *tensors, output = ctx.saved_tensors
    places = _places(spec)
    asked = [False] * (1 + places[-1])
    for p, w in zip(places, wanted, strict=True):
        asked[p] = w
    found = gradients(spec, _by_position(spec, tensors), output, grads, asked, call_reduce)
    return [found[p] for p in places], None, None


def call_reduce(spec: Reduction, *tensors: Tensor | None) -> Any:
    """The result of a reduction by the operator: what ``Reduce.apply`` returns."""
    text = text_of(replace(spec, sizes=(None, None)))
    assert text is not None
    sizes = [-1 if size is None else size for size in spec.sizes]
    found = torch.ops.kernelops.reduce([tensors[p] for p in _places(spec)], sizes, text)
    several = spec.parts or len(REDUCTIONS[spec.op].results) > 1
    return tuple(found) if several else found[0]


def can_be_told(spec: Reduction | SolveSpec) -> bool:
    """Whether an operator can be told all of a reduction or a solve."""
    return bool(spec.variables) and text_of(spec) is not None


def _places(spec: Reduction | SolveSpec) -> list[int]:
    return sorted({v.position for v in spec.variables})


def _by_position(spec: Reduction | SolveSpec, tensors: Sequence[Tensor]) -> list[Tensor | None]:
    """The tensors by position, with None at those of no variable."""
    places = _places(spec)
    found: list[Tensor | None] = [None] * (1 + places[-1])
    for p, t in zip(places, tensors, strict=True):
        found[p] = t
    return found


def _with_sizes(spec: Reduction, sizes: Sequence[int]) -> Reduction:
    M, N = (None if isinstance(size, int) and size < 0 else size for size in sizes)
    return spec if M is None and N is None else replace(spec, sizes=(M, N))


def _result_shapes(spec: Reduction, tensors: Sequence[Tensor | None]) -> list[tuple[str, tuple[int, ...]]]:
    """What the results are, and their shapes."""
    cores, counts = core_ranks(spec.variables), dict(zip(("Vi", "Vj"), spec.sizes, strict=True))
    leads = []
    for v in spec.variables:
        t = tensors[v.position]
        assert t is not None
        leads.append(t.shape[: -cores[v.position]])
        if v.op != "Pm" and counts[v.op] is None:
            counts[v.op] = t.shape[-2]
    rows = counts["Vi" if spec.axis == 1 else "Vj"]
    front = (*torch.broadcast_shapes(*leads), 1 if rows is None else rows)
    kind, K = REDUCTIONS[spec.op], spec.opt_arg or 1
    if kind.accumulator == "best":
        tail: tuple[int, ...] = (K, spec.expr.dim) if kind.many and spec.expr.dim > 1 else (K * spec.expr.dim,)
        return [(name, (*front, *tail)) for name in kind.results]
    weighted = spec.weight if spec.weight is not None else spec.expr
    return [(kind.results[0], (*front, dim)) for dim in spec.parts or (weighted.dim,)]


# ---- solves ----

# A solve leaves its preconditioner to its backward pass in a state, which no graph can carry. The operator returns an
# empty tensor, the token, whose attribute it is; a token that has been copied on its way has none, and the backward
# solve builds what it needs.
_ATTRIBUTE = "kernelops_state"


def _state_of(token: Tensor) -> SolveState:
    return getattr(token, _ATTRIBUTE, None) or SolveState(warm=False)


def _with_state(spec: SolveSpec, token: Tensor | None) -> tuple[SolveSpec, SolveState]:
    """A solve with its state: a new one, or, behind a token, that of the backward solves of the state there."""
    state = SolveState(warm=False) if token is None else _state_of(token).adjoint()
    return replace(spec, options=replace(spec.options, state=state)), state


@custom_op(
    "kernelops::solve",
    mutates_args=(),
    schema="(Tensor[] tensors, Tensor alpha, Tensor? x0, Tensor? token, str spec) -> (Tensor, Tensor)",
)
def solve_op(
    tensors: Sequence[Tensor], alpha: Tensor, x0: Tensor | None, token: Tensor | None, spec: str
) -> tuple[Tensor, Tensor]:
    """The solution in float64, and a token of the state; tensors of the variables alone, by position."""
    solve, state = _with_state(solve_of(spec), token)
    arguments = _by_position(solve, tensors)
    b = arguments[solve.unknown.position]
    if x0 is not None:
        start = x0.cpu() if x0.device == b.device else x0
        solve = replace(solve, options=replace(solve.options, x0=to_numpy(start, "x0")))
    level = 1 + users_level()
    solution = run(solve, alpha, arguments, level)
    if token is None:
        solve.returned(solution, b.dtype, level)
    left = torch.empty(0)
    setattr(left, _ATTRIBUTE, state)
    return torch.from_numpy(solution.x.copy()).to(b.device), left


@solve_op.register_fake
def _(
    tensors: Sequence[Tensor], alpha: Tensor, x0: Tensor | None, token: Tensor | None, spec: str
) -> tuple[Tensor, Tensor]:
    solve = solve_of(spec)
    arguments = _by_position(solve, tensors)
    return _solution_like(solve, arguments, alpha), torch.empty(0)


def _solution_like(spec: SolveSpec, arguments: Sequence[Tensor | None], alpha: Tensor) -> Tensor:
    """An empty tensor for the solution."""
    cores, b = core_ranks(spec.variables), arguments[spec.unknown.position]
    leads = [arguments[p].shape[:-core] for p, core in cores.items()]
    lead = torch.broadcast_shapes(*leads, alpha.shape[:-2])
    return b.new_empty((*lead, *b.shape[-2:]), dtype=torch.float64)


def _keep_solve(ctx: Any, inputs: tuple, output: tuple) -> None:
    tensors, alpha, x0, token, ctx.spec = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, alpha, *output)


def _pull_solve(ctx: Any, g: Tensor, _: Any) -> tuple:
    *tensors, alpha, a, token = ctx.saved_tensors
    spec = solve_of(ctx.spec)
    places, asked = _places(spec), [ctx.needs_input_grad[1]]
    asked += [False] * (1 + places[-1])
    for p, w in zip(places, ctx.needs_input_grad[0], strict=True):
        asked[1 + p] = w

    def solve(spec: SolveSpec, alpha: Tensor, *tensors: Tensor) -> Tensor:
        return call_solve(spec, alpha, tensors, None, token)[0]

    def polish(specs: Sequence[SolveSpec], use: Use, alpha: Tensor, *more: Tensor) -> Sequence[Tensor]:
        a, z, g, *tensors = more
        return call_polish(specs[0], specs[1], use, alpha, (a, z, g), tensors, token)

    for_alpha, *found = cotangents(
        spec, alpha, _by_position(spec, tensors), a, g, asked, Parts(solve, polish, call_reduce)
    )
    return [found[p] for p in places], for_alpha, None, None, None


def call_solve(
    spec: SolveSpec, alpha: Tensor, tensors: Sequence[Tensor | None], x0: Tensor | None, token: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The solution in float64 and a token, by the operator."""
    text = text_of(spec)
    assert text is not None
    return torch.ops.kernelops.solve([tensors[p] for p in _places(spec)], alpha, x0, token, text)


@custom_op(
    "kernelops::polish",
    mutates_args=(),
    schema="(Tensor[] tensors, Tensor alpha, Tensor a, Tensor z, Tensor g, Tensor token, str of_a, str of_z, "
    "bool[] use) -> (Tensor, Tensor)",
)
def polish_op(
    tensors: Sequence[Tensor],
    alpha: Tensor,
    a: Tensor,
    z: Tensor,
    g: Tensor,
    token: Tensor,
    of_a: str,
    of_z: str,
    use: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    """Two solutions with the residuals that derivatives need; see ``Polish``."""
    found = [_with_state(solve_of(text), token)[0] for text in (of_a, of_z)]
    arguments = _by_position(found[0], tensors)
    a, z = Polish.forward(tuple(found), Use(*use), alpha, a, z, g, *arguments)
    return a, z


@polish_op.register_fake
def _(
    tensors: Sequence[Tensor],
    alpha: Tensor,
    a: Tensor,
    z: Tensor,
    g: Tensor,
    token: Tensor,
    of_a: str,
    of_z: str,
    use: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(a), torch.empty_like(z)


def _keep_polish(ctx: Any, inputs: tuple, output: tuple) -> None:
    ctx.count = len(inputs[0])


def _pull_polish(ctx: Any, ga: Tensor, gz: Tensor) -> tuple:
    return [None] * ctx.count, None, ga, gz, None, None, None, None, None


def call_polish(
    first: SolveSpec,
    second: SolveSpec,
    use: Use,
    alpha: Tensor,
    pair: Sequence[Tensor],
    tensors: Sequence[Tensor | None],
    token: Tensor,
) -> Sequence[Tensor]:
    """a and z, polished by the operator."""
    texts = text_of(first), text_of(second)
    return torch.ops.kernelops.polish(
        [tensors[p] for p in _places(first)], alpha, *pair, token, *texts, list(map(bool, use))
    )


# the engine of autograd calls these out of compiled functions too
leave_uncompiled(
    sys.modules[__name__],
    *("_keep_reduction", "_pull_reduction", "_keep_solve", "_pull_solve", "_keep_polish", "_pull_polish"),
)
reduce_op.register_autograd(_pull_reduction, setup_context=_keep_reduction)
solve_op.register_autograd(_pull_solve, setup_context=_keep_solve)
polish_op.register_autograd(_pull_polish, setup_context=_keep_polish)
