"""cg is judged by the x that it returns, in the dtype that A and b have in common."""

import warnings

import numpy as np
import pytest
import usual

from kernelops import KernelOperator, cg

N = 60
ALIASES = usual.aliases(2, 1, "g")


def system(dtype, alpha):
    draw = np.random.default_rng(0)
    x, b = draw.random((N, 2)).astype(dtype), draw.standard_normal(N).astype(dtype)
    A = KernelOperator(usual.SCALED_GAUSS, ALIASES, "b", x, x, np.array([20.0], dtype), alpha=alpha)
    wide = x.astype(np.float64)
    dense = np.exp(-20.0 * ((wide[:, None] - wide) ** 2).sum(-1)) + alpha * np.eye(N)
    return A, dense, b


@pytest.mark.parametrize("alpha", [10.0, 1e-2, 1e-4])
@pytest.mark.parametrize("of_b", ["float32", "float64"])
@pytest.mark.parametrize("of_a", ["float32", "float64"])
def test_cg_is_judged_by_what_it_returns(of_a, of_b, alpha):
    A, dense, b = system(of_a, alpha)
    b, seen = b.astype(of_b), set()
    for given in (A, dense.astype(of_a)):
        truth = dense if given is A else given.astype(np.float64)
        for rtol in (1e-2, 1e-5, 1e-6, 1e-8):
            x, info = cg(given, b, rtol=rtol, maxiter=10000)
            assert x.dtype == np.result_type(of_a, of_b)
            residual = np.linalg.norm(b - truth @ x.astype(np.float64)) / np.linalg.norm(b)
            if not 0.99 < residual / rtol < 1.01:
                assert (info == 0) == (residual <= rtol), (rtol, residual, info)
            seen.add(info == 0)
    assert seen == ({True, False} if x.dtype == np.float32 else {True})


def test_cg_of_an_exact_start_and_of_nothing():
    A, dense, b = system("float32", 1e-4)
    exact = np.linalg.solve(dense, b)
    for start, asked, wanted in ((exact, 1e-9, False), (exact.astype("f4"), 1e-9, False), (exact, 0.5, True)):
        x, info = cg(A, b, start, rtol=asked)
        assert (info == 0) is wanted and x.dtype == np.float32
    x, info = cg(A, 0 * b)
    assert info == 0 and not x.any()
    x, info = cg(A, b, exact.astype("f4"), rtol=0.5, maxiter=0)
    assert info == 0
    np.testing.assert_array_equal(x, exact.astype("f4"))


def test_an_x_that_does_not_fit():
    _, dense, b = system("float32", 1e-4)
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, info = cg(dense.astype("f4"), np.float32(1e37) * b, rtol=1e-3, callback=seen.append)
    assert info == -1 and np.isinf(x).any() and seen
    assert cg(dense.astype("f4"), 1e37 * b.astype(float), rtol=1e-3)[1] == 0


def test_complex_systems_of_float32():
    A, dense, b = system("float32", 1e-2)
    for of, wanted in (("complex64", False), ("complex128", True)):
        x, info = cg(dense.astype("complex64"), (b + 1j * b[::-1]).astype(of), rtol=1e-7)
        assert x.dtype == of and (info == 0) is wanted
