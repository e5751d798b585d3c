"""truncate = tol: which pairs of a formula may be left out of a reduction or of a solve.

The points are put in an order in which neighbours are near each other, and cut into blocks. For each pair of blocks
any formula is bounded over their boxes (intervals.py); a pair of blocks whose values cannot
count is dropped. What can be shown holds for every point in the boxes, so nothing is assumed of a kernel, and one whose
bounds do not fall is kept whole.

The unknown of a solve, and in a sum each variable in which the formula is linear, stands for any vector of components
up to 1: what is bounded is the row sums of |K|, and the pattern of K b does not depend on b.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays.arguments import Arguments, compute_dtype, same_data
from ..arrays.libraries import arguments_to_host
from ..arrays.permute import permute_rows
from ..errors import ArgumentError
from ..formula.expr import Expr, apply, const, substitute, topological
from ..formula.structure import linear_in
from ..ranges import Ranges
from ..ranges.build import from_keep
from ..ranges.clusters import Clusters, boxes, consecutive_blocks, split
from ..reductions.kinds import REDUCTIONS
from ..reductions.reduction import Reduction
from .intervals import Interval, interval_of

AUTO = 1e-3  # the tolerance of ranges="auto"
POINTS_PER_BLOCK = 256  # a block has so many points, those of one tile of the engine
PROBED_ROWS = 64  # the largest row sum is estimated, from below, by the sums of so many rows
NUMBERS_AT_ONCE = 1 << 21  # bounds of so many pairs of blocks and components are computed at a time
EPS = float(np.finfo(np.float64).eps)
# An order costs more than it saves with up to FEW_BLOCKS blocks of one index and over ASPECT_RATIO times as many points
# of the other.
FEW_BLOCKS, ASPECT_RATIO = 40, 16
ROUNDED = 1e-5  # a float32 sum of nonnegative numbers may be too large by this, relatively


def check_truncate(truncate: Any, ranges: Any) -> float | None:
    """The tolerance that truncate= and ranges="auto" ask for, or None."""
    if isinstance(ranges, str):
        if ranges != "auto":
            raise ArgumentError(f'ranges: wanted a Ranges, six arrays, "auto" or None, got {ranges!r}')
        if truncate is not None:
            raise ArgumentError(f'ranges = "auto" means truncate = {AUTO:g}: leave one of them out')
        return AUTO
    if truncate is None:
        return None
    if ranges is not None:
        raise ArgumentError("truncate chooses the ranges: give one of the two")
    number = isinstance(truncate, (int, float, np.integer, np.floating)) and not isinstance(truncate, bool)
    if not number or not 0 <= truncate < 1:
        raise ArgumentError(f"truncate: wanted a number from 0 to below 1, got {truncate!r}")
    return float(truncate)


@dataclass(frozen=True)
class Blocks:
    """The points of one index, in blocks."""

    clusters: Clusters
    boxes: Mapping[Expr, Interval]  # (C, D) each

    @property
    def counts(self) -> np.ndarray:
        return np.diff(self.clusters.blocks)[:, 0]


def truncate_reduction(
    expr: Expr, weight: Expr | None, op: str, axis: int, opt_arg: int | None, arguments: Arguments, tol: float
) -> Ranges | None:
    """The pattern of a reduction, or None for all pairs.

    Of a sum, what is left out of any row is at most tol times the largest row sum of |K|. Of LogSumExp and its kin it
    is at most tol times the row's own sum of exponentials. Minima and their kin lose nothing.
    """
    kind = REDUCTIONS[op]
    means = kind.results == ("mean",)  # a weighted mean: the weights do not change what a row's sum is
    if weight is not None and not means:
        expr = apply("Add", expr, apply("Log", apply("Abs", weight)))
    if kind.accumulator == "sum":
        return _truncate_sum(expr, axis, arguments, tol, [v for v in expr.vars if v.op != "Pm" and linear_in(expr, v)])
    arguments = arguments_to_host(arguments)
    blocks = _blocks(expr, arguments, {})
    if blocks is None:
        return None
    values, counts = _bound_blocks(expr, blocks, axis, arguments, {}), blocks[axis].counts
    if kind.accumulator == "best":
        keep = _keep_best(values, counts, opt_arg or 1, kind.largest)
    else:
        keep = _keep_exponentials(values, counts, tol)
    return _pattern(blocks, keep if axis == 1 else keep.T)


def truncate_product(expr: Expr, unknown: Expr, arguments: Arguments, tol: float) -> Ranges | None:
    """The pattern of a matrix: the largest row sum of |K| left out is at most tol times the largest row sum of |K|."""
    return _truncate_sum(expr, _axis(unknown), arguments, tol, [unknown])


def _truncate_sum(expr: Expr, axis: int, arguments: Arguments, tol: float, vectors: Iterable[Expr]) -> Ranges | None:
    """The ranges of a sum after its negligible blocks are dropped."""
    units = _unit_boxes(vectors)
    arguments = arguments_to_host(arguments)
    blocks = _blocks(expr, arguments, units)
    if blocks is None:
        return None
    sizes = _largest_sums(_bound_blocks(expr, blocks, axis, arguments, units), blocks[axis].counts)
    gone = _cumulative_loss(sizes) <= tol * _largest_row_sum(expr, axis, arguments, units)
    if blocks[0].clusters is blocks[1].clusters:
        gone &= gone.T
    return _pattern(blocks, ~gone if axis == 1 else ~gone.T)


def truncate_solve(expr: Expr, unknown: Expr, arguments: Arguments, tol: float, alpha: np.ndarray) -> Ranges | None:
    """The pattern of a solve: symmetric, and the largest row sum of |K| left out is at most tol times the least alpha.

    By Gershgorin's theorem no eigenvalue moves by more than that, so that alpha I + K stays positive definite for
    tol < 1.
    """
    units, axis = _unit_boxes([unknown]), _axis(unknown)
    arguments = arguments_to_host(arguments)
    blocks = _blocks(expr, arguments, units)
    if blocks is None or blocks[0].clusters is not blocks[1].clusters:
        return None  # little to gain; or x and y differ, and the solve will say that the matrix is not symmetric
    sizes = _largest_sums(_bound_blocks(expr, blocks, axis, arguments, units), blocks[axis].counts)
    lost = _cumulative_loss(sizes)
    lost = np.maximum(lost, lost.T)  # a pair of blocks goes from both its rows
    least = float(np.min(alpha)) if np.size(alpha) else 0.0
    keep = lost > tol * least
    if keep.all():
        known = np.where(np.isfinite(sizes), sizes, 0.0)
        _refuse_small(float(lost.min()), tol, least, float(known.sum(1).max()))
    return _pattern(blocks, keep)


def _refuse_small(wanted: float, tol: float, least: float, largest: float) -> None:
    """Raise if alpha is so small that every pair is kept: wanted is what the smallest block costs, largest a row of K.

    An alpha that counts beside the rounding of a row keeps all pairs without a word: as a length scale grows, step by
    step, there comes a point at which nothing can be left out, which is no mistake.
    """
    if not (0 < wanted <= tol * largest and tol * least < EPS * largest):
        return
    alpha = wanted / tol * (1 + 1e-9)
    unit = 10.0 ** (np.floor(np.log10(alpha)) - 1)
    raise ArgumentError(
        f"truncate = {tol:g} lets a row of K lose {tol * least:.1e}, truncate times the smallest alpha "
        f"({least:g}). That is below the rounding of the row, and no block is as small. With "
        f"alpha = {np.ceil(alpha / unit) * unit:.1e} some would be: take a larger alpha, or leave truncate out"
    )


def _axis(unknown: Expr) -> int:
    return 1 if unknown.op == "Vj" else 0


def _unit_boxes(vectors: Iterable[Expr]) -> dict[Expr, Interval]:
    """The intervals of variables whose components are at most 1 in magnitude."""
    return {v: (-np.ones(v.dim), np.ones(v.dim)) for v in vectors}


# ---- the points in blocks ----


def _blocks(expr: Expr, arguments: Arguments, units: Mapping[Expr, Interval]) -> tuple[Blocks, Blocks] | None:
    """The blocks of i and of j, or None if there is little to gain. Equal points have the same blocks."""
    few, many = sorted((arguments.M, arguments.N))
    if (
        many <= POINTS_PER_BLOCK
        or few == 0
        or 0 in arguments.batch
        or (few <= FEW_BLOCKS * POINTS_PER_BLOCK and many > ASPECT_RATIO * max(few, POINTS_PER_BLOCK))
    ):
        return None
    sides, near = [], _compared_variables(expr)
    for kind, size in (("Vi", arguments.M), ("Vj", arguments.N)):
        own = _by_position(v for v in expr.vars if v.op == kind and v not in units)
        chosen = [v for v in near if v in own] or own
        sides.append(
            (size, own, np.concatenate([_first_rows(arguments, v) for v in chosen] or [np.empty((size, 0))], axis=1))
        )
    (M, i, x), (N, j, y) = sides
    here = _clusters(x)
    there = here if M == N and (same_data(x, y) or not (i and j)) else _clusters(y)
    if M == N and not x.shape[1]:
        here = there = _clusters(y)
    return Blocks(here, _boxes_of(i, here, arguments)), Blocks(there, _boxes_of(j, there, arguments))


def _clusters(x: np.ndarray) -> Clusters:
    if not x.shape[1] or not np.isfinite(x).all():
        return Clusters(consecutive_blocks(len(x), POINTS_PER_BLOCK), None)
    return split(x, POINTS_PER_BLOCK)


def _compared_variables(expr: Expr) -> list[Expr]:
    """The variables in a difference of something of i and something of j, with which kernels decay.

    One difference after another, so that variables of i and of j which are compared stand in the same order.
    """
    found: dict[Expr, None] = {}
    for node in topological(expr):
        if node.op == "Subtract":
            kinds = [{v.op for v in a.vars} - {"Pm"} for a in node.args]
            if sorted(map(sorted, kinds)) == [["Vi"], ["Vj"]]:
                found.update(dict.fromkeys(_by_position(node.vars)))
    return list(found)


def _by_position(variables: Iterable[Expr]) -> list[Expr]:
    return sorted(variables, key=lambda v: v.position)


def _first_rows(arguments: Arguments, v: Expr) -> np.ndarray:
    """The rows of a variable in the first element of the batch."""
    a = arguments.arrays[v.position]
    assert a is not None
    return np.asarray(a[(0,) * (a.ndim - 2)], np.float64)


def _boxes_of(variables: list[Expr], clusters: Clusters, arguments: Arguments) -> dict[Expr, Interval]:
    """The least and the largest value of each component in each block, in the whole batch."""
    found = {}
    for v in variables:
        a = arguments.arrays[v.position]
        assert a is not None
        each = [boxes(np.asarray(one, np.float64), clusters) for one in a.reshape(-1, *a.shape[-2:])]
        found[v] = np.min([lo for lo, _ in each], axis=0), np.max([hi for _, hi in each], axis=0)
    return found


def _bound_blocks(
    expr: Expr, blocks: tuple[Blocks, Blocks], axis: int, arguments: Arguments, units: Mapping[Expr, Interval]
) -> Interval:
    """Bounds of the formula for each pair of blocks, (rows of the result, summed): the extremes of its components."""
    here, there = blocks if axis == 1 else blocks[::-1]
    given: dict[Expr, Interval] = dict(units)
    for v in expr.vars:
        a = arguments.arrays[v.position] if v not in units else None
        if v.op == "Pm" and a is not None:
            rows = a.reshape(-1, v.dim).astype(np.float64)
            given[v] = rows.min(0), rows.max(0)
    C = len(here.clusters.blocks), len(there.clusters.blocks)
    lo, hi = np.empty(C), np.empty(C)
    step = max(1, NUMBERS_AT_ONCE // max(1, C[1] * max(e.dim for e in topological(expr))))
    given |= {v: (a[None], b[None]) for v, (a, b) in there.boxes.items()}
    for first in range(0, C[0], step):
        part = slice(first, first + step)
        given |= {v: (a[part, None], b[part, None]) for v, (a, b) in here.boxes.items()}
        low, high = interval_of(expr, given)
        lo[part], hi[part] = low.min(-1), high.max(-1)
    return lo, hi


def _pattern(blocks: tuple[Blocks, Blocks], keep: np.ndarray) -> Ranges | None:
    if keep.all():
        return None
    return Ranges._from_build(from_keep(blocks[0].clusters, blocks[1].clusters, keep))


# ---- what may go ----


def _largest_sums(values: Interval, counts: np.ndarray) -> np.ndarray:
    """The most that each block can add to the sum of magnitudes of a row."""
    return np.maximum(np.abs(values[0]), np.abs(values[1])) * counts


def _cumulative_loss(sizes: np.ndarray) -> np.ndarray:
    """The cumulative loss of each row if its blocks are dropped in increasing order of size."""
    least_first, lost = np.argsort(sizes, axis=1, kind="stable"), np.empty(sizes.shape)
    np.put_along_axis(lost, least_first, np.cumsum(np.take_along_axis(sizes, least_first, 1), axis=1), 1)
    return lost


def _keep_exponentials(values: Interval, counts: np.ndarray, tol: float) -> np.ndarray:
    """The blocks to keep if each row may lose so much of its own sum of exponentials."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        number = np.log(counts)
        least, most = values[0] + number, values[1] + number
        own = np.logaddexp.reduce(least, axis=1, keepdims=True)
        shares = np.exp(most - own)
    return _cumulative_loss(np.where(np.isnan(shares), np.inf, shares)) > tol


def _keep_best(values: Interval, counts: np.ndarray, wanted: int, largest: bool) -> np.ndarray:
    """The blocks to keep if so many of the smallest (or largest) values of each row are wanted."""
    lo, hi = (-values[1], -values[0]) if largest else values
    nearest_first = np.argsort(hi, axis=1, kind="stable")
    enough = np.cumsum(counts[nearest_first], axis=1) >= wanted
    at = np.argmax(enough, axis=1)[:, None]
    worst = np.take_along_axis(np.take_along_axis(hi, nearest_first, 1), at, 1)
    worst = np.where(enough.any(1, keepdims=True), worst, np.inf)
    return ~(lo > worst)


def _largest_row_sum(expr: Expr, axis: int, arguments: Arguments, units: Mapping[Expr, Interval]) -> float:
    """A lower bound of the largest row sum of |K|: that of some rows, for the vector of ones."""
    kept, size = ("Vi", arguments.M) if axis == 1 else ("Vj", arguments.N)
    rows = np.sort(np.random.default_rng(0).choice(size, min(size, PROBED_ROWS), replace=False))
    ones = {v: const(1.0, v.dim) for v in units}
    value = apply("Abs", substitute(expr, ones))
    if not value.vars:
        return float(value.value) if value.op == "Const" else 0.0
    sampled = permute_rows(arguments, {v.position: rows for v in value.vars if v.op == kept})
    M, N = (len(rows), arguments.N) if axis == 1 else (arguments.M, len(rows))
    sampled = sampled._replace(M=M, N=N)
    dtype = compute_dtype(arguments.dtype)  # float16 would round the sum
    sums = Reduction(value, "Sum", axis)(sampled, dtype)
    each = sums.astype(np.float64).max(axis=(-2, -1), initial=0.0)
    return float(np.min(each)) * (1 - ROUNDED) if np.isfinite(each).all() else 0.0
