"""Log-determinants as differentiable functions of tensors, any number of times.

Their derivative is a bilinear form of dA = diag(dalpha) + dK:

    d log det A = tr(A^-1 dA) = E (A^-T z)^T dA u        with E z u^T = I,

and as A^-T z is a Solve, the derivatives of this form are those of Solve and of sums: no further rule is needed. A is
symmetric, but its derivative by x alone is not; so A^-T z comes from the transposed formula, as in the backward pass of
a Solve.

z = W^-1 g and u = W^T g for the probes g of the quadrature, with P^-1 = W^T W. That E z u^T = I holds for any W: both
are constants, though W was made from the data. If A has a dense factor the columns of I take their place, and nothing
is estimated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy.linalg.lapack import dpotri
from torch.autograd import forward_ad

from ..frontend.gaussian_process import chunks, determinant, ready, widen, without_warm_start
from ..operators.shift import check_alpha
from ..operators.system import SolveSpec
from ..solvers.precond.cholesky import Cholesky
from ..solvers.quadrature import Estimate
from .autograd import forward_rule
from .bilinear_forms import Form, arguments_in_front, pull_back, push_forward
from .older_vmap import Function
from .polish import Polish, Use
from .solve import Account, Solve, _again, _transposed


@dataclass
class LogDetRecord:
    """The results of a log-determinant that no tensor function can return."""

    estimate: Estimate | None = field(default=None)
    factors: tuple[Cholesky, ...] = ()  # of the matrices divided by 2^unit
    unit: np.ndarray = field(default_factory=lambda: np.zeros((), int))


class LogDet(Function):
    """``LogDet.apply(spec, record, n_probes, alpha, *tensors)``: (value, stderr, left, right) in float64.

    Only the number of rows of the unknown's tensor is used. alpha has shape () or (..., n, 1).
    The last three have no derivative; left and right are those of the Estimate.
    """

    @staticmethod
    def forward(
        spec: SolveSpec, record: LogDetRecord, n_probes: int, alpha: torch.Tensor, *tensors: torch.Tensor
    ) -> tuple:
        found = ready(spec, spec.bind(tensors), check_alpha(alpha), n_probes)
        estimate = determinant(found, n_probes, spec.options.seed, spec.options.rtol)
        record.estimate, record.factors, record.unit = estimate, found.factors, found.unit
        results = (estimate.value, estimate.stderr, estimate.left, estimate.right)
        return tuple(torch.from_numpy(np.array(r)).to(device_of(tensors)) for r in results)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.spec, ctx.record = inputs[:2]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[3:], *output[2:])
        ctx.save_for_forward(*inputs[3:], *output[2:])

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor | None, *_: Any) -> tuple:
        if g is None:
            return (None,) * len(ctx.needs_input_grad)
        alpha, *tensors, left, right = ctx.saved_tensors
        use = Use(ctx.needs_input_grad[3], any(ctx.needs_input_grad[4:]))
        forms = [
            replace(form, left=g[..., None, None] * form.left)
            for form in _traces(ctx.spec, ctx.record, alpha, tensors, left, right, use)
        ]
        for_alpha, found = pull_back(forms, alpha, tensors, ctx.needs_input_grad[3:])
        return (None, None, None, for_alpha, *found)

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: list, _s: None, _a: None, _n: None, alpha_tangent: Any, *tangents: Any) -> Any:
        alpha, *tensors, left, right = saved
        use = Use(alpha_tangent is not None, any(t is not None for t in tangents))
        forms = list(_traces(ctx.spec, ctx.record, alpha, tensors, left, right, use))
        found = push_forward(forms, alpha, tensors, alpha_tangent, tangents)
        coupled = ctx.spec.form.kernel is None
        traces = [f.sum((-2, -1)).sum(0) if coupled else f.sum((-2, -1)) for f in found]
        return sum(traces, left.new_zeros(left.shape[:-2])), None, None, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple,
        spec: SolveSpec,
        record: LogDetRecord,
        n_probes: int,
        alpha: torch.Tensor,
        *tensors: torch.Tensor,
    ) -> tuple:
        mapped = arguments_in_front(spec, (alpha, *tensors), in_dims[3:])
        return LogDet.apply(spec, record, n_probes, *mapped), (0, 0, 0, 0)


def _traces(
    spec: SolveSpec,
    record: LogDetRecord,
    alpha: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    left: torch.Tensor,
    right: torch.Tensor,
    use: Use,
) -> Iterator[Form]:
    """Forms whose sum is tr(A^-1 dA), or an estimate of it; use says what dA comes of."""
    D, n = spec.unknown.dim, tensors[spec.unknown.position].shape[-2]
    coupled = spec.form.kernel is None
    rows, count = (n * D if coupled else n), left.shape[-1]
    batch, whole = left.shape[:-2], count == 0
    dense = whole and bool(record.factors) and not _may_be_differentiated()
    inverse = _inverse(record, tuple(batch)).to(left.device) if dense else None
    for part in chunks(rows if whole else count):
        if whole:
            z = u = _columns_of_identity(rows, part).to(left.device).expand(*batch, rows, part.stop - part.start)
        else:
            z, u = left[..., part] / count, right[..., part]
        wide = spec if coupled else widen(spec, z.shape[-1])
        solved = None if inverse is None else inverse[..., part]
        if coupled:
            z, u, solved = (t if t is None else _split_columns(t, n, D) for t in (z, u, solved))
        if solved is None:
            solved = _solve_transposed(wide, alpha, tensors, z, u, coupled, use)
        cut = part if whole and not coupled and spec.ranges is None else None
        yield Form(wide, solved.to(torch.float64), u, cut)


def _split_columns(columns: torch.Tensor, n: int, D: int) -> torch.Tensor:
    """Columns (..., n D, k) as vectors of a matrix-valued kernel, (k, ..., n, D)."""
    return columns.movedim(-1, 0).unflatten(-1, (n, D))


def _columns_of_identity(rows: int, part: slice) -> torch.Tensor:
    columns = torch.zeros(rows, part.stop - part.start, dtype=torch.float64)
    columns[part] = torch.eye(part.stop - part.start, dtype=torch.float64)
    return columns


def _may_be_differentiated() -> bool:
    """Whether any level may differentiate what is computed now: then it has to be a Solve."""
    forward = forward_ad._current_level >= 0
    return torch.is_grad_enabled() or forward or torch._C._are_functorch_transforms_active()


def _inverse(record: LogDetRecord, batch: tuple[int, ...]) -> torch.Tensor:
    """A^-1 by the dense factors of the forward pass: (*batch, rows, rows), on the host."""
    found = []
    for factor in record.factors:
        lower, _ = dpotri(factor.L, lower=1)  # the other triangle is that of L
        found.append(np.tril(lower) + np.tril(lower, -1).T)
    inverse = np.stack(found).reshape(*batch, *found[0].shape)
    return torch.from_numpy(np.ldexp(inverse, -record.unit[..., None]) if record.unit.any() else inverse)


def _solve_transposed(
    spec: SolveSpec,
    alpha: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    z: torch.Tensor,
    u: torch.Tensor,
    coupled: bool,
    use: Use,
) -> torch.Tensor:
    """A^-T z by differentiable solves: a block of columns at once, or, of a matrix-valued kernel, one after another."""
    position = spec.unknown.position
    backwards = _transposed(_again(without_warm_start(spec)))

    def solve(b: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        arguments = [b if p == position else t for p, t in enumerate(tensors)]
        found = Solve.apply(backwards, Account(), alpha, *arguments)
        return Polish.apply((backwards,), use, alpha, found, u, None, *arguments)[0]

    return torch.stack([solve(*pair) for pair in zip(z, u, strict=True)]) if coupled else solve(z, u)


def device_of(tensors: Sequence[torch.Tensor | None]) -> torch.device:
    return next(t.device for t in tensors if t is not None)
