"""The cluster helpers for arrays against loops in Python, and all of them together against a dense mask."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import usual
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import assert_solves, assert_sum_close

from kernelops import Ranges
from kernelops.errors import ArgumentError, DtypeError, RangesError, ShapeError
from kernelops.numpy import Genred, KernelSolve, cluster
from kernelops.ranges import NAMES


def grid_by_hand(x, size, origin):
    """The labels, cell by cell with Python's floor; size and origin are lists."""
    held = [tuple(math.floor((v - o) / s) for v, o, s in zip(row, origin, size, strict=True)) for row in x.tolist()]
    return [sorted(set(held)).index(cell) for cell in held]


def centroids_by_hand(x, lab, w):
    """The weighted means, point by point in float64; nan for an empty cluster."""
    C = max(lab) + 1
    sums, totals = [[0.0] * x.shape[1] for _ in range(C)], [0.0] * C
    for row, label, weight in zip(x.tolist(), lab, w, strict=True):
        totals[label] += weight
        sums[label] = [s + weight * v for s, v in zip(sums[label], row, strict=True)]
    return [[s / total if total else math.nan for s in row] for row, total in zip(sums, totals, strict=True)], totals


def assert_means(got, x, lab, w):
    """Each mean is right up to the rounding of its own dtype, and of one sum of magnitudes in float64."""
    want = np.array(centroids_by_hand(x, lab, w)[0])
    size = np.array(centroids_by_hand(abs(x), lab, w)[0])
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    slack = np.finfo(got.dtype).eps * abs(want) + 1e-14 * size
    assert (abs(got - want) <= slack)[~np.isnan(want)].all()


def points(n=60, D=2, dtype=np.float64, seed=0):
    return (np.random.default_rng(seed).normal(size=(n, D)) * 3).astype(dtype)


@pytest.mark.parametrize("D", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [0.75, "one each"])  # 0.75 and float32 points: x / size rounds, floor does not see it
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cells_are_counted_in_lexicographic_order(D, size, dtype):
    x = points(D=D, dtype=dtype)
    sides = [0.75] * D if size == 0.75 else [0.5 + d for d in range(D)]
    got = cluster.grid_cluster(x, size if size == 0.75 else np.array(sides))
    assert got.dtype == np.int64
    assert got.tolist() == grid_by_hand(x, sides, [0.0] * D)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.integers(-40, 40)] * 2), max_size=30), st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_points_on_the_edges_of_cells(pairs, size):
    """Quarters and powers of two are exact: a point on an edge belongs to the cell above it."""
    x = np.array(pairs, float).reshape(-1, 2) / 4
    assert cluster.grid_cluster(x, size).tolist() == grid_by_hand(x, [size] * 2, [0.0] * 2)


def test_cells_far_apart_do_not_collide():
    """More cells than int64 can number, side by side in each coordinate, and in more dimensions than three."""
    x = np.array([[0.0] * 7, [1e18] * 7, [1e18] * 6 + [-1e18], [0.0] * 6 + [1e-3]])
    assert cluster.grid_cluster(x, 1e-3).tolist() == [0, 3, 2, 1]
    x = points(500, 3) * 1e4
    assert len(set(cluster.grid_cluster(x, 1e-3).tolist())) == 500


def test_grids_of_nothing_and_of_other_numbers():
    assert cluster.grid_cluster(np.zeros((0, 3)), 1.0).shape == (0,)
    assert cluster.grid_cluster(np.zeros((3, 0)), 1.0).tolist() == [0, 0, 0]
    assert cluster.grid_cluster(np.array([[7], [-1], [0]]), 2).tolist() == [2, 0, 1]
    assert cluster.grid_cluster(np.array([[60000.0], [0.0], [50000.0]], np.float16), 0.5).tolist() == [2, 0, 1]
    assert cluster.grid_cluster(np.asfortranarray(points())[::2], 1.0).tolist() == grid_by_hand(
        points()[::2], [1.0, 1.0], [0.0, 0.0]
    )


LABELS = st.lists(st.integers(0, 9), min_size=1, max_size=30)


@settings(max_examples=50, deadline=None)
@given(LABELS, st.sampled_from([np.int32, np.int64, np.uint8]), st.integers(0, 3))
def test_ranges_and_sorted_rows(labels, dtype, more):
    lab = np.array(labels, dtype)
    x, rows = points(len(lab)), np.arange(len(lab))
    (sorted_x, sorted_rows), sorted_lab = cluster.sort_clusters((x, rows), lab)
    by_hand = sorted(range(len(labels)), key=lambda k: (labels[k], k))
    assert sorted_rows.tolist() == by_hand and sorted_lab.dtype == dtype
    np.testing.assert_array_equal(sorted_x, [x[k] for k in by_hand])
    counts = [labels.count(k) for k in range(max(labels) + 1)]
    ranges = cluster.cluster_ranges(lab)
    assert ranges.dtype == np.int64 and ranges.shape == (len(counts), 2)
    for k, (begin, end) in enumerate(ranges):
        assert end - begin == counts[k] and (sorted_lab[begin:end] == k).all()
    longer = cluster.cluster_ranges(lab, np.array(counts + [0] * more))
    assert longer.tolist() == ranges.tolist() + [[len(lab)] * 2] * more


@settings(max_examples=50, deadline=None)
@given(LABELS, st.sampled_from([np.float32, np.float64]), st.integers(0, 9))
def test_centroids_of_labels_in_any_order(labels, dtype, seed):
    x, lab = points(len(labels), 3, dtype, seed), np.array(labels)
    w = np.random.default_rng(seed).random(len(labels)).astype(dtype)
    ones = [1.0] * len(labels)
    assert_means(cluster.cluster_centroids(x, lab), x, labels, ones)
    assert_means(cluster.cluster_centroids(x, lab, weights=w[:, None]), x, labels, w.tolist())
    for weights, by_hand in ((None, ones), (w, w.tolist())):
        ranges, got, totals = cluster.cluster_ranges_centroids(x, lab, weights)
        np.testing.assert_array_equal(ranges, cluster.cluster_ranges(lab))
        assert got.dtype == totals.dtype == dtype
        assert_means(got, x, labels, by_hand)
        own = np.array(labels) == np.arange(len(totals))[:, None]
        assert_sum_close(totals, own * np.array(by_hand), 1)


def test_weights_of_clusters_are_the_divisor():
    x, lab, w = np.array([[2.0], [4.0], [6.0]]), np.array([0, 0, 2]), np.array([1.0, 2.0, 3.0])
    got = cluster.cluster_centroids(x, lab, weights=w, weights_c=np.array([10.0, 1.0, 2.0, 4.0]), Nlab=[2, 0, 1, 0])
    assert got.tolist() == [[1.0], [0.0], [9.0], [0.0]]


def test_points_without_weight_have_a_centroid_above_min_weight_only():
    x, lab, w = np.array([[2.0], [4.0], [6.0]]), np.array([0, 0, 1]), np.array([0.0, 0.0, 1.0])
    _, centroids, totals = cluster.cluster_ranges_centroids(x, lab, w)
    assert centroids.tolist() == [[3.0], [6.0]] and totals.tolist() == [2e-9, 1.0]
    _, centroids, totals = cluster.cluster_ranges_centroids(x, lab, w, min_weight=0)
    assert math.isnan(centroids[0, 0]) and totals.tolist() == [0.0, 1.0]
    _, centroids, _ = cluster.cluster_ranges_centroids(x, lab, w.astype(np.float16))  # where 1e-9 is 0
    assert centroids.tolist() == [[3.0], [6.0]]
    _, centroids, totals = cluster.cluster_ranges_centroids(x, lab, np.array([0.25, 1.0, 1.0]), 0.5)
    assert totals.tolist() == [1.5, 1.0] and abs(centroids[0, 0] - 5.0 / 1.5) < 1e-15


def test_integers_have_means_that_are_none():
    assert cluster.cluster_centroids(np.array([[0], [1]]), np.array([0, 0])).tolist() == [[0.5]]


def test_means_of_the_largest_numbers():
    x = np.array([[1.7e308, -1e300], [1.5e308, 1.7e308], [1.6e308, -1.7e308]])
    found = cluster.cluster_centroids(x, [0, 0, 0]), cluster.cluster_centroids(x, [0, 0, 0], weights=np.ones(3))
    for mean in found:
        np.testing.assert_allclose(mean, [[1.6e308, -1e300 / 3]], rtol=1e-8, atol=1e293)


def test_many_points_of_float16():
    x = np.ones((70000, 1), np.float16)  # more than float16 can count
    _, centroids, totals = cluster.cluster_ranges_centroids(x, np.zeros(70000, int))
    assert centroids.tolist() == [[1.0]] and totals.tolist() == [70000.0]


def test_no_points():
    x, lab = np.zeros((0, 2)), np.zeros(0, int)
    found = cluster.cluster_ranges_centroids(x, lab, np.zeros(0))
    assert [a.shape for a in found] == [(0, 2), (0, 2), (0,)]
    assert cluster.sort_clusters(x, lab)[0].shape == (0, 2)


def mask_by_hand(ranges_i, ranges_j, keep, M, N):
    held = np.zeros((M, N), bool)
    for k, (a, b) in enumerate(ranges_i):
        for l, (c, d) in enumerate(ranges_j):  # noqa: E741
            held[a:b, c:d] = keep[k][l]
    return held


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_the_six_arrays(dtype):
    i, j = np.array([[0, 2], [2, 2], [2, 5]], dtype), np.array([[0, 1], [1, 4]], dtype)
    keep = np.array([[True, True], [True, False], [False, True]])
    six = cluster.from_matrix(i, j, keep)
    want = [[[0, 2], [2, 2], [2, 5]], [2, 3, 4], [[0, 1], [1, 4], [0, 1], [1, 4]]]
    assert isinstance(six, tuple) and [a.tolist() for a in six[:3]] == want
    assert all(a.dtype == np.int64 and a.flags.writeable for a in six)
    np.testing.assert_array_equal(Ranges.from_tuple(six).mask(5, 4), mask_by_hand(i, j, keep, 5, 4))
    swapped = cluster.swap_axes(six)
    assert all(a is b for a, b in zip(swapped, six[3:] + six[:3], strict=True))
    assert cluster.swap_axes(Ranges.from_tuple(six)) == Ranges.from_tuple(swapped)
    assert isinstance(cluster.swap_axes(list(six)), tuple) and cluster.swap_axes(None) is None


def scene():
    """Points sorted by cluster, values, and ranges that keep clusters whose centroids are near; and the dense mask."""
    x = np.random.default_rng(1).random((300, 4))
    lab = cluster.grid_cluster(x, 0.5)
    clusters, centroids, _ = cluster.cluster_ranges_centroids(x, lab)
    (x, b), lab = cluster.sort_clusters((x, np.cos(9 * x[:, :2])), lab)
    keep = ((centroids[:, None] - centroids) ** 2).sum(-1) < 0.4
    near = np.array([[keep[k, l] for l in lab] for k in lab])  # noqa: E741
    assert 0.1 < near.mean() < 0.9
    return x, b, cluster.from_matrix(clusters, clusters, keep), near


def test_all_together_is_the_dense_product_with_a_mask():
    x, b, ranges, near = scene()
    gauss = Genred(usual.GAUSS, usual.aliases(4, 2), axis=1)
    K = np.exp(-((x[:, None] - x) ** 2).sum(-1)) * near
    assert_sum_close(gauss(x, x, b, ranges=ranges), K[:, :, None] * b, 1)


def test_all_together_solves_the_dense_system_with_a_mask():
    x, b, ranges, near = scene()
    solver = KernelSolve("Exp(-2*SqDist(x,y))*b", usual.aliases(4, 2), "b", axis=1)
    A = np.exp(-2 * ((x[:, None] - x) ** 2).sum(-1)) * near + 40 * np.eye(300)
    assert np.linalg.eigvalsh(A)[0] > 1  # a mask need not leave K positive
    assert_solves(A, solver(x, x, b, alpha=40.0, eps=1e-9, ranges=ranges), b, 1e-9)


X, LAB = np.arange(6.0).reshape(3, 2), np.array([0, 2, 0])
BAD = [
    (lambda: cluster.grid_cluster(X[:, 0], 1.0), ShapeError, r"x: wanted points of shape (n, D), got shape (3,) (.res"),
    (lambda: cluster.grid_cluster(X.tolist(), 1.0), DtypeError, "x: wanted a numpy array or a torch tensor, got list"),
    (lambda: cluster.grid_cluster(X > 1, 1.0), DtypeError, "x: wanted float16, float32 or float64, got bool"),
    (lambda: cluster.grid_cluster(X / [[0, 1]], 1.0), ArgumentError, "x: wanted finite coordinates, got nan"),
    (lambda: cluster.grid_cluster(X, 0.0), ArgumentError, "size: wanted numbers above 0, got 0.0"),
    (lambda: cluster.grid_cluster(X, np.nan), ArgumentError, "size: wanted numbers above 0, got nan"),
    (lambda: cluster.grid_cluster(X, [1.0, -1.0]), ArgumentError, "size: wanted numbers above 0, got [1.0, -1.0]"),
    (lambda: cluster.grid_cluster(X, [1.0] * 3), ShapeError, "size: wanted a number or 2 of them, one for each coord"),
    (lambda: cluster.grid_cluster(X, "1"), ShapeError, "size: wanted a number or 2 of them, one for each coordinate,"),
    (lambda: cluster.grid_cluster(X * 1e300, 1e-9), ArgumentError, "size: 1e-09 is too small for x, the number of cel"),
    (lambda: cluster.sort_clusters(X, LAB[:2]), ShapeError, "x: wanted 2 rows, one for each label, got shape (3, 2)"),
    (lambda: cluster.sort_clusters((X, X[:1]), LAB), ShapeError, "x[1]: wanted 3 rows, one for each label, got shape"),
    (lambda: cluster.sort_clusters(X, LAB[None]), RangesError, "lab: wanted one label for each point, shape (n,), got"),
    (lambda: cluster.cluster_ranges(LAB - 1), RangesError, "lab: wanted labels from 0 on, got -1"),
    (lambda: cluster.cluster_ranges(LAB * 1.0), RangesError, "lab: wanted integers, got ndarray of float64 of shape ("),
    (lambda: cluster.cluster_ranges(LAB, 3), ShapeError, "Nlab: wanted the number of points of each cluster, shape (3"),
    (lambda: cluster.cluster_ranges(LAB, [2, 0, 2]), ArgumentError, "Nlab: wanted 1 points in cluster 2, as lab has,"),
    (lambda: cluster.cluster_centroids(X, LAB[:2]), ShapeError, "lab: wanted one label for each point, shape (3,), go"),
    (lambda: cluster.cluster_centroids(X, LAB, weights_c=np.ones(3)), ArgumentError, "weights_c: wanted weights too"),
    (
        lambda: cluster.cluster_centroids(X, LAB, weights=np.ones(2)),
        ShapeError,
        "weights: wanted one number for each point",
    ),
    (
        lambda: cluster.cluster_centroids(X, LAB, weights=np.ones(3), weights_c=np.ones(2)),
        ShapeError,
        "weights_c: wanted one number for each cluster, shape (3,), got shape (2,)",
    ),
    (
        lambda: cluster.cluster_ranges_centroids(X, LAB, np.array([1.0, -0.5, 1.0])),
        ArgumentError,
        "weights: wanted numbers of at least 0, got -0.5",
    ),
    (
        lambda: cluster.cluster_ranges_centroids(X, LAB, np.array([1.0, np.nan, 1.0])),
        ArgumentError,
        "weights: wanted numbers of at least 0, got nan",
    ),
    (
        lambda: cluster.cluster_ranges_centroids(X, LAB, np.ones(3), min_weight=-1.0),
        ArgumentError,
        "min_weight: wanted a number of at least 0, got -1.0",
    ),
    (
        lambda: cluster.from_matrix(LAB, LAB, np.ones((3, 3), bool)),
        RangesError,
        "ranges_i: wanted shape (C, 2), a start",
    ),
    (
        lambda: cluster.from_matrix([[0, 2]], [[0, 2]], np.array([[1]])),
        RangesError,
        "keep: wanted booleans of shape (1, 1), got ndarray of int64 of shape (1, 1)",
    ),
    (lambda: cluster.swap_axes((1, 2)), RangesError, f"ranges: wanted None, a Ranges or the six arrays {NAMES}, got 2"),
    (lambda: cluster.swap_axes(3), RangesError, f"ranges: wanted None, a Ranges or the six arrays {NAMES}, got int"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[row[2][:40] for row in BAD])
def test_bad_calls(call, error, message):
    with np.errstate(invalid="ignore", divide="ignore"), pytest.raises(error, match=re.escape(message)):
        call()


def test_tensors_are_sent_to_their_own_door():
    torch = pytest.importorskip("torch")
    x, lab = torch.tensor(X), torch.tensor(LAB)
    for name, call in [
        ("x", lambda: cluster.grid_cluster(x, 1.0)),
        ("lab", lambda: cluster.cluster_ranges(lab)),
        ("x[0]", lambda: cluster.sort_clusters([x], LAB)),
        ("keep", lambda: cluster.from_matrix([[0, 1]], [[0, 1]], torch.ones(1, 1, dtype=torch.bool))),
    ]:
        with pytest.raises(DtypeError, match=re.escape(f"{name} is a torch tensor: use kernelops.torch.cluster")):
            call()
