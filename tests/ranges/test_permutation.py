"""Ranges in an order of their own, combined and copied, against boolean masks."""

from __future__ import annotations

import copy
import gc
import pickle
import tracemalloc
import weakref
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patterns import SIZE, mask_by_hand, masks, orders

from kernelops import Ranges
from kernelops.errors import RangesError

BAND = Ranges.band(5, 1)
TURNED = [4, 3, 2, 1, 0]
SWAPPED = [1, 0, 2, 3, 4]
I, J = np.mgrid[-1 : SIZE + 2, -1 : SIZE + 2]


@settings(max_examples=60, deadline=None)
@given(masks(), orders(), orders())
def test_ordered(case, order_i, order_j):
    plain = Ranges.from_mask(*case)
    ranges = plain.ordered(order_i, order_j)
    want = mask_by_hand(plain.as_tuple(), SIZE, SIZE, order_i, order_j)
    np.testing.assert_array_equal(ranges.mask(SIZE, SIZE), want)
    np.testing.assert_array_equal(ranges.T.mask(SIZE, SIZE), want.T)
    np.testing.assert_array_equal(ranges.contains(I, J), np.pad(want, (1, 2)))
    assert ranges.plain == plain and ranges.pairs == want.sum() and ranges.T.T == ranges
    assert ranges == Ranges(*plain.as_tuple(), order_i=order_i, order_j=order_j)
    assert ranges.is_symmetric() == bool((want == want.T).all())


@settings(max_examples=80, deadline=None)
@given(masks(), masks(), orders(), orders())
def test_union_and_intersection(one, other, order_i, order_j):
    a, b = (Ranges.from_mask(*case).ordered(order_i, order_j) for case in (one, other))
    for found, want in (
        (a | b, a.mask(SIZE, SIZE) | b.mask(SIZE, SIZE)),
        (a & b, a.mask(SIZE, SIZE) & b.mask(SIZE, SIZE)),
    ):
        np.testing.assert_array_equal(found.mask(SIZE, SIZE), want)
        assert Ranges(*found.as_tuple(), found.order_i, found.order_j) == found, "what is made passes the checks"
        np.testing.assert_array_equal(found.T.mask(SIZE, SIZE), want.T)
    assert a.union(b) == a | b and a.intersection(b) == a & b and (a | b) == (b | a)


def test_unions_of_other_sizes():
    assert (BAND | Ranges.band(9, 1)) == (Ranges.band(9, 1) | BAND) and (BAND | Ranges.band(9, 1)).extent == (9, 9)
    assert (BAND & Ranges.band(0, 0)).pairs == 0 and (BAND | Ranges.band(0, 0)).pairs == BAND.pairs


def test_an_order_that_changes_nothing_is_that_of_the_rows_as_they_stand():
    same = BAND.ordered(range(5), range(5))
    for found in (same | BAND, BAND | same):
        assert found.order_i is same.order_i and (found.mask(5, 5) == BAND.mask(5, 5)).all()
    for a, b in ((same, Ranges.band(9, 1)), (Ranges.band(9, 1), same)):
        assert (a & b).extent == (5, 5)
        with pytest.raises(RangesError, match="^order_i: wanted the 9 rows of the pattern or more, got 5"):
            a | b


def test_orders_must_be_one():
    ordered = BAND.ordered(SWAPPED, SWAPPED)
    for a, b, name in (
        (BAND, ordered, "order_i"),
        (ordered, BAND, "order_i"),
        (BAND.ordered(None, SWAPPED), BAND, "order_j"),
        (BAND.ordered(range(5)), BAND.ordered(range(7)), "order_i"),
    ):
        for combine in (Ranges.union, Ranges.intersection):
            with pytest.raises(RangesError, match=f"^{name}: wanted two Ranges in one order of rows"):
                combine(a, b)
    for other in (3, None, BAND.as_tuple()):
        with pytest.raises(RangesError, match=f"^other: wanted a Ranges, got {type(other).__name__}"):
            BAND | other


@pytest.mark.parametrize("lengths", [(3, 3), (3, None), (None, 3), (2, 3), (3, 2)])
def test_symmetry_under_all_orders(lengths):
    """Every mask of three rows and columns, or two, in every sixth of all pairs of orders, where those are 36."""
    M, N = (3 if length is None else length for length in lengths)
    some = [[None] if length is None else list(permutations(range(length))) for length in lengths]
    rows, columns = (np.stack([np.arange(n), np.arange(n) + 1], 1) for n in (M, N))
    for bits in range(2 ** (M * N)):
        table = (bits >> np.arange(M * N) & 1).astype(bool).reshape(M, N)
        plain = Ranges.from_mask(rows, columns, table)
        pairs = list(product(*some))
        for order_i, order_j in pairs[bits % 6 :: 6] if len(pairs) == 36 else pairs:
            want = np.zeros((3, 3), bool)
            want[np.ix_(range(M) if order_i is None else order_i, range(N) if order_j is None else order_j)] = table
            assert plain.ordered(order_i, order_j).is_symmetric() == bool((want == want.T).all())


def test_symmetry_in_two_orders():
    """Of points that meet the same, it is nobody's business which stands first."""
    pairs = Ranges.from_mask([[0, 2], [2, 5]], [[0, 2], [2, 5]], np.eye(2, dtype=bool))
    assert pairs.ordered(SWAPPED).is_symmetric() and pairs.ordered(SWAPPED, [0, 1, 3, 4, 2]).is_symmetric()
    assert pairs.ordered(TURNED, [3, 4, 0, 2, 1]).is_symmetric() and not pairs.ordered(TURNED).is_symmetric()
    assert BAND.ordered(SWAPPED, SWAPPED).is_symmetric() and BAND.ordered(SWAPPED, list(SWAPPED)).is_symmetric()
    assert not BAND.ordered(SWAPPED).is_symmetric() and not BAND.ordered(SWAPPED, [0, 2, 1, 3, 4]).is_symmetric()
    assert BAND.ordered(range(5)).is_symmetric()


def test_orders_that_are_one_are_one_array():
    """So that rows are sorted once; in a copy that came by pickle too."""
    assert BAND.ordered(None, range(7)).extent == (5, 7), "not where one has none: the other tells how many rows"
    for ranges in (BAND.ordered(TURNED, list(TURNED)), Ranges(*BAND.as_tuple(), TURNED, np.array(TURNED, np.int32))):
        for made in (ranges, pickle.loads(pickle.dumps(ranges)), ranges.T, ranges | ranges):
            assert made.order_i is made.order_j and not made.order_i.flags.writeable


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 0, 1, 2, 3], "wanted a permutation of 0 to 4, got no 4 in it"),
        ([-1, 0, 1, 2, 3], "wanted a permutation of 0 to 4, got no 4 in it"),
        ([0, 2, 3, 4, 5], "wanted a permutation of 0 to 4, got no 1 in it"),
        ([0, 1, 2, 3, 2**60], "wanted a permutation of 0 to 4, got no 4 in it"),
        ([TURNED], r"wanted a permutation of 0 to n - 1, shape \(n,\), got shape \(1, 5\)"),
        (np.array(TURNED, float), "wanted integers, got ndarray of float64"),
        (7, r"wanted a permutation .* got shape \(\)"),
        ([0, 1, 2, 3], "wanted the 5 rows of the pattern or more, got 4"),
        ([], "wanted the 5 rows of the pattern or more, got 0"),
    ],
)
@pytest.mark.parametrize("name", ["order_i", "order_j"])
def test_bad_orders(name, order, message):
    for make in (BAND.ordered, lambda **given: Ranges(*BAND.as_tuple(), **given)):
        with pytest.raises(RangesError, match=f"^{name}: {message}"):
            make(**{name: order})


def test_ordered_once_only():
    for ranges in (BAND.ordered(TURNED), BAND.ordered(None, TURNED)):
        with pytest.raises(RangesError, match="have an order already"):
            ranges.ordered(TURNED)
    assert BAND.ordered() == BAND and BAND.ordered().plain.plain == BAND


def test_an_order_has_all_rows():
    ranges = BAND.ordered(range(6, -1, -1), range(5))
    assert ranges.extent == (7, 5)
    want = np.zeros((7, 5), bool)
    want[2:] = BAND.mask(5, 5)[::-1]
    np.testing.assert_array_equal(ranges.mask(7, 5), want)
    for size, message in (((5, 5), "order_i: has 7 rows, there are M = 5"), ((7, 6), "order_j: has 5 rows")):
        with pytest.raises(RangesError, match=message):
            ranges.check(*size)


def test_torch_orders():
    torch = pytest.importorskip("torch")
    assert BAND.ordered(torch.tensor(TURNED), torch.tensor(TURNED, dtype=torch.int32)) == BAND.ordered(TURNED, TURNED)


@settings(max_examples=30, deadline=None)
@given(masks(), orders(), orders(), st.sampled_from([pickle.loads, copy.copy, copy.deepcopy]))
def test_copies(case, order_i, order_j, way):
    ranges = Ranges.from_mask(*case).ordered(order_i, order_j)
    ranges.cache["made"] = print
    again = way(pickle.dumps(ranges) if way is pickle.loads else ranges)
    assert type(again) is Ranges and again == ranges and hash(again) == hash(ranges) and repr(again) == repr(ranges)
    assert not again.cache and not any(a.flags.writeable for a in again.as_tuple())
    for a, b in ((again.order_i, ranges.order_i), (again.order_j, ranges.order_j)):
        assert (a is None) == (b is None) and (a is None or (a.tolist() == b.tolist() and not a.flags.writeable))


def test_equality_goes_by_pairs_and_rows():
    same = BAND.ordered(range(5), range(5))
    assert same == BAND and hash(same) == hash(BAND), "an order that changes nothing"
    assert BAND.ordered(range(7)) not in (BAND, same), "and one that has more rows"
    assert BAND.ordered(TURNED) not in (BAND, BAND.ordered(TURNED, TURNED), BAND.ordered(None, TURNED), 3)
    assert replace(BAND, order_i=np.array(TURNED)) == BAND.ordered(TURNED)


def test_repr():
    assert repr(BAND.ordered(TURNED)) == "Ranges(5 i-blocks, 5 j-blocks, 52% of 5 x 5, in an order of their own)"


def test_ranges_go_when_nobody_needs_them():
    """What is kept with them may be large: it must not wait for the collector of cycles."""
    gc.disable()
    try:
        for order in (None, TURNED):
            ranges = Ranges.band(5, 1).ordered(order)
            repr(ranges), ranges.plain, ranges.contains(0, 0), ranges.T, ranges.joined(1)
            seen = weakref.ref(ranges)
            del ranges
            assert seen() is None
    finally:
        gc.enable()


def test_memory_of_a_union_goes_by_its_intervals():
    """Not by the rows that each of them crosses, of which there are half of n**2 here."""
    a, b = Ranges.lower_triangular(3000), Ranges.band(3000, 1)
    tracemalloc.start()
    try:
        assert (a | b).pairs == 3000 * 3001 // 2 + 2999
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1000 * 6000, "under a thousand bytes an interval"
