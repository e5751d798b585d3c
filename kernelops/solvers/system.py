"""What the solvers see of the world: a matrix as its products, a preconditioner as a function, vectors as verbs.

A block of vectors is an array of shape (..., n, k): k columns of n numbers, under any batch dimensions. Scalars that
belong to the columns (norms, steps, goals) are host arrays of shape (..., k).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from ..errors import ArgumentError, DtypeError, ShapeError
from .entries import DenseEntries, Entries

Array = Any  # of numpy here; of a GPU where the verbs come from there
CHUNK = 1 << 14  # numbers a verb works on at a time: no temporary is longer than this, and they stay in cache

QUIET = np.errstate(over="ignore", invalid="ignore")  # an overflow becomes a status, not a warning
ASYMMETRY = 1e-6  # of |u||Av|: far above the rounding of float32 products, far below what would mislead CG


class HostVerbs:
    """The verbs on numpy arrays: the only way in which the solvers touch vectors."""

    @staticmethod
    def zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.zeros(shape, dtype)

    @staticmethod
    def fill(x: np.ndarray, value: complex) -> None:
        x[...] = value

    @staticmethod
    def copy(x: np.ndarray, dtype: Any) -> np.ndarray:
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


HOST = HostVerbs()


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


@dataclass(frozen=True)
class System:
    """A square matrix as the solvers see it.

    Attributes
    ----------
    n : int
        Rows.
    dtype : numpy.dtype
        Of the matrix: float16, float32, float64, complex64 or complex128.
    product : callable
        A V for a block V of shape (..., n, k), in the precision of V where `native`.
    symmetric : str
        "yes", "no" or "unknown".
    name : str
        For messages.
    native : bool
        Whether a float32 block gets a float32 product and a float64 block a float64 one of the same matrix.
    entries : tuple of Entries
        The matrix without alpha, one for each element of the batch in C order; empty where only products are there.
    alpha : ndarray, shape () or (..., n, 1)
        What the diagonal has besides, float64.
    verbs : object
        See HostVerbs.
    """

    n: int
    dtype: np.dtype
    product: Callable[[Array], Array]
    symmetric: str = "unknown"
    name: str = "A"
    native: bool = False
    verbs: Any = HOST
    entries: tuple[Entries, ...] = ()
    alpha: np.ndarray = field(default_factory=lambda: np.zeros(()))

    @property
    def density(self) -> float:
        """Share of the entries of K that ranges keep; 1 where none are known."""
        return min((e.density for e in self.entries), default=1.0)


def inexact(dtype: Any) -> np.dtype:
    """The dtype itself if it is a float or complex dtype of the solvers, else float64."""
    dtype = np.dtype(np.float64 if dtype is None else dtype)
    return dtype if dtype.char in "efdFD" else np.dtype(np.complex128 if dtype.kind == "c" else np.float64)


def as_system(A: Any) -> System:
    """A as a System: an operator that has product() as it is, anything else as SciPy's aslinearoperator sees it."""
    if isinstance(A, System):
        return A
    name = getattr(A, "name", type(A).__name__)
    native = callable(getattr(A, "product", None))
    entries, alpha = getattr(A, "entries", ()) if native else (), getattr(A, "alpha", 0.0) if native else 0.0
    if not native:
        if isinstance(A, np.ndarray) and A.dtype.kind in "bifu" and A.ndim == 2 and A.shape[0] == A.shape[1]:
            entries = (DenseEntries(A),)
        try:
            A = aslinearoperator(A)
        except (TypeError, ValueError) as error:
            raise DtypeError(f"A: wanted a KernelOperator, a LinearOperator or a matrix, got {name}") from error
        if np.dtype(A.dtype).kind not in "biufc":
            raise DtypeError(f"A: wanted real or complex numbers, got dtype {A.dtype}")
    rows = _square(A.shape, "A") if hasattr(A, "shape") else A.n
    dtype = inexact(A.dtype)
    product = A.product if native else _columnwise(A)
    symmetric = getattr(A, "symmetric", "unknown") if native else "unknown"
    return System(
        rows,
        dtype,
        _checked(product, "A"),
        symmetric,
        name,
        native,
        getattr(A, "verbs", HOST),
        entries,
        np.asarray(alpha),
    )


def as_preconditioner(M: Any, n: int) -> tuple[Callable[[Array], Array], str]:
    """M, an approximation of the inverse of A, as a function of blocks, and its name."""
    name = getattr(M, "name", None) or type(M).__name__
    try:
        M = aslinearoperator(M)
    except (TypeError, ValueError) as error:
        raise DtypeError(f"M: wanted a LinearOperator or a matrix near the inverse of A, got {name}") from error
    if np.dtype(M.dtype).kind not in "biufc":
        raise DtypeError(f"M: wanted real or complex numbers, got dtype {M.dtype}")
    if _square(M.shape, "M") != n:
        raise ShapeError(f"M must have the shape of A, ({n}, {n}), got {tuple(M.shape)}")
    return _checked(_columnwise(M), "M"), name


def check_symmetric(system: System, product: Callable[[Array], Array], batch: tuple[int, ...] = ()) -> None:
    """Refuse a matrix that is known, or seen on two seeded probes, not to be symmetric (Hermitian).

    product is the system's own, perhaps counted; batch holds the batch dimensions of the blocks it takes.
    """
    if system.symmetric == "no":
        raise ArgumentError(f"A must be symmetric for a solve; {system.name} says that it is not")
    if system.symmetric == "yes" or system.n == 0:
        return
    draw = np.random.default_rng(20250)
    probes = draw.standard_normal((system.n, 2))
    if system.dtype.kind == "c":
        probes = probes + 1j * draw.standard_normal((system.n, 2))
    probes = np.broadcast_to(probes, (*batch, *probes.shape)).copy()
    images = product(probes)
    u, v = probes[..., :1], probes[..., 1:]
    au, av = images[..., :1], images[..., 1:]
    dot = system.verbs.dot
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.abs(dot(u, av) - dot(au, v))
        size = np.sqrt((dot(u, u) * dot(av, av)).real) + np.sqrt((dot(au, au) * dot(v, v)).real)
        share = np.divide(difference, size, out=np.zeros_like(size), where=size > 0).max(initial=0.0)
    if share > ASYMMETRY:  # false for nan, which the solve reports by its own name
        raise ArgumentError(
            f"A must be symmetric for a solve; for {system.name} <u, A v> and <A u, v> differ by {share:.1e} "
            "of |u||A v| + |A u||v| on two random vectors"
        )


def _square(shape: Any, name: str) -> int:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ShapeError(f"{name} must be square for a solve, (n, n), got shape {tuple(shape)}")
    return int(shape[0])


def _checked(product: Callable[[Array], Array], name: str) -> Callable[[Array], Array]:
    def checked(block: Array) -> Array:
        image = product(block)
        if image.shape != block.shape:
            raise ShapeError(f"{name} times a block of shape {block.shape} must keep its shape, got {image.shape}")
        if image.dtype.kind == "c" and block.dtype.kind != "c":
            raise DtypeError(f"{name} times a real block must be real, got {image.dtype}: give {name} a complex dtype")
        return image

    return checked


def _columnwise(operator: LinearOperator) -> Callable[[np.ndarray], np.ndarray]:
    """The product of a SciPy operator with a block: batches become columns, one column is a plain vector."""
    # An operator made from matvec alone loops over columns of shape (n, 1), which many a matvec does not expect.
    single = getattr(operator, "_CustomLinearOperator__matmat_impl", operator) is None

    def product(block: np.ndarray) -> np.ndarray:
        flat = np.moveaxis(block, -2, 0)
        columns = flat.reshape(block.shape[-2], -1)
        if columns.shape[1] == 1:
            image = np.asarray(operator.matvec(columns[:, 0]))[:, None]
        elif single:
            image = np.stack([np.asarray(operator.matvec(column)) for column in columns.T], axis=-1)
        else:
            image = np.asarray(operator.matmat(columns))
        return np.moveaxis(image.reshape(flat.shape), 0, -2)

    return product
