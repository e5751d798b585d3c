"""Patterns drawn by hypothesis, and the pairs that six arrays and two orders hold, found one after another."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

LARGEST = 24  # rows that clusters are drawn from
SIZE = 26  # of a mask that holds them all


@st.composite
def clusterings(draw, largest=LARGEST):
    """Sorted disjoint clusters of some rows, some of them empty, in any order."""
    cuts = sorted(draw(st.lists(st.integers(0, largest), min_size=2, max_size=10)))
    pairs = [list(p) for p in zip(cuts[:-1], cuts[1:], strict=True)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique_by=tuple, max_size=8))
    return np.array(chosen, np.int64).reshape(-1, 2)


def tables(C, D):
    """Which of C clusters meets which of D."""
    return st.lists(st.booleans(), min_size=C * D, max_size=C * D).map(lambda b: np.array(b, bool).reshape(C, D))


@st.composite
def masks(draw):
    """What Ranges.from_mask takes, with clusters of rows."""
    clusters_i, clusters_j = draw(clusterings()), draw(clusterings())
    return clusters_i, clusters_j, draw(tables(len(clusters_i), len(clusters_j)))


def orders(size=SIZE):
    """A permutation, or None."""
    return st.none() | st.permutations(range(size)).map(np.array)


def mask_of_half(blocks, slices, intervals, M, N):
    """The pairs of positions held, one interval after another."""
    held = np.zeros((M, N), bool)
    for k, (a, b) in enumerate(blocks):
        for c, d in intervals[slices[k - 1] if k else 0 : slices[k]]:
            held[a:b, c:d] = True
    return held


def mask_by_hand(six, M, N, order_i=None, order_j=None):
    """The pairs (i, j) held, from the i half alone: position p is row order[p]."""
    held = mask_of_half(*six[:3], M, N)
    placed = np.zeros((M, N), bool)
    for p in range(M):
        for q in range(N):
            placed[p if order_i is None else order_i[p], q if order_j is None else order_j[q]] = held[p, q]
    return placed
