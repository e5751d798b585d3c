"""How much memory does a product take besides its arguments? Peak of the whole process, measured by the system.

Every figure is a fresh process, because a peak never falls again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec

PER_POINT = 500  # bytes for each point that are still O(N); one row of a stored float32 matrix has 4 N of them
CHILD = """
import json, resource, sys
import numpy as np
from kernelops.numpy import Genred

N, same = int(sys.argv[1]), sys.argv[2] == "True"
gauss = Genred("Exp(-SqDist(x,y))*b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"], axis=1)
rng = np.random.default_rng(0)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

def points(n):
    x, y, b = (rng.random((n, d), np.float32) for d in (3, 3, 1))
    return (x, x, b) if same else (x, y, b)

gauss(*points(3000))  # threads, and what is kept for the next call
args = points(N)
held, before = [], peak()
while peak() == before:  # something had been freed again, which the call could take unseen
    held.append(np.ones(1 << 13))
before = peak()
result = gauss(*args)
extra = peak() - before
rows = np.arange(0, N, max(1, N // 5))
x, y, b = (a.astype(float) for a in args)
truth = np.exp(-sum((x[rows, None, d] - y[:, d]) ** 2 for d in range(3))) @ b
assert abs(result[rows] - truth).max() <= 3e-5 * abs(truth).max(), "a wrong product"
print(json.dumps([extra, sum(a.nbytes for a in args)]))
"""


@dataclass(frozen=True)
class Peak:
    """Bytes that a product of N points took on top, and bytes of its arguments."""

    N: int
    same: bool
    extra: int
    arguments: int


def measure(sizes: tuple[int, ...]) -> list[Peak]:
    """For two sets of points and for K(x, x); nothing where the system does not tell a process's peak."""
    return [peak_of(N, same) for same in (False, True) for N in sizes] if find_spec("resource") else []


def peak_of(N: int, same: bool) -> Peak:
    command = [sys.executable, "-c", CHILD, str(N), str(same)]
    child = subprocess.run(command, check=True, capture_output=True, text=True)
    return Peak(N, same, *json.loads(child.stdout))


def per_point(peaks: list[Peak]) -> float | None:
    """Bytes for each point at the largest size, the worse of both kinds."""
    largest = max((peak.N for peak in peaks), default=0)
    return max((peak.extra / peak.N for peak in peaks if peak.N == largest), default=None)
