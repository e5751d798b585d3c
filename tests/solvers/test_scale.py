"""What comes of a solve does not depend on the scale of A, of b or of M; the ends of float64 are reported."""

import numpy as np
import pytest
import usual
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator

from kernelops import KernelOperator, cg, solve
from kernelops.numpy import KernelSolve

ALIASES = usual.aliases(2, 1, "s")
FORMULA = "s*Exp(-20*SqDist(x,y))*b"
N = 100
X = np.random.default_rng(0).random((N, 2))
B = np.sin(5 * X[:, :1])
FAR = (-1000, -700, -500, -200, 200, 500, 900)  # binary digits
WAYS = [
    {},
    {"method": "direct"},
    *({"method": method, "precond": p} for method in ("cg", "block_cg") for p in ("auto", None, "jacobi")),
    *({"method": "cg", "precond": p} for p in ("pivoted_cholesky", "fsai", "nystrom")),
]


def solver():
    return KernelSolve(FORMULA, ALIASES, "b", axis=1)


def operator(digits, dtype="float64"):
    s = np.ldexp(1.0, digits)
    x = X.astype(dtype)
    return KernelOperator(FORMULA, ALIASES, "b", x, x, np.dtype(dtype).type(s), alpha=s / 10)


def dense(digits):
    """The same as an array of float64."""
    K = np.exp(-20 * ((X[:, None] - X) ** 2).sum(-1))
    return np.ldexp(K + 0.1 * np.eye(N), digits)


DOORS = {
    "array": dense,
    "sparse": lambda digits: csr_array(dense(digits)),
    "columns": lambda digits: LinearOperator((N, N), matvec=lambda v: dense(digits) @ v, dtype=np.float64),
    "operator": operator,
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("how", WAYS, ids=str)
def test_a_solve_of_a_kernel_operator(how):
    """All that is scaled is scaled by powers of two, so that bits are the same where the scale is far from 1."""
    found = {d: solve(operator(d), B, rtol=1e-9, **how) for d in (-400, *FAR)}
    plain = solve(operator(0), B, rtol=1e-9, **how)
    assert plain.converged
    for d, scaled in found.items():
        assert (scaled.status, scaled.method, scaled.precond) == (plain.status, plain.method, plain.precond)
        assert (scaled.iterations, scaled.products, scaled.rank) == (plain.iterations, plain.products, plain.rank)
        np.testing.assert_array_equal(scaled.x, np.ldexp(found[-400].x, -400 - d))
        np.testing.assert_array_equal(scaled.residual, found[-400].residual)
        np.testing.assert_allclose(np.ldexp(scaled.x, d), plain.x, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(scaled.bound, np.ldexp(plain.bound, -d // 2), rtol=1e-2, atol=0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("digits", FAR)
def test_every_door(door, digits):
    A, plain = DOORS[door](digits), DOORS[door](0)
    for method in ("auto", "cg", "block_cg"):
        far, near = solve(A, B, method=method), solve(plain, B, method=method)
        assert far.converged and far.iterations == near.iterations
        np.testing.assert_allclose(np.ldexp(far.x, digits), near.x, rtol=1e-6, atol=1e-9)
    x, info = cg(A, B[:, 0])
    y, other = cg(plain, B[:, 0])
    assert info == other == 0
    np.testing.assert_allclose(np.ldexp(x, digits), y, rtol=1e-6, atol=1e-9)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("digits", (-120, -70, -40, 40, 80, 115))
@pytest.mark.parametrize("method", ("auto", "cg", "block_cg"))
def test_float32_data(digits, method):
    """The ends of float32; b is scaled along, so that what is returned is a float32."""
    far, near = (solve(operator(d, "float32"), B, method=method) for d in (digits, 0))
    assert far.converged and near.converged and abs(far.iterations - near.iterations) <= 2
    x = X.astype("float32")
    s, b = np.float32(2.0**digits), np.ldexp(B, digits // 2).astype("float32")
    a, solution = solver()(x, x, b, s, alpha=float(s) / 10, method=method, return_solution=True)
    assert solution.converged and a.dtype == np.float32
    np.testing.assert_allclose(np.ldexp(a.astype(float), digits - digits // 2), near.x, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("error")
def test_elements_of_a_batch_have_scales_of_their_own():
    s = np.array([1e-250, 1.0, 1e200])[:, None]
    for how in WAYS:
        a, solution = solver()(X, X, B, s, alpha=s[:, :, None] / 10, return_solution=True, **how)
        assert solution.converged
        np.testing.assert_allclose(a * s[:, :, None], np.broadcast_to(a[1], a.shape), rtol=1e-4, atol=1e-5)
        for p, scale in zip(solution.preconditioners, s[:, 0], strict=False):
            near = solver()(X, X, B, s[1], alpha=0.1, return_solution=True, **how)[1].preconditioners[0]
            np.testing.assert_allclose(scale * (p @ B), near @ B, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("factor", (1e-300, 1e-170, 1e155, 1e200, 1e300))
@pytest.mark.parametrize("method", ("cg", "block_cg"))
def test_the_scale_of_m(factor, method):
    A, M = dense(0), np.diag(1 / np.diagonal(dense(0))) + 0.01 * np.eye(N)
    b = np.hstack([B, np.cos(7 * X)])
    near = solve(A, b, M=M, method=method, rtol=1e-11)
    for given in (factor * M, LinearOperator(M.shape, matvec=lambda v: factor * (M @ v), dtype=float)):
        far = solve(A, b, M=given, method=method, rtol=1e-11)
        assert far.converged and abs(far.iterations - near.iterations) <= 2  # by rounding: no power of two
        np.testing.assert_allclose(far.x, near.x, rtol=1e-6, atol=1e-8)
    assert cg(A, B[:, 0], M=factor * M)[1] == 0
    assert solve(1e-200 * A, b, M=factor * M, method=method).converged


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("digits", FAR)
def test_starts(digits):
    """x0 is in the units of b and A, and so is M b."""
    A = operator(digits)
    exact = np.linalg.solve(dense(0), B)
    assert solve(A, B, np.ldexp(exact, -digits), rtol=1e-8, method="cg").iterations == 0
    inverse = np.linalg.inv(dense(0))
    M = np.ldexp(inverse, -digits)
    assert solve(A, B, "Mb", M=M, rtol=1e-8).iterations == 0
    assert cg(A, B[:, 0], "Mb", M=M, rtol=1e-8, maxiter=0)[1] == 0
    assert solve(A, B, "Mb", method="direct", rtol=1e-8).iterations == 0
    for huge in (1e300, 1e30):  # of no use, but no reason to fail
        assert np.isfinite(solve(operator(0), B, np.full((N, 1), huge), on_fail="ignore").x).all()
    assert solve(operator(0), B, np.full((N, 1), 1e300)).converged


@pytest.mark.parametrize("digits", FAR)
def test_preconditioners_are_those_of_the_matrix(digits):
    """What a Solution hands out is near the inverse of A, not of A in other units; as is its determinant."""
    for name in ("pivoted_cholesky", "fsai", "nystrom", "jacobi"):
        ((far,), (near,)) = (solve(operator(d), B, precond=name, method="cg").preconditioners for d in (digits, 0))
        np.testing.assert_allclose(np.ldexp(far @ B, digits), near @ B, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(far.logdet, near.logdet + N * digits * np.log(2), rtol=1e-6, atol=1e-4)
        assert (far.name, far.rank, far.evaluated) == (near.name, near.rank, near.evaluated)
        for act in ("factor_matmat", "factor_rmatmat"):
            np.testing.assert_allclose(
                np.ldexp(getattr(far, act)(B), digits // 2), getattr(near, act)(B), rtol=1e-5, atol=1e-5
            )
        np.testing.assert_allclose(far.factor_solve(far.factor_matmat(B)), B, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("digits", FAR)
def test_beside_a_solve(digits):
    s, b = np.ldexp(1.0, digits), np.ldexp(B, digits)
    for how in ({}, {"method": "cg"}):
        value, stderr = solver().logdet(X, X, s, alpha=s / 10, **how)
        near, error = solver().logdet(X, X, 1.0, alpha=0.1, **how)
        np.testing.assert_allclose(value - N * digits * np.log(2), near, rtol=1e-9, atol=1e-8)
        np.testing.assert_allclose(stderr, error, rtol=1e-6, atol=1e-12)
        mean, variance = solver().predict(X, X, b, s, at=X[:7] + 0.01, alpha=s / 10, **how)
        middle, spread = solver().predict(X, X, B, 1.0, at=X[:7] + 0.01, alpha=0.1, **how)
        np.testing.assert_allclose(np.ldexp(mean, -digits), middle, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(np.ldexp(variance, -digits), spread, rtol=1e-5, atol=1e-6)


SMALL = np.diag(np.arange(1.0, 7))
COLUMN = np.arange(1.0, 7)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", ("cg", "block_cg", "direct"))
class TestEndsOfTheRange:
    @pytest.mark.parametrize("a, c", [(1e-200, 1e200), (1e-160, 1e160), (1e-320, 1.0)])
    def test_a_solution_beyond(self, method, a, c):
        solution = solve(a * SMALL, c * COLUMN, method=method, on_fail="ignore")
        assert solution.status == "nonfinite" and np.isnan(solution.x).all() and solution.info == -1
        assert "beyond the range of float64" in solution.message and np.isnan(solution.residual)
        x, info = cg(a * SMALL, c * COLUMN)
        assert info == -1 and np.isnan(x).all()

    @pytest.mark.parametrize("a, c, lost", [(1e200, 1e-200, 1.0), (1e160, 1e-160, 1e-5), (1e155, 1e-155, 0.0)])
    def test_a_solution_below(self, method, a, c, lost):
        """What is judged is the x that comes out, which may have lost its last digits, or all of them."""
        solution = solve(a * SMALL, c * COLUMN, method=method, on_fail="ignore")
        true = np.abs(COLUMN - a * (SMALL @ (solution.x / c))).max() / 6
        assert solution.status == ("converged" if lost == 0 else "stagnated")
        assert solution.residual == pytest.approx(true, abs=1e-9, rel=0.5)
        assert (lost == 0) or "lower end of the range" in solution.message
        assert (cg(a * SMALL, c * COLUMN, rtol=1e-6)[1] == 0) == (lost == 0)

    @pytest.mark.parametrize("a, c", [(1, 1e-310), (1, 5e-324), (1e-310, 1e-310), (1e-300, 1e-10), (1e300, 1e300)])
    def test_what_fits(self, method, a, c):
        A, b = a * SMALL, c * COLUMN
        solution = solve(A, b, method=method)
        r = b.astype(np.longdouble) - A.astype(np.longdouble) @ solution.x.astype(np.longdouble)
        assert solution.converged and np.abs(r).max() <= 1e-6 * b.max()
