"""Every reduction against a dense computation: ranges, batches, sizes 0 and 1, ties, NaN, infinities."""

import dense
import numpy as np
import pytest
import usual
from bound_reduction import BoundReduction

from kernelops.formula.parse import parse
from kernelops.ranges import Ranges
from kernelops.reductions.kinds import REDUCTIONS

ALIASES = usual.aliases(3, 2)
SCALAR, VECTOR, WEIGHT = "Square((x|y)-1)-2", "(x-y)*Exp(-SqDist(x,y))", "b*Elem(x,0)"
EXPONENTIAL = [op for op, kind in REDUCTIONS.items() if kind.accumulator == "exp"]


def dense_scalar(x, y):
    return ((x[..., :, None, :] * y[..., None, :, :]).sum(-1, keepdims=True) - 1) ** 2 - 2


def dense_vector(x, y):
    difference = x[..., :, None, :] - y[..., None, :, :]
    return difference * np.exp(-(difference**2).sum(-1, keepdims=True))


FORMULAS = {SCALAR: dense_scalar, VECTOR: dense_vector}


def points(M=37, N=290, dtype="float64", batch=(), seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((*batch, n, d)).astype(dtype) for n, d in ((M, 3), (N, 3), (N, 2))]


def clusters(n, seed):
    """Clusters with edges off the tiles, one of them empty, and rows between them that belong to none."""
    cuts = np.sort(np.random.default_rng(seed).choice(np.arange(1, n), 7, replace=False))
    return np.array([[0, cuts[0]], [cuts[1], cuts[1]], [cuts[2], cuts[4]], [cuts[5], n]])


def some_ranges(M, N, seed=1):
    keep = np.array([[1, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 1]], bool)
    return Ranges.from_mask(clusters(M, seed), clusters(N, seed + 1), keep)


def run(op, axis, data, formula=SCALAR, K=1, **options):
    found = parse(formula, ALIASES)
    weight = parse(WEIGHT, ALIASES).expr if REDUCTIONS[op].weighted else None
    opt_arg = K if REDUCTIONS[op].many else None
    return BoundReduction(
        found.expr, op, axis, data, weight=weight, opt_arg=opt_arg, variables=found.variables, **options
    )()


def expected(op, axis, data, formula=SCALAR, K=1, mask=None):
    x, y, b = (np.asarray(a, np.float64) for a in data)
    weights = b[..., None, :, :] * x[..., :, None, :1] if REDUCTIONS[op].weighted else None
    return dense.reduce(op, FORMULAS[formula](x, y), axis, mask, weights, K)


def assert_equal(got, want, dtype="float64"):
    """Values and indices, both to the last detail that does not depend on the order of a sum."""
    if isinstance(want, tuple):
        assert isinstance(got, tuple) and len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            assert_equal(g, w, dtype)
        return
    assert got.shape == want.shape
    if want.dtype.kind == "i":
        assert got.dtype == np.int64
        np.testing.assert_array_equal(got, want)
    else:
        assert got.dtype == dtype
        close = 1e-12 if dtype == "float64" else 2e-5
        np.testing.assert_allclose(got, want.astype(np.float64), rtol=close, atol=close)


def formulas_of(op):
    return (SCALAR,) if op in EXPONENTIAL else (SCALAR, VECTOR)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_dense(op, axis):
    data = points()
    for formula in formulas_of(op):
        for K in (1, 4) if REDUCTIONS[op].many else (1,):
            assert_equal(run(op, axis, data, formula, K), expected(op, axis, data, formula, K))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_under_every_instruction_set(op, dtype, isa):
    data = points(40, 301, dtype, seed=2)
    for axis in (0, 1):
        assert_equal(run(op, axis, data, K=3), expected(op, axis, data, K=3), dtype)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_ranges_against_a_masked_dense_computation(op, axis):
    data, ranges = points(), some_ranges(37, 290)
    mask = ranges.mask(37, 290)
    assert not mask.any(0).all() and not mask.any(1).all(), "some rows and columns are to meet nothing"
    for formula in formulas_of(op):
        got = run(op, axis, data, formula, 3, ranges=ranges)
        assert_equal(got, expected(op, axis, data, formula, 3, mask))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_batches(op, axis):
    """Batch dimensions broadcast, some of size 1, with and without ranges."""
    x, _, _ = points(9, 20, batch=(2, 1))
    _, y, b = points(9, 20, batch=(3,), seed=5)
    full = [np.broadcast_to(a, (2, 3, *a.shape[-2:])) for a in (x, y, b)]
    ranges = some_ranges(9, 20)
    for options, mask in (({}, None), ({"ranges": ranges}, ranges.mask(9, 20))):
        got = run(op, axis, [x, y, b], K=2, **options)
        assert_equal(got, expected(op, axis, full, K=2, mask=mask))


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (0, 0), (1, 1), (1, 300), (300, 1)])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_few_rows_or_none(op, sizes):
    data = points(*sizes)
    for axis in (0, 1):
        for formula in formulas_of(op):
            assert_equal(run(op, axis, data, formula, 2), expected(op, axis, data, formula, 2))


def test_no_batch_element():
    data = points(4, 5, batch=(0,))
    assert run("Sum", 1, data).shape == (0, 4, 1)
    assert run("KMin_ArgKMin", 0, data, VECTOR, 2)[1].shape == (0, 5, 2, 3)


@pytest.mark.parametrize("op", REDUCTIONS)
def test_a_row_that_meets_nothing(op):
    nothing = Ranges.from_mask([[0, 2]], [[0, 3]], [[False]])
    got = run(op, 1, points(2, 3), K=2, ranges=nothing)
    kind = REDUCTIONS[op]
    empty = {"sum": 0, "log": -np.inf, "mean": 0, "values": -np.inf if kind.largest else np.inf, "indices": -1}
    for result, name in zip(got if isinstance(got, tuple) else (got,), kind.results, strict=True):
        np.testing.assert_array_equal(result, np.full(result.shape, empty[name]))


# ---- ties, NaN and infinities -------------------------------------------------------------------------------------


def of_values(op, values, K=None, dtype="float64"):
    """A reduction over given numbers, one row."""
    formula = parse("y+0*x", ["x = Vi(1)", "y = Vj(1)"])
    data = [np.zeros((1, 1), dtype), np.asarray(values, dtype)[:, None]]
    found = BoundReduction(formula.expr, op, 1, data, opt_arg=K)()
    return tuple(f[0] for f in found) if isinstance(found, tuple) else found[0]


def test_ties_go_to_the_earlier_index():
    values = np.resize([3.0, 1.0, 2.0, 1.0, 3.0], 600)  # through three tiles
    assert of_values("ArgMin", values) == 1 and of_values("ArgMax", values) == 0
    found, indices = of_values("KMin_ArgKMin", values, K=300)
    np.testing.assert_array_equal(indices, np.argsort(values, kind="stable")[:300])
    np.testing.assert_array_equal(found, np.sort(values)[:300])


def test_zeros_of_both_signs_are_equal():
    assert of_values("ArgMin", [0.0, -0.0]) == 0 and of_values("ArgMax", [-0.0, 0.0]) == 0


@pytest.mark.parametrize("count", [3, 256, 257, 700])
def test_more_asked_than_there_are(count):
    values = np.random.default_rng(0).permutation(count).astype(float)
    found, indices = of_values("KMin_ArgKMin", values, K=count + 5)
    np.testing.assert_array_equal(found, [*range(count), *[np.inf] * 5])
    np.testing.assert_array_equal(indices, [*np.argsort(values), *[-1] * 5])


def test_infinities_are_values_like_others():
    assert of_values("ArgMin", [np.inf, np.inf]) == 0 and of_values("ArgMax", [-np.inf, -np.inf]) == 0
    found, indices = of_values("KMin_ArgKMin", [np.inf, 1, -np.inf], K=4)
    np.testing.assert_array_equal(found, [-np.inf, 1, np.inf, np.inf])
    np.testing.assert_array_equal(indices, [2, 1, 0, -1])


@pytest.mark.parametrize("place", [0, 5, 255, 256, 599])
def test_nan_propagates_as_in_torch(place, isa):
    """torch.min and torch.max give nan and its index; torch.topk puts nan after all numbers."""
    values = np.random.default_rng(place).standard_normal(600)
    values[[place, 599]] = np.nan
    for op in ("Min", "Max"):
        found, index = of_values(f"{op}_Arg{op}", values)
        assert np.isnan(found) and index == place
    found, indices = of_values("KMin_ArgKMin", values, K=600)
    np.testing.assert_array_equal(indices, np.argsort(values, kind="stable"))
    np.testing.assert_array_equal(found, np.sort(values))
    assert np.isnan(of_values("Sum", values)) and np.isnan(of_values("LogSumExp", values))


def test_the_oracle_agrees_with_torch():
    torch = pytest.importorskip("torch")
    values = np.array([2.0, np.nan, -1, 2, np.inf, -np.inf, np.nan, -1])
    for op in ("min", "max"):
        name = op.capitalize()
        found, index = of_values(f"{name}_Arg{name}", values)
        want = getattr(torch, op)(torch.tensor(values), 0)
        assert np.isnan(found) and np.isnan(want.values.item()) and index == want.indices.item()
    want = torch.topk(torch.tensor(values), 8, largest=False, sorted=True)
    np.testing.assert_array_equal(of_values("KMin", values, K=8), want.values.numpy())


LOGSUMEXP = [
    ([-np.inf, 1.0], 1.0),
    ([1.0, -np.inf], 1.0),
    ([-np.inf, -np.inf], -np.inf),
    ([np.inf, 1.0], np.inf),
    ([1.0, np.inf], np.inf),
    ([np.inf, np.inf], np.inf),
    ([np.inf, -np.inf], np.inf),
    ([-np.inf, np.inf, 5.0], np.inf),
    ([np.nan, np.inf], np.nan),
    ([-np.inf, np.nan], np.nan),
    ([1e4, 1e4], 1e4 + np.log(2)),
    ([-1e4, -1e4], -1e4 + np.log(2)),
    ([-1e4, 1e4], 1e4),
    ([1e30, -1e30, 1e30], 1e30 + np.log(2)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("values", "want"), LOGSUMEXP)
def test_logsumexp_of_large_and_infinite_values(values, want, dtype, isa):
    """As torch.logsumexp, also where the values stand in different tiles."""
    eps = np.finfo(dtype).eps
    for filler in (0, 300):
        spread = np.concatenate([[v, *[-np.inf] * filler] for v in values])
        got = of_values("LogSumExp", spread, dtype=dtype)[0]
        assert got == pytest.approx(float(np.asarray(want, dtype)), rel=float(4 * eps), nan_ok=True)
