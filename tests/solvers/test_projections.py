"""Residuals of many columns by random projections: near the truth, never believed where they are not small enough."""

import numpy as np
import pytest
from kernel_cases import ALIASES
from scipy.stats import chi2

from kernelops import KernelOperator, solve
from kernelops.engines import dense as factors
from kernelops.solvers import projections
from kernelops.solvers.projections import MARGIN, PROJECTED_FROM, PROJECTIONS, Projections

N = 400
GAUSS = "Exp(-8*SqDist(x,y))*b"
WITHIN = 0.5  # more than five times the spread of an estimate, for which some hundred columns are too few


def points(dtype="float64"):
    dim = int(ALIASES[0].split("(")[1].rstrip(")"))
    return np.random.default_rng(0).random((N, dim)).astype(dtype)


def matrix(x, alpha):
    x = x.astype(np.float64)
    return np.exp(-8 * ((x[:, None] - x) ** 2).sum(-1)) + alpha * np.eye(N)


def system(columns, dtype="float64", alpha=0.1):
    x = points(dtype)
    b = np.random.default_rng(1).standard_normal((N, columns)).astype(dtype)
    return KernelOperator(GAUSS, ALIASES[:2] + ["b = Vj(1)"], "b", x, x, alpha=alpha), matrix(x, alpha), b


def relative(A, x, b):
    b = b.astype(np.float64)
    return np.linalg.norm(b - A @ x, axis=0) / np.linalg.norm(b, axis=0)


def test_a_norm_beyond_the_margin_is_out_of_the_question():
    assert chi2.cdf(PROJECTIONS / MARGIN**2, PROJECTIONS) < 1e-18
    assert abs(np.sqrt(2 / PROJECTIONS) / 2 - 0.09) < 0.01, "the spread of a norm, which the docs give"


@pytest.mark.parametrize("shape", ["normal", "one entry", "smooth"])
def test_estimates_of_norms(shape):
    """Of residuals that are spread out, that are one number, and that a kernel matrix would make."""
    _, A, _ = system(1)
    draw, k = np.random.default_rng(2), 2 * PROJECTED_FROM + 3
    x = draw.standard_normal((N, k))
    r = {
        "normal": draw.standard_normal((N, k)),
        "one entry": np.eye(N)[:, draw.integers(0, N, k)],
        "smooth": A @ draw.standard_normal((N, k)),
    }[shape] * np.exp(draw.uniform(-20, 20, k))
    b = A @ x + r
    found = Projections(lambda V: A @ V, N).norms(k, lambda rows, J: (b[rows, J], x[rows, J], 0 * x[rows, J]))
    floor = 1e-13 * np.abs(A).sum() * np.abs(x).max()  # rounding
    for estimate, true in zip(found, (r, b), strict=True):
        true = np.linalg.norm(true, axis=0)
        assert (np.abs(estimate - true) <= WITHIN * true + floor).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [PROJECTED_FROM - 1, PROJECTED_FROM, 2 * PROJECTED_FROM + 1])
def test_a_solve_of_many_columns(monkeypatch, columns, dtype):
    """By a factor that leaves residuals of 1e-8, far above rounding and far below what is asked."""
    exact = factors.solve
    monkeypatch.setattr(factors, "solve", lambda L, V, which="LLT": exact(L, V, which) * (1 + 1e-8))
    A, dense, b = system(columns, dtype)
    b[:, 5] = 0
    b[:, 7:9] *= 1e-30
    solution = solve(A, b, method="direct")
    size = np.linalg.norm(b.astype(np.float64), axis=0)
    others = size > 0
    assert solution.converged and (solution.x[:, ~others] == 0).all() and (solution.residual[~others] == 0).all()
    true = relative(dense, solution.x[:, others], b[:, others])
    rounded = relative(dense, solution.x[:, others].astype(dtype).astype(np.float64), b[:, others])
    np.testing.assert_allclose(true, 1e-8, rtol=1e-2)
    within = WITHIN if columns > PROJECTED_FROM else 1e-3
    np.testing.assert_allclose(solution.residual[others], true, rtol=within, atol=1e-14)
    np.testing.assert_allclose(solution.residual_returned[others], rounded, rtol=within, atol=1e-14)
    assert solution.products == (
        {"float64": 1} if columns > PROJECTED_FROM or dtype == "float64" else {"float64": 1, "float32": 1}
    )
    error = solution.x - np.linalg.solve(dense, b.astype(np.float64))
    energy = np.sqrt(np.einsum("nk,nk->k", error, dense @ error))
    # what numpy's own solution is wrong by
    assert (energy <= solution.bound + 1e-13 * np.sqrt(np.einsum("nk,nk->k", solution.x, dense @ solution.x))).all()


def test_columns_that_are_not_certain_are_looked_at(monkeypatch):
    """Estimates above a third of the tolerance are no judgement: products of all columns are."""
    A, dense, b = system(PROJECTED_FROM)
    for rtol, sure in ((1e-6, True), (3e-16, False)):
        solution = solve(A, b, method="direct", rtol=rtol, on_fail="ignore")
        assert (solution.products["float64"] == 1) is sure
        true = relative(dense, solution.x, b)
        if not sure:
            np.testing.assert_allclose(solution.residual, true, rtol=0, atol=1e-12)  # they are rounding
            assert solution.converged == bool((solution.residual <= rtol).all())
    monkeypatch.setattr(projections.Projections, "norms", lambda self, count, parts: np.full((2, count), np.nan))
    solution = solve(A, b, method="direct")
    assert solution.converged and solution.products["float64"] == 2
    np.testing.assert_allclose(solution.residual, relative(dense, solution.x, b), rtol=0.1, atol=1e-15)


def test_a_factor_that_is_worth_little_is_found_out(monkeypatch):
    """What is projected is the residual of A, not that of what was factored."""
    exact = factors.solve
    monkeypatch.setattr(factors, "solve", lambda L, V, which="LLT": exact(L, V, which) * (1 + 1e-4))
    A, dense, b = system(PROJECTED_FROM)
    solution = solve(A, b, method="direct")
    assert solution.converged and solution.iterations > 1
    assert (relative(dense, solution.x, b) <= 1.01e-6).all()


def test_callbacks_and_starts():
    A, dense, b = system(PROJECTED_FROM)
    seen = []
    solution = solve(A, b, method="direct", callback=seen.append)
    assert len(seen) == 1 and np.array_equal(seen[0], solution.x)

    def stop(x):
        raise StopIteration

    assert solve(A, b, method="direct", callback=stop).converged, "it was the last iterate"
    x0 = np.random.default_rng(3).standard_normal(b.shape)
    solution = solve(A, b, x0, method="direct")
    assert solution.converged and (relative(dense, solution.x, b) <= 1e-12).all()


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_scales(scale):
    A, dense, b = system(PROJECTED_FROM)
    solution = solve(A, b * scale, method="direct")
    assert solution.converged and (solution.residual <= 1e-12).all()
    np.testing.assert_allclose(solution.x / scale, np.linalg.solve(dense, b), rtol=1e-9, atol=1e-12)


def test_what_does_not_fit_is_told():
    """float16 ends at 65504: the estimate of a column that does not fit is inf."""
    A, _, b = system(PROJECTED_FROM, "float16", alpha=1e-3)
    b[:, 3] = (b[:, 3] * 1e4).clip(-60000, 60000)
    solution = solve(A, b, method="direct")
    fits = (np.abs(solution.x) < 65520).all(axis=0)
    assert solution.converged and not fits[3] and np.array_equal(np.isinf(solution.residual_returned), ~fits)
