"""Iterative refinement: conjugate gradients in float32 for corrections, residuals in float64 for the truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .cg import Exits, conjugate_gradients
from .problem import Problem, power_of_two

ROUND = 1e-3  # what a round of float32 iterations is asked for: near what float32 gives, few float64 products
MARGIN = 0.5  # of what is left to do: the last round must not miss by a hair
FLOOR = 1.0  # times eps |A| |d|: below it a float32 residual of an ordinary kernel matrix means nothing
SLOW = 0.5  # a round that contracts by less is not worth repeating


def refine(
    problem: Problem,
    x: Any,
    r: Any,
    maxiter: int,
    *,
    precondition: Callable[[Any], Any] | None = None,
    watch: Callable[[Callable[[], Any]], None] | None = None,
) -> Exits:
    """Solve A x = b for a matrix of float32 data, whose float32 products cost less than float64 ones.

    Each round solves A d = r in float32, every column scaled by its own residual, adds d to x in float64 and computes
    r = b - A x from scratch with a float64 product of the same formula on the same data. When a round hardly helps
    (the condition number is beyond what float32 can carry), conjugate gradients in float64 go on from where it is.

    x, the first iterate, becomes the last; r is its residual and is overwritten; maxiter counts every iteration.
    """
    verbs, journal, goal = problem.system.verbs, problem.journal, problem.goal
    single = np.dtype(np.complex64 if problem.dtype.kind == "c" else np.float32)
    unit, columns = journal.unit, np.arange(goal.shape[-1])
    norm = np.sqrt(verbs.dot(r, r).real)
    while True:
        if not np.isfinite(norm).all() or (norm <= goal).all() or journal.iterations >= maxiter:
            return in_double(problem, x, r, maxiter, precondition=precondition, watch=watch)

        scale = power_of_two(norm)
        journal.unit = unit * scale
        verbs.scale(1 / scale, r)
        d = verbs.zeros(r.shape, single)

        def present(correction: Any, scale: np.ndarray = scale) -> Any:
            """x and the correction found so far."""
            full = verbs.copy(x, problem.dtype)
            verbs.axpy(scale, correction, full)
            return full

        inner = conjugate_gradients(
            problem.product,
            d,
            verbs.copy(r, single),
            np.where(norm <= goal, np.inf, _aim(norm, goal) / scale),
            maxiter - journal.iterations,
            journal,
            precondition=precondition,
            watch=None if watch is None else lambda correction, present=present: watch(lambda: present(correction())),
            floor=FLOOR,
            verbs=verbs,
        )
        journal.unit = unit

        candidate = present(d)
        true = problem.residual(candidate, columns)
        size = np.sqrt(verbs.dot(true, true).real)
        better = size < norm  # false for nan: a correction that overflowed in float32 is dropped
        slow = ((norm > goal) & ~(size <= SLOW * norm)).any()
        verbs.put(x, columns, candidate, better)
        verbs.scale(scale, r)
        verbs.put(r, columns, true, better)
        norm = np.where(better, size, norm)
        journal.record(norm)
        if inner.stopped:
            return Exits.none(goal.shape, stopped=True)
        if slow:
            return in_double(problem, x, r, maxiter, precondition=precondition, watch=watch)


def _aim(norm: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Where this round should bring the norms: what is left to do, in equal rounds of about ROUND each."""
    left = np.clip(MARGIN * goal / np.where(norm > 0, norm, 1.0), 1e-30, 1.0)
    rounds = np.maximum(1.0, np.round(np.log(left) / np.log(ROUND)))
    return norm * left ** (1 / rounds)


def in_double(
    problem: Problem,
    x: Any,
    r: Any,
    maxiter: int,
    *,
    precondition: Callable[[Any], Any] | None = None,
    watch: Callable[[Callable[[], Any]], None] | None = None,
) -> Exits:
    """The same in float64 throughout, from whatever iterate x and its residual r."""
    return conjugate_gradients(
        problem.product,
        x,
        r,
        problem.goal,
        maxiter - problem.journal.iterations,
        problem.journal,
        precondition=precondition,
        recompute=problem.residual,
        watch=watch,
        keep_best=True,
        verbs=problem.system.verbs,
    )
