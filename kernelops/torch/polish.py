"""Solutions as accurate as the derivatives that are made of them need.

For A = alpha I + K, a = A^-1 b and z = A^-1 g, a derivative by a parameter of A is -z^T dA a. With residuals r and s of
a and z it is off by s^T A^-1 dA a + z^T dA A^-1 r to first order. Where K is positive semidefinite |A^-1| <= 1 / alpha:

    dA = I   (alpha itself)   off by at most (|s| |a| + |r| |z|) / alpha, a share of |z^T a|,
    dA = K   (its scale)      off by at most  |s| |a| + |r| |z|,          a share of |z^T K a|, K a = b - alpha a.

A solve to rtol leaves |r| = rtol |b|. That suffices if b or g is rough. But if both are smooth, z^T a is about
|g| |b| / |A|^2 while the bound is rtol |g| |b| / alpha^2: the relative error is rtol times the square of the condition
number, though both solves are as good as was asked. z^T b, the value, does not suffer from that: right values tell
nothing. Where a bound is no small share, the solutions are iterated on until it is, or float64 has no more to give.

The tangent by alpha is one more solve, -A^-1 a, off by A^-1 A^-1 r: at most |r| / alpha^2. It is no smaller than
|a|^2 / |b|, as a^T a = b^T A^-1 a.

A solution whose use is not known may be used in sums that nearly cancel: the mean K(at, x) a of a prediction from
smooth b hardly depends on the scale of K, by the order of alpha / |A|. There the residual is to be that share of |b|.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from ..operators.system import SolveSpec
from .autograd import core_ranks, forward_rule, mapped_in_front
from .older_vmap import Function
from .system import run, size_of

SMALLEST_RTOL = 1e-15  # relative residual below which float64 has no digits left
RESIDUAL_SLACK = 4.0  # multiple of the allowed residual that is accepted: the bounds are of the worst case
ROUNDS = 4  # largest number of rounds: the first values, and what they are said to need, may err by orders of magnitude


class Use(NamedTuple):
    """The use of solutions: derivatives by alpha, by what K depends on, one more solve, or unknown."""

    by_alpha: bool = False
    by_kernel: bool = False
    solved: bool = False
    unknown: bool = False


class Polish(Function):
    """``Polish.apply(specs, use, alpha, a, z, g, *tensors)``: a and z with the residuals they need.

    a = A^-1 b and z = A^-1 g are float64, with b at the unknown's position among the tensors, and made for -z^T dA a.
    specs has the solves of a and of z; that of a alone, which is returned alone then, if z is given and g is None,
    or if z is None, for -a^T dA a. As functions they are what they were, and so are their derivatives.
    """

    @staticmethod
    def forward(
        specs: tuple[SolveSpec, ...],
        use: Use,
        alpha: torch.Tensor,
        a: torch.Tensor,
        z: torch.Tensor | None,
        g: torch.Tensor | None,
        *tensors: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        position = specs[0].unknown.position
        rhs = [tensors[position]] if g is None else [tensors[position], g]
        pair = Pair(alpha, [a] if z is None else [a, z], rhs, specs[0], use)
        if use.unknown:
            pair.ratio = pair.least / size_of(specs[0], alpha, tensors)
        for _ in range(ROUNDS):
            wanted = [pair.needed(k) for k in range(len(specs))]
            if all(rtol is None for rtol in wanted):
                break
            for k, rtol in enumerate(wanted):
                if rtol is not None:
                    arguments = [rhs[k] if p == position else t for p, t in enumerate(tensors)]
                    pair.iterate(k, specs[k], rtol, arguments)
        return tuple(t.clone() for t in pair.found[: len(specs)])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.save_for_forward(*output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *g: torch.Tensor | None) -> tuple:
        return (None, None, None, *g, *(None,) * (len(ctx.needs_input_grad) - 3 - len(g)))

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, found: list, _specs: None, _use: None, _alpha: Any, *tangents: torch.Tensor | None) -> Any:
        return tuple(torch.zeros_like(f) if t is None else t.clone() for f, t in zip(found, tangents, strict=False))

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple,
        specs: tuple[SolveSpec, ...],
        use: Use,
        alpha: torch.Tensor,
        *tensors: torch.Tensor | None,
    ) -> tuple:
        in_dims = in_dims[2:]
        if in_dims[0] is not None and alpha.ndim == 1:  # a number for each
            alpha, in_dims = alpha[:, None, None], (0, *in_dims[1:])
        cores = dict.fromkeys(range(4), 2) | {4 + p: core for p, core in core_ranks(specs[0].variables).items()}
        found = Polish.apply(specs, use, *mapped_in_front(cores, (alpha, *tensors), in_dims))
        return found, tuple(None if d is None else 0 for d in in_dims[1 : 1 + len(found)])


class Pair:
    """a and z, what is known of their residuals, and what is needed.

    Attributes
    ----------
    found : list of tensor
        a and z; a alone if it is both.
    b : list of tensor
        The right-hand sides of those that are solutions.
    sizes, residuals : list of tensor
        Norms of the right-hand sides and bounds of those of the residuals, by columns; residuals as the solves promise
        them, until one is iterated on.
    """

    def __init__(
        self,
        alpha: torch.Tensor,
        found: Sequence[torch.Tensor],
        b: Sequence[torch.Tensor],
        spec: SolveSpec,
        use: Use,
    ) -> None:
        self.found, self.b = ([t.detach().to(torch.float64) for t in part] for part in (found, b))
        self.use, self.ratio = use, torch.zeros(())
        coupled = spec.form.kernel is None
        self.over = (-2, -1) if coupled else (-2,)
        self.given, self.alpha = alpha.detach(), alpha.detach().to(self.found[0])
        self.least = self.alpha.amin(self.over) if self.alpha.ndim else self.alpha
        self.by_rows = bool(self.alpha.ndim) and self.alpha.shape[-2] > 1
        self.sizes = [self._norm(b) for b in self.b]
        rtol, atol = spec.options.rtol, spec.options.atol
        self.residuals = [(size * rtol).clamp(min=atol) for size in self.sizes]
        asked = [(r / s)[s > 0] for r, s in zip(self.residuals, self.sizes, strict=True)]
        self.share = torch.cat([torch.zeros(1).to(asked[0]), *(t.reshape(-1) for t in asked)]).amax().sqrt()

    def _norm(self, t: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vector_norm(t, dim=self.over)

    def needed(self, k: int) -> float | None:
        """The relative residual of one that makes its share of the bounds small; None if it is so.

        Small is the square root of the residual asked for: half of its digits, by bounds of the worst case. A
        derivative is a sum over columns, of which some may matter little.
        """
        v, w, b, size, residual = self.found[k], self.found[k - 1], self.b[k], self.sizes[k], self.residuals[k]
        allowed = torch.full_like(size, torch.inf)
        portion = 0.5 * self.share / self._norm(w)
        if self.use.by_alpha:
            product = v * w
            value = self._norm(product) if self.by_rows else product.sum(self.over).abs()
            allowed = _total(value) * portion * self.least
        if self.use.by_kernel:
            value = (w * (b - self.alpha * v)).sum(self.over).abs()  # w^T K v
            allowed = allowed.minimum(_total(value) * portion)
        if self.use.solved:
            allowed = allowed.minimum(self.share * (self.least * self._norm(v)) ** 2 / size)
        if self.use.unknown:
            allowed = allowed.minimum(self.share * self.ratio * size)
        enough = (residual <= RESIDUAL_SLACK * allowed) | ~(residual.isfinite() & allowed.isfinite()) | (size == 0)
        if bool(enough.all()):
            return None
        rtol = float(torch.where(enough, torch.inf, allowed / size).amin())
        return max(SMALLEST_RTOL, rtol)

    def iterate(self, k: int, spec: SolveSpec, rtol: float, tensors: Sequence[torch.Tensor]) -> None:
        """Go on with one, with the same preconditioner, to this residual or as far as float64 allows."""
        options = spec.options if spec.options.state is None else spec.options.without_warm_start()
        start = self.found[k].numpy(force=True)
        options = replace(options.quiet(), rtol=rtol, atol=0.0, x0=start, on_fail="ignore")
        spec = replace(spec, options=options)
        solution = run(spec, self.given, tensors, 1)
        v = self.found[k]
        self.found[k] = torch.from_numpy(solution.x.copy()).to(v.device).reshape(v.shape)
        left = torch.from_numpy(np.array(solution.residual)).to(v.device).reshape(self._norm(v).shape) * self.sizes[k]
        self.residuals[k] = left if solution.converged else torch.zeros_like(left)  # no less can be had


def _total(value: torch.Tensor) -> torch.Tensor:
    return value.sum(-1, keepdim=True) if value.ndim else value
