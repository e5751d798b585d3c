"""log-determinants, quadratic forms and predictions of the numpy door, against dense float64."""

import warnings

import numpy as np
import pytest
import usual

from kernelops import ArgumentError, ConvergenceWarning, KeywordError, Ranges, ShapeError, SolveError, SolveState
from kernelops.errors import DtypeError
from kernelops.numpy import KernelSolve

ALIASES = usual.aliases(2, 1, "g")
GAUSS = KernelSolve(usual.SCALED_GAUSS, ALIASES, "b", axis=1)
METHODS = ["direct", "cg"]


def points(n, seed=0, dim=2, dtype="float64"):
    return np.random.default_rng(seed).random((n, dim)).astype(dtype)


def squares(x, y):
    return ((x[..., :, None, :].astype(np.float64) - y[..., None, :, :].astype(np.float64)) ** 2).sum(-1)


def gauss(x, y, g):
    return np.exp(-np.float64(g) * squares(x, y))


def slogdet(A):
    return np.linalg.slogdet(A)[1]


NORM = "Sqrt(SqDist(x,y))"
PROBLEMS = {  # formula, dense kernel, points, alpha
    "Gaussian": ("Exp(-30*SqDist(x,y))*b", lambda d: np.exp(-30 * d), points(200), 0.1),
    "Gaussian, float32": ("Exp(-30*SqDist(x,y))*b", lambda d: np.exp(-30 * d), points(200, dtype="float32"), 0.1),
    "smooth": ("Exp(-3*SqDist(x,y))*b", lambda d: np.exp(-3 * d), points(150, 1), 0.01),
    "smooth, little noise": ("Exp(-3*SqDist(x,y))*b", lambda d: np.exp(-3 * d), points(100, 2), 1e-5),
    "short": ("Exp(-3000*SqDist(x,y))*b", lambda d: np.exp(-3000 * d), points(250, 3), 1e-3),
    "exponential": (f"Exp(-3*{NORM})*b", lambda d: np.exp(-3 * np.sqrt(d)), points(200, 4), 0.01),
    "exponential, float32": (
        f"Exp(-3*{NORM})*b", lambda d: np.exp(-3 * np.sqrt(d)), points(200, 5, dtype="float32"), 1e-3,
    ),
    "Matern": (
        f"(1+9*{NORM})*Exp(-9*{NORM})*b", lambda d: (1 + 9 * np.sqrt(d)) * np.exp(-9 * np.sqrt(d)), points(200, 6), 0.1,
    ),
    "rational": ("Inv(1+9*SqDist(x,y))*b", lambda d: 1 / (1 + 9 * d), points(150, 7), 0.05),
    "large": ("100*Exp(-9*SqDist(x,y))*b", lambda d: 100 * np.exp(-9 * d), points(180, 8, dtype="float32"), 0.5),
}  # fmt: skip


@pytest.mark.parametrize("precond", [None, "pivoted_cholesky"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_logdet_within_three_standard_errors(name, precond):
    formula, kernel, x, alpha = PROBLEMS[name]
    solver = KernelSolve(formula, ALIASES[:3], "b", axis=1)
    value, stderr = solver.logdet(x, x, alpha=alpha, method="cg", precond=precond)
    want = slogdet(kernel(squares(x, x)) + alpha * np.eye(len(x)))
    assert value.dtype == np.float64 and 0 < stderr < 0.3 * len(x)
    assert abs(value - want) <= 3 * stderr
    assert solver.logdet(x, x, alpha=alpha, method="cg", precond=precond) == (value, stderr)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_direct_logdet_is_exact(dtype):
    x = points(150, dtype=dtype)
    value, stderr = GAUSS.logdet(x, x, 30.0, alpha=0.01, method="direct")
    want = slogdet(gauss(x, x, 30.0) + 0.01 * np.eye(150))
    assert abs(value - want) < 1e-10 * abs(want) and stderr == 0


def test_the_unknown_may_be_left_out_or_given():
    x = points(60)
    wanted = GAUSS.logdet(x, x, 30.0, alpha=0.1)
    assert wanted == GAUSS.logdet(x, x, np.full((60, 1), np.nan), 30.0, alpha=0.1)
    over_i = KernelSolve(usual.SCALED_GAUSS, ["b = Vi(3)", "x = Vi(2)", "y = Vj(2)", "g = Pm(1)"], "b", axis=0)
    assert np.allclose(over_i.logdet(x, x, 30.0, alpha=0.1), wanted, rtol=1e-12)
    alone = KernelSolve("b", ["b = Vj(1)"], "b", axis=1)
    with pytest.raises(ArgumentError, match="b = Vj"):
        alone.logdet()


@pytest.mark.parametrize("method", METHODS)
def test_a_matrix_valued_kernel(method):
    x = points(20)
    aliases = [*ALIASES[:2], "b = Vj(2)"]
    solver = KernelSolve("Exp(-9*SqDist(x,y))*MatVecMult(M,b)", [*aliases, "M = Pm(4)"], "b", axis=1)
    M = np.array([[2.0, 0.5], [0.5, 1.0]])
    A = np.kron(gauss(x, x, 9.0), M) + 0.3 * np.eye(40)
    b = np.random.default_rng(1).standard_normal((20, 2))
    found = solver.inv_quad_logdet(x, x, b, M.ravel(), alpha=0.3, method=method, n_probes=40, rtol=1e-10)
    assert abs(found.logdet - slogdet(A)) < 1e-6
    want = b.ravel() @ np.linalg.solve(A, b.ravel())
    assert abs(found.inv_quad - want) < 1e-9 * want
    with pytest.raises(ArgumentError, match="matrix-valued"):
        solver.predict(x, x, b, M.ravel(), at=x[:3], alpha=0.3)
    mean, variance = solver.predict(x, x, b, M.ravel(), at=x[:3], alpha=0.3, variance=False)
    dense = np.kron(gauss(x[:3], x, 9.0), M) @ np.linalg.solve(A, b.ravel())
    assert variance is None and np.allclose(mean.ravel(), dense, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_ranges(method):
    x = points(60)
    clusters = [[0, 20], [20, 40], [40, 60]]
    keep = np.eye(3, dtype=bool)
    A = gauss(x, x, 30.0) * np.kron(keep, np.ones((20, 20))) + 0.1 * np.eye(60)
    value, _ = GAUSS.logdet(
        x, x, 30.0, alpha=0.1, ranges=Ranges.from_mask(clusters, clusters, keep), method=method, n_probes=60
    )
    assert abs(value - slogdet(A)) < 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_batches(method):
    x, alpha = np.stack([points(40, s) for s in range(3)]), np.array([[0.1], [0.2], [0.3]])
    b, at = points(40, 9, 1), points(7, 8)
    found = GAUSS.inv_quad_logdet(x, x, b, 30.0, alpha=alpha, method=method)
    mean, variance = GAUSS.predict(x, x, b, 30.0, at=at, alpha=alpha, method=method)
    assert [f.shape for f in found] == [(3,)] * 3 and mean.shape == (3, 7, 1) and variance.shape == (3, 7)
    for k in range(3):
        one = GAUSS.inv_quad_logdet(x[k], x[k], b, 30.0, alpha=alpha[k, 0], method=method)
        assert np.allclose([f[k] for f in found], one, rtol=1e-3, atol=1e-9)
        alone = GAUSS.predict(x[k], x[k], b, 30.0, at=at, alpha=alpha[k, 0], method=method)
        assert np.allclose(mean[k], alone[0], atol=1e-4) and np.allclose(variance[k], alone[1], atol=1e-8)


@pytest.mark.parametrize("rtol", [1e-2, 1e-4])
def test_inv_quad_is_of_second_order(rtol):
    """Off by r^T A^-1 r <= |r|^2 / alpha, where b^T a would be off by up to rtol |b| |A^-1 b|."""
    x, b = points(200), points(200, 1, 2) - 0.5
    solver = KernelSolve("Exp(-30*SqDist(x,y))*b", [*ALIASES[:2], "b = Vj(2)"], "b", axis=1)
    A = gauss(x, x, 30.0) + 0.01 * np.eye(200)
    found = solver.inv_quad_logdet(x, x, b, alpha=0.01, rtol=rtol, method="cg", precond=None)
    want = (b * np.linalg.solve(A, b)).sum()
    assert abs(found.inv_quad - want) <= rtol**2 * (b**2).sum() / 0.01
    assert found.inv_quad < want + 1e-9 * abs(want)  # it is a lower bound


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", METHODS)
def test_predict(method, dtype):
    """70 new points: two blocks of columns. The variance is good to the rounding of the result's dtype."""
    x, at, b = points(120, dtype=dtype), points(70, 3, dtype=dtype), points(120, 1, 1, dtype)
    alpha = np.linspace(0.05, 0.2, 120)
    mean, variance = GAUSS.predict(x, x, b, 30.0, at=at, alpha=alpha, method=method)
    across, A = gauss(x, at, 30.0), gauss(x, x, 30.0) + np.diag(alpha)
    assert mean.dtype == variance.dtype == dtype
    assert np.allclose(mean, across.T @ np.linalg.solve(A, b), atol=1e-4)
    tolerance = 1e-6 if dtype == "float32" else 1e-8
    assert np.allclose(variance, 1 - (across * np.linalg.solve(A, across)).sum(0), atol=tolerance)


def test_predict_with_more_variables_and_over_i():
    """u and v stand for a second property of the points; the unknown is a Vi."""
    aliases = ["x = Vi(2)", "u = Vi(1)", "y = Vj(2)", "v = Vj(1)", "b = Vi(2)"]
    solver = KernelSolve("Exp(-9*SqDist(x,y))*(1+u*v)*b", aliases, "b", axis=0)
    x, u, b, new, new_u = points(50), points(50, 1, 1), points(50, 2, 2), points(6, 3), points(6, 4, 1)
    mean, variance = solver.predict(x, u, x, u, b, at={"x": new, "u": new_u, "y": new, "v": new_u}, alpha=0.1)
    A = gauss(x, x, 9.0) * (1 + u * u.T) + 0.1 * np.eye(50)
    across = gauss(x, new, 9.0) * (1 + u * new_u.T)
    assert np.allclose(mean, across.T @ np.linalg.solve(A, b), atol=1e-5)
    want = 1 + new_u[:, 0] ** 2 - (across * np.linalg.solve(A, across)).sum(0)
    assert np.allclose(variance, want, atol=1e-9)
    with pytest.raises(ArgumentError, match="at.*v is missing"):
        solver.predict(x, u, x, u, b, at={"x": new, "u": new_u, "y": new}, alpha=0.1)
    with pytest.raises(ArgumentError, match="at: wanted x, u, y, v, got 'w'"):
        solver.predict(x, u, x, u, b, at={"w": new}, alpha=0.1)
    with pytest.raises(ArgumentError, match="at: one array goes with"):
        solver.predict(x, u, x, u, b, at=new, alpha=0.1)


def test_the_variance_is_never_negative():
    x = points(80)
    _, variance = GAUSS.predict(x, x, points(80, 1, 1), 3.0, at=x, alpha=1e-9, method="direct")
    assert (variance >= 0).all() and variance.max() < 1e-6


def test_a_state_brings_a_neighbours_preconditioner_and_nothing_wrong():
    """The dense factor of another matrix is not taken for that of this one."""
    x, state = points(80), SolveState()
    GAUSS.logdet(x, x, 30.0, alpha=0.1, method="direct", state=state)
    value, stderr = GAUSS.logdet(x, x, 20.0, alpha=0.1, method="direct", state=state)
    want = slogdet(gauss(x, x, 20.0) + 0.1 * np.eye(80))
    assert state.builds == 1 and stderr > 0 and 1e-9 < abs(value - want) <= 3 * stderr


def test_one_preconditioner_serves_all():
    x, b, state = points(80), points(80, 1, 1), SolveState()
    GAUSS.inv_quad_logdet(x, x, b, 30.0, alpha=0.1, precond="pivoted_cholesky", method="cg", state=state)
    GAUSS.predict(x, x, b, 30.0, at=x, alpha=0.1, precond="pivoted_cholesky", method="cg", state=state)
    assert state.builds == 1 and state.x.shape == (80, 1)


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"n_probes": 3}, ArgumentError, "n_probes"),
        ({"n_probes": 2.5}, ArgumentError, "n_probes"),
        ({"alpha": -1.0}, ArgumentError, "alpha"),
        ({"alpha": np.ones(7)}, ShapeError, "alpha"),
        ({"rtol": -1}, ArgumentError, "rtol"),
        ({"seed": -1}, ArgumentError, "seed"),
        ({"method": "qr"}, ArgumentError, "method"),
        ({"precond": "ilu"}, ArgumentError, "precond"),
        ({"state": 3}, DtypeError, "state"),
        ({"on_fail": "cry"}, ArgumentError, "on_fail"),
        ({"n_probe": 10}, KeywordError, "n_probe.*n_probes"),
    ],
)
def test_bad_keywords(keywords, error, text):
    x = points(20)
    with pytest.raises(error, match=text):
        GAUSS.logdet(x, x, 30.0, **{"alpha": 0.1, **keywords})


@pytest.mark.parametrize(
    ("at", "error", "text"),
    [
        (points(5, dim=3), ShapeError, r"at, for x.*\(\.\.\., rows, 2\), got \(5, 3\)"),
        (points(5)[0], ShapeError, "at, for x"),
        (points(5, dtype="float32"), ArgumentError, "at, for x.*float64.*float32"),
        (points(5)[None].repeat(3, 0), ShapeError, "at, for x.*batch"),
        ({"x": points(5), "y": points(6)}, ShapeError, "at: wanted arrays of the same number"),
        ([[0.0, 1.0]], DtypeError, "at"),
    ],
)
def test_bad_new_points(at, error, text):
    x = points(20)
    with pytest.raises(error, match=text):
        GAUSS.predict(x, x, points(20, 1, 1), 30.0, at=at, alpha=0.1)


def test_four_probes_do():
    x = points(50)
    value, stderr = GAUSS.logdet(x, x, 30.0, alpha=0.1, method="cg", n_probes=4)
    assert abs(value - slogdet(gauss(x, x, 30.0) + 0.1 * np.eye(50))) <= 3 * stderr


def test_what_cannot_be_trusted_warns():
    x = np.concatenate([points(30)] * 2)  # every point twice, and no noise
    with pytest.warns(ConvergenceWarning, match="not positive definite"):
        GAUSS.logdet(x, x, 30.0, alpha=0.0, method="cg", precond=None, n_probes=60)
    with pytest.raises(SolveError, match="not positive definite"):
        GAUSS.logdet(x, x, 30.0, alpha=0.0, method="cg", precond=None, n_probes=60, on_fail="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GAUSS.logdet(x, x, 30.0, alpha=0.0, method="cg", precond=None, n_probes=60, on_fail="ignore")
