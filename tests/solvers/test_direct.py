"""Dense factors in float32 and float64: residuals by dense float64 matrices, whatever the factor is worth."""

import re

import numpy as np
import pytest
from kernel_cases import ALIASES

from kernelops import KernelOperator, Ranges, SolveState, solve
from kernelops.numpy import KernelSolve
from kernelops.solvers import operator as system
from kernelops.solvers import policy
from kernelops.solvers.cost_model import Costs

N = 300
GAUSS = "Exp(-8*SqDist(x,y))*b"
KNOWN = ALIASES[:2] + ["b = Vj(1)"]
SOLVER = KernelSolve(GAUSS, KNOWN, "b", axis=1)
SINGLE = "dense Cholesky factor in float32, as asked for"
DOUBLE = "dense Cholesky factor, as asked for"
AGAIN = "dense Cholesky factor, as one in float32 is not enough"


def points(dtype="float64", n=N):
    dim = int(re.search(r"Vi\((\d+)\)", KNOWN[0]).group(1))
    return np.random.default_rng(0).random((n, dim)).astype(dtype)


def matrix(x, alpha):
    x = x.astype(np.float64)
    return np.exp(-8 * ((x[:, None] - x) ** 2).sum(-1)) + alpha * np.eye(len(x))


def right(columns=(), dtype="float64", n=N):
    return np.random.default_rng(1).standard_normal((n, *columns)).astype(dtype)


def operator(x, alpha):
    return KernelOperator(GAUSS, KNOWN, "b", x, x, alpha=alpha)


def check(solution, A, b, rtol=1e-6):
    b = b.astype(np.float64)
    true = np.linalg.norm(b - A @ solution.x, axis=0) / np.linalg.norm(b, axis=0)
    floor = 1e-13 * np.linalg.norm(A) * np.abs(solution.x).max() * len(b) ** 0.5 / np.linalg.norm(b, axis=0).min()
    assert solution.converged, solution.message
    assert np.all(true <= rtol + floor) and np.all(np.abs(true - solution.residual) <= 1e-6 * true + floor)


@pytest.fixture
def any_size(monkeypatch):
    """float32 is looked at for small systems too, and taken whatever it is predicted to cost."""
    monkeypatch.setattr(policy, "SINGLE_FROM", 1)
    monkeypatch.setattr(Costs, "single", lambda self, rate: 0.0)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("rtol", [1e-3, 1e-6, 1e-12])
@pytest.mark.parametrize("columns", [(), (1,), (20,)])
def test_a_factor_in_float32(any_size, dtype, rtol, columns):
    x, b = points(dtype), right(columns, dtype)
    solution = solve(operator(x, 0.1), b, method="direct", rtol=rtol)
    check(solution, matrix(x, 0.1), b, rtol)
    assert (solution.method, solution.reason) == ("direct", SINGLE)
    assert 1 <= solution.iterations <= 4 and list(solution.products) == ["float64"]
    assert len(solution.history) == solution.iterations + 1


@pytest.mark.parametrize("alpha", [10.0**-k for k in range(1, 9)])
def test_at_the_edge_where_it_stops_to_contract(any_size, monkeypatch, alpha):
    """Condition numbers to 1e10: float32 contracts, then hardly, then has no factor at all; all are solved."""
    monkeypatch.setattr(policy, "SINGLE_RATE", np.inf)
    x, b = points("float32"), right()
    solution = solve(operator(x, alpha), b, method="direct")
    check(solution, matrix(x, alpha), b)
    assert solution.reason in (SINGLE, DOUBLE, AGAIN)
    if alpha >= 1e-3:
        assert solution.reason == SINGLE
    if alpha <= 1e-7:
        assert solution.reason in (DOUBLE, AGAIN)


def test_one_that_does_not_contract_makes_way(any_size, monkeypatch):
    """A factor in float32 of another matrix hardly helps; the one in float64 that takes its place does."""
    cholesky = policy.Cholesky

    def spoilt(entries, alpha, *how):
        return cholesky(entries, 1e3 * alpha if how else alpha, *how)

    monkeypatch.setattr(policy, "Cholesky", spoilt)
    x, b, state = points(), right((3,)), SolveState()
    solution = solve(operator(x, 0.1), b, method="direct", state=state)
    check(solution, matrix(x, 0.1), b)
    assert solution.reason == AGAIN and not state.plan.single
    assert [p.single for p in solution.preconditioners] == [False]


def test_float32_on_both_sides_of_what_decides(monkeypatch):
    x, b = points(), right()
    monkeypatch.setattr(policy, "SINGLE_FROM", N)
    (entries,) = operator(x, 0.1).entries
    rate = 2.0**-24 * policy._estimate_condition(entries, np.float64(0.1), 0)
    for name, value, reason in [
        ("SINGLE_RATE", 1.001 * rate, SINGLE),
        ("SINGLE_RATE", 0.999 * rate, DOUBLE),
        ("SINGLE_FROM", N, SINGLE),
        ("SINGLE_FROM", N + 1, DOUBLE),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(Costs, "single", lambda self, rate: 0.0)
            patch.setattr(policy, name, value)
            assert solve(operator(x, 0.1), b, method="direct").reason == reason
    for factor, reason in ((0.999, SINGLE), (1.001, DOUBLE)):
        monkeypatch.setattr(Costs, "single", lambda self, rate, f=factor: f * self.direct())
        assert solve(operator(x, 0.1), b, method="direct").reason == reason
    assert solve(operator(x, 0.0), b, method="direct", on_fail="ignore").reason != SINGLE


def test_a_prediction_is_from_above():
    """The condition number that decides is no smaller than the true one, or not by much."""
    x = points()
    for alpha in (1e-3, 0.1, 10.0):
        (entries,) = operator(x, alpha).entries
        true = np.linalg.cond(matrix(x, alpha))
        assert 0.3 * true < policy._estimate_condition(entries, np.float64(alpha), 0) < 10 * true


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_columns_by_rows(monkeypatch, dtype):
    """Products, residuals and what rounding to float32 leaves, on both sides of ROW_PRODUCT_FROM."""
    monkeypatch.setattr(system, "ROWS_AT_ONCE", 64)
    x, alpha = points(), np.linspace(0.1, 0.2, N)
    A = matrix(x, 0.0) + np.diag(alpha)
    for columns in (system.ROW_PRODUCT_FROM - 1, system.ROW_PRODUCT_FROM, 3 * system.ROW_PRODUCT_FROM):
        b = right((columns,), dtype)
        solution = solve(operator(x, alpha), b, method="direct")
        check(solution, A, b)
        rounded = solution.x.astype(dtype).astype(np.float64)
        true = np.linalg.norm(b - A @ rounded, axis=0) / np.linalg.norm(b, axis=0)
        np.testing.assert_allclose(solution.residual_returned, true, rtol=1e-4, atol=1e-13)
        rows = columns >= system.ROW_PRODUCT_FROM and dtype == "float32"
        assert solution.products == ({"float64": 1, "float32": 1} if rows else {"float64": 1})


def test_many_columns_are_factored_for():
    """Their triangular solves cost less than iterations do."""
    x = points(n=1500)
    solution = solve(operator(x, 0.1), right((400,), n=1500))
    assert solution.method == "direct"
    check(solution, matrix(x, 0.1), right((400,), n=1500))


def test_a_batch_and_ranges(any_size):
    x, b = np.stack([points("float32"), points("float32")[::-1]]), right((2,), "float32")
    alpha = np.array([0.1, 0.3])[:, None, None]
    _, solution = KernelSolve(GAUSS, KNOWN[:2] + ["b = Vj(2)"], "b", axis=1)(
        x, x, b, alpha=alpha, method="direct", return_solution=True
    )
    assert solution.converged and solution.reason == SINGLE and len(solution.preconditioners) == 2
    for at in range(2):
        A = matrix(x[at], alpha[at, 0, 0])
        assert (np.linalg.norm(b - A @ solution.x[at], axis=0) <= 1.01e-6 * np.linalg.norm(b, axis=0)).all()
    clusters = np.array([[0, 100], [100, N]])
    some = Ranges.from_mask(clusters, clusters, np.eye(2, dtype=bool))
    A = KernelOperator(GAUSS, KNOWN, "b", x[0], x[0], alpha=0.1, ranges=some)
    whole = matrix(x[0], 0.1)
    whole[:100, 100:] = whole[100:, :100] = 0
    found = solve(A, b, method="direct")
    assert found.reason == SINGLE
    check(found, whole, b)


def test_a_complex_right_hand_side(any_size):
    x, b = points(), right((2,)) + 1j * right((2,))[::-1]
    solution = solve(operator(x, 0.1), b, method="direct")
    assert solution.converged and solution.reason == SINGLE
    assert (np.linalg.norm(b - matrix(x, 0.1) @ solution.x, axis=0) <= 1.01e-6 * np.linalg.norm(b, axis=0)).all()


def test_a_determinant_is_that_of_float64(any_size):
    """Whatever factor a solve has left behind."""
    x, b, state = points(), right((1,)), SolveState()
    SOLVER(x, x, b, alpha=0.1, method="direct", state=state)
    assert state.plan.single
    value, stderr = SOLVER.logdet(x, x, b, alpha=0.1, method="direct", state=state)
    wanted = np.linalg.slogdet(matrix(x, 0.1))[1]
    assert stderr == 0 and abs(value - wanted) <= 1e-10 * abs(wanted)


def test_variances_at_many_points(any_size):
    x, b, at = points(), right((1,)), np.random.default_rng(3).random((150, points().shape[1]))
    mean, variance = SOLVER.predict(x, x, b, at=at, alpha=0.1)
    k = np.exp(-8 * ((at[:, None] - x) ** 2).sum(-1))
    A = matrix(x, 0.1)
    np.testing.assert_allclose(mean, k @ np.linalg.solve(A, b), atol=1e-5)
    np.testing.assert_allclose(variance, 1 - (k * np.linalg.solve(A, k.T).T).sum(-1), atol=1e-5)


def test_the_ends_of_an_iteration(any_size):
    """A start that is good enough, no iterations allowed, one allowed, and a stop by the callback."""
    x, b = points(), right((2,))
    A, exact = operator(x, 0.1), np.linalg.solve(matrix(points(), 0.1), right((2,)))
    assert solve(A, b, x0=exact, method="direct").iterations == 0
    none = solve(A, b, method="direct", maxiter=0, on_fail="ignore")
    assert (none.status, none.iterations, none.x.any()) == ("maxiter", 0, False)
    one = solve(A, b, method="direct", maxiter=1, rtol=1e-13, on_fail="ignore")
    assert (one.status, one.iterations) == ("maxiter", 1) and (one.residual < 1e-3).all()
    seen = []

    def stop(iterate):
        seen.append(iterate)
        raise StopIteration

    stopped = solve(A, b, method="direct", rtol=1e-13, callback=stop, on_fail="ignore")
    assert (stopped.status, stopped.iterations, len(seen)) == ("stopped", 1, 1)
    np.testing.assert_array_equal(seen[0], stopped.x)
    far = solve(A, b, method="direct", rtol=1e-18, on_fail="ignore")
    assert far.status == "stagnated" and (far.residual < 1e-12).all()
