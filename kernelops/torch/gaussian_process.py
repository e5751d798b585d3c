"""Log-determinants and quadratic forms as differentiable functions of tensors, any number of times.

Both have first derivatives that are bilinear forms of dA = diag(dalpha) + dK:

    d log det A  = tr(A^-1 dA) = E (A^-T z)^T dA u        with E z u^T = I,
    d b^T A^-1 b = 2 db^T a - a^T dA a                    for a = A^-1 b,

and <s, dA u> is the pullback of the sum K u for the cotangent s. Where A^-T z is a Solve and a the result of one, the
derivatives of these forms are theirs, and no further rule is needed. A is symmetric, but its derivative by x alone is
not; so A^-T z comes from the transposed formula, as in the backward pass of a Solve.

z = W^-1 g and u = W^T g for the probes g of the quadrature, with P^-1 = W^T W. That E z u^T = I holds for any W: both
are constants, though W was made from the data. Where A has a dense factor the columns of I take their place, and
nothing is estimated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy.linalg.lapack import dpotri
from torch.autograd import forward_ad

from ..formula.expr import substitute, variable
from ..frontend.gaussian_process import (
    Unfit,
    across,
    check_new_points,
    chunks,
    complain,
    determinant,
    kernel_of,
    quadratic,
    ready,
    widened,
    without_warm_start,
)
from ..operators.shift import check_alpha
from ..operators.system import SolveSpec
from ..reductions.reduction import Reduction
from ..solvers.operator import as_system
from ..solvers.precond.cholesky import Cholesky
from ..solvers.quadrature import Estimate
from .autograd import Reduce, core_ranks, forward_rule, mapped_in_front, pullback, pushforward
from .older_vmap import Function
from .polish import Polish, Use
from .solve import Account, Solve, _again, _transposed, _wide, product_spec, shaped_alpha, users_level
from .system import narrowed


@dataclass
class Beside:
    """Where a log-determinant leaves what no tensor function can return."""

    estimate: Estimate | None = field(default=None)
    factors: tuple[Cholesky, ...] = ()  # of the matrices divided by 2^unit
    unit: np.ndarray = field(default_factory=lambda: np.zeros((), int))


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
        place = self.spec.unknown.position
        cut = [t if t is None or not self._cut(p) else _some(t, self.rows) for p, t in enumerate(tensors)]
        cut[place] = self.right if self.rows is None else _some(self.right, self.rows)
        return _wide(cut)

    def _cut(self, place: int) -> bool:
        """Whether the argument at this place has the index that is summed over."""
        kinds = {v.position: v.op for v in self.spec.variables}
        return self.rows is not None and kinds.get(place) == self.spec.unknown.op


def _some(t: torch.Tensor, rows: slice | None) -> torch.Tensor:
    """Some rows; to index them is more than torch's older vmap can do."""
    assert rows is not None
    return t.narrow(-2, rows.start, rows.stop - rows.start)


def pulled(
    forms: Sequence[Form], alpha: torch.Tensor, tensors: Sequence[torch.Tensor], wanted: Sequence[bool]
) -> tuple[torch.Tensor | None, list[torch.Tensor | None]]:
    """The gradients of the sum of the forms with respect to alpha and to the tensors; wanted has alpha first."""
    for_alpha, found = None, [list[torch.Tensor]() for _ in tensors]
    for form in forms:
        place = form.spec.unknown.position
        asked = [w and p != place for p, w in enumerate(wanted[1:])]
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


def pushed(
    forms: Sequence[Form],
    alpha: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    alpha_tangent: torch.Tensor | None,
    tangents: Sequence[torch.Tensor | None],
) -> list[torch.Tensor]:
    """left * (dA right) of every form, along the tangents."""
    found = []
    for form in forms:
        place = form.spec.unknown.position
        along = form.at(tangents)
        along[place] = None
        moved = pushforward(form.product(), form.spec.expr, form.at(tensors), [], along)
        image = torch.zeros_like(form.left) if moved is None else moved
        if alpha_tangent is not None:
            image = image + alpha_tangent.to(form.right.device) * form.right
        found.append(form.left * image)
    return found


class LogDet(Function):
    """``LogDet.apply(spec, account, n_probes, alpha, *tensors)``: (value, stderr, left, right) in float64.

    Whatever stands at the unknown's place says no more than how many rows there are. alpha has shape () or (..., n, 1).
    The last three have no derivative; left and right are those of the Estimate.
    """

    @staticmethod
    def forward(spec: SolveSpec, account: Beside, n_probes: int, alpha: torch.Tensor, *tensors: torch.Tensor) -> tuple:
        found = ready(spec, spec.bind(tensors), check_alpha(alpha), n_probes)
        estimate = determinant(found, n_probes, spec.options.seed, spec.options.rtol)
        account.estimate, account.factors, account.unit = estimate, found.factors, found.unit
        results = (estimate.value, estimate.stderr, estimate.left, estimate.right)
        return tuple(torch.from_numpy(np.array(r)).to(_device(tensors)) for r in results)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.spec, ctx.account = inputs[:2]
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
            for form in _traces(ctx.spec, ctx.account, alpha, tensors, left, right, use)
        ]
        for_alpha, found = pulled(forms, alpha, tensors, ctx.needs_input_grad[3:])
        return (None, None, None, for_alpha, *found)

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: list, _s: None, _a: None, _n: None, alpha_tangent: Any, *tangents: Any) -> Any:
        alpha, *tensors, left, right = saved
        use = Use(alpha_tangent is not None, any(t is not None for t in tangents))
        forms = list(_traces(ctx.spec, ctx.account, alpha, tensors, left, right, use))
        found = pushed(forms, alpha, tensors, alpha_tangent, tangents)
        coupled = ctx.spec.form.kernel is None
        traces = [f.sum((-2, -1)).sum(0) if coupled else f.sum((-2, -1)) for f in found]
        return sum(traces, left.new_zeros(left.shape[:-2])), None, None, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple,
        spec: SolveSpec,
        account: Beside,
        n_probes: int,
        alpha: torch.Tensor,
        *tensors: torch.Tensor,
    ) -> tuple:
        mapped = _mapped(spec, (alpha, *tensors), in_dims[3:])
        return LogDet.apply(spec, account, n_probes, *mapped), (0, 0, 0, 0)


def _mapped(spec: SolveSpec, tensors: tuple, in_dims: tuple, extra: int = 0) -> list[torch.Tensor | None]:
    """alpha, `extra` blocks and the arguments, with the mapped dimension in front."""
    if in_dims[0] is not None and tensors[0].ndim == 1:  # a number for each
        tensors, in_dims = (tensors[0][:, None, None], *tensors[1:]), (0, *in_dims[1:])
    blocks = dict.fromkeys(range(1 + extra), 2)
    return mapped_in_front(blocks | {1 + extra + p: c for p, c in core_ranks(spec.variables).items()}, tensors, in_dims)


def _traces(
    spec: SolveSpec,
    account: Beside,
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
    dense = whole and bool(account.factors) and not _followed()
    inverse = _inverse(account, tuple(batch)).to(left.device) if dense else None
    for part in chunks(rows if whole else count):
        if whole:
            z = u = _columns_of_identity(rows, part).to(left.device).expand(*batch, rows, part.stop - part.start)
        else:
            z, u = left[..., part] / count, right[..., part]
        wide = spec if coupled else widened(spec, z.shape[-1])
        solved = None if inverse is None else inverse[..., part]
        if coupled:
            z, u, solved = (t if t is None else _one_by_one(t, n, D) for t in (z, u, solved))
        if solved is None:
            solved = _solved(wide, alpha, tensors, z, u, coupled, use)
        cut = part if whole and not coupled and spec.ranges is None else None
        yield Form(wide, solved.to(torch.float64), u, cut)


def _one_by_one(columns: torch.Tensor, n: int, D: int) -> torch.Tensor:
    """Columns (..., n D, k) as vectors of a matrix-valued kernel, (k, ..., n, D)."""
    return columns.movedim(-1, 0).unflatten(-1, (n, D))


def _columns_of_identity(rows: int, part: slice) -> torch.Tensor:
    columns = torch.zeros(rows, part.stop - part.start, dtype=torch.float64)
    columns[part] = torch.eye(part.stop - part.start, dtype=torch.float64)
    return columns


def _followed() -> bool:
    """Whether what is computed now may be differentiated, by whatever level: then it has to be a Solve."""
    forward = forward_ad._current_level >= 0
    return torch.is_grad_enabled() or forward or torch._C._are_functorch_transforms_active()


def _differentiated(tensors: Sequence[torch.Tensor | None]) -> bool:
    """Whether somebody asks for derivatives by one of these, in whatever way."""
    if torch._C._are_functorch_transforms_active():
        return True
    given = [t for t in tensors if t is not None]
    if forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(t.requires_grad for t in given)


def _inverse(account: Beside, batch: tuple[int, ...]) -> torch.Tensor:
    """A^-1 by the dense factors of the forward pass: (*batch, rows, rows), on the host."""
    found = []
    for factor in account.factors:
        lower, _ = dpotri(factor.L, lower=1)  # the other triangle is that of L
        found.append(np.tril(lower) + np.tril(lower, -1).T)
    inverse = np.stack(found).reshape(*batch, *found[0].shape)
    return torch.from_numpy(np.ldexp(inverse, -account.unit[..., None]) if account.unit.any() else inverse)


def _solved(
    spec: SolveSpec,
    alpha: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    z: torch.Tensor,
    u: torch.Tensor,
    coupled: bool,
    use: Use,
) -> torch.Tensor:
    """A^-T z by differentiable solves: a block of columns at once, or, of a matrix-valued kernel, one after another."""
    place = spec.unknown.position
    backwards = _transposed(_again(without_warm_start(spec)))

    def solve(b: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        arguments = [b if p == place else t for p, t in enumerate(tensors)]
        found = Solve.apply(backwards, Account(), alpha, *arguments)
        return Polish.apply((backwards,), use, alpha, found, u, None, *arguments)[0]

    return torch.stack([solve(*pair) for pair in zip(z, u, strict=True)]) if coupled else solve(z, u)


class Quadratic(Function):
    """``Quadratic.apply(spec, alpha, a, *tensors)``: b^T A^-1 b of every column, float64 (..., k), for a = A^-1 b.

    b stands at the unknown's place, and a is the result of a Solve. The value is 2 b^T a - a^T A a; its derivative by a
    is 2 (b - A a), which is 0 wherever a is what it should be, so that a gets no gradient. The derivatives by all else
    hold a, through which the next ones pass.
    """

    @staticmethod
    def forward(spec: SolveSpec, alpha: torch.Tensor, a: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        arguments = spec.bind(narrowed(spec, tensors))
        kernel = spec.system(arguments, check_alpha(alpha))
        b = tensors[spec.unknown.position].expand(kernel.b_shape).numpy(force=True)
        found = quadratic(kernel, as_system(kernel), b, a.numpy(force=True))
        return torch.from_numpy(found).to(a.device)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        ctx.spec = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple:
        alpha, a, *tensors = ctx.saved_tensors
        spec, place = ctx.spec, ctx.spec.unknown.position
        a = _polished(spec, alpha, a, tensors, ctx.needs_input_grad[1], ctx.needs_input_grad[3:])
        weighed = g[..., None, :] * a.to(torch.float64)
        form = _energy(spec, a, weighed)
        wanted = (ctx.needs_input_grad[1], *ctx.needs_input_grad[3:])
        for_alpha, found = pulled([form], alpha, tensors, wanted)
        if ctx.needs_input_grad[3 + place]:
            found[place] = (2 * weighed).to(tensors[place].dtype).sum_to_size(tensors[place].shape)
        return (None, for_alpha, None, *found)

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: list, _spec: None, alpha_tangent: Any, _a: Any, *tangents: Any) -> torch.Tensor:
        alpha, a, *tensors = saved
        place = ctx.spec.unknown.position
        moving = [t is not None for t in tangents]
        a = _polished(ctx.spec, alpha, a, tensors, alpha_tangent is not None, moving)
        (moved,) = pushed([_energy(ctx.spec, a, a.to(torch.float64))], alpha, tensors, alpha_tangent, tangents)
        if tangents[place] is not None:
            moved = moved + 2 * a.to(torch.float64) * tangents[place]
        coupled = ctx.spec.form.kernel is None
        return moved.sum((-2, -1))[..., None] if coupled else moved.sum(-2)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple, spec: SolveSpec, alpha: torch.Tensor, a: torch.Tensor, *tensors: torch.Tensor
    ) -> tuple:
        return Quadratic.apply(spec, *_mapped(spec, (alpha, a, *tensors), in_dims[1:], extra=1)), 0


def _polished(
    spec: SolveSpec,
    alpha: torch.Tensor,
    a: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    by_alpha: bool,
    wanted: Sequence[bool],
) -> torch.Tensor:
    """a, as good as the derivatives by alpha, and by those tensors that are wanted, need it."""
    use = Use(by_alpha, any(w for p, w in enumerate(wanted) if p != spec.unknown.position))
    if not any(use):
        return a
    found: torch.Tensor = Polish.apply((_again(spec),), use, alpha, a, None, None, *tensors)[0]
    return found


def _energy(spec: SolveSpec, a: torch.Tensor, weighed: torch.Tensor) -> Form:
    """-a^T dA a."""
    return Form(spec, -weighed, a.to(torch.float64))


def _device(tensors: Sequence[torch.Tensor | None]) -> torch.device:
    return next(t.device for t in tensors if t is not None)


class Rounded(Function):
    """``Rounded.apply(a, dtype, name, on_fail)``: a float64 tensor in a dtype; what does not fit into it is said."""

    @staticmethod
    def forward(a: torch.Tensor, dtype: torch.dtype, name: str, on_fail: str) -> torch.Tensor:
        found = a.to(dtype)
        if bool(found.isinf().any()) and bool(a.isfinite().all()):
            complain(Unfit.of(a, dtype, name), on_fail, stacklevel=users_level())
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        ctx.dtypes = inputs[0].dtype, output.dtype

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple:
        return g.to(ctx.dtypes[0]), None, None, None

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, _saved: list, tangent: torch.Tensor, *_: None) -> torch.Tensor:
        return tangent.to(ctx.dtypes[1])

    @staticmethod
    def vmap(info: Any, in_dims: tuple, a: torch.Tensor, dtype: torch.dtype, name: str, on_fail: str) -> tuple:
        return Rounded.apply(a, dtype, name, on_fail), in_dims[0]


def _rounded(a: torch.Tensor, dtype: torch.dtype, name: str, on_fail: str) -> torch.Tensor:
    return a if a.dtype == dtype else Rounded.apply(a, dtype, name, on_fail)


# ---- what the door calls ----


def logdet(
    spec: SolveSpec, tensors: list[torch.Tensor], alpha: torch.Tensor, n_probes: int
) -> tuple[torch.Tensor, torch.Tensor, Estimate]:
    account = Beside()
    value, stderr, _, _ = LogDet.apply(spec, account, n_probes, shaped_alpha(alpha, spec, tensors), *tensors)
    assert account.estimate is not None
    return value, stderr, account.estimate


def inv_quad(spec: SolveSpec, tensors: list[torch.Tensor], alpha: torch.Tensor) -> torch.Tensor:
    """b^T A^-1 b, summed over the columns."""
    shaped = shaped_alpha(alpha, spec, tensors)
    a = Solve.apply(spec, Account(), shaped, *tensors)
    return Quadratic.apply(spec, shaped, a, *tensors).sum(-1)


def predict(
    spec: SolveSpec, tensors: list[torch.Tensor], alpha: torch.Tensor, new: Mapping[int, torch.Tensor], variance: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The mean (..., m, k) and the variance (..., m) at new points, as compositions of Solve, Quadratic and Reduce."""
    v = spec.unknown
    outer, dtype = spec.form.outer, tensors[v.position].dtype
    kernel = kernel_of(spec) if variance else None
    alpha = shaped_alpha(alpha, spec, tensors)
    cores = {0: 2} | {1 + p: core for p, core in core_ranks(spec.variables).items()}
    batch = torch.broadcast_shapes(*(t.shape[: max(0, t.ndim - cores[p])] for p, t in enumerate((alpha, *tensors))))
    m = check_new_points(spec, new, dtype, tuple(batch))

    def product(spec: SolveSpec, points: Mapping[int, Any], kinds: Sequence[str], unknown: torch.Tensor) -> Any:
        """K u in float64 where some kinds of variables are at new points."""
        at = across(spec, tensors, points, kinds)
        at[v.position] = unknown
        how = {"sum_scheme": spec.sum_scheme, "device": spec.device}
        summed = Reduction(spec.expr, "Sum", spec.axis, spec.variables, spec.names, **how)
        return Reduce.apply(summed, *_wide(at))

    spread = None
    if kernel is not None:
        one = {x: variable("Vi", x.position, x.dim) for x in kernel.vars if x.op == "Vj"}
        others = tuple(one.get(x, x) for x in spec.variables if x is not v)
        summed = Reduction(substitute(kernel, one), "Sum", 1, others, sizes=(m, 1), device=spec.device)
        at = across(spec, tensors, new, ("Vi", "Vj"))
        at[v.position] = None
        own = Reduce.apply(summed, *_wide(at[: 1 + max(x.position for x in others)]))[..., 0].expand(*batch, m)
        found, besides = [], replace(without_warm_start(spec), wide=True)
        for part in chunks(m):
            columns = part.stop - part.start
            wide = widened(besides, columns)
            some = {p: _some(t, part) for p, t in new.items()}
            right = product(wide, some, (v.op,), torch.eye(columns, dtype=torch.float64, device=_device(tensors)))
            b = [right if p == v.position else t for p, t in enumerate(tensors)]
            found.append(Quadratic.apply(wide, alpha, Solve.apply(wide, Account(), alpha, *b), *b).expand(*batch, -1))
        if found:
            own = own - torch.cat(found, -1)
            spec.options.state.hold(besides.options.state.plan)  # chosen for many columns
        spread = _rounded(own.clamp(min=0), dtype, "variance", spec.options.on_fail)
    a = Solve.apply(spec, Account(), alpha, *tensors)
    if _differentiated((alpha, *tensors, *new.values())):
        a = Polish.apply((_again(spec),), Use(unknown=True), alpha, a, None, None, *tensors)[0]
    mean = product(spec, new, (outer,), a)
    return _rounded(mean, dtype, "mean", spec.options.on_fail), spread
