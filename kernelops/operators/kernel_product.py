"""KernelProduct: K as products with blocks of vectors, and what goes with it: the unknown and alpha."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from ..arrays.arguments import Arguments, compute_dtype, is_tensor, same_data, to_numpy
from ..arrays.device_array import DeviceArray, device_view
from ..arrays.libraries import arguments_to_host, library_like, to_host
from ..arrays.permute import permute_rows
from ..arrays.transfer import to_device
from ..errors import ArgumentError, DtypeError, ShapeError
from ..formula.cached import cached_property
from ..formula.defined import call
from ..formula.expr import Expr, apply, const, substitute, variable
from ..formula.grad import grad
from ..formula.parse import Formula
from ..formula.structure import linear_in, scalar_kernel, symmetric
from ..formula.tokens import nearest
from ..ranges import Ranges
from ..reductions.reduction import Reduction, method
from .definite import semidefinite

COLUMNS_AT_ONCE = 64  # columns of a block that share one evaluation of the kernel


def unknown_of(formula: Formula, var: str, argument: str = "var") -> Expr:
    """The variable in which the formula is linear; the wrong ones are refused, by the name of the argument."""
    known = list(formula.names.values())
    if var not in known:
        raise ArgumentError(f"{argument}: wanted one of {', '.join(known)}, got {var!r}{nearest(str(var), known)}")
    v = formula.find(var)
    if v.op == "Pm":
        raise ArgumentError(f"{argument} = {var!r} is a parameter; the unknown is a Vi or a Vj variable")
    if not linear_in(formula.expr, v):
        raise ArgumentError(f"{argument}: the formula is not linear in {var!r}: {formula.text}")
    return v


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
    arrays, `batch`, where both dimensions behind are written out, (..., 1, 1) or (..., n, 1): an (n, n) matrix is no
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


class KernelProduct:
    """K as products: the formula's sum over its unknown, for any unknown vector, in any precision, and K transposed.

    The one place where solvers and operators meet formulas. ``columns`` vectors ride on one evaluation of a scalar
    kernel; a matrix-valued kernel takes them as batch elements. Results are where the vectors are: numpy arrays, or
    tensors on the GPU that holds the other arrays.
    """

    def __init__(
        self, expr: Expr, v: Expr, arguments: Arguments, ranges: Ranges | None, options: dict[str, Any]
    ) -> None:
        self.expr, self.v, self.ranges = expr, v, ranges
        self.arguments = to_device(arguments._replace(library="host"), v.params[0])
        self.options = options["dtype_acc"], options["sum_scheme"]
        self.data_dtype = compute_dtype(arguments.dtype)
        self._formulas: dict[tuple[str, int], Expr] = {}
        self._noise: DeviceArray | None = None
        self._orders: dict[tuple[int, Any], Any] = {}
        self.axis = 1 if v.op == "Vj" else 0
        self.kernel = scalar_kernel(expr, v)
        self.outer = "Vi" if v.op == "Vj" else "Vj"  # the index of the result

    @cached_property
    def host(self) -> Arguments:
        """The arrays on the host, for what is done there: single entries, comparisons."""
        return arguments_to_host(self.arguments)

    @property
    def points(self) -> tuple[int, int]:
        """Points of the result and of the unknown."""
        M, N = self.arguments.M, self.arguments.N
        return (M, N) if self.axis == 1 else (N, M)

    def reduce(self, expr: Expr, axis: int, u: Any, dtype: np.dtype) -> Any:
        """The sum of expr, which holds a variable at the unknown's place, for that variable = u."""
        arguments, ranges, orders = self._sorted
        how = method(expr, None, "Sum", axis, 1, *self.options, arguments.dtype)
        position = self.v.params[0]
        if isinstance(u, DeviceArray):
            if orders is not None:  # put in order on the host
                return library_like(u).from_host(self.reduce(expr, axis, to_host(u), dtype))
            return how(arguments._replace(library=u.library).replace_array(position, u), ranges, dtype)
        there = is_tensor(u)
        summed = kept = None
        if orders is not None:
            summed, kept = orders[axis], orders[1 - axis]  # j is summed for axis 1
            if there:
                summed, kept = (self._order_on(side, u.device) for side in (axis, 1 - axis))
            u = u if summed is None else u[..., summed, :]
        if there:
            arguments, u = arguments._replace(library="torch"), device_view(u, "a vector")
        image = how(arguments.replace_array(position, u), ranges, dtype)
        if kept is None:
            return image
        found = image.new_empty(image.shape) if there else np.empty_like(image)
        found[..., kept, :] = image
        return found

    def noise_there(self, alpha: np.ndarray) -> DeviceArray:
        """The alpha of an operator, (rows, 1) or (1, 1), on the GPU of the arrays, where it stays."""
        if self._noise is None:
            one = Arguments((alpha.reshape(-1, 1),), alpha.dtype, (), alpha.size, 1, self.arguments.device)
            self._noise = to_device(one).arrays[0]
        return self._noise

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
        kinds = {v.params[0]: v.op for v in self.expr.vars if v is not self.v and v.op != "Pm"}
        sorting = {p: orders[kind == "Vj"] for p, kind in kinds.items()}
        ordered = permute_rows(self.host, sorting)._replace(device=self.arguments.device)
        return to_device(ordered, self.v.params[0]), ranges.plain, orders

    def __call__(self, u: Any, transposed: bool = False) -> Any:
        """K u or K^T u for u of shape (..., points, components); arithmetic in the wider of data and u."""
        own = np.dtype(str(u.dtype).removeprefix("torch.")) if is_tensor(u) else u.dtype
        dtype = self.data_dtype if own == self.data_dtype else np.result_type(self.data_dtype, own)
        if self.kernel is None:
            return self.reduce(self.transposed if transposed else self.expr, self.axis ^ transposed, u, dtype)
        kind = self.outer if transposed else self.v.op
        if u.shape[-1] <= COLUMNS_AT_ONCE:
            return self.reduce(self.times(u.shape[-1], kind), self.axis ^ transposed, u, dtype)
        pieces = [u[..., k : k + COLUMNS_AT_ONCE] for k in range(0, u.shape[-1], COLUMNS_AT_ONCE)]
        done = [
            self.reduce(self.times(piece.shape[-1], kind), self.axis ^ transposed, piece, dtype) for piece in pieces
        ]
        return sys.modules["torch"].cat(done, -1) if is_tensor(u) else np.concatenate(done, axis=-1)

    def on_columns(self, V: Any, transposed: bool = False) -> Any:
        """The same for columns (..., points times components, k); those of a matrix-valued kernel go as a batch."""
        if self.kernel is not None:
            return self(V, transposed)
        d, k = (self.expr.dim if transposed else self.v.dim), V.shape[-1]
        moved: Any = sys.modules["torch"].movedim if is_tensor(V) else np.moveaxis
        image = self(moved(V, -1, 0).reshape(k, *V.shape[:-2], V.shape[-2] // d, d), transposed)
        return moved(image.reshape(k, *V.shape[:-2], image.shape[-2] * image.shape[-1]), 0, -1)

    def times(self, columns: int, kind: str | None = None) -> Expr:
        """The kernel times a variable of so many columns in the unknown's place, of its kind or of another one."""
        kind = self.v.op if kind is None else kind
        found = self._formulas.get((kind, columns))
        if found is None:
            assert self.kernel is not None
            found = apply("Mult", self.kernel, variable(kind, self.v.params[0], columns))
            self._formulas[kind, columns] = found
        return found

    @cached_property
    def transposed(self) -> Expr:
        """<e, F(v)> differentiated with respect to v: the transposed kernel applied to e, which takes v's place."""
        position = 1 + max(x.params[0] for x in self.expr.vars)
        e = variable(self.outer, position, self.expr.dim)
        return substitute(grad(self.expr, self.v, e), {e: variable(self.outer, self.v.params[0], self.expr.dim)})

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
        dtype_acc, sum_scheme = self.options
        return KernelProduct(
            self.expr, self.v, arguments, self.ranges, {"dtype_acc": dtype_acc, "sum_scheme": sum_scheme}
        )

    def symmetric(self) -> str:
        """ "yes", "no" or "unknown", from the formula and from which arrays hold the same points."""
        return symmetric(self.expr, self.v, self._pairs)

    @cached_property
    def semidefinite(self) -> bool:
        """Whether K without its ranges is proved to be positive semidefinite, by formula, parameters and arrays."""
        if self.kernel is None or self.arguments.M != self.arguments.N:
            return False
        given = {v.params[0]: self.arguments.arrays[v.params[0]] for v in self.kernel.vars if v.op == "Pm"}
        numbers = {p: to_host(a) if isinstance(a, DeviceArray) else a for p, a in given.items()}
        return semidefinite(self.kernel, self._pairs, {p: np.asarray(a, np.float64) for p, a in numbers.items()})

    def least(self, lost: float) -> float:
        """What is proved to be below all eigenvalues of K; ranges let them fall by `lost` at the most."""
        if not self.semidefinite:
            return -math.inf
        return 0.0 if self.ranges is None else -lost

    @cached_property
    def _pairs(self) -> list[tuple[int, int]]:
        """The positions of the Vi and Vj that hold the same points."""
        return [
            (a.params[0], b.params[0])
            for a in self.expr.vars
            for b in self.expr.vars
            if a.op == "Vi" and b.op == "Vj" and self.v not in (a, b) and self._same(a, b)
        ]

    def _same(self, a: Expr, b: Expr) -> bool:
        x, y = (self.arguments.arrays[v.params[0]] for v in (a, b))
        if isinstance(x, DeviceArray) and isinstance(y, DeviceArray):
            if (x.pointer, x.shape, x.strides, x.dtype) == (y.pointer, y.shape, y.strides, y.dtype):
                return a.dim == b.dim
        x, y = (self.host.arrays[v.params[0]] for v in (a, b))
        return a.dim == b.dim and same_data(x, y)

    def entries(self, I: np.ndarray, J: np.ndarray, dtype: np.dtype | None = None) -> np.ndarray:
        """The blocks k(x_i, y_j) at pairs, (P, E, Dv); (P, 1, 1) for a scalar kernel. I counts the result's points."""
        dtype = self.data_dtype if dtype is None else dtype
        if self.axis == 0:
            I, J = J, I
        if self.kernel is not None:
            return self._evaluate(self.kernel, I, J, dtype)[:, :, None]
        unit = [call("ElemT", const(1.0), params=(self.v.dim, d)) for d in range(self.v.dim)]
        columns = [self._evaluate(substitute(self.expr, {self.v: e}), I, J, dtype) for e in unit]
        return np.stack(columns, axis=-1)

    def _evaluate(self, expr: Expr, I: np.ndarray, J: np.ndarray, dtype: np.dtype) -> np.ndarray:
        return Reduction(expr, "Sum", 1, self.host, ranges=self.ranges).evaluate(I, J, dtype)
