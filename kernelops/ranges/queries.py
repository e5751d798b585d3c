"""Queries of a pattern: which pairs are held, how many, whether they are symmetric, what they cost; a picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import RangesError
from ..formula.cached import cached_property
from . import build
from .block_rows import BlockRows
from .lookup import Lookup
from .pattern import Pattern
from .permutation import inverse_permutation, is_same_order
from .plot import draw
from .rectangles import first_difference, rectangles
from .validate import LARGEST_INT64, as_int64


class Queries(Pattern):
    """A pattern that answers: which pairs it holds, how many, whether they are symmetric, what they cost."""

    def is_symmetric(self) -> bool:
        """Whether (j, i) is held whenever (i, j) is.

        Returns
        -------
        bool

        Examples
        --------
        >>> from kernelops import Ranges
        >>> Ranges.band(4, 1).is_symmetric(), Ranges.lower_triangular(4).is_symmetric()
        (True, False)
        """
        if not is_same_order(self.order_i, self.order_j):
            return self._symmetric_in_two_orders()
        held = rectangles(self._block_rows(1))
        return first_difference(held, held[:, ::-1]) is None

    def _symmetric_in_two_orders(self) -> bool:
        """Whether the mask is that of its transpose, for rows and columns that stand in orders of their own.

        Rectangles fall apart under two orders, so the mask and its transpose are compared by what they make of one
        vector of random 64-bit numbers, modulo 2^64: a difference, of entries -1, 0 and 1, would have to map it to 0,
        which it does for one vector in 2^64 at most. The vector is always the same one, and so is the answer.
        """
        n = max(self.extent)
        vector = np.random.default_rng(0).integers(0, 2**64 - 1, n, np.uint64, endpoint=True)
        i, j = (np.arange(n) if order is None else _extend_order(order, n) for order in (self.order_i, self.order_j))
        return np.array_equal(
            _sums(self._block_rows(1), vector[j])[inverse_permutation(i)],
            _sums(self._block_rows(0), vector[i])[inverse_permutation(j)],
        )

    def density(self, M: int, N: int) -> float:
        """The share of the M x N pairs that is held.

        Parameters
        ----------
        M, N : int
            Rows of i and of j.

        Returns
        -------
        float, from 0 to 1

        Raises
        ------
        RangesError
            If a block or an interval is out of bounds.

        Examples
        --------
        >>> from kernelops import Ranges
        >>> Ranges.band(4, 1).density(4, 4)
        0.625
        """
        self.check(M, N)
        return self.pairs / (int(M) * int(N)) if self.pairs else 0.0

    @cached_property
    def pairs(self) -> int:
        """The number of pairs (i, j) held."""
        sides = np.diff(rectangles(self._block_rows(1)), axis=2)[:, :, 0]
        M, N = self.extent
        return int(sides.astype(np.int64 if M * N <= LARGEST_INT64 else object).prod(1).sum())

    def predicted_cost(self, M: int, N: int) -> float:
        """The expected time of a reduction over j, in units of one over all M x N pairs.

        Counted, not measured: the columns of each row, and what it costs to begin a row and each tile of the engine
        within an interval. How the pairs are cut into blocks does not count: neighbours that meet the same are one. For
        points in few dimensions; less is lost in many.

        Parameters
        ----------
        M, N : int
            Rows of i and of j.

        Returns
        -------
        float
            1 for all pairs; a little more if too few pairs are left out to be worth it.

        Raises
        ------
        RangesError
            If a block or an interval is out of bounds.

        Examples
        --------
        >>> from kernelops import Ranges
        >>> Ranges.dense(1000, 500).predicted_cost(1000, 500)
        1.0
        """
        self.check(M, N)
        dense = BlockRows(np.array([[0, M]]), np.ones(1, np.int64), np.array([[0, N]]))
        return build.work(self.joined(1)) / build.work(dense) if self.pairs else 0.0

    def plot(self, M: int | None = None, N: int | None = None, ax: Any = None) -> Any:
        """Draw the pattern, with matplotlib.

        Parameters
        ----------
        M, N : int, optional
            Rows of i and of j; by default as many as the pattern or its orders need.
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib Axes
            In the order of the pattern, i downwards and j to the right.

        Raises
        ------
        RangesError
            If a block or an interval is out of bounds.
        MissingExtraError
            If matplotlib is not installed.

        Examples
        --------
        >>> from kernelops import Ranges
        >>> axes = Ranges.band(100, 10).plot()  # doctest: +SKIP
        """
        rows, columns = self.extent
        M, N = rows if M is None else M, columns if N is None else N
        self.check(M, N)
        return draw(rectangles(self._block_rows(1)), M, N, f"{100 * self.density(M, N):.3g} % of {M} x {N}", ax)

    def contains(self, I: Any, J: Any) -> np.ndarray:
        """Whether the pairs (I, J) are held, entry by entry.

        Parameters
        ----------
        I, J : integers or arrays of them
            Indices i and j, which broadcast.

        Returns
        -------
        ndarray of bool
            False for rows that do not exist.

        Raises
        ------
        RangesError
            If indices are no integers, or I and J do not broadcast.

        Examples
        --------
        >>> from kernelops import Ranges
        >>> Ranges.band(4, 1).contains([0, 3], [[1], [2]])
        array([[ True, False],
               [False,  True]])
        """
        i, j = as_int64("I", I), as_int64("J", J)
        try:
            np.broadcast_shapes(i.shape, j.shape)  # which happens after they are looked up
        except ValueError:
            raise RangesError(f"J: wanted a shape that broadcasts with {i.shape} of I, got {j.shape}") from None
        return self._lookup(*(self._positions(name, k) for name, k in (("order_i", i), ("order_j", j))))

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self._block_rows(1))

    @cached_property
    def _inverses(self) -> dict[str, np.ndarray]:
        orders = {name: getattr(self, name) for name in ("order_i", "order_j")}
        return {name: inverse_permutation(order) for name, order in orders.items() if order is not None}

    def _positions(self, name: str, k: np.ndarray) -> np.ndarray:
        """The positions of rows k of the arrays in the pattern; rows that do not exist stay as they are."""
        places = self._inverses.get(name)
        if places is None:
            return k
        there = (0 <= k) & (k < len(places))
        return places[k] if there.all() else np.where(there, places[k.clip(0, len(places) - 1)], k)

    def mask(self, M: int, N: int) -> np.ndarray:
        """The pairs held, as a dense array.

        Parameters
        ----------
        M, N : int
            Rows of i and of j.

        Returns
        -------
        ndarray of bool, shape (M, N)

        Raises
        ------
        RangesError
            If a block or an interval is out of bounds.

        Examples
        --------
        >>> from kernelops import Ranges
        >>> Ranges.lower_triangular(3).mask(3, 3).astype(int)
        array([[1, 0, 0],
               [1, 1, 0],
               [1, 1, 1]])
        """
        self.check(M, N)
        dense = np.zeros((M, N), bool)
        for (a, b), (c, d) in rectangles(self._block_rows(1)):
            dense[a:b, c:d] = True
        for axis, places in enumerate(self._inverses.get(name) for name in ("order_i", "order_j")):
            dense = dense if places is None else dense.take(places, axis)
        return dense


def _extend_order(order: np.ndarray, n: int) -> np.ndarray:
    """The order of n rows that leaves those behind the last one where they are."""
    return np.concatenate([order, np.arange(len(order), n)])


def _sums(block_rows: BlockRows, vector: np.ndarray) -> np.ndarray:
    """The sums, modulo 2^64, of the numbers that each position meets."""
    before = _running_sums(vector)
    until = _running_sums(before[block_rows.intervals[:, 1]] - before[block_rows.intervals[:, 0]])
    each = np.diff(until[np.concatenate([[0], block_rows.slices])])
    steps = np.zeros(len(vector), np.uint64)
    begin, end = block_rows.blocks[block_rows.blocks[:, 0] < block_rows.blocks[:, 1]].T
    each = each[block_rows.blocks[:, 0] < block_rows.blocks[:, 1]]
    steps[begin] += each
    steps[end[end < len(steps)]] -= each[end < len(steps)]
    return np.cumsum(steps)


def _running_sums(a: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, 2, ... numbers, modulo 2^64."""
    found = np.zeros(len(a) + 1, np.uint64)
    np.cumsum(a, out=found[1:])
    return found
