"""A matrix in units of its own size: what keeps a solve from depending on the scale of A and of M.

Squares of what a solve works with, and the short numbers of a preconditioner, leave the range of floating-point numbers
long before A does. So a matrix whose entries are far from 1 is divided by a power of four, A = 4^k A', and the solve
sees A'. The root of a power of four is a power of two, and multiplication by that changes no digit. A matrix of
ordinary size is left alone. Units are given as exponents of two, which are even.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .entries import Entries
from .vectors import HOST, Block, BlockFunction, Vectors

ORDINARY = 32  # sizes from 2^-32 to 2^32 need no unit
OF_M = 64  # the same for an M, whose size is that of the condition number
LARGEST = 1000  # a unit, and its inverse, are ordinary numbers of float64
SINGLE = 60  # binary digits that a float32 block may be scaled by; beyond, it goes through the product in float64
SAMPLED = 3  # columns that are looked at where the diagonal is 0
FARTHER = (0, -600, 600)  # binary digits that a block is scaled by until its image has a size


def unit_of(size: Any, ordinary: int = ORDINARY) -> np.ndarray:
    """The units next to some sizes; 0 for those that are ordinary, 0 or not finite."""
    size = np.asarray(size, np.float64)
    known = np.isfinite(size) & (size > 0)
    exponent = np.frexp(np.where(known, size, 1.0))[1]
    return np.where(np.abs(exponent) > ordinary, 2 * (np.clip(exponent, -LARGEST, LARGEST) // 2), 0)


def image_in_range(product: BlockFunction, block: Block, vectors: Vectors) -> tuple[Block, int]:
    """The image of a block times 2^digits, and digits: not 0 where the image itself would not be in range."""
    for digits in FARTHER:
        if digits:
            part = vectors.copy(block)
            multiply(part, np.full((*part.shape[:-2], part.shape[-1]), digits), vectors)
        image = product(part if digits else block)
        found = vectors.largest(image)
        if (np.isfinite(found) & (found > np.finfo(np.float64).tiny)).all():
            break
    return image, digits


def largest_entry(entries: Entries) -> float:
    """The largest magnitude on the diagonal, or in some columns where there is nothing on it."""
    found = largest(entries.diagonal())
    if found == 0.0:
        found = largest(entries.columns(np.unique(np.linspace(0, entries.n - 1, SAMPLED).astype(int))))
    return found


def largest(values: Any) -> float:
    return float(np.abs(np.asarray(values)).max(initial=0.0))


def multiply(x: Block, exponents: np.ndarray, vectors: Vectors) -> None:
    """x times powers of two, one for each column, in place; where no number can hold the factor, in two steps."""
    first = np.clip(exponents, -LARGEST, LARGEST)
    vectors.scale(np.ldexp(1.0, first), x)
    if (first != exponents).any():
        vectors.scale(np.ldexp(1.0, exponents - first), x)


def scaled_product(product: BlockFunction, exponent: np.ndarray, vectors: Vectors) -> BlockFunction:
    """A product times 2^exponent: half of it goes in, and half comes out."""
    half = exponent // 2
    far = bool((np.abs(half) > SINGLE).any())

    def scaled(block: Block) -> Block:
        dtype = vectors.dtype(block)
        digits = np.broadcast_to(half, (*block.shape[:-2], block.shape[-1]))
        part = vectors.copy(block, np.result_type(dtype, np.float64) if far else dtype)
        multiply(part, digits, vectors)
        image = product(part)
        multiply(image, digits, vectors)
        return vectors.copy(image, dtype) if far else image

    return scaled


class EntriesInUnits:
    """The entries of a matrix divided by 2^unit; entries.py says what each name means."""

    def __init__(self, entries: Entries, unit: int) -> None:
        self.entries, self.unit = entries, unit
        self.n, self.width, self.work, self.density = entries.n, entries.width, entries.work, entries.density

    @property
    def semidefinite(self) -> bool:
        return self.entries.semidefinite

    @property
    def coordinates(self) -> np.ndarray | None:
        return self.entries.coordinates

    def diagonal(self) -> np.ndarray:
        return np.ldexp(self.entries.diagonal(), -self.unit)

    def columns(self, J: np.ndarray, first: int = 0, dtype: DTypeLike = np.float64) -> np.ndarray:
        return np.ldexp(self.entries.columns(J, first), -self.unit).astype(dtype, copy=False)

    def blocks(self, I: np.ndarray) -> np.ndarray:
        return np.ldexp(self.entries.blocks(I), -self.unit)

    def neighbours(self, rank: np.ndarray, count: int) -> np.ndarray:
        return self.entries.neighbours(rank, count)


class OwnUnits:
    """M as a function of blocks of numpy, times a power of four that makes it of ordinary size.

    Conjugate gradients do not see the scale of M, so that it may be looked for when the first block comes.

    Attributes
    ----------
    exponent : int
        What M is multiplied by, as an exponent of two.
    """

    def __init__(self, product: Callable[[np.ndarray], np.ndarray]) -> None:
        self.given, self.exponent = product, 0
        self.product: Callable[[np.ndarray], np.ndarray] | None = None

    def __call__(self, block: np.ndarray) -> np.ndarray:
        if self.product is not None:
            return self.product(block)
        image, size = self.given(block), HOST.largest(block).max(initial=0.0)
        if not size > 0:  # a block of zeros says nothing
            return image
        self.product, found = self.given, HOST.largest(image).max(initial=0.0)
        if found / size < 2.0**OF_M and found / size > 2.0**-OF_M:
            return image
        image, digits = image_in_range(self.given, block, HOST)
        self.exponent = -int(unit_of(np.ldexp(HOST.largest(image).max() / size, -digits), OF_M))
        if not self.exponent:
            return image
        self.product = scaled_product(self.given, np.asarray(self.exponent), HOST)
        return self.product(block)
