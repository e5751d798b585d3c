"""The half of KernelSolve that both doors share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..arrays.arguments import float_dtype
from ..arrays.backend import check_backend
from ..errors import ArgumentError, KeywordError
from ..formula.cached import cached_property
from ..formula.linear import find_unknown
from ..formula.parse import parse
from ..operators.shift import alpha_for_solve
from ..operators.system import SolveSpec
from ..ranges import Ranges
from ..solvers import SolveState
from ..solvers.options import SolveOptions, check_tolerance
from ..truncation.truncate import check_truncate, truncate_solve
from .adapter import Adapter
from .checks import IGNORED, check_accumulator, check_axis, check_keywords, check_probes, takes_options
from .gaussian_process import InvQuadLogdet, complain, new_points, with_unknown
from .written import Written

if TYPE_CHECKING:
    pass


class KernelSolve(Written):
    """The half of KernelSolve that is the same for all array libraries; ``adapter`` is what one of them gives to it."""

    adapter: ClassVar[Adapter]
    spec: SolveSpec

    def __init__(
        self,
        formula: str,
        aliases: Sequence[str],
        varinvalias: str,
        axis: int = 0,
        dtype: Any = None,
        cuda_type: Any = None,
        dtype_acc: str = "auto",
        use_double_acc: bool = False,
        sum_scheme: str = "auto",
        **ignored: Any,
    ) -> None:
        check_keywords(KernelSolve.__init__, ignored, IGNORED, KernelSolve.__call__)
        read = parse(formula, aliases)
        form = find_unknown(read, varinvalias, "varinvalias")
        unknown, right = form.unknown, form.axis
        if check_axis(axis) != right:
            raise ArgumentError(f"axis = {axis} does not go with {varinvalias} = {unknown.op}(...): use axis = {right}")
        if read.expr.dim != unknown.dim:
            raise ArgumentError(
                f"varinvalias: the formula must be as long as the unknown; it has length {read.expr.dim}, "
                f"{varinvalias!r} has length {unknown.dim}"
            )
        self.formula, self.aliases, self.varinvalias = formula, tuple(aliases), varinvalias
        self.spec = SolveSpec(
            read.expr,
            unknown,
            read.variables,
            read.names,
            None if dtype is None else float_dtype(dtype),
            None,
            check_accumulator(dtype_acc, use_double_acc, sum_scheme),
            sum_scheme,
        )

    @cached_property
    def varinvalias(self) -> str:
        """The name of the unknown."""
        return self.spec.names.get(self.spec.unknown, "b")

    def __call__(
        self,
        *args: Any,
        backend: str = "auto",
        device_id: int = -1,
        alpha: Any = 1e-10,
        eps: float | None = None,
        ranges: Any = None,
        truncate: float | None = None,
        rtol: float | None = None,
        atol: float = 0.0,
        maxiter: int | None = None,
        M: Any = None,
        precond: str | None = "auto",
        method: str = "auto",
        state: SolveState | None = None,
        seed: int = 0,
        x0: Any = None,
        callback: Callable[[np.ndarray], Any] | None = None,
        progress: bool = False,
        verbose: bool = False,
        on_fail: str = "warn",
        return_solution: bool = False,
        **unknown: Any,
    ) -> Any:
        """Solve (alpha I + K) a = b for these arrays.

        Parameters
        ----------
        *args : array or tensor
            One for each alias, in their order, all of one dtype; the right-hand side b, (..., n, k), stands at the
            unknown's place. Leading dimensions broadcast.
        backend, device_id
            As for Genred.
        alpha : number, array or tensor, default 1e-10
            Added to the diagonal; finite and nonnegative, held in float64. Shape (), (1,), (n,) or (n, 1), with batch
            dimensions in front.
        eps : float, optional
            Another name for rtol; giving both is an error.
        ranges : Ranges or 6-tuple, or "auto", optional
            Block-sparse K; the pattern must be symmetric. "auto" means ``truncate=1e-3``.
        truncate : float, optional
            Drop blocks of negligible entries; 0 <= truncate < 1. The absolute values dropped from any row sum to at
            most truncate times the smallest alpha, so that the matrix stays positive definite. The points may be in any
            order. Solution and derivatives are those of the matrix that is kept.
        rtol, atol : float, default 1e-6 and 0
            A column is converged when ``norm(b - (alpha I + K) a) <= max(rtol * norm(b), atol)``, for the float64
            iterate and with the residual recomputed in float64.
        maxiter : int, optional
            Most iterations; by default 10 n, but at least 100.
        M : LinearOperator, sparse or dense matrix, optional
            A preconditioner of your own: near the inverse of alpha I + K, symmetric positive definite, (n, n). For a
            matrix-valued kernel (n D, n D), where D is the length of the unknown.
        precond : {"auto", None, "pivoted_cholesky", "fsai", "nystrom", "jacobi"}, default "auto"
            Which preconditioner to build; "auto" builds what is expected to pay.
        method : {"auto", "cg", "block_cg", "direct"}, default "auto"
            Conjugate gradients, by columns or in a subspace that these share, or a dense Cholesky factor; "auto" takes
            what is predicted to be faster.
        state : SolveState, optional
            Carries preconditioner and solution from one call to the next.
        seed : int, default 0
            Seed for the random choices made when a preconditioner is built.
        x0 : array or tensor, or "Mb", optional
            Where to start, in the shape of b; zero by default, M b for "Mb".
        callback : callable, optional
            ``callback(x)`` after each iteration, with a float64 numpy copy of the iterate in the shape of a. If it
            raises StopIteration, the solve ends with status "stopped".
        progress : bool, default False
            Show a progress bar.
        verbose : bool, default False
            Write to stderr which method and preconditioner are used, and why, and how the solve ended.
        on_fail : {"warn", "raise", "ignore"}, default "warn"
            What to do when a column does not converge: ConvergenceWarning, SolveError, nothing.
        return_solution : bool, default False
            Return (a, Solution) instead of a.

        Returns
        -------
        a : array or tensor
            In the shape (batch dimensions broadcast) and the dtype of b.
        solution : Solution
            With ``return_solution=True``: what came out of the solve, as numpy arrays.

        Raises
        ------
        ArgumentError, ShapeError, DtypeError, RangesError, BackendError, KeywordError
            Naming the argument, what was wanted and what came.
        SolveError
            When a column does not converge and on_fail is "raise".

        See Also
        --------
        kernelops.solve : the same for an operator or a matrix.
        kernelops.SolveState : one handle for many solves.
        logdet, inv_quad_logdet, predict : what a Gaussian process wants besides.

        Notes
        -----
        Conjugate gradients [1]_, block conjugate gradients [2]_ or a dense Cholesky factor, with iterates in float64
        whose residuals are recomputed.

        References
        ----------
        .. [1] M. R. Hestenes and E. Stiefel, Methods of conjugate gradients for solving linear systems, Journal of
           Research of the National Bureau of Standards 49 (1952).
        .. [2] D. P. O'Leary, The block conjugate gradient algorithm and related methods, Linear Algebra and its
           Applications 29 (1980).

        Examples
        --------
        >>> import numpy as np
        >>> from kernelops.numpy import KernelSolve
        >>> x = np.linspace(0, 1, 50)[:, None]
        >>> b = np.sin(6 * x)
        >>> solver = KernelSolve("Exp(-10*SqDist(x,y))*b", ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"], "b", axis=1)
        >>> a, solution = solver(x, x, b, alpha=0.1, return_solution=True)
        >>> K = np.exp(-10 * (x - x.T) ** 2)
        >>> solution.status, bool(np.linalg.norm(b - 0.1 * a - K @ a) <= 1e-6 * np.linalg.norm(b))
        ('converged', True)
        """
        if eps is not None and rtol is not None:
            raise KeywordError(f"eps is KernelSolve's other name for rtol: give one of them, got {eps!r} and {rtol!r}")
        rtol = 1e-6 if eps is None and rtol is None else rtol if eps is None else check_tolerance(eps, "eps")
        options = SolveOptions.from_arguments(locals())
        check_keywords(KernelSolve.__call__, unknown)
        spec = replace(self.spec, options=options, device=check_backend(backend, device_id, args))
        spec = self._with_ranges(spec, ranges, truncate, args, alpha)
        a, solution = self.adapter.solve(spec, args, alpha)
        return (a, solution) if return_solution else a

    @takes_options("x0", "M", "callback", "progress")
    def logdet(
        self,
        *args: Any,
        backend: str = "auto",
        device_id: int = -1,
        alpha: Any = 1e-10,
        n_probes: int = 10,
        ranges: Any = None,
        truncate: float | None = None,
        **options: Any,
    ) -> tuple[Any, Any]:
        """log det (alpha I + K) and its standard error.

        Parameters
        ----------
        *args : array or tensor
            As for a solve. The unknown may be left out; where it is given, its values do not count.
        backend, device_id, alpha, ranges, truncate
            As for a solve.
        n_probes : int, default 10
            Number of random vectors, at least 4. The standard error falls with their square root. With as many as the
            matrix has rows it is 0.
        **options
            Those of a solve, without x0, M, callback and progress. rtol is the tolerance of the quadrature, and of the
            solves of the gradient, for which atol and maxiter are. The same seed draws the same random vectors, so
            that the value moves smoothly with the data unless the preconditioner or the number of steps changes.
            on_fail says what is done with a value that cannot be trusted.

        Returns
        -------
        value, stderr : float64 scalars, or arrays of the batch shape
            For a scalar kernel the determinant is that of the n x n matrix, however long the unknown is; for a
            matrix-valued one that of the n D x n D matrix. stderr is 0 where a dense Cholesky factor was taken, as
            ``method="direct"`` does, and "auto" where it is cheap. It says nothing of the gradient.

        Raises
        ------
        ArgumentError, ShapeError, DtypeError, RangesError, KeywordError
            Naming the argument, what was wanted and what came.
        SolveError
            When the value cannot be trusted and on_fail is "raise".

        Notes
        -----
        Stochastic Lanczos quadrature [1]_ with the preconditioner P of a solve [2]_, which has a determinant that is
        known: what is estimated is the rest, tr log(W A W^T) with P^-1 = W^T W.
        Eigenvalues that carry most of what scatters are added exactly, where Lanczos' process has found them.
        Products are made in float64 whatever the dtype of the data.

        With ``kernelops.torch`` the value is differentiable any number of times. Where stderr is not 0 the gradient
        tr(A^-1 dA), by points, parameters and alpha, is an estimate too, from the same random vectors and without bias.
        It is not the derivative of the estimated value, and has no error bar: gradients of several seeds show how they
        scatter. With as many vectors as the matrix has rows it is exact.

        References
        ----------
        .. [1] S. Ubaru, J. Chen and Y. Saad, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature, SIAM
           Journal on Matrix Analysis and Applications 38 (2017).
        .. [2] J. Wenger, G. Pleiss, P. Hennig, J. Cunningham and J. Gardner, Preconditioning for scalable Gaussian
           process hyperparameter optimization, ICML (2022).

        Examples
        --------
        >>> import numpy as np
        >>> from kernelops.numpy import KernelSolve
        >>> x = np.linspace(0, 1, 50)[:, None]
        >>> solver = KernelSolve("Exp(-SqDist(x,y))*b", ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"], "b", axis=1)
        >>> value, stderr = solver.logdet(x, x, alpha=0.1)
        >>> dense = np.linalg.slogdet(np.exp(-((x - x.T) ** 2)) + 0.1 * np.eye(50))[1]
        >>> bool(abs(value - dense) < 1e-9), float(stderr)
        (True, 0.0)
        """
        spec = self._estimation_spec(KernelSolve.logdet, options, backend, device_id, args)
        arrays = with_unknown(spec, args)
        spec = self._with_ranges(spec, ranges, truncate, arrays, alpha)
        value, stderr, estimate = self.adapter.logdet(spec, arrays, alpha, check_probes(n_probes))
        complain(estimate, spec.options.on_fail, stacklevel=2)
        return value, stderr

    @takes_options("x0", "M", "callback")
    def inv_quad_logdet(
        self,
        *args: Any,
        backend: str = "auto",
        device_id: int = -1,
        alpha: Any = 1e-10,
        n_probes: int = 10,
        ranges: Any = None,
        truncate: float | None = None,
        **options: Any,
    ) -> InvQuadLogdet:
        """b^T (alpha I + K)^-1 b, summed over the columns of b, and log det (alpha I + K), with one preconditioner.

        Parameters
        ----------
        *args : array or tensor
            As for a solve, with b at the unknown's place.
        backend, device_id, alpha, n_probes, ranges, truncate
            As for :meth:`logdet`.
        **options
            Those of a solve, without x0, M and callback; see :meth:`logdet`.

        Returns
        -------
        InvQuadLogdet
            A named tuple (inv_quad, logdet, stderr), float64 scalars or arrays of the batch shape. inv_quad is
            2 b^T a - a^T A a for the solution a: its error is of second order in the residual of the solve. stderr is
            that of logdet.

        Raises
        ------
        ArgumentError, ShapeError, DtypeError, RangesError, KeywordError, SolveError
            As for a solve and for :meth:`logdet`.

        See Also
        --------
        logdet : the determinant alone, and how it is estimated.

        Examples
        --------
        The log marginal likelihood of a Gaussian process:

        >>> import numpy as np
        >>> from kernelops.numpy import KernelSolve
        >>> x = np.linspace(0, 1, 50)[:, None]
        >>> solver = KernelSolve("Exp(-SqDist(x,y))*b", ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"], "b", axis=1)
        >>> found = solver.inv_quad_logdet(x, x, np.sin(6 * x), alpha=0.1)
        >>> likelihood = -0.5 * (found.inv_quad + found.logdet + 50 * np.log(2 * np.pi))
        >>> round(float(likelihood), 2)
        -26.51
        """
        spec = self._estimation_spec(KernelSolve.inv_quad_logdet, options, backend, device_id, args)
        spec = self._with_ranges(spec, ranges, truncate, args, alpha)
        found = self.adapter.inv_quad_logdet(spec, args, alpha, check_probes(n_probes))
        inv_quad, value, stderr, estimate = found
        complain(estimate, spec.options.on_fail, stacklevel=2)
        return InvQuadLogdet(inv_quad, value, stderr)

    @takes_options("x0", "callback")
    def predict(
        self,
        *args: Any,
        at: Any,
        backend: str = "auto",
        device_id: int = -1,
        alpha: Any = 1e-10,
        variance: bool = True,
        **options: Any,
    ) -> tuple[Any, Any]:
        """Mean and variance of a Gaussian process at new points.

        Parameters
        ----------
        *args : array or tensor
            As for a solve, with the observations b at the unknown's place.
        at : array or tensor, or a mapping of names to them
            The new points: one array (..., m, D) where the formula has one Vi and one Vj variable beside the unknown,
            which both stand for points; else ``{name: array}`` for all its Vi and Vj variables. Batch dimensions
            broadcast to those of the solve.
        backend, device_id, alpha
            As for a solve; alpha is the variance of the noise.
        variance : bool, default True
            Whether to compute it: one more solve for each new point. They are solved in blocks of 64 with one
            preconditioner, in memory for one block.
        **options
            Those of a solve, without x0 and callback.

        Returns
        -------
        mean : (..., m, k), in the dtype of b
            K(at, x) (alpha I + K)^-1 b, for a b of k columns.
        variance : (..., m), in the dtype of b, or None
            k(at, at) - K(at, x) (alpha I + K)^-1 K(x, at): that of the function itself, without noise (add alpha for
            that of a new observation), the same for all columns of b. Below 0, which rounding may bring about where
            it is next to 0, it is clipped to 0.

        Raises
        ------
        ArgumentError, ShapeError, DtypeError, KeywordError
            Naming the argument, what was wanted and what came; a variance asked for of a matrix-valued kernel.
        SolveError
            When a column does not converge and on_fail is "raise".

        Notes
        -----
        Second-order formulas are used here too: a solve to rtol leaves an error of the order of rtol^2 in the variance.
        There are no ranges: the new points have no pattern.

        See Also
        --------
        inv_quad_logdet : what the marginal likelihood is made of.

        References
        ----------
        C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning, MIT Press (2006), equations
        2.25 and 2.26.

        Examples
        --------
        >>> import numpy as np
        >>> from kernelops.numpy import KernelSolve
        >>> x = np.linspace(0, 1, 50)[:, None]
        >>> aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"]
        >>> solver = KernelSolve("Exp(-10*SqDist(x,y))*b", aliases, "b", axis=1)
        >>> mean, variance = solver.predict(x, x, np.sin(6 * x), at=np.array([[0.25], [9.0]]), alpha=1e-4)
        >>> mean.round(2)
        array([[1.],
               [0.]])
        >>> variance.round(2)
        array([0., 1.])
        """
        spec = self._estimation_spec(KernelSolve.predict, options, backend, device_id, args)
        if not isinstance(variance, (bool, np.bool_)):
            raise ArgumentError(f"variance: wanted True or False, got {variance!r}")
        return self.adapter.predict(spec, args, alpha, new_points(spec, at), bool(variance))

    def _estimation_spec(
        self, function: Callable[..., Any], options: dict[str, Any], backend: Any, device_id: Any, args: Sequence[Any]
    ) -> SolveSpec:
        """The spec of the solves that go with a log-determinant or a prediction, which share one preconditioner."""
        known = signature(function).parameters
        check_keywords(function, {name: value for name, value in options.items() if name not in known})
        asked = SolveOptions(**options).with_state()
        return replace(self.spec, options=asked, device=check_backend(backend, device_id, args))

    def _with_ranges(self, spec: SolveSpec, ranges: Any, truncate: Any, args: Sequence[Any], alpha: Any) -> SolveSpec:
        """The spec with the ranges that were given, or that truncation leaves."""
        tol = check_truncate(truncate, ranges)
        if tol is None:
            return replace(spec, ranges=Ranges.of(ranges))
        arguments = self.adapter.bind(spec, args)
        checked = alpha_for_solve(alpha, arguments)
        kept = truncate_solve(spec.expr, spec.unknown, arguments, tol, checked)
        return replace(spec, ranges=kept, lost=tol * float(np.min(checked, initial=np.inf)))

    def __repr__(self) -> str:
        return f"KernelSolve({self.formula!r}, {list(self.aliases)!r}, {self.varinvalias!r}, axis={self.spec.axis})"
