"""What must not matter: threads, edges of tiles, how arrays lie in memory, how a number is given, in which place."""

import dense
import numpy as np
import pytest
import usual
from bound_reduction import BoundReduction
from cases import CASES, KERNELS
from judges import assert_sum_close

from kernelops.engines import cpu
from kernelops.formula.parse import parse
from kernelops.ranges import Ranges
from kernelops.reductions.kinds import REDUCTIONS

GAUSSIAN = parse(usual.SCALED_GAUSS, usual.aliases(3, 2, "g"))
EDGES = (1, 63, 64, 65, 255, 256, 257)


def gaussian(data, axis=1, **options):
    return BoundReduction(GAUSSIAN.expr, "Sum", axis, data, **options)()


def points(M=70, N=600, dtype="float32", batch=()):
    rng = np.random.default_rng(0)
    data = [rng.standard_normal((*batch, n, d)).astype(dtype) for n, d in ((M, 3), (N, 3), (N, 2))]
    return [*data, np.full((*batch, 1), 0.7, dtype)]


def assert_bitwise(got, want):
    assert type(got) is type(want)
    for g, w in zip(*((a if isinstance(a, tuple) else (a,)) for a in (got, want)), strict=True):
        assert g.dtype == w.dtype and g.shape == w.shape and g.tobytes() == w.tobytes()


# ---- threads ------------------------------------------------------------------------------------------------------


def with_threads(monkeypatch, count):
    monkeypatch.setattr(cpu, "thread_count", lambda: count)
    monkeypatch.setattr(cpu, "SERIAL_BELOW", 0)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_number_of_threads(op, axis, monkeypatch):
    data = points(130, 700, batch=(2,))
    kind = REDUCTIONS[op]
    expr = GAUSSIAN.expr if kind.accumulator != "exp" else parse("SqDist(x,y)", ["x = Vi(3)", "y = Vj(3)"]).expr
    weight = GAUSSIAN.expr if kind.weighted else None
    ranges = Ranges.from_mask([[0, 9], [20, 130]], [[0, 300], [301, 700]], np.array([[True, True], [False, True]]))
    for some in (None, ranges):
        call = BoundReduction(expr, op, axis, data, weight=weight, opt_arg=3 if kind.many else None, ranges=some)
        found = []
        for count in (1, 2, 3, 7):
            with_threads(monkeypatch, count)
            found.append(call())
        for other in found[1:]:
            assert_bitwise(other, found[0])


def test_small_work_stays_on_one_thread(monkeypatch):
    data, seen = points(40, 50), []
    monkeypatch.setattr(cpu, "thread_count", lambda: seen.append(1) or 2)
    few = gaussian(data)
    assert not seen, "waking the threads costs more than this takes"
    monkeypatch.setattr(cpu, "SERIAL_BELOW", 0)
    assert_bitwise(gaussian(data), few)
    assert seen


# ---- sizes and ranges ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("M", EDGES)
@pytest.mark.parametrize("N", EDGES)
def test_edges_of_tiles(M, N):
    data = points(M, N, "float64")
    x, y, b, _ = data
    terms = np.exp(-0.7 * ((x[:, None] - y) ** 2).sum(-1, keepdims=True)) * b
    for axis in (0, 1):
        assert_sum_close(gaussian(data, axis), terms, axis, 32)
    found = BoundReduction(
        parse("SqDist(x,y)", ["x = Vi(3)", "y = Vj(3)"]).expr, "KMin_ArgKMin", 1, data[:2], opt_arg=3
    )()
    want = dense.reduce("KMin_ArgKMin", ((x[:, None] - y) ** 2).sum(-1, keepdims=True), 1, K=3)
    np.testing.assert_array_equal(found[1], want[1])


@pytest.mark.parametrize("shape", [(1, 1), (64, 256), (70, 600), (1100, 40)])
@pytest.mark.parametrize("op", ["Sum", "Min_ArgMin"])
def test_one_block_is_dense(shape, op):
    data = points(*shape)
    for axis in (0, 1):
        want = BoundReduction(GAUSSIAN.expr, op, axis, data)()
        whole = Ranges.from_tuple(([[0, shape[0]]], [1], [[0, shape[1]]], [[0, shape[1]]], [1], [[0, shape[0]]]))
        assert_bitwise(BoundReduction(GAUSSIAN.expr, op, axis, data, ranges=whole)(), want)


def test_order_of_blocks():
    data = points()
    blocks, keep = np.array([[0, 5], [5, 40], [40, 70]]), np.array([[1, 0], [1, 1], [0, 1]], bool)
    columns = np.array([[0, 257], [257, 600]])
    want = gaussian(data, ranges=Ranges.from_mask(blocks, columns, keep))
    for p, q in (([2, 0, 1], [0, 1]), ([1, 2, 0], [1, 0])):
        assert_bitwise(gaussian(data, ranges=Ranges.from_mask(blocks[p], columns[q], keep[p][:, q])), want)


@pytest.mark.parametrize("cut", [1, 63, 256, 300, 599])
def test_where_intervals_are_cut(cut):
    """Two intervals that touch give the sum of one, up to rounding; and best values to the bit."""
    data = points(dtype="float64")
    halves = Ranges.from_mask([[0, 70]], [[0, cut], [cut, 600]], np.ones((1, 2), bool))
    terms = np.exp(-0.7 * ((data[0][:, None] - data[1]) ** 2).sum(-1, keepdims=True)) * data[2]
    assert_sum_close(gaussian(data, ranges=halves), terms, 1, 32)
    best = [BoundReduction(GAUSSIAN.expr, "Max_ArgMax", 1, data, ranges=r)() for r in (None, halves)]
    assert_bitwise(*best)


# ---- arrays -------------------------------------------------------------------------------------------------------


def unaligned(a):
    memory = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    memory[...] = a
    return memory


LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "negative strides": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "every third of a wider one": lambda a: np.repeat(np.repeat(a, 3, 0), 2, 1)[::3, ::2],
    "a field of records": lambda a: np.array([(0, r) for r in a], [("i", "i8"), ("a", a.dtype, a.shape[1:])])["a"],
    "not aligned": unaligned,
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides(layout, dtype):
    data = points(dtype=dtype)
    moved = [*map(LAYOUTS[layout], data[:3]), data[3]]
    assert all(np.array_equal(a, b) for a, b in zip(data, moved, strict=True))
    for axis in (0, 1):
        assert_bitwise(gaussian(moved, axis), gaussian(data, axis))


@pytest.mark.parametrize("axis", [0, 1])
def test_broadcast_rows_and_components(axis):
    x, y, b, g = points()
    same = [np.broadcast_to(x[:1], x.shape), np.broadcast_to(y[:, :1], y.shape), np.broadcast_to(b[:1, :1], b.shape), g]
    assert_bitwise(gaussian(same, axis), gaussian([a.copy() for a in same], axis))


def test_read_only_and_memory_mapped(tmp_path):
    data = points()
    want = gaussian(data)
    copies = [a.copy() for a in data]
    for a in copies:
        a.setflags(write=False)
    assert_bitwise(gaussian(copies), want)
    mapped = []
    for k, a in enumerate(data):
        np.save(tmp_path / f"{k}.npy", a)
        mapped.append(np.load(tmp_path / f"{k}.npy", mmap_mode="r"))
    assert_bitwise(gaussian(mapped), want)
    for a, before in zip(data, copies, strict=True):
        np.testing.assert_array_equal(a, before)


@pytest.mark.parametrize("axis", [0, 1])
def test_x_is_y_or_a_copy(axis):
    x, _, _, g = points(300, 300)
    b = points(300, 300)[2]
    assert_bitwise(gaussian([x, x, b, g], axis), gaussian([x, x.copy(), b, g], axis))
    assert_bitwise(gaussian([x, x[::-1][::-1], b, g], axis), gaussian([x, x, b, g], axis))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_how_a_number_is_given(dtype):
    data, T = points(dtype=dtype)[:3], np.dtype(dtype).type
    for value in (2, 0.7):
        want = gaussian([*data, np.full(1, value, dtype)])
        given = [value, float(value), T(value), np.float64(value), np.array(value), np.array(value, dtype)]
        given += [np.broadcast_to(T(value), 1), np.array([value, value], dtype)[:1]]
        if isinstance(value, int):
            given += [np.int32(value), np.uint8(value), np.array(value), np.float16(value)]
        for number in given:
            assert_bitwise(gaussian([*data, number]), want)


def test_a_number_alone_is_float64():
    formula = parse("g*3", ["g = Pm(1)"])
    assert BoundReduction(formula.expr, "Sum", 1, [0.1])().dtype == np.float64


# ---- arguments ----------------------------------------------------------------------------------------------------


def test_explicit_positions():
    x, y, b, g = points()
    want = gaussian([x, y, b, g])
    formula = parse(usual.SCALED_GAUSS, ["y = Vj(3,3)", "g = Pm(0,1)", "x = Vi(2,3)", "b = Vj(1,2)"])
    assert_bitwise(BoundReduction(formula.expr, "Sum", 1, [g, b, x, y], variables=formula.variables)(), want)
    old = parse("Exp(-Var(5,1,2)*SqDist(Var(0,3,0),Var(2,3,1)))*Var(3,2,1)")
    assert_bitwise(BoundReduction(old.expr, "Sum", 1, [x, None, y, b, None, g])(), want)


@pytest.mark.parametrize("op", ["Sum", "Max_ArgMax"])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_batch_is_a_loop(op, axis):
    data = points(33, 290, batch=(2, 3))
    data[0], data[2], data[3] = data[0][:, :1], data[2][:1, :1], data[3][0]  # (2,1), (2,3), (1,1) and (3)
    got = BoundReduction(GAUSSIAN.expr, op, axis, data)()
    full = [np.broadcast_to(a, (2, 3, *a.shape[-k:])) for a, k in zip(data, (2, 2, 2, 1), strict=True)]
    for at in np.ndindex(2, 3):
        one = BoundReduction(GAUSSIAN.expr, op, axis, [a[at] for a in full])()
        picked = tuple(a[at].copy() for a in got) if isinstance(got, tuple) else got[at].copy()
        assert_bitwise(picked, one)


@pytest.mark.parametrize("case", CASES[::4] + KERNELS, ids=lambda c: c.name)
def test_the_other_axis_is_the_same_sum(case):
    """The total over i and j does not depend on which is summed first."""
    arrays, formula = case.data(12, 300, "float64"), parse(case.formula, case.aliases)
    totals = [BoundReduction(formula.expr, "Sum", a, arrays, variables=formula.variables)().sum(0) for a in (0, 1)]
    terms = case.dense(arrays)
    for t in totals:
        assert_sum_close(t, terms.reshape(-1, terms.shape[-1]), 0, 2 * case.units)


@pytest.mark.parametrize("text", [usual.GAUSS, "Norm2(x-y)*b", "(x-y|x-y)*b", "WeightedSqDist(2,x,y)*b"])
def test_translation_in_float32(text):
    """Distances come from differences: moving all points by a number that all of them can bear changes nothing."""
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-16, 16, (n, 3)).astype(np.float32) / 8 for n in (50, 300))
    b = rng.standard_normal((300, 1)).astype(np.float32)
    formula = parse(text, usual.aliases(3, 1))
    shift = np.float32(1e6)
    assert np.array_equal((x + shift) - shift, x)
    here, there = (BoundReduction(formula.expr, "Sum", 1, [x + s, y + s, b])() for s in (np.float32(0), shift))
    assert_bitwise(there, here)


def test_points_far_from_the_origin():
    formula = parse("SqDist(x,y)", ["x = Vi(1)", "y = Vj(1)"])
    data = [np.array([[1e4]], np.float32), np.array([[10001]], np.float32)]
    assert BoundReduction(formula.expr, "Sum", 1, data)() == 1
