"""Ranges of every kind, by name, and the pairs that they hold, read off their arrays one interval after another."""

import numpy as np

from kernelops import Ranges


def held(ranges, M, N):
    """The pairs of the i half as a dense mask, by loops over blocks and intervals."""
    rows, slices, columns = ranges.as_tuple()[:3]
    order_i = np.arange(M) if ranges.order_i is None else ranges.order_i
    order_j = np.arange(N) if ranges.order_j is None else ranges.order_j
    mask = np.zeros((M, N), bool)
    for k, (a, b) in enumerate(rows):
        for c, d in columns[slices[k - 1] if k else 0 : slices[k]]:
            mask[np.ix_(order_i[a:b], order_j[c:d])] = True
    return mask


def cuts(n, count, seed):
    """n rows cut into so many clusters of uneven sizes, at most n."""
    inner = np.random.default_rng(seed).choice(np.arange(1, n), min(count, n) - 1, replace=False)
    edges = np.concatenate([[0], np.sort(inner), [n]])
    return np.stack([edges[:-1], edges[1:]], axis=1)


def some(rows, columns, seed, share=0.6):
    return Ranges.from_mask(rows, columns, np.random.default_rng(seed).random((len(rows), len(columns))) < share)


def many(M, N):
    return some(cuts(M, 6, 1), cuts(N, 7, 2), 3)


def empty_rows(M, N):
    """Every second cluster, of rows and of columns, is in no block."""
    return some(cuts(M, 9, 4)[::2], cuts(N, 9, 5)[1::2], 6, share=0.8)


def empty_blocks(M, N):
    """Blocks without rows, some of which meet columns, between others."""
    rows, columns = cuts(M, 4, 7), cuts(N, 4, 8)
    without = [[e, e] for e in (0, M // 2, M)], [[e, e] for e in (0, N // 3, N)]
    keep = np.random.default_rng(9).random((7, 7)) < 0.7
    return Ranges.from_mask(np.concatenate([without[0], rows]), np.concatenate([columns, without[1]]), keep)


def unsorted(M, N):
    """Blocks of both halves in a random order; the intervals of a block descend, and one is empty."""
    ranges, draw, six = many(M, N), np.random.default_rng(10), []
    for blocks, slices, intervals in (ranges.as_tuple()[:3], ranges.as_tuple()[3:]):
        parts = np.split(intervals, slices[:-1])
        order = draw.permutation(len(blocks))
        parts = [np.concatenate([parts[k][::-1], [[3, 3]]]) for k in order]
        six += [blocks[order], np.cumsum([len(p) for p in parts]), np.concatenate(parts)]
    return Ranges.from_tuple(six)


def points(M, N):
    draw = np.random.default_rng(11)
    return draw.random((M, 2)), draw.random((N, 2))


def permutations(M, N):
    draw = np.random.default_rng(12)
    return draw.permutation(M), draw.permutation(N)


PATTERNS = {  # name -> (M, N) -> Ranges
    "one block": Ranges.dense,
    "many blocks": many,
    "nothing": lambda M, N: Ranges.from_mask([[0, M]], [[0, N]], [[False]]),
    "empty rows": empty_rows,
    "empty blocks": empty_blocks,
    "single rows": lambda M, N: some(cuts(M, M, 0), cuts(N, N, 0), 13, 0.3),
    "band": lambda M, N: Ranges.band(min(M, N), 4, 3),
    "lower triangular": lambda M, N: Ranges.lower_triangular(min(M, N)),
    "unsorted blocks": unsorted,
    "int32": lambda M, N: Ranges.from_tuple([a.astype(np.int32) for a in many(M, N).as_tuple()]),
    "a radius": lambda M, N: Ranges.from_radius(*points(M, N), 0.2, points_per_cluster=8),
    "labels": lambda M, N: Ranges.from_mask(
        np.random.default_rng(14).integers(0, 5, M), cuts(N, 4, 15), np.random.default_rng(16).random((5, 4)) < 0.6
    ) if M >= 9 else many(M, N),
    "order of i": lambda M, N: many(M, N).ordered(order_i=permutations(M, N)[0]),
    "order of j": lambda M, N: many(M, N).ordered(order_j=permutations(M, N)[1]),
    "both orders": lambda M, N: unsorted(M, N).ordered(*permutations(M, N)),
}  # fmt: skip
ORDERED = ("a radius", "labels", "order of i", "order of j", "both orders")
