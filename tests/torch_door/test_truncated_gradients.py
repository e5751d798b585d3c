"""Derivatives under truncate=tol: those of the dense masked computation with the same pattern."""

import numpy as np
import pytest
import usual
from torch_dense import all_near, assert_near, derivatives, solve, squared_distances, torch

from kernelops import ArgumentError, KernelOperator
from kernelops.torch import Genred, KernelSolve
from kernelops.truncation import truncate as truncation

grad, jvp, vmap = (getattr(torch.func, name) for name in ("grad", "jvp", "vmap"))
N, M = 120, 90
XYBG = usual.aliases(2, 1, "g")
GAUSS = usual.SCALED_GAUSS
TOL, ALPHA = 0.3, 0.5


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(truncation, "POINTS_PER_BLOCK", 8)


def leaves(m=N, n=N, dtype=torch.float64, requires_grad=True):
    """Points in no order, b and g; the points of a solve are one tensor."""
    draw = torch.Generator().manual_seed(0)
    x, y = (6 * torch.rand((k, 2), generator=draw, dtype=torch.float64) for k in (m, n))
    b, g = torch.randn((n, 1), generator=draw, dtype=torch.float64), torch.tensor([1.7], dtype=torch.float64)
    return [t.to(dtype).requires_grad_(requires_grad) for t in (x, y, b, g)]


def pattern(x, y, g, **options):
    """The mask of the pattern that is taken for these tensors."""
    args = [t.detach().numpy() for t in (x, y, g)]
    ranges = KernelOperator(GAUSS, XYBG, "b", *args, **options).ranges
    mask = torch.from_numpy(ranges.mask(len(x), len(y)))
    assert 0 < (~mask).sum() < mask.numel() / 1.2
    return mask


def matrix(x, y, g, mask):
    return torch.where(mask, torch.exp(-g * squared_distances(x, y)), 0.0)


def test_derivatives_of_a_sum():
    x, y, b, g = leaves(M)
    mask = pattern(x, y, g, truncate=0.02)
    got, want = Genred(GAUSS, XYBG, axis=1)(x, y, b, g, truncate=0.02), matrix(x, y, g, mask) @ b
    assert_near(got, want)
    all_near(derivatives(got, [x, y, b, g]), derivatives(want, [x, y, b, g]))
    # another pattern has other derivatives: the comparison can fail
    whole, kept = (derivatives(matrix(x, y, g, m) @ b, [x, y, b, g]) for m in (torch.ones_like(mask), mask))
    assert any((a - w).abs().max() > 1e-7 for a, w in zip(whole, kept, strict=True))


def test_derivatives_of_a_sum_over_i():
    x, y, b, g = leaves(M)
    aliases = ["x = Vi(2)", "y = Vj(2)", "b = Vi(1)", "g = Pm(1)"]
    b = b.detach()[:M].requires_grad_()
    args = [t.detach().numpy() for t in (x, y, g)]
    mask = torch.from_numpy(KernelOperator(GAUSS, aliases, "b", *args, truncate=0.02).ranges.mask(M, N))
    got, want = Genred(GAUSS, aliases, axis=0)(x, y, b, g, truncate=0.02), matrix(x, y, g, mask).T @ b
    assert_near(got, want)
    all_near(derivatives(got, [x, y, b, g]), derivatives(want, [x, y, b, g]))


@pytest.mark.parametrize("op", ["LogSumExp", "SumSoftMaxWeight", "KMin"])
def test_derivatives_of_other_reductions(op):
    """What is left out of these is too small to count, or nothing: all pairs are the dense computation."""
    x, y, b, g = leaves(M)
    weight = {"formula2": "b"} if op == "SumSoftMaxWeight" else {}
    formula = "g*SqDist(x,y)" if op == "KMin" else "-4*g*SqDist(x,y)"
    aliases, args = (XYBG, [x, y, b, g]) if weight else ([*XYBG[:2], XYBG[3]], [x, y, g])
    call = Genred(formula, aliases, op, axis=1, opt_arg=3 if op == "KMin" else None, **weight)
    spec = call.spec
    how = spec.expr, spec.weight, spec.op, spec.axis, spec.opt_arg
    ranges = truncation.truncate_reduction(*how, call.adapter.bind(spec, args), 1e-13)
    assert ranges is not None and not ranges.mask(M, N).all()
    got, want = call(*args, truncate=1e-13), call(*args)
    assert_near(got, want)
    all_near(derivatives(got, args), derivatives(want, args), 1e-9)


@pytest.mark.parametrize("shape", [(), (N,), (N, 1)])
def test_derivatives_of_a_solve(shape):
    x, _, b, g = leaves()
    alpha = torch.linspace(ALPHA, 2 * ALPHA, N, dtype=torch.float64) if shape else torch.tensor(ALPHA).double()
    alpha = alpha.reshape(shape).requires_grad_()
    mask = pattern(x, x, g, alpha=alpha.detach().numpy(), truncate=TOL)
    assert (mask == mask.T).all()
    solver = KernelSolve(GAUSS, XYBG, "b", axis=1)
    got = solver(x, x, b, g, alpha=alpha, truncate=TOL, rtol=1e-13)
    want = solve(matrix(x, x, g, mask), alpha.reshape(-1) if shape else alpha, b)
    assert_near(got, want)
    inputs = [x, b, g, alpha]
    all_near(derivatives(got, inputs), derivatives(want, inputs), 1e-9)


def test_derivatives_of_determinants():
    """Exact for a dense factor; the log-determinant is that of the masked matrix."""
    x, _, b, g = leaves()
    alpha = torch.tensor(ALPHA, dtype=torch.float64, requires_grad=True)
    mask = pattern(x, x, g, alpha=ALPHA, truncate=TOL)
    solver = KernelSolve(GAUSS, XYBG, "b", axis=1)
    options = {"alpha": alpha, "truncate": TOL, "rtol": 1e-12, "method": "direct"}
    A = matrix(x, x, g, mask) + alpha * torch.eye(N, dtype=torch.float64)
    inv_quad, inputs = (b * torch.linalg.solve(A, b)).sum(), [x, b, g, alpha]
    value, stderr = solver.logdet(x, x, b, g, **options)
    found = solver.inv_quad_logdet(x, x, b, g, **options)
    assert stderr == 0 and found.stderr == 0
    assert_near(value, torch.logdet(A), 1e-9)
    assert_near(found.logdet, torch.logdet(A), 1e-9)
    assert_near(found.inv_quad, inv_quad, 1e-9)
    all_near(derivatives(value, [x, g, alpha]), derivatives(torch.logdet(A), [x, g, alpha]), 1e-8)
    A = matrix(x, x, g, mask) + alpha * torch.eye(N, dtype=torch.float64)
    total, want = found.inv_quad + 0.3 * found.logdet, (b * torch.linalg.solve(A, b)).sum() + 0.3 * torch.logdet(A)
    all_near(derivatives(total, inputs), derivatives(want, inputs), 1e-8)


def test_a_right_hand_side_of_zeros_has_a_gradient():
    """The pattern goes by the points alone."""
    x, y, b, g = leaves()
    zero = torch.zeros_like(b, requires_grad=True)
    K = matrix(x, y, g, pattern(x, y, g, truncate=0.02))
    Genred(GAUSS, XYBG, axis=1)(x, y, zero, g, truncate=0.02).sum().backward()
    assert_near(zero.grad, K.sum(0)[:, None])
    zero = torch.zeros_like(b, requires_grad=True)
    K = matrix(x, x, g, pattern(x, x, g, alpha=ALPHA, truncate=TOL))
    KernelSolve(GAUSS, XYBG, "b", axis=1)(x, x, zero, g, alpha=ALPHA, truncate=TOL, rtol=1e-13).sum().backward()
    assert_near(zero.grad, solve(K, ALPHA, torch.ones_like(b)))


def calls():
    product, solver = Genred(GAUSS, XYBG, axis=1), KernelSolve(GAUSS, XYBG, "b", axis=1)
    x, _, b, g = leaves(requires_grad=False)

    def sums(x, b, g):
        return product(x, x, b, g, truncate=0.02)

    def solves(x, b, g):
        return solver(x, x, b, g, alpha=ALPHA, truncate=TOL, rtol=1e-13)

    def determinants(x, b, g):
        return solver.logdet(x, x, b, g, alpha=ALPHA, truncate=TOL, method="direct")[0]

    masks = pattern(x, x, g, truncate=0.02), pattern(x, x, g, alpha=ALPHA, truncate=TOL)
    eye = ALPHA * torch.eye(N, dtype=torch.float64)
    truths = {
        sums: lambda x, b, g: matrix(x, x, g, masks[0]) @ b,
        solves: lambda x, b, g: solve(matrix(x, x, g, masks[1]), ALPHA, b),
        determinants: lambda x, b, g: torch.logdet(matrix(x, x, g, masks[1]) + eye),
    }
    return list(truths.items()), (x, b, g)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_torch_func(which):
    cases, args = calls()
    ours, dense = cases[which]
    directions = tuple(torch.sin(torch.arange(t.numel(), dtype=t.dtype)).reshape(t.shape) for t in args)

    def total(f):
        return lambda *args: (f(*args) ** 2).sum()

    all_near(grad(total(ours), (0, 1, 2))(*args), grad(total(dense), (0, 1, 2))(*args), 1e-9)
    all_near(jvp(ours, args, directions), jvp(dense, args, directions), 1e-9)

    # the second derivative times a direction, in both ways; torch's own derivative of jvp of a solve is another number
    curved = jvp(grad(total(dense), (0, 1, 2)), args, directions)[1]
    all_near(jvp(grad(total(ours), (0, 1, 2)), args, directions)[1], curved, 1e-8)
    all_near(grad(lambda *args: jvp(total(ours), args, directions)[1], (0, 1, 2))(*args), curved, 1e-8)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("mapped", [0, 1, 2])
def test_vmap_says_what_to_do(which, mapped):
    cases, args = calls()
    ours, _ = cases[which]
    dims = tuple(0 if k == mapped else None for k in range(3))
    many = tuple(torch.stack([t, t]) if d == 0 else t for t, d in zip(args, dims, strict=True))
    with pytest.raises(ArgumentError, match="vmap does not show: give ranges= instead, or batch dimensions"):
        vmap(ours, dims)(*many)


def test_batches_have_one_pattern():
    x, y, b, g = leaves(M)
    gs = torch.stack([g, 2 * g]).detach().requires_grad_()
    product = Genred(GAUSS, XYBG, axis=1)
    spec = product.spec
    how = spec.expr, spec.weight, spec.op, spec.axis, spec.opt_arg
    ranges = truncation.truncate_reduction(*how, product.adapter.bind(spec, (x, y, b, gs)), 0.02)
    mask = torch.from_numpy(ranges.mask(M, N))
    got = product(x, y, b, gs, truncate=0.02)
    want = torch.stack([matrix(x, y, each, mask) @ b for each in gs])
    assert_near(got, want)
    all_near(derivatives(got, [x, y, b, gs]), derivatives(want, [x, y, b, gs]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_other_precisions(dtype):
    x, y, b, g = leaves(M, dtype=dtype)
    got = Genred(GAUSS, XYBG, axis=1)(x, y, b, g, truncate=0.02)
    wide = [t.detach().double().requires_grad_() for t in (x, y, b, g)]
    mask = pattern(x, y, g, truncate=0.02)
    want = matrix(wide[0], wide[1], wide[3], mask) @ wide[2]
    tolerance = 50 * torch.finfo(dtype).eps
    assert got.dtype == dtype
    assert_near(got.double(), want, tolerance)
    found = [t.double() for t in derivatives(got, [x, y, b, g], order=1)]
    all_near(found, derivatives(want, wide, order=1), tolerance * 20)


def test_gradcheck():
    """Away from where the pattern changes: of the function that is computed, not of another one."""
    x, _, b, g = leaves(40, 40)
    solver = KernelSolve(GAUSS, XYBG, "b", axis=1)
    args = [t.detach().numpy() for t in (x, x, g)]
    assert KernelOperator(GAUSS, XYBG, "b", *args, alpha=ALPHA, truncate=TOL).ranges is not None

    def ours(x, b, g):
        return solver(x, x, b, g, alpha=ALPHA, truncate=TOL, rtol=1e-14)

    assert torch.autograd.gradcheck(ours, (x, b, g), fast_mode=True)
    assert np.isfinite(ours(x, b, g).detach().numpy()).all()
