"""Derivatives of reductions and solves under ranges that have an order, against dense masked torch in float64."""

import numpy as np
import pytest
import usual
from range_patterns import held
from reduce_cases import ALIASES, REDUCTIONS, SCALAR, VECTOR, dense_formulas, leaf
from solve_cases import CASES
from torch_dense import all_near, assert_near, derivatives, reduce, solve, squared_distances, torch

from kernelops import Ranges
from kernelops.errors import RangesError
from kernelops.torch import Genred, KernelSolve

M, N = 11, 13
DRAW = np.random.default_rng(0)
ORDER_I, ORDER_J = DRAW.permutation(M), DRAW.permutation(N)
X, Y = (leaf(n, 2, seed=n).detach().tanh() for n in (M, N))
# every row and every column meets something, and more than the K of a case
KEEP = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]], bool)
BLOCKS_I, BLOCKS_J = [[0, 4], [4, 7], [7, M]], [[0, 4], [4, 8], [8, N]]
PLAIN = Ranges.from_mask(BLOCKS_I, BLOCKS_J, KEEP)
PATTERNS = {
    "both orders": PLAIN.ordered(ORDER_I, ORDER_J),
    "order of i": PLAIN.ordered(order_i=ORDER_I),
    "order of j": PLAIN.ordered(order_j=ORDER_J),
    "a radius": Ranges.from_radius(X, Y, 0.8, points_per_cluster=3),
}
AXES = pytest.mark.parametrize("axis", [0, 1])
EVERY_PATTERN = pytest.mark.parametrize("pattern", PATTERNS)


def both(name, axis, ranges, leaves):
    """Our reduction of the leaves and torch's, under a mask read off the ranges."""
    op, formula, weight, K = REDUCTIONS[name]
    mask = torch.from_numpy(held(ranges, M, N))
    assert mask.any(0).all() and mask.any(1).all() and not mask.all()
    found = Genred(formula, ALIASES, op, axis, opt_arg=K, formula2=weight)(*leaves, ranges=ranges)
    formulas = dense_formulas(*leaves)
    weights = None if weight is None else formulas[weight]
    want = reduce(op, formulas[formula], axis, mask, weights, K or 1)
    return (found[0] if isinstance(found, tuple) else found), want


def leaves_of(layout):
    x = leaf(2, 1, M, 2, seed=0) if layout == "batches" else X.clone().requires_grad_()
    y = leaf(3, N, 2, seed=1) if layout == "batches" else Y.clone().requires_grad_()
    return [x, y, leaf(N, 2, seed=2), leaf(1, seed=3), leaf(2, seed=4)]


@pytest.mark.parametrize("layout", ["as they are", "batches"])
@EVERY_PATTERN
@AXES
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name, axis, pattern, layout):
    """First and second order, to every argument."""
    leaves = leaves_of(layout)
    got, want = both(name, axis, PATTERNS[pattern], leaves)
    assert_near(got, want)
    all_near(derivatives(got, leaves), derivatives(want, leaves))


@pytest.mark.parametrize("pattern", ["both orders", "order of j"])
@AXES
@pytest.mark.parametrize("name", ["Sum", "SumSoftMaxWeight"])
def test_against_differences(name, axis, pattern):
    def ours(*leaves):
        return both(name, axis, PATTERNS[pattern], leaves)[0]

    leaves = leaves_of("as they are")
    assert torch.autograd.gradcheck(ours, leaves, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(ours, leaves, fast_mode=True)


@AXES
@pytest.mark.parametrize("name", REDUCTIONS)
def test_rows_that_meet_nothing_have_gradient_0(name, axis):
    op, formula, weight, K = REDUCTIONS[name]
    ranges = Ranges.from_mask([[0, 4], [6, M]], [[0, 5], [9, N]], np.ones((2, 2), bool)).ordered(ORDER_I, ORDER_J)
    mask, leaves = held(ranges, M, N), leaves_of("as they are")
    found = Genred(formula, ALIASES, op, axis, opt_arg=K, formula2=weight)(*leaves, ranges=ranges)
    found = found[0] if isinstance(found, tuple) else found
    x, y = torch.autograd.grad(torch.where(found.isfinite(), found, 0.0).sum(), leaves[:2], materialize_grads=True)
    alone_i, alone_j = (torch.from_numpy(~mask.any(a)) for a in (1, 0))
    assert alone_i.sum() == 2 and alone_j.sum() == 4
    assert not x[alone_i].any() and not y[alone_j].any() and x.isfinite().all() and y.isfinite().all()
    assert x[~alone_i].any() and y[~alone_j].any()


def test_indices_are_those_of_the_arrays():
    ranges, leaves = PATTERNS["both orders"], leaves_of("as they are")
    mask = torch.from_numpy(held(ranges, M, N))
    values = dense_formulas(*leaves)
    for axis in (0, 1):
        for text, key in ((SCALAR, SCALAR), (VECTOR, VECTOR)):
            indices = Genred(text, ALIASES, "ArgMin", axis)(*leaves, ranges=ranges)
            masked = torch.where(mask[..., None], values[key], torch.inf)
            assert indices.dtype == torch.int64 and torch.equal(indices, masked.argmin(1 if axis == 1 else 0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@AXES
def test_lower_precisions(dtype, axis):
    ranges, leaves = PATTERNS["both orders"], [t.detach().to(dtype) for t in leaves_of("as they are")]
    got, want = both("Sum", axis, ranges, leaves)[0], both("Sum", axis, ranges, [t.double() for t in leaves])[1]
    assert got.dtype == dtype
    assert_near(got.double(), want, 16 * torch.finfo(dtype).eps)


def test_over_several_tiles():
    """The sum, whose pairs are evaluated once, and gradients, whose pairs are not all."""
    n = 1100
    draw = torch.Generator().manual_seed(0)
    x, b = (torch.randn(n, d, generator=draw, dtype=torch.float64).requires_grad_() for d in (2, 3))
    ranges = Ranges.from_radius(x, x, 0.5)
    mask = torch.from_numpy(held(ranges, n, n))
    assert 0 < mask.double().mean() < 0.95
    got = Genred(usual.GAUSS, usual.aliases(2, 3), axis=1)(x, x, b, ranges=ranges)
    want = torch.where(mask, (-squared_distances(x, x)).exp(), 0.0) @ b
    assert_near(got, want)
    all_near(derivatives(got, [x, b]), derivatives(want, [x, b]))


# ---- solves -------------------------------------------------------------------------------------------------------

POINTS = 6  # those of solve_cases
TURN = np.random.default_rng(1).permutation(POINTS)
TWO = [[0, 2], [2, POINTS]]
SOLVED = Ranges.from_mask(TWO, TWO, np.eye(2, dtype=bool)).ordered(TURN, TURN)  # keeps positive matrices positive
MASK = torch.from_numpy(held(SOLVED, POINTS, POINTS))
RANGED = [case for case in CASES if "ranges" not in case.name]


def dense_solve(case, leaves, alpha=None):
    """As the case's own, with the matrix cut off: entries (i, j), or blocks (i, :, j, :)."""
    K = case.matrix(*leaves)
    n = POINTS
    cut = MASK[:, None, :, None] if K.ndim >= 4 and K.shape[-4:] == (n, 2, n, 2) else MASK
    return solve(torch.where(cut, K, 0.0), case.alpha if alpha is None else alpha, case.arguments(*leaves)[case.place])


@pytest.mark.parametrize("case", RANGED, ids=lambda c: c.name)
def test_solves(case):
    leaves = case.leaves()
    got, want = case.ours(*leaves, ranges=SOLVED), dense_solve(case, leaves)
    assert_near(got, want)
    all_near(derivatives(got, leaves), derivatives(want, leaves))


@pytest.mark.parametrize("method", [{"method": "direct"}, {"precond": "fsai"}, {"method": "block_cg"}], ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (POINTS,), (POINTS, 1)])
@pytest.mark.parametrize("name", ["Gaussian", "over i", "matrix-valued"])
def test_gradients_to_alpha(name, shape, method):
    case = next(c for c in CASES if c.name == name)
    leaves = case.leaves()
    alpha = torch.linspace(0.2, 0.9, int(np.prod(shape, dtype=int)), dtype=torch.float64)
    alpha = alpha.reshape(shape).requires_grad_()
    options = {"method": "cg", "precond": None} | method
    options = {"precond": "auto", "method": "direct"} if options["method"] == "direct" else options
    got = case.ours(*leaves, alpha=alpha, ranges=SOLVED, **options)
    want = dense_solve(case, leaves, alpha.reshape(-1) if shape == (POINTS, 1) else alpha)
    assert_near(got, want)
    all_near(derivatives(got, [alpha, *leaves]), derivatives(want, [alpha, *leaves]))


def test_solves_against_differences():
    case = next(c for c in CASES if c.name == "Gaussian")
    alpha = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)

    def ours(alpha, *leaves):
        return case.ours(*leaves, alpha=alpha, ranges=SOLVED)

    inputs = (alpha, *case.leaves())
    assert torch.autograd.gradcheck(ours, inputs, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(ours, inputs, fast_mode=True)


def test_log_determinants():
    """With the dense factor: the value and its gradient are exact."""
    case = next(c for c in CASES if c.name == "Gaussian")
    leaves = case.leaves()
    alpha = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    solver = KernelSolve(case.formula, case.aliases, "b", axis=1)
    found = solver.inv_quad_logdet(*case.arguments(*leaves), alpha=alpha, ranges=SOLVED, method="direct")
    A = torch.where(MASK, case.matrix(*leaves), 0.0) + alpha * torch.eye(POINTS, dtype=torch.float64)
    b = case.arguments(*leaves)[case.place]
    want = (b * torch.linalg.solve(A, b)).sum(), torch.logdet(A)
    for g, w in zip((found.inv_quad, found.logdet), want, strict=True):
        assert_near(g, w)
        all_near(*(torch.autograd.grad(v, [alpha, *leaves], retain_graph=True, materialize_grads=True) for v in (g, w)))


def test_orders_that_differ_are_refused():
    case = next(c for c in CASES if c.name == "Gaussian")
    other = Ranges.from_mask(TWO, TWO, np.eye(2, dtype=bool)).ordered(TURN, TURN[::-1].copy())
    with pytest.raises(RangesError, match="ranges: a solve needs a symmetric pattern"):
        case.ours(*case.leaves(), ranges=other)
