"""Eigenvalues that carry a trace by themselves, taken out of its estimate and added as they are.

For random signs g the estimate g^T L g of tr L scatters like the sum of l_j^2 s_j, with eigenvalues l_j of L and s_j of
chi^2. If a few l_j carry that sum, as when a preconditioner has found nearly all, it is skew and has long tails:
the mean over some vectors can be off by many of the standard errors that their spread suggests. But Lanczos' process
finds such eigenvectors v first of all, and for every unit vector v and number l

    tr L = l + E g^T (L - l v v^T) g,

without bias. What remains scatters less, and like a normal variable.

Whether an eigenvalue is simple, one process cannot tell: from g it sees the projection of g on the eigenspace. Those of
several g span it once there are more of them than it has dimensions. Where they do not, more of the eigenspace is left
than is known, many dimensions do no harm, and it stays in the estimate.

A. Gambhir, A. Stathopoulos, K. Orginos, Deflation as a method of variance reduction for estimating the trace of a
matrix inverse, SIAM J. Sci. Comput. 39, 2017. R. Meyer, C. Musco, C. Musco, D. Woodruff, Hutch++: optimal stochastic
trace estimation, SOSA 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .lanczos import FOUND, Ritz

HEAVY = 0.02  # share of the sum of all l^2 that an eigenvalue has to carry to be taken out
CARRIED = 0.5  # share of the part not yet found from which more steps would help, if heavy eigenvalues carry it
FLAT = 0.03  # share of the largest singular value below which one counts as 0
SPARE_VECTORS = 2  # number of vectors that are needed beyond the dimension of the space that they span


def deflate(values: np.ndarray, runs: Sequence[Ritz], probes: np.ndarray, least: float) -> tuple[np.ndarray, bool]:
    """Estimates of the trace of a logarithm, one for each probe, without what single eigenvalues make them scatter by.

    values (k,) are g^T L g for the columns g of probes (n, k), which are of signs: g^T g is n, so that a multiple of
    the identity in L makes nothing scatter and does not count. Nor does what is below `least` in the mean. Returned
    with them is whether more steps would help: if what remains is carried by a few that are not found yet.
    """
    n, k = probes.shape
    if k <= SPARE_VECTORS:
        return values, False
    middle = _weighted_median(np.concatenate([r.logs for r in runs]), np.concatenate([r.weights for r in runs]))
    heavy = [_is_heavy(runs, middle, run) for run in runs]
    spaces = _find_eigenspaces([v for run, h in zip(runs, heavy, strict=True) for v in run.eigenvectors(h & run.found)])
    seen = [(run.weights * (run.logs - middle) ** 2, h, run.found) for run, h in zip(runs, heavy, strict=True)]
    missing, rest = (sum(w[~f & (h | both)].sum() for w, h, f in seen) for both in (False, True))
    few = bool(missing > max(CARRIED * rest, (k * least) ** 2 / 2))  # 2 |L|^2 / k is the variance of the mean
    if not spaces:
        return values, few
    size = np.array([space.shape[1] for space, _ in spaces])
    logs = np.array([log for _, log in spaces])
    inside = np.stack([((space.T @ probes) ** 2).sum(axis=0) for space, _ in spaces])
    left = n - inside.sum(axis=0).mean()
    if left > 0.5:  # the multiple of the identity that is nearest to what is left
        middle = (values - logs @ inside).mean() / left
    return values + (logs - middle) @ (size[:, None] - inside), few


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(reached, reached[-1] / 2)]])


def _is_heavy(runs: Sequence[Ritz], middle: float, run: Ritz) -> np.ndarray:
    """Whether each Ritz value of a run carries its share of the sum of l^2 over itself and all smaller ones."""
    squares = np.concatenate([(r.logs - middle) ** 2 for r in runs])
    order = np.argsort(squares)
    below = np.cumsum((np.concatenate([r.weights for r in runs]) * squares)[order]) / len(runs)
    own = (run.logs - middle) ** 2
    sums = below[np.searchsorted(squares[order], own, side="right") - 1]
    return (own >= HEAVY * sums) & (sums > (len(run.theta) * np.finfo(np.float64).eps) ** 2)


def _find_eigenspaces(found: list[tuple[float, float, float, np.ndarray]]) -> list[tuple[np.ndarray, float]]:
    """Orthonormal bases of the eigenspaces that are known in full, and the logarithms of their eigenvalues."""
    groups: list[list[tuple[float, float, float, np.ndarray]]] = []
    for one in sorted(found, key=lambda f: f[0]):
        if groups and one[0] - groups[-1][-1][0] <= 2 * FOUND * min(one[2], groups[-1][-1][2]):
            groups[-1].append(one)
        else:
            groups.append([one])
    spaces = []
    for group in groups:
        vectors, sizes, _ = np.linalg.svd(np.stack([v for *_, v in group], axis=1), full_matrices=False)
        rank = int((sizes > FLAT * sizes[0]).sum())
        if len(group) >= rank + SPARE_VECTORS:
            spaces.append((vectors[:, :rank], float(np.mean([log for _, log, *_ in group]))))
    return spaces
