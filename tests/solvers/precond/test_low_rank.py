"""P = F F^T + diag(alpha) against its dense self, the certificate, float32, and what it does for a solve."""

import math

import numpy as np
import pytest
import scipy.sparse.linalg as sla
from gaussians import assert_factor, diagonal_of, exponential, gaussian, points

from kernelops.errors import ArgumentError
from kernelops.solvers.entries import DenseEntries
from kernelops.solvers.precond import low_rank as module
from kernelops.solvers.precond.low_rank import LowRank, low_rank, thin_qr
from kernelops.solvers.precond.pivoted_cholesky import Scaled, pivoted_cholesky

N = 200
ROWS = 0.01 * (1 + np.random.default_rng(3).random(N))


def build(K, alpha, most=60, **keywords):
    """LowRank of K and the dense P that it stands for."""
    partial = pivoted_cholesky(Scaled.by_alpha(DenseEntries(K), alpha), most=most)
    s = np.broadcast_to(alpha, (len(K),)) ** -0.5
    F = partial.F / s[:, None]
    return LowRank.of(partial, alpha, **keywords), F @ F.T + diagonal_of(alpha, len(K))


def spectrum(P, M):
    """Eigenvalues of M P for the symmetric positive definite M."""
    L = np.linalg.cholesky(P)
    X = L.T @ M._matmat(L)
    return np.linalg.eigvalsh((X + X.T) / 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("alpha", [0.01, ROWS], ids=["scalar", "rows"])
def test_against_dense(alpha, dtype):
    M, P = build(exponential(points(N), 0.3), alpha, dtype=dtype)
    assert M.Q.dtype == dtype and M.rank == M.columns == 60
    assert_factor(P, M)
    # In float64 the matrix is P^-1; with Q in float32 it is within blur of it.
    off = abs(spectrum(P, M) - 1).max()
    limit = 2 * M.blur + M.blur**2 + 1e-10
    assert off <= limit and limit < (1e-2 if dtype == "float32" else 1e-9)
    W = M.factor_matmat(np.eye(N))
    np.testing.assert_allclose(M.logdet, -2 * np.linalg.slogdet(W)[1], rtol=1e-12)
    np.testing.assert_allclose(M.logdet, np.linalg.slogdet(P)[1], rtol=1e-5 if dtype == "float32" else 1e-12)
    np.testing.assert_allclose(M.spread, np.linalg.eigvalsh(P / np.sqrt(np.outer(alpha, alpha)))[-1], rtol=1e-10)


def test_blur_is_what_float32_does():
    """Neither 0 nor much more than what is seen."""
    M, P = build(gaussian(points(N), 0.3), 1e-6, dtype="float32")
    off = abs(spectrum(P, M) - 1).max()
    assert M.blur / 200 < off < 2.1 * M.blur < 0.1


def test_float64_is_kept_where_float32_would_not_do():
    K = gaussian(points(N), 0.3)
    assert build(K, 1e-6)[0].Q.dtype == np.float32
    M, P = build(K, 1e-12)
    assert M.Q.dtype == np.float64 and build(K, 1e-12, dtype="float32")[0].blur > module.BLURRED
    # S P S has eigenvalues up to 1e14, of which rounding of 1e-16 leaves one or two digits
    assert 0.9 < spectrum(P, M)[0] and spectrum(P, M)[-1] < 1.1


def test_the_limit_of_float32(monkeypatch):
    K = gaussian(points(N), 0.3)
    blur = build(K, 1e-6)[0].blur
    for limit, kept in ((1.001 * blur, "float32"), (0.999 * blur, "float64")):
        monkeypatch.setattr(module, "BLURRED", limit)
        assert build(K, 1e-6)[0].Q.dtype == kept


def textbook(F, alpha, v):
    """v / alpha + U (1 / (s^2 + alpha) - 1 / alpha) U^T v in the dtype of v."""
    U, s, _ = np.linalg.svd(F, full_matrices=False)
    U, c = U.astype(v.dtype), (1 / (s**2 + alpha) - 1 / alpha).astype(v.dtype)
    return v / v.dtype.type(alpha) + U @ (c[:, None] * (U.T @ v))


@pytest.mark.parametrize("alpha", [1e-2, 1e-6, 1e-8])
def test_float32_products_are_definite(alpha):
    """On vectors that P^-1 makes small, the ones that a residual has left when conjugate gradients are nearly done."""
    F = pivoted_cholesky(DenseEntries(gaussian(points(500), 0.2)), most=150).F
    M = LowRank(F, alpha, dtype="float32")
    U, s, _ = np.linalg.svd(F, full_matrices=False)
    draw = np.random.default_rng(0)
    V = U[:, :40] @ np.c_[np.eye(40), draw.standard_normal((40, 40)), np.tril(draw.standard_normal((40, 40)))]
    v = np.asarray(V, np.float32)
    exact = v.astype(float)
    y = U.T @ exact
    truth = (y**2 / (s[:, None] ** 2 + alpha)).sum(0) + ((exact - U @ y) ** 2).sum(0) / alpha
    z = M._matmat(v)
    assert z.dtype == np.float32
    form = (exact * z).sum(0)
    # float32 rounding squared, times the largest eigenvalue over the smallest, is 5e-15 * 1e10 at worst
    np.testing.assert_allclose(form, truth, rtol=1e-5 + 2 * M.blur)
    lost = (exact * textbook(F, alpha, v)).sum(0) <= 0
    assert lost.any() == (alpha < 1e-4)


def test_float32_blocks_against_float64():
    M, _ = build(exponential(points(N), 0.3), 0.01)
    V = np.random.default_rng(1).standard_normal((N, 3))
    short = M._matmat(V.astype(np.float32))
    np.testing.assert_allclose(short, M._matmat(V), rtol=0, atol=1e-5 * abs(M._matmat(V)).max())


def test_dtypes_of_blocks():
    M, _ = build(exponential(points(N), 0.3), 0.01)
    V = np.random.default_rng(1).standard_normal((N, 2))
    for dtype in ("f", "d", "F", "D"):
        assert M._matmat(V.astype(dtype)).dtype.char == dtype
    np.testing.assert_allclose(M._matmat(V + 2j * V), (1 + 2j) * M._matmat(V), rtol=1e-11)
    np.testing.assert_array_equal(M @ np.arange(N), M @ np.arange(float(N)))
    kept = V.copy()
    for act in (M._matmat, M.factor_matmat, M.factor_rmatmat, M.factor_solve):
        act(V)
        assert (V == kept).all()


def test_slabs(monkeypatch):
    K, V = exponential(points(N), 0.3), np.random.default_rng(1).standard_normal((N, 2))
    whole = build(K, 0.01)[0]
    monkeypatch.setattr(module, "ROWS_PROMOTED", 33)
    parts = build(K, 0.01)[0]
    for act in ("_matmat", "factor_matmat", "factor_solve"):
        np.testing.assert_allclose(getattr(parts, act)(V), getattr(whole, act)(V), rtol=0, atol=1e-4)
    np.testing.assert_allclose(parts.logdet, whole.logdet, rtol=1e-8)


@pytest.mark.parametrize("alpha", [0.01, ROWS], ids=["scalar", "rows"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [gaussian, exponential])
def test_certificate(make, dtype, alpha):
    K = make(points(N), 0.2)
    M, P = build(K, alpha, dtype=dtype)
    A = K + diagonal_of(alpha, N)
    np.testing.assert_allclose(M.trace, (np.diagonal(A - P) / alpha).sum(), rtol=1e-6, atol=1e-8)
    values = spectrum(A, M)
    assert values[0] >= (1 - M.blur) ** 2 - 1e-9
    assert values[-1] <= (1 + M.trace) * (1 + M.blur) ** 2 + 1e-9
    assert values[-1] / values[0] <= M.certificate
    r = np.random.default_rng(2).standard_normal(N)  # r . P^-1 r bounds the squared energy error
    assert r @ np.linalg.solve(A, r) <= r @ (M @ r) / (1 - M.blur) ** 2 * (1 + 1e-9)


def test_the_certificate_is_nearly_met():
    """One direction left: the largest eigenvalue is 1 + trace, so a smaller bound would be wrong."""
    K = np.diag([4.0, 2.0, 0.0])
    M = LowRank(np.array([[2.0], [0], [0]]), 0.5, residual=np.array([0, 2.0, 0]), dtype="float64")
    np.testing.assert_allclose(spectrum(K + 0.5 * np.eye(3), M), [1, 1, 5], rtol=1e-12)
    np.testing.assert_allclose(M.certificate, 5, rtol=1e-12)
    assert LowRank(np.ones((3, 1)), 0.5).certificate == math.inf


def test_scaled_and_plain_factors():
    K = exponential(points(N), 0.3)
    plain = pivoted_cholesky(DenseEntries(K), most=40)
    a, b = LowRank.of(plain, ROWS, scaled=False), LowRank(plain.F / np.sqrt(ROWS)[:, None], ROWS, scaled=True)
    V = np.random.default_rng(0).standard_normal((N, 2))
    np.testing.assert_allclose(a._matmat(V), b._matmat(V), rtol=0, atol=1e-4)
    np.testing.assert_allclose(a.trace, (plain.residual / ROWS).sum())


def test_overwrite():
    K = exponential(points(N), 0.3)
    partial = pivoted_cholesky(DenseEntries(K), most=40)
    before = partial.F.copy()
    kept = LowRank(partial.F, 0.1)
    assert (partial.F == before).all()
    used = LowRank(partial.F, 0.1, overwrite=True)
    assert (partial.F != before).any() and (used.Q == kept.Q).all()


DEPENDENT = {
    "no columns": np.zeros((5, 0)),
    "zeros": np.zeros((5, 2)),
    "twice the same": np.ones((5, 2)),
    "more columns than rows": np.random.default_rng(0).standard_normal((3, 5)),
    "as many": np.random.default_rng(0).standard_normal((4, 4)),
    "one row": np.array([[2.0]]),
    "nearly dependent": np.vander(np.linspace(0, 1, 40), 20),
    "graded": np.random.default_rng(0).standard_normal((30, 10)) * np.geomspace(1, 1e-9, 10),
}


@pytest.mark.parametrize("F", DEPENDENT.values(), ids=DEPENDENT)
def test_any_factor(F):
    Q, R = thin_qr(F.copy(order="F"))
    np.testing.assert_allclose(Q.T @ Q, np.eye(Q.shape[1]), rtol=0, atol=1e-13)
    np.testing.assert_allclose(Q @ R, F, rtol=0, atol=1e-13)
    P = F @ F.T + 0.5 * np.eye(len(F))
    M = LowRank(F, 0.5, dtype="float64")
    np.testing.assert_allclose(M._matmat(P), np.eye(len(F)), rtol=0, atol=1e-11)
    np.testing.assert_allclose(M.logdet, np.linalg.slogdet(P)[1], rtol=1e-11, atol=1e-11)
    assert_factor(P, M)


def test_columns_that_depend_on_each_other():
    """Whole numbers: the Gram matrix is exact, singular, and its Cholesky factor may exist by chance."""
    for seed in range(200):
        draw = np.random.default_rng(seed)
        F = (draw.integers(-3, 4, (40, 4)) @ draw.integers(-3, 4, (4, 7))).astype(float)
        Q, R = thin_qr(F.copy(order="F"))
        np.testing.assert_allclose(Q.T @ Q, np.eye(7), rtol=0, atol=1e-13)
        np.testing.assert_allclose(Q @ R, F, rtol=0, atol=1e-11)


def test_factor_of_a_blurred_operator():
    """Where rounding of Q to float32, squared, is not small against the smallest eigenvalue of alpha P^-1, 1e-14.

    Without it in the factor the distance is 1e-3; rounding of float64 times the condition number of W is 1e-9.
    """
    M, _ = build(gaussian(points(N), 0.3), 1e-12, dtype="float32")
    X = M.factor_solve(np.eye(N))
    np.testing.assert_allclose(X.T @ M._matmat(X), np.eye(N), rtol=0, atol=1e-6)


def test_bad_input():
    with pytest.raises(ArgumentError, match="alpha must be positive"):
        LowRank(np.ones((3, 1)), np.array([1.0, 0, 1]))
    with pytest.raises(FloatingPointError, match="NaN"):
        LowRank(np.full((3, 1), np.nan), 1.0)


def iterations(A, b, M=None):
    steps = []
    x, info = sla.cg(A, b, rtol=1e-8, maxiter=2000, M=M, callback=steps.append)
    assert info == 0 and np.linalg.norm(b - A @ x) <= 1.1e-8 * np.linalg.norm(b)
    return len(steps)


def test_scipy_takes_it_and_needs_fewer_iterations():
    K = gaussian(points(800), 0.1)
    A, b = K + 1e-3 * np.eye(800), np.random.default_rng(1).standard_normal(800)
    M = low_rank(DenseEntries(K, semidefinite=True), 1e-3, most=400)
    assert M.trace <= 800 < low_rank(DenseEntries(K), 1e-3, most=M.rank // 2).trace
    plain, few, many = iterations(A, b), iterations(A, b, low_rank(DenseEntries(K), 1e-3, most=50)), iterations(A, b, M)
    # With the residual trace below that of alpha, the eigenvalues are near 1 but for a tail of small ones
    assert many < 40 < few < plain and plain > 300
    certified = math.log(2e8 * math.sqrt(np.linalg.cond(A))) / math.log1p(2 / (math.sqrt(M.certificate) - 1))
    assert many <= certified


def test_memory():
    M, _ = build(exponential(points(N), 0.3), 0.01)
    assert M.Q.nbytes == 4 * N * 60


def test_describe():
    M, _ = build(exponential(points(N), 0.3), 0.01)
    assert M.describe() == f"pivoted Cholesky of rank 60, residual trace {M.trace / N:.2g} of alpha n"
    assert LowRank(np.ones((3, 1)), 1.0).describe() == "pivoted Cholesky of rank 1"
    assert M.name == "pivoted_cholesky"
