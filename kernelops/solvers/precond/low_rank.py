"""Low rank plus diagonal: P = F F^T + diag(alpha), inverted so that float32 does not lose definiteness.

The apply.  With S = alpha^(-1/2) and the thin QR factorisation S F = Q R,

    S P S = I + Q R R^T Q^T,        (S P S)^-1 = Q C Q^T + (I - Q Q^T),        C = (I + R R^T)^-1.

Both textbook forms, v / alpha - U (...) U^T v and the sum above, compute a vector of size |C| |v| as a difference of
vectors of size |v|. C goes down to 1 / (1 + |K| / alpha), which is below float32's rounding already at alpha = 1e-6
and n = 100: the product is noise and v . P^-1 v negative for some v. Here the projection is applied twice,

    T = Q C Q^T + (I - Q Q^T)^2,

which changes nothing for orthonormal Q. But rounding of v - Q Q^T v, of size eps |v|, goes through the projection
again and leaves eps^2 |v| in the range of Q; and for Q that was rounded to float32, whose columns are orthonormal only
to 1e-7, T still is a sum of a semidefinite matrix and the square of a symmetric one. It is definite, since
(I - Q Q^T) v = 0 puts v in the range of Q, where C is. The operator is T, for Q as it is held, and so are its factor
and its determinant.

The distance of T from (S P S)^-1.  Let Q = Q' + D with Q' orthonormal, C = H^T H, and s^2 = 1 + |R|^2, so that
|a| <= s |H a|. With a = Q'^T v and q = v - Q' a, the norm of (S P S)^-1 is |v|_P^2 = |H a|^2 + |q|^2, and
|a|, |v| <= s |v|_P. The norm of T is that of the pair (H Q^T v, v - Q Q^T v), which is off by H D^T v and
D a + Q D^T v: together at most 2.5 |D| s |v|_P. Hence, with blur = 2.5 |D| s,

    (1 - blur)^2 (S P S)^-1 <= T <= (1 + blur)^2 (S P S)^-1.

The certificate.  The residual R = K - F F^T of a partial Cholesky factorisation is positive semidefinite, so
P <= A = P + R. Moreover S R S <= tr(S R S) I =: t I <= t S P S, so A <= (1 + t) P: the eigenvalues of P^-1 A lie in
[1, 1 + t] with t = sum_i R_ii / alpha_i. And A^-1 <= P^-1, so r . P^-1 r, which preconditioned conjugate gradients
have at hand, bounds the squared energy error r . A^-1 r of the iterate with residual r. With T in the place of P^-1
both hold up to the factors above.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from scipy.linalg import cholesky, qr, solve_triangular
from scipy.linalg.blas import dtrsm

from ..entries import Entries
from .base import Preconditioner, inexact
from .pivoted_cholesky import Partial, Scaled, check_positive, pivoted_cholesky

ROWS_PROMOTED = 4096  # number of rows of Q that are converted at a time
VANISHED = 1e-20  # magnitude below which an entry of Q is set to 0, as its products are slow subnormals of float32
BLURRED = 0.25  # largest blur with which Q is kept in float32: P^-1 changes by less than a factor of (1 + 0.25)^2


class LowRank(Preconditioner):
    """The inverse of P = F F^T + diag(alpha).

    Parameters
    ----------
    F : ndarray, shape (n, k)
        float64, with F F^T near K.
    alpha : float or ndarray, shape (n,)
        Positive.
    residual : ndarray of shape (n,), optional
        diag(K - F F^T), without which there is no certificate.
    semidefinite : bool
        Whether K - F F^T is known to be positive semidefinite, as it is if K is. If not, there is no certificate.
    scaled : bool
        F and residual are those of S K S with S = alpha^(-1/2), as `Scaled.by_alpha` gives them.
    dtype : dtype, optional
        What Q is kept in: float32 takes 4 n k bytes. By default float32 unless `blur` would exceed 0.25.
    overwrite : bool
        F may be used as the working space of 8 n k bytes.
    name, columns : optional
        As for every Preconditioner.

    Attributes
    ----------
    blur : float
        The operator lies between (1 - blur)^2 and (1 + blur)^2 times P^-1.
    spread : float
        Largest eigenvalue of S P S, about that of A over alpha; the smallest is 1 if k < n.
    trace : float
        sum_i residual_i / alpha_i; inf if not known.
    certificate : float
        Upper bound of the condition number of P^-1 A, 1 + trace times a factor for blur; inf if none is proved, or if a
        solve has met a larger one.

    Raises
    ------
    ArgumentError
        alpha is not positive in some row.
    FloatingPointError
        F is not finite.

    Notes
    -----
    Products with float32 blocks are made in float32, and stay positive definite to float32 rounding *squared* times
    `spread`. Work of a product with one vector: 8 n k operations, twice what the textbook form takes.

    Examples
    --------
    >>> import numpy as np
    >>> F = np.array([[1.0], [2.0], [2.0]])
    >>> M = LowRank(F, 0.5)
    >>> np.round((F @ F.T + 0.5 * np.eye(3)) @ (M @ np.ones(3)), 6).tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        F: np.ndarray,
        alpha: float | np.ndarray,
        *,
        residual: np.ndarray | None = None,
        semidefinite: bool = True,
        scaled: bool = False,
        dtype: DTypeLike | None = None,
        overwrite: bool = False,
        name: str = "pivoted_cholesky",
        columns: int | None = None,
    ) -> None:
        n = F.shape[0]
        super().__init__(n)
        self.name, self.columns = name, F.shape[1] if columns is None else columns
        alpha = check_positive(alpha, n)
        self.s = (alpha**-0.5)[:, None]
        self.below = semidefinite  # whether P <= A
        self.trace = math.inf if residual is None else float((residual if scaled else residual / alpha).sum())

        B = F if overwrite else F.copy(order="F")
        if not scaled:
            B *= self.s
        if not np.isfinite(B).all():
            raise FloatingPointError("the low-rank factor has entries that are NaN or infinite")
        Q, R = thin_qr(B)
        del B
        X, sigma, _ = np.linalg.svd(R, full_matrices=False)
        self.root = X.T / np.sqrt(1 + sigma[:, None] ** 2)  # H, with C = H^T H
        self.spread = float(1 + sigma.max(initial=0.0) ** 2)
        self.Q, self.blur = round_basis(Q, self.spread, dtype)
        self.rank = self.Q.shape[1]
        self._factorise()
        self.logdet += float(np.log(alpha).sum())

    @classmethod
    def of(cls, partial: Partial, alpha: float | np.ndarray, **keywords: Any) -> LowRank:
        """From pivoted_cholesky(Scaled.by_alpha(entries, alpha)), or of K itself with scaled=False."""
        keywords = {"scaled": True} | keywords
        return cls(partial.F, alpha, residual=partial.residual, columns=partial.columns, **keywords)

    @property
    def certificate(self) -> float:
        known = self.below and self.blur < 1
        return (1 + self.trace) * ((1 + self.blur) / (1 - self.blur)) ** 2 if known else math.inf

    @property
    def inverse_bound(self) -> float:
        return (1 - self.blur) ** -2 if self.below and self.blur < 1 else math.inf

    def withdraw(self) -> None:
        self.below = False

    def _factorise(self) -> None:
        """The small matrices X of W = I + Q X Q^T with T = W^T W, and of its inverse, and log det.

        With Q^T Q = L L^T, the columns of Q L^-T are orthonormal. In them T is L^T C L + (I - L^T L)^2 = N^T N, with N
        the triangular factor of the two roots on top of each other, and the identity in the rest of the space.
        """
        L = cholesky(gram(self.Q), lower=True)
        one = np.eye(len(L))
        (N,) = qr(np.vstack([self.root @ L, one - L.T @ L]), mode="r")
        N = N[: len(L)] * np.sign(np.diagonal(N))[:, None]
        inverse = solve_triangular(N, one)
        self.X, self.unX = (sandwich(L, middle - one) for middle in (N, inverse))
        self.logdet = -2 * float(np.log(np.diagonal(N)).sum())

    def _matmat(self, V: np.ndarray) -> np.ndarray:
        V = inexact(V)
        dtype = V.real.dtype
        s = self.s.astype(dtype, copy=False)
        z = s * V
        y, again = (np.zeros((self.rank, z.shape[1]), z.dtype) for _ in range(2))
        for rows in row_chunks(self.Q):
            y += self.Q[rows].astype(dtype, copy=False).T @ z[rows]
        for rows in row_chunks(self.Q):
            q = self.Q[rows].astype(dtype, copy=False)
            z[rows] -= q @ y
            again += q.T @ z[rows]
        y = (self.root.T @ (self.root @ y)).astype(z.dtype) - again
        for rows in row_chunks(self.Q):
            z[rows] += self.Q[rows].astype(dtype, copy=False) @ y
        z *= s
        result: np.ndarray = z
        return result

    def factor_matmat(self, V: np.ndarray) -> np.ndarray:
        return self._shift(self.s * V, self.X)

    def factor_rmatmat(self, V: np.ndarray) -> np.ndarray:
        result: np.ndarray = self.s * self._shift(V, self.X.T)
        return result

    def factor_solve(self, V: np.ndarray) -> np.ndarray:
        return self._shift(V, self.unX) / self.s

    def _shift(self, V: np.ndarray, X: np.ndarray) -> np.ndarray:
        """V + Q X Q^T V in float64."""
        V = V.astype(np.float64)
        y = np.zeros((self.Q.shape[1], V.shape[1]))
        for rows in row_chunks(self.Q):
            y += self.Q[rows].astype(np.float64, copy=False).T @ V[rows]
        y = X @ y
        for rows in row_chunks(self.Q):
            V[rows] += self.Q[rows].astype(np.float64, copy=False) @ y
        return V

    def describe(self) -> str:
        words = "pivoted Cholesky" if self.name == "pivoted_cholesky" else "randomized Nystrom"
        tail = "" if math.isinf(self.trace) else f", residual trace {self.trace / self.shape[0]:.2g} of alpha n"
        return f"{words} of rank {self.rank}{tail}"


def thin_qr(B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal columns in the place of B, and R with B = Q R.

    Twice by the Cholesky factor of the Gram matrix, which is all products: the first time leaves columns that are
    orthonormal to eps cond(B)^2, the second to eps. Where the first is no good, by Householder's reflections: columns
    that depend on each other.
    """
    size = np.linalg.norm(B, axis=0)
    size[size == 0] = 1.0
    B /= size
    R = np.diag(size)
    for again in (False, True):
        G = gram(B)
        if again and np.linalg.norm(G - np.eye(len(G))) > 0.5:
            break
        try:
            factor = cholesky(G)
        except np.linalg.LinAlgError:
            break
        B = dtrsm(1.0, factor, B, side=1, overwrite_b=1)
        R = factor @ R
    else:
        return B, R
    Q, last = qr(B, mode="economic", overwrite_a=True, check_finite=False)
    return Q, last @ R


def gram(Q: np.ndarray) -> np.ndarray:
    """Q^T Q in float64."""
    G = np.zeros((Q.shape[1],) * 2)
    for rows in row_chunks(Q):
        q = Q[rows].astype(np.float64, copy=False)
        G += q.T @ q
    return G


def round_basis(Q: np.ndarray, spread: float, dtype: DTypeLike | None) -> tuple[np.ndarray, float]:
    """Q by rows in the dtype it is kept in, and what that changes: 2.5 |D| s as above, with the Frobenius norm."""
    if dtype is None or np.dtype(dtype) == np.float32:
        short = np.empty(Q.shape, np.float32)
        change = 0.0
        for rows in row_chunks(Q):
            short[rows] = np.where(np.abs(Q[rows]) < VANISHED, 0.0, Q[rows])
            change += float(((short[rows] - Q[rows]) ** 2).sum())
        blur = 2.5 * math.sqrt(change * spread)
        if dtype is not None or blur <= BLURRED:
            return short, blur
    return Q, 2.5 * np.finfo(np.float64).eps * math.sqrt(Q.shape[1] * spread)


def row_chunks(Q: np.ndarray) -> list[slice]:
    return [slice(first, first + ROWS_PROMOTED) for first in range(0, len(Q), ROWS_PROMOTED)]


def sandwich(L: np.ndarray, M: np.ndarray) -> np.ndarray:
    """L^-T M L^-1."""
    left = solve_triangular(L, M, lower=True, trans="T")
    result: np.ndarray = solve_triangular(L, left.T, lower=True, trans="T").T
    return result


def low_rank(entries: Entries, alpha: float | np.ndarray, *, most: int, share: float = 1.0, **keywords: Any) -> LowRank:
    """Pivoted Cholesky of at most `most` columns, until the residual trace is below share of that of alpha."""
    partial = pivoted_cholesky(Scaled.by_alpha(entries, alpha), most=most, enough=share * entries.n, **keywords)
    return LowRank.of(partial, alpha, overwrite=True, semidefinite=entries.semidefinite)
