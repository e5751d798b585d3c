"""LinearOperators of SciPy whose vectors may be on a GPU, and which say what shapes they take."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from scipy.sparse.linalg import LinearOperator

from ..arrays.device_array import on_device
from ..errors import DtypeError, ShapeError


class DeviceAwareOperator(LinearOperator):  # type: ignore[misc]  # SciPy has no types
    """An operator whose vectors may be on a GPU: these go by ``_device_product``, all others SciPy's way.

    SciPy's own methods ask numpy for every vector first, which other libraries refuse.
    """

    def _device_product(self, V: Any, transposed: bool) -> Any:
        """The product with a vector or block on a GPU."""
        raise NotImplementedError

    def matvec(self, x: Any) -> Any:
        return self._device_product(x, False) if on_device(x) else super().matvec(x)

    def rmatvec(self, x: Any) -> Any:
        return self._device_product(x, True) if on_device(x) else super().rmatvec(x)

    def matmat(self, X: Any) -> Any:
        return self._device_product(X, False) if on_device(X) else super().matmat(X)

    def rmatmat(self, X: Any) -> Any:
        return self._device_product(X, True) if on_device(X) else super().rmatmat(X)

    def dot(self, x: Any) -> Any:
        return self._device_product(x, False) if on_device(x) else super().dot(x)


class CheckedOperator(DeviceAwareOperator):
    """A LinearOperator that says which shapes it takes; SciPy's answer is "dimension mismatch" and no more."""

    def dot(self, x: Any) -> Any:
        """The product A x; the same as ``A @ x``.

        Parameters
        ----------
        x : (n,) or (n, k) array, number or LinearOperator
            What the operator is multiplied by. Arrays may be on the GPU of the operator.

        Returns
        -------
        array or LinearOperator
            Of shape (m,) or (m, k); an operator for a number or an operator.

        Raises
        ------
        ShapeError, DtypeError
            If x does not have as many rows as the operator has columns, or is a masked array.
        """
        if on_device(x):
            return super().dot(x)
        if isinstance(x, np.ma.MaskedArray):
            raise DtypeError("a masked array: wanted a plain one, as .filled(value) gives")
        shape = np.shape(x)  # a number has none
        if shape and (len(shape) > 2 or shape[0] != self.shape[1]):
            refuse_shape(self.shape, shape)
        return super().dot(x)


def refuse_shape(matrix: tuple[int, int], shape: tuple[int, ...]) -> NoReturn:
    """Raise the ShapeError of an operator of one shape for a vector of another one."""
    wanted = f"({matrix[1]},) or ({matrix[1]}, k)"
    raise ShapeError(f"a vector for {matrix} needs shape {wanted}, got {tuple(shape)}")
