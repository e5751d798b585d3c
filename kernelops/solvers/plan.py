"""How a matrix is to be solved with: what is asked for, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..errors import ArgumentError
from .operator import Operator, as_preconditioner
from .options import NEED_ENTRIES, SolveOptions
from .precond.base import Preconditioner
from .units import OwnUnits
from .vectors import BlockFunction, Vectors


@dataclass(frozen=True)
class SolveRequest:
    """What is asked for: the system, and the caller's choices, checked."""

    system: Operator
    method: str
    precond: str | None
    M: tuple[BlockFunction, str, OwnUnits] | None
    seed: int
    batch: tuple[int, ...] = ()

    @classmethod
    def of(cls, system: Operator, options: SolveOptions, batch: tuple[int, ...] = ()) -> SolveRequest:
        """The choices of the caller, or an error that names the one that does not go with this system."""
        method, precond, M = options.method, options.precond, options.M
        empty = not system.global_n or 0 in batch
        if (method == "direct" or precond in NEED_ENTRIES) and not system.entries and not empty:
            what = 'method = "direct"' if method == "direct" else f"precond = {precond!r}"
            raise ArgumentError(
                f"{what} needs entries of A, which a KernelOperator and a real array have; got {system.name}"
            )
        if precond in NEED_ENTRIES + ("nystrom",) and system.dtype.kind == "c":
            raise ArgumentError(
                f"precond = {precond!r} is for real matrices; a complex one takes its preconditioner as M"
            )
        given = None if M is None else as_preconditioner(M, system.n, system.vectors)
        return cls(system, method, precond, given, int(options.seed), batch)

    @property
    def key(self) -> tuple:
        """What a plan of an earlier solve must have answered to be taken again."""
        given = None if self.M is None else self.M[1]
        return self.system.global_n, len(self.system.entries), self.method, self.precond, given, self.seed

    def alphas(self) -> list[np.ndarray]:
        """The diagonal beside K of each element of the batch, or of the one matrix for all: shape () or (n,)."""
        alpha, count = self.system.alpha, len(self.system.entries)
        if alpha.ndim == 0:
            return [alpha] * count
        if count == 1:
            return [np.broadcast_to(alpha, (*alpha.shape[:-2], self.system.n, 1)).reshape(self.system.n)]
        return list(np.broadcast_to(alpha, (*self.batch, self.system.n, 1)).reshape(-1, self.system.n))


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
    request : SolveRequest, which becomes a RequestKey
        The request that the plan was made for.
    method : str
        "cg", "block_cg" or "direct".
    precond : str
        The name of the preconditioner, "none" or the class of a given M.
    reason : str
        Why this one.
    preconditioners : tuple of Preconditioner
        One for each element of the batch, or one for all; empty for a given M, or none.
    reused : bool
        Whether it was made for an earlier solve.
    """

    request: SolveRequest | RequestKey
    method: str
    precond: str
    reason: str
    preconditioners: tuple[Preconditioner, ...] = ()
    reused: bool = False

    def __post_init__(self) -> None:
        q = self.request
        if isinstance(q, SolveRequest):
            object.__setattr__(self, "request", RequestKey(q.key, q.system.global_n, q.M))

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
        """Whether a dense factor of it is in float32."""
        return any(getattr(p, "single", False) for p in self.preconditioners)

    @property
    def setup(self) -> float:
        """Entries evaluated to build it for this solve, over those of the matrix."""
        if self.reused:
            return 0.0
        return max((p.evaluated for p in self.preconditioners), default=0) / max(1, self.request.n) ** 2

    def apply(self, vectors: Vectors) -> BlockFunction | None:
        """M V as a function of blocks V (..., n, k), which these verbs are for; or None."""
        if self.request.M is not None:
            return self.request.M[0]
        return partial(vectors.precondition, self.preconditioners) if self.preconditioners else None

    def exponent(self, unit: np.ndarray) -> np.ndarray:
        """What makes of M b an iterate in scaled units, as an exponent of two, once M has been applied."""
        if self.request.M is not None:
            return unit - self.request.M[2].exponent
        return np.zeros_like(unit) if self.preconditioners else unit

    @property
    def description(self) -> str:
        """The reason, and whether it is of now."""
        return self.reason + ", kept from an earlier solve" * self.reused

    def __str__(self) -> str:
        return f"{self.method}, {self.description}"
