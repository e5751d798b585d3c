"""What the two front doors share of Genred and KernelSolve: parse once, check at the door, call.

A door adds how arrays of its kind are reduced and solved with: kernelops.numpy calls the specs straight away,
kernelops.torch wraps them into differentiable functions.
"""

from .genred import Genred
from .kernel_solve import KernelSolve

__all__ = ["Genred", "KernelSolve"]
