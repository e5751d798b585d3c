"""ComplexLazyTensor: complex numbers as pairs of LazyTensors, real and imaginary part.

Every operation is arithmetic on the parts, so that values, derivatives and bounds are those of real formulas, and no
machine has complex numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...arrays.arguments import is_scalar, to_float
from ...errors import ArgumentError, DtypeError
from ...formula.definition import stretch
from .base import BaseLazyTensor
from .complex_products import ComplexProducts
from .frame import join_frames
from .lazy_tensor import LazyTensor
from .methods import whole
from .products import check_no_out
from .reductions import Call, _checked_axis

if TYPE_CHECKING:
    from typing import Self

_COMPLEX_OF = {"float32": "complex64", "float64": "complex128", "float16": "complex32", None: None}


class ComplexLazyTensor(ComplexProducts):
    """Complex vectors f(x_i, y_j) for all pairs (i, j), as a pair of LazyTensors.

    Parameters
    ----------
    x : array or list of complex numbers, or a complex number
        As for LazyTensor; its parts are views.
    axis : {0, 1, 2}, optional
        As for LazyTensor.

    Attributes
    ----------
    real, imag : LazyTensor
        The parts.

    See Also
    --------
    LazyTensor

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops.numpy import LazyTensor
    >>> z = LazyTensor(np.array([[[1j]], [[2.0]]]))  # two complex numbers, indexed by i
    >>> (z * z.conj() + 1j).sum(axis=0)
    array([[5.+2.j]])
    """

    real_class: ClassVar[type[LazyTensor]]
    is_complex: ClassVar[bool] = True
    __array_ufunc__ = None
    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # == is a formula
    __iter__ = None

    real: Any
    imag: Any

    def __init__(self, x: Any = None, axis: int | None = None) -> None:
        library = self.real_class.library
        if isinstance(x, ComplexLazyTensor):
            parts: tuple[Any, Any] = (x.real, x.imag)
        elif isinstance(x, BaseLazyTensor):
            parts = (x, x._zero())
        elif isinstance(x, list):
            numbers = np.asarray(x)
            if numbers.dtype.kind not in "iufc":
                raise DtypeError(f"wanted a list of complex numbers, got {x!r}")
            parts = (numbers.real.tolist(), numbers.imag.tolist())
        elif isinstance(x, (complex, np.complexfloating)) or is_scalar(x):
            parts = (float(x.real), float(x.imag))
        elif library.is_array(x) and library.is_complex(x):
            parts = (x.real, x.imag)
        elif library.is_array(x):
            if not x.shape or x.shape[-1] % 2:
                raise ArgumentError(
                    f"is_complex: wanted real and imaginary parts by turns, got an array of shape {tuple(x.shape)}"
                )
            parts = (x[..., 0::2], x[..., 1::2])
        else:
            self.real_class._refuse(object.__new__(self.real_class), x)
        self.real, self.imag = (p if isinstance(p, LazyTensor) else self.real_class(p, axis) for p in parts)

    @classmethod
    def of(cls, x: Any) -> Self:
        """The operand x as a complex LazyTensor of this class."""
        return x if isinstance(x, cls) else cls(x)

    @classmethod
    def of_parts(cls, real: LazyTensor, imag: LazyTensor) -> Self:
        """The complex numbers with these parts.

        Parameters
        ----------
        real, imag : LazyTensor

        Returns
        -------
        ComplexLazyTensor
        """
        made = object.__new__(cls)
        made.real, made.imag = real, imag
        return made

    def _new(self, real: LazyTensor, imag: LazyTensor) -> Self:
        return self.of_parts(real, imag)

    def _parts(self, z: Any) -> tuple[Any, Any]:
        """Real and imaginary part of an operand; None for the latter if it is real."""
        if isinstance(z, type(self)):
            return z.real, z.imag
        if not isinstance(z, BaseLazyTensor) and self.real_class.looks_complex(z):
            z = type(self)(z)
            return z.real, z.imag
        return self.real._promote(z), None

    # ---- shape and contents ----

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., M, N, D), or (..., M, N) for D = 1."""
        return self._shape if self.ndim > 1 else self._shape[:-1]

    @property
    def _shape(self) -> tuple[int, ...]:
        a, b = self.real._shape, self.imag._shape
        lead = np.broadcast_shapes(a[:-1], b[:-1])
        return (*lead, max(a[-1], b[-1]))

    @property
    def ndim(self) -> int:
        """The length D of the vectors."""
        return max(int(self.real.ndim), int(self.imag.ndim))

    def dim(self) -> int:
        """The number of dimensions, that of the vectors included."""
        return max(int(self.real.dim()), int(self.imag.dim()))

    @property
    def dtype(self) -> str | None:
        """ "complex64" or "complex128"; None if there are numbers alone."""
        return _COMPLEX_OF[self.real.dtype or self.imag.dtype]

    @property
    def nbatchdims(self) -> int:
        """The number of batch dimensions."""
        return self.dim() - 3

    @property
    def ranges(self) -> Any:
        """The pairs (i, j) that count; can be assigned to."""
        return self.real.ranges

    @ranges.setter
    def ranges(self, ranges: Any) -> None:
        self._own_parts()
        self.real.ranges = ranges
        self.imag.ranges = self.real.ranges

    @property
    def backend(self) -> Any:
        """The place where reductions are computed; can be assigned to."""
        return self.real.backend

    @backend.setter
    def backend(self, backend: Any) -> None:
        self._own_parts()
        self.real.backend = self.imag.backend = backend

    def _own_parts(self) -> None:
        """Share the parts with no other one: what is set of these is set of this one alone."""
        self.real, self.imag = +self.real, +self.imag

    @property
    def ni(self) -> int | None:
        """The number of i; None if nothing has said so."""
        return self.real.ni if self.real.ni is not None else self.imag.ni  # type: ignore[no-any-return]

    @property
    def nj(self) -> int | None:
        """The number of j; None if nothing has said so."""
        return self.real.nj if self.real.nj is not None else self.imag.nj  # type: ignore[no-any-return]

    @property
    def batchdims(self) -> tuple[int, ...] | None:
        """The batch dimensions; None if there are none."""
        return self._shape[:-3] or None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} shape {self.shape} of {self.dtype}: {self.real!r} + i {self.imag!r}>"

    def __bool__(self) -> bool:
        return bool(self.real)

    def __len__(self) -> int:
        return self.shape[0]

    # ---- arithmetic ----

    def __pos__(self) -> Self:
        return self._new(self.real, self.imag)  # another one, whose ranges can be set by themselves

    def __neg__(self) -> Self:
        return self._new(-self.real, -self.imag)

    def __add__(self, z: Any) -> Self:
        a, b = self._parts(z)
        return self._new(self.real + a, self._widen(self.imag, a) if b is None else self.imag + b)

    __radd__ = __add__

    def __sub__(self, z: Any) -> Any:
        a, b = self._parts(z)
        return self._new(self.real - a, self._widen(self.imag, a) if b is None else self.imag - b)

    def __rsub__(self, z: Any) -> Any:
        return -self + z

    def __mul__(self, z: Any) -> Self:
        a, b = self._parts(z)
        if b is None:
            return self._new(self.real * a, self.imag * a)
        return self._new(self.real * a - self.imag * b, self.real * b + self.imag * a)

    __rmul__ = __mul__

    def __truediv__(self, z: Any) -> Any:
        a, b = self._parts(z)
        if b is None:
            return self._new(self.real / a, self.imag / a)
        return self * self._new(a, -b) / (a * a + b * b)

    def __rtruediv__(self, z: Any) -> Any:
        return type(self).of(self.real._promote(z) if not self.real_class.looks_complex(z) else z) / self

    def __pow__(self, exponent: Any) -> Any:
        """A power: of a whole exponent by products, of any other one by exp and log of the principal branch."""
        if is_scalar(exponent) and abs(number := to_float(exponent, "the exponent")) < 2**31 and number.is_integer():
            return self._whole_power(int(number))
        return (self.log() * exponent).exp()

    def _whole_power(self, n: int) -> Any:
        if n < 0:
            return 1 / self._whole_power(-n)
        result: Any = None
        square: Any = self
        while n:
            if n % 2:
                result = square if result is None else result * square
            n //= 2
            square = square * square if n else square
        return self * 0 + 1 if result is None else result

    power = __pow__

    def __rpow__(self, base: Any) -> Any:
        return (self * type(self).of(base).log()).exp()

    def __eq__(self, z: object) -> Any:
        a, b = self._parts(z)
        return (self.real == a) * (self.imag == (0 if b is None else b))

    def __ne__(self, z: object) -> Any:
        return 1 - (self == z)

    def _refuse_order(self, z: Any) -> Any:
        raise DtypeError("complex numbers have no order: compare .real, .imag or abs()")

    __lt__ = __le__ = __gt__ = __ge__ = _refuse_order

    def __or__(self, z: Any) -> Any:
        """The sum of the products of components, without a conjugate."""
        return (self * z).sum(-1)

    __ror__ = __or__

    def _widen(self, part: LazyTensor, other: LazyTensor) -> Any:
        """A part over the indices and the length of a sum with an operand that does not touch it."""
        return part + other * 0

    # ---- methods ----

    def conj(self) -> Self:
        """The complex conjugate."""
        return self._new(self.real, -self.imag)

    def __abs__(self) -> Any:
        return self.square_abs().sqrt()

    def abs(self) -> Any:
        """The absolute value, a LazyTensor."""
        return self.__abs__()

    def square_abs(self) -> Any:
        """The squared absolute value, a LazyTensor."""
        return self.real * self.real + self.imag * self.imag

    def angle(self) -> Any:
        """The argument, from -pi to pi, a LazyTensor."""
        return self.imag.atan2(self.real)

    def exp(self) -> Self:
        """exp(z)."""
        size = self.real.exp()
        return self._new(size * self.imag.cos(), size * self.imag.sin())

    def log(self) -> Self:
        """The principal logarithm of z."""
        return self._new(self.square_abs().log() / 2, self.angle())

    def sqrt(self) -> Self:
        """The square root of z with a real part that is not negative."""
        # the larger part first, and the other one from it: no difference of nearly equal numbers
        larger = ((abs(self) + self.real.abs()) / 2).sqrt()
        smaller = self.imag / (2 * larger + (larger == 0))
        signed = self.imag.ifelse(larger, -larger)
        return self._new(self.real.ifelse(larger, smaller.abs()), self.real.ifelse(smaller, signed))

    def square(self) -> Self:
        """z*z."""
        return self * self

    def cos(self) -> Self:
        """cos(z)."""
        e = self.imag.exp()
        return self._new(self.real.cos() * (e + 1 / e) / 2, self.real.sin() * (1 / e - e) / 2)

    def sin(self) -> Self:
        """sin(z)."""
        e = self.imag.exp()
        return self._new(self.real.sin() * (e + 1 / e) / 2, self.real.cos() * (e - 1 / e) / 2)

    def sqnorm2(self) -> Any:
        """The squared Euclidean length, a LazyTensor."""
        return self.square_abs().sum(-1)

    def norm2(self) -> Any:
        """The Euclidean length, a LazyTensor."""
        return self.sqnorm2().sqrt()

    def real2complex(self) -> Self:
        """The same complex numbers."""
        return +self

    def __getitem__(self, key: Any) -> Self:
        wide = self._equally_long()
        return self._new(wide.real[key], wide.imag[key])

    def elem(self, k: int) -> Self:
        """Component k, a ComplexLazyTensor of length 1."""
        return self[whole(k, "elem: k")]

    def extract(self, start: int, n: int) -> Self:
        """Components start to start + n - 1."""
        wide = self._equally_long()
        return self._new(wide.real.extract(start, n), wide.imag.extract(start, n))

    def concat(self, other: Any) -> Self:
        """The components of this one, then those of other.

        Parameters
        ----------
        other : ComplexLazyTensor, LazyTensor, array or number
        """
        a, b = self._equally_long(), type(self).of(other)._equally_long()
        return self._new(a.real.concat(b.real), a.imag.concat(b.imag))

    @classmethod
    def concatenate(cls, tensors: Sequence[Any], axis: int = -1) -> Self:
        """The components of several ones, one after another.

        Parameters
        ----------
        tensors : sequence of ComplexLazyTensor, LazyTensor, array or number
        axis : int
            -1, or the number of the last dimension.
        """
        if not isinstance(tensors, (tuple, list)) or not tensors:
            raise ArgumentError(f"concatenate: wanted a sequence of LazyTensors, got {type(tensors).__name__}")
        found = cls.of(tensors[0])
        for z in tensors[1:]:
            found = found.concat(z)
        if axis not in (-1, found.dim() - 1):
            raise ArgumentError(f"concatenate: wanted axis = -1 or {found.dim() - 1}, the components, got {axis!r}")
        return found

    @classmethod
    def cat(cls, tensors: Sequence[Any], dim: int = -1) -> Self:
        """The components of several ones, one after another; ``concatenate`` by torch's name.

        Parameters
        ----------
        tensors : sequence of ComplexLazyTensor, LazyTensor, array or number
        dim : int
            -1, or the number of the last dimension.
        """
        return cls.concatenate(tensors, dim)

    def _equally_long(self) -> Self:
        """The same with parts of one length, over the same indices."""
        D, frame = self.ndim, join_frames(self.real.frame, self.imag.frame)
        parts = (self.real, self.imag)
        return self._new(*(z._new(z.expr if z.ndim == D else stretch(z.expr, D), z.slots, frame) for z in parts))

    # ---- matrices and reductions ----

    def t(self) -> Self:
        """The transpose, not conjugated."""
        return self._new(self.real.t(), self.imag.t())

    T = property(t)

    @property
    def H(self) -> Self:
        """The conjugate transpose."""
        return self.t().conj()

    def __matmul__(self, v: Any, **options: Any) -> Any:
        """The product with v, real or complex: a vector (N,), or columns (..., N, E)."""
        library = self.real.library
        check_no_out(options)
        if library.is_array(v) and library.is_complex(v):
            rotated = self._new(-self.imag, self.real)
            return self.__matmul__(v.real, **options) + rotated.__matmul__(v.imag, **options)
        wide = self._equally_long()
        return library.join_complex(wide.real.__matmul__(v, **options), wide.imag.__matmul__(v, **options))

    def __rmatmul__(self, v: Any) -> Any:
        library = self.real.library
        if not library.is_array(v) or len(v.shape) < 2:
            return self.t() @ v
        return library.exchange_axes(self.t() @ library.exchange_axes(v))

    def matvec(self, v: Any) -> Any:
        """The product Z @ v, by SciPy's name."""
        return self @ v

    def rmatvec(self, v: Any) -> Any:
        """The product Z.H @ v, by SciPy's name."""
        return self.H @ v

    def sum(self, axis: int = -1, dim: int | None = None, **options: Any) -> Any:
        """The sum over i or j, a complex array, or over the components, a ComplexLazyTensor.

        Parameters
        ----------
        axis, dim : int
            What is summed, as for a LazyTensor.
        **options
            Those of a reduction.
        """
        wanted = _checked_axis(axis, dim, "sum")
        wide = self._equally_long()
        if wanted in (-1, self.dim() - 1):
            return self._new(wide.real.sum(-1, **options), wide.imag.sum(-1, **options))
        check_no_out(options)
        D, library = self.ndim, self.real.library

        def join(both: Any) -> Any:
            return library.join_complex(both[..., :D], both[..., D:])

        both = wide.real.concat(wide.imag).sum(wanted, **options)  # one pass over the pairs for both
        return both.followed_by(join) if isinstance(both, Call) else join(both)

    sum_reduction = sum

    def to_dense(self, max_bytes: int = 1 << 30, **options: Any) -> Any:
        """The formula at all pairs, as a complex array of the shape of the LazyTensor.

        Parameters
        ----------
        max_bytes : int, default 2**30
            The largest array that is made.
        **options
            backend and device_id, as for a reduction.
        """
        if not is_scalar(max_bytes):
            raise ArgumentError(f"max_bytes: wanted a number of bytes, got {max_bytes!r}")
        return self._entries("to_dense", max_bytes / 2, **options)

    def rows(self, indices: Any, **options: Any) -> Any:
        """Rows of the matrix, a complex array.

        Parameters
        ----------
        indices : sequence of int
            The i that are wanted, in any order.
        **options
            backend and device_id, as for a reduction.
        """
        return self._entries("rows", indices, **options)

    def block(self, rows: Any, columns: Any, **options: Any) -> Any:
        """Rows and columns of the matrix, a complex array.

        Parameters
        ----------
        rows, columns : sequence of int
            The i and the j that are wanted, in any order.
        **options
            backend and device_id, as for a reduction.
        """
        return self._entries("block", rows, columns, **options)

    def diagonal(self, **options: Any) -> Any:
        """The entries (i, i), a complex array.

        Parameters
        ----------
        **options
            backend and device_id, as for a reduction.
        """
        return self._entries("diagonal", **options)

    def _entries(self, name: str, *args: Any, **options: Any) -> Any:
        """Entries of both parts, over the same indices, as complex numbers."""
        wide = self._equally_long()
        parts = (getattr(part, name)(*args, **options) for part in (wide.real, wide.imag))
        return self.real.library.join_complex(*parts)


def connect(real: type[LazyTensor], complex_: type[ComplexLazyTensor]) -> None:
    """Have a class of real and a class of complex LazyTensors know each other."""
    real.complex_class, complex_.real_class = complex_, real
