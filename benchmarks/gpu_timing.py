"""How long does a GPU take? Reductions beside KeOps and dense torch on the same GPU, and the first calls of a process.

By CUDA events where torch has CUDA, with tensors that are on the GPU already; else by the wall clock, with PyCUDA's
arrays, and without peers. Every function here is called in a process apart.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.util import find_spec
from statistics import median
from time import perf_counter
from typing import Any

import accuracy
import numpy as np
from engines import OURS, dense_torch
from gpu_worker import first_line
from kernels import KINDS, Problem
from timing import seconds_of

KEOPS, DENSE = "KeOps", "dense torch"
ENGINES = (OURS, KEOPS, DENSE)
TURN = 0.02  # seconds of one engine's turn, of short calls
ROUNDS = 7
DENSE_BYTES = 8e9  # of the largest matrix that dense torch may store
CHECKED = 1e8  # numbers that the float64 answer of a row may cost
CHECKED_ROWS = 4  # at least


class OnGpu(Problem):
    """A problem of which fewer rows are compared where it has many columns."""

    @cached_property
    def rows(self) -> np.ndarray:
        count = max(CHECKED_ROWS, min(64, int(CHECKED / (self.N * (self.D + 5)))))
        return np.unique(np.linspace(0, self.N - 1, count).astype(int))


@dataclass
class Timed:
    """One row of the table.

    Attributes
    ----------
    seconds : dict
        Engine -> seconds of a call.
    first : dict
        Engine -> seconds of the first call, from the formula's text on.
    notes : dict
        Engine -> why it was not measured.
    failed : dict
        Engine -> what it raised, or what is wrong with its answer.
    """

    problem: Problem
    seconds: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def ratio(self, engine: str) -> float | None:
        """How many times the engine takes what we take."""
        return self.seconds[engine] / self.seconds[OURS] if {engine, OURS} <= set(self.seconds) else None


def cuda_torch() -> Any:
    """torch where it has a GPU, else None."""
    if not find_spec("torch"):
        return None
    import torch

    return torch if torch.cuda.is_available() else None


class Place:
    """Where arrays are put, and the clock."""

    def __init__(self) -> None:
        from kernelops.gpu.device import device

        self.torch = cuda_torch()
        if self.torch is not None:
            self.torch.cuda.init()
        self.gpu = device()

    def put(self, a: np.ndarray) -> Any:
        if self.torch is not None:
            return self.torch.from_numpy(a).cuda()
        from pycuda.gpuarray import to_gpu

        with self.gpu.current():
            return to_gpu(a)

    def fetch(self, a: Any) -> np.ndarray:
        if self.torch is not None:
            return a.detach().cpu().numpy()
        with self.gpu.current():
            return a.get()

    def wait(self) -> None:
        self.gpu.synchronise()

    def seconds(self, call: Callable[[], Any], times: int) -> float:
        """The mean seconds of so many calls in a row."""
        if self.torch is None:
            self.wait()
            start = perf_counter()
            for _ in range(times):
                call()
            self.wait()
            return (perf_counter() - start) / times
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(times):
            call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000 / times

    def waited(self, call: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds by the wall clock until the GPU has nothing more to do, and the result."""
        self.wait()

        def whole() -> Any:
            result = call()
            self.wait()
            return result

        return seconds_of(whole)


def genred(package: str, problem: Problem, place: Place) -> Callable[[], Any]:
    """The call of kernelops, or of KeOps, on arrays that are on the GPU."""
    if package == "pykeops":
        import pykeops
        from pykeops.torch import Genred

        pykeops.set_verbose(False)
    elif place.torch is not None:
        from kernelops.torch import Genred
    else:
        from kernelops.numpy import Genred
    kind, how = KINDS[problem.kind], {"backend": "GPU"} if package == "pykeops" else {}
    arrays = [place.put(a) for a in problem.arrays]
    reduction = Genred(kind.formula, problem.aliases, kind.op, axis=1, opt_arg=kind.opt_arg)
    return lambda: reduction(*arrays, **how)


def refused(engine: str, problem: Problem, place: Place) -> str:
    """Why an engine is not asked at all."""
    if engine == OURS:
        return ""
    if place.torch is None:
        return "torch has no CUDA here"
    if engine == KEOPS and not find_spec("pykeops"):
        return "not installed"
    if engine == DENSE and problem.N**2 * np.dtype(problem.dtype).itemsize > DENSE_BYTES:
        return "the matrix does not fit"
    return ""


def row(problem: Problem, budget: float, before: Timed | None = None) -> Timed:
    """Check and time one problem within about so many seconds.

    An engine that took so long for fewer points that one call would not fit is left out.
    """
    place, result, calls = Place(), Timed(problem), {}
    problem = OnGpu(**{name: getattr(problem, name) for name in problem.__dataclass_fields__})
    makers = {OURS: partial(genred, "kernelops"), KEOPS: partial(genred, "pykeops")}
    makers[DENSE] = lambda problem, place: dense_torch(problem, "cuda")
    start = perf_counter()
    len(problem.truth)  # and the data: made here, not in somebody's first call
    once: dict[str, float] = {}
    for engine in ENGINES:
        why = refused(engine, problem, place)
        foreseen = foretold(engine, problem, before)
        if not why and 2 * foreseen > budget - (perf_counter() - start):
            why = f"no time for it, at about {foreseen:.2g} s"
        if not why:
            try:
                result.first[engine], (call, answer) = place.waited(partial(begun, makers[engine], problem, place))
                problem.check(place.fetch(answer), engine)
                del answer
                once[engine] = place.seconds(call, 1)
                calls[engine] = call
            except Exception as error:  # the row goes on without it
                result.failed[engine] = first_line(error)
        else:
            result.notes[engine] = why
    result.seconds = rounds(place, calls, once, budget - (perf_counter() - start))
    return result


def begun(make: Callable[..., Any], problem: Problem, place: Place) -> tuple[Callable[[], Any], Any]:
    call = make(problem, place)
    return call, call()


def foretold(engine: str, problem: Problem, before: Timed | None) -> float:
    """What a call will take at most, by that for fewer points."""
    if before is None or engine not in before.seconds:
        return 0.0
    return before.seconds[engine] * (problem.N / before.problem.N) ** 2


def rounds(place: Place, calls: dict[str, Any], once: dict[str, float], budget: float) -> dict[str, float]:
    """The median seconds of each call, over rounds in which every call has one turn; one call at least is known."""
    taken: dict[str, list[float]] = {engine: [] for engine in calls}
    times = {engine: max(1, min(200, round(TURN / max(once[engine], 1e-7)))) for engine in calls}
    whole = sum(times[engine] * once[engine] for engine in calls)
    start = perf_counter()
    for _ in range(ROUNDS):
        if perf_counter() - start + whole > budget:
            break
        for engine, call in calls.items():
            taken[engine].append(place.seconds(call, times[engine]))
    return {engine: median(seconds or [once[engine]]) for engine, seconds in taken.items()}


# ---- precision, and first calls ----


def precision(D: int, quick: bool) -> float:
    """The largest error of a float32 product over the sum of magnitudes."""
    kinds = [(1, False)] if quick else [(Dv, same) for Dv in (1, 16) for same in (False, True)]
    return max(accuracy.error(D, Dv, same, backend="GPU") for Dv, same in kinds)


def first_calls(folder: str) -> dict[str, float]:
    """Seconds of what a new process does first; compiled kernels are kept in that folder."""
    os.environ["KERNELOPS_CACHE_DIR"] = folder

    def imported() -> Any:
        from kernelops.numpy import Genred

        return Genred

    def started() -> Any:
        from kernelops.gpu.device import device

        return device()

    problem, taken = Problem("gaussian", 1000), {}
    taken["import"], Genred = seconds_of(imported)
    taken["start"], _ = seconds_of(started)
    len(problem.arrays)
    for name in ("first call", "second call"):
        call = partial(Genred(KINDS[problem.kind].formula, problem.aliases, axis=1), *problem.arrays, backend="GPU")
        taken[name], _ = seconds_of(call)
    return taken
