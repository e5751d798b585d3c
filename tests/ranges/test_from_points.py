"""Ranges of points: clusters by a radius, by a rule, by labels; the order that points are put in."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelops import Ranges
from kernelops.errors import RangesError
from kernelops.ranges import clusters

RNG = np.random.default_rng(0)
X = RNG.random((50, 2))


def points(n, D, seed=0):
    return np.random.default_rng(seed).random((n, D))


def boxes_met(x, y, labels_i, labels_j, r):
    """The pairs of points in clusters whose boxes come as near as r, box by box, in plain Python."""
    boxes = []
    for a, labels in ((x, labels_i), (y, labels_j)):
        boxes.append({k: (a[labels == k].min(0), a[labels == k].max(0)) for k in np.unique(labels)})
    near = {}
    for k, (lo, hi) in boxes[0].items():
        for l, (low, high) in boxes[1].items():
            near[k, l] = sum(max(0.0, *g) ** 2 for g in zip(lo - high, low - hi, strict=True)) ** 0.5 <= r
    return np.array([[near[k, l] for l in labels_j] for k in labels_i], bool).reshape(len(x), len(y))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 60),
    st.integers(0, 60),
    st.integers(0, 3),
    st.sampled_from([0, 0.07, 0.3, np.float32(0.5), np.inf]),
    st.sampled_from([1, 7, 16, 256, 2**63 - 1]),
)
def test_radius(M, N, D, r, size):
    x, y = points(M, D), points(N, D, 1)
    found = Ranges.from_radius(x, y, r, size)
    mask = found.mask(M, N)
    near = np.linalg.norm(x[:, None] - y, axis=-1) <= r
    assert mask[near].all(), "every pair that near is kept"
    np.testing.assert_array_equal(mask, boxes_met(x, y, Ranges.order(x, size)[1], Ranges.order(y, size)[1], r))
    np.testing.assert_array_equal(found.T.mask(N, M), mask.T)
    assert found == Ranges.from_clusters(x, y, r, points_per_cluster=size)
    assert Ranges.from_radius(x, x, r, size).is_symmetric()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=20), st.lists(st.integers(0, 6), max_size=20))
def test_labels_and_a_rule(labels_i, labels_j):
    """The rule sees the means of the clusters, nan for those that have no point."""
    labels_i, labels_j = np.array(labels_i, np.int32), np.array(labels_j, int)
    x, y, seen = points(len(labels_i), 2), points(len(labels_j), 2, 1), []

    def keep(a, b):
        seen.extend([a, b])
        return a[:, None, 0] < b[None, :, 1]

    mask = Ranges.from_clusters(x, y, keep, labels_i=labels_i, labels_j=labels_j).mask(len(x), len(y))
    for centres, a, labels in zip(seen, (x, y), (labels_i, labels_j), strict=True):
        assert len(centres) == labels.max(initial=-1) + 1
        for k, centre in enumerate(centres):
            if (labels == k).any():
                np.testing.assert_allclose(centre, a[labels == k].mean(0), rtol=1e-14)
            else:
                assert np.isnan(centre).all()
    means = [{k: a[labels == k].mean(0) for k in labels} for a, labels in ((x, labels_i), (y, labels_j))]
    want = [[means[0][k][0] < means[1][l][1] for l in labels_j] for k in labels_i]
    np.testing.assert_array_equal(mask, np.array(want, bool).reshape(len(x), len(y)))


def test_labels_of_one_side():
    """The other side is clustered here; labels that ascend need no order."""
    labels = np.sort(RNG.integers(0, 5, 50))
    found = Ranges.from_clusters(X, X, 0.2, labels_i=labels, points_per_cluster=8)
    np.testing.assert_array_equal(found.mask(50, 50), boxes_met(X, X, labels, Ranges.order(X, 8)[1], 0.2))
    assert found.order_i is None and found.order_j is not None


@pytest.mark.parametrize("dtype", ["float16", "float32", "int32", "float64"])
def test_torch_and_narrow_types(dtype):
    torch = pytest.importorskip("torch")
    x = (10 * X).astype(dtype)
    want = Ranges.from_radius(x.astype(float), x.astype(float), 2, 8)
    assert Ranges.from_radius(x, x, 2, 8) == want
    assert Ranges.from_radius(torch.tensor(x), torch.tensor(x), 2, 8) == want


@pytest.mark.parametrize("scale", [2.0**1020, 2.0**-900])
def test_squares_need_not_fit(scale):
    """A power of two scales all distances alike, so the pattern is the same."""
    want = Ranges.from_radius(X, X, 0.2, 8)
    assert 0.1 < want.density(50, 50) < 0.9
    assert Ranges.from_radius(X * scale, X * scale, 0.2 * scale, 8) == want


def test_distances_in_pieces(monkeypatch):
    want = Ranges.from_radius(X, X[:30], 0.2, 4)
    monkeypatch.setattr(clusters, "DISTANCES_AT_ONCE", 20)  # two rows of the 13 x 8
    assert Ranges.from_radius(X, X[:30], 0.2, 4) == want


def test_memory_of_many_clusters():
    """A byte for each pair of clusters and a little more, no number of 8 bytes."""
    x = points(4000, 1)
    Ranges.from_radius(x[:10], x[:10], 0.0)
    tracemalloc.start()
    try:
        assert Ranges.from_radius(x, x, 1e-6, 2).density(4000, 4000) < 0.01
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2000**2 + 8 * 4 * clusters.DISTANCES_AT_ONCE


@pytest.mark.parametrize(("n", "size"), [(0, 4), (1, 4), (4, 4), (5, 4), (300, 1), (300, 7), (300, np.uint8(200))])
def test_order(n, size):
    x = points(n, 2)
    order, labels = Ranges.order(x, size)
    assert order.dtype == labels.dtype == np.int64 and sorted(order) == list(range(n))
    assert (labels[order] == np.arange(n) // int(size)).all(), "one cluster after another, all of the size but the last"
    if n <= size:
        assert (order == np.arange(n)).all()


def test_order_of_points_that_are_all_the_same():
    order, labels = Ranges.order(np.zeros((9, 3)), 4)
    assert sorted(order) == list(range(9)) and np.bincount(labels).tolist() == [4, 4, 1]
    assert Ranges.order(np.empty((5, 0)), 2)[1].tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("D", [1, 2, 3])
def test_order_is_compact(D):
    """Boxes of a tree do not overlap, so that all of them together are no larger than the cube of the points."""
    x = points(2048, D)

    def volume(a):
        parts = a.reshape(32, 64, D)
        return (parts.max(1) - parts.min(1)).prod(1).sum()

    assert volume(x) > 15, "in no order each of 32 boxes is nearly the cube"
    assert volume(x[Ranges.order(x, 64)[0]]) <= 1


BAD = {
    "nan": ({"x": np.full((3, 2), np.nan)}, "x: wanted finite coordinates, got nan"),
    "inf": ({"y": np.full((3, 2), np.inf)}, "y: wanted finite coordinates, got inf"),
    "a vector": ({"x": X[:, 0]}, r"x: wanted points of shape \(n, D\), got ndarray of float64 of shape \(50,\)"),
    "an empty list": ({"x": []}, r"x: wanted points of shape \(n, D\)"),
    "text": ({"y": "points"}, r"y: wanted points of shape \(n, D\)"),
    "complex": ({"y": X * 1j}, r"y: wanted points .* complex128"),
    "another D": ({"y": X[:, :1]}, "y: wanted points of 2 coordinates as x has, got 1"),
    "a negative radius": ({"keep": -1}, "keep: wanted a distance, a number of at least 0, got -1"),
    "a radius of nan": ({"keep": np.nan}, "keep: wanted a distance, a number of at least 0, got nan"),
    "a radius of True": ({"keep": True}, "keep: wanted a distance, a number of at least 0, got True"),
    "no rule": ({"keep": None}, "keep: wanted a distance, a number of at least 0, got None"),
    "a mask": ({"keep": np.ones((7, 7), bool)}, r"keep: wanted a distance, .* ndarray of bool of shape \(7, 7\)"),
    "a radius of many digits": ({"keep": 10**400}, "keep: wanted a distance that fits float64, got 401 digits"),
    "the rule says None": ({"keep": lambda a, b: None}, r"keep: wanted booleans of shape \(7, 7\), got NoneType"),
    "the rule says True": ({"keep": lambda a, b: True}, r"keep: wanted booleans of shape \(7, 7\), got bool"),
    "the rule says numbers": ({"keep": lambda a, b: a @ b.T}, r"keep: wanted booleans .* got ndarray of float64"),
    "the rule says too little": ({"keep": lambda a, b: a[:, :1] < 2}, r"keep: wanted booleans .* of shape \(7, 1\)"),
    "clusters of 0": ({"points_per_cluster": 0}, "points_per_cluster: wanted a whole number of at least 1, got 0"),
    "clusters of 1.0": (
        {"points_per_cluster": 1.0},
        "points_per_cluster: .* of at least 1, got 1.0",
    ),
    "few labels": ({"labels_i": [0, 1]}, r"labels_i: wanted one label for each point, shape \(50,\), got shape \(2,\)"),
    "wide labels": ({"labels_j": np.zeros((50, 1), int)}, r"labels_j: wanted one label .* got shape \(50, 1\)"),
    "float labels": ({"labels_j": np.zeros(50)}, "labels_j: wanted integers, got ndarray of float64"),
    "negative labels": ({"labels_i": np.full(50, -2)}, "labels_i: wanted labels from 0 on, got -2"),
    "huge labels": ({"labels_i": np.full(50, 10**11)}, "labels_i: wanted labels with few gaps, got 10+ among 50"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(RangesError, match=f"^{message}"):
        Ranges.from_clusters(**{"x": X, "y": X, "keep": 0.1, "points_per_cluster": 8} | arguments)


def test_bad_arguments_of_from_radius_and_order():
    with pytest.raises(RangesError, match="^r: wanted a distance, a number of at least 0, got <function"):
        Ranges.from_radius(X, X, lambda a, b: None)
    with pytest.raises(RangesError, match="^x: wanted finite coordinates, got nan"):
        Ranges.order(X * np.nan)
    with pytest.raises(RangesError, match="^points_per_cluster: wanted a whole number of at least 1, got -3"):
        Ranges.order(X, -3)


def test_a_type_that_numpy_has_not_got():
    torch = pytest.importorskip("torch")
    with pytest.raises(RangesError, match=r"^x: wanted an array, got Tensor of torch.bfloat16 of shape \(50, 2\)"):
        Ranges.from_radius(torch.tensor(X, dtype=torch.bfloat16), X, 0.1)


@pytest.mark.parametrize("size", [1e155, 1.7e308, 1e-200])
def test_points_at_the_ends_of_the_range(size):
    """Neither centres nor radii overflow, and no warning comes."""
    x = np.random.default_rng(5).uniform(-1, 1, (300, 2)) * size
    seen = []

    def keep(a, b):
        seen.append(a)
        return np.ones((len(a), len(b)), bool)

    Ranges.from_clusters(x, x, keep, points_per_cluster=30)
    order, labels = Ranges.order(x, 30)
    wide = x.astype(np.longdouble)
    want = np.stack([wide[labels == k].mean(0) for k in range(10)])
    np.testing.assert_allclose(seen[0], want.astype(float), rtol=0, atol=1e-15 * size)
    held = Ranges.from_radius(x, x, size / 8, points_per_cluster=10).mask(300, 300)
    apart = np.sqrt(((wide[:, None] - wide) ** 2).sum(-1))
    assert held[apart <= size / 8].all() and held.mean() < 0.5


@pytest.mark.parametrize("size", [1, 3, 16, 200])
@pytest.mark.parametrize(("n", "D"), [(0, 2), (1, 2), (50, 2), (97, 3), (50, 0)])
def test_the_tree_of_clusters(n, D, size):
    """Two children share the rows of a node, and the leaves, from left to right, are the clusters."""
    found = clusters.split(np.random.default_rng(n).uniform(size=(n, D)), size)
    blocks, children = (a.tolist() for a in found.tree)
    assert blocks[0] == [0, n]
    leaves, todo, met = [], [0], []
    while todo:
        node = todo.pop()
        met.append(node)
        left, right = children[node]
        if left < 0:
            assert right < 0
            leaves.append(blocks[node])
            continue
        (first, last), (begin, half), (middle, end) = (blocks[k] for k in (node, left, right))
        assert first == begin < half == middle < end == last
        todo += [right, left]
    assert sorted(met) == list(range(len(blocks)))
    assert leaves == (found.blocks.tolist() or [[0, 0]])
