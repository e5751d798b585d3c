"""Block conjugate gradients: fewer products, blocks of any rank, and every way out."""

import numpy as np
import pytest
from systems import Dense, assert_solves, duplicates, indefinite, kernel, poisoned, right_hand_sides, rough, spd

from kernelops.solvers.block_cg import DEPENDENT, block_conjugate_gradients, orthonormal
from kernelops.solvers.cg import conjugate_gradients
from kernelops.solvers.journal import SolveLog
from kernelops.solvers.operator import as_system
from kernelops.solvers.problem import Problem
from kernelops.solvers.refine import iterate_in_double, refine
from kernelops.solvers.vectors import HOST


def iterate(a, b, rtol=1e-8, maxiter=500, method=block_conjugate_gradients, product=None, checked=True, **keywords):
    """The iteration from zero on columns of size 1, with its Exits, iterate and Journal."""
    x, size = np.zeros_like(b), np.linalg.norm(b, axis=-2)
    log = SolveLog(np.divide(1, size, out=np.zeros_like(size), where=size > 0))
    if checked:
        keywords["recompute"] = lambda x, columns: b[..., columns] - a @ x
    exits = method(product or (lambda v: a @ v), x, b.copy(), rtol * size, maxiter, log, **keywords)
    return exits, x, log


def test_columns_help_each_other():
    """A block of k columns deals with k eigenvalues a step: in exact arithmetic 60 take at most 60 / k steps."""
    a, b = spd(60, 1e4), right_hand_sides(60, 12)
    alone = iterate(a, b, method=conjugate_gradients)[2].iterations
    exits, x, log = iterate(a, b)
    assert exits.status == "converged"
    assert_solves(a, x, b, 1e-8)
    assert log.iterations <= 60 // 12 + 2 and alone > 60


def test_one_column_is_plain_conjugate_gradients():
    """Of a matrix that is solved before rounding tells: later, no two iterations are alike."""
    a, b = spd(40, 10), right_hand_sides(40, 1)
    _, x, log = iterate(a, b)
    _, y, diary = iterate(a, b, method=conjugate_gradients)
    assert abs(log.iterations - diary.iterations) <= 1  # by rounding
    np.testing.assert_allclose(log.history[:20], diary.history[:20], rtol=1e-10)
    assert np.linalg.norm(x - y) <= 2e-8 * np.linalg.norm(b)  # the smallest eigenvalue is 1


def dependent(n):
    b = right_hand_sides(n, 3)
    other = right_hand_sides(n, 1, seed=9)
    return {
        "twice the same": np.c_[b, b],
        "rank 1": np.outer(b[:, 0], np.linspace(-1, 2, 8)),
        "a column of zeros": np.c_[b, np.zeros(n)],
        "nothing but zeros": np.zeros((n, 3)),
        "nearly dependent": np.c_[b, b[:, :1] + 1e-9 * other],
        "sizes far apart": b * [1e-150, 1.0, 1e150],
        "more columns than rows": right_hand_sides(n, n + 5),
    }


@pytest.mark.parametrize("name", dependent(30))
def test_dependent_columns(name):
    a, b = spd(30, 1e3), dependent(30)[name]
    exits, x, log = iterate(a, b)
    assert exits.status == "converged"
    assert_solves(a, x, b, 1e-8)
    assert not x[:, ~b.any(axis=0)].any()
    rank = {"rank 1": 1, "twice the same": 3}.get(name)
    if rank:
        part = b[:, :rank]
        assert log.iterations <= 1.1 * iterate(a, part)[2].iterations + 1


@pytest.mark.parametrize("dtype", ["float32", "complex64", "complex128"])
def test_dtypes(dtype):
    a, b = spd(40, 50, dtype), right_hand_sides(40, 4).astype(dtype)
    if b.dtype.kind == "c":
        b = b + 1j * right_hand_sides(40, 4, seed=7).astype(dtype)
    exits, x, _ = iterate(a, b, rtol=1e-4)
    assert exits.status == "converged" and x.dtype == dtype
    assert_solves(a, x, b, 1e-4)


@pytest.mark.parametrize("keep_best", [False, True])
def test_batch_equals_loop(keep_best):
    """Elements whose blocks have different ranks, and end at different times."""
    a = np.stack([spd(24, c, seed=i) for i, c in enumerate([2.0, 1e2, 1e4])])
    b = right_hand_sides(24, 3, 4)
    b[0, :, 1] = b[0, :, 0]
    b[1, :, 1:] = 0
    seen = []
    x, size = np.zeros_like(b), np.linalg.norm(b, axis=-2)
    log = SolveLog(np.ones_like(size))
    exits = block_conjugate_gradients(
        lambda v: a @ v,
        x,
        b.copy(),
        1e-9 * size,
        500,
        log,
        keep_best=keep_best,
        watch=lambda now: seen.append(now().copy()),
    )
    assert exits.status == "converged"
    for i in range(3):
        _, alone, diary = iterate(a[i], b[i], rtol=1e-9, keep_best=keep_best, checked=False)
        np.testing.assert_allclose(x[i], alone, rtol=1e-6, atol=1e-9)
        assert log.iterations >= diary.iterations
    assert len(seen) == log.iterations and np.array_equal(seen[-1], x)


def test_columns_that_are_done_leave_the_product():
    a, widths = spd(40, 1e3), []
    easy = np.linalg.eigh(a)[1][:, :2]  # eigenvectors: one step for both
    b = np.c_[easy, right_hand_sides(40, 2)]

    def product(v):
        widths.append(v.shape[-1])
        return a @ v

    exits, x, log = iterate(a, b, product=product)
    assert exits.status == "converged" and widths[0] == 4 and set(widths[2:]) <= {2, 1}
    assert_solves(a, x, b, 1e-8)
    assert (np.array(log.history)[2:, :2] == np.array(log.history)[2, :2]).all()


class TestPreconditioned:
    def test_it_helps(self):
        a, b = spd(60, 1e6), right_hand_sides(60, 3)
        m = np.linalg.inv(a + 1e-2 * spd(60, 1e3, seed=8))
        plain, helped = iterate(a, b)[2].iterations, iterate(a, b, precondition=lambda v: m @ v)
        assert helped[0].status == "converged" and helped[2].iterations < plain
        assert_solves(a, helped[1], b, 1e-8)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_nearly_exact(self, dtype):
        a, b = spd(60, 1e3), right_hand_sides(60, 3)
        m = np.linalg.inv(a).astype(dtype)
        exits, x, log = iterate(a, b, precondition=lambda v: m @ v.astype(dtype))
        assert exits.status == "converged" and log.iterations <= (3 if dtype == "float32" else 1)
        assert_solves(a, x, b, 1e-8)

    @pytest.mark.parametrize("m", [-np.eye(40), np.zeros((40, 40)), indefinite(40)], ids=["negative", "zero", "mixed"])
    def test_indefinite_preconditioner(self, m):
        exits, _, _ = iterate(spd(40, 1e4), right_hand_sides(40, 3), precondition=lambda v: m @ v)
        assert exits.indefinite_preconditioner.any() and exits.status == "not positive definite"

    def test_nan(self):
        exits, _, _ = iterate(spd(40), right_hand_sides(40, 3), precondition=lambda v: v * np.nan)
        assert exits.status == "nonfinite"


class TestWaysOut:
    @pytest.mark.parametrize("a", [indefinite(30), -spd(30), np.zeros((30, 30))], ids=["mixed", "negative", "zero"])
    def test_indefinite(self, a):
        exits, x, _ = iterate(a, right_hand_sides(30, 3), keep_best=True)
        assert exits.indefinite.any() and exits.status == "not positive definite"
        reached = np.linalg.norm(right_hand_sides(30, 3) - a @ x, axis=0)
        assert (reached <= np.linalg.norm(right_hand_sides(30, 3), axis=0)).all()

    def test_singular(self):
        A = duplicates()
        exits, _, log = iterate(A.truth, right_hand_sides(40, 3), keep_best=True)
        assert exits.status in ("not positive definite", "stagnated") and log.iterations < 200

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_nonfinite(self, value):
        with np.errstate(invalid="ignore"):
            exits, _, _ = iterate(poisoned(20, value), right_hand_sides(20, 3))
        assert exits.nonfinite and exits.status == "nonfinite"

    def test_stagnation(self):
        a, b = spd(40, 1e4), right_hand_sides(40, 3)
        exits, x, log = iterate(a, b, rtol=0.0, maxiter=10**4, keep_best=True)
        assert exits.status == "stagnated" and log.iterations < 200
        assert_solves(a, x, b, 1e-11)

    def test_a_carried_residual_is_checked_and_the_iteration_goes_on(self):
        a, b = spd(40, 1e3), right_hand_sides(40, 3)
        exits, x, _ = iterate(a, b, rtol=1e-8, maxiter=3000, product=rough(a).matmat)
        assert exits.status == "converged"
        assert_solves(a, x, b, 1e-8)
        lazy, y, _ = iterate(a, b, rtol=1e-8, product=rough(a).matmat, checked=False)
        assert lazy.status != "converged" or np.linalg.norm(b - a @ y) > 1e-8 * np.linalg.norm(b)

    def test_maxiter_leaves_the_best(self):
        a, b = spd(200, 1e8), right_hand_sides(200, 3)
        for maxiter in (0, 1, 5, 11, 30):
            for keep_best in (False, True):
                exits, x, log = iterate(a, b, maxiter=maxiter, keep_best=keep_best)
                assert exits.status == "maxiter" and log.iterations == maxiter
                reached = np.linalg.norm(b - a @ x, axis=0) / np.linalg.norm(b, axis=0)
                history = np.array(log.history)
                np.testing.assert_allclose(reached, history.min(axis=0) if keep_best else history[-1], rtol=1e-5)

    def test_stop(self):
        a, b, seen = spd(40, 1e4), right_hand_sides(40, 3), []

        def watch(current):
            seen.append(current().copy())
            if len(seen) == 4:
                raise StopIteration

        exits, x, log = iterate(a, b, watch=watch)
        assert exits.status == "stopped" and log.iterations == 4
        np.testing.assert_array_equal(seen[-1], x)

    @pytest.mark.parametrize("where", ["product", "precondition"])
    def test_interrupt(self, where):
        def interrupt(v):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            iterate(spd(), right_hand_sides(40, 3), **{where: interrupt})


@pytest.mark.parametrize("k", [-60, 60])
def test_powers_of_two_scale_the_matrix(k):
    a, b = spd(30, 100), right_hand_sides(30, 3)
    x, y = iterate(a, b)[1], iterate(np.ldexp(a, k), b)[1]
    np.testing.assert_allclose(np.ldexp(y, k), x, rtol=1e-12)


def test_condition_is_a_lower_bound():
    a = spd(60, 1e3)
    found = iterate(a, right_hand_sides(60, 3))[2].condition()
    assert 10 < found <= 1.0001e3
    for A in (Dense(a), kernel(200)):
        problem = Problem(as_system(A), right_hand_sides(A.n, 4), 1e-8, 0.0)
        refine(problem, *problem.start(None), 500, iterate=block_conjugate_gradients)
        true = np.linalg.cond(A.truth)
        assert 0.4 * true < problem.log.condition() <= 1.0001 * true


@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-10])
def test_in_rounds_of_float32(rtol):
    A, b = kernel(400), right_hand_sides(400, 8, dtype="float32")
    count = {}
    for method in (conjugate_gradients, block_conjugate_gradients):
        problem = Problem(as_system(A), b, rtol, 0.0)
        x, r = problem.start(None)
        exits = refine(problem, x, r, 4000, iterate=method)
        assert exits.status == "converged"
        assert_solves(A, problem.to_units_of_b(x), b, rtol)
        count[method] = problem.log.products["float32"]
    assert count[block_conjugate_gradients] < count[conjugate_gradients] / 2


def test_from_rounds_that_do_not_contract_to_float64():
    A, b = kernel(200, alpha=1e-6), right_hand_sides(200, 4)
    problem = Problem(as_system(A), b, 1e-6, 0.0)
    x, r = problem.start(None)
    assert refine(problem, x, r, 4000, iterate=block_conjugate_gradients).status == "converged"
    assert problem.log.products["float64"] > 10
    assert problem.log.products["float32"] <= 200  # so many steps would do, and have not even halved a residual
    assert_solves(A, problem.to_units_of_b(x), b, 1e-6)


def test_in_double_from_a_start():
    A, b = Dense(spd(50, 1e4)), right_hand_sides(50, 4)
    exact = np.linalg.solve(A.truth, b)
    problem = Problem(as_system(A), b, 1e-8, 0.0)
    x, r = problem.start(problem.to_scaled_units(exact * [1, 0, 1, 1.001]))
    assert iterate_in_double(problem, x, r, 500, iterate=block_conjugate_gradients).status == "converged"
    assert_solves(A, problem.to_units_of_b(x), b, 1e-8)
    np.testing.assert_array_equal(problem.to_units_of_b(x)[:, 0], exact[:, 0])


class TestOrthonormal:
    def test_rank_on_both_sides_of_the_threshold(self):
        q = np.linalg.qr(right_hand_sides(50, 2))[0]
        limit = DEPENDENT["d"] ** 0.5
        for angle, rank in ((limit * 4, 2), (limit, 1)):  # eigenvalues 1 +- cos angle: 2 and angle^2 / 2
            z = np.c_[q[:, 0], q[:, 0] + angle * q[:, 1]]
            p, independent = orthonormal(z, np.ones(2, bool), HOST)
            assert p.shape == (50, rank) and independent.all()
            np.testing.assert_allclose(p.T @ p, np.eye(rank), atol=0.1)  # it takes a second time

    def test_sizes_do_not_count_and_unwanted_columns_are_left_out(self):
        z = right_hand_sides(50, 3) * [1e-100, 1.0, 1e100]
        p, _ = orthonormal(z, np.array([True, False, True]), HOST)
        assert p.shape == (50, 2)
        np.testing.assert_allclose(p.T @ p, np.eye(2), atol=1e-12)
        rest = z[:, [0, 2]] / [1e-100, 1e100]
        np.testing.assert_allclose(p @ (p.T @ rest), rest, atol=1e-10)

    def test_nothing(self):
        assert orthonormal(np.zeros((5, 2)), np.ones(2, bool), HOST)[0] is None


class TestVectors:
    @pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
    def test_gram_and_combine(self, dtype):
        x, y = right_hand_sides(9000, 2, 3).astype(dtype), right_hand_sides(9000, 2, 2, seed=5).astype(dtype)
        if x.dtype.kind == "c":
            x = x + dtype_i(dtype) * right_hand_sides(9000, 2, 3, seed=6).astype(dtype)
        wide = np.result_type(dtype, np.float64)
        gram = HOST.gram(x, y)
        assert gram.dtype == wide and gram.shape == (2, 3, 2)
        want = np.einsum("bnk,bnl->bkl", x.astype(wide).conj(), y.astype(wide))
        np.testing.assert_allclose(gram, want, rtol=1e-10, atol=1e-10)
        mixed = HOST.combine(x, gram)
        assert mixed.dtype == dtype and mixed.shape == (2, 9000, 2)
        np.testing.assert_allclose(mixed, x.astype(wide) @ gram, rtol=1e-3, atol=1e-2 * np.abs(gram).max() * 1e-3)


def dtype_i(dtype):
    return np.dtype(dtype).type(1j)
