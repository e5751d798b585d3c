"""Many calls through the front doors leave memory as it was, and no call ever holds a matrix."""

import numpy as np
import pytest
import usual
from footprint import growth, peak

from kernelops import KernelOperator, Ranges, cg, solve
from kernelops.engines import cpu
from kernelops.numpy import Genred, KernelSolve
from kernelops.program import compile as tile
from kernelops.reductions import reduction

ALIASES = usual.aliases(2, 1)
GAUSS = usual.GAUSS
X = np.random.default_rng(0).standard_normal((100, 2))
B = np.random.default_rng(1).standard_normal((100, 1))


def blocks(k):
    cut = 1 + k % 99
    clusters = [[0, cut], [cut, 100]]
    return Ranges.from_mask(clusters, clusters, np.array([[True, k % 2], [k % 2, True]], bool))


def test_many_calls_with_changing_ranges():
    genred = Genred(GAUSS, ALIASES, axis=1)
    assert growth(lambda k: genred(X, X, B, ranges=blocks(k)), 100, 250) < 21_000, (
        "84 bytes a call; ranges that stay take thousands"
    )


def test_solves_with_changing_ranges_and_points():
    solver = KernelSolve(GAUSS, ALIASES, "b", axis=1)
    # an array kept by each call would be 800 bytes of it; Python keeps some freed tuples and such for the next ones
    assert growth(lambda k: solver(X + k, X + k, B, alpha=100.0, ranges=blocks(k)), 20, 30) < 600 * 30


def test_operators_and_their_views():
    def call(k):
        A = KernelOperator(GAUSS, ALIASES, "b", X, X + k, alpha=1.0)
        return repr(A), A.T @ (A @ B), A.diagonal(), A.to_dense()

    assert growth(call, 20, 40) < 600 * 40


def test_changing_formulas_fill_caches_that_are_bounded():
    caches = [reduction.prepare_reduction, cpu.prepare, tile.compile_sum, tile.compile_exp, tile.compile_best]
    assert all(0 < cache.cache_info().maxsize <= 2048 for cache in caches)

    def call(k):
        Genred(f"Exp(-{k}*SqDist(x,y))*b", ALIASES, axis=1)(X, X, B)
        if k % 25 == 24:
            for cache in caches:  # what else is kept would show
                cache.cache_clear()

    assert growth(call, 50, 100) < 200 * 100  # a formula that stays takes 10,000


def test_errors_hold_nothing():
    genred = Genred(GAUSS, ALIASES, axis=1)
    large = np.zeros((100_000, 3))

    def call(k):
        with pytest.raises(ValueError, match="x = Vi"):
            genred(large + k, X, B)

    assert growth(call, 2, 20) < 100_000


N = 3000  # the matrix would take 72 MB
x = np.random.default_rng(2).standard_normal((N, 2))
b = np.random.default_rng(3).standard_normal((N, 1))
VECTOR = 8 * N


def operator(**keywords):
    return KernelOperator(GAUSS, ALIASES, "b", x, x, **keywords)


PRODUCTS = {  # what is called -> the bound in vectors of N float64: scratch of the engine takes up to 20 such
    "Genred": (lambda: Genred(GAUSS, ALIASES, axis=1)(x, x, b), 30),
    "A v": (lambda: operator() @ b, 30),
    "A.T v": (lambda: operator().T @ b, 30),
    "alpha": (lambda: operator(alpha=np.arange(N)) @ b, 35),
    "complex v": (lambda: operator() @ (1j * b), 40),
    "diagonal": (lambda: operator().diagonal(), 40),
    "three columns": (lambda: operator().columns([1, 5, 7]), 150),  # pairs with their indices and points
    "cg": (lambda: cg(operator(alpha=1000.0), b), 40),
    "solve": (lambda: solve(operator(alpha=1000.0), b, precond=None), 50),
    "KernelSolve": (lambda: KernelSolve(GAUSS, ALIASES, "b", axis=1)(x, x, b, alpha=1000.0, precond=None), 50),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_memory_grows_with_the_points_and_not_with_their_pairs(name):
    call, vectors = PRODUCTS[name]
    assert peak(call) < vectors * VECTOR
