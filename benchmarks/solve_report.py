"""The solves as text and as a picture: seconds, believed and true residuals, seconds over the number of points."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charts import FAINT, INK, plain
from peers import OURS, PEERS, RANK
from problems import KERNELS
from report import cpu_model, table

import kernelops
from kernelops.backends import installed_version
from kernelops.engines.cpu import instruction_set
from kernelops.engines.threads import thread_count

COLOURS = {
    OURS: "#c0392b",
    "KeOps": "#34608c",
    "GPyTorch": "#8fa9c2",
    "HiGP": "#4f8a5b",
    "SciPy cg on kernelops": "#e59a91",
    "SciPy cg, dense": "#c9c4ba",
    "KernelRidge": "#b08fc2",
    "Cholesky": "#8a8172",
}


def names_of(rows: list[Any]) -> list[str]:
    """The packages that took part in any row, in the order of PEERS."""
    return [name for name in PEERS if any(name in row.outcomes for row in rows)]


def seconds(outcome: Any) -> str:
    """The time; in brackets, with the true residual, where that is not what was asked for."""
    if outcome is None or outcome.seconds is None:
        note = "" if outcome is None else outcome.note
        return note if note.startswith(("more than", "would take")) else "-"
    text = f"{outcome.seconds:.3g}" if outcome.seconds < 100 else f"{outcome.seconds:.0f}"
    return text if outcome.verified else f"({text}: {outcome.true:.0e})"


def beliefs(outcome: Any) -> str:
    """The believed residual and the true one."""
    if outcome is None or outcome.seconds is None:
        return "-"
    believed = "none" if outcome.believed is None else f"{outcome.believed:.0e}"
    return f"{believed} / {outcome.true:.0e}{'' if outcome.verified else ' !'}"


def head(row: Any) -> list[str]:
    p = row.problem
    return [f"{p.data}, {KERNELS[p.kernel].title}", f"{p.N:,}", f"{p.alpha:g}", str(p.columns)]


def line(row: Any) -> str:
    """A row as it is printed while the others are still to come."""
    return " | ".join([*head(row), *(f"{name} {seconds(found)}" for name, found in row.outcomes.items())])


def cells(rows: list[Any], of: Any) -> str:
    names = names_of(rows)
    lines = [[*head(row), *(of(row.outcomes.get(name)) for name in names)] for row in rows]
    return table([["system", "N", "alpha", "columns", *names], *lines])


def trouble(rows: list[Any]) -> Iterator[str]:
    """What the packages said where there is no answer, or not the right one."""
    for row in rows:
        for name, found in row.outcomes.items():
            told = found.seconds is not None and not found.verified
            raised = found.seconds is None and ":" in found.note
            if raised or (told and found.note):
                yield f"{name}, {' '.join(head(row))}: {found.note}"


def machine() -> Iterator[str]:
    """The machine and the versions, without names of hosts or folders."""
    yield f"{cpu_model()}, {os.cpu_count()} cores; kernelops uses {instruction_set()} and {thread_count()} threads"
    packages = sorted({"numpy", "torch", *(peer.distribution for name, peer in PEERS.items() if name != OURS)})
    others = [f"{package} {installed_version(package) or 'not installed'}" for package in packages]
    yield f"Python {platform.python_version()}, kernelops {kernelops.__version__}, {', '.join(others)}"
    if hasattr(os, "getloadavg"):
        yield f"load at the end: {os.getloadavg()[0]:.1f}"


def page(rows: list[Any], notes: list[str], rtol: float, plan: Any) -> str:
    """The results as a Markdown page."""
    bullets = "\n".join(f"- {text}" for text in [*machine(), *notes, *trouble(rows)])
    return f"""# Solves on real data, on the CPU

Made by `make bench-solve`. (alpha I + K) a = b for the rows of a data set; the first right-hand side is its target,
others are random. Every package is asked for |b - A a| / |b| <= {rtol:g} of each column. Seconds are by the wall clock,
from the arrays to the answer, setup included; imports, compilers and a small system of the same kind come before. A
solve of less than a third of a second is the median of nine; those of kernelops and of Cholesky of less than two
seconds are timed in turn three to seven times, and the verdict takes the median of their ratios. Every answer's
residual is recomputed in float64, by NumPy alone up to 16,000 points, and beyond by kernelops in float64, with random
rows checked by NumPy.

kernelops gets float32 data and its defaults; the others work in float64, where they can reach what is asked, and in
float32 in some rows. KeOps' absolute eps is scaled to be relative. GPyTorch and HiGP have preconditioners of rank
{RANK}; GPyTorch, KernelRidge, Cholesky and one of SciPy's ways store the matrix and end at 16,000 points. HiGP's own
matrix and preconditioner are used in SciPy's cg. A package leaves a series once it takes more than
{plan.limit:.0f} s, or would by its growth; kernelops has more time, for the largest.

{bullets}

## Seconds to a verified residual

In brackets, with the true residual: answers that are not what was asked for.

{cells(rows, seconds)}

## What is believed and what is true

The relative residual by the package's own account (for most what its stop rule was given) / the true one of the worst
column; ! where that is not what was asked for. Cholesky factors claim nothing.

{cells(rows, beliefs)}
"""


def draw(rows: list[Any], rtol: float, path: Path) -> None:
    """Seconds over the number of points, a panel for each system with its first alpha; hollow where an answer fails."""
    from matplotlib.figure import Figure

    shown, first = {}, {}
    for row in rows:
        p = row.problem
        if p.columns == 1 and p.alpha == first.setdefault((p.data, p.kernel), p.alpha):
            shown.setdefault((p.data, p.kernel, p.alpha), []).append(row)
    curves = {key: part for key, part in shown.items() if len({row.problem.N for row in part}) > 1}
    figure = Figure(figsize=(4.2 * max(1, len(curves)), 4.6), layout="constrained")
    panels = figure.subplots(1, max(1, len(curves)), sharey=True, squeeze=False)[0]
    for axes, ((data, kernel, alpha), part) in zip(panels, curves.items()):
        plain(axes)
        for name, colour in COLOURS.items():
            points = [(row.problem.N, row.outcomes[name]) for row in part if name in row.outcomes]
            points = sorted((N, found.seconds, found.verified) for N, found in points if found.seconds is not None)
            if not points:
                continue
            width = 2.6 if name == OURS else 1.6
            axes.plot(*zip(*((N, taken) for N, taken, _ in points)), lw=width, color=colour, label=name)
            for N, taken, good in points:
                axes.plot(N, taken, "o", ms=5, color=colour, mfc=colour if good else "white")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.grid(color=FAINT, lw=0.7)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} s" if value >= 1 else f"{1e3 * value:g} ms")
        axes.set_xlabel("points N", color=INK)
        axes.set_title(f"{data}, {KERNELS[kernel].title}, alpha = {alpha:g}", size=10, color=INK, loc="left")
    handles = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels())}
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=4, frameon=False, fontsize=9
    )  # fmt: skip
    title = f"seconds to a relative residual of {rtol:g}, setup included; hollow: not reached"
    figure.supxlabel(title, size=9, color=INK)
    figure.savefig(path, dpi=130)
