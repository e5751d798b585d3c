"""The diagonal and diagonal blocks against dense, and what stands in where they are not positive."""

import numpy as np
import pytest
import scipy.sparse.linalg as sla
from gaussians import assert_factor, diagonal_of, exponential, points

from kernelops.solvers.entries import DenseEntries
from kernelops.solvers.precond.jacobi import SMALLEST, Jacobi

ROWS = np.arange(12) % 3 * 0.1


def blocks_of(A, width):
    points = np.arange(len(A)) // width
    return np.where(points[:, None] == points, A, 0.0)


@pytest.mark.parametrize("alpha", [0.0, 0.1, ROWS], ids=["none", "scalar", "rows"])
@pytest.mark.parametrize("width", [1, 2, 3, 12])
def test_against_dense(width, alpha):
    scale = np.geomspace(1, 10, 12)
    K = exponential(points(12), 0.5) * np.outer(scale, scale)
    M = Jacobi(DenseEntries(K, width), alpha)
    P = blocks_of(K + diagonal_of(alpha, 12), width)
    np.testing.assert_allclose(M._matmat(P), np.eye(12), rtol=0, atol=1e-11)
    np.testing.assert_allclose(M.logdet, np.linalg.slogdet(P)[1], rtol=1e-12)
    assert_factor(P, M)
    assert (M.name, M.rank, M.columns, M.replaced) == ("jacobi", 0, 0, 0)
    assert M.describe() == ("the diagonal" if width == 1 else f"diagonal blocks of {width} rows")


def test_dtypes_of_blocks():
    M = Jacobi(DenseEntries(exponential(points(12), 0.5), 2), 0.1)
    V = np.random.default_rng(0).standard_normal((12, 3))
    for dtype in ("f", "d", "F", "D"):
        got = M._matmat(V.astype(dtype))
        assert got.dtype.char == dtype
        np.testing.assert_allclose(got, M._matmat(V), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(M @ np.arange(12), M @ np.arange(12.0))


FAULTY = {  # K of blocks of two rows, and what P is there
    "negative eigenvalue": ([[1.0, 2.0], [2.0, 1.0]], [[1.5, 1.5], [1.5, 1.5]]),
    "singular": ([[1.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]),
    "negative": ([[-1.0, 0.0], [0.0, -2.0]], [[4.0, 0.0], [0.0, 4.0]]),
    "zero": ([[0.0, 0.0], [0.0, 0.0]], [[4.0, 0.0], [0.0, 4.0]]),
}


@pytest.mark.parametrize("bad, instead", FAULTY.values(), ids=FAULTY)
def test_blocks_that_are_not_positive_definite(bad, instead):
    """The good block has eigenvalues 3 and 5, whose mean is 4."""
    K = np.zeros((4, 4))
    K[:2, :2], K[2:, 2:] = [[4.0, 1.0], [1.0, 4.0]], bad
    M = Jacobi(DenseEntries(K, 2), 0.0)
    assert M.replaced == 1
    if np.trace(bad) > 0:
        values, vectors = np.linalg.eigh(K[2:, 2:])
        values[0] = SMALLEST * values[1]
        instead = (vectors * values) @ vectors.T
    else:
        values = [4.0, 4.0]
    product = M._matmat(np.eye(4))
    np.testing.assert_allclose(product[:2, :2], np.linalg.inv(K[:2, :2]))
    np.testing.assert_allclose(product[2:, 2:] @ instead, np.eye(2), rtol=0, atol=1e-3)
    np.testing.assert_allclose(M.logdet, np.log(15) + np.log(values).sum())
    assert np.linalg.eigvalsh(product)[0] > 0


@pytest.mark.parametrize("smallest, replaced", [(1.01 * SMALLEST, 0), (0.99 * SMALLEST, 1)])
def test_the_smallest_eigenvalue_of_a_block(smallest, replaced):
    M = Jacobi(DenseEntries(np.diag([1.0, smallest]), 2), 0.0)
    assert M.replaced == replaced
    np.testing.assert_allclose(M.logdet, np.log(max(smallest, SMALLEST)))


@pytest.mark.parametrize(
    "diagonal, instead",
    [
        ([2.0, -1.0, 4.0], [2, 3, 4]),
        ([0.0, 0.0], [1, 1]),
        ([-3.0], [1]),
        ([], []),
        ([5.0], [5]),
        ([1e-30, 2], [1e-30, 2]),
    ],
)
def test_diagonals(diagonal, instead):
    M = Jacobi(DenseEntries(np.diag(diagonal)), 0.0)
    np.testing.assert_allclose(M._matmat(np.eye(len(diagonal))), np.diag(1 / np.array(instead, float)))
    assert M.replaced == sum(d <= 0 for d in diagonal)


def test_noise_can_make_it_positive():
    M = Jacobi(DenseEntries(np.diag([-1.0, 1.0])), 3.0)
    np.testing.assert_allclose(M @ np.ones(2), [0.5, 0.25])
    assert M.replaced == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("width", [1, 2])
def test_numbers_that_are_none(width, value):
    with pytest.raises(FloatingPointError, match="NaN"):
        Jacobi(DenseEntries(np.diag([1.0, value]), width), 0.0)


def test_scipy_needs_fewer_iterations_on_a_badly_scaled_matrix():
    scale = np.geomspace(1, 1e3, 100)
    A, b = (0.1 * exponential(points(100), 0.1) + np.eye(100)) * np.outer(scale, scale), np.ones(100)
    counts = []
    for M in (None, Jacobi(DenseEntries(A), 0.0)):
        steps = []
        x, info = sla.cg(A, b, rtol=1e-6, maxiter=5000, M=M, callback=steps.append)
        assert info == 0
        counts.append(len(steps))
    assert counts[1] < 20 < 100 < counts[0]
