"""The Solution of a solve that has ended: true residuals, a bound of the error, and the report."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from .cg import Exits, any_in_batch
from .operator import density
from .plan import Plan
from .precond.base import Preconditioner, Rescaled
from .problem import Problem, finite
from .solution import Solution, name_conditioned
from .status import FAILURES, info_of, message
from .units import multiply
from .vectors import Block

LARGEST_DIGITS = 1024  # binary digits before the point beyond which a number is infinite in float64
SMALLEST_DIGITS = -960  # binary exponent below which a number may have lost digits that would change A x


def summarize(
    problem: Problem,
    x: Block,
    x0: Block | None,
    exits: Exits,
    shape: tuple[int, ...],
    plan: Plan,
    figures: dict[str, Any],
) -> Solution:
    """The Solution, with the true residuals of the x that is returned."""
    log, vectors = problem.log, problem.system.vectors
    if exits.nonfinite and not figures["faulty"] and _gives_finite_numbers(problem, plan):
        exits.nonfinite, exits.indefinite = False, exits.indefinite | ~exits.converged
    residual = np.zeros(problem.size.shape) if exits.nonfinite else _true_residual(problem, x, x0, exits)
    told = return_in_units(problem, x, residual, exits)
    returned = problem.size_rounded * log.unit if problem.rounded is not None else residual
    if exits.nonfinite:
        residual = returned = np.full(problem.size.shape, np.nan)
    found: np.ndarray = vectors.to_host(x)
    status = exits.status
    columns = shape[:-2] + shape[-1:] if len(shape) > 1 else ()
    matrix = name_conditioned(plan.method, plan.precond)
    block = plan.method == "block_cg" and plan.precond != "none"
    condition = None if status in FAILURES else log.condition(block)
    _withdraw_refuted(problem, plan, exits)
    preconditioners = plan.preconditioners
    if plan.reused:
        preconditioners = tuple(map(_without_certificates, preconditioners))
    history = np.array(log.history or [np.full(problem.size.shape, np.nan)])
    figures |= {
        "iterations": log.iterations,
        "residual": float(np.max(residual, initial=0.0)),
        "condition": condition,
        "matrix": matrix,
        "culprit": "M" if exits.indefinite_preconditioner.any() and plan.method != "direct" else "A",
        "faulty": figures["faulty"] or "a product of A or of M",
        "recomputed": "in float64" if problem.system.native else "by A's own products",
    }
    return Solution(
        x=found.reshape(shape),
        status=status,
        message=message(told or status, **figures),
        iterations=log.iterations,
        residual=residual.reshape(columns),
        residual_returned=returned.reshape(columns),
        products=dict(log.products),
        history=history.reshape(len(history), *columns),
        seconds=log.times(),
        method=plan.method,
        precond=plan.precond,
        rank=plan.rank,
        setup=plan.setup,
        reason=plan.description,
        density=density(problem.system),
        preconditioners=_in_units_of_a(preconditioners, problem.unit),
        condition=condition,
        bound=np.where(exits.indefinite, np.nan, _error_bound(problem, plan, residual)).reshape(columns),
        info=info_of(status, log.iterations),
    )


def _gives_finite_numbers(problem: Problem, plan: Plan) -> bool:
    """Whether A and M give finite numbers for b, so that the iteration itself left their range.

    A matrix that is singular to rounding makes its steps longer and longer.
    """
    vectors, apply = problem.system.vectors, plan.apply(problem.system.vectors)
    if apply is None and not problem.log.iterations:  # the product with the first residual was not finite
        return False
    r = problem.right_hand_side()
    return finite(problem.product(r), vectors) and (apply is None or finite(apply(r), vectors))


def _true_residual(problem: Problem, x: Block, x0: Block | None, exits: Exits) -> np.ndarray:
    """Relative residuals of all columns. Those that did not converge are recomputed, and the truth decides.

    An iteration that broke down can leave less than it began with; then its start is what is returned.
    """
    log, vectors = problem.log, problem.system.vectors
    size = log.history[-1].copy()
    left = np.flatnonzero(any_in_batch(~exits.converged))
    if not len(left):
        return size
    part = vectors.take(x, left)
    norm = _norms(problem, part, left)
    worse = ~(norm * log.unit[..., left] <= log.history[0][..., left])
    if worse.any():
        start = problem.start(x0)[0]
        vectors.put(part, np.arange(len(left)), vectors.take(start, left), worse)
        vectors.put(x, left, part)
        norm = _norms(problem, part, left)
    exits.converged[..., left] |= norm <= problem.goal[..., left]
    size[..., left] = norm * log.unit[..., left]
    return size


def _norms(problem: Problem, x: Block, columns: np.ndarray) -> np.ndarray:
    r = problem.residual(x, columns)
    result: np.ndarray = np.sqrt(problem.system.vectors.dot(r, r).real)
    return result


def return_in_units(problem: Problem, x: Block, residual: np.ndarray, exits: Exits) -> str:
    """Scale x to the units of b, and recompute residuals if that changes x; returns a row of RANGE, or "".

    A solution may be beyond the range of float64 though A and b are not, or so far below that its digits are lost.
    """
    vectors, shift, told = problem.system.vectors, problem.shift, ""
    if not exits.nonfinite:
        top = vectors.largest(x)
        digits = np.where(top > 0, np.frexp(top)[1] + shift, 0)
        if (digits > LARGEST_DIGITS).any():
            exits.nonfinite, told = True, "beyond"
    if exits.nonfinite:
        vectors.fill(x, np.nan)
        return told
    multiply(x, shift, vectors)
    low = np.flatnonzero(any_in_batch(digits < SMALLEST_DIGITS))
    if not len(low):
        return ""
    part = vectors.take(x, low)
    multiply(part, -shift[..., low], vectors)
    norm = _norms(problem, part, low)
    residual[..., low] = norm * problem.log.unit[..., low]
    if problem.log.energy is not None:  # that was of an x that is not returned
        problem.log.energy[..., low] = np.nan
    lost = exits.converged[..., low] & ~(norm <= problem.goal[..., low])
    exits.converged[..., low] &= ~lost
    exits.stagnated[..., low] |= lost
    return "below" if lost.any() and exits.status == "stagnated" else ""


def _in_units_of_a(preconditioners: tuple[Preconditioner, ...], unit: np.ndarray) -> tuple[Preconditioner, ...]:
    """The preconditioners that were built for A', as approximations of the inverse of A."""
    if not unit.any():
        return preconditioners
    each = np.broadcast_to(unit.reshape(-1)[: max(1, len(preconditioners))], len(preconditioners))
    return tuple(Rescaled(p, int(u)) for p, u in zip(preconditioners, each, strict=True))


def _error_bound(problem: Problem, plan: Plan, residual: np.ndarray) -> np.ndarray:
    """Bounds of |x - A^-1 b| in the energy norm of A, by columns; nan if none is known.

    The error is A^-1 r. A is at least the smallest alpha plus what is proved to be below all eigenvalues of K, and with
    l for that <r, A^-1 r> is at most |r|^2 / l; and if A^-1 <= c P^-1, it is at most c <r, P^-1 r>. The smaller one
    counts. A P that was kept from an earlier solve belongs to another matrix and bounds nothing here.
    """
    system, log, size = problem.system, problem.log, np.ldexp(problem.size * problem.scale, -problem.unit // 2)
    alpha = system.alpha.min(axis=(-2, -1), initial=np.inf)[..., None] if system.alpha.ndim else system.alpha
    least = alpha + system.least
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = np.where(least > 0, problem.margin * residual * size / np.sqrt(least), np.nan)
        if log.energy is not None and not plan.reused:
            inverse_bound = np.array([p.inverse_bound for p in plan.preconditioners] or [np.inf])
            if len(inverse_bound) > 1:
                inverse_bound = inverse_bound.reshape(*size.shape[:-1], 1)
            found = np.sqrt(np.where(np.isfinite(inverse_bound), inverse_bound * log.energy, np.nan)) * size
            bound = np.fmin(bound, found)
    return np.where(residual > 0, np.maximum(bound, np.finfo(np.float64).tiny), bound)  # not rounded to 0


def _withdraw_refuted(problem: Problem, plan: Plan, exits: Exits) -> None:
    """Withdraw the certificates that the iteration has refuted, as rounding may.

    One goes if a larger condition number was met (a block shows that of A, which it is not for), and all of them if A
    was not positive definite.
    """
    if plan.reused or all(np.isinf(P.certificate) and np.isinf(P.inverse_bound) for P in plan.preconditioners):
        return
    elements, k = len(plan.preconditioners), problem.size.shape[-1]
    met = {} if plan.method == "block_cg" else problem.log.conditions()
    met |= dict.fromkeys(np.flatnonzero(exits.indefinite).tolist(), np.inf)
    for column, condition in met.items():
        P = plan.preconditioners[column // k if elements > 1 else 0]
        if condition > P.certificate or condition == np.inf:
            P.withdraw()


def _without_certificates(P: Preconditioner) -> Preconditioner:
    """A copy of a preconditioner that was built for another matrix, without its certificates."""
    if np.isinf(P.certificate) and np.isinf(P.inverse_bound):
        return P
    P = copy(P)
    P.withdraw()
    return P
