"""Generated CUDA kernels, run on the CPU by the emulator: every reduction, as the engine's own tests have it."""

from functools import partial

import dense
import numpy as np
import pytest
import test_accumulation as accumulation
import test_reductions as reductions
from cuda_emulator.emulator import missing
from emulated import compiled

from kernelops.engines import cpu
from kernelops.reductions.kinds import REDUCTIONS

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

CALLS = []  # all calls of this file that need kernels


def called(calls):
    CALLS.extend(calls)
    return calls


@pytest.fixture(scope="module")
def kernels():
    return compiled(CALLS)


@pytest.fixture
def emulated(kernels, monkeypatch):
    """Reductions run on the emulator during the test."""
    monkeypatch.setattr(cpu, "run", kernels.run)


# ---- every reduction ----------------------------------------------------------------------------------------------


def reduced(op, axis, formula, dtype="float64", ranged=False, batch=False):
    x, y, b = reductions.points(37, 290, dtype)
    if batch:
        x, y, b = (*reductions.points(9, 20, dtype, (2, 1))[:1], *reductions.points(9, 20, dtype, (3,), 5)[1:])
    ranges = reductions.some_ranges(x.shape[-2], y.shape[-2]) if ranged else None
    return reductions.run(op, axis, [x, y, b], formula, 3, ranges=ranges), [x, y, b], ranges


ALL = [(op, axis, f) for op in REDUCTIONS for axis in (0, 1) for f in reductions.formulas_of(op)]
called([partial(reduced, *row) for row in ALL])
called([partial(reduced, op, 1, reductions.SCALAR, "float32") for op in REDUCTIONS])


@pytest.mark.parametrize(("op", "axis", "formula"), ALL)
@pytest.mark.parametrize("how", ["dense", "ranges", "batches", "both"])
def test_reductions(how, op, axis, formula, emulated):
    ranged, batch = how in ("ranges", "both"), how in ("batches", "both")
    got, data, ranges = reduced(op, axis, formula, ranged=ranged, batch=batch)
    mask = ranges.mask(data[0].shape[-2], data[1].shape[-2]) if ranged else None
    full = [np.broadcast_to(a, (2, 3, *a.shape[-2:])) for a in data] if batch else data
    reductions.assert_equal(got, reductions.expected(op, axis, full, formula, 3, mask))


@pytest.mark.parametrize("op", REDUCTIONS)
def test_reductions_in_float32(op, emulated):
    got, data, _ = reduced(op, 1, reductions.SCALAR, "float32")
    reductions.assert_equal(got, reductions.expected(op, 1, data, reductions.SCALAR, 3), "float32")


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (1, 1), (1, 300), (300, 1)])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_few_rows_or_none(op, sizes, emulated):
    for axis in (0, 1):
        got = reductions.run(op, axis, reductions.points(*sizes), K=3)
        reductions.assert_equal(got, reductions.expected(op, axis, reductions.points(*sizes), K=3))


def test_no_batch_element(emulated):
    assert reductions.run("Sum", 1, reductions.points(4, 5, batch=(0,))).shape == (0, 4, 1)


ONE_ROW = [  # of given numbers; the longest shelf does not fit into registers
    ("ArgMin", np.resize([3.0, 1.0, 2.0, 1.0, 3.0], 600), None),
    ("ArgMax", np.resize([3.0, 1.0, 2.0, 1.0, 3.0], 600), None),
    ("KMin_ArgKMin", np.resize([3.0, 1.0, 2.0, 1.0, 3.0], 600), 300),
    ("KMin_ArgKMin", np.random.default_rng(0).permutation(257).astype(float), 300),
    ("KMin_ArgKMin", np.array([np.inf, np.nan, 1, -np.inf, np.nan]), 7),
    ("ArgMin", np.array([np.inf, np.inf]), None),
    ("ArgMax", np.array([0.0, -0.0, -np.inf]), None),
    ("Min_ArgMin", np.array([2, np.nan, -1, np.nan]), None),
    ("Max_ArgMax", np.array([2, np.nan, np.inf, np.nan]), None),
]
called([partial(reductions.of_values, op, values, K) for op, values, K in ONE_ROW])


@pytest.mark.parametrize(("op", "values", "K"), ONE_ROW)
def test_ties_nan_and_infinities(op, values, K, emulated):
    got = reductions.of_values(op, values, K)
    want = dense.reduce(op, values[None, :, None], 1, K=K or 1)
    np.testing.assert_equal(got, tuple(w[0] for w in want) if isinstance(want, tuple) else want[0])


called([partial(reductions.of_values, "LogSumExp", [0.0], dtype=dtype) for dtype in ("float32", "float64")])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("values", "want"), reductions.LOGSUMEXP)
def test_logsumexp_of_large_and_infinite_values(values, want, dtype, emulated):
    reductions.test_logsumexp_of_large_and_infinite_values(values, want, dtype, None)


# ---- precision ----------------------------------------------------------------------------------------------------

SCHEMES = ("auto", "kahan_scheme")
called(
    [
        partial(accumulation.total, np.ones(2, np.float32), dtype_acc="float64"),
        partial(accumulation.total, np.ones(2), sum_scheme="kahan_scheme"),
        partial(accumulation.total, np.ones(2, np.float32), sum_scheme="kahan_scheme"),
        partial(accumulation.total, np.ones(2, np.float16)),
        *(partial(accumulation.test_schemes_where_sums_are_rescaled, "SumSoftMaxWeight", s) for s in SCHEMES),
    ]
)


def test_sums_in_float64_and_compensated_sums(emulated):
    accumulation.test_float64_inside_a_tile()
    accumulation.test_compensated_across_tiles()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_schemes_where_sums_are_rescaled(scheme, emulated):
    accumulation.test_schemes_where_sums_are_rescaled("SumSoftMaxWeight", scheme)


def test_float16_data_come_converted(emulated):
    accumulation.test_float16_data_are_computed_in_float32()


# ---- order --------------------------------------------------------------------------------------------------------

MIXED = [
    partial(reduced, "Sum", 1, reductions.VECTOR, ranged=True),
    partial(reduced, "LogSumExpWeight", 0, reductions.SCALAR, ranged=True),
    partial(reduced, "KMin_ArgKMin", 1, reductions.VECTOR, ranged=True),
]


@pytest.mark.parametrize("call", MIXED, ids=["sum", "exp", "best"])
def test_the_order_of_threads_changes_no_bit(call, kernels, monkeypatch):
    found = []
    for order in ("forward", "reverse", "random"):
        monkeypatch.setattr(cpu, "run", partial(kernels.run, order=order))
        found.append(call()[0])
    np.testing.assert_equal(found[1:], found[:1] * 2)
