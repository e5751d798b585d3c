"""The elementary functions of the engine: what they are in NumPy, how wrong they may be, where they are tried.

The oracle is NumPy in float64 for float32 and in the 64 bits of an x87 long double for float64: wrong by 1e-8 and by
1e-3 units in the last place (ulp) at most.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

WIDE = {"float32": np.dtype(np.float64), "float64": np.dtype(np.longdouble)}
needs_wide = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="a long double is no wider than a double: no oracle for float64"
)
DTYPES = ["float32", pytest.param("float64", marks=needs_wide)]
ROUNDED = 0.5 + 2.0**-10  # correctly rounded, and the oracle's own rounding


@dataclass(frozen=True, eq=False)
class Function:
    """An operation of one operand.

    Attributes
    ----------
    truth : callable
        Its value in NumPy.
    bound : float
        The most ulp, for every operand of either type.
    thresholds : dict
        dtype -> operands around which every number is tried: where the result overflows or underflows.
    interval : dict
        dtype -> interval that is tried evenly, the one that matters in use.
    """

    op: str
    truth: Any
    bound: float
    interval: dict
    thresholds: dict | None = None
    params: tuple = ()

    @property
    def name(self):
        return ",".join([self.op, *map(str, self.params)])


def both(low, high):
    return {"float32": (low, high), "float64": (low, high)}


FUNCTIONS = [
    Function(
        "Exp",
        np.exp,
        2,
        {"float32": (-104, 89), "float64": (-746, 710)},
        # overflow; the last normal result; the smallest subnormal; half of it, which rounds to 0
        {
            "float32": (88.722839, -87.336545, -103.278929, -103.972077),
            "float64": (709.782712893384, -708.3964185322641, -744.4400719213812, -745.1332191019411),
        },
    ),
    Function("Log", np.log, 2, both(0.25, 4), both(1, 0.5**0.5)),
    # correctly rounded but for float32 with AVX-512: an estimate and a Newton step, whose own error is 2^-4
    Function("Sqrt", np.sqrt, 0.5625, both(0, 4)),
    Function("Rsqrt", lambda t: np.where(t == 0, 0, 1 / np.sqrt(t)), 2, both(0.1, 4)),
    Function("Inv", lambda t: 1 / t, ROUNDED, both(-3, 3), {"float32": (2.0**-128, 2.0**126)}),
    Function("Sin", np.sin, 2, {"float32": (-1e5, 1e5), "float64": (-1e6, 1e6)}, both(np.pi, np.pi / 2)),
    Function("Cos", np.cos, 2, {"float32": (-1e5, 1e5), "float64": (-1e6, 1e6)}, both(np.pi, np.pi / 2)),
    Function("Floor", np.floor, 0, both(-5, 5), both(1, 2)),
    Function("Tanh", np.tanh, 2, both(-4, 4), both(0.625, 1)),
    # up to |t| = 1 a series: a rounding of the sum for each of the few terms that count
    Function("SinXDivX", lambda t: np.where(t == 0, 1, np.sin(t) / t), 4, both(-40, 40), both(1, np.pi), (0,)),
]


def patterns(dtype, count):
    """Numbers whose bit patterns are spread evenly over all that there are: every exponent, both signs, nan too."""
    unsigned = np.uint32 if dtype == "float32" else np.uint64
    step = (np.iinfo(unsigned).max // count) | 1
    return (np.arange(count, dtype=np.uint64) * np.uint64(step)).astype(unsigned).view(dtype)


def neighbours(at, dtype, count=1000):
    """The numbers next to at on both sides, and their negatives."""
    signed = np.int32 if dtype == "float32" else np.int64
    near = (np.array(at, dtype).view(signed) + np.arange(-count, count + 1, dtype=signed)).view(dtype)
    return np.r_[near, -near]


def ends(dtype):
    f = np.finfo(dtype)
    positive = [0, f.smallest_subnormal, 3 * f.smallest_subnormal, f.tiny, f.eps, 0.5, 1, 3, 1e5, 1e10, 1e30, f.max]
    return np.array([*positive, np.inf, *(-v for v in positive), -np.inf, np.nan], dtype)


def near_multiples(dtype, largest):
    """The numbers next to multiples of pi/2, where a sine or a cosine is small and the reduction loses digits."""
    wide = WIDE[dtype].type
    k = np.unique(np.geomspace(1, largest / 1.6, 20000).astype(np.int64))
    near = (k.astype(wide) * (2 * np.arctan(wide(1)))).astype(dtype)
    return np.r_[near, np.nextafter(near, np.inf, dtype=dtype), -near]


@cache
def operands(function, dtype):
    rng, f = np.random.default_rng(0), np.finfo(dtype)
    low, high = function.interval[dtype]
    points = [patterns(dtype, 2**20 if dtype == "float32" else 2**18), rng.uniform(low, high, 2**18), ends(dtype)]
    points += [neighbours(t, dtype) for t in (function.thresholds or {}).get(dtype, ())]
    points += [neighbours(t, dtype) for t in (f.tiny, 3000 * f.smallest_subnormal)]
    if function.op in ("Sin", "Cos"):
        points.append(near_multiples(dtype, high))
    return np.concatenate([p.astype(dtype) for p in points])


@cache
def wanted(function, dtype):
    with np.errstate(all="ignore"):
        return function.truth(operands(function, dtype).astype(WIDE[dtype]))


# The most ulp of a power. In float32 it is computed in double and rounded once; in float64 the logarithm, times an
# exponent that may be large, has a dozen digits more than the type, and the exponential is as good as that of Exp.
POWERS = {"float32": 0.5625, "float64": 1.5}


# The most ulp of an angle: the quotient, its polynomial and the multiple of pi/4 have an error each.
ANGLES = 2.5


def points_of_the_plane(dtype, count):
    """Points in all directions and at all distances, and those next to the axes and the diagonals."""
    rng = np.random.default_rng(5)
    y, x = (np.exp(rng.uniform(-80, 80, count)) * rng.choice([-1, 1], count) for _ in range(2))
    turn = np.r_[rng.uniform(-np.pi, np.pi, 4 * count), np.repeat(np.arange(-8, 9) * np.pi / 8, 40)]
    turn = turn * (1 + rng.uniform(-1e-6, 1e-6, turn.shape))
    pairs = np.meshgrid(ends(dtype), ends(dtype))
    return (
        np.r_[a, b, c.ravel()].astype(dtype)
        for a, b, c in zip((y, x), (np.sin(turn), np.cos(turn)), pairs, strict=True)
    )


def powers(dtype, count):
    """Positive bases of every size and close to 1; exponents whose powers fill the range, its ends included."""
    rng, f = np.random.default_rng(2), np.finfo(dtype)
    low, high = np.log(float(f.tiny)), np.log(float(f.max))
    logs = np.r_[rng.uniform(low, high, count), np.exp(rng.uniform(-18, 0, count)) * rng.choice([-1, 1], count)]
    a = np.exp(logs).astype(dtype)
    a = a[a != 1]
    goal = rng.uniform(np.log(float(f.smallest_subnormal)) - 2, high + 2, len(a))
    return a, (goal / np.log(a.astype(WIDE[dtype]))).astype(dtype)


def truth_of_powers(a, b):
    """a**b, in the wider type."""
    wide = WIDE[a.dtype.name]
    with np.errstate(all="ignore"):
        return np.power(a.astype(wide), b.astype(wide))
