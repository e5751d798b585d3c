


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
