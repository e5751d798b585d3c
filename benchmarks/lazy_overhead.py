"""What does a LazyTensor cost besides the arithmetic, beside KeOps' own in the same process?

Microseconds of CPU time on one core, 50 x 30 points, D = 3, float32: building a Gaussian of eight operations, its
product with a vector, both, both with a gradient, and the first reduction of a formula never seen before, which KeOps
compiles. The calls take turns; the median of many turns counts. A summary says whether the wanted figures were met.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402  # after the number of threads

import kernelops.torch  # noqa: E402

try:
    import pykeops

    pykeops.set_verbose(False)
    import pykeops.torch
except ImportError:
    pykeops = None

M, N, D = 50, 30, 3
CALLS, TURNS = 100, 15
WANTED = {"build, 8 operations": 40.0, "K @ b": 80.0}  # microseconds, and below KeOps'
FIRST_CALL = 20_000.0  # microseconds of the first reduction of a formula of 20 operations

Calls = dict[str, Callable[[], Any]]


def gaussian(lazy: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """exp(-|x_i - y_j|^2/0.35) as a LazyTensor of one of the packages."""
    x_i, y_j = lazy(x[:, None, :]), lazy(y[None, :, :])
    return (-((x_i - y_j) ** 2).sum(-1) / 0.35).exp()


def calls_of(lazy: Any) -> Calls:
    """What is timed, for the LazyTensor of one of the packages."""
    torch.manual_seed(0)
    x, y, b = torch.rand(M, D), torch.rand(N, D), torch.rand(N, 1)
    K, leaf = gaussian(lazy, x, y), x.clone().requires_grad_()
    return {
        "build, 8 operations": lambda: gaussian(lazy, x, y),
        "K @ b": lambda: K @ b,
        "both": lambda: gaussian(lazy, x, y) @ b,
        "both, and a gradient": lambda: torch.autograd.grad((gaussian(lazy, leaf, y) @ b).sum(), leaf),
    }


def microseconds(ways: dict[str, Calls]) -> dict[tuple[str, str], float]:
    """(call, package) -> the median of CPU microseconds over turns of all."""
    taken: dict[tuple[str, str], list[float]] = {}
    for turn in range(TURNS + 1):
        for package, calls in ways.items():
            for name, call in calls.items():
                start = time.process_time()
                for _ in range(CALLS):
                    call()
                if turn:  # the first turn compiles, and warms up
                    taken.setdefault((name, package), []).append(1e6 * (time.process_time() - start) / CALLS)
    return {key: median(values) for key, values in taken.items()}


def first_call() -> float:
    """The median of CPU microseconds of the first sum of formulas of 20 operations, each never seen before."""
    x, y = torch.rand(M, D), torch.rand(N, D)
    taken = []
    for k in range(20):
        x_i, y_j = kernelops.torch.LazyTensor(x[:, None]), kernelops.torch.LazyTensor(y[None])
        start = time.process_time()
        d = ((x_i - y_j) ** 2).sum(-1)
        s = (1 + d * (k + 1) / 64).sqrt()
        f = (-d).exp() * s.cos() + (s * d).sin() / (1 + s) - (d * s + k).log() * (x_i | y_j) + s.abs() * (-s).exp()
        f.sum(axis=1)
        taken.append(1e6 * (time.process_time() - start))
    return median(taken)


def main() -> None:
    """Print the table and the summary."""
    torch.set_num_threads(1)
    packages = {"kernelops": kernelops.torch.LazyTensor}
    if pykeops is not None:
        packages["KeOps"] = pykeops.torch.LazyTensor
    found = microseconds({name: calls_of(lazy) for name, lazy in packages.items()})
    print(f"CPU microseconds, one core, {M} x {N} points: median of {TURNS} turns of {CALLS} calls")
    print(f"{'':24s}" + "".join(f"{name:>12s}" for name in packages))
    for name in dict.fromkeys(call for call, _ in found):
        print(f"{name:24s}" + "".join(f"{found[name, package]:12.0f}" for package in packages))
    first = first_call()
    print(f"{'first call, 20 operations':24s}{first:11.0f}\n")
    for name, wanted in WANTED.items():
        ours, theirs = found[name, "kernelops"], found.get((name, "KeOps"), float("inf"))
        said = "PASS" if ours <= min(wanted, theirs) else "FAIL"
        beside = "" if theirs == float("inf") else f", KeOps {theirs:.0f}"
        print(f"{said}  {name}: {ours:.0f} us, wanted {wanted:.0f} at most{beside}")
    said = "PASS" if first <= FIRST_CALL else "FAIL"
    print(f"{said}  first call, 20 operations: {first / 1000:.1f} ms, wanted {FIRST_CALL / 1000:.0f} at most")


if __name__ == "__main__":
    main()
