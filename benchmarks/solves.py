"""Solves on real data: how long until the residual is what was asked for, beside the packages that do the same?

Every package is asked for a relative residual of 1e-6, gets float32 data, and works in float64 where it has the choice.
The time is that of one solve with its setup; the residual of every answer is recomputed in float64. What a package
believes of its residual stands beside the truth. A package leaves a series of growing problems once it takes too long.

Other questions: --problems asks how many products the fourteen problems of problems.TABLES take, --large how long
and how much memory two problems of 50,000 points take.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

import datasets
import large
import solve_report
import tables
from apart import ONCE, Outcome, Worker
from peers import DENSE, OURS, PEERS, present
from problems import Solve

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
RTOL = 1e-6
MOST_DENSE = 16_000  # points up to which a kernel matrix is stored: 2 GB in float64
ALPHAS = (1e-1, 1e-3, 1e-4)  # beside that of the systems
COLUMNS = (16, 1_000)
TURNS = 7, 3  # how often solves are timed in turn: those that are repeated, and others
IN_TURN = 2.0  # seconds up to which they are
AT_MOST = 1.1  # times what a dense Cholesky factor in SciPy takes: what no row is to exceed
OURS_TIMES = 10  # times the limit of the others, for our own largest solves
DOUBT = 2  # times the limit that a forecast has to be before it is believed: small problems forecast too much

SYSTEMS = (
    Solve("terrain", "matern32", 0.05, 1e-2),
    Solve("diamonds", "gaussian", 3.0, 1e-2),
    Solve("flights", "matern32", 3.0, 1e-2),
)


@dataclass(frozen=True)
class Plan:
    """Sizes and limits of a run.

    Attributes
    ----------
    sizes : tuple of int
        N of the curves with one column and the systems' alpha; those that a data set does not have are left out.
    middle : int
        N of the rows with other numbers of columns, and, beside the smallest one, with another alpha.
    limit : float
        Seconds that one solve may take.
    minutes : float
        After these nothing more is begun.
    alphas : tuple of float
    columns : tuple of int
    """

    sizes: tuple[int, ...]
    middle: int
    limit: float
    minutes: float
    alphas: tuple[float, ...] = ALPHAS
    columns: tuple[int, ...] = COLUMNS

    def problems(self) -> Iterator[Solve]:
        """All of them: the curves, the small sizes first, then more columns and other alphas."""
        for N in self.sizes:
            yield from (replace(system, N=N) for system in SYSTEMS)
        for columns in self.columns:
            yield from (replace(system, N=self.middle, columns=columns) for system in SYSTEMS)
        for N in sorted({self.sizes[0], self.middle}):
            for alpha in self.alphas:
                yield from (replace(system, N=N, alpha=alpha) for system in SYSTEMS)


WHOLE = Plan((1_000, 2_000, 4_000, 8_000, 16_000, 50_000, 100_000), middle=4_000, limit=8.0, minutes=30.0)
QUICK = Plan((1_000, 3_000), middle=3_000, limit=8.0, minutes=3.0, alphas=(1e-3,), columns=(16,))


@dataclass
class Row:
    """A problem, with the outcome of each package that took part.

    ratio is the median of kernelops' seconds over those of the dense factor where they were timed in turn.
    """

    problem: Solve
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    ratio: float | None = None


def reason_against(name: str, problem: Solve, plan: Plan, rows: Iterable[Row]) -> str:
    """Why a package is left out of a row; empty where it takes part."""
    peer = PEERS[name]
    if problem.kernel in peer.lacks:
        return "has no such kernel"
    if peer.dense and problem.N > MOST_DENSE:
        return "would store the matrix"
    if peer.single and (problem.N != plan.middle or problem.columns > 1):
        return "not asked"
    allowed = plan.limit * (OURS_TIMES if name == OURS else 1)
    forecast, largest = 0.0, 0
    for row in rows:  # smaller or easier ones of the same series
        before, found = row.problem, row.outcomes.get(name)
        alike = before.data == problem.data and before.columns <= problem.columns and before.alpha >= problem.alpha
        if found is None or not alike or before.N > problem.N:
            continue
        if found.seconds is None and found.note.startswith("more than"):
            return f"more than {plan.limit:.0f} s for less"
        if found.seconds is not None and before.N >= largest:  # the largest tells best
            seconds = found.seconds * (problem.N / before.N) ** peer.power
            forecast, largest = seconds if before.N > largest else max(forecast, seconds), before.N
    return f"would take {forecast:.0f} s" if forecast > DOUBT * allowed else ""


def measure(plan: Plan, names: list[str], rtol: float = RTOL) -> tuple[list[Row], list[str]]:
    """All rows, and notes on what was not measured. Each row is printed when it is done."""
    begun, rows, notes = time.perf_counter(), [], []
    workers = {name: Worker(name) for name in names}
    there = {name: len(load()[0]) for name, load in datasets.LOADERS.items() if not datasets.missing([name])}
    try:
        for problem in plan.problems():
            if problem.N > there.get(problem.data, 0):
                continue
            if time.perf_counter() - begun > 60 * plan.minutes:
                notes.append(f"not begun after {plan.minutes:.0f} minutes: {problem.name}, N = {problem.N:,}")
                continue
            rows.append(Row(problem))
            for name in names:
                late = time.perf_counter() - begun > 60 * plan.minutes
                why = "out of time" if late else reason_against(name, problem, plan, rows[:-1])
                allowed = plan.limit * (OURS_TIMES if name == OURS else 1)
                rows[-1].outcomes[name] = Outcome(note=why) if why else workers[name].solve(problem, rtol, allowed)
            in_turn(rows[-1], workers, rtol, plan.limit)
            print(solve_report.line(rows[-1]), flush=True)
    finally:
        for worker in workers.values():
            worker.close()
    return rows, notes


def in_turn(row: Row, workers: dict[str, Worker], rtol: float, limit: float) -> None:
    """Time short solves by kernelops and by the dense factor again, in turn: they are compared to within a tenth.

    A shared machine changes its pace by more than that from one second to the next.
    """
    short = [row.outcomes[name] for name in (OURS, DENSE) if name in row.outcomes]
    if len(short) < 2 or not all(outcome.seconds is not None and outcome.seconds < IN_TURN for outcome in short):
        return
    turns = TURNS[any(outcome.seconds >= ONCE for outcome in short)]
    found = {name: [row.outcomes[name].seconds] for name in (OURS, DENSE)}
    for _ in range(turns - 1):
        for name, seconds in found.items():
            seconds.append(workers[name].solve(row.problem, rtol, limit).seconds)
    pairs = [pair for pair in zip(*found.values(), strict=True) if None not in pair]
    row.ratio = median(ours / dense for ours, dense in pairs)
    for name, seconds in zip(found, zip(*pairs)):
        row.outcomes[name] = replace(row.outcomes[name], seconds=median(seconds))


def verdict(rows: list[Row]) -> str:
    """Whether kernelops is hardly ever slower than a dense factor, and where it is slowest beside it."""
    text = f"no row slower than {AT_MOST:g} times Cholesky"
    found = [(row, [row.outcomes.get(name) for name in (OURS, DENSE)]) for row in rows]
    ratios = [
        (row.ratio or ours.seconds / dense.seconds if ours.seconds is not None and ours.verified else math.inf, row)
        for row, (ours, dense) in found
        if ours is not None and dense is not None and dense.seconds is not None
    ]
    if not ratios:
        return f"{text}: not measured"
    ratio, row = max(ratios, key=lambda pair: pair[0])
    name, N, alpha, columns = solve_report.head(row)
    where = f"{name}, N = {N}, alpha = {alpha}, {columns} column{'s' * (columns != '1')}"
    return f"{text}: {'PASS' if ratio <= AT_MOST else 'FAIL'} (worst of {len(ratios)}: {where}, {ratio:.2f})"


def compare(options: argparse.Namespace) -> int:
    """Measure, print the page and write it; 1 where an answer of ours is not what was asked for."""
    plan = QUICK if options.quick else WHOLE
    if options.n:
        plan = replace(plan, sizes=tuple(n for n in plan.sizes if n < options.n) + (options.n,))
        plan = replace(plan, middle=min(plan.middle, options.n))
    names = [name for name in present() if not options.dense or name in (OURS, DENSE)]
    notes = [f"{name} is not installed" for name in PEERS if name not in present()]
    notes += datasets.missing({system.data for system in SYSTEMS})
    rows, more = measure(plan, names)
    text = solve_report.page(rows, [verdict(rows), *notes, *more], RTOL, plan)
    print(f"\n{text}")
    writes = not (options.quick or options.dense)
    output = options.output or (RESULTS / "solves.md" if writes else None)
    picture = options.picture or (ROOT / "docs" / "solves.png" if writes else None)
    if output:
        output.write_text(text, encoding="utf-8")
        found = [{"problem": asdict(row.problem), **{n: asdict(o) for n, o in row.outcomes.items()}} for row in rows]
        output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if picture:
        solve_report.draw(rows, RTOL, picture)
    print(verdict(rows))
    ours = [row.outcomes[OURS] for row in rows if row.outcomes[OURS].seconds is not None]
    return 0 if ours and all(outcome.verified for outcome in ours) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few sizes, at most 4 minutes; writes nothing by itself")
    parser.add_argument("--dense", action="store_true", help="beside Cholesky alone; writes nothing by itself")
    parser.add_argument("--problems", action="store_true", help="the fourteen problems of problems.TABLES")
    parser.add_argument("--plain", action="store_true", help="with --problems: count plain iterations too (minutes)")
    parser.add_argument("--large", action="store_true", help="terrain and diamonds at 50,000 points, to 1e-5")
    parser.add_argument("--n", type=int, help="most points")
    parser.add_argument("--output", type=Path, help="the Markdown page; the JSON file goes beside it")
    parser.add_argument("--picture", type=Path, help="the picture")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "", flush=True)
    if options.problems or options.large:
        codes = [tables.run(options.n or tables.TABLES[0].N, measure_plain=options.plain)] if options.problems else []
        codes += [large.run(options.n or large.N)] if options.large else []
        return max(codes)
    return compare(options)


if __name__ == "__main__":
    raise SystemExit(main())
