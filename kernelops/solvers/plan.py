"""Plan: the method and the preconditioner chosen for a solve."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from .precond.base import Preconditioner
from .units import OwnUnits
from .vectors import BlockFunction, Vectors


class Request(Protocol):
    """The part of a request that its plan reads."""

    @property
    def key(self) -> tuple: ...

    @property
    def n(self) -> int: ...

    @property
    def M(self) -> tuple[BlockFunction, str, OwnUnits] | None: ...


@dataclass(frozen=True)
class RequestKey:
    """The part of a request that a plan remembers: without the matrix, so that no data live as long as the plan."""

    key: tuple
    n: int
    M: tuple[BlockFunction, str, OwnUnits] | None


Answered = RequestKey  # the name under which version 0.1.0 pickled it


@dataclass(frozen=True)
class Plan:
    """The method and the preconditioner chosen for a request.

    Attributes
    ----------
    request : SolveRequest, of which a RequestKey is kept
        The request that the plan was made for.
    method : str
        "cg", "block_cg" or "direct".
    precond : str
        The name of the preconditioner, "none" or the class of a given M.
    reason : str
        Why it was chosen.
    preconditioners : tuple of Preconditioner
        One for each element of the batch, or one for all; empty for a given M, or none.
    reused : bool
        Whether it was made for an earlier solve.
    """

    request: Request
    method: str
    precond: str
    reason: str
    preconditioners: tuple[Preconditioner, ...] = ()
    reused: bool = False

    def __post_init__(self) -> None:
        q = self.request
        object.__setattr__(self, "request", RequestKey(q.key, q.n, q.M))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled plan, also one of version 0.1.0, in which two attributes had other names."""
        former = {"question": "request", "kept": "reused"}
        self.__dict__.update({former.get(name, name): value for name, value in state.items()})

    @property
    def rank(self) -> int:
        """The largest rank of a low-rank part."""
        return max((p.rank for p in self.preconditioners), default=0)

    @property
    def single(self) -> bool:
        """Whether it has a dense factor in float32."""
        return any(getattr(p, "single", False) for p in self.preconditioners)

    @property
    def setup(self) -> float:
        """Passes over the matrix spent on building it for this solve: entries evaluated, over n^2."""
        if self.reused:
            return 0.0
        return max((p.evaluated for p in self.preconditioners), default=0) / max(1, self.request.n) ** 2

    def apply(self, vectors: Vectors) -> BlockFunction | None:
        """The function V -> M V of blocks (..., n, k) that these operations are for; None without a preconditioner."""
        if self.request.M is not None:
            return self.request.M[0]
        return partial(vectors.precondition, self.preconditioners) if self.preconditioners else None

    def exponent(self, unit: np.ndarray) -> np.ndarray:
        """The exponent of two that turns M b into an iterate in scaled units, once M has been applied."""
        if self.request.M is not None:
            return unit - self.request.M[2].exponent
        return np.zeros_like(unit) if self.preconditioners else unit

    @property
    def description(self) -> str:
        """The reason, and whether the plan is of an earlier solve."""
        return self.reason + ", kept from an earlier solve" * self.reused

    def __str__(self) -> str:
        return f"{self.method}, {self.description}"
