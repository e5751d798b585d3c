"""The operators of Python on LazyTensors: + - * / ** |, comparisons, and components by []."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...arrays.arguments import is_scalar, to_float, unwrap_whole
from ...errors import ArgumentError, ShapeError
from .base import BaseLazyTensor, applied

if TYPE_CHECKING:
    from typing import Self

_POWERS = {2.0: "Square", 0.5: "Sqrt", -0.5: "Rsqrt"}  # exponents that have an operation of their own

Method = Callable[[Any, Any], Any]


def _both_sides(op: str, operator: str) -> tuple[Method, Method]:
    """The methods for self op other and for other op self."""

    def left(self: BaseLazyTensor, other: Any) -> Any:
        if type(other) is not type(self) and self.looks_complex(other):
            return getattr(self.complex_class.of(self), f"__{operator}__")(other)
        (a, b), slots, frame = self._join(other)
        return self._new(applied(op, (), a, b), slots, frame)

    def right(self: BaseLazyTensor, other: Any) -> Any:
        if self.looks_complex(other):
            return getattr(self.complex_class.of(self), f"__r{operator}__")(other)
        return self._apply(op, other, reverse=True)

    for function, name in ((left, f"__{operator}__"), (right, f"__r{operator}__")):
        function.__name__, function.__qualname__ = name, f"LazyTensor.{name}"
    return left, right


class Arithmetic(BaseLazyTensor):
    """Operators; vectors have equal lengths, or one of them has length 1 and is stretched."""

    __hash__: ClassVar[None] = None  # == is a formula

    __add__, __radd__ = _both_sides("Add", "add")
    __sub__, __rsub__ = _both_sides("Subtract", "sub")
    __mul__, __rmul__ = _both_sides("Mult", "mul")
    __truediv__, __rtruediv__ = _both_sides("Divide", "truediv")

    def __or__(self, other: Any) -> Any:
        """The dot product of two vectors, of length 1."""
        if self.looks_complex(other):
            return self.complex_class.of(self) | other
        return self._apply("Scalprod", other)

    def __ror__(self, other: Any) -> Any:
        if self.looks_complex(other):
            return self | other  # the product commutes, and has no conjugate
        return self._apply("Scalprod", other, reverse=True)

    def __neg__(self) -> Self:
        return self._apply("Minus")

    def __pos__(self) -> Self:
        return self._new(self.expr)  # another one, whose ranges can be set by themselves

    def __abs__(self) -> Self:
        return self._apply("Abs")

    def __pow__(self, exponent: Any) -> Any:
        """A power: of a whole exponent by products, of any other one by exp and log, nan for negative numbers."""
        if not is_scalar(exponent):
            if self.looks_complex(exponent):
                return self.complex_class.of(self) ** exponent
            return self._apply("Powf", exponent)
        number = to_float(exponent, "the exponent")
        if number in _POWERS:
            return self._apply(_POWERS[number])
        if np.isfinite(number) and number == int(number) and abs(number) < 2**31:
            return self._apply("Pow", params=(int(number),))
        return self._apply("Powf", exponent)

    def __rpow__(self, base: Any) -> Any:
        if self.looks_complex(base):
            return self.complex_class.of(base) ** self
        return self._apply("Powf", base, reverse=True)

    def power(self, exponent: Any) -> Any:
        """The power ``self ** exponent``; exponents 2, 0.5 and -0.5 are Square, Sqrt and Rsqrt.

        Parameters
        ----------
        exponent : number, array or LazyTensor
        """
        return self**exponent

    def __eq__(self, other: object) -> Any:
        if self.looks_complex(other):
            return self.complex_class.of(self) == other
        return self._apply("Equal", other)

    def __ne__(self, other: object) -> Any:
        if self.looks_complex(other):
            return self.complex_class.of(self) != other
        return self._apply("NotEqual", other)

    def __lt__(self, other: Any) -> Self:
        return self._apply("LessThan", other)

    def __le__(self, other: Any) -> Self:
        return self._apply("LessOrEqual", other)

    def __gt__(self, other: Any) -> Self:
        return self._apply("LessThan", other, reverse=True)

    def __ge__(self, other: Any) -> Self:
        return self._apply("LessOrEqual", other, reverse=True)

    def __getitem__(self, key: Any) -> Self:
        """Components: ``x[k]``, ``x[a:b]``, ``x[..., k]``, ``x[:, :, a:b]``; negative k count from the end.

        A LazyTensor of length 1 as k looks components up: ``x[k]`` is component round(k), and 0 if there is none.
        """
        if isinstance(key, tuple):
            if not key or not all(k is Ellipsis or (isinstance(k, slice) and k == slice(None)) for k in key[:-1]):
                raise ArgumentError(
                    f"only the components of a LazyTensor, its last dimension, can be taken by [], got {key!r}"
                )
            key = key[-1]
        length, key = self.expr.dim, unwrap_whole(key)
        if isinstance(key, slice):
            key = slice(*map(unwrap_whole, (key.start, key.stop, key.step)))
            if not all(k is None or isinstance(k, (int, np.integer)) for k in (key.start, key.stop, key.step)):
                raise ArgumentError(f"a slice of components is of whole numbers, got {key!r}")
            if key.step not in (None, 1):
                raise ArgumentError(f"a slice of components has no step, got {key!r}")
            start, stop, _ = key.indices(length)
            if stop <= start:
                raise ShapeError(f"components {key.start}:{key.stop} of a vector of length {length} are none")
            return self._apply("Extract", params=(start, stop - start))
        if isinstance(key, BaseLazyTensor):
            if key.expr.dim != 1:
                raise ShapeError(f"x[k] looks up one component: wanted a k of length 1, got length {key.expr.dim}")
            return self._apply("Scalprod", key._apply("OneHot", params=(length,)))
        if isinstance(key, bool) or not isinstance(key, (int, np.integer)):
            raise ArgumentError(
                f"wanted a whole number, a slice or a LazyTensor for components of a LazyTensor, got {key!r}"
            )
        return self._component(int(key))

    def _component(self, k: int) -> Self:
        length = self.expr.dim
        if not -length <= k < length:
            raise ShapeError(f"component {k} of a vector of length {length}: wanted {-length} to {length - 1}")
        return self._apply("Extract", params=(k % length, 1))
