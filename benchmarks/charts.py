"""Two pictures of the results: bars of nanoseconds per pair, and the curve over the number of points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from engines import ENGINES, OURS
from kernels import Problem
from plan import JUDGED, WIDE
from report import Results
from verdicts import FORM, find

COLOURS = {OURS: "#c0392b", "KeOps": "#34608c", "dense torch": "#8fa9c2", "scikit-learn": "#c9c4ba"}
ON_ONE = "#e59a91"  # kernelops on K(x, x)
SHOWN = (
    *JUDGED[:5],
    WIDE,
    *JUDGED[5:7],
    *(Problem(kind, 1) for kind in ("matern52", "logsumexp", "argkmin", "gradient")),
)
INK, FAINT = "#333333", "#dddddd"


def plain(axes) -> None:
    """No frame, faint lines behind what is drawn."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(which="both", length=0, colors=INK)
    axes.set_axisbelow(True)


def short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def bars(results: Results, path: Path) -> None:
    """A group of bars for each reduction, on a logarithmic scale."""
    from matplotlib.figure import Figure

    problems = [problem for problem in SHOWN if find(results.rows, problem, False).ns]
    series = [(OURS, True, ON_ONE, "kernelops, K(x, x)"), *((name, False, COLOURS[name], name) for name in ENGINES)]
    figure = Figure(figsize=(9.5, 0.9 + 0.66 * len(problems)), layout="constrained")
    axes = figure.add_subplot()
    plain(axes)
    places, thick = np.arange(len(problems)), 0.16
    bounds = [find(results.rows, problem, False).bound.get(FORM.get(problem.D, ""), np.nan) for problem in problems]
    floor = 0.7 * min(ns for row in results.rows for ns in [*row.ns.values(), *row.bound.values()])
    for k, (engine, same, colour, label) in enumerate(series):
        ns = [find(results.rows, problem, same).ns.get(engine, np.nan) for problem in problems]
        at = places + (k - 2) * thick
        axes.barh(at, np.subtract(ns, floor), 0.9 * thick, floor, color=colour, label=label)
        ours = (engine, same) == (OURS, False)
        for place, value, bound in zip(at, ns, bounds):
            end = np.nanmax([value, bound]) if ours else value  # behind the mark of the bound too
            if np.isfinite(value):
                bold = "bold" if engine == OURS else "normal"
                axes.text(1.03 * end, place, short(value), va="center", size=7.5, color=INK, weight=bold)
    span = places - 1.5 * thick, places - 0.5 * thick
    axes.vlines(bounds, *span, color="black", lw=1.6, label="bound: one fused loop")
    axes.set_xscale("log")
    axes.set_xlim(left=floor)
    axes.grid(axis="x", color=FAINT, lw=0.7)
    axes.set_yticks(places, [problem.label for problem in problems], size=10)
    axes.set_ylim(len(problems) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("nanoseconds per pair (i, j), logarithmic: less is better", color=INK)
    figure.legend(loc="outside upper center", ncols=6, frameon=False, fontsize=9, handlelength=1.2, columnspacing=1.4)
    figure.savefig(path, dpi=130)


def lines(results: Results, path: Path) -> None:
    """Seconds over the number of points, both logarithmic, with the names at the ends of the lines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    plain(axes)
    for engine, seconds in results.curve.items():
        width = 2.6 if engine == OURS else 1.8
        axes.plot(list(seconds), list(seconds.values()), "o-", ms=4, lw=width, color=COLOURS[engine], label=engine)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(color=FAINT, lw=0.7)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} s" if value >= 1 else f"{1e3 * value:g} ms")
    axes.set_xlabel("points N, for N x N pairs", color=INK)
    axes.set_title("Gaussian product, D = 3, float32", size=11, color=INK, loc="left")
    axes.legend(frameon=False, fontsize=10)
    figure.savefig(path, dpi=130)


def draw(results: Results, folder: Path) -> None:
    bars(results, folder / "products.png")
    lines(results, folder / "crossover.png")
