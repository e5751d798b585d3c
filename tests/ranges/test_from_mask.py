"""Ranges of labels, of clusters and of diagonals, against dense masks made pair by pair; bad arguments by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patterns import tables
from scipy import sparse

from kernelops import Ranges
from kernelops.errors import RangesError

labels = st.lists(st.integers(0, 5), max_size=14)
sizes = st.integers(0, 14)
EYE = np.eye(2, dtype=bool)


def met(n_i, n_j, rule):
    """The pairs for which a rule holds, asked one after another."""
    return np.array([[bool(rule(i, j)) for j in range(n_j)] for i in range(n_i)], bool).reshape(n_i, n_j)


def assert_holds(ranges, want):
    """Both halves hold these pairs, and pass all checks."""
    assert Ranges(*ranges.as_tuple(), ranges.order_i, ranges.order_j) == ranges
    np.testing.assert_array_equal(ranges.mask(*want.shape), want)
    np.testing.assert_array_equal(ranges.T.mask(*want.T.shape), want.T)


@settings(max_examples=60, deadline=None)
@given(labels, labels, tables(6, 6), st.sampled_from([np.int32, np.int64, np.uint8, list]))
def test_labels(labels_i, labels_j, keep, kind):
    """Labels in any order, with gaps, and clusters that no label names, at the end too."""
    i, j = (a if kind is list else np.array(a, kind) for a in (labels_i, labels_j))
    ranges = Ranges.from_mask(i, j, keep)
    assert_holds(ranges, met(len(i), len(j), lambda p, q: keep[labels_i[p], labels_j[q]]))
    assert (ranges.order_i is None) == (labels_i == sorted(labels_i)), "an order only where one is needed"
    np.testing.assert_array_equal(np.diff(ranges.ranges_i)[:, 0], np.bincount(np.array(labels_i, int), minlength=6))


def test_labels_and_clusters_may_be_mixed():
    assert_holds(Ranges.from_mask([1, 0, 1], [[0, 2], [2, 4]], EYE), met(3, 4, lambda i, j: (i != 1) == (j > 1)))


def test_rows_keep_their_order_within_a_cluster():
    ranges = Ranges.from_mask([1, 0, 1, 0, 1], [0, 1], EYE)
    assert ranges.order_i.tolist() == [1, 3, 0, 2, 4] and ranges.order_j is None


def test_torch_labels_and_keep():
    torch = pytest.importorskip("torch")
    ranges = Ranges.from_mask(torch.tensor([1, 0]), torch.tensor([0, 1], dtype=torch.int32), torch.eye(2).bool())
    assert_holds(ranges, np.array([[False, True], [True, False]]))


@settings(max_examples=80, deadline=None)
@given(sizes, st.integers(0, 20), st.integers(1, 20))
def test_band(n, width, block):
    """Blocks that hold a pair of the band are whole, others are out."""
    ranges = Ranges.band(n, width, block)
    wanted = {(i // block, j // block) for i in range(n) for j in range(n) if abs(i - j) <= width}
    assert_holds(ranges, met(n, n, lambda i, j: (i // block, j // block) in wanted))
    assert ranges.is_symmetric() and ranges.extent == (n, n)


@settings(max_examples=80, deadline=None)
@given(sizes, st.integers(1, 20))
def test_lower_triangular(n, block):
    ranges = Ranges.lower_triangular(n, block)
    assert_holds(ranges, met(n, n, lambda i, j: j // block <= i // block))
    assert ranges.extent == (n, n) and ranges.is_symmetric() == (n <= block)


@pytest.mark.parametrize("huge", [10**6, 2**62, 2**63 - 1])
def test_a_width_and_a_block_may_be_larger_than_what_there_is(huge):
    for ranges in (Ranges.band(5, huge), Ranges.band(5, 0, huge), Ranges.lower_triangular(5, huge)):
        assert_holds(ranges, np.ones((5, 5), bool))
    assert Ranges.band(np.int8(100), np.int8(100), np.int8(100)).density(100, 100) == 1, "no sum leaves int8"


@pytest.mark.parametrize(("M", "N"), [(0, 0), (0, 3), (3, 0), (1, 1), (np.int32(4), np.uint8(6))])
def test_dense(M, N):
    assert_holds(Ranges.dense(M, N), np.ones((M, N), bool))


BAD = {
    "no labels": (lambda: Ranges.from_mask(None, [0], EYE), "i: wanted integers, got NoneType"),
    "one label": (lambda: Ranges.from_mask(3, [0], EYE), r"i: wanted labels of shape \(n,\) or clusters of shape"),
    "deep": (lambda: Ranges.from_mask([0], np.zeros((1, 2, 2), int), EYE), r"j: .* of shape \(1, 2, 2\)"),
    "ragged": (lambda: Ranges.from_mask([0], [[0, 1], [2]], EYE), "j: wanted an array, got list"),
    "floats": (lambda: Ranges.from_mask([0.0, 1.0], [0], EYE), "i: wanted integers, got ndarray of float64"),
    "no type": (lambda: Ranges.from_mask(np.zeros(0), [0], EYE), "i: wanted integers, got ndarray of float64"),
    "booleans": (lambda: Ranges.from_mask([0], [True, False], EYE), "j: wanted integers, got ndarray of bool"),
    "negative": (lambda: Ranges.from_mask([0], [2, -1], EYE), "j: wanted labels from 0 on, got -1"),
    "a huge gap": (lambda: Ranges.from_mask([0, 10**12], [0], EYE), "i: wanted labels with few gaps, got 10+ among 2"),
    "overlap": (lambda: Ranges.from_mask([[0, 2], [1, 3]], [0, 1], EYE), "i: wanted disjoint blocks, got .0, 2. and"),
    "backwards": (lambda: Ranges.from_mask([0], [[3, 2]], EYE), r"j: wanted start <= end, got \[3, 2\) in row 0"),
    "keep too small": (
        lambda: Ranges.from_mask([0, 2], [0, 1], EYE),
        r"keep: wanted booleans of shape \(3, 2\), got ndarray of bool of shape \(2, 2\)",
    ),
    "keep too large for clusters": (
        lambda: Ranges.from_mask([[0, 2]], [[0, 2]], EYE),
        r"keep: wanted booleans of shape \(1, 1\), got ndarray of bool of shape \(2, 2\)",
    ),
    "keep of numbers": (lambda: Ranges.from_mask([0, 1], [0, 1], EYE * 1.0), "keep: .* got ndarray of float64"),
    "keep is a list of numbers": (lambda: Ranges.from_mask([0, 1], [0, 1], [[1, 0], [0, 1]]), "keep: .* of int64"),
    "keep is ragged": (lambda: Ranges.from_mask([0], [0], [[True], []]), "keep: wanted an array, got list"),
    "no keep": (lambda: Ranges.from_mask([0], [0], None), r"keep: wanted booleans of shape \(1, 1\), got NoneType"),
    "dense of -1": (lambda: Ranges.dense(-1, 3), "M: wanted a whole number of at least 0, got -1"),
    "dense of 2.5": (lambda: Ranges.dense(3, 2.5), "N: wanted a whole number of at least 0, got 2.5"),
    "dense of None": (lambda: Ranges.dense(3, None), "N: wanted a whole number of at least 0, got None"),
    "a band of True": (lambda: Ranges.band(True, 1), "n: wanted a whole number of at least 0, got True"),
    "a band of -1": (lambda: Ranges.band(5, -1), "width: wanted a whole number of at least 0, got -1"),
    "blocks of 0": (lambda: Ranges.band(5, 1, 0), "block: wanted a whole number of at least 1, got 0"),
    "a half block": (lambda: Ranges.lower_triangular(5, 0.5), "block: wanted a whole number of at least 1, got 0.5"),
    "rows in an array": (
        lambda: Ranges.lower_triangular(np.arange(3)),
        r"n: wanted a whole number of at least 0, got ndarray of int64 of shape \(3,\)",
    ),
    "beyond int64": (lambda: Ranges.band(5, 2**63), "width: wanted a whole number that fits int64, got 92"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(RangesError, match=f"^{message}"):
        make()


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array, sparse.lil_array])
def test_clusters_that_meet_as_a_sparse_array(form):
    draw = np.random.default_rng(0)
    keep, i, j = draw.random((5, 4)) < 0.4, draw.integers(0, 5, 30), draw.integers(0, 4, 20)
    assert Ranges.from_mask(i, j, form(keep)) == Ranges.from_mask(i, j, keep)
    by_rule = Ranges.from_clusters(
        draw.random((30, 2)), draw.random((20, 2)), lambda a, b: form(keep), labels_i=i, labels_j=j
    )
    assert (by_rule.mask(30, 20) == keep[i][:, j]).all()


def test_a_sparse_array_may_hold_pairs_twice_and_zeros():
    rows, columns, values = [0, 0, 1], [1, 1, 0], [True, True, False]
    keep = sparse.coo_array((values, (rows, columns)), shape=(2, 2))
    assert (Ranges.from_mask([0, 1], [0, 1], keep).mask(2, 2) == [[False, True], [False, False]]).all()


def test_many_clusters_of_which_few_meet():
    """A table of 50,000 x 50,000 would take 2.5 GB."""
    n = 50_000
    blocks = np.stack([np.arange(n), np.arange(1, n + 1)], axis=1)
    keep = sparse.eye_array(n, dtype=bool, format="csr")
    assert Ranges.from_mask(blocks, blocks, keep).pairs == n


def test_a_sparse_array_of_another_shape_or_kind():
    with pytest.raises(
        RangesError, match=r"keep: wanted booleans of shape \(2, 2\), got a sparse array of bool, \(3, 2\)"
    ):
        Ranges.from_mask([[0, 1], [1, 2]], [[0, 1], [1, 2]], sparse.csr_array(np.ones((3, 2), bool)))
    with pytest.raises(RangesError, match="got a sparse array of float64"):
        Ranges.from_mask([0, 1], [0, 1], sparse.csr_array(np.ones((2, 2))))
