"""Reductions on a GPU: every operation, every reduction, whatever the arrays, beside NumPy and beside the CPU."""

import numpy as np
import pytest
import usual
from cases import CASES
from judges import assert_sum_close

from kernelops import Ranges
from kernelops.engines import gpu
from kernelops.numpy import Genred
from kernelops.reductions.kinds import REDUCTIONS

pytestmark = pytest.mark.usefixtures("gpu")
GAUSS = usual.SCALED_GAUSS, usual.aliases(3, 2, "g")


def points(M, N, dtype="float32", seed=0, lead=()):
    draw = np.random.default_rng(seed)
    arrays = draw.normal(size=(*lead, M, 3)), draw.normal(size=(*lead, N, 3)), draw.normal(size=(N, 2)), [0.7]
    return [np.asarray(a, dtype) for a in arrays]


def close(found, wanted, dtype, scale=1.0):
    """Equal but for the rounding of sums of some hundreds of terms in another order."""
    eps = 2e-5 if dtype != "float64" else 1e-13
    found, wanted = np.asarray(found, float), np.asarray(wanted, float)
    assert found.shape == wanted.shape
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(found[~finite], wanted[~finite])
    error, size = np.abs(found[finite] - wanted[finite]), np.abs(wanted[finite]).max(initial=0)
    assert error.max(initial=0) <= eps * max(scale, size)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_every_operation(number):
    case, axis, dtype = CASES[number], number % 2, ("float32", "float64")[number // 2 % 2]
    arrays = case.data(21, 300, dtype, seed=number)
    found = Genred(case.formula, case.aliases, "Sum", axis=axis)(*arrays, backend="GPU")
    terms = case.dense(arrays, np.longdouble if dtype == "float64" else np.float64)
    assert_sum_close(found, terms, axis, case.units)


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_reduction(op, axis, dtype):
    """With few rows and many, so that columns are shared among parts or not."""
    kind = REDUCTIONS[op]
    formula = ("-g*SqDist(x,y)", GAUSS[1]) if kind.accumulator == "exp" else GAUSS
    how = {"formula2": "b"} if kind.weighted else {}
    call = Genred(*formula, op, axis=axis, opt_arg=3 if kind.many else None, **how)
    for M, N in ((3, 5000), (400, 30), (1, 1)):
        arrays = points(M, N, dtype)
        if kind.accumulator == "exp" and not kind.weighted:
            call = Genred("-g*SqDist(x,y)+0*Elem(b,0)", GAUSS[1], op, axis=axis)
        found, wanted = call(*arrays, backend="GPU"), call(*arrays)
        for f, w in zip(*((r if isinstance(r, tuple) else (r,)) for r in (found, wanted)), strict=True):
            assert f.dtype == w.dtype
            if w.dtype == np.int64:
                assert f.shape == w.shape and (f == w).mean() > 0.99  # values that are equal but for rounding
            else:
                close(f, w, dtype)


@pytest.mark.parametrize("D", [9, 40])
@pytest.mark.parametrize("columns", [1, 40])
def test_long_vectors_and_long_results(D, columns):
    """Some threads have rectangles of pairs, and what is long is computed in passes."""
    draw = np.random.default_rng(D)
    x, y, b = (draw.normal(size=size).astype("float32") for size in ((150, D), (700, D), (700, columns)))
    aliases = [f"x = Vi({D})", f"y = Vj({D})", f"b = Vj({columns})", "g = Pm(1)"]
    call = Genred(usual.SCALED_GAUSS, aliases, axis=1)
    close(call(x, y, b, 1 / D, backend="GPU"), call(x, y, b, 1 / D), "float32")


def test_nothing_meets_anything():
    for M, N in ((0, 5), (5, 0), (0, 0)):
        for op in ("Sum", "LogSumExp", "Min_ArgMin"):
            for axis in (0, 1):
                call = Genred("-SqDist(x,y)", ["x = Vi(3)", "y = Vj(3)"], op, axis=axis)
                arrays = points(M, N)[:2]
                found, wanted = call(*arrays, backend="GPU"), call(*arrays)
                for f, w in zip(np.atleast_1d(found), np.atleast_1d(wanted), strict=True):
                    np.testing.assert_array_equal(f, w)


def test_batches_of_every_kind():
    call = Genred(*GAUSS, axis=1)
    x, y, b, g = points(50, 70, lead=(2, 1))
    y = np.concatenate([y, 2 * y, y + 1], axis=1)
    close(call(x, y, b, g, backend="GPU"), call(x, y, b, g), "float32")
    g = np.array([[0.5], [1.0], [2.0]], "float32")
    close(call(x, y, b, g, backend="GPU"), call(x, y, b, g), "float32")
    close(call(x[0, 0], y[0, 0], b, g, backend="GPU"), call(x[0, 0], y[0, 0], b, g), "float32")


def test_strides_of_every_kind():
    call = Genred(*GAUSS, axis=1)
    x, y, b, g = points(60, 80)
    for a in (x[::2], x[::-1], np.asfortranarray(x), np.broadcast_to(x[:1], x.shape)):
        close(call(a, y, b, g, backend="GPU"), call(np.ascontiguousarray(a), y, b, g), "float32")


@pytest.mark.parametrize("how", [{"dtype_acc": "float64"}, {"sum_scheme": "kahan_scheme"}, {"use_double_acc": True}])
def test_accumulators(how):
    call = Genred("b", ["x = Vi(1)", "b = Vj(1)"], axis=1, **how)
    b = np.random.default_rng(0).lognormal(sigma=3, size=(20000, 1)).astype("float32")
    found = call(np.zeros((2, 1), "float32"), b, backend="GPU")
    assert np.abs(found / b.astype(float).sum() - 1).max() < 1e-7


def test_float16():
    call = Genred(*GAUSS, axis=1)
    arrays = [a.astype("float16") for a in points(40, 300)]
    found = call(*arrays, backend="GPU")
    assert found.dtype == np.float16
    np.testing.assert_allclose(found.astype(float), call(*arrays).astype(float), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("op", ["Sum", "LogSumExp", "Min_ArgMin"])
def test_ranges(op):
    call = Genred("-g*SqDist(x,y)", ["x = Vi(3)", "y = Vj(3)", "g = Pm(1)"], op, axis=1)
    x, y, _, g = points(500, 700)
    draw = np.random.default_rng(1)
    patterns = [
        Ranges.from_mask(draw.integers(0, 7, 500), draw.integers(0, 9, 700), draw.random((7, 9)) < 0.4),  # orders too
        Ranges.from_mask(
            np.sort(draw.integers(0, 7, 500)), np.sort(draw.integers(0, 9, 700)), draw.random((7, 9)) < 0.2
        ),
        Ranges.dense(500, 700),
    ]
    for ranges in patterns:
        found, wanted = call(x, y, g, ranges=ranges, backend="GPU"), call(x, y, g, ranges=ranges)
        for f, w in zip(*((r if isinstance(r, tuple) else (r,)) for r in (found, wanted)), strict=True):
            close(f, w, "float32")


def test_one_block_equals_dense_to_the_bit():
    call, arrays = Genred(*GAUSS, axis=1), points(300, 4000)
    dense = call(*arrays, backend="GPU")
    np.testing.assert_array_equal(call(*arrays, backend="GPU", ranges=Ranges.dense(300, 4000)), dense)
    np.testing.assert_array_equal(call(*arrays, backend="GPU"), dense)


def test_truncated():
    draw = np.random.default_rng(2)
    x, b = draw.uniform(size=(3000, 2)).astype("float32"), draw.normal(size=(3000, 1)).astype("float32")
    call = Genred("Exp(-900*SqDist(x,y))*b", usual.aliases(2, 1), axis=1)
    close(call(x, x, b, truncate=1e-4, backend="GPU"), call(x, x, b, truncate=1e-4), "float32")


def test_a_second_call_makes_nothing_anew(monkeypatch):
    call, arrays = Genred(*GAUSS, axis=0), points(300, 200)
    call(*arrays, backend="GPU")
    monkeypatch.setattr(gpu, "cuda_source", None)
    monkeypatch.setattr(gpu, "cut_in_parts", None)
    call(*arrays, backend="GPU")


def test_names_of_backends():
    call, arrays = Genred(*GAUSS, axis=1), points(10, 20)
    wanted = call(*arrays, backend="GPU")
    for name in ("GPU_1D", "GPU_1D_device", "GPU_1D_host", "GPU_2D", "GPU_2D_device", "GPU_2D_host"):
        np.testing.assert_array_equal(call(*arrays, backend=name, device_id=0), wanted)


def test_ranges_are_used_again_with_other_sizes():
    """Rows behind the last block meet nothing, and their number is not that of the ranges."""
    call = Genred("SqDist(x,y)", ["x = Vi(3)", "y = Vj(3)"], axis=1)
    ranges = Ranges.from_mask(np.array([[0, 20], [20, 50]]), np.array([[0, 40]]), np.ones((2, 1), bool))
    for M in (60, 100, 2000, 55):
        x, y, *_ = points(M, 40)
        close(call(x, y, ranges=ranges, backend="GPU"), call(x, y, ranges=ranges), "float32")
