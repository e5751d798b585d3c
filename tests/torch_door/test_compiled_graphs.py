"""torch.compile with fullgraph=True: reductions and solves in graphs, equal to plain calls to the bit."""

import pytest
import usual
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import forward_ad
from torch_dense import torch

from kernelops.errors import ArgumentError, BackendError, DtypeError, KeywordError, ShapeError, SolveError
from kernelops.torch import Genred, KernelSolve

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own look

ALIASES = usual.aliases(2, 1)
PAIR = ALIASES[:2]
SUM = Genred(usual.GAUSS, ALIASES, axis=1)
SCALED = Genred(usual.SCALED_GAUSS, usual.aliases(2, 1, "g"), axis=0)
LOGSUM = Genred("-SqDist(x,y)", PAIR, "LogSumExp", axis=1)
MEAN = Genred("-SqDist(x,y)", ALIASES, "SumSoftMaxWeight", axis=1, formula2="b")
NEAREST = Genred("SqDist(x,y)", PAIR, "ArgKMin", axis=1, opt_arg=2)
SOLVER = KernelSolve(usual.GAUSS, ALIASES, "b", axis=1)

CALLS = {
    "Sum": lambda x, y, b, c: SUM(x.sin(), y, b) * 2,
    "Sum over i": lambda x, y, b, c: SCALED(x, y.sin(), b, c[0, 0] + 1.0) * 2,
    "LogSumExp": lambda x, y, b, c: LOGSUM(x.sin(), y) * 2,
    "SumSoftMaxWeight": lambda x, y, b, c: MEAN(x.sin(), y, b) * 2,
    "ArgKMin": lambda x, y, b, c: NEAREST(x.sin(), y) * x,
    "batch": lambda x, y, b, c: SUM(x.sin(), torch.stack([y, 2 * y]), b) * 2,
    "solve": lambda x, y, b, c: SOLVER(x.sin(), x.sin(), c, alpha=0.1, rtol=1e-8, method="cg") * 2,
    "solve by rows": lambda x, y, b, c: SOLVER(x, x, c.sin(), alpha=0.1 + x[:, 0].square(), x0=c) * 2,
    "preconditioned": lambda x, y, b, c: SOLVER(x, x, c, alpha=c.mean(), method="cg", precond="nystrom") * 2,
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_shorter_dtypes(dtype):
    torch._dynamo.reset()
    for name in ("Sum", "solve"):
        given = tensors(dtype=dtype)
        assert_equal(
            torch.compile(CALLS[name], backend="aot_eager", fullgraph=True)(*given), CALLS[name](*given), given
        )


def test_numbers_that_change_compile_nothing():
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    x, y, b, c = tensors()

    def both(g):
        return SCALED(x, y, b, g), SOLVER(x, x, c, alpha=g)

    compiled = torch.compile(both, backend=counter, fullgraph=True)
    for g in (0.5, 0.7, 0.9):
        for got, want in zip(compiled(g), both(g), strict=True):
            assert torch.equal(got, want)
    assert counter.frame_count == 2  # for a number, and for any


def test_second_derivatives_with_a_backend_that_runs_graphs_as_they_are():
    torch._dynamo.reset()
    given = tensors()[:3]

    def slope(x, y, b):
        return torch.autograd.grad(SUM(x, y, b.sin()).square().sum(), x, create_graph=True)[0] * 2

    assert_equal(torch.compile(slope, backend="eager")(*given), slope(*given), given)
    aot = torch.compile(slope, backend="aot_eager")(*given)
    with pytest.raises(RuntimeError, match="does not currently support double backward"):  # of any function
        slopes(aot, given)


def test_forward_mode_around_a_compiled_function():
    torch._dynamo.reset()
    x, y, b, _ = (t.detach() for t in tensors())
    compiled = torch.compile(lambda x, y, b: SUM(x, y, b), backend="aot_eager")  # noqa: PLW0108
    assert torch.equal(compiled(x, y, b), SUM(x, y, b))
    moved = []
    for f in (compiled, SUM):
        with forward_ad.dual_level():
            moved.append(forward_ad.unpack_dual(f(forward_ad.make_dual(x, x), y, b)).tangent)
    assert torch.equal(*moved)


BAD = [
    (lambda x, y, b, c: SUM(x[:, :1], y, b), ShapeError),
    (lambda x, y, b, c: SUM(x, y, b[:3]), ShapeError),
    (lambda x, y, b, c: SUM(x, y, b[:, 0]), ShapeError),
    (lambda x, y, b, c: SUM(x.expand(2, -1, -1), y.expand(3, -1, -1), b), ShapeError),
    (lambda x, y, b, c: SUM(x, y.float(), b), DtypeError),
    (lambda x, y, b, c: SUM(x.bfloat16(), y.bfloat16(), b.bfloat16()), DtypeError),
    (lambda x, y, b, c: SUM(x, y, None), DtypeError),
    (lambda x, y, b, c: SUM(x, y), ArgumentError),
    (lambda x, y, b, c: SUM(x, y, b, backend="TPU"), BackendError),
    (lambda x, y, b, c: SUM(x, y, b, args=1), KeywordError),
    (lambda x, y, b, c: SOLVER(x, y, c), ShapeError),
    (lambda x, y, b, c: SOLVER(x, x, c, alpha=-0.1), ArgumentError),
    (lambda x, y, b, c: SOLVER(x, x, c, alpha=b[:5]), ShapeError),
    (lambda x, y, b, c: SOLVER(x, x, c, rtol=-1.0), ArgumentError),
    (lambda x, y, b, c: SOLVER(x, x, c, rtol=1e-6, eps=1e-6), KeywordError),
    (lambda x, y, b, c: SOLVER(x, x, c, alpha=0, maxiter=0, method="cg", on_fail="raise"), SolveError),
]


def test_bad_calls_are_refused_in_our_words():
    given = tensors()
    for call, kind in BAD:
        torch._dynamo.reset()
        with pytest.raises(kind) as plain:
            call(*given)
        with pytest.raises(kind) as found:
            torch.compile(lambda *a, call=call: call(*a) * 2, backend="eager")(*given)
        assert str(found.value) == str(plain.value)
