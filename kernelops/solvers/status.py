"""The statuses in which a solve can end: the message of each, what it advises, and SciPy's integer for it."""

from __future__ import annotations

from typing import Any

MESSAGES = {  # status -> sentences that say what happened, what may be wrong, and what to try
    "converged": "Converged in {iterations} iterations: |b - A x| / |b|, recomputed {recomputed}, is {residual:.1e}.",
    "maxiter": (
        "Not converged: after maxiter = {maxiter} iterations |b - A x| / |b| is {residual:.1e}, where {asked} was "
        "asked. {condition}llow more iterations, ask for less, try another preconditioner, or raise alpha."
    ),
    "nonfinite": (
        "Not solved: there is NaN or Inf in {faulty}, and x is NaN throughout. Look for NaN, Inf or overflow in the "
        "data, in alpha, in the right-hand side, in x0 and in M."
    ),
    "not positive definite": (
        "Not solved: {culprit} is not positive definite, or not to the precision of its products; |b - A x| / |b| is "
        "{residual:.1e} at the best iterate. {remedy}"
    ),
    "stagnated": (
        "Not converged: |b - A x| / |b|, recomputed {recomputed}, stays at {residual:.1e}, where {asked} was asked. "
        "That is as far as the rounding of A x allows: ask for less, or raise alpha{condition}."
    ),
    "overflow": (
        "Solved, but not returned whole: x goes up to {largest:.1e}, which is beyond {dtype}, so that Inf is returned "
        "in its place. Give all arrays in a wider dtype, or take Solution.x, which is float64."
    ),
    "stopped": "Stopped by the callback after {iterations} iterations: |b - A x| / |b| is {residual:.1e}.",
}
RANGE = {  # the same for solutions above or below the range of float64
    "beyond": (
        "Not solved: the solution is beyond the range of float64, and x is NaN throughout. Divide the right-hand side "
        "by a number, or multiply the matrix by it."
    ),
    "below": (
        "Not converged: the solution is at the lower end of the range of float64, where numbers have few digits or "
        "none: |b - A x| / |b| is {residual:.1e}, where {asked} was asked. Multiply the right-hand side by a number, "
        "or divide the matrix by it."
    ),
}
REMEDIES = {  # the matrix that is not positive definite -> a sentence that says what to try
    "A": "Raise alpha: duplicate points with alpha near 0 make such a matrix, and so do some kernels.",
    "M": "Give another preconditioner M, or none.",
}
FAILURES = {
    "nonfinite": -1,
    "overflow": -1,
    "not positive definite": -2,
}  # status -> SciPy's info, negative for a breakdown


def message(status: str, **figures: Any) -> str:
    """The sentence of a status, or of a row of RANGE, filled with figures; condition is that of A, or of `matrix`."""
    condition, matrix = figures.get("condition"), figures.get("matrix", "A")
    of = "" if matrix == "A" else f" of {matrix}"
    if status == "maxiter":
        figures["condition"] = "A" if condition is None else f"The condition number{of} is at least {condition:.0e}: a"
    else:  # what rounding allows is a matter of A alone
        known = condition is not None and matrix == "A"
        figures["condition"] = f" (the condition number is at least {condition:.0e})" if known else ""
    figures["remedy"] = REMEDIES.get(figures.get("culprit", "A"))
    return (MESSAGES | RANGE)[status].format(**figures)


def info_of(status: str, iterations: int) -> int:
    """SciPy's integer for a status."""
    return 0 if status == "converged" else FAILURES.get(status, max(1, iterations))
