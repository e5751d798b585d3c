"""Solves in a process apart, one for each package, that is ended where it takes too long.

Some peers have no limit of their own. The clock runs from the arrays to the answer; before it starts, a small system of
the same kind was solved, so that nothing is imported or compiled while it runs.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import Any

import numpy as np
from peers import PEERS, Answer
from problems import Solve
from timing import seconds_of

STARTING, CHECKING = 180.0, 300.0  # seconds that imports, compilers and data may take, and the true residual
SMALL = 200  # points of the system that is solved first
SLACK = 1.01  # of what was asked for: a carried residual may stop so much too early
ONCE, TIMES = 0.3, 9  # seconds below which a solve is done again, so many times in all; the median counts


@dataclass(frozen=True)
class Outcome:
    """What one package did with one problem.

    Attributes
    ----------
    seconds : float or None
        None where there is no answer.
    believed, true : float or None
        Relative residuals, of the worst column: by its own account, and in float64.
    verified : bool
        Whether the true one is what was asked for.
    steps : int or None
    note : str
        What went wrong, or what it says of its way.
    """

    seconds: float | None = None
    believed: float | None = None
    true: float | None = None
    verified: bool = False
    steps: int | None = None
    note: str = ""


def outcome(problem: Solve, rtol: float, seconds: float, answer: Answer) -> Outcome:
    """The answer, with its true residual."""
    true = float(np.max(problem.residual(answer.x)))
    return Outcome(seconds, answer.believed, true, true <= SLACK * rtol, answer.steps, answer.note)


def solved(name: str, problem: Solve, rtol: float) -> tuple[float, Answer]:
    """Seconds and answer; a short solve is repeated."""
    call = partial(PEERS[name].solve, problem, rtol)
    seconds, answer = seconds_of(call)
    if seconds < ONCE:
        seconds = median([seconds, *(seconds_of(call)[0] for _ in range(TIMES - 1))])
    return seconds, answer


def serve(pipe: Any, name: str) -> None:
    """In the process apart: answer until nothing more is asked."""
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # some packages print from C
    known = set()
    while (asked := pipe.recv()) is not None:
        problem, rtol = asked
        try:
            kind = problem.data, problem.kernel, problem.columns
            len(problem.x), len(problem.b)
            if kind not in known:
                PEERS[name].solve(replace(problem, N=SMALL, alpha=1.0), 1e-2)
                known.add(kind)
            pipe.send("ready")
            seconds, answer = solved(name, problem, rtol)
            pipe.send("solved")
            pipe.send(outcome(problem, rtol, seconds, answer))
        except Exception as error:  # whatever a package raises is a result
            pipe.send(Outcome(note=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"))


class Worker:
    """A package in its process, which is started when it is first asked and again after it was ended."""

    def __init__(self, name: str) -> None:
        self.name, self.process, self.pipe = name, None, None

    def solve(self, problem: Solve, rtol: float, limit: float) -> Outcome:
        """The outcome; after `limit` seconds the process is ended."""
        if self.process is None:
            context = get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=serve, args=(theirs, self.name), daemon=True)
            self.process.start()
            theirs.close()
        self.pipe.send((replace(problem), rtol))  # a copy without the arrays
        # a short solve is repeated, which its limit has to leave room for
        for stage, wait in (("start", STARTING), ("solve", limit + TIMES * ONCE), ("check", CHECKING)):
            said = self._heard(wait)
            if said is None:
                self.close()
                return Outcome(note=f"more than {limit:.0f} s" if stage == "solve" else f"did not {stage}")
            if isinstance(said, Outcome):
                return said
        raise AssertionError("the third message is an Outcome")

    def _heard(self, wait: float) -> Any:
        """The next message; None where there is none in time."""
        try:
            return self.pipe.recv() if self.pipe.poll(wait) else None
        except (EOFError, OSError):
            self.close()
            return Outcome(note="its process died")

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None
