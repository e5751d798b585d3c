"""A x = b prepared for the solvers: columns scaled, residuals computed from scratch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import DtypeError, ShapeError
from .journal import SolveLog
from .operator import Operator, check_images, in_units, probes, size_of
from .projections import MARGIN, PROJECTED_FROM, Projections
from .units import image_in_range, multiply, unit_of
from .vectors import HOST, Block, BlockFunction, Vectors


class Problem:
    """A x = b with columns and matrix divided by powers of two, so that nothing depends on the scale of either.

    `scale` (..., k) is the power of two next to the largest entry of each column (1 for a column of zeros): exact, so
    that multiplying b by a power of two multiplies every iterate by it. `unit`, () or (..., 1), is that of the matrix
    as an exponent (see units.py), once it has been looked for; an iterate x in scaled units is 2^shift x in those of b.
    """

    def __init__(self, system: Operator, b: Block, rtol: float, atol: float, rounded: np.dtype | None = None) -> None:
        vectors = system.vectors
        self.system, self.b = system, b
        self.dtype = np.dtype(np.complex128 if "c" in (system.dtype.kind, vectors.dtype(b).kind) else np.float64)
        self.scale = power_of_two(vectors.largest(b))
        self._first = self._scaled_b(np.arange(b.shape[-1]))  # the first residual, until it is asked for
        self.size = np.sqrt(vectors.dot(self._first, self._first).real)
        self.goal = np.maximum(rtol * self.size, atol / self.scale)
        self.rounded = None if rounded == self.dtype else rounded
        self.size_rounded = self.size.copy()
        self.unfit = np.zeros(self.size.shape, bool)  # columns that are infinite once they are rounded
        self.from_zero = False  # whether the first iterate is 0
        self.carried = False  # whether x0 is of an earlier solve: it is dropped if 0 is better
        self.unrounded = np.zeros(b.shape[-1], bool)  # columns whose size_rounded is not that of their last residual
        self.log = SolveLog(np.divide(1.0, self.size, out=np.zeros_like(self.size), where=self.size > 0), vectors)
        self.product = self.log.count_products(check_images(system.product, "A", vectors))
        self.row_product: BlockFunction | None = None  # a faster product with many columns
        self.projects = False  # whether residuals may be estimated, if there is `by_rows`
        self.projections: Projections | None = None
        self.margin = np.ones(self.size.shape)  # factor by which the norms of residuals may be too small
        self.unit = np.zeros((), int)

    @property
    def shift(self) -> np.ndarray:
        """Scaled units of x, as exponents of two, (..., k)."""
        result: np.ndarray = np.frexp(self.scale)[1] - 1 - self.unit
        return result

    def look_for_units(self, count: int = 2) -> Block:
        """Find the magnitude of the matrix, and scale it to units of its own from here on.

        If that takes products with probes, `count` of them, their images are returned.
        """
        system, batch, images = self.system, tuple(self.b.shape[:-2]), None
        size = size_of(system, batch)
        if size is None and not system.native:  # nothing is known of A but its products
            images, digits = image_in_range(self.product, probes(system, batch, count), system.vectors)
            size = np.ldexp(system.vectors.largest(images).max(axis=-1, keepdims=True), -digits)
        self.unit = unit_of(1.0 if size is None else size)
        if images is not None and (digits or self.unit.any()):
            multiply(images, np.broadcast_to(-digits - self.unit, system.vectors.largest(images).shape), system.vectors)
        if self.unit.any():
            self.system = in_units(system, self.unit)
            self.product = self.log.count_products(check_images(self.system.product, "A", system.vectors))
        return images

    def to_scaled_units(self, x: Block) -> Block:
        """A copy of x, which is in the units of b, in scaled units; 0 in columns in which b is 0."""
        vectors = self.system.vectors
        x = vectors.copy(x, self.dtype)
        if not (self.size > 0).all():
            vectors.scale(np.where(self.size > 0, 1.0, 0.0), x)
        multiply(x, -self.shift, vectors)
        return x

    def start(self, x0: Block | None) -> tuple[Block, Block]:
        """The first iterate, a copy of x0 in scaled units, and its residual.

        A column starts at 0 instead if its residual is beyond the range of numbers, or carried and no better.
        """
        vectors, every = self.system.vectors, np.arange(self.b.shape[-1])
        first, self._first = self._first, None
        self.from_zero = x0 is None
        if x0 is None:
            return vectors.zeros(self.b.shape, self.dtype), self._scaled_b(every) if first is None else first
        x = vectors.copy(x0, self.dtype)
        r = self.residual(x, every, False)
        norm = np.sqrt(vectors.dot(r, r).real)
        worse = ~np.isfinite(norm) | (~(norm <= self.size) & self.carried)
        if worse.any():
            vectors.put(x, every, vectors.zeros(x.shape, self.dtype), worse)
            vectors.put(r, every, self._scaled_b(every), worse)
        return x, r

    def residual(self, x: Block, columns: np.ndarray, returned: bool = True) -> Block:
        """b - A x from scratch, in float64, for some columns, of which x holds the iterates.

        If these iterates may be the ones that are returned, they go through the same product once more, rounded to
        `rounded`, which a block makes nearly free; the norms of their residuals are left in `size_rounded`.
        """
        self.unrounded[columns] = self.rounded is not None and not returned
        if self.row_product is not None:
            image = self.row_product(x)
            if self.rounded is not None and returned:  # what is rounded off is small: its product may be in float32
                off = (self._short(x, columns) - x).astype(np.result_type(self.rounded, np.float32))
                self._note_rounded(image + self.row_product(off), columns)
            return self._minus(image, columns)
        if self.rounded is None or not returned:
            return self._minus(self.product(x), columns)
        both, k = self.product(self.system.vectors.join(x, self._short(x, columns))), len(columns)
        self._note_rounded(both[..., k:], columns)
        return self._minus(both[..., :k], columns)

    def estimate_residuals(self, x: Block, columns: np.ndarray) -> np.ndarray | None:
        """Estimates of |b - A x| for some columns if these are certain to be below the goal, else None.

        Those of the rounded iterate are left in `size_rounded` then.
        """
        if self.row_product is None or not self.projects or len(columns) < PROJECTED_FROM:
            return None
        if self.projections is None:
            self.projections = Projections(self.row_product, self.system.n)
        every, largest = len(columns) == self.b.shape[-1], np.zeros(len(columns))

        def parts(rows: slice, block: slice) -> tuple[np.ndarray, ...]:
            chosen, iterate = columns[block], x[rows, block]
            b = self.b[rows, block if every else chosen] / self.scale[chosen]
            if self.rounded is None:
                return b, iterate
            short = self._round(iterate, chosen)
            largest[block] = np.maximum(largest[block], HOST.largest(short))
            return b, iterate, short

        norms = self.projections.norms(len(columns), parts)
        if not (MARGIN * norms[0] <= self.goal[columns]).all():  # so for nan
            return None
        self.margin[columns] = MARGIN
        if self.rounded is not None:
            self.unfit[columns] = ~np.isfinite(largest)
            self.size_rounded[columns] = np.where(self.unfit[columns], np.inf, norms[1])
            self.unrounded[columns] = False
        result: np.ndarray | None = norms[0]
        return result

    def compute_skipped_residuals(self, x: Block) -> None:
        """Compute the residuals of rounded iterates that were skipped earlier."""
        columns = np.flatnonzero(self.unrounded)
        if len(columns):
            part = self.system.vectors.take(x, columns)
            self._note_rounded(self.product(self._short(part, columns)), columns)
            self.unrounded[columns] = False

    def _short(self, x: Block, columns: np.ndarray) -> Block:
        """The iterates of some columns as they are in the dtype that is returned; zeros for those that do not fit."""
        vectors = self.system.vectors
        short = self._round(x, columns)
        unfit = ~np.isfinite(vectors.largest(short))
        self.unfit[..., columns] = unfit
        if unfit.any():
            vectors.put(short, np.arange(len(columns)), vectors.zeros(short.shape, self.dtype), unfit)
        return short

    def _round(self, x: Block, columns: np.ndarray) -> Block:
        """x rounded to the dtype that is returned, in scaled units as before; infinite if it does not fit."""
        vectors, shift = self.system.vectors, self.shift[..., columns]
        assert self.rounded is not None
        short = vectors.copy(x, self.dtype)
        multiply(short, shift, vectors)
        with np.errstate(over="ignore"):
            short = vectors.round(short, self.rounded)
        multiply(short, -shift, vectors)
        return short

    def _note_rounded(self, q: Block, columns: np.ndarray) -> None:
        r = self._minus(q, columns)
        size = np.sqrt(self.system.vectors.dot(r, r).real)
        self.size_rounded[..., columns] = np.where(self.unfit[..., columns], np.inf, size)

    def to_units_of_b(self, x: Block) -> Block:
        """A copy of x in the units of b."""
        x = self.system.vectors.copy(x, self.dtype)
        multiply(x, self.shift, self.system.vectors)
        return x

    def right_hand_side(self) -> Block:
        """b in scaled units."""
        return self._scaled_b(np.arange(self.b.shape[-1]))

    def _scaled_b(self, columns: np.ndarray) -> Block:
        """Some columns of b in scaled units."""
        vectors = self.system.vectors
        r = vectors.take(self.b, columns, self.dtype)
        vectors.scale(1 / self.scale[..., columns], r)
        return r

    def _minus(self, q: Block, columns: np.ndarray) -> Block:
        r = self._scaled_b(columns)
        self.system.vectors.axpy(np.full(self.scale[..., columns].shape, -1.0), q, r)
        return r


def power_of_two(sizes: np.ndarray) -> np.ndarray:
    """The powers of two at or just above some sizes; 1 for 0."""
    exponents = np.frexp(np.asarray(sizes, np.float64))[1]
    return np.where(sizes > 0, np.ldexp(1.0, np.clip(exponents, -1000, 1000)), 1.0)


def finite(x: Block, vectors: Vectors) -> bool:
    return bool(np.isfinite(vectors.largest(x)).all())


def start_from(problem: Problem, precondition: BlockFunction | None, exponent: Callable[[], np.ndarray]) -> Block:
    """The first iterate for x0="Mb", in scaled units; exponent() is that of M in these after its first product."""
    b = problem.right_hand_side()
    x = b if precondition is None else problem.system.vectors.copy(precondition(b), problem.dtype)
    multiply(x, np.broadcast_to(exponent(), problem.size.shape), problem.system.vectors)
    return x


def with_caller_errstate(callback: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
    """The callback under the floating-point settings of now, whatever those of its caller are."""
    settings = np.geterr()

    def called(x: np.ndarray) -> Any:
        with np.errstate(**settings):
            return callback(x)

    return called


def check_real(x0: np.ndarray, dtype: np.dtype) -> None:
    """Refuse complex numbers for a real system."""
    if x0.dtype.kind == "c" and dtype.kind != "c":
        raise DtypeError(f"x0 must be real where A and b are real, got {x0.dtype}")


def as_numbers(values: Any, name: str) -> np.ndarray:
    """values as a numpy array of real or complex numbers."""
    if isinstance(values, np.ma.MaskedArray):
        raise DtypeError(f"{name} is a masked array: wanted a plain one, as .filled(value) gives")
    if getattr(values, "requires_grad", False):
        raise DtypeError(f"{name} is a tensor that requires grad, which this function does not follow: pass .detach()")
    try:
        array = np.asarray(values)
    except ValueError:  # numpy's, for lists within a list of several lengths
        raise ShapeError(f"{name} must be an array of numbers, got lists of several lengths") from None
    if array.dtype.kind not in "biufc":
        what = f"dtype {array.dtype}" if isinstance(values, (np.ndarray, list, tuple)) else type(values).__name__
        raise DtypeError(f"{name} must be an array of numbers, got {what}")
    return array if array.dtype.kind in "fc" else array.astype(np.float64)


def one_column(values: Any, n: int, name: str) -> np.ndarray:
    array = as_numbers(values, name)
    if array.shape not in ((n,), (n, 1)):
        raise ShapeError(f"{name} must have shape ({n},) or ({n}, 1) to fit A of shape ({n}, {n}), got {array.shape}")
    return array.reshape(n, 1)
