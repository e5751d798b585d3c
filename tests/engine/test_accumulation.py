"""In which precision a reduction adds up, and what its options refuse."""

import re

import numpy as np
import pytest
import usual
from bound_reduction import BoundReduction
from judges import assert_sum_close

from kernelops.errors import ArgumentError, FormulaError, RangesError
from kernelops.formula.parse import parse
from kernelops.ranges import Ranges
from kernelops.reductions.kinds import REDUCTIONS, SUM_SCHEMES

B = parse("b+0*x", ["x = Vi(1)", "b = Vj(1)"])
TILE = 256  # columns that are added up in the data's own precision, unless asked otherwise

ALLOWED = {  # dtype_acc -> what the data may be
    "auto": ("float16", "float32", "float64"),
    "float16": ("float16",),
    "float32": ("float16", "float32"),
    "float64": ("float32", "float64"),
}


def total(values, dtype=None, **options):
    values = np.asarray(values)
    data = [np.zeros((1, 1), values.dtype), values.reshape(-1, 1)]
    return BoundReduction(B.expr, "Sum", 1, data, **options)(dtype)[0, 0]


@pytest.mark.parametrize("scheme", SUM_SCHEMES)
@pytest.mark.parametrize("data", ["float16", "float32", "float64"])
@pytest.mark.parametrize("acc", [*ALLOWED, "double", "", None])
def test_what_is_allowed(acc, data, scheme):
    values = np.linspace(-1, 3, 1000).astype(data)
    if data in ALLOWED.get(acc, ()):
        got = total(values, dtype_acc=acc, sum_scheme=scheme)
        assert got.dtype == data
        assert_sum_close(np.asarray(got), values.astype(np.float64), 0)
    else:
        allowed = ", ".join(name for name, some in ALLOWED.items() if data in some)
        message = f"dtype_acc: wanted one of {allowed} for {data} data, got {acc!r}"
        with pytest.raises(ArgumentError, match=re.escape(message)):
            total(values, dtype_acc=acc, sum_scheme=scheme)


def test_an_unknown_scheme_is_refused():
    with pytest.raises(
        ArgumentError, match="sum_scheme: wanted one of auto, block_sum, direct_sum, kahan_scheme, got 'x"
    ):
        total([1.0], sum_scheme="x")


@pytest.mark.parametrize("scheme", SUM_SCHEMES)
def test_long_sums_do_not_stick(scheme):
    """A float32 that counts by ones stays at 2**24."""
    count = 2**24 + 2**12
    ones = np.broadcast_to(np.float32(1), count)
    assert total(ones, sum_scheme=scheme) == count


def test_float64_inside_a_tile():
    values = np.array([2.0**25, *[1.0] * (TILE - 2), -(2.0**25)], np.float32)
    assert total(values, dtype_acc="float64") == TILE - 2
    assert_sum_close(np.asarray(total(values)), values.astype(float), 0)


def test_compensated_across_tiles():
    values = np.zeros((9, TILE))
    values[:, 7] = 3
    values[0, 7], values[-1, 7] = 1e17, -1e17
    assert total(values, sum_scheme="kahan_scheme") == 21
    values[0, 7] = np.inf
    assert total(values, sum_scheme="kahan_scheme") == np.inf
    values[1, 7] = -np.inf
    assert np.isnan(total(values, sum_scheme="kahan_scheme"))


@pytest.mark.parametrize("op", ["LogSumExpWeight", "SumSoftMaxWeight"])
@pytest.mark.parametrize("scheme", SUM_SCHEMES)
def test_schemes_where_sums_are_rescaled(op, scheme):
    """A running maximum that grows from tile to tile rescales what was summed, and what was lost of it."""
    rng = np.random.default_rng(0)
    values, weights = np.linspace(-40, 40, 2000), rng.uniform(0, 1, 2000)
    data = [np.zeros((1, 1)), values[:, None], weights[:, None]]
    f = parse("b+0*x", ["x = Vi(1)", "b = Vj(1)", "w = Vj(1)"])
    got = BoundReduction(f.expr, op, 1, data, weight=f.find("w"), sum_scheme=scheme)()[0, 0]
    share = np.exp(values - 40)
    want = (share * weights).sum()
    want = np.log(want) + 40 if op == "LogSumExpWeight" else want / share.sum()
    assert got == pytest.approx(want, rel=1e-14)


def test_float16_data_are_computed_in_float32():
    ones = np.ones(5000, np.float16)  # counting by ones a float16 stays at 2048
    assert total(ones) == 5000 and total(ones).dtype == np.float16
    assert total(np.full(3, 6e4, np.float16)) == np.inf
    assert total(np.array([6e4, 6e4, -6e4], np.float16)) == np.float16(6e4)
    x = np.array([[300.0], [1.0]], np.float16)
    formula = parse("Square(x)*y", ["x = Vi(1)", "y = Vj(1)"])
    y = np.array([[0.5], [0.001]], np.float16)
    want = (x.astype(np.float64) ** 2 * y.astype(np.float64).T).sum(1, keepdims=True)
    assert_sum_close(BoundReduction(formula.expr, "Sum", 1, [x, y])(), want[:, None], 1)
    largest = BoundReduction(formula.expr, "Max", 1, [x, y])()
    assert largest.dtype == np.float16 and largest[0, 0] == 45000
    assert BoundReduction(formula.expr, "Max", 1, [x, 2 * y])()[0, 0] == np.inf  # float16 ends at 65504


def test_another_precision_is_that_of_the_promoted_data():
    rng = np.random.default_rng(0)
    formula = parse(usual.GAUSS, usual.aliases(3, 1))
    data = [rng.standard_normal((n, d)).astype(np.float32) for n, d in ((30, 3), (400, 3), (400, 1))]
    wide = BoundReduction(formula.expr, "Sum", 1, data)(np.float64)
    np.testing.assert_array_equal(wide, BoundReduction(formula.expr, "Sum", 1, [a.astype(np.float64) for a in data])())
    assert wide.dtype == np.float64
    narrow = BoundReduction(formula.expr, "Sum", 1, [a.astype(np.float64) for a in data])(np.float32)
    np.testing.assert_array_equal(narrow, BoundReduction(formula.expr, "Sum", 1, data)())


def make(op="Sum", formula="x-y", weight=None, K=None, ranges=None):
    aliases = ["x = Vi(2)", "y = Vj(2)"]
    expr, w = parse(formula, aliases).expr, parse(weight, aliases).expr if weight else None
    return BoundReduction(expr, op, 1, [np.zeros((4, 2)), np.zeros((5, 2))], weight=w, opt_arg=K, ranges=ranges)


REFUSED = [
    ({"op": "Mean"}, ArgumentError, f"reduction_op: wanted one of {', '.join(REDUCTIONS)}, got 'Mean'"),
    ({"op": "LogSumExp"}, FormulaError, "LogSumExp needs a formula of length 1, got one of length 2"),
    ({"op": "SoftMax", "formula": "x|y"}, ArgumentError, "SoftMax needs formula2, the weight"),
    (
        {"op": "Sum", "weight": "y"},
        ArgumentError,
        "formula2 is a weight for LogSumExp and SumSoftMaxWeight; Sum takes none",
    ),
    ({"op": "KMin"}, ArgumentError, "KMin needs opt_arg = K, a whole number >= 1, got None"),
    ({"op": "KMin", "K": 0}, ArgumentError, "KMin needs opt_arg = K, a whole number >= 1, got 0"),
    ({"op": "KMin", "K": 2.0}, ArgumentError, "KMin needs opt_arg = K, a whole number >= 1, got 2.0"),
    ({"op": "KMin", "K": True}, ArgumentError, "KMin needs opt_arg = K, a whole number >= 1, got True"),
    ({"op": "Min", "K": 2}, ArgumentError, "opt_arg is the K of KMin, ArgKMin and KMin_ArgKMin; Min takes none, got 2"),
    ({"ranges": Ranges.dense(4, 6)}, RangesError, "ranges_j: [0, 6) is out of bounds, there are N = 5 rows of j"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make(**call)
