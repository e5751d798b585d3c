"""Iterative refinement: corrections by conjugate gradients in float32, residuals in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .cg import Exits, Watch, any_in_batch, conjugate_gradients
from .problem import Problem, power_of_two
from .stagnation import ResidualGap
from .vectors import Block, BlockFunction

ROUND_FLOOR = 1.0  # multiple of eps |A| |d| that a float32 residual is taken to err by until that has been measured
ROUND_MARGIN = 4.0  # multiple of its error to which a round reduces the residual
ROUND_DEPTH = 3e-5  # share of the residual that a round aims at if the error is unknown: often attainable in float32
SURE = 0.9  # share of the goal that the last round aims at, so that it does not just miss
PROBE = 200  # number of iterations without a halving after which a round ends in order to measure its error
SLOW = 0.5  # share of the residual that a round must reach, or it is not worth repeating


class RefinementRound(ResidualGap):
    """The depth of a round of float32 iterations: as deep as float32 allows, since float64 products cost more.

    At the end of a round its carried and its true residual differ by an error of about eps |A| |d|, where d is the
    correction. With |A| from the coefficients, that is known while the round goes on; it is better known from the round
    before. With a preconditioner the coefficients tell nothing of A itself, and the first round tries what float32
    mostly allows. What is left to do is shared evenly by the rounds that it takes at least.

    Without rounding, as many steps as A has rows are enough. Where so many do not even halve a residual, float32 has
    lost the directions that matter, however well its residuals are known: such a round has failed.
    """

    interval = 1

    def __init__(self, shape: tuple[int, ...], eps: float, preconditioned: bool, rows: int) -> None:
        super().__init__(shape, eps, ROUND_FLOOR)
        self.rows = max(1, rows)
        self.calibration = np.full(shape, np.nan)  # attainable residual over |d|, from the last round
        self.deepest = ROUND_DEPTH if preconditioned else 0.0

    def begin(self, start: np.ndarray) -> None:
        """Begin a round with residuals of these norms."""
        self.start, self.attainable, self.count = start, np.zeros_like(start), 0
        self.probing = np.zeros(start.shape, bool)  # columns that ended in order to measure their error
        self.failed = np.zeros(start.shape, bool)  # columns for which float32 is not precise enough

    def update(self, size: np.ndarray) -> None:
        self.attainable = np.where(np.isnan(self.calibration), self.floor * self.matrix_norm, self.calibration) * size

    def target(self, goal: np.ndarray, norm: np.ndarray) -> np.ndarray:
        start = np.where(self.start > 0, self.start, 1.0)
        level = np.where(np.isnan(self.calibration), np.maximum(self.attainable, self.deepest * start), self.attainable)
        left, depth = np.clip(goal / start, 1e-30, 1.0), np.clip(level / start, 1e-30, 0.5)
        rounds = np.maximum(1.0, np.ceil(np.log(left) / np.log(depth)))
        self.last = level <= goal  # whether this round aims at the goal itself
        ends = np.where(self.last, SURE * goal, np.maximum(level, start * left ** (1 / rounds)))
        self.count += 1
        lost = np.isnan(self.calibration) & (self.deepest > 0) & (self.count > PROBE) & (norm > SLOW * start)
        self.probing |= lost
        if self.count > self.rows:
            self.failed |= norm > start * SLOW ** (self.count // self.rows)
        return np.where(lost | self.failed, np.inf, ends)

    def calibrate(self, error: np.ndarray, size: np.ndarray) -> None:
        """Learn the attainable residual from a correction of norm `size` whose carried residual was off by `error`."""
        known = (size > 0) & np.isfinite(error)
        self.calibration = np.where(known, ROUND_MARGIN * error / np.where(known, size, 1.0), self.calibration)


def refine(
    problem: Problem,
    x: Block,
    r: Block,
    maxiter: int,
    *,
    precondition: BlockFunction | None = None,
    watch: Watch | None = None,
    iterate: Callable[..., Exits] = conjugate_gradients,
) -> Exits:
    """Solve A x = b for a matrix of float32 data, whose float32 products cost less than float64 ones.

    Each round solves A d = r in float32, every column scaled by its own residual, adds d to x in float64 and computes
    r = b - A x from scratch with a float64 product of the same formula on the same data. When a round hardly helps
    (the condition number is beyond what float32 can carry), conjugate gradients in float64 go on from where it is.

    x, the first iterate, becomes the last; r is its residual and is overwritten; maxiter counts every iteration.
    iterate is `conjugate_gradients` or `block_conjugate_gradients`.
    """
    vectors, log, goal = problem.system.vectors, problem.log, problem.goal
    single = np.dtype(np.complex64 if problem.dtype.kind == "c" else np.float32)
    unit = log.unit
    norm = np.sqrt(vectors.dot(r, r).real)
    gap = RefinementRound(
        goal.shape, float(np.finfo(np.float32).eps) / 2, precondition is not None, problem.system.global_n
    )
    while True:
        if not np.isfinite(norm).all() or (norm <= goal).all() or log.iterations >= maxiter:
            return iterate_in_double(problem, x, r, maxiter, precondition=precondition, watch=watch, iterate=iterate)

        scale = power_of_two(norm)
        log.unit = unit * scale
        vectors.scale(1 / scale, r)
        d, carried = vectors.zeros(r.shape, single), vectors.copy(r, single)
        gap.begin(norm / scale)
        begun = log.iterations

        def current(correction: Block, scale: np.ndarray = scale) -> Block:
            """x and the correction found so far."""
            full = vectors.copy(x, problem.dtype)
            vectors.axpy(scale, correction, full)
            return full

        inner = iterate(
            problem.product,
            d,
            carried,
            np.where(norm <= goal, np.inf, goal / scale),
            maxiter - log.iterations,
            log,
            precondition=precondition,
            watch=None if watch is None else lambda correction, current=current: watch(lambda: current(correction())),
            gap=gap,
            vectors=vectors,
        )
        log.unit = unit

        vectors.scale(scale, r)
        if inner.nonfinite and log.iterations == begun:  # there is no correction to look at
            return iterate_in_double(problem, x, r, maxiter, precondition=precondition, watch=watch, iterate=iterate)
        at_work = np.flatnonzero(any_in_batch(norm > goal))
        candidate = vectors.take(current(d), at_work)
        ends = inner.stopped or log.iterations >= maxiter or bool((gap.last | (norm <= goal)).all())
        true = problem.residual(candidate, at_work, ends)
        size, error = norm.copy(), np.zeros(goal.shape)
        size[..., at_work] = np.sqrt(vectors.dot(true, true).real)
        difference = vectors.take(carried, at_work)
        vectors.axpy(-1 / scale[..., at_work], true, difference)
        error[..., at_work] = np.sqrt(vectors.dot(difference, difference).real)
        gap.calibrate(error, np.sqrt(vectors.dot(d, d).real))
        rounded = ~(ROUND_MARGIN * error < SLOW * norm / scale)  # it is rounding that keeps the round from contracting
        better = size < norm  # false for nan: a correction that overflowed in float32 is dropped
        slow = ((norm > goal) & ~(size <= SLOW * norm) & (rounded | ~gap.probing)).any()
        vectors.put(x, at_work, candidate, better[..., at_work])
        vectors.put(r, at_work, true, better[..., at_work])
        norm = np.where(better, size, norm)
        log.record(norm)
        if inner.stopped:
            problem.compute_skipped_residuals(x)
            return Exits.none(goal.shape, stopped=True)
        if slow or gap.failed.any():
            return iterate_in_double(problem, x, r, maxiter, precondition=precondition, watch=watch, iterate=iterate)


def correct(
    problem: Problem,
    x: Block,
    r: Block,
    maxiter: int,
    precondition: BlockFunction,
    rate: float,
    watch: Watch | None = None,
) -> Exits | None:
    """Iterative refinement by a factor of A: x += M r, with r = b - A x from scratch after each correction.

    Each leaves about `rate` of the residual, the share that the precision of the factor allows. None if one leaves
    more than SLOW of it: then x is the best iterate so far, and r its residual.
    """
    vectors, log, goal = problem.system.vectors, problem.log, problem.goal
    norm = problem.size if problem.from_zero and not log.iterations else np.sqrt(vectors.dot(r, r).real)
    while True:
        log.record(norm)
        exits = Exits.none(goal.shape)
        exits.converged = norm <= goal
        if exits.converged.all():
            problem.compute_skipped_residuals(x)
            return exits
        if not np.isfinite(norm).all() or log.iterations >= maxiter:
            return None
        at_work = np.flatnonzero(any_in_batch(norm > goal))
        candidate = precondition(r if len(at_work) == r.shape[-1] else vectors.take(r, at_work))
        if log.iterations or not problem.from_zero:
            vectors.axpy(np.ones(goal[..., at_work].shape), vectors.take(x, at_work), candidate)
        size, slow = norm.copy(), False
        found = problem.estimate_residuals(candidate, at_work)
        if found is not None:
            size[..., at_work] = found
            vectors.put(x, at_work, candidate)
        else:
            true = problem.residual(candidate, at_work, bool((rate * norm <= goal).all()))
            size[..., at_work] = np.sqrt(vectors.dot(true, true).real)
            better = size < norm  # false for nan
            slow = ((norm > goal) & ~(size <= np.maximum(SLOW * norm, goal))).any()
            vectors.put(x, at_work, candidate, better[..., at_work])
            vectors.put(r, at_work, true, better[..., at_work])
            size = np.where(better, size, norm)
        norm = size
        log.step(np.full(goal.shape, np.nan), np.zeros(goal.shape))
        if watch is not None:
            try:
                watch(lambda: x)
            except StopIteration:
                log.record(norm)
                problem.compute_skipped_residuals(x)
                exits = Exits.none(goal.shape, stopped=True)
                exits.converged = norm <= goal
                return exits
        if slow:
            log.record(norm)
            return None


def iterate_in_double(
    problem: Problem,
    x: Block,
    r: Block,
    maxiter: int,
    *,
    precondition: BlockFunction | None = None,
    watch: Watch | None = None,
    iterate: Callable[..., Exits] = conjugate_gradients,
) -> Exits:
    """Solve A x = b in float64 throughout, from an iterate x and its residual r."""
    exits = iterate(
        problem.product,
        x,
        r,
        problem.goal,
        maxiter - problem.log.iterations,
        problem.log,
        precondition=precondition,
        recompute=problem.residual,
        watch=watch,
        keep_best=True,
        vectors=problem.system.vectors,
    )
    if not exits.nonfinite:
        problem.compute_skipped_residuals(x)
        if precondition is not None:
            record_energy(problem, r, exits, precondition)
        if problem.log.range[1] > 0:
            record_quotients(problem, x, r, exits)
    return exits


def record_quotients(problem: Problem, x: Block, r: Block, exits: Exits) -> None:
    """Record the Rayleigh quotients of A at the solutions, A x = b - r: near the smallest eigenvalue for most b.

    Solving is a step of inverse iteration; the directions of a block do not show so small quotients.
    """
    dot, b = problem.system.vectors.dot, problem.right_hand_side()
    xx = dot(x, x).real
    found = np.divide((dot(x, b) - dot(x, r)).real, xx, out=np.zeros_like(xx), where=exits.converged & (xx > 0))
    if (found > 0).any():
        problem.log.observe_quotients(found[found > 0].min(), found.max())


def record_energy(problem: Problem, r: Block, exits: Exits, precondition: BlockFunction) -> None:
    """Record <r, M r> of the converged columns, relative to |b|^2; nan for the others.

    Where M is P^-1 with P <= A, the energy norm of the error e = A^-1 r is bounded by it:
    |e|_A^2 = <r, A^-1 r> <= <r, P^-1 r>.
    """
    unit = problem.log.unit
    energy = problem.system.vectors.dot(r, precondition(r)).real * unit**2
    problem.log.energy = np.where(exits.converged & (energy >= 0), energy, np.nan)
