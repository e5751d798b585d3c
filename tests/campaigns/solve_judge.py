"""What a solve says, judged in long double by the matrix itself."""

import numpy as np
from random_solves import KERNELS, WIDE

EPS = np.finfo(np.float64).eps
ROUNDING = 100 * EPS  # of |A| |x|: what float64 leaves open of A x, entries of A included
HAIR = 1e-3  # of the goal: where the residual in float64 meets it, the true one does


def norm(v):
    """Of columns, in long double."""
    return np.sqrt((v.astype(WIDE) ** 2).sum(axis=-2))


def judge(case, returned, solution):
    """What is wrong with what came out of a case; an empty list where nothing is."""
    with np.errstate(all="ignore"):
        if case.door == "cg":
            return _judge_cg(case, returned, solution)
        wrong = _judge_solution(case, solution)
        if not wrong and returned is not None:
            wrong = _judge_returned(case, returned, solution)
        return wrong


def residual(case, x):
    """|b - A x| and what rounding leaves open of it, by columns."""
    x = x.reshape(case.b.shape).astype(WIDE)
    return norm(case.b - case.A @ x), ROUNDING * norm(np.abs(case.A) @ np.abs(x))


def goal(case):
    return np.maximum(WIDE(case.options["rtol"]) * norm(case.b), WIDE(case.options["atol"]))


def _judge_cg(case, x, info):
    if info != 0:
        return []
    size, open_ = residual(case, x)
    finite_a = np.isfinite(case.A).all() or x.any()
    if finite_a and not (size <= goal(case) * (1 + HAIR) + open_).all():
        return [f"info is 0, |b - A x| {size} where {goal(case)} was asked"]
    return []


def _judge_solution(case, s):
    x, status = s.x, s.status
    said = np.asarray(s.residual, WIDE).reshape(norm(case.b).shape)
    if status == "nonfinite":
        return _judge_nonfinite(case, s)
    if not np.isfinite(x).all():
        return [f"{status}, and x is not finite"]
    if not np.isfinite(case.A).all():  # then only 0 can be a solution that meets what is asked
        return [] if status != "converged" or not x.any() else ["converged though A is not finite"]
    size, open_ = residual(case, x)
    length = norm(case.b)
    true, left = (np.divide(v, length, out=np.zeros_like(v), where=length > 0) for v in (size, open_))
    wrong = []
    if status in ("converged", "overflow") and not (size <= goal(case) * (1 + HAIR) + open_).all():
        wrong.append(f"converged, |b - A x| {size} where {goal(case)} was asked")
    if not (np.abs(said - true) <= 0.05 * true + 2 * left + 1e-300).all():
        wrong.append(f"{status}: the residual is said to be {said}, and is {true}")
    if case.x0 == "none" and case.M == "none" and not (true <= 1 + HAIR + left).all():
        wrong.append(f"{status}: the residual {true} is larger than that of nothing")
    return wrong + _judge_bound(case, s) + _judge_refusal(case, status, s.message)


def _judge_nonfinite(case, s):
    if s.x.size and not np.isnan(s.x).all():
        return ["nonfinite, and x is not NaN throughout"]
    inputs = np.isfinite(case.A).all() and np.isfinite(case.b).all()
    if inputs and "beyond the range" not in s.message and case.x0 != "nan" and case.M != "nan":
        return [f"nonfinite of finite data: {s.message}"]
    return []


def spectrum(case):
    """The eigenvalues of A in units of its largest entry, (..., n), ascending; None where it is not finite."""
    if not (case.A.size and np.isfinite(case.A).all()):
        return None
    unit = np.abs(case.A).max(axis=(-2, -1), keepdims=True)
    return None if not (unit > 0).all() else np.linalg.eigvalsh((case.A / unit).astype(np.float64))


def _judge_refusal(case, status, message):
    """A well-conditioned, positive definite matrix is solved."""
    values = spectrum(case)
    if values is None or not case.clean or status in ("converged", "overflow"):
        return []
    lowest, highest = values[..., 0].min(), values[..., -1].max()
    condition = (values[..., -1] / values[..., 0]).max() if (values[..., 0] > 0).all() else np.inf
    if condition < 1e6 and case.options["rtol"] >= 1e-9 and "end of the range" not in message:
        return [f"{status}, though the condition number is {condition:.1e}: {message}"]
    if status == "not positive definite" and lowest > 1e-9 * highest and case.dtype == "float64":
        return [f"{status}, though the condition number is {condition:.1e}"]
    return []


def _judge_bound(case, s):
    """The energy norm of the error is at most what is said, where float64 can tell."""
    values = spectrum(case)
    bound = np.asarray(s.bound, np.float64).reshape(norm(case.b).shape)
    if values is None or not np.isfinite(bound).any() or not (values[..., 0] > 1e-10 * values[..., -1]).all():
        return []
    if not KERNELS[case.kernel][2]:
        return []
    unit = np.abs(case.A).max(axis=(-2, -1), keepdims=True)
    r = case.b - case.A @ s.x.reshape(case.b.shape).astype(WIDE)
    top = np.where((size := np.abs(r).max(axis=-2, keepdims=True, initial=0)) > 0, size, 1)
    e = np.linalg.solve((case.A / unit).astype(np.float64), (r / top).astype(np.float64)).astype(WIDE)
    energy = np.sqrt(np.maximum((e * (r / top)).sum(-2), 0)) * top[..., 0, :] / np.sqrt(unit[..., 0])
    _, open_ = residual(case, s.x)
    slack = 3 * open_ / np.sqrt(unit[..., 0] * values[..., :1].min())
    low = np.isfinite(bound) & ~(energy <= bound * 1.01 + slack)
    return [f"the bound is {bound}, and the energy norm {energy}"] if low.any() else []


def _judge_returned(case, returned, s):
    """The array that is returned has the residual that is said."""
    if s.status == "nonfinite":
        return [] if np.isnan(returned).all() else ["nonfinite, and what is returned is not NaN throughout"]
    said = np.asarray(s.residual_returned, WIDE).reshape(norm(case.b).shape)
    if not np.isfinite(case.A).all():
        return []
    if not np.isfinite(returned).all():
        return [] if s.status != "converged" else ["converged, and what is returned is not finite"]
    size, open_ = residual(case, returned)
    length = norm(case.b)
    true, left = (np.divide(v, length, out=np.zeros_like(v), where=length > 0) for v in (size, open_))
    if (np.abs(said - true) <= 0.05 * true + 2 * left + 1e-300).all():
        return []
    return [f"{s.status}: the residual of what is returned is said to be {said}, and is {true}"]
