"""How wrong is a float32 product? The largest |error| over the sum of |terms|, against float64.

Points lie in the unit cube and the Gaussian's standard deviation is a tenth of the cube's diagonal, so that the
exponents are as large as they are in use.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from kernels import squares
from plan import DS

WORST = 3e-7
N, CHECKED = 4_000, 150  # columns, and rows that are compared


def error(D: int, Dv: int, same: bool, **how: Any) -> float:
    """The error for one length of points and of right-hand sides, on two sets of points or on one.

    The call takes ``how``, such as ``backend="GPU"``.
    """
    from kernelops.numpy import Genred

    rng = np.random.default_rng(D)
    x, y = (rng.random((N, D), np.float32) for _ in range(2))
    y = x if same else y
    b, g = rng.standard_normal((N, Dv), np.float32), np.float32(50 / D)  # 1 / (2 sigma^2), sigma = sqrt(D) / 10
    aliases = [f"x = Vi({D})", f"y = Vj({D})", f"b = Vj({Dv})", "g = Pm(1)"]
    found = Genred("Exp(-g*SqDist(x,y))*b", aliases, axis=1)(x, y, b, np.array([g]), **how)
    rows = np.linspace(0, N - 1, CHECKED).astype(int)
    wide = [a.astype(np.float64) for a in (x[rows], y, b)]
    kernel = np.exp(-np.float64(g) * squares(*wide[:2]))
    return float((abs(found[rows] - kernel @ wide[2]) / (kernel @ abs(wide[2]))).max())


def measure(**how: Any) -> dict[int, float]:
    """D -> the worst error over Dv of 1 and 16, two sets of points and one."""
    return {D: max(error(D, Dv, same, **how) for Dv in (1, 16) for same in (False, True)) for D in DS}
