"""The names of pykeops.torch: those of kernelops.torch, with LazyTensors that are true."""

from __future__ import annotations

from .. import torch as door
from ..frontend.lazy import connect, variable_functions
from ..torch import Genred, KernelSolve, cluster, generic_argkmin, generic_argmin, generic_logsumexp, generic_sum
from .truthy import ComplexGenericLazyTensor, GenericLazyTensor


class LazyTensor(GenericLazyTensor, door.LazyTensor):
    __doc__ = door.LazyTensor.__doc__


class ComplexLazyTensor(ComplexGenericLazyTensor, door.ComplexLazyTensor):
    __doc__ = door.ComplexLazyTensor.__doc__


connect(LazyTensor, ComplexLazyTensor)

Var, Vi, Vj, Pm = variable_functions(LazyTensor)

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
