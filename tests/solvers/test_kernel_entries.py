"""KernelEntries: columns, blocks and neighbours of K against the dense matrix, for every kind of kernel."""

from __future__ import annotations

import numpy as np
import pytest
import usual

from kernelops import KernelOperator, Ranges
from kernelops.arrays.arguments import bind_arguments
from kernelops.formula.parse import parse
from kernelops.numpy import KernelSolve
from kernelops.operators.kernel_entries import TRIANGLE, KernelEntries
from kernelops.reductions.pairs import evaluate_all_pairs
from kernelops.solvers.entries import DenseEntries, most_correlated
from kernelops.solvers.operator import as_system

VECTORS = usual.aliases(3, 3)
SCALARS = usual.aliases(3, 1)
KERNELS = {  # name -> formula, aliases
    "Gaussian": (usual.GAUSS, SCALARS),
    "over i": (usual.LAPLACE, ["x = Vi(3)", "y = Vj(3)", "b = Vi(1)"]),
    "linear": ("(x|y)*b", SCALARS),
    "constant": ("b", ["b = Vj(1)", "x = Vi(3)", "y = Vj(3)"]),
    "with a parameter": (usual.SCALED_GAUSS, [*SCALARS, "g = Pm(1)"]),
    "weights": ("u*w*Exp(-SqDist(x,y))*b", [*SCALARS, "u = Vi(1)", "w = Vj(1)"]),
    "matrix-valued": ("Exp(-SqDist(x,y))*((x-y|b)*(x-y)+b)", VECTORS),
    "matrix-valued over i": ("Exp(-SqDist(x,y))*((x-y|b)*(x-y)+b)", ["x = Vi(3)", "y = Vj(3)", "b = Vi(3)"]),
}
PATTERN = Ranges.from_mask(
    [[0, 20], [20, 45], [45, 60]], [[0, 20], [20, 45], [45, 60]], np.tri(3, 3, 1) * np.tri(3, 3, 1).T > 0
)


def operator(name, n=60, dtype="float64", ranges=None, seed=0):
    formula, aliases = KERNELS[name]
    draw = np.random.default_rng(seed)
    x, w = draw.random((n, 3)).astype(dtype), draw.random((n, 1)).astype(dtype) + 0.5
    given = {"x": x, "y": x, "u": w, "w": w, "g": np.array([2.0], dtype)}
    args = [given[alias[0]] for alias in aliases if alias[0] != "b"]
    return KernelOperator(formula, aliases, "b", *args, alpha=0.5, ranges=ranges)


def dense(A):
    """K without alpha, by products in float64, and its entries."""
    K = A.kernel_product.on_columns(np.eye(A.shape[0]))
    return DenseEntries(K, A.entries[0].width)


@pytest.mark.parametrize("ranges", [None, PATTERN], ids=["all pairs", "ranges"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", KERNELS)
def test_entries(name, dtype, ranges):
    A = operator(name, dtype=dtype, ranges=ranges)
    found, truth = A.entries[0], dense(A)
    draw = np.random.default_rng(1)
    J, I = draw.integers(0, found.n, 17), draw.integers(0, found.n, (11, 7))
    size = 1e-14 * np.abs(truth.K).max()  # both in float64, of the same float32 or float64 points
    assert found.n == truth.n == A.shape[0]
    np.testing.assert_allclose(found.diagonal(), truth.diagonal(), rtol=1e-13, atol=size)
    np.testing.assert_allclose(found.columns(J), truth.columns(J), rtol=1e-13, atol=size)
    np.testing.assert_allclose(found.blocks(I), truth.blocks(I), rtol=1e-13, atol=size)
    assert found.columns(J).dtype == found.blocks(I).dtype == found.diagonal().dtype == np.float64
    assert found.work > 0 and found.density == (1 if ranges is None else ranges.density(60, 60))


@pytest.mark.parametrize("name", KERNELS)
def test_none_of_anything(name):
    found = operator(name).entries[0]
    assert found.columns(np.zeros(0, int)).shape == (found.n, 0)
    assert found.blocks(np.zeros((0, 5), int)).shape == (0, 5, 5)
    assert found.blocks(np.zeros((5, 0), int)).shape == (5, 0, 0)
    empty = operator(name, n=0).entries[0]
    assert empty.diagonal().shape == (0,) and empty.columns(np.zeros(0, int)).shape == (0, 0)
    assert empty.neighbours(np.zeros(0, int), 4).shape == (0, 4) and empty.coordinates is None


@pytest.mark.parametrize("ranges", [None, PATTERN], ids=["all pairs", "ranges"])
@pytest.mark.parametrize("name", [name for name in KERNELS if name != "constant"])
def test_neighbours(name, ranges):
    A = operator(name, ranges=ranges)
    rank = np.random.default_rng(2).permutation(60)
    found, truth = A.entries[0].neighbours(rank, 9), dense(A).neighbours(rank, 9)
    assert found.shape == truth.shape == (60, 9)
    np.testing.assert_array_equal(found, truth)  # float64 data: no ties at random points


def test_neighbours_of_many_points():
    """Blocks of rows meet the columns up to their last one: on both sides of a block's end, and of one block."""
    for n in (TRIANGLE - 1, TRIANGLE, TRIANGLE + 1, 2 * TRIANGLE + 3):
        A = operator("Gaussian", n)
        rank = np.random.default_rng(3).permutation(n)
        found = A.entries[0].neighbours(rank, 5)
        assert (rank[found] < rank[:, None])[found >= 0].all() and (found[rank >= 5] >= 0).all()
        np.testing.assert_array_equal(found, dense(A).neighbours(rank, 5))


def test_the_first_have_fewer_and_isolated_ones_none():
    x = np.array([[0.0], [0.1], [1000.0], [0.2]])
    A = KernelOperator(usual.GAUSS, usual.aliases(1, 1), "b", x, x)
    found = A.entries[0].neighbours(np.array([2, 0, 1, 3]), 3)
    assert found.tolist() == [[1, -1, -1], [-1, -1, -1], [-1, -1, -1], [1, 0, -1]]


def test_most_correlated():
    assert most_correlated(np.array([[0.5, -1.0, 0.0, 0.7], [0.0, 0.0, 0.0, 0.0]]), 6).tolist() == [
        [3, 0, -1, -1, -1, -1],
        [-1] * 6,
    ]


@pytest.mark.parametrize(
    "name, falls",
    [("Gaussian", True), ("over i", True), ("with a parameter", True), ("linear", False), ("weights", False)],
)
def test_coordinates(name, falls):
    A = operator(name, 300)
    found = A.entries[0].coordinates
    assert (found is not None) == falls
    if falls:
        np.testing.assert_array_equal(found, A.kernel_product.arguments.arrays[0])


def test_no_coordinates_where_they_would_mislead():
    x = np.random.default_rng(0).random((50, 3))
    args = usual.GAUSS, SCALARS, "b"
    assert KernelOperator(*args, x, x + 1).entries[0].coordinates is None  # other points
    assert operator("Gaussian", ranges=PATTERN).entries[0].coordinates is None
    stretched = KernelOperator(
        "Exp(-WeightedSqDist(s,x,y))*b", [*SCALARS, "s = Pm(3)"], "b", x, x, np.array([1.0, 50, 0])
    )
    assert stretched.entries[0].coordinates is None
    x[3] = np.nan
    assert KernelOperator(*args, x, x).entries[0].coordinates is None


def test_only_square_operators_have_entries():
    x = np.zeros((3, 3))
    assert KernelOperator(usual.GAUSS, SCALARS, "b", x, np.zeros((4, 3))).entries == ()
    assert as_system(np.eye(3)).entries[0].n == 3 and as_system(np.eye(3)).alpha == 0
    assert as_system(operator("Gaussian")).alpha == 0.5


def test_entries_of_a_batch():
    """Each element has its own, whichever of the arrays has the batch dimensions."""
    draw = np.random.default_rng(4)
    x, g, b = draw.random((2, 1, 20, 3)), draw.random((3, 1)), draw.random((20, 1))
    solver = KernelSolve(usual.SCALED_GAUSS, ["x = Vi(3)", "y = Vj(3)", "g = Pm(1)", "b = Vj(1)"], "b", axis=1)
    _, solution = solver(x, x, g, b, alpha=1.0, method="direct", return_solution=True)
    assert len(solution.preconditioners) == 6
    for p, (i, j) in zip(solution.preconditioners, np.ndindex(2, 3), strict=True):
        squares = ((x[i, 0][:, None] - x[i, 0]) ** 2).sum(-1)
        np.testing.assert_allclose(p.L @ p.L.T, np.exp(-g[j] * squares) + np.eye(20), rtol=1e-12)


def test_pairwise_in_both_precisions():
    """All pairs at once, vectors too, over more columns than a tile has."""
    draw = np.random.default_rng(5)
    x, y = draw.random((37, 2)).astype("f"), draw.random((600, 2)).astype("f")
    formula = parse("Concat(SqDist(x,y), x-y)", ["x = Vi(2)", "y = Vj(2)"])
    arguments = bind_arguments(formula.variables, (x, y), formula.names)
    difference = x[:, None].astype(float) - y
    truth = np.concatenate([(difference**2).sum(-1, keepdims=True), difference], -1)
    for dtype in (np.float32, np.float64):
        found = evaluate_all_pairs(formula.expr, arguments, None, np.dtype(dtype))
        assert found.dtype == dtype and found.shape == (37, 600, 3)
        np.testing.assert_allclose(found, truth, rtol=0, atol=4 * np.finfo(dtype).eps)


def test_what_ranges_leave_out_is_0_even_where_the_formula_is_not_finite():
    x = np.repeat(np.arange(40.0), 2)[:, None]  # every point twice: 1/|x - y| is infinite beside the diagonal blocks
    ranges = Ranges.from_mask([[0, 40], [40, 80]], [[0, 40], [40, 80]], np.array([[False, True], [True, False]]))
    A = KernelOperator("Inv(SqDist(x,y))*b", usual.aliases(1, 1), "b", x, x, ranges=ranges)
    entries = KernelEntries(A.kernel_product)
    found = entries.columns(np.arange(80))
    with np.errstate(divide="ignore"):
        dense = np.where(ranges.mask(80, 80), 1 / (x - x.T) ** 2, 0.0)
    np.testing.assert_allclose(found, dense, rtol=1e-12)
    np.testing.assert_array_equal(entries.diagonal(), 0.0)


@pytest.mark.parametrize("how", [{}, {"precond": "fsai"}, {"method": "cg"}, {"truncate": 1e-4}], ids=str)
@pytest.mark.parametrize("size", [2.0**510, 2.0**660, 2.0**-660])
def test_a_solve_with_points_whose_squared_distances_leave_float64(size, how):
    """A parameter brings them back to where distances count: the solution is that of points near 1, to the bit."""
    formula, aliases = "Exp(-SqDist(g*x,g*y))*b", usual.aliases(2, 1, "g")
    x, b = np.random.default_rng(0).random((400, 2)), np.random.default_rng(1).random((400, 1))
    solver = KernelSolve(formula, aliases, "b", axis=1)
    here, there = (
        solver(x * s, x * s, b, np.array([20 / s]), alpha=0.1, return_solution=True, **how) for s in (1.0, size)
    )
    assert (here[1].method, here[1].precond) == (there[1].method, there[1].precond)
    np.testing.assert_array_equal(here[0], there[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("how", [{}, {"precond": "fsai"}, {"method": "cg"}, {"method": "direct"}], ids=str)
def test_a_solve_with_points_out_of_each_others_reach(how, alpha, dtype):
    """K is the unit matrix there."""
    x = (np.random.default_rng(0).random((400, 2)) * np.finfo(dtype).max).astype(dtype)
    b = np.random.default_rng(1).random((400, 1)).astype(dtype)
    solver = KernelSolve(usual.GAUSS, usual.aliases(2, 1), "b", axis=1)
    np.testing.assert_allclose(solver(x, x, b, alpha=alpha, **how), b / (1 + alpha), rtol=2e-6)
