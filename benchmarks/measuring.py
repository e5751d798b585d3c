"""Rows of the tables, measured: nanoseconds per pair of every engine, and of the bound beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bound import FORMS, Bound
from engines import ENGINES, OURS
from kernels import Problem
from plan import BOUNDED, Row
from timing import interleaved, seconds_of

BUDGET = 2.0  # seconds for the repetitions of a row; three of each in any case
BLOCK = 0.05  # seconds of one engine's turn


@dataclass
class Measured:
    """What was measured on a problem.

    Attributes
    ----------
    ns : dict
        Engine -> nanoseconds per pair.
    bound : dict
        A form of the bound -> nanoseconds per pair.
    first : dict
        Engine -> seconds of the first call, from the formula's text on.
    wrong : list of str
        Which other packages' answers were wrong; they are not timed.
    """

    problem: Problem
    ns: dict[str, float] = field(default_factory=dict)
    bound: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def ratio(self, engine: str) -> float | None:
        """How many times the engine takes what we take."""
        return self.ns[engine] / self.ns[OURS] if engine in self.ns and OURS in self.ns else None

    def fraction(self, form: str) -> float | None:
        """How much of the bound's speed we reach."""
        return self.bound[form] / self.ns[OURS] if form in self.bound and OURS in self.ns else None


def begin(engine: str, problem: Problem) -> tuple[Callable[[], Any], Any]:
    """The call, made of a text, and what it returns."""
    call = ENGINES[engine].call(problem)
    return call, call()


def bounded(problem: Problem) -> bool:
    """Whether the bound is one for this problem."""
    return (problem.kind, problem.Dv, problem.dtype, problem.same) == ("gaussian", 1, "float32", False) and (
        problem.D in BOUNDED
    )


def measure(row: Row, engines: Iterable[str], bound: Bound | None, repeat: int) -> Measured:
    """Check and time one row with those of its engines that are there."""
    problem, calls = row.problem, {}
    result = Measured(problem)
    len(problem.arrays)  # made here, not in somebody's first call
    for engine in (name for name in row.engines if name in engines):
        seconds, (call, answer) = seconds_of(partial(begin, engine, problem))
        try:
            problem.check(answer, engine)
        except ValueError as error:
            if engine == OURS:
                raise
            result.wrong.append(str(error))
        else:
            result.first[engine], calls[engine] = seconds, call
    loops = {form: bound.run(problem.D, form, problem.N) for form in FORMS} if bound and bounded(problem) else {}
    taken = interleaved(calls | loops, repeat, BUDGET, block=BLOCK)
    result.ns = {engine: 1e9 * taken[engine] / problem.pairs for engine in calls}
    result.bound = {form: 1e9 * taken[form] / loop.pairs for form, loop in loops.items()}
    return result
