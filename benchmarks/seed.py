"""The problem of examples/kernel_solve.py beside KeOps and Cholesky factors: is it as fast and as right as wanted?

Random points of the unit square, a Gaussian kernel of sigma 0.1, alpha = 0.01, float32, two right-hand sides. Ours are
medians of several solves through the torch door, by default and with method="cg"; KeOps, which can take minutes, solves
once, in a process of its own. Exits with 1 where a line says FAIL.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from apart import Outcome, Worker
from peers import PEERS, cholesky, our_options, present
from problems import Solve
from timing import interleaved, seconds_of

sys.path.append(str(Path(__file__).parent.parent / "examples"))

SIZES = (2_000, 5_000)
KEOPS, LIMIT = "KeOps, float32", 300.0  # seconds that KeOps may take
RTOL = 1e-6
JUDGED = 5_000  # points from which iterating is wanted to beat a dense factor
BUDGET = 30.0  # seconds for the repetitions at one size
WANTED = {  # what is measured -> the figure, and whether it is the least that is good
    "KeOps / kernelops": (100.0, True),
    'dense Cholesky / kernelops, method="cg"': (2.0, True),
    "residual": (1e-6, False),
    "error of the returned array": (1e-6, False),
    "error of the gradient": (1e-5, False),
    "gradient / solve, seconds": (2.0, False),
}


@dataclass(frozen=True)
class Seed(Solve):
    """The example's problem as a Solve, so that the peers can be asked."""

    data: str = "square"
    kernel: str = "gaussian"
    length: float = 0.1
    alpha: float = 0.01
    columns: int = 2

    @cached_property
    def tensors(self) -> tuple[Any, Any, Any]:
        """x, b and the cotangent e."""
        from kernel_solve import problem

        return problem(self.N, self.seed)

    @property
    def x(self) -> np.ndarray:
        return self.tensors[0].numpy()

    @cached_property
    def b(self) -> np.ndarray:
        return self.tensors[1].numpy()


@dataclass(frozen=True)
class Ours:
    """One solve of ours with its gradient.

    Attributes
    ----------
    c, gradient : Tensor
    solution : Solution
    seconds, backward : float
    """

    c: Any
    gradient: Any
    solution: Any
    seconds: float
    backward: float


def ours(problem: Seed, **options: Any) -> Ours:
    import torch

    from kernelops.torch import KernelSolve

    x, b, e = problem.tensors
    g = torch.from_numpy(problem.g)
    solver = KernelSolve(problem.formula, problem.aliases, "a", axis=1)
    x = x.clone().requires_grad_()
    given = our_options(rtol=RTOL, **options)
    call = partial(solver, x, x, b, g, alpha=problem.alpha, return_solution=True, **given)
    seconds, (c, solution) = seconds_of(call)
    backward, (gradient,) = seconds_of(lambda: torch.autograd.grad((c * e).sum(), x))
    return Ours(c.detach(), gradient, solution, seconds, backward)


def torch_cholesky(problem: Seed) -> Any:
    """The example's dense way without its gradient."""
    import torch

    x, b = (t.double() for t in problem.tensors[:2])
    squares = (x**2).sum(1)
    A = torch.addmm(squares, x, x.T, beta=-1, alpha=2).sub_(squares[:, None]).mul_(float(problem.g[0])).exp_()
    A.diagonal().add_(problem.alpha)
    return torch.cholesky_solve(b, torch.linalg.cholesky(A))


def relative(found: Any, truth: Any) -> float:
    return float((found.double() - truth).norm() / truth.norm())


def keops(problem: Seed) -> Outcome:
    """One solve of KeOps."""
    if KEOPS not in present():
        return Outcome(note="not installed, or left out")
    worker = Worker(KEOPS)
    try:
        return worker.solve(problem, RTOL, LIMIT)
    finally:
        worker.close()


def report(name: str, found: float | None, note: str = "") -> bool:
    """Print a line; whether it is as wanted. What was not measured is no failure."""
    wanted, least = WANTED[name]
    good = found is None or (found >= wanted if least else found <= wanted)
    form = "{:.1f}".format if wanted >= 1 else "{:.1e}".format
    asked = f"wanted at {'least' if least else 'most'} {form(wanted)}"
    shown = "not measured" if found is None else form(found)
    print(f"{'-   ' if found is None else 'PASS' if good else 'FAIL'}  {name}: {shown} ({asked}){note}", flush=True)
    return good


def measure(problem: Seed, repeat: int) -> bool:
    """Measure one size and print its lines; whether all are as wanted."""
    from kernel_solve import dense

    runs: dict[str, list[Ours]] = {"default": [], "cg": []}
    calls = {
        "default": lambda: runs["default"].append(ours(problem)),
        "cg": lambda: runs["cg"].append(ours(problem, method="cg")),
        "SciPy's Cholesky": lambda: cholesky(problem, RTOL),
        "torch's Cholesky": lambda: torch_cholesky(problem),
    }
    taken = interleaved(calls, repeat, BUDGET, least=min(3, repeat))
    for name, found in runs.items():  # the clock above has the gradient too
        taken[name] = float(np.median([run.seconds for run in found]))
    c, gradient, _ = dense(*problem.tensors)
    theirs = keops(problem)
    print(f"\nN = {problem.N:,}: seconds " + ", ".join(f"{name} {t:.3g}" for name, t in taken.items()))
    keops_told = theirs.note if theirs.seconds is None else f"{theirs.seconds:.3g}, true residual {theirs.true:.1e}"
    print(f"{KEOPS}: {keops_told}")
    factor = min(taken["SciPy's Cholesky"], taken["torch's Cholesky"])
    good = []
    for name, found in runs.items():
        last = found[-1]
        told = [getattr(last.solution, field, None) or "-" for field in ("method", "precond")]
        print(f"kernelops, {name}: {last.solution.status} by {', '.join(told)}, products {last.solution.products}")
        ratio = None if theirs.seconds is None else theirs.seconds / taken[name]
        good.append(report("KeOps / kernelops", ratio))
        if name == "cg" and problem.N >= JUDGED:
            good.append(report('dense Cholesky / kernelops, method="cg"', factor / taken[name]))
        elif name == "cg":
            print(f"-     dense Cholesky / kernelops: {factor / taken[name]:.1f}")
        good.append(report("residual", float(problem.residual(last.solution.x).max())))
        good.append(report("error of the returned array", relative(last.c, c)))
        good.append(report("error of the gradient", relative(last.gradient, gradient)))
        backward = float(np.median([run.backward for run in found]))
        good.append(report("gradient / solve, seconds", backward / taken[name], f" {backward:.3g} s"))
    return all(good)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=SIZES, help="numbers of points")
    parser.add_argument("--repeat", type=int, default=5, help="most solves of each of ours")
    parser.add_argument("--without-keops", action="store_true", help="leave KeOps out")
    options = parser.parse_args()
    if options.without_keops:
        PEERS.pop(KEOPS, None)
    good = [measure(Seed(N=N), options.repeat) for N in options.n]
    return 0 if all(good) else 1


if __name__ == "__main__":
    raise SystemExit(main())
