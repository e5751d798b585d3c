"""Genred and KernelSolve for torch tensors, differentiable any number of times.

>>> import torch
>>> from kernelops.torch import KernelSolve
>>> x = torch.tensor([[0.0], [1.0]], requires_grad=True)
>>> b = torch.tensor([[1.0], [0.0]])
>>> solver = KernelSolve("Exp(-SqDist(x,y))*b", ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"], "b", axis=1)
>>> a = solver(x, x, b, alpha=1.0)
>>> (gradient,) = torch.autograd.grad((a**2).sum(), x)
>>> gradient.shape
torch.Size([2, 1])

The classes are those of kernelops.frontend; adapter.py says how tensors are reduced and solved with. autograd.py has
`Reduce`, a reduction whose derivatives are reductions, and solve.py `Solve`, a solve whose derivatives are solves;
begin with these two. log_determinant.py, bilinear_forms.py and gaussian_process.py have log-determinants and
predictions, system.py and vectors.py solves whose vectors are tensors on a GPU, compiled.py and custom_ops.py what
torch.compile sees, library.py, lazy_graph.py and lazy_code.py LazyTensors. PyTorch is imported here, and nowhere below.
"""

from __future__ import annotations

import sys
from functools import wraps
from typing import Any

from ..errors import MissingExtraError

try:
    import torch
except ImportError as error:
    raise MissingExtraError(
        'kernelops.torch needs PyTorch, which is not installed: pip install "kernelops[torch]"'
    ) from error

from .. import frontend
from ..frontend import lazy
from ..frontend.generic import generic_functions
from ..ranges import Ranges
from . import adapter, cluster, compiled, lazy_code, lazy_graph
from .autograd import Reduce
from .extrema import AtWinners, Best
from .gaussian_process import LogDet, Quadratic, Rounded
from .library import TorchLibrary
from .older_vmap import Function
from .recording import refuse_recording
from .solve import Solve
from .uncompiled import compile_within_callers, leave_class_uncompiled, leave_uncompiled
from .unwrap import Look

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
    """A formula reduced over i or j, for torch tensors.

    Parameters
    ----------
    formula, aliases, reduction_op, axis, dtype, opt_arg, formula2, dtype_acc, use_double_acc, sum_scheme
        As for :class:`kernelops.numpy.Genred`.
    cuda_type, **ignored
        Accepted from old scripts and without effect: cuda_type, enable_chunks, rec_multVar_highdim, use_fast_math. Any
        other keyword is refused.

    Notes
    -----
    A call is ``genred(*tensors, backend="auto", device_id=-1, ranges=None, truncate=None, out=None)``. The result is
    differentiable with respect to every tensor, any number of times, by backward, torch.func.grad, jvp and vmap: Sum,
    LogSumExp and SumSoftMaxWeight everywhere, the values of Min, Max and KMin at the first winner. Indices have no
    derivative.

    Examples
    --------
    >>> import torch
    >>> from kernelops.torch import Genred
    >>> x, y = torch.zeros(2, 3), torch.ones(4, 3)
    >>> gauss = Genred("Exp(-SqDist(x,y))", ["x = Vi(3)", "y = Vj(3)"], axis=1)
    >>> gauss(x, y)
    tensor([[0.1991],
            [0.1991]])
    """

    adapter = adapter

    @wraps(frontend.Genred.__call__, assigned=("__doc__",), updated=())
    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if torch.compiler.is_compiling():
            found = compiled.reduce(self, args, **keywords)
            if found is not None:
                return found
        return super().__call__(*args, **keywords)


class KernelSolve(frontend.KernelSolve):
    """Solves (alpha I + K) a = b for a kernel matrix K written as a formula, for torch tensors.

    Parameters
    ----------
    formula, aliases, varinvalias, axis, dtype, dtype_acc, use_double_acc, sum_scheme
        As for :class:`kernelops.numpy.KernelSolve`.
    cuda_type, **ignored
        Accepted from old scripts and without effect: cuda_type, enable_chunks, rec_multVar_highdim, use_fast_math. Any
        other keyword is refused.

    Notes
    -----
    A call takes the keywords of :class:`kernelops.numpy.KernelSolve`. The result is differentiable with respect to
    every tensor and to alpha (a number has no gradient, a tensor of any accepted shape has), any number of times, by
    backward, torch.func.grad, jvp and vmap. The backward pass is one more solve, to the same tolerance, and obeys
    on_fail too. The Solution that ``return_solution=True`` adds is detached: its x is a numpy array.

    Examples
    --------
    >>> import torch
    >>> from kernelops.torch import KernelSolve
    >>> x, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [0.0]])
    >>> solver = KernelSolve("Exp(-SqDist(x,y))*b", ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"], "b", axis=1)
    >>> solver(x, x, b, alpha=1.0)
    tensor([[ 0.5175],
            [-0.0952]])
    """

    adapter = adapter

    @wraps(frontend.KernelSolve.__call__, assigned=("__doc__",), updated=())
    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if torch.compiler.is_compiling():
            found = compiled.solve(self, args, **keywords)
            if found is not None:
                return found
        found = super().__call__(*args, **keywords)
        if type(found) is tuple and found[1] is None:
            refuse_recording("return_solution=True")
        return found


generic_sum, generic_logsumexp, generic_argmin, generic_argkmin = generic_functions(Genred)


class LazyTensor(lazy.LazyTensor):
    __doc__ = lazy.LazyTensor.__doc__

    library = TorchLibrary(Genred, KernelSolve)

    def __new__(cls, x: Any = None, axis: int | None = None, is_complex: bool = False) -> Any:
        """What stands for a LazyTensor in a graph while torch.compile traces."""
        if torch.compiler.is_compiling():
            return lazy_graph.record(cls, x, axis, is_complex)
        return lazy.LazyTensor.__new__(cls, x, axis, is_complex)

    def _set_other(self, x: Any) -> None:
        if isinstance(x, lazy_graph.RecordedLazyTensor):
            x = lazy_graph._real(x)
            self._set(x.expr, x.slots, x.frame)
        else:
            self._refuse(x)


class ComplexLazyTensor(lazy.ComplexLazyTensor):
    __doc__ = lazy.ComplexLazyTensor.__doc__


lazy.connect(LazyTensor, ComplexLazyTensor)
lazy_code.connect(LazyTensor, ComplexLazyTensor)

Var, Vi, Vj, Pm = lazy.variable_functions(LazyTensor)

leave_class_uncompiled(LazyTensor, looked_into="__new__")
leave_class_uncompiled(ComplexLazyTensor)
for name in ("Var", "Vi", "Vj", "Pm"):
    compile_within_callers(sys.modules[__name__], name)
compile_within_callers(Genred, "__call__")
compile_within_callers(KernelSolve, "__call__")
leave_uncompiled(frontend.Genred, "__init__", "__call__")
leave_uncompiled(frontend.KernelSolve, "__init__", "__call__", "logdet", "inv_quad_logdet", "predict")
leave_uncompiled(cluster, *cluster.__all__)
leave_uncompiled(Ranges, "from_tuple", "of", "dense", "from_mask", "from_clusters", "from_radius", "band", "order")
leave_uncompiled(Function, "apply")
for rule in (Reduce, Best, AtWinners, Solve, LogDet, Quadratic, Rounded, Look):
    leave_uncompiled(rule, "forward", "setup_context", "backward", "jvp", "vmap")
