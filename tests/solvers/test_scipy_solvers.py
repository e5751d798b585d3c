"""SciPy's solvers on a KernelOperator, and ours, judged by the dense float64 matrix; warnings are errors."""

import inspect

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg as sla
import usual
from judges import assert_solves

import kernelops
from kernelops import KernelOperator

N = 60
ALIASES = usual.aliases(2, 1, "g")


def operator(dtype="float64", alpha=0.5, M=N):
    """A Gaussian kernel, plus alpha, and the dense float64 matrix of the same data."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, 2)).astype(dtype)
    y = x if M == N else rng.standard_normal((M, 2)).astype(dtype)
    A = KernelOperator(usual.SCALED_GAUSS, ALIASES, "b", y, x, np.array([0.5], dtype), alpha=alpha)
    squares = ((y[:, None].astype(np.float64) - x) ** 2).sum(-1)
    return A, np.exp(-0.5 * squares) + alpha * np.eye(M, N)


def rhs(dtype="float64", columns=None):
    shape = N if columns is None else (N, columns)
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


SQUARE = ["cg", "gmres", "bicgstab", "bicg", "cgs", "qmr", "lgmres", "gcrotmk"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "of"),
    [
        *((name, of) for name in SQUARE for of in ("float64", "complex128")),
        ("minres", "float64"),
    ],  # minres is for reals
)
def test_square_systems(name, dtype, of):
    (A, dense), b = operator(dtype), rhs(of)
    if of == "complex128":
        b = b + 1j * b[::-1]
    solver = getattr(sla, name)
    options = {"rtol": 1e-8} | ({"atol": 0.0} if "atol" in inspect.signature(solver).parameters else {})
    x, info = solver(A, b, **options)
    assert info == 0
    slack = 100 if name in ("minres", "qmr", "cgs", "bicg") else 1  # they trust an estimate of the residual
    assert np.linalg.norm(b - dense @ x) <= slack * 1.1e-8 * np.linalg.norm(b)


@pytest.mark.parametrize("name", ["lsqr", "lsmr"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_least_squares_with_more_rows_than_columns(name, dtype):
    A, dense = operator(dtype, 0, M=90)
    b = np.random.default_rng(2).standard_normal(90)
    damp = 0.3
    x = getattr(sla, name)(A, b, damp, atol=1e-12, btol=1e-12, conlim=0)[0]
    want = np.linalg.solve(dense.T @ dense + damp**2 * np.eye(N), dense.T @ b)
    np.testing.assert_allclose(x, want, atol=1e-6 * abs(want).max())


@pytest.mark.parametrize("which", ["LM", "LA"])
def test_eigsh(which):
    A, dense = operator()
    values, vectors = sla.eigsh(A, 6, which=which, v0=np.ones(N), tol=1e-10)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(dense)[-6:], rtol=1e-8)
    np.testing.assert_allclose(dense @ vectors, vectors * values, atol=1e-7)


def test_eigsh_in_float32():
    A, dense = operator("float32")
    values, _ = sla.eigsh(A, 3, v0=np.ones(N, "float32"))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, np.linalg.eigvalsh(dense)[-3:], rtol=1e-4)


@pytest.mark.parametrize(("solver", "tol"), [("arpack", 1e-8), ("lobpcg", 1e-4)])
def test_svds(solver, tol):
    A, dense = operator(alpha=0, M=90)
    seed = {"rng" if "rng" in inspect.signature(sla.svds).parameters else "random_state": np.random.default_rng(3)}
    left, values, right = sla.svds(A, 4, solver=solver, tol=tol, maxiter=300, **seed)
    np.testing.assert_allclose(np.sort(values), np.linalg.svd(dense, compute_uv=False)[3::-1], rtol=1e-6)
    np.testing.assert_allclose(left.T @ dense @ right.T, np.diag(values), atol=1e-5)


def test_lobpcg():
    A, dense = operator()
    start = np.random.default_rng(4).standard_normal((N, 4))
    values, _ = sla.lobpcg(A, start, tol=1e-7, maxiter=200)
    np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(dense)[-4:], rtol=1e-8)


def test_norms_and_functions():
    A, dense = operator()
    np.testing.assert_allclose(sla.onenormest(A), np.linalg.norm(dense, 1), rtol=1e-10)
    b = rhs()
    got = sla.expm_multiply(-0.1 * A, b, traceA=-0.1 * A.diagonal().sum())
    np.testing.assert_allclose(got, scipy.linalg.expm(-0.1 * dense) @ b, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_kernel_operator_as_the_preconditioner_and_inside_another(dtype):
    A, dense = operator(dtype)
    inverse = np.linalg.inv(dense + 0.01 * np.eye(N))
    x, info = sla.cg(A, rhs(), rtol=1e-8, M=inverse)
    assert info == 0
    assert_solves(dense, x[:, None], rhs()[:, None], 1e-8)
    shifted = A + 0.5 * sla.aslinearoperator(np.eye(N))
    x, info = sla.cg(shifted, rhs(), rtol=1e-8)
    assert info == 0
    assert_solves(dense + 0.5 * np.eye(N), x[:, None], rhs()[:, None], 1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("of", ["float32", "float64", "complex128"])
def test_our_cg_agrees_with_scipys(dtype, of):
    (A, dense), b = operator(dtype), rhs(of)
    if of == "complex128":
        b = b + 1j * b[::-1]
    x, info = kernelops.cg(A, b, rtol=1e-9)
    assert x.dtype == np.result_type(dtype, of)
    assert (info == 0) == (x.dtype != np.float32)  # which does not hold what was asked
    theirs, their_info = sla.cg(A, b.astype(np.result_type(b, np.float64)), rtol=1e-9)
    assert their_info == 0
    loose = 1e-5 if x.dtype == np.float32 else 1e-7  # by what they return, and by the condition number
    np.testing.assert_allclose(x, theirs, atol=loose * abs(theirs).max())
    assert np.linalg.norm(b - dense @ x) <= loose * np.linalg.norm(b)


@pytest.mark.parametrize("maxiter", [0, 1, 4])
def test_our_cg_agrees_with_scipys_where_it_does_not_converge(maxiter):
    (A, _), b = operator(), rhs()
    steps, theirs = [], []
    x, info = kernelops.cg(A, b, rtol=1e-12, maxiter=maxiter, callback=steps.append)
    y, their_info = sla.cg(A, b, rtol=1e-12, maxiter=maxiter, callback=lambda v: theirs.append(v.copy()))
    np.testing.assert_allclose(x, y, rtol=1e-10)
    np.testing.assert_allclose(steps, theirs, rtol=1e-10)
    assert info == max(1, maxiter) and (their_info == info or maxiter == 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [None, 1, 3])
def test_solve_reaches_the_true_residual(dtype, columns):
    (A, dense), b = operator(dtype, alpha=1e-2), rhs(dtype, columns)
    solution = kernelops.solve(A, b, method="cg", precond=None)
    assert solution.converged and solution.x.dtype == np.float64 and solution.x.shape == b.shape
    assert_solves(dense, solution.x.reshape(N, -1), b.reshape(N, -1), 1e-6)
    true = np.linalg.norm(b - dense @ solution.x, axis=0) / np.linalg.norm(b, axis=0)
    np.testing.assert_allclose(solution.residual, true, rtol=1e-3)
    if dtype == "float32":
        assert solution.products["float32"] > solution.products["float64"], "the work is done in float32"


def test_the_matrix_is_the_one_that_solvers_see():
    (A, dense), b = operator(), rhs()
    x = np.linalg.solve(dense, b)
    for found in (kernelops.solve(A, b, rtol=1e-12).x, kernelops.cg(A, b, rtol=1e-12)[0], sla.cg(A, b, rtol=1e-12)[0]):
        np.testing.assert_allclose(found, x, atol=1e-9)
