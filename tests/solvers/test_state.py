"""SolveState: what one solve leaves for the next changes how long that takes, and nothing else."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
import usual
from judges import assert_solves
from scipy.sparse.linalg import LinearOperator
from systems import Dense, spd

from kernelops import KernelOperator, SolveState, solve
from kernelops.errors import ConvergenceWarning
from kernelops.numpy import KernelSolve
from kernelops.solvers import policy
from kernelops.solvers.operator import as_system
from kernelops.solvers.options import SolveOptions
from kernelops.solvers.state import GRACE, WORN

ALIASES = usual.aliases(2, 1, "g")
FORMULA = usual.SCALED_GAUSS
SOLVER = KernelSolve(FORMULA, ALIASES, "b", axis=1)
N, ASKED = 300, 1e-6
POINTS = np.random.default_rng(0).random((N, 2))
B = np.random.default_rng(1).standard_normal(N)
LOW = {"method": "cg", "precond": "pivoted_cholesky"}


def operator(g=20.0, alpha=1e-3, x=POINTS, dtype="float64"):
    x = x.astype(dtype)
    return KernelOperator(FORMULA, ALIASES, "b", x, x, g, alpha=alpha)


def matrix(g=20.0, alpha=1e-3, x=POINTS):
    return np.exp(-g * ((x[:, None] - x) ** 2).sum(-1)) + alpha * np.eye(len(x))


def checked(A, b, dense, **keywords):
    solution = solve(A, b, **keywords)
    assert solution.converged, solution.message
    assert_solves(dense, solution.x.reshape(len(b), -1), b.reshape(len(b), -1), ASKED)
    return solution


@pytest.mark.parametrize("way", [LOW, {"method": "direct"}, {"precond": "fsai"}, {}], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_of_a_hyper_parameter(way, dtype):
    """One preconditioner for a sequence of nearby matrices, each solved as well as ever."""
    state, x = SolveState(), POINTS.astype(np.float32).astype(float)
    for k in range(6):
        g = 20.0 + 0.125 * k
        solution = checked(operator(g, dtype=dtype, x=x), B, matrix(g, x=x), state=state, **way)
        np.testing.assert_array_equal(state.x, solution.x[:, None])
    assert state.solves == 6 and state.builds == 1
    alone = solve(operator(g, dtype=dtype, x=x), B, **way)
    assert solution.iterations <= alone.iterations + 4
    kept, built = (
        [(type(p), p.rank) for p in found] for found in (solution.preconditioners, state.plan.preconditioners)
    )
    assert kept == built


def test_the_last_solution_is_where_the_next_one_starts():
    state = SolveState()
    first = checked(operator(), B, matrix(), state=state, **LOW)
    again = checked(operator(), B, matrix(), state=state, **LOW)
    assert first.iterations > 0 == again.iterations
    np.testing.assert_array_equal(first.x, again.x)
    assert state.solves == 2 and state.builds == 1
    near = checked(operator(), B + 1e-3 * B[::-1], matrix(), state=state, **LOW)
    assert 0 < near.iterations < first.iterations
    elsewhere = checked(operator(), B, matrix(), x0=np.zeros(N), state=state, **LOW)  # who gives a start means it
    assert elsewhere.iterations == first.iterations


def test_a_worn_preconditioner_is_built_anew():
    """It is used once more than it should be: that is how it is found out."""
    state, plans, counts = SolveState(), [], []
    for alpha in (1.0, 1e-4, 1e-4):
        solution = checked(operator(2.0, alpha), B, matrix(2.0, alpha), state=state, x0=np.zeros(N), **LOW)
        plans.append(state.plan)
        counts.append(solution.iterations)
    assert plans[0] is plans[1] is not plans[2] and state.builds == 2
    assert counts[1] > WORN * counts[0] + GRACE > counts[2]


@pytest.mark.parametrize(("more", "worn"), [(0, False), (1, True)])
def test_worn_on_both_sides(more, worn):
    state, request = SolveState(), policy.SolveRequest.of(system(), SolveOptions(method="cg", precond="jacobi"))
    plan = policy.build_plan(request, 1, 1.0)
    state.leave(np.ones((N, 1)), plan, 10)
    assert state.lookup(request.key) is plan
    state.leave(np.ones((N, 1)), plan, WORN * 10 + GRACE + more)
    assert state.worn == worn and (state.lookup(request.key) is None) == worn


def system(**keywords):
    return as_system(operator(**keywords))


OTHERS = {
    "n": lambda state: checked(operator(x=POINTS[:200]), B[:200], matrix(x=POINTS[:200]), state=state, **LOW),
    "method": lambda state: checked(operator(), B, matrix(), state=state, method="direct"),
    "preconditioner": lambda state: checked(operator(), B, matrix(), state=state, precond="fsai", method="cg"),
    "seed": lambda state: checked(operator(), B, matrix(), state=state, seed=1, **LOW),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_question_gets_a_plan_of_its_own(what):
    state = SolveState()
    checked(operator(), B, matrix(), state=state, **LOW)
    plan = state.plan
    OTHERS[what](state)
    assert state.plan is not plan and (state.solves, state.builds) == (2, 2)


def test_none_and_a_given_preconditioner():
    state = SolveState()
    checked(operator(), B, matrix(), state=state, **LOW)
    M = np.linalg.inv(matrix())
    given = checked(operator(), B, matrix(), state=state, M=M)
    assert given.precond == "ndarray" and state.builds == 1
    none = solve(operator(alpha=0.1), B, state=state, precond=None, method="cg")
    assert none.converged and none.precond == "none" and state.builds == 1
    checked(operator(), B, matrix(), state=state, **LOW)
    assert state.builds == 2


def test_another_batch():
    state = SolveState()
    for count, builds in ((2, 1), (2, 1), (3, 2)):
        x = np.stack([POINTS[k : k + 100] for k in range(count)])
        b = np.repeat(B[None, :100, None], count, 0)
        a, solution = SOLVER(x, x, b, 20.0, alpha=1e-3, state=state, return_solution=True, **LOW)
        for k in range(count):
            assert_solves(matrix(x=x[k]), a[k], b[k], ASKED)
        assert state.builds == builds and len(solution.preconditioners) == count
        assert state.x.shape == (count, 100, 1)


def test_right_hand_sides_of_another_shape():
    """The plan stays, the solution does not fit."""
    state = SolveState()
    first = checked(operator(), B, matrix(), state=state, **LOW)
    several = checked(operator(), np.stack([B, B[::-1]], 1), matrix(), state=state, **LOW)
    assert several.iterations > 0 and state.x.shape == (N, 2) and state.builds == 1
    one = checked(operator(), B, matrix(), state=state, **LOW)
    assert one.iterations == first.iterations and state.builds == 1
    flat = checked(operator(), B[:, None], matrix(), state=state, **LOW)  # (n, 1) after (n,): the same shape inside
    assert flat.iterations == 0 and flat.x.shape == (N, 1)


@pytest.mark.filterwarnings("error")
def test_a_complex_solution_is_no_start_for_a_real_one():
    state = SolveState()
    assert solve(operator(), B + 1j * B[::-1], state=state, **LOW).converged and state.x.dtype == np.complex128
    checked(operator(), B, matrix(), state=state, **LOW)
    assert state.x.dtype == np.float64 and state.builds == 1
    assert solve(operator(), B + 1j * B[::-1], state=state, **LOW).converged


@pytest.mark.parametrize("scale", [1e20, 1e200, 1e-200])
@pytest.mark.parametrize("way", [LOW, {"method": "direct"}, {"method": "cg", "precond": None}], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_start_is_no_worse_than_none(dtype, way, scale):
    """A solution that is far too large for the next right-hand side is not started from."""
    A, state = operator(alpha=0.1, dtype=dtype), SolveState()
    cold = solve(A, B, **way)
    b = np.stack([scale * B, B], 1)
    assert solve(A, b, state=state, **way).converged
    warm = solve(A, np.stack([B, B], 1), state=state, **way)
    assert warm.converged and warm.iterations <= cold.iterations + 2
    assert np.isfinite(state.x).all()


def nothing_kept(state):
    return state.plan is None


def test_a_solve_that_broke_down_leaves_no_preconditioner():
    state, x = SolveState(), POINTS.copy()
    x[3, 0] = np.nan
    bad = solve(operator(x=x), B, state=state, on_fail="ignore")
    assert bad.status == "nonfinite" and nothing_kept(state) and state.x is None
    good = checked(operator(), B, matrix(), state=state)
    assert good.precond != "none" and (state.solves, state.builds) == (2, 1)
    negative = KernelOperator("-1*" + FORMULA, ALIASES, "b", POINTS, POINTS, 20.0)
    assert solve(negative, B, state=state, on_fail="ignore").status == "not positive definite" and nothing_kept(state)
    assert checked(operator(), B, matrix(), state=state).precond != "none"


def test_nan_in_b_leaves_everything_as_it_was():
    state = SolveState()
    checked(operator(), B, matrix(), state=state, **LOW)
    before = state.x, state.plan, state.solves, state.builds
    assert solve(operator(), np.full(N, np.nan), state=state, on_fail="ignore", **LOW).status == "nonfinite"
    assert before == (state.x, state.plan, state.solves, state.builds)


def test_what_did_not_converge_is_still_a_start():
    state = SolveState()
    with pytest.warns(ConvergenceWarning):
        short = solve(operator(), B, state=state, maxiter=2, **LOW)
    np.testing.assert_array_equal(state.x[:, 0], short.x)
    rest = checked(operator(), B, matrix(), state=state, **LOW)
    assert state.builds == 1 and rest.history[0] == pytest.approx(short.residual)


def test_nothing_to_solve_is_no_question():
    state = SolveState()
    assert solve(operator(), np.empty((N, 0)), state=state).converged and nothing_kept(state)
    assert checked(operator(), B, matrix(), state=state).precond != "none"


@pytest.mark.parametrize("A", [spd(60, 1e3), Dense(spd(60, 1e3))], ids=["array", "products"])
def test_matrices_that_nothing_is_built_for(A):
    state, b = SolveState(), np.ones(60)
    first, second = solve(A, b, state=state), solve(A, b, state=state)
    assert first.iterations > 0 == second.iterations and (state.solves, state.builds) == (2, 0)


def test_a_state_is_itself_alone():
    """Not equal to another one with the same numbers, and so it can stand in a set."""
    first, second = SolveState(), SolveState()
    assert first != second and len({first, second, first}) == 2


def test_the_part_of_the_backward_solves():
    """They take the plan of the forward solve, once, and keep one of their own that they built since."""
    state, request = SolveState(), policy.SolveRequest.of(system(), SolveOptions(method="cg", precond="jacobi"))
    plans = [policy.build_plan(request, 1, 1.0) for _ in range(3)]
    x = np.ones((N, 1))
    assert state.adjoint().plan is None and state.adjoint() is state.adjoint()
    state.leave(x, plans[0], 10)
    backward = state.adjoint()
    assert backward.plan is plans[0] and backward.builds == 0
    backward.leave(x, plans[0], 10)
    assert backward.builds == 0 and backward.fresh == 10
    backward.leave(x, plans[0], 100)  # worn
    assert backward.lookup(request.key) is None and not state.worn
    backward.leave(x, plans[1], 10)
    assert backward.builds == 1 and state.adjoint().plan is plans[1]
    state.leave(x, plans[2], 10)
    assert state.adjoint().plan is plans[2] and backward.lookup(request.key) is plans[2]
    assert backward.x is x and SolveState(warm=False).adjoint().warm is False


def test_a_kept_preconditioner_bounds_no_error():
    """P of one matrix is not below another: of a kept one, only |r| / sqrt(alpha) is a bound."""
    x = np.random.default_rng(0).random((200, 2))
    aliases = usual.aliases(2, 1, "g")
    state, b = SolveState(), np.sin(9 * x[:, 0])
    for g in (5.0, 40.0):
        A = KernelOperator(usual.SCALED_GAUSS, aliases, "b", x, x, g, alpha=1e-3)
        found = solve(A, b, rtol=1e-3, method="cg", precond="pivoted_cholesky", state=state, on_fail="ignore")
        dense = A.to_dense()
        error = found.x - np.linalg.solve(dense, b)
        assert np.sqrt(error @ dense @ error) <= found.bound * (1 + 1e-9)
    assert state.builds == 1 and "kept" in found.reason
    np.testing.assert_allclose(found.bound, found.residual * np.linalg.norm(b) / np.sqrt(1e-3), rtol=1e-12)


WAYS_TO_BUILD = [{"method": "direct"}, *({"method": "cg", "precond": p} for p in (None, "pivoted_cholesky", "fsai"))]
WAYS_TO_BUILD += [{"method": "cg", "precond": p} for p in ("nystrom", "jacobi", "auto")]


@pytest.mark.parametrize("duplicate", [lambda s: pickle.loads(pickle.dumps(s)), copy.deepcopy], ids=["pickle", "copy"])
@pytest.mark.parametrize("how", WAYS_TO_BUILD, ids=str)
def test_a_used_state_in_a_checkpoint(duplicate, how):
    """It works on as the one that it was made of, and so does that."""
    state = SolveState()
    solve(operator(), B, state=state, **how)
    state.adjoint()
    twin = duplicate(state)
    assert (twin.solves, twin.builds, twin.worn) == (state.solves, state.builds, state.worn)
    assert (twin.backward.plan is twin.plan) == (state.backward.plan is state.plan)
    near = B + 1e-3 * B[::-1]
    first, second = (checked(operator(), near, matrix(), state=s, **how) for s in (state, twin))
    assert twin.builds == state.builds and "kept" in second.reason and first.iterations == second.iterations
    np.testing.assert_array_equal(first.x, second.x)


@pytest.mark.parametrize(
    "M", [np.eye(N), LinearOperator((N, N), matvec=lambda v: v, dtype=float)], ids=["array", "own"]
)
def test_a_state_that_has_seen_an_m(M):
    state = SolveState()
    solve(operator(), B, M=M, state=state)
    twin = pickle.loads(pickle.dumps(state))
    assert twin.plan is None and checked(operator(), B, matrix(), state=twin, **LOW).iterations == 0


def test_a_state_keeps_no_data_alive():
    A, state = operator(), SolveState()
    data = weakref.ref(A.kernel_product)
    solve(A, B, state=state, **LOW)
    del A
    gc.collect()
    assert data() is None and state.plan is not None
