"""Randomized Nystrom approximation: low rank from products alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from scipy.linalg import qr

from .low_rank import LowRank
from .pivoted_cholesky import check_positive

FIRST_SKETCH = 64  # number of columns of the first sketch: a product with these costs little more than one with few
GOOD = 10.0  # multiple of alpha at which the error is small enough: the condition number is then about 10
POWERS, POWER_VECTORS = 3, 4  # number of power iterations that estimate the error, and of vectors in each


def nystrom(
    product: Callable[[np.ndarray], np.ndarray],
    n: int,
    alpha: float | np.ndarray,
    *,
    most: int,
    seed: int = 0,
    dtype: DTypeLike = np.float64,
    **keywords: Any,
) -> LowRank:
    """The inverse of P = F F^T + diag(alpha), with F F^T the Nystrom approximation of K from a random block.

    Parameters
    ----------
    product : callable
        V -> K V, without alpha, for blocks V of shape (n, k).
    n : int
        Rows of K.
    alpha : float or ndarray, shape (n,)
        Positive.
    most : int
        Most columns of the sketch. They are doubled from 64 until the norm of K - F F^T, estimated by power
        iterations, is at most 10 alpha.
    seed : int, default 0
        Seed of the random block.
    dtype : dtype
        Dtype of V, and so the precision of the product.
    **keywords
        For LowRank.

    Returns
    -------
    LowRank
        With `products`, the columns that went through the product, as a further attribute.

    Raises
    ------
    ArgumentError
        alpha is not positive in some row.
    FloatingPointError
        A product has entries that are NaN or infinite.

    Notes
    -----
    Frangella, Tropp and Udell, SIAM J. Matrix Anal. Appl. 44, 2023, for S K S with S = alpha^(-1/2). With a
    sketch of about 3 d columns, d = tr(K (K + alpha)^-1), they bound the expected condition number by 28. In exact
    arithmetic F F^T <= K, but what is left has no known trace, so there is no certificate.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(0, 1, 100)
    >>> K = np.exp(-((x[:, None] - x) ** 2))
    >>> M = nystrom(lambda V: K @ V, 100, 1e-3, most=50)
    >>> bool(np.linalg.cond(M @ (K + 1e-3 * np.eye(100))) < 1.01)
    True
    """
    alpha, dtype = check_positive(alpha, n), np.dtype(dtype)
    s, seen, passes = (alpha**-0.5)[:, None], 0, 0

    def scaled(V: np.ndarray) -> np.ndarray:
        nonlocal seen, passes
        seen, passes = seen + V.shape[1], passes + 1
        Y = s * np.asarray(product((s * V).astype(dtype)), np.float64)
        if not np.isfinite(Y).all():
            raise FloatingPointError("a product has entries that are NaN or infinite")
        return Y

    draw = np.random.default_rng(seed)
    most = min(most, n)
    k, omega, Y = min(FIRST_SKETCH, most), np.empty((n, 0)), np.empty((n, 0))
    while True:
        new = orthonormal(draw.standard_normal((n, k - omega.shape[1])), omega)
        omega, Y = np.hstack([omega, new]), np.hstack([Y, scaled(new)])
        F = factor(omega, Y, float(np.finfo(dtype).eps))
        if k == most or error(scaled, F, draw.standard_normal((n, min(POWER_VECTORS, n)))) <= GOOD:
            break
        k = min(2 * k, most)
    del omega, Y, new
    M = LowRank(F, alpha, scaled=True, overwrite=True, name="nystrom", columns=0, **keywords)
    M.products, M.pairs = seen, passes * n**2
    return M


def nystrom_unshifted(
    product: Callable[[np.ndarray], np.ndarray], n: int, *, most: int, seed: int = 0, dtype: DTypeLike = np.float64
) -> LowRank:
    """The same for an A of which nothing is known but its products: the identity stands for what the sketch leaves.

    With U S U^T the Nystrom approximation of A and s its smallest eigenvalue, P = U (S - s I) U^T + s I (Frangella,
    Tropp and Udell, with mu = 0): the eigenvalues below s, which the sketch has not seen, are taken to be s.
    """
    draw, dtype = np.random.default_rng(seed), np.dtype(dtype)
    omega = orthonormal(draw.standard_normal((n, min(most, n))), np.empty((n, 0)))
    Y = np.asarray(product(omega.astype(dtype)), np.float64)
    if not np.isfinite(Y).all():
        raise FloatingPointError("a product has entries that are NaN or infinite")
    F = factor(omega, Y, float(np.finfo(dtype).eps))
    values = np.einsum("nk,nk->k", F, F)
    least = float(values.min(initial=np.inf))
    if not np.isfinite(least):
        raise FloatingPointError("nothing is left of A in float64")
    F *= np.sqrt(1 - least / values)
    M = LowRank(F, least, overwrite=True, name="nystrom", columns=0)
    M.products, M.pairs, M.below = omega.shape[1], n**2, False
    return M


def orthonormal(V: np.ndarray, others: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the columns of V less what they have in common with the orthonormal columns of others."""
    for _ in range(2):
        V = qr(V - others @ (others.T @ V), mode="economic")[0]
    return V


def factor(omega: np.ndarray, Y: np.ndarray, eps: float) -> np.ndarray:
    """F with F F^T = K omega (omega^T K omega)^-1 omega^T K, from Y = K omega.

    It is computed for K + nu I, whose core nu keeps away from the rounding of Y, and nu is taken off the eigenvalues
    again. Directions in which the core is still not positive are no part of a semidefinite K and are left out.
    """
    nu = eps * float(np.linalg.norm(Y))
    Y = Y + nu * omega
    core = omega.T @ Y
    w, V = np.linalg.eigh((core + core.T) / 2)
    good = w > nu / 2
    Q, R = qr(Y @ (V[:, good] / np.sqrt(w[good])), mode="economic", overwrite_a=True)
    X, sigma, _ = np.linalg.svd(R, full_matrices=False)
    root = np.sqrt(np.maximum(sigma**2 - nu, 0.0))
    return np.asfortranarray(Q @ (X * root)[:, root > 0])


def error(product: Callable[[np.ndarray], np.ndarray], F: np.ndarray, V: np.ndarray) -> float:
    """An estimate from below of the norm of K - F F^T, by power iterations with a block."""
    for _ in range(POWERS):
        V = qr(V, mode="economic")[0]
        V = product(V) - F @ (F.T @ V)
    return float(np.linalg.norm(V, 2))
