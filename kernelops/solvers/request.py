"""SolveRequest: a matrix, and what the caller asks of a solve with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ArgumentError
from .operator import Operator, as_preconditioner
from .options import NEED_ENTRIES, SolveOptions
from .units import OwnUnits
from .vectors import BlockFunction


@dataclass(frozen=True)
class SolveRequest:
    """An operator, and the caller's choices for a solve with it, checked."""

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
    def n(self) -> int:
        """Rows of the whole matrix."""
        return self.system.global_n

    @property
    def key(self) -> tuple:
        """The part of the request that must agree for the plan of an earlier solve to be used again."""
        given = None if self.M is None else self.M[1]
        return self.system.global_n, len(self.system.entries), self.method, self.precond, given, self.seed

    def alphas(self) -> list[np.ndarray]:
        """alpha for each element of the batch, or for the one matrix of all: shape () or (n,)."""
        alpha, count = self.system.alpha, len(self.system.entries)
        if alpha.ndim == 0:
            return [alpha] * count
        if count == 1:
            return [np.broadcast_to(alpha, (*alpha.shape[:-2], self.system.n, 1)).reshape(self.system.n)]
        return list(np.broadcast_to(alpha, (*self.batch, self.system.n, 1)).reshape(-1, self.system.n))
