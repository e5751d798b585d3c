"""A formula over slots, with a frame: what every part of LazyTensor is built on."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np

from ...arrays.arguments import is_scalar, is_tensor, to_float, unwrap_whole
from ...errors import ArgumentError, DtypeError, ShapeError
from ...formula.defined import call
from ...formula.expr import Expr, const, text, variable
from ...formula.ops import VARIABLES
from ...ranges import Ranges
from .frame import EMPTY, Frame, check_batch, join_frames
from .library import LazyLibrary
from .slots import Slot, Slots, join_slots, move

if TYPE_CHECKING:
    from typing import Self

FLOATS = ("float16", "float32", "float64")
LARGEST_CONSTANT = 1024  # numbers up to this one may be constants of the formula; larger ones are parameters
CONSTANT_STEP = 64  # and so are those that are no whole number of 1/64


def is_constant(value: float) -> bool:
    """Whether a number is written into the formula: a whole number or a short fraction, such as 2 or -0.5.

    A formula with another constant is another program, which has to be made. Lengths and temperatures that change from
    step to step are therefore parameters, and so are infinities and NaN.
    """
    return abs(value) <= LARGEST_CONSTANT and value * CONSTANT_STEP == int(value * CONSTANT_STEP)


@lru_cache(maxsize=8192)
def applied(op: str, params: tuple[Any, ...], *operands: Expr) -> Expr:
    """An operation of the language on formulas; loops ask for the same ones again and again."""
    return call(op, *operands, params=params)


Operand = tuple[Expr, Slots, Frame]

_constant = lru_cache(maxsize=1024)(const)


@lru_cache(maxsize=256)
def _variable(kind: str, length: int) -> Expr:
    return variable(kind, 0, length)


def number_operand(x: Any) -> Operand:
    """A number as an operand: a constant of the formula, or a parameter."""
    number = to_float(x, "a number")
    if is_constant(number):
        if number == 0:
            return const(number), (), EMPTY  # 0.0 and -0.0 are equal, and not the same
        return _constant(number), (), EMPTY
    return _variable("Pm", 1), (Slot(number, "Pm"),), EMPTY


class BaseLazyTensor:
    """A formula whose variables stand for arrays, numbers, or arguments of a later call; see :class:`LazyTensor`."""

    library: ClassVar[LazyLibrary]
    complex_class: ClassVar[Any]
    is_complex: ClassVar[bool] = False
    __array_ufunc__ = None  # numpy leaves x + K to K.__radd__
    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # == is a formula
    __iter__ = None  # else Python would ask for K[0], K[1], ...

    expr: Expr
    slots: Slots
    frame: Frame

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The methods that the tables add."""

    def __new__(cls, x: Any = None, axis: int | None = None, is_complex: bool = False) -> Any:
        """A ComplexLazyTensor for complex numbers, which is no subclass."""
        if is_complex or cls.looks_complex(x):
            return cls.complex_class(x, axis)
        return object.__new__(cls)

    def __init__(self, x: Any = None, axis: int | None = None, is_complex: bool = False) -> None:
        if self.library.is_array(x):
            self._set_array(x, axis)
        elif axis is not None and axis != 2:
            raise ArgumentError(
                f"axis = {axis!r} goes with {self.library.noun}, got {describe(x)}; "
                "a symbolic variable is made by Vi(position, length)"
            )
        elif is_scalar(x):
            self._set(*number_operand(x))
        elif isinstance(x, list):
            self._set(variable("Pm", 0, len(x)), (Slot(_numbers(x), "Pm"),), EMPTY)
        elif isinstance(x, tuple):
            self._set_symbolic(x)
        elif isinstance(x, type(self)):
            self._set(x.expr, x.slots, x.frame)
        else:
            self._set_other(x)

    @classmethod
    def looks_complex(cls, x: Any) -> bool:
        """Whether x is a complex number, array, list or LazyTensor."""
        if isinstance(x, (float, int, BaseLazyTensor)):
            return False
        if cls.library.is_array(x):
            return cls.library.is_complex(x)
        if isinstance(x, list):
            return any(isinstance(a, (complex, np.complexfloating)) for a in x)
        return isinstance(x, (complex, np.complexfloating)) or getattr(x, "is_complex", False) is True

    def _set_array(self, x: Any, axis: int | None) -> None:
        """x as a variable of i or j or a parameter, by its shape and the axis."""
        self.library.check(x)
        shape = tuple(x.shape)
        kind, values = self._classify(x, shape, axis)
        dtype: str | None = self.library.dtype_name(x)
        length = shape[-1] if shape else 1
        if not shape and kind == "Pm" and dtype not in (*FLOATS, "bool"):
            if not dtype.startswith(("int", "uint")):  # type: ignore[union-attr]
                raise DtypeError(f"wanted float16, float32 or float64, got a number of {dtype}")
        elif dtype not in FLOATS:
            raise DtypeError(f"wanted an array of float16, float32 or float64, got {dtype} of shape {shape}")
        if length < 1:
            raise ShapeError(f"wanted vectors of at least one component, got an array of shape {shape}")
        lead = tuple(values.shape[: -1 if kind == "Pm" else -2])
        rows = None if kind == "Pm" else int(values.shape[-2])
        M, N = (rows if kind == "Vi" else None), (rows if kind == "Vj" else None)
        frame = Frame(lead, M, N, dtype if shape else None)  # one number takes on the dtype of the arrays it meets
        self._set(_variable(kind, length), (Slot(values, kind, x),), frame)

    def _classify(self, x: Any, shape: tuple[int, ...], axis: int | None) -> tuple[str, Any]:
        """The kind of variable that an array is, and its values as (..., rows, D), or (..., D) for a parameter."""
        if axis is None:
            if len(shape) > 2:
                M, N = shape[-3:-1]
                if M != 1 and N != 1:
                    raise ShapeError(
                        f"wanted an array of shape (..., M, 1, D), (..., 1, N, D) or (..., 1, 1, D), got {shape}"
                    )
                if M != 1:
                    return "Vi", self.library.drop_axis(x, -2)
                values = self.library.drop_axis(x, -3)
                return ("Vj", values) if N != 1 else ("Pm", self.library.drop_axis(values, -2))
            if len(shape) == 2:
                raise ShapeError(f"an array of shape {shape} needs axis=0 (rows are i) or axis=1 (rows are j)")
            return "Pm", x
        if isinstance(axis, bool) or axis not in (0, 1, 2):
            raise ArgumentError(f"axis: wanted 0 (rows are i), 1 (rows are j), 2 (a parameter) or None, got {axis!r}")
        if axis in (0, 1):
            if len(shape) < 2:
                raise ShapeError(
                    f"axis = {axis} wants an array of shape (..., rows, D), got {shape}; "
                    ".reshape(-1, 1) makes points of one component of it"
                )
            if len(shape) > 2 and 1 in shape[-3:-1] and shape[-3:-1] != (1, 1):
                raise ShapeError(
                    f"axis = {axis} wants an array of shape (..., rows, D), got {shape}, which may be one of shape "
                    "(..., M, 1, D) or (..., 1, N, D): leave axis out, and pass x[..., :, None, :] for rows i or "
                    "x[..., None, :, :] for rows j"
                )
            return ("Vi", "Vj")[axis], x
        if len(shape) > 2:
            raise ShapeError(f"axis = 2 wants a parameter of shape (D,) or (batch, D), got an array of shape {shape}")
        return "Pm", x

    def _set_symbolic(self, x: tuple[Any, ...]) -> None:
        """A variable that a later call gives: (position, length, category)."""
        x = tuple(map(unwrap_whole, x))
        whole = all(isinstance(k, (int, np.integer)) and not isinstance(k, bool) for k in x)
        if len(x) != 3 or not whole or x[0] < 0 or x[1] < 1 or x[2] not in (0, 1, 2):
            raise ArgumentError(
                "a symbolic variable is (position, length, category), whole numbers, with category 0 for i, 1 for j "
                f"and 2 for a parameter, got {describe(x)}"
            )
        position, length, category = map(int, x)
        kind = VARIABLES[category]
        self._set(variable(kind, 0, length), (Slot(None, kind, None, position, length),), EMPTY)

    def _set_other(self, x: Any) -> None:
        """x that is none of these: what an array library may know besides."""
        self._refuse(x)

    def _refuse(self, x: Any, wanted: str = "") -> NoReturn:
        """What is wrong with an operand that is nothing to compute with."""
        other = ""
        if isinstance(x, BaseLazyTensor):
            other = f": it belongs to {x.library.door}, this one to {self.library.door}"
        elif is_tensor(x):
            other = ": kernelops.torch.LazyTensor takes it, or pass its .numpy()"
        elif isinstance(x, np.ndarray):
            other = ": kernelops.numpy.LazyTensor takes it, or torch.from_numpy makes a tensor of it"
        wanted = wanted or f"wanted a LazyTensor, {self.library.noun}, a number or a list of numbers"
        raise DtypeError(f"{wanted}, got {describe(x)}{other}")

    def _set(self, expr: Expr, slots: Slots, frame: Frame) -> None:
        self.expr, self.slots, self.frame = expr, slots, frame

    # ---- making new ones ----

    def _new(self, expr: Expr, slots: Slots | None = None, frame: Frame | None = None) -> Self:
        """Another one of this class; over the same slots and in the same frame unless given."""
        made = object.__new__(type(self))
        made.expr = expr
        made.slots = self.slots if slots is None else slots
        made.frame = self.frame if frame is None else frame
        return made

    def _zero(self) -> Self:
        """0 for all pairs of this one."""
        return self._new(number_operand(0)[0], (), self.frame)

    def _promote(self, x: Any) -> Self:
        """x as a LazyTensor of this class: itself, an array, a number or a list of numbers."""
        if type(x) is type(self) or (isinstance(x, BaseLazyTensor) and x.library is self.library):
            return x  # type: ignore[return-value]  # of a subclass, perhaps
        if self.looks_complex(x):
            raise DtypeError(f"wanted real numbers, got {describe(x)}: this operation has no complex form")
        if isinstance(x, BaseLazyTensor) or x is None or isinstance(x, (str, tuple)):
            self._refuse(x)
        return type(self)(x)

    def _operand(self, x: Any) -> Operand:
        """x as the formula, the slots and the frame of an operand."""
        if type(x) is type(self):
            return x.expr, x.slots, x.frame
        if is_scalar(x):
            return number_operand(x)
        made = self._promote(x)
        return made.expr, made.slots, made.frame

    def _join(self, *others: Any) -> tuple[list[Expr], Slots, Frame]:
        """The formulas of this one and of others over common slots, these slots, and the common frame."""
        exprs, slots, frame = [self.expr], self.slots, self.frame
        for other in others:
            expr, its_slots, its_frame = self._operand(other)
            slots, moved, its_moved = join_slots(slots, its_slots)
            if moved is not None:
                exprs = [move(e, moved) for e in exprs]
            exprs.append(expr if its_moved is None else move(expr, its_moved))
            frame = join_frames(frame, its_frame)
        return exprs, slots, frame

    def _apply(self, op: str, *others: Any, params: tuple[Any, ...] = (), reverse: bool = False) -> Self:
        """An operation of the language on this one and others; in the reverse order, the others come first."""
        if not others:
            return self._new(applied(op, params, self.expr))
        exprs, slots, frame = self._join(*others)
        if reverse:
            exprs.reverse()
        return self._new(applied(op, params, *exprs), slots, frame)

    # ---- shape and contents ----

    @property
    def _shape(self) -> tuple[int, ...]:
        """(..., M, N, D), of which nothing is dropped; an index that nothing has counted has length 1."""
        frame = self.frame
        return (*frame.batch, 1 if frame.M is None else frame.M, 1 if frame.N is None else frame.N, self.expr.dim)

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., M, N, D), or (..., M, N) for D = 1; an index that nothing has counted has length 1."""
        return self._shape if self.expr.dim > 1 else self._shape[:-1]

    @property
    def ndim(self) -> int:
        """The length D of the vectors, as in KeOps; the number of dimensions is ``dim()``."""
        return self.expr.dim

    def dim(self) -> int:
        """The number of dimensions, that of the vectors included: 3 without a batch."""
        return len(self.frame.batch) + 3

    @property
    def dtype(self) -> str | None:
        """ "float16", "float32" or "float64", a string as in KeOps; None if there are numbers alone."""
        return self.frame.dtype

    @property
    def ni(self) -> int | None:
        """The number of i; None if nothing has said so."""
        return self.frame.M

    @property
    def nj(self) -> int | None:
        """The number of j; None if nothing has said so."""
        return self.frame.N

    @property
    def nbatchdims(self) -> int:
        """The number of batch dimensions."""
        return len(self.frame.batch)

    @property
    def batchdims(self) -> tuple[int, ...] | None:
        """The batch dimensions; None if there are none."""
        return self.frame.batch or None

    @batchdims.setter
    def batchdims(self, batch: Any) -> None:
        self._change_frame(batch=check_batch(batch))

    @property
    def ranges(self) -> Ranges | None:
        """The pairs (i, j) that count. Assigned to, it holds for this one and for what is made of it afterwards."""
        return self.frame.ranges

    @ranges.setter
    def ranges(self, ranges: Any) -> None:
        found = Ranges.of(ranges)
        if found is not None:
            self._check_ranges(found)
        self._change_frame(ranges=found)

    def _check_ranges(self, ranges: Ranges) -> None:
        """Raise a RangesError if a pattern goes beyond the rows i or j, as far as they are counted."""
        M, N = self.frame.M, self.frame.N
        most_i, most_j = ranges.extent
        ranges.check(most_i if M is None else M, most_j if N is None else N)

    @property
    def backend(self) -> str | None:
        """The place where reductions are computed, as for Genred; can be assigned to, as ranges can."""
        return self.frame.backend

    @backend.setter
    def backend(self, backend: str | None) -> None:
        self._change_frame(backend=backend)

    def _change_frame(self, **changes: Any) -> None:
        self.frame = self.frame._replace(**changes)

    @property
    def axis(self) -> int | None:
        """0 for a variable of i, 1 for one of j, 2 for a parameter; None for a formula of these."""
        return VARIABLES.index(self.expr.op) if self.expr.op in VARIABLES else None

    @property
    def formula(self) -> str:
        """The formula as text that Genred reads, with variables by their positions."""
        return text(self.expr)

    @property
    def variables(self) -> tuple[Any, ...]:
        """The arrays and numbers that the variables stand for."""
        return tuple(s.values for s in self.slots if s.position is None)

    @property
    def symbolic_variables(self) -> tuple[tuple[int, int, int], ...]:
        """(position, length, category) of each symbolic variable."""
        return tuple((s.position, s.length, VARIABLES.index(s.kind)) for s in self.slots if s.position is not None)

    def new_variable_index(self) -> int:
        """A position that no symbolic variable has."""
        return 1 + max((s.position for s in self.slots if s.position is not None), default=-1)

    def names(self) -> dict[Expr, str]:
        """The variables by short names: x for i, y for j, p for parameters, numbered."""
        return variable_names(self.expr)

    def __repr__(self) -> str:
        size = f"shape {self.shape}" + (f" of {self.dtype}" if self.dtype else "")
        written = text(self.expr, self.names()) if len(self.expr.vars) < 100 else "..."
        written = written if len(written) <= 300 else written[:300] + "..."
        symbolic = f", symbolic: {list(self.symbolic_variables)}" if self.symbolic_variables else ""
        return f"<{type(self).__name__} {size}: {written}{symbolic}{', block-sparse' * (self.ranges is not None)}>"

    def __bool__(self) -> bool:
        raise ArgumentError(
            "a LazyTensor has no truth value: comparisons are formulas, 0 or 1 for each (i, j), which do not chain; "
            "a reduction makes numbers of them, as in (x_i < y_j).sum(axis=1)"
        )

    def __array__(self, *args: Any, **keywords: Any) -> NoReturn:
        raise DtypeError(
            "a LazyTensor is no array, and numpy's functions do not take it: its methods compute with it, "
            ".to_dense() makes an array of it"
        )

    def __len__(self) -> int:
        return self.shape[0]


def variable_names(*exprs: Expr) -> dict[Expr, str]:
    """The variables of formulas over common slots by short names: x for i, y for j, p for parameters, numbered."""
    letters = {"Vi": "x", "Vj": "y", "Pm": "p"}
    return {v: f"{letters[v.op]}{v.position}" for e in exprs for v in e.vars}


def _numbers(values: list[Any]) -> tuple[float, ...]:
    if not values or not all(is_scalar(a) for a in values):
        raise DtypeError(f"a list stands for a parameter vector: wanted real numbers, got {describe(values)}")
    return tuple(to_float(a, "a number of a list") for a in values)


def describe(x: Any) -> str:
    """The type of an operand, with its value if that is short."""
    if isinstance(x, BaseLazyTensor):
        return repr(x)
    if isinstance(x, (list, tuple)) and len(x) <= 5 and not all(isinstance(a, (int, float, str)) for a in x):
        return f"{type(x).__name__} of {', '.join(type(a).__name__ for a in x)}"
    shown = repr(x) if isinstance(x, (bool, str, int, float, list, tuple)) else ""
    return type(x).__name__ + (f" {shown}" if shown and len(shown) < 60 else "")
