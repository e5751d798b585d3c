"""Which preconditioner, and whether to iterate at all: by counted work, fixed constants and bytes, never by a clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError

from ..errors import ArgumentError
from .entries import Entries
from .precond.base import Preconditioner
from .precond.cholesky import Cholesky
from .system import System

METHODS = ("auto", "cg", "direct")
PRECONDS = ("auto", "pivoted_cholesky", "fsai", "nystrom", "jacobi")

# What things cost, in nanoseconds of a small machine of the year 2025. Only their ratios count.
PRODUCT = 0.03  # of an entry in a float32 product, for each unit of its counted work
DOUBLE = 2.5  # times that in float64
ENTRY = (4.0, 0.1)  # of an entry of K by itself: at least, and for each unit of its counted work
FLOP = 0.02  # of a multiplication or addition in a matrix product or a factorisation
EXPECTED = 60  # products that a solve is taken to need where nothing is known yet
DIRECT_BYTES = 1 << 30  # that a dense matrix may take


@dataclass(frozen=True)
class Plan:
    """How a matrix is to be solved with.

    Attributes
    ----------
    key : tuple
        The question that this answers: sizes, method and preconditioner as asked for.
    method : str
        "cg" or "direct".
    precond : str
        The name of the preconditioner, "none" or the class of a given M.
    reason : str
        Why this one.
    preconditioners : tuple of Preconditioner
        One for each element of the batch; empty for a given M, or none.
    apply : callable or None
        M V for a block V (..., n, k).
    """

    key: tuple
    method: str
    precond: str
    reason: str
    preconditioners: tuple[Preconditioner, ...] = ()
    apply: Callable[[Any], Any] | None = None

    @property
    def rank(self) -> int:
        """The largest rank of a low-rank part."""
        return max((p.rank for p in self.preconditioners), default=0)

    def setup(self, n: int) -> float:
        """What building took, in passes over K: columns evaluated over n."""
        return max((p.columns for p in self.preconditioners), default=0) / max(1, n)
