"""What the parts of a solve cost, in nanoseconds of a small machine of the year 2025; only the ratios count.

The figures are fixed and the work is counted, so that the same problem is solved in the same way everywhere, always.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from .entries import Entries
from .precond.neighbours import by_tree
from .projections import PROJECTED_FROM, PROJECTIONS

ITERATION = 1e5  # an iteration, apart from its product and its preconditioner
PRODUCT = 0.03  # an entry in a float32 product with one column, for each unit of counted work
COLUMN = 0.5  # units of work that every further column is
DOUBLE = 2.5  # times that in float64
ENTRY = (5.0, 0.1)  # an entry of K by itself, in float64: at least, and for each unit of counted work
BLOCK_ENTRY = 5.0  # times that in small blocks
FLOP = 0.03  # a multiplication or an addition in tall matrices, float64
FACTOR = 0.015  # one in a dense Cholesky factorisation in float64, and in triangular solves with many columns
SINGLE = 0.5  # times that in float32, and times what an entry costs
TRIANGLES = 0.5  # an entry of a factor that is read, forwards and backwards
RANKED = 1.6  # a row of a low-rank factor of one column, when it is applied to a float32 vector
SPARSE_EXPECTED = (15, 60)  # iterations with a sparse approximate inverse: of points in few dimensions, of others
THERE = 1 / 300, 1 / 100  # times that take a product, and one with a low-rank factor, where vectors are on a GPU
FEW, SLOPE = 4.0, 60.0  # iterations with low rank: FEW + SLOPE sqrt(residual trace / trace of alpha), to 1e-6


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
        Natural logarithm of what the residual is to be divided by.
    there : bool
        Whether vectors are on a GPU. Entries are the host's in any case, and so is what is built of them.
    """

    entries: Entries
    columns: int
    double: bool
    digits: float
    there: bool = False

    @property
    def entry(self) -> float:
        return max(ENTRY[0], ENTRY[1] * self.entries.work)

    def product(self, double: bool) -> float:
        """A product with the matrix."""
        e = self.entries
        work = e.work + (self.columns - 1) * COLUMN
        return PRODUCT * work * e.density * e.n**2 * (DOUBLE if double else 1.0) * (THERE[0] if self.there else 1.0)

    @property
    def iteration(self) -> float:
        """An iteration without a preconditioner."""
        return ITERATION + self.product(self.double)

    def applied(self, k: int) -> float:
        """A product with a factor of k columns and with its transpose, twice."""
        found = RANKED * self.entries.n * k * (1 + (self.columns - 1) / 8) * (2.0 if self.double else 1.0)
        return found * (THERE[1] if self.there else 1.0)

    def plain(self, condition: float) -> float:
        """Without a preconditioner: sqrt(condition) / 2 iterations divide the error in the energy norm by e."""
        return (1 + min(self.entries.n, math.sqrt(condition) / 2 * self.digits)) * self.iteration

    def direct(self, corrections: int = 1, single: bool = False) -> float:
        """By a dense factor, in float64 or float32, and so many corrections with a float64 residual after each."""
        n, share = self.entries.n, SINGLE if single else 1.0
        residuals = self if single or self.columns < PROJECTED_FROM else replace(self, columns=PROJECTIONS)
        factor = share * (self.entry * n**2 / 2 + FACTOR * n**3 / 3)
        solved = share * n**2 * (2 * TRIANGLES + 2 * FACTOR * self.columns)
        return factor + corrections * (ITERATION + solved + residuals.product(double=True))

    def single(self, rate: float) -> float:
        """By a dense factor in float32, where a correction leaves this share of a residual."""
        return self.direct(max(1, math.ceil(self.digits / -math.log(rate))), single=True)

    def low_rank(self, k: int, trace: float) -> float:
        """By low rank, where the residual trace is so many times that of alpha."""
        n = self.entries.n
        iterations = FEW + SLOPE * math.sqrt(trace) * self.digits / math.log(2e6)
        return n * k * self.entry + 8 * n * k**2 * FLOP + iterations * (self.iteration + self.applied(k))

    @property
    def flat(self) -> bool:
        """Whether neighbours are those of points in few dimensions, which a tree finds, and of which few are enough."""
        return by_tree(self.entries)

    def sparse(self, k: int, count: int, flat: bool | None = None) -> float:
        """By a sparse approximate inverse of so many neighbours, after k pivots; `flat` where it need not be asked."""
        flat = self.flat if flat is None else flat
        n, m = self.entries.n, count + 1
        local = n * m**2 * (BLOCK_ENTRY * self.entry + 2 * k * FLOP) + n * m**3 * FLOP
        if not flat:  # one reduction over half of all pairs
            local += PRODUCT * (self.entries.work + 8) * self.entries.density * n**2 / 2
        setup = n * k * self.entry + 2 * n * k**2 * FLOP + local
        iterations = SPARSE_EXPECTED[not flat] * self.digits / math.log(2e6)
        return setup + iterations * (self.iteration + self.applied(k) / 2)


def extrapolated(costs: Costs, k: int, trace: float, power: float, most: int) -> tuple[int, float]:
    """The rank from k to most at which low rank is predicted to cost least, and its cost; trace falls like k^-power."""
    ranks = np.unique(np.minimum(most, np.ceil(k * np.sqrt(2.0) ** np.arange(20)).astype(int)))
    predicted = [costs.low_rank(int(r), trace * (k / r) ** power) for r in ranks]
    best = int(np.argmin(predicted))
    return int(ranks[best]), predicted[best]
