"""What is kept between calls (methods, tasks, formulas of products) never shows: each call sees what it is given."""

import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import usual

from kernelops import KernelOperator, Ranges, _core
from kernelops.engines import cpu
from kernelops.errors import ArgumentError, DtypeError, RangesError, ShapeError
from kernelops.numpy import Genred

FORMULA, ALIASES = usual.SCALED_GAUSS, usual.aliases(3, 1, "g")
N = 40


def data(dtype="float32", seed=0, n=N):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, d)).astype(dtype) for d in (3, 3, 1)] + [np.full(1, 0.5, dtype)]


def operator(x, y, b, g, **keywords):
    return KernelOperator(FORMULA, ALIASES, "b", x, y, g, **keywords)


def halves(n=N, m=N):
    return Ranges.from_mask([[0, n // 2], [n // 2, n]], [[0, m // 2], [m // 2, m]], np.eye(2, dtype=bool))


def test_an_operator_sees_its_arrays_change_in_place():
    x, y, b, g = data()
    A = operator(x, y, b, g)
    before = A @ b
    for array, change in ((x, 0.25), (y, -0.5), (g, 1.0)):
        array += np.float32(change)
        now = A @ b
        assert not np.array_equal(now, before)
        np.testing.assert_array_equal(now, operator(x, y, b, g) @ b)
        before = now


def test_an_operator_sees_its_vector_and_alpha_change_in_place():
    x, y, b, g = data()
    A = operator(x, y, b, g, alpha=np.ones(N))
    plain = operator(x, y, b, g)
    np.testing.assert_array_equal(A @ b, plain @ b + b)
    b *= 2
    A.alpha[...] = 0
    np.testing.assert_array_equal(A @ b, plain @ b)


def test_an_array_that_lost_rows_behind_an_operators_back_is_refused():
    x, y, b, g = data()
    A = operator(x, y, b, g)
    assert (A @ b).shape == (N, 1)
    x.resize((N // 2, 3), refcheck=False)
    with pytest.raises(ValueError, match=f"argument 0: an array .{N // 2}, 3."):
        A @ b


def test_one_operator_and_vectors_of_every_kind():
    """Whatever came before, a product is what an operator gives that was just made; strides do not matter."""
    x, y, b, g = data()
    A = operator(x, y, b, g, alpha=0.1)
    block = np.random.default_rng(1).standard_normal((N, 70))
    vectors = [block[:, 0], block[:, :1], block, block[:, ::-2], np.asfortranarray(block), block[:, 3:4] + 1j]
    vectors += [v.astype(np.float32) for v in vectors[:5]] + [np.arange(N), np.ones((N, 2), np.float16), block[:, :0]]
    for _ in range(2):
        for v in vectors:
            for B, fresh in ((A, operator(x, y, b, g, alpha=0.1)), (A.T, operator(x, y, b, g, alpha=0.1).T)):
                got, want = B @ v, fresh @ v.copy(order="C")
                assert got.dtype == want.dtype
                np.testing.assert_array_equal(got, want)
        with pytest.raises(ShapeError):
            A @ np.ones(N + 1)
        with pytest.raises(DtypeError):
            A @ np.full(N, "a")


def test_one_genred_and_arrays_of_every_kind():
    genred = Genred(FORMULA, ALIASES, axis=1)
    for _ in range(2):
        for dtype in ("float32", "float64", "float16"):
            for n in (N, 7):
                x, y, b, g = data(dtype, n=n)
                want = Genred(FORMULA, ALIASES, axis=1)(x, y, b, g)
                assert want.dtype == dtype and want.shape == (n, 1)
                np.testing.assert_array_equal(genred(np.asfortranarray(x), y.repeat(2, 0)[::2], b, g), want)
                stacked = genred(np.stack([x, x[::-1]]), y, b, g)
                np.testing.assert_array_equal(stacked, [want, want[::-1]])
        x, y, b, g = data()
        with pytest.raises(ShapeError, match=f"x = Vi.3. has {N} rows|y = Vj.3. has|b = Vj.1. has {N - 1} rows"):
            genred(x, y, b[1:], g)
        with pytest.raises(DtypeError, match="one dtype"):
            genred(x, y, b.astype(np.float64), g)
        with pytest.raises(DtypeError, match="got int64"):
            genred(x.astype(np.int64), y, b, g)


def test_a_refused_accumulator_is_refused_again():
    genred = Genred(FORMULA, ALIASES, axis=1, dtype_acc="float32")
    for _ in range(2):
        assert genred(*data()).dtype == np.float32
        with pytest.raises(ArgumentError, match="dtype_acc: wanted one of auto, float64 for float64 data"):
            genred(*data("float64"))


@pytest.mark.parametrize("threads", [1, 2])
def test_four_python_threads_on_one_operator_and_one_genred(threads, monkeypatch):
    monkeypatch.setattr(cpu, "thread_count", lambda: threads)
    monkeypatch.setattr(cpu, "SERIAL_BELOW", 0)
    x, y, _, g = data()
    vectors = [data(seed=k)[2] for k in range(8)]
    A, genred, ranges = operator(x, y, None, g), Genred(FORMULA, ALIASES, axis=1), halves()
    fresh = [operator(x, y, None, g) @ b for b in vectors]
    sparse = [Genred(FORMULA, ALIASES, axis=1)(x, y, b, g, ranges=halves()) for b in vectors]

    def calls(k):
        b = vectors[k % 8]
        return k % 8, A @ b, genred(x, y, b, g), genred(x, y, b, g, ranges=ranges)

    with ThreadPoolExecutor(4) as pool:
        for k, product, dense, blocks in pool.map(calls, range(400)):
            assert product.tobytes() == dense.tobytes() == fresh[k].tobytes()
            assert blocks.tobytes() == sparse[k].tobytes()


def test_the_instruction_set_is_asked_for_at_every_call(monkeypatch):
    used, reduce = [], _core.reduce

    def spy(*args, isa, **keywords):
        used.append(isa)
        return reduce(*args, isa=isa, **keywords)

    monkeypatch.setattr(_core, "reduce", spy)
    x, y, b, g = data()
    A = operator(x, y, b, g)
    names = [*cpu.available_instruction_sets(), ""]
    for name in names:
        monkeypatch.setenv("KERNELOPS_ISA", name)
        A @ b
    monkeypatch.delenv("KERNELOPS_ISA")
    A @ b
    best = _core.INSTRUCTION_SETS[names[-2]]
    assert used == [*_core.INSTRUCTION_SETS.values(), best, best]
    monkeypatch.setenv("KERNELOPS_ISA", "sse9")
    with pytest.raises(ArgumentError, match="KERNELOPS_ISA = 'sse9'"):
        A @ b


# ---- tasks of ranges ------------------------------------------------------------------------------------------------


def test_ranges_are_cut_once(monkeypatch):
    cuts, cut = [], cpu._cut
    monkeypatch.setattr(cpu, "_cut", lambda *args: cuts.append(args) or cut(*args))
    x, y, b, g = data()
    ranges, other = halves(), halves()
    rows, columns = (Genred(FORMULA, ALIASES, axis=axis) for axis in (1, 0))
    for _ in range(3):
        found = rows(x, y, b, g, ranges=ranges), columns(x, y, b, g, ranges=ranges)
    assert [tuple(map(np.ndarray.tolist, half)) for half, _ in cuts] == [
        tuple(map(np.ndarray.tolist, ranges.joined(axis))) for axis in (1, 0)
    ]
    again = rows(x, y, b, g, ranges=other), columns(x, y, b, g, ranges=other)
    assert len(cuts) == 4, "equal ranges that are another object have tasks of their own"
    np.testing.assert_array_equal(found, again)


def test_kept_tasks_fit_every_count_of_rows():
    """Tasks are of 8 rows where there are few, of 64 where there are many, as in a batch: both stay right."""
    ranges, genred = halves(), Genred(FORMULA, ALIASES, axis=1)
    x, y, b, g = data()
    big = np.tile(x, (50, 1, 1))
    one, many = genred(x, y, b, g, ranges=ranges), genred(big, y, b, g, ranges=ranges)
    assert [key for key in ranges.cache if key[0] == "work"] == [("work", 1, 8), ("work", 1, 64)]
    np.testing.assert_array_equal(many, np.broadcast_to(one, many.shape))
    np.testing.assert_array_equal(genred(x, y, b, g, ranges=ranges), one)


def test_ranges_that_fitted_before_are_checked_again():
    ranges, genred = halves(), Genred(FORMULA, ALIASES, axis=1)
    x, y, b, g = data()
    want = genred(x, y, b, g, ranges=ranges)
    for _ in range(2):
        with pytest.raises(RangesError, match=f"ranges_i: .* there are M = {N - 1} rows of i"):
            genred(x[1:], y, b, g, ranges=ranges)
        with pytest.raises(RangesError, match=f"ranges_j: .* there are N = {N - 1} rows of j"):
            genred(x, y[1:], b[1:], g, ranges=ranges)
        np.testing.assert_array_equal(genred(x, y, b, g, ranges=ranges), want)
    more = genred(np.vstack([x, x[:2]]), y, b, g, ranges=ranges)
    np.testing.assert_array_equal(more, np.vstack([want, np.zeros((2, 1))]))


def test_kept_tasks_neither_travel_with_ranges_nor_outlive_them():
    ranges = halves()
    Genred(FORMULA, ALIASES, axis=1)(*data(), ranges=ranges)
    assert ranges.cache and not pickle.loads(pickle.dumps(ranges)).cache
    gone = weakref.ref(ranges)
    del ranges
    gc.collect()
    assert gone() is None
