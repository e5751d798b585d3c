"""Reductions of a LazyTensor over i or over j, and what is left to call if arrays are still missing."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from ...arrays.arguments import unwrap_whole
from ...errors import ArgumentError, KeywordError
from ...formula.expr import Expr
from ...reductions.kinds import check_reduction
from ...reductions.reduction import Reduction
from ..checks import IGNORED, check_accumulator
from ..genred import Genred
from .base import variable_names
from .calculus import Calculus
from .frame import Frame
from .library import LazyLibrary
from .slots import Slot, Slots, by_position

ACCURACY = ("dtype_acc", "use_double_acc", "sum_scheme")  # keywords that belong to the making of a Genred
ALSO_IGNORED = (*IGNORED, "optional_flags")  # accepted for old scripts
_SURELY_HELD = 6e4  # the largest number of which every dtype holds a finite value near it, float16 included
COMPONENTWISE = {"Sum", "Min", "Max", "ArgMin", "ArgMax"}  # which may be taken over the components too


@lru_cache(maxsize=2048)
def make_genred(
    library: LazyLibrary,
    expr: Expr,
    weight: Expr | None,
    op: str,
    axis: int,
    opt_arg: int | None,
    accuracy: tuple[str, str],
    sizes: tuple[int | None, int | None],
) -> Genred:
    """The reduction of formulas, without arrays: one for all calls that differ in these alone."""
    check_reduction(op, expr, weight, opt_arg)
    exprs = (expr,) if weight is None else (expr, weight)
    variables = tuple(by_position(*exprs).values())
    dtype_acc, scheme = accuracy
    return library.genred.of(
        Reduction(
            expr,
            op,
            axis,
            variables,
            variable_names(*exprs),
            weight,
            opt_arg,
            dtype_acc=dtype_acc,
            sum_scheme=scheme,
            sizes=sizes,
        )
    )


def split_accuracy(options: dict[str, Any]) -> tuple[str, str]:
    """dtype_acc and sum_scheme, taken out of the keywords of a call together with those that have no effect."""
    if not options:
        return "auto", "auto"
    given = {name: options.pop(name) for name in ACCURACY if name in options}
    for name in ALSO_IGNORED:
        options.pop(name, None)
    scheme = given.get("sum_scheme", "auto")
    accumulator = check_accumulator(given.get("dtype_acc", "auto"), given.get("use_double_acc", False), scheme)
    return accumulator, scheme


def uncounted(frame: Frame, *exprs: Expr) -> tuple[int | None, int | None]:
    """The numbers of i and j that no variable tells: those of an index that the formulas have lost, as 0*K has not."""
    kinds = {v.op for e in exprs for v in e.vars}
    return (None if "Vi" in kinds else frame.M), (None if "Vj" in kinds else frame.N)


class Call:
    """A reduction or a solve of a LazyTensor, to be called with what its symbolic variables stand for.

    Made by ``call=False``, or by any reduction of a formula with symbolic variables. It is called with one array for
    each of their positions, in ascending order, and with the keywords of a reduction or of a solve.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        slots: Slots,
        positions: tuple[int, ...],
        frame: Frame,
        library: LazyLibrary,
        options: dict[str, Any],
        finish: Callable[[Any], Any] | None = None,
    ) -> None:
        self.function, self.frame, self.library, self.options = function, frame, library, options
        if len(positions) == len(slots):
            self._slots: list[Slot | None] = list(slots)
        else:
            used = set(positions)
            self._slots = [slots[p] if p in used else None for p in range(1 + max(positions, default=-1))]
        self._finish = finish
        symbolic = {s.position for s in self._slots if s is not None and s.position is not None}
        self.symbolic = sorted(symbolic) if symbolic else []

    @property
    def callfun(self) -> Callable[..., Any]:
        """The Genred or KernelSolve that is called, by KeOps' name."""
        return self.function

    def __call__(self, *args: Any, **options: Any) -> Any:
        """The result for these arrays.

        Parameters
        ----------
        *args : array
            One for each symbolic position, in ascending order: (..., rows, D), or (..., D) for a parameter.
        **options
            Those of the call of a Genred or of a KernelSolve; they take the place of those given before.
        """
        if len(args) != len(self.symbolic):
            raise ArgumentError(
                f"wanted {len(self.symbolic)} arrays for the symbolic variables at positions {self.symbolic}, "
                f"got {len(args)}"
            )
        arrays = self._arrays(dict(zip(self.symbolic, args, strict=True)) if args else {})
        result = self.function(*arrays, **self._options(options))
        return result if self._finish is None else self._finish(result)

    def _arrays(self, given: dict[int, Any]) -> list[Any]:
        """The arrays by position."""
        arrays = [
            None if s is None else s.values if s.position is None else given[s.position] for s in self._slots
        ]  # fmt: skip
        if any(type(a) is float or type(a) is tuple for a in arrays):
            like = next((b for b in arrays if b is not None and self.library.is_array(b) and b.shape), None)
            dtype = self.frame.dtype or (None if like is None else self.library.dtype_name(like))
            if dtype is None and not any(b is not None and self.library.is_array(b) for b in arrays):
                dtype = "float64"  # numbers alone
            arrays = [self._numbers(a, dtype, like) if type(a) in (float, tuple) else a for a in arrays]
        return arrays

    def _numbers(self, a: Any, dtype: str | None, like: Any) -> Any:
        """Numbers of a parameter as an array; one that may be too large for the dtype is left to be refused."""
        if type(a) is tuple:
            largest = float(np.finfo(dtype or "float64").max)
            for number in a:
                if abs(number) > largest and np.isfinite(number):
                    raise ArgumentError(f"a list of numbers: wanted such as {dtype} can hold, got {number:g}")
            return self.library.parameter(a, dtype, like)
        fits = dtype is not None and (abs(a) <= _SURELY_HELD or dtype == "float64")
        return self.library.parameter((a,), dtype, like) if fits else a

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        found = {**self.options, **options} if options else self.options
        if self.frame.ranges is None and self.frame.backend is None:
            return found
        found = dict(found)
        if self.frame.ranges is not None:
            found.setdefault("ranges", self.frame.ranges)
        if self.frame.backend is not None:
            found.setdefault("backend", self.frame.backend)
        return found

    def followed_by(self, function: Callable[[Any], Any]) -> Call:
        """The same call, with a function of its result.

        Parameters
        ----------
        function : callable
            It takes the result and returns another one.

        Returns
        -------
        Call
        """
        made, finish = copy(self), self._finish
        made._finish = function if finish is None else lambda result: function(finish(result))
        return made

    def now(self, call: bool) -> Any:
        """The result if nothing is missing and it is wanted, else this."""
        return self() if call and not self.symbolic else self

    def __repr__(self) -> str:
        positions = ", ".join(map(str, self.symbolic))
        return f"<{self.function!r} to be called with {f'arrays for {positions}' if positions else 'nothing'}>"


@dataclass(frozen=True, slots=True)
class ReductionMethod:
    """A reduction as a method.

    Attributes
    ----------
    op : str
        The reduction.
    text : str
        The first line of the docstring.
    returns : str
        What it returns, with shapes for a sum over j.
    """

    op: str
    text: str
    returns: str


_VALUES = "(..., M, D) array for a reduction over j, (..., N, D) over i"
_INDICES = "(..., M, D) array of int64 for a reduction over j, (..., N, D) over i"
_MANY = "(..., M, K) array, or (..., M, K, D) for D > 1"

REDUCTION_METHODS: dict[str, ReductionMethod] = {
    "sum": ReductionMethod("Sum", "The sum over i or j, or over the components.", _VALUES),
    "logsumexp": ReductionMethod("LogSumExp", "log sum exp(x), or log sum weight exp(x).", _VALUES),
    "sumsoftmaxweight": ReductionMethod("SumSoftMaxWeight", "sum weight exp(x) / sum exp(x).", _VALUES),
    "min": ReductionMethod("Min", "The smallest value over i or j, or among the components.", _VALUES),
    "max": ReductionMethod("Max", "The largest value over i or j, or among the components.", _VALUES),
    "argmin": ReductionMethod("ArgMin", "The index of the smallest value, the first of equal ones.", _INDICES),
    "argmax": ReductionMethod("ArgMax", "The index of the largest value, the first of equal ones.", _INDICES),
    "min_argmin": ReductionMethod("Min_ArgMin", "The smallest values and their indices.", "tuple of two arrays"),
    "max_argmax": ReductionMethod("Max_ArgMax", "The largest values and their indices.", "tuple of two arrays"),
    "Kmin": ReductionMethod("KMin", "The K smallest values in ascending order; inf if there are fewer.", _MANY),
    "argKmin": ReductionMethod("ArgKMin", "The indices of the K smallest values; -1 if there are fewer.", _MANY),
    "Kmin_argKmin": ReductionMethod("KMin_ArgKMin", "The K smallest values and their indices.", "tuple of two arrays"),
}  # fmt: skip

_AXIS = """axis, dim : int
    What is reduced: the number of batch dimensions for i, one more for j (0 and 1 without a batch); or -3 for i and -2
    for j."""
_OPTIONS = """call : bool, default True
    False to get a function that can be called later.
**options
    Those of Genred and of its call: backend, device_id, ranges, truncate, out, dtype_acc, use_double_acc,
    sum_scheme."""


def _checked_axis(axis: Any, dim: Any, name: str) -> int:
    if axis is not None and dim is not None and axis != -1:
        raise KeywordError(f"{name}: axis and dim are two names of one thing, got both, {axis!r} and {dim!r}")
    found = unwrap_whole(axis if dim is None else dim)
    if found is None:
        raise KeywordError(f"{name}: wanted axis= (or dim=), the dimension that is reduced")
    if isinstance(found, bool) or not isinstance(found, (int, np.integer)):
        raise ArgumentError(f"{name}: axis: wanted one whole number, got {found!r}")
    return int(found)


class Reductions(Calculus):
    """Methods that reduce over i or j and return arrays."""

    def reduction(
        self,
        reduction_op: str,
        other: Any = None,
        opt_arg: int | None = None,
        axis: int | None = None,
        dim: int | None = None,
        call: bool = True,
        **options: Any,
    ) -> Any:
        """A reduction by its name in the language.

        Parameters
        ----------
        reduction_op : str
            A reduction of Genred.
        other : LazyTensor or array, optional
            The weight, for LogSumExp and SumSoftMaxWeight.
        opt_arg : int, optional
            K, for KMin and its kin.
        axis, dim : int
            What is reduced: the number of batch dimensions for i, one more for j; or -3 for i and -2 for j.
        call : bool, default True
            False to get a function that can be called later.
        **options
            Those of Genred and of its call.
        """
        wanted = _checked_axis(axis, dim, reduction_op)
        count = self.dim()
        index = (wanted + count if wanted < 0 else wanted) - self.nbatchdims
        if index not in (0, 1):
            n = self.nbatchdims
            raise ArgumentError(
                f"{reduction_op}: axis: wanted {n} or -3 (over i) or {n + 1} or -2 (over j), got {wanted}"
            )
        if other is None:
            exprs, slots, frame = (self.expr,), self.slots, self.frame
        else:
            (first, second), slots, frame = self._join(other)
            exprs = (first, second)  # type: ignore[assignment]
        accuracy = split_accuracy(options)
        opt_arg = unwrap_whole(opt_arg)
        weight = exprs[1] if len(exprs) > 1 else None
        if opt_arg is not None and type(opt_arg) is not int:
            check_reduction(reduction_op, exprs[0], weight, opt_arg)  # before it is looked up, which wants a hash
        sizes = uncounted(frame, *exprs)
        function = make_genred(
            self.library, exprs[0], weight, reduction_op, index, opt_arg, accuracy, sizes
        )  # fmt: skip
        positions = tuple(by_position(*exprs))
        finish = self._restore_batch if frame.batch else None
        return Call(function, slots, positions, frame, self.library, options, finish).now(call)

    def _restore_batch(self, result: Any) -> Any:
        """A result with the batch dimensions of the LazyTensor, if its formula has lost them."""
        if isinstance(result, tuple):
            return tuple(self._restore_batch(r) for r in result)
        batch, shape = self.frame.batch, tuple(result.shape)
        if shape[: len(batch)] == batch or len(shape) >= len(batch) + 2:
            return result
        return self.library.broadcast(result, (*batch, *shape[-2:]))

    def _either(self, op: str, axis: Any, dim: Any, options: dict[str, Any]) -> Any:
        """Over the components for the last dimension, else a reduction."""
        wanted = -1 if axis == -1 and dim is None else _checked_axis(axis, dim, op)
        if wanted not in (-1, self.dim() - 1):
            return self.reduction(op, axis=wanted, **options)
        options = {name: value for name, value in options.items() if name != "keepdim"}
        if options:
            raise KeywordError(f"{op} over the components takes no {', '.join(options)}")
        return self._new(self.expr) if op == "Sum" and self.expr.dim == 1 else self._apply(op)


def _with_docstring(function: Any, name: str, first: str = "") -> Any:
    row = REDUCTION_METHODS[name.removesuffix("_reduction")]
    sections = "\n".join(part for part in (first, _AXIS, _OPTIONS) if part)
    function.__name__, function.__qualname__ = name, f"LazyTensor.{name}"
    function.__doc__ = f"{row.text}\n\nParameters\n----------\n{sections}\n\nReturns\n-------\n{row.returns}"
    return function


def _over_rows_or_components(name: str, op: str) -> Any:
    def method(self: Reductions, axis: int = -1, dim: int | None = None, **options: Any) -> Any:
        return self._either(op, axis, dim, options)

    return _with_docstring(method, name)


def _over_rows(name: str, op: str) -> Any:
    def method(self: Reductions, axis: int | None = None, dim: int | None = None, **options: Any) -> Any:
        return self.reduction(op, axis=axis, dim=dim, **options)

    return _with_docstring(method, name)


def _of_many(name: str, op: str) -> Any:
    def method(self: Reductions, K: int, axis: int | None = None, dim: int | None = None, **options: Any) -> Any:
        return self.reduction(op, opt_arg=K, axis=axis, dim=dim, **options)

    return _with_docstring(method, name, "K : int\n    How many.")


def _logsumexp(name: str) -> Any:
    def method(
        self: Reductions, axis: int | None = None, dim: int | None = None, weight: Any = None, **options: Any
    ) -> Any:
        if weight is not None:
            if "other" in options:
                raise KeywordError("logsumexp: weight and other are two names of one thing, got both")
            options["other"] = weight
        return self.reduction("LogSumExp", axis=axis, dim=dim, **options)

    return _with_docstring(method, name, "weight : LazyTensor or array, optional\n    Factors of the exponentials.")


def _softmax_mean(name: str) -> Any:
    def method(
        self: Reductions, weight: Any = None, axis: int | None = None, dim: int | None = None, **options: Any
    ) -> Any:
        if (weight is None) == ("other" not in options):
            got = "neither" if weight is None else "both"
            raise KeywordError(
                f"sumsoftmaxweight: wanted weight (or other), the vectors whose mean is taken, got {got}"
            )
        return self.reduction("SumSoftMaxWeight", options.pop("other", weight), axis=axis, dim=dim, **options)

    return _with_docstring(method, name, "weight : LazyTensor or array\n    The vectors whose mean is taken.")


Class = TypeVar("Class", bound=type)


def with_reductions(cls: Class) -> Class:
    """A decorator that gives a class the reductions of the table, each as ``..._reduction`` too."""
    for name, row in REDUCTION_METHODS.items():
        for spelled in (name, f"{name}_reduction"):
            if name == "logsumexp":
                made = _logsumexp(spelled)
            elif name == "sumsoftmaxweight":
                made = _softmax_mean(spelled)
            elif "K" in name:
                made = _of_many(spelled, row.op)
            elif row.op in COMPONENTWISE and spelled == name:
                made = _over_rows_or_components(spelled, row.op)
            else:
                made = _over_rows(spelled, row.op)
            setattr(cls, spelled, made)
    return cls


__all__ = ["ACCURACY", "REDUCTION_METHODS", "Call", "Reductions", "make_genred", "with_reductions"]
