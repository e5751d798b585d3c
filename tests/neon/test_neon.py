"""The engine on 64-bit ARM, where the compiler makes NEON instructions of it, played by an emulator."""

import platform

import dense
import numpy as np
import pytest
from bound_reduction import BoundReduction
from cases import CASES
from elementary import DTYPES, FUNCTIONS, POWERS, ends, operands, powers, truth_of_powers, wanted
from elementwise import assert_within, by_pair, values
from engine import Emulated, build, missing
from judges import assert_sum_close
from tools import needs

from kernelops.engines import cpu
from kernelops.formula.parse import parse
from kernelops.ranges import Ranges
from kernelops.reductions import reduction
from kernelops.reductions.kinds import REDUCTIONS

pytestmark = pytest.mark.skipif(
    platform.machine() in ("aarch64", "arm64"), reason="on ARM all other tests run the engine of ARM"
)
ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    needs(missing())
    return build(tmp_path_factory.mktemp("neon"))


@pytest.fixture(autouse=True)
def arm(driver, monkeypatch):
    """Reductions are computed by the driver while a test runs."""
    kept = (reduction.prepare_reduction, cpu.prepare, cpu._dense_work)
    for function in kept:
        function.cache_clear()
    engine = Emulated(driver)
    monkeypatch.setattr(cpu, "_core", engine)
    yield engine
    assert engine.calls, "the engine of this machine has computed, not the driver"
    for function in kept:
        function.cache_clear()


@each_dtype
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_against_numpy(case, dtype):
    arrays, formula = case.data(6, 270, dtype), parse(case.formula, case.aliases)
    terms = case.dense(arrays, np.longdouble if dtype == "float64" else np.float64)
    got = BoundReduction(formula.expr, "Sum", 1, arrays, variables=formula.variables)()
    assert_sum_close(got, terms, 1, case.units)


@each_dtype
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.name)
def test_worst_error(function, dtype):
    part = slice(None, None, 16)
    x, want = operands(function, dtype)[part], wanted(function, dtype)[part]
    assert_within(function.bound, values("pair", function.op, function.params, x), want, x)
    assert np.isnan(values("pair", function.op, function.params, ends(dtype)[-1:])).all()


@each_dtype
def test_worst_error_of_powers(dtype):
    a, b = (p[::16] for p in powers(dtype, 2**17))
    assert_within(POWERS[dtype], values("pair", "Powf", (), a, b), truth_of_powers(a, b), a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_every_reduction(op, dtype):
    rng = np.random.default_rng(0)
    x, y, b = (rng.standard_normal((n, d)).astype(dtype) for n, d in ((70, 3), (300, 3), (300, 2)))
    keep = np.array([[True, False, True], [True, True, False]])
    ranges = Ranges.from_mask([[0, 9], [9, 70]], [[0, 37], [40, 290], [291, 299]], keep)
    formula, kind = parse("Square((x|y)-1)-2", ALIASES), REDUCTIONS[op]
    weight = parse("b*Elem(x,0)", ALIASES).expr if kind.weighted else None
    arguments = {"weight": weight, "opt_arg": 4 if kind.many else None, "variables": formula.variables}
    got = BoundReduction(formula.expr, op, 1, [x, y, b], ranges=ranges, **arguments)()
    wide = [a.astype(np.float64) for a in (x, y, b)]
    terms = ((wide[0] @ wide[1].T - 1) ** 2 - 2)[..., None]
    weights = wide[2][None] * wide[0][:, None, :1] if kind.weighted else None
    mask = np.zeros((70, 300), bool)
    for rows, columns in zip(([0, 9], [9, 70]), keep, strict=True):
        for (start, end), kept in zip(([0, 37], [40, 290], [291, 299]), columns, strict=True):
            mask[rows[0] : rows[1], start:end] = kept
    want = dense.reduce(op, terms, 1, mask, weights, 4 if kind.many else None)
    # the largest term is below 100 and the sums have 300 terms: their rounding, and that of a term or a mean
    tolerance = 1e3 * np.finfo(dtype).eps
    for g, w in zip(*(a if isinstance(a, tuple) else (a,) for a in (got, want)), strict=True):
        if g.dtype.kind == "i":
            np.testing.assert_array_equal(g.reshape(w.shape), w)
        else:
            np.testing.assert_allclose(g.reshape(w.shape), w, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("formula", ["Exp(-SqDist(x,y))*b", "Exp(-SqDist(x,y))"])
def test_symmetric_sums(formula, dtype, arm):
    rng, n = np.random.default_rng(0), cpu.SYMMETRIC_FROM + 37
    x, b = rng.standard_normal((n, 3)).astype(dtype), rng.standard_normal((n, 2)).astype(dtype)
    parsed = parse(formula, ALIASES)
    got = BoundReduction(parsed.expr, "Sum", 1, [x, x, b], variables=parsed.variables)()
    assert arm.mirrored, "each pair has been evaluated twice"
    wide = x.astype(np.float64)
    terms = np.exp(-((wide[:, None] - wide[None]) ** 2).sum(-1))[..., None]
    assert_sum_close(got, terms * b.astype(np.float64) if "b" in formula else terms, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", ["Exp", "Log", "Sin", "Cos", "Rsqrt"])
def test_ends_of_rows_change_no_bit(op, dtype):
    data = np.random.default_rng(4).uniform(0.1, 50, 600).astype(dtype)
    whole = by_pair(op, (), data[None])[0]
    for n in (1, 7, 15, 16, 17, 255, 256, 257):
        np.testing.assert_array_equal(by_pair(op, (), data[None, 37 : 37 + n])[0], whole[37 : 37 + n])
