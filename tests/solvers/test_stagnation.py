"""Every decision of Trust, on both sides: when a residual that is carried along is believed, checked, given up."""

import numpy as np
import pytest

from kernelops.solvers.stagnation import CHECK_EVERY, FLOOR, PATIENCE, ResidualGap

EPS = 2.0**-20


def trust_of(columns=1, level=None, **attributes):
    gap = ResidualGap((columns,), EPS)
    if level is not None:
        gap.attainable = np.full(columns, float(level))
    for name, value in attributes.items():
        setattr(gap, name, np.full(columns, value, getattr(gap, name).dtype))
    return gap


def judged(gap, carried, true, goal, claims=True):
    """The verdict on one column: "met", "astray", or "honest" for what goes on as it is."""
    met, replaced = gap.compare(*(np.array([v]) for v in (claims, float(carried), float(true), float(goal))))
    assert not (met & replaced).any()
    return "met" if met[0] else "astray" if replaced[0] else "honest"


def test_the_level_is_a_tenth_of_the_rounding_of_a_product():
    assert (FLOOR, CHECK_EVERY, PATIENCE) == (0.1, 16, 3) and ResidualGap.interval == CHECK_EVERY
    gap = ResidualGap((2, 3), EPS)
    assert gap.floor.shape == gap.matrix_norm.shape == gap.attainable.shape == gap.stalled.shape == (2, 3)
    assert (gap.floor == 0.1 * EPS).all() and not gap.matrix_norm.any() and not gap.attainable.any()
    assert (ResidualGap((1,), EPS, 7.0).floor == 7 * EPS).all()
    gap.update(np.full((2, 3), 5.0))  # nothing is known of A
    assert not gap.attainable.any()
    gap.observe_norm(np.full((2, 3), 4.0))
    gap.update(np.array([[1.0, 2.0, 3.0]] * 2))
    np.testing.assert_array_equal(gap.attainable, 0.1 * EPS * 4.0 * np.array([[1.0, 2.0, 3.0]] * 2))
    gap.update(np.full((2, 3), 1.0))  # anew, not the largest
    np.testing.assert_array_equal(gap.attainable, np.full((2, 3), 0.1 * EPS * 4.0))


def test_the_norm_of_A_is_the_largest_that_was_seen_by_columns():
    gap = trust_of(3)
    for factors in ([1.0, 5.0, 2.0], [3.0, 4.0, 2.0], [2.0, 0.0, 1.0]):
        gap.observe_norm(np.array(factors))
    assert gap.matrix_norm.tolist() == [3.0, 5.0, 2.0]


def test_a_column_claims_at_its_goal_or_at_its_level():
    gap = trust_of(3)
    gap.attainable = np.array([1.0, 3.0, 2.0])
    assert gap.target(np.array([2.0, 2.0, 2.0]), np.array([9.0, 9.0, 9.0])).tolist() == [2.0, 3.0, 2.0]


@pytest.mark.parametrize(
    "carried, true, verdict",
    [
        (0.5, 1.0, "met"),  # the true residual is the one that counts, and the goal itself will do
        (5.0, 1.0, "met"),
        (0.5, 0.0, "met"),
        (0.5, np.nextafter(1.0, 2), "astray"),  # the carried one says that it is done, and is wrong
        (1.0, 1.5, "astray"),
        (np.nextafter(1.0, 2), 1.5, "honest"),  # it did not say so: it had only come to the level
        (5.0, 10.0, "honest"),  # and is right to a factor of 2
        (5.0, np.nextafter(10.0, 11), "astray"),
        (5.0, 2.0, "honest"),  # less than was carried is no harm
        (5.0, np.inf, "astray"),
        (5.0, np.nan, "astray"),
    ],
)
def test_verdicts_at_a_goal_of_one(carried, true, verdict):
    assert judged(trust_of(level=8.0), carried, true, 1.0) == verdict


def test_of_a_column_that_claims_nothing_nothing_is_said():
    for carried, true in ((0.5, 0.5), (0.5, 5.0), (5.0, 5.0), (5.0, 50.0)):
        gap = trust_of(level=8.0)
        before = {k: np.copy(v) for k, v in vars(gap).items()}
        met, replaced = gap.compare(*(np.array([v]) for v in (False, carried, true, 1.0)))
        assert not met.any() and not replaced.any()
        assert all((getattr(gap, k) == v).all() for k, v in before.items())


def test_an_honest_column_is_looked_at_again_a_decade_further_down():
    gap = trust_of(level=8.0)
    floor = gap.floor.copy()
    assert judged(gap, 5.0, 6.0, 1.0) == "honest"
    assert gap.attainable == 0.1 * 5.0 and gap.floor == floor * (0.1 * 5.0 / 8.0)
    assert gap.checked == np.inf and gap.stalled == 0
    gap.update(np.array([1.0]))  # and so it stays when the level is set anew
    assert gap.attainable == 0.0
    gap.observe_norm(np.array([8.0 / floor[0]]))
    gap.update(np.array([1.0]))
    np.testing.assert_allclose(gap.attainable, 0.1 * 5.0)


def test_a_column_that_met_leaves_everything_as_it_is():
    gap = trust_of(level=8.0)
    assert judged(gap, 5.0, 0.5, 1.0) == "met"
    assert gap.attainable == 8.0 and gap.checked == np.inf and gap.stalled == 0


def test_a_check_that_does_not_halve_the_true_residual_is_a_miss():
    gap = trust_of(level=0.0)
    for true, misses in ((64.0, 0), (32.0, 0), (np.nextafter(16.0, 17), 1), (9.0, 2), (4.5, 0), (4.0, 1), (9.0, 2)):
        assert judged(gap, 0.5, true, 1.0) == "astray"
        assert gap.stalled == misses and gap.checked == true, true


def test_a_column_is_exhausted_by_three_misses_in_a_row_while_it_is_astray():
    gap = trust_of(4)
    gap.stalled = np.array([2, 3, 4, 3])
    assert gap.has_stagnated(np.array([True, True, True, False])).tolist() == [False, True, True, False]


def test_columns_are_judged_by_themselves():
    gap = trust_of(4, level=8.0)
    claims, goal = np.array([True, True, True, False]), np.array([1.0, 1.0, 4.0, 1.0])
    met, replaced = gap.compare(claims, np.array([5.0, 0.5, 5.0, 0.5]), np.array([6.0, 7.0, 3.0, 9.0]), goal)
    assert met.tolist() == [False, False, True, False] and replaced.tolist() == [False, True, False, False]
    assert gap.attainable.tolist() == [0.5, 8.0, 8.0, 8.0]
    assert gap.checked.tolist() == [np.inf, 7.0, np.inf, np.inf]
    for _ in range(PATIENCE):
        _, replaced = gap.compare(claims, np.array([5.0, 0.5, 5.0, 0.5]), np.array([6.0, 7.0, 3.0, 9.0]), goal)
    assert gap.stalled.tolist() == [0, 3, 0, 0] and gap.has_stagnated(replaced).tolist() == [False, True, False, False]


def test_an_iteration_that_cannot_go_on_ends_after_three_misses():
    """As conjugate gradients use it: the carried residual falls on, the true one stays."""
    gap, goal, ends = trust_of(level=0.0), np.array([1.0]), []
    for _ in range(9):
        _, replaced = gap.compare(np.array([True]), np.array([0.5]), np.array([7.0]), goal)
        ends.append(bool(gap.has_stagnated(replaced)[0]))
    assert ends == [False] * 3 + [True] * 6
