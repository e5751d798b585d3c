"""Generated CUDA kernels, run on the CPU by the emulator: against NumPy, and against the engine.

What a test computes it computes by a call that knows nothing of kernels. Every call runs once while kernels are only
noted, so that many are compiled together, and later in its test.
"""

from functools import partial

import dense
import numpy as np
import pytest
import test_accumulation as accumulation
import test_operations as operations
import test_reductions as reductions
from cases import CASES
from cuda_emulator.emulator import missing
from emulated import Kernels
from judges import assert_sum_close

from kernelops.arrays import bind
from kernelops.formula.expr import apply, variable
from kernelops.formula.parse import parse
from kernelops.machines import cpu
from kernelops.program.cuda import layout
from kernelops.reduction import REDUCTIONS, Reduction, pairwise

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

ENGINE = cpu.run
CALLS = []  # all calls of this file, for the first run


def called(calls):
    CALLS.extend(calls)
    return calls


@pytest.fixture(scope="module")
def kernels():
    found = Kernels()
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(cpu, "run", found.note)
        for call in CALLS:
            call()
    found.build()
    return found


@pytest.fixture
def emulated(kernels, monkeypatch):
    """Reductions run on the emulator during the test."""
    monkeypatch.setattr(cpu, "run", kernels.run)
    return kernels


def on_the_engine(call):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "run", ENGINE)
        return call()


# ---- every operation at every place -------------------------------------------------------------------------------


class CaseCall:
    """A row of the table of cases, reduced: a sum, the smallest values, or the values of all pairs."""

    def __init__(self, number, kind, dtype, axis):
        self.case, self.kind, self.dtype, self.axis = CASES[number], kind, dtype, axis
        self.arrays = self.case.data(21, 300, dtype, seed=number)

    def __repr__(self):
        return f"{self.case.name}-{self.kind}-{self.dtype}-{self.axis}"

    def __call__(self):
        formula = parse(self.case.formula, self.case.aliases)
        if self.kind == "entries":
            bound = bind(formula.variables, self.arrays)
            return pairwise(formula.expr, bound, None, np.dtype(self.dtype))
        op = {"sum": "Sum", "best": "Min_ArgMin"}[self.kind]
        return Reduction(formula.expr, op, self.axis, self.arrays, variables=formula.variables)()

    @property
    def terms(self):
        return self.case.dense(self.arrays, np.longdouble if self.dtype == "float64" else np.float64)


SUMS = called(
    [
        CaseCall(number, "sum", dtype, axis ^ number % 2)
        for number in range(len(CASES))
        for dtype, axis in (("float32", 0), ("float64", 1))
    ]
)
VALUES = called(
    [
        CaseCall(number, ("entries", "best")[number % 2], ("float32", "float64")[number // 2 % 2], 1)
        for number in range(len(CASES))
    ]
)


@pytest.mark.parametrize("call", SUMS, ids=repr)
def test_sums_of_every_case(call, emulated):
    got, terms = call(), call.terms
    assert got.dtype == call.dtype
    assert_sum_close(got, terms, call.axis, call.case.units)
    # each of both may be so far from the truth
    size = abs(terms).sum(call.axis) * np.finfo(call.dtype).eps * call.case.units
    assert (abs(got - on_the_engine(call)) <= 2 * size).all()


@pytest.mark.parametrize("call", VALUES, ids=repr)
def test_values_of_every_case(call, emulated):
    """A value may be the difference of larger ones, as large as the largest of all pairs."""
    terms, engine = call.terms, on_the_engine(call)
    slack = call.case.units * np.finfo(call.dtype).eps * float(abs(terms).max())
    if call.kind == "entries":
        got = call()
        assert got.dtype == call.dtype
        assert abs(got - terms).max() <= slack and abs(got - engine).max() <= 2 * slack
        return
    got, at = call()
    assert abs(got - terms.min(1)).max() <= slack and abs(got - engine[0]).max() <= 2 * slack
    assert abs(np.take_along_axis(terms, at[:, None], 1)[:, 0] - terms.min(1)).max() <= 2 * slack


def special_values(dtype):
    """All elementwise operations of pairs at numbers that are easy to get wrong, in one formula: (pairs, operations)."""
    some = operations.specials(dtype)[[0, 1, 3, 5, 7, 9, 10, 11, 12, 13, 21, 22]]
    x, y = (variable(kind, k, 1) for k, kind in enumerate(("Vi", "Vj")))
    zero = variable("Vj", 2, 1)  # -0: x + zero is x, of pairs
    a = apply("Add", x, zero)
    parts = [apply(name, a) for name in operations.UNARY]
    parts += [apply(name, a, params=params) for name, params in operations.ROUNDED]
    parts += [apply(name, x, y) for name in operations.BINARY]
    parts += [apply(name, a, y, zero) for name in operations.TERNARY]
    everything = parts[0]
    for part in parts[1:]:
        everything = apply("Concat", everything, part)
    columns = some[:, None]
    bound = bind([x, y, zero], [columns, columns, np.full_like(columns, -0.0)])
    found = pairwise(everything, bound, None, np.dtype(dtype))
    return some, found


SPECIAL = called([partial(special_values, dtype) for dtype in operations.DTYPES])


@pytest.mark.parametrize("call", SPECIAL, ids=operations.DTYPES)
def test_special_values(call, emulated):
    some, found = call()
    x, y, zero = (np.empty((len(some),) * 2, some.dtype) for _ in range(3))
    x[:], y[:], zero[:] = some[:, None], some, -0.0
    exact, rounded = operations.UNARY, operations.ROUNDED
    with np.errstate(all="ignore"):
        wanted = [(name, value(x), 2 * (name == "Rsqrt")) for name, value in exact.items()]
        wanted += [(name, value(x.astype(float)), 3) for name, value in rounded.items()]
        for name, value in operations.BINARY.items():
            wanted.append((name, value(*((x, y) if name != "Powf" else (x.astype(float), y))), 2 * (name == "Powf")))
        wanted += [(name, value(x, y, zero), 0) for name, value in operations.TERNARY.items()]
        assert found.shape[-1] == len(wanted)
        for k, (name, want, ulps) in enumerate(wanted):
            print(name)
            operations.assert_same(found[..., k], want, ulps)


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

called(
    [
        partial(accumulation.total, np.ones(2, np.float32), dtype_acc="float64"),
        partial(accumulation.total, np.ones(2), sum_scheme="kahan_scheme"),
        partial(accumulation.total, np.ones(2, np.float32), sum_scheme="kahan_scheme"),
        partial(accumulation.test_float16_data_are_computed_in_float32),
    ]
)


def test_sums_in_float64_and_compensated_sums(emulated):
    accumulation.test_float64_inside_a_tile()
    accumulation.test_compensated_across_tiles()


@pytest.mark.parametrize("scheme", ["auto", "kahan_scheme"])
def test_schemes_where_sums_are_rescaled(scheme, emulated):
    accumulation.test_schemes_where_sums_are_rescaled("SumSoftMaxWeight", scheme)


def test_float16_data_come_converted(emulated):
    accumulation.test_float16_data_are_computed_in_float32()


# ---- sizes, shapes, orders ----------------------------------------------------------------------------------------

GAUSS = parse("Exp(-g*SqDist(x,y))*b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)", "g = Pm(1)"])
PROGRAM = cpu.prepare("sum", GAUSS.expr, None, False, 1).program
FULL = layout(PROGRAM).block * layout(PROGRAM).rows
HEIGHTS = (1, FULL // 4 + 1, FULL - 1, FULL, FULL + 1)
WIDTHS = (1, 63, 64, 65, 255, 256, 257, 577)


def gauss(M, N, op="Sum", dtype="float32", spread=lambda a: a):
    rng = np.random.default_rng(M + N)
    x, y, b = (rng.standard_normal((n, d)).astype(dtype) for n, d in ((M, 3), (N, 3), (N, 1)))
    data = [*map(spread, (x, y, b)), np.array([0.7], dtype)]
    terms = np.exp(-0.7 * ((x.astype(float)[:, None] - y) ** 2).sum(-1, keepdims=True)) * b
    return Reduction(GAUSS.expr, op, 1, data, variables=GAUSS.variables)(), terms


called([partial(gauss, 5, 7)])


@pytest.mark.parametrize("N", WIDTHS)
@pytest.mark.parametrize("M", HEIGHTS)
def test_sizes_on_both_sides_of_blocks_and_tiles(M, N, emulated):
    if M == FULL // 4 + 1 or N in WIDTHS[-2:]:  # each with some of the others
        assert_sum_close(*gauss(M, N), 1, 32)


def test_arrays_of_any_strides(emulated):
    whole, _ = gauss(50, 300)
    for spread in (np.asfortranarray, lambda a: np.repeat(a, 2, 0)[::2], lambda a: a[::-1].copy()[::-1]):
        np.testing.assert_array_equal(gauss(50, 300, spread=spread)[0], whole)


def long_vectors(D, dtype):
    rng = np.random.default_rng(D)
    x, y, b = (rng.standard_normal((n, d)).astype(dtype) for n, d in ((9, D), (70, D), (70, 2)))
    formula = parse("SqDist(x,y)*b", [f"x = Vi({D})", f"y = Vj({D})", "b = Vj(2)"])
    terms = ((x.astype(np.longdouble)[:, None] - y) ** 2).sum(-1, keepdims=True) * b
    return Reduction(formula.expr, "Sum", 1, [x, y, b])(), terms


LONG = called([partial(long_vectors, D, dtype) for D in (15, 33, 1030) for dtype in ("float32", "float64")])


@pytest.mark.parametrize("call", LONG, ids=lambda c: "-".join(map(str, c.args)))
def test_long_vectors(call, emulated):
    """A sum of D squares, one after another, has the rounding of D/2 numbers at worst."""
    assert_sum_close(*call(), 1, 16 + call.args[0] / 8)


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


def test_rows_of_a_thread_change_no_bit_and_nothing_is_read_outside(monkeypatch):
    """Under the address sanitizer, with rows and columns that fill no block and no tile."""
    if missing(sanitize=True):
        pytest.skip(missing(sanitize=True))
    kernels, found, counts = Kernels(), [], (1, 2, 4)
    for run in (kernels.note, kernels.run):
        for rows in counts:
            monkeypatch.setattr(cpu, "run", partial(run, rows=rows))
            found.append(gauss(131, 259)[0])
        kernels.build(sanitize=True)
    np.testing.assert_equal(found[-2:], [found[-3]] * 2)
