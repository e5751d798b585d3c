"""Fat instructions compute what the plain instructions would: other rounding, nothing else."""

import numpy as np
import pytest
import usual
from bound_reduction import BoundReduction

from kernelops.formula.parse import parse
from kernelops.program.compile import compile_exp, compile_sum
from kernelops.ranges import Ranges

ROWS = (1, 4, 13)  # a tile's remainder, a block of rows, both
COLUMNS = (1, 15, 17, 127, 256, 300)  # less than a register, a tail, most of a tile, a tile, more

# instruction -> the formula that has it, and the same where something of value 0 hides the pattern
PAIRS = {
    "SqDist": ("SqDist(x,y)", "Sum(Square(x-y+0))"),
    "Dot": ("x|y", "Sum(x*y+0)"),
    "L1Dist": ("Sum(Abs(x-y))", "Sum(Abs(x-y+0))"),
    "WeightedSqDist": ("WeightedSqDist(w,x,y)", "Sum(w*Square(x-y+0))"),
    "ExpScaled": ("Exp(g*SqDist(x,y))", "Exp(g*SqDist(x,y)+0)"),
}
OUTPUTS = {
    "OutDot": (usual.GAUSS, "Exp(-SqDist(x,y))*b+0"),
    "OutDiff": ("Exp(-SqDist(x,y))*(x-y)", "Exp(-SqDist(x,y))*(x-y)+0"),
}


def aliases(d, v, weights):
    return [f"x = Vi({d})", f"y = Vj({d})", f"b = Vj({v})", "g = Pm(1)", f"w = {weights}({d})"]


def arrays(d, v, weights, m, n, dtype):
    rng = np.random.default_rng(d + n)
    x, y = (rng.standard_normal((k, d)) / np.sqrt(d) for k in (m, n))
    w = rng.random((m, d) if weights == "Vi" else d)
    return [a.astype(dtype) for a in (x, y, rng.standard_normal((n, v)), np.array([-0.7]), w)]


def reduced(text, op, data, names):
    formula = parse(text, names)
    used = {v.position for v in formula.expr.vars}
    return BoundReduction(
        formula.expr, op, 1, [a if k in used else None for k, a in enumerate(data)][: max(used) + 1]
    )()


def operations(text, names):
    return {i.op for i in compile_sum(parse(text, names).expr, 1).pair.code}


def choices():
    """Instruction, length of the vectors and where the weights live; products of numbers are plain instructions."""
    for name in PAIRS:
        for d in (2, 3, 17, 31) if name in ("Dot", "WeightedSqDist") else (1, 2, 3, 17, 31):
            for weights in ("Vi", "Pm") if name == "WeightedSqDist" else ("Vi",):
                yield name, d, weights


@pytest.mark.parametrize(("name", "d", "weights"), list(choices()))
def test_values_of_pairs(name, d, weights, isa):
    names = aliases(d, 1, weights)
    fat, plain = PAIRS[name]
    assert name in operations(fat, names) and name not in operations(plain, names)
    for dtype in ("float32", "float64"):
        for m in ROWS:
            for n in COLUMNS:
                data = arrays(d, 1, weights, m, n, dtype)
                for op in ("Min", "Max"):
                    found, want = (reduced(text, op, data, names).astype(np.float64) for text in (fat, plain))
                    # d terms, each of at most (|x| + |y|)^2, added one after another in two ways
                    size = (abs(data[0]).max() + abs(data[1]).max()) ** 2 * d
                    assert abs(found - want).max() <= 2 * (d + 4) * np.finfo(dtype).eps * max(size, 1)


@pytest.mark.parametrize("v", [1, 2, 3, 4, 7, 16, 33])
@pytest.mark.parametrize("name", OUTPUTS)
def test_sums(name, v, isa):
    names = aliases(v, v, "Vi")
    fat, plain = OUTPUTS[name]
    # for numbers x - y is computed once, for the distance too
    assert (name in operations(fat, names)) == (name != "OutDiff" or v > 1) and name not in operations(plain, names)
    for dtype in ("float32", "float64"):
        for m in ROWS:
            for n in COLUMNS:
                data = arrays(v, v, "Vi", m, n, dtype)
                found, want = (reduced(text, "Sum", data, names) for text in (fat, plain))
                x, y, b, *_ = (a.astype(np.float64) for a in data)
                size = np.abs(x).max() + np.abs(y).max() + np.abs(b).max()
                # n terms below size, each right to a few eps (v of them in the distance), added in two orders
                assert abs(found - want).max() <= (2 * v + 40) * np.finfo(dtype).eps * size * np.sqrt(n)


# sums of Gaussians that run as one loop, and the same where something of value 0 hides the distance
GAUSSIANS = {
    "Exp(g*SqDist(x,y))*b": "Exp(g*Sum(Square(x-y+0)))*b",
    "Exp(g*SqDist(x,y))": "Exp(g*Sum(Square(x-y+0)))",
    "Exp(-s*SqDist(x,y))*b": "Exp(-s*Sum(Square(x-y+0)))*b",
}


@pytest.mark.parametrize("d", [1, 2, 3, 17, 31])
@pytest.mark.parametrize("text", GAUSSIANS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_of_gaussians(text, d, dtype, isa):
    names = [*aliases(d, 1, "Vi"), "s = Vi(1)"]
    assert [i.op for i in compile_sum(parse(text, names).expr, 1).pair.code][:2] == ["SqDist", "ExpScaled"]
    for m in ROWS:
        for n in COLUMNS:
            data = [*arrays(d, 1, "Vi", m, n, dtype), np.linspace(0.1, 2, m)[:, None].astype(dtype)]
            found, want = (reduced(t, "Sum", data, names) for t in (text, GAUSSIANS[text]))
            # terms of at most |b|; in exp a distance right to a few eps, which its own size makes smaller again
            assert abs(found - want).max() <= (2 * d + 40) * np.finfo(dtype).eps * max(abs(data[2]).max(), 1) * n


def test_what_lies_past_the_last_column_of_a_gaussian(isa):
    """A tile's columns from 3 to 20 only: the ones beside them are no numbers."""
    rng = np.random.default_rng(0)
    x, y, b = (rng.standard_normal((k, c)).astype(np.float32) for k, c in ((7, 3), (40, 3), (40, 1)))
    y[:3] = y[20:] = b[:3] = b[20:] = np.nan
    names = aliases(3, 1, "Vi")
    f = parse(usual.GAUSS, names).expr
    ranges = [np.array(a, np.int32) for a in ([[0, 7]], [1], [[3, 20]], [[3, 20]], [1], [[0, 7]])]
    found = BoundReduction(f, "Sum", 1, [x, y, b], ranges=Ranges.from_tuple(ranges))()
    want = np.exp(-((x[:, None] - y[3:20]).astype(np.float64) ** 2).sum(-1)) @ b[3:20]
    np.testing.assert_allclose(found, want, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exponents_with_a_scale(isa, dtype):
    """A scale, positive or negative, taken into sums of exponentials, also where exp leaves the range of numbers."""
    x = np.concatenate([np.linspace(-3, 3, 301), [0.0, 1e6, -1e6, 1e30]]).astype(dtype)[:, None]
    for c in (-2.0, 0.5, 40.0):
        f, plain = (parse(t.format(c=c), ["x = Vj(1)", "i = Vi(1)"]).expr for t in ("{c}*(x+i)", "{c}*(x+i)+0*i"))
        assert len(next(k for k in compile_exp(f, None, False, 1).pair.code if k.op == "OutExp").args) == 2
        for data in (x[:301], x):
            zero = np.zeros((2, 1), dtype)
            found, want = (BoundReduction(t, "LogSumExp", 1, [data, zero])() for t in (f, plain))
            np.testing.assert_allclose(found, want, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_scaled_exponential_at_the_ends(isa, dtype):
    info = np.finfo(dtype)
    x = np.array(
        [0.0, -0.0, np.inf, -np.inf, np.nan, 1e4, -1e4, info.max, info.min, info.tiny, -info.tiny, 1e-3], dtype
    )
    f = parse("Exp(2*(i+x))", ["i = Vi(1)", "x = Vj(1)"]).expr
    with np.errstate(all="ignore"):
        want = np.exp(2 * x.astype(np.float64)).astype(dtype)
    found = np.array(
        [BoundReduction(f, "Sum", 1, [np.zeros((1, 1), dtype), x[[k], None]])()[0, 0] for k in range(len(x))]
    )
    np.testing.assert_allclose(found, want, rtol=4 * info.eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_largest_scale_of_an_exponential(isa, dtype):
    """g log2(e) is no number any more, but g*0 is 0, and g*tiny too is what it was."""
    info = np.finfo(dtype)
    f = parse("Exp(g*(i+x))", ["i = Vi(1)", "x = Vj(1)", "g = Pm(1)"]).expr
    for g in (info.max, info.min):
        for x in (0.0, info.tiny, -info.tiny):
            data = [np.full((1, 1), a, dtype) for a in (0, x, g)]
            found = BoundReduction(f, "Sum", 1, [data[0], data[1], data[2][0]])()
            # the argument g x is rounded: by half an eps of it, at most 4
            np.testing.assert_allclose(found, np.exp(np.longdouble(g) * np.longdouble(x)), rtol=4 * info.eps)


@pytest.mark.parametrize("name", OUTPUTS)
def test_sums_in_float64_of_float32_terms(name):
    """1 + 4096 terms of 2^-25 each: in float32 all but the first would be lost."""
    y = np.full((4097, 5), 2.0**-25, np.float32)
    y[0] = 1
    x, b = np.zeros((5, 5), np.float32), y
    text = {"OutDot": "Exp(0*SqDist(x,y))*b", "OutDiff": "Exp(0*SqDist(x,y))*(x-y)"}[name]
    names = aliases(5, 5, "Vi")
    f = parse(text.replace("0*", "g*"), names)
    data = [x, y, b, np.zeros(1, np.float32)] if name == "OutDot" else [x, y, None, np.zeros(1, np.float32)]
    found = BoundReduction(f.expr, "Sum", 1, data, dtype_acc="float64")(np.dtype(np.float32))
    np.testing.assert_allclose(abs(found), 1 + 4096 * 2.0**-25, rtol=2.0**-23)
