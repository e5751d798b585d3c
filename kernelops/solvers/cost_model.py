"""The predicted cost of the parts of a solve, in nanoseconds of a small machine of 2025; only the ratios count.

The figures are fixed and the work is counted, so that the same problem is solved in the same way everywhere, always.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from .entries import Entries
from .precond.neighbours import tree_is_faster
from .projections import PROJECTED_FROM, PROJECTIONS

ITERATION = 1e5  # nanoseconds for an iteration, apart from its product and its preconditioner
PRODUCT = 0.03  # nanoseconds for an entry in a float32 product with one column, for each unit of counted work
COLUMN = 0.5  # units of counted work that every further column adds to an entry
DOUBLE = 2.5  # ratio of a product in float64 to one in float32
ENTRY = (5.0, 0.1)  # nanoseconds for a single entry of K in float64: at least, and for each unit of counted work
BLOCK_ENTRY = 5.0  # ratio of an entry in a small block to a single entry
FLOP = 0.03  # nanoseconds for a multiplication or an addition in products of tall matrices in float64
FACTOR = 0.015  # nanoseconds for one in a dense Cholesky factorisation or a solve with its factor, in float64
SINGLE_RATIO = 0.5  # ratio of dense work, and of single entries, in float32 to that in float64
TRIANGLES = 0.5  # nanoseconds for an entry of a dense factor in a solve with one column, forwards and backwards
RANKED = 1.6  # nanoseconds for an entry of a low-rank factor when it is applied to a float32 vector
SPARSE_EXPECTED = (15, 60)  # iterations with a sparse approximate inverse: points in few dimensions, all others
GPU_DISCOUNT = 1 / 300, 1 / 100  # ratio of products, and of low-rank factors, with vectors on a GPU to the host
RANKED_ITERATIONS, SLOPE = 4.0, 60.0  # iterations to 1e-6 with low rank: 4 + 60 sqrt(residual trace / trace of alpha)


@dataclass(frozen=True)
class Costs:
    """The predicted cost of ways to solve with one matrix.

    Attributes
    ----------
    entries : Entries
    columns : int
        Right-hand sides.
    double : bool
        Whether the iterations run in float64.
    digits : float
        Natural logarithm of the factor by which the residual is to be reduced.
    on_gpu : bool
        Whether vectors are on a GPU. Entries, and what is built from them, are on the host in any case.
    """

    entries: Entries
    columns: int
    double: bool
    digits: float
    on_gpu: bool = False

    @property
    def entry(self) -> float:
        return max(ENTRY[0], ENTRY[1] * self.entries.work)

    def product(self, double: bool) -> float:
        """The cost of a product with the matrix."""
        e = self.entries
        work = e.work + (self.columns - 1) * COLUMN
        return (
            PRODUCT
            * work
            * e.density
            * e.n**2
            * (DOUBLE if double else 1.0)
            * (GPU_DISCOUNT[0] if self.on_gpu else 1.0)
        )

    @property
    def iteration(self) -> float:
        """The cost of an iteration without a preconditioner."""
        return ITERATION + self.product(self.double)

    def application(self, k: int) -> float:
        """The cost of a product with a factor of k columns and with its transpose, twice."""
        found = RANKED * self.entries.n * k * (1 + (self.columns - 1) / 8) * (2.0 if self.double else 1.0)
        return found * (GPU_DISCOUNT[1] if self.on_gpu else 1.0)

    def plain(self, condition: float) -> float:
        """The cost without a preconditioner: sqrt(condition) / 2 iterations reduce the error by a factor of e."""
        return (1 + min(self.entries.n, math.sqrt(condition) / 2 * self.digits)) * self.iteration

    def direct(self, corrections: int = 1, single: bool = False) -> float:
        """The cost of a dense factor, in float64 or float32, and of corrections with a float64 residual after each."""
        n, share = self.entries.n, SINGLE_RATIO if single else 1.0
        residuals = self if single or self.columns < PROJECTED_FROM else replace(self, columns=PROJECTIONS)
        factor = share * (self.entry * n**2 / 2 + FACTOR * n**3 / 3)
        solved = share * n**2 * (2 * TRIANGLES + 2 * FACTOR * self.columns)
        return factor + corrections * (ITERATION + solved + residuals.product(double=True))

    def single(self, rate: float) -> float:
        """The cost of a dense factor in float32, if a correction leaves this share of a residual."""
        return self.direct(max(1, math.ceil(self.digits / -math.log(rate))), single=True)

    def low_rank(self, k: int, trace: float) -> float:
        """The cost with a low-rank part of k columns, whose residual trace is this multiple of that of alpha."""
        n = self.entries.n
        iterations = RANKED_ITERATIONS + SLOPE * math.sqrt(trace) * self.digits / math.log(2e6)
        return n * k * self.entry + 8 * n * k**2 * FLOP + iterations * (self.iteration + self.application(k))

    @property
    def flat(self) -> bool:
        """Whether the points have few dimensions, so that a tree finds neighbours, and few of them are enough."""
        return tree_is_faster(self.entries)

    def sparse(self, k: int, count: int, flat: bool | None = None) -> float:
        """The cost of a sparse approximate inverse with `count` neighbours after k pivots; `flat` if it is known."""
        flat = self.flat if flat is None else flat
        n, m = self.entries.n, count + 1
        local = n * m**2 * (BLOCK_ENTRY * self.entry + 2 * k * FLOP) + n * m**3 * FLOP
        if not flat:  # one reduction over half of all pairs
            local += PRODUCT * (self.entries.work + 8) * self.entries.density * n**2 / 2
        setup = n * k * self.entry + 2 * n * k**2 * FLOP + local
        iterations = SPARSE_EXPECTED[not flat] * self.digits / math.log(2e6)
        return setup + iterations * (self.iteration + self.application(k) / 2)


def extrapolate(costs: Costs, k: int, trace: float, power: float, most: int) -> tuple[int, float]:
    """The rank from k to most at which low rank is predicted to cost least, and its cost; trace falls like k^-power."""
    ranks = np.unique(np.minimum(most, np.ceil(k * np.sqrt(2.0) ** np.arange(20)).astype(int)))
    predicted = [costs.low_rank(int(r), trace * (k / r) ** power) for r in ranks]
    best = int(np.argmin(predicted))
    return int(ranks[best]), predicted[best]
