"""Low rank from products alone: against dense, doubling, precision, and operators that are not what they should be."""

import numpy as np
import pytest
import scipy.sparse.linalg as sla
from gaussians import assert_factor, diagonal_of, exponential, gaussian, points

from kernelops.errors import ArgumentError
from kernelops.solvers.precond import nystrom as module
from kernelops.solvers.precond.nystrom import error, factor, nystrom, orthonormal


class Product:
    """K V, counted."""

    def __init__(self, K, dtype="float64"):
        self.K, self.dtype, self.columns = K.astype(dtype), np.dtype(dtype), 0

    def __call__(self, V):
        assert V.dtype == self.dtype
        self.columns += V.shape[1]
        return self.K @ V


def condition(A, M):
    L = np.linalg.cholesky(A)
    X = L.T @ M._matmat(L)
    values = np.linalg.eigvalsh((X + X.T) / 2)
    return values[-1] / values[0]


def test_factor_is_the_nystrom_approximation():
    K = exponential(points(60), 0.5)
    omega = orthonormal(np.random.default_rng(0).standard_normal((60, 12)), np.empty((60, 0)))
    Y = K @ omega
    F = factor(omega, Y, 2e-16)
    np.testing.assert_allclose(F @ F.T, Y @ np.linalg.solve(omega.T @ Y, Y.T), rtol=0, atol=1e-12)
    assert np.linalg.eigvalsh(K - F @ F.T)[0] > -1e-12


def test_what_keeps_the_core_definite_is_taken_off_again():
    K = exponential(points(40), 0.5)
    omega = orthonormal(np.random.default_rng(0).standard_normal((40, 40)), np.empty((40, 0)))
    F = factor(omega, K @ omega, 1e-4)
    np.testing.assert_allclose(F @ F.T, K, rtol=0, atol=1e-12)


def test_blocks_are_orthonormal_to_the_ones_before():
    draw = np.random.default_rng(0)
    first = orthonormal(draw.standard_normal((50, 8)), np.empty((50, 0)))
    both = np.hstack([first, orthonormal(first @ draw.standard_normal((8, 5)) + 1e-6 * draw.random((50, 5)), first)])
    np.testing.assert_allclose(both.T @ both, np.eye(13), rtol=0, atol=1e-13)


@pytest.mark.parametrize("alpha", [1e-3, 1e-3 * (1 + np.arange(300) % 5)], ids=["scalar", "rows"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_conditions_the_matrix(dtype, alpha):
    K = gaussian(points(300), 0.2)
    product = Product(K, dtype)
    M = nystrom(product, 300, alpha, most=200, dtype=dtype)
    A = K + diagonal_of(alpha, 300)
    assert np.linalg.cond(A) > 1e4 > 30 > condition(A, M)
    assert M.products == product.columns and M.columns == 0 and M.name == "nystrom"
    assert M.certificate == np.inf and M.describe() == f"randomized Nystrom of rank {M.rank}"


def test_agrees_with_its_own_factor():
    K = exponential(points(80), 0.3)
    M = nystrom(Product(K), 80, 0.01, most=30, dtype="float64")
    P = np.linalg.inv(M._matmat(np.eye(80)))
    assert_factor((P + P.T) / 2, M)
    np.testing.assert_allclose(M.logdet, np.linalg.slogdet(P)[1], rtol=1e-8)


def test_doubles_until_the_error_is_small(monkeypatch):
    monkeypatch.setattr(module, "FIRST_SKETCH", 10)
    K = gaussian(points(300), 0.2)
    product = Product(K)
    M = nystrom(product, 300, 1e-4, most=250)
    power = module.POWERS * module.POWER_VECTORS
    ranks = {10 * 2**doublings: 10 * 2**doublings + (doublings + 1) * power for doublings in range(5)}
    assert M.rank in ranks and product.columns == ranks[M.rank]  # the columns before are used again
    assert M.rank > 20
    assert nystrom(Product(K), 300, 1e3, most=250).rank == 10
    capped = Product(K)
    assert nystrom(capped, 300, 1e-4, most=25).rank == 25
    assert capped.columns == 25 + 2 * power  # the last sketch is not looked at: nothing would follow


def test_error_estimate():
    """From below, and within a factor of two for a spectrum that falls slowly."""
    K, V = exponential(points(200), 0.3), np.random.default_rng(0).standard_normal((200, 4))
    for k in (1, 20, 60):
        U, s, _ = np.linalg.svd(K)
        F = U[:, :k] * np.sqrt(s[:k])
        got = error(lambda X: K @ X, F, V)
        assert s[k] / 2 <= got <= s[k] * (1 + 1e-12)


def test_seeds():
    K, V = exponential(points(100), 0.3), np.random.default_rng(0).standard_normal((100, 2))
    one, two, other = (nystrom(Product(K), 100, 0.01, most=20, seed=seed)._matmat(V) for seed in (1, 1, 2))
    assert (one == two).all() and (one != other).any()


SPECIAL = {
    "constant": np.ones((30, 30)),
    "zero": np.zeros((30, 30)),
    "one row": np.array([[4.0]]),
    "two rows": np.array([[2.0, 1.0], [1.0, 2.0]]),
    "rank 5": (lambda F: F @ F.T)(np.random.default_rng(0).standard_normal((30, 5))),
    "identity": np.eye(30),
    "smooth": gaussian(points(100), 2.0),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("K", SPECIAL.values(), ids=SPECIAL)
def test_special_matrices(K, dtype):
    """A sketch as wide as the matrix, or as its rank, is exact."""
    M = nystrom(Product(K, dtype), len(K), 0.1, most=1000, dtype=dtype)
    assert condition(K + 0.1 * np.eye(len(K)), M) < (1.01 if dtype == "float32" else 1 + 1e-4)


def test_indefinite_operators_give_a_definite_preconditioner():
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((60, 60)))[0]
    K = (Q * np.linspace(-1, 2, 60)) @ Q.T
    M = nystrom(Product((K + K.T) / 2), 60, 0.1, most=40)
    assert np.linalg.eigvalsh(M._matmat(np.eye(60)))[0] > 0
    assert nystrom(Product(-np.eye(60)), 60, 0.1, most=40).rank == 0


def test_bad_input():
    with pytest.raises(FloatingPointError, match="a product"):
        nystrom(Product(np.full((4, 4), np.nan)), 4, 1.0, most=2)
    with pytest.raises(ArgumentError, match="alpha must be positive"):
        nystrom(Product(np.eye(4)), 4, 0.0, most=2)


def test_scipy_needs_fewer_iterations():
    K = gaussian(points(400), 0.15)
    A, b = K + 1e-3 * np.eye(400), np.random.default_rng(1).standard_normal(400)
    counts = []
    for M in (None, nystrom(Product(K), 400, 1e-3, most=200)):
        steps = []
        x, info = sla.cg(A, b, rtol=1e-8, maxiter=2000, M=M, callback=steps.append)
        assert info == 0 and np.linalg.norm(b - A @ x) <= 1.1e-8 * np.linalg.norm(b)
        counts.append(len(steps))
    assert counts[1] < 20 < 200 < counts[0]
