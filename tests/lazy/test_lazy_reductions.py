"""Reductions of LazyTensors by their table, with batches, ranges, weights and symbolic variables."""

import dense
import numpy as np
import pytest
from lazy_doors import assert_is

from kernelops import ArgumentError, KeywordError, Ranges
from kernelops.frontend.lazy.reductions import REDUCTION_METHODS
from kernelops.reductions.kinds import REDUCTIONS

rng = np.random.default_rng(2)
x, y = rng.uniform(-1, 1, (5, 2)), rng.uniform(-1, 1, (7, 2))
PATTERN = Ranges.from_mask([[0, 2], [2, 5]], [[0, 3], [3, 7]], [[True, False], [True, True]])
OF_LENGTH_ONE = ("logsumexp", "sumsoftmaxweight")  # reductions of formulas of length 1 alone
INTERLEAVED = Ranges.from_mask([1, 0, 1, 0, 1], [0, 1, 0, 1, 0, 1, 0], [[True, False], [True, True]])


def points(half, batch=()):
    """x_i and y_j, and their values as dense arrays."""
    xs, ys = np.broadcast_to(x, (*batch, 5, 2)).copy(), np.broadcast_to(y, (*batch, 7, 2)).copy()
    xs += np.arange(max(1, int(np.prod(batch)))).reshape(*batch, 1, 1) / 10
    tx, ty = half.array(xs[..., :, None, :]), half.array(ys[..., None, :, :])
    return half.LazyTensor(tx), half.LazyTensor(ty), xs[..., :, None, :], ys[..., None, :, :]


def formula(name):
    """A formula whose length and values suit the reduction."""
    return (lambda x, y: -2 * ((x - y) ** 2).sum(-1)) if name in OF_LENGTH_ONE else (lambda x, y: x * y - x)


def call(name, f, y_j, **options):
    """The reduction by a method, with K = 3 or the weight y_j if it takes one."""
    method = getattr(f, name)
    if "K" in name:
        return method(3, **options)
    return method(y_j, **options) if name.startswith("sumsoftmaxweight") else method(**options)


def expected(name, xd, yd, axis, mask=None):
    f = -2 * ((xd - yd) ** 2).sum(-1, keepdims=True) if name in OF_LENGTH_ONE else xd * yd - xd
    op = REDUCTION_METHODS[name].op
    weights = np.broadcast_to(yd, np.broadcast_shapes(xd.shape, yd.shape)) if name == "sumsoftmaxweight" else None
    with np.errstate(invalid="ignore"):
        return dense.reduce(op, f, axis, mask, weights, K=3)


def assert_same(half, got, wanted):
    got, wanted = ((g if isinstance(g, tuple) else (g,)) for g in (got, wanted))
    for g, w in zip(got, wanted, strict=True):
        assert ("int64" in str(g.dtype)) == (w.dtype.kind == "i")
        assert_is(half.host(g), w.astype(float) if w.dtype.kind == "f" else w)


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("name", REDUCTION_METHODS)
def test_every_reduction_by_every_name_of_its_axis(half, name, batch):
    x_i, y_j, xd, yd = points(half, batch)
    f, n = formula(name)(x_i, y_j), len(batch)
    for axis, from_end in ((0, -3), (1, -2)):
        want = expected(name, xd, yd, axis)
        for options in ({"axis": n + axis}, {"dim": n + axis}, {"axis": from_end}, {"dim": np.int64(n + axis)}):
            assert_same(half, call(name, f, y_j, **options), want)
        assert_same(half, call(f"{name}_reduction", f, y_j, axis=n + axis), want)
        assert_same(half, call(name, f, y_j, axis=n + axis, call=False)(), want)
        assert_same(half, call(name, f.T, y_j.T, axis=n + 1 - axis), want)


@pytest.mark.parametrize("ranges", [PATTERN, INTERLEAVED], ids=["blocks", "interleaved"])
@pytest.mark.parametrize("name", REDUCTION_METHODS)
def test_every_reduction_within_ranges(half, name, ranges):
    x_i, y_j, xd, yd = points(half)
    mask = ranges.mask(5, 7)
    f = formula(name)(x_i, y_j)
    f.ranges = ranges
    for axis in (0, 1):
        want = expected(name, xd, yd, axis, mask)
        assert_same(half, call(name, f, y_j, axis=axis), want)
        assert_same(half, call(name, f.T, y_j.T, axis=1 - axis), want)
        assert_same(half, call(name, formula(name)(x_i, y_j), y_j, axis=axis, ranges=ranges), want)


def test_the_tables_name_the_same_reductions():
    aliases = {"LogSumExpWeight": "LogSumExp", "SoftMax": "SumSoftMaxWeight"}
    assert {row.op for row in REDUCTION_METHODS.values()} == {aliases.get(op, op) for op in REDUCTIONS}


def test_a_weight_is_any_operand(half):
    x_i, y_j, xd, yd = points(half)
    f = formula("logsumexp")(x_i, y_j)
    values = -2 * ((xd - yd) ** 2).sum(-1, keepdims=True)
    ones = half.array(np.abs(yd))
    for weight, plain in ((abs(y_j), np.abs(yd)), (ones, np.abs(yd)), (2.5, np.full(1, 2.5)), ([1.0, 2.0], [1.0, 2.0])):
        plain = np.broadcast_to(plain, (5, 7, np.shape(plain)[-1]))
        want = dense.reduce("LogSumExp", values, 1, weights=plain).astype(float)
        assert_is(half.host(f.logsumexp(axis=1, weight=weight)), want)
        assert_is(half.host(f.logsumexp(axis=1, other=weight)), want)
        want = dense.reduce("SumSoftMaxWeight", values, 0, weights=plain).astype(float)
        assert_is(half.host(f.sumsoftmaxweight(weight, 0)), want)
        assert_is(half.host(f.sumsoftmaxweight(axis=0, weight=weight)), want)


def test_more_neighbours_than_points(half):
    x_i, y_j, xd, yd = points(half)
    distances = ((x_i - y_j) ** 2).sum(-1)
    order = ((xd - yd) ** 2).sum(-1).argsort(1)
    indices = half.host(distances.argKmin(9, axis=1))
    assert (indices[:, :7] == order).all() and (indices[:, 7:] == -1).all()
    values = half.host(distances.Kmin(9, axis=1))
    assert np.isinf(values[:, 7:]).all() and np.isfinite(values[:, :7]).all()
    assert distances.argKmin(np.int64(2), axis=1).shape == (5, 2)
    assert (x_i - y_j).Kmin(3, dim=1).shape == (5, 3, 2)


@pytest.mark.parametrize("scalar", ["np.int32(2)", "array"])
def test_whole_numbers_of_the_library(half, scalar):
    """K, axes, components and static parameters may be numbers of numpy and arrays of no dimensions."""

    def whole(n):
        return np.int32(n) if scalar == "np.int32(2)" else half.array(np.array(n))

    x_i, y_j, xs, ys = points(half)
    D = ((x_i - y_j) ** 2).sum(whole(-1))
    plain = ((xs - ys) ** 2).sum(-1)
    assert_is(half.host(D.Kmin(K=whole(2), dim=whole(1))), np.sort(plain, 1)[:, :2])
    assert_is(half.host(x_i[whole(1)].sum(axis=whole(0))), xs[..., 1].sum(0)[:, None])
    assert_is(half.host(x_i[whole(0) : whole(1)].sum(axis=0)), xs[:, 0, :1].sum(0)[None])
    assert_is(half.host(x_i.elem(whole(1)).sum(axis=0)), xs[..., 1].sum(0)[:, None])
    assert half.Vi(whole(0), whole(3)).ndim == 3
    genred = half.module.Genred("SqDist(x,y)", ["x = Vi(2)", "y = Vj(2)"], "KMin", axis=whole(1), opt_arg=whole(2))
    assert_is(half.host(genred(half.array(x), half.array(y))), np.sort(plain, 1)[:, :2])
    for bad in (half.array(np.array(2.0)), half.array(np.array(True)), half.array(np.array([2])), [2], 2.0):
        with pytest.raises(ArgumentError, match="K, a whole number >= 1"):
            D.Kmin(K=bad, dim=1)


def test_keywords_of_a_reduction(half):
    x_i, y_j, xd, yd = points(half)
    f = (x_i - y_j).exp()
    want = np.exp(xd - yd).sum(1)
    for options in (
        {"backend": "CPU"},
        {"dtype_acc": "float64"},
        {"use_double_acc": True},
        {"sum_scheme": "kahan_scheme"},
        {"device_id": -1},
        {"optional_flags": ["-x"], "enable_chunks": False, "use_fast_math": True},
    ):
        assert_is(half.host(f.sum(axis=1, **options)), want)
    out = half.array(np.empty((5, 2)))
    assert f.sum(axis=1, out=out) is out
    assert_is(half.host(out), want)
    late = f.sum(axis=1, call=False, out=half.array(np.empty((5, 2))))
    assert late(out=out) is out
    f.backend = "CPU"
    assert (f * 2).backend == "CPU"
    assert_is(half.host(f.sum(axis=1)), want)


def test_truncated_sums(half):
    x_i, y_j, xd, yd = points(half)
    K = (-((x_i - y_j) ** 2).sum(-1) * 50).exp()
    want = np.exp(-50 * ((xd - yd) ** 2).sum(-1))
    v = rng.random((7, 3))
    assert np.abs(half.host(K.sum(axis=1, truncate=1e-6))[:, 0] - want.sum(1)).max() < 1e-5
    image = half.host(K.__matmul__(half.array(v), truncate=1e-6))
    assert np.abs(image - want @ v).max() < 1e-5


# ---- ranges ----


def test_ranges_are_inherited_by_what_is_made_afterwards(half):
    x_i, y_j, _, _ = points(half)
    before = (x_i - y_j).exp()
    late = before * 2
    before.ranges = PATTERN
    assert late.ranges is None and x_i.ranges is None
    for made in (before * late, late * before, before.exp(), before[0], before.sum(-1), before.T.T, +before):
        assert made.ranges == PATTERN
    assert before.T.ranges == PATTERN.T
    assert "block-sparse" in repr(before) and "block-sparse" not in repr(late)
    copied = +before
    copied.ranges = None
    assert before.ranges is PATTERN and copied.ranges is None
    short = before[0].sum(-1)
    short.ranges = None
    assert before.ranges is PATTERN


def test_a_sum_over_one_component_is_another_object(half):
    """Setting the ranges of the one leaves the other as it was."""
    x_i, y_j, _, _ = points(half)
    K = ((x_i - y_j) ** 2).sum(-1)
    for made in (K.sum(-1), +K, K.factorize(K), K.auto_factorize()):
        made.ranges = PATTERN
        assert K.ranges is None


def test_ranges_as_six_arrays(half):
    x_i, y_j, xd, yd = points(half)
    f = (x_i - y_j).exp()
    six = PATTERN.as_tuple()
    want = (np.exp(xd - yd) * PATTERN.mask(5, 7)[..., None]).sum(1)
    given = [tuple(half.array(a.copy()) for a in six)] if half.name == "torch" else [six, list(six)]
    for ranges in given:
        f.ranges = ranges
        assert isinstance(f.ranges, Ranges)
        assert_is(half.host(f.sum(axis=1)), want)
        assert_is(half.host((f * 0 + f).sum(axis=1)), want)
    other = (x_i + y_j).exp()
    other.ranges = six  # equal ranges, made again, are the same
    assert (f * other).ranges == PATTERN


def test_different_ranges_do_not_join(half):
    x_i, y_j, _, _ = points(half)
    f, g = x_i - y_j, x_i + y_j
    f.ranges, g.ranges = PATTERN, INTERLEAVED
    with pytest.raises(ArgumentError, match="operands differ in ranges"):
        f * g
    with pytest.raises(ArgumentError, match="operands differ in ranges"):
        f[0].logsumexp(axis=1, weight=g)
    f.backend, h = "CPU", x_i - y_j
    h.backend = "GPU"
    with pytest.raises(ArgumentError, match="operands differ in backend: 'CPU' and 'GPU'"):
        f + h


def test_two_names_of_one_thing(half):
    x_i, y_j, _, _ = points(half)
    f = ((x_i - y_j) ** 2).sum(-1)
    for bad in (
        lambda: f.sum(0, dim=1),
        lambda: f.min(axis=0, dim=0),
        lambda: f.logsumexp(axis=1, weight=y_j, other=y_j),
        lambda: f.sumsoftmaxweight(y_j, axis=1, other=y_j),
    ):
        with pytest.raises(KeywordError, match="two names of one thing|got both"):
            bad()
