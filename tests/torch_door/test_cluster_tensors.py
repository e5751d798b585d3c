"""The cluster helpers for tensors against loops in Python and autograd, and all together against a dense mask."""

from __future__ import annotations

import math
import re

import pytest
import usual
from torch_dense import solve, squared_distances, torch

from kernelops import Ranges
from kernelops.errors import ArgumentError, DtypeError, ShapeError
from kernelops.torch import Genred, KernelSolve, cluster

DTYPES = [torch.float32, torch.float64]


def points(n=40, D=2, dtype=torch.float64, seed=0):
    return 3 * torch.randn(n, D, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def grid_by_hand(x, size):
    """The labels, cell by cell from the least coordinates on; x - least and the quotient are rounded as x is."""
    least = x.min(0).values
    held = [tuple(math.floor(((v - o) / s).item()) for v, o, s in zip(row, least, size, strict=True)) for row in x]
    return [sorted(set(held)).index(cell) for cell in held]


def dense_means(x, lab, w):
    """The weighted means by a dense matrix of who is where, which autograd goes through."""
    here = torch.stack([(lab == k).to(x.dtype) for k in range(int(lab.max()) + 1)])
    return (here * w) @ x / (here * w).sum(1, keepdim=True)


@pytest.mark.parametrize("D", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_grid_begins_at_the_least_coordinates(D, dtype):
    x = points(D=D, dtype=dtype)
    sides = torch.arange(D, dtype=dtype) + 0.5
    one = torch.full((D,), 0.7, dtype=dtype)
    for size, side in ((0.7, one), (torch.tensor(0.7, dtype=torch.float64), one), (sides, sides)):
        got = cluster.grid_cluster(x, size)
        assert got.dtype == torch.int32 and got.tolist() == grid_by_hand(x, side)
    assert not cluster.grid_cluster(x.requires_grad_(), 0.7).requires_grad


def test_no_points():
    x, lab = torch.zeros(0, 2), torch.zeros(0, dtype=torch.int32)
    assert cluster.grid_cluster(x, 1.0).shape == (0,)
    found = cluster.cluster_ranges_centroids(x, lab, torch.zeros(0))
    assert [tuple(a.shape) for a in found] == [(0, 2), (0, 2), (0,)]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_ranges_and_sorted_rows(dtype):
    lab = torch.tensor([3, 0, 0, 3, 1, 0], dtype=dtype)
    rows = torch.arange(6)
    x = torch.randn(6, 2, requires_grad=True)
    (sorted_x, sorted_rows), sorted_lab = cluster.sort_clusters([x, rows], lab)
    assert sorted_rows.tolist() == [1, 2, 5, 4, 0, 3]
    assert sorted_lab.dtype == dtype and sorted_lab.tolist() == [0, 0, 0, 1, 3, 3]
    (gradient,) = torch.autograd.grad((sorted_x[:, 0] * rows).sum(), x)
    assert gradient[:, 0].tolist() == [4, 0, 1, 5, 3, 2]
    assert isinstance(cluster.sort_clusters((x, rows), lab)[0], tuple)
    ranges = cluster.cluster_ranges(lab, torch.tensor([3.0, 1.0, 0.0, 2.0, 0.0]))  # KeOps' own counts are floats
    assert ranges.dtype == torch.int64 and ranges.tolist() == [[0, 3], [3, 4], [4, 4], [4, 6], [6, 6]]
    assert torch.equal(cluster.cluster_ranges(lab), ranges[:4])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_centroids_and_their_gradients(dtype, weighted):
    lab = torch.tensor([2, 0, 1, 2, 2, 0, 1, 0])
    x = points(8, 3, dtype).requires_grad_()
    w = (torch.arange(8, dtype=dtype) / 4 + 0.5).requires_grad_()
    weights = w if weighted else None
    ranges, got, totals = cluster.cluster_ranges_centroids(x, lab, weights)
    assert torch.equal(cluster.cluster_centroids(x, lab, weights=weights), got)
    assert torch.equal(ranges, cluster.cluster_ranges(lab)) and totals.dtype == got.dtype == dtype
    assert totals.tolist() == ([4.75, 3.0, 3.25] if weighted else [3, 2, 3])
    want = dense_means(x, lab, w if weighted else torch.ones(8, dtype=dtype))
    torch.testing.assert_close(got, want)
    leaves = [x, w] if weighted else [x]
    seeds = torch.randn(3, 3, dtype=dtype, generator=torch.Generator().manual_seed(1))
    ours, theirs = (torch.autograd.grad((a**2 * seeds).sum(), leaves) for a in (got, want))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=100 * torch.finfo(dtype).eps, atol=100 * torch.finfo(dtype).eps)


def test_centroids_are_differentiable_any_number_of_times():
    lab = torch.tensor([1, 0, 1, 0])
    x, w, totals = points(4).requires_grad_(), torch.rand(4).double().requires_grad_(), torch.ones(2).double()
    totals.requires_grad_()
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda x, w: cluster.cluster_ranges_centroids(x, lab, w)[1:], (x, w))
        assert check(lambda *a: cluster.cluster_centroids(a[0], lab, None, *a[1:]), (x, w, totals))


def test_an_empty_cluster_is_nan_and_leaves_gradients_alone():
    x, lab = points(3).requires_grad_(), torch.tensor([0, 2, 2])
    got = cluster.cluster_centroids(x, lab)
    assert got[1].isnan().all() and not got[[0, 2]].isnan().any()
    (gradient,) = torch.autograd.grad(got[[0, 2]].sum(), x)
    assert gradient.tolist() == [[1.0] * 2, [0.5] * 2, [0.5] * 2]


def test_min_weight():
    x, lab = torch.tensor([[2.0], [4.0], [6.0]]), torch.tensor([0, 0, 1])
    _, centroids, totals = cluster.cluster_ranges_centroids(x, lab, torch.tensor([0.0, 0.0, 1.0]))
    assert centroids.tolist() == [[3.0], [6.0]]
    torch.testing.assert_close(totals, torch.tensor([2e-9, 1.0]), rtol=1e-6, atol=0.0)
    half = cluster.cluster_ranges_centroids(x.half(), lab, torch.tensor([[0.25], [1.0], [1.0]]).half(), 0.5)
    assert half[1].dtype == torch.float16 and half[2].dtype == torch.float32 and half[2].tolist() == [1.5, 1.0]


def test_the_six_tensors():
    i, j = torch.tensor([[0, 2], [2, 5]], dtype=torch.int32), torch.tensor([[0, 1], [1, 4], [4, 5]])
    keep = torch.tensor([[True, False, True], [False, False, False]])
    six = cluster.from_matrix(i, j, keep)
    assert isinstance(six, tuple) and all(t.dtype == torch.int64 for t in six)
    assert [t.tolist() for t in six] == [
        *([[0, 2], [2, 5]], [2, 2], [[0, 1], [4, 5]]),
        *([[0, 1], [1, 4], [4, 5]], [1, 1, 2], [[0, 2], [0, 2]]),
    ]
    swapped = cluster.swap_axes(six)
    assert all(a is b for a, b in zip(swapped, six[3:] + six[:3], strict=True))
    assert Ranges.from_tuple(swapped) == cluster.swap_axes(Ranges.from_tuple(six))


def scene():
    """Points sorted by cluster, values, and ranges that keep clusters whose centroids are near; and the dense mask."""
    x = torch.rand(60, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    lab = cluster.grid_cluster(x, 0.5)
    clusters, centroids, _ = cluster.cluster_ranges_centroids(x, lab)
    (x, b), lab = cluster.sort_clusters((x, (9 * x[:, :2]).cos()), lab)
    keep = squared_distances(centroids, centroids) < 0.4
    near = keep[lab.long()][:, lab.long()]
    assert 0.1 < near.double().mean() < 0.9
    return x.requires_grad_(), b.requires_grad_(), cluster.from_matrix(clusters, clusters, keep), near


ALIASES = usual.aliases(4, 2)


def assert_alike(ours, theirs, leaves, rtol):
    """Values and gradients, in units of the largest entry."""
    pairs = [(ours, theirs)]
    pairs += zip(*(torch.autograd.grad((a**2).sum(), leaves) for a in (ours, theirs)), strict=True)
    for one, other in pairs:
        assert (one - other).abs().max() <= rtol * other.abs().max()


def test_all_together_is_the_dense_product_with_a_mask():
    x, b, ranges, near = scene()
    got = Genred(usual.GAUSS, ALIASES, axis=1)(x, x, b, ranges=ranges)
    assert_alike(got, ((-squared_distances(x, x)).exp() * near) @ b, [x, b], 1e-13)  # sums of 60 terms of one size


def test_all_together_solves_the_dense_system_with_a_mask():
    x, b, ranges, near = scene()
    got = KernelSolve(usual.GAUSS, ALIASES, "b", axis=1)(x, x, b, alpha=20.0, eps=1e-12, ranges=ranges)
    K = (-squared_distances(x, x)).exp() * near
    low, *_, high = torch.linalg.eigvalsh(K.detach()) + 20.0
    assert 0 < high / low < 10  # so an error is at most ten times a residual
    assert_alike(got, solve(K, 20.0, b), [x, b], 1e-10)


def test_gradients_go_through_centroids_that_were_made_of_sorted_points():
    """A coarse kernel between centroids: the whole chain from x to a sum over clusters."""
    x, b = points(12), points(12, 1, seed=1)
    lab = cluster.grid_cluster(x, 3.0)
    x.requires_grad_()

    def coarse(means):
        return Genred("SqDist(x,y)", ["x = Vi(2)", "y = Vj(2)"], axis=1)(means(x), means(x)).sum()

    def ours(x):
        points, labels = cluster.sort_clusters(x, lab)
        return cluster.cluster_centroids(points, labels, weights=weights[lab.argsort(stable=True)])

    weights = b[:, 0].abs() + 0.1
    one, other = (torch.autograd.grad(coarse(means), x)[0] for means in (ours, lambda x: dense_means(x, lab, weights)))
    torch.testing.assert_close(one, other)


X, LAB = torch.arange(6.0).reshape(3, 2), torch.tensor([0, 2, 0])
BAD = [
    (lambda: cluster.grid_cluster(X.numpy(), 1.0), DtypeError, "x: wanted a torch tensor, got ndarray"),
    (lambda: cluster.grid_cluster(X.to_sparse(), 1.0), DtypeError, "x is a tensor of layout torch.sparse_coo"),
    (lambda: cluster.grid_cluster(X.bfloat16(), 1.0), DtypeError, "x is bfloat16: wanted float16, float32 or float64"),
    (lambda: cluster.grid_cluster(X[0], 1.0), ShapeError, "x: wanted points of shape (n, D), got shape (2,)"),
    (lambda: cluster.grid_cluster(X, torch.ones(3)), ShapeError, "size: wanted a number or 2 of them"),
    (lambda: cluster.cluster_ranges([0, 1]), DtypeError, "lab: wanted a torch tensor, got list"),
    (lambda: cluster.cluster_ranges(LAB, 4), DtypeError, "Nlab: wanted a torch tensor, got int"),
    (lambda: cluster.sort_clusters([X, 3], LAB), DtypeError, "x[1]: wanted a torch tensor, got int"),
    (lambda: cluster.sort_clusters(X[:2], LAB), ShapeError, "x: wanted 3 rows, one for each label, got shape (2, 2)"),
    (lambda: cluster.cluster_centroids(X > 0, LAB), DtypeError, "x: wanted floating point numbers, got torch.bool"),
    (lambda: cluster.cluster_centroids(X, LAB, weights_c=X[:, 0]), ArgumentError, "weights_c: wanted weights too"),
    (
        lambda: cluster.cluster_centroids(X, LAB, weights=X),
        ShapeError,
        "weights: wanted one number for each point, shape",
    ),
    (
        lambda: cluster.cluster_ranges_centroids(X, LAB, torch.tensor([1.0, math.nan, 1.0])),
        ArgumentError,
        "weights: wanted numbers of at least 0, got nan",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[row[2][:40] for row in BAD])
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
