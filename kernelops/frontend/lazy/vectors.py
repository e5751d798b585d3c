"""The methods of a LazyTensor that are more than one operation of the language: clamp, concat, tensor products, ..."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import pi
from typing import TYPE_CHECKING, Any

from ...errors import ArgumentError, ShapeError
from .arithmetic import Arithmetic
from .methods import whole, with_methods

if TYPE_CHECKING:
    from typing import Self


@with_methods
class VectorMethods(Arithmetic):
    """Methods that give LazyTensors, without sums over i or j."""

    def clamp(self, min: Any = None, max: Any = None) -> Any:
        """x held between two bounds, each a number, an array or a LazyTensor; None for no bound.

        Parameters
        ----------
        min, max : LazyTensor, array or number, optional
        """
        if min is None and max is None:
            raise ArgumentError("clamp: wanted min, max or both, got neither")
        # x itself is no bound; so a NaN stays one
        return self._apply("Clamp", self if min is None else min, self if max is None else max)

    def sinc(self) -> Any:
        """sin(pi x)/(pi x); 1 at x = 0."""
        return (self * pi)._apply("SinXDivX")

    def norm(self, dim: int = -1) -> Self:
        """The Euclidean length of x, along the last dimension.

        Parameters
        ----------
        dim : int
            -1, or the number of the last dimension.
        """
        if dim not in (-1, self.dim() - 1):
            raise ArgumentError(f"norm: wanted dim = -1 or {self.dim() - 1}, the components, got {dim!r}")
        return self._apply("Norm2")

    def weightedsqdist(self, other: Any, weights: Any) -> Self:
        """(x - other) . S (x - other), where weights hold a number, the diagonal of S, or S row by row.

        Parameters
        ----------
        other, weights : LazyTensor, array or number
        """
        return self._apply("Subtract", other)._apply("WeightedSqNorm", weights, reverse=True)

    def concat(self, other: Any) -> Any:
        """The components of x, then those of other.

        Parameters
        ----------
        other : LazyTensor, array, number or list of numbers
        """
        if self.looks_complex(other):
            return self.complex_class.of(self).concat(other)
        return self._apply("Concat", other)

    def real2complex(self) -> Any:
        """The complex numbers whose real part is x, a ComplexLazyTensor."""
        return self.complex_class.of(self)

    def imag2complex(self) -> Any:
        """The complex numbers i x, a ComplexLazyTensor."""
        return self.complex_class.of_parts(self._zero(), self)

    def exp1j(self) -> Any:
        """The complex numbers exp(i x) of absolute value 1, a ComplexLazyTensor."""
        return self.complex_class.of_parts(self.cos(), self.sin())

    @classmethod
    def concatenate(cls, tensors: Sequence[Any], axis: int = -1) -> Self:
        """The components of several LazyTensors, one after another.

        Parameters
        ----------
        tensors : sequence of LazyTensor, array or number
        axis : int
            -1, or the number of the last dimension.
        """
        if not isinstance(tensors, (tuple, list)) or not tensors:
            raise ArgumentError(f"concatenate: wanted a sequence of LazyTensors, got {type(tensors).__name__}")
        first = tensors[0] if isinstance(tensors[0], cls) else cls(tensors[0])
        found: Self = reduce(lambda a, b: a.concat(b), tensors[1:], first)
        if axis not in (-1, found.dim() - 1):
            raise ArgumentError(f"concatenate: wanted axis = -1 or {found.dim() - 1}, the components, got {axis!r}")
        return found

    @classmethod
    def cat(cls, tensors: Sequence[Any], dim: int = -1) -> Self:
        """The components of several LazyTensors, one after another; ``concatenate`` by torch's name.

        Parameters
        ----------
        tensors : sequence of LazyTensor, array or number
        dim : int
            -1, or the number of the last dimension.
        """
        return cls.concatenate(tensors, dim)

    def keops_tensordot(self, other: Any, dimsf: Any, dimsg: Any, contf: Any, contg: Any, permute: Any = None) -> Any:
        """x and other as row-major tensors, contracted; the operation TensorDot of the language.

        Parameters
        ----------
        other : LazyTensor or array
        dimsf, dimsg : int or sequence of int
            The dimensions of the two tensors.
        contf, contg : int or sequence of int
            Which of them are contracted with each other.
        permute : sequence of int, optional
            Dimension k of what remains becomes dimension permute[k].
        """
        if self.looks_complex(other):
            return self.complex_class.of(self).keops_tensordot(other, dimsf, dimsg, contf, contg, permute)
        lists = [_whole_numbers(a) for a in (dimsf, dimsg, contf, contg, *(() if permute is None else (permute,)))]
        return self._apply("TensorDot", other, params=tuple(lists))

    def keops_kron(self, other: Any, dimsf: Sequence[int], dimsg: Sequence[int]) -> Any:
        """The Kronecker product of x and other as row-major tensors, as ``numpy.kron``.

        Parameters
        ----------
        other : LazyTensor or array
        dimsf, dimsg : sequence of int
            The dimensions of the two tensors, as many of one as of the other.
        """
        if self.looks_complex(other):
            return self.complex_class.of(self).keops_kron(other, dimsf, dimsg)
        first, second = _whole_numbers(dimsf), _whole_numbers(dimsg)
        if len(first) != len(second):
            raise ShapeError(f"keops_kron: {len(first)} and {len(second)} dimensions, wanted as many of both tensors")
        n = len(first)
        order = (*range(0, 2 * n, 2), *range(1, 2 * n, 2))
        return self._apply("TensorDot", other, params=(first, second, (), (), order))


def _whole_numbers(values: Any) -> tuple[int, ...]:
    """A list of dimensions; a number stands for a list of one."""
    if isinstance(values, (str, bytes)) or (values is not None and not hasattr(values, "__iter__")):
        return (whole(values, "a dimension"),)
    if values is None:
        raise ArgumentError("wanted a list of dimensions, got None")
    return tuple(whole(v, "a dimension") for v in values)
