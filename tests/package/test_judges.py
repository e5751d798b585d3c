"""The judges let the right answer pass, and convict."""

import numpy as np
import pytest
from judges import assert_solves, assert_sum_close

ones = np.ones((3, 100))


def test_sums_that_are_right_pass():
    rng = np.random.default_rng(0)
    terms = rng.standard_normal((200, 7))
    assert_sum_close(terms.sum(0), terms, 0)
    single = terms.astype(np.float32)
    assert_sum_close(single.sum(0), single, 0)
    assert_sum_close(terms.sum(0) - 1e-3, terms, 0, slack=1.01e-3)
    assert_sum_close(np.zeros((3, 0)), np.zeros((3, 5, 0)), 1)
    assert_sum_close(np.array([np.inf, np.nan, 0.0]), np.array([[np.inf, 1], [np.nan, 1], [1, -1]]), 1)


@pytest.mark.parametrize(
    "wrong",
    [
        ones.sum(1) * (1 + 1e-12),
        ones.sum(1)[:2],
        ones.sum(1).astype(np.float32) * np.float32(1 + 1e-5),
        np.array([100, 100, np.nan]),
        np.array([100, 100, np.inf]),
    ],
)
def test_sums_that_are_wrong_do_not(wrong):
    with pytest.raises(AssertionError):
        assert_sum_close(wrong, ones, 1)


def test_nothing_excuses_a_number_where_nan_or_infinity_is_due():
    for due in (np.nan, np.inf):
        for got in (0.0, -np.inf):
            with pytest.raises(AssertionError):
                assert_sum_close(np.array([got]), np.array([[1.0, due]]), 1)


def test_cancellation_is_judged_by_the_magnitudes():
    terms = np.array([[1e8, -1e8, 1.0]])
    assert_sum_close(np.array([1 + 1e-8]), terms, 1)
    with pytest.raises(AssertionError):
        assert_sum_close(np.array([1 + 2e-6]), terms, 1)


def test_residuals():
    rng = np.random.default_rng(1)
    half = rng.standard_normal((20, 20))
    matrix, rhs = half @ half.T + np.eye(20), rng.standard_normal((20, 2)) * [1, 1e-9]
    right = np.linalg.solve(matrix, rhs)
    assert_solves(matrix, right, rhs, 1e-10)
    direction = np.linalg.solve(matrix, rng.standard_normal(20))
    direction /= np.linalg.norm(matrix @ direction)
    for column in (0, 1):
        size = np.linalg.norm(rhs[:, column])
        for error, convicted in ((1.05e-6, False), (1.2e-6, True)):
            wrong = right.copy()
            wrong[:, column] += error * size * direction
            if convicted:
                with pytest.raises(AssertionError):
                    assert_solves(matrix, wrong, rhs, 1e-6)
            else:
                assert_solves(matrix, wrong, rhs, 1e-6)


def test_a_solution_of_nan_or_of_another_shape_is_convicted():
    for wrong in (np.full((3, 1), np.nan), np.ones(3)):
        with pytest.raises(AssertionError):
            assert_solves(np.eye(3), wrong, np.ones((3, 1)), 1e-6)
