"""The norms of the residuals of many columns, from random projections: a few products instead of one for each column.

For a matrix S (n, m) of independent normal numbers of variance 1 / m and any vector r, |S^T r|^2 / |r|^2 has the
distribution of chi^2_m / m: it is 1 on average, and its spread is sqrt(2 / m). For the residuals r = b - A x of a
symmetric A, S^T r = S^T b - (A S)^T x, which takes one product with m columns for all x together.

With m = 64 the norm is known to within 9 % (one standard deviation), and that |r| exceeds three times its estimate has
the probability P(chi^2_64 < 64 / 9) < 1e-18: so much may a decision, or a bound, rely on it.

References
----------
Johnson and Lindenstrauss, Extensions of Lipschitz mappings into a Hilbert space, Contemporary Mathematics 26 (1984).
Freivalds, Probabilistic machines can use less running time, IFIP Congress (1977).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..engines.dense import share

PROJECTIONS = 64  # number of random directions
PROJECTED_FROM = 4 * PROJECTIONS  # number of columns from which projections take less than half of the time
MARGIN = 3.0  # multiple of its estimate that a norm does not exceed
SEED = 20251  # seed of the random directions
ROWS_AT_ONCE, COLUMNS_AT_ONCE = 512, 128  # numbers of rows and of columns that are worked on together


class Projections:
    """Projections of the residuals of one symmetric matrix, which `product` multiplies a block of n rows by."""

    def __init__(self, product: Callable[[np.ndarray], np.ndarray], n: int) -> None:
        self.directions = np.random.default_rng(SEED).standard_normal((n, PROJECTIONS)) / np.sqrt(PROJECTIONS)
        self.images = product(self.directions)

    def norms(self, count: int, parts: Callable[[slice, slice], tuple[np.ndarray, ...]]) -> np.ndarray:
        """Estimates of |b - A x| of so many columns, for one x or several: as many rows of numbers.

        parts(rows, columns) are the entries of b, and of each x, in some rows and columns, in float64.
        """
        found: list[np.ndarray] = [np.empty(0)] * -(-count // COLUMNS_AT_ONCE)

        def estimate(columns: slice) -> None:
            sums: list[np.ndarray] = []
            for first in range(0, len(self.images), ROWS_AT_ONCE):
                rows = slice(first, first + ROWS_AT_ONCE)
                b, *xs = parts(rows, columns)
                images, projected = self.images[rows].T, self.directions[rows].T @ b
                terms = [projected - images @ x for x in xs]
                sums = terms if not sums else [total + term for total, term in zip(sums, terms, strict=True)]
            found[columns.start // COLUMNS_AT_ONCE] = np.linalg.norm(sums, axis=1)

        share(count, COLUMNS_AT_ONCE, estimate)
        return np.concatenate(found, axis=-1)
