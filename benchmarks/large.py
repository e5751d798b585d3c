"""Two solves of 50,000 points to 1e-5, each in a process of its own: how long, and how much memory at the peak?"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

from problems import Solve

N = 50_000
RTOL = 1e-5
LARGE = (Solve("terrain", "matern32", 0.05, 1e-2, N=N), Solve("diamonds", "gaussian", 3.0, 1e-2, N=N))
CHILD = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
import numpy as np
from problems import Solve
from peers import our_options
from kernelops.numpy import KernelSolve

problem = Solve(**json.loads(sys.argv[2]))
solver = KernelSolve(problem.formula, problem.aliases, "a", axis=1)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

arrays = problem.x, problem.x, problem.b, problem.g
held, before = [], peak()
while peak() == before:  # something had been freed again, which the solve could take unseen
    held.append(np.ones(1 << 13))
before, start = peak(), time.perf_counter()
given = our_options(rtol=float(sys.argv[3]), on_fail="ignore", return_solution=True)
_, solution = solver(*arrays, alpha=problem.alpha, **given)
seconds, highest = time.perf_counter() - start, peak()
print(json.dumps({
    "seconds": seconds, "before": before, "peak": highest, "status": solution.status, "precond": solution.precond,
    "rank": getattr(solution, "rank", None), "setup": getattr(solution, "setup", None),
    "iterations": solution.iterations, "products": solution.products,
    "residual": float(problem.residual(solution.x).max()), "report": str(solution),
}))
"""


def solve(problem: Solve, rtol: float) -> dict:
    """The figures of one solve; the residual is the true one."""
    given = [str(Path(__file__).parent), json.dumps(asdict(problem)), str(rtol)]
    child = subprocess.run([sys.executable, "-c", CHILD, *given], check=True, capture_output=True, text=True)
    return json.loads(child.stdout.splitlines()[-1])


def run(most: int = N) -> int:
    """Solve and print; 1 if a true residual is not what was asked for."""
    good = True
    for problem in (replace(problem, N=min(most, N)) for problem in LARGE):
        found = solve(problem, RTOL)
        good = good and found["residual"] <= RTOL * 1.01
        print(
            f"{problem.name}, N = {problem.N:,}, to {RTOL:g}: {found['status']} in {found['seconds']:.1f} s, "
            f"true residual {found['residual']:.1e}, peak of memory {found['peak'] / 2**20:,.0f} MB "
            f"({(found['peak'] - found['before']) / 2**20:,.0f} MB more than before the solve; "
            f"the matrix would take {4 * problem.N**2 / 2**20:,.0f} MB)\n{found['report']}\n",
            flush=True,
        )
    return 0 if good else 1
