"""Terms too small for a normal number count as 0 in sums of exponentials, where they would cost a hundred others."""

from __future__ import annotations

import numpy as np
import pytest
import usual

from kernelops.numpy import Genred

ALIASES = usual.aliases(1, 1)
SMALLEST = {"float32": 2.0**-126, "float64": 2.0**-1022}
LEAST = {"float32": 2.0**-149, "float64": 2.0**-1074}


@pytest.mark.parametrize("dtype", SMALLEST)
@pytest.mark.parametrize("formula", [usual.GAUSS, usual.LAPLACE, "Exp(x-y)*b"])
def test_terms_below_the_normal_numbers_are_zero_or_right(formula, dtype, isa):
    """Every result is that of exact arithmetic, up to the usual rounding and the smallest normal number."""
    bottom = np.log(LEAST[dtype])
    levels = np.linspace(bottom - 5, 0, 400)  # logarithms of the terms
    y = np.sqrt(-levels) if "SqDist" in formula else -levels
    x, y = np.zeros((1, 1), dtype), y.astype(dtype)[:, None]
    exponent = -(y.astype(float) ** 2) if "SqDist" in formula else -y.astype(float)
    for j in range(0, 400, 7):  # one column each, so that no large term hides it
        found = Genred(formula, ALIASES, axis=1)(x, y[j : j + 1], np.ones((1, 1), dtype))[0, 0]
        truth = np.exp(exponent[j, 0])
        rounding = (
            4 * np.finfo(dtype).eps * (1 - exponent[j, 0])
        )  # that of the exponent, made larger by the exponential
        assert abs(found - truth) <= rounding * truth + SMALLEST[dtype]


def test_the_callers_arithmetic_stays_as_it_was():
    x, b = np.linspace(0, 12, 50, dtype="f")[:, None], np.ones((50, 1), "f")
    Genred(usual.GAUSS, ALIASES, axis=1)(x, x, b)
    assert np.float32(2.0**-126) * np.float32(0.5) == 2.0**-127  # a subnormal number, as IEEE 754 has it
    small = np.full(64, 2.0**-126, np.float32)
    assert (small * np.float32(0.25) > 0).all()


def test_other_sums_keep_small_terms():
    tiny = np.full((3, 1), 2.0**-140, "f")
    found = Genred("x*y*b", ALIASES, axis=1)(np.ones((1, 1), "f"), np.ones((3, 1), "f"), tiny)
    assert found[0, 0] == 3 * 2.0**-140
