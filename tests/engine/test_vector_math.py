"""Worst errors of the elementary functions in units in the last place (ulp), under every instruction set.

`pytest -rP -k worst tests/engine/test_vector_math.py` prints what was measured.
"""

import each_instruction_set
import numpy as np
import pytest
from elementary import (
    ANGLES,
    DTYPES,
    FUNCTIONS,
    POWERS,
    ROUNDED,
    WIDE,
    ends,
    operands,
    patterns,
    points_of_the_plane,
    powers,
    truth_of_powers,
    wanted,
)
from elementwise import STAGES, WIDTH, assert_within, by_pair, by_product, errors, values

from kernelops.engines.cpu import available_instruction_sets
from kernelops.formula.ops import OPS
from kernelops.ranges import Ranges

FUNCTIONS_BY_NAME = {f.name: f for f in FUNCTIONS}
each_function = pytest.mark.parametrize("name", FUNCTIONS_BY_NAME)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


@each_dtype
@each_function
def test_worst_error(name, dtype, isa):
    function = FUNCTIONS_BY_NAME[name]
    x = operands(function, dtype)
    assert_within(function.bound, values("pair", function.op, function.params, x), wanted(function, dtype), x)


@each_dtype
@pytest.mark.parametrize("stage", STAGES)
@each_function
def test_other_stages_are_as_good(name, stage, dtype, isa):
    """The same loops run over rows and columns, but an operation of its own, without neighbours to be fused with."""
    function = FUNCTIONS_BY_NAME[name]
    part = slice(None, None, 997 if stage == "param" else 61)
    x = np.r_[operands(function, dtype)[part], ends(dtype)]
    with np.errstate(all="ignore"):
        want = np.r_[wanted(function, dtype)[part], function.truth(ends(dtype).astype(WIDE[dtype]))]
    assert_within(function.bound, values(stage, function.op, function.params, x), want, x)


@each_dtype
@pytest.mark.parametrize("stage", ["pair", "col"])
def test_worst_error_of_angles(stage, dtype, isa):
    y, x = points_of_the_plane(dtype, 100_000 if stage == "pair" else 5000)
    want = np.arctan2(y.astype(WIDE[dtype]), x.astype(WIDE[dtype]))
    found = values(stage, "Atan2", (), y, x)
    assert_within(ANGLES, found, want, y, x)
    assert (np.signbit(found) == np.signbit(want))[~np.isnan(want)].all()


@each_dtype
@pytest.mark.parametrize("stage", ["pair", "col"])
def test_signs_of_zeros(stage, dtype, isa):
    zeros = np.array([0.0, -0.0], dtype)
    for op in ("Sqrt", "Sin", "Tanh", "Floor"):
        assert (np.signbit(values(stage, op, (), zeros)) == [False, True]).all(), op
    poles = np.array([np.inf, -np.inf], dtype)
    assert (np.signbit(values(stage, "Inv", (), poles)) == [False, True]).all()
    assert not np.signbit(values(stage, "Exp", (), poles)).any()
    cubes = values(stage, "Powf", (), zeros, np.array([3.0, 3.0], dtype))
    assert (np.signbit(cubes) == [False, True]).all()


@each_dtype
def test_exponentials_of_products(dtype, isa):
    """exp(a b) is 2^(a c), c = b log2(e) rounded, as a c is: each moves the exponent by half an ulp of it, the result
    by as many ulp as the exponent is large. Subnormal results are not kept.
    """
    f = np.finfo(dtype)
    x = np.random.default_rng(6).uniform(np.log(float(f.tiny)) + 1, np.log(float(f.max)) - 1, 2**16).astype(dtype)
    got = by_product("Exp", (), x.reshape(-1, WIDTH)).reshape(-1)
    error = errors(got, np.exp(x.astype(WIDE[dtype])))
    assert (error <= 2 + 2 * abs(x)).all(), error.max()


# ---- powers and quotients -----------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("m", [*range(-2, 7), -13, 10, 31])
def test_whole_powers(m, dtype, isa):
    """Every product, and the quotient, is wrong by half an ulp of its own, which is up to one ulp of the result.

    x**-m is 1/x**m: what is tried are numbers whose power and its inverse are normal.
    """
    rng = np.random.default_rng(1)
    most = -np.log(float(np.finfo(dtype).tiny)) / max(abs(m), 1) * 0.99
    x = (np.exp(rng.uniform(-most, most, 2**16)) * rng.choice([-1, 1], 2**16)).astype(dtype)
    for stage in ("pair", "row"):
        bound = max(abs(m), 1) if abs(m) > 1 else ROUNDED
        assert_within(bound, values(stage, "Pow", (m,), x), x.astype(WIDE[dtype]) ** m, x)


@each_dtype
def test_worst_error_of_powers(dtype, isa):
    a, b = powers(dtype, 2**17)
    want = truth_of_powers(a, b)
    for stage, part in (("pair", slice(None)), ("row", slice(None, None, 16)), ("col", slice(None, None, 16))):
        assert_within(POWERS[dtype], values(stage, "Powf", (), a[part], b[part]), want[part], a[part], b[part])


@each_dtype
@pytest.mark.parametrize("stage", STAGES)
def test_ends_of_powers(stage, dtype, isa):
    """0, 1, -1, infinity, nan, negative bases to whole, odd and broken exponents: as C and NumPy have it."""
    bases = np.r_[ends(dtype), np.array([2, -2, -0.5, -1, 1 + np.finfo(dtype).eps], dtype)]
    exponents = np.r_[ends(dtype), np.array([2, -2, 5, -5, -1, 2.5, -0.25, 1e6, 1e6 + 1, 2.0**24 - 1], dtype)]
    a, b = (g.ravel() for g in np.meshgrid(bases, exponents))
    want = truth_of_powers(a, b)
    assert_within(POWERS[dtype], values(stage, "Powf", (), a, b), want, a, b)


@each_dtype
def test_quotients_are_rounded_correctly(dtype, isa):
    a, b = patterns(dtype, 2**17), np.random.default_rng(3).permutation(patterns(dtype, 2**17))
    with np.errstate(all="ignore"):
        want = a.astype(WIDE[dtype]) / b.astype(WIDE[dtype])
    assert_within(ROUNDED, values("pair", "Divide", (), a, b), want, a, b)


# ---- what must not matter -----------------------------------------------------------------------------------------

OPERATIONS = [*((f.op, f.params, 1) for f in FUNCTIONS), ("Pow", (3,), 1), ("Pow", (-7,), 1), ("Powf", (), 2)]
OPERATIONS.append(("Atan2", (), 2))
each_operation = pytest.mark.parametrize(("op", "params", "arity"), OPERATIONS, ids=str)


def mixed(dtype, arity, count=600):
    """Numbers of every size, the ends among them, in no order."""
    rng = np.random.default_rng(4)
    pool = np.r_[ends(dtype), rng.uniform(-5, 5, 200), np.exp(rng.uniform(-60, 60, 200)), rng.uniform(-1e5, 1e5, 100)]
    return [rng.choice(pool.astype(dtype), count) for _ in range(arity)]


def assert_same_bits(got, want):
    unsigned = np.uint32 if got.dtype == np.float32 else np.uint64
    same = (got.view(unsigned) == want.view(unsigned)) | (np.isnan(got) & np.isnan(want))
    assert same.all(), f"got {got[~same]}, wanted {want[~same]} at {np.flatnonzero(~same)}"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_operation
def test_ends_of_rows_and_neighbours_change_no_bit(op, params, arity, dtype, isa):
    data = mixed(dtype, arity)
    whole = by_pair(op, params, *(a[None] for a in data))[0]
    for n in (1, 7, 15, 16, 17, WIDTH - 1, WIDTH, WIDTH + 1):
        for start in (0, 37):
            part = slice(start, start + n)
            assert_same_bits(by_pair(op, params, *(a[None, part] for a in data))[0], whole[part])
    order = np.random.default_rng(5).permutation(len(whole))
    assert_same_bits(by_pair(op, params, *(a[None, order] for a in data))[0], whole[order])
    # a register of moderate numbers, and the same with an end among them
    moderate = [np.random.default_rng(6 + k).uniform(0.1, 3, 640).astype(dtype) for k in range(arity)]
    beside = [np.where(np.arange(640) % 16 == 5, a[0] * 0, a) for a in moderate]
    whole, kept = (by_pair(op, params, *(a[None] for a in data))[0] for data in (moderate, beside))
    others = np.arange(640) % 16 != 5
    assert_same_bits(kept[others], whole[others])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_operation
def test_ranges_that_begin_inside_a_tile_change_no_bit(op, params, arity, dtype, isa):
    data = mixed(dtype, arity)
    whole = by_pair(op, params, *(a[None] for a in data))[0]
    cut = Ranges.from_mask([[0, 1]], [[5, 250], [251, 259], [300, 599]], np.array([[True, True, True]]))
    inside = np.r_[5:250, 251:259, 300:599]
    assert_same_bits(by_pair(op, params, *(a[None] for a in data), ranges=cut)[0][inside], whole[inside])


# ---- the judges ---------------------------------------------------------------------------------------------------


def test_every_function_of_the_engine_is_measured():
    exact = {"Minus", "Square", "Abs", "ReLU", "Sign", "Step", "Add", "Subtract", "Mult", "Clamp", "IfElse"}
    exact |= {"Equal", "NotEqual", "LessThan", "LessOrEqual"}
    measured = {f.op for f in FUNCTIONS} | {"Pow", "Powf", "Atan2", "Divide"}
    assert exact | measured == {name for name, row in OPS.items() if row.elementwise}


def test_no_instruction_set_and_no_file_is_forgotten():
    assert set(available_instruction_sets()) <= set(each_instruction_set.KNOWN)
    assert all((each_instruction_set.FOLDER / f"{file}.py").is_file() for file in each_instruction_set.ENGINE)


def test_the_judge_can_convict():
    want = np.array([1.0, 2.0**128, np.inf, 0.0, np.nan, 1e-45, 3e38])
    assert not errors(np.array([1, np.inf, np.inf, 0, np.nan, 1e-45, 3e38], np.float32), want).max() > 0.5
    wrong = np.array([1 + 2.0**-22, 3e38, 3e38, 1e-45, 1, 3e-45, np.inf], np.float32)
    assert (errors(wrong, want) >= 1).all()
    assert errors(np.array([np.nan], np.float32), np.ones(1))[0] == np.inf
