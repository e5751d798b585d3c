"""Dense symmetric matrices on several threads: each calls BLAS by itself, on one thread.

The threads of BLAS itself wait by spinning. Beside those of the engine, and on a machine that is busy, they take the
cores from each other; threads that sleep until there is something to do don't. How a matrix is factored, and in which
order, does not depend on how many there are; triangular solves with many columns are cut where BLAS's own blocks end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Condition

import numpy as np
from scipy.linalg import LinAlgError
from scipy.linalg.lapack import dpotrf, dpotrs, dtrtrs, spotrf, spotrs, strtrs

from .blas import one_blas_thread
from .lapack import Blocks, available
from .threads import map_on_threads, on_one_thread, thread_count

FACTOR_TILE = 192, 1  # the width of a tile of a factor in columns, and its height in widths
LARGE, LARGE_FACTOR_TILE = 2500, (256, 2)  # from so many rows on a larger tile is faster
SHARED_FROM = 640  # several threads factor a matrix of at least so many rows
APIECE = 8  # a thread solves for at least so many columns
PIECE = 48  # pieces of a large solve have a multiple of so many columns: BLAS then rounds as in one piece
SHARED_SOLVE = 1 << 22  # several threads solve if entries of the matrix times columns are at least so many
_POTRF = {"d": dpotrf, "f": spotrf}
_POTRS = {"d": dpotrs, "f": spotrs}
_TRTRS = {"d": dtrtrs, "f": strtrs}


def factor(A: np.ndarray) -> None:
    """Write the Cholesky factor of A over its lower triangle; A is of float32 or float64, in Fortran order.

    What is above the diagonal counts for nothing, and is left as it is.

    Raises
    ------
    LinAlgError
        Where A is not positive definite to working precision, or not finite.
    """
    n = len(A)
    with one_blas_thread():
        if n < SHARED_FROM or not available():
            L, info = _POTRF[A.dtype.char](A, lower=1, overwrite_a=1, clean=0)
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
    n, k = V.shape
    if not V.size:
        return np.array(V, L.dtype, order="F")
    with one_blas_thread():
        if k >= 2 * APIECE and n * n * k >= SHARED_SOLVE and available():
            length = -(-k // 2) if k < 2 * PIECE else PIECE * -(-k // (PIECE * thread_count()))
            return _solve_by_pieces(L, V, which, length)
        X = np.array(V, L.dtype, order="F")
        if which == "LLT":
            found = _POTRS[L.dtype.char](L, X, lower=1, overwrite_b=1)[0]
        else:
            found = _TRTRS[L.dtype.char](L, X, lower=1, trans=int(which == "LT"), overwrite_b=1)[0]
    return found


def _solve_by_pieces(L: np.ndarray, V: np.ndarray, which: str, length: int) -> np.ndarray:
    """The solution for so many columns at a time, on several threads. SciPy's functions would keep Python's lock."""
    L = np.asfortranarray(L)
    n, calls, X = len(L), Blocks(L.dtype.char, len(L)), np.empty(V.shape, L.dtype, order="F")

    def solve_for(piece: slice) -> None:
        B = X[:, piece]
        B[...] = V[:, piece]
        for transposed in {"L": [False], "LT": [True], "LLT": [False, True]}[which]:
            calls.solve(L.ctypes.data, B.ctypes.data, n, B.shape[1], transposed)

    share(X.shape[1], length, solve_for)
    return X


def share(n: int, length: int, work: Callable[[slice], object]) -> None:
    """Call work for each block of this length of 0 to n, on whichever of the threads is free.

    BLAS is on one thread in each of them.
    """
    blocks = [slice(first, min(first + length, n)) for first in range(0, n, length)]
    queue = iter(blocks)

    def go_on() -> None:
        for block in queue:  # next() of an iterator of a list is one step for all threads
            work(block)

    with one_blas_thread():
        run_side_by_side([go_on] * min(thread_count(), len(blocks)))


class _Factoring:
    """A factorisation in progress, by tiles: L[i, j] = (A[i, j] - L[i, :j] L[j, :j]^T) L[j, j]^-T, for i > j.

    The tiles are done by columns, from the diagonal downwards, each as soon as its row is done up to there and row j up
    to its diagonal: what comes next can begin while others are still at work. Which they are depends on the size of
    the matrix alone.
    """

    def __init__(self, A: np.ndarray) -> None:
        self.A, self.n, self.calls = A, len(A), Blocks(A.dtype.char, len(A))
        self.width, self.height = FACTOR_TILE if self.n < LARGE else LARGE_FACTOR_TILE
        rows = -(-self.n // self.width)
        self.done = [0] * rows  # tiles of each row, from the left
        self.tasks = iter([(i, j) for j in range(rows) for i in (j, *range(j + 1, rows, self.height))])
        self.failed = False
        self.changed = Condition()

    def run(self, threads: int) -> None:
        """Factor with so many threads; raise LinAlgError if the matrix is not positive definite."""
        run_side_by_side([self._work] * min(threads, len(self.done)))
        if self.failed:
            raise LinAlgError("not positive definite")

    def _work(self) -> None:
        """Do tiles until none is left or one has failed."""
        try:
            for i, j in self.tasks:  # next() of an iterator of a list is one step for all threads
                end = i + 1 if i == j else min(i + self.height, len(self.done))
                if not (self._diagonal(j) if i == j else self._below(i, end, j)):
                    self._fail()
                    return
                with self.changed:
                    self.done[i:end] = [j + 1] * (end - i)
                    self.changed.notify_all()
        except BaseException:
            self._fail()
            raise

    def _fail(self) -> None:
        """Make the other threads stop."""
        with self.changed:
            self.failed = True
            self.changed.notify_all()

    def _wait(self, row: int, tiles: int) -> bool:
        """Wait until so many tiles of a row are done; False if something has failed."""
        if self.done[row] < tiles:
            with self.changed:
                self.changed.wait_for(lambda: self.done[row] >= tiles or self.failed)
        return not self.failed

    def _at(self, i: int, j: int) -> int:
        """The address of the first number of a tile."""
        return self.A.ctypes.data + self.A.itemsize * self.width * (i + j * self.n)

    def _size(self, first: int, end: int) -> int:
        """The number of rows of the tiles from first up to end."""
        return min(self.n, end * self.width) - first * self.width

    def _diagonal(self, j: int) -> bool:
        """Factor the tile of row and column j; False if it is not positive definite, or others have failed."""
        if not self._wait(j, j):
            return False
        n = self._size(j, j + 1)
        if j:
            self.calls.subtract_square(self._at(j, 0), self._at(j, j), n, j * self.width)
        return self.calls.factor(self._at(j, j), n)

    def _below(self, i: int, end: int, j: int) -> bool:
        """The tiles from row i to row end."""
        if not all(self._wait(row, j) for row in (*range(i, end), j)):
            return False
        m, n = self._size(i, end), self._size(j, j + 1)
        if j:
            self.calls.subtract_product(self._at(i, 0), self._at(j, 0), self._at(i, j), m, n, j * self.width)
        if not self._wait(j, j + 1):
            return False
        self.calls.divide(self._at(j, j), self._at(i, j), m, n)
        return True


def run_side_by_side(work: Iterable[Callable[[], object]]) -> None:
    """Call functions, each on a thread, of which this is one; an error of theirs is raised.

    If no more threads can be started, those that run call them all. Within them the engine uses no other threads, and
    BLAS should not.
    """

    def guarded(function: Callable[[], object]) -> None:
        with on_one_thread(), np.errstate(all="ignore"):  # threads begin with numpy's own settings
            function()

    functions = list(work)
    map_on_threads(guarded, functions, threads=len(functions))
