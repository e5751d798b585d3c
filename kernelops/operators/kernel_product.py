"""KernelProduct: K as products with blocks of vectors."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from ..arrays.arguments import Arguments, compute_dtype, is_tensor, same_data
from ..arrays.device_array import DeviceArray, device_view
from ..arrays.libraries import arguments_to_host, library_like, to_host
from ..arrays.permute import permute_rows
from ..arrays.transfer import to_device
from ..formula.cached import cached_property
from ..formula.defined import call
from ..formula.expr import Expr, const, substitute
from ..formula.linear import LinearForm
from ..ranges import Ranges
from ..reductions.pairs import evaluate
from ..reductions.reduction import Reduction
from .definite import semidefinite

COLUMNS_AT_ONCE = 64  # columns of a block that share one evaluation of the kernel


class KernelProduct:
    """K as products: the formula's sum over its unknown, for any unknown vector, in any precision, and K transposed.

    The one place where solvers and operators meet formulas. ``columns`` vectors ride on one evaluation of a scalar
    kernel; a matrix-valued kernel takes them as batch elements. Results are where the vectors are: numpy arrays, or
    tensors on the GPU that holds the other arrays.
    """

    def __init__(
        self,
        form: LinearForm,
        arguments: Arguments,
        ranges: Ranges | None = None,
        dtype_acc: str = "auto",
        sum_scheme: str = "auto",
    ) -> None:
        self.form, self.ranges = form, ranges
        self.arguments = to_device(arguments._replace(library="host"), form.position)
        self.options = dtype_acc, sum_scheme
        self.data_dtype = compute_dtype(arguments.dtype)
        self._sums: dict[tuple[Expr, int], Reduction] = {}
        self._orders: dict[tuple[int, Any], Any] = {}

    @cached_property
    def host(self) -> Arguments:
        """The arrays on the host, for what is done there: single entries, comparisons."""
        return arguments_to_host(self.arguments)

    @property
    def points(self) -> tuple[int, int]:
        """Points of the result and of the unknown."""
        M, N = self.arguments.M, self.arguments.N
        return (M, N) if self.form.axis == 1 else (N, M)

    def reduce(self, expr: Expr, axis: int, u: Any, dtype: np.dtype) -> Any:
        """The sum of expr, which holds a variable at the unknown's place, for that variable = u."""
        arguments, ranges, orders = self._sorted
        reduction = self._sums.get((expr, axis))
        if reduction is None:
            dtype_acc, sum_scheme = self.options
            reduction = Reduction(expr, "Sum", axis, ranges=ranges, dtype_acc=dtype_acc, sum_scheme=sum_scheme)
            self._sums[expr, axis] = reduction
        position = self.form.position
        if isinstance(u, DeviceArray):
            if orders is not None:  # put in order on the host
                return library_like(u).from_host(self.reduce(expr, axis, to_host(u), dtype))
            return reduction(arguments._replace(library=u.library).replace_array(position, u), dtype)
        there = is_tensor(u)
        summed = kept = None
        if orders is not None:
            summed, kept = orders[axis], orders[1 - axis]  # j is summed for axis 1
            if there:
                summed, kept = (self._order_on(side, u.device) for side in (axis, 1 - axis))
            u = u if summed is None else u[..., summed, :]
        if there:
            arguments, u = arguments._replace(library="torch"), device_view(u, "a vector")
        image = reduction(arguments.replace_array(position, u), dtype)
        if kept is None:
            return image
        found = image.new_empty(image.shape) if there else np.empty_like(image)
        found[..., kept, :] = image
        return found

    def _order_on(self, side: int, device: Any) -> Any:
        """An order of the ranges as a tensor on a device."""
        if (side, device) not in self._orders:
            order = self._sorted[2][side]  # type: ignore[index]
            self._orders[side, device] = None if order is None else sys.modules["torch"].tensor(order, device=device)
        return self._orders[side, device]

    @cached_property
    def _sorted(self) -> tuple[Arguments, Ranges | None, tuple[np.ndarray | None, np.ndarray | None] | None]:
        """The arrays in the order of the ranges, these without it, and the orders: sorted once for all products."""
        ranges = self.ranges
        if ranges is None or ranges.plain is ranges:
            return self.arguments, ranges, None
        orders = ranges.order_i, ranges.order_j
        kinds = {v.position: v.op for v in self.form.expr.vars if v is not self.form.unknown and v.op != "Pm"}
        sorting = {p: orders[kind == "Vj"] for p, kind in kinds.items()}
        ordered = permute_rows(self.host, sorting)._replace(device=self.arguments.device)
        return to_device(ordered, self.form.position), ranges.plain, orders

    def __call__(self, u: Any, transposed: bool = False) -> Any:
        """K u or K^T u for u of shape (..., points, components); arithmetic in the wider of data and u."""
        own = np.dtype(str(u.dtype).removeprefix("torch.")) if is_tensor(u) else u.dtype
        dtype = self.data_dtype if own == self.data_dtype else np.result_type(self.data_dtype, own)
        if self.form.kernel is None:
            return self.reduce(
                self.form.transposed if transposed else self.form.expr, self.form.axis ^ transposed, u, dtype
            )
        kind = self.form.outer if transposed else self.form.unknown.op
        if u.shape[-1] <= COLUMNS_AT_ONCE:
            return self.reduce(self.form.columns(u.shape[-1], kind), self.form.axis ^ transposed, u, dtype)
        pieces = [u[..., k : k + COLUMNS_AT_ONCE] for k in range(0, u.shape[-1], COLUMNS_AT_ONCE)]
        done = [
            self.reduce(self.form.columns(piece.shape[-1], kind), self.form.axis ^ transposed, piece, dtype)
            for piece in pieces
        ]
        return sys.modules["torch"].cat(done, -1) if is_tensor(u) else np.concatenate(done, axis=-1)

    def on_columns(self, V: Any, transposed: bool = False) -> Any:
        """The same for columns (..., points times components, k); those of a matrix-valued kernel go as a batch."""
        if self.form.kernel is not None:
            return self(V, transposed)
        d, k = (self.form.expr.dim if transposed else self.form.unknown.dim), V.shape[-1]
        moved: Any = sys.modules["torch"].movedim if is_tensor(V) else np.moveaxis
        image = self(moved(V, -1, 0).reshape(k, *V.shape[:-2], V.shape[-2] // d, d), transposed)
        return moved(image.reshape(k, *V.shape[:-2], image.shape[-2] * image.shape[-1]), 0, -1)

    def element(self, index: tuple[int, ...]) -> KernelProduct:
        """One element of a batch, whose index may have dimensions in front that the arrays do not have."""
        arrays = []
        for a in self.host.arrays:
            if a is not None:
                lead = a.shape[:-2]
                at = index[len(index) - len(lead) :]
                a = a[tuple(k if size > 1 else 0 for k, size in zip(at, lead, strict=True))]
            arrays.append(a)
        arguments = self.host._replace(arrays=tuple(arrays), batch=())
        return KernelProduct(self.form, arguments, self.ranges, *self.options)

    def symmetric(self) -> str:
        """ "yes", "no" or "unknown", from the formula and from which arrays hold the same points."""
        return self.form.symmetric(self._pairs)

    @cached_property
    def semidefinite(self) -> bool:
        """Whether K without its ranges is proved to be positive semidefinite, by formula, parameters and arrays."""
        if self.form.kernel is None or self.arguments.M != self.arguments.N:
            return False
        given = {v.position: self.arguments.arrays[v.position] for v in self.form.kernel.vars if v.op == "Pm"}
        numbers = {p: to_host(a) if isinstance(a, DeviceArray) else a for p, a in given.items()}
        return semidefinite(self.form.kernel, self._pairs, {p: np.asarray(a, np.float64) for p, a in numbers.items()})

    def least(self, lost: float) -> float:
        """A proved lower bound of the eigenvalues of K; ranges let them fall by `lost` at the most."""
        if not self.semidefinite:
            return -math.inf
        return 0.0 if self.ranges is None else -lost

    @cached_property
    def _pairs(self) -> list[tuple[int, int]]:
        """The positions of the Vi and Vj that hold the same points."""
        return [
            (a.position, b.position)
            for a in self.form.expr.vars
            for b in self.form.expr.vars
            if a.op == "Vi" and b.op == "Vj" and self.form.unknown not in (a, b) and self._same(a, b)
        ]

    def _same(self, a: Expr, b: Expr) -> bool:
        x, y = (self.arguments.arrays[v.position] for v in (a, b))
        if isinstance(x, DeviceArray) and isinstance(y, DeviceArray):
            if (x.pointer, x.shape, x.strides, x.dtype) == (y.pointer, y.shape, y.strides, y.dtype):
                return a.dim == b.dim
        x, y = (self.host.arrays[v.position] for v in (a, b))
        return a.dim == b.dim and same_data(x, y)

    def entries(self, I: np.ndarray, J: np.ndarray, dtype: np.dtype | None = None) -> np.ndarray:
        """The blocks k(x_i, y_j) at pairs, (P, E, Dv); (P, 1, 1) for a scalar kernel. I counts the result's points."""
        dtype = self.data_dtype if dtype is None else dtype
        if self.form.axis == 0:
            I, J = J, I
        if self.form.kernel is not None:
            return self._evaluate(self.form.kernel, I, J, dtype)[:, :, None]
        unit = [call("ElemT", const(1.0), params=(self.form.unknown.dim, d)) for d in range(self.form.unknown.dim)]
        columns = [self._evaluate(substitute(self.form.expr, {self.form.unknown: e}), I, J, dtype) for e in unit]
        return np.stack(columns, axis=-1)

    def _evaluate(self, expr: Expr, I: np.ndarray, J: np.ndarray, dtype: np.dtype) -> np.ndarray:
        return evaluate(expr, self.host, self.ranges, I, J, dtype)
