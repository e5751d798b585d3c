"""Derivatives through LazyTensors of torch, their transforms, and derivatives as LazyTensors; nothing is made twice."""

import numpy as np
import pytest
from lazy_doors import assert_is, half

from kernelops.engines.cpu import prepare
from kernelops.frontend.lazy import base, slots
from kernelops.frontend.lazy.reductions import make_genred

torch = pytest.importorskip("torch")
T = half("torch")
LazyTensor = T.LazyTensor
draw = torch.Generator().manual_seed(0)
X, Y, B = (torch.rand(*s, generator=draw, dtype=torch.float64) for s in ((5, 2), (7, 2), (7, 2)))
P, S = torch.tensor([0.7, 1.3], dtype=torch.float64), torch.tensor(0.9, dtype=torch.float64)


def squared(x, y, p):
    """Scaled squared distances, of tensors or LazyTensors alike."""
    return (((x - y) * p) ** 2).sum(-1)


def lazy(x, y, p):
    return squared(LazyTensor(x[:, None]), LazyTensor(y[None]), LazyTensor(p))


def plain(x, y, p):
    return squared(x[:, None], y[None], p)


CASES = {  # a function of x, y, b, p, s: by LazyTensors, and by tensors
    "product": (
        lambda x, y, b, p, s: (-lazy(x, y, p) * LazyTensor(s)).exp() @ b,
        lambda x, y, b, p, s: (-plain(x, y, p) * s).exp() @ b,
    ),
    "product from the left": (
        lambda x, y, b, p, s: b.T @ (-lazy(y, x, p) * s).exp(),
        lambda x, y, b, p, s: b.T @ (-plain(y, x, p) * s).exp(),
    ),
    "sum of vectors": (
        lambda x, y, b, p, s: (lazy(x, y, p).sqrt() * LazyTensor(b[None]) / s).sum(axis=1),
        lambda x, y, b, p, s: (plain(x, y, p).sqrt()[..., None] * b / s).sum(1),
    ),
    "logsumexp": (
        lambda x, y, b, p, s: (-lazy(x, y, p) / s).logsumexp(axis=0),
        lambda x, y, b, p, s: (-plain(x, y, p) / s).logsumexp(0)[:, None],
    ),
    "weighted logsumexp": (
        lambda x, y, b, p, s: (-lazy(x, y, p) / s).logsumexp(axis=1, weight=LazyTensor(b[None])),
        lambda x, y, b, p, s: ((-plain(x, y, p) / s).exp() @ b).log(),
    ),
    "softmax": (
        lambda x, y, b, p, s: (-lazy(x, y, p) * s).sumsoftmaxweight(b[None], axis=1),
        lambda x, y, b, p, s: (-plain(x, y, p) * s).softmax(1) @ b,
    ),
    "min": (lambda x, y, b, p, s: lazy(x, y, p).min(axis=1), lambda x, y, b, p, s: plain(x, y, p).min(1, True)[0]),
    "max over i": (
        lambda x, y, b, p, s: lazy(x, y, p).max_argmax(dim=0)[0],
        lambda x, y, b, p, s: plain(x, y, p).max(0)[0][:, None],
    ),
    "Kmin": (
        lambda x, y, b, p, s: lazy(x, y, p).Kmin(3, axis=1),
        lambda x, y, b, p, s: plain(x, y, p).sort(1)[0][:, :3],
    ),
    "solve": (
        lambda x, y, b, p, s: (-lazy(y, y.clone(), p)).exp().solve(b, alpha=s, rtol=1e-13),
        lambda x, y, b, p, s: torch.linalg.solve((-plain(y, y, p)).exp() + s * torch.eye(7, dtype=s.dtype), b),
    ),
    "solve of one vector": (
        lambda x, y, b, p, s: (-lazy(y, y, p)).exp().solve(b[:, 0], alpha=s),
        lambda x, y, b, p, s: torch.linalg.solve((-plain(y, y, p)).exp() + s * torch.eye(7, dtype=s.dtype), b[:, 0]),
    ),
    "to_dense": (lambda x, y, b, p, s: lazy(x, y, p).to_dense(), lambda x, y, b, p, s: plain(x, y, p)),
    "rows": (
        lambda x, y, b, p, s: lazy(x, y, p).exp().rows([3, 0]),
        lambda x, y, b, p, s: plain(x, y, p).exp()[[3, 0]],
    ),
    "diagonal": (
        lambda x, y, b, p, s: (lazy(x, y[:5], p) * s).sin().diagonal(),
        lambda x, y, b, p, s: (plain(x, y[:5], p) * s).sin().diagonal(),
    ),
    "one variable twice": (
        lambda x, y, b, p, s: (lazy(x, x, p) + LazyTensor(x[:, None])).sum(axis=1),
        lambda x, y, b, p, s: (plain(x, x, p)[..., None] + x[:, None]).sum(1),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_derivatives_of_first_and_second_order(name):
    found = []
    for function in CASES[name]:
        leaves = [t.clone().requires_grad_() for t in (X, Y, B, P, S)]
        value = function(*leaves)
        weights = torch.linspace(0.5, 1.5, value.numel(), dtype=torch.float64).reshape(value.shape)
        first = torch.autograd.grad((value * weights).sum(), leaves, create_graph=True, allow_unused=True)
        first = [g for g in first if g is not None]
        total = sum((g * g.detach().cos()).sum() for g in first)
        second = torch.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else ()
        found.append((value, *first, *(torch.zeros_like(t) if g is None else g for t, g in zip(leaves, second))))
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-9)


def loss(function):
    return lambda *tensors: function(*tensors).square().sum()


@pytest.mark.parametrize("name", ["product", "logsumexp", "min", "solve", "to_dense"])
def test_transforms_of_torch(name):
    by_lazy, by_plain = CASES[name]
    rest = (Y, B, P, S)
    moved = (X.cos(), Y.sin(), B.cos(), P.sin(), S.cos())
    pairs = [
        tuple(torch.func.grad(loss(f), argnums=(0, 1, 3))(X, *rest) for f in (by_lazy, by_plain)),
        tuple(torch.func.jvp(f, (X, *rest), moved) for f in (by_lazy, by_plain)),
        tuple(torch.func.vmap(lambda x, s, f=f: f(x, Y, B, P, s))(torch.stack([X, X + 1]), torch.stack([S, S * 2]))
              for f in (by_lazy, by_plain)),
        tuple(torch.func.vmap(torch.func.grad(loss(f)), (0, None, 0, None, None))(
            torch.stack([X, X + 1]), Y, torch.stack([B, -B]), P, S) for f in (by_lazy, by_plain)),
    ]  # fmt: skip
    for got, want in pairs:
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-9)


def test_points_and_their_detached_twins_share_no_gradient():
    x = X.clone().requires_grad_()
    x_i, fixed = LazyTensor(x[:, None]), LazyTensor(x.detach()[:, None])
    assert len((x_i + fixed).slots) == 2
    for first, second in ((T.Vi(x), T.Vi(x.detach())), (T.Vi(x.detach()), T.Vi(x)), (x_i, fixed)):
        (got,) = torch.autograd.grad((first * second.exp()).sum(axis=1).sum(), x, retain_graph=True)
        free_first = first.variables[0].requires_grad
        torch.testing.assert_close(got, X.exp() if free_first else X * X.exp())


def test_changes_in_place_before_a_reduction():
    x = X.clone()
    x_i = T.Vi(x)
    K = (x_i * 2).sum(-1)
    x += 1
    torch.testing.assert_close(K.sum(axis=1), (2 * (X + 1)).sum(1, True))
    leaf = X.clone().requires_grad_()
    got = (T.Vi(leaf) ** 2).sum(axis=1)
    with torch.no_grad():
        leaf += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):  # torch watches what was saved
        got.sum().backward()


def test_gradients_within_ranges_stay_within():
    from kernelops import Ranges

    ranges = Ranges.from_mask([[0, 2], [2, 5]], [[0, 3], [3, 7]], [[True, False], [True, True]])
    mask = torch.from_numpy(ranges.mask(5, 7))
    found = []
    for by_lazy in (True, False):
        x = X.clone().requires_grad_()
        K = (lazy if by_lazy else plain)(x, Y, P).exp()
        if by_lazy:
            K.ranges = ranges
            parts = (K.sum(axis=0), K @ B, K.to_dense())
        else:
            K = torch.where(mask, K, 0.0)
            parts = (K.sum(0)[:, None], K @ B, K)
        total = sum((p**2).sum() for p in parts)
        (g,) = torch.autograd.grad(total, x, create_graph=True)
        found.append((*parts, g, torch.autograd.grad((g**2).sum(), x)[0]))
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


# ---- symbolic calculus ----


def test_derivatives_as_lazy_tensors(half):
    rng = np.random.default_rng(7)
    x, y, p = rng.random((5, 2)), rng.random((7, 2)), rng.random((5, 2))
    x_i, y_j, p_i = half.Vi(half.array(x)), half.Vj(half.array(y)), half.Vi(half.array(p))
    K = (-((x_i - y_j) ** 2).sum(-1)).exp()
    d = x[:, None] - y
    k = np.exp(-(d**2).sum(-1, keepdims=True))
    cases = [
        (K.grad(x_i, 1), -2 * d * k),
        (K.grad(x_i, y_j[0]), -2 * d * k * y[:, :1]),
        (K.grad_matrix(x_i), -2 * d * k),
        (K.diff(x_i, p_i), (-2 * d * k * p[:, None]).sum(-1, keepdims=True)),
        (K.laplacian(x_i), ((4 * d**2 - 2) * k).sum(-1, keepdims=True)),
        ((K * (x_i - y_j)).divergence(x_i), k * (2 - 2 * (d**2).sum(-1, keepdims=True))),
        ((x_i * p_i * 3 + (y_j | x_i) * p_i).trace_operator(x_i),
         (3 * p[:, None] + y * p[:, None]).sum(-1, keepdims=True)),
    ]  # fmt: skip
    for made, want in cases:
        assert_is(half.host(made.sum_reduction(axis=1)), want.sum(1))
        assert_is(half.host(made.sum_reduction(axis=0)), want.sum(0))
    X0, Y0 = half.Vi(0, 2), half.Vj(1, 2)
    symbolic = (-((X0 - Y0) ** 2).sum(-1)).exp().laplacian(X0).sum(axis=1)
    assert_is(half.host(symbolic(half.array(x), half.array(y))), ((4 * d**2 - 2) * k).sum((1, 2))[:, None])


# ---- nothing is prepared again in a loop ----


def misses():
    """How many programs, formulas and reductions have been made so far."""
    return [f.cache_info().misses for f in (prepare, make_genred, base.applied, slots.move)]


LOOPS = {
    "a number that changes": lambda t, k: (-((t.Vi(X) - t.Vj(Y)) ** 2).sum(-1) * (0.1 + k / 997)).exp() @ B,
    "a new tensor each time": lambda t, k: (-((t.Vi(X + k) - t.Vj(Y * k)) ** 2).sum(-1)).exp().sum(axis=1),
    "more points each time": lambda t, k: (t.Vi(X.repeat(1 + k, 1)) | t.Vj(Y.repeat(2 + k, 1))).logsumexp(axis=1),
    "a length that is learned": lambda t, k: (t.Vi(X) * torch.tensor(0.1 + k).requires_grad_()).sum(0).sum().backward(),
    "a list": lambda t, k: (t.Vi(X) * [0.1 + k / 997, float(k)]).min(axis=0),
    "an exponent": lambda t, k: (t.Vi(X) ** (0.3 + k / 997)).sum(axis=0),
    "bounds": lambda t, k: (t.Vi(X) - t.Vj(Y)).clamp(0.1 + k / 997, np.inf).sum(axis=0),
    "complex": lambda t, k: (t.Vi(X) * complex(0.1 + k / 997, 0.7 + k / 997)).exp().sum(axis=0),
    "entries": lambda t, k: (t.Vi(X + k) | t.Vj(Y)).to_dense(),
    "solve": lambda t, k: (-((t.Vi(X) - t.Vj(X)) ** 2).sum(-1) * (0.1 + k / 997)).exp().solve(X, alpha=0.3 + k),
    "sizes of a formula that has lost them": lambda t, k: (0 * t.Vi(X.repeat(2, 1)) + t.Vj(Y)).sum(axis=1),
}


@pytest.mark.parametrize("name", LOOPS)
def test_nothing_is_made_again_in_a_loop(name):
    step = LOOPS[name]
    for k in (1, 2):
        step(T, k)
    before = misses()
    for k in range(3, 33):
        step(T, k)
    assert misses() == before


def test_autocast_keeps_float32():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = lazy(X.float(), Y.float(), P.float()).sum(axis=1)
    assert found.dtype == torch.float32
