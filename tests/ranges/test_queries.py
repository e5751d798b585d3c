"""What ranges answer: pairs, costs, tiles, pictures; against boolean masks and numbers counted by hand."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patterns import SIZE, mask_of_half, masks, orders, tables

from kernelops import Ranges
from kernelops.errors import MissingExtraError, RangesError
from kernelops.ranges import lookup, pattern

BAND = Ranges.band(5, 1)
I, J = np.mgrid[-1 : SIZE + 2, -1 : SIZE + 2]


@pytest.fixture(params=["table", "sorted list"])
def looked_up(request, monkeypatch):
    """Both ways to look pairs up."""
    if request.param == "sorted list":
        monkeypatch.setattr(lookup, "TABLE", 0)
    return request.param


def test_contains(looked_up):
    @settings(max_examples=60, deadline=None)
    @given(masks())
    def check(case):
        found = Ranges.from_mask(*case)
        np.testing.assert_array_equal(found.contains(I, J), np.pad(found.mask(SIZE, SIZE), (1, 2)))
        assert (found._lookup.table is not None) == (looked_up == "table")

    check()


def test_contains_where_blocks_are_unsorted_or_empty(looked_up):
    """An empty block may stand within another, and intervals may touch."""
    keep = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]], bool)
    found = Ranges.from_mask([[10, 14], [5, 5], [0, 10]], [[4, 8], [0, 4], [6, 6]], keep)
    np.testing.assert_array_equal(found.contains(I[:16, :10], J[:16, :10]), np.pad(found.mask(14, 8), 1))
    assert found.contains(range(10), 1).all()


def test_contains_broadcasts_and_knows_only_rows_that_exist(looked_up):
    assert BAND.contains([[0], [4]], range(5)).tolist() == [[True, True, False, False, False], [False] * 3 + [True] * 2]
    assert BAND.contains(1, 1) and not BAND.contains(2**63 - 1, -(2**63)) and BAND.contains([], []).shape == (0,)
    turned = BAND.ordered([4, 3, 2, 1, 0], [1, 0, 2, 3, 4])
    assert not turned.contains([-1, 5, 0, 2**62], [0, 0, -1, 0]).any()
    assert not Ranges.band(0, 0).contains(0, 0) and not Ranges.dense(0, 3).contains(0, 0)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: BAND.contains(1.5, 2), "I: wanted integers, got float"),
        (lambda: BAND.contains(1, None), "J: wanted integers, got NoneType"),
        (lambda: BAND.contains([1, 2], [1, 2, 3]), r"J: wanted a shape that broadcasts with \(2,\) of I, got \(3,\)"),
        (lambda: BAND.check("5", 5), "M: wanted a whole number of at least 0, got '5'"),
        (lambda: BAND.check(5, None), "N: wanted a whole number of at least 0, got None"),
        (lambda: BAND.mask(5.5, 5), "M: wanted a whole number of at least 0, got 5.5"),
        (lambda: Ranges.band(0, 0).mask(-2, 2), "M: wanted a whole number of at least 0, got -2"),
        (lambda: BAND.density(2, 5), r"ranges_i: \[2, 3\) is out of bounds, there are M = 2 rows|ranges_i: \[4, 5\)"),
        (lambda: BAND.density(5, -5), "N: wanted a whole number of at least 0, got -5"),
        (lambda: BAND.predicted_cost(5, 4), r"ranges_j: \[4, 5\) is out of bounds, there are N = 4 rows of j"),
        (lambda: BAND.plot(4, 5), r"ranges_i: \[4, 5\) is out of bounds, there are M = 4 rows of i"),
        (lambda: BAND.joined(2), "axis: wanted 0 or 1, got 2"),
        (lambda: BAND.joined("i"), "axis: wanted 0 or 1, got 'i'"),
    ],
)
def test_bad_questions_are_named(ask, message):
    with pytest.raises(RangesError, match=f"^({message})"):
        ask()


def test_memory_of_looking_up_goes_by_the_intervals(monkeypatch):
    """Not by the pieces of columns that each of them crosses, of which there are half of n**2 here."""
    monkeypatch.setattr(lookup, "TABLE", 0)
    triangle = Ranges.lower_triangular(3000)
    tracemalloc.start()
    try:
        assert triangle.contains([2999, 1500], [0, 1501]).tolist() == [True, False]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1000 * 3000, "under a thousand bytes an interval"


@settings(max_examples=40, deadline=None)
@given(masks(), orders())
def test_pairs_and_density(case, order):
    found = Ranges.from_mask(*case).ordered(order, order)
    assert found.pairs == found.mask(SIZE, SIZE).sum() and found.density(SIZE, SIZE) == found.pairs / SIZE**2


def test_pairs_beyond_int64():
    assert Ranges.dense(2**40, 2**40).pairs == 2**80 and Ranges.dense(2**40, 2**40).density(2**40, 2**41) == 0.5
    assert Ranges.dense(10, 10).density(np.int8(100), np.int8(100)) == 0.01


def test_predicted_cost_counted_by_hand():
    """A row meets 200 columns of two tiles; dense it would meet 1000 of four. To begin a row costs 64, a tile 12."""
    some = Ranges.from_mask([[0, 10]], [[100, 300]], np.ones((1, 1), bool))
    assert some.predicted_cost(10, 1000) == (200 + 2 * 12 + 64) / (1000 + 4 * 12 + 64)
    assert some.predicted_cost(40, 1000) == some.predicted_cost(10, 1000) / 4


@pytest.mark.parametrize("clusters", [1, 2, 10, 999])
def test_predicted_cost_of_all_pairs_is_1_however_they_are_cut(clusters):
    labels = np.sort(np.arange(1000) % clusters)
    all_pairs = Ranges.from_mask(labels, labels[:700], np.ones((clusters, clusters), bool))
    assert all_pairs.predicted_cost(1000, 700) == 1
    assert Ranges.dense(1000, 700).predicted_cost(1000, 700) == 1


def test_predicted_cost_grows_with_the_pairs():
    """Blocks of 16, which are worth more than what it costs to begin one."""
    x = np.random.default_rng(0).random((1000, 2))
    found = [Ranges.from_radius(x, x, r, 16) for r in (0, 0.03, 0.1, 0.3, 0.6, 2)]
    pairs, costs = ([f(a) for a in found] for f in (lambda a: a.pairs, lambda a: a.predicted_cost(1000, 1000)))
    assert pairs == sorted(pairs) and costs == sorted(costs) and len(set(costs)) == len(costs) and costs[-1] == 1
    bands = [Ranges.band(1000, w, 16).predicted_cost(1000, 1000) for w in (0, 20, 100, 300, 999)]
    assert bands == sorted(bands) and len(set(bands)) == 5 and bands[-1] == 1


def test_a_pattern_that_is_not_worth_it_costs_more_than_all_pairs():
    x = np.arange(1000)
    assert Ranges.from_mask(x, x, (x[:, None] + x) % 4 > 0).predicted_cost(1000, 1000) > 1


@pytest.mark.parametrize("empty", [Ranges.band(0, 0), Ranges.dense(0, 5), Ranges.from_mask([0], [0], [[False]])])
def test_nothing_costs_nothing(empty):
    assert empty.predicted_cost(5, 5) == empty.density(5, 5) == 0 and empty.pairs == 0
    assert empty.T.predicted_cost(5, 5) == 0 and [len(a) for a in empty.joined(1)] == [0, 0, 0]


@settings(max_examples=80, deadline=None)
@given(masks(), st.sampled_from([0, 1]))
def test_joined_holds_the_same_in_the_fewest_blocks(case, axis):
    found = Ranges.from_mask(*case)
    blocks, slices, intervals = found.joined(axis)
    want = found.mask(SIZE, SIZE) if axis == 1 else found.mask(SIZE, SIZE).T
    np.testing.assert_array_equal(mask_of_half(blocks, slices, intervals, SIZE, SIZE), want)
    changes = np.abs(np.diff(np.pad(want, ((1, 1), (0, 0))).astype(int), axis=0)).any(1)
    filled = np.pad(want.any(1), 1)
    assert len(blocks) == (changes & filled[1:]).sum(), "one for each run of rows that meet the same"
    runs = (np.diff(np.pad(want[blocks[:, 0]], ((0, 0), (1, 1))).astype(int), axis=1) == 1).sum(1)
    np.testing.assert_array_equal(np.diff(slices, prepend=0), runs, "one for each run of columns")


@settings(max_examples=40, deadline=None)
@given(tables(4, 4), st.integers(1, 20), st.integers(1, 6))
def test_tiles(keep, rows, width):
    """Of whole tiles of i and of j, the last ones cut off."""
    count = min(4, -(-rows // width))
    rows = min(rows, 4 * width)
    edges = np.minimum(np.arange(count + 1) * width, rows)
    blocks = np.stack([edges[:-1], edges[1:]], axis=1)
    met = Ranges.from_mask(blocks, blocks, keep[:count, :count]).tiles(rows, width)
    assert met.dtype == np.uint8
    np.testing.assert_array_equal(met, keep[:count, :count])


def test_tiles_are_whole_or_none(monkeypatch):
    assert Ranges.band(10, 4, 4).tiles(10, 4).tolist() == [[1, 1, 0], [1, 1, 1], [0, 1, 1]]
    assert Ranges.band(10, 2, 3).tiles(10, 4) is None and Ranges.band(8, 4, 4).tiles(10, 4).shape == (3, 3)
    assert Ranges.band(6, 4, 4).tiles(10, 4) is None, "6 ends no tile of 10 rows"
    monkeypatch.setattr(pattern, "MOST_TILES", 2)
    assert Ranges.band(10, 4, 4).tiles(10, 4) is None and Ranges.band(8, 4, 4).tiles(8, 4).all()


@pytest.fixture
def pyplot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


@pytest.mark.parametrize("order", [None, [4, 3, 2, 1, 0]])
def test_plot_draws_the_pattern(pyplot, order):
    found = Ranges.from_mask([[0, 2], [3, 5]], [[0, 4], [4, 6], [8, 9]], np.array([[1, 0, 1], [1, 1, 0]], bool))
    found = found.ordered(order)
    axes = found.plot(5, 12)
    drawn = np.zeros((5, 12), bool)
    for path in axes.collections[0].get_paths():
        (c, a), (d, b) = path.vertices.min(0).astype(int), path.vertices.max(0).astype(int)
        assert not drawn[a:b, c:d].any(), "no pair twice"
        drawn[a:b, c:d] = True
    np.testing.assert_array_equal(drawn, found.plain.mask(5, 12), "in the order of the pattern")
    assert axes.get_xlim() == (0, 12) and axes.get_ylim() == (5, 0) and "of 5 x 12" in axes.get_title()
    assert found.plot(ax=axes) is axes and axes.get_xlim() == (0, 9), "by default as many rows as the pattern has"


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0), (1, 10**6), (10**6, 1)])
def test_plot_of_odd_shapes(pyplot, size):
    axes = Ranges.dense(*size).plot()
    axes.figure.canvas.draw()  # a warning would be an error
    assert min(axes.figure.get_size_inches()) > 1


def test_plot_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"Ranges.plot needs matplotlib: pip install \"kernelops\[plot\]\""):
        BAND.plot()
