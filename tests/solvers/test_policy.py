"""What is built for a solve: by name, by counted work, and never at the price of a wrong answer."""

import re
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg as sla
from judges import assert_solves

from kernelops import KernelOperator, Ranges, solve
from kernelops.errors import ArgumentError, KeywordError
from kernelops.numpy import KernelSolve
from kernelops.solvers import policy
from kernelops.solvers.costs import Costs, extrapolated
from kernelops.solvers.plan import METHODS, NEED_ENTRIES, PRECONDS

NAMES = [*PRECONDS, None]
BUILT = [name for name in PRECONDS if name != "auto"]
LOW_RANK = ("pivoted_cholesky", "nystrom")
DIVIDE = ("pivoted_cholesky",)  # by alpha
ALIASES = ["x = Vi(2)", "y = Vj(2)", "b = Vj(2)"]
SMOOTH, ROUGH = "Exp(-20*SqDist(x,y))*b", "Exp(-5*Norm2(x-y))*b"
N, ASKED = 240, 1e-6


def points(n=N, seed=0, dtype="float64"):
    """The same numbers in either dtype."""
    return np.random.default_rng(seed).random((n, 2)).astype(np.float32).astype(dtype)


def squares(x):
    return ((x[..., :, None, :] - x[..., None, :, :]) ** 2).sum(-1)


def smooth(x):
    return np.exp(-20 * squares(x))


def rough(x):
    return np.exp(-5 * np.sqrt(squares(x)))


def hessian(x, g=4.0):
    """d/dx d/dy exp(-g |x-y|^2) = 2 g (1 - 2 g (x-y)(x-y)^T) exp(-g |x-y|^2), (2 n, 2 n)."""
    d = x[:, None] - x
    blocks = 2 * g * np.eye(2) - 4 * g * g * d[..., :, None] * d[..., None, :]
    return (blocks * np.exp(-g * squares(x))[..., None, None]).swapaxes(1, 2).reshape(2 * len(x), -1)


CLUSTERS = [[k, k + 60] for k in range(0, N, 60)]
KEEP = np.abs(np.subtract.outer(range(4), range(4))) <= 1
MASK = np.kron(KEEP, np.ones((60, 60)))


@dataclass(frozen=True)
class Case:
    """A system as a formula, and the matrix without alpha."""

    formula: str
    matrix: Any
    alpha: Any
    x: np.ndarray = field(default_factory=points)
    ranges: Any = None
    positive: bool = True  # whether alpha is, in every row

    def b(self):
        return np.random.default_rng(1).standard_normal((*self.x.shape[:-1], 2)).astype(np.float32)

    def operator(self, dtype):
        x = self.x.astype(dtype)
        return KernelOperator(self.formula, ALIASES, "b", x, x, alpha=self.alpha, ranges=self.ranges)

    def by_operator(self, dtype, **keywords):
        b = self.b().astype(dtype)
        A = self.operator(dtype)
        return solve(A, b.reshape(-1) if A.shape[0] != len(b) else b, **keywords)

    def by_solver(self, dtype, **keywords):
        x, b = self.x.astype(dtype), self.b().astype(dtype)
        solver = KernelSolve(self.formula, ALIASES, "b", axis=1)
        return solver(x, x, b, alpha=self.alpha, ranges=self.ranges, return_solution=True, **keywords)[1]

    def check(self, solution):
        """Converged, by the dense float64 matrix, in every element of a batch."""
        assert solution.converged, solution.message
        K = self.matrix(self.x)
        n = self.x.shape[-2]
        if self.x.ndim == 2:
            width = len(K) // n
            diagonal = np.repeat(np.broadcast_to(np.ravel(self.alpha), n), width)
            shape = (n, 2) if width == 1 else (2 * n, 1)
            assert_solves(K + np.diag(diagonal), solution.x.reshape(shape), self.b().reshape(shape), ASKED)
        else:
            for k in np.ndindex(self.x.shape[:-2]):
                assert_solves(K[k] + self.alpha[k] * np.eye(n), solution.x[k], self.b()[k], ASKED)


CASES = {
    "scalar alpha": Case(SMOOTH, smooth, 1e-3),
    "alpha by rows": Case(SMOOTH, smooth, np.geomspace(1e-3, 10, N)),
    "alpha with zeros": Case(ROUGH, rough, np.where(np.arange(N) % 2, 0.1, 0.0), positive=False),
    "alpha 0": Case(ROUGH, rough, 0.0, positive=False),
    "matrix-valued": Case("Exp(-4*SqDist(x,y))*(8*b-64*(x-y|b)*(x-y))", hessian, 0.1, points(N // 2)),
    "ranges": Case(SMOOTH, lambda x: smooth(x) * MASK, 20.0, ranges=Ranges.from_mask(CLUSTERS, CLUSTERS, KEEP)),
}
BATCH = Case(
    SMOOTH, smooth, np.array([1e-3, 0.1, 10.0])[:, None, None], np.stack([points(N // 2, s) for s in range(3)])
)
DOORS = [(name, door) for name in CASES for door in ("operator", "solver")]


def solved(case, door, dtype, **keywords):
    return getattr(case, f"by_{door}")(dtype, **keywords)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("case", "door"), [*DOORS, ("batches", "solver")])
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
    costs = costs_of(case.operator("float64"))
    crossover = costs.direct() / costs.iteration
    for factor, method in ((1.001, "direct"), (0.999, "cg")):
        monkeypatch.setattr(policy, "EXPECTED", factor * crossover)
        solution = case.by_operator("float64")
        case.check(solution)
        assert solution.method == method
        assert ("predicted to be faster than iterating" in solution.reason) == (method == "direct")


def test_the_crossover_is_a_size():
    """A small system is factored, a large one is not."""
    entries = [SimpleNamespace(n=n, work=10.0, density=1.0, coordinates=None) for n in (100, 30_000)]
    small, large = (Costs(e, 1, True, 15.0) for e in entries)
    assert small.direct() < policy.EXPECTED * small.iteration
    assert large.direct() > policy.EXPECTED * large.iteration


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


# ---- hard systems ----

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
    x = np.repeat(points(N // 2), 2, axis=0)
    A, K = KernelOperator(ROUGH, ALIASES, "b", x, x), rough(x)
    for way in ways(0.0):
        assert not solve(A, CASES["scalar alpha"].b(), **way, on_fail="ignore").converged
        within = K @ CASES["scalar alpha"].b().astype(float)
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


# ---- predicted costs ----


def entries(n=5000, work=10.0, density=1.0, dimension=3):
    coordinates = None if dimension is None else np.zeros((1, dimension))
    return SimpleNamespace(n=n, work=work, density=density, coordinates=coordinates)


def costs(columns=1, double=True, digits=14.0, **changes):
    return Costs(entries(**changes), columns, double, digits)


GROWS = {  # name -> (cost, changes in the order in which it must grow)
    "iteration by n": (lambda c: c.iteration, [{"n": n} for n in (10, 100, 1000, 10_000)]),
    "iteration by work": (lambda c: c.iteration, [{"work": w} for w in (1, 10, 100)]),
    "iteration by columns": (lambda c: c.iteration, [{"columns": k} for k in (1, 2, 50)]),
    "iteration by density": (lambda c: c.iteration, [{"density": d} for d in (0.01, 0.1, 1)]),
    "iteration by precision": (lambda c: c.iteration, [{"double": d} for d in (False, True)]),
    "direct by n": (lambda c: c.direct(), [{"n": n} for n in (10, 100, 1000, 10_000)]),
    "direct by columns": (lambda c: c.direct(), [{"columns": k} for k in (1, 10, 100)]),
    "an entry by work": (lambda c: c.direct(), [{"work": w} for w in (50, 100, 1000)]),
    "low rank by n": (lambda c: c.low_rank(100, 1.0), [{"n": n} for n in (100, 1000, 10_000)]),
    "low rank by digits": (lambda c: c.low_rank(100, 1.0), [{"digits": d} for d in (5, 10, 20)]),
    "sparse by n": (lambda c: c.sparse(200, 30), [{"n": n} for n in (100, 1000, 10_000)]),
    "sparse by dimension": (lambda c: c.sparse(200, 30), [{"dimension": d} for d in (3, 4)]),
    "plain by digits": (lambda c: c.plain(100.0), [{"digits": d} for d in (5, 10, 20)]),
}


@pytest.mark.parametrize("name", GROWS)
def test_costs_grow(name):
    cost, changes = GROWS[name]
    values = [cost(costs(**change)) for change in changes]
    assert all(0 < a < b for a, b in zip(values, values[1:], strict=False)), values


def test_costs_of_what_is_asked_of_them():
    c = costs()
    assert c.low_rank(100, 1.0) < c.low_rank(100, 4.0) and c.sparse(0, 30) < c.sparse(200, 30) < c.sparse(200, 50)
    assert c.low_rank(200, 1.0) > c.low_rank(100, 1.0)  # where more columns lower nothing
    assert c.plain(1.0) < c.plain(100.0) < c.plain(1e4)
    assert c.plain(1e20) == c.plain(1e30) == (1 + 5000) * c.iteration  # no more than n iterations
    assert costs(work=1).entry == costs(work=2).entry  # an entry by itself costs a while whatever it is
    assert [costs(dimension=d).flat for d in (1, 3, 4, None)] == [True, True, False, False]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("trace", [1e-3, 1.0, 1e4])
def test_the_extrapolated_rank(trace, power):
    """Between k and the most, no worse than either, and as far as the trace falls."""
    c = costs(n=20_000)
    rank, cost = extrapolated(c, 64, trace, power, 1500)
    predicted = {r: c.low_rank(r, trace * (64 / r) ** power) for r in (64, rank, 1500)}
    assert 64 <= rank <= 1500 and cost == predicted[rank] == min(predicted.values())
    if power == 0:
        assert rank == 64
    assert extrapolated(c, 1500, trace, power, 1500) == (1500, c.low_rank(1500, trace))


def test_more_columns_where_the_trace_falls():
    c = costs(n=20_000, work=100)
    assert extrapolated(c, 64, 1e4, 2.0, 1500)[0] > 64
    assert extrapolated(c, 64, 1e8, 1.0, 1500)[0] == 1500
    assert extrapolated(c, 64, 1e-8, 4.0, 1500)[0] == 64


def test_names_are_listed():
    """As the signature of solve has them."""
    for name in (*PRECONDS, *METHODS):
        assert re.search(f'"{name}"', solve.__doc__)
