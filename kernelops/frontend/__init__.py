"""All that kernelops.numpy and kernelops.torch share: formulas parsed once, arguments checked at the door, calls made.

genred.py and kernel_solve.py hold the two classes, generic.py the shorthands of KeOps (generic_sum and its kin),
cluster.py the helpers that sort points into clusters, gaussian_process.py log-determinants, quadratic forms and
predictions, checks.py the checks of what both doors take besides formulas and arrays. lazy/ has formulas as arithmetic
on arrays, LazyTensors, which are reduced and solved with through the same two classes.

It imports everything below and no array library: kernelops.numpy and kernelops.torch add how arrays of their kind are
reduced and solved with. Begin with genred.py.
"""

from .genred import Genred
from .kernel_solve import KernelSolve

__all__ = ["Genred", "KernelSolve"]
