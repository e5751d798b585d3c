"""Log-determinants, quadratic forms and predictions of Gaussian processes at new points: all that goes with a solve.

The solvers see a system and a plan (which preconditioner, built for which matrix); this file makes both from a
SolveSpec and its arrays, for numpy arrays and for what torch's functions do with them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..arrays.arguments import Arguments, bind_arguments, is_tensor, label
from ..errors import ArgumentError, ShapeError
from ..formula.expr import Expr
from ..formula.tokens import nearest
from ..operators.kernel_product import COLUMNS_AT_ONCE, KernelProduct
from ..operators.system import SolveSpec
from ..reductions.pairs import evaluate
from ..solvers import warn_or_raise
from ..solvers.operator import Operator, as_system, check_symmetric, in_units, size_of
from ..solvers.plan import Plan
from ..solvers.policy import plan_for
from ..solvers.precond.base import Identity, Preconditioner
from ..solvers.precond.cholesky import Cholesky
from ..solvers.progress import log_line
from ..solvers.quadrature import Estimate
from ..solvers.quadrature import logdet as estimated_logdet
from ..solvers.request import SolveRequest
from ..solvers.solve import report_failure, solve_with
from ..solvers.units import unit_of

SILENT = np.errstate(all="ignore")  # what leaves the range of numbers is reported in words, not by numpy


class InvQuadLogdet(NamedTuple):
    """b^T A^-1 b summed over the columns of b, log det A, and the standard error of the latter."""

    inv_quad: Any
    logdet: Any
    stderr: Any


@dataclass(frozen=True)
class Ready:
    """A matrix, and what was built to solve with it.

    Attributes
    ----------
    kernel : object
        The system as a SolveSpec makes it: blocks of its unknown, made into columns and back.
    system : Operator
        The same as the solvers see it.
    scaled : Operator
        The same divided by 2^unit.
    unit : ndarray, shape () or (..., 1)
        See solvers/units.py.
    plan : Plan
        Whose preconditioners approximate the inverse of the scaled one.
    own : bool
        Whether the plan was made for this very matrix; a SolveState may bring that of a neighbour.
    """

    kernel: Any
    system: Operator
    scaled: Operator
    unit: np.ndarray
    plan: Plan
    own: bool

    @property
    def batch(self) -> tuple[int, ...]:
        """The batch dimensions of the right-hand side."""
        return tuple(self.kernel.b_shape[:-2])

    @property
    def factors(self) -> tuple[Cholesky, ...]:
        """A dense factor of each element of the batch; empty if there is nothing as exact."""
        found = tuple(p for p in self.preconditioners if isinstance(p, Cholesky) and p.jitter == 0)
        return found if self.own and len(found) == len(self.preconditioners) else ()

    @property
    def preconditioners(self) -> tuple[Preconditioner, ...]:
        """One for each element of the batch."""
        elements = int(np.prod(self.batch))
        found = self.plan.preconditioners or (Identity(self.system.n),)
        return found * elements if len(found) == 1 else found


@SILENT
def quadratic(kernel: Any, system: Operator, b: np.ndarray, a: np.ndarray) -> np.ndarray:
    """b^T A^-1 b of every column for a near A^-1 b: 2 b^T a - a^T A a, off by r^T A^-1 r with r = b - A a.

    Shape (..., k); the columns of a matrix-valued kernel are one.
    """
    b, a = (kernel.block(np.array(t, np.float64), "a") for t in np.broadcast_arrays(b, a))
    dot = system.vectors.dot
    return np.asarray(2 * dot(b, a) - dot(a, system.product(a)))


@SILENT
def ready(spec: SolveSpec, arguments: Arguments, alpha: np.ndarray, columns: int) -> Ready:
    """The system, and a plan for so many columns, which stays in the state of the spec for the solves to come."""
    kernel = spec.system(arguments, alpha)
    system = as_system(kernel)
    batch = tuple(kernel.b_shape[:-2])
    unit = unit_of(1.0 if (size := size_of(system, batch)) is None else size)
    scaled = in_units(system, unit)
    check_symmetric(scaled, scaled.product, batch)
    options = spec.options
    state = options.state
    assert state is not None
    request = SolveRequest.of(scaled, options, batch)
    plan = plan_for(request, columns, options.rtol, state, exact=True)
    state.hold(plan)
    if options.verbose:
        log_line(f"{system.n} unknowns: {plan}")
    return Ready(kernel, system, scaled, unit, plan, not plan.reused)


def without_warm_start(spec: SolveSpec) -> SolveSpec:
    """The spec for other right-hand sides: with the plan, but leaving no solution behind."""
    return replace(spec, options=spec.options.without_warm_start())


@SILENT
def determinant(found: Ready, n_probes: int, seed: int, rtol: float) -> Estimate:
    """log det (alpha I + K) of each element of the batch."""
    estimate = estimated_logdet(
        found.scaled.product,
        found.system.n,
        found.batch,
        found.preconditioners,
        n_probes=n_probes,
        seed=seed,
        rtol=rtol,
        exact=bool(found.factors),
    )
    if not found.unit.any():
        return estimate
    unit = np.broadcast_to(found.unit, (*found.batch, 1))[..., 0]
    return replace(estimate, value=estimate.value + found.system.n * math.log(2.0) * unit)


def complain(estimate: Estimate | Unfit, on_fail: str, stacklevel: int) -> None:
    """Report an estimate that cannot be trusted, as on_fail says."""
    if estimate.message:
        report_failure(estimate, on_fail, stacklevel + 1)


@dataclass(frozen=True)
class Unfit:
    """Values that do not fit into the dtype that is returned.

    Attributes
    ----------
    values : array
        They in float64.
    message : str
        What does not fit, and what to try.
    """

    values: Any
    message: str

    @classmethod
    def of(cls, values: Any, dtype: Any, name: str) -> Unfit:
        """The values of this name, with the message that they do not fit into the dtype."""
        short = str(dtype).removeprefix("torch.")
        return cls(
            values,
            f"the {name} goes up to {float(abs(values).max()):.1e}, which is beyond {short}, so that Inf is returned "
            "in its place: give all arrays in a wider dtype",
        )


def round_to(values: np.ndarray, dtype: Any, name: str, on_fail: str, stacklevel: int) -> np.ndarray:
    """Round float64 values to the dtype that is returned, and report those that do not fit into it."""
    with np.errstate(over="ignore"):
        found = values.astype(dtype)
    if np.isinf(found).any() and np.isfinite(values).all():
        complain(Unfit.of(values, dtype, name), on_fail, stacklevel + 1)
    return found


# ---- arguments ----


def with_unknown(spec: SolveSpec, args: Sequence[Any]) -> list[Any]:
    """The arguments, with zeros at the unknown's place if it was left out."""
    v, args = spec.unknown, list(args)
    if len(args) != max(x.position for x in spec.variables):  # complete, or a count that is refused later
        return args
    points = [x for x in spec.variables if x.op != "Pm" and x is not v]
    if not points:
        raise ArgumentError(f"wanted {label(v, spec.names)} too: nothing else says how many points there are")
    position = v.position
    args.insert(position, None)
    like = args[min(points, key=lambda x: x.op != v.op).position]
    rows = like.shape[-2] if getattr(like, "ndim", 0) >= 2 else 1
    args[position] = _zeros(like, (rows, v.dim))
    return args


def _zeros(like: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of the library and the dtype of an array that may turn out to be something else."""
    if is_tensor(like):
        torch = sys.modules["torch"]
        fits = like.is_floating_point()
        return torch.zeros(shape, dtype=like.dtype, device=like.device) if fits else torch.zeros(shape)
    dtype = getattr(like, "dtype", None)
    return np.zeros(shape, dtype if isinstance(dtype, np.dtype) and dtype.kind == "f" else np.float64)


def new_points(spec: SolveSpec, at: Any) -> dict[int, Any]:
    """Position -> array of the new points, for every Vi and Vj variable beside the unknown."""
    others = [x for x in spec.variables if x.op != "Pm" and x is not spec.unknown]
    names = [spec.names[x] for x in others]
    if isinstance(at, Mapping):
        for name in at:
            if name not in names:
                raise ArgumentError(f"at: wanted {', '.join(names)}, got {name!r}{nearest(str(name), names)}")
        missing = [name for name in names if name not in at]
        if missing or not names:
            raise ArgumentError(f"at: wanted an array for each Vi and Vj variable; {', '.join(missing)} is missing")
        return {x.position: at[name] for x, name in zip(others, names, strict=True)}
    if sorted(x.op for x in others) != ["Vi", "Vj"]:
        listed = ", ".join(label(x, spec.names) for x in others)
        raise ArgumentError(
            f"at: one array goes with one Vi and one Vj variable beside the unknown, got {listed}: "
            "wanted a mapping of their names to arrays"
        )
    return {x.position: at for x in others}


def check_new_points(spec: SolveSpec, new: Mapping[int, Any], dtype: Any, batch: tuple[int, ...]) -> int:
    """The number of new points; arrays that do not fit are refused, by the name of the argument."""
    rows = set()
    for x in spec.variables:
        if x.position not in new:
            continue
        a, name = new[x.position], f"at, for {label(x, spec.names)}"
        if a.ndim < 2 or a.shape[-1] != x.dim:
            raise ShapeError(f"{name}: wanted shape (..., rows, {x.dim}), got {tuple(a.shape)}")
        if a.dtype != dtype:
            raise ArgumentError(f"{name}: wanted {dtype}, as the other arrays have, got {a.dtype}")
        try:
            fits = np.broadcast_shapes(tuple(a.shape[:-2]), batch) == batch
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(f"{name}: batch dimensions {tuple(a.shape[:-2])} do not broadcast to {batch} of the solve")
        rows.add(int(a.shape[-2]))
    if len(rows) != 1:
        raise ShapeError(f"at: wanted arrays of the same number of rows, got {sorted(rows)}")
    return rows.pop()


def across(spec: SolveSpec, args: Sequence[Any], new: Mapping[int, Any], kinds: Sequence[str]) -> list[Any]:
    """The arguments with the new points for the variables of some kinds."""
    there = {x.position: new[x.position] for x in spec.variables if x.op in kinds and x.position in new}
    return [there.get(p, a) for p, a in enumerate(args)]


def widen(spec: SolveSpec, columns: int) -> SolveSpec:
    """The same solve of a scalar kernel for an unknown of so many columns."""
    return spec.with_form(spec.form.widened(columns))


def kernel_of(spec: SolveSpec) -> Expr:
    """The scalar kernel, without which there is no variance."""
    found = spec.form.kernel
    if found is None:
        raise ArgumentError(
            "predict: a matrix-valued kernel has no variance for each point: ask for variance=False, and for the "
            "mean alone"
        )
    return found


def chunks(count: int) -> Iterator[slice]:
    """Blocks of columns that share one evaluation of the kernel."""
    for first in range(0, count, COLUMNS_AT_ONCE):
        yield slice(first, min(first + COLUMNS_AT_ONCE, count))


# ---- predictions from numpy arrays ----


@SILENT
def predict(
    spec: SolveSpec,
    args: Sequence[Any],
    alpha: np.ndarray,
    new: Mapping[int, np.ndarray],
    variance: bool,
    stacklevel: int,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The mean (..., m, k) and the variance (..., m) at new points, in float64."""
    v = spec.unknown
    outer = spec.form.outer
    kernel = kernel_of(spec) if variance else None
    arguments = spec.bind(args)
    found_batch = tuple(np.broadcast_shapes(arguments.batch, alpha.shape[:-2]))
    m = check_new_points(spec, new, arguments.dtype, found_batch)
    found = ready(spec, arguments, alpha, v.dim + m * variance)
    solution = spec(arguments, alpha, stacklevel=stacklevel + 2)

    def product(points: Mapping[int, np.ndarray], kinds: Sequence[str], unknown: np.ndarray) -> np.ndarray:
        """K u with some kinds of variables at new points."""
        at = across(spec, args, points, kinds)
        at[v.position] = np.zeros((unknown.shape[-2], v.dim), arguments.dtype)
        new_arguments = bind_arguments(spec.variables, at, spec.names, device=spec.device)
        image: np.ndarray = KernelProduct(spec.form, new_arguments, None, spec.dtype_acc, spec.sum_scheme)(unknown)
        return image

    mean = product(new, (outer,), solution.x)
    if kernel is None:
        return mean, None
    at = across(spec, args, new, ("Vi", "Vj"))
    at[v.position] = np.zeros((m, v.dim), arguments.dtype)
    own = bind_arguments(spec.variables, at, spec.names, device=spec.device)
    diagonal = evaluate(kernel, own, None, np.arange(m), np.arange(m), np.dtype(np.float64))[..., 0]
    left = np.broadcast_to(diagonal, (*found.batch, m)).copy()
    for part in chunks(m):
        some = {p: a[..., part, :] for p, a in new.items()}
        columns = product(some, (v.op,), np.eye(part.stop - part.start))
        columns = np.broadcast_to(columns, (*found.batch, *columns.shape[-2:]))
        solved = solve_with(found.kernel, columns, spec.options.without_warm_start())
        warn_or_raise(solved, spec.options.on_fail, stacklevel=stacklevel + 2)
        a = solved.x
        dot = found.system.vectors.dot
        left[..., part] -= 2 * dot(columns, a) - dot(a, found.system.product(a))
    return mean, np.maximum(left, 0.0)
