"""The record of a solve in progress: residuals and coefficients by iteration, counts of products, and timings."""

from __future__ import annotations

import time

import numpy as np
from scipy.linalg import LinAlgError, eigvalsh_tridiagonal

from .vectors import HOST, Block, BlockFunction, Timestamp, Vectors

SAMPLED_COLUMNS = 8  # number of columns, those with most iterations, from which the condition number is estimated


class SolveLog:
    """The record of a solve in progress: residuals and coefficients by iteration, counts of products, and timings.

    `unit` turns the norms that an iteration works with into relative residuals: one number for each column.
    """

    def __init__(self, unit: np.ndarray, vectors: Vectors = HOST) -> None:
        self.unit, self.vectors = unit, vectors
        self.history: list[np.ndarray] = []
        self.coefficients: list[tuple[np.ndarray, np.ndarray]] = []
        self.energy: np.ndarray | None = None  # <r, M r> / |b|^2 of the converged columns at the end, with an M
        self.range = np.inf, 0.0  # the smallest and the largest Rayleigh quotient of A that a block has shown
        self.products: dict[str, int] = {}
        self.timings: list[
            tuple[str, Timestamp, Timestamp]
        ] = []  # (part, start, end); on a GPU these are events that may not have completed
        self.started = time.perf_counter()

    @property
    def iterations(self) -> int:
        """Number of steps so far."""
        return len(self.coefficients)

    def count_products(self, product: BlockFunction) -> BlockFunction:
        """A product that counts its calls by precision and adds up the time that they take."""
        run, dtype = self.time_calls("product", product), self.vectors.dtype

        def counted(block: Block) -> Block:
            name = dtype(block).name
            self.products[name] = self.products.get(name, 0) + 1
            return run(block)

        return counted

    def time_calls(self, part: str, function: BlockFunction) -> BlockFunction:
        """A function that calls `function` and adds the time that this takes to a part."""
        timestamp = self.vectors.timestamp

        def run(block: Block) -> Block:
            begin = timestamp()
            try:
                return function(block)
            finally:
                self.timings.append((part, begin, timestamp()))

        return run

    def step(self, step: np.ndarray, ratio: np.ndarray) -> None:
        """Record the coefficients of a step, (..., k); nan for the columns that rest."""
        self.coefficients.append((step, ratio))

    def observe_quotients(self, smallest: float, largest: float) -> None:
        """Record that Rayleigh quotients <p, A p> / <p, p> of A range from the smallest to the largest."""
        self.range = min(self.range[0], smallest), max(self.range[1], largest)

    def record(self, norm: np.ndarray) -> None:
        """Record the residual norms of the present iteration, in place of those recorded for it before."""
        del self.history[self.iterations :]
        self.history.append(norm * self.unit)

    def times(self) -> dict[str, float]:
        """Seconds by part of the solve; the time outside the timed parts counts as "vectors"."""
        total, parts = time.perf_counter() - self.started, dict.fromkeys(("setup", "product", "preconditioner"), 0.0)
        for part, begin, end in self.timings:
            parts[part] += self.vectors.seconds(begin, end)
        return {**parts, "vectors": max(0.0, total - sum(parts.values())), "total": total}

    def condition(self, block: bool = False) -> float | None:
        """The largest over the smallest Ritz value, of the worst of the longest-running columns.

        With block it is that of the directions of a block alone: columns that went on by themselves, with an M, have
        shown that of M A.
        """
        smallest, largest = self.range
        quotients = [largest / smallest] if 0 < smallest <= largest and self.iterations > 1 else []
        return max([*quotients, *([] if block else self.conditions().values())], default=None)

    def conditions(self) -> dict[int, float]:
        """The largest over the smallest Ritz value of the longest-running columns, by their places.

        CG with steps s_j and ratios t_j (t_j = 0 if it starts anew) is the Lanczos process with the tridiagonal
        matrix of diagonal 1/s_j + t_j/s_(j-1) and off-diagonal sqrt(t_j)/s_(j-1); its eigenvalues lie in the spectrum.
        """
        if self.iterations < 2:
            return {}
        steps, ratios = (
            np.array(values).reshape(self.iterations, -1) for values in zip(*self.coefficients, strict=True)
        )
        taken = np.isfinite(steps)
        longest = np.argsort(-taken.sum(axis=0), kind="stable")[:SAMPLED_COLUMNS]
        found = {int(c): _ritz_ratio(steps[taken[:, c], c], ratios[taken[:, c], c]) for c in longest}
        return {c: value for c, value in found.items() if value is not None}


def _ritz_ratio(step: np.ndarray, ratio: np.ndarray) -> float | None:
    """The ratio of the extreme Ritz values of conjugate gradients; None if it is not known."""
    if len(step) < 2:
        return None
    diagonal = 1 / step
    diagonal[1:] += ratio[1:] / step[:-1]
    beside = np.sqrt(ratio[1:]) / step[:-1]
    if not (np.isfinite(diagonal).all() and np.isfinite(beside).all()):
        return None
    unit = np.abs(diagonal).max()
    try:
        ends = [
            eigvalsh_tridiagonal(diagonal / unit, beside / unit, select="i", select_range=(i, i))[0]
            for i in (0, len(step) - 1)
        ]
    except LinAlgError:  # entries of so different sizes that LAPACK's bisection does not end
        return None
    return float(ends[1] / ends[0]) if ends[0] > 0 else None
