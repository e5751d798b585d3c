"""Operations on blocks of vectors: the protocol that solvers are written against, and the one for numpy arrays.

A block of vectors has the shape (..., n, k): k columns of n numbers, under any batch dimensions. Scalars that belong to
the columns (norms, steps, goals) are numpy arrays of shape (..., k) on the host, wherever the blocks are. An operation
that returns scalars waits for a GPU, so several of them can be asked for at once.

Rows may be shared out over processes, so that each process holds some rows of every block. Then `sum_parts`, `largest`
and `from_whole` are the operations that communicate, and scalars are the same in all processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

Block: TypeAlias = Any  # an array of the library that the operations are for: numpy's, or a tensor on some device
Pending: TypeAlias = Any  # scalars that a device may still be computing; `Vectors.read` returns them
Timestamp: TypeAlias = Any  # a time in seconds, or an event of a GPU that may not have completed
BlockFunction: TypeAlias = Callable[[Block], Block]  # a function of blocks that keeps their shape
Pairs: TypeAlias = Sequence[tuple[Block, Block]]
Rows: TypeAlias = tuple[Any, slice, slice]  # an index that selects some rows of a block

CHUNK = 1 << 14  # numbers that an operation works on at a time, so that its temporaries are small and stay in cache

QUIET = np.errstate(over="ignore", invalid="ignore")  # an overflow becomes a status, not a warning


class Vectors(Protocol):
    """The operations through which the solvers touch blocks of vectors, and the only ones.

    Numbers for each column, such as `a` of `axpy`, have the shape (..., k) of the columns of a block (..., n, k).

    Attributes
    ----------
    overlaps : bool
        Whether the next product is begun before the outcome of the last step is read, as pays on a device that computes
        while the host decides. The solvers call `next_direction` only then.
    """

    overlaps: bool

    # ---- time ----

    def timestamp(self) -> Timestamp:
        """The time at which all work given so far is done."""

    def seconds(self, begin: Timestamp, end: Timestamp) -> float:
        """Seconds between two timestamps."""

    # ---- to and from the host ----

    def is_block(self, a: Any) -> bool:
        """Whether a is a block already, and not an argument that has to be made one on the host."""

    def to_host(self, x: Block) -> np.ndarray:
        """A block as a numpy array of the same shape and dtype, which may share its memory."""

    def from_host(self, a: np.ndarray) -> Block:
        """A numpy array of own rows as a block of the same shape and dtype, which may share its memory."""

    def from_whole(self, a: np.ndarray) -> Block:
        """The own rows of a numpy array (..., global_n, k), which holds those of all processes, as a block."""

    def via_host(self, function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Block], Block]:
        """A function of numpy arrays as a function of blocks."""

    # ---- blocks ----

    def dtype(self, x: Block) -> np.dtype:
        """The numpy dtype of a block."""

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> Block:
        """A block of zeros."""

    def fill(self, x: Block, value: complex) -> None:
        """Set all numbers of x to one value."""

    def copy(self, x: Block, dtype: DTypeLike | None = None) -> Block:
        """A contiguous copy, in another dtype if one is given."""

    def round(self, x: Block, dtype: DTypeLike) -> Block:
        """x rounded to the numbers of a shorter dtype, in its own dtype; infinite if they overflow."""

    def join(self, x: Block, y: Block) -> Block:
        """The columns of x followed by those of y: (..., n, k + l)."""

    def take(self, x: Block, columns: np.ndarray, dtype: DTypeLike | None = None) -> Block:
        """A contiguous copy (..., n, len(columns)) of some columns, in another dtype if one is given."""

    def put(self, x: Block, columns: np.ndarray, part: Block, where: np.ndarray | None = None) -> None:
        """Write part (..., n, len(columns)) over some columns of x, if `where` (..., len(columns)) is not false."""

    def axpy(self, a: np.ndarray, x: Block, y: Block) -> None:
        """y += a x, with a real number for every column."""

    def aypx(self, a: np.ndarray, x: Block, y: Block) -> None:
        """y = x + a y, with a real number for every column."""

    def scale(self, a: np.ndarray, x: Block) -> None:
        """x *= a, with a real number for every column."""

    def combine(self, x: Block, c: np.ndarray) -> Block:
        """x c in the dtype of x, (..., n, l), for coefficients (..., k, l) that are rounded to that dtype first."""

    def precondition(self, preconditioners: Sequence[Any], x: Block) -> Block:
        """M x in the dtype of x, by one Preconditioner for each element of the batch, or by one for all."""

    # ---- scalars ----

    def dot(self, x: Block, y: Block) -> np.ndarray:
        """<x, y> of every column, conjugating x: (..., k), multiplied and summed in float64 or complex128."""

    def gram(self, x: Block, y: Block) -> np.ndarray:
        """x^H y, (..., k, l) for blocks of k and l columns, multiplied and summed in float64 or complex128."""

    def scalars(self, dots: Pairs = (), grams: Pairs = ()) -> list[np.ndarray]:
        """The `dot` of some pairs of blocks, followed by the `gram` of others, with one wait for all."""

    def largest(self, x: Block) -> np.ndarray:
        """The largest magnitude in every column, (..., k); nan or inf if the column holds one."""

    def eigh(self, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues and eigenvectors of small Hermitian matrices (..., k, k), the same bits in all processes."""

    # ---- a step of conjugate gradients ----

    def cg_update(
        self,
        p: Block,
        q: Block,
        x: Block,
        r: Block,
        rz: np.ndarray,
        least: np.ndarray,
        running: np.ndarray,
        dots: Pairs = (),
    ) -> Pending:
        """x += s p and r -= s q with s = rz / <p, q>, in the columns that run and whose <p, q> is above `least`.

        Returns, for `read`, the curvature <p, q>, the step s (0 in the other columns), <r, r> after the step, and the
        real part of each further `dot` that is asked for, after the step too.
        """

    def next_direction(
        self, step: Pending, r: Block, z: Block, p: Block, previous: np.ndarray, running: np.ndarray
    ) -> Pending:
        """p = z + t p with t = <r, z> / previous in the columns that run, and t = 0 in the others.

        step is the result of the `cg_update` that left r, and has not been read. Returns, for `read`, a list of the
        real part of <r, z> alone.
        """

    def read(self, found: Pending) -> list[np.ndarray]:
        """The scalars of `cg_update` or `next_direction`, as soon as they are on the host."""


class NumpyVectors:
    """The operations of `Vectors` on numpy arrays."""

    overlaps = False

    def timestamp(self) -> float:
        return time.perf_counter()

    def seconds(self, begin: float, end: float) -> float:
        return end - begin

    def is_block(self, a: Any) -> bool:
        return False  # an array of numpy is checked and converted like any other argument

    def to_host(self, x: np.ndarray) -> np.ndarray:
        return x

    def from_host(self, a: np.ndarray) -> np.ndarray:
        return a

    def from_whole(self, a: np.ndarray) -> np.ndarray:
        return a

    def via_host(self, function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        return function

    def dtype(self, x: np.ndarray) -> np.dtype:
        return x.dtype

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
        return np.zeros(shape, dtype)

    def fill(self, x: np.ndarray, value: complex) -> None:
        x[...] = value

    def copy(self, x: np.ndarray, dtype: DTypeLike | None = None) -> np.ndarray:
        return np.array(x, dtype=dtype, order="C")

    @QUIET
    def round(self, x: np.ndarray, dtype: DTypeLike) -> np.ndarray:
        return x.astype(dtype).astype(x.dtype)

    def join(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.concatenate([x, y], axis=-1)

    def take(self, x: np.ndarray, columns: np.ndarray, dtype: DTypeLike | None = None) -> np.ndarray:
        if len(columns) == x.shape[-1]:
            return np.array(x, dtype=dtype, order="C")
        return np.ascontiguousarray(x[..., columns], dtype=dtype)

    def put(self, x: np.ndarray, columns: np.ndarray, part: np.ndarray, where: np.ndarray | None = None) -> None:
        if where is None or where.all():
            if len(columns) == x.shape[-1]:
                np.copyto(x, part)
            else:
                x[..., columns] = part
            return
        for position, column in enumerate(columns):
            np.copyto(x[..., column], part[..., position], where=where[..., position, None])

    @QUIET
    def axpy(self, a: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        a = _across(a, y)
        for rows in _chunks(y):
            y[rows] += a * x[rows]

    @QUIET
    def aypx(self, a: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        a = _across(a, y)
        for rows in _chunks(y):
            part = y[rows]
            part *= a
            part += x[rows]

    @QUIET
    def scale(self, a: np.ndarray, x: np.ndarray) -> None:
        x *= _across(a, x)

    @QUIET
    def combine(self, x: np.ndarray, c: np.ndarray) -> np.ndarray:
        found: np.ndarray = x @ c.astype(x.dtype if np.iscomplexobj(x) else x.real.dtype)
        return found

    def precondition(self, preconditioners: Sequence[Any], x: np.ndarray) -> np.ndarray:
        if x.dtype.kind == "c":
            image: np.ndarray = self.precondition(preconditioners, x.real) + 1j * self.precondition(
                preconditioners, x.imag
            )
            return image
        if x.ndim == 2:
            image = preconditioners[0].matmat(x)
            return image
        flat = x.reshape(-1, *x.shape[-2:])
        each = (*preconditioners,) * (len(flat) if len(preconditioners) == 1 else 1)
        images = [p.matmat(block) for p, block in zip(each, flat, strict=True)]
        return np.stack(images).reshape(x.shape) if images else x

    def sum_parts(self, parts: Iterable[np.ndarray], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The sum of arrays that chunks of rows have left, in their order; over all processes that share out the rows.

        Every `dot` and `gram` ends here.
        """
        total = np.zeros(shape, dtype)
        for part in parts:
            total += part
        return total

    @QUIET
    def dot(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        dtype = np.result_type(x.dtype, y.dtype, np.float64)
        conjugated = np.iscomplexobj(x)

        def part(rows: Rows) -> np.ndarray:
            left = x[rows].conj() if conjugated else x[rows]
            result: np.ndarray = np.einsum("...nk,...nk->...k", left, y[rows], dtype=dtype, casting="safe")
            return result

        return self.sum_parts(map(part, _chunks(x)), x.shape[:-2] + x.shape[-1:], dtype)

    @QUIET
    def gram(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        dtype = np.result_type(x.dtype, y.dtype, np.float64)

        def part(rows: Rows) -> np.ndarray:
            left: np.ndarray = np.swapaxes(x[rows].astype(dtype, copy=False), -1, -2).conj()
            image: np.ndarray = left @ y[rows].astype(dtype, copy=False)
            return image

        return self.sum_parts(map(part, _chunks(x)), (*x.shape[:-2], x.shape[-1], y.shape[-1]), dtype)

    def scalars(self, dots: Pairs = (), grams: Pairs = ()) -> list[np.ndarray]:
        return [self.dot(x, y) for x, y in dots] + [self.gram(x, y) for x, y in grams]

    def largest(self, x: np.ndarray) -> np.ndarray:
        most = np.zeros(x.shape[:-2] + x.shape[-1:])
        for rows in _chunks(x):
            most = np.maximum(most, np.abs(x[rows]).max(axis=-2, initial=0.0))
        return most

    def eigh(self, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, eigenvectors = np.linalg.eigh(a)
        return values, eigenvectors

    def cg_update(
        self,
        p: np.ndarray,
        q: np.ndarray,
        x: np.ndarray,
        r: np.ndarray,
        rz: np.ndarray,
        least: np.ndarray,
        running: np.ndarray,
        dots: Pairs = (),
    ) -> list[np.ndarray]:
        curvature = self.dot(p, q).real
        step = np.divide(rz, curvature, out=np.zeros(curvature.shape), where=running & (curvature > least))
        self.axpy(step, p, x)
        self.axpy(-step, q, r)
        return [curvature, step, self.dot(r, r).real, *(self.dot(u, v).real for u, v in dots)]

    def next_direction(
        self,
        step: list[np.ndarray],
        r: np.ndarray,
        z: np.ndarray,
        p: np.ndarray,
        previous: np.ndarray,
        running: np.ndarray,
    ) -> list[np.ndarray]:
        rz = step[2] if z is r else self.dot(r, z).real
        self.aypx(np.divide(rz, previous, out=np.zeros(rz.shape), where=running), z, p)
        return [rz]

    def read(self, found: list[np.ndarray]) -> list[np.ndarray]:
        return found


HOST: Vectors = NumpyVectors()


def _chunks(x: np.ndarray) -> Iterator[Rows]:
    """Slices of rows that cover x, of at most CHUNK numbers each (at least one row)."""
    n = x.shape[-2]
    length = max(1, CHUNK * n // max(1, x.size))
    for first in range(0, n, length):
        yield (..., slice(first, first + length), slice(None))


def _across(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Numbers of columns, shaped and typed to meet the block x."""
    a = np.asarray(a)[..., None, :]
    return a.astype(x.dtype if np.iscomplexobj(x) else x.real.dtype)
