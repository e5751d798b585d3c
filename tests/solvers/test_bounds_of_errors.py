"""`Solution.bound` and `certificate` bound what they say, or say nothing: for all kinds of kernels, ways, matrices."""

import numpy as np
import pytest
import scipy.sparse as sp
import usual
from scipy.sparse.linalg import aslinearoperator

from kernelops import KernelOperator, Ranges, SolveState, solve
from kernelops.numpy import KernelSolve
from kernelops.operators.kernel_entries import KernelEntries
from kernelops.torch import KernelSolve as TorchKernelSolve

N = 120
X = np.random.default_rng(0).random((N, 2)).astype(np.float32).astype(float)
ALIASES = usual.aliases(2, 1, "g")
GAUSS = usual.SCALED_GAUSS
SEMIDEFINITE = {
    "gauss": (GAUSS, 5.0),
    "laplace": (usual.SCALED_LAPLACE, 3.0),
    "matern": ("(1 + g*Norm2(x-y))*Exp(-g*Norm2(x-y))*b", 6.0),
    "linear": ("(g + (x|y))*b", 1.0),
}
INDEFINITE = {
    "cut": (GAUSS, 3.0),
    "difference": ("(Exp(-g*SqDist(x,y)) - 0.9*Exp(-2*g*SqDist(x,y)))*b", 5.0),
    "weights": ("(Sum(x) - 1)*Exp(-g*SqDist(x,y))*(1 - Sum(y))*b", 5.0),
    "wave": ("Cos(g*Norm2(x-y))*b", 20.0),
    "step": ("Step(0.04*g - SqDist(x,y))*b", 1.0),
}
WAYS = [
    {"method": "cg", "precond": None},
    {"method": "cg", "precond": "pivoted_cholesky"},
    {"method": "cg", "precond": "nystrom"},
    {"method": "cg", "precond": "fsai"},
    {"method": "block_cg", "precond": "pivoted_cholesky"},
    {"method": "block_cg", "precond": None},
    {"method": "direct"},
]
named = pytest.mark.parametrize("way", WAYS, ids=lambda w: "-".join(map(str, w.values())))


def operator(kind, alpha, dtype="float64", **keywords):
    formula, g = (SEMIDEFINITE | INDEFINITE)[kind]
    if kind == "cut":
        keywords["ranges"] = Ranges.from_radius(X, X, 0.1, points_per_cluster=8)
    x = X.astype(dtype)
    return KernelOperator(formula, ALIASES, "b", x, x, np.array([g], dtype), alpha=alpha, **keywords)


def dense_of(kind, alpha):
    return operator(kind, 0.0).to_dense() + np.diag(np.broadcast_to(alpha, N))


def sides(A):
    """An arbitrary one, and one that is mostly along the largest eigenvector with an end at the smallest."""
    vectors = np.linalg.eigh(A)[1]
    arbitrary = np.random.default_rng(1).standard_normal(N)
    return np.stack([arbitrary, vectors[:, -1] + 0.09 * vectors[:, 0]], axis=1)


def energy_errors(A, x, b):
    e = x - np.linalg.solve(A, b)
    return np.sqrt(np.einsum("n...,n...->...", e, A @ e))


def check(A, b, found, proved):
    """The bound holds, and is there only where one is proved; no condition number exceeds a certificate."""
    assert np.isfinite(found.bound).all() if proved else np.isnan(found.bound).all()
    if proved:
        size = np.sqrt(np.einsum("n...,n...->...", b, np.linalg.solve(A, b)))
        rounding = 1e-15 * np.linalg.cond(A) * size  # of the solution that is compared with, too
        assert (energy_errors(A, found.x, b) <= found.bound * (1 + 1e-6) + rounding).all()
    for P in found.preconditioners:
        assert proved or (P.certificate == np.inf and P.inverse_bound == np.inf)
        assert found.condition is None or found.method == "block_cg" or found.condition <= P.certificate


@named
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", SEMIDEFINITE)
def test_semidefinite_kernels(kind, dtype, way):
    for alpha, rtol in ((1e-3, 1e-2), (np.geomspace(1e-2, 1.0, N), 1e-4)):
        A = dense_of(kind, alpha)
        b = sides(A).astype(dtype).astype(float)
        check(A, b, solve(operator(kind, alpha, dtype), b, rtol=rtol, **way), proved=True)


@named
@pytest.mark.parametrize("kind", INDEFINITE)
def test_indefinite_kernels(kind, way):
    alpha = 1e-3 - np.linalg.eigvalsh(dense_of(kind, 0.0))[0]  # A itself is positive definite
    assert alpha > 2e-3
    A = dense_of(kind, alpha)
    for rtol in (1e-1, 1e-2):
        check(A, sides(A), solve(operator(kind, alpha), sides(A), rtol=rtol, on_fail="ignore", **way), proved=False)


@pytest.mark.parametrize("door", ["numpy", "torch"])
def test_both_doors(door):
    import torch

    for kind, proved in (("gauss", True), ("wave", False)):
        formula, g = (SEMIDEFINITE | INDEFINITE)[kind]
        alpha = 1e-3 + max(0.0, -np.linalg.eigvalsh(dense_of(kind, 0.0))[0])
        A = dense_of(kind, alpha)
        b = sides(A)[:, :1]
        args = X, X, b, np.array([g])
        solver = (KernelSolve if door == "numpy" else TorchKernelSolve)(formula, ALIASES, "b", axis=1)
        args = args if door == "numpy" else [torch.from_numpy(a) for a in args]
        _, found = solver(*args, alpha=alpha, rtol=1e-2, method="cg", return_solution=True, on_fail="ignore")
        check(A, b, found, proved)


def test_elements_of_a_batch():
    g, b = np.array([[[5.0]], [[20.0]]]), sides(dense_of("gauss", 1e-3))[:, :1]
    solver = KernelSolve(GAUSS, ALIASES, "b", axis=1)
    how = {"alpha": np.array([[1e-3], [1e-2]]), "rtol": 1e-2, "method": "cg", "precond": "pivoted_cholesky"}
    _, found = solver(X, X, b, g[:, 0], return_solution=True, **how)
    for k in range(2):
        A = KernelOperator(GAUSS, ALIASES, "b", X, X, g[k, 0], alpha=how["alpha"][k, 0]).to_dense()
        assert energy_errors(A, found.x[k], b) <= found.bound[k] * (1 + 1e-6)
    assert np.isfinite([P.certificate for P in found.preconditioners]).all()
    _, found = solver(X, X, b, g[:, 0] * [[1], [-0.01]], return_solution=True, on_fail="ignore", **how)
    assert np.isnan(found.bound[1]) and found.preconditioners[1].certificate == np.inf
    A = KernelOperator(GAUSS, ALIASES, "b", X, X, g[0, 0], alpha=1e-3).to_dense()  # a certificate is each element's own
    assert energy_errors(A, found.x[0], b) <= found.bound[0] * (1 + 1e-6)


def test_truncation_costs_its_share_of_alpha():
    x = 10 * np.random.default_rng(0).random((1200, 2))
    b = np.random.default_rng(1).standard_normal(1200)
    for precond in (None, "pivoted_cholesky", "nystrom"):
        A = KernelOperator(GAUSS, ALIASES, "b", x, x, 5.0, alpha=0.5, truncate=0.4)
        found = solve(A, b, rtol=1e-2, method="cg", precond=precond)
        assert A.ranges is not None
        np.testing.assert_allclose(found.bound, found.residual * np.linalg.norm(b) / np.sqrt(0.3), rtol=1e-12)
        assert energy_errors(A.to_dense(), found.x, b) <= found.bound
        assert all(P.certificate == np.inf for P in found.preconditioners)
    solver = KernelSolve(GAUSS, ALIASES, "b", axis=1)
    _, same = solver(x, x, b[:, None], 5.0, alpha=0.5, truncate=0.4, rtol=1e-2, method="cg", return_solution=True)
    np.testing.assert_allclose(same.bound, same.residual * np.linalg.norm(b) / np.sqrt(0.3), rtol=1e-12)


def test_of_matrices_and_operators_nothing_is_known():
    A = dense_of("gauss", 0.1)
    b, own = sides(A)[:, 0], operator("gauss", 0.1)
    for given in (A, sp.csr_matrix(A), aslinearoperator(A), 2 * own):
        assert np.isnan(solve(given, b).bound)
    assert np.isnan(solve(operator("gauss", 0.0), b, maxiter=3, method="cg", precond="jacobi", on_fail="ignore").bound)
    found = solve(own, b, M=np.linalg.inv(A + 0.01 * np.eye(N)), rtol=1e-2)  # of M nothing, of A all
    check(A, b, found, proved=True)
    np.testing.assert_allclose(found.bound, found.residual * np.linalg.norm(b) / np.sqrt(0.1), rtol=1e-12)


def test_a_kept_preconditioner_claims_nothing_of_another_matrix():
    state, b = SolveState(), np.sin(9 * X[:, 0])
    how = {"method": "cg", "precond": "pivoted_cholesky", "state": state, "on_fail": "ignore"}
    first = solve(operator("gauss", 1e-3), b, **how)
    certificate = first.preconditioners[0].certificate
    second = solve(operator("matern", 1e-3), b, **how)
    assert "kept" in second.reason and second.condition > certificate  # what would have been refuted
    assert second.preconditioners[0].certificate == np.inf and second.preconditioners[0].inverse_bound == np.inf
    assert first.preconditioners[0].certificate == certificate < np.inf
    np.testing.assert_array_equal(second.preconditioners[0] @ b, first.preconditioners[0] @ b)


def test_what_the_iteration_refutes_is_withdrawn(monkeypatch):
    """As if something wrong had been proved."""
    alpha = 1e-3 - np.linalg.eigvalsh(dense_of("cut", 0.0))[0]
    monkeypatch.setattr(KernelEntries, "semidefinite", True)
    b = sides(dense_of("cut", alpha))
    how = {"method": "cg", "precond": "pivoted_cholesky"}
    first = solve(operator("cut", alpha), b[:, 1], rtol=1e-14, maxiter=1, on_fail="ignore", **how)
    assert first.condition is None and first.preconditioners[0].certificate < np.inf  # too little was seen
    found = solve(operator("cut", alpha), b[:, 1], **how)
    assert found.condition > 1000 and found.preconditioners[0].certificate == np.inf
    together = solve(operator("cut", alpha), b, **how)
    assert together.preconditioners[0].certificate == np.inf


def test_a_matrix_that_was_seen_to_be_indefinite_has_no_bound(monkeypatch):
    monkeypatch.setattr(KernelEntries, "semidefinite", True)
    monkeypatch.setattr(KernelOperator, "least", 0.0)
    for precond in (None, "pivoted_cholesky"):
        found = solve(operator("wave", 1e-3), np.ones(N), method="cg", precond=precond, on_fail="ignore")
        assert found.status == "not positive definite" and np.isnan(found.bound)
        assert all(P.certificate == np.inf for P in found.preconditioners)
