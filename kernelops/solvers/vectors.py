"""Blocks of vectors, and the verbs with which the solvers touch them: of numpy here, of other libraries elsewhere.

A block of vectors has the shape (..., n, k): k columns of n numbers, under any batch dimensions. Scalars that belong to
the columns (norms, steps, goals) are numpy arrays of shape (..., k), wherever the blocks are. A verb that returns some
waits for a GPU; for that reason there are verbs that return several at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = Any  # a block: numpy's here, a library's whose memory is a GPU's where the verbs come from there
CHUNK = 1 << 14  # numbers a verb works on at a time: no temporary is longer than this, and they stay in cache

QUIET = np.errstate(over="ignore", invalid="ignore")  # an overflow becomes a status, not a warning


class NumpyVectors:
    """The verbs on numpy arrays: the only way in which the solvers touch vectors."""

    overlaps = False  # whether the next product is begun before the last step is judged; then there is a verb `turn`
    timestamp = staticmethod(time.perf_counter)  # the time, as `seconds` takes it

    @staticmethod
    def seconds(begin: float, end: float) -> float:
        """Between two marks."""
        return end - begin

    @staticmethod
    def is_block(a: Any) -> bool:
        """Whether a is a block already, and not an argument that has to be made one on the host."""
        return False

    @staticmethod
    def to_host(x: np.ndarray) -> np.ndarray:
        """A block as an array of numpy."""
        return x

    @staticmethod
    def from_host(a: np.ndarray) -> np.ndarray:
        """An array of numpy as a block."""
        return a

    @staticmethod
    def via_host(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        """A function of numpy's arrays as one of blocks."""
        return function

    @staticmethod
    def dtype(x: np.ndarray) -> np.dtype:
        """The dtype of a block, as numpy calls it."""
        return x.dtype

    @staticmethod
    def zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.zeros(shape, dtype)

    @staticmethod
    def fill(x: np.ndarray, value: complex) -> None:
        x[...] = value

    @staticmethod
    def copy(x: np.ndarray, dtype: Any = None) -> np.ndarray:
        return np.array(x, dtype=dtype, order="C")

    @staticmethod
    @QUIET
    def dot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """<x, y> of every column, conjugating x; multiplied and summed in float64 or complex128."""
        dtype = np.result_type(x.dtype, y.dtype, np.float64)
        total = np.zeros(x.shape[:-2] + x.shape[-1:], dtype)
        for rows in _chunks(x):
            left = x[rows].conj() if np.iscomplexobj(x) else x[rows]
            total += np.einsum("...nk,...nk->...k", left, y[rows], dtype=dtype, casting="safe")
        return total

    @staticmethod
    @QUIET
    def gram(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """x^H y: shape (..., k, l) for blocks of k and l columns; multiplied and summed in float64 or complex128."""
        dtype = np.result_type(x.dtype, y.dtype, np.float64)
        total = np.zeros((*x.shape[:-2], x.shape[-1], y.shape[-1]), dtype)
        for rows in _chunks(x):
            total += np.swapaxes(x[rows].astype(dtype, copy=False), -1, -2).conj() @ y[rows].astype(dtype, copy=False)
        return total

    @classmethod
    def scalars(
        cls, dots: Sequence[tuple[np.ndarray, np.ndarray]] = (), grams: Sequence[tuple[np.ndarray, np.ndarray]] = ()
    ) -> list[np.ndarray]:
        """Several `dot` and, after them, several `gram`."""
        return [cls.dot(x, y) for x, y in dots] + [cls.gram(x, y) for x, y in grams]

    @classmethod
    def cg_update(
        cls,
        p: np.ndarray,
        q: np.ndarray,
        x: np.ndarray,
        r: np.ndarray,
        rz: np.ndarray,
        least: np.ndarray,
        running: np.ndarray,
        dots: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    ) -> list[np.ndarray]:
        """x += s p and r -= s q with s = rz / <p, q>, in the columns that run and whose <p, q> is above `least`.

        Leaves to `read` <p, q>, s, <r, r> after the step, and other products that are asked for, after the step too.
        """
        curvature = cls.dot(p, q).real
        step = np.divide(rz, curvature, out=np.zeros(curvature.shape), where=running & (curvature > least))
        cls.axpy(step, p, x)
        cls.axpy(-step, q, r)
        return [curvature, step, cls.dot(r, r).real, *(cls.dot(u, v).real for u, v in dots)]

    @staticmethod
    def read(found: list[np.ndarray]) -> list[np.ndarray]:
        """What `descend` has left."""
        return found

    @staticmethod
    @QUIET
    def combine(x: np.ndarray, c: np.ndarray) -> np.ndarray:
        """x c, in the dtype of x: columns that are combinations of those of x, with coefficients (..., k, l)."""
        return x @ c.astype(x.dtype if np.iscomplexobj(x) else x.real.dtype)

    @staticmethod
    def largest(x: np.ndarray) -> np.ndarray:
        """The largest magnitude in every column; nan or inf where there is one."""
        most = np.zeros(x.shape[:-2] + x.shape[-1:])
        for rows in _chunks(x):
            most = np.maximum(most, np.abs(x[rows]).max(axis=-2, initial=0.0))
        return most

    @staticmethod
    @QUIET
    def axpy(a: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        """y += a x, with a number for every column."""
        a = _across(a, y)
        for rows in _chunks(y):
            y[rows] += a * x[rows]

    @staticmethod
    @QUIET
    def aypx(a: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        """y = x + a y, with a number for every column."""
        a = _across(a, y)
        for rows in _chunks(y):
            part = y[rows]
            part *= a
            part += x[rows]

    @staticmethod
    @QUIET
    def scale(a: np.ndarray, x: np.ndarray) -> None:
        x *= _across(a, x)

    @staticmethod
    @QUIET
    def round(x: np.ndarray, dtype: Any) -> np.ndarray:
        """x as numbers of a shorter dtype, in its own dtype."""
        return x.astype(dtype).astype(x.dtype)

    @classmethod
    def precondition(cls, preconditioners: Sequence[Any], x: np.ndarray) -> np.ndarray:
        """M x, by preconditioners for each element of the batch, or by one for all."""
        if x.dtype.kind == "c":
            return cls.precondition(preconditioners, x.real) + 1j * cls.precondition(preconditioners, x.imag)
        if x.ndim == 2:
            return preconditioners[0].matmat(x)
        flat = x.reshape(-1, *x.shape[-2:])
        each = (*preconditioners,) * (len(flat) if len(preconditioners) == 1 else 1)
        images = [p.matmat(block) for p, block in zip(each, flat, strict=True)]
        return np.stack(images).reshape(x.shape) if images else x

    @staticmethod
    def join(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The columns of x and, after them, those of y."""
        return np.concatenate([x, y], axis=-1)

    @staticmethod
    def take(x: np.ndarray, columns: np.ndarray, dtype: Any = None) -> np.ndarray:
        """A contiguous copy of some columns."""
        if len(columns) == x.shape[-1]:
            return np.array(x, dtype=dtype, order="C")
        return np.ascontiguousarray(x[..., columns], dtype=dtype)

    @staticmethod
    def put(x: np.ndarray, columns: np.ndarray, part: np.ndarray, where: np.ndarray | None = None) -> None:
        """Write part over some columns of x; with `where` (..., len(columns)) only where it says so."""
        if where is None or where.all():
            if len(columns) == x.shape[-1]:
                np.copyto(x, part)
            else:
                x[..., columns] = part
            return
        for position, column in enumerate(columns):
            np.copyto(x[..., column], part[..., position], where=where[..., position, None])


HOST = NumpyVectors()


def _chunks(x: np.ndarray) -> Any:
    """Slices of rows that cover x, of at most CHUNK numbers each (at least one row)."""
    n = x.shape[-2]
    length = max(1, CHUNK * n // max(1, x.size))
    for first in range(0, n, length):
        yield (..., slice(first, first + length), slice(None))


def _across(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Numbers of columns, shaped and typed to meet the block x."""
    a = np.asarray(a)[..., None, :]
    return a.astype(x.dtype if np.iscomplexobj(x) else x.real.dtype)
