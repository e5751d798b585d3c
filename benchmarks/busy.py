"""Is a small product slower on all threads than on one, because the machine is busy?

Milliseconds of products with one thread and with all, which take turns, beside processes that do nothing but compute:
the median and the slowest tenth of many calls. Other work takes its share of the processors from both; threads that
wait for each other by spinning lose far more, and so do those that wait for a thread which has not begun.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from contextlib import contextmanager
from statistics import median, quantiles

import numpy as np

from kernelops import KernelOperator
from kernelops.engines import cpu

SLACK = 1.25  # all threads may take so much longer than one: medians on a busy machine are no better than that
LOOP = "while True: pass"


def products():
    """Name -> a product, from just above the work that threads are used for to some that is no more small."""
    rng, found = np.random.default_rng(0), {}
    for n, text, dim in (
        (257, "Cos(Sum(g*(x-y)))*b", 33),
        (800, "Exp(-g*SqDist(x,y))*b", 3),
        (3000, "Exp(-g*SqDist(x,y))*b", 3),
        (10000, "Exp(-g*SqDist(x,y))*b", 3),
    ):
        x, b = rng.random((n, dim), np.float32), rng.random((n, 4), np.float32)
        aliases = [f"x = Vi({dim})", f"y = Vj({dim})", "b = Vj(4)", "g = Pm(1)"]
        operator = KernelOperator(text, aliases, "b", x, x.copy(), 0.08, alpha=0.1)
        found[f"{text.split('(')[0]}, {n} points"] = lambda operator=operator, b=b: operator @ b
    return found


@contextmanager
def beside(count):
    """So many processes that compute."""
    loops = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(count)]
    try:
        time.sleep(0.2)
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def taken(call, seconds):
    """Milliseconds of each call, with one thread and with all, over a time."""
    usual, found = cpu.SERIAL_BELOW, {"one": [], "all": []}
    try:
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends or len(found["all"]) < 5:
            for name, threshold in (("one", 1 << 62), ("all", usual)):
                cpu.SERIAL_BELOW = threshold  # where one thread ends, in counted work
                call()
                start = time.perf_counter()
                for _ in range(3):
                    call()
                found[name].append((time.perf_counter() - start) / 3e-3)
    finally:
        cpu.SERIAL_BELOW = usual
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line")
    parser.add_argument("--loops", type=int, nargs="*", default=[0, 1, 2, 4], help="processes beside")
    asked = parser.parse_args()
    print(f"{cpu.thread_count()} threads, {cpu.instruction_set()}; milliseconds, median (slowest tenth)")
    print(f"{'loops':>5}  {'product':<18}{'one thread':>22}{'all threads':>22}{'ratio':>8}")
    lost = False
    for loops in asked.loops:
        with beside(loops):
            for name, call in products().items():
                found = taken(call, asked.seconds)
                ratio = median(found["all"]) / median(found["one"])
                lost |= ratio > SLACK
                cells = "".join(f"{median(t):12.2f} ({quantiles(t, n=10)[-1]:7.2f})" for t in found.values())
                print(f"{loops:5}  {name:<18}{cells}{ratio:8.2f}{'  slower' if ratio > SLACK else ''}", flush=True)
    print("FAIL: threads make it slower" if lost else "ok: no product is slower on all threads than on one")
    return int(lost)


if __name__ == "__main__":
    sys.exit(main())
