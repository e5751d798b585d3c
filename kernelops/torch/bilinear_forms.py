"""Bilinear forms <left, dA right> of the derivative dA of a matrix: their gradients, and their values along tangents.

First derivatives of log-determinants and of quadratic forms are such forms of dA = diag(dalpha) + dK. <s, dA u> is the
pullback of the sum K u for the cotangent s, so autograd.py's rules for sums are all that is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..operators.system import SolveSpec
from ..reductions.reduction import Reduction
from .autograd import core_ranks, mapped_in_front, pullback, pushforward
from .solve import _wide, product_spec


@dataclass(frozen=True)
class Form:
    """<left, dA right> for one block of columns.

    The columns of a scalar kernel are those of an unknown of that length, left and right (..., n, k); those of a
    matrix-valued one stand in front as a batch, (k, ..., n, D).

    Attributes
    ----------
    spec : SolveSpec
        For an unknown of as many columns.
    left, right : tensor
        Both of n rows.
    rows : slice or None
        The only rows of right that are not 0: all that the sum has to run over.
    """

    spec: SolveSpec
    left: torch.Tensor
    right: torch.Tensor
    rows: slice | None = None

    def product(self) -> Reduction:
        """K right as a sum in float64."""
        spec, n = self.spec, self.right.shape[-2]
        over = n if self.rows is None else self.rows.stop - self.rows.start
        return product_spec(spec, (n, over) if spec.axis == 1 else (over, n))

    def at(self, tensors: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
        """The arguments of that sum, in float64; or their tangents, with None for the unknown's."""
        position = self.spec.unknown.position
        cut = [t if t is None or not self._cut(p) else narrow_rows(t, self.rows) for p, t in enumerate(tensors)]
        cut[position] = self.right if self.rows is None else narrow_rows(self.right, self.rows)
        return _wide(cut)

    def _cut(self, position: int) -> bool:
        """Whether the argument at this position has the index that is summed over."""
        kinds = {v.position: v.op for v in self.spec.variables}
        return self.rows is not None and kinds.get(position) == self.spec.unknown.op


def narrow_rows(t: torch.Tensor, rows: slice | None) -> torch.Tensor:
    """Some rows; to index them is more than torch's older vmap can do."""
    assert rows is not None
    return t.narrow(-2, rows.start, rows.stop - rows.start)


def pull_back(
    forms: Sequence[Form], alpha: torch.Tensor, tensors: Sequence[torch.Tensor], wanted: Sequence[bool]
) -> tuple[torch.Tensor | None, list[torch.Tensor | None]]:
    """The gradients of the sum of the forms with respect to alpha and to the tensors; wanted has alpha first."""
    for_alpha, found = None, [list[torch.Tensor]() for _ in tensors]
    for form in forms:
        position = form.spec.unknown.position
        asked = [w and p != position for p, w in enumerate(wanted[1:])]
        if wanted[0]:
            rows = (form.left * form.right).to(alpha)
            part = rows.sum() if alpha.ndim == 0 else rows.sum(-1, keepdim=True).sum_to_size(alpha.shape)
            for_alpha = part if for_alpha is None else for_alpha + part
        if any(asked):
            parts = pullback(form.product(), form.spec.expr, form.at(tensors), [], form.left, asked)
            for p, part in enumerate(parts):
                if part is not None:
                    found[p].append(part)
    gradients: list[torch.Tensor | None] = []
    for p, (t, parts) in enumerate(zip(tensors, found, strict=True)):
        whole = torch.cat(parts, -2) if parts and forms[0]._cut(p) else sum(parts) if parts else None
        gradients.append(None if whole is None else whole.to(t.dtype))
    return for_alpha, gradients


def push_forward(
    forms: Sequence[Form],
    alpha: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    alpha_tangent: torch.Tensor | None,
    tangents: Sequence[torch.Tensor | None],
) -> list[torch.Tensor]:
    """left * (dA right) of every form, along the tangents."""
    found = []
    for form in forms:
        position = form.spec.unknown.position
        along = form.at(tangents)
        along[position] = None
        moved = pushforward(form.product(), form.spec.expr, form.at(tensors), [], along)
        image = torch.zeros_like(form.left) if moved is None else moved
        if alpha_tangent is not None:
            image = image + alpha_tangent.to(form.right.device) * form.right
        found.append(form.left * image)
    return found


def arguments_in_front(spec: SolveSpec, tensors: tuple, in_dims: tuple, extra: int = 0) -> list[torch.Tensor | None]:
    """alpha, `extra` blocks and the arguments, with the mapped dimension in front."""
    if in_dims[0] is not None and tensors[0].ndim == 1:  # a number for each
        tensors, in_dims = (tensors[0][:, None, None], *tensors[1:]), (0, *in_dims[1:])
    blocks = dict.fromkeys(range(1 + extra), 2)
    return mapped_in_front(blocks | {1 + extra + p: c for p, c in core_ranks(spec.variables).items()}, tensors, in_dims)
