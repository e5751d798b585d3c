"""Partial Cholesky with FSAI and block Jacobi, against dense matrices in float64."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.linalg import cholesky, solve_triangular
from scipy.sparse.linalg import cg
from scipy.spatial.distance import cdist

from kernelops.solvers.entries import DenseEntries
from kernelops.solvers.precond import fsai as module
from kernelops.solvers.precond import local_factors
from kernelops.solvers.precond.fsai import block_jacobi, fsai

EXACT = 1e-5  # G and F2 are kept in float32: 6e-8 each, times the condition numbers below (up to some hundreds)


def points(n, dim=2, seed=0):
    return np.random.default_rng(seed).random((n, dim))


def matern(x, length):
    r = np.sqrt(3) * cdist(x, x) / length
    return (1 + r) * np.exp(-r)


def matrix_valued(x, width, length=0.3):
    """A positive definite kernel with blocks: a Kronecker-like sum of scalar kernels."""
    draw = np.random.default_rng(width)
    K = np.zeros((len(x) * width, len(x) * width))
    for scale in (1.0, 0.5, 2.0):
        root = draw.standard_normal((width, width))
        K += np.kron(matern(x, length * scale), root @ root.T)
    return K / np.diagonal(K).mean()


def partial(A, k, seed=0, dtype=np.float64):
    """Partial Cholesky of a dense A at k random pivots, as an oracle: F = A[:, J] L11^-T."""
    J = np.random.default_rng(seed).permutation(len(A))[:k]
    if k == 0:
        return SimpleNamespace(F=np.empty((len(A), 0), dtype), pivots=J)
    L11 = cholesky(A[np.ix_(J, J)], lower=True)
    F = solve_triangular(L11, A[J], lower=True).T
    F[J] = L11
    return SimpleNamespace(F=np.ascontiguousarray(F, dtype), pivots=J)


def system(n=60, width=1, alpha=0.1):
    K = matern(points(n), 0.3) if width == 1 else matrix_valued(points(n // width), width)
    return K, K + alpha * np.eye(n)


def build(K, alpha, k, count, width=1, coordinates=None, **keywords):
    A = K + np.diag(np.broadcast_to(alpha, len(K)))
    return fsai(DenseEntries(K, width, coordinates), alpha, partial(A, k), count=count, **keywords)


def dense(P):
    return P @ np.eye(P.shape[0])


def iterations(A, M=None, at_most=2000):
    """Of SciPy's cg, to a residual of 1e-8."""
    count = [0]

    def step(_):
        count[0] += 1

    b = np.random.default_rng(9).standard_normal(len(A))
    cg(A, b, rtol=1e-8, M=M, maxiter=at_most, callback=step)
    return count[0]


# ---- exactness ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("k", [0, 1, 20, 59, 60])
def test_all_predecessors_make_the_inverse(k, width):
    """G^T G = S^-1: a G of a wrong size would be found here."""
    K, A = system(60, width)
    P = build(K, 0.1, k, count=60, width=width)
    np.testing.assert_allclose(dense(P) @ A, np.eye(60), atol=EXACT)
    assert P.rank == P.columns == k
    np.testing.assert_allclose(P.logdet, np.linalg.slogdet(A)[1], rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize("coordinates", [False, True])
def test_very_few_points(n, k, coordinates):
    x = points(n)
    P = build(matern(x, 0.3), 0.1, k, count=30, coordinates=x if coordinates else None)
    np.testing.assert_allclose(dense(P) @ (matern(x, 0.3) + 0.1 * np.eye(n)), np.eye(n), atol=EXACT)


@pytest.mark.parametrize("k", [0, 7])
def test_no_neighbours_is_the_diagonal_of_the_schur_complement(k):
    K, A = system(40)
    p = partial(A, k)
    P = fsai(DenseEntries(K), 0.1, p, count=0)
    rest = np.setdiff1d(np.arange(40), p.pivots)
    PA = p.F @ p.F.T
    PA[rest, rest] = A[rest, rest]
    np.testing.assert_allclose(dense(P), np.linalg.inv(PA), atol=EXACT * np.linalg.norm(np.linalg.inv(PA), 2))


def test_rows_of_g_by_hand():
    """Each row is R^-T e of its own neighbours, with the pivots' part taken away."""
    x = points(50)
    K, k, count = matern(x, 0.4), 5, 6
    A = K + 0.05 * np.eye(50)
    p = partial(A, k)
    P = fsai(DenseEntries(K), 0.05, p, count=count, seed=3)
    rest = np.setdiff1d(np.arange(50), p.pivots)
    S = (A - p.F @ p.F.T)[np.ix_(rest, rest)]
    order = P._order  # of the rows of G: the last one sees `count` of all others
    for position in (0, 1, count, 30, 44):
        i, before = order[position], order[:position]
        near = before[np.argsort(-np.abs(K[rest[i], rest[before]]), kind="stable")[:count]]
        I = np.append(near, i)
        e = np.eye(len(I))[-1]
        row = np.zeros(45)
        row[I] = np.linalg.solve(np.linalg.cholesky(S[np.ix_(I, I)]).T, e)
        np.testing.assert_allclose(P._G[[i]].toarray()[0], row, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, local_factors.SUBSTITUTED, local_factors.SUBSTITUTED + 1, 20])
def test_last_rows_of_an_inverse(count):
    R = np.tril(np.random.default_rng(0).random((7, 20, 20))) + np.eye(20)
    want = np.linalg.inv(R)[:, 20 - count :]
    np.testing.assert_allclose(local_factors.last_rows_of_inverse(R, count), want, rtol=1e-9, atol=1e-12)


def test_entries_are_asked_for_by_rows_that_exist():
    class Strict(DenseEntries):
        def blocks(self, I):
            assert I.min() >= 0
            return super().blocks(I)

    K, A = system(12)
    P = fsai(Strict(K), 0.1, partial(A, 3), count=8)
    assert P._G.shape == (9, 9)


# ---- what every preconditioner has -----------------------------------------------------------------------------------

VARIANTS = [(1, 0, 8), (1, 12, 8), (1, 60, 8), (2, 13, 8), (3, 0, 8), (3, 20, 7)]  # width, k, count


@pytest.mark.parametrize("width, k, count", VARIANTS)
def test_operator(width, k, count):
    K, A = system(60, width)
    P = build(K, 0.1, k, count, width)
    inverse = dense(P)
    size = np.linalg.norm(inverse, 2)
    np.testing.assert_allclose(inverse, inverse.T, atol=1e-13 * size)  # symmetric to the precision of the block
    assert np.linalg.eigvalsh(inverse).min() > 0
    V = np.random.default_rng(1).standard_normal((60, 4))
    np.testing.assert_allclose(P.factor_rmatmat(P.factor_matmat(V)), P @ V, atol=1e-13 * size)
    W = P.factor_matmat(np.eye(60))
    np.testing.assert_allclose(W.T @ W, inverse, atol=1e-13 * size)
    np.testing.assert_allclose(P.factor_rmatmat(np.eye(60)), W.T, atol=1e-13 * size)
    np.testing.assert_allclose(P.factor_solve(P.factor_matmat(V)), V, atol=1e-12)
    np.testing.assert_allclose(P.factor_matmat(P.factor_solve(V)), V, atol=1e-12)
    np.testing.assert_allclose(P.logdet, -np.linalg.slogdet(inverse)[1], rtol=1e-9)
    np.testing.assert_array_equal(P @ V[:, 0], P._matmat(V[:, :1])[:, 0])


@pytest.mark.parametrize("width, k, count", VARIANTS)
def test_float32_blocks(width, k, count):
    K, _ = system(60, width)
    P = build(K, 0.1, k, count, width)
    V = np.random.default_rng(2).standard_normal((60, 5))
    single = P._matmat(V.astype(np.float32))
    assert single.dtype == np.float32
    double = P._matmat(V)
    assert double.dtype == np.float64
    np.testing.assert_allclose(single, double, atol=1e-5 * np.abs(double).max())
    inverse = P._matmat(np.eye(60, dtype=np.float32)).astype(np.float64)
    assert np.linalg.eigvalsh((inverse + inverse.T) / 2).min() > 0


def test_float64_blocks_are_taken_in_chunks(monkeypatch):
    K, _ = system(60)
    P = build(K, 0.1, 12, 8)
    V = np.random.default_rng(3).standard_normal((60, 3))
    whole = P @ V
    monkeypatch.setattr(module, "PROMOTED", 12 * 7)  # 7 rows, and 48 is no multiple of them
    np.testing.assert_allclose(P @ V, whole, rtol=1e-12, atol=1e-12)


def test_deterministic_by_seed_and_for_any_slabs_and_threads(monkeypatch):
    K, _ = system(80)
    first = build(K, 0.1, 6, 8, seed=4)._G
    assert (first != build(K, 0.1, 6, 8, seed=5)._G).nnz
    monkeypatch.setattr(local_factors, "ENTRIES_AT_ONCE", 81 * 10)
    monkeypatch.setattr(local_factors, "GATHERED", 9 * 15 * 3)
    for threads in (1, 3):
        monkeypatch.setattr(local_factors, "thread_count", lambda threads=threads: threads)
        assert (first != build(K, 0.1, 6, 8, seed=4)._G).nnz == 0


def test_describe():
    K, _ = system(40)
    assert build(K, 0.1, 4, 8).describe() == "partial Cholesky of rank 4 + FSAI of 8 neighbours"
    assert build(K, 0.1, 0, 8).describe() == "FSAI of 8 neighbours"
    P = block_jacobi(DenseEntries(K), 0.1, np.arange(40) // 7)
    assert P.describe() == "block Jacobi of 6 clusters"
    assert P.name == build(K, 0.1, 0, 8).name == "fsai"


# ---- block Jacobi ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2])
def test_block_jacobi_inverts_the_blocks(width):
    K, A = system(60, width)
    labels = np.random.default_rng(0).integers(0, 9, 60 // width)  # mixed, of different sizes
    alpha = np.linspace(0.1, 0.5, 60)
    P = block_jacobi(DenseEntries(K, width), alpha, labels)
    same = np.repeat(labels, width)[:, None] == np.repeat(labels, width)
    block = np.where(same, K, 0) + np.diag(alpha)
    np.testing.assert_allclose(dense(P) @ block, np.eye(60), atol=EXACT)
    V = np.random.default_rng(1).standard_normal((60, 2))
    np.testing.assert_allclose(P.factor_solve(P.factor_matmat(V)), V, atol=1e-12)
    np.testing.assert_allclose(P.logdet, np.linalg.slogdet(block)[1], rtol=1e-6)
    assert P._G.nnz == np.tril(same).sum()  # no zeros are kept


def test_disjoint_clusters_are_solved():
    """Where A has no entries between clusters, block Jacobi and FSAI that sees a whole cluster are its inverse."""
    labels = np.arange(60) % 5
    K = np.where(labels[:, None] == labels, system(60)[0], 0)
    A = K + 0.1 * np.eye(60)
    for P in (block_jacobi(DenseEntries(K), 0.1, labels), build(K, 0.1, 0, count=12)):
        np.testing.assert_allclose(dense(P) @ A, np.eye(60), atol=EXACT)


# ---- nasty systems ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 10])
def test_zeros_in_alpha(k):
    K, _ = system(60)
    alpha = np.where(np.arange(60) % 2, 0.0, 0.3)
    P = build(K, alpha, k, count=60)
    np.testing.assert_allclose(dense(P) @ (K + np.diag(alpha)), np.eye(60), atol=1e-3)  # condition number 4e4
    assert P.repaired == 0


@pytest.mark.parametrize("width", [1, 2])
def test_duplicates_without_alpha_are_mended(width):
    """A is singular, and so are most small matrices: P is positive definite nevertheless, and says what it cost."""
    x = np.repeat(points(15), 4, axis=0)
    K = matern(x, 0.3) if width == 1 else matrix_valued(x[::2], 2)
    P = fsai(DenseEntries(K, width), 0.0, partial(K, 0), count=10)
    assert P.repaired > 0
    assert f"({P.repaired} mended)" in P.describe()
    inverse = dense(P)
    assert np.isfinite(inverse).all()
    assert np.linalg.eigvalsh(inverse).min() > 0


def test_duplicates_of_pivots():
    """Nothing but rounding is left beside the pivots: it gets a diagonal far above that, which float32 can stand."""
    x = np.repeat(points(15), 4, axis=0)
    K = matern(x, 0.3)
    J = np.arange(0, 60, 4)
    L11 = cholesky(K[np.ix_(J, J)], lower=True)
    F = solve_triangular(L11, K[J], lower=True).T
    F[J] = np.tril(F[J])
    P = fsai(DenseEntries(K), 0.0, SimpleNamespace(F=F, pivots=J), count=10)
    assert P.repaired == 45
    np.testing.assert_allclose(P._G.diagonal(), np.finfo(np.float32).eps ** -0.5, rtol=1e-3)
    x = P._matmat((K @ np.ones((60, 1))).astype(np.float32))
    np.testing.assert_allclose(K @ x, K @ np.ones((60, 1)), rtol=1e-3)


def test_rows_of_zeros():
    """An entry that is 0 with everything and has no alpha: P is the identity there."""
    K, _ = system(30)
    K[4], K[:, 4] = 0.0, 0.0
    P = build(K, 0.0, 0, count=5)
    assert P.repaired == 1
    np.testing.assert_array_equal(dense(P)[4], np.eye(30)[4])


class Star(DenseEntries):
    """The last point has all others as neighbours, in their order, and the others have none."""

    def neighbours(self, rank, count):
        near = np.full((self.n, count), -1)
        near[-1] = np.arange(count)
        return near


def star(correlations):
    K = np.eye(len(correlations) + 1)
    K[-1, :-1] = K[:-1, -1] = correlations
    return K


def test_an_indefinite_neighbourhood_loses_its_far_half():
    """Not a kernel: the two nearest of four neighbours make a definite matrix, all four do not."""
    K, near = star([0.7, 0.69, 0.68, 0.67]), [0, 1, 4]
    assert np.linalg.eigvalsh(K)[0] < 0 < np.linalg.eigvalsh(K[np.ix_(near, near)])[0]
    P = fsai(Star(K), 0.0, partial(K, 0), count=4)
    assert P.repaired == 1
    row = P._G[[4]].toarray()[0]
    assert (row != 0).tolist() == [True, True, False, False, True]
    want = np.linalg.inv(np.linalg.cholesky(K[np.ix_(near, near)]))[-1]
    np.testing.assert_allclose(row[near], want, rtol=1e-6)


def test_a_hopeless_neighbourhood_keeps_its_diagonal():
    K = star([1.5, 1.5])
    P = fsai(Star(K), 0.0, partial(K, 0), count=2)
    np.testing.assert_array_equal(P._G.toarray(), np.eye(3))
    assert P.repaired == 1


def test_a_jitter_is_tried_first():
    """Singular by one rounding: nothing is lost but digits."""
    K = star([1.0 + 1e-15])
    P = fsai(Star(K), 0.0, partial(K, 0), count=1)
    assert P.repaired == 1
    np.testing.assert_allclose(P._G.toarray()[1], np.array([-1.0, 1.0]) / np.sqrt(4e-10), rtol=1e-4)


def test_data_that_is_not_finite_ends():
    K, _ = system(20)
    K[3, 5] = K[5, 3] = np.nan
    with np.errstate(invalid="ignore"):
        P = fsai(DenseEntries(K), 0.1, partial(np.eye(20), 0), count=6)
    assert P.shape == (20, 20)


# ---- precision of the products --------------------------------------------------------------------------------------


def products_dtype(monkeypatch, K, alpha, k=30):
    seen = []
    original = module.factor_rows

    def spy(schur, groups):
        seen.append(schur.F.dtype)
        return original(schur, groups)

    monkeypatch.setattr(module, "factor_rows", spy)
    P = build(K, alpha, k, count=15)
    return P, seen[0]


@pytest.mark.parametrize("alpha, dtype", [(1.1e-4, np.float32), (1e-6, np.float64)])
def test_products_are_in_float32_where_enough_is_left(monkeypatch, alpha, dtype):
    x = points(300)
    K = np.exp(-(cdist(x, x) ** 2) / 0.5)  # of a low rank, so that alpha is all that is left
    assert products_dtype(monkeypatch, K, alpha)[1] == dtype


def test_float64_products_are_needed_where_little_is_left(monkeypatch):
    """With products in float32 the same preconditioner does not work: the reason for the choice."""
    x = points(500)
    K = np.exp(-(cdist(x, x) ** 2) / 0.1)
    A = K + 1e-7 * np.eye(500)
    good, dtype = products_dtype(monkeypatch, K, 1e-7, k=100)
    assert dtype == np.float64 and good.repaired == 0
    monkeypatch.setattr(module, "ROUGH", 0.0)
    bad, dtype = products_dtype(monkeypatch, K, 1e-7, k=100)
    assert dtype == np.float32
    fewest = iterations(A, good)
    assert iterations(A, bad, at_most=5 * fewest) == 5 * fewest


# ---- what it is for -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["2-D", "9-D"])
def test_fewer_iterations_than_none_and_than_low_rank(name):
    """None, low rank, FSAI alone, both: 546, 200, 10, 9 in 2-D and 251, 86, 80, 50 in 9-D when this was written."""
    n, k, alpha = 1500, 100, 1e-2
    x = points(n) if name == "2-D" else np.random.default_rng(0).standard_normal((n, 9))
    K = matern(x, 0.1 if name == "2-D" else 4.0)
    A = K + alpha * np.eye(n)
    F = partial(K + 1e-10 * np.eye(n), k).F
    plain, low = iterations(A), iterations(A, np.linalg.inv(F @ F.T + alpha * np.eye(n)))
    alone, both = (iterations(A, build(K, alpha, rank, 30, coordinates=x)) for rank in (0, k))
    if name == "2-D":
        assert max(alone, both) < 20 < low / 5 < plain / 10
    else:
        assert both < 0.75 * alone < 0.75 * low * 1.1
        assert low < plain / 2


@pytest.mark.parametrize("width", [2, 3])
def test_matrix_valued_kernels(width):
    x = points(400)
    K = matrix_valued(x, width)
    A = K + 1e-2 * np.eye(len(K))
    P = build(K, 1e-2, 60, 30, width=width)
    assert iterations(A, P) < iterations(A) / 10
    assert np.diff(P._G.indptr).max() <= 30 + 2 * width  # 30 rounded up to whole points, and the point itself


class Line:
    """exp(-|x - y|) of random points, computed when asked for."""

    width, work, density = 1, 1.0, 1.0

    def __init__(self, n):
        self.n, self.coordinates = n, points(n, 1)

    def diagonal(self):
        return np.ones(self.n)

    def blocks(self, I):
        x = self.coordinates[I, 0]
        return np.exp(-np.abs(x[:, :, None] - x[:, None, :]))


def test_memory_is_that_of_what_is_kept_and_of_a_slab(monkeypatch):
    """Beside F2 and G: index arrays of n (count + 1) numbers, and a few slabs; the small matrices would take 154 MB."""
    n, count = 20000, 30
    monkeypatch.setattr(local_factors, "ENTRIES_AT_ONCE", 1 << 17)
    monkeypatch.setattr(local_factors, "GATHERED", 1 << 17)
    entries, F = Line(n), np.zeros((n, 20))
    F[np.arange(20), np.arange(20)] = 1.0
    tracemalloc.start()
    P = fsai(entries, 0.1, SimpleNamespace(F=F, pivots=np.arange(20)), count=count)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    indices, slab = 8 * n * (count + 1), 8 << 17
    assert kept < F.size * 4 + P._G.data.nbytes * 2 + indices
    assert peak < kept + 6 * indices + 4 * slab < 8 * n * (count + 1) ** 2 / 2
