"""Shift: alpha, the diagonal that is added to a kernel matrix K; checked, laid out and multiplied here alone."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ..arrays.arguments import Arguments, is_tensor, to_numpy
from ..arrays.device_array import DeviceArray, device_view
from ..arrays.transfer import to_device
from ..errors import ArgumentError, DtypeError, ShapeError
from ..formula.expr import apply, variable
from ..reductions.reduction import Reduction


class Shift:
    """The diagonal matrix diag(alpha) beside K, which multiplies vectors wherever they are.

    Attributes
    ----------
    alpha : ndarray, shape () or (..., n, 1)
        A number, or one for each row, float64.
    """

    def __init__(self, alpha: np.ndarray) -> None:
        self.alpha = alpha
        self.is_zero = not np.any(alpha)
        self._on_devices: dict[Any, Any] = {}  # copies of alpha, by the device on which they are

    def add(self, image: Any, V: Any) -> Any:
        """image + diag(alpha) V, in the dtype of the image.

        Nothing is added if alpha is 0, so that 0 times infinity does not turn into NaN.

        Parameters
        ----------
        image : array
            K V, which may be overwritten.
        V : array, of the library of the image or a DeviceArray
            The block that was multiplied, (..., n, k).
        """
        if self.is_zero:
            return image
        if isinstance(V, np.ndarray):
            return image + (self.alpha * V).astype(image.dtype)
        if isinstance(V, DeviceArray):
            return self._add_by_a_reduction(image, V)
        if not self.alpha.ndim:
            return image.add_(V, alpha=float(self.alpha))
        if V.device not in self._on_devices:
            self._on_devices[V.device] = sys.modules["torch"].from_numpy(np.ascontiguousarray(self.alpha)).to(V.device)
        return image.add_(self._on_devices[V.device] * V)

    def _add_by_a_reduction(self, image: Any, V: DeviceArray) -> Any:
        """The same on a GPU as a sum over one column, so that no library needs to know how to add there."""
        alpha = self._on_gpu(V.device)
        product = device_view(image, "the product", V.device)
        n, k = V.shape
        v, w = (variable("Vi", p, k) for p in (0, 1))
        a = variable("Vi" if alpha.size > 1 else "Pm", 2, 1)
        expr = apply("Add", w, apply("Mult", a, v))
        arguments = Arguments((V, product, alpha), product.dtype, (), n, 1, V.device, V.library)
        return Reduction(expr, "Sum", 1)(arguments)

    def _on_gpu(self, device: int) -> DeviceArray:
        """alpha, (rows, 1) or (1, 1), on a GPU, where it stays."""
        if device not in self._on_devices:
            one = Arguments((self.alpha.reshape(-1, 1),), self.alpha.dtype, (), self.alpha.size, 1, device)
            self._on_devices[device] = to_device(one).arrays[0]
        found: DeviceArray = self._on_devices[device]
        return found


def check_alpha(alpha: Any) -> np.ndarray:
    """alpha as float64: finite and nonnegative."""
    if isinstance(alpha, (list, tuple)):
        try:
            alpha = np.asarray(alpha)
        except ValueError:  # numpy's, for lists of several lengths within a list
            raise ShapeError(f"alpha: wanted a number or one for each row, got {alpha!r}") from None
    a = to_numpy(alpha.cpu() if is_tensor(alpha) and alpha.is_cuda else alpha, "alpha", "a number, ")
    if a.dtype.kind not in "iuf":
        raise DtypeError(f"alpha: wanted real numbers, got {a.dtype}")
    bad = ~np.isfinite(a) | (a < 0)
    if np.any(bad):
        raise ArgumentError(f"alpha must be finite and nonnegative, got {a[bad].flat[0]}")
    return a.astype(np.float64)


def alpha_layout(shape: tuple[int, ...], n: int, batch: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """The shape, () or (..., n, 1), in which alpha meets the rows of a block (..., n, k).

    alpha may have shape (), (1,), (n,) or (n, 1), with batch dimensions in front. They may be more than those of the
    arrays, `batch`, in which both dimensions behind are written out, (..., 1, 1) or (..., n, 1): an (n, n) matrix is no
    alpha, and (1, n) is more likely a row by mistake. None stands for what has no batches.
    """
    several, batch = batch is not None and len(shape) > 2, batch or ()
    if shape in ((), (1,), (1, 1)):
        return ()
    # (n, 1) with n = 1 and (1,) in a batch look alike: the batch dimensions tell
    column = len(shape) >= 2 and shape[-1] == 1 and shape[-2] in (1, n) and shape[:-1] != batch
    if shape == (n, 1) and batch == (n,):
        raise ShapeError(
            f"alpha: shape ({n}, 1) may mean the {n} rows or the {n} batch elements: "
            f"wanted (1, {n}, 1) for the rows, ({n}, 1, 1) for the batch"
        )
    found = shape if column else (*shape, 1)
    try:
        whole = np.broadcast_shapes(found[:-2], batch)
        if found[-2] not in (1, n) or (whole != batch and not (several and column)):
            raise ValueError
    except ValueError:
        wanted = f"(), (1,), ({n},) or ({n}, 1)" + (f", with batch dimensions {batch} in front" if batch else "")
        hint = f"; several alphas for one problem have shape (..., 1, 1) or (..., {n}, 1)" * several
        raise ShapeError(f"alpha: wanted shape {wanted}, got {shape}{hint}") from None
    return found


def alpha_for_solve(alpha: Any, arguments: Arguments) -> np.ndarray:
    """alpha, checked for a solve with these arrays: shape () or (..., n, 1), float64."""
    checked = check_alpha(alpha)
    return checked.reshape(alpha_layout(checked.shape, arguments.M, arguments.batch))
