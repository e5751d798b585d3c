"""Seconds of several calls in turn, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter, sleep
from typing import Any

SETTLE = 0.05  # seconds before a turn


def seconds_of(call: Callable[[], Any]) -> tuple[float, Any]:
    """How long a call takes, and what it returns."""
    start = perf_counter()
    result = call()
    return perf_counter() - start, result


def turn(call: Callable[[], Any], block: float) -> float:
    """The median seconds of a call, repeated until `block` seconds are spent.

    The first of several is left out: there the caches still belong to whoever had the turn before. Its threads go on
    spinning for a while after their work, and are given the time to go to sleep.
    """
    taken: list[float] = []
    sleep(SETTLE)
    start = perf_counter()
    while not taken or perf_counter() - start < block:
        taken.append(seconds_of(call)[0])
    return median(taken[1:] or taken)


def interleaved(
    calls: Mapping[str, Callable[[], Any]], repeat: int, budget: float, *, least: int = 3, block: float = 0.0
) -> dict[str, float]:
    """The median seconds of each call, over rounds in which every call has one turn.

    There are `repeat` rounds, or fewer but at least `least` once `budget` seconds are spent. A turn is one call, or as
    many as `block` seconds take.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    start = perf_counter()
    for done in range(repeat):
        if done >= least and perf_counter() - start > budget:
            break
        for name, call in calls.items():
            taken[name].append(turn(call, block))
    return {name: median(seconds) for name, seconds in taken.items()}
