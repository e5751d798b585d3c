"""Iterative refinement: float32 products do the work, float64 products say what it is worth."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator
from systems import Dense, assert_solves, kernel, relative_residual, right_hand_sides, spd

from kernelops.solvers import solve
from kernelops.solvers.refine import PROBE, ROUND_DEPTH, ROUND_MARGIN, SURE, RefinementRound


def test_the_seed_problem_in_small():
    """Gaussian kernel of random points in the unit square, alpha 0.01, two columns, float32."""
    A, b = kernel(1000), right_hand_sides(1000, 2, dtype="float32")
    solution = solve(A, b)
    assert solution.converged
    assert_solves(A, solution.x, b, 1e-6)
    assert solution.products["float64"] <= 3  # one a round
    double = solve(Dense(A.truth, symmetric="yes"), b)
    assert solution.products["float32"] <= 2 * double.products["float64"]
    assert solution.residual_returned.max() > 1e-6 > solution.residual.max()  # rounding x to float32 costs more


@pytest.mark.parametrize("rtol", [1e-1, 1e-4, 1e-8, 1e-12])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_any_tolerance(dtype, rtol):
    A, b = kernel(200, dtype), right_hand_sides(200, 3)
    solution = solve(A, b, rtol=rtol)
    assert solution.converged
    assert_solves(A, solution.x, b, rtol)
    assert solution.products["float64"] <= 6


def test_complex():
    A, b = Dense(spd(60, 1e3, "complex64"), "complex64"), right_hand_sides(60, 2, dtype="complex64")
    solution = solve(A, b, rtol=1e-9)
    assert solution.converged and solution.x.dtype == np.complex128
    assert solution.products["complex64"] > solution.products["complex128"]
    assert_solves(A, solution.x, b, 1e-9)
    A, b = kernel(100), right_hand_sides(100) + 1j * right_hand_sides(100, seed=5)
    assert_solves(A, solve(A, b).x, b, 1e-6)


def test_float64_data_needs_no_rounds():
    solution = solve(kernel(100, "float64"), right_hand_sides(100, dtype="float32"))
    assert set(solution.products) == {"float64"}


@pytest.mark.parametrize("alpha", [1e-6, 1e-8])
def test_beyond_float32_it_goes_on_in_float64(alpha):
    A, b = kernel(200, alpha=alpha), right_hand_sides(200)
    solution = solve(A, b, maxiter=20000, on_fail="ignore")
    assert solution.products["float64"] > 100
    assert solution.converged
    assert_solves(A, solution.x, b, 1e-6)
    assert solution.products["float32"] < solution.products["float64"]  # and loses little before


@pytest.mark.parametrize("alpha", [1e-4, 1e-5, 1e-6, 1e-8])
@pytest.mark.parametrize("method", ["cg", "block_cg"])
def test_no_more_steps_of_float32_than_there_are_rows_where_they_get_nowhere(method, alpha):
    """Condition numbers from 1e5 to 1e9: the residuals in float32 are known well, and yet do not fall."""
    A, b = kernel(200, alpha=alpha), right_hand_sides(200, 4)
    solution = solve(A, b, maxiter=2000, method=method, on_fail="ignore")
    assert solution.products["float32"] <= 400 and solution.products["float64"] > 200
    assert solution.converged or method == "cg" or alpha < 1e-6
    if solution.converged:
        assert_solves(A, solution.x, b, 1e-6)


def test_overflow_in_float32_is_not_the_end():
    a = spd(30, 10) * 1e30  # its products with large directions pass 3e38 in float32

    class Huge(Dense):
        def product(self, block):
            if block.dtype == np.float32:
                return super().product(block) * np.float32(1e30)
            return super().product(block)

    with np.errstate(over="ignore", invalid="ignore"):
        solution = solve(Huge(a, "float64"), right_hand_sides(30))
        assert solution.converged
        A = Huge(spd(30, 10), "float32")
        A.product = lambda block, A=A: np.full_like(block, np.inf) if block.dtype == np.float32 else A.truth @ block
        solution = solve(A, right_hand_sides(30))
    assert solution.converged
    assert_solves(A, solution.x, right_hand_sides(30), 1e-6)


def test_columns_of_very_different_difficulty():
    A = kernel(200)
    vectors = np.linalg.eigh(A.truth)[1]
    b = np.column_stack([vectors[:, -1], right_hand_sides(200), np.zeros(200)])
    solution = solve(A, b, rtol=1e-9)
    assert solution.converged and not solution.x[:, 2].any()
    assert_solves(A, solution.x, b, 1e-9)


def test_batches():
    class Batch(Dense):
        pass

    parts = [kernel(60, alpha=alpha, seed=i) for i, alpha in enumerate([1.0, 1e-2, 1e-3])]
    A = Batch(lambda dtype: np.stack([part.matrix(dtype) for part in parts]), "float32")
    b = right_hand_sides(60, 3, 2)
    together = solve(A, b)
    assert together.converged
    for part, x, column in zip(parts, together.x, b, strict=True):
        assert_solves(part, x, column, 1e-6)


def test_history_is_one_line_over_all_rounds():
    solution = solve(kernel(200), right_hand_sides(200, 2), rtol=1e-10)
    assert solution.history.shape == (solution.iterations + 1, 2)
    jumps = solution.worst[1:] / solution.worst[:-1]
    assert jumps.max() < 20 and (solution.history[-1] == solution.residual).all()


def test_maxiter_counts_all_rounds():
    A, b = kernel(200), right_hand_sides(200)
    needed = solve(A, b, rtol=1e-10).iterations
    for maxiter in (1, needed // 2):
        solution = solve(A, b, rtol=1e-10, maxiter=maxiter, on_fail="ignore")
        assert solution.status == "maxiter" and solution.iterations == maxiter
        assert solution.residual == pytest.approx(
            np.linalg.norm(b - A.truth @ solution.x) / np.linalg.norm(b), rel=1e-6
        )


class TestRound:
    """How deep a round goes, from what is known of its error."""

    @staticmethod
    def round(level, preconditioned=False, start=1.0, rows=1000):
        gap = RefinementRound((1,), 2.0**-24, preconditioned, rows)
        gap.begin(np.array([start]))
        gap.attainable = np.array([level])
        return gap

    @pytest.mark.parametrize("goal", [1e-1, 1e-3, 1e-6, 1e-13])
    @pytest.mark.parametrize("level", [1.1e-2, 0.9e-5])
    def test_as_few_as_can_be_and_all_alike(self, goal, level):
        norm, aims = 1.0, []
        while norm > goal:
            gap = self.round(level * norm, start=norm)
            aims.append(gap.target(np.array([goal]), np.ones(1))[0] / norm)
            norm *= aims[-1]
        assert len(aims) == max(1, int(np.ceil(np.log(goal) / np.log(level))))
        assert min(aims) >= SURE * level and max(aims) <= min(aims) / SURE * (1 + 1e-9)

    def test_the_last_round_is_told_from_others(self):
        for level, last in ((0.99e-4, True), (1.01e-4, False)):
            gap = self.round(level)
            aim = gap.target(np.array([1e-4]), np.ones(1))
            assert gap.last[0] == last
            assert (aim[0] == pytest.approx(SURE * 1e-4)) == last

    def test_with_a_preconditioner_the_first_round_goes_no_deeper_than_usual(self):
        for goal, last in ((1.01 * ROUND_DEPTH, True), (0.99 * ROUND_DEPTH, False)):
            gap = self.round(0.0, preconditioned=True)
            gap.target(np.array([goal]), np.ones(1))
            assert gap.last[0] == last

    def test_what_a_round_shows_counts_from_then_on(self):
        gap = self.round(0.0)
        gap.observe_norm(np.array([100.0]))
        gap.update(np.array([2.0]))
        assert gap.attainable[0] == pytest.approx(200 * 2.0**-24)
        gap.calibrate(np.array([1e-5]), np.array([4.0]))
        gap.update(np.array([2.0]))
        assert gap.attainable[0] == pytest.approx(ROUND_MARGIN * 0.5e-5)
        for error, size in ((np.nan, 1.0), (1.0, 0.0)):  # nothing was learnt
            gap.calibrate(np.array([error]), np.array([size]))
            gap.update(np.array([2.0]))
            assert gap.attainable[0] == pytest.approx(ROUND_MARGIN * 0.5e-5)

    def test_a_round_of_unknown_error_that_gets_nowhere_ends(self):
        gap, goal = self.round(0.0, preconditioned=True), np.array([1e-6])
        assert all(np.isfinite(gap.target(goal, np.ones(1))[0]) for _ in range(PROBE))
        assert np.isfinite(gap.target(goal, np.array([0.4]))[0]) and not gap.probing[0]  # it gets somewhere
        assert np.isinf(gap.target(goal, np.ones(1))[0]) and gap.probing[0]
        gap.calibrate(np.array([1e-5]), np.ones(1))
        gap.begin(np.ones(1))
        assert all(np.isfinite(gap.target(goal, np.ones(1))[0]) for _ in range(2 * PROBE))

    @pytest.mark.parametrize("preconditioned", [False, True])
    def test_a_round_that_does_not_halve_a_residual_in_as_many_steps_as_there_are_rows_fails(self, preconditioned):
        gap, goal = self.round(0.0, preconditioned, rows=40), np.array([1e-6])
        assert all(np.isfinite(gap.target(goal, np.ones(1))[0]) for _ in range(40)) and not gap.failed[0]
        assert all(np.isfinite(gap.target(goal, np.array([0.5]))[0]) for _ in range(39)) and not gap.failed[0]
        assert np.isinf(gap.target(goal, np.array([0.5]))[0]) and gap.failed[0]  # twice as many, and a half is left
        gap.begin(np.ones(1))
        assert not gap.failed[0] and np.isfinite(gap.target(goal, np.ones(1))[0])


def counted(A):
    """The dtypes and widths of the products of A from now on."""
    log, product = [], A.product

    def counting(block):
        log.append((block.dtype.name, block.shape[-1]))
        return product(block)

    A.product = counting
    return log


def inverse(A, dtype="float32"):
    """The inverse of A, rounded, in a product that answers in its own precision."""
    m = np.linalg.inv(A.truth).astype(dtype)
    return LinearOperator(
        m.shape, matvec=lambda v: m @ v.astype(dtype), matmat=lambda v: m @ v.astype(dtype), dtype=dtype
    )


@pytest.mark.parametrize("rtol, rounds", [(1e-4, 1), (1e-6, 1), (1e-10, 2)])
def test_a_preconditioner_that_is_nearly_exact(rtol, rounds):
    """One iteration a round, as a round of it goes as deep as float32 does: to 2e-7, where A is nearly 100 I."""
    A, b = kernel(300, alpha=100.0), right_hand_sides(300, 2)
    for dtype in ("float32", "float64"):
        solution = solve(A, b, rtol=rtol, M=inverse(A, dtype))
        assert solution.converged
        assert_solves(A, solution.x, b, rtol)
        assert solution.products == {"float32": rounds, "float64": rounds}


def test_only_the_last_residual_takes_the_rounded_iterate_along():
    A, b = kernel(300), right_hand_sides(300, 2, dtype="float32")
    log = counted(A)
    solution = solve(A, b, rtol=1e-9)
    widths = [width for dtype, width in log if dtype == "float64"]
    assert len(widths) >= 3 and widths == [2] * (len(widths) - 1) + [4]
    returned = relative_residual(A, solution.x.astype(np.float32), b)
    np.testing.assert_allclose(solution.residual_returned, returned, rtol=1e-4)


def test_the_rounded_iterate_is_looked_at_wherever_it_ends():
    """With a start that is good enough, with one column that is done early, and where nothing converges."""
    A, b = kernel(200), right_hand_sides(200, 2, dtype="float32")
    exact = np.linalg.solve(A.truth, b)
    start = exact * [1.0, 0.0]
    for x0, keywords in ((exact, {}), (start, {}), (start, dict(maxiter=3)), (start, dict(rtol=1e-2))):
        solution = solve(A, b, x0, on_fail="ignore", **keywords)
        returned = relative_residual(A, solution.x.astype(np.float32), b)
        np.testing.assert_allclose(solution.residual_returned, returned, rtol=1e-4)
        assert solution.residual_returned[0] > 1e-7  # of x in float32


def test_columns_that_are_done_leave_the_residual():
    A, b = kernel(200), right_hand_sides(200, 2)
    log = counted(A)
    x0 = np.linalg.solve(A.truth, b) * [1.0, 0.0]
    assert solve(A, b.astype(np.float32), x0, rtol=1e-7).converged
    widths = [width for dtype, width in log if dtype == "float64"]
    first, *between, last, forgotten = widths  # where it starts, the rounds, and the column that was there already
    assert (first, last, forgotten) == (2, 2, 1) and set(between) == {1}
