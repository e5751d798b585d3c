"""Dense symmetric matrices on several threads: each calls BLAS by itself, on one thread.

The threads of BLAS itself wait by spinning. Beside those of the engine, and on a machine that is busy, they take the
cores from each other; threads that sleep until there is something to do don't. What is computed, and in which order,
does not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from threading import Condition

import numpy as np
from scipy.linalg import LinAlgError
from scipy.linalg.blas import dtrsm, strsm
from scipy.linalg.lapack import dpotrf, dpotrs, dtrtrs, spotrf, spotrs, strtrs

from .blas import one_blas_thread
from .threads import by_itself, map_on_threads, thread_count

PANEL = 160  # columns of a factor that one thread finishes
SHARED_FROM = 640  # rows from which several threads factor a matrix
APIECE = 8  # columns that a thread solves for at least
SHARED_SOLVE = 1 << 22  # entries of the matrix times columns from which several threads solve
_POTRF = {"d": dpotrf, "f": spotrf}
_POTRS = {"d": dpotrs, "f": spotrs}
_TRTRS = {"d": dtrtrs, "f": strtrs}
_TRSM = {"d": dtrsm, "f": strsm}


def factor(A: np.ndarray) -> None:
    """Write the Cholesky factor of A over its lower triangle; A is of float32 or float64, in Fortran order.

    What is above the diagonal counts for nothing, and becomes 0 in the blocks of PANEL rows on the diagonal.

    Raises
    ------
    LinAlgError
        Where A is not positive definite to working precision, or not finite.
    """
    n = len(A)
    with one_blas_thread():
        if n < SHARED_FROM:
            L, info = _POTRF[A.dtype.char](A, lower=1, overwrite_a=1, clean=1)
            if info:
                raise LinAlgError("not positive definite")
            if not np.may_share_memory(L, A):
                A[...] = L
        else:
            _Factoring(A).run(thread_count())
    if not np.isfinite(A[np.arange(n), np.arange(n)]).all():
        raise LinAlgError("not finite")


def solve(L: np.ndarray, V: np.ndarray, which: str = "LLT") -> np.ndarray:
    """A^-1 V, or L^-1 V ("L") or L^-T V ("LT"), for A = L L^T and a block V (n, k), in the dtype of L."""
    X = np.array(V, L.dtype, order="F")
    if not X.size:
        return X

    def solve_for(columns: slice) -> None:
        part = X[:, columns]
        if which == "LLT":
            found = _POTRS[L.dtype.char](L, part, lower=1, overwrite_b=1)[0]
        else:
            found = _TRTRS[L.dtype.char](L, part, lower=1, trans=int(which == "LT"), overwrite_b=1)[0]
        if not np.may_share_memory(found, part):
            part[...] = found

    n, k = X.shape
    pieces = min(thread_count(), k // APIECE) if n * n * k >= SHARED_SOLVE else 1
    ends = [k * piece // max(1, pieces) for piece in range(max(1, pieces) + 1)]
    with one_blas_thread():
        side_by_side([partial(solve_for, slice(a, b)) for a, b in zip(ends, ends[1:], strict=False)])
    return X


def in_blocks(n: int, length: int, work: Callable[[slice], object]) -> None:
    """Call work for each of the blocks that 0 to n is cut into, as threads come to be free."""
    blocks = iter([slice(first, min(first + length, n)) for first in range(0, n, length)])

    def go_on() -> None:
        for block in blocks:  # next() of an iterator of a list is one step for all threads
            work(block)

    with one_blas_thread():
        side_by_side([go_on] * (1 if n < SHARED_FROM else min(thread_count(), -(-n // length))))


class _Factoring:
    """A factorisation in progress, by panels of columns: each needs those before it, and waits for the last ones only.

    L[j:, j] = (A[j:, j] - L[j:, :j] L[j, :j]^T) L[j, j]^-T for a panel j. The product is taken in pieces that do not
    depend on who is done when: the last panel, the one before it, the two before that, the four, and so on. All is
    written for the transposed matrix, whose rows are in one piece.
    """

    def __init__(self, A: np.ndarray) -> None:
        self.A, self.panels = A, -(-len(A) // PANEL)
        self.begun = self.done = 0
        self.failed = False
        self.changed = Condition()

    def run(self, threads: int) -> None:
        side_by_side([self._work] * min(threads, self.panels))
        if self.failed:
            raise LinAlgError("not positive definite")

    def _work(self) -> None:
        try:
            while (j := self._next()) < self.panels and self._panel(j):
                with self.changed:
                    self.done += 1
                    self.changed.notify_all()
        except BaseException:
            self._fail()
            raise

    def _next(self) -> int:
        with self.changed:
            self.begun += 1
            return self.panels if self.failed else self.begun - 1

    def _fail(self) -> None:
        with self.changed:
            self.failed = True
            self.changed.notify_all()

    def _wait(self, panels: int) -> bool:
        """Whether so many panels are done, when they are; False once one of them has failed."""
        with self.changed:
            self.changed.wait_for(lambda: self.done >= panels or self.failed)
            return not self.failed

    def _panel(self, j: int) -> bool:
        U, first, last = self.A.T, PANEL * j, min(PANEL * (j + 1), len(self.A))
        own, beside = U[first:last, first:last], U[first:last, last:]
        space = np.empty(beside.shape, U.dtype)
        for start, end in _pieces(j):
            if not self._wait(end):
                return False
            rows = U[PANEL * start : PANEL * end]
            own -= rows[:, first:last].T @ rows[:, first:last]
            beside -= np.matmul(rows[:, first:last].T, rows[:, last:], out=space)
        L, info = _POTRF[U.dtype.char](own.T, lower=1, clean=1)
        if info:
            self._fail()
            return False
        own[...] = L.T
        if last < len(U):
            beside[...] = _TRSM[U.dtype.char](1.0, L, beside.T, side=1, lower=1, trans_a=1).T
        return True


def _pieces(j: int) -> list[tuple[int, int]]:
    """0 to j cut into pieces, of which the last ones are short."""
    pieces, length = list[tuple[int, int]](), 1
    while j:
        start = max(0, j - length)
        pieces.append((start, j))
        j, length = start, j and (length if len(pieces) == 1 else 2 * length)
    return pieces[::-1]


def side_by_side(work: Iterable[Callable[[], object]]) -> None:
    """Call functions, on as many threads of which this is one; an error of theirs is raised.

    Where no more threads can be started those that there are call them all. Within them the engine uses no other
    threads, and BLAS should not.
    """

    def guarded(function: Callable[[], object]) -> None:
        with by_itself(), np.errstate(all="ignore"):  # threads begin with numpy's own settings
            function()

    functions = list(work)
    map_on_threads(guarded, functions, threads=len(functions))
