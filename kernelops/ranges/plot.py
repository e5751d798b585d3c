"""The pattern of ranges, drawn with matplotlib."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import MissingExtraError

WIDTH = 6.0  # the width of a new figure in inches


def draw(rectangles: np.ndarray, M: int, N: int, title: str, ax: Any = None) -> Any:
    """The rectangles [block, interval] of [start, end] in a field of M rows, downwards, and N columns."""
    try:
        import matplotlib.pyplot as plt
        from matplotlib.collections import PolyCollection
    except ImportError as error:
        raise MissingExtraError('Ranges.plot needs matplotlib: pip install "kernelops[plot]"') from error
    M, N = max(M, 1), max(N, 1)  # axes cannot be without a width
    if ax is None:
        ax = plt.subplots(figsize=(WIDTH, WIDTH * min(max(M / N, 0.3), 2)))[1]
    (a, b), (c, d) = rectangles.transpose(1, 2, 0)
    corners = np.stack([np.stack([c, a], 1), np.stack([d, a], 1), np.stack([d, b], 1), np.stack([c, b], 1)], axis=1)
    ax.add_collection(PolyCollection(corners, facecolors="tab:blue", edgecolors="tab:blue", linewidths=0.2))
    ax.set(xlim=(0, N), ylim=(M, 0), xlabel="j", ylabel="i", title=title)
    ax.set_aspect("equal" if 0.2 < M / N < 5 else "auto")
    return ax
