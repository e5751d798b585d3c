"""Numbers of two floats in CUDA kernels, on the emulator: operators, primitives, sums, and what leaves their range.

Errors are measured in units of 2^-48, u^2 for the u = 2^-24 of a float, against NumPy's long double.
"""

from functools import partial

import numpy as np
import pytest
import usual
from bound_reduction import BoundReduction
from cases import CASES
from cuda_emulator.emulator import compile_cuda, missing
from cuda_texts import kernel_text
from elementary import needs_wide
from emulated import Kernels, compiled
from judges import assert_sum_close

from kernelops.engines import cpu
from kernelops.errors import ArgumentError
from kernelops.formula.parse import parse
from kernelops.program.cuda.double_float import unknown_in_double
from kernelops.program.cuda.source import include_folders

pytestmark = [pytest.mark.skipif(missing() is not None, reason=str(missing())), needs_wide]

LONG, UNIT = np.longdouble, 2.0**-48
LOG2_E = 1 / np.log(LONG(2))


# ---- operators and primitives ---------------------------------------------------------------------------------------

# text, truth, the largest error that is allowed, and what it is relative to (the result, where nothing is said)
TABLE = {
    "a + b": (lambda a, b: a + b, 3, lambda a, b: abs(a) + abs(b)),
    "a - b": (lambda a, b: a - b, 3, lambda a, b: abs(a) + abs(b)),
    "a * b": (lambda a, b: a * b, 5),
    "a / b": (lambda a, b: a / b, 10),
    "-a": (lambda a, b: -a, 0),
    "v_abs(a)": (lambda a, b: abs(a), 0),
    "v_sqrt(v_abs(a))": (lambda a, b: np.sqrt(abs(a)), 5),
    "v_rsqrt(v_abs(a))": (lambda a, b: 1 / np.sqrt(abs(a)), 5),
    "v_powi(a, 3)": (lambda a, b: a * a * a, 10),
    "v_powi(a, -2)": (lambda a, b: 1 / (a * a), 10),
    "v_log(v_abs(a))": (lambda a, b: np.log(abs(a)), 1, lambda a, b: 1 + abs(np.log(abs(a)))),
    "v_sin(a)": (lambda a, b: np.sin(a), 1, lambda a, b: 1 + abs(a)),
    "v_cos(a)": (lambda a, b: np.cos(a), 1, lambda a, b: 1 + abs(a)),
    "v_pow(v_abs(a), twofloat(1.25))": (lambda a, b: abs(a) ** LONG(1.25), 1),
    "(twofloat)(double)a": (lambda a, b: a, 1 / 16),
    "(twofloat)((double)a * 1.1)": (lambda a, b: (np.float64(a) * 1.1).astype(LONG), 1),
    "a < b ? (twofloat)1 : (twofloat)0": (lambda a, b: 1.0 * (a < b), 0),
    "a <= b ? (twofloat)1 : (twofloat)0": (lambda a, b: 1.0 * (a <= b), 0),
    "a > b ? (twofloat)1 : (twofloat)0": (lambda a, b: 1.0 * (a > b), 0),
    "a >= b ? (twofloat)1 : (twofloat)0": (lambda a, b: 1.0 * (a >= b), 0),
    "a == b ? (twofloat)1 : (twofloat)0": (lambda a, b: 1.0 * (a == b), 0),
    "a != b ? (twofloat)1 : (twofloat)0": (lambda a, b: 1.0 * (a != b), 0),
}
# of numbers between -90 and 90; an error of u^2 in a makes one of |a| u^2 in exp(a)
EXPONENTIALS = {
    "v_exp2(a)": (lambda a, b: 2**a, 3),
    "v_exp(a)": (lambda a, b: np.exp(a), 3, lambda a, b: np.exp(a) * (1 + 2 * abs(a))),
    "v_exp2(a * scale_of_exp(b))": (lambda a, b: np.exp(a * b), 3, lambda a, b: np.exp(a * b) * (1 + 4 * abs(a * b))),
}


def kernel(name, texts):
    lines = [f"found = {text}; out[2 * ({k} * n + i)] = found.hi; out[2 * ({k} * n + i) + 1] = found.lo;"
             for k, text in enumerate(texts)]  # fmt: skip
    return f"""
extern "C" __global__ void {name}(const float *x, const float *y, float *out, int n) {{
    for (int i = threadIdx.x; i < n; i += blockDim.x) {{
        const twofloat a = {{x[2 * i], x[2 * i + 1]}}, b = {{y[2 * i], y[2 * i + 1]}};
        twofloat found;
        {" ".join(lines)}
    }}
}}
"""


LOADED = """
extern "C" __global__ void loaded(const double *x, float *out, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        out[2 * i] = twofloat((float)x[i]).hi;
        out[2 * i + 1] = twofloat(x[i]).hi;
    }
}
"""
KERNELS = "using namespace kernelops;\n" + LOADED
KERNELS += kernel("of_table", TABLE) + kernel("of_exponentials", EXPONENTIALS)
# a GPU's are up to 2 units in the last place off; the emulator's are not
ROUGH = {'"=f"(inverse) : "f"(a));': " inverse *= {};", "rsqrtf(a.hi)": " * {}"}


@pytest.fixture(scope="module", params=[0, -2, 2])
def module(request):
    """The header with its approximate functions so many units off."""
    text = (include_folders()[0] / "twofloat.cuh").read_text()
    for call, change in ROUGH.items():
        assert call in text
        text = text.replace(call, call + change.format(f"(1.0f + {request.param} * 0x1p-23f)"))
    return compile_cuda(text + KERNELS, include_dirs=include_folders())


def two(x):
    """Numbers as two floats, (n, 2), and what these stand for."""
    x = np.asarray(x, LONG)
    hi = x.astype(np.float32)
    both = np.stack([hi, (x - hi).astype(np.float32)], -1)
    return both, both.astype(LONG).sum(-1)


def operands():
    """Pairs of all sizes that count, near and far from each other, with a second float and without."""
    rng, n = np.random.default_rng(0), 20_000
    x = rng.choice([-1, 1], n) * LONG(2) ** rng.uniform(-20, 20, n)
    far = rng.choice([-1, 1], n) * LONG(2) ** rng.uniform(-20, 20, n)
    near = [-x * (1 + scale * rng.standard_normal(n).astype(LONG)) for scale in (1e-3, 1e-7, 1e-12)]
    a, b = np.tile(x, 6), np.concatenate([far, *near, x, np.float32(far)])
    a[-n:] = np.float32(a[-n:])
    return a, b


def judge(module, name, table, a, b):
    (x, a), (y, b) = two(a), two(b)
    out = np.empty((len(table), len(a), 2), np.float32)
    module.launch(name, 1, 128, [x, y, out, np.int32(len(a))])
    worst = {}
    for got, (text, (truth, bound, *size)) in zip(out.astype(LONG).sum(-1), table.items(), strict=True):
        want = np.asarray(truth(a, b), LONG)
        size = size[0](a, b) if size else abs(want)
        error = np.where(got == want, 0, abs(got - want) / np.maximum(size, 2.0**-100) / UNIT)
        worst[text] = float(error.max())
        print(f"{text}: {worst[text]:.2f} of {bound}")
    assert not {text: worst[text] for text, (_, bound, *_) in table.items() if not worst[text] <= bound}


def test_operators_and_primitives(module):
    judge(module, "of_table", TABLE, *operands())


def test_exponentials(module):
    rng, n = np.random.default_rng(1), 20_000
    a = np.concatenate([rng.uniform(-60, 60, n), rng.uniform(-1, 1, n), np.arange(-60, 60.25, 0.25)])
    judge(module, "of_exponentials", EXPONENTIALS, a, rng.uniform(-1, 1, len(a)))


def test_exponentials_at_their_ends(module):
    a = np.array([-126.4, -127, -150, -1e10, -1e30, -np.inf, 127.4, 128, 1e10, np.inf, np.nan])
    with np.errstate(invalid="ignore"):
        x, y = (np.stack([v, 0 * v], -1).astype(np.float32) for v in (a, np.ones(len(a))))
    out = np.empty((len(EXPONENTIALS), len(a), 2), np.float32)
    module.launch("of_exponentials", 1, 32, [x, y, out, np.int32(len(a))])
    power = out[0, :, 0]
    assert 0 < power[0] < 2.0**-126 and (power[1:6] == 0).all() and np.isfinite(power[6])
    assert not np.isfinite(power[7:]).any() and np.isnan(power[-1])


def test_what_is_loaded_is_in_range(module):
    good = np.array([0, 1, -1, 2.0**-40, 2.0**40, -3e-10])
    small = np.array([1e-13, -1e-30, 1e-46])
    bad = np.array([1.1e12 * 1.1, -1e20, 1e39, np.inf, -np.inf, np.nan])
    x = np.concatenate([good, small, bad])
    out = np.empty((len(x), 2), np.float32)
    with np.errstate(over="ignore"):
        module.launch("loaded", 1, 32, [x, out, np.int32(len(x))])
        np.testing.assert_array_equal(out[: len(good)], np.float32([good, good]).T)
    as_float, as_double = out[len(good) :].T
    assert np.isnan(as_float[:2]).all() and as_float[2] == 0 and (as_double[:3] == np.float32(small)).all()
    assert np.isnan(out[-len(bad) :]).all()


# ---- sums -----------------------------------------------------------------------------------------------------------

LOADS = {"data": "float32", "arithmetic": "twofloat"}


class Sum:
    """A row of the table of cases, summed in two floats: arrays in float, which kernels get as such."""

    def __init__(self, number):
        self.case, self.axis = CASES[number], number % 2
        self.arrays = [a.astype(float) for a in self.case.data(21, 300, "float32", seed=number)]

    def __repr__(self):
        return self.case.name

    def __call__(self):
        formula = parse(self.case.formula, self.case.aliases)
        return BoundReduction(formula.expr, "Sum", self.axis, self.arrays, variables=formula.variables)()


SUMS = [Sum(number) for number in range(len(CASES))]


@pytest.fixture(scope="module")
def kernels():
    note, found = Kernels.note, None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernels, "note", lambda self, *args, **how: note(self, *args, **how, **LOADS))
        found = compiled(SUMS)
    return found


@pytest.mark.parametrize("call", SUMS, ids=repr)
def test_sums_of_every_case(call, kernels, monkeypatch):
    """As exact as a sum in double may be, but for the size of a unit: 2^-48, not 2^-52.

    A case has 16 units (2^-44) of the sum of magnitudes for some operations of a unit or a few; sums and differences of
    two floats have 3, products 5, and so twice as many are allowed.
    """
    monkeypatch.setattr(cpu, "run", partial(kernels.run, **LOADS))
    assert_sum_close(call(), call.case.dense(call.arrays, LONG), call.axis, 2 * 16 * call.case.units)


# ---- which programs -------------------------------------------------------------------------------------------------


def program(formula, kind="sum"):
    aliases = usual.aliases(3, 1, "g")
    return cpu.prepare(kind, parse(formula, aliases).expr, None, False, 1).program


def test_which_programs_are_computed_in_two_floats():
    mixed = {0: "float32", 1: "float32", 2: "float64", 3: "float32"}
    gauss = program(usual.SCALED_GAUSS)
    assert unknown_in_double(gauss, mixed) == 2
    assert unknown_in_double(gauss, mixed | {2: "float32"}) is None
    assert unknown_in_double(gauss, mixed | {0: "float64"}) is None
    assert unknown_in_double(gauss, mixed | {0: "float16"}) is None
    assert unknown_in_double(gauss, dict.fromkeys(mixed, "float64")) is None
    assert unknown_in_double(gauss, mixed | {2: "float32", 0: "float64"}) is None
    assert unknown_in_double(program(usual.SCALED_GAUSS, "best"), mixed) is None
    assert unknown_in_double(program("Exp(-g*SqDist(x,y))*ReLU(1-SqDist(x,y))*b"), mixed) is None


def test_what_is_refused():
    gauss = program(usual.SCALED_GAUSS)
    with pytest.raises(ArgumentError, match="arithmetic: wanted twofloat, again or None, got 'three'"):
        kernel_text(gauss, "float64", arithmetic="three")
    for found, dtype, how in (
        (gauss, "float32", {}),
        (gauss, "float64", {"compensated": True}),
        (gauss, "float64", {"wide_sums": True}),
        (program("SqDist(x,y)", "best"), "float64", {}),
    ):
        with pytest.raises(ArgumentError, match="arithmetic: 'twofloat' is for sums in float64"):
            kernel_text(found, dtype, arithmetic="twofloat", **how)
