"""The arrays behind tensors, for what is chosen from their values and has no derivative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch

from ..arrays.arguments import Arguments
from ..errors import ArgumentError
from ..operators.system import SolveSpec
from ..reductions.reduction import Reduction


def bound_of(spec: Reduction | SolveSpec, tensors: Sequence[torch.Tensor | None]) -> Arguments:
    """The tensors as a reduction or a solve sees them, inside of any transform."""
    found: list[Arguments] = []
    Look.apply(lambda seen: found.append(spec.bind(seen)), *tensors)
    return found[0]


class Look(torch.autograd.Function):
    """A function of nothing: its forward gets tensors as they are, without what torch.func wraps around them.

    What it finds goes out by a call: torch.func makes new lists of the lists that it is given.
    """

    @staticmethod
    def forward(look: Callable[[Sequence[torch.Tensor | None]], None], *tensors: torch.Tensor | None) -> torch.Tensor:
        look(tensors)
        return torch.empty(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple:
        return (None,) * len(ctx.needs_input_grad)

    @staticmethod
    def jvp(_ctx: Any, *_: Any) -> None:
        return None

    @staticmethod
    def vmap(*_: Any) -> NoReturn:
        raise ArgumentError(
            "truncate chooses a pattern from the values of the tensors, which vmap does not show: "
            "give ranges= instead, or batch dimensions"
        )
