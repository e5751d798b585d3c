"""What does a small product cost, with one thread and with all?

Microseconds of one Gaussian reduction, D = 3, float32, N x N pairs: the median and the ninth decile of many calls. The
smallest N shows what Python and the door cost; the two columns, from which N on more threads pay.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from kernelops.machines import cpu
from kernelops.numpy import Genred

ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)", "g = Pm(1)"]


def microseconds(call, repeat):
    """Median and ninth decile."""
    call()
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1e6 * statistics.median(seconds), 1e6 * sorted(seconds)[int(0.9 * repeat)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeat", type=int, default=200, help="calls of each")
    repeat = parser.parse_args().repeat
    gauss = Genred("Exp(-g*SqDist(x,y))*b", ALIASES, axis=1)
    rng = np.random.default_rng(0)
    print(f"{cpu.thread_count()} threads, {cpu.instruction_set()}; microseconds, median (ninth decile)")
    print(f"{'N':>6}   {'one thread':>16}   {'all threads':>16}")
    for n in (32, 100, 300, 1000, 2000):
        x, b = rng.random((n, 3), np.float32), rng.random((n, 1), np.float32)
        assert np.allclose(gauss(x, x, b, 1.0), np.exp(-((x[:, None] - x) ** 2).sum(-1)) @ b, rtol=1e-4), (
            "a wrong product is not fast"
        )
        cells = []
        for threshold in (1 << 62, 0):  # where one thread ends, in counted work
            cpu.SERIAL_BELOW = threshold
            cells.append("{:8.0f} ({:5.0f})".format(*microseconds(lambda: gauss(x, x, b, 1.0), repeat)))  # noqa: B023
        print(f"{n:6}   {cells[0]:>16}   {cells[1]:>16}")


if __name__ == "__main__":
    main()
