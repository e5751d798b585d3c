"""Entries of an operator: its diagonal, some rows and columns, or all of it as an array."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..arrays.arguments import is_scalar
from ..errors import ArgumentError, ShapeError
from .kernel_product import KernelProduct

ENTRIES_AT_ONCE = 1 << 18  # entries that `block` and its kin evaluate together


class EntryAccess:
    """Access to the entries of an operator; a base of KernelOperator."""

    alpha: np.ndarray
    dtype: np.dtype
    shape: tuple[int, int]
    kernel_product: KernelProduct
    _lengths: tuple[int, int]  # rows and columns of the block that belongs to a pair of points

    def diagonal(self) -> np.ndarray:
        """The diagonal of the matrix.

        Returns
        -------
        ndarray, shape (min(shape),)

        Raises
        ------
        ShapeError
            If the blocks of a matrix-valued kernel are not square.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.linspace(0, 1, 3)[:, None]
        >>> A = kernelops.KernelOperator("SqDist(x,y)*b", ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"], "b", x, x, alpha=2.0)
        >>> A.diagonal()
        array([2., 2., 2.])
        """
        I = np.arange(min(self.kernel_product.points))
        blocks = self.kernel_product.entries(I, I)
        if blocks.shape[1] != blocks.shape[2]:
            raise ShapeError(f"the blocks of this kernel are {blocks.shape[1:]}: no diagonal of points")
        diagonal: np.ndarray = np.einsum("pdd->pd", blocks).reshape(-1)
        diagonal = diagonal + self._alpha_at(np.arange(len(diagonal)))
        return diagonal

    def _alpha_at(self, rows: np.ndarray) -> np.ndarray:
        alpha = self.alpha if self.alpha.ndim == 0 else self.alpha.reshape(-1)[rows]
        shifts: np.ndarray = np.broadcast_to(alpha, rows.shape).astype(self.dtype)
        return shifts

    def block(self, rows: Any, columns: Any) -> np.ndarray:
        """The entries at some rows and columns of the matrix.

        Parameters
        ----------
        rows, columns : sequence of int, or a mask of booleans
            Indices of the matrix; for a matrix-valued kernel of points times components. Negative ones count from the
            end.

        Returns
        -------
        ndarray, shape (len(rows), len(columns))

        Raises
        ------
        ArgumentError
            If an index is out of bounds or not a whole number.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.linspace(0, 1, 5)[:, None]
        >>> A = kernelops.KernelOperator("SqDist(x,y)*b", ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"], "b", x, x)
        >>> A.block([0, -1], [1, 2])
        array([[0.0625, 0.25  ],
               [0.5625, 0.25  ]])
        """
        I, J = _matrix_indices(rows, self.shape[0], "rows"), _matrix_indices(columns, self.shape[1], "columns")
        out = np.empty((len(I), len(J)), self.dtype)
        (e, d), step = self._lengths, max(1, ENTRIES_AT_ONCE // max(1, len(J)))
        for at in range(0, len(I), step):
            i, j = (g.ravel() for g in np.meshgrid(I[at : at + step], J, indexing="ij"))
            blocks = self.kernel_product.entries(i // e, j // d)
            part = out[at : at + step]
            part[...] = blocks[np.arange(len(i)), i % e, j % d].reshape(part.shape)
        if np.any(self.alpha):
            i, j = np.nonzero(I[:, None] == J)
            out[i, j] += self._alpha_at(I[i])
        return out

    def rows(self, rows: Any) -> np.ndarray:
        """Some rows of the matrix.

        Parameters
        ----------
        rows : sequence of int, or a mask of booleans
            Which ones.

        Returns
        -------
        ndarray, shape (len(rows), shape[1])

        See Also
        --------
        block : some rows and columns.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.linspace(0, 1, 3)[:, None]
        >>> A = kernelops.KernelOperator("SqDist(x,y)*b", ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"], "b", x, x, alpha=2.0)
        >>> A.rows([0])
        array([[2.  , 0.25, 1.  ]])
        """
        return self.block(rows, np.arange(self.shape[1]))

    def columns(self, columns: Any) -> np.ndarray:
        """Some columns of the matrix.

        Parameters
        ----------
        columns : sequence of int, or a mask of booleans
            Which ones.

        Returns
        -------
        ndarray, shape (shape[0], len(columns))

        See Also
        --------
        block : some rows and columns.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.linspace(0, 1, 3)[:, None]
        >>> A = kernelops.KernelOperator("SqDist(x,y)*b", ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"], "b", x, x, alpha=2.0)
        >>> A.columns([-1])
        array([[1.  ],
               [0.25],
               [2.  ]])
        """
        return self.block(np.arange(self.shape[0]), columns)

    def to_dense(self, max_bytes: int = 1 << 30) -> np.ndarray:
        """The matrix as an array.

        Parameters
        ----------
        max_bytes : int, default 2**30
            A larger matrix is refused.

        Returns
        -------
        ndarray, of the operator's shape and dtype

        Raises
        ------
        ArgumentError
            If the array would take more than max_bytes.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.linspace(0, 1, 3)[:, None]
        >>> A = kernelops.KernelOperator("SqDist(x,y)*b", ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"], "b", x, x, alpha=2.0)
        >>> A.to_dense()
        array([[2.  , 0.25, 1.  ],
               [0.25, 2.  , 0.25],
               [1.  , 0.25, 2.  ]])
        """
        if not is_scalar(max_bytes):
            raise ArgumentError(f"max_bytes: wanted a number of bytes, got {max_bytes!r}")
        size = prod(self.shape) * self.dtype.itemsize
        if size > max_bytes:
            raise ArgumentError(
                f"to_dense would make an array of {size} bytes, max_bytes is {max_bytes}; pass more if it fits"
            )
        return self.rows(np.arange(self.shape[0]))


def _matrix_indices(indices: Any, count: int, name: str) -> np.ndarray:
    found = np.atleast_1d(np.asarray(indices))
    if found.dtype == bool and found.shape == (count,):
        found = np.flatnonzero(found)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise ArgumentError(f"{name}: wanted a list of whole numbers, got {found.dtype} of shape {found.shape}")
    outside = found[(found < -count) | (found >= count)]
    if outside.size:
        raise ArgumentError(f"{name}: wanted indices from {-count} to {count - 1}, got {outside[0]}")
    found = found.astype(np.int64)
    return np.where(found < 0, found + count, found)
