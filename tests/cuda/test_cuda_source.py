"""Generated CUDA kernels, run on the CPU by the emulator: every operation, against NumPy and against the engine."""

from functools import partial

import numpy as np
import pytest
import test_operations as operations
import usual
from bound_reduction import BoundReduction
from cases import CASES
from cuda_emulator.emulator import missing
from emulated import Kernels, compiled
from judges import assert_sum_close

from kernelops.arrays.arguments import bind_arguments
from kernelops.engines import cpu
from kernelops.formula.expr import apply, variable
from kernelops.formula.parse import parse
from kernelops.program.cuda.source import layout
from kernelops.reductions.pairs import evaluate_all_pairs

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

ENGINE = cpu.run
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
            arguments = bind_arguments(formula.variables, self.arrays)
            return evaluate_all_pairs(formula.expr, arguments, None, np.dtype(self.dtype))
        op = {"sum": "Sum", "best": "Min_ArgMin"}[self.kind]
        return BoundReduction(formula.expr, op, self.axis, self.arrays, variables=formula.variables)()

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
    """All elementwise operations of pairs at numbers that are easy to get wrong, at once: (x, y, operations)."""
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
    arguments = bind_arguments([x, y, zero], [columns, columns, np.full_like(columns, -0.0)])
    found = evaluate_all_pairs(everything, arguments, None, np.dtype(dtype))
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


# ---- sizes and shapes ------------------------------------------------------------------------------------------------

GAUSS = parse(usual.SCALED_GAUSS, usual.aliases(3, 1, "g"))
PROGRAM = cpu.prepare("sum", GAUSS.expr, None, False, 1).program
FULL = layout(PROGRAM).block * layout(PROGRAM).rows
HEIGHTS = (1, FULL // 4 + 1, FULL - 1, FULL, FULL + 1)
WIDTHS = (1, 63, 64, 65, 255, 256, 257, 577)


def gauss(M, N, op="Sum", dtype="float32", spread=lambda a: a):
    rng = np.random.default_rng(M + N)
    x, y, b = (rng.standard_normal((n, d)).astype(dtype) for n, d in ((M, 3), (N, 3), (N, 1)))
    data = [*map(spread, (x, y, b)), np.array([0.7], dtype)]
    terms = np.exp(-0.7 * ((x.astype(float)[:, None] - y) ** 2).sum(-1, keepdims=True)) * b
    return BoundReduction(GAUSS.expr, op, 1, data, variables=GAUSS.variables)(), terms


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
    return BoundReduction(formula.expr, "Sum", 1, [x, y, b])(), terms


LONG = called([partial(long_vectors, D, dtype) for D in (15, 33, 1030) for dtype in ("float32", "float64")])


@pytest.mark.parametrize("call", LONG, ids=lambda c: "-".join(map(str, c.args)))
def test_long_vectors(call, emulated):
    """A sum of D squares, one after another, has the rounding of D/2 numbers at worst."""
    assert_sum_close(*call(), 1, 16 + call.args[0] / 8)


def test_rows_of_a_thread_change_no_bit_and_nothing_is_read_outside(monkeypatch):
    """Under the address sanitizer, with rows and columns that fill no block and no tile."""
    if missing(sanitize=True):
        pytest.skip(missing(sanitize=True))
    kernels = Kernels()

    def each_number_of_rows(run):
        for rows in (1, 2, 4):
            monkeypatch.setattr(cpu, "run", partial(run, rows=rows))
            yield gauss(131, 259)[0]

    list(each_number_of_rows(kernels.note))
    kernels.build(sanitize=True)
    first, *others = each_number_of_rows(kernels.run)
    np.testing.assert_equal(others, [first] * 2)
