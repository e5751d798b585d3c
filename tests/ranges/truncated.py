"""Clouds of points, kernels of their distances, and the patterns that truncate= takes for them."""

import numpy as np
import usual

from kernelops import KernelOperator
from kernelops.truncation import truncate as truncation

N, M = 700, 500
XYB = usual.aliases(2, 1)
GAUSS = usual.GAUSS


def cloud(n=N, seed=0, size=12.0, dtype=np.float64, d=2):
    """Points in no order, in clumps of different densities."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, size, (12, d))
    return (centres[rng.integers(0, 12, n)] + rng.normal(0, 0.6, (n, d))).astype(dtype)


def distances(x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)
    return np.sqrt(np.square(x[:, None] - y[None]).sum(-1))


KERNELS = {
    usual.GAUSS: lambda r: np.exp(-(r**2)),
    usual.LAPLACE: lambda r: np.exp(-r),
    "(1 + Norm2(x-y))*Exp(-Norm2(x-y))*b": lambda r: (1 + r) * np.exp(-r),
    "Pow(ReLU(1 - Norm2(x-y)/4),4)*(1 + Norm2(x-y))*b": lambda r: np.maximum(1 - r / 4, 0) ** 4 * (1 + r),
    "b*Inv(1 + Pow(SqDist(x,y),4))": lambda r: 1 / (1 + r**8),
}


def operator(formula, x, y, **options):
    return KernelOperator(formula, XYB, "b", x, y, **options)


def lost(K, mask, axis=1):
    """Row sums of |K| of what is left out."""
    return np.where(mask, 0, np.abs(K)).sum(axis)


def chosen(reduction, args, tol):
    """The pattern that a Genred call would take."""
    spec = reduction.spec
    how = spec.expr, spec.weight, spec.op, spec.axis, spec.opt_arg
    return truncation.truncate_reduction(*how, reduction.adapter.bind(spec, args), tol)
