"""Predecessors: the k-d tree and the correlations against all distances, and the order."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from kernelops.solvers.entries import DenseEntries
from kernelops.solvers.precond import neighbours
from kernelops.solvers.precond.neighbours import ALL_DISTANCES, nearest_predecessors, predecessors, random_rank


def by_hand(x, rank, count):
    """Nearest predecessors, one point at a time."""
    result = np.full((len(x), count), -1)
    for i in range(len(x)):
        before = np.flatnonzero(rank < rank[i])
        near = before[np.argsort(((x[before] - x[i]) ** 2).sum(1), kind="stable")][:count]
        result[i, : len(near)] = near
    return result


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 5, ALL_DISTANCES, ALL_DISTANCES + 1, 1500])
@pytest.mark.parametrize("count", [1, 4, 30])
def test_tree_finds_the_nearest(n, dim, count):
    x = np.random.default_rng(n + dim).random((n, dim))
    rank = random_rank(n, np.arange(0), seed=3)
    np.testing.assert_array_equal(nearest_predecessors(x, rank, count), by_hand(x, rank, count))


def test_clusters_of_very_different_size():
    """Most candidates of a point come from its own cluster, whatever their rank."""
    draw = np.random.default_rng(0)
    x = np.concatenate([draw.random((1500, 2)) * 1e-6, draw.random((40, 2)) + 5.0])
    rank = np.concatenate([np.arange(40, 1540), np.arange(40)])
    np.testing.assert_array_equal(nearest_predecessors(x, rank, 10), by_hand(x, rank, 10))


def test_candidates_are_asked_for_until_there_are_enough():
    """The first points of the left cluster have all that is near behind them, and all predecessors far away."""
    x = np.concatenate([np.linspace(0, 1, 700), np.linspace(10, 11, 800)])[:, None]
    rank = np.concatenate([np.arange(800, 1500), np.arange(800)])
    np.testing.assert_array_equal(nearest_predecessors(x, rank, 12), by_hand(x, rank, 12))


def test_duplicates_get_as_many_predecessors():
    x = np.zeros((600, 2))
    rank = random_rank(600, np.arange(0))
    near = nearest_predecessors(x, rank, 7)
    np.testing.assert_array_equal((near >= 0).sum(1), np.minimum(rank, 7))
    earlier = np.where(near < 0, -1, rank[near])
    assert (earlier < rank[:, None]).all()
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in near)


@pytest.mark.parametrize("size", [1e155, 1e200, 1.7e308, 1e-170, 1e-310])
@pytest.mark.parametrize("n", [ALL_DISTANCES, 900])
def test_points_whose_squared_distances_leave_float64(n, size):
    x = np.random.default_rng(3).integers(-1000, 1000, (n, 2)) / 1000 * size
    rank = random_rank(n, np.arange(0))
    near, want = nearest_predecessors(x, rank, 9), by_hand(x.astype(np.longdouble), rank, 9)
    np.testing.assert_array_equal(near < 0, want < 0)
    to = np.sort(((x[:, None].astype(np.longdouble) - x[[near, want]]) ** 2).sum(-1), axis=-1)
    np.testing.assert_array_equal(*np.where(want < 0, 0, to))  # where two are as near, either will do


def test_a_point_out_of_reach():
    """Nobody's neighbour, and without one: no endless search, and the others have theirs."""
    x = np.random.default_rng(4).random((900, 2))
    x[[5, 500]] = [1e300, -1e300], [-1.7e308, 1.7e308]
    rank = random_rank(900, np.arange(0))
    near, others = nearest_predecessors(x, rank, 9), np.delete(np.arange(900), [5, 500])
    assert (near[[5, 500]] < 0).all() and not np.isin(near, [5, 500]).any()
    want = by_hand(x[others], rank[others], 9)
    np.testing.assert_array_equal(near[others], np.where(want < 0, -1, others[want]))


def test_points_of_all_sizes():
    """From the least to the largest numbers: all that is asked is that an answer comes, of earlier points."""
    x = np.random.default_rng(5).uniform(-1, 1, (900, 2)) * 10.0 ** np.linspace(-320, 308, 900)[:, None]
    for some in (x, x[:500], np.concatenate([x[:300], np.zeros((600, 2))]), x[-300:], np.full((900, 2), 1.7e308)):
        rank = random_rank(len(some), np.arange(0))
        near = nearest_predecessors(some, rank, 9)
        assert (np.where(near < 0, -1, rank[near]) < rank[:, None]).all()


def test_no_neighbour_wanted():
    assert nearest_predecessors(np.zeros((900, 2)), np.arange(900), 0).shape == (900, 0)


def test_more_neighbours_than_few_points():
    x = np.random.default_rng(2).random((ALL_DISTANCES + 300, 2))
    rank = random_rank(len(x), np.arange(0))
    np.testing.assert_array_equal(
        nearest_predecessors(x, rank, ALL_DISTANCES + 20), by_hand(x, rank, ALL_DISTANCES + 20)
    )


@pytest.mark.parametrize("n", [3, 900])
def test_tree_agrees_with_correlations_of_a_decreasing_kernel(n):
    x = np.random.default_rng(1).random((n, 2))
    K = np.exp(-cdist(x, x) / 0.3)
    rank = random_rank(n, np.arange(0), seed=1)
    with_points, without = DenseEntries(K, coordinates=x), DenseEntries(K)
    np.testing.assert_array_equal(predecessors(with_points, rank, 12), predecessors(without, rank, 12))


class Refuses(DenseEntries):
    def neighbours(self, rank, count):
        raise AssertionError("asked for correlations")


@pytest.mark.parametrize("few, most", [(True, 3), (False, 6)])
def test_who_is_asked(monkeypatch, few, most):
    """The tree up to three dimensions (six, of many points), with a pattern or without; the correlations else."""
    draw = np.random.default_rng(0)
    monkeypatch.setattr(neighbours, "TREE_FROM", 401 if few else 400)
    for dim in (most, most + 1):
        x = draw.random((400, dim))
        entries = Refuses(np.exp(-cdist(x, x)), coordinates=x)
        rank = random_rank(400, np.arange(0))
        for entries.density in (1.0, 0.5):
            if dim == most:
                predecessors(entries, rank, 5)
                continue
            with pytest.raises(AssertionError, match="asked for"):
                predecessors(entries, rank, 5)


def test_rank_is_a_permutation_with_some_last():
    rank = random_rank(50, np.array([3, 7, 49]), seed=2)
    np.testing.assert_array_equal(np.sort(rank), np.arange(50))
    assert set(rank[[3, 7, 49]]) == {47, 48, 49}
    np.testing.assert_array_equal(rank, random_rank(50, np.array([3, 7, 49]), seed=2))
    assert (rank != random_rank(50, np.array([3, 7, 49]), seed=4)).any()
    assert (np.diff(random_rank(50, np.arange(0))) < 0).any()  # no order of the points' own
