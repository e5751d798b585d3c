"""What the solvers see of the world: a matrix as its products, a preconditioner as a function, vectors as verbs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from ..arrays.arguments import is_tensor
from ..engines import dense
from ..errors import ArgumentError, DtypeError, ShapeError
from .entries import DenseEntries, Entries
from .units import OwnUnits
from .vectors import HOST, Array

MANY = 64  # columns from which a product takes rows of the matrix
ROWS_AT_ONCE = 256  # of a matrix, while it is multiplied by many columns
ASYMMETRY = 1e-6  # of |u||Av|: far above the rounding of float32 products, far below what would mislead CG


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
    least : float, or ndarray of shape (..., 1)
        What is proved to be below all eigenvalues of the matrix without alpha: 0 where it is positive semidefinite;
        -inf where nothing is known.
    verbs : object
        See verbs.HostVerbs.
    own_diagonal : callable, optional
        () -> the diagonal, of a matrix that has no `entries` but knows it.
    """

    n: int
    dtype: np.dtype
    product: Callable[[Array], Array]
    symmetric: str = "unknown"
    name: str = "A"
    native: bool = False
    vectors: Any = HOST
    entries: tuple[Entries, ...] = ()
    alpha: np.ndarray = field(default_factory=lambda: np.zeros(()))
    least: float | np.ndarray = -math.inf
    own_diagonal: Callable[[], np.ndarray] | None = None

    @property
    def density(self) -> float:
        """Share of the entries of K that ranges keep; 1 where none are known."""
        return min((e.density for e in self.entries), default=1.0)


def takes_rows(system: System, block: Array) -> bool:
    """Whether products with blocks like this one are faster by rows of the matrix."""
    known = system.native and system.symmetric == "yes" and len(system.entries) == 1 and system.vectors is HOST
    many = block.ndim == 2 and block.shape[-1] >= MANY
    return known and many and block.dtype == np.float64 and system.density == 1


def by_rows(system: System) -> Callable[[np.ndarray], np.ndarray]:
    """The product of a system without a batch with a block of many columns, in float64 or float32, on the host.

    Rows of the matrix are evaluated once for all columns, some at a time, and multiplied by BLAS: with many columns
    that is several times faster than a sum of the formula, which evaluates an entry anew for every few of them.
    """
    (entries,) = system.entries
    alpha = np.broadcast_to(system.alpha, (*system.alpha.shape[:-2], system.n, 1)).reshape(system.n, 1)

    def product(V: np.ndarray) -> np.ndarray:
        image = np.empty_like(V)

        def multiply(J: slice) -> None:
            rows = entries.columns(np.arange(system.n)[J], 0, V.dtype).T
            np.matmul(rows, V, out=image[J])
            image[J] += (alpha[J] * V[J]).astype(V.dtype)

        dense.share(system.n, ROWS_AT_ONCE, multiply)
        return image

    return product


def inexact(dtype: Any) -> np.dtype:
    """The dtype itself if it is a float or complex dtype of the solvers, else float64."""
    dtype = np.dtype(np.float64 if dtype is None else dtype)
    return dtype if dtype.char in "efdFD" else np.dtype(np.complex128 if dtype.kind == "c" else np.float64)


def as_system(A: Any) -> System:
    """A as a System: an operator that has product() as it is, anything else as SciPy's aslinearoperator sees it."""
    if isinstance(A, System):
        return A
    name = _called(A)
    # masked arrays and data frames have a product of another kind
    native = callable(getattr(A, "product", None)) and hasattr(A, "dtype") and not isinstance(A, np.ndarray)
    given = A
    entries, alpha = getattr(A, "entries", ()) if native else (), getattr(A, "alpha", 0.0) if native else 0.0
    if not native:
        if isinstance(A, np.ndarray) and A.dtype.kind in "bifu" and A.ndim == 2 and A.shape[0] == A.shape[1]:
            entries = (DenseEntries(A),)
        A = _as_operator(A, "A", "a KernelOperator, a LinearOperator or a matrix")
    rows = _square(A.shape, "A") if hasattr(A, "shape") else A.n
    dtype = inexact(A.dtype)
    product = A.product if native else _columnwise(A)
    symmetric = getattr(A, "symmetric", "unknown") if native else "unknown"
    vectors = getattr(A, "vectors", HOST)
    return System(
        rows,
        dtype,
        _checked(product, "A", vectors),
        symmetric,
        name,
        native,
        vectors,
        entries,
        np.asarray(alpha),
        getattr(A, "least", -math.inf) if native else -math.inf,
        None if native or entries else getattr(given, "diagonal", None),
    )


def as_preconditioner(M: Any, n: int, vectors: Any = HOST) -> tuple[Callable[[Array], Array], str, OwnUnits]:
    """M, an approximation of the inverse of A, as a function of blocks, its name, and what knows how it was scaled.

    It is applied on the host.
    """
    name = _called(M)
    M = _as_operator(M, "M", "a LinearOperator or a matrix near the inverse of A")
    if _square(M.shape, "M") != n:
        raise ShapeError(f"M must have the shape of A, ({n}, {n}), got {tuple(M.shape)}")
    scaled = OwnUnits(_checked(_columnwise(M), "M", HOST))
    return vectors.via_host(scaled), name, scaled


def probes(system: System, batch: tuple[int, ...] = (), count: int = 2) -> Array:
    """Some seeded random vectors, as a block that A takes."""
    draw = np.random.default_rng(20250)
    block = draw.standard_normal((system.n, count))
    if system.dtype.kind == "c":
        block = block + 1j * draw.standard_normal((system.n, count))
    return system.vectors.from_host(np.broadcast_to(block, (*batch, *block.shape)).copy() if batch else block)


def check_symmetric(
    system: System, product: Callable[[Array], Array], batch: tuple[int, ...] = (), images: Array = None
) -> None:
    """Refuse a matrix that is known, or seen on two seeded probes, not to be symmetric (Hermitian).

    product is the system's own, perhaps counted; batch holds the batch dimensions of the blocks it takes. images are
    those of the probes, where they are there already.
    """
    if system.symmetric == "no":
        raise ArgumentError(f"A must be symmetric for a solve; {system.name} says that it is not")
    if system.symmetric == "yes" or system.n == 0:
        return
    given = probes(system, batch)
    images = product(given) if images is None else images
    u, v = given[..., :1], given[..., 1:]
    au, av = images[..., :1], images[..., 1:]
    pairs = [(u, av), (au, v), (u, u), (av, av), (au, au), (v, v)]
    with np.errstate(over="ignore", invalid="ignore"):
        uav, auv, uu, avav, auau, vv = system.vectors.scalars(dots=pairs)
        difference = np.abs(uav - auv)
        size = np.sqrt((uu * avav).real) + np.sqrt((auau * vv).real)
        share = np.divide(difference, size, out=np.zeros_like(size), where=size > 0).max(initial=0.0)
    if share > ASYMMETRY:  # false for nan, which the solve reports by its own name
        raise ArgumentError(
            f"A must be symmetric for a solve; for {system.name} <u, A v> and <A u, v> differ by {share:.1e} "
            "of |u||A v| + |A u||v| on two random vectors"
        )


def _called(A: Any) -> str:
    """What messages call a matrix: the name that it has, or its class."""
    name = getattr(A, "name", None)
    return name if isinstance(name, str) and name else type(A).__name__


def _as_operator(A: Any, name: str, wanted: str) -> LinearOperator:
    """What SciPy makes of an operator or a matrix; other things are refused."""
    if is_tensor(A):
        raise DtypeError(f"{name}: wanted {wanted}, got a torch tensor: pass its .numpy()")
    if isinstance(A, np.ma.MaskedArray):
        raise DtypeError(f"{name} is a masked array: wanted a plain one, as .filled(value) gives")
    if isinstance(A, np.ndarray) and A.ndim < 3:
        _square(A.shape, name)  # SciPy makes a row of a vector
    try:
        A = aslinearoperator(A)
    except (TypeError, ValueError) as error:
        of = f" of shape {A.shape}" if isinstance(A, np.ndarray) else ""
        raise DtypeError(f"{name}: wanted {wanted}, got {_called(A)}{of}") from error
    if np.dtype(A.dtype).kind not in "biufc":
        raise DtypeError(f"{name}: wanted real or complex numbers, got dtype {A.dtype}")
    return A


def _square(shape: Any, name: str) -> int:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ShapeError(f"{name} must be square for a solve, (n, n), got shape {tuple(shape)}")
    return int(shape[0])


def _checked(product: Callable[[Array], Array], name: str, vectors: Any) -> Callable[[Array], Array]:
    dtype = vectors.dtype

    def checked(block: Array) -> Array:
        image = product(block)
        if image.shape != block.shape:
            raise ShapeError(f"{name} times a block of shape {block.shape} must keep its shape, got {image.shape}")
        if dtype(image).kind == "c" and dtype(block).kind != "c":
            raise DtypeError(f"{name} times a real block must be real, got {image.dtype}: give {name} a complex dtype")
        return image

    return checked


def _columnwise(operator: LinearOperator) -> Callable[[np.ndarray], np.ndarray]:
    """The product of a SciPy operator with a block: batches become columns, one column is a plain vector."""
    # An operator made from matvec alone loops over columns of shape (n, 1), which many a matvec does not expect.
    single = getattr(operator, "_CustomLinearOperator__matmat_impl", operator) is None

    def product(block: np.ndarray) -> np.ndarray:
        if not block.size:
            return block
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
