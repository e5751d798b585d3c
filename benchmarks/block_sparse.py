"""Products with block-sparse ranges: does the time fall with the pairs that are kept, beside KeOps' ranges?

50,000 points of the unit cube in clusters of 200 to 500, a Gaussian kernel of length 0.2, float32, x and y different
arrays. A pattern keeps for each cluster those nearest to it, or random ones, which lie scattered. Ours are medians over
rounds in which every pattern has its turn; KeOps has one turn each. Some rows of every answer are compared with NumPy's
in float64. Exits with 1 where a line says FAIL.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from report import machine, number, table
from timing import interleaved, seconds_of

from kernelops import Ranges
from kernelops.numpy import Genred

RESULTS = Path(__file__).parent / "results"
N = 50_000
SHARES = (1.0, 0.5, 0.2, 0.05, 0.01)
SIZES = (200, 500)  # points of a cluster
ROWS = 64  # that are compared with NumPy's
ERROR = 3e-7  # at most, of the sum of the magnitudes of the terms
FORMULA, ALIASES = "Exp(-g*SqDist(x,y))*b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)", "g = Pm(1)"]
RATE = 12.5  # g of a Gaussian of length 0.2
PROPORTIONAL, DOWN_TO = 1.3, 0.05  # times the share of the dense time, at most, down to that share
FASTER, AT = 30.0, 0.01  # times as fast as dense, at least, at that share


@dataclass(frozen=True)
class Problem:
    """Points in clusters, one after the other."""

    N: int

    @cached_property
    def arrays(self) -> tuple[np.ndarray, ...]:
        draw = np.random.default_rng(0)
        x = draw.random((self.N, 3), np.float32)
        x = x[Ranges.order(x, sum(SIZES) // 2)[0]]
        b = draw.standard_normal((self.N, 1)).astype(np.float32)
        return x, x.copy(), b, np.array([RATE], np.float32)

    @cached_property
    def clusters(self) -> np.ndarray:
        sizes = np.random.default_rng(1).integers(SIZES[0], SIZES[1], self.N // SIZES[0], endpoint=True)
        ends = np.minimum(np.concatenate([[0], np.cumsum(sizes)]), self.N)
        return np.stack([ends[:-1], ends[1:]], axis=1)[ends[:-1] < ends[1:]]

    def ranges(self, pattern: str, share: float) -> Ranges:
        """Which clusters meet: about this share of all pairs, symmetric."""
        x = self.arrays[0].astype(float)
        centres = np.stack([x[a:b].mean(0) for a, b in self.clusters])
        far = ((centres[:, None] - centres) ** 2).sum(-1)
        if pattern == "random":
            far = np.random.default_rng(2).random(far.shape)
            far = np.maximum(far, far.T) ** 2  # uniform again
        return Ranges.from_mask(self.clusters, self.clusters, far <= np.quantile(far, share))

    def error(self, found: np.ndarray, ranges: Ranges | None) -> float:
        """Of some rows, in units of the sum of the magnitudes of their terms."""
        x, y, b, g = (a.astype(np.float64) for a in self.arrays)
        rows = np.sort(np.random.default_rng(3).choice(self.N, min(self.N, ROWS), replace=False))
        K = np.exp(-g * ((x[rows, None] - y) ** 2).sum(-1))
        if ranges is not None:
            K *= ranges.contains(rows[:, None], np.arange(self.N))
        size = np.abs(K) @ np.abs(b)
        return float((np.abs(found[rows] - K @ b) / np.maximum(size, np.finfo(float).tiny)).max())


@dataclass(frozen=True)
class Row:
    """One pattern: its density, seconds of ours and of KeOps, those predicted in units of dense, error of ours."""

    pattern: str
    density: float
    seconds: float
    keops: float | None
    predicted: float
    error: float


def measure(problem: Problem, repeat: int, budget: float, with_keops: bool) -> tuple[float, float | None, list[Row]]:
    """Seconds of dense products, ours and KeOps', and the rows."""
    genred = Genred(FORMULA, ALIASES, axis=1)
    patterns = {(name, share): problem.ranges(name, share) for name in ("nearest", "random") for share in SHARES}
    calls: dict[Any, Any] = {None: partial(genred, *problem.arrays)}
    calls |= {key: partial(genred, *problem.arrays, ranges=ranges) for key, ranges in patterns.items()}
    errors = {key: problem.error(call(), patterns.get(key)) for key, call in calls.items()}
    taken = interleaved(calls, repeat, budget, block=0.2)
    theirs = keops(problem, patterns) if with_keops else {}
    rows = []
    for (name, share), ranges in patterns.items():
        key, size = (name, share), (problem.N, problem.N)
        mine = taken[key], theirs.get(key), ranges.predicted_cost(*size), errors[key]
        rows.append(Row(name, ranges.density(*size), *mine))
    return taken[None], theirs.get(None), rows


def keops(problem: Problem, patterns: dict[Any, Ranges]) -> dict[Any, float]:
    """Seconds of KeOps' products, each once after one that compiles."""
    from pykeops.numpy import Genred as Theirs

    genred, found = Theirs(FORMULA, ALIASES, axis=1), {}
    few = [a[:300] if len(a) > 1 else a for a in problem.arrays]
    genred(*few, backend="CPU")
    genred(*few, backend="CPU", ranges=Ranges.dense(300, 300).as_tuple())
    found[None] = seconds_of(lambda: genred(*problem.arrays, backend="CPU"))[0]
    for key, ranges in patterns.items():
        six = tuple(np.array(a) for a in ranges.as_tuple())
        found[key] = seconds_of(lambda six=six: genred(*problem.arrays, backend="CPU", ranges=six))[0]
    return found


def lines(dense: float, rows: list[Row]) -> list[tuple[bool, str]]:
    """What was wanted, and whether it was found."""
    falling = [r.seconds / dense / r.density for r in rows if r.density > 0.9 * DOWN_TO]
    fast = [dense / r.seconds for r in rows if r.density < 1.5 * AT]
    worst = max(r.error for r in rows)
    return [
        (
            max(falling) <= PROPORTIONAL,
            f"time over its share of the dense time, down to {100 * DOWN_TO:g} %: at most {max(falling):.2f} "
            f"(wanted {PROPORTIONAL})",
        ),
        (
            min(fast) >= FASTER,
            f"times as fast as dense at {100 * AT:g} %: {min(fast):.0f} (wanted at least {FASTER:g})",
        ),
        (worst <= ERROR, f"error over the sum of magnitudes: at most {worst:.1e} (wanted {ERROR:g})"),
    ]


def page(problem: Problem, dense: float, theirs: float | None, rows: list[Row]) -> str:
    """The figures as Markdown."""
    cells = [["pattern", "kept", "kernelops, ms", "over its share", "predicted", "times dense", "KeOps, ms", "ratio"]]
    one = ["dense", "100 %", number(1e3 * dense), "", "", "", number(theirs and 1e3 * theirs, "{:.0f}")]
    cells.append([*one, number(theirs and theirs / dense, "{:.0f}")])
    for r in rows:
        share = dense * r.density
        mine = [number(1e3 * r.seconds), number(r.seconds / share), number(r.predicted / r.density)]
        compared = [number(r.keops and 1e3 * r.keops, "{:.0f}"), number(r.keops and r.keops / r.seconds, "{:.0f}")]
        cells.append([r.pattern, f"{100 * r.density:.1f} %", *mine, number(dense / r.seconds, "{:.1f}"), *compared])
    verdicts = "\n".join(f"- {'PASS' if good else 'FAIL'}  {text}" for good, text in lines(dense, rows))
    return "\n".join(
        [
            "# Products with block-sparse ranges, on the CPU\n",
            "Made by `make bench-ranges`. A Gaussian product in D = 3, float32, of "
            f"{problem.N:,} points in {len(problem.clusters)} clusters of {SIZES[0]} to {SIZES[1]}. `over its share` "
            "is the time over that of the dense product times the share of the pairs kept, `predicted` what "
            "`Ranges.predicted_cost` says of it.\n",
            *machine(),
            "",
            table(cells),
            "",
            verdicts,
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=N, help="points")
    parser.add_argument("--repeat", type=int, default=15, help="rounds")
    parser.add_argument("--no-keops", action="store_true", help="leave KeOps out")
    parser.add_argument("--output", type=Path, help="the Markdown page; the JSON file goes beside it")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "", flush=True)
    there = find_spec("pykeops") is not None and not options.no_keops
    problem = Problem(options.n)
    dense, theirs, rows = measure(problem, options.repeat, 60.0, there)
    text = page(problem, dense, theirs, rows)
    print(text)
    output = options.output or (RESULTS / "block_sparse.md" if options.n == N and there else None)
    if output:
        output.write_text(text, encoding="utf-8")
        found = {"dense": dense, "keops": theirs, "rows": [asdict(row) for row in rows]}
        output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if all(good for good, _ in lines(dense, rows)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
