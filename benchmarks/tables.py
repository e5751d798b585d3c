"""The fourteen problems of problems.TABLES, solved iteratively with everything else by default.

A line tells how the solve went, what its preconditioner is and cost, and how many iterations there are without one.
Products are counted for each column, those of refinement included; a pass is one product with the whole matrix.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from problems import TABLES, Solve
from report import number, table

MOST = 80  # products for each column that a solve may take
RTOL = 1e-6


@dataclass(frozen=True)
class Line:
    """A problem and its Solution; what older versions do not tell is None."""

    problem: Solve
    solution: Any
    seconds: float

    def products(self, dtype: str) -> int:
        return self.solution.products.get(dtype, 0)

    @property
    def good(self) -> bool:
        return self.solution.converged and sum(self.solution.products.values()) <= MOST

    @property
    def columns(self) -> float | None:
        """Columns of K that preconditioners evaluated, over N."""
        built = getattr(self.solution, "preconditioners", None) or ()
        return sum(getattr(one, "columns", 0) for one in built) / self.problem.N if built else None

    @property
    def cells(self) -> list[str]:
        told = {name: getattr(self.solution, name, None) for name in ("method", "setup", "rank")}
        return [
            *(self.problem.name, self.solution.status, told["method"] or "-", str(self.solution.iterations)),
            *(str(self.products(dtype)) for dtype in ("float32", "float64")),
            *(number(told["setup"]), number(self.columns), self.solution.precond, number(told["rank"], "{:d}")),
            *(f"{self.seconds:.1f}", number(self.problem.plain, "{:d}"), "" if self.good else "NO"),
        ]


HEAD = [
    *("problem", "status", "method", "iterations", "float32 products", "float64 products", "setup, passes"),
    "columns evaluated / N",
    *("preconditioner", "rank", "seconds", "plain iterations", "good"),
]


def solve(problem: Solve, **options: Any) -> Line:
    """By kernelops; an option that this version does not know is left out."""
    from peers import our_options

    from kernelops.numpy import KernelSolve

    solver = KernelSolve(problem.formula, problem.aliases, "a", axis=1)
    arrays = problem.x, problem.x, problem.b, problem.g
    start = time.perf_counter()
    given = our_options(rtol=RTOL, on_fail="ignore", return_solution=True, **options)
    _, solution = solver(*arrays, alpha=problem.alpha, **given)
    return Line(problem, solution, time.perf_counter() - start)


def plain(problem: Solve) -> int:
    """Iterations without a preconditioner, in float64."""
    from peers import our_options

    from kernelops.numpy import KernelSolve

    x, b, g = (array.astype(float) for array in (problem.x, problem.b, problem.g))
    given = our_options(rtol=RTOL, method="cg", precond=None, return_solution=True)
    solver = KernelSolve(problem.formula, problem.aliases, "a", axis=1)
    return solver(x, x, b, g, alpha=problem.alpha, **given)[1].iterations


def run(N: int, problems: Iterable[Solve] = TABLES, measure_plain: bool = False) -> int:
    """Solve and print; 1 if a solve did not converge or took more than MOST products."""
    lines = []
    for problem in problems:
        given = problem if N == problem.N else replace(problem, N=N, plain=None)
        if measure_plain:
            given = replace(given, plain=plain(given))
        lines.append(solve(given, method="cg"))
        print(" | ".join(lines[-1].cells), flush=True)
        if reason := getattr(lines[-1].solution, "reason", None):
            print(f"    {reason}", flush=True)
    print(f"\n{table([HEAD, *(line.cells for line in lines)])}")
    good = sum(line.good for line in lines)
    print(f"\n{good} of {len(lines)} converged in at most {MOST} products for each column")
    return 0 if good == len(lines) else 1
