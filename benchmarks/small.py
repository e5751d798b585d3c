"""What does a small product cost, and from which size on is it cheaper than the dense way?

Microseconds of one Gaussian product, D = 3, float32, N x N pairs, beside the same written out in NumPy and, where it is
installed, PyTorch: the fastest and the median of many calls, which take turns. The smallest N shows what Python and the
door cost. A second table has the products with one thread and with all, from which `SERIAL_BELOW` was found.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import numpy as np

from kernelops import KernelOperator
from kernelops.engines import cpu
from kernelops.numpy import Genred

try:
    import torch
except ImportError:
    torch = None

FORMULA, ALIASES = "Exp(-g*SqDist(x,y))*b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)", "g = Pm(1)"]
SIZES = (32, 100, 200, 300, 1000)
WANTED = {"matvec": {32: 30.0}}  # microseconds; all of ours shall be below the dense way from N = 200 on


def microseconds(calls, repeat):
    """(fastest, median) of each call, over rounds in which every call runs twice and the second time counts."""
    taken = {name: [] for name in calls}
    for _ in range(repeat):
        for name, call in calls.items():
            call()
            start = time.perf_counter()
            call()
            taken[name].append(1e6 * (time.perf_counter() - start))
    return {name: (min(t), median(t)) for name, t in taken.items()}


def points(n):
    """x, b and g of n points."""
    rng = np.random.default_rng(0)
    return rng.random((n, 3), np.float32), rng.random((n, 1), np.float32), np.ones(1, np.float32)


def dense(array, x, b, g):
    """The product written out; array is numpy or torch."""
    return array.exp(-g * ((x[:, None] - x) ** 2).sum(-1)) @ b


def ways(n):
    """Name -> the product with n points; all have been found to agree."""
    x, b, g = points(n)
    v, A, genred = b[:, 0].copy(), KernelOperator(FORMULA, ALIASES, "b", x, x, g), Genred(FORMULA, ALIASES, axis=1)
    calls = {
        "matvec": lambda: A.matvec(v),
        "Genred": lambda: genred(x, x, b, g),
        "dense NumPy": lambda: dense(np, x, b, g),
    }
    if torch is not None:
        from kernelops.torch import Genred as TorchGenred

        tensors, of_tensors = [torch.from_numpy(a) for a in (x, b, g)], TorchGenred(FORMULA, ALIASES, axis=1)
        tx, tb, tg = tensors
        calls["torch Genred"] = lambda: of_tensors(tx, tx, tb, tg)
        calls["dense torch"] = lambda: dense(torch, tx, tb, tg)
        calls["torch cdist"] = lambda: torch.exp(-tg * torch.cdist(tx, tx) ** 2) @ tb
    want = dense(np, x.astype(np.float64), b.astype(np.float64), g)[:, 0]
    for name, call in calls.items():  # cdist goes by the differences of large squares
        assert np.allclose(np.ravel(call()), want, rtol=1e-4), f"{name}: a wrong product is not fast"
    return calls


def table_of_ways(repeat):
    """Prints the first table."""
    names = list(ways(2))
    print(f"{'N':>6}" + "".join(f"{name:>20}" for name in names) + "   wanted")
    for n in SIZES:
        taken = microseconds(ways(n), repeat if n < 1000 else max(repeat // 20, 5))
        cells = "".join("{:10.1f} ({:7.1f})".format(*taken[name]) for name in names)
        wanted = ", ".join(f"{name} below {limits[n]:g}" for name, limits in WANTED.items() if n in limits)
        if n >= 200:
            rivals = [name for name in names if name.startswith("dense")]
            wanted = f"all below {min(taken[name][0] for name in rivals):.1f}, the dense way"
        print(f"{n:6}{cells}   {wanted}")


def table_of_threads(repeat):
    """Prints the second table."""
    genred, usual = Genred(FORMULA, ALIASES, axis=1), cpu.SERIAL_BELOW
    cost = cpu.prepare("sum", genred.spec.expr, None, False, 1).encoded.cost
    print(f"\n{'N':>6}{'counted work':>16}{'one thread':>22}{'all threads':>22}   (one thread below {usual})")
    for n in (100, 300, 500, 700, 1000, 1500, 2000):
        x, b, g = points(n)

        def call(threshold, data=(x, x, b, g)):
            cpu.SERIAL_BELOW = threshold  # where one thread ends, in counted work
            genred(*data)

        taken = microseconds({"one": lambda: call(1 << 62), "all": lambda: call(0)}, max(repeat // 10, 5))  # noqa: B023
        print(f"{n:6}{cost * n * n:16}" + "".join("{:12.0f} ({:7.0f})".format(*t) for t in taken.values()))
    cpu.SERIAL_BELOW = usual


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeat", type=int, default=1000, help="calls of each at the smaller sizes")
    repeat = parser.parse_args().repeat
    print(f"{cpu.thread_count()} threads, {cpu.instruction_set()}; microseconds, fastest (median)")
    table_of_ways(repeat)
    table_of_threads(repeat)


if __name__ == "__main__":
    main()
