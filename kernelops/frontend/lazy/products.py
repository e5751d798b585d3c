"""A LazyTensor as a matrix: products with vectors, its transpose, solves, and a linear operator of SciPy."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, DtypeError, KeywordError, ShapeError
from ...formula.expr import Expr, apply, substitute, text, variable
from ...formula.parse import Formula
from ...formula.structure import linear_in
from ...operators.linear_operator import KernelOperator
from ...operators.system import SolveSpec
from ..gaussian_process import InvQuadLogdet
from ..kernel_solve import KernelSolve
from .base import BaseLazyTensor, describe, variable_names
from .library import LazyLibrary
from .reductions import Call, Reductions, make_genred, split_accuracy, uncounted
from .slots import Slot, Slots, by_position

if TYPE_CHECKING:
    from typing import Self

COLUMNS = 64  # of K @ V that share one evaluation of K; more are taken in pieces, so that few programs are made
_OTHER = {"Vi": "Vj", "Vj": "Vi", "Pm": "Pm"}


@lru_cache(maxsize=2048)
def _times(expr: Expr, position: int, columns: int) -> Expr:
    """The formula times a vector of so many columns indexed by j, which stands at a new position."""
    return apply("Mult", expr, variable("Vj", position, columns))


@lru_cache(maxsize=1024)
def exchange(expr: Expr) -> Expr:
    """The formula with i and j exchanged."""
    return substitute(expr, {v: variable(_OTHER[v.op], v.position, v.dim) for v in expr.vars})


@lru_cache(maxsize=1024)
def _make_solver(library: LazyLibrary, expr: Expr, unknown: Expr, accuracy: tuple[str, str]) -> KernelSolve:
    """A solve without arrays: one for all calls with this formula."""
    if expr.dim != unknown.dim:
        raise ShapeError(
            f"solve: the formula must be as long as the right-hand side; it has length {expr.dim}, that {unknown.dim}"
        )
    if not linear_in(expr, unknown):
        raise ArgumentError("solve: the formula is not linear in var")
    variables = by_position(expr, unknown)
    names = {**variable_names(expr), unknown: "b"}
    dtype_acc, scheme = accuracy
    return library.kernel_solve.of(
        SolveSpec(expr, unknown, tuple(variables.values()), names, dtype_acc=dtype_acc, sum_scheme=scheme)
    )


def check_no_out(options: dict[str, Any]) -> None:
    """Refuse ``out`` where two real products make a complex one."""
    if options.get("out") is not None:
        raise KeywordError("out: a complex product is joined of two real ones, and cannot be written into an array")


def _as_vector(found: Any) -> Any:
    """The result of a solve whose right-hand side was one vector."""
    return (found[0][..., 0], *found[1:]) if isinstance(found, tuple) else found[..., 0]


class Products(Reductions):
    """Methods of a matrix."""

    def __matmul__(self, v: Any, **options: Any) -> Any:
        """The product with v, a vector (N,), or columns (..., N, E); the result has M rows in place of N.

        ``K.__matmul__(v, backend=...)`` takes the keywords of a reduction.
        """
        library, frame = self.library, self.frame
        if self.expr.dim != 1:
            raise ShapeError(f"K @ v wants a K of shape (..., M, N), got {self.shape}: .sum(axis=...) reduces vectors")
        if not library.is_array(v):
            self._refuse_factor(v)
        shape = tuple(v.shape)
        if not shape:
            raise ShapeError("K @ v wants an array of shape (N,) or (..., N, E) for v, got a number: use K * v")
        V = v[:, None] if len(shape) == 1 else v
        if frame.N is not None and V.shape[-2] != frame.N:
            raise ShapeError(f"K @ v: K has {frame.N} columns, v has shape {shape}")
        if library.is_complex(v):
            check_no_out(options)
            return library.join_complex(self.__matmul__(v.real, **options), self.__matmul__(v.imag, **options))
        if frame.dtype is not None and library.dtype_name(v) != frame.dtype:
            raise DtypeError(f"K @ v: K is {frame.dtype}, v is {library.dtype_name(v)}: wanted one dtype")
        columns = int(V.shape[-1])
        if columns > COLUMNS and options.get("out") is None:
            pieces = [V[..., k : k + COLUMNS] for k in range(0, columns, COLUMNS)]
            return library.concatenate([self.__matmul__(piece, **options) for piece in pieces])
        if columns < 1:
            raise ShapeError(f"K @ v wants at least one column, got v of shape {shape}")
        image = self._product(V, **options).now(True)
        if isinstance(image, Call):
            return image
        return image[..., 0] if len(shape) == 1 else image

    def _product(self, V: Any, **options: Any) -> Call:
        """The sum over j of this one times columns (..., N, E), to be called."""
        expr = _times(self.expr, len(self.slots), int(V.shape[-1]))
        accuracy = split_accuracy(options)
        function = make_genred(
            self.library, expr, None, "Sum", 1, None, accuracy, (uncounted(self.frame, expr)[0], None)
        )  # fmt: skip
        slots = (*self.slots, Slot(V, "Vj"))
        return Call(function, slots, tuple(by_position(expr)), self.frame, self.library, options)

    def __rmatmul__(self, v: Any) -> Any:
        """v @ K: of a vector (M,) or rows (..., E, M), by the transpose of K."""
        if not self.library.is_array(v):
            self._refuse_factor(v)
        if len(v.shape) < 2:
            return self.t() @ v
        exchange_axes = self.library.exchange_axes
        return exchange_axes(self.t() @ exchange_axes(v))

    def _refuse_factor(self, v: Any) -> None:
        if isinstance(v, BaseLazyTensor) or getattr(v, "is_complex", False) is True:
            raise ArgumentError("K @ L of two LazyTensors is no sum over one index: multiply twice, as in K @ (L @ v)")
        self._refuse(v, f"K @ v wants {self.library.noun} for v")

    def t(self) -> Self:
        """The transpose: i and j exchanged, in the ranges too."""
        slots: Slots = tuple(s.of_kind(_OTHER[s.kind]) for s in self.slots)
        return self._new(exchange(self.expr), slots, self.frame.transposed)

    T = property(t)

    def matvec(self, v: Any) -> Any:
        """The product K @ v, by SciPy's name.

        Parameters
        ----------
        v : array
            (N,) or (..., N, E).
        """
        return self @ v

    def rmatvec(self, v: Any) -> Any:
        """The product K.T @ v, by SciPy's name.

        Parameters
        ----------
        v : array
            (M,) or (..., M, E).
        """
        return self.t() @ v

    matmat, rmatmat = matvec, rmatvec

    # ---- solves ----

    def solve(self, other: Any, var: Any = None, call: bool = True, alpha: Any = 1e-10, **options: Any) -> Any:
        """The a with (alpha I + K) a = b.

        Parameters
        ----------
        other : array or LazyTensor
            b: (n,), or (..., n, k) with one right-hand side in each column; or a variable of i, a symbolic one too.
        var : LazyTensor, optional
            A symbolic variable in which the formula is linear, for kernels that are matrices; K is what multiplies it.
            By default K is the LazyTensor itself, which multiplies b.
        call : bool, default True
            False to get a function that can be called later.
        alpha : number or array, default 1e-10
            Added to the diagonal: (), (n,) or (n, 1), with batch dimensions in front.
        **options
            Those of :meth:`kernelops.numpy.KernelSolve.__call__`.

        Returns
        -------
        array in the shape of b; (array, Solution) with ``return_solution=True``

        See Also
        --------
        kernelops.solve
        """
        vector = self.library.is_array(other) and len(other.shape) == 1
        function, slots, expr = self._solver(other, var, options)
        options["alpha"] = alpha
        call_later = Call(function, slots, tuple(by_position(expr)), self._frame_of(var), self.library, options)
        return (call_later.followed_by(_as_vector) if vector else call_later).now(call)

    def _frame_of(self, var: Any) -> Any:
        return self.frame if var is None else self._join(var)[2]

    def _solver(self, other: Any, var: Any, options: dict[str, Any]) -> tuple[KernelSolve, Slots, Expr]:
        """The solve for a right-hand side, the slots of its arrays, and its formula."""
        b = self._right_hand_side(other)
        M, N = self.frame.M, self.frame.N
        if M is not None and N is not None and M != N:
            raise ShapeError(f"wanted a square matrix, as many i as j, got {M} and {N}")
        rows = b.slots[b.expr.position].values
        n = M if M is not None else N
        if n is not None and rows is not None and rows.shape[-2] != n:
            raise ShapeError(f"other: wanted a right-hand side of {n} rows, got {rows.shape[-2]}")
        kind = _OTHER[b.expr.op]
        accuracy = split_accuracy(options)
        if var is None:
            position = len(self.slots)
            slots: Slots = (*self.slots, b.slots[b.expr.position])
            unknown = variable(kind, position, b.expr.dim)
            expr = apply("Mult", self.expr, unknown)
        else:
            if not isinstance(var, type(self)) or var.expr.op not in ("Vi", "Vj"):
                raise ArgumentError(
                    "var: wanted a variable of i or j, a LazyTensor made of an array or a symbolic one, "
                    f"got {describe(var)}"
                )
            (expr, unknown), joined, _ = self._join(var)
            slots = (*joined[: unknown.position], b.slots[b.expr.position], *joined[unknown.position + 1 :])
        return _make_solver(self.library, expr, unknown, accuracy), slots, expr

    def _right_hand_side(self, other: Any) -> Self:
        """b as a variable of i or j."""
        if isinstance(other, type(self)):
            b = other
        elif self.library.is_array(other):
            shape = tuple(other.shape)
            if not shape:
                raise ShapeError("other: wanted a right-hand side of shape (n,) or (..., n, k), got a number")
            values = other[:, None] if len(shape) == 1 else other
            kind = variable("Vi", 0, max(int(values.shape[-1]), 1))
            b = self._new(kind, (Slot(values, "Vi", other),), self.frame)
        else:
            self._refuse(other, f"other: wanted a right-hand side, {self.library.noun} or a LazyTensor")
        if b.expr.op not in ("Vi", "Vj"):
            raise ArgumentError(f"other: wanted a right-hand side indexed by i or by j, got {b!r}")
        return b

    def _spec_arguments(self, other: Any, options: dict[str, Any]) -> tuple[KernelSolve, list[Any], dict[str, Any]]:
        """A solver, its arrays and its keywords, for what is computed at once."""
        function, slots, expr = self._solver(other, None, options)
        later = Call(function, slots, tuple(by_position(expr)), self.frame, self.library, options)
        if later.symbolic:
            raise ArgumentError(f"arrays are missing for the symbolic variables at positions {later.symbolic}")
        return function, later._arrays({}), later._options({})

    def logdet(self, alpha: Any = 1e-10, **options: Any) -> Any:
        """log det (alpha I + K) and its standard error.

        Parameters
        ----------
        alpha : number or array, default 1e-10
            Added to the diagonal.
        **options
            Those of :meth:`kernelops.numpy.KernelSolve.logdet`.

        Returns
        -------
        (value, stderr)
        """
        function, arrays, options = self._spec_arguments(self._zeros(), options)
        return function.logdet(*arrays, alpha=alpha, **options)

    def inv_quad_logdet(self, other: Any, alpha: Any = 1e-10, **options: Any) -> InvQuadLogdet:
        """b^T (alpha I + K)^-1 b, log det (alpha I + K), and the standard error of the latter.

        Parameters
        ----------
        other : array or LazyTensor
            b, (n,) or (..., n, k).
        alpha : number or array, default 1e-10
            Added to the diagonal.
        **options
            Those of :meth:`kernelops.numpy.KernelSolve.inv_quad_logdet`.

        Returns
        -------
        InvQuadLogdet
            A named tuple (inv_quad, logdet, stderr).
        """
        function, arrays, options = self._spec_arguments(other, options)
        return function.inv_quad_logdet(*arrays, alpha=alpha, **options)

    def _zeros(self) -> Any:
        """A right-hand side that says no more than how many rows there are."""
        rows = self.frame.M if self.frame.M is not None else self.frame.N
        if rows is None:
            raise ArgumentError("wanted a LazyTensor of arrays with rows i and j: nothing says how many there are")
        like = next((s.values for s in self.slots if self.library.is_array(s.values) and len(s.values.shape)), None)
        zero = self.library.parameter((0.0,), self.frame.dtype, like)
        return self.library.broadcast(zero, (rows, 1))

    def operator(self, alpha: Any = 0.0, **options: Any) -> KernelOperator:
        """alpha I + K as a linear operator of SciPy, on the host; its products are not differentiable.

        Parameters
        ----------
        alpha : number or array, default 0
            Added to the diagonal: a number, or one for each row.
        **options
            Those of :class:`kernelops.KernelOperator`: ranges, truncate, dtype_acc, sum_scheme, backend, device_id.

        Returns
        -------
        KernelOperator
        """
        if self.expr.dim != 1:
            raise ShapeError(f"operator: wanted a K of shape (M, N), got {self.shape}")
        if self.symbolic_variables:
            raise ArgumentError("operator: wanted arrays for all variables, got symbolic ones")
        unknown = variable("Vj", len(self.slots), 1)
        expr = apply("Mult", self.expr, unknown)
        variables = by_position(expr)
        names = {**variable_names(self.expr), unknown: "b"}
        if self.frame.ranges is not None:
            options.setdefault("ranges", self.frame.ranges)
        if self.frame.backend is not None:
            options.setdefault("backend", self.frame.backend)
        like = next((s.values for s in self.slots if self.library.is_array(s.values)), None)
        arrays = [self._host_values(self.slots[p].values, like) for p in variables if p != unknown.position]
        formula = Formula(expr, names, tuple(variables.values()), text(expr, names))
        return KernelOperator.of(formula, "b", *arrays, alpha=alpha, **options)

    def _host_values(self, values: Any, like: Any) -> Any:
        if self.library.is_array(values):
            return self.library.to_host(values)
        return values if not isinstance(values, tuple) else np.asarray(values, self.frame.dtype or np.float64)
