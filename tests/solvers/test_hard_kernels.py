"""Every preconditioner and the dense factor on systems that are hard, degenerate or no systems at all."""

import numpy as np
import pytest
import scipy.sparse.linalg as sla
from judges import assert_solves
from kernel_cases import (
    ALIASES,
    ASKED,
    BUILT,
    CASES,
    DIVIDE,
    NAMES,
    ROUGH,
    SMOOTH,
    N,
    points,
    rough,
    smooth,
    squares,
)

from kernelops import KernelOperator, solve

EVERY_WAY = [{"method": "direct"}, *({"method": "cg", "precond": name} for name in NAMES), {}]


def ways(alpha):
    return [way for way in EVERY_WAY if alpha > 0 or way.get("precond") not in DIVIDE]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_in_the_points(bad, dtype):
    """Reported as such, with nothing built and no iteration made, and without a warning of numpy's."""
    for way in EVERY_WAY:
        x = points(dtype=dtype)
        x[17, 1] = bad
        A = KernelOperator(SMOOTH, ALIASES, "b", x, x, alpha=0.1)
        solution = solve(A, np.ones((N, 2), dtype), **way, on_fail="ignore")
        assert solution.status == "nonfinite" and solution.iterations == 0 and np.isnan(solution.x).all()
        assert solution.precond == "none" and not solution.preconditioners
        assert sum(solution.products.values()) <= 3  # what it takes to say so


@pytest.mark.parametrize("way", [{"method": "direct"}, {"precond": "fsai"}, {"precond": "jacobi"}], ids=str)
def test_nan_beside_the_diagonal(way):
    A = smooth(points()) + 0.1 * np.eye(N)
    A[3, 5] = A[5, 3] = np.nan
    assert solve(A, np.ones(N), **way, on_fail="ignore").status == "nonfinite"


INDEFINITE = {
    "negative": ("-Exp(-20*SqDist(x,y))*b", lambda x: -smooth(x)),
    "less a multiple of I": ("(x|y)*b-0.5*b*IfElse(SqDist(x,y)-1e-12,0,1)", lambda x: x @ x.T - 0.5 * np.eye(len(x))),
    "a distance": ("Norm2(x-y)*b", lambda x: np.sqrt(squares(x))),
    "a difference": ("(x|y)*b-Exp(-20*SqDist(x,y))*b", lambda x: x @ x.T - smooth(x)),
}


@pytest.mark.parametrize("alpha", [0.0, 1e-3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", INDEFINITE)
def test_indefinite_kernels(name, dtype, alpha):
    """No exception, and no wrong convergence; where the whole matrix is negative, the right word."""
    formula, matrix = INDEFINITE[name]
    x, b = points(dtype=dtype), CASES["scalar alpha"].b().astype(dtype)
    A = KernelOperator(formula, ALIASES, "b", x, x, alpha=alpha)
    dense = matrix(x.astype(np.float64)) + alpha * np.eye(N)
    for way in ways(alpha):
        solution = solve(A, b, **way, on_fail="ignore")
        assert solution.status in ("converged", "not positive definite", "maxiter", "stagnated")
        if solution.converged:
            assert_solves(dense, solution.x, b, ASKED)
        if name == "negative":
            assert solution.status == "not positive definite"
            assert "A is not positive definite" in solution.message


def test_duplicated_points_without_alpha():
    """Singular: right-hand sides that differ at a point have no solution, and nobody says that they do."""
    x, b = np.repeat(points(30), 2, axis=0), CASES["scalar alpha"].b()[:60]
    A, K = KernelOperator(ROUGH, ALIASES, "b", x, x), rough(x)
    for way in ways(0.0):
        assert not solve(A, b, **way, on_fail="ignore").converged
        within = K @ b.astype(float)
        solution = solve(A, within, **way, on_fail="ignore")
        if solution.converged:
            assert_solves(K, solution.x, within, ASKED)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_constant_kernel(dtype):
    x = points(dtype=dtype)
    A = KernelOperator("(1+0*(x|y))*b", ALIASES, "b", x, x, alpha=0.01)
    dense, b = np.ones((N, N)) + 0.01 * np.eye(N), CASES["scalar alpha"].b().astype(dtype)
    for way in EVERY_WAY:
        solution = solve(A, b, **way)
        assert_solves(dense, solution.x, b, ASKED)
        assert solution.rank == 1 or way.get("precond") != "pivoted_cholesky"


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_few_points(n, dtype):
    x, b = points(n, dtype=dtype), np.ones((n, 2), dtype)
    for alpha in (0.0, 0.1):
        for way in ways(alpha):
            solution = solve(KernelOperator(SMOOTH, ALIASES, "b", x, x, alpha=alpha), b, **way)
            assert_solves(smooth(x.astype(float)) + alpha * np.eye(n), solution.x, b, ASKED)


@pytest.mark.parametrize("way", EVERY_WAY, ids=str)
def test_columns_of_zeros_and_no_columns(way):
    case = CASES["scalar alpha"]
    b = case.b()
    b[:, 0] = 0
    solution = solve(case.operator("float32"), b, **way)
    assert solution.converged and not solution.x[:, 0].any() and solution.x[:, 1].any()
    assert_solves(smooth(case.x) + 1e-3 * np.eye(N), solution.x, b, ASKED)
    nothing = solve(case.operator("float32"), b[:, :0], **way)
    assert nothing.converged and nothing.iterations == 0 and nothing.x.shape == (N, 0)
    assert solve(case.operator("float64"), 0 * b, **way).iterations == 0


@pytest.mark.parametrize("way", EVERY_WAY, ids=str)
def test_complex_right_hand_sides(way):
    case = CASES["scalar alpha"]
    b = case.b() + 1j * np.random.default_rng(5).standard_normal((N, 2))
    for dtype in ("float32", "float64"):
        solution = solve(case.operator(dtype), b, **way)
        assert solution.x.dtype == np.complex128 and solution.converged
        residual = np.linalg.norm(b - (smooth(case.x) + 1e-3 * np.eye(N)) @ solution.x, axis=0)
        assert (residual <= 1.1 * ASKED * np.linalg.norm(b, axis=0)).all()


@pytest.mark.parametrize("way", [{"method": "direct"}, *({"precond": name} for name in BUILT)], ids=str)
def test_scipys_own_cg_takes_what_was_built(way):
    case, count = CASES["scalar alpha"], [0, 0]
    A = case.operator("float64")
    (M,) = solve(A, np.ones(N), **way).preconditioners
    dense = smooth(case.x) + 1e-3 * np.eye(N)
    b = case.b()[:, 0].astype(float)
    for k, m in enumerate((None, M)):

        def note(_, k=k):
            count[k] += 1

        x, info = sla.cg(dense, b, M=m, rtol=1e-8, maxiter=5000, callback=note)
        assert info == 0 and np.linalg.norm(b - dense @ x) <= 1.1e-8 * np.linalg.norm(b)
    assert count[1] < count[0] / 2 or way.get("precond") == "jacobi"  # the diagonal is constant here


def test_mb_starts_with_what_was_built():
    case = CASES["scalar alpha"]
    for way in EVERY_WAY:
        solution = case.by_operator("float64", x0="Mb", **way)
        case.check(solution)
    assert case.by_operator("float64", x0="Mb", method="direct").iterations == 0
