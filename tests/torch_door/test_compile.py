"""torch.compile around calls that no graph holds: they run as they are, and compiled parts begin and end at them."""

import subprocess
import sys

import numpy as np
import pytest
import usual
from torch_dense import assert_near, torch

from kernelops import Ranges, SolveState, frontend
from kernelops.torch import Genred, KernelSolve, LazyTensor, Vj, cluster
from kernelops.torch import uncompiled as guard

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own look

ALIASES = usual.aliases(2, 1)
FORMULA = usual.GAUSS
SUM, SOLVER = Genred(FORMULA, ALIASES, axis=1), KernelSolve(FORMULA, ALIASES, "b", axis=1)
NEAREST = Genred("SqDist(x,y)", ALIASES[:2], "KMin", axis=1, opt_arg=2)
SPLIT = torch.tensor([0, 1] * 6)


def solve_inside(x, b):
    return torch.autograd.grad((SOLVER(x, x, b, alpha=0.1) ** 2).sum(), x)[0] * x


def lazy(x, b):
    x = x.sin()
    K = (-((LazyTensor(x[:, None]) - Vj(x)) ** 2).sum(-1)).exp()
    return (K @ b) * K.logsumexp(1) + K.T.solve(b * 2, alpha=0.1)


def clustered(x, b):
    labels = cluster.grid_cluster(x * 2, 0.5)
    ranges, centroids, _ = cluster.cluster_ranges_centroids(x * 2, labels)
    x, labels = cluster.sort_clusters(x, labels)
    near = ((centroids[:, None] - centroids) ** 2).sum(-1) < 0.5
    return SUM(x * 2, x * 2, b, ranges=cluster.from_matrix(ranges, ranges, near)) * 2


CALLS = {
    "KMin": lambda x, b: NEAREST(x.sin(), x * 2) * b,
    "callback": lambda x, b: SOLVER(x, x, b.cos(), alpha=0.1, callback=len) * 3,
    "state": lambda x, b: SOLVER(x, x, b.cos(), alpha=0.1, state=SolveState(warm=False)) * 3,
    "preconditioner": lambda x, b: SOLVER(x, x, b.cos(), alpha=0.1, M=np.eye(12)) * 3,
    "account": lambda x, b: SOLVER(x, x, b.cos(), alpha=0.1, return_solution=True)[0] * 3,
    "alphas": lambda x, b: SOLVER(x, x, b.cos(), alpha=torch.tensor([0.1, 0.2]).reshape(2, 1, 1)) * 3,
    "logdet": lambda x, b: SOLVER.logdet(x.sin(), x.sin(), alpha=0.1)[0] * b,
    "inv_quad_logdet": lambda x, b: SOLVER.inv_quad_logdet(x.sin(), x.sin(), b * 2, alpha=0.1).inv_quad * 2,
    "predict": lambda x, b: SOLVER.predict(x, x, b * 2, at=x[:3] + 0.1, alpha=0.1)[1] * 2,
    "clusters": clustered,
    "LazyTensor": lazy,
    "centroids": lambda x, b: cluster.cluster_centroids(x * 2, SPLIT, weights=x[:, 0].exp()) * 2,
    "ranges": lambda x, b: SUM(x * 2, x, b, ranges=Ranges.band(12, 3)) * 2,
    "made inside": lambda x, b: Genred(FORMULA, ALIASES, axis=1)(x, x, b * 2) * 2,
    "gradient of a solve inside": solve_inside,
    "vmap inside": lambda x, b: torch.func.vmap(lambda b: SUM(x, x, b))(torch.stack([b, 2 * b])) * 2,
    "jvp inside": lambda x, b: torch.func.jvp(lambda x: SUM(x, x, b), (x,), (x.cos(),))[1] * 2,
}


def leaves():
    draw = torch.Generator().manual_seed(0)
    x, b = (torch.rand(12, d, generator=draw, dtype=torch.float64) for d in (2, 1))
    return x.requires_grad_(), b.requires_grad_()


@pytest.mark.parametrize("name", CALLS)
def test_calls_between_compiled_parts(name):
    torch._dynamo.reset()
    x, b = leaves()
    compiled = torch.compile(CALLS[name], backend="aot_eager")
    for _ in range(2):  # compiled, and found compiled
        want, got = CALLS[name](x, b), compiled(x, b)
        assert_near(got, want, 1e-12)
        assert got.requires_grad == want.requires_grad
        if want.requires_grad:
            slopes = [torch.autograd.grad(f.square().sum(), (x, b), materialize_grads=True) for f in (got, want)]
            for g, w in zip(*slopes, strict=True):
                assert_near(g, w, 1e-12)


def test_a_graph_break_where_none_is_allowed_is_refused_by_name():
    torch._dynamo.reset()
    x, b = leaves()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="kernelops: no graph holds this call"):
        torch.compile(CALLS["callback"], backend="eager", fullgraph=True)(x, b)


def test_nothing_is_wrapped_and_no_compiler_imported():
    code = (
        "import sys, torch, kernelops.torch as k; x = torch.rand(3, 1, requires_grad=True);"
        "k.Genred('x-y', ['x = Vi(1)', 'y = Vj(1)'], axis=1)(x, x).sum().backward();"
        "print('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split() == [b"False"]
    if guard._code_is_skipped((lambda: None).__code__):  # else a wrapper is all that this torch allows
        assert not hasattr(frontend.Genred.__call__, "__wrapped__")
        assert not hasattr(frontend.KernelSolve.__call__, "__wrapped__")


def test_a_torch_without_marks_of_code(monkeypatch):
    """There functions are wrapped."""

    class Door:
        def call(self, b):
            return SUM(b.detach(), b.detach(), b[:, :1]) + 1

        @staticmethod
        def still(b):
            return b.detach().numpy().sum()

        @classmethod
        def made(cls, b):
            return cls().call(b)

    monkeypatch.setattr(guard, "_code_is_skipped", lambda code: False)
    guard.leave_uncompiled(Door, "call", "still", "made")
    torch._dynamo.reset()
    x, _ = leaves()
    for f in (Door().call, Door.made, lambda b: Door.still(b) * b):
        assert_near(torch.compile(lambda b, f=f: f(b * 2) * 2, backend="eager")(x), f(x * 2) * 2)
