"""solve tells the truth: every status by a system that earns it, judged against dense float64 matrices."""

import copy
import io
import pickle
import sys
import time
import warnings
from contextlib import redirect_stderr

import numpy as np
import pytest
import scipy.sparse.linalg as sla
from systems import (
    Dense,
    assert_solves,
    duplicates,
    hilbert,
    indefinite,
    isolated,
    kernel,
    one_point,
    poisoned,
    relative_residual,
    right_hand_sides,
    rotation,
    rough,
    spd,
)

from kernelops.errors import ArgumentError, ConvergenceWarning, MissingExtraError, SolveError
from kernelops.solvers import Solution, solve
from kernelops.solvers.status import MESSAGES


def test_the_judge_can_convict():
    a, b = spd(), right_hand_sides(40)
    x = np.linalg.solve(a, b)
    assert_solves(a, x, b, 1e-12)
    with pytest.raises(AssertionError, match="relative residual"):
        assert_solves(a, x * (1 + 1e-5), b, 1e-6)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 2, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("make", [lambda a: a, Dense], ids=["array", "product"])
def test_converged(make, dtype, shape):
    a = spd(30, 50, dtype)
    b = right_hand_sides(30, *shape, dtype=dtype)
    A = make(a) if make is not Dense else Dense(a, dtype)
    solution = solve(A, b, rtol=1e-6)
    columns = shape if shape else ()
    assert solution.status == "converged" and solution.converged and solution.info == 0
    assert solution.x.shape == b.shape and solution.x.dtype == np.result_type(dtype, np.float64)
    assert solution.residual.shape == solution.residual_returned.shape == columns
    assert solution.history.shape == (solution.iterations + 1, *columns)
    assert solution.worst.shape == (solution.iterations + 1,)
    assert_solves(a, solution.x, b, 1e-6)
    np.testing.assert_allclose(
        solution.residual, relative_residual(a, solution.x, b).reshape(columns), rtol=1e-5, atol=1e-14
    )
    returned = relative_residual(a, solution.x.astype(dtype), b).reshape(columns)
    np.testing.assert_allclose(solution.residual_returned, returned, rtol=1e-5, atol=1e-14)


STATUSES = {  # name -> (system, right-hand side, keywords, status, info: a sign, or None for "iterations")
    "maxiter": (lambda: spd(40, 1e6), right_hand_sides(40, 2), dict(maxiter=7), "maxiter", None),
    "maxiter 0": (spd, right_hand_sides(40), dict(maxiter=0), "maxiter", 1),
    "nan in the data": (poisoned, right_hand_sides(20), {}, "nonfinite", -1),
    "inf in the data": (lambda: poisoned(value=np.inf), right_hand_sides(20), {}, "nonfinite", -1),
    "-inf in the data": (lambda: poisoned(value=-np.inf), right_hand_sides(20), {}, "nonfinite", -1),
    "nan in float32 data": (lambda: Dense(poisoned(), "float32"), right_hand_sides(20), {}, "nonfinite", -1),
    "nan in b": (spd, np.r_[np.nan, np.ones(39)], {}, "nonfinite", -1),
    "inf in one column": (spd, np.c_[np.ones(40), np.full(40, np.inf)], {}, "nonfinite", -1),
    "nan in x0": (spd, np.ones(40), dict(x0=np.full(40, np.nan)), "nonfinite", -1),
    "nan in M": (spd, np.ones(40), dict(M=np.full((40, 40), np.nan)), "nonfinite", -1),
    "indefinite": (indefinite, right_hand_sides(30, 2), {}, "not positive definite", -2),
    "indefinite in float32": (lambda: Dense(indefinite(), "f"), right_hand_sides(30), {}, "not positive definite", -2),
    "negative": (lambda: -spd(), right_hand_sides(40), {}, "not positive definite", -2),
    "zero matrix": (lambda: np.zeros((5, 5)), np.ones(5), {}, "not positive definite", -2),
    "duplicate points, alpha 0": (duplicates, right_hand_sides(40), {}, "not positive definite", -2),
    "duplicates in float32": (lambda: duplicates(dtype="f"), right_hand_sides(40), {}, "not positive definite", -2),
    "M negative": (spd, np.ones(40), dict(M=-np.eye(40)), "not positive definite", -2),
    "M of no use in float32": (kernel, np.ones(300), dict(M=-np.eye(300)), "not positive definite", -2),
    "products in float32": (lambda: rough(spd()), right_hand_sides(40), dict(rtol=1e-12), "stagnated", None),
    "asked too much": (spd, right_hand_sides(40), dict(rtol=1e-17), "stagnated", None),
    "asked for zero": (lambda: kernel(100), right_hand_sides(100), dict(rtol=0), "stagnated", None),
}


@pytest.mark.parametrize("name", STATUSES)
def test_every_status_by_a_system_that_earns_it(name):
    make, b, keywords, status, info = STATUSES[name]
    A = make()
    solution = solve(A, b, on_fail="ignore", **keywords)
    assert solution.iterations <= 20 * len(b)  # it sees soon that there is nothing more to come
    assert solution.status == status and not solution.converged
    assert solution.info == (solution.iterations if info is None else info)
    assert solution.message == str(solution).splitlines()[1].strip()
    if status == "nonfinite":
        assert np.isnan(solution.x).all() and np.isnan(solution.residual).all() and solution.iterations == 0
    else:
        truth = A @ np.eye(len(b)) if isinstance(A, sla.LinearOperator) else A.truth if isinstance(A, Dense) else A
        rounding = 1e-6 if name == "products in float32" else 1e-12  # there the residual is what A makes of it
        reached = relative_residual(truth, solution.x, b)
        np.testing.assert_allclose(
            solution.residual, reached.reshape(solution.residual.shape), rtol=1e-3, atol=rounding
        )
        assert (reached <= 1 + 1e-9).all()  # never worse than where it began
    if status == "not positive definite":
        culprit = "M" if "M" in keywords else "A"
        assert f"{culprit} is not positive definite" in solution.message


def test_every_status_has_a_sentence_and_a_system():
    of_doors = {"overflow"}  # what is returned in a shorter dtype
    assert {row[3] for row in STATUSES.values()} | {"converged", "stopped"} | of_doors == set(MESSAGES)


def test_b_zero():
    for A in (spd(), kernel(40)):
        b = np.zeros((40, 3), np.float32)
        for x0 in (None, np.ones((40, 3))):
            solution = solve(A, b, x0)
            assert solution.converged and solution.iterations == 0 and not solution.x.any()
            assert (solution.residual == 0).all() and (solution.residual_returned == 0).all()
        b[:, 1] = right_hand_sides(40)
        solution = solve(A, b)
        assert solution.converged and not solution.x[:, [0, 2]].any() and solution.x[:, 1].any()


@pytest.mark.parametrize("shape", [(0,), (0, 2), (40, 0), (2, 40, 0)])
def test_nothing_to_solve(shape):
    n = 0 if shape[0] == 0 else 40
    solution = solve(np.eye(n), np.zeros(shape))
    assert solution.converged and solution.x.shape == shape and solution.iterations == 0
    assert str(solution) and solution.worst.shape == (1,)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_point_and_isolated_points(dtype):
    solution = solve(one_point(dtype), np.array([2.0]))
    assert solution.converged and solution.iterations == 1 and solution.x == pytest.approx(0.5)
    solution = solve(isolated(), right_hand_sides(20, 2))
    assert solution.converged and solution.iterations == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exact_x0_takes_no_iteration(dtype):
    A, exact = kernel(100, dtype), right_hand_sides(100, 2)
    before = exact.copy()
    solution = solve(A, A.truth @ exact, exact)
    assert solution.converged and solution.iterations == 0
    np.testing.assert_array_equal(solution.x, exact)
    np.testing.assert_array_equal(exact, before)
    assert not np.shares_memory(solution.x, exact)


def test_a_start_helps():
    A, b = kernel(100), right_hand_sides(100)
    cold = solve(A, b)
    warm = solve(A, b * (1 + 1e-4), cold.x)
    assert warm.converged and warm.iterations < cold.iterations


def test_exactly_maxiter():
    for A, fewer in ((spd(100, 1e3), 1), (kernel(100), 20)):  # the last round in float32 aims beyond the goal
        b = right_hand_sides(100)
        needed = solve(A, b).iterations
        assert solve(A, b, maxiter=needed).converged
        assert solve(A, b, maxiter=needed - fewer, on_fail="ignore").status == "maxiter"


def test_batch_equals_loop():
    a = np.stack([spd(20, c, seed=i) for i, c in enumerate([2.0, 1e2, 1e4])])
    b = right_hand_sides(20, 3, 2)
    together = solve(Dense(a), b)
    assert together.converged and together.residual.shape == (3, 2)
    for i in range(3):
        alone = solve(Dense(a[i]), b[i])
        np.testing.assert_allclose(together.x[i], alone.x, rtol=1e-8)
    assert together.condition == pytest.approx(1e4, rel=0.1)


def test_one_bad_element_of_a_batch():
    a = np.stack([spd(20, 10), indefinite(20)])
    solution = solve(Dense(a), right_hand_sides(20, 2, 1), on_fail="ignore")
    assert solution.status == "not positive definite"
    assert solution.residual[0, 0] < 1e-6 < solution.residual[1, 0]


@pytest.mark.parametrize("dtype, exponents", [("float32", (-30, 30)), ("float64", (-60, 60))])
@pytest.mark.parametrize("which", ["kernel", "array"])
def test_powers_of_two_scale_exactly(which, dtype, exponents):
    A = kernel(100, dtype) if which == "kernel" else spd(100, 50, dtype)
    b, x0 = right_hand_sides(100, 2, dtype=dtype), right_hand_sides(100, 2, seed=8)
    for start in (None, x0):
        first = solve(A, b, start)
        for k in exponents:
            s = np.ldexp(1.0, k)
            scaled = solve(A, (s * b).astype(dtype), None if start is None else s * start)
            assert scaled.iterations == first.iterations
            np.testing.assert_array_equal(scaled.x, s * first.x)
            np.testing.assert_array_equal(scaled.residual_returned, first.residual_returned)


def test_columns_do_not_depend_on_each_others_scale():
    A, b = kernel(100), right_hand_sides(100, 3) * np.array([1e-20, 1.0, 1e20])
    solution = solve(A, b)
    assert solution.converged
    assert_solves(A, solution.x, b, 1e-6)


class TestOnFail:
    failing = dict(A=spd(40, 1e6), B=right_hand_sides(40), maxiter=5)

    def test_warn(self):
        with pytest.warns(ConvergenceWarning, match="maxiter = 5") as caught:
            solution = solve(**self.failing)
        assert str(caught[0].message) == solution.message
        assert caught[0].filename == __file__

    def test_raise(self):
        with pytest.raises(SolveError, match="maxiter = 5") as caught:
            solve(**self.failing, on_fail="raise")
        assert caught.value.solution.status == "maxiter"
        assert pickle.loads(pickle.dumps(caught.value)).solution.status == "maxiter"

    def test_ignore(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not solve(**self.failing, on_fail="ignore").converged

    def test_success_says_nothing(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for on_fail in ("warn", "raise", "ignore"):
                assert solve(spd(), np.ones(40), on_fail=on_fail).converged


def stopping_after(count):
    seen = []

    def callback(x):
        seen.append(x)
        if len(seen) == count:
            raise StopIteration

    return callback, seen


@pytest.mark.parametrize("A", [spd(100, 1e4), kernel(100)], ids=["array", "float32"])
@pytest.mark.parametrize("shape", [(100,), (100, 2)])
def test_stop_by_callback(A, shape):
    callback, seen = stopping_after(3)
    solution = solve(A, right_hand_sides(100, *shape[1:]), callback=callback)  # and no warning
    assert solution.status == "stopped" and solution.iterations == solution.info == len(seen) == 3
    assert all(x.shape == shape and x.dtype == np.float64 for x in seen)
    with pytest.raises(SolveError):
        solve(A, np.ones(100), callback=stopping_after(2)[0], on_fail="raise")


def test_callback_sees_what_is_returned():
    for A in (spd(), kernel(40)):
        seen = []
        solution = solve(A, right_hand_sides(40, 2), callback=seen.append)
        assert len(seen) == solution.iterations
        np.testing.assert_array_equal(seen[-1], solution.x)
        seen[-1][:] = 0
        assert solution.x.all()


@pytest.mark.parametrize("where", ["callback", "product"])
def test_keyboard_interrupt_passes_through(where):
    def interrupt(v):
        raise KeyboardInterrupt

    A = spd() if where == "callback" else sla.LinearOperator((40, 40), matvec=interrupt, dtype=float)
    with pytest.raises(KeyboardInterrupt):
        solve(A, np.ones(40), callback=interrupt)


BAD = {
    "not symmetric": (dict(A=rotation()), "A must be symmetric"),
    "known not symmetric": (dict(A=Dense(np.eye(20), symmetric="no")), "A must be symmetric"),
    "float32, not symmetric": (dict(A=Dense(rotation(), "float32")), "A must be symmetric"),
    "not Hermitian": (dict(A=np.eye(20) + 1j * (np.ones((20, 20)) - np.eye(20))), "A must be symmetric"),
    "oblong": (dict(A=np.ones((20, 19))), "A must be square"),
    "B short": (dict(B=np.ones(19)), "B must have shape"),
    "B turned": (dict(B=np.ones((2, 20))), "B must have shape"),
    "B scalar": (dict(B=1.0), "B must have shape"),
    "x0 of another shape": (dict(x0=np.ones((20, 1))), "x0 must have the shape of B"),
    "x0 word": (dict(x0="b"), "x0"),
    "on_fail": (dict(on_fail="print"), "on_fail must be"),
    "on_fail None": (dict(on_fail=None), "on_fail must be"),
    "rtol": (dict(rtol=-1), "rtol must be"),
    "atol": (dict(atol=np.nan), "atol must be"),
    "maxiter": (dict(maxiter=-3), "maxiter must be"),
    "M": (dict(M=np.eye(3)), "M must have the shape of A"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values(case):
    keywords, text = BAD[case]
    with pytest.raises(ArgumentError, match=text):
        solve(**(dict(A=spd(20), B=np.ones(20)) | keywords))


@pytest.mark.parametrize(
    "keywords, text",
    [
        (dict(B=np.array([None] * 20)), "B must be an array of numbers"),
        (dict(x0=1j * np.ones(20)), "x0 must be real"),
        (dict(A="matrix"), "A: wanted"),
        (dict(callback="print"), "callback must be"),
        (dict(A=sla.LinearOperator((20, 20), matvec=lambda v: 1j * v, dtype=float)), "give A a complex dtype"),
    ],
)
def test_bad_kinds(keywords, text):
    with pytest.raises(TypeError, match=text):
        solve(**(dict(A=spd(20), B=np.ones(20)) | keywords))


def test_symmetry_is_probed_once_and_only_where_it_is_not_known():
    a, b = spd(), right_hand_sides(40)
    known, unknown = solve(Dense(a, symmetric="yes"), b), solve(Dense(a), b)
    assert unknown.products["float64"] == known.products["float64"] + 1
    almost = a.astype(np.float32).astype(np.float64)
    almost[0, 1] *= 1 + 1e-7  # rounded entries are symmetric enough
    assert solve(almost, b).converged


@pytest.mark.parametrize("A", [spd(200, 1e6), kernel(200, alpha=1e-3)], ids=["array", "float32"])
def test_preconditioner(A):
    truth = A.truth if isinstance(A, Dense) else A
    M = sla.aslinearoperator(np.linalg.inv(truth + 1e-3 * np.eye(200)))
    plain, helped = (solve(A, right_hand_sides(200, 2), M=m, maxiter=5000) for m in (None, M))
    assert helped.converged and helped.iterations < plain.iterations / 5
    assert plain.precond == "none" and helped.precond == type(M).__name__
    assert helped.seconds["preconditioner"] > 0 == plain.seconds["preconditioner"]
    assert_solves(A, helped.x, right_hand_sides(200, 2), 1e-6)


def test_figures():
    solution = solve(kernel(200), right_hand_sides(200, 2))
    assert sum(solution.products.values()) >= solution.iterations
    assert solution.products["float32"] >= solution.iterations
    assert set(solution.seconds) == {"setup", "product", "preconditioner", "vectors", "total"}
    assert solution.seconds["total"] == pytest.approx(sum(solution.seconds.values()) / 2)
    eigenvalues = np.linalg.eigvalsh(kernel(200).truth)
    assert solution.condition == pytest.approx(eigenvalues[-1] / eigenvalues[0], rel=0.1)
    assert (solution.history[0] == pytest.approx(1)) and (solution.history[-1] == solution.residual).all()


def test_beyond_float64():
    solution = solve(hilbert(), np.ones(12), on_fail="ignore")
    assert solution.residual == pytest.approx(relative_residual(hilbert(), solution.x, np.ones(12))[0], rel=1e-3)
    assert solution.converged == (solution.residual <= 1e-6)


def test_print():
    text = str(solve(kernel(100), right_hand_sides(100, 2)))
    assert 5 <= len(text.splitlines()) <= 8
    for word in ("converged", "residual", "iterations", "products", "seconds", "no preconditioner", "2 columns"):
        assert word in text


def test_pickle_and_copy():
    solution = solve(kernel(50), right_hand_sides(50, 2))
    for again in (pickle.loads(pickle.dumps(solution)), copy.deepcopy(solution)):
        assert isinstance(again, Solution) and str(again) == str(solution)
        np.testing.assert_array_equal(again.x, solution.x)
        np.testing.assert_array_equal(again.history, solution.history)


def test_a_solution_is_frozen():
    with pytest.raises(AttributeError):
        solve(spd(), np.ones(40)).status = "converged"


def test_plot(monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    solution = solve(spd(), right_hand_sides(40, 2))
    axes = solution.plot()
    assert len(axes.lines) == 2 and len(axes.lines[0].get_xdata()) == solution.iterations + 1
    assert solution.plot(axes) is axes
    pyplot.close("all")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"kernelops\[plot\]"):
        solution.plot()


@pytest.mark.parametrize("bar", [True, False])
def test_progress(bar, monkeypatch):
    if bar:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
        clock = iter(range(0, 10**6, 3))
        monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    text = io.StringIO()
    with redirect_stderr(text):
        solution = solve(spd(), right_hand_sides(40), progress=True)
    assert solution.converged
    assert "solve" in text.getvalue() and ("residual" in text.getvalue() or bar)
    with redirect_stderr(io.StringIO()) as silent:
        solve(spd(), right_hand_sides(40))
    assert not silent.getvalue()
