"""Iterative refinement: float32 products do the work, float64 products say what it is worth."""

import numpy as np
import pytest
from systems import Dense, assert_solves, kernel, right_hand_sides, spd

from kernelops.solvers import solve
from kernelops.solvers.refine import ROUND, _aim


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


@pytest.mark.parametrize("goal", [1e-1, 1e-3, 1e-6, 1e-13])
def test_rounds_share_what_is_left_to_do(goal):
    norm, rounds = np.array([1.0]), 0
    while norm > goal:
        aim = _aim(norm, np.array([goal]))
        assert norm * ROUND**1.5 <= aim < norm
        norm, rounds = aim, rounds + 1
    assert rounds == max(1, round(np.log(goal / 2) / np.log(ROUND)))
