"""LazyTensor: a kernel matrix, or an array of vectors for each pair (i, j), written as arithmetic on its points.

slots.py says what the variables of a formula stand for, frame.py which shape, dtype and ranges it has; base.py is a
formula with both, and joins two of them. Arithmetic, methods, derivatives, reductions, products with vectors and single
entries are one file each; lazy_tensor.py puts them together, complex.py makes complex numbers of pairs, and
library.py lists what an array library gives.

It imports what the rest of the front end does, and no array library. kernelops.numpy and kernelops.torch make
classes of their own from it. Begin with base.py.
"""

from .complex import ComplexLazyTensor, connect
from .lazy_tensor import LazyTensor
from .variables import variable_functions

__all__ = ["ComplexLazyTensor", "LazyTensor", "connect", "variable_functions"]
