"""`converged` is never said wrongly: condition numbers, dtypes, preconditioners, tolerances, both iterations.

Judged by the dense matrix in extended precision, which knows nothing of the solver.
"""

import itertools
import warnings

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator
from systems import Dense, gaussian, points, right_hand_sides, spd

from kernelops.solvers import solve
from kernelops.solvers.block_cg import block_conjugate_gradients
from kernelops.solvers.cg import conjugate_gradients
from kernelops.solvers.operator import as_system
from kernelops.solvers.problem import Problem
from kernelops.solvers.refine import iterate_in_double, refine

N, COLUMNS = 50, 3
TOLERANCES = (1e-4, 1e-6, 1e-10)
MAXITER = {conjugate_gradients: 600, block_conjugate_gradients: 300}
EPS = {"float32": 2.0**-24, "float64": 2.0**-53}


def true_residual(a, x, b):
    """|b - A x| / |b| of the worst column, in extended precision."""
    wide = np.longdouble
    r = b.astype(wide) - a.astype(wide) @ x.astype(wide)
    return float((np.sqrt((r**2).sum(axis=0)) / np.sqrt((b.astype(wide) ** 2).sum(axis=0))).max())


def smooth(condition, dtype):
    """A Gaussian kernel matrix of this condition number, by the choice of alpha."""
    x = points(N, seed=6)
    top = np.linalg.eigvalsh(gaussian(x, 0.3, 0.0)(np.float64))[-1]
    return Dense(gaussian(x, 0.3, top / condition), dtype, symmetric="yes")


def geometric(condition, dtype):
    return Dense(spd(N, condition, dtype), dtype, symmetric="yes")


def preconditioners(a):
    """Name -> an approximation of the inverse of a."""
    values, vectors = np.linalg.eigh(a)
    draw = np.random.default_rng(9)

    def by(spectrum):
        m = (vectors / spectrum) @ vectors.T
        return (m + m.T) / 2

    good = by(np.maximum(values, values[-1] * 1e-14) * np.exp(draw.uniform(-0.5, 0.5, len(values))))
    poor = np.diag(np.exp(draw.uniform(-2, 2, len(values))))
    return {"none": None, "good": good, "poor": poor, "rounded": good.astype(np.float32)}


def as_operator(m):
    """M as it comes: products in its own precision."""
    if m is None or m.dtype == np.float64:
        return m
    mul = lambda v: m @ v.astype(m.dtype)  # noqa: E731
    return LinearOperator(m.shape, matvec=mul, matmat=mul, dtype=m.dtype)


def run(A, b, rtol, m, method):
    """Whether it says converged, the iterate, and the status."""
    if method is conjugate_gradients:
        solution = solve(A, b, rtol=rtol, M=as_operator(m), maxiter=MAXITER[method], on_fail="ignore")
        return solution.status, solution.x, solution.residual.max()
    problem = Problem(as_system(A), b, rtol, 0.0)
    x, r = problem.start(None)
    precondition = None if m is None else lambda v: m @ v.astype(m.dtype)
    iterate = refine if A.dtype == np.float32 else iterate_in_double
    exits = iterate(problem, x, r, MAXITER[method], precondition=precondition, iterate=method)
    return exits.status, problem.to_units_of_b(x), None


def reachable(condition, dtype, rtol, name):
    """Where convergence is owed: what rounding allows, and what MAXITER iterations do.

    The residual of the best x in float64 is about eps |A| |x| <= eps cond |b|. Refinement reaches that too, since it
    goes on in float64 where float32 rounds do not contract. A preconditioner rounded to float32 is positive definite
    for condition numbers below 1/eps of float32, and an iteration without a good one takes sqrt(cond) log(2 / rtol)
    steps by the bound of Chebyshev, if rounding does not delay it, as from 1e6 on it does.
    """
    if EPS["float64"] * condition > 0.01 * rtol:
        return False
    if name == "rounded":
        return condition <= 1e6
    if name == "good":
        return True
    return condition <= (1e5 if dtype == "float64" else 1e4)


CELLS = [(make, 10.0**k, dtype) for make in (geometric, smooth) for k in (0, 3, 6, 9, 12) for dtype in EPS]
CELLS = [(make, c, dtype) for make, c, dtype in CELLS if not (make is smooth and c == 1)]


@pytest.mark.parametrize("method", [conjugate_gradients, block_conjugate_gradients], ids=["columns", "block"])
@pytest.mark.parametrize("make, condition, dtype", CELLS, ids=lambda v: getattr(v, "__name__", str(v)))
def test_converged_is_never_said_wrongly(make, condition, dtype, method):
    half = CELLS.index((make, condition, dtype)) // 2 + (method is block_conjugate_gradients)
    A, b = make(condition, dtype), right_hand_sides(N, COLUMNS)
    spectrum = np.linalg.eigvalsh(A.truth)  # entries rounded to float32 may have changed it, and its signs
    condition = spectrum[-1] / spectrum[0] if spectrum[0] > 0 else np.inf
    ways = list(itertools.product(preconditioners(A.truth).items(), TOLERANCES))
    for (name, m), rtol in ways[half % 2 :: 2]:  # the other half by the other method, and in the next cell
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            status, x, said = run(A, b, rtol, m, method)
        cell = f"{name}, rtol {rtol:g}: {status}"
        assert status != "nonfinite", cell
        reached = true_residual(A.truth, x, b)
        rounding = 4 * N * EPS["float64"] * np.abs(A.truth).sum(axis=1).max() * np.abs(x).max() / np.abs(b).max()
        if status == "converged":
            assert reached <= rtol * (1 + 1e-9) + rounding, f"{cell}, in truth {reached:.1e}"
        elif reachable(condition, dtype, rtol, name):
            pytest.fail(f"{cell} at {reached:.1e}, though it can be reached")
        if said is not None:
            assert abs(said - reached) <= 1e-6 * reached + rounding, f"{cell}: said {said:.2e}, true {reached:.2e}"
