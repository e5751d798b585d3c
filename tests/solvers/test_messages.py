"""Messages of solves say what is so: the shapes that were passed, the types that came, the matrix that is meant."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import usual

from kernelops import DtypeError, KernelOperator, ShapeError, cg, solve
from kernelops.solvers.solution import name_conditioned
from kernelops.solvers.status import message

EYE, ONES = np.eye(3), np.ones(3)


class Tensor:  # a name that is no text, as torch's tensors have; one of other libraries may be anything
    name = None


class Frame:
    """As a data frame: a product that is none of a matrix and a vector."""

    ndim, shape = 2, (3, 3)

    def product(self, axis=0):
        raise AssertionError("this is the product of the columns")


MATRICES = [
    (Tensor(), DtypeError, "got Tensor$"),
    (SimpleNamespace(name=("a", 1)), DtypeError, "got SimpleNamespace$"),
    (SimpleNamespace(name="mine"), DtypeError, "got mine$"),
    (Frame(), DtypeError, "got Frame$"),
    (None, DtypeError, "got NoneType$"),
    (3.0, DtypeError, "got float$"),
    ([[1.0, 0.0], [0.0, 1.0]], DtypeError, "got list$"),
    (np.ma.array(EYE), DtypeError, "masked array: wanted a plain one"),
    (np.array([[None]]), DtypeError, "got dtype object$"),
    (ONES, ShapeError, r"must be square for a solve, \(n, n\), got shape \(3,\)$"),
    (np.array(2.0), ShapeError, r"got shape \(\)$"),
    (np.stack([EYE] * 2), DtypeError, r"got ndarray of shape \(2, 3, 3\)$"),
    (np.ones((3, 2)), ShapeError, r"got shape \(3, 2\)$"),
    (sp.csr_matrix(np.ones((3, 2))), ShapeError, r"got shape \(3, 2\)$"),
]


@pytest.mark.parametrize("given, error, text", MATRICES, ids=lambda v: getattr(v, "__name__", type(v).__name__))
def test_of_a_matrix_that_is_none(given, error, text):
    with pytest.raises(error, match="^A.*" + text):
        solve(given, ONES)
    with pytest.raises(error, match="^A.*" + text):
        cg(given, ONES)
    if given is not None:
        with pytest.raises(error, match="^M.*" + text):
            solve(EYE, ONES, M=given)


def test_of_a_tensor():
    torch = pytest.importorskip("torch")
    for function in (solve, cg):
        with pytest.raises(DtypeError, match=r"^A: wanted .*, got a torch tensor: pass its \.numpy\(\)$"):
            function(torch.eye(3), ONES)


@pytest.mark.parametrize(
    "given, text", [(None, "NoneType"), ("abc", "str"), ([None] * 3, "dtype object"), (sp.eye(3), "")]
)
def test_of_a_right_hand_side_that_is_none(given, text):
    for call in (lambda: solve(EYE, given), lambda: cg(EYE, given)):
        with pytest.raises(DtypeError, match=f"^[Bb] must be an array of numbers, got {text}"):
            call()
    if given is not None and not isinstance(given, str):
        with pytest.raises(DtypeError, match=f"^x0 must be an array of numbers, got {text}"):
            solve(EYE, ONES, given)


# ---- whose condition number ----


def ill(alpha):
    x = np.random.default_rng(0).random((60, 2))
    aliases = usual.aliases(2, 1)
    return KernelOperator(usual.GAUSS, aliases, "b", x, x, alpha=alpha), np.sin(9 * x[:, 0])


def test_which_matrix():
    assert [name_conditioned(*way) for way in (("cg", "none"), ("block_cg", "none"), ("block_cg", "fsai"))] == ["A"] * 3
    assert name_conditioned("cg", "fsai") == name_conditioned("direct", "cholesky") == "M A"


def test_the_condition_number_is_that_of_the_matrix_that_is_named():
    A, b = ill(1e-13)
    stagnated = solve(A, b, on_fail="ignore")  # preconditioned: M A has a small one, and A one of 4e14
    assert stagnated.status == "stagnated" and "condition number" not in stagnated.message
    A, b = ill(1e-3)
    how = {"rtol": 1e-12, "on_fail": "ignore", "method": "cg"}
    few = solve(A, b, maxiter=3, precond="jacobi", **how)
    assert f"The condition number of M A is at least {few.condition:.0e}: allow" in few.message
    assert f"condition: {few.condition:.1e} (of M A)" in str(few)
    plain = solve(A, b, maxiter=3, precond=None, **how)
    assert f"The condition number is at least {plain.condition:.0e}: allow" in plain.message
    assert f"condition: {plain.condition:.1e}\n" in str(plain)
    one = solve(A, b, maxiter=1, precond=None, **how)
    assert one.condition is None and "asked. Allow more iterations" in one.message and "condition: unknown" in str(one)


def test_texts_with_and_without_a_condition_number():
    figures = {"iterations": 9, "maxiter": 9, "residual": 0.1, "asked": "rtol = 1e-06", "recomputed": "in float64"}
    for matrix, condition, there in (("A", 1e9, True), ("M A", 1e9, False), ("A", None, False), ("M A", None, False)):
        text = message("stagnated", condition=condition, matrix=matrix, **figures)
        assert (" (the condition number is at least 1e+09)." in text) is there
        assert text.endswith("alpha.") is not there
    assert "asked. Allow" in message("maxiter", condition=None, **figures)


def test_a_block_shows_the_condition_number_of_its_matrix():
    A, b = ill(1e-4)
    B = np.random.default_rng(1).standard_normal((60, 6))
    truth = np.linalg.cond(A.to_dense())
    for precond in (None, "jacobi", "pivoted_cholesky"):
        for rtol in (1e-6, 1e-14):  # at the end of float64 the columns go on by themselves
            found = solve(A, B, method="block_cg", precond=precond, rtol=rtol, on_fail="ignore")
            assert found.condition <= 1.0001 * truth
            assert "(of M A)" not in str(found)


def test_a_symmetric_operator_is_its_own_transpose():
    A, b = ill(1e-2)
    assert A.T is A and A.H is A and A.adjoint() is A and A.transpose() is A
    assert solve(A.T, b).reason == solve(A, b).reason
    x = np.random.default_rng(0).random((5, 1))
    B = KernelOperator("(x + 2*y)*b", usual.aliases(1, 1), "b", x, x)
    assert B.T is not B and B.T.T is B
    np.testing.assert_allclose(B.T @ np.eye(5), (B @ np.eye(5)).T)
