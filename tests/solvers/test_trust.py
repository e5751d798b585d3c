"""Every decision of Trust, on both sides: when a residual that is carried along is believed, checked, given up."""

import numpy as np
import pytest

from kernelops.solvers.stagnation import CHECK_EVERY, FLOOR, PATIENCE, Trust

EPS = 2.0**-20


def trust_of(columns=1, level=None, **attributes):
    trust = Trust((columns,), EPS)
    if level is not None:
        trust.level = np.full(columns, float(level))
    for name, value in attributes.items():
        setattr(trust, name, np.full(columns, value, getattr(trust, name).dtype))
    return trust


def judged(trust, carried, true, goal, claims=True):
    """The verdict on one column: "met", "astray", or "honest" for what goes on as it is."""
    met, astray = trust.judge(*(np.array([v]) for v in (claims, float(carried), float(true), float(goal))))
    assert not (met & astray).any()
    return "met" if met[0] else "astray" if astray[0] else "honest"


def test_the_level_is_a_tenth_of_the_rounding_of_a_product():
    assert (FLOOR, CHECK_EVERY, PATIENCE) == (0.1, 16, 3) and Trust.every == CHECK_EVERY
    trust = Trust((2, 3), EPS)
    assert trust.floor.shape == trust.growth.shape == trust.level.shape == trust.misses.shape == (2, 3)
    assert (trust.floor == 0.1 * EPS).all() and not trust.growth.any() and not trust.level.any()
    assert (Trust((1,), EPS, 7.0).floor == 7 * EPS).all()
    trust.look(np.full((2, 3), 5.0))  # nothing is known of A
    assert not trust.level.any()
    trust.stretched(np.full((2, 3), 4.0))
    trust.look(np.array([[1.0, 2.0, 3.0]] * 2))
    np.testing.assert_array_equal(trust.level, 0.1 * EPS * 4.0 * np.array([[1.0, 2.0, 3.0]] * 2))
    trust.look(np.full((2, 3), 1.0))  # anew, not the largest
    np.testing.assert_array_equal(trust.level, np.full((2, 3), 0.1 * EPS * 4.0))


def test_the_norm_of_A_is_the_largest_that_was_seen_by_columns():
    trust = trust_of(3)
    for factors in ([1.0, 5.0, 2.0], [3.0, 4.0, 2.0], [2.0, 0.0, 1.0]):
        trust.stretched(np.array(factors))
    assert trust.growth.tolist() == [3.0, 5.0, 2.0]


def test_a_column_claims_at_its_goal_or_at_its_level():
    trust = trust_of(3)
    trust.level = np.array([1.0, 3.0, 2.0])
    assert trust.enough(np.array([2.0, 2.0, 2.0]), np.array([9.0, 9.0, 9.0])).tolist() == [2.0, 3.0, 2.0]


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
        trust = trust_of(level=8.0)
        before = {k: np.copy(v) for k, v in vars(trust).items()}
        met, astray = trust.judge(*(np.array([v]) for v in (False, carried, true, 1.0)))
        assert not met.any() and not astray.any()
        assert all((getattr(trust, k) == v).all() for k, v in before.items())


def test_an_honest_column_is_looked_at_again_a_decade_further_down():
    trust = trust_of(level=8.0)
    floor = trust.floor.copy()
    assert judged(trust, 5.0, 6.0, 1.0) == "honest"
    assert trust.level == 0.1 * 5.0 and trust.floor == floor * (0.1 * 5.0 / 8.0)
    assert trust.checked == np.inf and trust.misses == 0
    trust.look(np.array([1.0]))  # and so it stays when the level is set anew
    assert trust.level == 0.0
    trust.stretched(np.array([8.0 / floor[0]]))
    trust.look(np.array([1.0]))
    np.testing.assert_allclose(trust.level, 0.1 * 5.0)


def test_a_column_that_met_leaves_everything_as_it_is():
    trust = trust_of(level=8.0)
    assert judged(trust, 5.0, 0.5, 1.0) == "met"
    assert trust.level == 8.0 and trust.checked == np.inf and trust.misses == 0


def test_a_check_that_does_not_halve_the_true_residual_is_a_miss():
    trust = trust_of(level=0.0)
    for true, misses in ((64.0, 0), (32.0, 0), (np.nextafter(16.0, 17), 1), (9.0, 2), (4.5, 0), (4.0, 1), (9.0, 2)):
        assert judged(trust, 0.5, true, 1.0) == "astray"
        assert trust.misses == misses and trust.checked == true, true


def test_a_column_is_exhausted_by_three_misses_in_a_row_while_it_is_astray():
    trust = trust_of(4)
    trust.misses = np.array([2, 3, 4, 3])
    assert trust.exhausted(np.array([True, True, True, False])).tolist() == [False, True, True, False]


def test_columns_are_judged_by_themselves():
    trust = trust_of(4, level=8.0)
    claims, goal = np.array([True, True, True, False]), np.array([1.0, 1.0, 4.0, 1.0])
    met, astray = trust.judge(claims, np.array([5.0, 0.5, 5.0, 0.5]), np.array([6.0, 7.0, 3.0, 9.0]), goal)
    assert met.tolist() == [False, False, True, False] and astray.tolist() == [False, True, False, False]
    assert trust.level.tolist() == [0.5, 8.0, 8.0, 8.0]
    assert trust.checked.tolist() == [np.inf, 7.0, np.inf, np.inf]
    for _ in range(PATIENCE):
        _, astray = trust.judge(claims, np.array([5.0, 0.5, 5.0, 0.5]), np.array([6.0, 7.0, 3.0, 9.0]), goal)
    assert trust.misses.tolist() == [0, 3, 0, 0] and trust.exhausted(astray).tolist() == [False, True, False, False]


def test_an_iteration_that_cannot_go_on_ends_after_three_misses():
    """As conjugate gradients use it: the carried residual falls on, the true one stays."""
    trust, goal, ends = trust_of(level=0.0), np.array([1.0]), []
    for _ in range(9):
        _, astray = trust.judge(np.array([True]), np.array([0.5]), np.array([7.0]), goal)
        ends.append(bool(trust.exhausted(astray)[0]))
    assert ends == [False] * 3 + [True] * 6
