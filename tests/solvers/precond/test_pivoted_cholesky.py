"""The factor against dense Schur complements, the law of its pivots, growth, and matrices that have no factor."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from gaussians import Counting, diagonal_of, exponential, gaussian, points
from scipy.stats import chi2

from kernelops.errors import ArgumentError
from kernelops.solvers.entries import DenseEntries
from kernelops.solvers.precond import pivoted_cholesky as module
from kernelops.solvers.precond.pivoted_cholesky import Scaled, check_positive, pivoted_cholesky, survivors

NOISE = {
    "none": 0.0,
    "scalar": 0.1,
    "rows": np.random.default_rng(5).random(300),
    "some rows": np.arange(300) % 3 * 0.1,
}


def schur(A, pivots):
    """A less what the pivots explain, without Cholesky."""
    return A - A[:, pivots] @ np.linalg.solve(A[np.ix_(pivots, pivots)], A[pivots])


@pytest.mark.parametrize("alpha", NOISE.values(), ids=NOISE)
def test_factor_against_dense(alpha):
    K = exponential(points(300), 0.3)
    A = K + diagonal_of(alpha, 300)
    entries = Counting(K)
    partial = pivoted_cholesky(entries, alpha, most=100)
    pivots = partial.pivots
    assert partial.stopped == "most" and partial.F.shape == (300, 100) and partial.columns == 100
    assert len(set(pivots)) == 100 and entries.asked == pivots.tolist()
    left = schur(A, pivots)
    np.testing.assert_allclose(A - partial.F @ partial.F.T, left, rtol=0, atol=1e-12)
    want = np.diagonal(left) - alpha
    want[pivots] = 0
    np.testing.assert_allclose(partial.residual, want, rtol=0, atol=1e-12)
    L = partial.F[pivots]
    assert (np.triu(L, 1) == 0).all() and (np.diagonal(L) > 0).all()
    np.testing.assert_allclose(L @ L.T, A[np.ix_(pivots, pivots)], rtol=0, atol=1e-12)
    assert partial.trace == 300 and partial.negative == 0


def test_rows_in_slabs(monkeypatch):
    K = exponential(points(300), 0.3)
    whole = pivoted_cholesky(DenseEntries(K), 0.1, most=60)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 77)
    parts = pivoted_cholesky(DenseEntries(K), 0.1, most=60)
    assert (whole.pivots == parts.pivots).all()
    np.testing.assert_allclose(parts.F, whole.F, rtol=0, atol=1e-13)


# The law of the pivots. K is small enough for the probability of every sequence of three pivots to be written down;
# a round has sixteen candidates, so that all but the first pivot went through the rejection.
DRAWS = 4000


def small():
    return gaussian(points(6, seed=8) * [2, 0.5], 0.5) * np.outer(np.arange(2, 8), np.arange(2, 8))


def law(K):
    """Probability of each sequence of three pivots, drawn one at a time by the diagonal of what is left."""
    probability = {}
    for order in permutations(range(len(K)), 3):
        p, left = 1.0, K.copy()
        for j in order:
            p *= left[j, j] / np.trace(left)
            left = left - np.outer(left[:, j], left[j]) / left[j, j]
        probability[order] = p
    return probability


def misfit(drawn, probability):
    """How improbable the counts are, by the chi-square test on the sequences that are expected five times or more."""
    count, total = Counter(drawn), len(drawn)
    often = [order for order, p in probability.items() if p * total >= 5]
    rest = 1 - sum(probability[order] for order in often)
    observed = [count[order] for order in often]
    pairs = [*zip(observed, (probability[order] * total for order in often)), (total - sum(observed), rest * total)]
    return chi2.sf(sum((o - e) ** 2 / e for o, e in pairs), len(pairs) - 1)


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_pivots_have_the_law_of_one_at_a_time(alpha):
    K = small()
    probability = law(K) if alpha == 0 else law_with_noise(K, alpha)
    np.testing.assert_allclose(sum(probability.values()), 1)
    drawn = [tuple(pivoted_cholesky(DenseEntries(K), alpha, most=3, seed=s).pivots.tolist()) for s in range(DRAWS)]
    assert misfit(drawn, probability) > 1e-3


def law_with_noise(K, alpha):
    """The same for the factor of alpha I + K, whose pivots go by the diagonal of the Schur complement less alpha."""
    probability = {}
    for order in permutations(range(len(K)), 3):
        p, left, taken = 1.0, K + alpha * np.eye(len(K)), []
        for j in order:
            weight = np.diagonal(left) - alpha
            weight[taken] = 0
            p *= weight[j] / weight.sum()
            left = left - np.outer(left[:, j], left[j]) / left[j, j]
            taken.append(j)
        probability[order] = p
    return probability


def test_the_law_convicts_pivots_without_rejection():
    K, draw = small(), np.random.default_rng(0)
    weight = np.diagonal(K) / np.trace(K)
    drawn = [tuple(draw.choice(6, 3, replace=False, p=weight).tolist()) for _ in range(DRAWS)]
    assert misfit(drawn, law(K)) < 1e-9


def test_the_law_convicts_uniform_heights(monkeypatch):
    """Candidates whose heights do not go up to the diagonal are kept too often."""
    real = module.candidates
    monkeypatch.setattr(module, "candidates", lambda d, *rest: (lambda i, h: (i, 0.5 * h))(*real(d, *rest)))
    K = small()
    drawn = [tuple(pivoted_cholesky(DenseEntries(K), most=3, seed=s).pivots.tolist()) for s in range(DRAWS)]
    assert misfit(drawn, law(K)) < 1e-6


def test_a_candidate_is_kept_while_it_is_under_the_graph():
    H = np.array([[4.0, 2.0], [2.0, 4.0]])  # after the first pivot 3 is left of the second diagonal entry
    for height, kept in ((2.999, [0, 1]), (3.001, [0])):
        got, L, seen = survivors(H, np.zeros(2), np.array([0.0, height]), 2)
        assert got == kept and seen == 2
        np.testing.assert_allclose(L @ L.T, H[np.ix_(kept, kept)])
    assert survivors(H, np.zeros(2), np.zeros(2), 1)[2] == 1


def test_seeds():
    entries = DenseEntries(gaussian(points(200), 0.1))
    a, b, c = (pivoted_cholesky(entries, most=40, seed=seed) for seed in (1, 1, 2))
    assert (a.F == b.F).all() and (a.pivots == b.pivots).all()
    assert (a.pivots != c.pivots).any()


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_growth_is_one_run(alpha):
    entries = Counting(gaussian(points(400), 0.1))
    whole = pivoted_cholesky(entries, alpha, most=150, seed=3)
    entries.asked.clear()
    grown = None
    for most in (0, 1, 10, 64, 65, 150):  # in and between rounds
        before = grown and grown.F.copy()
        last, grown = grown, pivoted_cholesky(entries, alpha, most=most, seed=3, start=grown)
        assert last is None or (last.F == before).all() and last.F.base is not grown.F.base
        assert grown.F.shape == (400, most)
    assert (grown.pivots == whole.pivots).all() and grown.rounds == whole.rounds
    assert len(entries.asked) == 150
    # |F| <= 1 and the smallest pivot is about 1e-2: rounding of 1e-16 grows to no more than 1e-12
    np.testing.assert_allclose(grown.F, whole.F, rtol=0, atol=1e-12)
    np.testing.assert_allclose(grown.residual, whole.residual, rtol=0, atol=1e-12)


def test_growth_by_nothing():
    entries = DenseEntries(gaussian(points(50), 0.1))
    partial = pivoted_cholesky(entries, most=20)
    same = pivoted_cholesky(entries, most=10, start=partial)
    assert same.stopped == "most" and (same.F == partial.F).all()


def test_stops_at_the_trace():
    entries = DenseEntries(gaussian(points(300), 0.2))
    partial = pivoted_cholesky(entries, most=300, enough=0.5)
    assert partial.stopped == "trace" and partial.residual.sum() <= 0.5
    fewer = pivoted_cholesky(entries, most=partial.columns - 60 if partial.columns > 70 else 5, enough=0.5)
    assert fewer.stopped == "most" and fewer.residual.sum() > 0.5
    assert pivoted_cholesky(entries, most=300, enough=300.0).columns == 0
    assert pivoted_cholesky(entries, most=300, enough=299.9).columns > 0


def test_budget():
    entries = DenseEntries(gaussian(points(100), 0.02))
    assert pivoted_cholesky(entries, most=90, budget=8 * 100 * 30).columns == 30
    assert pivoted_cholesky(entries, most=90, budget=8 * 100 * 30 - 1).columns == 29
    assert pivoted_cholesky(entries, most=20, budget=8 * 100 * 30).columns == 20


def of_rank(r, n=80):
    F = np.random.default_rng(r).standard_normal((n, r))
    return F @ F.T


SINGULAR = {
    "constant": (np.ones((50, 50)), 1),
    "rank 7": (of_rank(7), 7),
    "duplicated points": (exponential(np.repeat(points(30), 2, axis=0), 0.3), 30),
    "one row": (np.array([[4.0]]), 1),
    "identity": (np.eye(40), 40),
    "zero": (np.zeros((20, 20)), 0),
    "one row of a zero matrix": (np.diag([0.0, 0, 3, 0]), 1),
    "tiny": (1e-290 * exponential(points(30), 0.3), 30),
    "empty": (np.zeros((0, 0)), 0),
}


@pytest.mark.parametrize("K, rank", SINGULAR.values(), ids=SINGULAR)
def test_numerical_rank(K, rank):
    partial = pivoted_cholesky(DenseEntries(K), most=1000)
    assert (partial.stopped, partial.columns) == ("rank", rank)
    np.testing.assert_allclose(partial.F @ partial.F.T, K, rtol=0, atol=1e-12 * abs(K).max(initial=0))
    assert -1e-12 < partial.negative <= 0


@pytest.mark.parametrize("K, rank", SINGULAR.values(), ids=SINGULAR)
def test_noise_keeps_the_factor_of_a_singular_matrix_whole(K, rank):
    scale = 1e-3 * (abs(K).max(initial=0) or 1)
    partial = pivoted_cholesky(DenseEntries(K), scale, most=1000)
    A = K + scale * np.eye(len(K))
    L = partial.F[partial.pivots]
    np.testing.assert_allclose(L @ L.T, A[np.ix_(partial.pivots, partial.pivots)], rtol=0, atol=1e-13 * len(K) * len(K))
    assert (np.diagonal(L) ** 2 >= 0.999 * scale).all()


def test_smooth_kernels_end_at_their_numerical_rank():
    K = gaussian(points(400), 1.0)
    partial = pivoted_cholesky(DenseEntries(K), most=400)
    assert partial.stopped in ("rank", "stalled") and partial.columns < 100
    assert np.linalg.norm(K - partial.F @ partial.F.T, 2) < 1e-8
    assert partial.negative > -1e-10


def test_rounding_is_no_pivot():
    """A thousand rows with 4e-14 left of 1, together a fiftieth of what is left in a row that is worth a pivot."""
    K = np.zeros((1001, 1001))
    K[:1000, :1000] = 1.0
    K += np.diag(np.r_[np.full(1000, 2e-14), 2e-9])
    for seed in range(20):
        assert pivoted_cholesky(DenseEntries(K), most=100, seed=seed).columns == 2


def test_noise_far_above_the_matrix():
    """Rounding is relative to alpha, of which K's own diagonal is the ten millionth part: it is no evidence."""
    K = exponential(np.repeat(points(30), 2, axis=0), 0.3)
    partial = pivoted_cholesky(DenseEntries(K), 1e7, most=60)
    assert partial.columns >= 30 and -1e-15 < partial.negative <= 0
    np.testing.assert_allclose((np.diagonal(partial.F[partial.pivots]) ** 2 - 1e7), 1.0, rtol=1e-4)


def test_a_matrix_that_is_not_semidefinite_leaves_evidence():
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((100, 100)))[0]
    for smallest in (-0.1, 0.0):
        K = (Q * np.r_[np.full(50, 1.0), np.full(50, smallest)]) @ Q.T
        partial = pivoted_cholesky(DenseEntries((K + K.T) / 2), most=100)
        assert np.isfinite(partial.F).all() and (partial.residual >= 0).all()
        assert (partial.negative < -1e-3) == (smallest < 0)
        assert np.linalg.norm(partial.F, 2) ** 2 < 15  # 87 with pivots below what is known to be wrong
    partial = pivoted_cholesky(DenseEntries(-np.eye(10)), most=10)
    assert (partial.stopped, partial.columns, partial.negative) == ("rank", 0, -1.0)
    assert pivoted_cholesky(DenseEntries(np.diag([2.0, -1.0])), most=2).negative == -0.5


def test_nothing_that_could_be_a_pivot_is_a_stall():
    class Shrinking(DenseEntries):
        """A diagonal that promises more than the blocks hold."""

        def blocks(self, I):
            return 1e-20 * super().blocks(I)

    partial = pivoted_cholesky(Shrinking(np.eye(30)), most=30)
    assert (partial.stopped, partial.columns, partial.rounds) == ("stalled", 0, module.STALLS)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["diagonal", "elsewhere"])
def test_numbers_that_are_none(value, place):
    K = exponential(points(50), 0.3)
    K[3, 7] = K[7, 3] = value
    if place == "diagonal":
        K[3, 3] = value
    with pytest.raises(FloatingPointError, match="NaN"):
        pivoted_cholesky(DenseEntries(K), most=50)


@pytest.mark.parametrize("alpha", [-1.0, np.nan, np.r_[np.zeros(9), -1e-9]])
def test_negative_noise(alpha):
    with pytest.raises(ArgumentError, match="alpha"):
        pivoted_cholesky(DenseEntries(np.eye(10)), alpha, most=3)


def test_scaled_entries_are_those_of_sks():
    K, s = exponential(points(12), 0.5), np.repeat(np.arange(1.0, 7.0), 2)  # the same in all rows of a point
    whole, scaled = DenseEntries(K * np.outer(s, s), 2), Scaled(DenseEntries(K, 2), s)
    rows = np.arange(12).reshape(4, 3)
    np.testing.assert_allclose(scaled.diagonal(), whole.diagonal())
    np.testing.assert_allclose(scaled.columns(np.array([3, 1])), whole.columns(np.array([3, 1])))
    np.testing.assert_allclose(scaled.blocks(rows), whole.blocks(rows))
    order = np.random.default_rng(0).permutation(6)
    assert (scaled.neighbours(order, 3) == DenseEntries(K, 2).neighbours(order, 3)).all()  # scaled by points, alike
    assert (scaled.n, scaled.width, scaled.coordinates) == (12, 2, None)
    np.testing.assert_allclose(Scaled.by_alpha(DenseEntries(K), s).diagonal(), 1 / s)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_low_rank_needs_noise(bad):
    with pytest.raises(ArgumentError, match="alpha must be positive.*row 2; there are 1 such rows"):
        Scaled.by_alpha(DenseEntries(np.eye(4)), np.array([1, 1, bad, 1]))
    assert check_positive(1e-300, 2).tolist() == [1e-300] * 2
