"""Seconds of several calls in turn, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter
from typing import Any


def seconds_of(call: Callable[[], Any]) -> tuple[float, Any]:
    """How long a call takes, and what it returns."""
    start = perf_counter()
    result = call()
    return perf_counter() - start, result


def interleaved(calls: Mapping[str, Callable[[], Any]], repeat: int, budget: float) -> dict[str, float]:
    """The median seconds of each call, over rounds in which every call runs once.

    There are `repeat` rounds, or fewer but at least three once `budget` seconds are spent.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    start = perf_counter()
    for done in range(repeat):
        if done >= 3 and perf_counter() - start > budget:
            break
        for name, call in calls.items():
            taken[name].append(seconds_of(call)[0])
    return {name: median(seconds) for name, seconds in taken.items()}
