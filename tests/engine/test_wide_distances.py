"""Squared distances of long vectors as |x|^2 + |y|^2 - 2 x.y: never worse than what wide.h promises."""

import numpy as np
import pytest
import usual
from bound_reduction import BoundReduction
from judges import assert_sum_close

from kernelops import Ranges
from kernelops.engines import cpu
from kernelops.formula.parse import parse
from kernelops.program.compile import compile_sum
from kernelops.program.lowering import WIDE_FROM


def distances(x, y, axis=1, **options):
    """All squared distances, (..., M, N), by one sum: the columns are multiplied by the unit vectors."""
    d, n = x.shape[-1], y.shape[-2]
    names = [f"x = Vi({d})", f"y = Vj({d})", f"e = Vj({n})"]
    if axis == 0:
        names = [f"x = Vj({d})", f"y = Vi({d})", f"e = Vi({n})"]
    expr = parse("SqDist(x,y)*e", names).expr
    return BoundReduction(expr, "Sum", axis, [x, y, np.eye(n, dtype=x.dtype)], **options)()


def truth(x, y):
    x, y = x.astype(np.longdouble), y.astype(np.longdouble)
    return ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)


def assert_within_the_bound(found, x, y):
    """Relative error at most 4 (D + 6) u, and u more for the rounding of the bound's own products."""
    want, u = truth(x, y), np.finfo(x.dtype).eps / 2
    worst = float((abs(found - want) / np.where(want > 0, want, 1)).max())
    assert worst <= (4 * (x.shape[-1] + 6) + 1) * u, f"{worst / u:.0f} u"
    assert (found[want == 0] == 0).all(), "points that are equal"


def clouds(kind, d, dtype, m=37, n=290):
    rng = np.random.default_rng(d)
    x, y = rng.random((m, d)), rng.random((n, d))
    if kind == "far from 0":
        x, y = x + 1e6, y + 1e6
    elif kind == "near-equal":
        x = y[:m] + 1e-4 * rng.standard_normal((m, d))
        x[::3] = y[:m:3]
    elif kind == "clusters":
        centres = 100 * rng.standard_normal((3, d))
        x, y = (centres[rng.integers(3, size=len(a))] + 0.01 * a for a in (x, y))
    elif kind == "one far point":
        y[17] += 1e5
    elif kind == "tiny":
        x, y = 1e-12 * x, 1e-12 * y
    return x.astype(dtype), y.astype(dtype)


@pytest.mark.parametrize("kind", ["cube", "far from 0", "near-equal", "clusters", "one far point", "tiny"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bound_holds(kind, dtype, isa):
    for d in (WIDE_FROM - 1, WIDE_FROM, 100, 1030):
        x, y = clouds(kind, d, dtype, *((37, 290) if d <= 100 else (9, 70)))
        assert_within_the_bound(distances(x, y), x, y)


def test_where_the_product_form_begins():
    for d in (WIDE_FROM - 1, WIDE_FROM):
        code = compile_sum(parse("SqDist(x,y)", [f"x = Vi({d})", f"y = Vj({d})"]).expr, 1).pair.code
        assert [i.op for i in code] == ["SqDist" if d < WIDE_FROM else "WideSqDist", "OutSum"]


def test_the_same_vectors_are_shifted_once():
    text = f"Exp(-SqDist(x,y))*SqDist(x,z)+SqDist(x,y)+SqDist(2*x,y)*({' + '.join(['SqDist(x,z)'] * 2)})"
    names = ["x = Vi(40)", "y = Vj(40)", "z = Vj(40)"]
    program = compile_sum(parse(text, names).expr, 1)
    assert len(program.centred) == 3, "x with y, x with z, 2*x with y"
    rng = np.random.default_rng(0)
    x, y, z = (rng.random((n, 40)) / 5 for n in (20, 300, 300))
    xy, xz, xxy = truth(x, y), truth(x, z), truth(2 * x, y)
    found = BoundReduction(parse(text, names).expr, "Sum", 1, [x, y, z])()
    assert_sum_close(found[:, 0], np.exp(-xy) * xz + xy + xxy * 2 * xz, 1, units=4 * 46)


@pytest.mark.parametrize("m", [1, 3, 8, 63, 64, 65, 130])
@pytest.mark.parametrize("n", [1, 16, 31, 257])
def test_any_number_of_rows_and_columns(m, n, isa):
    x, y = clouds("cube", 40, "float32", m, n)
    assert_within_the_bound(distances(x, y), x, y)
    assert_within_the_bound(distances(x, y, axis=0), x, y)


def test_every_batch_element_has_its_own_centre():
    rng = np.random.default_rng(0)
    shift = np.array([0.0, 1e5, -3e6])[:, None, None]
    x, y = ((rng.random((3, n, 50)) + shift).astype("float32") for n in (20, 270))
    found = distances(x, y)
    for k in range(3):
        assert_within_the_bound(found[k], x[k], y[k])


def test_a_pair_does_not_depend_on_its_neighbours():
    """A point that is close to one column changes nothing for the others of its register."""
    x, y = clouds("cube", 64, "float32", 16, 256)
    y[100] = x[3]
    before = distances(x, y)
    assert before[3, 100] == 0
    kept = [k for k in range(256) if k != 100]
    assert_within_the_bound(before[:, kept], x, y[kept])


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("where", ["row", "column"])
def test_what_is_not_finite_stays_where_it_is(value, where, isa):
    x, y = clouds("cube", 40, "float64")
    (x if where == "row" else y)[5, 7] = value
    expr = parse("SqDist(x,y)", ["x = Vi(40)", "y = Vj(40)"]).expr
    for j in (4, 5, 6):
        one = BoundReduction(expr, "Sum", 1, [x, y[[j]]])()[:, 0]
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(one, truth(x, y[[j]])[:, 0].astype(float), rtol=4 * 46 * 2.0**-53)
    sums = BoundReduction(expr, "Sum", 1, [x, y])()[:, 0]
    spoiled = np.arange(len(x)) == 5 if where == "row" else np.ones(len(x), bool)
    np.testing.assert_array_equal(~np.isfinite(sums), spoiled)


@pytest.mark.parametrize("d", [48, 300])
def test_ranges_that_begin_within_a_tile(d, isa):
    x, y = clouds("cube", d, "float32", 40, 600)
    labels_i, labels_j = np.repeat([0, 1], [25, 15]), np.repeat([0, 1, 2, 3], [3, 197, 311, 89])
    keep = np.array([[False, True, False, True], [True, False, True, False]])
    ends_i, ends_j = np.cumsum([0, 25, 15]), np.cumsum([0, 3, 197, 311, 89])
    blocks_i, blocks_j = (np.stack([e[:-1], e[1:]], axis=1) for e in (ends_i, ends_j))
    ranges, met = Ranges.from_mask(blocks_i, blocks_j, keep), keep[labels_i][:, labels_j]
    found = distances(x, y, ranges=ranges)
    assert (found[~met] == 0).all()
    want = truth(x, y)
    assert (abs(found - want)[met] <= (4 * (d + 6) + 1) * 2.0**-24 * want[met]).all()


def test_gaussians_in_the_unit_cube():
    """float32 products, sigma = sqrt(D)/10: at most 3e-7 of the sum of the terms' magnitudes."""
    rng = np.random.default_rng(0)
    for d in (1, 3, 10, 30, 100, 1000):
        x, y = (rng.random((1100, d)).astype("float32") for _ in range(2))
        b = rng.standard_normal((1100, 1)).astype("float32")
        names = [f"x = Vi({d})", f"y = Vj({d})", "b = Vj(1)", "g = Pm(1)"]
        expr, g = parse(usual.SCALED_GAUSS, names).expr, np.float32([50 / d])
        for other in (y, x):  # the symmetric sum too
            found = BoundReduction(expr, "Sum", 1, [x, other, b, g])()
            p, q = x.astype(float), other.astype(float)
            squares = (p**2).sum(1)[:, None] + (q**2).sum(1) - 2 * p @ q.T  # float64 loses far less than 3e-7 by it
            terms = np.exp(-float(g[0]) * squares)[..., None] * b
            error = abs(found - terms.sum(1)) / abs(terms).sum(1)
            assert error.max() <= 3e-7


def test_the_mirrored_sum_takes_it_too():
    rng = np.random.default_rng(0)
    x = rng.random((cpu.SYMMETRIC_FROM + 7, 40))
    b = rng.standard_normal((len(x), 3))
    expr = parse(usual.GAUSS, usual.aliases(40, 3)).expr
    found, other = (BoundReduction(expr, "Sum", 1, [x, y, b])() for y in (x, x.copy()))
    np.testing.assert_allclose(found, other, rtol=0, atol=1e-12 * abs(other).max())
