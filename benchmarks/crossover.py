"""From which size on does which way to a Gaussian product pay? Seconds for N x N pairs, D = 3, float32.

Dense torch may choose: of small products it makes the faster one of all its threads and one. kernelops and KeOps choose
by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable

from engines import ENGINES, OURS, torch_on_one_thread
from kernels import Problem
from timing import interleaved

SIZES = (100, 200, 300, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
FASTER_FROM = 200  # points from which on kernelops is wanted to be faster than the dense ways
MATRIX_BYTES = 2e9  # the largest matrix that a dense way may store
BUDGET = 2.0  # seconds for the repetitions at one size; every engine has one turn in any case
SMALL = 2_000  # points up to which dense torch may choose
TORCH, ALONE = "dense torch", "dense torch on one thread"
SHORT = 5_000  # points up to which a repetition is short: there every engine has some turns more
BLOCK = 0.03  # seconds of one engine's turn

Curve = dict[str, dict[int, float]]  # engine -> N -> seconds


def fits(engine: str, N: int) -> bool:
    """Whether the engine does without a matrix of all pairs, or has room for it."""
    return not ENGINES[engine].dense or 4 * N**2 <= MATRIX_BYTES


def measure(engines: Iterable[str], largest: int, repeat: int) -> Curve:
    """Check and time every engine at every size up to the largest."""
    engines = list(engines)
    curve: Curve = {engine: {} for engine in engines}
    for N in (n for n in SIZES if n <= largest):
        problem = Problem("gaussian", N)
        calls = {engine: ENGINES[engine].call(problem) for engine in engines if fits(engine, N)}
        if TORCH in calls and N <= SMALL:
            calls[ALONE] = torch_on_one_thread(problem)
        for engine, call in calls.items():
            problem.check(call(), engine)
        taken = interleaved(calls, repeat, BUDGET, least=5 if N <= SHORT else 1, block=BLOCK)
        if ALONE in taken:
            taken[TORCH] = min(taken[TORCH], taken.pop(ALONE))
        for engine, seconds in taken.items():
            curve[engine][N] = seconds
    return curve


def least_lead(curve: Curve, start: int = FASTER_FROM) -> tuple[float, int, str] | None:
    """(how many times faster than a dense way, at which N, which one), where that is least from N = start on."""
    leads = [
        (seconds / curve[OURS][N], N, engine)
        for engine, times in curve.items()
        if ENGINES[engine].dense
        for N, seconds in times.items()
        if N >= start
    ]
    return min(leads, default=None)
