"""SolveOptions: the one list of what a caller can ask of a solve, checked once."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ..errors import ArgumentError, KeywordError
from .state import SolveState, check_state

METHODS = ("auto", "cg", "block_cg", "direct")
NEED_ENTRIES = (  # preconditioners that are built from single entries of A
    "pivoted_cholesky",
    "fsai",
    "jacobi",
)
PRECONDS = ("auto", *NEED_ENTRIES, "nystrom")
ON_FAIL = ("warn", "raise", "ignore")


@dataclass(frozen=True, kw_only=True, eq=False)
class SolveOptions:
    """The options of a solve, checked.

    An option is written here, in the signature of :func:`kernelops.solve` and in that of ``KernelSolve.__call__``; a
    test holds the signatures, their docstrings and the tables of the documentation to this list.

    Attributes
    ----------
    x0 : array_like, "Mb" or None
        Where the iteration starts: zero for None, M b for "Mb".
    rtol, atol : float
        A column is converged when ``norm(b - A x) <= max(rtol * norm(b), atol)``.
    maxiter : int or None
        The largest number of iterations; None for 10 n, but at least 100.
    M : LinearOperator, matrix or None
        The caller's own preconditioner.
    precond : str or None
        The preconditioner to build, one of ``PRECONDS``.
    method : str
        One of ``METHODS``.
    state : SolveState or None
        What carries preconditioner and solution from one solve to the next.
    seed : int
        The seed of the random choices made when a preconditioner is built.
    callback : callable or None
        Called with a copy of each iterate.
    progress : bool
        Whether a progress bar is shown.
    verbose : bool
        Whether method and preconditioner, the reason for them, and the outcome are written to stderr.
    on_fail : str
        What is done if a column does not converge, one of ``ON_FAIL``.
    """

    x0: Any = None
    rtol: float = 1e-6
    atol: float = 0.0
    maxiter: int | None = None
    M: Any = None
    precond: str | None = "auto"
    method: str = "auto"
    state: SolveState | None = None
    seed: int = 0
    callback: Callable[[np.ndarray], Any] | None = None
    progress: bool = False
    verbose: bool = False
    on_fail: str = "warn"

    def __post_init__(self) -> None:
        if not isinstance(self.on_fail, str) or self.on_fail not in ON_FAIL:
            raise ArgumentError(f'on_fail must be "warn", "raise" or "ignore", got {self.on_fail!r}')
        check_callback(self.callback)
        if isinstance(self.x0, str):
            check_word(self.x0)
        object.__setattr__(self, "rtol", check_tolerance(self.rtol, "rtol"))
        object.__setattr__(self, "atol", check_tolerance(self.atol, "atol"))
        object.__setattr__(self, "maxiter", check_maxiter(self.maxiter))
        check_state(self.state)
        self._check_preconditioner()
        if isinstance(self.seed, bool) or not isinstance(self.seed, (int, np.integer)) or self.seed < 0:
            raise ArgumentError(f"seed: wanted a whole number of at least 0, got {self.seed!r}")

    def _check_preconditioner(self) -> None:
        method, precond = self.method, self.precond
        if not (isinstance(method, str) and method in METHODS):
            raise ArgumentError(f"method: wanted one of {_list_names(METHODS)}, got {method!r}")
        if precond is not None and not (isinstance(precond, str) and precond in PRECONDS):
            hint = "; a matrix or an operator goes to M=" if not isinstance(precond, str) else ""
            raise ArgumentError(f"precond: wanted None or one of {_list_names(PRECONDS)}, got {precond!r}{hint}")
        if self.M is not None and precond not in (None, "auto"):
            raise KeywordError(f"M and precond = {precond!r} are both preconditioners: give one of them")
        if method == "direct" and (self.M is not None or precond not in (None, "auto")):
            raise KeywordError('method = "direct" takes no preconditioner: leave out M and precond')

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> SolveOptions:
        """The options among the arguments of a function, as its ``locals()`` has them when it begins."""
        return cls(**{name: arguments[name] for name in OPTION_NAMES if name in arguments})

    def most_iterations(self, n: int) -> int:
        """The largest number of iterations for a matrix of n rows."""
        return max(100, 10 * n) if self.maxiter is None else self.maxiter

    def for_other_right_hand_side(self) -> SolveOptions:
        """The options of a further solve with the same matrix: its preconditioner, but no start and nothing shown."""
        state = None if self.state is None else self.state.adjoint()
        return replace(self.quiet(), x0=None, state=state)

    def quiet(self) -> SolveOptions:
        """The same without callback, progress bar and messages."""
        return replace(self, callback=None, progress=False, verbose=False)

    def with_state(self) -> SolveOptions:
        """The same with a state that keeps the plan for the solves to come, if there is none."""
        return self if self.state is not None else replace(self, state=SolveState(warm=False))

    def without_warm_start(self) -> SolveOptions:
        """The same with a state of its own that has the plan of this one, so that no solution is left behind."""
        state, given = SolveState(warm=False), self.state
        assert given is not None
        state.hold(None if given.worn else given.plan)
        return replace(self, state=state)


OPTION_NAMES = tuple(f.name for f in fields(SolveOptions))


def check_tolerance(value: Any, name: str) -> float:
    """A tolerance as a float: a number of at least 0."""
    try:
        if isinstance(value, (str, bool)):
            raise TypeError
        number = float(value)
        if math.isnan(number) or number < 0:
            raise ValueError
    except OverflowError:
        raise ArgumentError(f"{name} must be a number of at least 0, got one that float64 cannot hold") from None
    except (TypeError, ValueError):
        raise ArgumentError(f"{name} must be a number of at least 0, got {value!r}") from None
    return number


def check_maxiter(maxiter: Any) -> int | None:
    """A largest number of iterations as an int: a whole number of at least 0, or None."""
    if maxiter is None:
        return None
    try:
        if isinstance(maxiter, bool):
            raise TypeError
        limit = operator.index(maxiter)
    except TypeError:
        if not (isinstance(maxiter, (float, np.floating)) and float(maxiter).is_integer()):
            raise ArgumentError(f"maxiter must be a whole number of at least 0, or None, got {maxiter!r}") from None
        limit = int(maxiter)
    if limit < 0:
        raise ArgumentError(f"maxiter must be a whole number of at least 0, or None, got {maxiter!r}")
    return limit


def check_callback(callback: Any) -> None:
    """Refuse a callback that cannot be called."""
    if callback is not None and not callable(callback):
        raise KeywordError(f"callback must be a function of the iterate, or None, got {type(callback).__name__}")


def check_word(x0: str) -> None:
    """Refuse a start that is a word other than "Mb"."""
    if x0 != "Mb":
        raise ArgumentError(f'x0 must be an array, None or "Mb", got {x0!r}')


def _list_names(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names)
