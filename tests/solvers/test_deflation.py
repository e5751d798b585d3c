"""Eigenvalues that are taken out of the estimate of a trace: which, that nothing is biased by it, and what is left."""

import numpy as np
import pytest

from kernelops.solvers.precond.base import Identity
from kernelops.solvers.quadrature import logdet

N = 60


def matrix(eigenvalues, rest=1.0, seed=0):
    """A matrix of some eigenvalues, in random directions, and a multiple of the identity."""
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((N, len(eigenvalues))))
    return rest * np.eye(N) + (Q * (np.array(eigenvalues) - rest)) @ Q.T


def estimates(A, n_probes=4, seeds=40, **options):
    options |= {"n_probes": n_probes}
    return [logdet(lambda V: A @ V, N, (), [Identity(N)], seed=seed, **options) for seed in range(seeds)]


@pytest.mark.parametrize("rest", [1.0, 1e-3])
@pytest.mark.parametrize(
    "eigenvalues", [[50.0], [50.0, 3.0, 1.2], [40.0, 40.0], [1e-6, 30.0]], ids=["one", "falling", "twice", "both ends"]
)
def test_few_are_known_exactly(eigenvalues, rest):
    """With 4 probes up to 2 equal ones: nothing is left to estimate."""
    eigenvalues = [rest * e for e in eigenvalues]
    want = sum(np.log(eigenvalues)) + (N - len(eigenvalues)) * np.log(rest)
    for f in estimates(matrix(eigenvalues, rest), seeds=10, rtol=1e-9):
        assert abs(f.value - want) <= 3 * f.stderr < 1e-5


def test_what_is_equal_too_often_stays_in_the_estimate():
    """Six equal ones are more than 4 probes span: the estimate scatters as before, and its mean is the trace.

    Its variance is 2 (|L|^2 - sum L_ii^2) / 4 for L = log A; the mean over 40 seeds is good to 4 of its deviations.
    """
    A = matrix([50.0] * 6)
    found = estimates(A)
    error = np.array([f.value for f in found]) - 6 * np.log(50)
    L = np.log(50) * (A - np.eye(N)) / 49
    spread = np.sqrt(2 * ((L**2).sum() - (np.diagonal(L) ** 2).sum()) / 4)
    assert abs(error.mean()) <= 4 * spread / np.sqrt(40) and 0.6 * spread < error.std() < 1.4 * spread
    assert min(f.stderr for f in found) > 0.01


def test_a_spectrum_without_outliers_is_left_as_it_is():
    """Many eigenvalues of like size: the value is the plain mean of g^T log(A) g over the signs."""
    eigenvalues = np.exp(np.random.default_rng(1).uniform(-1, 1, N))
    Q, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((N, N)))
    A, L = (Q * eigenvalues) @ Q.T, (Q * np.log(eigenvalues)) @ Q.T
    found = logdet(lambda V: A @ V, N, (), [Identity(N)], n_probes=10, seed=3)
    G = np.random.default_rng(3).choice([-1.0, 1.0], (N, 10))
    assert abs(found.value - np.einsum("nk,nm,mk->k", G, L, G).mean()) < 0.5 * found.stderr and found.stderr > 0.1
