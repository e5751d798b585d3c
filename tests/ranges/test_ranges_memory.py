"""Ranges hold memory as long as someone holds them, and a call under ranges takes what its points take."""

import gc
import os
import sys
import weakref
from contextlib import contextmanager

import numpy as np
import pytest
import usual
from bound_reduction import BoundReduction
from footprint import growth, peak
from range_patterns import PATTERNS

from kernelops import KernelOperator, Ranges, _core
from kernelops.arrays import permute as ordered
from kernelops.formula.parse import parse
from kernelops.numpy import Genred, KernelSolve

ALIASES = usual.aliases(2, 1)
GAUSS = usual.GAUSS
N = 1000
X, B = np.random.default_rng(0).standard_normal((N, 2)), np.random.default_rng(1).standard_normal((N, 1))
ORDER = 8 * N  # bytes


def changing(k):
    """Two blocks in an order, others for every k."""
    order, cut = np.random.default_rng(k).permutation(N), 1 + k % (N - 1)
    clusters = [[0, cut], [cut, N]]
    keep = np.array([[True, k % 2], [k % 2, True]], bool)
    return Ranges.from_mask(clusters, clusters, keep).ordered(order, None if k % 3 == 0 else order)


@contextmanager
def without_collection():
    """Nobody looks for cycles: what is not freed by counting stays."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


CALLS = {
    "a sum": lambda r: Genred(GAUSS, ALIASES, axis=1)(X, X, B, ranges=r),
    "a sum over i": lambda r: Genred("Exp(-SqDist(x,y))", ALIASES[:2], axis=0)(X, X, ranges=r),
    "nearest": lambda r: Genred("SqDist(x,y)", ALIASES[:2], "KMin_ArgKMin", axis=1, opt_arg=3)(X, X, ranges=r),
    "an operator": lambda r: KernelOperator(GAUSS, ALIASES, "b", X, X, alpha=1.0, ranges=r).T @ B,
    "entries": lambda r: KernelOperator(GAUSS, ALIASES, "b", X, X, ranges=r).block([0, 5], [1, 2]),
    "a mask": lambda r: r.contains(3, 4) + r.density(N, N) + r.is_symmetric(),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("make", [lambda: changing(1), lambda: Ranges.dense(N, N), lambda: changing(1).plain])
def test_ranges_go_when_nobody_holds_them(name, make):
    """At once: ranges that held themselves would stay until Python looks for cycles, with all that is kept on them."""
    with without_collection():
        ranges = make()
        CALLS[name](ranges)
        seen = weakref.ref(ranges), weakref.ref(ranges.ranges_i)
        del ranges
        assert [ref() is None for ref in seen] == [True, True]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the resident memory is read from /proc")
def test_many_calls_leave_the_resident_memory_flat():
    genred = Genred(GAUSS, ALIASES, axis=1)
    with without_collection():
        for k in range(100):
            genred(X, X, B, ranges=changing(k))
        start = resident()
        for k in range(100, 500):
            genred(X, X, B, ranges=changing(k))
        assert resident() - start < 400 * ORDER / 4, "an order, or sorted points, kept by one call in four"


def test_nothing_of_a_call_is_kept():
    few = np.arange(20.0)[:, None]
    genred = Genred("Square(x-y)", ["x = Vi(1)", "y = Vj(1)"], "ArgKMin", axis=1, opt_arg=2)

    def call(k):
        order = np.random.default_rng(k).permutation(20)
        genred(few, few, ranges=Ranges.band(20, 1 + k % 7).ordered(order, order))

    assert growth(call, 50, 150) < 70 * 150  # the order alone is 160 bytes


def test_solves_under_changing_orders():
    solver = KernelSolve(GAUSS, ALIASES, "b", axis=1)
    few, b = X[:60], B[:60]

    def call(k):
        order = np.random.default_rng(k).permutation(60)
        ranges = Ranges.from_mask([[0, 20], [20, 60]], [[0, 20], [20, 60]], np.eye(2, dtype=bool))
        solver(few + k, few + k, b, alpha=10.0, ranges=ranges.ordered(order, order), method="cg", precond="jacobi")

    assert growth(call, 40, 40) < 600 * 40  # an order and two arrays kept by each call would be 1900 bytes of it


def test_what_is_kept_on_ranges_is_made_once():
    genred = Genred(GAUSS, ALIASES, axis=1)
    ranges = changing(1)
    assert growth(lambda k: genred(X, X, B, ranges=ranges), 3, 60) < 60 * 100


@pytest.mark.parametrize("pattern", ["a radius", "both orders", "many blocks"])
def test_no_matrix_is_stored(pattern):
    n = 4000
    x, b = np.random.default_rng(2).random((n, 2)), np.ones((n, 1))
    ranges = PATTERNS[pattern](n, n)
    for call in (BoundReduction(parse(GAUSS, ALIASES).expr, "Sum", axis, [x, x, b], ranges=ranges) for axis in (0, 1)):
        # points, right-hand sides and sums, each as it came, in order, and packed; and 1 MB for the threads' scratch
        assert peak(call) < 3 * n * 8 * 6 + 1_000_000 < n * n * 8 / 10


def test_batches_that_are_one_memory_are_sorted_once():
    n, copies = 500, 300
    x = np.broadcast_to(np.random.default_rng(3).random((n, 4)), (copies, n, 4))
    g = np.random.default_rng(4).random((copies, 1))
    order = np.random.default_rng(5).permutation(n)
    formula = parse("Exp(-g*SqDist(x,y))", ["x = Vi(4)", "y = Vj(4)", "g = Pm(1)"])
    plain = Ranges.band(n, 3, 5)
    calls = [BoundReduction(formula.expr, "Sum", 1, [x, x, g], ranges=r) for r in (plain, plain.ordered(order, order))]
    one_more = copies * n * 8  # the sums come in the order of the ranges first
    assert peak(calls[1]) < peak(calls[0]) + one_more + 200_000 < peak(calls[0]) + x[0].nbytes * copies / 2
    arguments = ordered.permute_rows(calls[1].arguments, {0: order, 1: order})
    assert arguments.arrays[0] is arguments.arrays[1] and arguments.arrays[0].strides[0] == 0
    np.testing.assert_array_equal(arguments.arrays[0][7], x[0][order])


def test_the_table_of_tiles_takes_a_byte_each():
    count = 2000
    ranges = Ranges.band(_core.TILE * count, 3 * _core.TILE, _core.TILE)
    assert peak(lambda: ranges.tiles(_core.TILE * count, _core.TILE)) < 2.5 * count**2
