"""Where version 0.1.0 had what Genred and KernelSolve consist of: pickles of that version name this module."""

from .operators.system import ReduceSpec, SolveSpec

__all__ = ["ReduceSpec", "SolveSpec"]
