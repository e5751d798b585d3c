"""LazyTensor: all its parts in one class."""

from __future__ import annotations

from .entries import Entries
from .reductions import with_reductions


@with_reductions
class LazyTensor(Entries):
    """Vectors f(x_i, y_j) for all pairs (i, j), as a formula that is computed when it is reduced.

    Parameters
    ----------
    x : array, number, list of numbers, or tuple of three int
        An array of shape (..., M, 1, D) is indexed by i, (..., 1, N, D) by j, (..., 1, 1, D) or (D,) is a parameter;
        with ``axis``, (..., rows, D). A number or a list of numbers is a parameter too. (position, D, category) is a
        symbolic variable, which stands for an argument of a later call: category 0 for i, 1 for j, 2 for a parameter.
        float16, float32 or float64; complex arrays and numbers give a ComplexLazyTensor.
    axis : {0, 1, 2}, optional
        What the rows of an array of shape (..., rows, D) are: 0 for i, 1 for j; 2 for a parameter.
    is_complex : bool, default False
        Whether x, an array of real numbers, holds complex ones, as real and imaginary parts by turns.

    Attributes
    ----------
    shape : tuple of int
        (..., M, N, D), or (..., M, N) for D = 1.
    ndim : int
        D, as in KeOps; the number of dimensions is ``dim()``.
    dtype : str or None
        "float16", "float32" or "float64".
    ranges : Ranges or None
        The pairs (i, j) that count; can be assigned to.
    backend : str or None
        Where reductions are computed; can be assigned to.
    expr, slots, frame
        The formula, what its variables stand for, and the shape.

    Raises
    ------
    ArgumentError, ShapeError, DtypeError
        Naming what was wanted and what came.

    See Also
    --------
    kernelops.numpy.Genred : the same by text.
    kernelops.KernelOperator : a kernel matrix as a linear operator of SciPy.

    Notes
    -----
    Operations between operands whose vectors have equal lengths, or length 1, broadcast. A number that is whole or a
    short fraction becomes a constant of the formula, any other one a parameter: numbers that change from step to step
    compile nothing. Arrays are not copied: what is changed in them before a reduction counts.

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops.numpy import LazyTensor
    >>> x, y = np.array([[0.0], [1.0]]), np.array([[0.0], [2.0], [3.0]])
    >>> x_i, y_j = LazyTensor(x[:, None, :]), LazyTensor(y[None, :, :])
    >>> K = (-((x_i - y_j) ** 2).sum(-1)).exp()
    >>> K.shape
    (2, 3)
    >>> (K @ np.ones(3)).round(4)
    array([1.0184, 0.7541])
    """


__all__ = ["LazyTensor"]
