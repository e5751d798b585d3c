"""What is wanted, and whether it was found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, log

import accuracy
import memory
from crossover import FASTER_FROM, Curve, least_lead
from kernels import Problem
from measuring import Measured
from plan import BOUNDED, JUDGED, WIDE, key

MEAN = {False: 15.0, True: 20.0}  # times as fast as KeOps, geometric mean, by whether x and y are one array
LEAST = 4.0  # and the least of them
OF_BOUND = {3: 0.7, 10: 0.7}  # D -> how much of the bound's speed
DENSE_TIMES = 1.5  # at most, of dense torch's time at D = 1000
# The form that the bound is taken in: differences are right for any data; where D is large, products are what a
# careful program may change to.
FORM = {3: "differences", 10: "differences", 100: "products"}
COLUMN = {False: "x and y different arrays", True: "K(x, x)"}


@dataclass(frozen=True)
class Verdict:
    """One line of the summary.

    Attributes
    ----------
    text : str
        What was measured.
    found, wanted : float or None
        None where it was not measured, or where no figure is wanted.
    unit : str
        How the figures are written, as of str.format.
    most : bool
        Whether the wanted figure is the most that is good, not the least.
    note : str
        What else is to be said.
    """

    text: str
    found: float | None
    wanted: float | None = None
    unit: str = "{:.1f}"
    most: bool = False
    note: str = ""

    @property
    def good(self) -> bool | None:
        if self.found is None or self.wanted is None:
            return None
        return self.found <= self.wanted if self.most else self.found >= self.wanted

    def __str__(self) -> str:
        found = "not measured" if self.found is None else self.unit.format(self.found)
        asked = {True: "at most", False: "at least"}[self.most]
        wanted = "" if self.wanted is None else f"; wanted {asked} {self.unit.format(self.wanted)}"
        outcome = {None: "", True: ": reached", False: ": NOT reached"}[self.good]
        return f"{self.text}: {found}{f' ({self.note})' if self.note else ''}{wanted}{outcome}"


def geometric_mean(values: Iterable[float]) -> float:
    logs = [log(value) for value in values]
    return exp(sum(logs) / len(logs))


def find(rows: Iterable[Measured], problem: Problem, same: bool) -> Measured:
    """The row of a problem, whatever its size; an empty one where it was not measured."""
    found = (row for row in rows if key(row.problem) == key(problem) and row.problem.same == same)
    return next(found, Measured(problem))


def beside_keops(rows: list[Measured]) -> list[Verdict]:
    """Ratios to KeOps: every judged row, their geometric means and the least."""
    lines, everything = [], []
    for same, column in COLUMN.items():
        ratios = {problem.label: find(rows, problem, same).ratio("KeOps") for problem in JUDGED}
        lines += [Verdict(f"KeOps / kernelops, {column}: {label}", ratio) for label, ratio in ratios.items()]
        whole = None not in ratios.values()
        everything += [(ratio, f"{label}, {column}") for label, ratio in ratios.items() if whole]
        mean = geometric_mean(ratios.values()) if whole else None
        lines.append(Verdict(f"KeOps / kernelops, {column}: geometric mean", mean, MEAN[same]))
    least, where = min(everything, default=(None, ""))
    return [*lines, Verdict("KeOps / kernelops, the least of all", least, LEAST, note=where)]


def beside_bound(rows: list[Measured]) -> list[Verdict]:
    """How much of the bound's speed, in the form that counts and in the other one."""
    lines = []
    for D in BOUNDED:
        row = find(rows, Problem("gaussian", 1, D), False)
        for form in sorted(("differences", "products"), key=lambda form: form != FORM[D]):
            wanted = OF_BOUND.get(D) if form == FORM[D] else None
            text = f"speed over that of the bound by {form}, Gaussian, D = {D}"
            lines.append(Verdict(text, row.fraction(form), wanted, "{:.0%}"))
    return lines


def beside_dense(rows: list[Measured], curve: Curve) -> list[Verdict]:
    """The time over that of dense torch for long points, and the crossover."""
    lines = []
    for same, column in COLUMN.items():
        ratio = find(rows, WIDE, same).ratio("dense torch")
        text = f"kernelops / dense torch, D = {WIDE.D}, {column}"
        lines.append(Verdict(text, None if ratio is None else 1 / ratio, DENSE_TIMES, "{:.2f}", most=True))
    lead, N, engine = least_lead(curve) or (None, 0, "")
    text = f"times as fast as dense torch and scikit-learn, the least from N = {FASTER_FROM} on"
    return [*lines, Verdict(text, lead, 1.0, "{:.2f}", note=f"N = {N:,}, {engine}" if engine else "")]


def of_precision_and_memory(errors: dict[int, float], peaks: list[memory.Peak]) -> list[Verdict]:
    worst, D = max(((error, D) for D, error in errors.items()), default=(None, 0))
    note = f"D = {D}" if errors else ""
    return [
        Verdict("largest |error| / sum of |terms|", worst, accuracy.WORST, "{:.1e}", most=True, note=note),
        Verdict("bytes for each point", memory.per_point(peaks), memory.PER_POINT, "{:.0f}", most=True),
    ]
