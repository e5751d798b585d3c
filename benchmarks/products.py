"""Reductions over all pairs of points: kernelops beside KeOps, dense torch and scikit-learn, in one run on the CPU.

The unit of work is a pair (i, j), N**2 of them; the unit of the tables is nanoseconds per pair, by the wall clock with
all threads that each engine takes by default, the median of interleaved repetitions. The first call, from the formula's
text on, is timed apart: there KeOps generates code and compiles it. Every answer is checked against float64 before it
is timed. A summary says which of the wanted figures were reached.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

import accuracy
import charts
import crossover
import memory
from bound import Bound, BoundError
from engines import ENGINES, OURS, present
from measuring import Measured, measure
from plan import LARGEST, Row, all_rows, quick_rows
from report import Results, cells, page

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "products.md"


def forget_compiled(folder: str) -> None:
    """Let KeOps compile into an empty folder, so that its first calls are first calls."""
    if find_spec("pykeops"):
        import pykeops

        pykeops.set_verbose(False)
        pykeops.set_build_folder(folder)


def the_bound(notes: list[str]) -> Bound | None:
    """The bound, or a note why there is none."""
    try:
        return Bound()
    except BoundError as why:
        notes.append(f"no bound: {why}")
        return None


def measured(rows: list[Row], engines: list[str], bound: Bound | None, repeat: int) -> list[Measured]:
    """Every row twice, with two arrays and with one; each is printed when it is done."""
    found = []
    for row in rows:
        for version in (row, row.of_one_array()):
            found.append(measure(version, engines, bound, repeat))
            name = "K(x, x)" if version.problem.same else "x, y"
            print(name.ljust(8), " ".join(cells(found[-1])), flush=True)
    return found


def run(rows: list[Row], engines: list[str], points: int, repeat: int, longest: int, beside: list[str]) -> Results:
    """All measurements: rows of at most so many points, the curve of the engines `beside` up to `longest`."""
    results = Results(notes=[f"{engine} is not installed" for engine in ENGINES if engine not in engines])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        forget_compiled(folder)
        bound = the_bound(results.notes)
        results.rows = measured([row.at_most(points) for row in rows], engines, bound, repeat)
        results.notes += [error for row in results.rows for error in row.wrong]
        results.curve = crossover.measure([name for name in beside if name in engines], longest, repeat)
    results.errors = accuracy.measure()
    results.peaks = memory.measure((2 * points, 10 * points))
    if not results.peaks:
        results.notes.append("no peak of memory: the system does not tell")
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only what the summary reads; writes nothing by itself")
    parser.add_argument("--n", type=int, default=LARGEST, help="most points of i and of j in the tables")
    parser.add_argument("--repeat", type=int, default=9, help="most repetitions of a row")
    parser.add_argument("--output", type=Path, help=f"the Markdown page; {RESULTS.relative_to(ROOT)} of a whole run")
    parser.add_argument("--pictures", type=Path, help="folder of the two pictures; docs of a whole run")
    options = parser.parse_args()
    # one thread more would only be waited for: the packages' own choice is what users get
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "", flush=True)

    rows = quick_rows() if options.quick else all_rows()
    beside = [OURS, "dense torch", "scikit-learn"] if options.quick else list(ENGINES)
    longest = options.n if options.quick else 10 * options.n
    results = run(rows, present(), options.n, options.repeat, longest, beside)
    text = page(results)
    print(f"\n{text}")
    output = options.output or (None if options.quick else RESULTS)
    pictures = options.pictures or (None if options.quick else ROOT / "docs")
    if output:
        output.write_text(text, encoding="utf-8")
    if pictures:
        charts.draw(results, pictures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
