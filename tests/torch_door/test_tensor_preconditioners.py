"""Preconditioners on tensors are those of the host: the same operators, their factors brought there once."""

import gc
import weakref

import numpy as np
import pytest
from tensor_systems import DEVICES, gaussian, right_hand_sides
from torch_dense import torch

from kernelops.solvers.entries import DenseEntries
from kernelops.solvers.precond.base import Identity, Preconditioner, Rescaled
from kernelops.solvers.precond.cholesky import Cholesky
from kernelops.solvers.precond.fsai import block_jacobi, fsai
from kernelops.solvers.precond.jacobi import Jacobi
from kernelops.solvers.precond.low_rank import LowRank, low_rank
from kernelops.solvers.precond.nystrom import nystrom
from kernelops.solvers.precond.pivoted_cholesky import pivoted_cholesky
from kernelops.torch import preconditioners
from kernelops.torch import tensors as blocks
from kernelops.torch.preconditioners import FORMS, form, precondition

N = 90
ALPHA = np.random.default_rng(0).uniform(0.01, 0.02, N)


def entries(width=1):
    return DenseEntries(gaussian(N, 0.2, 0.0), width)


def sparse(pivots, width=1):
    return fsai(entries(width), ALPHA, pivoted_cholesky(entries(width), ALPHA, most=pivots), count=8)


CASES = {
    "none": lambda: Identity(N),
    "pivoted Cholesky": lambda: low_rank(entries(), ALPHA, most=40),
    "in float64": lambda: LowRank(np.random.default_rng(0).random((N, 5)), 1e-9, dtype=np.float64),
    "of rank 0": lambda: LowRank(np.empty((N, 0)), ALPHA),
    "Nystrom": lambda: nystrom(lambda V: entries().K @ V, N, 0.01, most=30),
    "FSAI": lambda: sparse(0),
    "FSAI behind pivots": lambda: sparse(20),
    "FSAI, every row a pivot": lambda: sparse(N),
    "FSAI of a matrix-valued kernel": lambda: sparse(10, 3),
    "block Jacobi": lambda: block_jacobi(entries(), ALPHA, np.arange(N) % 7),
    "Jacobi": lambda: Jacobi(entries(), ALPHA),
    "Jacobi by blocks": lambda: Jacobi(entries(3), ALPHA),
    "Cholesky": lambda: Cholesky(entries(), ALPHA),
    "in units of a large matrix": lambda: Rescaled(sparse(20), 40),
    "in units of a small matrix": lambda: Rescaled(Cholesky(entries(), ALPHA), -40),
}


def subclasses(c):
    return [d for s in c.__subclasses__() for d in (s, *subclasses(s))]


def test_each_class_has_a_row():
    ours = {c for c in subclasses(Preconditioner) if c.__module__.startswith("kernelops")}
    assert ours == set(FORMS)
    assert {type(make()) for make in CASES.values()} == ours


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("k", [0, 1, 7])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_products(name, dtype, k, device, monkeypatch):
    monkeypatch.setattr(blocks, "PROMOTED", 100)
    p, V = CASES[name](), right_hand_sides(N, k, dtype=dtype)
    wanted = p.matmat(V) if k else V
    found = precondition([p], torch.from_numpy(V).to(device))
    assert found.dtype == getattr(torch, dtype) and found.shape == V.shape
    size = np.linalg.norm(p.matmat(np.eye(N)), 2) * np.linalg.norm(V, axis=0)
    assert (np.linalg.norm(found.cpu().numpy() - wanted, axis=0) <= 300 * np.finfo(dtype).eps * size).all()


@pytest.mark.parametrize("size", [1.0, 1e-60, 1e60])
def test_a_factor_in_float32_on_float64(size):
    """What is too small or too large for float32 is scaled."""
    p, V = Cholesky(entries(), ALPHA, np.dtype(np.float32)), size * right_hand_sides(N, 3)
    found, wanted = precondition([p], torch.from_numpy(V)), p.matmat(V)
    whole = p.matmat(np.eye(N))
    error = np.finfo(np.float32).eps * np.linalg.cond(whole) * np.linalg.norm(whole, 2) * np.linalg.norm(V, axis=0)
    assert found.dtype == torch.float64 and wanted.dtype == np.float64
    assert (np.linalg.norm(found.numpy() - wanted, axis=0) <= 10 * error).all() and np.abs(wanted).min() > 0


@pytest.mark.parametrize("name", CASES)
def test_positive_definite_and_symmetric(name):
    p = CASES[name]()
    whole = precondition([p], torch.eye(N, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(whole, whole.T, atol=1e-9 * np.abs(whole).max())
    assert np.linalg.eigvalsh((whole + whole.T) / 2).min() > 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batches(dtype):
    made = [CASES[name]() for name in ("FSAI behind pivots", "Jacobi", "pivoted Cholesky", "Cholesky")]
    V = torch.from_numpy(right_hand_sides(2, 2, N, 3, dtype=dtype))
    found = precondition(made, V)
    for at, p in enumerate(made):
        torch.testing.assert_close(found.reshape(4, N, 3)[at], precondition([p], V.reshape(4, N, 3)[at]))
    found = precondition(made[:1], V)
    torch.testing.assert_close(found[1, 1], precondition(made[:1], V[1, 1]))
    assert precondition(made[:1], V[:0]).shape == V[:0].shape


def test_complex_blocks():
    p = CASES["FSAI behind pivots"]()
    x, y = (torch.from_numpy(right_hand_sides(N, 2, seed=s)) for s in range(2))
    torch.testing.assert_close(
        precondition([p], torch.complex(x, y)), torch.complex(precondition([p], x), precondition([p], y))
    )


@pytest.mark.parametrize("name", CASES)
def test_factors_are_brought_once_and_go_with_the_preconditioner(name, monkeypatch):
    p, V = CASES[name](), torch.ones(N, 1)
    precondition([p], V)
    monkeypatch.setattr(preconditioners, "on", None)  # nothing more is brought
    precondition([p], V)
    precondition([p], V.double())
    gone = weakref.ref(p)
    del p
    gc.collect()
    assert gone() is None


def test_what_no_row_is_for_goes_by_the_host():
    class Twice(Preconditioner):
        def _matmat(self, V):
            assert isinstance(V, np.ndarray)
            return 2 * V

    p = Twice(5)
    found = precondition([p], torch.ones(5, 2))
    assert found.dtype == torch.float32 and (found == 2).all()
    gone = weakref.ref(p)
    del p
    gc.collect()
    assert gone() is None


def test_the_same_bits_again():
    for make in CASES.values():
        p, V = make(), torch.from_numpy(right_hand_sides(N, 3, dtype="float32"))
        first = form(p, V.device)(V)
        assert all(torch.equal(first, form(p, V.device)(V)) for _ in range(3))


@pytest.mark.parametrize("word", ["highest", "high"])
def test_products_that_may_not_lose_digits(word):
    """Where the process allows TF32 they go by float64; what the process asked for stays."""

    class Cuda(torch.Tensor):
        is_cuda = True

        def __matmul__(self, other):
            seen.append(self.dtype)
            return super().__matmul__(other)

    x, seen = torch.ones(2, 2).as_subclass(Cuda), []
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(word)
        assert blocks.product(x, x).dtype == torch.float32
        assert torch.get_float32_matmul_precision() == word
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == [torch.float64 if word == "high" else torch.float32]


@pytest.mark.parametrize("unit", [-400, -40, 40, 400])
@pytest.mark.parametrize("dtype", ["int64", "float32", "float64"])
def test_units(unit, dtype):
    """What fits is right, and nothing is NaN, whatever the factor is in the dtype of the block."""
    inner = Jacobi(entries(), ALPHA)
    p, V = Rescaled(inner, unit), np.eye(N, 3, dtype=dtype)
    with np.errstate(over="ignore", under="ignore"):
        dtype = "float32" if dtype == "float32" else "float64"
        wanted = np.ldexp(inner.matmat(V.astype(float)), -unit).astype(dtype)
        found = p.matmat(V)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    np.testing.assert_allclose(precondition([p], torch.from_numpy(V.astype(dtype))).numpy(), wanted, rtol=1e-6)
