"""What a run on a GPU has found: what was wanted of it, the tables, the page, and all of it as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import accuracy
from engines import OURS
from gpu_cases import Check, Finding
from gpu_solves import Solved
from gpu_timing import DENSE, KEOPS, Timed
from kernels import KINDS
from report import number, table
from verdicts import Verdict

EXPS = 16  # exponentials that a multiprocessor computes in a cycle of its clock
SEED, SOON = 5000, 30.0  # points of the problem whose solve and gradient are to take at most so many milliseconds
# D of a Gaussian -> fewest points from which a ratio counts, and how many times as long KeOps is to take
BESIDE_KEOPS = {3: (1_000_000, 1.3), 100: (100_000, 3.0)}
SHOWN = 20  # failures that are written out


@dataclass
class Results:
    """All that one run has found.

    Attributes
    ----------
    machine : dict
        What there is, by name.
    findings : list of Finding
    left_out : list of Check
        For want of time.
    errors : dict
        D -> error of a float32 product over the sum of magnitudes.
    rows : list of Timed
    solves : list of Solved
    first : list of dict
        Seconds of the first calls of two processes, of which the second finds the kernels compiled.
    notes : list of str
        What could not be measured, and why.
    """

    machine: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    left_out: list[Check] = field(default_factory=list)
    errors: dict[int, float] = field(default_factory=dict)
    rows: list[Timed] = field(default_factory=list)
    solves: list[Solved] = field(default_factory=list)
    first: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def bound(self) -> float | None:
        """Exponentials a second that the GPU can compute."""
        clock, count = self.machine.get("clock_mhz"), self.machine.get("multiprocessors")
        return EXPS * count * clock * 1e6 if clock and count else None

    @property
    def wrong(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.good]


# ---- judging ----


def verdicts(results: Results) -> list[Verdict]:
    """Every figure that is wanted, and whether it was reached; what was not measured is no failure."""
    worst, D = max(((error, D) for D, error in results.errors.items()), default=(None, 0))
    broken = [row for row in results.rows if OURS in row.failed]
    return [
        count("results that are wrong", results.wrong, results.findings, f"{len(results.left_out)} checks left out"),
        Verdict("float32 |error| / sum of |terms|", worst, accuracy.WORST, "{:.1e}", True, f"D = {D}" if D else ""),
        count("timed reductions that failed", broken, results.rows),
        *(beside_keops(results.rows, D) for D in BESIDE_KEOPS),
        count("solves that are wrong", [s for s in results.solves if s.failed], results.solves),
        *soon(results.solves),
    ]


def count(text: str, bad: list, everything: list, note: str = "") -> Verdict:
    """None of them may be bad."""
    told = ", ".join(filter(None, [f"of {len(everything)}", note]))
    return Verdict(text, float(len(bad)) if everything else None, 0.0, "{:.0f}", True, told if everything else note)


def beside_keops(rows: Iterable[Timed], D: int) -> Verdict:
    """How many times as long KeOps takes for a Gaussian, at the largest size that both were measured on."""
    fewest, wanted = BESIDE_KEOPS[D]
    mine = [row for row in rows if is_gaussian(row, D) and row.problem.N >= fewest]
    both = [row for row in mine if row.ratio(KEOPS) is not None]
    text = f"{KEOPS} / {OURS}, Gaussian, D = {D}"
    if both:
        row = max(both, key=lambda row: row.problem.N)
        return Verdict(text, row.ratio(KEOPS), wanted, "{:.2f}", note=f"N = {row.problem.N:,}")
    why = [f"{engine}: {note}" for row in mine[-1:] for engine, note in {**row.notes, **row.failed}.items()]
    told = [note for note in why if not note.startswith(DENSE)] or [f"no row of at least {fewest:,} points"]
    return Verdict(text, None, wanted, "{:.2f}", note="; ".join(told))


def is_gaussian(row: Timed, D: int) -> bool:
    p = row.problem
    return (p.kind, p.D, p.Dv, p.dtype) == ("gaussian", D, 1, "float32")


def soon(solves: Iterable[Solved]) -> list[Verdict]:
    """Milliseconds of the judged problem's solve, and of its gradient."""
    found = next((solved for solved in solves if solved.N == SEED and OURS in solved.seconds), None)
    times = {
        f"milliseconds of a solve, N = {SEED:,}": found and 1e3 * found.seconds[OURS],
        f"milliseconds of its gradient, N = {SEED:,}": found and 1e3 * found.gradient[OURS],
    }
    return [Verdict(text, time, SOON, "{:.1f}", most=True) for text, time in times.items()]


def line(verdict: Verdict) -> str:
    """One line of the summary."""
    head = {None: "-   ", True: "PASS", False: "FAIL"}[verdict.good]
    found = "not measured" if verdict.found is None else verdict.unit.format(verdict.found)
    wanted = f"wanted at {'most' if verdict.most else 'least'} {verdict.unit.format(verdict.wanted)}"
    return f"{head}  {verdict.text}: {found} ({wanted}){f'; {verdict.note}' if verdict.note else ''}"


def passed(results: Results) -> bool:
    return all(verdict.good is not False for verdict in verdicts(results))


# ---- tables ----

HEAD = [
    *("reduction", "dtype", "D", "Dv", "N", f"{OURS}, ms", "pairs/s", "of the bound"),
    *(text for engine in (KEOPS, DENSE) for text in (f"{engine}, ms", f"/ {OURS}")),
    *(f"first call {engine}, s" for engine in (OURS, KEOPS)),
]


def cells(row: Timed, bound: float | None) -> list[str]:
    """A row of the table of reductions; an engine that failed says so."""
    p, mine = row.problem, row.seconds.get(OURS)
    rate = p.pairs / mine if mine else None
    share = rate / bound if rate and bound and p.dtype == "float32" else None
    times = {engine: milliseconds(row, engine) for engine in (OURS, KEOPS, DENSE)}
    return [
        *(p.name, p.dtype, str(p.D), str(p.Dv) if "b" in KINDS[p.kind].arrays else "-", f"{p.N:,}"),
        *(times[OURS], number(rate, "{:.2e}"), number(share, "{:.0%}")),
        *(text for engine in (KEOPS, DENSE) for text in (times[engine], number(row.ratio(engine)))),
        *(number(row.first.get(engine)) for engine in (OURS, KEOPS)),
    ]


def milliseconds(row: Timed, engine: str) -> str:
    taken = row.seconds.get(engine)
    return "failed" if engine in row.failed else number(None if taken is None else 1e3 * taken, "{:.4g}")


def reductions(results: Results) -> str:
    return table([HEAD, *(cells(row, results.bound) for row in results.rows)])


def precision(results: Results) -> str:
    return table([["D", "error"], *([str(D), f"{error:.1e}"] for D, error in results.errors.items())])


def worst(findings: Iterable[Finding]) -> dict[str, Finding]:
    """dtype -> the result that is nearest to what is allowed, of those that are right."""
    found: dict[str, Finding] = {}
    for finding in (finding for finding in findings if finding.good):
        before = found.get(finding.check.dtype)
        if before is None or finding.error / finding.allowed > before.error / before.allowed:
            found[finding.check.dtype] = finding
    return found


def checks(results: Results) -> str:
    """How many results there are of each dtype, how many are wrong, and the worst of the others."""
    lines, near = (
        [["dtype", "results", "wrong", "largest error", "nearest to what is allowed"]],
        worst(results.findings),
    )
    for dtype in dict.fromkeys(finding.check.dtype for finding in results.findings):
        mine = [finding for finding in results.findings if finding.check.dtype == dtype]
        largest = max((finding.error for finding in mine if finding.good), default=None)
        bad = sum(not finding.good for finding in mine)
        lines.append([dtype, str(len(mine)), str(bad), number(largest, "{:.1e}"), str(near.get(dtype, "-"))])
    return table(lines)


def solves(results: Results) -> str:
    head = ["N", *(f"{engine}, ms" for engine in (OURS, KEOPS, DENSE)), "gradient, ms", "first, ms", "errors", "how"]
    lines = [
        [
            f"{s.N:,}",
            *(number(scaled(s.seconds.get(engine)), "{:.4g}") for engine in (OURS, KEOPS, DENSE)),
            number(scaled(s.gradient.get(OURS)), "{:.4g}"),
            number(scaled(s.first), "{:.4g}"),
            ", ".join(f"{name} {error:.1e}" for name, error in s.errors.items()) or "-",
            "; ".join([*filter(None, [s.said]), *s.failed]) or "-",
        ]
        for s in results.solves
    ]
    return table([head, *lines])


def scaled(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def first(results: Results) -> str:
    names = ["from the text", "compiled before"]
    head = ["process", *(results.first[0] if results.first else [])]
    return table([head, *([name, *map("{:.3f}".format, f.values())] for name, f in zip(names, results.first))])


def page(results: Results) -> str:
    """The results as a Markdown page."""

    def bullets(texts: Iterable[str]) -> str:
        return "\n".join(f"- {text}" for text in texts)

    failures = bullets(map(str, results.wrong[:SHOWN]))
    return f"""# On a GPU

Made by `python benchmarks/gpu_check.py`.

{bullets([*(f"{name}: {value}" for name, value in results.machine.items()), *results.notes])}

## Summary

{bullets(line(verdict) for verdict in verdicts(results))}

## Is it right?

Every case of the tests' table and every reduction against NumPy in float64 (float64 against wider), along both axes,
with ranges, in batches, with the columns in one part and in many. Errors are over the sum of magnitudes.

{checks(results)}

{failures}

float32 Gaussian products, points in the unit cube, sigma = sqrt(D) / 10:

{precision(results)}

## Reductions

N x N pairs, arrays that are on the GPU. The bound is that of {EXPS} exponentials for each multiprocessor and cycle.

{reductions(results)}

## Solves

alpha = 0.01, Gaussian of sigma = 0.1 on random points of the unit square, two right-hand sides, float32.

{solves(results)}

## First calls

Seconds of a new process: importing the package, starting the GPU, two calls of a product of 1,000 points.

{first(results)}
"""


def as_json(results: Results) -> dict[str, Any]:
    """All of it, as json can write it."""
    rows = [asdict(row) for row in results.rows]
    judged = [{**asdict(v), "good": v.good} for v in verdicts(results)]
    return {
        "machine": results.machine,
        "checks": {
            "results": len(results.findings),
            "wrong": [str(finding) for finding in results.wrong],
            "left_out": [str(check) for check in results.left_out],
            "nearest": {dtype: str(finding) for dtype, finding in worst(results.findings).items()},
        },
        "errors": results.errors,
        "bound": results.bound,
        "rows": rows,
        "solves": [asdict(solved) for solved in results.solves],
        "first": results.first,
        "notes": results.notes,
        "verdicts": judged,
    }
