"""Derivatives where both right-hand sides are smooth: right to what the bounds promise, at condition numbers to 1e7.

The kernel g <x, y> + 1 has rank 4. Everything about it is known from 4 x 4 systems that are well conditioned: the truth
does not come from the n x n matrix that makes the derivatives hard.
"""

import math

import numpy as np
import pytest
import usual
from torch_dense import squared_distances, torch

import kernelops.torch.polish as polish
from kernelops.torch import KernelSolve

LINEAR = KernelSolve("(g*(x|y)+IntCst(1))*b", usual.aliases(3, 1, "g"), "b", axis=1)
GAUSS = KernelSolve(usual.SCALED_GAUSS, usual.aliases(3, 1, "g"), "b", axis=1)
N, RTOL = 60, 1e-6
PRECONDS = ["jacobi", "auto", None, "pivoted_cholesky"]
ALPHAS = [1e-2, 1e-4, 1e-5]  # condition numbers of 1e4, 1e6 and 1e7


def data(dtype=torch.float64):
    """Points, rough observations, new points; the same numbers in every dtype up to its rounding."""
    r = np.random.default_rng(1)
    return [torch.tensor(t).to(dtype) for t in (r.random((N, 3)), r.standard_normal((N, 1)), r.random((4, 3)))]


def leaves(tensors, alpha, double=False):
    x, b, at = (t.double() if double else t for t in tensors)
    found = [x.clone(), b.clone(), torch.ones(1, dtype=x.dtype), torch.tensor(alpha, dtype=torch.float64), at.clone()]
    return [t.requires_grad_() for t in found]


def truth(x, b, g, alpha, at):
    """The mean, the variance, b^T A^-1 b and |A^-1 b|^2 from 4 x 4 systems: A = alpha I + Z Z^T."""
    Z, new = (torch.cat([g.sqrt() * t, torch.ones_like(t[:, :1])], 1) for t in (x, at))
    small = alpha * torch.eye(4, dtype=x.dtype) + Z.T @ Z
    w = torch.linalg.solve(small, Z.T @ b)
    left = b - Z @ w
    return {
        "mean": (new @ w).sum(),
        "variance": alpha * (new.T * torch.linalg.solve(small, new.T)).sum(),
        "inv_quad": (b * left).sum() / alpha,
        "square": left.square().sum() / alpha**2,
    }


def ours(what, x, b, g, alpha, at, **options):
    if what in ("mean", "variance"):
        return LINEAR.predict(x, x, b, g, at=at, alpha=alpha, **options)[what == "variance"].double().sum()
    if what == "inv_quad":
        return LINEAR.inv_quad_logdet(x, x, b, g, alpha=alpha, n_probes=N, **options).inv_quad
    return LINEAR(x, x, b, g, alpha=alpha, **options).double().square().sum()


def allowed(alpha, rtol=RTOL):
    """The bounds' share of the whole, and what rounding leaves: eps cond |z| |a|, where |z| |a| is cond |z^T a|."""
    condition = 60 / alpha
    return polish.RESIDUAL_SLACK * math.sqrt(rtol) + 4 * np.finfo(np.float64).eps * condition**2


@pytest.mark.parametrize("precond", PRECONDS)
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("what", ["mean", "variance", "inv_quad", "square"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_by_alpha(dtype, what, alpha, precond):
    given = data(dtype)
    found, wanted = leaves(given, alpha), leaves(given, alpha, double=True)
    (got,) = torch.autograd.grad(ours(what, *found, method="cg", precond=precond), found[3])
    (want,) = torch.autograd.grad(truth(*wanted)[what], wanted[3])
    assert abs(got - want) <= allowed(alpha) * abs(want)


@pytest.mark.parametrize("precond", PRECONDS)
@pytest.mark.parametrize("alpha", ALPHAS[:2])
@pytest.mark.parametrize("what", ["mean", "variance", "inv_quad"])
def test_by_points_and_scale(what, alpha, precond):
    """Neither alpha nor the scale is the only direction: these are told from them by the bounds, within a factor."""
    found, wanted = leaves(data(), alpha), leaves(data(), alpha)
    got = torch.autograd.grad(ours(what, *found, method="cg", precond=precond), (found[0], found[2]))
    want = torch.autograd.grad(truth(*wanted)[what], (wanted[0], wanted[2]))
    for g, w in zip(got, want, strict=True):
        assert (g - w).norm() <= 4 * allowed(alpha) * w.norm()


@pytest.mark.parametrize("precond", PRECONDS)
@pytest.mark.parametrize("alpha", ALPHAS[:2])
def test_forward_mode(alpha, precond):
    x, b, g, noise, at = (t.detach() for t in leaves(data(), alpha))

    def mean(noise):
        return LINEAR.predict(x, x, b, g, at=at, alpha=noise, variance=False, method="cg", precond=precond)[0].sum()

    _, got = torch.func.jvp(mean, (noise,), (torch.ones_like(noise),))
    _, want = torch.func.jvp(lambda t: truth(x, b, g, t, at)["mean"], (noise,), (torch.ones_like(noise),))
    assert abs(got - want) <= allowed(alpha) * abs(want)


def test_second_derivatives():
    """By a dense factor, at a condition number of 1e4, the second derivative by alpha is as right as the first."""
    for options in ({"method": "cg", "precond": "jacobi"}, {"method": "direct"}):
        found, wanted = leaves(data(), 1e-2), leaves(data(), 1e-2)
        (one,) = torch.autograd.grad(ours("mean", *found, **options), found[3], create_graph=True)
        (other,) = torch.autograd.grad(truth(*wanted)["mean"], wanted[3], create_graph=True)
        (got,), (want,) = torch.autograd.grad(one, found[3]), torch.autograd.grad(other, wanted[3])
        assert abs(got - want) <= 4 * allowed(1e-2) * abs(want)


@pytest.mark.parametrize("alpha", [1e-1, *ALPHAS[:2]])
@pytest.mark.parametrize("by", ["alpha", "scale"])
def test_tangents_of_smooth_solutions(by, alpha):
    """b = Z c has the solution Z (alpha I + Z^T Z)^-1 c, far smaller than what a residual can leave in it."""
    x, _, g, noise, _ = (t.detach() for t in leaves(data(), alpha))
    c = torch.ones(4, 1, dtype=x.dtype)
    b = x @ c[:3] + 1

    def want(noise, g):
        Z = torch.cat([g.sqrt() * x, torch.ones_like(x[:, :1])], 1)
        d = torch.cat([c[:3] / g.sqrt(), c[3:]])  # b does not depend on g
        return Z @ torch.linalg.solve(noise * torch.eye(4, dtype=x.dtype) + Z.T @ Z, d)

    def got(noise, g):
        return LINEAR(x, x, b, g, alpha=noise, method="cg", precond="jacobi")

    along = (torch.ones_like(noise), torch.zeros_like(g)) if by == "alpha" else (torch.zeros_like(noise), g)
    found, wanted = (torch.func.jvp(f, (noise, g), along)[1] for f in (got, want))
    assert (found - wanted).norm() <= allowed(alpha) * wanted.norm()


JACOBIANS = {
    "rows one by one": torch.autograd.functional.jacobian,
    "rows at once": lambda f, t: torch.autograd.functional.jacobian(f, t, vectorize=True),
    "columns at once": lambda f, t: torch.autograd.functional.jacobian(f, t, vectorize=True, strategy="forward-mode"),
    "jacrev": lambda f, t: torch.func.jacrev(f)(t),
    "jacfwd": lambda f, t: torch.func.jacfwd(f)(t),
}


def means(alpha):
    """The mean at all new points as a function of alpha, and the truth about it."""
    x, b, g, _, at = (t.detach() for t in leaves(data(), alpha))

    def got(t):
        return LINEAR.predict(x, x, b, g, at=at, alpha=t, variance=False, method="cg", precond="jacobi")[0][:, 0]

    return got, lambda t: torch.stack([truth(x, b, g, t, row)["mean"] for row in at[:, None]])


@pytest.mark.parametrize("name", JACOBIANS)
def test_mapped(name, runs):
    """Cotangents are mapped where solutions are not."""
    got, want = means(1e-3)
    t = torch.tensor(1e-3, dtype=torch.float64)
    found, wanted = JACOBIANS[name](got, t), torch.func.jacrev(want)(t)
    assert runs and found.shape == wanted.shape
    assert (found - wanted).norm() <= allowed(1e-3) * wanted.norm()


@pytest.mark.parametrize("jacobian", [torch.func.jacrev, torch.func.jacfwd])
def test_mapped_alphas(jacobian, runs):
    got, want = means(1e-3)
    alphas = torch.tensor([1e-3, 1e-1, 1e-4], dtype=torch.float64)
    found = torch.func.vmap(jacobian(got))(alphas)
    wanted = torch.stack([torch.func.jacrev(want)(t) for t in alphas])  # torch's solve is wrong under vmap of jacfwd
    assert runs
    for f, w, alpha in zip(found, wanted, alphas, strict=True):
        assert (f - w).norm() <= allowed(float(alpha)) * w.norm()


@pytest.mark.parametrize("outer", [torch.func.jacrev, torch.func.jacfwd])
@pytest.mark.parametrize("inner", [torch.func.jacrev, torch.func.jacfwd])
def test_second_derivatives_in_every_order(outer, inner):
    got, want = means(1e-2)
    t = torch.tensor(1e-2, dtype=torch.float64)
    found = outer(inner(got))(t)
    wanted = torch.func.jacrev(torch.func.jacrev(want))(t)  # torch's solve is wrong under two forward levels
    assert (found - wanted).norm() <= 4 * allowed(1e-2) * wanted.norm()


def test_alpha_by_rows():
    """Every row's own derivative of the mean, and their sum, against the dense matrix."""
    x, b, g, _, at = (t.detach() for t in leaves(data(), 1.0))
    rows = torch.linspace(1e-3, 2e-3, N, dtype=torch.float64, requires_grad=True)
    mean, _ = GAUSS.predict(x, x, b, 5 * g, at=at, alpha=rows, variance=False, method="cg", precond="jacobi")
    (got,) = torch.autograd.grad(mean.sum(), rows)
    A = torch.exp(-5 * squared_distances(x, x)) + torch.diag(rows)
    (want,) = torch.autograd.grad((torch.exp(-5 * squared_distances(at, x)) @ torch.linalg.solve(A, b)).sum(), rows)
    assert (got - want).norm() <= polish.RESIDUAL_SLACK * math.sqrt(RTOL) * want.norm()


@pytest.fixture
def runs(monkeypatch):
    """The solves that went on with a solution."""
    found, run = [], polish.run
    monkeypatch.setattr(polish, "run", lambda *args: found.append(run(*args)) or found[-1])
    return found


def test_ordinary_derivatives_cost_no_more(runs):
    """Rough right-hand sides, of a condition number of 100, and rough cotangents: nothing is iterated on."""
    r = np.random.default_rng(0)
    x, b, e = (torch.tensor(t) for t in (r.random((300, 3)), r.standard_normal((300, 1)), r.standard_normal((300, 1))))
    x, g, alpha = (
        x.requires_grad_(),
        torch.ones(1, dtype=x.dtype, requires_grad=True),
        torch.tensor(0.5).requires_grad_(),
    )
    for options in ({"method": "cg", "precond": None}, {"method": "direct"}):
        (GAUSS(x, x, b, 30 * g, alpha=alpha, **options) * e).sum().backward()
        GAUSS(x, x, b, 30 * g, alpha=alpha, **options).square().sum().backward()
        one = torch.ones_like(alpha)
        torch.func.jvp(lambda t, options=options: GAUSS(x, x, b, 30 * g, alpha=t, **options), (alpha,), (one,))
    assert not runs


def test_no_derivatives_no_cost(runs):
    x, b, g, alpha, at = (t.detach() for t in leaves(data(), 1e-5))
    LINEAR.predict(x, x, b, g, at=at, alpha=alpha, method="cg", precond="jacobi")
    with torch.no_grad():
        LINEAR.predict(x.requires_grad_(), x, b, g, at=at, alpha=alpha, method="cg", precond="jacobi")
    assert not runs


def test_what_cannot_be_had_ends():
    """A derivative of 0, or one next to 0, asks for the last digit of both solutions, and nobody warns."""
    x, _, g, _, at = (t.detach() for t in leaves(data(), 1.0))
    alpha = torch.tensor(1e-6, dtype=torch.float64, requires_grad=True)
    b = torch.zeros(N, 1, dtype=torch.float64)
    mean, _ = LINEAR.predict(x, x, b, g, at=at, alpha=alpha, variance=False, method="cg", precond="jacobi")
    assert torch.autograd.grad(mean.sum(), alpha)[0] == 0
    b = torch.linspace(-1, 1, N, dtype=torch.float64)[:, None]
    a = LINEAR(x, x, b, g, alpha=alpha, method="cg", precond="jacobi")
    assert torch.autograd.grad(a.sum(), alpha)[0].isfinite()
