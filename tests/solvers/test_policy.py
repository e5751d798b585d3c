"""What is built for a solve, by name or by counted work: converged in every case, by dense float64 matrices."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse.linalg as sla
from judges import assert_solves
from kernel_cases import (
    ALIASES,
    ASKED,
    BATCH,
    BUILT,
    CASES,
    DIVIDE,
    LOW_RANK,
    MASK,
    NAMES,
    ROUGH,
    SMOOTH,
    Case,
    N,
    points,
    rough,
    smooth,
)
from pairwise import pairwise

from kernelops import KernelOperator, solve
from kernelops.errors import ArgumentError, KeywordError
from kernelops.solvers import policy
from kernelops.solvers.cost_model import Costs
from kernelops.solvers.options import METHODS, NEED_ENTRIES, PRECONDS

DOORS = [(name, door) for name in CASES for door in ("operator", "solver")]


def solved(case, door, dtype, **keywords):
    return getattr(case, f"by_{door}")(dtype, **keywords)


@pytest.mark.parametrize(
    ("case", "door", "name", "dtype"),
    [
        *pairwise(list(CASES), ["operator", "solver"], NAMES, ["float32", "float64"]),
        *(("batches", "solver", name, dtype) for name in NAMES for dtype in ("float32", "float64")),
    ],
)
def test_every_preconditioner_solves_every_kind_of_system(case, door, name, dtype):
    case = BATCH if case == "batches" else CASES[case]
    if name in DIVIDE and not case.positive:
        with pytest.raises(ArgumentError, match="alpha must be positive for a low-rank preconditioner, got 0"):
            solved(case, door, dtype, precond=name, method="cg")
        return
    solution = solved(case, door, dtype, precond=name, method="cg")
    case.check(solution)
    assert solution.method == "cg"
    if name != "auto":
        assert solution.precond == ("none" if name is None else name)
        assert solution.reason.endswith("as asked for")
        assert len(solution.preconditioners) == (0 if name is None else 3 if case is BATCH else 1)
        assert solution.rank > 0 if name in LOW_RANK else name == "fsai" or solution.rank == 0
        assert (solution.setup > 0) == (name not in (None, "jacobi"))
    else:
        assert solution.precond in ("none", *BUILT) and solution.reason
    assert solution.reason in str(solution) and f"method      cg; {solution.reason}" in str(solution)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("case", "door"), [*DOORS, ("batches", "solver")])
def test_a_dense_factor_solves_every_kind_of_system(case, door, dtype):
    case = BATCH if case == "batches" else CASES[case]
    solution = solved(case, door, dtype, method="direct")
    case.check(solution)
    assert (solution.method, solution.precond, solution.setup) == ("direct", "cholesky", 1.0)
    assert solution.iterations <= 2 and solution.reason == "dense Cholesky factor, as asked for"
    assert list(solution.products) == ["float64"]


@pytest.mark.parametrize("case", CASES)
def test_the_matrix_that_a_preconditioner_stands_for(case):
    """P^-1 is symmetric positive definite, and its determinant that of P: by columns of the identity."""
    for name in BUILT:
        if name in DIVIDE and not CASES[case].positive:
            continue
        (M,) = CASES[case].by_operator("float64", precond=name).preconditioners
        inverse = M @ np.eye(M.shape[0])
        np.testing.assert_allclose(inverse, inverse.T, atol=1e-6 * np.abs(inverse).max())
        values = np.linalg.eigvalsh((inverse + inverse.T) / 2)
        assert values[0] > 0
        assert M.logdet == pytest.approx(-np.log(values).sum(), rel=1e-4, abs=1e-3)


# ---- what is refused ----


def plain_operator():
    return sla.aslinearoperator(smooth(points()) + 0.1 * np.eye(N))


def test_of_products_alone():
    A, b = plain_operator(), CASES["scalar alpha"].b()
    solution = solve(A, b)
    assert solution.converged and solution.precond == "none"
    assert solution.reason == "no preconditioner: nothing is known of A but its products"
    for keywords in ({"method": "direct"}, *({"precond": name} for name in NEED_ENTRIES)):
        with pytest.raises(
            ArgumentError, match="needs entries of A, which a KernelOperator and a real array have; got"
        ):
            solve(A, b, **keywords)


def test_of_arrays():
    """Nothing is built for an array unless it is asked for, by a name that does without alpha."""
    A, b = rough(points()) + 0.01 * np.eye(N), CASES["scalar alpha"].b()
    assert solve(A, b).precond == "none"
    for keywords, name in (({"method": "direct"}, "cholesky"), ({"precond": "fsai"}, "fsai")):
        for rhs in (b, np.stack([b, 2 * b, b[::-1]])):
            solution = solve(A, rhs, **keywords)
            assert solution.converged and solution.precond == name and len(solution.preconditioners) == 1
            for found, wanted in zip(solution.x.reshape(-1, N, 2), rhs.reshape(-1, N, 2), strict=True):
                assert_solves(A, found, wanted, ASKED)
    assert solve(A, b, precond="nystrom").precond == "nystrom"
    for name in DIVIDE:
        with pytest.raises(ArgumentError, match="alpha must be positive for a low-rank preconditioner"):
            solve(A, b, precond=name)
    with pytest.raises(ArgumentError, match="needs entries of A"):
        solve(A + 0j, b, method="direct")


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"precond": "ilu"}, ArgumentError, "precond: wanted None or one of .*got 'ilu'$"),
        ({"precond": np.eye(3)}, ArgumentError, "a matrix or an operator goes to M="),
        ({"precond": ["fsai"]}, ArgumentError, r"got \['fsai'\]"),
        ({"method": "cholesky"}, ArgumentError, "method: wanted one of .*got 'cholesky'$"),
        ({"method": np.array(["cg", "direct"])}, ArgumentError, "method: wanted one of"),
        ({"seed": -1}, ArgumentError, "seed: wanted a whole number of at least 0, got -1"),
        ({"seed": 0.5}, ArgumentError, "seed: wanted a whole number of at least 0, got 0.5"),
        ({"M": np.eye(N), "precond": "fsai"}, KeywordError, "both preconditioners"),
        ({"M": np.eye(N), "method": "direct"}, KeywordError, "takes no preconditioner"),
        ({"precond": "jacobi", "method": "direct"}, KeywordError, "takes no preconditioner"),
    ],
)
def test_refused(keywords, error, text):
    with pytest.raises(error, match=text):
        CASES["scalar alpha"].by_operator("float64", **keywords)


# ---- what "auto" takes ----


def costs_of(A, columns=2, double=True):
    (entries,) = A.entries
    return Costs(entries, columns, double, np.log(2 / ASKED))


def test_direct_below_the_predicted_crossover_and_iterations_above(monkeypatch):
    case = CASES["scalar alpha"]
    for factor, method in ((0.999, "direct"), (1.001, "cg")):
        monkeypatch.setattr(Costs, "direct", lambda self, f=factor: f * self.sparse(*policy._fsai_sizes(self)))
        solution = case.by_operator("float64")
        case.check(solution)
        assert solution.method == method
        assert ("predicted to be faster than iterating" in solution.reason) == (method == "direct")


def test_the_crossover_is_a_size():
    """A small system is factored, a large one is not."""
    entries = [SimpleNamespace(n=n, work=10.0, density=1.0, coordinates=None) for n in (100, 30_000)]
    small, large = (Costs(e, 1, True, 15.0) for e in entries)
    assert small.direct() < small.sparse(*policy._fsai_sizes(small))
    assert large.direct() > large.sparse(*policy._fsai_sizes(large))


def test_bytes_of_a_dense_factor(monkeypatch):
    case, size = CASES["scalar alpha"], 8 * N**2
    for allowed, method in ((size, "direct"), (size - 1, "cg")):
        monkeypatch.setattr(policy, "DIRECT_BYTES", allowed)
        assert case.by_operator("float64").method == method
    monkeypatch.setattr(policy, "LARGEST_DIRECT", size)
    case.check(case.by_operator("float64", method="direct"))
    monkeypatch.setattr(policy, "LARGEST_DIRECT", size - 1)
    with pytest.raises(ArgumentError, match=f"would make arrays of {size} bytes, at most {size - 1} are allowed"):
        case.by_operator("float64", method="direct")


def test_bytes_of_a_batch_of_dense_factors(monkeypatch):
    size = 3 * 8 * (N // 2) ** 2
    for allowed, method in ((size, "direct"), (size - 1, "cg")):
        monkeypatch.setattr(policy, "DIRECT_BYTES", allowed)
        assert BATCH.by_solver("float64").method == method


CHOSEN = {  # name -> (formula, alpha, what is taken, words of the reason)
    "large alpha": (SMOOTH, 1e3, "none", "the condition number is at most about 1e+00"),
    "points far apart": ("Exp(-1000000*SqDist(x,y))*b", 1.0, "none", "the condition number is at most about"),
    "a smooth kernel": ("Exp(-2*SqDist(x,y))*b", 1e-4, "pivoted_cholesky", "the spectrum falls fast"),
    "a kernel of low rank": ("(x|y)*b", 1e-4, "pivoted_cholesky", "that is all of K, to rounding"),
    "a rough kernel": ("Exp(-20*Norm2(x-y))*b", 1e-4, "fsai", "the spectrum falls slowly"),
    "alpha 0": (ROUGH, 0.0, "fsai", "alpha is 0 somewhere"),
    "alpha 0 in one row": (SMOOTH, np.r_[0.0, np.ones(1199)], "fsai", "alpha is 0 somewhere"),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CHOSEN)
def test_what_auto_takes(name, dtype):
    formula, alpha, taken, words = CHOSEN[name]
    x = points(1200, dtype=dtype)
    A = KernelOperator(formula, ALIASES[:2] + ["b = Vj(1)"], "b", x, x, alpha=alpha)
    solution = solve(A, np.random.default_rng(2).standard_normal(1200).astype(dtype), method="cg", on_fail="ignore")
    assert (solution.precond, words in solution.reason) == (taken, True), solution.reason
    assert solution.converged or name == "alpha 0 in one row", solution.message  # that one is nearly singular


def test_plain_on_both_sides(monkeypatch):
    """No preconditioner exactly where that is predicted to cost no more than the cheapest one."""
    case, seen = CASES["scalar alpha"], []

    def plain(factor):
        def predicted(self, condition):
            seen.append(condition)
            return factor * self.sparse(0, policy.NEIGHBOURS[0])

        return predicted

    for factor, none in ((1.0, True), (1.001, False)):
        monkeypatch.setattr(Costs, "plain", plain(factor))
        assert (case.by_operator("float64", method="cg").precond == "none") == none
    true = np.linalg.cond(smooth(points()) + 1e-3 * np.eye(N))
    assert all(0.3 * true < condition < 10 * true for condition in seen)


def test_sparse_ranges_on_both_sides(monkeypatch):
    """Where most of K is 0 there is nothing for low rank to find."""
    case = CASES["ranges"]
    density = case.operator("float64").entries[0].density
    assert density == pytest.approx(MASK.mean())
    for threshold, sparse in ((density * 1.001, True), (density, False)):
        monkeypatch.setattr(policy, "SPARSE", threshold)
        solution = case.by_operator("float64", method="cg")
        case.check(solution)
        assert ("most of K is 0" in solution.reason) == sparse
        assert (solution.precond == "fsai" and solution.rank == 0) or not sparse


def test_a_batch_is_named_by_what_was_built():
    """The first element needs nothing, the last one does."""
    mixed = Case(SMOOTH, smooth, np.array([1e4, 1e-3])[:, None, None], np.stack([points(600), points(600, 1)]))
    solution = mixed.by_solver("float64", method="cg")
    mixed.check(solution)
    names = [p.name for p in solution.preconditioners]
    assert names[0] == "none" and solution.precond == names[1] != "none"


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_seed_gives_the_same_bits(name, dtype):
    case = CASES["scalar alpha"]
    first, second = (case.by_operator(dtype, precond=name) for _ in range(2))
    assert first.iterations == second.iterations and first.reason == second.reason
    np.testing.assert_array_equal(first.x, second.x)
    for seed in (1, 2, 2**40):
        other = case.by_operator(dtype, precond=name, seed=seed)
        case.check(other)
        assert np.array_equal(other.x, first.x) == (name == "jacobi")


def test_names_are_listed():
    """As the signature of solve has them."""
    for name in (*PRECONDS, *METHODS):
        assert re.search(f'"{name}"', solve.__doc__)
