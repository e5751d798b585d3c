"""The two judges: a sum is compared in units of eps times the sum of magnitudes, a solve by its residual."""

import numpy as np


def assert_sum_close(got, terms, axis, units=16, slack=0.0):
    """got is the sum of terms over an axis, up to the rounding that any order of summation may make.

    Parameters
    ----------
    got : array
        Its dtype says what eps is.
    terms : array
        In a wider precision than got's, or in float64.
    axis : int
        The axis that is summed.
    units : float
        How many eps of the sum of magnitudes are allowed; a term that is itself an expression has its own rounding.
    slack : float or array
        What is allowed on top, where the terms are known to be worse than a few eps.
    """
    eps = np.finfo(got.dtype).eps
    terms = np.asarray(terms)
    want, size = terms.sum(axis, dtype=np.longdouble), abs(terms).sum(axis, dtype=np.longdouble)
    assert got.shape == want.shape, f"shape {got.shape}, wanted {want.shape}"
    exact = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid="ignore"):  # what is infinite or nan on one side only comes out as nan, and is convicted
        error = np.maximum(abs(got - want) - slack, 0)
        used = np.where(exact, 0, error / (eps * size + np.finfo(got.dtype).tiny))
    worst = float(used.max(initial=0))
    assert worst <= units, f"{worst:.1f} eps of the sum of magnitudes"


def assert_solves(matrix, solution, rhs, asked):
    """Every column of the solution has a residual of at most 1.1 times what was asked, relative to its right-hand side.

    The residual is that of the dense matrix in float64: a judge that compared solutions would ask for more than any
    method can give on an ill-conditioned system, and for less than it should on a good one.
    """
    matrix, solution, rhs = (np.asarray(a, np.float64) for a in (matrix, solution, rhs))
    assert solution.shape == rhs.shape, f"shape {solution.shape}, wanted {rhs.shape}"
    residual = np.linalg.norm(rhs - matrix @ solution, axis=0)
    allowed = 1.1 * asked * np.linalg.norm(rhs, axis=0)
    assert (residual <= allowed).all(), f"residuals {residual}, allowed {allowed}"  # also catches nan
