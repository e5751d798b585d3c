"""NaN and Inf: a solve has the status "nonfinite" at once, whatever they stand in; a reduction carries them on."""

import numpy as np
import pytest
import usual

from kernelops import ArgumentError, ConvergenceWarning, KernelOperator, SolveError, cg, solve
from kernelops.numpy import Genred, KernelSolve

N = 40
GAUSS = usual.SCALED_GAUSS
ALIASES = usual.aliases(2, 2, "g")
SOLVER = KernelSolve(GAUSS, ALIASES, "b", axis=1)


def data(dtype="float64"):
    rng = np.random.default_rng(0)
    return {
        "x": rng.standard_normal((N, 2)).astype(dtype),
        "b": rng.standard_normal((N, 2)).astype(dtype),
        "g": np.array([0.5], dtype),
        "x0": None,
    }


def spoilt(name, value, dtype="float64"):
    found = data(dtype)
    found[name] = np.zeros((N, 2), dtype) if found[name] is None else found[name].copy()
    found[name][..., -1] = value
    return found


def run(found, **keywords):
    arguments = (found["x"], found["x"], found["b"], found["g"])
    return SOLVER(*arguments, alpha=0.1, x0=found["x0"], return_solution=True, **keywords)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["x", "b", "g", "x0"])
def test_a_solve_says_nonfinite(name, value, dtype):
    if name == "g" and value == np.inf:
        value = -np.inf  # exp(-inf) is 0 and the matrix a diagonal one
    found = spoilt(name, value, dtype)
    with pytest.warns(ConvergenceWarning, match="Not solved: there is NaN or Inf in .*, and x is NaN throughout"):
        a, solution = run(found)
    assert sum(solution.products.values()) <= 3  # at once
    assert solution.status == "nonfinite" and not solution.converged and solution.info == -1
    assert a.dtype == dtype and np.isnan(a).all() and np.isnan(solution.x).all() and np.isnan(solution.residual).all()
    assert {"b": "in B", "x0": "in x0"}.get(name, "in a product of A or of M") in solution.message


@pytest.mark.parametrize("method", ["auto", "cg", "block_cg", "direct"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_at_once_from_a_start_too(dtype, method):
    found = spoilt("x", np.nan, dtype) | {"x0": np.ones((N, 2), dtype)}
    _, solution = run(found, method=method, on_fail="ignore")
    assert solution.status == "nonfinite" and solution.iterations == 0
    assert sum(solution.products.values()) <= 3


def test_on_fail():
    found = spoilt("b", np.nan)
    a, solution = run(found, on_fail="ignore")  # a warning would be an error here
    assert solution.status == "nonfinite"
    with pytest.raises(SolveError, match="there is NaN or Inf in B") as caught:
        run(found, on_fail="raise")
    assert np.isnan(caught.value.solution.x).all() and np.isnan(a).all()


def test_one_bad_column_spoils_all():
    found = data()
    found["b"][3, 1] = np.nan
    a, solution = run(found, on_fail="ignore")
    assert solution.status == "nonfinite" and np.isnan(a).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["x", "b", "x0", "M"])
def test_solve_and_cg_on_an_operator(place, value):
    found = spoilt(place, value) if place != "M" else data()
    A = KernelOperator(GAUSS, ALIASES, "b", found["x"], found["x"], found["g"], alpha=0.1)
    M = np.diag(np.full(N, value)) if place == "M" else None
    solution = solve(A, found["b"], x0=found["x0"], M=M, on_fail="ignore")
    assert solution.status == "nonfinite" and np.isnan(solution.x).all()
    x0 = None if found["x0"] is None else found["x0"][:, 1]
    x, info = cg(A, found["b"][:, 1], x0, M=M)
    assert info == -1 and np.isnan(x).all()


def test_overflow_on_the_way_is_a_status_too():
    found = data("float32")
    with np.errstate(all="raise"):
        a, solution = SOLVER(
            found["x"], found["x"], found["b"], -1e4, alpha=0.1, on_fail="ignore", return_solution=True
        )
    assert solution.status == "nonfinite" and np.isnan(a).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_alpha_is_refused_before(value):
    found = data()
    for alpha in (value, np.full(N, value), np.r_[np.ones(N - 1), value]):
        with pytest.raises(ArgumentError, match="alpha must be finite and nonnegative, got -?(nan|inf)"):
            SOLVER(found["x"], found["x"], found["b"], found["g"], alpha=alpha)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_large_and_small_are_finite(scale):
    found = data()
    a, solution = run({**found, "b": found["b"] * scale}, rtol=1e-8)
    assert solution.converged
    np.testing.assert_allclose(a / scale, run(found, rtol=1e-8)[0], rtol=1e-6)


OPERATIONS = ["Sum", "LogSumExp", "Min", "Max", "ArgMin", "KMin"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("op", OPERATIONS)
def test_a_reduction_carries_them_on_as_torch_does(op, value):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((5, 1)), rng.standard_normal((30, 1))
    w[17] = value
    options = {"opt_arg": 3} if op == "KMin" else {}
    got = Genred("x + w", ["x = Vi(1)", "w = Vj(1)"], op, axis=1, **options)(x, w)
    terms = torch.from_numpy(x + w.T)
    want = {
        "Sum": lambda: terms.sum(1),
        "LogSumExp": lambda: terms.logsumexp(1),
        "Min": lambda: terms.min(1).values,
        "Max": lambda: terms.max(1).values,
        "ArgMin": lambda: terms.argmin(1),
        "KMin": lambda: terms.topk(3, largest=False).values,
    }[op]()
    np.testing.assert_allclose(got, want.numpy().reshape(got.shape), rtol=1e-12)


def test_a_reduction_carries_them_on_in_their_row_only():
    found = data()
    found["x"] = found["x"].copy()
    found["x"][7] = np.nan
    got = Genred(GAUSS, ALIASES, axis=1)(found["x"], data()["x"], found["b"], found["g"])
    assert np.isnan(got[7]).all() and np.isfinite(np.delete(got, 7, 0)).all()
