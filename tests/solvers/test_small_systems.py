"""Systems of no row and of a few, by every method, preconditioner and door; and the silence of numpy whatever comes."""

import warnings
from itertools import product

import numpy as np
import pytest
import usual
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator

from kernelops import KernelOperator, cg, solve
from kernelops.numpy import KernelSolve

NAMES = ("auto", None, "pivoted_cholesky", "fsai", "nystrom", "jacobi")
WAYS = [{"method": m, "precond": p} for m in ("auto", "cg", "block_cg") for p in NAMES] + [{"method": "direct"}]


def entries_needed(how):
    return how["method"] == "direct" or how.get("precond") in ("pivoted_cholesky", "fsai", "jacobi")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("D", (2, 5))
@pytest.mark.parametrize("n", (0, 1, 2, 3))
def test_kernels(n, D):
    """In up to three dimensions a tree finds neighbours, in more a reduction: neither is asked for none."""
    text = usual.LAPLACE
    r = np.random.default_rng(n + D)
    x, b = r.random((n, D)), r.standard_normal((n, 5))
    K = np.exp(-np.sqrt(((x[:, None] - x) ** 2).sum(-1)))
    for how, alpha in product(WAYS, (0.0, 0.1)):
        k = 5 if how["method"] == "block_cg" else 1
        if alpha == 0 and how.get("precond") in ("pivoted_cholesky", "nystrom"):
            continue
        aliases = [f"x = Vi({D})", f"y = Vj({D})", f"b = Vj({k})"]
        exact = np.linalg.solve(K + alpha * np.eye(n), b[:, :k])
        a, solution = KernelSolve(text, aliases, "b", axis=1)(x, x, b[:, :k], alpha=alpha, return_solution=True, **how)
        assert solution.converged and a.shape == (n, k), how
        np.testing.assert_allclose(a, exact, rtol=1e-4, atol=1e-4)
        found = solve(KernelOperator(text, aliases, "b", x, x, alpha=alpha), b[:, :k], **how)
        assert found.converged
        np.testing.assert_allclose(found.x, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", (0, 1, 2, 3))
@pytest.mark.parametrize("door", ("array", "sparse", "columns"))
def test_matrices(door, n):
    A = np.diag(np.arange(1.0, n + 1)) + 0.1
    wrapped = {
        "array": A,
        "sparse": csr_array(A),
        "columns": LinearOperator(A.shape, matvec=lambda v: A @ v, dtype=float),
    }[door]
    for how in WAYS:
        k = 5 if how["method"] == "block_cg" else 1
        if how.get("precond") == "pivoted_cholesky" or (door != "array" and entries_needed(how)):
            continue
        b = np.random.default_rng(k).standard_normal((n, k))
        assert_solved(A, b, solve(wrapped, b, **how))
    b = np.ones((n, 3))
    for M in (np.linalg.inv(A), csr_array(np.linalg.inv(A)), LinearOperator(A.shape, matvec=lambda v: v, dtype=float)):
        for method, x0 in product(("cg", "block_cg"), (None, "Mb", np.ones((n, 3)))):
            assert_solved(A, b, solve(wrapped, b, x0, M=M, method=method))
        x, info = cg(wrapped, b[:, 0], M=M)
        assert info == 0 and x.shape == (n,)
    assert cg(wrapped, b[:, 0])[1] == 0


def assert_solved(A, b, solution):
    assert solution.converged and solution.x.shape == b.shape
    assert (np.linalg.norm(b - A @ solution.x, axis=0) <= 1.01e-6 * np.linalg.norm(b, axis=0)).all()


@pytest.mark.parametrize("method", ("cg", "block_cg", "direct"))
def test_a_positive_number_is_positive_definite(method):
    """Asked for more than rounding allows, it is as near as it gets, or exact: never said to be what it is not."""
    seen = set()
    for seed in range(60):
        r = np.random.default_rng(seed)
        a, b = np.array([[10.0 ** r.uniform(-5, 5)]]), r.standard_normal((1, 2))
        solution = solve(a, b, rtol=0.0, method=method, on_fail="ignore")
        np.testing.assert_allclose(solution.x, b / a, rtol=1e-15)
        seen.add(solution.status)
    assert seen == {"converged", "stagnated"}


SINGULAR = {
    "zeros": np.zeros((4, 4)),
    "ones": np.ones((4, 4)),
    "tiny ones": 1e-300 * np.ones((4, 4)),
    "a zero": np.diag([1.0, 1, 1, 0]),
    "a tiny number": np.diag([1.0, 1, 1, 1e-300]),
    "far apart": np.diag([1e-200, 1, 1, 1e200]),
    "farther": np.diag([1e300, 1, 1, 1e-300]),
}


@pytest.mark.parametrize("name", SINGULAR)
@pytest.mark.parametrize("method", ("cg", "block_cg", "direct"))
def test_singular_to_rounding(name, method):
    """Finite data are not said to hold NaN, and it is A that is to blame where no M was given."""
    A, b = SINGULAR[name], np.arange(1.0, 5)
    solution = solve(A, b, method=method, on_fail="ignore")
    assert np.isfinite(solution.x).all() or "beyond the range" in solution.message
    assert solution.status in ("not positive definite", "stagnated", "maxiter", "converged") or solution.info == -1
    assert "look for NaN" not in solution.message.lower() and "another preconditioner M" not in solution.message
    if solution.converged:
        assert np.abs(b - A @ solution.x).max() <= 1e-6 * np.linalg.norm(b)


HARD = {
    "tiny": lambda b: (1e-310 * np.eye(5), b),
    "huge": lambda b: (1e308 * np.eye(5), b * 1e300),
    "beyond": lambda b: (1e-200 * np.eye(5), b * 1e200),
    "below": lambda b: (1e200 * np.eye(5), b * 1e-200),
    "nan in A": lambda b: (np.where(np.eye(5) > 0, np.nan, 0.0), b),
    "inf in A": lambda b: (np.diag([np.inf, 1, 1, 1, 1]), b),
    "nan in b": lambda b: (np.eye(5), b * np.nan),
    "inf in b": lambda b: (np.eye(5), b * np.inf),
    "singular": lambda b: (np.ones((5, 5)), b),
    "negative": lambda b: (-np.eye(5), b),
    "zero": lambda b: (np.zeros((5, 5)), b),
    "far apart": lambda b: (np.diag([1e-300, 1e-100, 1, 1e100, 1e300]), b),
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("settings", ("warn", "raise"))
def test_numpy_is_silent(name, settings):
    """Whatever the data, and whatever numpy is told to do: only a status and our own warning come out."""
    A, b = HARD[name](np.random.default_rng(0).standard_normal((5, 2)))
    with warnings.catch_warnings(), np.errstate(all=settings):
        warnings.simplefilter("error")
        for how in ({"method": "direct"}, {"precond": "jacobi"}, {"precond": "fsai"}, {"precond": "nystrom"}):
            solve(A, b, on_fail="ignore", **how)
        for method in ("cg", "block_cg"):
            solve(A, b, method=method, precond=None, on_fail="ignore")
        for M in (1e300 * np.eye(5), 1e-300 * np.eye(5), np.nan * np.eye(5), np.zeros((5, 5)), -np.eye(5)):
            solve(A, b, M=M, on_fail="ignore")
        for x0 in ("Mb", np.full((5, 2), 1e300), np.full((5, 2), np.nan)):
            solve(A, b, x0, on_fail="ignore")
        cg(A, b[:, 0])


@pytest.mark.filterwarnings("error")
def test_doors_are_silent():
    """What is cast to the dtype of b, predictions and determinants too."""
    x = np.random.default_rng(0).random((20, 2))
    aliases = usual.aliases(2, 1, "s")
    solver = KernelSolve("s*Exp(-SqDist(x,y))*b", aliases, "b", axis=1)
    for dtype, s in (("float64", 1e-300), ("float64", 1e300), ("float32", 1e-38), ("float32", 1e37), ("float16", 1e-4)):
        z, c = x.astype(dtype), np.dtype(dtype).type(s)
        b = np.ones((20, 1), dtype)
        for alpha in (0.0, float(c), 1e-300):
            how = {"alpha": alpha, "on_fail": "ignore"}
            solver(z, z, b, c, **how)
            solver.logdet(z, z, c, **how)
            solver.predict(z, z, b, c, at=z[:3], **how)


def test_callbacks_keep_the_settings_of_numpy():
    seen = []
    with np.errstate(divide="raise", over="call", invalid="warn", under="print"):
        solve(np.diag([1.0, 2.0]), np.ones(2), callback=lambda x: seen.append(np.geterr()))
        cg(np.diag([1.0, 2.0]), np.ones(2), callback=lambda x: seen.append(np.geterr()))
        assert len(seen) == 4 and all(settings == np.geterr() for settings in seen)
