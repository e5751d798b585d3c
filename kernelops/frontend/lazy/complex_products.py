"""Products of matrices and tensors of complex numbers: they are linear in each factor, so real ones of the parts do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self


class ComplexProducts:
    """Methods of a ComplexLazyTensor; the other factor may be real, and nothing is conjugated."""

    if TYPE_CHECKING:

        @classmethod
        def of(cls, x: Any) -> Self: ...
        def _equally_long(self) -> Self: ...
        def _parts(self, z: Any) -> tuple[Any, Any]: ...
        def _new(self, real: Any, imag: Any) -> Self: ...

        real: Any
        imag: Any

    def matvecmult(self, other: Any) -> Self:
        """The matrix z, row by row, times the vector other.

        Parameters
        ----------
        other : ComplexLazyTensor, LazyTensor, array, number or list of numbers
        """
        return self._multiplied("matvecmult", other)

    def vecmatmult(self, other: Any) -> Self:
        """The row vector z times the matrix other, row by row.

        Parameters
        ----------
        other : ComplexLazyTensor, LazyTensor, array, number or list of numbers
        """
        return self._multiplied("vecmatmult", other)

    def tensorprod(self, other: Any) -> Self:
        """All products z[k] other[l], row by row.

        Parameters
        ----------
        other : ComplexLazyTensor, LazyTensor, array, number or list of numbers
        """
        return self._multiplied("tensorprod", other)

    def keops_tensordot(self, other: Any, dimsf: Any, dimsg: Any, contf: Any, contg: Any, permute: Any = None) -> Self:
        """z and other as row-major tensors, contracted, as :meth:`LazyTensor.keops_tensordot`.

        Parameters
        ----------
        other : ComplexLazyTensor, LazyTensor or array
        dimsf, dimsg : int or sequence of int
            The dimensions of the two tensors.
        contf, contg : int or sequence of int
            Which of them are contracted with each other.
        permute : sequence of int, optional
            Dimension k of what remains becomes dimension permute[k].
        """
        return self._multiplied("keops_tensordot", other, dimsf, dimsg, contf, contg, permute)

    def keops_kron(self, other: Any, dimsf: Sequence[int], dimsg: Sequence[int]) -> Self:
        """The Kronecker product of z and other as row-major tensors, as ``numpy.kron``.

        Parameters
        ----------
        other : ComplexLazyTensor, LazyTensor or array
        dimsf, dimsg : sequence of int
            The dimensions of the two tensors, as many of one as of the other.
        """
        return self._multiplied("keops_kron", other, dimsf, dimsg)

    def _multiplied(self, product: str, other: Any, *params: Any) -> Self:
        """A product with other, of the products of the parts."""
        z = self._equally_long()
        real, imag = self._parts(other)

        def of(a: Any, b: Any) -> Any:
            return getattr(a, product)(b, *params)

        if imag is None:
            return self._new(of(z.real, real), of(z.imag, real))
        w = self.of(other)._equally_long()
        return self._new(
            of(z.real, w.real) - of(z.imag, w.imag),
            of(z.real, w.imag) + of(z.imag, w.real),
        )


PRODUCTS = tuple(name for name in vars(ComplexProducts) if not name.startswith("_"))

__all__ = ["PRODUCTS", "ComplexProducts"]
