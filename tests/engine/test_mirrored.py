"""Symmetric sums evaluate each pair of points once, for the rows of both: nobody can tell."""

import multiprocessing
import os

import numpy as np
import pytest
from footprint import peak
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mirrored_sums import GAUSS, NAMES, declared, points, summed

from kernelops import _core
from kernelops.engines import cpu
from kernelops.formula.parse import parse

SIZES = (1024, 1025, 1279, 1281, 1536, 2600)  # odd and even numbers of blocks, of which the last may be one point


def squares(x, w=None):
    """Sums of w (x_i - x_j)^2, in float64."""
    w = np.ones(x.shape[1]) if w is None else w
    return sum(w[k] * np.subtract.outer(x[:, k], x[:, k]) ** 2 for k in range(x.shape[1]))


def assert_sums(got, K, b, units):
    """got is K b, up to units times eps times the sum of magnitudes."""
    b = b.astype(np.float64)
    size = np.abs(K) @ np.abs(b)
    worst = float((np.abs(got - K @ b) / (np.finfo(got.dtype).eps * size)).max())
    assert worst <= units, f"{worst:.1f} eps of the sum of magnitudes"


def other_index(names):
    """The declarations for axis 0: Vi and Vj exchanged."""
    return [a.translate(str.maketrans("ij", "ji")) for a in names]


# ---- the same sums ------------------------------------------------------------------------------------------------

FORMULAS = {  # of x, y and the parameters g and w -> the same in NumPy
    "Exp(-g*SqDist(x,y))": lambda x, g, w: np.exp(-g * squares(x)),
    "Exp(-Norm2(x-y))": lambda x, g, w: np.exp(-np.sqrt(squares(x))),
    "(1+g*Norm2(x-y))*Exp(-g*Norm2(x-y))": lambda x, g, w: (1 + g * squares(x) ** 0.5) * np.exp(-g * squares(x) ** 0.5),
    "Exp(-Sum(Abs(x-y)))": lambda x, g, w: np.exp(-sum(abs(np.subtract.outer(c, c)) for c in x.T)),
    "Exp(-WeightedSqDist(w,x,y))": lambda x, g, w: np.exp(-squares(x, w)),
    "Square(1+(x|y))": lambda x, g, w: (1 + x @ x.T) ** 2,
    "Rsqrt(1+SqDist(x,y))": lambda x, g, w: (1 + squares(x)) ** -0.5,
    "Cos(Sum(x-y))*Inv(g+SqDist(x,y))": lambda x, g, w: np.cos(np.subtract.outer(*[x.sum(1)] * 2)) / (g + squares(x)),
}


def assert_agrees(formula, n, d, v, dtype, axis, told):
    """With x in the place of y, and with a copy of x: both within 32 eps: half of it for adding, half for the terms."""
    names, x, b = declared(d, max(v, 1)), points(n, d, dtype), points(n, v, dtype, 1)
    g, w = np.array([0.7], dtype), np.random.default_rng(2).random(d).astype(dtype)
    K = FORMULAS[formula](x.astype(np.float64), np.float64(g[0]), w.astype(np.float64))
    names = names if axis == 1 else other_index(names)
    text = formula + ("*b" if v else "")
    found = [summed(text, names, [x, y, b, g, w], axis) for y in (x, x.copy())]
    assert told[-2:] == [n >= cpu.SYMMETRIC_FROM, False]
    for f in found:
        assert f.dtype == dtype
        assert_sums(f, K, b if v else np.ones((n, 1)), 32)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", (1023, *SIZES))
def test_numbers_of_points(n, dtype, isa, told):
    for axis in (0, 1):
        assert_agrees("Exp(-g*SqDist(x,y))", n, 3, 2, dtype, axis, told)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas(formula, dtype, isa, told):
    for d, v in ((3, 1), (1, 3), (20, 4)):
        assert_agrees(formula, 1100, d, v, dtype, 1, told)


@pytest.mark.parametrize("v", [0, 2, 3, 4, 5, 16, 33])  # 0: a plain sum of the kernel
def test_widths(v, isa, told, monkeypatch):
    monkeypatch.setattr(cpu, "SYMMETRIC_RESULTS", 1000)
    for dtype in ("float32", "float64"):
        assert_agrees("Exp(-g*SqDist(x,y))", 1281, 3, v, dtype, v % 2, told)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20_000), st.integers(1, 3), st.integers(0, 99))
@example(1, 1, 0)
@example(256, 1, 0)
@example(257, 2, 0)
@example(512, 1, 0)
@example(513, 3, 0)
def test_every_pair_counts_once(n, v, seed):
    """On whole numbers, of which nothing is rounded; sum over j of (x_i x_j + 1) b_j needs no matrix."""
    rng = np.random.default_rng(seed)
    x, b = rng.integers(1, 100, (n, 1)).astype(float), rng.integers(1, 100, (n, v)).astype(float)
    names = ["x = Vi(1)", "y = Vj(1)", f"b = Vj({v})"]
    program = cpu.prepare("sum", parse("Square(x*y+1)*b", names).expr, None, False, 1).encoded
    found = _core.reduce(program, (x, x, b), (), n, n, None, float64=True, mirrored=True)[0]
    np.testing.assert_array_equal(found, x**2 @ (x.T**2 @ b) + 2 * x @ (x.T @ b) + b.sum(0))


# ---- what must not matter -----------------------------------------------------------------------------------------


def test_batches(told):
    x, b = points(1030, batch=(2, 1)), points(1030, 2, seed=1, batch=(3,))
    found, want = (summed(GAUSS, NAMES, [x, y, b]) for y in (x, x.copy()))
    assert told == [True, False] and found.shape == (2, 3, 1030, 2)
    np.testing.assert_allclose(found, want, atol=1e-11)  # sums of 1030 terms below 4
    alone = summed(GAUSS, NAMES, [x[1, 0], x[1, 0], b])
    assert alone.tobytes() == found[1].tobytes()
    assert summed(GAUSS, NAMES, [x[:0], x[:0], b]).shape == (0, 3, 1030, 2)


def test_views_of_the_same_memory(told):
    wide = points(2400, 9, seed=3)
    views = [
        wide[::2, 2:5],
        wide[1::2, ::-3],
        wide[::-2, 6:],
        wide.T[3:6].T[100:1300],
        wide[50:1250, :3],
        wide[:1200, 4:7],
    ]
    for x in views:
        again = np.lib.stride_tricks.as_strided(x, x.shape, x.strides)
        found, want = (summed(GAUSS, NAMES, [a, a, wide[:1200, :2]]) for a in (x, x.copy()))
        assert summed(GAUSS, NAMES, [x, again, wide[:1200, :2]]).tobytes() == found.tobytes() == want.tobytes()
    assert all(told)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinity_and_nan(dtype, isa, told):
    """The same rows are infinite or nan, whichever of the points or right-hand sides is."""
    for formula in (GAUSS, "Square(1+(x|y))*b", "Norm2(x-y)*b", "Exp(-SqDist(x,y))"):
        for place, value in [(p, v) for p in "xb" for v in (np.inf, -np.inf, np.nan)]:
            data = {"x": points(1100, dtype=dtype), "b": points(1100, 2, dtype, 1)}
            for row in (3, 700, 1099):
                data[place][row, row % 2] = value
            with np.errstate(all="ignore"):
                found, want = (summed(formula, NAMES, [data["x"], y, data["b"]]) for y in (data["x"], data["x"].copy()))
            assert told[-2:] == [True, False]
            for test in (np.isnan, np.isposinf, np.isneginf):
                np.testing.assert_array_equal(test(found), test(want))


def with_threads(monkeypatch, count):
    monkeypatch.setattr(cpu, "thread_count", lambda: count)
    monkeypatch.setattr(cpu, "SERIAL_BELOW", 0)


def product(n=2600, dtype="float32"):
    x = points(n, dtype=dtype)
    return summed(GAUSS, NAMES, [x, x, points(n, 2, dtype, 1)]).tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1025, 2600, 5000])
def test_threads_and_repetition_change_no_bit(n, dtype, isa, told, monkeypatch):
    found = set()
    for count in (1, 2, 3, 7, 2, 1):
        with_threads(monkeypatch, count)
        found.add(product(n, dtype))
    assert len(found) == 1 and all(told)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_finds_the_same(monkeypatch):
    with_threads(monkeypatch, 2)
    here = product()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(product).get(60) == here


def test_memory_grows_with_the_points(told, monkeypatch):
    """Each of at most 64 strips keeps a sum for half of the points."""
    with_threads(monkeypatch, 2)
    n = 20_000
    x, b = points(n, dtype="float32"), points(n, 2, "float32", 1)
    strips, rest = 64 * (n / 2 + 4 * 256) * 2 * 8, 5 * 4 * n + 2 * n * (8 + 4) + 500_000
    assert peak(lambda: summed(GAUSS, NAMES, [x, x, b])) < strips + rest < n * n * 4 / 40
    assert told == [True, True]
