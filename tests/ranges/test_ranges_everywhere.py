"""Every reduction under ranges of every kind against dense masked computations; and what must not matter to it."""

import dense
import numpy as np
import pytest
from bound_reduction import BoundReduction
from judges import assert_sum_close
from range_patterns import ORDERED, PATTERNS, cuts, held

from kernelops import Ranges
from kernelops.engines import cpu
from kernelops.formula.parse import parse
from kernelops.reductions.kinds import REDUCTIONS
from kernelops.reductions.pairs import evaluate_all_pairs

M, N, K = 37, 290, 3
ALIASES = ["x = Vi(2)", "y = Vj(2)", "u = Vi(1)", "w = Vj(1)", "b = Vj(2)", "g = Pm(1)"]
SQUARES = "Square(x-y)"  # of numbers that make it exact in float32, and all different in a row and in a column
SUMMED = "Exp(-g*Square(u-w))*b"
EXPONENT, WEIGHT = "g*u*w", "b*Exp(u)"
EVERY_OP = pytest.mark.parametrize("op", REDUCTIONS)
AXES = pytest.mark.parametrize("axis", [0, 1])
EVERY_PATTERN = pytest.mark.parametrize("pattern", PATTERNS)
MIXED = pytest.mark.parametrize("pattern", ["many blocks", "empty rows", "both orders", "order of j"])


def data(dtype="float64", M=M, N=N, x_batch=(), b_batch=(), g_batch=()):
    """x whole numbers and a quarter up to 100, y other whole numbers up to 145; u, w within 1; b from 1/2 to 2."""
    draw = np.random.default_rng(0)
    rows, columns = np.arange(M) * (200 // M) - 100 + 0.25, np.arange(N) - 145.0
    x = np.stack([draw.permutation(rows) for _ in range(2 * int(np.prod(x_batch)))], -1)
    x = np.moveaxis(x.reshape(M, *x_batch, 2), 0, -2)
    y = np.stack([draw.permutation(columns) for _ in range(2)], -1)
    u, w = draw.uniform(-1, 1, (*x_batch, M, 1)), draw.uniform(-1, 1, (N, 1))
    b, g = draw.uniform(0.5, 2, (*b_batch, N, 2)), draw.uniform(0.5, 2, (*g_batch, 1))
    return [a.astype(dtype) for a in (x, y, u, w, b, g)]


def formula_of(op):
    return {"sum": SUMMED, "exp": EXPONENT, "best": SQUARES}[REDUCTIONS[op].accumulator]


def run(op, axis, arrays, ranges=None, **options):
    kind = REDUCTIONS[op]
    more = {"weight": parse(WEIGHT, ALIASES).expr if weighted(op) else None, "opt_arg": K if kind.many else None}
    found = parse(formula_of(op), ALIASES)
    return BoundReduction(found.expr, op, axis, arrays, variables=found.variables, ranges=ranges, **more, **options)()


def weighted(op):
    return bool(REDUCTIONS[op].weighted)


def values_of(op, arrays):
    """The formula at all pairs, in float64, and the weight."""
    x, y, u, w, b, g = (np.asarray(a, np.float64) for a in arrays)
    at_i, at_j, g = (lambda a: a[..., :, None, :]), (lambda a: a[..., None, :, :]), g[..., None, None, :]
    values = {
        SQUARES: lambda: (at_i(x) - at_j(y)) ** 2,
        SUMMED: lambda: np.exp(-g * (at_i(u) - at_j(w)) ** 2) * at_j(b),
        EXPONENT: lambda: g * at_i(u) * at_j(w),
    }[formula_of(op)]()
    batch = np.broadcast_shapes(*(a.shape[:-2] for a in (x, u, b)), g.shape[:-3])
    return tuple(np.broadcast_to(a, (*batch, *a.shape[-3:])) for a in (values, at_j(b) * np.exp(at_i(u))))


def assert_right(op, axis, got, arrays, mask):
    """Values of squares and their indices to the bit; sums within 16 eps of the sum of magnitudes.

    Exponents are within 2, so a term of a sum of exponentials is wrong by 8 eps at most, a weight by as much, and so
    are the logarithm of the sum and, twice over, a mean of positive weights: 64 leave room for adding. Float16 is
    rounded once, at the end.
    """
    dtype = arrays[0].dtype
    values, weights = values_of(op, arrays)
    if op == "Sum":
        assert got.dtype == dtype
        assert_sum_close(got, np.where(mask[..., None], values, 0), values.ndim - 3 + axis)
        return
    want = dense.reduce(op, values, axis, mask, weights if weighted(op) else None, K)
    for g, w in zip(*((a if isinstance(a, tuple) else (a,)) for a in (got, want)), strict=True):
        if REDUCTIONS[op].accumulator == "best":
            assert g.dtype == (np.int64 if w.dtype.kind == "i" else dtype)
            np.testing.assert_array_equal(g, w.astype(g.dtype))
        else:
            assert g.dtype == dtype and g.shape == w.shape
            units = (1 if dtype == np.float16 else 64) * float(np.finfo(dtype).eps)
            np.testing.assert_allclose(g, w.astype(np.float64), rtol=units, atol=units)


def assert_bitwise(got, want):
    for g, w in zip(*((a if isinstance(a, tuple) else (a,)) for a in (got, want)), strict=True):
        assert g.dtype == w.dtype and g.shape == w.shape and g.tobytes() == w.tobytes()


# ---- the same as dense --------------------------------------------------------------------------------------------


@EVERY_PATTERN
@AXES
@EVERY_OP
def test_against_a_mask(op, axis, pattern):
    ranges = PATTERNS[pattern](M, N)
    mask = held(ranges, M, N)
    for dtype in ("float16", "float32", "float64"):
        arrays = data(dtype)
        assert_right(op, axis, run(op, axis, arrays, ranges), arrays, mask)


def test_the_judge_can_convict():
    ranges, arrays = PATTERNS["both orders"](M, N), data()
    mask = held(ranges, M, N)
    other = mask.copy()
    other[5, 17] ^= True
    for op in ("Sum", "LogSumExp", "SumSoftMaxWeight"):
        for axis in (0, 1):
            with pytest.raises(AssertionError):
                assert_right(op, axis, run(op, axis, arrays, ranges), arrays, other)
    winner = int(run("ArgMin", 1, arrays, ranges)[5, 0])
    other = mask.copy()
    other[5, winner] = False
    for op in ("Min", "ArgMin", "KMin", "ArgKMin"):
        with pytest.raises(AssertionError):
            assert_right(op, 1, run(op, 1, arrays, ranges), arrays, other)


@AXES
@MIXED
def test_logsumexp_without_a_weight(pattern, axis):
    """LogSumExp takes a weight or none."""
    ranges, arrays = PATTERNS[pattern](M, N), data()
    values, weights = values_of("LogSumExp", arrays)
    weighted = BoundReduction(
        parse(EXPONENT, ALIASES).expr, "LogSumExp", axis, arrays, weight=parse(WEIGHT, ALIASES).expr, ranges=ranges
    )()
    for got, w in ((run("LogSumExp", axis, arrays, ranges), None), (weighted, weights)):
        want = dense.reduce("LogSumExp", values, axis, held(ranges, M, N), w)
        np.testing.assert_allclose(got, want.astype(np.float64), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("pattern", PATTERNS)
@AXES
def test_sums_of_rows_alone_and_of_columns_alone(axis, pattern):
    """Formulas of one index, of whole numbers: nothing is rounded."""
    ranges, arrays = PATTERNS[pattern](M, N), data()
    mask = held(ranges, M, N).astype(float)
    for text, at, numbers in (("4*x", 0, 4 * arrays[0]), ("y", 1, arrays[1])):
        found = parse(text, ALIASES)
        got = BoundReduction(found.expr, "Sum", axis, arrays[: at + 1], ranges=ranges, sizes=(M, N))()
        spread = mask[..., None] * (numbers[:, None] if at == 0 else numbers[None])
        np.testing.assert_array_equal(got, spread.sum(1 if axis == 1 else 0))


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (0, 0), (1, 1), (1, 290), (200, 1)])
@EVERY_OP
def test_few_rows_or_none(op, sizes):
    rows, columns = sizes
    every = Ranges.dense(rows, columns)
    orders = [np.random.default_rng(k).permutation(n) for k, n in enumerate(sizes)]
    for ranges in (every, every.ordered(*orders), every.ordered(order_j=orders[1])):
        for axis in (0, 1):
            arrays = [a[:rows] if k in (0, 2) else a[:columns] for k, a in enumerate(data(M=200, N=290)[:5])]
            arrays.append(np.ones(1))
            assert_right(op, axis, run(op, axis, arrays, ranges), arrays, np.ones(sizes, bool))


# ---- batches, strides, orders -------------------------------------------------------------------------------------


@MIXED
@AXES
@EVERY_OP
def test_batches(op, axis, pattern):
    """Of x, of b and of g: (2, 1), (3,) and (2, 1, 1) make (2, 2, 3)."""
    ranges = PATTERNS[pattern](M, N)
    mask, arrays = held(ranges, M, N), data(x_batch=(2, 1), b_batch=(3,), g_batch=(2, 1, 1))
    assert_right(op, axis, run(op, axis, arrays, ranges), arrays, mask)


@MIXED
@AXES
@EVERY_OP
def test_strides(op, axis, pattern):
    ranges, arrays = PATTERNS[pattern](M, N), data("float32")
    want = run(op, axis, arrays, ranges)
    two = [np.repeat(a, 2, 0)[::2] if a.ndim > 1 else a for a in arrays]
    back = [a[::-1].copy()[::-1] for a in arrays]
    column = [np.asfortranarray(a) for a in arrays]
    inside = [np.pad(a, [(3, 2)] * a.ndim)[tuple(slice(3, -2) for _ in a.shape)] for a in arrays]
    for laid_out in (two, back, column, inside):
        assert_bitwise(run(op, axis, laid_out, ranges), want)
    copies = [np.broadcast_to(a, (4, *a.shape)) for a in arrays[:-1]]
    many = run(op, axis, [*copies, arrays[-1]], ranges)
    assert_bitwise(tuple(a[2].copy() for a in many) if isinstance(many, tuple) else many[2].copy(), want)


@pytest.mark.parametrize("pattern", ORDERED)
@AXES
@EVERY_OP
def test_an_order_is_sorting_beforehand(op, axis, pattern):
    """To the bit: the arrays put in order by hand under the plain ranges, and rows and indices put back."""
    ranges, arrays = PATTERNS[pattern](M, N), data("float32")
    i, j = (np.arange(n) if o is None else o for o, n in ((ranges.order_i, M), (ranges.order_j, N)))
    by_hand = [a[i] if k in (0, 2) else a[j] if k in (1, 3, 4) else a for k, a in enumerate(arrays)]
    rows, columns = (i, j) if axis == 1 else (j, i)
    got, want = run(op, axis, arrays, ranges), run(op, axis, by_hand, Ranges.from_tuple(ranges.as_tuple()))
    for g, w in zip(*((a if isinstance(a, tuple) else (a,)) for a in (got, want)), strict=True):
        w = np.where(w < 0, -1, columns[w]) if w.dtype.kind == "i" else w
        np.testing.assert_array_equal(g[rows], w)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_entries_and_single_pairs(pattern):
    ranges, arrays = PATTERNS[pattern](M, N), data()
    found = parse(SUMMED, ALIASES)
    arguments = BoundReduction(found.expr, "Sum", 1, arrays, variables=found.variables).arguments
    want = np.where(held(ranges, M, N)[..., None], values_of("Sum", arrays)[0], 0)
    got = evaluate_all_pairs(found.expr, arguments, ranges, np.dtype(np.float64))
    np.testing.assert_allclose(got, want, rtol=1e-14, atol=0)
    I, J = np.random.default_rng(1).integers(0, [[M], [N]], (2, 500))
    call = BoundReduction(found.expr, "Sum", 1, arrays, ranges=ranges, variables=found.variables)
    np.testing.assert_allclose(call.evaluate(I, J), want[I, J], rtol=1e-14, atol=0)


# ---- one block, and covers of everything --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@AXES
@EVERY_OP
def test_everything_is_dense_to_the_bit(op, axis, dtype):
    """One block, or many that leave nothing out: neighbours that meet the same are one block again."""
    arrays = data(dtype)
    want = run(op, axis, arrays)
    cover = Ranges.from_mask(cuts(M, 9, 1), cuts(N, 12, 2), np.ones((9, 12), bool))
    for ranges in (Ranges.dense(M, N), cover, cover.as_tuple()):
        assert_bitwise(run(op, axis, arrays, Ranges.of(ranges)), want)


@pytest.mark.parametrize("pattern", ["in order", "shuffled"])
@AXES
@EVERY_OP
def test_everything_in_another_order(op, axis, pattern):
    """Sums are added up in another order: within the tolerance of sums; the rest to the bit."""
    order = [np.arange(n) if pattern == "in order" else np.random.default_rng(n).permutation(n) for n in (M, N)]
    ranges, arrays = Ranges.dense(M, N).ordered(*order), data()
    got = run(op, axis, arrays, ranges)
    assert_right(op, axis, got, arrays, np.ones((M, N), bool))
    if pattern == "in order":
        assert_bitwise(got, run(op, axis, arrays))


@pytest.mark.parametrize("options", [{}, {"sum_scheme": "kahan_scheme"}, {"dtype_acc": "float64"}], ids=str)
@pytest.mark.parametrize("pattern", ["many blocks", "both orders"])
def test_ways_of_adding(pattern, options):
    ranges, arrays = PATTERNS[pattern](M, N), data("float32")
    for axis in (0, 1):
        assert_right("Sum", axis, run("Sum", axis, arrays, ranges, **options), arrays, held(ranges, M, N))
        assert_bitwise(run("Sum", axis, arrays, Ranges.dense(M, N), **options), run("Sum", axis, arrays, **options))


@pytest.mark.parametrize("pattern", ["many blocks", "single rows", "both orders"])
@AXES
@EVERY_OP
def test_threads_change_no_bit(op, axis, pattern, monkeypatch):
    ranges, arrays, found = PATTERNS[pattern](M, N), data("float32"), []
    monkeypatch.setattr(cpu, "SERIAL_BELOW", 0)
    for count in (1, 2, 5):
        monkeypatch.setattr(cpu, "thread_count", lambda count=count: count)
        found.append(run(op, axis, arrays, ranges))
    for other in found[1:]:
        assert_bitwise(other, found[0])
