"""The gap between the residual that conjugate gradients carry along and the true one.

References
----------
Greenbaum, Estimating the attainable accuracy of recursively computed residual methods, SIAM J. Matrix Anal. Appl. 18
(1997). van der Vorst and Ye, Residual replacement strategies for Krylov subspace iterative methods for the convergence
of true residuals, SIAM J. Sci. Comput. 22 (2000).
"""

from __future__ import annotations

import numpy as np

FLOOR = 0.1  # multiple of eps |A| |x| below which the carried residual means nothing; above, it nearly always does
CHECK_EVERY = 16  # number of iterations between two estimates of the attainable residual
PATIENCE = 3  # number of checks in a row that must fail to halve the true residual before a column is stagnated


class ResidualGap:
    """Estimates of how far the carried residual of each column may differ from the true one, b - A x.

    The two part at about eps |A| |x|, where x is the largest iterate: below, the carried one goes on falling and means
    nothing. |A| is estimated from below, from the coefficients or by |A p| / |p|. For some matrices
    (diagonal ones, say) the two stay together far longer, so falling below `attainable` only calls for a check.

    Nothing else counts as stagnation: without a preconditioner the residual of a healthy iteration may stay where it is
    for hundreds of steps, so a plateau says nothing.
    """

    interval = CHECK_EVERY

    def __init__(self, shape: tuple[int, ...], eps: float, floor: float = FLOOR) -> None:
        self.floor = np.full(shape, floor * eps)
        self.matrix_norm, self.attainable = np.zeros(shape), np.zeros(shape)
        self.checked, self.stalled = np.full(shape, np.inf), np.zeros(shape, int)

    def observe_norm(self, factor: np.ndarray) -> None:
        """Raise the estimates of |A|: a vector was stretched by these factors."""
        self.matrix_norm = np.maximum(self.matrix_norm, factor)

    def update(self, size: np.ndarray) -> None:
        """Set the attainable residual for iterates of this norm."""
        self.attainable = self.floor * self.matrix_norm * size

    def target(self, goal: np.ndarray, norm: np.ndarray) -> np.ndarray:
        """The norms at which columns claim to be done, given the present ones."""
        result: np.ndarray = np.maximum(goal, self.attainable)
        return result

    def compare(
        self, claims: np.ndarray, carried: np.ndarray, true: np.ndarray, goal: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The claiming columns that met the goal, and those whose residual is replaced so that they start anew."""
        met = claims & (true <= goal)
        honest = claims & ~met & (carried > goal) & (true <= 2 * carried)
        self.floor[honest] *= 0.1 * carried[honest] / self.attainable[honest]
        self.attainable[honest] = 0.1 * carried[honest]
        replaced = claims & ~met & ~honest
        self.stalled[replaced] = np.where(true[replaced] > self.checked[replaced] / 2, self.stalled[replaced] + 1, 0)
        self.checked[replaced] = true[replaced]
        return met, replaced

    def has_stagnated(self, replaced: np.ndarray) -> np.ndarray:
        """The columns whose true residual was replaced too often without being halved."""
        return replaced & (self.stalled >= PATIENCE)
