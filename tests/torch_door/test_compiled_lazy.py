"""LazyTensors in one graph of torch.compile: equal to plain calls to the bit, with a graph break for all else."""

import pytest
from torch._dynamo.testing import CompileCounterWithBackend
from torch_dense import torch

from kernelops.errors import ArgumentError, DtypeError, FormulaError, ShapeError
from kernelops.ranges import Ranges
from kernelops.torch import LazyTensor, Pm, Var, Vi, Vj

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own look


def gauss(x, y, scale=0.3):
    return (-((LazyTensor(x[:, None, :]) - LazyTensor(y[None, :, :])) ** 2).sum(-1) / scale).exp()


def products(x, y, b, c):
    K = gauss(x.sin(), y)
    columns = K @ b.expand(-1, 70) + K @ b + K.matvec(b[:, 0])[:, None]
    return columns + K.T.rmatvec(b) + (c.T @ gauss(x, x)).T


def reductions(x, y, b, c):
    K, weights = gauss(x, y, 0.3 + c[0, 0]), Vj(b)
    found = (K * weights).sum(dim=1) + K.logsumexp(1, weight=weights) + K.sumsoftmaxweight(weights, axis=1)
    return found + K.reduction("Sum", axis=0).mean()


def solves(x, y, b, c):
    K = gauss(x.sin(), x.sin())
    one = K.T.solve(c[:, 0].sin(), alpha=0.1 + c.mean())
    return K.solve(c, alpha=0.1, rtol=1e-8, method="cg") + one[:, None]


def winners(x, y, b, c):
    K, fixed = gauss(x, y), gauss(x.detach(), y.detach())
    return (K.argmin(1) + K.argKmin(2, axis=1) + fixed.min_argmin(1)[0]) * x


def methods(x, y, b, c):
    x_i, y_j, w = Vi(x), Vj(y), Pm(c[:2, 0])
    near = (x_i | y_j).abs().sqrt() + (w * x_i).sqnorm2().clamp(0.1, 0.7) + x_i.sqdist(y_j).atan2(2).sin()
    far = x_i.weightedsqdist(y_j, [0.3, 2.0]) ** 0.7 + x_i[0] * y_j[..., 1] - x_i.concat(y_j)[1:3].norm() + w.elem(1)
    steps = (x_i < y_j).sum() + x_i.ifelse(y_j, 0.21).max(-1) + (1 - x_i).relu().mod(0.37).sum(dim=2) + x_i.round(1)[0]
    return (near * far + steps).sum(1)


def operators_with_tensors(x, y, b, c):
    K, t = gauss(x, y), c.mean()
    found = (t * K + (t - K) / t) / (2 - t) + t / (1 + K) + (K < t) + (t < K) * 2 + (K == t) + K**t + t**K
    return found @ b


def shared_variables(x, y, b, c):
    s, x_i = LazyTensor(0.37), Vi(x)
    found = (x_i * x_i + Vj(x).cos() * Pm(c[:2, 0])).sum(1) + (s * Vi(x) + s * Vj(y)).sum(1)
    return found + (0 * Vi(x) + Vj(y)).sum(1) + Var(x, cat=1).sum(1)  # one has lost i, one never had it


def batches(x, y, b, c):
    K = (Vi(torch.stack([x, 2 * x])) - Vj(y)).exp()
    return K.sum(2).sum(0) * K.shape[1] + K.dim() + K.ndim + K.ni * K.nbatchdims


CALLS = {
    "products": (products, "aot_eager"),
    "reductions": (reductions, "aot_eager"),
    "solves": (solves, "aot_eager"),
    "winners": (winners, "eager"),
    "methods": (methods, "eager"),
    "operators with tensors": (operators_with_tensors, "eager"),
    "shared variables": (shared_variables, "eager"),
    "batches": (batches, "eager"),
}


def tensors(M=12, N=9, dtype=torch.float64):
    """x (M, 2), y (N, 2), b (N, 1), c (M, 1)."""
    draw = torch.Generator().manual_seed(M)
    sizes = ((M, 2), (N, 2), (N, 1), (M, 1))
    return [torch.rand(size, generator=draw, dtype=torch.float64).to(dtype).requires_grad_() for size in sizes]


def slopes(found, given):
    """The gradients of a function of a result."""
    return torch.autograd.grad(found.square().sum(), given, materialize_grads=True)


def assert_equal(got, want, given):
    """The same bits, and the same bits of gradients."""
    assert got.dtype == want.dtype and torch.equal(got, want)
    if want.requires_grad:
        for g, w in zip(slopes(got, given), slopes(want, given), strict=True):
            assert torch.equal(g, w)


@pytest.mark.parametrize("name", CALLS)
def test_one_graph_for_all_shapes(name):
    torch._dynamo.reset()
    f, backend = CALLS[name]
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(f, backend=counter, fullgraph=True, dynamic=True)
    counts = []
    for M, N in ((12, 9), (7, 20)):
        given = tensors(M, N)
        assert_equal(compiled(*given), f(*given), given)
        counts.append(counter.frame_count)
    assert counts[0] == counts[1]


def test_float32_with_a_backend_that_runs_graphs_as_they_are():
    torch._dynamo.reset()
    given = tensors(dtype=torch.float32)
    for f in (reductions, solves):
        assert_equal(torch.compile(f, backend="eager", fullgraph=True)(*given), f(*given), given)


def test_numbers_that_change_compile_one_more_program():
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    x, y, b, _ = tensors()

    def scaled(scale):
        return gauss(x, y, scale) @ b

    compiled = torch.compile(scaled, backend=counter, fullgraph=True)
    for scale in (0.31, 0.37, 0.41, 0.43):
        assert torch.equal(compiled(scale), scaled(scale))
    assert counter.frame_count == 2  # for a number, and for any


def banded(x, y, b, c):
    K = gauss(x, x)
    K.ranges = Ranges.band(12, 3)
    return K @ c * 2


def handed_on(x, y, b, c):
    K = gauss(x, y)
    torch._dynamo.graph_break()
    return (K * 2 + LazyTensor(x[:, None, :])[0]) @ b * x[:, :1]


BREAKS = {
    "dense": lambda x, y, b, c: gauss(x, y).to_dense() @ b,
    "complex": lambda x, y, b, c: gauss(x, y).exp1j().real.sum(1) * 2,
    "symbolic": lambda x, y, b, c: (Vi(0, 2) * Vj(y)).sum(1)(x) * 2,
    "ranges": banded,
    "smallest": lambda x, y, b, c: (gauss(x, y).min(1) * 2 + gauss(x, y).Kmin(2, axis=1)) * x,
    "called later": lambda x, y, b, c: gauss(x, y).sum(1, call=False)() * 2,
    "state of a solve": lambda x, y, b, c: gauss(x, x).solve(c, alpha=0.1, callback=len) * 2,
    "grad": lambda x, y, b, c: gauss(x, y).grad(Vi(x), 1).sum(1) * 2,
    "joined": lambda x, y, b, c: LazyTensor.cat((Vi(x), Vj(y)))[1:3].sum(1) * 2,
    "handed on": handed_on,
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_no_graph_holds_goes_on_with_a_break(name):
    torch._dynamo.reset()
    given, f = tensors(), BREAKS[name]
    compiled = torch.compile(f, backend="eager")
    for _ in range(2):  # compiled, and found compiled
        assert_equal(compiled(*given), f(*given), given)


def test_a_result_that_is_a_lazy_tensor_computes_outside():
    torch._dynamo.reset()
    x, y, b, _ = tensors()
    K, want = torch.compile(gauss, backend="eager", fullgraph=True)(x, y), gauss(x, y)
    assert (K.shape, K.dtype, K.dim(), K.formula, repr(K)) == (
        (want.shape, want.dtype, want.dim(), want.formula, repr(want))
    )
    assert torch.equal(K @ b, want @ b) and torch.equal((want + K) @ b, (want + want) @ b)
    assert torch.equal((b[0, 0] - K) @ b, (b[0, 0] - want) @ b) and torch.equal(b.new_ones(1, 12) @ K, want.sum(0).T)
    with pytest.raises(TypeError, match="takes no LazyTensor"):
        torch.exp(K)


BAD = [
    (lambda x, y, b, c: (Vi(x) - Vj(b.expand(-1, 3))).sum(1), FormulaError),
    (lambda x, y, b, c: (Vi(x) - Vi(y)).sum(1), ShapeError),
    (lambda x, y, b, c: (Vi(x) - Vj(y.float())).sum(1), DtypeError),
    (lambda x, y, b, c: gauss(x, y) @ c, ShapeError),
    (lambda x, y, b, c: gauss(x, y).sum(3), ArgumentError),
    (lambda x, y, b, c: LazyTensor(x), ShapeError),
    (lambda x, y, b, c: gauss(x, y).solve(c), ShapeError),
]


def test_bad_calls_are_refused_in_our_words():
    given = tensors()
    for call, kind in BAD:
        torch._dynamo.reset()
        with pytest.raises(kind) as plain:
            call(*given)
        with pytest.raises(kind) as found:
            torch.compile(lambda *a, call=call: call(*a).sum(1) * 2, backend="eager")(*given)
        assert str(found.value) == str(plain.value)
