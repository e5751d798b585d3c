"""Gradients do not depend on how the solves are made, and forward and backward solves share what is built."""

import numpy as np
import pytest
from solve_cases import ALIASES, CASES, GAUSS, RANGES
from torch_dense import all_near, assert_near, derivatives, solve, squared_distances, torch

from kernelops import SolveState
from kernelops.solvers import policy
from kernelops.torch import KernelSolve

pytestmark = pytest.mark.thorough

BY_NAME = {case.name: case for case in CASES}
WAYS = [
    {"method": "direct", "precond": "auto"},
    *({"method": "cg", "precond": p} for p in ("auto", None, "pivoted_cholesky", "fsai", "nystrom", "jacobi")),
    {"method": "auto", "precond": "auto"},
]
N, ASKED = 12, 1e-12
SOLVER = KernelSolve(GAUSS, ALIASES, "b", axis=1)


def leaves(n=N, dtype=torch.float64):
    draw = torch.Generator().manual_seed(3)
    x = torch.rand(n, 2, generator=draw, dtype=torch.float64).to(dtype)
    b = torch.randn(n, 2, generator=draw, dtype=torch.float64).to(dtype)
    return x.requires_grad_(), b.requires_grad_(), torch.tensor([1.5], dtype=dtype, requires_grad=True)


def kernel(x, g):
    return (-(g**2) * squared_distances(x, x)).exp()


@pytest.fixture
def built(monkeypatch):
    """The plans that were made."""
    plans, make = [], policy.build_plan

    def spy(*args):
        plans.append(make(*args))
        return plans[-1]

    monkeypatch.setattr(policy, "build_plan", spy)
    return plans


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("name", BY_NAME)
def test_the_same_derivatives_in_every_way(name, way):
    case = BY_NAME[name]
    t = case.leaves()
    all_near(derivatives(case.ours(*t, **way), t), derivatives(case.dense(*t), t), 1e-9)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_same_derivatives_with_a_state(way):
    """One handle for a whole search: the derivatives at every step are those of a solve by itself."""
    state = SolveState()
    for step in range(4):
        x, b, g = leaves(40)
        g = (g * (1 + 0.01 * step)).detach().requires_grad_()
        a = SOLVER(x, x, b, g, alpha=0.3, eps=ASKED, state=state, **way)
        all_near(derivatives(a, [x, b, g]), derivatives(solve(kernel(x, g), 0.3, b), [x, b, g]), 1e-8)
    assert state.builds == (way["precond"] is not None) and state.backward.builds <= 1
    assert state.solves == 4 and state.backward.solves == 8  # two each: the second order goes through twice


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_one_preconditioner_for_forward_backward_and_double_backward(way, built):
    x, b, g = leaves(40)
    a = SOLVER(x, x, b, g, alpha=0.3, eps=1e-9, **way)
    (gx,) = torch.autograd.grad(a.square().sum(), x, create_graph=True)
    torch.autograd.grad(gx.square().sum(), [x, b, g], create_graph=True)
    assert len(built) == 1
    SOLVER(x, x, b, g, alpha=0.3, eps=1e-9, **way)
    assert len(built) == 2  # another call has a plan of its own


def test_one_preconditioner_for_forward_mode(built):
    x, b, g = leaves(40)
    torch.func.jvp(lambda x, g: SOLVER(x, x, b, g, alpha=0.3, precond="fsai", method="cg"), (x, g), (x, g))
    assert len(built) == 1


def test_the_backward_solve_does_not_start_at_the_forward_solution():
    """Without a handle no solution is carried: the same call gives the same bits."""
    x, b, g = leaves(40)
    found = []
    for _ in range(2):
        a = SOLVER(x, x, b, g, alpha=0.3)
        found.append(torch.autograd.grad(a.square().sum(), [x, b, g]))
    assert all(torch.equal(s, t) for s, t in zip(*found, strict=True))


@pytest.mark.parametrize("way", [{"method": "direct"}, {"precond": "pivoted_cholesky"}, {"precond": "fsai"}], ids=str)
@pytest.mark.parametrize("pattern", [None, "ranges"])
def test_finite_differences(way, pattern):
    x, b, g = leaves()
    x, b = (t[:6].detach().requires_grad_() for t in (x, b))
    alpha = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    ranges = RANGES if pattern else None

    def a(x, b, g, alpha):
        return SOLVER(x, x, b, g, alpha=alpha, eps=ASKED, ranges=ranges, **way)

    assert torch.autograd.gradcheck(a, (x, b, g, alpha))
    assert torch.autograd.gradgradcheck(a, (x, b, g, alpha))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_forward_mode_and_vmap(way):
    x, b, g = (t.detach() for t in leaves())

    def a(x, g):
        return SOLVER(x, x, b, g, alpha=0.3, eps=ASKED, **way)

    def dense(x, g):
        return solve(kernel(x, g), 0.3, b)

    v, w = torch.cos(x), torch.ones_like(g)
    for got, want in zip(torch.func.jvp(a, (x, g), (v, w)), torch.func.jvp(dense, (x, g), (v, w)), strict=True):
        assert_near(got, want, 1e-9)
    several = torch.stack([x, x + torch.sin(3 * x), 2 * x])
    assert_near(torch.func.vmap(a, (0, None))(several, g), torch.stack([dense(t, g) for t in several]), 1e-9)

    def loss(x):
        return a(x, g).square().sum()

    want = torch.stack([torch.func.grad(lambda t: dense(t, g).square().sum())(t) for t in several])
    assert_near(torch.func.vmap(torch.func.grad(loss))(several), want, 1e-9)


def test_alpha_by_rows_and_float32():
    """Gradients of float32 data to float32's precision, whatever is built."""
    x, b, g = leaves(60, torch.float32)
    alpha = torch.linspace(0.05, 1, 60, requires_grad=True)
    wide = [t.detach().double().requires_grad_() for t in (x, b, g, alpha)]
    want = torch.autograd.grad(solve(kernel(wide[0], wide[2]), wide[3], wide[1]).square().sum(), wide)
    for way in WAYS:
        a = SOLVER(x, x, b, g, alpha=alpha, eps=1e-8, **way)
        for got, truth in zip(torch.autograd.grad(a.square().sum(), (x, b, g, alpha)), want, strict=True):
            assert got.dtype == torch.float32
            assert_near(got.double(), truth, 1e-5)


def test_quiet_backward(capfd):
    x, b, g = leaves(40)
    a = SOLVER(x, x, b, g, alpha=0.3, verbose=True)
    assert "40 unknowns, 2 right-hand sides" in capfd.readouterr().err
    torch.autograd.grad(a.sum(), x)
    assert capfd.readouterr().err == ""


def test_the_solution_of_a_tensor_solve_says_what_was_built():
    x, b, g = leaves(40)
    _, solution = SOLVER(x, x, b, g, alpha=0.3, precond="fsai", method="cg", return_solution=True)
    (M,) = solution.preconditioners
    assert (solution.precond, solution.method) == ("fsai", "cg") and isinstance(M @ np.ones(40), np.ndarray)
    _, given = SOLVER(x, x, b, g, alpha=0.3, M=M, return_solution=True)
    assert given.converged and given.precond == "fsai" and given.iterations == solution.iterations
