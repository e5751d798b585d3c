"""Stochastic Lanczos quadrature against dense determinants: with preconditioners, in batches, at its ends."""

import numpy as np
import pytest

from kernelops.solvers import quadrature
from kernelops.solvers.entries import DenseEntries
from kernelops.solvers.precond.base import Identity
from kernelops.solvers.precond.cholesky import Cholesky
from kernelops.solvers.precond.jacobi import Jacobi
from kernelops.solvers.precond.low_rank import low_rank
from kernelops.solvers.quadrature import Lanczos, logdet


def matrix(n=120, length=0.2, alpha=0.05, seed=0):
    """K and alpha I + K of a Gaussian kernel."""
    x = np.random.default_rng(seed).random((n, 2))
    K = np.exp(-((x[:, None] - x) ** 2).sum(-1) / (2 * length**2))
    return K, K + alpha * np.eye(n)


def preconditioner(name, K, alpha):
    entries = DenseEntries(K)
    if name == "low rank":
        return low_rank(entries, np.float64(alpha), most=30, seed=0)
    return {"none": lambda: Identity(len(K)), "jacobi": lambda: Jacobi(entries, alpha)}[name]()


def truth(A):
    return np.linalg.slogdet(A)[1]


@pytest.mark.parametrize("name", ["none", "jacobi", "low rank"])
@pytest.mark.parametrize("alpha", [1e-3, 0.05, 1.0])
def test_within_three_standard_errors(name, alpha):
    K, A = matrix(alpha=alpha)
    found = logdet(lambda V: A @ V, len(A), (), [preconditioner(name, K, alpha)])
    assert not found.message and not found.exact
    assert 0 < found.stderr < 0.2 * abs(truth(A))
    assert abs(found.value - truth(A)) <= 3 * found.stderr


@pytest.mark.parametrize("name", ["none", "jacobi", "low rank"])
def test_as_many_probes_as_rows_are_exact(name):
    """The columns of sqrt(n) I: nothing is left but the quadrature, which was told to be good to 1e-10."""
    K, A = matrix(40)
    found = logdet(lambda V: A @ V, 40, (), [preconditioner(name, K, 0.05)], n_probes=40, rtol=1e-12)
    assert abs(found.value - truth(A)) < 1e-9 * abs(truth(A))
    assert found.stderr < 1e-9
    fewer = logdet(lambda V: A @ V, 40, (), [preconditioner(name, K, 0.05)], n_probes=39, rtol=1e-12)
    assert fewer.stderr > 1e-12 and abs(fewer.value - truth(A)) <= 5 * fewer.stderr


def test_the_standard_error_is_what_the_value_scatters_by():
    """Over 100 seeds the mean of (error / stderr)^2 is 1, up to about 0.2 (Student's kurtosis of 9 degrees is 4.2)."""
    K, A = matrix(80)
    found = [logdet(lambda V: A @ V, 80, (), [Identity(80)], seed=seed) for seed in range(100)]
    scores = np.array([float((f.value - truth(A)) / f.stderr) for f in found])
    assert 0.5 < np.mean(scores**2) < 1.6
    assert abs(scores.mean()) < 0.4


def test_a_good_preconditioner_leaves_little_to_estimate():
    K, A = matrix(400, length=0.05, alpha=0.05)  # of a spectrum that falls slowly: no few carry the sum
    plain, good = (
        logdet(lambda V: A @ V, len(A), (), [p]) for p in (Identity(len(A)), low_rank(DenseEntries(K), 0.05, most=300))
    )
    assert good.stderr < plain.stderr / 3 and good.steps < plain.steps


def test_a_preconditioner_need_not_be_scaled():
    """log det A = log det P + tr log(W A W^T) for any P."""
    K, A = matrix(60)
    far = Cholesky(DenseEntries(3 * K), np.float64(0.7))
    found = logdet(lambda V: A @ V, 60, (), [far], n_probes=60, rtol=1e-12)
    assert abs(found.value - truth(A)) < 1e-8 * abs(truth(A))


def test_exact_where_the_preconditioner_is_the_matrix():
    K, A = matrix()
    found = logdet(None, len(A), (), [Cholesky(DenseEntries(K), np.float64(0.05))], exact=True)
    assert found.exact and found.stderr == 0 and found.left.shape == (len(A), 0)
    assert abs(found.value - truth(A)) < 1e-10 * abs(truth(A))


def test_the_probes_make_the_gradient_of_the_trace():
    """With n probes sum_k (A^-1 left)^T dA right / n is tr(A^-1 dA) for any dA."""
    K, A = matrix(30)
    found = logdet(lambda V: A @ V, 30, (), [low_rank(DenseEntries(K), 0.05, most=10)], n_probes=30)
    dA = np.random.default_rng(5).standard_normal((30, 30))
    got = (np.linalg.solve(A, found.left) * (dA @ found.right)).sum() / 30
    assert abs(got - np.trace(np.linalg.solve(A, dA))) < 1e-9 * np.abs(np.linalg.inv(A)).sum()


def test_elements_of_a_batch_are_what_they_are_alone():
    K = np.stack([matrix(50, seed=s)[0] for s in range(3)])
    A = K + 0.1 * np.eye(50)
    each = [low_rank(DenseEntries(k), 0.1, most=10) for k in K]
    found = logdet(lambda V: A @ V, 50, (3,), each, rtol=1e-9)
    for k in range(3):
        alone = logdet(lambda V, k=k: A[k] @ V, 50, (), [each[k]], rtol=1e-9)
        assert abs(found.value[k] - alone.value) < 1e-4 * abs(alone.value)  # the steps are those of the slowest
    assert found.value.shape == found.stderr.shape == (3,) and found.left.shape == (3, 50, 10)


def test_seeds():
    K, A = matrix()
    one, same, other = (logdet(lambda V: A @ V, len(A), (), [Identity(len(A))], seed=s).value for s in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize("n", [0, 1, 2])
def test_tiny(n):
    A = np.diag(np.arange(2.0, n + 2))
    found = logdet(lambda V: A @ V, n, (), [Identity(n)])
    assert abs(found.value - np.log(np.diagonal(A)).sum()) < 1e-12 and found.stderr == 0


def test_a_multiple_of_the_identity_takes_one_step():
    found = logdet(lambda V: 3 * V, 100, (), [Identity(100)])
    assert abs(found.value - 100 * np.log(3)) < 1e-10 and found.stderr < 1e-10 and found.steps == 1


def test_lanczos_stays_orthogonal():
    _, A = matrix(100, alpha=1e-6)  # condition number 1e7: without reorthogonalisation this fails
    process = Lanczos(lambda V: A @ V, np.ones((1, 100, 1)))
    for _ in range(60):
        process.step()
    Q = process.basis[0, 0, : process.length[0, 0]]
    assert abs(Q @ Q.T - np.eye(len(Q))).max() < 1e-10


def test_probes_go_in_groups_where_memory_is_short(monkeypatch):
    K, A = matrix()
    whole = logdet(lambda V: A @ V, len(A), (), [Identity(len(A))], rtol=1e-8)
    widths = []
    monkeypatch.setattr(quadrature, "BASIS_BYTES", 8 * 120 * 100 * 3)
    parts = logdet(lambda V: (widths.append(V.shape[-1]), A @ V)[1], len(A), (), [Identity(len(A))], rtol=1e-8)
    assert max(widths) == 3 and abs(whole.value - parts.value) < parts.stderr  # groups of 3 find less than all 10


def test_a_quadrature_that_is_not_done_says_so(monkeypatch):
    _, A = matrix(300, length=0.05, alpha=1e-6)
    monkeypatch.setattr(quadrature, "STEPS", 7)
    found = logdet(lambda V: A @ V, len(A), (), [Identity(len(A))])
    assert found.steps == 7 and "not certain" in found.message
    assert found.value > truth(A)  # Gauss' quadrature is above
    assert found.stderr > 0.2 * (found.value - truth(A))  # the right magnitude, from seven steps


def test_what_is_not_definite_says_so():
    A = np.diag(np.linspace(-1, 2, 30))
    assert "not positive definite" in logdet(lambda V: A @ V, 30, (), [Identity(30)]).message


def test_nan_says_so():
    found = logdet(lambda V: V * np.nan, 30, (), [Identity(30)])
    assert np.isnan(found.value) and "not finite" in found.message


def scores(A, p, n_probes, seeds=80):
    """(value - truth) / stderr over some seeds."""
    want = truth(A)
    found = [logdet(lambda V: A @ V, len(A), (), [p], n_probes=n_probes, seed=seed) for seed in range(seeds)]
    assert not any(f.message for f in found)
    return np.array([float((f.value - want) / f.stderr) for f in found])


def points(name):
    draw = np.random.default_rng(0)
    return {
        "duplicates": lambda: np.repeat(draw.random((15, 2)), 8, axis=0),
        "clusters": lambda: (draw.random((12, 1, 2)) + 1e-3 * draw.standard_normal((12, 10, 2))).reshape(-1, 2),
    }[name]()


@pytest.mark.parametrize("n_probes", [4, 10])
@pytest.mark.parametrize("name", ["none", "low rank"])
@pytest.mark.parametrize("kind", ["duplicates", "clusters"])
def test_the_standard_error_where_few_eigenvalues_carry_the_rest(kind, name, n_probes):
    """Ratios to the standard error, which holds what rtol allows, over 25 seeds.

    Student's distribution of 3 degrees, of 4 probes, exceeds 3 of its own standard deviations in 1.4 % and 5 in 0.3 %;
    of 9 degrees in 0.4 % and 0.02 %: two and one are let pass.
    """
    x = points(kind)
    K = np.exp(-5 * ((x[:, None] - x) ** 2).sum(-1))
    p = Identity(len(x)) if name == "none" else low_rank(DenseEntries(K), np.float64(1e-3), most=10, seed=0)
    z = np.abs(scores(K + 1e-3 * np.eye(len(x)), p, n_probes, seeds=25))
    assert (z > 3).sum() <= 2 and (z > 5).sum() <= 1 and np.median(z) < 1.2


def test_the_standard_error_of_what_a_preconditioner_left():
    """A preconditioner of rank 14 for 15 points, each eight times: one eigenvalue is left, that four probes see.

    It was beyond 5 standard errors in 4 % of the seeds, and as far as 25: |g|^2 log is a single chi^2.
    """
    x = points("duplicates")
    K = np.exp(-5 * ((x[:, None] - x) ** 2).sum(-1))
    p = low_rank(DenseEntries(K), np.float64(1e-4), most=14, seed=0)
    z = np.abs(scores(K + 1e-4 * np.eye(len(x)), p, 4, seeds=100))
    assert (z > 3).sum() <= 4 and (z > 5).sum() <= 1
