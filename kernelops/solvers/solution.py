"""What came out of a solve: the Solution, and the Journal that is kept on the way to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, eigvalsh_tridiagonal

from ..errors import MissingExtraError
from .vectors import HOST

MESSAGES = {  # status -> what happened, what may be wrong, what to try
    "converged": "Converged in {iterations} iterations: |b - A x| / |b|, recomputed {recomputed}, is {residual:.1e}.",
    "maxiter": (
        "Not converged: after maxiter = {maxiter} iterations |b - A x| / |b| is {residual:.1e}, where {asked} was "
        "asked. {condition}llow more iterations, ask for less, try another preconditioner, or raise alpha."
    ),
    "nonfinite": (
        "Not solved: there is NaN or Inf in {faulty}, and x is NaN throughout. Look for NaN, Inf or overflow in the "
        "data, in alpha, in the right-hand side, in x0 and in M."
    ),
    "not positive definite": (
        "Not solved: {culprit} is not positive definite, or not to the precision of its products; |b - A x| / |b| is "
        "{residual:.1e} at the best iterate. {remedy}"
    ),
    "stagnated": (
        "Not converged: |b - A x| / |b|, recomputed {recomputed}, stays at {residual:.1e}, where {asked} was asked. "
        "That is as far as the rounding of A x allows: ask for less, or raise alpha{condition}."
    ),
    "overflow": (
        "Solved, but not returned whole: x goes up to {largest:.1e}, which is beyond {dtype}, so that Inf is returned "
        "in its place. Give all arrays in a wider dtype, or take Solution.x, which is float64."
    ),
    "stopped": "Stopped by the callback after {iterations} iterations: |b - A x| / |b| is {residual:.1e}.",
}
RANGE = {  # the same where the range of float64 is what is wrong, above or below
    "beyond": (
        "Not solved: the solution is beyond the range of float64, and x is NaN throughout. Divide the right-hand side "
        "by a number, or multiply the matrix by it."
    ),
    "below": (
        "Not converged: the solution is at the lower end of the range of float64, where numbers have few digits or "
        "none: |b - A x| / |b| is {residual:.1e}, where {asked} was asked. Multiply the right-hand side by a number, "
        "or divide the matrix by it."
    ),
}
REMEDIES = {  # what is not positive definite -> what to try
    "A": "Raise alpha: duplicate points with alpha near 0 make such a matrix, and so do some kernels.",
    "M": "Give another preconditioner M, or none.",
}
FAILURES = {
    "nonfinite": -1,
    "overflow": -1,
    "not positive definite": -2,
}  # status -> SciPy's info, negative for a breakdown
LONGEST = 8  # columns that the condition number is estimated from


@dataclass(frozen=True)
class Solution:
    """What came out of a solve.

    Per-column values have the shape of the right-hand side without its rows: (..., k) for a right-hand side of shape
    (..., n, k), and () for one of shape (n,).

    Attributes
    ----------
    x : ndarray
        The iterate in float64 or complex128, in the shape of the right-hand side, never rounded to its dtype. Where a
        column did not converge, the iterate with the smallest residual seen; NaN throughout if status is "nonfinite".
    status : str
        "converged", "maxiter", "nonfinite", "not positive definite", "stagnated" or "stopped"; from KernelSolve also
        "overflow", where x does not fit into the dtype that is returned. Of several columns the worst counts.
    message : str
        What happened, what may be wrong and what to try.
    iterations : int
        Steps of conjugate gradients, in all precisions together; a step of a block counts once.
    residual : ndarray
        \\|b - A x\\| / \\|b\\| of each column, recomputed from x in float64 (0 where b is 0 and x is 0). By a dense
        factor of 256 columns and more it is estimated from random projections, with a relative spread of 9 %.
    residual_returned : ndarray
        The same for x rounded to the dtype of the right-hand side; inf where it does not fit.
    products : dict
        Precision -> how many times a block was multiplied by the matrix.
    history : ndarray
        Relative residual after 0, 1, ... iterations, by columns: shape (iterations + 1, ..., k). Between
        recomputations it is the residual that the iteration carries along.
    seconds : dict
        Wall time by part: "setup" (of a preconditioner), "product", "preconditioner", "vectors" and "total".
    method : str
        "cg"; "block_cg", where the columns share their directions; or "direct", a dense Cholesky factor, which leaves
        conjugate gradients a step or two.
    precond : str
        The name of the preconditioner, or "none".
    rank : int
        Columns of its low-rank part; of a batch the most.
    setup : float
        What building it took, in passes over the matrix: entries evaluated, over n^2.
    reason : str
        Why this method and this preconditioner.
    density : float
        Share of the entries of K that ranges keep; 1 without ranges.
    condition : float or None
        Condition number of A (of M A with a preconditioner, but by "block_cg") as the coefficients of the iteration
        show it: a lower bound. None where there were too few iterations, or a breakdown.
    bound : ndarray
        Of each column, a bound of the error's energy norm sqrt(<e, A e>), e = x - A^-1 b, certain up to rounding; nan
        where none is proved: where alpha is 0 or unknown, and where K is not known to be positive semidefinite.
    preconditioners : tuple
        What was built, one for each element of a batch: SciPy LinearOperators near the inverse of A.
    info : int
        As SciPy's: 0 if converged, the number of iterations (at least 1) if not, negative after a breakdown.

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops import solve
    >>> solution = solve(np.diag([1.0, 2.0, 3.0]), np.ones((3, 2)))
    >>> solution.converged, solution.iterations, solution.residual.shape, solution.history.shape
    (True, 3, (2,), (4, 2))
    """

    x: np.ndarray
    status: str
    message: str
    iterations: int
    residual: np.ndarray
    residual_returned: np.ndarray
    products: dict[str, int]
    history: np.ndarray = field(repr=False)
    seconds: dict[str, float]
    method: str
    precond: str
    rank: int
    setup: float
    reason: str
    density: float
    condition: float | None
    bound: np.ndarray
    info: int
    preconditioners: tuple[Any, ...] = field(default=(), repr=False, compare=False)

    @property
    def converged(self) -> bool:
        """Whether every column meets what was asked."""
        return self.status == "converged"

    @property
    def worst(self) -> np.ndarray:
        """The history of the worst column: shape (iterations + 1,)."""
        return self.history.max(axis=tuple(range(1, self.history.ndim)), initial=0.0)

    @property
    def _of(self) -> str:
        return "" if conditioned(self.method, self.precond) == "A" else " (of M A)"

    def __str__(self) -> str:
        columns = np.asarray(self.residual).size
        products = ", ".join(f"{count} {name}" for name, count in self.products.items()) or "none"
        seconds = ", ".join(f"{name} {value:.3g}" for name, value in self.seconds.items())
        condition = "unknown" if self.condition is None else f"{self.condition:.1e}{self._of}"
        kept = f"; {100 * self.density:.2g} % of the entries kept" if self.density < 1 else ""
        return (
            f"Solution: {self.status}, x of shape {self.x.shape}\n"
            f"  {self.message}\n"
            f"  residual    {_worst(self.residual):.2e} (returned dtype: {_worst(self.residual_returned):.2e}), "
            f"worst of {columns} column{'s' * (columns != 1)}\n"
            f"  iterations  {self.iterations}; products: {products}; condition: {condition}{kept}\n"
            f"  method      {self.method}; {self.reason}; set up in {self.setup:.2g} passes\n"
            f"  seconds     {seconds}"
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw the history, one line a column, on a logarithmic scale.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw; a new figure's by default.

        Returns
        -------
        matplotlib axes

        Raises
        ------
        MissingExtraError
            Where matplotlib is not installed.
        """
        if ax is None:
            try:
                from matplotlib import pyplot
            except ImportError as error:
                raise MissingExtraError('Solution.plot needs matplotlib: pip install "kernelops[plot]"') from error
            _, ax = pyplot.subplots()
        for line in self.history.reshape(len(self.history), -1).T:
            ax.semilogy(line)
        ax.set_xlabel("iteration")
        ax.set_ylabel("|b - A x| / |b|")
        ax.set_title(f"{self.status} in {self.iterations} iterations")
        return ax


def conditioned(method: str, precond: str) -> str:
    """The matrix whose condition number an iteration shows: the directions of a block show that of A itself."""
    return "A" if precond == "none" or method == "block_cg" else "M A"


def message(status: str, **figures: Any) -> str:
    """The sentence of a status, or of a row of RANGE, filled with figures; condition is that of A, or of `matrix`."""
    condition, matrix = figures.get("condition"), figures.get("matrix", "A")
    of = "" if matrix == "A" else f" of {matrix}"
    if status == "maxiter":
        figures["condition"] = "A" if condition is None else f"The condition number{of} is at least {condition:.0e}: a"
    else:  # what rounding allows is a matter of A alone
        known = condition is not None and matrix == "A"
        figures["condition"] = f" (the condition number is at least {condition:.0e})" if known else ""
    figures["remedy"] = REMEDIES.get(figures.get("culprit", "A"))
    return (MESSAGES | RANGE)[status].format(**figures)


def info_of(status: str, iterations: int) -> int:
    """SciPy's integer for a status."""
    return 0 if status == "converged" else FAILURES.get(status, max(1, iterations))


class Journal:
    """The notes of a solve in progress: residuals and coefficients by iteration, counts and clocks.

    `unit` turns the norms that an iteration works with into relative residuals: one number for each column.
    """

    def __init__(self, unit: np.ndarray, verbs: Any = HOST) -> None:
        self.unit, self.verbs = unit, verbs
        self.history: list[np.ndarray] = []
        self.coefficients: list[tuple[np.ndarray, np.ndarray]] = []
        self.energy: np.ndarray | None = None  # <r, M r> / |b|^2 of the converged columns at the end, with an M
        self.range = np.inf, 0.0  # the smallest and the largest Rayleigh quotient of A that a block has shown
        self.products: dict[str, int] = {}
        self.marks: list[tuple[str, Any, Any]] = []  # part, begin and end; of a GPU the marks are not of the past yet
        self.begun = time.perf_counter()

    @property
    def iterations(self) -> int:
        """Steps taken so far."""
        return len(self.coefficients)

    def counted(self, product: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """product, with its calls counted by precision and its seconds added up."""
        clocked, dtype = self.clocked("product", product), self.verbs.dtype

        def counted(block: Any) -> Any:
            name = dtype(block).name
            self.products[name] = self.products.get(name, 0) + 1
            return clocked(block)

        return counted

    def clocked(self, part: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """function, with its seconds added to a part."""

        mark = self.verbs.mark

        def clocked(block: Any) -> Any:
            begin = mark()
            try:
                return function(block)
            finally:
                self.marks.append((part, begin, mark()))

        return clocked

    def step(self, step: np.ndarray, ratio: np.ndarray) -> None:
        """One step was taken; nan for the columns that rest."""
        self.coefficients.append((step, ratio))

    def quotients(self, smallest: float, largest: float) -> None:
        """A block of directions had Rayleigh quotients <p, A p> / <p, p> from the smallest to the largest."""
        self.range = min(self.range[0], smallest), max(self.range[1], largest)

    def record(self, norm: np.ndarray) -> None:
        """The residual norms now; once more for the same iteration, they replace what was noted before."""
        del self.history[self.iterations :]
        self.history.append(norm * self.unit)

    def times(self) -> dict[str, float]:
        """Seconds by part; what is none of the parts that are clocked is the vectors'."""
        total, parts = time.perf_counter() - self.begun, dict.fromkeys(("setup", "product", "preconditioner"), 0.0)
        for part, begin, end in self.marks:
            parts[part] += self.verbs.seconds(begin, end)
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

        CG with steps s_j and ratios t_j (t_j = 0 where it starts anew) is the Lanczos process with the tridiagonal
        matrix of diagonal 1/s_j + t_j/s_(j-1) and off-diagonal sqrt(t_j)/s_(j-1); its eigenvalues lie in the spectrum.
        """
        if self.iterations < 2:
            return {}
        steps, ratios = (
            np.array(values).reshape(self.iterations, -1) for values in zip(*self.coefficients, strict=True)
        )
        taken = np.isfinite(steps)
        longest = np.argsort(-taken.sum(axis=0), kind="stable")[:LONGEST]
        found = {int(c): _ritz_ratio(steps[taken[:, c], c], ratios[taken[:, c], c]) for c in longest}
        return {c: value for c, value in found.items() if value is not None}


def _ritz_ratio(step: np.ndarray, ratio: np.ndarray) -> float | None:
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


def _worst(values: np.ndarray) -> float:
    return float(np.max(values, initial=0.0))
