"""Few combinations of the values of several axes, for tests whose axes do not interact by threes."""

from itertools import combinations, product


def pairwise(*axes):
    """Combinations in which every two values of two axes meet: some of the product of the axes, in its order."""
    every = list(product(*(range(len(axis)) for axis in axes)))
    pairs = {choice: {(k, choice[k], n, choice[n]) for k, n in combinations(range(len(axes)), 2)} for choice in every}
    left, chosen = set().union(*pairs.values()), set()
    while left:
        best = max(every, key=lambda choice: len(pairs[choice] & left))
        chosen.add(best)
        left -= pairs[best]
    return [tuple(axis[k] for axis, k in zip(axes, choice, strict=True)) for choice in sorted(chosen)]
