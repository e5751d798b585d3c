"""Derivatives of solves: every kernel of the table, every shape of alpha, first and second order."""

import numpy as np
import pytest
import usual
from judges import assert_solves
from scipy.sparse.linalg import aslinearoperator
from solve_cases import CASES, RANGES, N
from torch_dense import all_near, assert_near, derivatives, solve, squared_distances, torch

from kernelops import ConvergenceWarning, SolveError
from kernelops.torch import KernelSolve

BY_NAME = {case.name: case for case in CASES}
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
ASKED = 1e-13  # the residual; the condition numbers of the table are below 100


@EVERY_CASE
def test_against_torch(case):
    leaves = case.leaves()
    got, want = case.ours(*leaves), case.dense(*leaves)
    assert_near(got, want)
    all_near(derivatives(got, leaves), derivatives(want, leaves))


@pytest.mark.parametrize("name", ["Gaussian", "matrix-valued", "ranges", "batches"])
def test_gradcheck(name):
    case = BY_NAME[name]
    alpha = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)

    def ours(alpha, *leaves):
        return case.ours(*leaves, alpha=alpha)

    inputs = (alpha, *case.leaves())
    assert torch.autograd.gradcheck(ours, inputs, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(ours, inputs, fast_mode=True)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (name, shape)
        for name in ("Gaussian", "over i", "matrix-valued", "ranges", "batches")
        for shape in ((), (1,), (N,), (N, 1), (3, 1), (3, N), (3, N, 1))
        if shape[:1] != (3,) or name == "batches"
    ],
)
def test_gradients_to_alpha(name, shape):
    case, leaves = BY_NAME[name], BY_NAME[name].leaves()
    alpha = torch.linspace(0.2, 0.9, max(1, int(np.prod(shape))), dtype=torch.float64).reshape(shape).requires_grad_()
    rows = alpha.reshape(*shape[:-2], N) if shape[-2:] == (N, 1) else alpha
    got, want = case.ours(*leaves, alpha=alpha), case.dense(*leaves, alpha=rows)
    assert_near(got, want)
    all_near(derivatives(got, [alpha, *leaves]), derivatives(want, [alpha, *leaves]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_alpha_of_another_dtype(dtype):
    """alpha is held in float64 and its gradient has alpha's dtype."""
    case = BY_NAME["Gaussian"]
    leaves = case.leaves(torch.float32)
    alpha = torch.tensor(0.1, dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad((case.ours(*leaves, alpha=alpha, eps=1e-7) ** 2).sum(), alpha)
    double = alpha.detach().double().requires_grad_()
    (want,) = torch.autograd.grad((case.dense(*(t.double() for t in leaves), alpha=double) ** 2).sum(), double)
    assert gradient.dtype == dtype
    assert_near(gradient.double(), want, 1e-5)


def test_x_alone_is_differentiated_to_any_order():
    """y = x.detach(): the derivatives of a matrix that is symmetric only at this very point."""
    x, b, g = BY_NAME["Gaussian"].leaves()
    solver = KernelSolve("Exp(-Square(g)*SqDist(x,y))*b", usual.aliases(2, 2, "g"), "b", 1)
    got = solver(x, x.detach(), b, g, alpha=0.3, eps=ASKED)
    want = solve((-(g**2) * squared_distances(x, x.detach())).exp(), 0.3, b)
    all_near(derivatives(got, [x, b, g], 3), derivatives(want, [x, b, g], 3))


@EVERY_CASE
def test_the_residual_is_what_was_asked(case):
    leaves = case.leaves()
    a, K, b = case.ours(*leaves, eps=1e-7), case.matrix(*leaves), case.arguments(*leaves)[case.place]
    n, d = b.shape[-2:]
    size, columns = (n * d, 1) if K.shape[-4:] == (n, d, n, d) else (n, d)
    matrices = K.detach().reshape(-1, size, size).expand(a.numel() // (size * columns), size, size)
    solutions, rhs = (t.detach().expand(a.shape).reshape(-1, size, columns) for t in (a, b))
    for matrix, solution, side in zip(matrices.numpy(), solutions.numpy(), rhs.numpy(), strict=True):
        assert_solves(matrix + case.alpha * np.eye(size), solution, side, 1e-7)


def test_the_gradient_does_not_depend_on_the_preconditioner():
    case, leaves = BY_NAME["Gaussian"], BY_NAME["Gaussian"].leaves()
    inverse = np.linalg.inv(case.matrix(*leaves).detach().numpy() + 0.25 * np.eye(N))
    gradients = [
        derivatives(case.ours(*leaves, M=M), leaves)
        for M in (None, np.diag(np.arange(1.0, N + 1)), aslinearoperator(inverse))
    ]
    all_near(gradients[1], gradients[0])
    all_near(gradients[2], gradients[0])


def test_gradients_scale_with_the_loss():
    """The backward solve is as relative as the forward one: a tiny cotangent gives a tiny gradient, not 0."""
    case, leaves = BY_NAME["Gaussian"], BY_NAME["Gaussian"].leaves(torch.float32)
    a = case.ours(*leaves, eps=1e-6)
    plain = torch.autograd.grad(a.sum(), leaves, retain_graph=True)
    for scale in (2.0**-30, 2.0**30):
        scaled = torch.autograd.grad((a * scale).sum(), leaves, retain_graph=True)
        assert all(torch.equal(s, g * scale) for s, g in zip(scaled, plain, strict=True))


def test_the_backward_solve_obeys_on_fail():
    case, leaves = BY_NAME["Gaussian"], BY_NAME["Gaussian"].leaves()
    eigenvectors = torch.linalg.eigh(case.matrix(*leaves).detach()).eigenvectors
    easy = [leaves[0], eigenvectors[:, :2].clone(), leaves[2]]  # a right-hand side that one iteration is enough for
    hard = torch.linspace(-1, 2, N, dtype=torch.float64)[:, None].expand(N, 2)
    for on_fail, means in (("warn", pytest.warns(ConvergenceWarning)), ("raise", pytest.raises(SolveError))):
        a = case.ours(*easy, maxiter=2, eps=1e-8, on_fail=on_fail)
        with means:
            torch.autograd.grad(a, leaves[0], hard)
    a = case.ours(*easy, maxiter=2, eps=1e-8, on_fail="ignore")
    assert torch.autograd.grad(a, leaves[0], hard)[0].isfinite().all()


def test_the_callback_sees_the_forward_solve_alone():
    case, leaves, seen = BY_NAME["Gaussian"], BY_NAME["Gaussian"].leaves(), []
    a = case.ours(*leaves, callback=seen.append)
    count = len(seen)
    torch.autograd.grad(a.sum(), leaves)
    assert 0 < count == len(seen) and all(s.shape == (N, 2) for s in seen)


def test_the_starting_point_is_not_that_of_the_backward_solve():
    case, leaves = BY_NAME["Gaussian"], BY_NAME["Gaussian"].leaves()
    start = case.dense(*leaves).detach()
    a, solution = case.ours(*leaves, x0=start, eps=1e-9, return_solution=True)
    assert solution.iterations == 0
    all_near(derivatives(a, leaves), derivatives(case.dense(*leaves), leaves), 1e-6)


def test_rows_in_no_block():
    """There a = b / alpha, and the gradient to alpha is that of the quotient."""
    rows = [[0, 2], [2, 4]]
    case = BY_NAME["ranges"]
    x, b, g = case.leaves()
    ranges = type(RANGES).from_mask(rows, rows, np.array([[True, False], [False, True]]))
    alpha = torch.full((N,), 0.5, dtype=torch.float64, requires_grad=True)
    a = case.ours(x, b, g, alpha=alpha, ranges=ranges)
    assert_near(a[4:], b[4:] / 0.5)
    gx, galpha = torch.autograd.grad(a.sum(), (x, alpha))
    assert (gx[4:] == 0).all()
    assert_near(galpha[4:], -b[4:].sum(1) / 0.25)


def test_many_columns():
    """More right-hand sides than ride on one evaluation of the kernel."""
    x, _, g = BY_NAME["Gaussian"].leaves()
    b = torch.linspace(-1, 1, N * 70, dtype=torch.float64).reshape(N, 70).sin().requires_grad_()
    aliases = usual.aliases(2, 70, "g")
    got = KernelSolve("Exp(-Square(g)*SqDist(x,y))*b", aliases, "b", axis=1)(x, x, b, g, alpha=0.3, eps=ASKED)
    want = solve((-(g**2) * squared_distances(x, x)).exp(), 0.3, b)
    assert_near(got, want)
    all_near(derivatives(got, [x, b, g]), derivatives(want, [x, b, g]))


def test_float32_gradients_of_a_real_size():
    """As near to the dense float64 gradient as float32 can tell, though the iterations ran in float32."""
    numbers = 800
    draw = torch.Generator().manual_seed(0)
    x, b = torch.randn(numbers, 3, generator=draw), torch.randn(numbers, 2, generator=draw)
    solver = KernelSolve("Exp(-Norm2(x-y))*a", ["x = Vi(3)", "y = Vj(3)", "a = Vj(2)"], "a", axis=1)
    points, alpha = x.clone().requires_grad_(), torch.tensor(0.1, requires_grad=True)
    ours = torch.autograd.grad((solver(points, points, b, alpha=alpha) ** 2).sum(), (points, alpha))
    points, alpha = x.double().requires_grad_(), alpha.detach().double().requires_grad_()
    off = ~torch.eye(numbers, dtype=torch.bool)
    r = torch.where(off, squared_distances(points, points), 1.0).sqrt()
    dense = solve(torch.where(off, (-r).exp(), 1.0), alpha, b.double())
    wanted = torch.autograd.grad((dense**2).sum(), (points, alpha))
    for got, want in zip(ours, wanted, strict=True):
        assert got.dtype == torch.float32 and got.shape == want.shape
        assert (got - want).norm() <= 1e-5 * want.norm()


def test_float32_data_are_differentiated_by_float64_products():
    """Rounding a and z to float32 leaves 5e-6 here; float32 products too would leave 2e-5."""
    draw = torch.Generator().manual_seed(0)
    x, b, e = (f(500, 2, generator=draw) for f in (torch.rand, torch.randn, torch.randn))
    solver = KernelSolve("Exp(-50*SqDist(x,y))*b", usual.aliases(2, 2), "b", axis=1)

    points = x.clone().requires_grad_()
    (found,) = torch.autograd.grad((solver(points, points, b, alpha=0.01, eps=1e-8) * e).sum(), points)

    wide = x.double().requires_grad_()
    K = torch.exp(-50 * ((wide[:, None] - wide) ** 2).sum(-1))
    a = torch.linalg.solve(K + 0.01 * torch.eye(500, dtype=torch.float64), b.double())
    (truth,) = torch.autograd.grad((a * e.double()).sum(), wide)
    assert (found - truth).norm() < 1e-5 * truth.norm()
