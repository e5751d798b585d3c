"""The iteration itself: columns, batches, checks of the residual, memory and what does not depend on scale."""

import tracemalloc

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator
from systems import Dense, assert_solves, kernel, right_hand_sides, rough, spd

from kernelops.solvers.cg import conjugate_gradients
from kernelops.solvers.journal import SolveLog
from kernelops.solvers.problem import power_of_two
from kernelops.solvers.scipy_cg import cg
from kernelops.solvers.stagnation import ResidualGap
from kernelops.solvers.vectors import HOST


def iterate(a, b, rtol=1e-8, maxiter=500, product=None, **keywords):
    """conjugate_gradients from zero, with its Exits, iterate and Journal."""
    x, size = np.zeros_like(b), np.linalg.norm(b, axis=-2)
    log = SolveLog(1 / size)
    exits = conjugate_gradients(product or (lambda v: a @ v), x, b.copy(), rtol * size, maxiter, log, **keywords)
    return exits, x, log


def test_columns_have_their_own_steps():
    a, b = spd(40, 1e3), right_hand_sides(40, 5)
    exits, x, log = iterate(a, b)
    assert exits.status == "converged"
    assert_solves(a, x, b, 1e-8)
    for column in range(5):
        _, alone, diary = iterate(a, b[:, [column]])
        np.testing.assert_allclose(x[:, [column]], alone, rtol=1e-6)
        line = np.array(log.history)[: len(diary.history), column]
        np.testing.assert_allclose(line[:12], np.array(diary.history)[:12, 0], rtol=1e-6)


def test_converged_columns_rest_and_leave_the_product():
    a = spd(40, 1e3)
    easy = np.linalg.eigh(a)[1][:, :2] @ np.diag([1.0, 2.0])  # eigenvectors: one step each
    b = np.column_stack([easy, right_hand_sides(40)])
    widths = []

    def product(v):
        widths.append(v.shape[-1])
        return a @ v

    for keep_best in (False, True):
        widths.clear()
        exits, x, log = iterate(a, b, product=product, keep_best=keep_best)
        assert exits.status == "converged"
        assert widths[:3] == [3, 1, 1]
        assert_solves(a, x, b, 1e-8)
        history = np.array(log.history)
        assert (history[1:, :2] == history[1, :2]).all()


@pytest.mark.parametrize("keep_best", [False, True])
def test_batch_equals_loop(keep_best):
    a = np.stack([spd(20, c, seed=i) for i, c in enumerate([2.0, 1e2, 1e4])])
    b = right_hand_sides(20, 3, 2)
    seen = []
    exits, x, log = iterate(a, b, keep_best=keep_best, watch=lambda current: seen.append(current().copy()))
    assert exits.status == "converged"
    for i in range(3):
        alone_seen = []
        _, alone, diary = iterate(
            a[i], b[i], keep_best=keep_best, watch=lambda current, s=alone_seen: s.append(current().copy())
        )
        np.testing.assert_allclose(x[i], alone, rtol=1e-9)
        np.testing.assert_allclose(seen[-1][i], alone, rtol=1e-9)
        assert log.iterations >= diary.iterations
    assert np.allclose(seen[-1], x)


def test_frozen_elements_of_a_batch_do_not_move():
    a, b = np.stack([np.eye(20), spd(20, 1e3)]), right_hand_sides(20, 2, 1)
    seen = []
    iterate(a, b, watch=lambda current: seen.append(current().copy()))
    assert len(seen) > 5
    assert all((later[0] == seen[0][0]).all() for later in seen)


@pytest.mark.parametrize("keep_best", [False, True])
def test_best_iterate_of_a_failure(keep_best):
    a, b = spd(40, 1e6), right_hand_sides(40, 2)
    for maxiter in range(5, 60, 9):
        exits, x, log = iterate(a, b, maxiter=maxiter, keep_best=keep_best)
        assert exits.status == "maxiter"
        reached = np.linalg.norm(b - a @ x, axis=0) / np.linalg.norm(b, axis=0)
        history = np.array(log.history)
        np.testing.assert_allclose(reached, history.min(axis=0) if keep_best else history[-1], rtol=1e-6)


def test_condition_number_from_the_coefficients():
    a = spd(60, 1e3)
    _, _, log = iterate(a, right_hand_sides(60, 3), rtol=1e-10)
    assert log.condition() == pytest.approx(1e3, rel=1e-3)
    _, _, log = iterate(a, right_hand_sides(60, 3), maxiter=1)
    assert log.condition() is None
    for maxiter in (2, 5, 20):
        assert iterate(a, right_hand_sides(60, 3), maxiter=maxiter)[2].condition() <= 1.0001e3


def test_carried_residual_is_checked_and_the_iteration_starts_anew():
    a, b = spd(40, 1e4), right_hand_sides(40, 1)
    checks = []

    def recompute(x, columns):
        checks.append(np.linalg.norm(b - a @ x))
        return b - a @ x

    noisy = rough(a)  # at rtol 1e-7 its rounding is in the way
    exits, x, _ = iterate(a, b, rtol=1e-7, maxiter=5000, product=noisy.matmat, recompute=recompute)
    assert exits.status == "converged" and len(checks) > 1
    assert_solves(a, x, b, 1e-7)


def test_stagnation_is_told_by_checks_alone():
    a, b = spd(40, 1e4), right_hand_sides(40, 1)
    checks = []

    def recompute(x, columns):
        checks.append(1)
        return b - a @ x

    exits, _, log = iterate(a, b, rtol=0.0, maxiter=10**4, recompute=recompute)
    assert exits.status == "stagnated"
    assert len(checks) < 20 and log.history[-1] < 1e-11
    # a plateau of many iterations is no stagnation
    d = np.geomspace(1e-6, 1, 200)
    exits, x, log = iterate(
        np.diag(d), np.ones((200, 1)), rtol=1e-6, maxiter=5000, recompute=lambda x, c: 1 - d[:, None] * x
    )
    assert exits.status == "converged" and log.iterations > 500


def test_level_is_no_verdict_for_a_matrix_that_rounds_well():
    d = np.geomspace(1e-10, 1, 50)[:, None]
    x, info = cg(np.diag(d[:, 0]), np.ones(50), rtol=1e-10, maxiter=5000)
    assert info == 0
    assert_solves(np.diag(d[:, 0]), x, np.ones(50), 1e-10)


def test_checks_that_do_not_halve_the_residual_are_counted():
    gap, yes = ResidualGap((1,), 0.1), np.array([True])
    for true, exhausted in [(1.0, False), (0.9, False), (0.1, False), (0.09, False), (0.09, False), (0.08, True)]:
        met, replaced = gap.compare(yes, np.array([1e-9]), np.array([true]), np.array([1e-8]))
        assert not met and replaced
        assert gap.has_stagnated(replaced) == exhausted


@pytest.mark.parametrize("dtype, exponents", [("float32", (-30, 30)), ("float64", (-60, 60, -1000, 900))])
def test_powers_of_two_scale_exactly(dtype, exponents):
    a, b = spd(30, 100, dtype), right_hand_sides(30, dtype=dtype)
    counts = []
    x, _ = cg(a, b, rtol=1e-6, callback=lambda xk: counts.append(0))
    for k in exponents:
        calls = []
        s = np.ldexp(1.0, k).astype(dtype)
        y, info = cg(a, s * b, x0=None, rtol=1e-6, callback=lambda xk, calls=calls: calls.append(0))
        assert info == 0 and len(calls) == len(counts)
        np.testing.assert_array_equal(y, s * x)


@pytest.mark.parametrize("k", [-60, 60])
def test_powers_of_two_scale_the_matrix(k):
    a, b = spd(30, 100), right_hand_sides(30)
    x, _ = cg(a, b)
    y, _ = cg(np.ldexp(a, k), b)
    np.testing.assert_array_equal(np.ldexp(y, k), x)


def test_power_of_two():
    sizes = np.array([0.0, 1.0, 1.5, 3e-300, 5e-324, 1e308])
    powers = power_of_two(sizes)
    assert (np.frexp(powers)[0] == 0.5).all() and powers[0] == 1
    assert ((powers[1:4] > sizes[1:4]) & (powers[1:4] <= 2 * sizes[1:4])).all()


@pytest.mark.parametrize("preconditioned, vectors", [(False, 4), (True, 5)])
def test_memory_is_that_of_a_few_vectors(preconditioned, vectors):
    n = 200_000
    d = np.linspace(1, 10, n)
    A = LinearOperator((n, n), matvec=lambda v: d * v, dtype=float)
    M = LinearOperator((n, n), matvec=lambda v: v / np.sqrt(d), dtype=float) if preconditioned else None
    b = np.ones(n)
    tracemalloc.start()
    try:
        cg(A, b, M=M, maxiter=5, rtol=1e-12)  # x, r, p, A p and, with M, z
        loop = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert cg(A, b, M=M)[1] == 0  # one more while the residual is recomputed
        whole = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert loop < (vectors + 0.3) * b.nbytes
    assert whole < 5.3 * b.nbytes


class TestVectors:
    """The operations do what they say on blocks longer than a chunk."""

    shape = (2, 9000, 3)

    def block(self, seed, dtype="float64"):
        draw = np.random.default_rng(seed)
        x = draw.standard_normal(self.shape)
        return (x + 1j * draw.standard_normal(self.shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)

    @pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
    def test_dot(self, dtype):
        x, y = self.block(0, dtype), self.block(1, dtype)
        wide = np.result_type(dtype, np.float64)
        want = (x.astype(wide).conj() * y.astype(wide)).sum(axis=-2)
        got = HOST.dot(x, y)
        assert got.dtype == wide
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)

    def test_axpy_aypx_scale(self):
        a, x, y = np.array([[1.0, 2.0, 0.0], [-1.0, 0.5, 3.0]]), self.block(0), self.block(1)
        got = y.copy()
        HOST.axpy(a, x, got)
        np.testing.assert_allclose(got, y + a[:, None] * x)
        got = y.copy()
        HOST.aypx(a, x, got)
        np.testing.assert_allclose(got, x + a[:, None] * y)
        got = y.copy()
        HOST.scale(a, got)
        np.testing.assert_allclose(got, a[:, None] * y)
        single = y.astype(np.float32)
        HOST.axpy(a, x.astype(np.float32), single)
        assert single.dtype == np.float32

    def test_take_put_join_largest(self):
        x, columns = self.block(0), np.array([2, 0])
        part = HOST.take(x, columns)
        np.testing.assert_array_equal(part, x[..., [2, 0]])
        part[...] = 7
        HOST.put(x, columns, part, np.array([[True, False], [True, True]]))
        assert (x[:, :, 2] == 7).all() and (x[1, :, 0] == 7).all() and not (x[0, :, 0] == 7).any()
        assert HOST.join(x, part).shape == (2, 9000, 5)
        x[1, 5000, 1] = -50
        assert HOST.largest(x)[1, 1] == 50
        x[0, 8999, 0] = np.nan
        assert np.isnan(HOST.largest(x)[0, 0])


def test_kernel_through_cg():
    A, b = kernel(200), right_hand_sides(200, dtype="float32")
    x, info = cg(A, b)
    assert info == 0 and x.dtype == np.float32
    exact, _ = cg(Dense(A.truth), b.astype(np.float64))
    assert np.abs(x - exact).max() < 1e-3 * np.abs(exact).max()
