"""Genred and KernelSolve for numpy arrays.

>>> import numpy as np
>>> from kernelops.numpy import Genred
>>> x, y = np.array([[0.0], [1.0]]), np.array([[0.0], [2.0], [3.0]])
>>> distances = Genred("SqDist(x,y)", ["x = Vi(1)", "y = Vj(1)"], "Min", axis=1)
>>> distances(x, y)
array([[0.],
       [1.]])

The classes are those of kernelops.frontend; adapter.py says how arrays are reduced and solved with, library.py what
LazyTensors ask of them, and cluster.py sorts points into clusters. Nothing but the user imports it.
"""

from __future__ import annotations

from .. import frontend
from ..frontend import lazy
from ..frontend.generic import generic_functions
from . import adapter, cluster
from .library import NumpyLibrary

__all__ = [
    "ComplexLazyTensor",
    "Genred",
    "KernelSolve",
    "LazyTensor",
    "Pm",
    "Var",
    "Vi",
    "Vj",
    "cluster",
    "generic_argkmin",
    "generic_argmin",
    "generic_logsumexp",
    "generic_sum",
]


class Genred(frontend.Genred):
    """A formula reduced over i or j, for numpy arrays.

    Parameters
    ----------
    formula : str
        The formula, over the names of the aliases.
    aliases : sequence of str
        ``"x = Vi(3)"``, ``"y = Vj(3)"``, ``"g = Pm(1)"``: the arguments in their order.
    reduction_op : str, default "Sum"
        Sum, LogSumExp, SumSoftMaxWeight, Min, Max, ArgMin, ArgMax, Min_ArgMin, Max_ArgMax, KMin, ArgKMin or
        KMin_ArgKMin.
    axis : {0, 1}, default 0
        1 reduces over j, the result is indexed by i; 0 reduces over i.
    dtype : str, optional
        "float16", "float32" or "float64": arrays of another dtype are refused. By default that of the arrays counts.
    opt_arg : int, optional
        K, for KMin, ArgKMin and KMin_ArgKMin.
    formula2 : str, optional
        The weight, for LogSumExp and SumSoftMaxWeight.
    dtype_acc : {"auto", "float16", "float32", "float64"}
        "float64" adds in float64 within blocks too; across blocks sums are always float64.
    use_double_acc : bool
        The same as dtype_acc="float64".
    sum_scheme : {"auto", "block_sum", "direct_sum", "kahan_scheme"}
        "kahan_scheme" compensates the sums across blocks; the others are one.
    cuda_type, **ignored
        Accepted from old scripts and without effect: cuda_type, enable_chunks, rec_multVar_highdim, use_fast_math. Any
        other keyword is refused.

    Notes
    -----
    A call is ``genred(*args, backend="auto", device_id=-1, ranges=None, truncate=None, out=None)``: arrays
    (..., M, D) for Vi, (..., N, D) for Vj, (..., D) for Pm (or a number), whose leading dimensions broadcast. It
    returns (..., M, dim) for axis 1, (..., N, dim) for axis 0, in the dtype of the arrays; int64 for indices; a tuple
    for Min_ArgMin and its kin; (..., M, K) or (..., M, K, dim) for KMin. ``ranges`` restricts which blocks of i meet
    which blocks of j.

    Raises
    ------
    FormulaError, ArgumentError, ShapeError, DtypeError, RangesError, BackendError, KeywordError

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops.numpy import Genred
    >>> x, y, b = np.zeros((2, 3)), np.ones((4, 3)), np.ones((4, 1))
    >>> gauss = Genred("Exp(-SqDist(x,y))*b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"], axis=1)
    >>> gauss(x, y, b).round(4)
    array([[0.1991],
           [0.1991]])
    """

    adapter = adapter


class KernelSolve(frontend.KernelSolve):
    """Solves (alpha I + K) a = b for a kernel matrix K written as a formula, for numpy arrays.

    Parameters
    ----------
    formula : str
        A formula that is linear in the unknown and as long as it, as in ``"Exp(-g*SqDist(x,y))*b"``.
    aliases : sequence of str
        The arguments in their order.
    varinvalias : str
        Name of the unknown; the right-hand side is passed in its place.
    axis : {0, 1}, default 0
        1 if the unknown is a Vj, 0 if it is a Vi.
    dtype, dtype_acc, use_double_acc, sum_scheme
        As for Genred.
    cuda_type, **ignored
        Accepted from old scripts and without effect: cuda_type, enable_chunks, rec_multVar_highdim, use_fast_math. Any
        other keyword is refused.

    Notes
    -----
    A call is ``solver(*args, alpha=1e-10, ranges=None, truncate=None, backend="auto", device_id=-1,
    return_solution=False, **options)`` with the options of :func:`kernelops.solve`; :meth:`__call__` has them all.
    alpha is finite and nonnegative, a number or one for each row: shape (), (1,), (n,) or (n, 1), batch dimensions in
    front. eps is another name for rtol. It returns a, in the shape and dtype of b (batch dimensions broadcast), or
    (a, Solution).

    Raises
    ------
    FormulaError, ArgumentError, ShapeError, DtypeError, RangesError, BackendError, KeywordError, SolveError

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops.numpy import KernelSolve
    >>> x, b = np.array([[0.0], [1.0]]), np.array([[1.0], [0.0]])
    >>> solver = KernelSolve("Exp(-SqDist(x,y))*b", ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"], "b", axis=1)
    >>> solver(x, x, b, alpha=1.0).round(4)
    array([[ 0.5175],
           [-0.0952]])
    """

    adapter = adapter


generic_sum, generic_logsumexp, generic_argmin, generic_argkmin = generic_functions(Genred)


class LazyTensor(lazy.LazyTensor):
    __doc__ = lazy.LazyTensor.__doc__

    library = NumpyLibrary(Genred, KernelSolve)


class ComplexLazyTensor(lazy.ComplexLazyTensor):
    __doc__ = lazy.ComplexLazyTensor.__doc__


lazy.connect(LazyTensor, ComplexLazyTensor)

Var, Vi, Vj, Pm = lazy.variable_functions(LazyTensor)
