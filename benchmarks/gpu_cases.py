"""Every case of the tests' table and every reduction on a GPU, held against NumPy in float64 (float64 against wider).

The unit is a check: a case, or a reduction, along one axis in one dtype, in several shapes and through both doors. Each
sum is judged by its error over the sum of magnitudes, indices by the values that they lead to. Checks run in several
processes, for most of the time goes into compiling.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from gpu_worker import LOST, AwayError, Worker, first_line

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # the table, and reductions of dense arrays
DTYPES = ("float32", "float64", "float16")
SHAPES = {"one part": (150, 40), "many parts": (5, 3000)}  # rows of the result, and what each of them meets
RANGED = (200, 330)
MOST_KEPT = 3  # K of KMin and its kin
UNITS = 128  # eps of the scale that a reduction of exponentials or of a Gaussian may be off
LIMIT = 60.0  # seconds that one check may take
NAN = float("nan")

Results = list[np.ndarray]


@dataclass(frozen=True)
class Check:
    """A unit of work.

    Attributes
    ----------
    what : int or str
        Number of a case, or name of a reduction.
    axis : int
    dtype : str
    """

    what: int | str
    axis: int
    dtype: str

    def __str__(self) -> str:
        from cases import CASES

        name = self.what if isinstance(self.what, str) else f"case {CASES[self.what].name}"
        return f"{name}, axis {self.axis}, {self.dtype}"


@dataclass(frozen=True)
class Finding:
    """One result, judged.

    Attributes
    ----------
    check : Check
    name : str
        What it is of the check.
    error, allowed : float
        Over the sum of magnitudes; the error is infinite where something is wrong that has no size.
    why : str
        What was raised instead.
    """

    check: Check
    name: str
    error: float
    allowed: float = 0.0
    why: str = ""

    @property
    def good(self) -> bool:
        return not self.why and self.error <= self.allowed

    def __str__(self) -> str:
        said = self.why or f"error {self.error:.1e} of the sum of magnitudes, allowed {self.allowed:.1e}"
        return f"{self.check}{self.name and f', {self.name}'}: {said}"


def all_checks() -> list[Check]:
    """Every reduction, then every case; the dtypes that are used most come first."""
    from cases import CASES

    from kernelops.reductions.kinds import REDUCTIONS

    kinds = [list(REDUCTIONS), range(len(CASES))]
    return [Check(what, axis, dtype) for kind in kinds for dtype in DTYPES for axis in (1, 0) for what in kind]


def quick_checks() -> list[Check]:
    """A few of them."""
    from cases import CASES

    gaussian = next(k for k, case in enumerate(CASES) if case.name == "Gaussian")
    return [Check(gaussian, 1, "float32"), Check("KMin_ArgKMin", 0, "float64"), Check("LogSumExp", 1, "float16")]


# ---- judges ----


def error_over(got: np.ndarray, want: np.ndarray, scale: Any) -> float:
    """The largest |error| in units of a scale, at least the smallest normal number; infinite where shapes differ."""
    if got.shape != want.shape:
        return np.inf
    with np.errstate(all="ignore"):
        rounded = want.astype(got.dtype)  # float16 has no room for large sums
        want = np.where(np.isinf(rounded), rounded, want)
        same = (got == want) | (np.isnan(got) & np.isnan(want))
        error = abs(got - want) / np.maximum(scale, np.finfo(got.dtype).tiny)
    return float(np.where(same, 0, np.where(np.isnan(error), np.inf, error)).max(initial=0))


def allowed(dtype: str, units: float) -> float:
    """So many eps of what is computed in; float16 is computed in float32, and rounded once."""
    if dtype == "float16":
        return float(units * np.finfo("float32").eps + np.finfo("float16").eps)
    return float(units * np.finfo(dtype).eps)


def led_to(values: np.ndarray, mask: np.ndarray | None, axis: int, indices: np.ndarray, largest: bool) -> np.ndarray:
    """The values at (..., rows, K, D) indices; infinite where there is none.

    Raises
    ------
    ValueError
        Where an index comes twice, or leads to a pair that is not met.
    """
    moved, at = np.moveaxis(values, -3 + axis, -1), np.swapaxes(indices, -1, -2)
    ordered, held = np.sort(at, axis=-1), at >= 0
    if (np.diff(ordered, axis=-1) == 0)[ordered[..., 1:] >= 0].any():
        raise ValueError("an index comes twice in a row")
    if mask is not None:
        met = np.broadcast_to((mask if axis == 1 else mask.T)[:, None, :], moved.shape)
        if not np.take_along_axis(met, np.maximum(at, 0), -1)[held].all():
            raise ValueError("an index of a pair that is not met")
    found = np.take_along_axis(moved, np.maximum(at, 0), -1)
    return np.swapaxes(np.where(held, found, -np.inf if largest else np.inf), -1, -2)


def judged(op: str, got: Results, values: np.ndarray, weights: np.ndarray, mask: np.ndarray | None, axis: int) -> float:
    """The error of a reduction's results over the magnitude of what it reduces."""
    import dense

    from kernelops.reductions.kinds import REDUCTIONS

    kind = REDUCTIONS[op]
    largest = float(abs(values).max(initial=0))
    if kind.accumulator == "sum":
        return error_over(got[0], dense.summed(values, mask, axis), dense.summed(abs(values), mask, axis))
    if kind.accumulator == "exp":
        want = dense.reduce(op, values, axis, mask, weights if kind.weighted else None)
        mean = kind.results == ("mean",)
        scale = dense.softmax(values, abs(weights), mask, axis) if mean else max(1.0, largest)
        return error_over(got[0], want, scale)
    want, _ = dense.best(values, mask, axis, MOST_KEPT if kind.many else 1, kind.largest)
    errors = []
    for name, a in zip(kind.results, got, strict=True):
        found = a if kind.many else a[..., None, :]
        found = led_to(values, mask, axis, found, kind.largest) if name == "indices" else found
        errors.append(error_over(found, want, largest))
    return max(errors)


# ---- what is computed ----


def doors() -> list[str]:
    """Arrays of NumPy that are sent to the GPU, and tensors that are there, where torch has CUDA."""
    try:
        import torch
    except ImportError:
        return ["numpy"]
    return ["numpy", "torch"] if torch.cuda.is_available() else ["numpy"]


def reduced(door: str, words: tuple, arrays: Iterable[np.ndarray], ranges: Any = None, **how: Any) -> Results:
    """The results of Genred(*words, **how) on a GPU."""
    if door == "numpy":
        from kernelops.numpy import Genred

        found = Genred(*words, **how)(*arrays, backend="GPU", ranges=ranges)
    else:
        import torch

        from kernelops.torch import Genred

        found = Genred(*words, **how)(*(torch.from_numpy(a).cuda() for a in arrays), ranges=ranges)
    results = found if isinstance(found, tuple) else (found,)
    return [a if isinstance(a, np.ndarray) else a.cpu().numpy() for a in results]


def of_case(check: Check) -> Iterator[tuple[str, Callable[[str], float], float]]:
    """The sums of a case: name, error through a door, what is allowed."""
    from cases import CASES

    case = CASES[check.what]
    for name, shape in SHAPES.items():
        arrays = case.data(*(shape if check.axis == 1 else shape[::-1]), check.dtype, seed=int(check.what))
        terms = case.dense(arrays, np.longdouble if check.dtype == "float64" else np.float64)

        def error(door: str, arrays: Any = arrays, terms: Any = terms) -> float:
            (got,) = reduced(door, (case.formula, case.aliases, "Sum"), arrays, axis=check.axis)
            return error_over(got, terms.sum(check.axis), abs(terms).sum(check.axis))

        yield name, error, allowed(check.dtype, case.units)


def of_reduction(check: Check) -> Iterator[tuple[str, Callable[[str], float], float]]:
    """A reduction of a Gaussian, or of its exponent: in shapes of all kinds, with ranges, in batches."""
    from kernelops.reductions.kinds import REDUCTIONS

    op, kind = str(check.what), REDUCTIONS[str(check.what)]
    rng = np.random.default_rng(0)
    formula = {"exp": "-g*SqDist(x,y)+0*Elem(b,0)"}.get(kind.accumulator, "Exp(-g*SqDist(x,y))*b")
    words = formula, ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)", "g = Pm(1)"], op
    how = {"axis": check.axis, "opt_arg": MOST_KEPT if kind.many else None}
    how |= {"formula2": "b"} if kind.weighted else {}
    given = {name: (shape, (), None) for name, shape in SHAPES.items()}
    given |= {"batches": (SHAPES["one part"], (2, 3), None)}
    given |= {name: (RANGED, (), ranges) for name, ranges in patterns(check.axis).items()}
    for name, (shape, (*lead,), ranges) in given.items():
        M, N = shape if check.axis == 1 else shape[::-1]
        x, y = rng.normal(size=(*lead[:1], *[1] * len(lead[1:]), M, 3)), rng.normal(size=(*lead[1:], N, 3))
        b = rng.uniform(0.3, 1.6, (N, 2)) if op.startswith("Log") else rng.normal(size=(N, 2))
        arrays = [a.astype(check.dtype) for a in (x, y, b, np.array([0.5]))]
        wide = [a.astype(np.longdouble if check.dtype == "float64" else np.float64) for a in arrays]
        exponents = -wide[3] * ((wide[0][..., :, None, :] - wide[1][..., None, :, :]) ** 2).sum(-1, keepdims=True)
        weights = wide[2][None, :, :]
        values = exponents if kind.accumulator == "exp" else np.exp(exponents) * weights
        mask = None if ranges is None else ranges.mask(M, N)

        def error(door: str, data: Any = (arrays, ranges), truth: Any = (values, weights, mask)) -> float:
            return judged(op, reduced(door, words, *data, **how), *truth, check.axis)

        yield name, error, allowed(check.dtype, UNITS)


def patterns(axis: int) -> dict[str, Any]:
    """Blocks of points that stand together, and of points that do not; some rows meet nothing."""
    from kernelops import Ranges

    rng = np.random.default_rng(1)
    M, N = RANGED if axis == 1 else RANGED[::-1]
    found = {}
    for name, arrange in {"ranges": np.sort, "ranges with orders": np.asarray}.items():
        keep = rng.random((7, 9)) < 0.4
        keep[2], keep[:, 3] = False, False
        found[name] = Ranges.from_mask(arrange(rng.integers(0, 7, M)), arrange(rng.integers(0, 9, N)), keep)
    return found


# ---- running them ----


def findings_of(check: Check) -> list[Finding]:
    """All results of a check, judged; after the context was lost nothing more is tried."""
    found = []
    for name, error, most in (of_reduction if isinstance(check.what, str) else of_case)(check):
        for door in doors():
            try:
                found.append(Finding(check, f"{name}, {door}", error(door), most))
            except Exception as why:  # whatever is raised is a finding
                found.append(Finding(check, f"{name}, {door}", NAN, most, first_line(why)))
                if LOST in found[-1].why:
                    return found
    return found


def run(checks: list[Check], processes: int, seconds: float, prelude: str = "") -> tuple[list[Finding], list[Check]]:
    """What was found in so many seconds, and the checks that were left out for want of time."""
    left, found, ends = deque(checks), [], monotonic() + seconds

    def work() -> None:
        with Worker(prelude) as worker:
            while monotonic() < ends:
                try:
                    check = left.popleft()
                except IndexError:
                    return
                try:
                    findings = worker.ask(findings_of, check, limit=LIMIT)
                except AwayError as why:
                    findings = [Finding(check, "", NAN, why=str(why))]
                if any(LOST in finding.why for finding in findings):
                    worker.close()
                found.extend(findings)

    with ThreadPoolExecutor(processes) as pool:
        for done in [pool.submit(work) for _ in range(processes)]:
            done.result()
    return found, list(left)
