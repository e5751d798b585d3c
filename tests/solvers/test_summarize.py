"""Every decision of summarize: which residuals are recomputed, which iterate is returned, which bounds are claimed."""

from dataclasses import fields, replace

import numpy as np
import pytest
from systems import Dense

from kernelops.solvers.cg import Exits
from kernelops.solvers.operator import System, as_system
from kernelops.solvers.options import SolveOptions
from kernelops.solvers.plan import Plan
from kernelops.solvers.precond.base import Preconditioner
from kernelops.solvers.problem import Problem
from kernelops.solvers.request import SolveRequest
from kernelops.solvers.summarize import _without_certificates, summarize

FIGURES = {"maxiter": 7, "asked": "rtol = 0.5", "faulty": "B"}


class Known(Preconditioner):
    """One of which everything is known."""

    name, rank, columns, pairs, logdet = "known", 3, 2, 5, 0.0
    certificate = inverse_bound = np.inf

    def __init__(self, n, certificate=np.inf, inverse_bound=np.inf):
        super().__init__(n)
        self.certificate, self.inverse_bound = certificate, inverse_bound

    def withdraw(self):
        self.certificate = self.inverse_bound = np.inf


def problem_of(A, b, rtol=0.5, rounded=None, **known):
    """A solve that is about to be accounted for: nothing was iterated, the first residuals are noted."""
    A = as_system(A)
    parts = {f.name: getattr(A, f.name) for f in fields(System) if hasattr(A, f.name)}
    system = System(**(parts | known))
    b = np.asarray(b, np.float64)
    problem = Problem(system, b[:, None] if b.ndim == 1 else b, rtol, 0.0, rounded)
    problem.log.record(problem.size.copy())
    return problem


def plan_of(problem, method="cg", precond="none", preconditioners=(), kept=False):
    return Plan(
        SolveRequest.of(problem.system, SolveOptions(method="cg", precond=None)),
        method,
        precond,
        "because",
        preconditioners,
        kept,
    )


def exits_of(problem, *flags, converged=False, **named):
    exits = Exits.none(problem.goal.shape, **named)
    exits.converged[...] = converged
    for name in flags:
        getattr(exits, name)[...] = True
    return exits


def found(problem, x, exits=None, x0=None, plan=None, shape=None):
    """The Solution of an iterate x in the units of b."""
    b = problem.b
    x = np.asarray(x, np.float64)
    x = np.array(np.broadcast_to(x[:, None] if x.ndim == 1 else x, b.shape)) / problem.scale[..., None, :]
    shape = b.shape if shape is None else shape
    exits = exits_of(problem) if exits is None else exits
    return summarize(problem, x, x0, exits, shape, plan_of(problem) if plan is None else plan, dict(FIGURES))


EYE = np.eye(2)
B = np.array([3.0, 4.0])  # of norm 5; every number below is exact


# ---- which residual ----


def test_a_converged_column_keeps_the_residual_that_it_was_judged_by():
    problem = problem_of(EYE, np.stack([B, B], axis=1))
    problem.log.record(problem.size * [0.25, 0.125])
    solution = found(problem, 100.0, exits_of(problem, converged=True))
    assert solution.residual.tolist() == [0.25, 0.125] and solution.products == {}
    assert solution.status == "converged" and solution.info == 0 and solution.converged


def test_the_others_are_recomputed_and_no_more():
    problem = problem_of(EYE, np.stack([B, B, B], axis=1))
    exits = exits_of(problem)
    exits.converged[1] = True
    seen, product = [], problem.product
    problem.product = lambda V: (seen.append(V.shape[-1]), product(V))[1]
    solution = found(problem, B[:, None] * [0.25, 0.0, 0.125], exits)
    assert solution.residual.tolist() == [0.75, 1.0, 0.875] and seen == [2]
    assert solution.status == "maxiter" and not solution.converged and solution.info == 1


@pytest.mark.parametrize("rtol, status", [(0.5, "converged"), (np.nextafter(0.5, 0), "maxiter"), (0.51, "converged")])
def test_the_truth_decides_whether_the_goal_is_met(rtol, status):
    solution = found(problem_of(EYE, B, rtol), B / 2)
    assert solution.residual == 0.5 and solution.status == status


def test_what_converged_stays_so():
    """A column that converged is not judged once more with those that did not."""
    problem = problem_of(EYE, np.stack([B, B], axis=1))
    exits = exits_of(problem)
    exits.converged[0] = True
    assert found(problem, B[:, None] * [0.0, 0.75], exits).status == "converged"


@pytest.mark.parametrize("factor, returned", [(1.5, 1.5), (2.0, 2.0), (2.5, 0.0), (np.inf, 0.0)])
def test_an_iterate_that_is_worse_than_the_start_is_not_returned(factor, returned):
    """The start is zero, of residual 1: an iterate of 2 b is as good as that, and stays."""
    with np.errstate(invalid="ignore"):
        solution = found(problem_of(EYE, B, 0.1), factor * B)
    np.testing.assert_array_equal(solution.x[:, 0], returned * B)
    assert solution.residual == abs(1 - returned) and solution.status == "maxiter"


def test_the_start_may_be_one_of_the_callers_and_counts_by_columns():
    problem = problem_of(EYE, np.stack([B] * 3, axis=1), 0.1)
    problem.log.history[0][...] = 0.5
    x0 = problem.to_scaled_units(np.stack([B / 2] * 3, axis=1))
    before, x0_before = B[:, None] * [0.25, 0.75, 1.75], x0.copy()
    solution = found(problem, before, x0=x0)
    np.testing.assert_array_equal(solution.x, B[:, None] * [0.5, 0.75, 0.5])
    assert solution.residual.tolist() == [0.5, 0.25, 0.5]
    np.testing.assert_array_equal(x0, x0_before)


def test_elements_of_a_batch_are_replaced_one_by_one():
    b = np.stack([B[:, None], B[:, None]])
    solution = found(problem_of(np.eye(2), b, 0.1), b * [[[0.75]], [[3.0]]])
    np.testing.assert_array_equal(solution.x, b * [[[0.75]], [[0.0]]])
    assert solution.residual.tolist() == [[0.25], [1.0]]


def test_an_element_that_converged_is_left_where_another_one_did_not():
    """They share a column, which is recomputed; the one that converged is not undone by its own start."""
    b = np.stack([B[:, None], B[:, None]])
    problem = problem_of(np.eye(2), b, 0.5)
    exits = exits_of(problem)
    exits.converged[0] = True
    solution = found(problem, b * [[[0.75]], [[0.625]]], exits)
    assert solution.status == "converged" and solution.residual.tolist() == [[0.25], [0.375]]


# ---- rounded ----


def test_the_residual_of_what_is_returned():
    problem = problem_of(EYE, B, rounded=np.dtype("f4"))
    problem.size_rounded[...] = 2.5 / problem.scale
    solution = found(problem, B, exits_of(problem, converged=True))
    assert solution.residual_returned == 0.5 and solution.residual == 1.0
    problem = problem_of(EYE, B)
    problem.size_rounded[...] = 2.5 / problem.scale
    assert found(problem, B, exits_of(problem, converged=True)).residual_returned == 1.0


def test_of_a_column_that_did_not_converge_the_rounded_one_is_recomputed_too():
    third = 1 / 3 * B
    solution = found(problem_of(EYE, B, 0.1, np.dtype("f2")), third)
    wanted = np.linalg.norm(B - third.astype("f2").astype(float)) / 5
    np.testing.assert_allclose(solution.residual_returned, wanted, rtol=1e-14)
    np.testing.assert_allclose(solution.residual, 2 / 3, rtol=1e-14)
    assert abs(wanted - 2 / 3) > 1e-6
    large = found(problem_of(1e-5 * EYE, B, 0.1, np.dtype("f2")), B * 5e4)
    assert large.residual_returned == np.inf and large.residual == pytest.approx(0.5)


# ---- where it ended ----


@pytest.mark.parametrize("rounded", [None, np.dtype("f4")])
def test_nan_throughout(rounded):
    problem = problem_of(EYE, np.stack([B, B], axis=1), rounded=rounded)
    problem.log.conditions = lambda: {0: 3.0}
    solution = found(problem, B[:, None], exits_of(problem, nonfinite=True, converged=True))
    for value in (solution.x, solution.residual, solution.residual_returned, solution.bound):
        assert np.isnan(value).all()
    assert solution.status == "nonfinite" and solution.info == -1 and solution.condition is None
    assert "NaN or Inf in B" in solution.message


def test_without_a_history_there_is_one_line_of_nan():
    problem = problem_of(EYE, np.stack([B, B], axis=1))
    problem.log.history.clear()
    solution = found(problem, B[:, None], exits_of(problem, nonfinite=True))
    assert solution.history.shape == (1, 2) and np.isnan(solution.history).all()


@pytest.mark.parametrize(
    "flags, named, status, info",
    [
        (("indefinite",), {}, "not positive definite", -2),
        (("indefinite_preconditioner",), {}, "not positive definite", -2),
        (("stagnated",), {}, "stagnated", 1),
        ((), {"stopped": True}, "stopped", 1),
        ((), {}, "maxiter", 1),
    ],
)
def test_statuses(flags, named, status, info):
    problem = problem_of(EYE, B, 0.1)
    problem.log.conditions = lambda: {0: 40.0}
    solution = found(problem, B / 2, exits_of(problem, *flags, **named))
    assert (solution.status, solution.info) == (status, info)
    assert solution.condition == (None if info == -2 else 40.0)
    assert "5.0e-01" in solution.message  # the true residual


def test_who_is_not_positive_definite():
    problem = problem_of(EYE, B, 0.1)
    assert "Not solved: A is not" in found(problem, B / 2, exits_of(problem, "indefinite")).message
    assert (
        "Not solved: M is not"
        in found(problem, B / 2, exits_of(problem, "indefinite", "indefinite_preconditioner")).message
    )
    exits = exits_of(problem_of(EYE, np.stack([B, B], axis=1), 0.1), "indefinite")
    exits.indefinite_preconditioner[1] = True
    assert "Not solved: M is not" in found(problem_of(EYE, np.stack([B, B], axis=1), 0.1), 0.0, exits).message


def test_how_the_residual_was_recomputed():
    for A, words in ((EYE, "by A's own products"), (Dense(EYE), "in float64")):
        problem = problem_of(A, B)
        assert f"recomputed {words}" in found(problem, B, exits_of(problem, converged=True)).message


def test_the_message_tells_of_the_worst_column():
    problem = problem_of(EYE, np.stack([B, B, B], axis=1), 0.01)
    assert (
        "|b - A x| / |b| is 7.5e-01, where rtol = 0.5 was asked"
        in found(problem, B[:, None] * [0.5, 0.25, 0.5]).message
    )
    empty = problem_of(EYE, np.zeros((2, 0)))
    assert "0.0e+00" in found(empty, np.zeros((2, 0)), exits_of(empty, converged=True)).message


# ---- fields ----


def test_fields():
    problem = problem_of(EYE, np.stack([B, B], axis=1))
    log = problem.log
    log.step(np.ones(2), np.zeros(2))
    log.record(problem.size / 4)
    log.products["float64"] = 11
    log.conditions = lambda: {0: 3.0, 1: 5.0}
    P = Known(2)
    plan = plan_of(problem, "cg", "known", (P,))
    solution = found(problem, B[:, None], exits_of(problem, converged=True), plan=plan)
    assert (solution.method, solution.precond, solution.reason) == ("cg", "known", "because")
    assert (solution.rank, solution.setup, solution.density) == (3, 9 / 4, 1.0)
    assert solution.preconditioners == (P,) and solution.condition == 5.0 and solution.iterations == 1
    assert solution.history.tolist() == [[1.0, 1.0], [0.25, 0.25]] and set(solution.seconds) >= {"setup", "total"}
    assert solution.products == {"float64": 11} and solution.products is not log.products
    again = found(problem, B[:, None], exits_of(problem, converged=True), plan=replace(plan, reused=True))
    assert again.reason == "because, kept from an earlier solve" and again.setup == 0


@pytest.mark.parametrize("shape", [(2,), (2, 1), (2, 3), (4, 2, 3), (5, 4, 2, 1), (2, 0)])
def test_shapes(shape):
    problem = problem_of(EYE, np.ones(shape) if len(shape) > 1 else B)
    problem.log.record(problem.size)
    solution = found(problem, problem.b, exits_of(problem, converged=True), shape=shape)
    columns = () if len(shape) == 1 else shape[:-2] + shape[-1:]
    assert solution.x.shape == shape
    assert solution.residual.shape == solution.residual_returned.shape == solution.bound.shape == columns
    assert solution.history.shape == (1, *columns)


def test_x_is_in_the_units_of_b():
    for size in (1.0, 2.0**-40, 2.0**40):
        problem = problem_of(EYE, size * B)
        solution = found(problem, size * B, exits_of(problem, converged=True))
        np.testing.assert_array_equal(solution.x[:, 0], size * B)


# ---- bounds ----


def bound(alpha, least, b=B, energy=None, preconditioners=(), reused=False, residual=0.5):
    problem = problem_of(EYE, b, alpha=np.asarray(alpha, float), least=least)
    problem.log.record(problem.size * residual)
    problem.log.energy = None if energy is None else np.broadcast_to(energy, problem.size.shape)
    plan = plan_of(problem, "cg", "known" if preconditioners else "none", preconditioners, reused)
    return found(problem, problem.b, exits_of(problem, converged=True), plan=plan).bound


@pytest.mark.parametrize(
    "alpha, least, wanted",
    [
        (4.0, 0.0, 2.5 / 2),
        (4.0, -3.0, 2.5),
        (4.0, -4.0, np.nan),
        (4.0, -5.0, np.nan),
        (4.0, -np.inf, np.nan),
        (0.0, 0.0, np.nan),
        ([[4.0], [9.0]], 0.0, 2.5 / 2),
        ([[9.0], [4.0]], 0.0, 2.5 / 2),
        ([[4.0], [0.0]], 0.0, np.nan),
    ],
)
def test_by_the_least_eigenvalue(alpha, least, wanted):
    for size in (1.0, 2.0**30):
        np.testing.assert_array_equal(bound(alpha, least, size * B), [size * wanted])


def test_each_element_has_its_own_alpha():
    b = np.stack([B[:, None]] * 2)
    np.testing.assert_array_equal(bound([[[4.0]], [[25.0]]], 0.0, b), [[2.5 / 2], [2.5 / 5]])
    np.testing.assert_array_equal(bound([[[4.0], [9.0]], [[0.0], [9.0]]], 0.0, b), [[2.5 / 2], [np.nan]])


def test_by_the_energy_of_a_preconditioner_below_A():
    one = (Known(2, 9.0, 4.0),)
    np.testing.assert_allclose(bound(4.0, 0.0, energy=1 / 25, preconditioners=one), 2.5 / 2)  # the smaller one
    np.testing.assert_allclose(bound(4.0, 0.0, energy=0.01 / 25, preconditioners=one), 0.2)
    np.testing.assert_allclose(bound(0.0, -np.inf, energy=0.01 / 25, preconditioners=one), 0.2)  # the only one
    np.testing.assert_allclose(bound(4.0, 0.0, 2.0**20 * B, energy=0.01 / 25, preconditioners=one), 2.0**20 * 0.2)
    for other in ((Known(2),), ()):
        assert np.isnan(bound(4.0, -np.inf, energy=0.01 / 25, preconditioners=other)).all()
        np.testing.assert_allclose(bound(4.0, 0.0, energy=0.01 / 25, preconditioners=other), 2.5 / 2)
    np.testing.assert_allclose(bound(4.0, 0.0, energy=0.01 / 25, preconditioners=one, reused=True), 2.5 / 2)
    np.testing.assert_allclose(bound(4.0, 0.0, energy=np.nan, preconditioners=one), 2.5 / 2)


def test_each_element_has_its_own_preconditioner():
    b, both = np.stack([np.stack([B] * 3, axis=1)] * 2), (Known(2, 9.0, 4.0), Known(2, 9.0, 1.0))
    found = bound(4.0, 0.0, b, energy=0.01 / 25, preconditioners=both)
    np.testing.assert_allclose(found, [[0.2] * 3, [0.1] * 3])
    found = bound(4.0, 0.0, b, energy=0.01 / 25, preconditioners=(Known(2), both[1]))
    np.testing.assert_allclose(found, [[2.5 / 2] * 3, [0.1] * 3])
    found = bound(4.0, 0.0, b, energy=0.01 / 25, preconditioners=both[:1])  # one for all
    np.testing.assert_allclose(found, [[0.2] * 3] * 2)


# ---- what is withdrawn ----


def withdrawn(met, *certificates, method="cg", reused=False, shape=(2, 2), indefinite=(), inverse_bound=1.0):
    """Which certificates are gone after an iteration that met these condition numbers."""
    problem = problem_of(EYE, np.ones(shape))
    problem.log.conditions = lambda: dict(met)
    exits = exits_of(problem, converged=True)
    for at in indefinite:
        exits.indefinite.reshape(-1)[at] = True
    own = tuple(Known(2, c, inverse_bound) for c in certificates)
    solution = found(problem, problem.b, exits, plan=plan_of(problem, method, "known", own, reused))
    assert (np.isnan(solution.bound) | ~exits.indefinite).all()
    return [bool(np.isinf(P.certificate) and np.isinf(P.inverse_bound)) for P in own]


def test_a_certificate_goes_where_a_larger_condition_number_was_met():
    assert withdrawn({0: 9.0, 1: 8.0}, 9.0) == [False]
    assert withdrawn({0: 8.0, 1: np.nextafter(9.0, 10)}, 9.0) == [True]
    assert withdrawn({}, 9.0) == [False]


def test_each_element_is_refuted_by_its_own_columns():
    for column, gone in ((1, [True, False, False]), (2, [False, True, False]), (5, [False, False, True])):
        assert withdrawn({column: 20.0}, 9.0, 9.0, 9.0, shape=(3, 2, 2)) == gone
    assert withdrawn({5: 20.0}, 9.0, shape=(3, 2, 2)) == [True]  # one for all


def test_a_block_refutes_nothing_and_a_kept_preconditioner_is_not_refuted():
    assert withdrawn({0: 20.0}, 9.0, method="block_cg") == [False]
    assert withdrawn({0: 20.0}, 9.0, reused=True) == [False]


def test_an_indefinite_matrix_refutes_everything():
    assert withdrawn({}, 9.0, indefinite=[1]) == [True]
    assert withdrawn({}, 9.0, indefinite=[1], method="block_cg") == [True]
    assert withdrawn({}, 9.0, 9.0, indefinite=[2], shape=(2, 2, 2)) == [False, True]
    assert withdrawn({}, np.inf, indefinite=[0], inverse_bound=2.0) == [True]  # a bound without a certificate


def test_where_nothing_is_claimed_nothing_is_looked_for():
    problem = problem_of(EYE, B)
    asked = []
    problem.log.conditions = lambda: asked.append(1) or {}
    plan = plan_of(problem, "cg", "known", (Known(2),))
    found(problem, B, exits_of(problem, converged=True), plan=plan)
    assert len(asked) == 1  # for Solution.condition


def test_a_preconditioner_of_another_matrix_is_shown_without_its_claims():
    for own in (Known(2, 9.0, 2.0), Known(2, np.inf, 2.0), Known(2, 9.0, np.inf)):
        before = own.certificate, own.inverse_bound
        shown = _without_certificates(own)
        assert shown is not own and np.isinf(shown.certificate) and np.isinf(shown.inverse_bound)
        assert (own.certificate, own.inverse_bound) == before
    plain = Known(2)
    assert _without_certificates(plain) is plain
    problem = problem_of(EYE, B)
    own = Known(2, 9.0, 2.0)
    for reused, same in ((False, True), (True, False)):
        plan = plan_of(problem, "cg", "known", (own,), reused)
        solution = found(problem, B, exits_of(problem, converged=True), plan=plan)
        assert (solution.preconditioners[0] is own) is same


def test_the_condition_number_of_a_block_is_that_of_its_directions():
    problem = problem_of(EYE, np.stack([B, B], axis=1))
    for _ in range(2):
        problem.log.step(np.full(2, np.nan), np.zeros(2))
    problem.log.observe_quotients(2.0, 6.0)
    problem.log.conditions = lambda: {0: 50.0}
    for method, precond, wanted in (
        ("block_cg", "none", 50.0),  # columns that went on by themselves, with A as well
        ("block_cg", "known", 3.0),
        ("cg", "known", 50.0),
    ):
        plan = plan_of(problem, method, precond, (Known(2),) if precond == "known" else ())
        assert found(problem, B[:, None], exits_of(problem, converged=True), plan=plan).condition == wanted
