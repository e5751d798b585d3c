"""Reductions and solves of dense tensors, differentiated by torch itself; and the table of cases read as torch.

The tests take torch from here, so that they are skipped where there is none.
"""

import numpy as np
import pytest
from case import DECLARED

torch = pytest.importorskip("torch")


def reduce(op, values, axis, mask=None, weights=None, K=1):
    """What a reduction of the language gives for values (..., M, N, D): (..., rows, D) or (..., rows, K, D)."""
    at = -2 if axis == 1 else -3
    keep = torch.ones(values.shape[-3:-1], dtype=torch.bool) if mask is None else mask
    keep = keep[..., None]
    if op == "Sum":
        return torch.where(keep, values, 0.0).sum(at)
    if op in ("LogSumExp", "LogSumExpWeight"):
        values = torch.where(keep, values, -torch.inf)
        if weights is None:
            return values.logsumexp(at)
        top = values.detach().amax(at, keepdim=True)
        return ((values - top).exp() * weights).sum(at).log() + top.squeeze(at)
    if op in ("SoftMax", "SumSoftMaxWeight"):
        return (torch.where(keep, values, -torch.inf).softmax(at) * weights).sum(at)
    largest = "Max" in op
    ordered = torch.where(keep, values, -torch.inf if largest else torch.inf).sort(at, descending=largest).values
    ordered = ordered.narrow(at, 0, K).movedim(at, -2)
    if "KMin" not in op:
        return ordered[..., 0, :]
    return ordered if ordered.shape[-1] > 1 else ordered[..., 0]


def solve(K, alpha, b):
    """a with (alpha I + K) a = b for a scalar kernel K (..., n, n), or for a matrix-valued one (..., n, d, n, d)."""
    n, d = b.shape[-2:]
    coupled = K.ndim >= 4 and K.shape[-4:] == (n, d, n, d)
    alpha = torch.as_tensor(alpha, dtype=K.dtype)
    alpha = alpha.expand(*alpha.shape[:-1], n) if alpha.ndim and alpha.shape[-1] == 1 else alpha
    alpha = torch.diag_embed(alpha) if alpha.ndim else alpha * torch.eye(n, dtype=K.dtype)
    if not coupled:
        batch = torch.broadcast_shapes(K.shape[:-2], alpha.shape[:-2], b.shape[:-2])
        return torch.linalg.solve(K + alpha, b.expand(*batch, n, d))
    A = K.reshape(*K.shape[:-4], n * d, n * d) + torch.kron(alpha, torch.eye(d, dtype=K.dtype))
    return torch.linalg.solve(A, b.reshape(n * d, 1)).reshape(n, d)


def squared_distances(x, y):
    return ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)


def derivatives(output, leaves, order=2, seed=7):
    """Gradients of a fixed functional of the output with respect to leaves, and of a functional of these gradients."""
    draw = torch.Generator().manual_seed(seed)

    def weighed(t):
        return (t * torch.randn(t.shape, generator=draw, dtype=torch.float64).to(t.dtype)).sum()

    found, total = [], weighed(output) + weighed(output**2)
    for k in range(order):
        if not total.requires_grad:
            return found + [torch.zeros_like(x) for x in leaves] * (order - k)
        gradients = torch.autograd.grad(total, leaves, create_graph=k + 1 < order, materialize_grads=True)
        found += [g.detach() for g in gradients]
        total = sum(weighed(g) for g in gradients)
    return found


def assert_near(got, want, tolerance=1e-10):
    """Equal up to a share of the largest magnitude (of 0.1 at least): the sums of derivatives cancel."""
    assert got.shape == want.shape and got.dtype == want.dtype, f"{got.shape} {got.dtype}, {want.shape} {want.dtype}"
    got, want = got.detach(), want.detach()
    size = want.abs().amax() if want.numel() else 0.0
    off = torch.where(got == want, 0.0, got - want).abs()  # infinities are equal to themselves
    assert (off <= tolerance * max(float(size), 0.1)).all(), f"off by {off.amax():.1e}, the largest is {size:.1e}"


def all_near(got, want, tolerance=1e-10):
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert_near(g, w, tolerance)


# ---- the table of cases ----


class Read(torch.Tensor):
    """A tensor that NumPy's functions accept: a line of NumPy becomes a line of torch."""

    def __array_ufunc__(self, ufunc, method, *operands):
        return UFUNCS[ufunc](*(torch.as_tensor(o) for o in operands))

    def __array_function__(self, function, types, args, kwargs):
        return FUNCTIONS[function](*args, **kwargs)


UFUNCS = {
    getattr(np, name): getattr(torch, name)
    for name in """add subtract multiply maximum minimum exp log sqrt abs sign sin cos tanh floor
    arcsin arccos arctan arctan2""".split()
}
FUNCTIONS = {
    np.where: torch.where,
    np.clip: lambda f, a, b: torch.minimum(torch.maximum(f, torch.as_tensor(a)), torch.as_tensor(b)),
    np.ones_like: torch.ones_like,
    np.sinc: torch.sinc,
    np.pad: lambda f, widths: torch.nn.functional.pad(f, widths[-1]),
    np.concatenate: torch.cat,
    np.broadcast_to: lambda f, shape: f.expand(shape),
    np.max: lambda f, axis, keepdims: f.amax(axis, keepdim=keepdims),
    np.min: lambda f, axis, keepdims: f.amin(axis, keepdim=keepdims),
    np.argmax: lambda f, axis, keepdims: f.argmax(axis, keepdim=keepdims),
    np.argmin: lambda f, axis, keepdims: f.argmin(axis, keepdim=keepdims),
    np.moveaxis: torch.movedim,
    np.stack: torch.stack,
    np.angle: torch.angle,
}


def truth(case, tensors):
    """A case's line of NumPy at all pairs, (M, N, D), as torch computes it."""
    at = {"Vi": (slice(None), None), "Vj": (None, slice(None)), "Pm": (None, None)}
    kinds = [DECLARED[v][0] for v in case.variables]
    spread = [t[at[kind]].as_subclass(Read) for kind, t in zip(kinds, tensors, strict=True)]
    sizes = {kind: t.shape[-2] for kind, t in zip(kinds, tensors, strict=True) if kind != "Pm"}
    found = case.truth(*spread).as_subclass(torch.Tensor).to(tensors[0].dtype)  # from comparisons it is float32
    return found.expand(sizes.get("Vi", 1), sizes.get("Vj", 1), found.shape[-1])
