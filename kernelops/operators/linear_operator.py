"""KernelOperator: alpha I + K, K[i, j] = k(x_i, y_j) written as a formula, as a SciPy LinearOperator."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from ..arrays.arguments import bind_arguments, compute_dtype
from ..arrays.backend import check_backend
from ..errors import ArgumentError, DtypeError, KeywordError, ShapeError
from ..formula.cached import cached_property
from ..formula.expr import text
from ..formula.linear import find_unknown
from ..formula.parse import Formula, parse
from ..formula.tokens import nearest
from ..ranges import Ranges
from ..reductions.kinds import check_accumulation
from ..solvers.vectors import HOST, Vectors
from ..truncation.truncate import check_truncate, truncate_product, truncate_solve
from .device_products import device_product
from .entry_access import EntryAccess
from .kernel_entries import KernelEntries
from .kernel_product import KernelProduct
from .scipy_base import CheckedOperator, refuse_shape
from .shift import Shift, alpha_layout, check_alpha

if TYPE_CHECKING:
    from typing import Self


class KernelOperator(EntryAccess, CheckedOperator):
    """The matrix alpha I + K with K[i, j] = k(x_i, y_j) given by a formula; K is never stored.

    Parameters
    ----------
    formula : str
        A formula that is linear in ``var``, as in ``"Exp(-g*SqDist(x,y))*b"``.
    aliases : sequence of str
        The variables, as in ``["x = Vi(3)", "y = Vj(3)", "b = Vj(1)", "g = Pm(1)"]``.
    var : str
        Name of the unknown. The operator sums over its index: a Vj unknown gives rows i and columns j.
    *args : array
        The other variables, in the order of their positions: float32 or float64, (M, D) for Vi, (N, D) for Vj, (D,) for
        Pm, where a number will do too. Batch dimensions are refused.
    alpha : float or array, default 0
        Added to the diagonal, finite and nonnegative: a number, or one for each row, (n,).
        0 unless K is square.
    ranges : Ranges or 6-tuple, or "auto", optional
        Which rows meet which columns; entries elsewhere are 0. "auto" means ``truncate=1e-3``.
    truncate : float, optional
        Drop blocks of negligible entries; 0 <= truncate < 1. The absolute values dropped from any row sum to at most
        truncate times the smallest alpha or, without alpha, truncate times the largest row sum of absolute values. The
        points may be in any order.
    dtype_acc, sum_scheme : str
        How the sums of a product are added up, as for :class:`kernelops.numpy.Genred`.
    backend : str, default "auto"
        "auto" multiplies where the arrays are; "GPU" sends arrays of the host to a GPU, where they stay. Vectors may be
        of the host then, or of that GPU (tensors, CuPy's or PyCUDA's arrays), and products are where the vectors are.
    device_id : int, default -1
        Number of that GPU; -1 for the current one.

    Attributes
    ----------
    shape : tuple
        (M, N) for a scalar kernel times the unknown, whatever the unknown's length. For a matrix-valued kernel with
        blocks of (E, Dv), (M*E, N*Dv): entry (i, d) stands at row i*Dv + d.
    dtype : dtype
        float32 or float64, that of the data (float16 data are computed in float32).
    symmetric : str
        "yes", "no" or "unknown", from the formula and the arrays.
    ranges : Ranges or None
        What was given, or what truncation left.

    Notes
    -----
    A product is computed and returned in the wider dtype of data and vector: a float64 vector on float32 data gets a
    float64 product of the same formula. A complex vector v gives K re(v) + i K im(v).

    Raises
    ------
    FormulaError, ArgumentError, ShapeError, DtypeError, RangesError

    See Also
    --------
    kernelops.solve, kernelops.cg : solve with it.
    kernelops.numpy.KernelSolve : the same system for formulas with batches.
    scipy.sparse.linalg.LinearOperator : its base class.

    Examples
    --------
    >>> import numpy as np
    >>> from kernelops import KernelOperator
    >>> x = np.linspace(0, 1, 5)[:, None]
    >>> A = KernelOperator("Exp(-SqDist(x,y))*b", ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"], "b", x, x, alpha=0.1)
    >>> A.shape
    (5, 5)
    >>> print((A @ np.ones(5)).round(3))
    [3.756 4.327 4.536 4.327 3.756]
    """

    def __init__(
        self,
        formula: str | Formula,
        aliases: Sequence[str],
        var: str,
        *args: Any,
        alpha: Any = 0.0,
        ranges: Any = None,
        truncate: float | None = None,
        dtype_acc: str = "auto",
        sum_scheme: str = "auto",
        backend: str = "auto",
        device_id: int = -1,
        **unknown: Any,
    ) -> None:
        for name in unknown:
            known = ["alpha", "ranges", "truncate", "dtype_acc", "sum_scheme", "backend", "device_id"]
            raise KeywordError(f"KernelOperator has no keyword {name!r}{nearest(name, known)}")
        self.formula = formula if isinstance(formula, Formula) else parse(formula, aliases)
        tol, device = check_truncate(truncate, ranges), check_backend(backend, device_id, args)
        form = find_unknown(self.formula, var)
        v = form.unknown
        others = [x for x in self.formula.variables if x is not v]
        if len(args) != len(others):
            names = ", ".join(f"{self.formula.names.get(x, '?')} = {x.op}({x.dim})" for x in others)
            raise ArgumentError(f"wanted {len(others)} arrays ({names}), the unknown {var!r} left out, got {len(args)}")
        given = {x.position: a for x, a in zip(others, args, strict=True)}  # the unknown is given at each product
        arguments = bind_arguments(
            others, [given.get(p) for p in range(1 + max(given, default=-1))], self.formula.names, device=device
        )
        if arguments.batch:
            raise ShapeError(f"a KernelOperator takes no batch dimensions, got {arguments.batch}; KernelSolve does")
        counted = {x.op for x in others} & {"Vi", "Vj"}
        if not counted:
            raise ArgumentError(
                f"wanted a Vi or Vj variable beside the unknown {var!r}, to say how many points there are"
            )
        if len(counted) == 1:  # nothing but the unknown says how many points the other index has: the matrix is square
            size = arguments.M if "Vi" in counted else arguments.N
            arguments = arguments._replace(M=size, N=size)
        alpha = check_alpha(alpha)
        self._lost = inf  # by how much the ranges may lower an eigenvalue of K
        if tol is None:
            self.ranges = Ranges.of(ranges)
        elif np.any(alpha):
            self._lost = tol * float(np.min(alpha))
            self.ranges = truncate_solve(self.formula.expr, v, arguments, tol, alpha)
        else:
            self.ranges = truncate_product(self.formula.expr, v, arguments, tol)
        self._init = (formula, tuple(aliases), var, args, alpha, self.ranges, dtype_acc, sum_scheme, backend, device_id)
        if self.ranges is not None:
            self.ranges.check(arguments.M, arguments.N)
        check_accumulation(dtype_acc, sum_scheme, arguments.dtype)
        self.kernel_product = KernelProduct(form, arguments, self.ranges, dtype_acc, sum_scheme)
        self._lengths = (1, 1) if form.kernel is not None else (form.expr.dim, v.dim)
        rows, columns = self.kernel_product.points
        shape = (rows * self._lengths[0], columns * self._lengths[1])
        square = shape[0] == shape[1] and rows == columns
        if square:
            alpha = alpha.reshape(alpha_layout(alpha.shape, shape[0]))
        elif np.any(alpha):
            raise ArgumentError(f"alpha must be 0 where the operator is not square; it is {shape[0]} x {shape[1]}")
        self.alpha, self._shift = alpha, Shift(alpha)
        super().__init__(compute_dtype(arguments.dtype), shape)

    @classmethod
    def of(cls, formula: Formula, var: str, *args: Any, **options: Any) -> Self:
        """The operator of a formula that is read already, ``Formula`` in place of text and aliases.

        Parameters
        ----------
        formula : Formula
        var : str
            The name of the unknown.
        *args, **options
            As for the class.
        """
        return cls(formula, (), var, *args, **options)

    def with_product(self, product: KernelProduct) -> Self:
        """The same operator, which multiplies by K in another way; entries are still those of the formula.

        Parameters
        ----------
        product : KernelProduct
            It has the form and the arguments of this operator's own, ``kernel_product``.

        Returns
        -------
        KernelOperator
            Pickles of it hold the formula alone.
        """
        made = object.__new__(type(self))
        kept = {name: value for name, value in self.__dict__.items() if name not in ("entries", "symmetric", "least")}
        made.__dict__.update(kept, kernel_product=product)
        return made

    # ---- what the solvers ask besides (solvers/operator.py) ----

    name = "KernelOperator"
    native = True
    vectors: Vectors = HOST

    @property
    def n(self) -> int:
        """The number of rows, under the name that the solvers use."""
        return int(self.shape[0])

    @property
    def global_n(self) -> int:
        """The number of rows of the whole matrix, all of which this operator holds."""
        return int(self.shape[0])

    # ---- products ----

    def product(self, V: np.ndarray) -> np.ndarray:
        """(alpha I + K) V, in the wider dtype of data and V.

        Parameters
        ----------
        V : ndarray, shape (shape[1], k)
            Real or complex columns.

        Returns
        -------
        ndarray, shape (shape[0], k)

        Raises
        ------
        ShapeError, DtypeError
            If V is no block of numbers with as many rows as the operator has columns.

        Examples
        --------
        >>> import numpy as np
        >>> from kernelops import KernelOperator
        >>> x = np.array([[0.0], [2.0]])
        >>> A = KernelOperator("SqDist(x,y)*b", ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"], "b", x, x, alpha=1.0)
        >>> A.product(np.array([[1.0], [10.0]]))
        array([[41.],
               [14.]])
        """
        return self._multiply(V, transposed=False)

    def _multiply(self, V: np.ndarray, transposed: bool) -> np.ndarray:
        if V.dtype.kind == "c":
            real, imag = self._multiply(V.real, transposed), self._multiply(V.imag, transposed)
            both = np.empty(real.shape, np.result_type(real, np.complex64))
            both.real, both.imag = real, imag  # 1j * imag would make nan of an infinite one
            return both
        if V.dtype.kind not in "iufb":
            raise DtypeError(f"a vector of {V.dtype}: wanted real or complex numbers")
        shape = self.shape[::-1] if transposed else self.shape
        if V.ndim != 2 or len(V) != shape[1]:
            refuse_shape(shape, V.shape)
        if V.dtype not in (np.float32, np.float64):
            V = V.astype(np.float32 if V.dtype == np.float16 else np.float64)
        k = V.shape[-1]
        if k == 0 or 0 in self.shape:
            return np.zeros((self.shape[transposed], k), np.result_type(self.dtype, V.dtype))
        image: np.ndarray = self._shift.add(self.kernel_product.on_columns(V, transposed), V)
        return image

    def _device_product(self, V: Any, transposed: bool) -> Any:
        shape = self.shape[::-1] if transposed else self.shape
        return device_product(self.kernel_product, self._shift, V, transposed, shape)

    def _matmat(self, V: np.ndarray) -> np.ndarray:
        return self._multiply(np.asarray(V), transposed=False)

    def _rmatmat(self, V: np.ndarray) -> np.ndarray:
        return self._multiply(np.asarray(V), transposed=True)

    def _matvec(self, v: np.ndarray) -> np.ndarray:
        return self._matmat(np.asarray(v).reshape(-1, 1))[:, 0]

    def _rmatvec(self, v: np.ndarray) -> np.ndarray:
        return self._rmatmat(np.asarray(v).reshape(-1, 1))[:, 0]

    def _adjoint(self) -> LinearOperator:
        return self if self.symmetric == "yes" else _Adjoint(self)

    def _transpose(self) -> LinearOperator:
        return self._adjoint()

    # ---- entries ----

    @cached_property
    def entries(self) -> tuple[KernelEntries, ...]:
        """K without alpha, entry by entry, for preconditioners; empty if the matrix is not known to be square."""
        square = self.shape[0] == self.shape[1] and self._lengths[0] == self._lengths[1]
        return (KernelEntries(self.kernel_product),) if square else ()

    @cached_property
    def symmetric(self) -> str:
        """Whether the matrix is its transpose: "yes", "no" or "unknown", by formula, arrays and ranges; asked once."""
        if self.shape[0] != self.shape[1]:
            return "no"
        if self.ranges is not None and not self.ranges.is_symmetric():
            return "no"
        return self.kernel_product.symmetric()

    @cached_property
    def least(self) -> float:
        """A proved lower bound of the eigenvalues of K, the matrix without alpha.

        0 if K is positive semidefinite, by a formula of which that can be shown, on the same points for i and j; a
        little less, relative to alpha, after truncation; -inf if nothing is known.
        """
        return self.kernel_product.least(self._lost) if self.shape[0] == self.shape[1] else -inf

    def __repr__(self) -> str:
        alpha = "" if not np.any(self.alpha) else f"{self.alpha}*I + " if self.alpha.ndim == 0 else "diag(alpha) + "
        formula = text(self.formula.expr, self.formula.names)
        where = "" if self.ranges is None else f", on {self.ranges!r}"
        what = f"<{self.shape[0]}x{self.shape[1]} KernelOperator of {self.dtype}"
        return f"{what}: {alpha}{formula}{where}, symmetric: {self.symmetric}>"

    def __reduce__(self) -> tuple:
        return _rebuilt, self._init, {"_lost": self._lost}


def _rebuilt(formula, aliases, var, args, *rest):  # type: ignore[no-untyped-def]
    names = "alpha", "ranges", "dtype_acc", "sum_scheme", "backend", "device_id"
    return KernelOperator(formula, aliases, var, *args, **dict(zip(names, rest, strict=True)))


class _Adjoint(CheckedOperator):
    """The transposed operator; entries are real, so it is the adjoint too."""

    def __init__(self, operator: KernelOperator) -> None:
        self.operator = operator
        super().__init__(operator.dtype, operator.shape[::-1])

    def _device_product(self, V: Any, transposed: bool) -> Any:
        return self.operator._device_product(V, not transposed)

    def _matmat(self, V: np.ndarray) -> np.ndarray:
        return self.operator._rmatmat(V)

    def _rmatmat(self, V: np.ndarray) -> np.ndarray:
        return self.operator._matmat(V)

    def _matvec(self, v: np.ndarray) -> np.ndarray:
        return self.operator._rmatvec(v)

    def _rmatvec(self, v: np.ndarray) -> np.ndarray:
        return self.operator._matvec(v)

    def _adjoint(self) -> LinearOperator:
        return self.operator

    def _transpose(self) -> LinearOperator:
        return self.operator
