"""How long until the first answer: importing the package, and the first solve of a formula never seen before.

Every measurement is a fresh Python process. The unit is seconds, the figure the median of several processes. Exits with
1 if a median is above its limit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from statistics import median

LIMITS = {"import kernelops": 0.2, "first solve": 0.3}
CHILD = """
import json, time
began = time.perf_counter()
import numpy as np, scipy.sparse.linalg
baseline = time.perf_counter()
import kernelops.numpy
imported = time.perf_counter()

x, b = np.random.default_rng(0).random((1000, 3)), np.random.default_rng(1).standard_normal((1000, 1))
start = time.perf_counter()
solver = kernelops.numpy.KernelSolve("Exp(-Norm2(x-y))*b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"], "b", axis=1)
a = solver(x, x, b, alpha=0.1)
solved = time.perf_counter()

r = b - 0.1 * a - np.exp(-np.linalg.norm(x[:, None] - x, axis=-1)) @ a
assert np.linalg.norm(r) <= 2e-6 * np.linalg.norm(b), "a wrong answer"
seconds = baseline - began, imported - baseline, solved - start
print(json.dumps(dict(zip(("import numpy, scipy.sparse.linalg", "import kernelops", "first solve"), seconds))))
"""


def measure(repeat):
    """Name -> seconds of every process, after one that only warms the disk cache."""
    runs = []
    for _ in range(repeat + 1):
        child = subprocess.run([sys.executable, "-c", CHILD], check=True, capture_output=True, text=True)
        runs.append(json.loads(child.stdout))
    return {name: [run[name] for run in runs[1:]] for name in runs[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=7, help="processes")
    options = parser.parse_args()
    print(
        f"seconds, median (smallest, largest) of {options.repeat} fresh processes; each import on top of the one above"
    )
    passed = True
    for name, seconds in measure(options.repeat).items():
        verdict = ""
        if name in LIMITS:
            good = median(seconds) < LIMITS[name]
            passed, verdict = passed and good, f"   below {LIMITS[name]}: {'PASS' if good else 'FAIL'}"
        print(f"{name:36}{median(seconds):8.3f}   ({min(seconds):.3f}, {max(seconds):.3f}){verdict}")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
