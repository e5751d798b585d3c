"""SolveState: the preconditioner and the solution that one solve hands to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DtypeError

if TYPE_CHECKING:
    from .plan import Plan

WORN = 2  # a preconditioner is built anew after a solve with more than twice the iterations of its first one,
GRACE = 4  # and these many more


@dataclass(eq=False)
class SolveState:
    """A handle that carries the preconditioner and the solution from one solve to the next.

    Pass the same object as ``state=`` to a sequence of solves whose matrices or right-hand sides change little: steps
    of a hyper-parameter search, time steps. Each begins at the last solution, with the last preconditioner; this is
    built anew once it needs more than twice the iterations that it took when it was new. What is carried changes how
    long a solve takes, never whether it counts as converged. A solve that broke down leaves no preconditioner. The
    backward solves of kernelops.torch have a part of their own in it.

    Attributes
    ----------
    x : ndarray or None
        The last solution in float64, with the shape (..., n, k) of a block.
    solves, builds : int
        Number of solves, and of preconditioners that were built for them.

    See Also
    --------
    solve : takes a SolveState as ``state=``
    kernelops.numpy.KernelSolve : the same for each call

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops import SolveState, solve
    >>> A, b, state = np.diag([1.0, 2.0, 3.0]), np.ones(3), SolveState()
    >>> first, second = solve(A, b, state=state), solve(A, b, state=state)
    >>> second.iterations, state.solves, state.builds
    (0, 2, 0)
    """

    x: np.ndarray | None = None
    solves: int = 0
    builds: int = 0
    plan: Plan | None = field(default=None, repr=False)
    fresh: int | None = field(default=None, repr=False)  # iterations of the solve that the plan was made for
    worn: bool = field(default=False, repr=False)
    backward: SolveState | None = field(default=None, repr=False)
    warm: bool = field(default=True, repr=False)  # whether solutions are carried too
    lent: Plan | None = field(default=None, repr=False)  # the plan that the backward solves were given last

    def start(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
        """The last solution if it has this ``shape`` and this ``dtype``, else None."""
        return self.x if self.x is not None and (self.x.shape, self.x.dtype) == (shape, dtype) else None

    def adjoint(self) -> SolveState:
        """The state of the backward solves, with this one's plan, which they may replace by one of their own."""
        if self.backward is None:
            self.backward = SolveState(warm=self.warm)
        if self.plan is not None and self.plan is not self.lent:
            self.lent = self.plan
            self.backward.plan, self.backward.fresh, self.backward.worn = self.plan, None, False
        return self.backward

    def lookup(self, key: tuple) -> Plan | None:
        """The plan of an earlier solve, if its request has the same ``key`` and it has not worn out, else None."""
        return self.plan if self.plan is not None and self.plan.request.key == key and not self.worn else None

    def hold(self, plan: Plan | None) -> None:
        """Keep ``plan`` for the solves to come."""
        if plan is not None and not plan.reused and plan is not self.plan:
            self.fresh, self.worn = None, False
            self.plan = plan if plan.request.M is None else None  # an M of the caller's is never taken from here
            self.builds += bool(plan.preconditioners)

    def leave(self, x: np.ndarray, plan: Plan, iterations: int, broken: bool = False) -> None:
        """Record how a solve by ``plan`` ended: with ``x``, after so many ``iterations``.

        If it was ``broken``, that is broke down, or had nothing to solve, its plan is dropped.
        """
        self.solves += 1
        self.hold(plan)
        if self.fresh is None:
            self.fresh = iterations
        self.worn = iterations > WORN * self.fresh + GRACE
        if broken or not x.size:
            self.plan = None
        self.x = x if self.warm and np.isfinite(x).all() else None


def check_state(state: object) -> None:
    """Raise DtypeError unless state is a SolveState or None."""
    if state is not None and not isinstance(state, SolveState):
        raise DtypeError(f"state: wanted a SolveState or None, got {type(state).__name__}")
