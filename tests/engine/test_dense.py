"""Dense factors and triangular solves on several threads: right, the same for any number of them, and they end."""

import numpy as np
import pytest
from scipy.linalg import LinAlgError, solve_triangular

from kernelops.engines import dense, lapack
from kernelops.engines.threads import thread_count

EDGES = (1, 5, 193, dense.SHARED_FROM - 1, dense.SHARED_FROM, dense.SHARED_FROM + 1, 768, 1000)


def positive(n, dtype="float64", seed=0):
    """A matrix of condition number at most 101 with its lower triangle alone, in Fortran order, and the whole of it."""
    G = np.random.default_rng(seed).standard_normal((n, n))
    A = (G @ G.T / (4 * n) + 0.01 * np.eye(n)).astype(dtype)
    return np.asfortranarray(np.tril(A)), np.tril(A) + np.tril(A, -1).T


def threads(monkeypatch, count):
    monkeypatch.setattr(dense, "thread_count", lambda: count)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("large", [False, True], ids=["", "large tiles"])
@pytest.mark.parametrize("n", EDGES)
def test_a_factor(monkeypatch, n, large, dtype, count):
    threads(monkeypatch, count)
    if large:
        monkeypatch.setattr(dense, "LARGE", 1)
    L, A = positive(n, dtype)
    dense.factor(L)
    assert (np.triu(L, 1) == 0).all() and (np.diagonal(L) > 0).all()
    L, A = L.astype(np.float64), A.astype(np.float64)
    # the backward error of a factor is at most (n + 1) eps |L||L|^T, entry by entry
    assert (np.abs(L @ L.T - A) <= (n + 1) * np.finfo(dtype).eps * (np.abs(L) @ np.abs(L.T))).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_bits_for_any_number_of_threads(monkeypatch, dtype):
    found = []
    for count in (1, 2, 3, 8):
        threads(monkeypatch, count)
        found.append(positive(1100, dtype)[0])
        dense.factor(found[-1])
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_what_is_above_the_diagonal_neither_counts_nor_changes():
    for n in (50, 1000):
        L, A = positive(n)
        L += np.triu(np.full((n, n), np.nan), 1)
        dense.factor(L)
        assert np.isnan(L[np.triu_indices(n, 1)]).all() and np.isfinite(np.tril(L)).all()


def test_scipy_that_does_not_offer_its_routines(monkeypatch):
    """They are looked at for the arguments that are wanted; others, of another SciPy, are not called."""
    assert lapack.available()
    right = positive(700)[0]
    dense.factor(right)
    monkeypatch.setitem(lapack.ARGUMENTS, "trsm", "cccciirrirr")
    for cached in (lapack.available, lapack._routines):
        cached.cache_clear()
    try:
        with pytest.raises(ValueError, match="dtrsm: wanted the arguments cccciirrirr, got void"):
            lapack.Blocks("d", 5)
        assert not lapack.available()
        L = positive(700)[0]
        dense.factor(L)
        np.testing.assert_allclose(np.tril(L), np.tril(right), rtol=1e-10, atol=1e-13)
    finally:
        for cached in (lapack.available, lapack._routines):
            cached.cache_clear()


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("bad", [-1.0, 0.0, np.nan])
@pytest.mark.parametrize(("n", "at"), [(5, 2), (1000, 0), (1000, 500), (1000, 999)])
def test_what_has_no_factor_is_refused_by_all_threads(monkeypatch, n, at, bad, count):
    threads(monkeypatch, count)
    A = positive(n)[0]
    A[at, at] = bad
    with pytest.raises(LinAlgError):
        dense.factor(A)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [0, 1, 7, 16, 33])
def test_solves(monkeypatch, columns, dtype, count):
    threads(monkeypatch, count)
    monkeypatch.setattr(dense, "SHARED_SOLVE", 1)
    L, A = positive(200, dtype)
    dense.factor(L)
    V = np.random.default_rng(1).standard_normal((200, columns)).astype(dtype)
    before = V.copy()
    exact = L.astype(np.float64)
    wanted = {
        "L": solve_triangular(exact, V, lower=True),
        "LT": solve_triangular(exact, V, lower=True, trans="T"),
        "LLT": np.linalg.solve(exact @ exact.T, V.astype(np.float64)),
    }
    for which, right in wanted.items():
        X = dense.solve(L, V, which)
        assert X.dtype == dtype and X.shape == V.shape
        # forward error: eps times the condition number, at most 101
        assert np.abs(X - right).max(initial=0) <= 200 * 101 * np.finfo(dtype).eps * np.abs(right).max(initial=0)
    assert np.array_equal(V, before)


def test_blocks_cover_everything_once(monkeypatch):
    for count in (1, 4):
        threads(monkeypatch, count)
        seen, counts = np.zeros(1003, int), []

        def work(block, seen=seen, counts=counts):
            seen[block] += 1
            counts.append(thread_count())

        dense.share(1003, 100, work)
        assert (seen == 1).all() and len(counts) == 11 and set(counts) == {1}, "each is one of the threads"


def test_errors_come_out_and_threads_are_many_again():
    before = thread_count()

    def fail():
        raise KeyError("one of them")

    with pytest.raises(KeyError, match="one of them"):
        dense.run_side_by_side([lambda: None, fail, lambda: None])
    assert thread_count() == before
