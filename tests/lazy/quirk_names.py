"""What the expressions of keops_quirks.py are about, and how their results are written down."""

import copy
import pickle

import numpy as np
import torch
from keops_quirks import QUIRKS

from kernelops.numpy import LazyTensor as NumpyLazyTensor
from kernelops.torch import LazyTensor, Pm, Vi, Vj


def gauss(a, b):
    """A Gaussian kernel matrix of tensors (..., rows, D)."""
    return (-((LazyTensor(a[..., :, None, :]) - LazyTensor(b[..., None, :, :])) ** 2).sum(-1)).exp()


def names():
    """The names in the expressions: float32 tensors and LazyTensors of them, z complex, t with a gradient."""
    draw = torch.Generator().manual_seed(0)
    x, y, b = torch.rand(5, 2, generator=draw), torch.rand(7, 2, generator=draw), torch.rand(7, 1, generator=draw)
    z = torch.complex(torch.rand(5, 2, generator=draw), torch.rand(5, 2, generator=draw))
    xi, yj = LazyTensor(x[:, None]), LazyTensor(y[None])
    D = ((xi - yj) ** 2).sum(-1)
    A, dense = (xi[0] * LazyTensor(x[None])[1]).exp(), torch.exp(x[:, None, 0] * x[None, :, 1])
    return {
        "torch": torch,
        "np": np,
        "copy": copy,
        "pickle": pickle,
        "LazyTensor": LazyTensor,
        "NumpyLazyTensor": NumpyLazyTensor,
        "Vi": Vi,
        "Vj": Vj,
        "Pm": Pm,
        "gauss": gauss,
        "x": x,
        "y": y,
        "b": b,
        "z": z,
        "t": x.clone().requires_grad_(),
        "xi": xi,
        "yj": yj,
        "zi": LazyTensor(z[:, None]),
        "D": D,
        "K": (-D).exp(),
        "X": Vi(0, 2),
        "Y": Vj(1, 2),
        "A": A,
        "A_dense": dense,
    }


def write(result):
    """A result in a few words."""
    if isinstance(result, torch.Tensor):
        return f"tensor {tuple(result.shape)} {str(result.dtype)[6:]}"
    if isinstance(result, np.ndarray):
        return f"array {result.shape} {result.dtype}"
    if hasattr(result, "_shape"):
        return f"{type(result).__name__} {result.shape}"
    if isinstance(result, tuple):
        return "(" + ", ".join(map(write, result)) + ")"
    return "a function" if callable(result) else repr(result)


def answer(expression):
    """What an expression gives, in a few words: the result, or the error with its text."""
    try:
        return write(eval(expression, names()))
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


__all__ = ["QUIRKS", "answer"]
