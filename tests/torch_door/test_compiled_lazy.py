"""LazyTensors in one graph of torch.compile: equal to plain calls to the bit, and a graph break for what it cannot hold."""

import pytest
from torch._dynamo.testing import CompileCounterWithBackend
from torch_dense import torch

from kernelops.errors import ArgumentError, DtypeError, FormulaError, ShapeError
from kernelops.ranges import Ranges
from kernelops.torch import LazyTensor, Pm, Var, Vi, Vj

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own look


def gauss(x, y, scale=0.3):
    return (-((LazyTensor(x[:, None, :]) - LazyTensor(y[None, :, :])) ** 2).sum(-1) / scale).exp()


def methods(x, y, b, c):
    x_i, y_j, w = Vi(x), Vj(y), Pm(c[:2, 0])
    near = (x_i | y_j).abs().sqrt() + (w * x_i).sqnorm2().clamp(0.1, 0.7) + x_i.sqdist(y_j).atan2(2).sin()
    far = x_i.weightedsqdist(y_j, [0.3, 2.0]) ** 0.7 + x_i[0] * y_j[..., 1] - x_i.concat(y_j)[1:3].norm() + w.elem(1)
    steps = (x_i < y_j).sum() + x_i.ifelse(y_j, 0.21).max(-1) + (1 - x_i).relu().mod(0.37).sum(dim=2) + x_i.round(1)[0]
    return (near * far + steps).sum(1)


def operators_with_tensors(x, y, b, c):
    K, t = gauss(x, y), c.mean()
    found = (t * K + (t - K) / t) / (2 - t) + t / (1 + K) + (K < t) + (t < K) * 2 + (K == t) + K**t + t**K
    return found @ b + (c[:, 0] @ K)[:, None][:1]


CALLS = {
    "K @ v": lambda x, y, b, c: gauss(x.sin(), y) @ b * 2,
    "K @ one vector": lambda x, y, b, c: gauss(x.sin(), y) @ b[:, 0] * 2,
    "K @ many columns": lambda x, y, b, c: gauss(x, y) @ b.expand(-1, 70) * 2,
    "v @ K": lambda x, y, b, c: c.T @ gauss(x, y) * 2,
    "matvec": lambda x, y, b, c: gauss(x, y).matvec(b) + gauss(y, x).rmatvec(b),
    "sum over i": lambda x, y, b, c: (gauss(x, y) * Vj(b)).sum(0) * 2,
    "sum over j": lambda x, y, b, c: (gauss(x, y, 0.3 + c[0, 0]) * Vj(b)).sum(dim=1) * 2,
    "logsumexp": lambda x, y, b, c: gauss(x, y).logsumexp(1, weight=Vj(b)) * 2,
    "sumsoftmaxweight": lambda x, y, b, c: gauss(x, y).sumsoftmaxweight(Vj(b), axis=1) * 2,
    "argmin": lambda x, y, b, c: gauss(x, y).argmin(1) * x,
    "argKmin": lambda x, y, b, c: gauss(x, y).argKmin(2, axis=1) * x,
    "min_argmin": lambda x, y, b, c: gauss(x.detach(), y.detach()).min_argmin(1)[0] * x,
    "solve": lambda x, y, b, c: gauss(x.sin(), x.sin()).solve(c, alpha=0.1, rtol=1e-8, method="cg") * 2,
    "solve for one vector": lambda x, y, b, c: gauss(x, x).T.solve(c[:, 0].sin(), alpha=0.1 + c.mean()) * 2,
    "batch": lambda x, y, b, c: gauss(x, y) @ b + (Vi(torch.stack([x, 2 * x])) - Vj(y)).exp().sum(1).sum(0)[:, :1],
    "methods": methods,
    "operators with tensors": operators_with_tensors,
    "a formula that has lost i": lambda x, y, b, c: (0 * Vi(x) + Vj(y)).sum(1) * x,
    "the same points twice": lambda x, y, b, c: (Vi(x) * Vi(x) + Vj(x).cos() * Pm(c[:2, 0])).sum(1) * 2,
    "a number twice": lambda x, y, b, c: ((s := LazyTensor(0.37)) * Vi(x) + s * Vj(y)).sum(1) + Var(x, cat=0).sum(0),
    "attributes": lambda x, y, b, c: (K := gauss(x, y)) @ b * K.shape[1] + K.dim() + K.ndim + K.ni * K.nbatchdims,
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
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(CALLS[name], backend=counter, fullgraph=True, dynamic=True)
    for M, N in ((12, 9), (7, 20)):
        given = tensors(M, N)
        assert_equal(compiled(*given), CALLS[name](*given), given)
    assert counter.frame_count == 1
