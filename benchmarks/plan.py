"""Which rows the tables have, of how many points, and which engines take part in each.

Sizes come from counted work, so that no row takes for ever. What an engine does where its time tells nothing new is
left out: KeOps compiles for seconds each formula, dense ways spend their time on the kernel matrix whatever Dv is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engines import ENGINES, OURS, PEERS
from kernels import Problem

DS = (1, 2, 3, 10, 30, 100, 1000)
DVS = (1, 2, 16, 64)
LARGEST = 10_000  # points of the rows that the verdicts read
WORK = 2.5e9  # operations of one product in the other rows
FEWEST, MOST = 2_000, 5_000  # points of the other rows


@dataclass(frozen=True)
class Row:
    """A problem and the engines that it is timed with."""

    problem: Problem
    engines: tuple[str, ...]

    def of_one_array(self) -> Row:
        """The same for K(x, x)."""
        return replace(self, problem=replace(self.problem, same=True))

    def at_most(self, N: int) -> Row:
        """The same with no more than N points."""
        return replace(self, problem=replace(self.problem, N=min(self.problem.N, N)))


# the ratios to KeOps whose geometric mean is wanted, and the row that is held against dense torch
JUDGED = (
    Problem("gaussian", LARGEST, 3),
    Problem("gaussian", LARGEST, 10),
    Problem("gaussian", LARGEST, 100),
    Problem("gaussian", LARGEST, 3, 16),
    Problem("gaussian", LARGEST, 3, dtype="float64"),
    Problem("laplace", LARGEST),
    Problem("matern32", LARGEST),
    Problem("logsumexp", LARGEST),
    Problem("argkmin", LARGEST),
)
WIDE = Problem("gaussian", 3_000, 1000)
BOUNDED = (3, 10, 100)  # the D that the bound is written for


def size(D: int, Dv: int) -> int:
    """Points whose product takes about WORK operations: 3 for each coordinate, 2 for each sum, 20 for the kernel."""
    points = (WORK / (3 * D + 2 * Dv + 20)) ** 0.5
    return 100 * round(min(max(points, FEWEST), MOST) / 100)


def key(problem: Problem) -> tuple:
    """What a problem is, however many points it has."""
    return problem.kind, problem.D, problem.Dv, problem.dtype


def engines_of(problem: Problem) -> tuple[str, ...]:
    """Those for a row that no verdict reads."""
    narrow, single = problem.Dv == 1, problem.dtype == "float32"
    takes = {
        "KeOps": problem.D <= 100 and (problem.Dv in (1, 16) if single else narrow and problem.D in (10, 100)),
        "dense torch": True,
        "scikit-learn": problem.Dv in (1, 16),
    }
    return (OURS, *(name for name in PEERS if takes[name] and ENGINES[name].without != problem.kind))


def judged_rows() -> list[Row]:
    """The rows of the verdicts."""
    return [*(Row(problem, tuple(ENGINES)) for problem in JUDGED), Row(WIDE, (OURS, "dense torch", "scikit-learn"))]


def all_rows() -> list[Row]:
    """Every row of the tables, in their order."""
    judged = {key(row.problem): row for row in judged_rows()}
    table = [
        *(Problem("gaussian", size(D, Dv), D, Dv, dtype) for dtype in ("float32", "float64") for D in DS for Dv in DVS),
        *(Problem(kind, MOST) for kind in ("laplace", "matern32", "matern52", "logsumexp", "argkmin", "gradient")),
    ]
    rows = [judged.get(key(problem)) or Row(problem, engines_of(problem)) for problem in table]
    return [replace(row, engines=tuple(ENGINES)) if row.problem is WIDE else row for row in rows]


def quick_rows() -> list[Row]:
    """The rows of the verdicts alone, with the engine that each is held against."""
    return [replace(row, engines=(OURS, "dense torch" if row.problem is WIDE else "KeOps")) for row in judged_rows()]
