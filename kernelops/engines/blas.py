"""BLAS beside the engine: its threads take the cores from the engine's, and it needs memory of its own."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from scipy.linalg.blas import dgemm
from threadpoolctl import ThreadpoolController

from ..formula.cached import make_lock

BUFFER = 1 << 26  # bytes of address space; OpenBLAS takes and keeps half of it for each thread that is inside

_lock, _inside, _limit = make_lock(), 0, None


@cache
def _controller() -> Any:
    """The BLAS libraries of this process, looked up once, after those of NumPy and SciPy are loaded."""
    return ThreadpoolController()


def has_room(threads: int) -> bool:
    """Whether so many threads more could be given the working memory of a library."""
    try:
        mmap.mmap(-1, threads * BUFFER).close()
    except (OSError, MemoryError):
        return False
    return True


@cache  # once it has succeeded
def take_memory() -> None:
    """Make NumPy's and SciPy's libraries take their working memory.

    Raises
    ------
    MemoryError
        If there is none; the first product of a library would then end the process.
    """
    small = np.ones((3, 3))
    for product in (np.dot, lambda a, b: dgemm(1.0, a, b)):
        if not has_room(1):
            raise MemoryError(f"{BUFFER} bytes for the working memory of BLAS")
        product(small, small)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run products of BLAS on the thread that asks for them.

    For work in which they alternate with products of the engine, or those of NumPy's library with those of SciPy's: the
    threads of each go on spinning for milliseconds after their work, and if there are as many of them as cores, all
    becomes several times slower. The first to enter sets the limit, for the whole process, and the last to leave takes
    it back. MemoryError if the libraries could not have their working memory.
    """
    take_memory()
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
