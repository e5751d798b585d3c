"""Reductions over all pairs of points: kernelops beside KeOps and dense torch, all in one run on the CPU.

The unit of work is a pair (i, j), N**2 of them; the unit of the table is nanoseconds per pair, by the wall clock with
all threads that each engine takes by default, the median of interleaved repetitions. The first call,
from the formula's text on, is timed apart: there KeOps generates code and compiles it. Every answer is checked against
float64 before it is timed.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from problems import ENGINES, KINDS, Problem, all_problems
from timing import interleaved, seconds_of

import kernelops
from kernelops.backends import installed
from kernelops.machines.cpu import instruction_set
from kernelops.machines.threads import thread_count

OURS, *PEERS = ENGINES
PACKAGES = {"kernelops": "kernelops", "KeOps": "pykeops", "dense torch": "torch"}
RESULTS = Path(__file__).parent / "results" / "products.md"
BUDGET = 3.0  # seconds for the repetitions of a row


@dataclass
class Row:
    """What was measured on a problem: engine -> seconds of the first call, and of the later ones."""

    problem: Problem
    first: dict[str, float] = field(default_factory=dict)
    later: dict[str, float] = field(default_factory=dict)

    def per_pair(self, engine: str) -> str:
        return f"{1e9 * self.later[engine] / self.problem.pairs:.2f}" if engine in self.later else "-"

    def ratio(self, engine: str) -> str:
        return f"{self.later[engine] / self.later[OURS]:.1f}" if engine in self.later else "-"

    def first_call(self, engine: str) -> str:
        return f"{self.first[engine]:.2f}" if engine in self.first else "-"

    def cells(self) -> list[str]:
        p = self.problem
        return [
            *(p.name, p.dtype, str(p.D), str(p.Dv) if "b" in KINDS[p.kind].arrays else "-"),
            *(self.per_pair(engine) for engine in ENGINES),
            *(self.ratio(engine) for engine in PEERS),
            *(self.first_call(engine) for engine in (OURS, "KeOps")),
        ]


def begin(engine: str, problem: Problem) -> tuple[Callable[[], Any], Any]:
    """The call, made of a text, and what it returns."""
    call = ENGINES[engine](problem)
    return call, call()


def measure(problem: Problem, engines: list[str], repeat: int) -> Row:
    """Check and time one problem."""
    row, calls = Row(problem), {}
    for engine in engines:
        row.first[engine], (calls[engine], result) = seconds_of(partial(begin, engine, problem))
        problem.check(result)
    row.later = interleaved(calls, repeat, BUDGET)
    return row


def present() -> list[str]:
    """The engines that can be imported."""
    return [engine for engine, package in PACKAGES.items() if find_spec(package)]


def forget_compiled(folder: str) -> None:
    """Let KeOps compile into an empty folder, so that its first calls are first calls."""
    if find_spec("pykeops"):
        import pykeops

        pykeops.set_build_folder(folder)


def header() -> list[str]:
    return [
        *("reduction", "dtype", "D", "Dv"),
        *(f"{engine}, ns" for engine in ENGINES),
        *(f"{engine} / {OURS}" for engine in PEERS),
        *(f"first call {engine}, s" for engine in (OURS, "KeOps")),
    ]


def line(cells: list[str], widths: list[int]) -> str:
    first, *others = zip(cells, widths)
    return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |"


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [header(), *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    rule = "| " + " | ".join(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]) + " |"
    return "\n".join([line(lines[0], widths), rule, *(line(cells, widths) for cells in lines[1:])])


def machine() -> Iterator[str]:
    """The machine and the versions, without names of hosts or folders."""
    yield f"- {cpu_model()}, {os.cpu_count()} cores; kernelops uses {instruction_set()} and {thread_count()} threads"
    others = [f"{package} {installed(package) or 'not installed'}" for package in ("numpy", "pykeops", "torch")]
    yield f"- Python {platform.python_version()}, kernelops {kernelops.__version__}, {', '.join(others)}"


def cpu_model() -> str:
    """The processor's name where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def page(rows: list[Row], N: int) -> str:
    """The results as a Markdown page."""
    return f"""# Reductions over all pairs, on the CPU

Made by `make bench`. Nanoseconds per pair (i, j) for {N:,} x {N:,} pairs, by the wall clock: the median of interleaved
repetitions, every answer checked against float64. D is the length of a point, Dv that of the vector that the kernel
multiplies. The first call of KeOps compiles; the dense torch column stores the whole kernel matrix.

{chr(10).join(machine())}

{table(rows)}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=8_000, help="points of i and of j")
    parser.add_argument("--repeat", type=int, default=7, help="most repetitions of a row")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the Markdown page")
    options = parser.parse_args()

    engines, rows = present(), []
    with tempfile.TemporaryDirectory() as folder:
        forget_compiled(folder)
        for problem in all_problems(options.n):
            len(problem.arrays)  # made here, not in somebody's first call
            rows.append(measure(problem, engines, options.repeat))
            print(" ".join(rows[-1].cells()), flush=True)
    text = page(rows, options.n)
    options.output.write_text(text, encoding="utf-8")
    print(f"\n{text}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
