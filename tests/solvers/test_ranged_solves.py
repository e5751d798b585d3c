"""Solves under ranges that have an order: every method and preconditioner, judged by dense masked float64 matrices."""

import re

import numpy as np
import pytest
from judges import assert_solves
from kernel_cases import ALIASES, NAMES, ROUGH, SMOOTH, hessian, points, rough, smooth
from pairwise import pairwise
from range_patterns import held

from kernelops import KernelOperator, Ranges, solve
from kernelops.errors import ArgumentError, RangesError
from kernelops.numpy import KernelSolve
from kernelops.solvers.entries import DenseEntries

N, ASKED = 180, 1e-6
X = points(N)
ORDER = np.random.default_rng(7).permutation(N)
LABELS = np.random.default_rng(8).integers(0, 4, N)
HESSIAN = "Exp(-4*SqDist(x,y))*(8*b-64*(x-y|b)*(x-y))"


def along(n, width, order):
    """Clusters of 30 rows which meet those up to so many away, in an order."""
    clusters = np.array([[k, k + 30] for k in range(0, n, 30)])
    number = np.arange(len(clusters))
    return Ranges.from_mask(clusters, clusters, abs(np.subtract.outer(number, number)) <= width).ordered(order, order)


def isolated(n, order):
    """Two blocks that meet themselves; between them and behind rows that are in no block."""
    clusters = [[0, 50], [90, 150]]
    return Ranges.from_mask(clusters, clusters, np.eye(2, dtype=bool)).ordered(order, order)


def two_orders(labels):
    """Clusters that meet themselves; within each, rows and columns stand in orders of their own."""
    draw = np.random.default_rng(10)
    order_i, order_j = (np.lexsort((draw.random(len(labels)), labels)) for _ in range(2))
    ends = np.cumsum(np.bincount(labels))
    clusters = np.stack([np.r_[0, ends[:-1]], ends], axis=1)
    return Ranges.from_mask(clusters, clusters, np.eye(len(ends), dtype=bool)).ordered(order_i, order_j)


class Case:
    """A formula with its matrix, cut off by ranges; alpha makes it positive definite where the pattern does not."""

    def __init__(self, formula, kernel, ranges, alpha=None, n=N):
        self.formula, self.ranges, self.x = formula, ranges, X[:n]
        K = kernel(self.x)
        self.width = len(K) // n
        self.K = K * np.kron(held(ranges, n, n), np.ones((self.width, self.width)))
        least = float(np.linalg.eigvalsh(self.K)[0])
        self.alpha = 0.1 + max(0.0, -least) if alpha is None else alpha
        self.A = self.K + np.diag(np.repeat(np.broadcast_to(self.alpha, n), self.width))
        assert np.linalg.eigvalsh(self.A)[0] > 0

    def b(self, columns=2):
        return np.random.default_rng(1).standard_normal((len(self.x), columns)).astype(np.float32)

    def operator(self, dtype="float64"):
        x = self.x.astype(dtype)
        return KernelOperator(self.formula, ALIASES, "b", x, x, alpha=self.alpha, ranges=self.ranges)

    def check(self, solution, b, asked=ASKED):
        assert solution.converged, solution.message
        shape = b.shape if self.width == 1 else (b.size, 1)
        assert_solves(self.A, solution.x.reshape(shape), b.reshape(shape), asked)
        assert (solution.residual <= asked).all()


PER_ROW = np.where(np.arange(N) % 60 == 0, 0.0, np.geomspace(0.01, 1.0, N))
CASES = {
    "a radius": Case(SMOOTH, smooth, Ranges.from_radius(X, X, 0.4, points_per_cluster=20)),
    "labels": Case(SMOOTH, smooth, Ranges.from_mask(LABELS, LABELS, np.eye(4, dtype=bool)), 1e-3),
    "neighbours in an order": Case(ROUGH, rough, along(N, 1, ORDER)),
    "rows and columns in two orders": Case(SMOOTH, smooth, two_orders(LABELS), 1e-3),
    "alpha by rows, some 0": Case(ROUGH, rough, Ranges.from_mask(LABELS, LABELS, np.eye(4, dtype=bool)), PER_ROW),
    "rows in no block": Case(SMOOTH, smooth, isolated(N, ORDER), 0.01),
    "matrix-valued": Case(HESSIAN, hessian, along(90, 0, np.random.default_rng(9).permutation(90)), 0.1, 90),
}
WAYS = [{"method": "direct"}, {"method": "block_cg"}, *({"method": "cg", "precond": name} for name in NAMES), {}]
EVERY_CASE = pytest.mark.parametrize("name", CASES)


@pytest.mark.parametrize(("name", "way", "dtype"), pairwise(list(CASES), WAYS, ["float32", "float64"]), ids=str)
def test_every_way(name, way, dtype):
    """float32 data: the iterations run in float32 and are refined; the points are the same numbers in both dtypes."""
    case = CASES[name]
    b = case.b().astype(dtype)
    if way.get("precond") == "pivoted_cholesky" and not np.all(np.asarray(case.alpha) > 0):
        with pytest.raises(ArgumentError, match="alpha"):
            solve(case.operator(dtype), b, **way)
        return
    given = b if case.width == 1 else b.reshape(-1)
    solution = solve(case.operator(dtype), given, **way)
    case.check(solution, b)
    solver = KernelSolve(case.formula, ALIASES, "b", axis=1)
    x = case.x.astype(dtype)
    a, solution = solver(x, x, b, alpha=case.alpha, ranges=case.ranges, return_solution=True, **way)
    case.check(solution, b)
    assert a.dtype == dtype and a.shape == b.shape


@EVERY_CASE
def test_eight_digits_more(name):
    """From float32 data too: what is asked of a refined solution is not what float32 has."""
    case, b = CASES[name], CASES[name].b()
    for dtype in ("float32", "float64"):
        given = b.astype(dtype) if case.width == 1 else b.astype(dtype).reshape(-1)
        case.check(solve(case.operator(dtype), given, rtol=1e-11), b, 1e-11)


@pytest.mark.parametrize("precond", ["fsai", "jacobi", None])
def test_rows_in_no_block(precond):
    """Their equation is alpha a = b, in the order of the arrays."""
    case = CASES["rows in no block"]
    apart = ~held(case.ranges, N, N).any(1)
    assert apart.sum() == 70
    b = case.b().astype(float)
    solution = solve(case.operator(), b, method="cg", precond=precond, rtol=1e-10)
    error = solution.x[apart] - b[apart] / 0.01
    assert (np.abs(error) <= 1.1e-10 * np.linalg.norm(b, axis=0) / 0.01).all(), "alpha times it is part of a residual"


@EVERY_CASE
def test_products(name):
    case = CASES[name]
    V = np.random.default_rng(2).standard_normal((len(case.A), 3))
    A = case.operator()
    size = np.abs(case.A) @ np.abs(V)
    for found in (A @ V, A.T @ V, np.stack([A @ v for v in V.T], 1)):
        assert (np.abs(found - case.A @ V) <= 1e-13 * size).all()
    np.testing.assert_allclose(A.to_dense(), case.A, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(A.diagonal(), np.diag(case.A), rtol=1e-13)
    assert A.symmetric != "no"


# ---- entry by entry -----------------------------------------------------------------------------------------------

SUMMED_OVER = {  # the index of the unknown -> declarations
    "j": ALIASES,
    "i": ["x = Vi(2)", "y = Vj(2)", "b = Vi(2)"],
}


@pytest.mark.parametrize("over", SUMMED_OVER)
@EVERY_CASE
def test_entries(name, over):
    case = CASES[name]
    A = KernelOperator(case.formula, SUMMED_OVER[over], "b", case.x, case.x, alpha=case.alpha, ranges=case.ranges)
    (found,), truth, draw = A.entries, DenseEntries(case.K, case.width), np.random.default_rng(3)
    J, I = draw.integers(0, found.n, 17), draw.integers(0, found.n, (11, 7))
    small = {"rtol": 1e-12, "atol": 1e-14 * np.abs(case.K).max()}
    np.testing.assert_allclose(found.diagonal(), truth.diagonal(), **small)
    np.testing.assert_allclose(found.blocks(I), truth.blocks(I), **small)
    np.testing.assert_allclose(found.columns(J), truth.columns(J), **small)
    np.testing.assert_allclose(found.columns(J, 31), truth.columns(J, 31), **small)
    assert found.density == pytest.approx(held(case.ranges, len(case.x), len(case.x)).mean())
    for count in (1, 5, len(case.x)):
        rank = draw.permutation(len(case.x))
        near = found.neighbours(rank, count)
        assert_neighbours(near, truth, rank, count)


def assert_neighbours(near, truth, rank, count):
    """The same as of the dense matrix; where two are as correlated, to rounding, either."""
    n, w = len(rank), truth.width
    size = np.sqrt((truth.K.reshape(n, w, n, w) ** 2).sum((1, 3)))
    want = truth.neighbours(rank, count)
    np.testing.assert_array_equal(near < 0, want < 0)
    rows = np.arange(n)[:, None]
    scaled = size / np.sqrt(np.diag(size).clip(1e-300))
    got, best = (np.where(a < 0, 0, scaled[rows, a]) for a in (near, want))
    np.testing.assert_allclose(got, best, rtol=1e-10)
    chosen = np.sort(near, 1)
    assert (np.diff(chosen, axis=1)[chosen[:, 1:] >= 0] > 0).all(), "none twice"
    assert (rank[near] < rank[:, None])[near >= 0].all()


# ---- what is refused ----------------------------------------------------------------------------------------------

CLUSTERS = np.array([[0, 60], [60, N]])
BOTH = Ranges.from_mask(CLUSTERS, CLUSTERS, np.eye(2, dtype=bool))
LOPSIDED = {
    "a triangle": Ranges.lower_triangular(N, 30),
    "a triangle in an order": Ranges.lower_triangular(N, 30).ordered(ORDER, ORDER),
    "the orders differ": BOTH.ordered(ORDER, ORDER[::-1].copy()),
    "rows alone have an order": BOTH.ordered(order_i=ORDER),
    "columns alone have an order": BOTH.ordered(order_j=ORDER),
}


@pytest.mark.parametrize("name", LOPSIDED)
def test_a_pattern_that_is_not_symmetric(name):
    ranges = LOPSIDED[name]
    mask = held(ranges, N, N)
    assert (mask != mask.T).any() and not ranges.is_symmetric()
    solver = KernelSolve(SMOOTH, ALIASES, "b", axis=1)
    b = np.ones((N, 2))
    for call in (solver, solver.inv_quad_logdet, solver.logdet):
        with pytest.raises(RangesError, match="ranges: a solve needs a symmetric pattern"):
            call(X, X, b, alpha=1.0, ranges=ranges)
    A = KernelOperator(SMOOTH, ALIASES, "b", X, X, alpha=1.0, ranges=ranges)
    np.testing.assert_allclose(A @ b, (smooth(X) * mask + np.eye(N)) @ b, rtol=1e-12)
    np.testing.assert_allclose(A.T @ b, (smooth(X) * mask.T + np.eye(N)) @ b, rtol=1e-12)
    assert A.symmetric == "no"
    with pytest.raises(ArgumentError, match=re.compile("symmetric", re.IGNORECASE)):
        solve(A, b)


def test_an_order_that_says_nothing_is_none():
    """That of the rows as they stand, on one side only."""
    solver = KernelSolve(SMOOTH, ALIASES, "b", axis=1)
    b = np.ones((N, 2))
    want = solver(X, X, b, alpha=1.0, ranges=BOTH)
    for orders in ((np.arange(N), None), (None, np.arange(N)), (np.arange(N), np.arange(N))):
        np.testing.assert_array_equal(solver(X, X, b, alpha=1.0, ranges=BOTH.ordered(*orders)), want)


def test_an_order_of_another_size():
    with pytest.raises(RangesError, match=f"order_i: has {N} rows, there are M = {N - 1} rows of i"):
        KernelOperator(SMOOTH, ALIASES, "b", X[1:], X[1:], ranges=BOTH.ordered(ORDER, ORDER))


def test_determinants():
    case = CASES["labels"]
    solver = KernelSolve(case.formula, ALIASES, "b", axis=1)
    b = case.b().astype(float)
    found = solver.inv_quad_logdet(X, X, b, alpha=case.alpha, ranges=case.ranges, method="direct")
    assert found.logdet == pytest.approx(np.linalg.slogdet(case.A)[1], rel=1e-9)
    assert found.inv_quad == pytest.approx((b * np.linalg.solve(case.A, b)).sum(), rel=1e-6)
    value, stderr = solver.logdet(X, X, alpha=case.alpha, ranges=case.ranges, method="cg", n_probes=30)
    assert abs(value - found.logdet) <= 5 * stderr + 1e-3 * abs(found.logdet)
