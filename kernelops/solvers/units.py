"""Matrices in units of their own size, so that a solve does not depend on the scale of A and of M.

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

ORDINARY = 32  # binary digits: a matrix with entries from 2^-32 to 2^32 is left in its own units
ORDINARY_INVERSE = 64  # binary digits: the same for an M, whose size may be that of the condition number
LARGEST_EXPONENT = 1000  # largest exponent of a unit, so that it and its inverse are normal numbers of float64
SINGLE_DIGITS = 60  # largest exponent by which a float32 block is scaled; beyond, the product is in float64
SAMPLED_COLUMNS = 3  # number of columns that are evaluated if the diagonal is 0
TRIED_EXPONENTS = (0, -600, 600)  # exponents by which a block is scaled, one after another, until its image has a size


def unit_of(size: Any, ordinary: int = ORDINARY) -> np.ndarray:
    """The units next to some sizes; 0 for those that are ordinary, 0 or not finite."""
    size = np.asarray(size, np.float64)
    known = np.isfinite(size) & (size > 0)
    exponent = np.frexp(np.where(known, size, 1.0))[1]
    return np.where(np.abs(exponent) > ordinary, 2 * (np.clip(exponent, -LARGEST_EXPONENT, LARGEST_EXPONENT) // 2), 0)


def image_in_range(product: BlockFunction, block: Block, vectors: Vectors) -> tuple[Block, int]:
    """The image of a block times 2^digits, and digits, which are not 0 if the image itself would leave the range."""
    for digits in TRIED_EXPONENTS:
        if digits:
            part = vectors.copy(block)
            multiply(part, np.full((*part.shape[:-2], part.shape[-1]), digits), vectors)
        image = product(part if digits else block)
        found = vectors.largest(image)
        if (np.isfinite(found) & (found > np.finfo(np.float64).tiny)).all():
            break
    return image, digits


def largest_entry(entries: Entries) -> float:
    """The largest magnitude on the diagonal or, if that is 0, in some columns."""
    found = largest_magnitude(entries.diagonal())
    if found == 0.0:
        found = largest_magnitude(
            entries.columns(np.unique(np.linspace(0, entries.n - 1, SAMPLED_COLUMNS).astype(int)))
        )
    return found


def largest_magnitude(values: Any) -> float:
    return float(np.abs(np.asarray(values)).max(initial=0.0))


def multiply(x: Block, exponents: np.ndarray, vectors: Vectors) -> None:
    """Multiply x by powers of two, one for each column, in place; in two steps if no number holds the factor."""
    first = np.clip(exponents, -LARGEST_EXPONENT, LARGEST_EXPONENT)
    vectors.scale(np.ldexp(1.0, first), x)
    if (first != exponents).any():
        vectors.scale(np.ldexp(1.0, exponents - first), x)


def scaled_product(product: BlockFunction, exponent: np.ndarray, vectors: Vectors) -> BlockFunction:
    """A product times 2^exponent: half of it scales the block, and half its image."""
    half = exponent // 2
    far = bool((np.abs(half) > SINGLE_DIGITS).any())

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
    """The entries of a matrix divided by 2^unit: see `Entries`."""

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
        result: np.ndarray = np.ldexp(self.entries.diagonal(), -self.unit)
        return result

    def columns(self, J: np.ndarray, first: int = 0, dtype: DTypeLike = np.float64) -> np.ndarray:
        result: np.ndarray = np.ldexp(self.entries.columns(J, first), -self.unit).astype(dtype, copy=False)
        return result

    def blocks(self, I: np.ndarray) -> np.ndarray:
        result: np.ndarray = np.ldexp(self.entries.blocks(I), -self.unit)
        return result

    def neighbours(self, rank: np.ndarray, count: int) -> np.ndarray:
        return self.entries.neighbours(rank, count)


class OwnUnits:
    """M as a function of blocks of numpy, times a power of four that makes it of ordinary size.

    Conjugate gradients do not see the scale of M, so that it may be looked for when the first block comes.

    Attributes
    ----------
    exponent : int
        Exponent of the power of two by which M is multiplied.
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
        if found / size < 2.0**ORDINARY_INVERSE and found / size > 2.0**-ORDINARY_INVERSE:
            return image
        image, digits = image_in_range(self.given, block, HOST)
        self.exponent = -int(unit_of(np.ldexp(HOST.largest(image).max() / size, -digits), ORDINARY_INVERSE))
        if not self.exponent:
            result: np.ndarray = image
            return result
        self.product = scaled_product(self.given, np.asarray(self.exponent), HOST)
        result = self.product(block)
        return result
