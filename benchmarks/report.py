"""The results as text: tables in Markdown, the summary, and the page of them all."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import accuracy
import memory
from crossover import SMALL, Curve
from engines import ENGINES, OURS, PEERS
from kernels import KINDS
from measuring import Measured
from verdicts import FORM, Verdict, beside_bound, beside_dense, beside_keops, of_precision_and_memory

import kernelops
from kernelops.backends import installed_version
from kernelops.engines.cpu import instruction_set
from kernelops.engines.threads import thread_count


@dataclass
class Results:
    """All that one run has measured.

    Attributes
    ----------
    rows : list of Measured
    curve : dict
        Engine -> N -> seconds.
    errors : dict
        D -> error of a float32 product.
    peaks : list of Peak
    notes : list of str
        What could not be measured, and why.
    """

    rows: list[Measured] = field(default_factory=list)
    curve: Curve = field(default_factory=dict)
    errors: dict[int, float] = field(default_factory=dict)
    peaks: list[memory.Peak] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def summary(self) -> list[Verdict]:
        """Every figure that is wanted, and whether it was reached."""
        return [
            *beside_keops(self.rows),
            *beside_bound(self.rows),
            *beside_dense(self.rows, self.curve),
            *of_precision_and_memory(self.errors, self.peaks),
        ]


def number(value: float | None, form: str = "{:.2f}") -> str:
    return "-" if value is None else form.format(value)


def cells(row: Measured) -> list[str]:
    """A row of the table of products; the columns of first calls only where x and y are two arrays."""
    p = row.problem
    bound = row.bound.get(FORM.get(p.D, ""))
    return [
        *(p.name, p.dtype, str(p.D), str(p.Dv) if "b" in KINDS[p.kind].arrays else "-", f"{p.N:,}"),
        *(number(row.ns.get(engine)) for engine in ENGINES),
        *([] if p.same else [number(bound)]),
        *(number(row.ratio(engine), "{:.1f}") for engine in PEERS),
        *([] if p.same else [number(row.first.get(engine)) for engine in (OURS, "KeOps")]),
    ]


def header(same: bool) -> list[str]:
    return [
        *("reduction", "dtype", "D", "Dv", "N"),
        *(f"{engine}, ns" for engine in ENGINES),
        *([] if same else ["bound, ns"]),
        *(f"{engine} / {OURS}" for engine in PEERS),
        *([] if same else [f"first call {engine}, s" for engine in (OURS, "KeOps")]),
    ]


def table(lines: list[list[str]]) -> str:
    """A Markdown table; the first of the lines is its head."""
    widths = [max(map(len, column)) for column in zip(*lines)]

    def line(texts: list[str]) -> str:
        first, *others = zip(texts, widths)
        return "| " + " | ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]) + " |"

    rule = "| " + " | ".join(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]) + " |"
    return "\n".join([line(lines[0]), rule, *map(line, lines[1:])])


def products(results: Results, same: bool) -> str:
    return table([header(same), *(cells(row) for row in results.rows if row.problem.same == same)])


def curve(results: Results) -> str:
    sizes = sorted({N for seconds in results.curve.values() for N in seconds})
    columns = [
        [number(1e3 * seconds[N] if N in seconds else None, "{:.3f}") for N in sizes]
        for seconds in results.curve.values()
    ]
    names = [f"{engine}, ms" for engine in results.curve]
    return table([["N", *names], *([f"{N:,}", *texts] for N, texts in zip(sizes, zip(*columns)))])


def precision(results: Results) -> str:
    return table([["D", "error"], *([str(D), f"{error:.1e}"] for D, error in results.errors.items())])


def footprint(results: Results) -> str:
    lines = [
        [f"{p.N:,}", "K(x, x)" if p.same else "x, y", *(f"{n / 2**20:,.2f}" for n in sizes)]
        for p in results.peaks
        for sizes in [(p.arguments, p.extra, 4 * p.N**2)]
    ]
    return table([["N", "points", "arguments, MB", "extra at the peak, MB", "the matrix would take, MB"], *lines])


def machine() -> Iterator[str]:
    """The machine and the versions, without names of hosts or folders."""
    yield f"- {cpu_model()}, {os.cpu_count()} cores; kernelops uses {instruction_set()} and {thread_count()} threads"
    packages = ["numpy", *(engine.distribution for name, engine in ENGINES.items() if name != OURS)]
    others = [f"{package} {installed_version(package) or 'not installed'}" for package in packages]
    yield f"- Python {platform.python_version()}, kernelops {kernelops.__version__}, {', '.join(others)}"


def cpu_model() -> str:
    """The processor's name where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def page(results: Results) -> str:
    """The results as a Markdown page."""
    bullets = "\n".join(f"- {verdict}" for verdict in results.summary())
    return f"""# Reductions over all pairs, on the CPU

Made by `make bench`. Everything is from one run: medians of interleaved repetitions by the wall clock, every answer
checked against float64. An engine's turn lasts for some hundredths of a second, or one call; of several calls the first
is left out, where the machine still belongs to whoever had the turn before.

{chr(10).join([*machine(), *(f"- {note}" for note in results.notes)])}

## Summary

{bullets}

The verdict on the bound is by differences, which are right for any data, where D is small, and by products where D is
large; the other form is shown for comparison.

## Nanoseconds per pair, x and y different arrays

N x N pairs. D is the length of a point, Dv that of the vector that the kernel multiplies. The first call of KeOps
compiles; the columns of dense torch and scikit-learn store the whole kernel matrix. The bound is a hand-written fused
loop with its columns in the first-level cache.

{products(results, False)}

## Nanoseconds per pair, K(x, x): one array given as x and as y

{products(results, True)}

## From which size on

Milliseconds of a Gaussian product of N x N pairs, D = 3, float32. The dense ways end where the matrix has 2 GB. Dense
torch is the faster of all its threads and one, up to N = {SMALL:,}.

{curve(results)}

## Precision

The largest |error| over the sum of |terms| of float32 Gaussian products, against float64: points in the unit cube,
sigma = sqrt(D) / 10, {accuracy.N:,} columns, Dv of 1 and 16, two sets of points and one.

{precision(results)}

## Memory

What a Gaussian product, D = 3, float32, takes besides its arguments: the peak of a process, less that before the call.

{footprint(results)}
"""
