"""Rows of blocks shared out over processes, for which threads stand here: vectors and an operator of own rows."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kernelops.solvers.vectors import NumpyVectors

PATIENCE = 60  # seconds after which a thread that waits for the others gives up


class Group:
    """Threads that work on own rows each: shares holds the first row of each, and the number of all."""

    def __init__(self, starts):
        self.rows = [slice(first, stop) for first, stop in zip(starts, starts[1:], strict=False)]
        self.barrier, self.slots = threading.Barrier(len(self.rows), timeout=PATIENCE), [None] * len(self.rows)

    def gather(self, rank, value):
        """The values of all threads, in their order."""
        self.slots[rank] = value
        self.barrier.wait()
        found = list(self.slots)
        self.barrier.wait()  # until all have read
        return found

    def run(self, function):
        """function(rank) in every thread; an error in one ends them all, and is raised."""

        def work(rank):
            try:
                return function(rank)
            except BaseException:
                self.barrier.abort()
                raise

        with ThreadPoolExecutor(len(self.rows)) as pool:
            futures = [pool.submit(work, rank) for rank in range(len(self.rows))]
        errors = [e for e in (f.exception() for f in futures) if e is not None]
        for e in sorted(errors, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
            raise e
        return [f.result() for f in futures]


class SharedVectors(NumpyVectors):
    """The operations on numpy blocks of own rows."""

    def __init__(self, group, rank):
        self.group, self.rank = group, rank

    def from_whole(self, a):
        return a[..., self.group.rows[self.rank], :].copy()

    def sum_parts(self, parts, shape, dtype):
        return sum(self.group.gather(self.rank, super().sum_parts(parts, shape, dtype)))

    def largest(self, x):
        return np.max(self.group.gather(self.rank, super().largest(x)), axis=0)


class RowBlock:
    """Own rows of a dense matrix, as an operator."""

    name, native, symmetric, entries, alpha, least = "rows", True, "yes", (), np.zeros(()), -np.inf

    def __init__(self, a, dtype, group, rank):
        self.dtype, self.vectors = np.dtype(dtype), SharedVectors(group, rank)
        self.group, self.rank, self.a = group, rank, np.asarray(a)[group.rows[rank]]
        self.n, self.global_n = self.a.shape

    def product(self, V, /):
        whole = np.concatenate(self.group.gather(self.rank, V), axis=-2)
        return self.a.astype(np.result_type(self.dtype, V.dtype)) @ whole
