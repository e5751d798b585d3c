"""Adapter: the six functions that an array library gives to the front end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..arrays.arguments import Arguments
from ..operators.system import SolveSpec
from ..reductions.reduction import Reduction
from ..solvers import Solution
from ..solvers.quadrature import Estimate


class Adapter(Protocol):
    """How arrays of one library are reduced and solved with; kernelops.numpy.adapter and kernelops.torch.adapter.

    ``spec`` is all of a call but its arrays, ``args`` are these as the user gave them, ``alpha`` too.
    """

    def bind(self, spec: Reduction | SolveSpec, args: Sequence[Any], /) -> Arguments:
        """The arrays, checked, as a reduction or a solve sees them."""
        ...

    def reduce(self, spec: Reduction, args: Sequence[Any], /) -> Any:
        """The result of a reduction, an array or a tuple of arrays."""
        ...

    def solve(self, spec: SolveSpec, args: Sequence[Any], alpha: Any, /) -> tuple[Any, Solution]:
        """The solution in the shape and dtype of the right-hand side, and the account of it."""
        ...

    def logdet(self, spec: SolveSpec, args: Sequence[Any], alpha: Any, n_probes: int, /) -> tuple[Any, Any, Estimate]:
        """log det (alpha I + K), its standard error, and the account of both."""
        ...

    def inv_quad_logdet(
        self, spec: SolveSpec, args: Sequence[Any], alpha: Any, n_probes: int, /
    ) -> tuple[Any, Any, Any, Estimate]:
        """b^T (alpha I + K)^-1 b, log det (alpha I + K), its standard error, and the account of the latter."""
        ...

    def predict(
        self, spec: SolveSpec, args: Sequence[Any], alpha: Any, new: Mapping[int, Any], variance: bool, /
    ) -> tuple[Any, Any]:
        """Mean and variance at new points, which are given by the positions of the variables; None for no variance."""
        ...
