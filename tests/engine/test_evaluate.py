"""A formula at given pairs."""

import re

import numpy as np
import pytest
from bound_reduction import BoundReduction
from cases import CASES
from judges import assert_sum_close

from kernelops.errors import ArgumentError, ShapeError
from kernelops.formula.parse import parse
from kernelops.ranges import Ranges

M, N = 23, 270
RANGES = Ranges.from_mask([[2, 5], [7, 20]], [[1, 4], [4, 90], [200, 260]], np.array([[1, 1, 0], [0, 1, 1]], bool))


def bound(case, dtype="float64", op="Sum", **options):
    arrays, formula = case.data(M, N, dtype), parse(case.formula, case.aliases)
    return BoundReduction(formula.expr, op, 1, arrays, variables=formula.variables, **options), case.dense(arrays)


def some_pairs(sizes, count=40):
    rng = np.random.default_rng(0)
    return [rng.integers(0, n, count) for n in sizes]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_at_some_pairs(case, dtype):
    reduction, want = bound(case, dtype)
    I, J = some_pairs(want.shape[:2])
    got = reduction.evaluate(I, J)
    assert got.dtype == dtype
    # one pair may cancel where a sum of many does not: the size of the formula is that of its largest value
    assert_sum_close(got, want[I, J][None], 0, case.units, slack=case.units * np.finfo(dtype).eps * abs(want).max())


def gaussian(**options):
    return bound(next(c for c in CASES if c.name == "Gaussian"), **options)


@pytest.mark.parametrize("op", ["Sum", "Min", "ArgKMin"])
@pytest.mark.parametrize("axis", [0, 1])
def test_nothing_depends_on_the_reduction(op, axis):
    x, y = np.random.default_rng(0).standard_normal((2, 9, 2))
    formula = parse("SqDist(x,y)", ["x = Vi(2)", "y = Vj(2)"])
    reduction = BoundReduction(formula.expr, op, axis, [x, y], opt_arg=2 if op == "ArgKMin" else None)
    I, J = some_pairs((9, 9))
    np.testing.assert_allclose(reduction.evaluate(I, J)[:, 0], ((x[I] - y[J]) ** 2).sum(1), rtol=1e-14)


def test_zero_outside_the_ranges():
    reduction, want = gaussian(ranges=RANGES)
    I, J = (a.ravel() for a in np.indices((M, N)))
    want = np.where(RANGES.mask(M, N)[..., None], want, 0)
    got = reduction.evaluate(I, J).reshape(want.shape)
    np.testing.assert_allclose(got, want, rtol=1e-13)
    np.testing.assert_allclose(got.sum(1), reduction(), rtol=1e-12, atol=1e-14)


def test_zero_outside_the_ranges_even_where_the_formula_is_not_finite():
    formula = parse("Inv(x-y)", ["x = Vi(1)", "y = Vj(1)"])
    ranges = Ranges.from_mask([[0, 1]], [[1, 2]], np.ones((1, 1), bool))
    reduction = BoundReduction(formula.expr, "Sum", 1, [np.zeros((2, 1)), np.array([[0.0], [2.0]])], ranges=ranges)
    np.testing.assert_array_equal(reduction.evaluate([0, 0, 1], [0, 1, 0]), [[0], [-0.5], [0]])


def test_batches():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 1, 6, 3)), rng.standard_normal((4, 8, 3))
    formula = parse("(x-y)*Exp(-g*SqDist(x,y))", ["x = Vi(3)", "y = Vj(3)", "g = Pm(1)"])
    reduction = BoundReduction(formula.expr, "Sum", 1, [x, y, 0.5])
    I, J = some_pairs((6, 8), 11)
    d = x[..., I, :] - y[..., J, :]
    got = reduction.evaluate(I, J)
    assert got.shape == (2, 4, 11, 3)
    np.testing.assert_allclose(got, d * np.exp(-0.5 * (d**2).sum(-1, keepdims=True)), rtol=1e-13, atol=1e-16)


def test_another_precision():
    reduction, want = gaussian(dtype="float32")
    I, J = some_pairs((M, N))
    wide = reduction.evaluate(I, J, np.float64)
    assert wide.dtype == np.float64
    np.testing.assert_allclose(wide, want[I, J], rtol=1e-13)


def test_indices_of_every_kind():
    reduction, want = gaussian()
    for I, J in (([1], [2]), (range(3), (0, 1, 2)), (np.arange(5, dtype=np.uint8), np.arange(5, dtype=np.int16)[::-1])):
        np.testing.assert_allclose(reduction.evaluate(I, J), want[np.asarray(I), np.asarray(J)], rtol=1e-13)
    for none in ([], np.zeros(0), np.zeros(0, np.int32)):
        assert reduction.evaluate(none, none).shape == (0, 2)


@pytest.mark.parametrize(
    ("I", "J", "error", "message"),
    [
        ([0, 23], [0, 0], ArgumentError, "i: wanted indices from 0 to 22, got 0 to 23"),
        ([0, 1], [-1, 0], ArgumentError, "j: wanted indices from 0 to 269, got -1 to 0"),
        ([0, 1], [0], ShapeError, "wanted as many i as j, got 2 and 1"),
        ([0.0], [0], ArgumentError, "i: wanted a list of whole numbers, got float64 of shape (1,)"),
        ([True], [0], ArgumentError, "i: wanted a list of whole numbers, got bool of shape (1,)"),
        ([[0]], [0], ArgumentError, "i: wanted a list of whole numbers, got int64 of shape (1, 1)"),
        (0, 0, ArgumentError, "i: wanted a list of whole numbers, got int64 of shape ()"),
    ],
)
def test_bad_indices(I, J, error, message):
    with pytest.raises(error, match=re.escape(message)):
        gaussian()[0].evaluate(I, J)
