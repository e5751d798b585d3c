"""Bounds of formulas over boxes: every value at points of the boxes lies inside, in float64 and as float32 has it."""

import numpy as np
import pytest
from bound_reduction import BoundReduction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from language.interpreter import TRUTH, evaluate
from language.strategies import S, T, X, Y, formulas

from kernelops.formula.expr import apply, const, substitute, topological, variable
from kernelops.formula.ops import OPS
from kernelops.formula.parse import parse
from kernelops.formula.simplify import simplify
from kernelops.truncation import intervals as module
from kernelops.truncation.intervals import interval_of

LARGEST = float(np.finfo(np.float32).max)
TINY = float(np.finfo(np.float32).tiny)
# positive, negative, around 0, degenerate, touching 0, huge, tiny; all ends are float32 numbers
BOXES = [
    *[(0.5, 2.0), (-3.0, -0.25), (-1.5, 2.5), (1.25, 1.25), (0.0, 0.0), (0.0, 3.0), (-2.0, 0.0), (-1.0, 1.0)],
    *[(1e30, LARGEST), (-LARGEST, 1e-3), (1e-30, 1e30), (TINY, 3 * TINY), (-(2.0**-130), 2.0**-128), (1e4, 1e5)],
    *[(3.0, 3.0), (6.0, 6.5), (85.0, 90.0), (-110.0, -80.0)],
]
BOXES = [tuple(float(np.float32(end)) for end in box) for box in BOXES]
INFINITE = [(-np.inf, 1.0), (1.0, np.inf), (0.0, np.inf), (-np.inf, 0.0), (np.inf, np.inf), (-np.inf, np.inf)]
PARAMETERS = {
    "Pow": [(m,) for m in (-40, -3, -2, -1, 0, 1, 2, 3, 4, 5, 41)],
    "SinXDivX": [(0,), (1,), (2,), (7,)],
    "Extract": [(0, 3), (1, 1)],
    "ExtractT": [(0, 3), (2, 6)],
    "Slice": [(0, 2, 2), (1, 2, 1)],
    "SliceT": [(1, 8, 3)],
    "TensorDot": [((3,), (3,), (0,), (0,), ()), ((3,), (3,), (), (), (1, 0)), ((1, 3), (3, 1), (1,), (0,), (0, 1))],
}


def inside(box, rng, count):
    """Float32 numbers of a box: its ends and numbers next to them, 0 and 1 if they lie in it, some between."""
    lo, hi = np.array(box, np.float32)
    low, high = np.clip(box, -LARGEST, LARGEST)
    t = rng.random(count)
    between = low * (1 - t) + high * t
    spread = np.clip(between * np.exp(rng.uniform(-60, 20, count)), low, high)
    with np.errstate(all="ignore"):
        near = [np.nextafter(lo, np.float32(np.inf)), np.nextafter(hi, np.float32(-np.inf)), 0.0, 1.0]
    found = np.r_[lo, hi, near, between, spread].astype(np.float32)
    found = found[(lo <= found) & (found <= hi)]
    return rng.permutation(np.resize(found, max(len(found), 3 * count)))[: 3 * count]


def as_machine(expr, data):
    """The engine's float32 values at points given row by row."""
    variables = list(data)
    moved = [variable("Vi", k, v.dim) for k, v in enumerate(variables)]
    expr = substitute(expr, dict(zip(variables, moved, strict=True)))
    arrays = [np.asarray(data[v], np.float32) for v in variables]
    return BoundReduction(expr, "Sum", 1, arrays, variables=moved, sizes=(len(arrays[0]), 1))()


def beyond_the_table(expr, data):
    """Points at which the table's integral for sin(x)/x has too many waves: the engine's values are tried there."""
    waves = [evaluate(n.args[0], data) for n in topological(expr) if n.op == "SinXDivX"]
    far = [~(np.abs(np.atleast_2d(w)) < 60).all(-1, keepdims=True) for w in waves]
    return np.any(np.broadcast_arrays(False, *far), axis=0)


def assert_bounds(expr, data, given):
    """Neither the float64 values nor the engine's leave their bounds; where one is nan, nothing must be known."""
    lo, hi = interval_of(expr, given)
    expr = simplify(expr)
    assert not (np.isnan(lo) | np.isnan(hi)).any()
    truth = np.where(beyond_the_table(expr, data), np.clip(0.0, lo, hi), evaluate(expr, data))
    for values in (truth, as_machine(expr, data).astype(np.float64)):
        held = np.isnan(values) & (lo == -np.inf) & (hi == np.inf) | (lo <= values) & (values <= hi)
        if not held.all():
            at = np.argwhere(~np.broadcast_to(held, values.shape))[0]
            point = {str(v): data[v][at[0]].tolist() for v in data}
            raise AssertionError(f"{expr}: {values[tuple(at)]!r} at {point}, bounds {lo} to {hi}")


def test_every_operation_has_a_rule_and_a_truth():
    assert set(module._RULES) == set(OPS) == set(TRUTH)


def try_operation(name, params, boxes, rng):
    arity = OPS[name].arity
    variables = [variable("Vi", k, 3) for k in range(arity)]
    expr = apply(name, *variables, params=params)
    components = [[boxes[k] for k in rng.permutation(len(boxes))[:3]] for _ in variables]
    given = {
        v: tuple(np.array(ends, float) for ends in zip(*c, strict=True))
        for v, c in zip(variables, components, strict=True)
    }
    data = {
        v: np.stack([inside(box, rng, 12) for box in c], axis=1).astype(np.float64)
        for v, c in zip(variables, components, strict=True)
    }
    assert_bounds(expr, data, given)


@pytest.mark.parametrize("name", OPS)
def test_an_operation_on_all_kinds_of_intervals(name):
    rng = np.random.default_rng(0)
    for params in PARAMETERS.get(name, [()]):
        for box in [*BOXES, *INFINITE]:
            try_operation(name, params, [box] * 3, rng)
        for _ in range(40):
            try_operation(name, params, BOXES, rng)
            try_operation(name, params, BOXES + INFINITE, rng)


# ---- formulas ----

QUIET = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def float32(numbers):
    return numbers.map(lambda a: float(np.float32(a)))


ENDS = float32(st.sampled_from([0.0, 1.0, -1.0, 0.1, 2.0, -0.5, 40.0, -300.0, 1e10, 1e-20]) | st.floats(-4, 4))


@st.composite
def boxes(draw):
    given = {}
    for v in (X, Y, S, T):
        pairs = [sorted((draw(ENDS), draw(ENDS))) for _ in range(v.dim)]
        given[v] = tuple(np.array(ends) for ends in zip(*pairs, strict=True))
    return given


@QUIET
@given(formulas(), boxes(), st.integers(0, 3))
def test_random_formulas(expr, given, seed):
    rng = np.random.default_rng(seed)
    data = {v: np.stack([inside(box, rng, 10) for box in zip(*ends, strict=True)], 1) for v, ends in given.items()}
    assert_bounds(expr, {v: a.astype(np.float64) for v, a in data.items()}, given)


@pytest.mark.parametrize("number", [0.1, -0.3, 1e-45, 1e-39])
@pytest.mark.parametrize("text", ["LessThan(c, x)", "Step(x - c)", "Equal(x, c)", "LessOrEqual(x, c)", "Sign(x - c)"])
def test_a_constant_is_what_float32_makes_of_it(text, number):
    x, c = variable("Vi", 0, 1), const(number)
    name, (first, second) = text.split("(")[0], (x, c) if "(x" in text else (c, x)
    expr = apply(name, first, second) if OPS[name].arity == 2 else apply(name, apply("Subtract", x, c))
    at = np.array([[float(np.float32(number))]])
    assert_bounds(expr, {x: at}, {x: (at[0], at[0])})


def test_nothing_is_known_where_a_value_may_be_nan():
    """Also after operations that hold everything else; but a truth value is one, and a branch may not be taken."""
    x = variable("Vi", 0, 1)

    def of(text, lo, hi):
        expr = parse(text, ["x = Vi(1)"]).expr
        return tuple(float(a[0]) for a in interval_of(expr, {x: (np.array([lo]), np.array([hi]))}))

    everything = (-np.inf, np.inf)
    for text in ("Log(x)", "Sqrt(x)", "Rsqrt(x)", "Inv(x)", "Powf(x, x)", "1/x - 1/x*2"):
        for outer in ("{}", "ReLU({})", "Clamp({}, 0, 1)", "Exp(-Square({}))", "Sin({})", "Step({})", "Sign({})"):
            assert of(outer.format(text), -1.0, 1.0) == everything, outer.format(text)
    for lo, hi in ((np.nan, np.nan), (np.nan, 1.0), (0.0, np.nan)):
        for text in ("x", "Exp(-Square(x))", "ReLU(x)", "Clamp(x, 0, 1)", "IfElse(1 - 2, 1, x)"):
            assert of(text, lo, hi) == everything, text
        if np.isnan(lo):  # what is below 0 is known of an interval from 0 on
            assert of("LessThan(x, 0)", lo, hi) == pytest.approx((0, 1), abs=1e-5)
    assert of("IfElse(x, x, Log(-x))", 1.0, 2.0) == pytest.approx((1, 2))
    assert of("Exp(-Square(x))", 1.0, np.inf) == pytest.approx((0, np.exp(-1)), rel=1e-5)
    assert of("Cos(x)", 1.0, np.inf) == everything


# ---- how sharp they are ----

DISTANCES = {  # formula of r: what it is, whether it is monotone with r standing in it once
    "SqDist(x,y)": lambda r: r**2,
    "Norm2(x-y)": lambda r: r,
    "Sqrt(Sum((x-y)*(x-y)))": lambda r: r,
    "Exp(-g*SqDist(x,y))": lambda r: np.exp(-0.7 * r**2),
    "Exp(-Norm2(x-y))": lambda r: np.exp(-r),
    "Rsqrt(1 + SqDist(x,y))": lambda r: (1 + r**2) ** -0.5,
    "Inv(g + SqDist(x,y))": lambda r: 1 / (0.7 + r**2),
    "Pow(ReLU(1 - Norm2(x-y)), 4)": lambda r: np.maximum(1 - r, 0) ** 4,
    "Step(1 - SqDist(x,y))": lambda r: 1.0 * (r <= 1),
    "Exp(-SqNorm2(g*(x-y)))": lambda r: np.exp(-(0.7**2) * r**2),
    "Exp(-WeightedSqDist(g,x,y))": lambda r: np.exp(-0.7 * r**2),
}
PRODUCTS = {  # a factor that rises with r and one that falls
    "(1 + Norm2(x-y))*Exp(-Norm2(x-y))": (lambda r: 1 + r, lambda r: np.exp(-r)),
    "(1 + 4*Norm2(x-y))*Pow(ReLU(1 - Norm2(x-y)), 4)": (lambda r: 1 + 4 * r, lambda r: np.maximum(1 - r, 0) ** 4),
}
G = float(np.float32(0.7))


def pairs_of_boxes(count=200):
    """Apart, touching, overlapping, one within the other, points; and their nearest and farthest distances."""
    rng = np.random.default_rng(1)
    centre, half = rng.uniform(-2, 2, (2, count, 3)), rng.choice([0.0, 0.1, 0.5, 1.5], (2, count, 3))
    lo, hi = centre - half, centre + half
    hi[1, :20], lo[1, :20] = hi[1, :20] - lo[1, :20] + hi[0, :20], hi[0, :20]  # a corner in common
    gap = np.maximum(np.maximum(lo[1] - hi[0], lo[0] - hi[1]), 0)
    far = np.maximum(hi[1] - lo[0], hi[0] - lo[1])
    return lo, hi, np.linalg.norm(gap, axis=1), np.linalg.norm(far, axis=1)


def of_boxes(text):
    lo, hi, nearest, farthest = pairs_of_boxes()
    expr = parse(text, ["x = Vi(3)", "y = Vj(3)", "g = Pm(1)"]).expr
    given = {v: (lo[v.position], hi[v.position]) for v in expr.vars if v.op != "Pm"}
    low, high = interval_of(expr, given | {variable("Pm", 2, 1): (np.array([G]), np.array([G]))})
    return low[:, 0], high[:, 0], nearest, farthest


@pytest.mark.parametrize("text", DISTANCES)
def test_a_function_of_the_distance_is_bounded_by_its_values_at_the_nearest_and_farthest_points(text):
    low, high, nearest, farthest = of_boxes(text)
    ends = np.sort([DISTANCES[text](nearest), DISTANCES[text](farthest)], axis=0)
    np.testing.assert_allclose([low, high], ends, rtol=1e-4, atol=1e-5)
    assert (low <= ends[0] + 1e-12).all() and (high >= ends[1] - 1e-12).all()


@pytest.mark.parametrize("text", PRODUCTS)
def test_a_product_is_bounded_factor_by_factor(text):
    rises, falls = PRODUCTS[text]
    low, high, nearest, farthest = of_boxes(text)
    np.testing.assert_allclose(high, rises(farthest) * falls(nearest), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(low, rises(nearest) * falls(farthest), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", ["Pow(ReLU(1 - Norm2(x-y)), 4)*(1 + 4*Norm2(x-y))", "Step(1 - SqDist(x,y))"])
def test_compact_support_is_exactly_0_outside(text):
    low, high, nearest, _ = of_boxes(text)
    outside = nearest > 1 + 1e-5
    assert outside.any() and (~outside).any()
    assert (low[outside] == 0).all() and (high[outside] == 0).all()
    assert (high[nearest < 1] > 0).all()


@pytest.mark.parametrize("text", ["Sum(x)", "Scalprod(x,o)", "TensorDot(x, o, [2000], [2000], [0], [0])"])
def test_long_sums_round_often(text):
    """Each small term is lost by itself, added to 1; and partial sums may leave float32's range."""
    x, o = variable("Vi", 0, 2000), variable("Vj", 1, 2000)
    expr, ones = parse(text, ["x = Vi(2000)", "o = Vj(2000)"]).expr, np.ones((1, 2000))
    for terms in (np.r_[1.0, np.full(1999, 2.0**-25)], np.r_[-1.0, np.full(1999, 2.0**-26)]):
        at = terms[None].astype(np.float32).astype(float)
        assert_bounds(expr, {x: at, o: ones} if "o" in text else {x: at}, {x: (at[0], at[0]), o: (ones[0], ones[0])})
    for few in (2, 1000):
        at = np.array([[LARGEST] * few + [-LARGEST] * few + [0.0] * (2000 - 2 * few)])
        assert_bounds(expr, {x: at, o: ones} if "o" in text else {x: at}, {x: (at[0], at[0]), o: (ones[0], ones[0])})


def test_a_division_may_be_a_product_by_an_inverse():
    """Of a vector by a number, for pairs: the inverse may be out of float32's range."""
    x, y = variable("Vi", 0, 3), variable("Vj", 1, 1)
    expr = apply("Divide", x, y)
    for divisor in (2.0**-140, 2.0**-127):
        boxes = {x: (np.full(3, 1e-12),) * 2, y: (np.array([divisor]),) * 2}
        low, high = interval_of(expr, boxes)
        got = BoundReduction(
            expr, "Sum", 1, [np.full((1, 3), 1e-12, np.float32), np.full((1, 1), divisor, np.float32)]
        )()
        assert (low <= got).all() and (got <= high).all(), got


def test_long_vectors_lose_a_little():
    """SqDist of 400 components is computed by products; the engine's values stay within bounds that are still sharp."""
    x, y = variable("Vi", 0, 400), variable("Vj", 1, 400)
    expr = parse("SqDist(x,y)", ["x = Vi(400)", "y = Vj(400)"]).expr
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (20, 400)).astype(np.float32), rng.uniform(0.4, 1.4, (300, 400)).astype(np.float32)
    wide = [p.astype(np.float64) for p in points]
    low, high = interval_of(expr, {x: (wide[0][:, None], wide[0][:, None]), y: (wide[1][None], wide[1][None])})
    exact = (wide[0] ** 2).sum(1)[:, None] + (wide[1] ** 2).sum(1) - 2 * wide[0] @ wide[1].T
    got, at = BoundReduction(expr, "KMin_ArgKMin", 1, list(points), opt_arg=300)()
    values = np.empty(got.shape)
    np.put_along_axis(values, at, got.astype(np.float64), 1)
    assert (low[..., 0] <= values).all() and (values <= high[..., 0]).all()
    np.testing.assert_allclose(high[..., 0], exact, rtol=2e-4)
    np.testing.assert_allclose(low[..., 0], exact, rtol=2e-4)


def test_boxes_broadcast():
    """Boxes of i and of j along two axes: the same as pair by pair."""
    lo, hi, *_ = pairs_of_boxes(6)
    text = "Exp(-SqDist(x,y))*Concat(x, y) + TensorProd(Elem(x,0), Concat(y, x))"
    expr = parse(text, ["x = Vi(3)", "y = Vj(3)"]).expr
    x, y = variable("Vi", 0, 3), variable("Vj", 1, 3)
    together = interval_of(expr, {x: (lo[0][:, None], hi[0][:, None]), y: (lo[1][None], hi[1][None])})
    for i, j in np.ndindex(6, 6):
        alone = interval_of(expr, {x: (lo[0][i], hi[0][i]), y: (lo[1][j], hi[1][j])})
        np.testing.assert_array_equal([a[i, j] for a in together], alone)
