"""Ways out that come from M, from singular matrices and from the keyboard; what does not depend on scale with an M."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator
from systems import Dense, assert_solves, duplicates, gaussian, indefinite, kernel, points, right_hand_sides, spd

from kernelops.solvers import solve
from kernelops.solvers.block_cg import block_conjugate_gradients
from kernelops.solvers.cg import conjugate_gradients
from kernelops.solvers.operator import as_system
from kernelops.solvers.problem import Problem
from kernelops.solvers.refine import iterate_in_double, refine

METHODS = [conjugate_gradients, block_conjugate_gradients]


def run(A, b, rtol=1e-8, m=None, method=conjugate_gradients, maxiter=2000, **keywords):
    """Exits, iterate, problem."""
    problem = Problem(as_system(A), b, rtol, 0.0)
    x, r = problem.start(None)
    iterate = refine if A.dtype == np.float32 else iterate_in_double
    precondition = None if m is None else lambda v: (m @ v).astype(v.dtype)
    with np.errstate(all="ignore"):
        exits = iterate(problem, x, r, maxiter, precondition=precondition, iterate=method, **keywords)
    return exits, problem.to_units_of_b(x), problem


def near_inverse(a, spread=0.5):
    values, vectors = np.linalg.eigh(a)
    m = (vectors / (values * np.exp(np.random.default_rng(0).uniform(-spread, spread, len(values))))) @ vectors.T
    return (m + m.T) / 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", [lambda: Dense(spd(100, 1e4)), lambda: kernel(100)], ids=["float64", "float32"])
class TestM:
    def test_indefinite(self, make, method):
        A, b = make(), right_hand_sides(100, 3)
        exits, x, _ = run(A, b, m=indefinite(100), method=method)
        assert exits.indefinite_preconditioner.any() and exits.status == "not positive definite"
        assert (np.linalg.norm(b - A.truth @ x, axis=0) <= np.linalg.norm(b, axis=0) * (1 + 1e-9)).all()

    def test_not_symmetric(self, make, method):
        """It may slow the iteration down or end it; what is said to be solved is solved."""
        A, b = make(), right_hand_sides(100, 3)
        for size in (1e-6, 0.3, 3.0):
            m = near_inverse(A.truth)
            m = m + size * np.abs(m).mean() * np.triu(np.random.default_rng(1).standard_normal(m.shape), 1)
            exits, x, _ = run(A, b, m=m, method=method)
            if exits.status == "converged":
                assert_solves(A, x, b, 1e-8)
            assert exits.status == "converged" or size > 1e-6

    def test_nan_in_one_place(self, make, method):
        m = near_inverse(make().truth)
        m[3, 4] = np.nan
        assert run(make(), right_hand_sides(100, 3), m=m, method=method)[0].status == "nonfinite"

    def test_interrupt(self, make, method):
        def interrupt(v):
            raise KeyboardInterrupt

        problem = Problem(as_system(make()), right_hand_sides(100, 3), 1e-8, 0.0)
        with pytest.raises(KeyboardInterrupt):
            refine(problem, *problem.start(None), 100, precondition=interrupt, iterate=method)
        assert problem.log.iterations == 0

    @pytest.mark.parametrize("factor", [2.0**-40, 2.0**40])
    def test_its_scale_does_not_count(self, make, method, factor):
        A, b = make(), right_hand_sides(100, 3)
        m = near_inverse(A.truth)
        _, x, problem = run(A, b, m=m, method=method)
        _, y, other = run(A, b, m=factor * m, method=method)
        assert problem.log.iterations == other.log.iterations
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12 * np.abs(x).max())

    @pytest.mark.parametrize("factor", [2.0**-30, 2.0**30])
    def test_nor_does_that_of_b(self, make, method, factor):
        A, b = make(), right_hand_sides(100, 3)
        m = near_inverse(A.truth)
        _, x, problem = run(A, b, m=m, method=method)
        _, y, other = run(A, factor * b, m=m, method=method)
        assert problem.log.iterations == other.log.iterations
        np.testing.assert_array_equal(y, factor * x)

    def test_the_energy_norm_of_the_error(self, make, method):
        """A / 5 <= P <= A: <r, P^-1 r> lies between |e|_A^2 and 5 times that."""
        A, b = make(), right_hand_sides(100, 3)
        exact, size = np.linalg.solve(A.truth, b), np.linalg.norm(b, axis=0)
        root = np.linalg.cholesky(A.truth)
        turn = np.linalg.qr(np.random.default_rng(4).standard_normal((100, 100)))[0]
        half = turn.T @ np.linalg.inv(root)
        m = half.T @ (half / np.linspace(0.2, 1, 100)[:, None])
        exits, x, problem = run(A, b, 1e-5, m=(m + m.T) / 2, method=method)
        error = x - exact
        energy = (error * (A.truth @ error)).sum(axis=0) / size**2
        assert exits.status == "converged" and (energy > 1e-16).all()
        assert (energy <= problem.log.energy * (1 + 1e-6)).all()
        assert (problem.log.energy <= 5 * energy * (1 + 1e-6)).all()

    def test_the_condition_number_is_that_of_what_was_iterated(self, make, method):
        """Of M A in conjugate gradients; a block shows Rayleigh quotients of A itself. Lower bounds, both."""
        A, b = make(), right_hand_sides(100, 3)
        m = near_inverse(A.truth)
        found = run(A, b, m=m, method=method)[2].log.condition()
        root = np.linalg.cholesky(A.truth)
        inner = np.linalg.cond(root.T @ m @ root)
        limit = inner if method is conjugate_gradients else np.linalg.cond(A.truth)
        assert 1 < found <= limit * 1.01
        if method is conjugate_gradients and A.dtype == np.float64:
            assert found > 0.8 * inner


def test_no_energy_without_m_and_none_of_what_did_not_converge():
    A, b = Dense(spd(100, 1e6)), right_hand_sides(100, 2)
    assert run(A, b)[2].log.energy is None
    _, _, problem = run(A, b, m=np.eye(100), maxiter=5)
    assert np.isnan(problem.log.energy).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
class TestSingular:
    def test_duplicated_points(self, dtype, method):
        """Consistent right-hand sides may be solved; others are not, and are not said to be."""
        A = duplicates(40, dtype)
        b = np.c_[A.truth @ right_hand_sides(40), right_hand_sides(40, seed=3)]
        exits, x, _ = run(A, b, 1e-6, method=method)
        assert not exits.converged[1] and exits.status in ("not positive definite", "stagnated", "maxiter")
        if exits.converged[0]:
            assert_solves(A, x[:, 0], b[:, 0], 1e-6)

    @pytest.mark.parametrize("alpha", [1e-4, 1e-8, 1e-12, 0.0])
    def test_alpha_to_0(self, dtype, alpha, method):
        A, b = Dense(gaussian(points(60), 0.3, alpha), dtype), right_hand_sides(60, 3)
        exits, x, _ = run(A, b, 1e-6, method=method, maxiter=1000)
        if exits.status == "converged":
            assert_solves(A, x, b, 1e-6)
        assert exits.status == "converged" or alpha < 1e-4

    def test_a_constant_kernel(self, dtype, method):
        """Two eigenvalues, and so two steps a round; without alpha rank 1, and nothing to solve but multiples of 1."""
        flat = lambda alpha: Dense(np.ones((50, 50)) + alpha * np.eye(50), dtype)  # noqa: E731
        b = np.c_[right_hand_sides(50, 2), np.ones(50)]
        exits, x, problem = run(flat(0.1), b, 1e-6, method=method)
        assert exits.status == "converged" and problem.log.iterations <= 6
        assert_solves(flat(0.1), x, b, 1e-6)
        exits, x, _ = run(flat(0.0), b, 1e-6, method=method)
        assert not exits.converged[:2].any()
        exits, x, _ = run(flat(0.0), b[:, 2:], 1e-6, method=method)
        assert exits.status == "converged"
        assert_solves(flat(0.0), x, b[:, 2:], 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_interrupted_in_m_through_solve(dtype):
    def interrupt(v):
        raise KeyboardInterrupt

    M = LinearOperator((40, 40), matvec=interrupt, matmat=interrupt, dtype=float)
    with pytest.raises(KeyboardInterrupt):
        solve(kernel(40, dtype), right_hand_sides(40, 2), M=M)


@pytest.mark.parametrize("method", METHODS)
def test_watched_in_rounds(method):
    """What watch sees is an iterate of the whole problem, in every round."""
    A, b, seen = kernel(100), right_hand_sides(100, 3), []

    def watch(current):
        seen.append(np.linalg.norm(b - A.truth @ problem.to_units_of_b(current())))

    problem = Problem(as_system(A), b, 1e-9, 0.0)
    x, r = problem.start(None)
    assert refine(problem, x, r, 2000, watch=watch, iterate=method).status == "converged"
    assert len(seen) == problem.log.iterations and seen[-1] < 1e-7 * seen[0]
