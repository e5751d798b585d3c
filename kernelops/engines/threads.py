"""The number of threads: the least of what the user, the scheduler and the container allow; Python's threads."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from threading import Lock, Thread, local
from typing import Any

PROC_CGROUP = Path("/proc/self/cgroup")
SYS_CGROUP = Path("/sys/fs/cgroup")


def thread_reasons() -> dict[str, int]:
    """The limits on the number of threads, by name; those that do not apply are left out.

    Returns
    -------
    dict
        "OMP_NUM_THREADS" (if it is set to a positive whole number, or a list that starts with one), "affinity" (CPUs
        this process may run on) and "cgroup quota" (CPUs' worth of time its container may use, rounded up so that all
        of it can be used).
    """
    limits = {
        "OMP_NUM_THREADS": _omp_num_threads(),
        "affinity": _affinity(),
        "cgroup quota": _quota(PROC_CGROUP, SYS_CGROUP),
    }
    return {name: limit for name, limit in limits.items() if limit is not None}


def thread_count() -> int:
    """The number of threads a parallel region uses: the least of :func:`thread_reasons`, or 1 within `by_itself`."""
    return 1 if getattr(_here, "alone", False) else min(thread_reasons().values())


_here = local()


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Keep parallel regions of the calling thread on it, as one of several threads that share the cores."""
    before = getattr(_here, "alone", False)
    _here.alone = True
    try:
        yield
    finally:
        _here.alone = before


def map_on_threads(function: Callable[..., Any], *arguments: Iterable[Any], threads: int | None = None) -> list[Any]:
    """The list of what ``map`` gives, on at most so many threads (:func:`thread_count`), of which the caller's is one.

    If no more threads can be started, those that run do all the work.
    """
    tasks = list(zip(*arguments, strict=False))
    results: list[Any] = [None] * len(tasks)
    numbers, lock, errors = iter(range(len(tasks))), Lock(), []

    def work() -> None:
        while not errors:
            with lock:
                k = next(numbers, None)
            if k is None:
                return
            try:
                results[k] = function(*tasks[k])
            except BaseException as error:
                errors.append(error)

    helpers: list[Thread] = []
    try:
        for _ in range(min(threads or thread_count(), len(tasks)) - 1):
            helper = Thread(target=work)
            helper.start()
            helpers.append(helper)
    except (RuntimeError, MemoryError):  # "can't start new thread"
        pass
    work()
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]
    return results


def _omp_num_threads() -> int | None:
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    plausible = first.isascii() and first.isdecimal() and len(first) < 10
    return int(first) if plausible and int(first) > 0 else None


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache  # a quota hardly ever changes, and this is asked before every product
def _quota(proc: Path, sys: Path) -> int | None:
    """The least quota of this process' control group and those above it, or None."""
    quotas = []
    for line in _read(proc).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:  # version 2: one hierarchy
            quotas += [_quota_v2(folder) for folder in _groups_upwards(sys, path)]
        elif "cpu" in controllers.split(","):
            for mount in (sys / controllers, sys / "cpu"):
                quotas += [_quota_v1(folder) for folder in _groups_upwards(mount, path)]
    found = [q for q in quotas if q is not None]
    return max(1, math.ceil(min(found))) if found else None


def _groups_upwards(mount: Path, path: str) -> list[Path]:
    """The folders of a group and of all groups above it; inside a container only the last, the mount, may exist."""
    group = PurePosixPath("/", path.lstrip("/")).relative_to("/")
    return [mount / group, *(mount / above for above in group.parents)]


def _quota_v2(folder: Path) -> float | None:
    words = _read(folder / "cpu.max").split()
    return _ratio(words[0], words[1]) if len(words) == 2 else None


def _quota_v1(folder: Path) -> float | None:
    return _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    """quota / period in CPUs; None if there is no quota ("max", "-1", or no such file)."""
    try:
        number, length = int(quota), int(period)
    except ValueError:
        return None
    return number / length if number > 0 and length > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
