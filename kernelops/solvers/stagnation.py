"""When the residual that conjugate gradients carry along may be believed."""

from __future__ import annotations

import numpy as np

FLOOR = 0.1  # of eps |A| |x|: the carried residual means nothing below it, and above it nearly always does
CHECK_EVERY = 16  # iterations between two looks at how far rounding lets the residual fall
PATIENCE = 3  # checks in a row that do not halve the recomputed residual before a column counts as stagnated


class ResidualGap:
    """How far the residual that the iteration carries along can be trusted, by columns.

    Carried and true residual part at about eps |A| |x|, where x is the largest iterate: there the carried one goes on
    falling and means nothing. |A| is estimated from below, from the coefficients or by |A p| / |p|. For some matrices
    (diagonal ones, say) the two stay together far longer, so falling below `level` is no verdict, only a reason to
    look.

    Nothing else counts as stagnation: without a preconditioner the residual of a healthy iteration may stay where it is
    for hundreds of steps, so a plateau says nothing.
    """

    interval = CHECK_EVERY

    def __init__(self, shape: tuple[int, ...], eps: float, floor: float = FLOOR) -> None:
        self.floor = np.full(shape, floor * eps)
        self.matrix_norm, self.attainable = np.zeros(shape), np.zeros(shape)
        self.checked, self.stalled = np.full(shape, np.inf), np.zeros(shape, int)

    def observe_norm(self, factor: np.ndarray) -> None:
        """A was seen to stretch a vector by this factor."""
        self.matrix_norm = np.maximum(self.matrix_norm, factor)

    def update(self, size: np.ndarray) -> None:
        """Set the level anew for iterates of this norm."""
        self.attainable = self.floor * self.matrix_norm * size

    def target(self, goal: np.ndarray, norm: np.ndarray) -> np.ndarray:
        """The norms at which columns claim to be done, given those they have come to."""
        return np.maximum(goal, self.attainable)

    def compare(
        self, claims: np.ndarray, carried: np.ndarray, true: np.ndarray, goal: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of the columns that claim: those that met the goal, and those that went astray and must start anew."""
        met = claims & (true <= goal)
        honest = claims & ~met & (carried > goal) & (true <= 2 * carried)
        self.floor[honest] *= 0.1 * carried[honest] / self.attainable[honest]
        self.attainable[honest] = 0.1 * carried[honest]
        replaced = claims & ~met & ~honest
        self.stalled[replaced] = np.where(true[replaced] > self.checked[replaced] / 2, self.stalled[replaced] + 1, 0)
        self.checked[replaced] = true[replaced]
        return met, replaced

    def has_stagnated(self, replaced: np.ndarray) -> np.ndarray:
        """Which of the columns that went astray have done so too often."""
        return replaced & (self.stalled >= PATIENCE)
