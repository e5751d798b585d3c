"""Symmetric sums under ranges of whole tiles evaluate each pair of points once: nobody can tell."""

import numpy as np
import pytest
import usual
from mirrored_sums import GAUSS, NAMES, declared, points, summed
from range_patterns import cuts, held

from kernelops import KernelOperator, Ranges, _core
from kernelops.engines import cpu
from kernelops.formula.parse import parse

TILE, WORK = _core.TILE, cpu.SYMMETRIC_WORK
SIZES = (1024, 1025, 1300, 1536)  # even and odd numbers of tiles; the last one whole, of one point, of some
TABLES = {  # name -> (tiles, random numbers) -> which tiles meet
    "few": lambda t, draw: draw.random((t, t)) < 0.3,
    "no diagonal": lambda t, draw: (draw.random((t, t)) < 0.6) & ~np.eye(t, dtype=bool),
    "the diagonal": lambda t, draw: np.eye(t, dtype=bool),
    "a corner": lambda t, draw: np.add.outer(range(t), range(t)) == t - 1,
    "a row of tiles alone": lambda t, draw: np.logical_or.outer(np.arange(t) == t - 1, np.arange(t) == t - 1),
    "nothing": lambda t, draw: np.zeros((t, t), bool),
    "everything": lambda t, draw: np.ones((t, t), bool),
}


@pytest.fixture(autouse=True)
def few_pairs_are_enough(monkeypatch):
    """Small sums go the way of large ones."""
    monkeypatch.setattr(cpu, "SYMMETRIC_WORK", 0)


def tiled(n, table, order=None, seed=0):
    """Ranges of whole tiles that meet where a table, made symmetric, says so."""
    count = -(-n // TILE)
    keep = TABLES[table](count, np.random.default_rng(seed))
    keep |= keep.T
    edges = np.minimum(np.arange(count + 1) * TILE, n)
    tiles = np.stack([edges[:-1], edges[1:]], axis=1)
    ranges = Ranges.from_mask(tiles, tiles, keep)
    return ranges if order is None else ranges.ordered(order, order)


def gauss(x):
    x = x.astype(np.float64)
    return np.exp(-sum(np.subtract.outer(c, c) ** 2 for c in x.T))


def assert_sums(got, K, b, units=32):
    """got is K b; half of the units for adding and half for the terms, as in test_mirrored."""
    b = b.astype(np.float64)
    size = np.abs(K) @ np.abs(b)
    error = np.abs(got - K @ b)
    allowed = units * np.finfo(got.dtype).eps * size
    assert (error <= allowed).all(), f"{(error / np.maximum(size, 1e-300)).max():.1e} of the sum of magnitudes"


def both_ways(n, ranges, told, v=2, dtype="float64", axis=1):
    """The sums with x in the place of y, which evaluate each pair once, and with a copy of x, which do not."""
    names, x, b = declared(3, max(v, 1))[:3], points(n, 3, dtype), points(n, max(v, 1), dtype, 1)
    names = names if axis == 1 else [a.translate(str.maketrans("ij", "ji")) for a in names]
    text = GAUSS if v else "Exp(-SqDist(x,y))"
    found = [summed(text, names, [x, y, b], axis, ranges=ranges) for y in (x, x.copy())]
    assert told[-2:] == [True, False]
    K = gauss(x) * held(ranges, n, n)
    for f in found:
        assert f.dtype == dtype
        assert_sums(f, K, b if v else np.ones((n, 1)))
    return found[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("table", TABLES)
def test_tables_of_tiles(table, dtype, isa, told):
    for n in SIZES:
        both_ways(n, tiled(n, table, seed=n), told, dtype=dtype, axis=n % 2)


@pytest.mark.parametrize("v", [0, 1, 3, 5, 12])  # 0: a plain sum of the kernel
def test_widths(v, isa, told):
    for dtype in ("float32", "float64"):
        for axis in (0, 1):
            both_ways(1281, tiled(1281, "few"), told, v, dtype, axis)


@pytest.mark.parametrize("n", SIZES)
def test_in_an_order(n, told):
    """One order of rows and columns: x is sorted once, and still is y."""
    order = np.random.default_rng(n).permutation(n)
    for given in (order, order.astype(np.int32), order.tolist()):
        both_ways(n, tiled(n, "few", given), told)
    there = tiled(n, "few").ordered(order, order.copy())
    both_ways(n, there, told)


def test_a_radius(told):
    x, b = points(1500, 2), points(1500, 2, seed=1)
    ranges = Ranges.from_radius(x, x, 0.4)
    assert 0 < ranges.density(1500, 1500) < 0.9
    found = [summed(GAUSS, declared(2, 2)[:3], [x, y, b], ranges=ranges) for y in (x, x.copy())]
    assert told == [True, False]
    for f in found:
        assert_sums(f, gauss(x) * held(ranges, 1500, 1500), b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", SIZES)
def test_everything_is_dense_to_the_bit(n, dtype, isa, told):
    x, b = points(n, 3, dtype), points(n, 2, dtype, 1)
    for y in (x, x.copy()):
        want = summed(GAUSS, NAMES, [x, y, b]).tobytes()
        same = np.arange(n)
        for ranges in (Ranges.dense(n, n), tiled(n, "everything"), Ranges.dense(n, n).ordered(same, same)):
            assert summed(GAUSS, NAMES, [x, y, b], ranges=ranges).tobytes() == want
    assert told == [True] * 4 + [False] * 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("table", ["few", "no diagonal", "the diagonal"])
def test_threads_and_repetition_change_no_bit(table, dtype, isa, told, monkeypatch):
    n, found = 2600, set()
    x, b = points(n, dtype=dtype), points(n, 2, dtype, 1)
    monkeypatch.setattr(cpu, "SERIAL_BELOW", 0)
    for count in (1, 2, 3, 7, 1):
        monkeypatch.setattr(cpu, "thread_count", lambda count=count: count)
        found.add(summed(GAUSS, NAMES, [x, x, b], ranges=tiled(n, table)).tobytes())
    assert len(found) == 1 and all(told)


def test_batches(told):
    n = 1030
    x, b = points(n, batch=(2, 1)), points(n, 2, seed=1, batch=(3,))
    for ranges in (tiled(n, "few"), tiled(n, "few", np.random.default_rng(0).permutation(n))):
        found = summed(GAUSS, NAMES, [x, x, b], ranges=ranges)
        assert found.shape == (2, 3, n, 2) and told[-1]
        for k, l in np.ndindex(2, 3):
            alone = summed(GAUSS, NAMES, [x[k, 0], x[k, 0], b[l]], ranges=ranges)
            assert alone.tobytes() == found[k, l].tobytes()
            assert_sums(alone, gauss(x[k, 0]) * held(ranges, n, n), b[l])


def test_whole_numbers_count_every_pair_once():
    """Of which nothing is rounded, for many tables."""
    names = usual.aliases(1, 1)
    program = cpu.prepare("sum", parse("Square(x*y+1)*b", names).expr, None, False, 1).encoded
    for seed in range(40):
        draw = np.random.default_rng(seed)
        n = int(draw.integers(1, 3000))
        count = -(-n // TILE)
        met = np.triu(draw.random((count, count)) < draw.random())
        met |= met.T
        x, b = draw.integers(1, 100, (2, n, 1)).astype(float)
        found = _core.reduce(
            program, (x, x, b), (), n, n, None, float64=True, mirrored=True, met=np.ascontiguousarray(met, np.uint8)
        )[0]
        tile = np.arange(n) // TILE
        sums = np.zeros((3, count))
        for k, f in enumerate((x * x * b, x * b, b)):
            np.add.at(sums[k], tile, f[:, 0])
        square, once, plain = (met @ s for s in sums)
        want = x[:, 0] ** 2 * square[tile] + 2 * x[:, 0] * once[tile] + plain[tile]
        np.testing.assert_array_equal(found[:, 0], want)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_where_it_meets(bad, told):
    n = 1300
    ranges = tiled(n, "few")
    for place in "xb":
        data = {"x": points(n), "b": points(n, 2, seed=1)}
        data[place][700] = bad
        for formula in (GAUSS, "Square(1+(x|y))*b", "Exp(-SqDist(x,y))"):
            with np.errstate(all="ignore"):
                found, want = (
                    summed(formula, NAMES, [data["x"], y, data["b"]], ranges=ranges)
                    for y in (data["x"], data["x"].copy())
                )
            assert told[-2:] == [True, False]
            for test in (np.isnan, np.isposinf, np.isneginf):
                np.testing.assert_array_equal(test(found), test(want))
            touched = held(ranges, n, n)[:, 700]
            touched[700] = True
            assert np.isfinite(found[~touched]).all()


def test_where_each_pair_is_evaluated_twice(told):
    """Tiles that are not whole, a pattern or orders that are not symmetric, other ways of adding."""
    n = 1300
    x, b = points(n), points(n, 2, seed=1)
    order = np.random.default_rng(0).permutation(n)
    lopsided = np.tri(6, dtype=bool)
    edges = np.minimum(np.arange(7) * TILE, n)
    tiles = np.stack([edges[:-1], edges[1:]], axis=1)
    patterns = [
        Ranges.band(n, 100, 100),
        Ranges.from_mask(tiles, tiles, lopsided),
        Ranges.from_mask(tiles[:3] - [0, 1], tiles[:3] - [0, 1], np.eye(3, dtype=bool)),
        tiled(n, "few").ordered(order_i=order),
        tiled(n, "few").ordered(order_j=order),
        tiled(n, "few").ordered(order, order[::-1].copy()),
    ]
    for ranges in patterns:
        found = summed(GAUSS, NAMES, [x, x, b], ranges=ranges)
        assert_sums(found, gauss(x) * held(ranges, n, n), b)
    for options in ({"sum_scheme": "kahan_scheme"}, {"dtype_acc": "float64"}):
        summed(GAUSS, NAMES, [x, x, b], ranges=tiled(n, "few"), **options)
    assert not any(told)


def test_few_pairs_take_the_ordinary_way(told, monkeypatch):
    """On both sides of the least work, which counts for every strip (here a tile each) and every result."""
    monkeypatch.setattr(cpu, "SYMMETRIC_WORK", WORK)
    n, tiles = 5 * TILE, np.arange(5)
    cost = cpu.prepare("sum", parse(GAUSS, NAMES).expr, None, False, 1).encoded.cost
    x, b = points(n), points(n, 2, seed=1)
    blocks = np.stack([tiles, tiles + 1], axis=1) * TILE
    for width in range(5):
        ranges = Ranges.from_mask(blocks, blocks, abs(np.subtract.outer(tiles, tiles)) <= width)
        assert_sums(summed(GAUSS, NAMES, [x, x, b], ranges=ranges), gauss(x) * held(ranges, n, n), b)
        assert told[-1] == (cost * ranges.pairs >= WORK * 5 * 2 * n)
    assert told[0] is False and told[-1] is True


def test_all_pairs_in_blocks_that_are_no_tiles(told):
    n = 1300
    x, b = points(n), points(n, 2, seed=1)
    ranges = Ranges.from_mask(cuts(n, 7, 0), cuts(n, 9, 1), np.ones((7, 9), bool))
    found, want = (summed(GAUSS, NAMES, [x, x, b], ranges=r) for r in (ranges, None))
    assert told == [True, True] and found.tobytes() == want.tobytes()


def test_operators(told):
    n = 1300
    x, b = points(n), points(n, 3, seed=1)
    order = np.random.default_rng(0).permutation(n)
    ranges = tiled(n, "few", order)
    K = gauss(x) * held(ranges, n, n)
    A = KernelOperator(GAUSS, declared(3, 1)[:3], "b", x, x, alpha=0.5, ranges=ranges)
    for found in (A @ b, A.T @ b):
        assert_sums(found - 0.5 * b, K, b, 64)  # alpha b is added, and taken off again
    assert told == [True, True]


def test_misuse_is_refused():
    x, names = np.ones((600, 1)), usual.aliases(1, 1)
    program = cpu.prepare("sum", parse(usual.GAUSS, names).expr, None, False, 1).encoded
    for met in (np.ones((2, 3), np.uint8), np.ones((2, 2), np.uint8), np.ones(9, np.uint8)):
        with pytest.raises(ValueError, match="a table of .* tiles for 3"):
            _core.reduce(program, (x, x, x), (), 600, 600, None, float64=True, mirrored=True, met=met)
    with pytest.raises(ValueError, match="a table of"):
        everything = cpu._dense_work(600, 600, 8)
        _core.reduce(program, (x, x, x), (), 600, 600, everything, float64=True, met=np.ones((3, 3), np.uint8))
