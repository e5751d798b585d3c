"""BLAS beside the engine: two sets of threads that wait by spinning take the cores from each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

_lock, _inside, _limit = Lock(), 0, None


@cache
def _controller() -> Any:
    """The libraries of this process, looked up once, when those of NumPy and SciPy are there."""
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Products of BLAS run on the thread that asks for them.

    For work in which they alternate with products of the engine, or those of NumPy's library with those of SciPy's: the
    threads of each go on spinning for milliseconds after their work, and where there are as many of them as cores, all
    becomes several times slower. Whoever comes first sets the limit, for the whole process, and whoever leaves last
    takes it back.
    """
    global _inside, _limit
    with _lock:
        _inside += 1
        if _inside == 1:
            _limit = _controller().limit(limits=1, user_api="blas")
            _limit.__enter__()
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limit.__exit__(None, None, None)
                _limit = None
