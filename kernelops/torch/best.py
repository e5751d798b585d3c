


_BOTH = {"Min": "Min_ArgMin", "Max": "Max_ArgMax", "KMin": "KMin_ArgKMin"}


def best(spec: ReduceSpec, tensors: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and indices of a Min, Max or KMin; the values are differentiable, at the winning pairs.

    The winners are found without derivatives; then the formula is evaluated at them, on gathered tensors.
    """
    values, indices = Reduce.apply(replace(spec, op=_BOTH.get(spec.op, spec.op)), *tensors)
    dim, K = spec.expr.dim, (1 if spec.opt_arg is None else spec.opt_arg)
    core = 3 if spec.opt_arg is not None and dim > 1 else 2  # rows, K, components or rows, either
    lead, rows = values.shape[:-core], values.shape[-core]
    found = indices.reshape(*lead, rows * K * dim)
    winners = torch.arange(rows).repeat_interleave(K * dim)
    kept = found >= 0
    evaluated = evaluate(spec, tensors, winners, found.clamp(min=0), lead)
    component = torch.arange(dim).repeat(rows * K)
    chosen = evaluated[..., torch.arange(rows * K * dim), component]
    return torch.where(kept, chosen, values.reshape(found.shape)).reshape(values.shape), indices


def evaluate(
    spec: ReduceSpec, tensors: Tensors, rows: torch.Tensor, columns: torch.Tensor, lead: Sequence[int]
) -> torch.Tensor:
    """The formula at pairs, (*lead, P, dim): rows (P,) counts the result's index, columns (*lead, P) the reduced one."""
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
            index = columns[..., None].expand(*columns.shape, t.shape[-1])
            gathered[v.params[0]] = t.expand(*lead, *t.shape[-2:]).gather(-2, index)
        mapping[v] = variable("Vi", v.params[0], v.dim)
    expr = substitute(spec.expr, mapping)
    used = {v.params[0] for v in expr.vars}
    pairs = ReduceSpec(expr, "Sum", 1, expr.vars, sizes=(len(rows), 1))
    args = [t if p in used else None for p, t in enumerate(gathered)]
    args = args[: 1 + max(used, default=-1)]
    result = Reduce.apply(pairs, *args)
    return result.expand(*lead, *result.shape[-2:])


