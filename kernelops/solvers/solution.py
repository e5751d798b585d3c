"""Solution: the result of a solve."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import MissingExtraError


@dataclass(frozen=True)
class Solution:
    """The result of a solve.

    Per-column values have the shape of the right-hand side without its rows: (..., k) for a right-hand side of shape
    (..., n, k), and () for one of shape (n,).

    Attributes
    ----------
    x : ndarray
        The iterate in float64 or complex128, in the shape of the right-hand side, never rounded to its dtype. For a
        column that did not converge, the iterate with the smallest residual seen; NaN throughout if status is
        "nonfinite".
    status : str
        "converged", "maxiter", "nonfinite", "not positive definite", "stagnated" or "stopped"; from KernelSolve also
        "overflow", if x does not fit into the dtype that is returned. Of several columns the worst counts.
    message : str
        Sentences that say what happened, what may be wrong and what to try.
    iterations : int
        Number of steps of conjugate gradients, in all precisions together; a step of a block counts once.
    residual : ndarray
        \\|b - A x\\| / \\|b\\| of each column, recomputed from x in float64 (0 if b is 0 and x is 0). By a dense
        factor of 256 columns and more it is estimated from random projections, with a relative spread of 9 %.
    residual_returned : ndarray
        The same for x rounded to the dtype of the right-hand side; inf if it does not fit.
    products : dict
        Precision -> number of products of the matrix with a block.
    history : ndarray
        Relative residual after 0, 1, ... iterations, by columns: shape (iterations + 1, ..., k). Between
        recomputations it is the residual that the iteration carries along.
    seconds : dict
        Wall time in seconds by part: "setup" (of a preconditioner), "product", "preconditioner", "vectors" and
        "total".
    method : str
        "cg"; "block_cg", in which the columns share their directions; or "direct", a dense Cholesky factor, which
        leaves conjugate gradients a step or two.
    precond : str
        The name of the preconditioner, or "none".
    rank : int
        Number of columns of its low-rank part; of a batch the largest.
    setup : float
        Work of building it, in passes over the matrix: number of entries evaluated, over n^2, of which a product
        evaluates as many as one pass. 0 if the preconditioner is of an earlier solve.
    reason : str
        The reason for this method and this preconditioner.
    density : float
        Share of the entries of K that ranges keep; 1 without ranges.
    condition : float or None
        Lower bound of the condition number of A (with a preconditioner of M A, except for "block_cg"), from the
        coefficients of the iteration. None if there were too few iterations, or a breakdown.
    bound : ndarray
        For each column an upper bound of the energy norm sqrt(<e, A e>) of the error e = x - A^-1 b, absolute and
        certain up to rounding; nan if none is proved: if alpha is 0 or unknown, or if K is not known to be positive
        semidefinite.
    preconditioners : tuple
        The preconditioners that were built, one for each element of a batch: SciPy LinearOperators near the inverse of
        A.
    info : int
        As SciPy's: 0 if converged, the number of iterations (at least 1) if not, negative after a breakdown.

    See Also
    --------
    solve : returns a Solution
    kernelops.SolveError : raised in its place if on_fail is "raise"

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
        """Whether every column has reached the tolerance that was asked for."""
        return self.status == "converged"

    @property
    def worst(self) -> np.ndarray:
        """The largest relative residual of all columns after 0, 1, ... iterations: shape (iterations + 1,)."""
        result: np.ndarray = self.history.max(axis=tuple(range(1, self.history.ndim)), initial=0.0)
        return result

    @property
    def _of(self) -> str:
        return "" if name_conditioned(self.method, self.precond) == "A" else " (of M A)"

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
            The axes to draw into; those of a new figure by default.

        Returns
        -------
        matplotlib axes

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.

        Examples
        --------
        >>> import numpy as np
        >>> from kernelops import solve
        >>> axes = solve(np.diag([1.0, 2.0, 3.0]), np.ones(3)).plot()  # doctest: +SKIP
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


def name_conditioned(method: str, precond: str) -> str:
    """The name of the matrix whose condition number an iteration shows: in block CG, that of A itself."""
    return "A" if precond == "none" or method == "block_cg" else "M A"


def _worst(values: np.ndarray) -> float:
    return float(np.max(values, initial=0.0))
