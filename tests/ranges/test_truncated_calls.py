"""truncate=tol where there is nothing to leave out, in bad calls, in operators, determinants and preconditioners."""

import pickle

import numpy as np
import pytest
from scipy.sparse.linalg import cg
from truncated import GAUSS, XYB, M, N, chosen, cloud, distances, operator

import kernelops
from kernelops import ArgumentError, Ranges
from kernelops.numpy import Genred, KernelSolve
from kernelops.truncation import truncate as truncation


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 32 points, so that small clouds have many."""
    monkeypatch.setattr(truncation, "POINTS_PER_BLOCK", 32)


# ---- where nothing can be left out, and where there is nothing ----


@pytest.mark.parametrize(
    "formula",
    ["Cos(Norm2(x-y))*b", "(2 + Sin(Sum(x-y)))*b", "b", "b*(1 + SqDist(x,y))", "(3 + (x|y))*b", "Log(-x|y)*b"],
)
def test_formulas_that_do_not_decay_keep_every_pair(formula):
    x = 1 + 0.1 * cloud(dtype=np.float32) if "|" in formula else cloud(dtype=np.float32)
    for options in ({}, {"alpha": 1.0}, {"alpha": 1e-9}):
        if formula != "b":
            assert operator(formula, x, x, truncate=1e-5, **options).ranges is None
    aliases = XYB if formula != "b" else ["b = Vj(1)", "x = Vi(2)"]
    args = [{"x": x, "y": x, "b": np.ones((N, 1), np.float32)}[a[0]] for a in aliases]
    reduction = Genred(formula, aliases, axis=1)
    assert chosen(reduction, args, 1e-5) is None
    np.testing.assert_array_equal(reduction(*args, truncate=1e-5), reduction(*args))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["x", "y", "both"])
def test_nan_and_infinity_in_points_come_out_as_without_truncation(value, where):
    x, y = cloud(M), cloud(N, 1)
    if where != "y":
        x[7, 0] = value
    if where != "x":
        y[500, 1] = value
    b = np.random.default_rng(0).standard_normal((N, 1))
    for formula, scale in ((GAUSS, 1), ("1e-30*ReLU(1 - SqDist(x,y))*b", 1e-30)):
        product = Genred(formula, XYB, axis=1)
        got, want = product(x, y, b, truncate=1e-3), product(x, y, b)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_allclose(got, want, atol=0.3 * scale)
    for op in ("Min", "Max", "KMin"):
        reduction = Genred("SqDist(x,y)", XYB[:2], op, axis=1, opt_arg=3 if op == "KMin" else None)
        np.testing.assert_array_equal(reduction(x, y, truncate=0.5), reduction(x, y))


def test_nan_is_not_left_out_of_a_solve():
    """Whatever alpha is: its row would not tell."""
    x = cloud()
    x[3] = np.nan
    A = operator(GAUSS, x, x, alpha=1e12, truncate=0.5)
    assert A.ranges is None or A.ranges.mask(N, N)[3].all()


def test_empty_and_small():
    b = np.ones((0, 1))
    for m, n in ((0, 0), (0, 40), (40, 0), (1, 1), (1, 100), (100, 1), (33, 1)):
        x, y, b = cloud(m), cloud(n, 1), np.ones((n, 1))
        for op in ("Sum", "LogSumExp", "Min", "ArgMin"):
            reduction = Genred(GAUSS if op == "Sum" else "SqDist(x,y)", XYB if op == "Sum" else XYB[:2], op, axis=1)
            args = (x, y, b) if op == "Sum" else (x, y)
            np.testing.assert_allclose(reduction(*args, truncate=1e-12), reduction(*args), atol=1e-10)
    solver = KernelSolve(GAUSS, XYB, "b", axis=1)
    for n in (0, 1, 32, 33):
        x = cloud(n)
        a = solver(x, x, np.ones((n, 1)), alpha=0.1, truncate=1e-3, rtol=1e-9)
        np.testing.assert_allclose(a, solver(x, x, np.ones((n, 1)), alpha=0.1, rtol=1e-9), atol=1e-2)


def test_points_that_are_all_the_same():
    x = np.ones((N, 2))
    assert operator(GAUSS, x, x, truncate=1e-3).ranges is None
    assert Genred("SqDist(x,y)", XYB[:2], "KMin", axis=1, opt_arg=2)(x, x, truncate=0).max() == 0


# ---- doors ----


@pytest.mark.parametrize("value", [-1e-9, -1, 1, 1.0, 2, np.nan, np.inf, True, False, "1e-3", [1e-3], np.ones(1)])
def test_bad_tolerances(value):
    x = cloud(40)
    calls = [
        lambda: Genred(GAUSS, XYB)(x, x, x[:, :1], truncate=value),
        lambda: KernelSolve(GAUSS, XYB, "b", axis=1)(x, x, x[:, :1], truncate=value),
        lambda: KernelSolve(GAUSS, XYB, "b", axis=1).logdet(x, x, truncate=value),
        lambda: KernelSolve(GAUSS, XYB, "b", axis=1).inv_quad_logdet(x, x, x[:, :1], truncate=value),
        lambda: operator(GAUSS, x, x, truncate=value),
    ]
    for call in calls:
        with pytest.raises(ArgumentError, match="truncate: wanted a number from 0 to below 1, got "):
            call()


def test_ranges_beside_truncate():
    x = cloud(40)
    six = Ranges.dense(40, 40)
    for ranges in (six, six.as_tuple()):
        with pytest.raises(ArgumentError, match="truncate chooses the ranges: give one of the two"):
            operator(GAUSS, x, x, truncate=0.1, ranges=ranges)
    with pytest.raises(ArgumentError, match='ranges = "auto" means truncate = 0.001: leave one of them out'):
        operator(GAUSS, x, x, truncate=1e-3, ranges="auto")
    with pytest.raises(ArgumentError, match="""ranges: wanted a Ranges, six arrays, "auto" or None, got 'Auto'"""):
        Genred(GAUSS, XYB)(x, x, x[:, :1], ranges="Auto")
    with pytest.raises(kernelops.KeywordError, match="predict"):
        KernelSolve(GAUSS, XYB, "b", axis=1).predict(x, x, x[:, :1], at=x, truncate=1e-3)


def test_auto_is_a_thousandth():
    x = cloud()
    assert operator(GAUSS, x, x, ranges="auto").ranges == operator(GAUSS, x, x, truncate=1e-3).ranges
    b = np.ones((N, 1))
    solver, product = KernelSolve(GAUSS, XYB, "b", axis=1), Genred(GAUSS, XYB, axis=1)
    for call in (
        lambda **o: solver(x, x, b, alpha=0.1, **o),
        lambda **o: solver.logdet(x, x, alpha=0.1, **o)[0],
        lambda **o: solver.inv_quad_logdet(x, x, b, alpha=0.1, **o),
        lambda **o: product(x, x, b, **o),
    ):
        np.testing.assert_array_equal(call(ranges="auto"), call(truncate=1e-3))


# ---- operators ----


def test_an_operator_is_its_masked_matrix():
    x = cloud(dtype=np.float64)
    A = operator(GAUSS, x, x, alpha=0.2, truncate=1e-3)
    mask = A.ranges.mask(N, N)
    dense = np.where(mask, np.exp(-(distances(x, x) ** 2)), 0) + 0.2 * np.eye(N)
    V = np.random.default_rng(0).standard_normal((N, 3))
    I = [0, 5, 699, 5]
    np.testing.assert_allclose(A @ V, dense @ V, atol=1e-10)
    np.testing.assert_allclose(A.T @ V, dense.T @ V, atol=1e-10)
    np.testing.assert_allclose(A.rmatvec(V[:, 0]), dense.T @ V[:, 0], atol=1e-10)
    for got, want in (
        (A.to_dense(), dense),
        (A.columns(I), dense[:, I]),
        (A.rows(I), dense[I]),
        (A.block(I, [1, 2]), dense[np.ix_(I, [1, 2])]),
        (A.diagonal(), dense.diagonal()),
    ):
        np.testing.assert_allclose(got, want, atol=1e-12)
    again = pickle.loads(pickle.dumps(A))
    assert again.ranges == A.ranges and A.symmetric == again.symmetric == "yes"
    np.testing.assert_array_equal(again @ V, A @ V)
    v, info = cg(A, V[:, 0], rtol=1e-9)
    assert info == 0
    np.testing.assert_allclose(dense @ v, V[:, 0], atol=1e-6)
    solution = kernelops.solve(A, V, rtol=1e-9)
    assert solution.status == "converged"
    np.testing.assert_allclose(dense @ solution.x, V, atol=1e-6)


def test_a_rectangular_operator():
    x, y = cloud(M), cloud(N, 1)
    A = operator(GAUSS, x, y, truncate=1e-3)
    dense = np.where(A.ranges.mask(M, N), np.exp(-(distances(x, y) ** 2)), 0)
    v, w = np.random.default_rng(0).standard_normal((2, N))
    np.testing.assert_allclose(A @ v, dense @ v, atol=1e-11)
    np.testing.assert_allclose(A.T @ w[:M], dense.T @ w[:M], atol=1e-11)
    np.testing.assert_allclose(A.to_dense(), dense, atol=1e-12)


@pytest.mark.parametrize("method", ["cg", "block_cg", "direct"])
def test_determinants(method):
    x, b = cloud(400), np.random.default_rng(0).standard_normal((400, 1))
    solver = KernelSolve(GAUSS, XYB, "b", axis=1)
    A = operator(GAUSS, x, x, alpha=0.5, truncate=0.1).to_dense()
    assert np.count_nonzero(A == 0) > 1000
    options = {"alpha": 0.5, "truncate": 0.1, "method": method}
    value, stderr = solver.logdet(x, x, **options)
    assert abs(value - np.linalg.slogdet(A)[1]) <= 5 * stderr + 1e-6
    found = solver.inv_quad_logdet(x, x, b, **options)
    assert abs(found.inv_quad - (b * np.linalg.solve(A, b)).sum()) < 1e-5 * found.inv_quad
    assert found.logdet == value


@pytest.mark.parametrize("precond", [None, "jacobi", "fsai", "pivoted_cholesky", "nystrom"])
def test_preconditioners(precond):
    x, b = cloud(), np.random.default_rng(0).standard_normal((N, 1))
    solver = KernelSolve(GAUSS, XYB, "b", axis=1)
    options = {"alpha": 0.05, "truncate": 0.1, "precond": precond, "method": "cg"}
    a = solver(x, x, b, rtol=1e-8, **options)
    A = operator(GAUSS, x, x, alpha=0.05, truncate=0.1).to_dense()
    np.testing.assert_allclose(A @ a, b, atol=1e-6)
