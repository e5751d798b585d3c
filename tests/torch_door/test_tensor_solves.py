"""Solves whose vectors are tensors end as those of numpy arrays do, and are judged by dense products of their own."""

import numpy as np
import pytest
from pairwise import pairwise
from scipy.sparse.linalg import LinearOperator
from tensor_systems import DEVICES, Matrix, gaussian, pair, residual, right_hand_sides
from torch_dense import torch

from kernelops.errors import ArgumentError, ConvergenceWarning, DtypeError, ShapeError
from kernelops.solvers import SolveState, cg, solve
from kernelops.torch.vectors import TensorVectors

PRECONDS = [None, "pivoted_cholesky", "fsai", "nystrom", "jacobi"]
SHAPES = [(200,), (200, 1), (200, 3), (200, 6), (3, 200, 2)]


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def agree(there, here, A, b, rtol, slack=1.3):
    """Two solutions of one problem: of the same kind, and both true."""
    assert there.status == here.status and there.info == here.info and there.method == here.method
    assert there.precond == here.precond and there.rank == here.rank
    assert isinstance(there.x, np.ndarray) and there.x.dtype == here.x.dtype and there.x.shape == here.x.shape
    assert there.iterations <= slack * here.iterations + 3
    assert there.history.shape[1:] == here.history.shape[1:] and len(there.history) == there.iterations + 1
    if there.converged:
        assert residual(A, there.x, b).max(initial=0) <= 1.01 * rtol
        np.testing.assert_allclose(there.residual.ravel(), residual(A, there.x, b).ravel(), rtol=1e-5, atol=1e-12)
        rounded = there.x.astype(b.dtype).astype(there.x.dtype)
        np.testing.assert_allclose(
            there.residual_returned.ravel(), residual(A, rounded, b).ravel(), rtol=1e-5, atol=1e-12
        )
    assert np.all((there.bound >= 0) | np.isnan(there.bound)) and set(there.seconds) == set(here.seconds)


@pytest.mark.parametrize(
    ("shape", "dtype", "method", "precond"),
    pairwise(SHAPES, ["float32", "float64"], ["cg", "block_cg"], PRECONDS),
    ids=str,
)
def test_methods_and_preconditioners(shape, dtype, method, precond, device):
    A, H = pair(gaussian(), dtype, 0.01, device)
    b = right_hand_sides(*shape, dtype=dtype)
    how = dict(method=method, precond=precond, rtol=1e-7)
    there, here = solve(A, torch.from_numpy(b).to(device), **how), solve(H, b, **how)
    assert here.converged
    agree(there, here, A, b, 1e-7)
    assert set(there.products) == set(here.products)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("how", [{"method": "direct"}, {}], ids=["direct", "auto"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_direct(shape, how, dtype, device):
    A, H = pair(gaussian(), dtype, 0.01, device)
    b = right_hand_sides(*shape, dtype=dtype)
    agree(solve(A, torch.from_numpy(b).to(device), **how), solve(H, b, **how), A, b, 1e-6)


@pytest.mark.parametrize("precond", PRECONDS)
@pytest.mark.parametrize("method", ["cg", "block_cg", "direct"])
def test_a_matrix_for_each_element_of_a_batch(method, precond, device):
    if method == "direct" and precond is not None:
        return
    A, H = pair(gaussian(60, batch=(2, 2)), "float32", 0.01, device)
    b = right_hand_sides(2, 2, 60, 3, dtype="float32")
    how = dict(method=method, precond=precond)
    agree(solve(A, torch.from_numpy(b).to(device), **how), solve(H, b, **how), A, b, 1e-6)


@pytest.mark.parametrize("method", ["cg", "block_cg"])
def test_complex_numbers(method, device):
    draw = np.random.default_rng(0)
    a = draw.standard_normal((40, 40)) + 1j * draw.standard_normal((40, 40))
    A, H = pair(a @ a.conj().T + 40 * np.eye(40), "complex128", device=device, entries=False)
    b = right_hand_sides(40, 3) + 1j * right_hand_sides(40, 3, seed=2)
    for M in (None, np.diag(1 / np.diagonal(A.truth).real)):
        there = solve(A, torch.from_numpy(b).to(device), method=method, M=M)
        agree(there, solve(H, b, method=method, M=M), A, b, 1e-6)


def indefinite(n=40):
    q, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((n, n)))
    return (q * np.linspace(-1, 2, n)) @ q.T


def poisoned(value):
    a = gaussian(40)
    a[3, 5] = a[5, 3] = value
    return a


def hilbert(n=12):
    return 1.0 / (1 + np.arange(n)[:, None] + np.arange(n))


HARD = {  # name -> matrix, keywords, status
    "indefinite": (indefinite(), {}, "not positive definite"),
    "negative": (-gaussian(40), {}, "not positive definite"),
    "zero": (np.zeros((40, 40)), {}, "not positive definite"),
    "nan": (poisoned(np.nan), {}, "nonfinite"),
    "inf": (poisoned(np.inf), {}, "nonfinite"),
    "few iterations": (gaussian(40, 0.5, 1e-4), {"maxiter": 4}, "maxiter"),
    "none": (gaussian(40), {"maxiter": 0}, "maxiter"),
    "nan in M": (gaussian(40), {"M": np.full((40, 40), np.nan)}, "nonfinite"),
    "an indefinite M": (gaussian(40), {"M": indefinite()}, "not positive definite"),
    "a negative M": (gaussian(40), {"M": -np.eye(40)}, "not positive definite"),
    "M is 0": (gaussian(40), {"M": np.zeros((40, 40))}, "not positive definite"),
    "an M": (gaussian(40), {"M": np.linalg.inv(gaussian(40, 0.12))}, "converged"),
    "beyond float64": (hilbert(), {"rtol": 1e-15, "maxiter": 500}, None),
    "the identity": (np.eye(40), {}, "converged"),
}


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value", "ignore:divide by zero")
@pytest.mark.parametrize("method", ["cg", "block_cg"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", HARD)
def test_ways_out(name, dtype, method, device):
    a, how, status = HARD[name]
    A, H = pair(a, dtype, device=device, entries=False)
    b = right_hand_sides(A.n, 5)
    how = {"method": method, "precond": None, "on_fail": "ignore", **how}
    there, here = solve(A, torch.from_numpy(b).to(device), **how), solve(H, b, **how)
    if status is None:  # what becomes of it hangs on the last digits of products, but solved it is not
        assert {there.status, here.status} <= {"maxiter", "stagnated", "not positive definite"}
        assert max(there.iterations, here.iterations) <= how["maxiter"]
    else:
        agree(there, here, A, b, how.get("rtol", 1e-6), slack=2)
        assert there.status == status
    if status == "nonfinite":
        assert np.isnan(there.x).all()
    else:  # never worse than the start
        assert (residual(A, there.x, b) <= 1 + 1e-9).all() and np.isfinite(there.x).all()


def test_a_singular_matrix(device):
    x = np.repeat(np.random.default_rng(0).random((20, 2)), 2, axis=0)
    a = np.exp(-50 * ((x[:, None] - x) ** 2).sum(-1))
    A, _ = pair(a, "float64", device=device, entries=False)
    for b in (a @ right_hand_sides(40), right_hand_sides(40)):
        found = solve(A, torch.from_numpy(b).to(device), on_fail="ignore", precond=None)
        assert found.converged == (residual(A, found.x, b).max() <= 1e-6)


def test_stagnation(device):
    """A product that rounds to float32 while it is said to be of float64."""
    A, H = pair(gaussian(60), entries=False, device=device)
    exact = A.product, H.product
    A.product = lambda V: exact[0](V).float().double()
    H.product = lambda V: exact[1](V).astype("f").astype("d")
    b = right_hand_sides(60, 2)
    how = dict(rtol=1e-12, on_fail="ignore", precond=None)
    there, here = solve(A, torch.from_numpy(b).to(device), **how), solve(H, b, **how)
    assert there.status == here.status == "stagnated"


@pytest.mark.parametrize("place", ["B", "x0"])
def test_what_is_not_finite_in_an_argument(place, device):
    A, _ = pair(gaussian(40), device=device)
    b = right_hand_sides(40, 2)
    bad = b.copy()
    bad[3, 1] = np.inf
    args = (bad, None) if place == "B" else (b, bad)
    with pytest.warns(ConvergenceWarning, match=f"NaN or Inf in {place}"):
        assert np.isnan(solve(A, *args).x).all()


@pytest.mark.parametrize("method", ["cg", "block_cg"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_callbacks_get_copies(method, dtype, device):
    A, _ = pair(gaussian(60), dtype, 0.01, device)
    b, seen = right_hand_sides(60, 5), []

    def callback(x):
        assert isinstance(x, np.ndarray) and x.dtype == np.float64 and x.shape == b.shape
        seen.append(x.copy())
        x[...] = np.nan  # does no harm
        if len(seen) == stop:
            raise StopIteration

    stop, how = None, dict(method=method, precond=None, callback=callback)
    solution = solve(A, torch.from_numpy(b).to(device), **how)
    assert solution.converged and len(seen) == solution.iterations
    np.testing.assert_allclose(seen[-1], solution.x, rtol=1e-4, atol=1e-4)
    seen, stop = [], 3
    solution = solve(A, torch.from_numpy(b).to(device), **how)
    assert solution.status == "stopped" and solution.iterations == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_starts(dtype, device):
    A, _ = pair(gaussian(60), dtype, 0.01, device)
    b = right_hand_sides(60, 2)
    first = solve(A, b, rtol=1e-6, precond="jacobi")  # an array of the host is brought there
    x0 = first.x.copy()
    again = solve(A, b, x0, rtol=1e-5, precond=None)
    assert again.iterations == 0 and again.converged
    np.testing.assert_array_equal(x0, first.x)
    assert solve(A, b, "Mb", precond="jacobi").converged and solve(A, b, "Mb", precond=None).converged
    assert solve(A, np.zeros((60, 2))).iterations == 0


@pytest.mark.parametrize("method", ["auto", "cg", "block_cg", "direct"])
def test_states(method, device):
    A, H = pair(gaussian(60), "float32", 0.01, device)
    b, state = right_hand_sides(60, 4), SolveState()
    how = dict(method=method, precond=None if method == "direct" else "fsai", state=state)
    first = solve(A, torch.from_numpy(b).to(device), **how)
    again = solve(A, torch.from_numpy(b * 1.01).to(device), **how)
    assert first.converged and again.converged and again.iterations <= first.iterations
    assert (state.solves, state.builds) == (2, 1) and isinstance(state.x, np.ndarray)
    here = solve(H, b, **how)  # the same plan, of vectors on the host
    assert here.converged and state.builds == 1
    assert solve(A, torch.from_numpy(b).to(device), **how).converged


def test_an_operator_for_m(device):
    A, _ = pair(gaussian(60, 0.02), "float32", device=device, entries=False)
    kinds, inverse = set(), np.linalg.inv(gaussian(60, 0.025))

    def matvec(v):
        kinds.add(type(v))
        return inverse @ v

    M = LinearOperator((60, 60), matvec=matvec, dtype=np.float64)
    b = right_hand_sides(2, 60, 3, dtype="float32")
    found = solve(A, torch.from_numpy(b).to(device), M=M)
    assert found.converged and kinds == {np.ndarray} and residual(A, found.x, b).max() <= 1e-6


def test_what_is_refused(device):
    A, _ = pair(gaussian(20), device=device)
    b = torch.ones(20, 2, dtype=torch.float64, device=device)
    with pytest.raises(ShapeError, match=r"got \(3, 2\)"):
        solve(A, b[:3])
    with pytest.raises(ShapeError, match=r"x0 must have the shape of B, \(20, 2\), got \(20,\)"):
        solve(A, b, np.ones(20))
    A.product = lambda V: V * (1 + 0.5j)
    with pytest.raises(DtypeError, match="must be real"):
        solve(A, b)
    a = np.triu(gaussian(20))
    A = Matrix(a, vectors=TensorVectors(device))
    A.symmetric = "unknown"
    with pytest.raises(ArgumentError, match="A must be symmetric"):
        solve(A, b)


def test_by_scipy_s_door(device):
    A, _ = pair(gaussian(60), device=device)
    b, seen = right_hand_sides(60), []
    for how in ({}, {"M": np.eye(60), "x0": "Mb"}, {"x0": np.ones(60)}):
        x, info = cg(A, b, callback=seen.append, **how)
        assert info == 0 and isinstance(x, np.ndarray) and residual(A, x, b).max() <= 1e-5
        np.testing.assert_array_equal(seen[-1], x)


@pytest.mark.parametrize(
    "method, precond, most", [("cg", None, 0), ("cg", "jacobi", 0), ("block_cg", None, 5), ("block_cg", "jacobi", 5)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_how_often_the_host_waits(method, precond, most, dtype, device):
    A, _ = pair(gaussian(300, 0.05, 1e-3), dtype, 1e-3, device)
    b = torch.from_numpy(right_hand_sides(300, 1)).to(device)
    found = solve(A, b, method=method, precond=precond)
    assert found.converged and found.iterations > 100
    assert A.vectors.waits <= most * found.iterations + 60
    A.vectors.waits = 0
    watched = solve(A, b, method=method, precond=precond, callback=lambda x: None)  # x is fetched, too
    assert watched.converged and watched.iterations <= 1.2 * found.iterations
    each = most + 1 if most else 2 + (precond is not None)
    assert A.vectors.waits <= each * watched.iterations + 60


@pytest.mark.parametrize("precond", [None, "jacobi", "fsai"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [1, 4])
def test_products_that_are_begun_early_change_nothing(k, dtype, precond, device):
    """Few of them are begun in vain. Where columns leave a block, sums over its rows may round in another way."""
    A, _ = pair(gaussian(300, 0.05, 1e-3), dtype, 1e-3, device)
    b = right_hand_sides(300, k) * np.geomspace(1, 1e-6, k)
    b[:, -1] = A.truth @ np.ones(300)  # this one is done before the others
    early = solve(A, b, method="cg", precond=precond, rtol=1e-9)
    A.vectors.overlaps = False
    late = solve(A, b, method="cg", precond=precond, rtol=1e-9)
    assert early.converged and residual(A, early.x, b).max() <= 1e-9
    if k == 1:
        np.testing.assert_array_equal(early.x, late.x)
        np.testing.assert_array_equal(early.history, late.history)
        assert early.iterations == late.iterations and early.condition == late.condition
    spare = sum(early.products.values()) - sum(late.products.values()) - (early.iterations - late.iterations)
    assert 0 <= spare <= 4 if k == 1 else abs(spare) <= 8 * k


def test_the_argument_is_left_alone(device):
    A, _ = pair(gaussian(60), "float32", 0.01, device)
    b = torch.from_numpy(right_hand_sides(60, 5, dtype="float32")).to(device)
    kept = b.clone()
    for method in ("cg", "block_cg", "direct"):
        solve(A, b, method=method)
    assert torch.equal(b, kept)
