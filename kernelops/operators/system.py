"""Everything that a solve needs except its arrays, and the operator alpha I + K that it makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, prod
from typing import Any

import numpy as np

from ..arrays.arguments import Arguments, bind_arguments, compute_dtype
from ..arrays.device_array import DeviceArray
from ..arrays.libraries import to_host
from ..errors import RangesError, ShapeError
from ..formula.cached import cached_property
from ..formula.expr import Expr
from ..formula.linear import LinearForm, axis_of, linear_form
from ..ranges import Ranges
from ..reductions.kinds import check_accumulation
from ..solvers import Solution, warn_or_raise
from ..solvers.options import SolveOptions
from ..solvers.problem import as_numbers
from ..solvers.solve import solve_with
from ..solvers.status import info_of, message
from ..solvers.vectors import HOST, Vectors
from .kernel_entries import KernelEntries
from .kernel_product import KernelProduct
from .shift import Shift


@dataclass(frozen=True, eq=False)
class SolveSpec:
    """All of a solve but its arrays and alpha.

    Attributes
    ----------
    expr, unknown : Expr
        The formula and the variable in which it is linear.
    options : SolveOptions
        What is asked of the solve.
    device : int or None
        As for a Reduction.
    lost : float
        By how much the ranges may lower an eigenvalue of K, at the most.
    wide : bool
        Whether b may be float64 whatever the dtype of the other arrays, as the right-hand sides of derivatives are.
    """

    expr: Expr
    unknown: Expr
    variables: tuple[Expr, ...]
    names: Mapping[Expr, str] = field(default_factory=dict)
    dtype: np.dtype | None = None
    ranges: Ranges | None = None
    dtype_acc: str = "auto"
    sum_scheme: str = "auto"
    options: SolveOptions = field(default_factory=SolveOptions)
    device: int | None = None
    lost: float = inf
    wide: bool = False

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, list):  # as version 0.1.0 pickled it: the values of its fields
            state = {**dict(zip(_FORMER_FIELDS, state, strict=True)), "options": SolveOptions()}
            del state["on_fail"]
        self.__dict__.update(state)

    @property
    def form(self) -> LinearForm:
        """The formula as a matrix that multiplies the unknown."""
        return linear_form(self.expr, self.unknown)

    @property
    def axis(self) -> int:
        """The axis of the sum: that of the unknown."""
        return axis_of(self.unknown)

    def with_form(self, form: LinearForm) -> SolveSpec:
        """The same solve with another matrix, whose unknown takes the place of this one's."""
        if form.unknown is self.unknown:
            return replace(self, expr=form.expr)
        old, new = self.unknown, form.unknown
        variables = tuple(new if v is old else v for v in self.variables)
        names = {new if v is old else v: name for v, name in self.names.items()}
        return replace(self, expr=form.expr, unknown=new, variables=variables, names=names)

    def bind(self, args: Sequence[Any]) -> Arguments:
        """The arrays, checked for a solve."""
        arguments = bind_arguments(self.variables, args, self.names, dtype=self.dtype, device=self.device)
        counts = {v.op for v in self.variables}
        if arguments.M != arguments.N:
            if {"Vi", "Vj"} <= counts:
                raise ShapeError(
                    f"a solve needs as many i as j, got {arguments.M} rows of Vi and {arguments.N} of Vj variables"
                )
            size = arguments.M if "Vi" in counts else arguments.N  # nothing but one index: it counts for both
            arguments = arguments._replace(M=size, N=size)
        if self.ranges is not None:
            self.ranges.check(arguments.M, arguments.N)
            if not self.ranges.is_symmetric():
                raise RangesError("ranges: a solve needs a symmetric pattern, where (j, i) is kept whenever (i, j) is")
        check_accumulation(self.dtype_acc, self.sum_scheme, arguments.dtype)
        return arguments

    def system(self, arguments: Arguments, alpha: np.ndarray, product: KernelProduct | None = None) -> KernelSystem:
        """alpha I + K for checked arrays and an alpha of shape () or (..., n, 1), as the solvers see it.

        product multiplies by K; by default it is a KernelProduct of the arrays.
        """
        return KernelSystem(self, arguments, alpha, product)

    def __call__(
        self,
        arguments: Arguments,
        alpha: np.ndarray,
        stacklevel: int = 2,
        system: KernelSystem | None = None,
        b: Any = None,
    ) -> Solution:
        """Solve for checked arrays and an alpha of shape () or (..., n, 1); x has the shape of b, batches broadcast.

        system is what ``system`` makes of them, or the same with vectors of another kind; b a block of these that
        takes the place of the right-hand side among the arrays.
        """
        system = self.system(arguments, alpha) if system is None else system
        options = self.options
        if options.callback is not None:
            options = replace(options, callback=_reshaping(options.callback, system))
        if options.x0 is not None and not isinstance(options.x0, str):
            options = replace(options, x0=system.block(as_numbers(options.x0, "x0"), "x0"))
        b = system.right_hand_side(arguments) if b is None else b
        solution = solve_with(system, b, options)
        solution = replace(solution, x=system.unblock(solution.x))
        warn_or_raise(solution, options.on_fail, stacklevel=stacklevel + 1)
        return solution

    def returned(self, solution: Solution, dtype: Any, stacklevel: int) -> Solution:
        """The account of a solution whose x is returned in the dtype of b, which it may be too large for."""
        if not (solution.converged and np.isinf(solution.residual_returned).any()):
            return solution
        said = message("overflow", largest=np.abs(solution.x).max(), dtype=str(dtype).removeprefix("torch."))
        solution = replace(solution, status="overflow", message=said, info=info_of("overflow", solution.iterations))
        warn_or_raise(solution, self.options.on_fail, stacklevel=stacklevel + 1)
        return solution


# the fields of version 0.1.0, in their order
_FORMER_FIELDS = (
    *("expr", "unknown", "variables", "names", "dtype", "ranges", "dtype_acc", "sum_scheme"),
    *("options", "on_fail", "device", "lost", "wide"),
)


def _reshaping(callback: Callable[[np.ndarray], Any], system: KernelSystem) -> Callable[[np.ndarray], Any]:
    return lambda x: callback(system.unblock(x))


class KernelSystem:
    """(alpha I + K) as the solvers see it: products with blocks (..., n, k).

    The columns of b are the k right-hand sides of a scalar kernel; a matrix-valued kernel couples them, and b is one
    vector of points times components.
    """

    name = "alpha I + K"
    native = True
    vectors: Vectors = HOST

    def __init__(
        self, spec: SolveSpec, arguments: Arguments, alpha: np.ndarray, product: KernelProduct | None = None
    ) -> None:
        form = spec.form
        if product is None:
            product = KernelProduct(form, arguments, spec.ranges, spec.dtype_acc, spec.sum_scheme)
        self.kernel = product
        self.given = arguments.arrays[form.position]
        self.dtype = compute_dtype(arguments.dtype)
        batch = np.broadcast_shapes(arguments.batch, alpha.shape[:-2])
        self.b_shape = (*batch, *self.given.shape[-2:])
        self.coupled = form.kernel is None
        width = form.unknown.dim if self.coupled else 1
        self.n = self.global_n = self.b_shape[-2] * width
        if alpha.ndim and alpha.shape[-2] > 1:
            alpha = np.repeat(alpha, width, axis=-2)  # one for each point
        self.alpha, self.shift = alpha, Shift(alpha)
        self.symmetric = self.kernel.symmetric()
        self.least = self.kernel.least(spec.lost)

    @cached_property
    def b(self) -> np.ndarray:
        """The right-hand sides on the host."""
        b = to_host(self.given) if isinstance(self.given, DeviceArray) else self.given
        return np.broadcast_to(b, self.b_shape)

    @cached_property
    def entries(self) -> tuple[KernelEntries, ...]:
        """K without alpha, entry by entry, of each element of the batch; one, if b alone differs among them."""
        others = [a for k, a in enumerate(self.kernel.host.arrays) if a is not None and k != self.kernel.form.position]
        if all(max(a.shape[:-2], default=1) == 1 for a in others) and max(self.alpha.shape[:-2], default=1) == 1:
            return (KernelEntries(self.kernel.element((0,) * (len(self.b_shape) - 2))),) if prod(self.b_shape) else ()
        return tuple(KernelEntries(self.kernel.element(index)) for index in np.ndindex(self.b_shape[:-2]))

    def right_hand_side(self, arguments: Arguments) -> Any:
        """b as a block, in the dtype of the data."""
        return self.block(self.b, "b").astype(
            arguments.dtype
        )  # float16 data were widened when the arguments were bound

    def block(self, b: np.ndarray, name: str) -> np.ndarray:
        """b in the shape that the solvers take."""
        if name != "b":
            try:
                if b.shape[-2:] != self.b_shape[-2:]:  # batch dimensions alone may broadcast
                    raise ValueError
                b = np.broadcast_to(b, self.b_shape)
            except ValueError:
                raise ShapeError(f"{name} must have the shape of b, {self.b_shape}, got {b.shape}") from None
        return b.reshape(*b.shape[:-2], self.n, 1) if self.coupled else b

    def unblock(self, x: np.ndarray) -> np.ndarray:
        """The inverse of ``block``."""
        return x.reshape(self.b_shape)

    def product(self, V: Any) -> Any:
        """(alpha I + K) V, in the wider dtype of data and V."""
        return self.shift.add(self.kernel.on_columns(V), V)
