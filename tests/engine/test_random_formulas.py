"""Random formulas through the engine, against the truth table on dense arrays; and their gradients."""

import numpy as np
from bound_reduction import BoundReduction
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from judges import assert_sum_close
from language.interpreter import evaluate
from language.strategies import TAME_TENSOR, S, T, X, Y, formulas

from kernelops.formula.expr import apply, const, substitute, topological, variable
from kernelops.formula.grad import grad
from kernelops.formula.simplify import simplify
from kernelops.ranges import Ranges

M, N = 5, 263  # a tile of columns and a bit, or a task of rows and a bit
SEED = variable("Vj", 4, 3)
SUPPRESSED = [HealthCheck.filter_too_much, HealthCheck.too_slow]  # where parts are not tame there is nothing to judge
QUIET = settings(max_examples=120, deadline=None, suppress_health_check=SUPPRESSED)
EPS = np.finfo(float).eps


def points(seed):
    rng = np.random.default_rng(seed)
    shapes = {X: (M, 3), Y: (N, 3), S: (M, 1), T: (1,), SEED: (N, 3)}
    return {v: rng.uniform(0.2, 1.4, shape) * rng.choice([-1, 1], shape) for v, shape in shapes.items()}


def dense(expr, data, dtype=np.longdouble):
    """The formula at all pairs, (M, N, D)."""
    place = {"Vi": (slice(None), None), "Vj": (None, slice(None)), "Pm": (None, None)}
    spread = {v: np.asarray(a, dtype)[place[v.op]] for v, a in data.items()}
    found = np.asarray(evaluate(expr, spread))
    return np.broadcast_to(found, (M, N, expr.dim))


def arguments(data):
    return [data[v] for v in (X, Y, S, T, SEED)]


def reduced(expr, axis, data, **options):
    return BoundReduction(expr, "Sum", axis, arguments(data), variables=list(data), **options)()


def rounding(expr, data):
    """How far rounding moves the value at each pair: what float64 and extended precision make of it."""
    return abs(dense(expr, data, np.float64) - dense(expr, data))


def assert_reduces(expr, data, axis, mask=None, **options):
    """The engine's sum is the dense one up to rounding, which is known from what it does to NumPy's."""
    terms, slack = dense(expr, data), 100 * rounding(expr, data)
    if mask is not None:
        terms, slack = np.where(mask[..., None], terms, 0), np.where(mask[..., None], slack, 0)
    bound = np.abs(terms).max(initial=0)
    assume(np.isfinite(terms).all() and bound < 1e100)
    # what cancels inside a formula leaves the rounding of its parts
    parts = max(float(np.abs(dense(n, data)).max()) for n in topological(expr))
    assume(parts < 1e8)
    parts = max(parts, 1)  # the truth table has a rounding of its own: its sin(x)/x is an integral
    assert_sum_close(reduced(expr, axis, data, **options), terms, axis, 64, slack.sum(axis) + 64 * EPS * N * parts)


@QUIET
@given(formulas(TAME_TENSOR), st.sampled_from([0, 1]), st.integers(0, 3))
def test_smooth_formulas(expr, axis, seed):
    assert_reduces(expr, points(seed), axis)


SWITCHES = ("Sign", "Step", "Equal", "NotEqual", "LessThan", "LessOrEqual", "IfElse", "ReLU", "Abs")


@QUIET
@given(formulas((*SWITCHES, "Add", "Subtract", "Mult", "Concat", "Extract", "Sum")), st.sampled_from([0, 1]))
def test_formulas_that_switch(expr, axis):
    """On whole numbers, where nothing is rounded: equal to the bit."""
    data = {v: np.rint(2 * a) for v, a in points(0).items()}
    terms = dense(expr, data, np.float64)
    assume(max(float(np.abs(dense(n, data, np.float64)).max()) for n in topological(expr)) < 2**40)
    np.testing.assert_array_equal(reduced(expr, axis, data), terms.sum(axis))


@QUIET
@given(formulas(leaves=6), st.sampled_from([0, 1]))
def test_all_operations(expr, axis):
    """With poles and branch points: only where each part is tame at all points."""
    data = points(1)
    with np.errstate(all="ignore"):
        parts = [dense(n, data) for n in topological(expr)]
        assume(all(np.isfinite(p).all() and np.abs(p).max() < 1e6 for p in parts))
        small = [np.abs(p[p != 0]).min(initial=1) for p in parts]
        assume(min(small) > 1e-6)
        jumps = [n for n in topological(expr) if n.op in (*SWITCHES, "Clamp", "Powf", "Sqrt", "Rsqrt", "Log")]
        # a switch at a value that rounding may turn round has no right answer
        assume(all(np.abs(dense(a, data)).min() > 1e-6 for n in jumps for a in n.args[:1]))
        assume(not any(n.op.startswith(("Equal", "NotEqual", "Less", "Clamp")) for n in jumps))
        terms = parts[-1]
        slack = 1e4 * rounding(expr, data).sum(axis)
    assert_sum_close(reduced(expr, axis, data), terms, axis, 1e4, slack)


@QUIET
@given(formulas(TAME_TENSOR, leaves=8), st.sampled_from([0, 1]), st.data())
def test_under_ranges(expr, axis, choice):
    rows = Ranges.from_mask([[0, 2], [3, 5]], [[0, 1], [1, 256], [257, 263]], np.array([[1, 0, 1], [0, 1, 1]], bool))
    assert_reduces(expr, points(2), axis, mask=rows.mask(M, N), ranges=rows)


@QUIET
@given(formulas(TAME_TENSOR, leaves=10), st.sampled_from([0, 1]))
def test_simplified(expr, axis):
    assert_reduces(simplify(expr), points(3), axis)


@QUIET
@given(formulas(TAME_TENSOR, leaves=8), st.sampled_from([X, Y, S, T]))
def test_gradients_against_the_table(expr, var):
    """The gradient as an expression, run on the engine with a seed, summed as a backward pass sums it."""
    found = grad(expr, var, SEED if expr.dim == 3 else const(1))
    assert_reduces(found, points(4), 1 if var.op != "Vj" else 0)


@settings(QUIET, max_examples=30)
@given(formulas(TAME_TENSOR, leaves=6), st.sampled_from([X, Y, S, T]))
def test_gradients_against_differences(expr, var):
    """Of the engine's own total over all pairs, along a random direction."""
    data, h = points(5), 1e-4
    total = expr if expr.dim == 1 else apply("Sum", expr)
    assume(max(float(np.abs(dense(n, data)).max()) for n in topological(total)) < 1e3)
    direction = np.random.default_rng(6).standard_normal(data[var].shape)

    def value(t):
        return reduced(total, 1, data | {var: data[var] + t * direction}).sum()

    slope = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)
    gradient = reduced(grad(total, var, const(1)), 0 if var.op == "Vj" else 1, data)
    if var.op == "Pm":
        gradient = gradient.sum(0)
    got, size = (gradient * direction).sum(), np.abs(gradient * direction).sum() + abs(value(0)) + N
    assert abs(got - slope) < 1e-6 * size


@settings(QUIET, max_examples=40)
@given(formulas(TAME_TENSOR), formulas(TAME_TENSOR))
def test_a_part_that_is_shared_is_the_same_as_two_parts(f, g):
    """x + x where both are one node, and where the second is made of other variables that hold the same data."""
    other = {v: variable(v.op, v.position + 10, v.dim) for v in (X, Y, S, T)}
    longest = max(f.dim, g.dim)
    assume(f.dim in (1, longest) and g.dim in (1, longest))
    both, data = apply("Add", apply("Mult", f, g), f), points(7)
    apart = apply("Add", apply("Mult", f, g), substitute(f, other))
    assume(max(float(np.abs(dense(n, data)).max()) for n in topological(both)) < 1e8)
    args = [*arguments(data), *[None] * 5, *arguments(data)[:4]]
    some = [BoundReduction(e, "Sum", 1, args)() for e in (both, apart)]
    size = np.abs(dense(both, data)).max(initial=1) + max(np.abs(dense(n, data)).max() for n in topological(both))
    np.testing.assert_allclose(some[0], some[1], rtol=0, atol=1e-13 * float(size) * N)
