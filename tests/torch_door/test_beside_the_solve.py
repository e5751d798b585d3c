"""log-determinants, quadratic forms and predictions of tensors: values and derivatives against torch's own."""

import numpy as np
import pytest
import usual
from solve_cases import CASES
from torch_dense import all_near, assert_near, derivatives, squared_distances, torch

from kernelops import ConvergenceWarning
from kernelops.errors import DtypeError
from kernelops.numpy import KernelSolve as NumpyKernelSolve
from kernelops.torch import KernelSolve

pytestmark = pytest.mark.thorough

BY_NAME = {case.name: case for case in CASES}
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
ALIASES = usual.aliases(2, 1, "g")
FORMULA = usual.SCALED_GAUSS
GAUSS = KernelSolve(FORMULA, ALIASES, "b", axis=1)
N = 12
HOW = {  # the dense factor, and Lanczos' process with as many probes as rows, without and with a preconditioner
    "direct": {"method": "direct"},
    "cg": {"method": "cg", "precond": None, "n_probes": 100},
    "preconditioned": {"method": "cg", "precond": "pivoted_cholesky", "n_probes": 100},
}
EVERY_WAY = pytest.mark.parametrize("how", HOW)
EXACT = {"rtol": 1e-13}


def leaves(seed=0):
    """Points, right-hand side, g, alpha and new points."""
    draw = torch.Generator().manual_seed(seed)
    x, b, at = (torch.randn(s, 2, generator=draw, dtype=torch.float64) for s in (N, N, 5))
    g, alpha = torch.tensor([0.7], dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    return [t.requires_grad_() for t in (x, b[:, :1].clone(), g, alpha, at)]


def matrix(x, g, alpha, y=None):
    K = torch.exp(-g * squared_distances(x, x if y is None else y))
    return K + torch.diag_embed(alpha.expand(x.shape[-2]))


def dense_of(case, leaves):
    """A and b of a row of the table of solves, as dense systems with one column where the kernel is matrix-valued."""
    K, b = case.matrix(*leaves), case.arguments(*leaves)[case.place]
    n, d = b.shape[-2:]
    alpha = torch.as_tensor(case.alpha, dtype=K.dtype)
    rows = alpha.expand(*alpha.shape[:-1], n) if alpha.ndim else alpha.expand(n)
    if K.shape[-4:] == (n, d, n, d):
        A = K.reshape(*K.shape[:-4], n * d, n * d) + torch.diag_embed(rows.repeat_interleave(d, -1))
        return A, b.reshape(*b.shape[:-2], n * d, 1)
    return K + torch.diag_embed(rows), b


@EVERY_WAY
@EVERY_CASE
def test_every_kernel(case, how):
    tensors = case.leaves()
    solver = KernelSolve(case.formula, case.aliases, "b", axis=case.axis)
    options = {k: v for k, v in (case.options or {}).items() if k == "ranges"} | {"alpha": case.alpha}
    for name, tolerance in (("inv_quad", 1e-9), ("logdet", 1e-8)):
        found = solver.inv_quad_logdet(*case.arguments(*tensors), **options, **HOW[how], **EXACT)
        A, b = dense_of(case, tensors)
        batch = torch.broadcast_shapes(A.shape[:-2], b.shape[:-2])
        A, b = A.expand(*batch, *A.shape[-2:]), b.expand(*batch, *b.shape[-2:])
        want = torch.logdet(A) if name == "logdet" else (b * torch.linalg.solve(A, b)).sum((-2, -1))
        assert_near(getattr(found, name), want, 1e-9)
        all_near(derivatives(getattr(found, name), tensors), derivatives(want, tensors), tolerance)


@EVERY_WAY
def test_gradcheck(how):
    x, b, g, alpha, at = leaves()
    solves = {k: v for k, v in HOW[how].items() if k != "n_probes"}

    def logdet(x, g, alpha):
        return GAUSS.logdet(x, x, g, alpha=alpha, **HOW[how], **EXACT)[0]

    def inv_quad(x, b, g, alpha):
        return GAUSS.inv_quad_logdet(x, x, b, g, alpha=alpha, **HOW[how], **EXACT).inv_quad

    def predict(x, b, g, alpha, at):
        return GAUSS.predict(x, x, b, g, at=at, alpha=alpha, **solves, **EXACT)

    for function, inputs in (
        (logdet, (x, g, alpha)), (inv_quad, (x, b, g, alpha)), (predict, (x, b, g, alpha, at)),
    ):  # fmt: skip
        assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@EVERY_WAY
@pytest.mark.parametrize("shape", [(), (1,), (N,), (N, 1)])
def test_gradients_to_alpha(how, shape):
    x, b, g, _, _ = leaves()
    alpha = torch.linspace(0.2, 0.9, int(np.prod(shape)), dtype=torch.float64).reshape(shape).requires_grad_()
    got = GAUSS.logdet(x, x, g, alpha=alpha, **HOW[how], **EXACT)[0]
    want = torch.logdet(matrix(x, g, alpha.reshape(-1)))
    all_near(derivatives(got, [alpha, x, g]), derivatives(want, [alpha, x, g]), 1e-9)


@EVERY_WAY
def test_x_alone_is_differentiated_to_any_order(how):
    """y = x.detach(): the derivatives of a matrix that is symmetric only at this very point."""
    x, b, g, alpha, _ = leaves()
    y = x.detach()
    got = GAUSS.logdet(x, y, g, alpha=alpha, **HOW[how], **EXACT)[0]
    all_near(
        derivatives(got, [x, g, alpha], 3), derivatives(torch.logdet(matrix(x, g, alpha, y)), [x, g, alpha], 3), 1e-8
    )


@pytest.mark.parametrize("q", [0, 1], ids=["mean", "variance"])
@pytest.mark.parametrize("method", ["direct", "cg"])
def test_predict(method, q):
    x, b, g, alpha, at = tensors = leaves()
    got = GAUSS.predict(x, x, b, g, at=at, alpha=alpha, method=method, **EXACT)[q]
    across = torch.exp(-g * squared_distances(x, at))
    solved = torch.linalg.solve(matrix(x, g, alpha), across)
    want = (solved.T @ b, 1 - (across * solved).sum(0))[q]
    assert_near(got, want)
    all_near(derivatives(got, tensors), derivatives(want, tensors), 1e-9)


@pytest.mark.parametrize("aliases", [["b = Vj(1)", *ALIASES[:2]], ALIASES[:3]], ids=["first", "last"])
def test_predict_wherever_the_unknown_stands(aliases):
    x, b, _, _, at = (t.detach() for t in leaves())
    solver = KernelSolve(usual.GAUSS, aliases, "b", axis=1)
    args = [{"x": x, "y": x, "b": b}[alias[0]] for alias in aliases]
    found = solver.predict(*args, at=at, alpha=0.3, **EXACT)
    all_near(found, GAUSS.predict(x, x, b, torch.ones(1, dtype=x.dtype), at=at, alpha=0.3, **EXACT))


def test_the_doors_agree():
    x, b, g, alpha, at = (t.detach().float() if t.ndim else t.detach() for t in leaves())
    arrays = [t.numpy() for t in (x, x, b, g)]
    other = NumpyKernelSolve(FORMULA, ALIASES, "b", axis=1)
    for options in ({"method": "cg", "precond": "pivoted_cholesky"}, {"method": "direct"}):
        found = GAUSS.inv_quad_logdet(x, x, b, g, alpha=0.3, n_probes=5, **options)
        want = other.inv_quad_logdet(*arrays, alpha=0.3, n_probes=5, **options)
        assert all(f.dtype == torch.float64 for f in found)
        assert np.allclose([f.item() for f in found], want, rtol=1e-9)
        mean, variance = GAUSS.predict(x, x, b, g, at=at, alpha=0.3, **options)
        wanted = other.predict(*arrays, at=at.numpy(), alpha=0.3, **options)
        assert mean.dtype == variance.dtype == torch.float32
        assert np.allclose(mean, wanted[0], atol=1e-5) and np.allclose(variance, wanted[1], atol=1e-6)


@EVERY_WAY
def test_functional_transforms(how):
    xs = torch.stack([leaves(seed)[0].detach() for seed in range(3)])
    _, b, g, alpha, at = (t.detach() for t in leaves())

    def logdet(x):
        return GAUSS.logdet(x, x, g, alpha=alpha, **HOW[how], **EXACT)[0]

    def inv_quad(x):
        return GAUSS.inv_quad_logdet(x, x, b, g, alpha=alpha, **HOW[how], **EXACT).inv_quad

    def variance(x):
        return GAUSS.predict(x, x, b, g, at=at, alpha=alpha, **EXACT)[1].sum()

    for f in (logdet, inv_quad, variance):
        gradients = torch.stack([torch.func.grad(f)(x) for x in xs])
        assert_near(torch.func.vmap(f)(xs), torch.stack([f(x) for x in xs]), 1e-9)
        assert_near(torch.func.vmap(torch.func.grad(f))(xs), gradients, 1e-9)
        assert_near(torch.func.jvp(f, (xs[0],), (xs[1],))[1], (gradients[0] * xs[1]).sum(), 1e-9)
        leaf = xs.clone().requires_grad_()
        (mapped,) = torch.autograd.grad(torch.func.vmap(f)(leaf).sum(), leaf)
        assert_near(mapped, gradients, 1e-9)


def test_forward_over_reverse():
    """The dense inverse of the plain backward pass knows no tangents: where there are some it is not taken."""
    x, _, g, alpha, _ = leaves()
    v = torch.linspace(-1, 1, 2 * N, dtype=torch.float64).reshape(N, 2)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, v)
        value = GAUSS.logdet(dual, dual, g, alpha=alpha, method="direct", **EXACT)[0]
        (gradient,) = torch.autograd.grad(value, x)
        got = torch.autograd.forward_ad.unpack_dual(gradient).tangent
    (first,) = torch.autograd.grad(torch.logdet(matrix(x, g, alpha)), x, create_graph=True)
    (want,) = torch.autograd.grad(first, x, v)
    assert_near(got, want, 1e-9)


def test_the_estimated_gradient():
    """The gradient by g scatters about the true one, without bias: 64 seeds of 4 probes, 4 standard errors."""
    x, _, g, alpha, _ = leaves()
    (want,) = torch.autograd.grad(torch.logdet(matrix(x, g, alpha)), g)
    for precond in (None, "pivoted_cholesky"):
        options = {"method": "cg", "precond": precond, "n_probes": 4}
        found = [
            torch.autograd.grad(GAUSS.logdet(x, x, g, alpha=alpha, seed=seed, **options)[0], g)[0].item()
            for seed in range(64)
        ]
        spread = np.std(found, ddof=1) / 8
        assert 0 < spread < 0.2 * want and abs(np.mean(found) - want.item()) <= 4 * spread


def test_a_fixed_seed_gives_a_smooth_function():
    """A step of 1e-6 in g moves the estimate by its slope: no noise between two calls."""
    x, _, g, alpha, _ = (t.detach() for t in leaves())
    values = [GAUSS.logdet(x, x, g + k * 1e-6, alpha=alpha, method="cg", precond=None)[0] for k in range(3)]
    first, second = values[1] - values[0], values[2] - values[1]
    assert abs(second - first) < 1e-3 * abs(first)


@pytest.mark.parametrize("options", [{"method": "direct"}, {"method": "cg", "precond": "pivoted_cholesky"}], ids=str)
def test_lbfgs_finds_the_noise(options):
    """Observations of a function of the kernel's own length, with noise of variance 0.09."""
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(200, 2, generator=draw, dtype=torch.float64)
    noise = 0.3 * torch.randn(200, 1, generator=draw, dtype=torch.float64)
    b = torch.sin(5 * x[:, :1]) * torch.cos(4 * x[:, 1:]) + noise
    theta = torch.tensor([1.0, -1.0], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([theta], max_iter=15, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        found = GAUSS.inv_quad_logdet(x, x, b, theta[:1].exp(), alpha=theta[1].exp(), **options)
        (found.inv_quad + found.logdet).backward()
        return found.inv_quad + found.logdet

    optimiser.step(loss)
    assert 0.06 < theta[1].exp().item() < 0.13


def test_bad_new_points():
    x, b, g, _, at = (t.detach() for t in leaves())
    with pytest.raises(DtypeError, match="at"):
        GAUSS.predict(x, x, b, g, at=at.numpy(), alpha=0.1)


def test_what_cannot_be_trusted_warns_at_the_users_line():
    x = torch.zeros(20, 2, dtype=torch.float64)
    with pytest.warns(ConvergenceWarning, match="not positive definite") as caught:
        GAUSS.logdet(x, x, 1.0, alpha=0.0, method="cg", precond=None, n_probes=20)
    assert caught[0].filename == __file__
