"""The interface that solvers are written against: an operator, and a preconditioner as a function of blocks.

kernelops' own operators (operators/) satisfy the protocol `Operator` themselves. `as_system` wraps whatever SciPy takes
for a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from ..arrays.arguments import is_tensor
from ..engines import dense
from ..errors import ArgumentError, DtypeError, ShapeError
from .entries import DenseEntries, Entries
from .units import EntriesInUnits, OwnUnits, largest_entry, largest_magnitude, scaled_product
from .vectors import HOST, Block, BlockFunction, Vectors

ROW_PRODUCT_FROM = 64  # number of columns from which a product evaluates rows of the matrix and multiplies them by BLAS
ROWS_AT_ONCE = 256  # number of rows that such a product evaluates together
ASYMMETRY = 1e-6  # share of |u||Av|: far above the rounding of float32 products, far below what would mislead CG


class Operator(Protocol):
    """A square matrix A = diag(alpha) + K that multiplies blocks of vectors.

    The rows of blocks may be shared out over processes: then this one holds `n` of the `global_n` rows of the matrix.
    What is allocated goes by n; limits and decisions, which must be the same in all processes, go by global_n.

    Attributes
    ----------
    name : str
        The name of the matrix in messages.
    n : int
        Rows of the blocks that it multiplies.
    global_n : int
        Rows of the matrix.
    dtype : numpy.dtype
        Dtype of the matrix: float16, float32, float64, complex64 or complex128.
    symmetric : str
        "yes", "no" or "unknown".
    native : bool
        Whether a float32 block gets a float32 product and a float64 block a float64 one of the same matrix. If not, all
        products are made with float64 blocks.
    alpha : ndarray, shape () or (..., n, 1)
        The diagonal besides K, float64.
    entries : tuple of Entries
        K, one for each element of the batch in C order, or one for all; empty if only products are known.
    least : float, or ndarray of shape (..., 1)
        A lower bound of the eigenvalues of K: 0 if it is positive semidefinite, -inf if nothing is known.
    vectors : Vectors
        The operations on the blocks that it multiplies.
    """

    @property
    def name(self) -> str: ...

    @property
    def n(self) -> int: ...

    @property
    def global_n(self) -> int: ...

    @property
    def dtype(self) -> np.dtype: ...

    @property
    def symmetric(self) -> str: ...

    @property
    def native(self) -> bool: ...

    @property
    def alpha(self) -> np.ndarray: ...

    @property
    def entries(self) -> tuple[Entries, ...]: ...

    @property
    def least(self) -> float | np.ndarray: ...

    @property
    def vectors(self) -> Vectors: ...

    def product(self, V: Block, /) -> Block:
        """A V for a block V of shape (..., n, k)."""


@dataclass(frozen=True)
class System:
    """An operator that is made of its parts: a wrapped one of SciPy's, or another one in other units.

    Attributes
    ----------
    product : callable
        A V for a block V.
    own_diagonal : callable, optional
        () -> the diagonal of a matrix without `entries`, if it is known.

    The others are those of `Operator`.
    """

    n: int
    global_n: int
    dtype: np.dtype
    product: BlockFunction
    symmetric: str = "unknown"
    name: str = "A"
    native: bool = False
    vectors: Vectors = HOST
    entries: tuple[Entries, ...] = ()
    alpha: np.ndarray = field(default_factory=lambda: np.zeros(()))
    least: float | np.ndarray = -math.inf
    own_diagonal: Callable[[], np.ndarray] | None = None


def density(system: Operator) -> float:
    """Share of the entries of K that ranges keep; 1 if none are known."""
    return min((e.density for e in system.entries), default=1.0)


def size_of(system: Operator, batch: tuple[int, ...]) -> np.ndarray | None:
    """The magnitude of the entries of A, shape () or (..., 1) with a number for each element of the batch.

    It is the largest of the diagonal, as of a positive semidefinite matrix; if that is 0, of some columns. None if no
    entries are known.
    """
    if not system.global_n or 0 in batch:
        return np.ones(())
    if system.entries:
        alpha = system.alpha.max(axis=-2) if system.alpha.ndim else system.alpha
        found = np.array([largest_entry(e) for e in system.entries])
        result: np.ndarray | None = np.maximum(found[0] if len(found) == 1 else found.reshape(*batch, 1), alpha)
        return result
    diagonal = system.own_diagonal if isinstance(system, System) else None
    known = 0.0 if diagonal is None else largest_magnitude(diagonal())
    return np.asarray(known) if known > 0 else None


def in_units(system: Operator, unit: np.ndarray) -> Operator:
    """The operator A' with A = 2^unit A'; the unit has shape (), or (..., 1) for the elements of a batch."""
    if not unit.any():
        return system
    each = np.broadcast_to(unit.reshape(-1), len(system.entries)) if unit.size == 1 else unit.reshape(-1)
    return System(
        system.n,
        system.global_n,
        system.dtype,
        scaled_product(system.product, -unit, system.vectors),
        system.symmetric,
        system.name,
        system.native,
        system.vectors,
        entries=tuple(EntriesInUnits(e, int(u)) for e, u in zip(system.entries, each, strict=False)),
        alpha=np.ldexp(system.alpha, -(unit[..., None] if unit.ndim else unit)),
        least=np.ldexp(system.least, -unit),
        own_diagonal=system.own_diagonal if isinstance(system, System) else None,
    )


def prefers_rows(system: Operator, block: Block) -> bool:
    """Whether products with blocks like this one are faster by rows of the matrix."""
    known = system.native and system.symmetric == "yes" and len(system.entries) == 1 and system.vectors is HOST
    many = block.ndim == 2 and block.shape[-1] >= ROW_PRODUCT_FROM
    return known and many and block.dtype == np.float64 and density(system) == 1


def row_product(system: Operator) -> Callable[[np.ndarray], np.ndarray]:
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


def inexact(dtype: DTypeLike | None) -> np.dtype:
    """The dtype itself if it is a float or complex dtype of the solvers, else float64 or complex128."""
    dtype = np.dtype(np.float64 if dtype is None else dtype)
    return dtype if dtype.char in "efdFD" else np.dtype(np.complex128 if dtype.kind == "c" else np.float64)


def as_system(A: Any) -> Operator:
    """A itself if it is an `Operator`, else a wrapper of what SciPy's aslinearoperator makes of it."""
    if isinstance(A, System):
        return A
    # data frames and masked arrays have a product of another kind
    if callable(getattr(A, "product", None)) and not isinstance(A, np.ndarray) and hasattr(A, "vectors"):
        if hasattr(A, "shape"):
            _square(A.shape, "A")
        operator: Operator = A
        return operator
    entries: tuple[Entries, ...] = ()
    if isinstance(A, np.ndarray) and A.dtype.kind in "bifu" and A.ndim == 2 and A.shape[0] == A.shape[1]:
        entries = (DenseEntries(A),)
    wrapped = _as_operator(A, "A", "a KernelOperator, a LinearOperator or a matrix")
    n = _square(wrapped.shape, "A")
    diagonal = None if entries else getattr(A, "diagonal", None)
    return System(
        n, n, inexact(wrapped.dtype), _columnwise(wrapped), name=_name_of(A), entries=entries, own_diagonal=diagonal
    )


def as_preconditioner(M: Any, n: int, vectors: Vectors = HOST) -> tuple[BlockFunction, str, OwnUnits]:
    """M, an approximation of the inverse of A, as a function of blocks; its name; the record of how it was scaled.

    It is applied on the host.
    """
    name = _name_of(M)
    M = _as_operator(M, "M", "a LinearOperator or a matrix near the inverse of A")
    if _square(M.shape, "M") != n:
        raise ShapeError(f"M must have the shape of A, ({n}, {n}), got {tuple(M.shape)}")
    scaled = OwnUnits(check_images(_columnwise(M), "M", HOST))
    return vectors.via_host(scaled), name, scaled


def probes(system: Operator, batch: tuple[int, ...] = (), count: int = 2) -> Block:
    """A block of seeded random vectors, the same columns for each element of the batch."""
    draw = np.random.default_rng(20250)
    block = draw.standard_normal((system.global_n, count))
    if system.dtype.kind == "c":
        block = block + 1j * draw.standard_normal((system.global_n, count))
    return system.vectors.from_whole(np.broadcast_to(block, (*batch, *block.shape)).copy() if batch else block)


def check_symmetric(
    system: Operator, product: BlockFunction, batch: tuple[int, ...] = (), images: Block = None
) -> None:
    """Refuse a matrix that is known, or seen on two seeded probes, not to be symmetric (Hermitian).

    product is the system's own, perhaps counted; batch holds the batch dimensions of the blocks it takes. images are
    those of the probes, if they are known already.
    """
    if system.symmetric == "no":
        raise ArgumentError(f"A must be symmetric for a solve; {system.name} says that it is not")
    if system.symmetric == "yes" or system.global_n == 0:
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


def _name_of(A: Any) -> str:
    """The name of a matrix in messages: its own, or that of its class."""
    name = getattr(A, "name", None)
    return name if isinstance(name, str) and name else type(A).__name__


def _as_operator(A: Any, name: str, wanted: str) -> LinearOperator:
    """The LinearOperator that SciPy makes of an operator or a matrix; anything else is refused."""
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
        raise DtypeError(f"{name}: wanted {wanted}, got {_name_of(A)}{of}") from error
    if np.dtype(A.dtype).kind not in "biufc":
        raise DtypeError(f"{name}: wanted real or complex numbers, got dtype {A.dtype}")
    return A


def _square(shape: Any, name: str) -> int:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ShapeError(f"{name} must be square for a solve, (n, n), got shape {tuple(shape)}")
    return int(shape[0])


def check_images(product: BlockFunction, name: str, vectors: Vectors) -> BlockFunction:
    """A product that refuses images of another shape than the block, and complex ones of a real block."""
    dtype = vectors.dtype

    def checked(block: Block) -> Block:
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
        columns = flat.reshape(block.shape[-2], math.prod(flat.shape[1:]))
        if columns.shape[1] == 1:
            image = np.asarray(operator.matvec(columns[:, 0]))[:, None]
        elif single:
            image = np.stack([np.asarray(operator.matvec(column)) for column in columns.T], axis=-1)
        else:
            image = np.asarray(operator.matmat(columns))
        return np.moveaxis(image.reshape(flat.shape), 0, -2)

    return product
