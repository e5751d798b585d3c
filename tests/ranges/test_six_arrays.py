"""The six arrays against a dense mask made by hand, and every bad one by its message."""

from __future__ import annotations

import pickle
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patterns import mask_by_hand, masks

from kernelops.errors import ArgumentError, RangesError
from kernelops.ranges import NAMES, Ranges

CLUSTERS_I = [[2, 5], [7, 12]]
CLUSTERS_J = [[1, 4], [4, 9], [20, 30]]
KEEP = [[True, True, False], [False, True, False]]
SIX = (CLUSTERS_I, [2, 3], [[1, 4], [4, 9], [4, 9]], CLUSTERS_J, [1, 3, 3], [[2, 5], [2, 5], [7, 12]])
M, N = 13, 31


def arrays(six=SIX, dtype=np.int64):
    return tuple(np.array(a, dtype).reshape(np.shape(a) if len(a) else (0, 2)) for a in six)


def replaced(**some):
    """The worked example with some of its six arrays replaced."""
    return tuple(some.get(name, array) for name, array in zip(NAMES, arrays(), strict=True))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_the_worked_example(dtype):
    ranges = Ranges.from_tuple(arrays(dtype=dtype))
    for name, want in zip(NAMES, arrays(), strict=True):
        got = getattr(ranges, name)
        assert got.dtype == np.int64 and got.flags.c_contiguous and not got.flags.writeable
        np.testing.assert_array_equal(got, want)
    assert ranges == Ranges.from_mask(CLUSTERS_I, CLUSTERS_J, KEEP)
    np.testing.assert_array_equal(ranges.mask(M, N), mask_by_hand(SIX, M, N))
    np.testing.assert_array_equal(ranges.T.mask(N, M), mask_by_hand(SIX, M, N).T)
    assert ranges.density(M, N) == mask_by_hand(SIX, M, N).mean()
    ranges.check(12, 30)


def test_torch_tensors_are_taken():
    torch = pytest.importorskip("torch")
    for dtype in (torch.int32, torch.int64):
        assert Ranges.from_tuple([torch.tensor(a, dtype=dtype) for a in SIX]) == Ranges.from_tuple(SIX)
    with pytest.raises(RangesError, match=r"slices_i: wanted integers, got Tensor of torch.float32 of shape \(2,\)"):
        Ranges.from_tuple(replaced(slices_i=torch.tensor([2.0, 3.0])))


def test_of_takes_none_six_arrays_or_ranges():
    ranges = Ranges.from_tuple(SIX)
    assert Ranges.of(None) is None and Ranges.of(ranges) is ranges and Ranges.of(list(SIX)) == ranges
    assert ranges == Ranges.of(ranges.as_tuple())


def test_the_arrays_given_stay_the_callers():
    given_arrays = arrays()
    ranges = Ranges.from_tuple(given_arrays)
    given_arrays[0][0, 0] = 0
    assert ranges.ranges_i[0, 0] == 2
    with pytest.raises(ValueError, match="read-only"):
        ranges.ranges_i[0, 0] = 0
    with pytest.raises(AttributeError):
        ranges.ranges_i = given_arrays[0]


def test_intervals_come_out_in_order_without_the_empty_ones():
    six = ([[0, 3]], [4], [[6, 9], [2, 2], [1, 4], [5, 5]], [[6, 9], [1, 4], [0, 0]], [1, 2, 2], [[0, 3], [0, 3]])
    ranges = Ranges.from_tuple(six)
    np.testing.assert_array_equal(ranges.redranges_j, [[1, 4], [6, 9]])
    np.testing.assert_array_equal(ranges.slices_i, [2])
    np.testing.assert_array_equal(ranges.mask(3, 9), mask_by_hand(six, 3, 9))


def test_the_halves_may_cut_the_same_pairs_differently():
    six = ([[0, 2], [2, 4]], [1, 2], [[0, 6], [0, 6]], [[0, 3], [3, 6]], [1, 2], [[0, 4], [0, 4]])
    assert Ranges.from_tuple(six).mask(4, 6).all()


def test_dense_is_one_block():
    ranges = Ranges.dense(4, 6)
    assert ranges.mask(4, 6).all() and ranges.density(4, 6) == 1 and not ranges.is_symmetric()
    assert ranges.T == Ranges.dense(6, 4) and Ranges.dense(5, 5).is_symmetric()
    np.testing.assert_array_equal(ranges.redranges_j, [[0, 6]])
    for rows, columns in ((0, 6), (4, 0), (0, 0)):
        empty = Ranges.dense(rows, columns)
        assert empty.density(rows, columns) == 0 and empty.mask(rows, columns).shape == (rows, columns)
        assert not empty.contains([0], [0]).any()


def test_empty_ranges():
    empty = Ranges.from_tuple(([], [], [], [], [], []))
    assert empty == Ranges.from_tuple(arrays(([],) * 6)[:1] + ([],) * 5)
    assert not empty.mask(3, 4).any() and empty.extent == (0, 0) and empty.is_symmetric()
    assert [len(a) for a in empty.joined(1)] == [0, 0, 0]
    assert not empty.contains(0, 0)


def test_repr_is_telling():
    assert repr(Ranges.from_tuple(SIX)) == "Ranges(2 i-blocks, 3 j-blocks, 13.6% of 12 x 30)"


def test_equality_hash_and_pickle():
    ranges = Ranges.from_tuple(SIX)
    again = pickle.loads(pickle.dumps(ranges))
    assert again == ranges and hash(again) == hash(ranges) and not again.ranges_i.flags.writeable
    assert ranges != ranges.T and ranges != SIX and {ranges: 1}[again] == 1


@settings(max_examples=60, deadline=None)
@given(masks())
def test_from_mask_against_dense(case):
    clusters_i, clusters_j, keep = case
    want = np.zeros((26, 26), bool)
    for k, (a, b) in enumerate(clusters_i):
        for l, (c, d) in enumerate(clusters_j):  # noqa: E741
            want[a:b, c:d] = keep[k, l]
    ranges = Ranges.from_mask(clusters_i, clusters_j, keep)
    assert ranges == Ranges.from_tuple(ranges.as_tuple()), "what is made without checks passes them"
    np.testing.assert_array_equal(ranges.mask(26, 26), want)
    np.testing.assert_array_equal(ranges.T.mask(26, 26), want.T)
    i, j = np.mgrid[-1:28, -1:28]
    np.testing.assert_array_equal(ranges.contains(i, j), np.pad(want, (1, 2)))
    assert ranges.is_symmetric() == bool((want == want.T).all())
    assert ranges.density(26, 26) == pytest.approx(want.mean())


@settings(max_examples=60, deadline=None)
@given(masks(), st.data())
def test_a_half_that_lost_a_pair_is_refused_and_named(case, data):
    ranges = Ranges.from_mask(*case)
    six = list(ranges.as_tuple())
    if not len(six[2]) or not (ranges.ranges_i[:, 0] < ranges.ranges_i[:, 1]).any() or not ranges.density(26, 26):
        return
    lost = data.draw(st.integers(0, len(six[2]) - 1))
    six[2] = np.delete(six[2], lost, axis=0)
    six[1] = six[1] - (six[1] > lost)
    less = mask_by_hand(six, 26, 26)
    if (less == ranges.mask(26, 26)).all():  # what was lost belonged to an empty block
        assert Ranges.from_tuple(six) is not None
        return
    with pytest.raises(RangesError, match="is in the half of ranges_j and not in the half of ranges_i") as caught:
        Ranges.from_tuple(six)
    i, j = map(int, re.search(r"= \((\d+), (\d+)\)", str(caught.value)).groups())
    assert ranges.mask(26, 26)[i, j] and not less[i, j]


def test_a_symmetric_pattern():
    clusters = np.array([[0, 3], [5, 9], [9, 10]])
    keep = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], bool)
    assert Ranges.from_mask(clusters, clusters, keep).is_symmetric()
    keep[0, 2] = True
    assert not Ranges.from_mask(clusters, clusters, keep).is_symmetric()


BAD = {
    "not a sequence": (7, r"ranges: wanted a Ranges or six integer arrays .* got int"),
    "three arrays": (SIX[:3], r"ranges: wanted the six arrays .* both halves, got 3"),
    "seven arrays": ((*SIX, SIX[0]), r"got 7"),
    "one half is None": (
        (*SIX[:3], None, None, None),
        r"both halves are wanted, .* got None for ranges_j, slices_j, redranges_i",
    ),
    "floats": (
        replaced(ranges_i=np.array(CLUSTERS_I, float)),
        r"ranges_i: wanted integers, got ndarray of float64 of shape \(2, 2\)",
    ),
    "booleans": (replaced(slices_i=np.array([True, False])), r"slices_i: wanted integers, got ndarray of bool"),
    "ragged": (replaced(redranges_j=[[1, 4], [4]]), r"redranges_j: wanted an array, got list"),
    "beyond int64": (
        replaced(slices_j=np.array([1, 3, 2**63], np.uint64)),
        r"slices_j: 9223372036854775808 does not fit int64",
    ),
    "three columns": (
        replaced(ranges_i=np.zeros((2, 3), int)),
        r"ranges_i: wanted shape \(C, 2\), .* got shape \(2, 3\)",
    ),
    "one dimension": (replaced(redranges_i=np.arange(6)), r"redranges_i: wanted shape \(C, 2\), .* got shape \(6,\)"),
    "start after end": (
        replaced(redranges_j=[[1, 4], [9, 4], [4, 9]]),
        r"redranges_j: wanted start <= end, got \[9, 4\) in row 1",
    ),
    "negative": (
        replaced(ranges_j=[[-1, 4], [4, 9], [20, 30]]),
        r"ranges_j: wanted 0 <= start, got \[-1, 4\) in row 0",
    ),
    "slices too short": (replaced(slices_i=[3]), r"slices_i: wanted shape \(2,\), one entry a block, got shape \(1,\)"),
    "slices of two dimensions": (replaced(slices_i=[[2, 3]]), r"slices_i: wanted shape \(2,\), .* got shape \(1, 2\)"),
    "slices decrease": (
        replaced(slices_j=[2, 1, 3]),
        r"slices_j: wanted prefix ends that never decrease from 0 on, got \[2, 1, 3\]",
    ),
    "slices negative": (replaced(slices_i=[-1, 3]), r"slices_i: wanted prefix ends that never decrease from 0 on"),
    "slices end early": (
        replaced(slices_i=[2, 2]),
        r"slices_i: wanted the last entry to be the number of intervals, 3, got 2",
    ),
    "slices end late": (replaced(slices_j=[1, 3, 4]), r"slices_j: wanted the last entry .* 3, got 4"),
    "intervals without blocks": (([], [], [[0, 1]], [], [], []), r"slices_i: wanted the last entry .* 1, got 0"),
    "i-blocks overlap": (
        replaced(ranges_i=[[2, 8], [7, 12]]),
        r"ranges_i: wanted disjoint blocks, got \[2, 8\) and \[7, 12\)",
    ),
    "unsorted j-blocks overlap": (
        replaced(ranges_j=[[4, 9], [20, 30], [1, 5]]),
        r"ranges_j: wanted disjoint blocks, got \[1, 5\) and \[4, 9\)",
    ),
    "a block twice": (replaced(ranges_i=[[2, 5], [2, 5]]), r"ranges_i: wanted disjoint blocks"),
    "intervals of a block overlap": (
        replaced(redranges_j=[[1, 5], [4, 9], [4, 9]]),
        r"redranges_j: wanted disjoint intervals in block 0, got \[1, 5\) and \[4, 9\)",
    ),
    "not transposes": (
        replaced(redranges_j=[[1, 4], [4, 9], [4, 8]]),
        r"transposes of each other: the pair \(i, j\) = \(7, 8\) is in the half of ranges_j and not in the half of ran",
    ),
    "not transposes the other way": (
        replaced(slices_j=[1, 2, 3]),
        r"the pair \(i, j\) = \(7, 4\) is in the half of ranges_i and not in the half of ranges_j",
    ),
}


@pytest.mark.parametrize(("six", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(six, message):
    with pytest.raises(RangesError, match=message):
        Ranges.of(six)
    assert issubclass(RangesError, ArgumentError) and issubclass(RangesError, ValueError)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((11, 30), r"ranges_i: \[7, 12\) is out of bounds, there are M = 11 rows of i"),
        ((12, 29), r"ranges_j: \[20, 30\) is out of bounds, there are N = 29 rows of j"),
        ((0, 0), r"ranges_i: .* M = 0"),
    ],
)
def test_out_of_bounds(size, message):
    with pytest.raises(RangesError, match=message):
        Ranges.from_tuple(SIX).check(*size)


def test_an_interval_of_an_empty_block_is_held_to_bounds_too():
    ranges = Ranges.from_tuple(([[3, 3]], [1], [[0, 9]], [], [], []))
    with pytest.raises(RangesError, match=r"redranges_j: \[0, 9\) is out of bounds, there are N = 8 rows of j"):
        ranges.check(3, 8)


def test_memory_of_the_transpose_check_does_not_grow_with_the_points():
    blocks = 300
    edges = np.linspace(0, 10**9, blocks + 1).astype(np.int64)
    clusters = np.stack([edges[:-1], edges[1:]], axis=1)
    keep = abs(np.subtract.outer(np.arange(blocks), np.arange(blocks))) < 5
    six = Ranges.from_mask(clusters, clusters, keep).as_tuple()
    tracemalloc.start()
    try:
        assert Ranges.from_tuple(six).is_symmetric()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1000 * keep.sum(), "under a thousand bytes an interval"
