"""cg means what scipy.sparse.linalg.cg means: the same calls, side by side, but for four exceptions."""

import inspect

import numpy as np
import pytest
import scipy.sparse as sparse
import scipy.sparse.linalg as sla
from systems import assert_solves, indefinite, poisoned, relative_residual, right_hand_sides, spd

from kernelops.solvers import cg

DTYPES = ["float32", "float64", "complex64", "complex128"]
KINDS = {"array": np.asarray, "csr": sparse.csr_array, "operator": sla.aslinearoperator}


def poisson(n=20):
    return sparse.diags_array([-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1]).tocsr()


def both(*args, **keywords):
    """(x, info) of ours and of SciPy's, with the iterates that the callbacks saw."""
    results = []
    for solver in (cg, sla.cg):
        seen = []
        x, info = solver(*args, callback=lambda xk, seen=seen: seen.append(np.array(xk)), **keywords)
        results.append((x, info, seen))
    return results


def test_signature():
    ours, theirs = inspect.signature(cg).parameters, inspect.signature(sla.cg).parameters
    assert list(ours) == list(theirs)
    for name in ours:
        assert ours[name].kind == theirs[name].kind and ours[name].default == theirs[name].default, name


@pytest.mark.parametrize("dtype_b", DTYPES)
@pytest.mark.parametrize("dtype_a", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_same_answer_dtype_and_shape(kind, dtype_a, dtype_b):
    a, b = spd(30, 20, dtype_a), right_hand_sides(30, dtype=dtype_b)
    (x, info, seen), (want, want_info, _) = both(KINDS[kind](a), b, rtol=1e-4)
    assert info == want_info == 0
    assert x.shape == want.shape and x.dtype == want.dtype
    assert all(xk.shape == x.shape and xk.dtype == x.dtype for xk in seen)
    assert_solves(a, x, b, 1e-4)


def test_same_iterates_in_float64():
    (x, _, seen), (want, _, wanted) = both(poisson(), right_hand_sides(20), rtol=1e-10)
    assert len(seen) == len(wanted)
    np.testing.assert_allclose(seen, wanted, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(x, want, rtol=1e-8)


@pytest.mark.parametrize("integers", ["A", "b", "both"])
def test_integers_become_float64(integers):
    a, b = 4 * np.eye(5, dtype=int) + 1, np.arange(5)
    a = a if integers != "b" else a.astype("float32")
    b = b if integers != "A" else b.astype("float32")
    (x, _, _), (want, _, _) = both(a, b)
    assert x.dtype == want.dtype == np.float64
    np.testing.assert_allclose(x, want, rtol=1e-4)


def test_column_right_hand_side():
    b = right_hand_sides(20)[:, None]
    (x, info, _), (want, _, _) = both(poisson(), b, x0=np.ones((20, 1)))
    assert info == 0 and x.shape == want.shape == (20,)


def test_maxiter_and_callback():
    (x, info, seen), (want, want_info, wanted) = both(poisson(), right_hand_sides(20), maxiter=3, rtol=1e-12)
    assert info == want_info == 3
    assert len(seen) == len(wanted) == 3
    np.testing.assert_allclose(x, want, rtol=1e-12)
    np.testing.assert_array_equal(x, seen[-1])


def test_default_maxiter():
    a = np.diag(np.geomspace(1e-13, 1, 6))
    b = np.ones(6)
    for solver in (cg, sla.cg):
        assert solver(a, b, rtol=1e-16, maxiter=60)[1] == solver(a, b, rtol=1e-16)[1]


def test_callback_holds_copies():
    kept = []
    x, _ = cg(poisson(), right_hand_sides(20), callback=kept.append)
    assert len({tuple(k) for k in kept}) == len(kept)
    kept[-1][:] = 0
    assert x.all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_x0(dtype):
    a, b, x0 = spd(30, 20, dtype), right_hand_sides(30, dtype=dtype), right_hand_sides(30, seed=9, dtype=dtype)
    before = x0.copy()
    (x, info, seen), (_, _, wanted) = both(a, b, x0)
    assert info == 0 and len(seen) <= len(wanted) + 1  # SciPy iterates in float32
    np.testing.assert_array_equal(x0, before)
    assert_solves(a, x, b, 1e-5)


def test_exact_x0_takes_no_iteration():
    a, exact = poisson(), right_hand_sides(20)
    for x, info, seen in both(a, a @ exact, exact):
        assert info == 0 and not seen
        np.testing.assert_array_equal(x, exact)
        assert not np.shares_memory(x, exact)


def test_x0_mb():
    a, b = spd(30, 20), right_hand_sides(30)
    M = np.diag(1 / np.diag(a))
    (x, info, seen), (_, _, wanted) = both(a, b, "Mb", M=M)
    assert info == 0
    np.testing.assert_allclose(seen[0], wanted[0], rtol=1e-12)
    explicit, _ = cg(a, b, M @ b, M=M)
    np.testing.assert_allclose(x, explicit, rtol=1e-12)
    assert both(a, b, "Mb")[0][1] == 0


@pytest.mark.parametrize("dtype", [*DTYPES, "int64"])
def test_zero_right_hand_side(dtype):
    b = np.zeros(20, dtype)
    for x0 in (None, np.ones(20)):
        x, info = cg(poisson(), b, x0)
        assert info == 0 and not x.any() and x.dtype == sla.cg(poisson(), b)[0].dtype
        assert not np.shares_memory(x, b)


@pytest.mark.parametrize("kind", KINDS)
def test_preconditioner(kind):
    a = np.diag(np.geomspace(1, 1e4, 50)) + 0.1 * spd(50, 10)
    b, M = right_hand_sides(50), KINDS[kind](np.diag(1 / np.diag(a)))
    (x, info, seen), (_, _, wanted) = both(a, b, M=M, rtol=1e-8)
    assert info == 0 and len(seen) == len(wanted) < len(both(a, b, rtol=1e-8)[0][2])
    assert_solves(a, x, b, 1e-8)


def test_exact_inverse_takes_one_iteration():
    a = spd(30, 1e4)
    (_, info, seen), _ = both(a, right_hand_sides(30), M=np.linalg.inv(a), rtol=1e-8)
    assert info == 0 and len(seen) == 1


def test_operator_with_matvec_alone():
    d = np.linspace(1, 5, 20)
    A = sla.LinearOperator((20, 20), matvec=lambda v: d * v, dtype=float)
    (x, info, _), (want, _, _) = both(A, np.ones(20), M=sla.LinearOperator((20, 20), matvec=lambda v: v / d))
    assert info == 0
    np.testing.assert_allclose(x, want, rtol=1e-5)


def test_identity_as_operator():
    b = right_hand_sides(20)
    x, info = cg(sla.LinearOperator((20, 20), matvec=lambda v: v, dtype=float), b)
    assert info == 0
    np.testing.assert_allclose(x, b)


def test_cg_inside_cg():
    a, b = spd(30, 20), right_hand_sides(30)
    A = sla.LinearOperator((30, 30), matvec=lambda v: cg(np.linalg.inv(a), v, rtol=1e-13)[0], dtype=float)
    x, info = cg(A, b, rtol=1e-8)
    assert info == 0
    assert_solves(a, x, b, 1e-8)


@pytest.mark.parametrize("rtol, atol", [(0, 1e-3), (1e-3, 0), (1e-9, 1e-3), (1e-3, 1e-9), (2.0, 0), (0, 1e6)])
def test_tolerances(rtol, atol):
    a, b = spd(30, 20), right_hand_sides(30)
    (x, info, seen), (_, want_info, wanted) = both(a, b, rtol=rtol, atol=atol)
    assert info == want_info == 0 and len(seen) == len(wanted)
    assert np.linalg.norm(b - a @ x) <= 1.1 * max(rtol * np.linalg.norm(b), atol)


BAD = {
    "atol None": (dict(atol=None), "atol"),
    "atol legacy": (dict(atol="legacy"), "atol"),
    "atol negative": (dict(atol=-1.0), "atol"),
    "atol nan": (dict(atol=np.nan), "atol"),
    "rtol negative": (dict(rtol=-1e-3), "rtol"),
    "rtol nan": (dict(rtol=np.nan), "rtol"),
    "rtol None": (dict(rtol=None), "rtol"),
    "rtol text": (dict(rtol="small"), "rtol"),
    "maxiter negative": (dict(maxiter=-1), "maxiter"),
    "maxiter fraction": (dict(maxiter=2.5), "maxiter"),
    "maxiter text": (dict(maxiter="many"), "maxiter"),
    "b short": (dict(b=np.ones(19)), "b must have shape"),
    "b wide": (dict(b=np.ones((20, 2))), "b must have shape"),
    "x0 short": (dict(x0=np.ones(19)), "x0 must have shape"),
    "x0 word": (dict(x0="zeros"), "x0"),
    "A oblong": (dict(A=np.ones((20, 19))), "A must be square"),
    "M oblong": (dict(M=np.ones((20, 19))), "M must be square"),
    "M of another size": (dict(M=np.eye(19)), "M must have the shape of A"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values(case):
    keywords, text = BAD[case]
    arguments = dict(A=poisson(), b=np.ones(20)) | keywords
    with pytest.raises(ValueError, match=text):
        cg(**arguments)


@pytest.mark.parametrize(
    "keywords, text",
    [
        (dict(A=[[1.0]]), "A: wanted"),
        (dict(b=np.array(["a"] * 20)), "b must be an array of numbers"),
        (dict(M=[[1.0]]), "M: wanted"),
        (dict(callback=3), "callback must be a function"),
        (dict(x0=1j * np.ones(20)), "x0 must be real"),
    ],
)
def test_bad_kinds(keywords, text):
    with pytest.raises(TypeError, match=text):
        cg(**(dict(A=poisson(), b=np.ones(20)) | keywords))


class TestExceptions:
    """The four documented differences."""

    def test_converging_in_the_last_allowed_step_counts(self):
        a, b = poisson(), right_hand_sides(20)
        needed = len(both(a, b)[1][2])
        assert sla.cg(a, b, maxiter=needed)[1] == needed
        assert cg(a, b, maxiter=needed)[1] == 0
        assert cg(a, b, maxiter=needed - 1)[1] == needed - 1

    def test_success_needs_the_recomputed_residual(self):
        a, b = spd(40, 1e9), right_hand_sides(40)
        x, info = sla.cg(a, b, rtol=1e-13, maxiter=20000)
        assert info == 0 and relative_residual(a, x, b) > 1e-12  # it believes what it carries along
        x, info = cg(a, b, rtol=1e-13, maxiter=20000)
        assert info > 0

    def test_stop_iteration_stops(self):
        seen = []

        def callback(xk):
            seen.append(xk)
            if len(seen) == 4:
                raise StopIteration

        x, info = cg(poisson(), right_hand_sides(20), callback=callback)
        assert info == 4 and len(seen) == 4
        np.testing.assert_array_equal(x, seen[-1])

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("place", ["A", "b", "x0", "M"])
    def test_not_finite(self, place, value):
        arguments = dict(A=spd(20), b=np.ones(20), x0=np.ones(20), M=np.eye(20))
        bad = arguments[place].copy()
        bad.flat[0] = value
        calls = []
        x, info = cg(**(arguments | {place: bad}), callback=calls.append)
        assert info == -1 and np.isnan(x).all() and not calls

    def test_not_positive_definite(self):
        x, info = cg(indefinite(), right_hand_sides(30))
        assert info == -2 and np.isfinite(x).all()
        assert cg(spd(20), np.ones(20), M=-np.eye(20))[1] == -2
        assert cg(np.zeros((20, 20)), np.ones(20))[1] == -2


def test_other_exceptions_pass_through():
    def interrupt(xk):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cg(poisson(), np.ones(20), callback=interrupt)
    with pytest.raises(StopIteration):  # only the callback may ask for a stop
        cg(sla.LinearOperator((2, 2), matvec=lambda v: next(iter([])), dtype=float), np.ones(2))


def test_maxiter_zero_never_claims_success():
    x, info = cg(poisson(), np.ones(20), maxiter=0)
    assert info > 0 and not x.any()


def test_nothing_given_is_changed():
    a, b, x0 = poisson().toarray(), right_hand_sides(20), np.ones(20)
    for array in (a, b, x0):
        array.flags.writeable = False
    assert cg(a, b, x0)[1] == 0
    assert np.isnan(cg(poisoned(), np.ones(20))[0]).all()
