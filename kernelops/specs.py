"""Aliases for pickles of version 0.1.0: its Genred and KernelSolve hold a ReduceSpec and a SolveSpec of this module."""

from .operators.system import SolveSpec
from .reductions.reduction import Reduction as ReduceSpec

__all__ = ["ReduceSpec", "SolveSpec"]
