"""log det A by stochastic Lanczos quadrature, with a preconditioner and a standard error.

Let P^-1 = W^T W for a preconditioner P and M = W A W^T. Then

    log det A = log det P + tr log M,

and for random vectors g with E g g^T = I the trace is the expectation of g^T log(M) g. The better P, the nearer M is
to a multiple of the identity, for which vectors of random signs have no spread at all. m steps of Lanczos' process from
g / |g| make a tridiagonal T, and |g|^2 e_1^T log(T) e_1 is Gauss' quadrature, with m nodes, for the integral of log
over the spectrum of M that g^T log(M) g is. The even derivatives of log are negative, so that the error is of one sign:
the estimate falls from step to step, and how it falls tells what is left.

S. Ubaru, J. Chen, Y. Saad, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature, SIAM J. Matrix Anal. Appl.
38, 2017. J. Wenger, G. Pleiss, P. Hennig, J. Cunningham, J. Gardner, Preconditioning for scalable Gaussian process
hyperparameter optimization, ICML 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .deflation import deflate
from .lanczos import Lanczos
from .precond.base import Preconditioner

STEPS = 500  # largest number of steps of Lanczos' process
PLANNED_STEPS = 100  # number of steps for which memory is planned when the probes are split into groups
BASIS_BYTES = 1 << 30  # bytes that the vectors of one group of probes may take
FIRST_CHECK = 3  # number of steps before the value is first looked at
CHECK_GROWTH = 8  # the value is looked at again after 1/8 of the steps so far, but at least FIRST_CHECK of them
NEGLIGIBLE = 0.01  # share of the standard error below which an error of the quadrature does not count
LONGER = 2  # multiple of the steps of the quadrature that may be spent on finding the eigenvalues that scatter it


@dataclass(frozen=True)
class Estimate:
    """log det A and what it was made of.

    Attributes
    ----------
    value, stderr : ndarray of the batch shape
        The standard error is that of the mean over the probes: the root of the variance that Student's distribution
        gives it, (k - 1) / (k - 3) times the textbook's for k probes, so that few of them do not promise too much.
        Added to its square is that of what the quadrature is thought to be off by, if it had to end early. Where
        nearly all that scatters was found and taken out (see deflation.py), the error that rtol allows, and rounding,
        count too: there they may be all that is left.
    exact : bool
        Whether P is A, so that nothing was estimated.
    left, right : ndarray, shape (..., n, k)
        W^-1 g and W^T g for the probes g: E left right^T = I, and tr(A^-1 dA) = E (A^-1 left)^T dA right. Without
        columns if `exact`.
    steps : int
        Number of steps of Lanczos' process.
    message : str
        A sentence that says what went wrong, or "".
    """

    value: np.ndarray
    stderr: np.ndarray
    exact: bool
    left: np.ndarray
    right: np.ndarray
    steps: int = 0
    message: str = ""


def logdet(
    product: Callable[[np.ndarray], np.ndarray],
    n: int,
    batch: tuple[int, ...],
    preconditioners: Sequence[Preconditioner],
    *,
    n_probes: int = 10,
    seed: int = 0,
    rtol: float = 1e-6,
    exact: bool = False,
) -> Estimate:
    """log det A of each element of a batch of symmetric positive definite matrices.

    Parameters
    ----------
    product : callable
        A V for a float64 block V of shape (*batch, n, k).
    n, batch
        Rows of A, and the batch dimensions.
    preconditioners : sequence of Preconditioner
        One for each element of the batch.
    n_probes : int
        Vectors of random signs, at least 4. With n of them or more, the columns of sqrt(n) I take their place, which
        make the trace exact.
    seed : int, default 0
        Seed of the random signs, which are the same for all elements of the batch.
    rtol : float
        The quadrature ends when its error is thought below this share of the value, or 1 % of the standard error.
    exact : bool
        The preconditioners are the matrices themselves.

    Returns
    -------
    Estimate
    """
    base = np.array([p.logdet for p in preconditioners], np.float64)
    if exact or not n or not len(base):
        nothing = np.zeros((*batch, n, 0))
        return Estimate(base.reshape(batch), np.zeros(batch), True, nothing, nothing)
    probes = _probes(n, n_probes, seed)
    whole = probes.shape[1] == n <= n_probes

    def sandwich(V: np.ndarray) -> np.ndarray:
        inner = apply_each(preconditioners, "factor_rmatmat", V)
        return apply_each(
            preconditioners, "factor_matmat", product(inner.reshape(*batch, *V.shape[-2:])).reshape(V.shape)
        )

    group = max(1, BASIS_BYTES // (8 * n * len(base) * min(n, PLANNED_STEPS)))
    parts = [
        _quadrature(sandwich, probes[:, first : first + group], base, rtol, whole)
        for first in range(0, probes.shape[1], group)
    ]
    values = np.concatenate([part.values for part in parts], axis=1)
    rest = np.mean([part.rest for part in parts], axis=0)
    k = values.shape[1]
    with np.errstate(invalid="ignore"):
        spread = _spread(values, whole) * (1.0 if whole else np.sqrt((k - 1) / (k - 3)))
        stderr = np.sqrt(spread**2 + rest**2)
    steps = max(part.steps for part in parts)
    blocks = np.broadcast_to(probes, (len(base), *probes.shape))
    left, right = (
        apply_each(preconditioners, name, blocks).reshape(*batch, n, k) for name in ("factor_solve", "factor_rmatmat")
    )
    value = base + values.mean(axis=1)
    message = _failure_message(parts, value, rest, np.maximum(spread, rtol * np.abs(value)), steps)
    return Estimate(value.reshape(batch), stderr.reshape(batch), False, left, right, steps, message)


def apply_each(preconditioners: Sequence[Preconditioner], name: str, V: np.ndarray) -> np.ndarray:
    """A method of every preconditioner for its block of V, shape (elements, n, k)."""
    return np.stack([getattr(p, name)(block) for p, block in zip(preconditioners, V, strict=True)])


def _probes(n: int, count: int, seed: int) -> np.ndarray:
    """The probes, (n, count): random signs, or orthogonal vectors if there are as many as rows."""
    if count >= n:
        result: np.ndarray = np.sqrt(n) * np.eye(n)
        return result
    return np.random.default_rng(seed).choice([-1.0, 1.0], (n, count))


@dataclass(frozen=True)
class _Part:
    """g^T log(M) g of some probes: (elements, k); what the quadrature is thought to be off by, and whether it was to be
    ended there; whether M was definite."""

    values: np.ndarray
    rest: np.ndarray
    done: bool
    steps: int
    definite: bool


def _quadrature(
    product: Callable[[np.ndarray], np.ndarray], probes: np.ndarray, base: np.ndarray, rtol: float, whole: bool
) -> _Part:
    """Lanczos' process until the mean over the probes moves no more."""
    process = Lanczos(product, np.broadcast_to(probes, (len(base), *probes.shape)))
    means, looks = list[np.ndarray](), list[int]()
    most = max(1, min(STEPS, len(probes), BASIS_BYTES // (8 * len(base) * probes.size)))
    longer = most
    while True:
        until = min(most, process.steps + max(FIRST_CHECK, process.steps // CHECK_GROWTH))
        while process.steps < until and process.alive.any():
            process.step()
        values, definite = process.logarithms()
        if not np.isfinite(values).all():
            return _Part(np.full(values.shape, np.nan), np.full(len(base), np.nan), True, process.steps, definite)
        mean = values.mean(axis=1)
        means.append(mean)
        looks.append(process.steps)
        rest = np.minimum(
            _remaining_fall(np.abs(np.diff(means, axis=0)), np.diff(looks), np.any(process.alive, axis=1)), np.abs(mean)
        )
        over, few = not process.alive.any() or process.steps >= most, False
        asked = rtol * np.abs(base + mean)
        if not over and (rest > np.maximum(asked, NEGLIGIBLE * _spread(values, whole))).any():
            continue
        if definite and not whole:
            runs = [process.runs(e) for e in range(len(base))]
            rows = list(values)
            cleared = [deflate(v, r, probes, 0.1 * a) for v, r, a in zip(rows, runs, asked, strict=True)]
            changed = np.array([found is not v for (found, _), v in zip(cleared, rows, strict=True)])
            values, few = np.stack([v for v, _ in cleared]), any(f for _, f in cleared)
            doubt = np.hypot(
                np.where(process.alive.any(axis=1), asked, 0.0), [np.mean([run.rounding for run in r]) for r in runs]
            )
        else:
            changed, doubt = np.zeros(len(base), bool), asked
        done = bool((rest <= np.maximum(asked, NEGLIGIBLE * _spread(values, whole))).all())
        longer = min(longer, LONGER * process.steps)
        if over or (done and (not few or process.steps >= longer)):
            rest = np.where(changed, np.hypot(rest, doubt), np.where(rest <= asked, 0.0, rest))
            return _Part(values, rest, done, process.steps, definite)


def _spread(values: np.ndarray, whole: bool) -> np.ndarray:
    """The standard error of the mean over the last axis; 0 if that is the whole trace."""
    k = values.shape[-1]
    return np.zeros(len(values)) if whole or k < 2 else values.std(axis=1, ddof=1) / np.sqrt(k)


def _remaining_fall(falls: np.ndarray, lengths: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """The distance that the means have still to fall, if the falls go on shrinking as the last two did, geometrically.

    falls holds those between looks, lengths the steps between them: a fall at each step of v now and of u some steps
    ago, u > v, means a ratio of (v / u)^(1 / steps) and that v / (1 - ratio) is left.
    """
    if len(falls) < 2:
        return np.where(alive, np.inf, 0.0)
    before, now = (fall / length for fall, length in zip(falls[-2:], lengths[-2:], strict=True))
    shrunk = np.divide(now, before, out=np.zeros_like(now), where=before > 0)
    ratio = np.minimum(shrunk, 1.0) ** (2 / sum(lengths[-2:]))
    rest = np.divide(now, 1 - ratio, out=np.full_like(now, np.inf), where=ratio < 1)
    return np.where(alive & (now > 0), rest, 0.0)


def _failure_message(
    parts: Sequence[_Part], value: np.ndarray, rest: np.ndarray, tolerated: np.ndarray, steps: int
) -> str:
    """A sentence that says what is wrong with an estimate, or ""."""
    if not np.isfinite(value).all():
        return "log det A is not finite: look for NaN, Inf or overflow in the data and in alpha."
    if not all(part.definite for part in parts):
        return (
            "log det A is not what it says: A is not positive definite to the precision of its products. Eigenvalues "
            "below rounding were raised to it. Raise alpha: duplicate points with alpha near 0 make such a matrix."
        )
    if not all(part.done for part in parts) and (rest > tolerated).any():
        return (
            f"log det A is not certain: after {steps} steps of Lanczos' process the quadrature is still off by about "
            f"{rest.max():.2g}, which the standard error holds. Give a preconditioner, or raise alpha."
        )
    return ""
