"""KernelEntries: K entry by entry, in float64, as preconditioners and direct solves want it (solvers/entries.py)."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from ..arrays.arguments import Arguments, compute_dtype
from ..formula.cached import cached_property
from ..formula.defined import call
from ..formula.expr import Expr, apply, const, substitute, variable
from ..ranges import Ranges
from ..ranges.clusters import scale_near_one
from ..reductions.pairs import evaluate_all_pairs, pair_work
from ..reductions.reduction import Reduction
from .kernel_product import KernelProduct

NUMBERS_AT_ONCE = 1 << 22  # numbers of gathered points, and entries, that a step takes: 32 MiB each
LEAST_COLUMNS_COUNTED = 256  # a block of fewer columns takes the memory of so many
TRIANGLE = 512  # rows that meet the columns up to their last one: half of all pairs, if there are many points
PROBED_ENTRIES = (64, 512)  # rows and columns on which the decrease of K with the distance is looked at
NEAREST = 32  # points next to each of these rows, on which it is looked at too
GROWTH = 1e-9  # share of the largest entry by which an entry may exceed that of a nearer point
DROPPED = 1e-3  # the same if ranges leave some out, which may be as large
FLOAT64 = np.dtype(np.float64)


class KernelEntries:
    """The entries of a square, symmetric K without batch dimensions; solvers/entries.py says what each name means."""

    def __init__(self, product: KernelProduct) -> None:
        self.product = product
        self.points = product.points[0]
        self.width = 1 if product.form.kernel is not None else product.form.unknown.dim
        self.n = self.points * self.width

    @cached_property
    def work(self) -> float:
        """Work of evaluating an entry, in the units of `pair_work`."""
        form = self.product.form
        return pair_work(form.expr if form.kernel is None else form.columns(1), form.axis) / self.width**2

    @property
    def semidefinite(self) -> bool:
        """Whether K is proved to be positive semidefinite."""
        return self.product.ranges is None and self.product.semidefinite

    @cached_property
    def density(self) -> float:
        """The share of the entries that ranges keep."""
        ranges = self.product.ranges
        return 1.0 if ranges is None else ranges.density(*self.product.points)

    def diagonal(self) -> np.ndarray:
        """The diagonal of K, (n,) float64, read-only."""
        return self._diagonal

    @cached_property
    def _diagonal(self) -> np.ndarray:
        """For the size of A, and again for what is built."""
        points = np.arange(self.points)
        found: np.ndarray = np.einsum("pdd->pd", self.product.entries(points, points, FLOAT64)).reshape(-1)
        found.setflags(write=False)
        return found

    def columns(self, J: np.ndarray, first: int = 0, dtype: Any = FLOAT64) -> np.ndarray:
        """K[first:, J], (n - first, k)."""
        J = np.asarray(J)
        if self.width == 1:  # rows of K, each written in one piece: columns, as K is symmetric
            return self._pairwise(J, np.arange(first, self.points), dtype)[:, :, 0, 0].T
        every = np.arange(self.points)
        points, where = np.unique(J // self.width, return_inverse=True)
        found = self._pairwise(every, points, dtype)[:, where, :, J % self.width]  # (k, points, width)
        return found.reshape(len(J), self.n).T[first:]

    def blocks(self, I: np.ndarray) -> np.ndarray:
        """K[I[p]][:, I[p]] for I of shape (P, m): shape (P, m, m)."""
        I = np.asarray(I)
        (P, m), w = I.shape, self.width
        out = np.empty((P, m, m))
        numbers = max(m * m * w * w, LEAST_COLUMNS_COUNTED * (1 + sum(v.dim for v in self.product.form.expr.vars)))
        step = max(1, NUMBERS_AT_ONCE // numbers)
        for first in range(0, P, step):
            part = I[first : first + step]
            found = self._pairwise(part // w, part // w)
            p, i, j = np.ogrid[: len(part), :m, :m]
            out[first : first + step] = found[p, i, j, (part % w)[:, :, None], (part % w)[:, None, :]]
        return out

    def _pairwise(self, I: np.ndarray, J: np.ndarray, dtype: Any = FLOAT64) -> np.ndarray:
        """The blocks of points I and J, indices (..., r) of the result's and (..., c): (..., r, c, width, width)."""
        p = self.product
        i, j = (I, J) if p.form.axis == 1 else (J, I)
        arguments = self._gather(i, j)
        each = [evaluate_all_pairs(e, arguments, None, np.dtype(dtype)) for e in self._kernels]
        found = each[0][..., None] if len(each) == 1 else np.stack(each, axis=-1)
        if p.ranges is not None:
            held = p.ranges.contains(i[..., :, None], j[..., None, :])[..., None, None]
            np.copyto(found, 0.0, where=~held)  # not by a product: outside, an entry may be infinite or nan
        return found if p.form.axis == 1 else np.swapaxes(found, -3, -4)

    def _gather(self, i: np.ndarray, j: np.ndarray) -> Arguments:
        """The arrays at points i and j; what comes before the last axis of these is a batch."""
        p, index = self.product, {"Vi": i, "Vj": j}
        arrays: list[np.ndarray | None] = [None] * len(p.host.arrays)
        for v in p.form.expr.vars:
            if v is not p.form.unknown:
                a = p.host.arrays[v.position]
                arrays[v.position] = a[index[v.op]] if v.op in index else a.reshape(*(1,) * (i.ndim - 1), *a.shape)
        return Arguments(tuple(arrays), p.arguments.dtype, i.shape[:-1], i.shape[-1], j.shape[-1])

    @cached_property
    def _kernels(self) -> list[Expr]:
        """The kernel, or its columns, one for each component of the unknown."""
        p = self.product
        if p.form.kernel is not None:
            return [p.form.kernel]
        units = [call("ElemT", const(1.0), params=(p.form.unknown.dim, d)) for d in range(p.form.unknown.dim)]
        return [substitute(p.form.expr, {p.form.unknown: unit}) for unit in units]

    # ---- who is near whom ----

    @cached_property
    def coordinates(self) -> np.ndarray | None:
        """The points, if sampled rows of K decrease with the distance, else None; an error only costs iterations."""
        p = self.product
        others = [v for v in p.form.expr.vars if v.op != "Pm" and v is not p.form.unknown]
        if self.width > 1 or sorted(v.op for v in others) != ["Vi", "Vj"]:
            return None
        x, y = (p.host.arrays[v.position] for v in others)
        if not self.n or x.shape != y.shape or not (np.array_equal(x, y) and np.isfinite(x).all()):
            return None
        x = x.astype(np.float64)
        draw = np.random.default_rng(0)
        I, J = (np.sort(draw.choice(self.points, min(self.points, k), replace=False)) for k in PROBED_ENTRIES)
        y = scale_near_one(x)
        near = cKDTree(y).query(y[I], min(NEAREST, self.points))[1].reshape(len(I), -1)
        near = np.where(near < self.points, near, I[:, None])  # itself where nothing else is at a finite distance
        chosen = np.sort(np.concatenate([near, np.broadcast_to(J, (len(I), len(J)))], axis=1), axis=1)
        with np.errstate(over="ignore"):
            order = np.argsort(((y[I, None] - y[chosen]) ** 2).sum(-1), axis=1, kind="stable")
        entries = np.abs(self._pairwise(I[:, None], np.take_along_axis(chosen, order, 1))[:, 0, :, 0, 0])
        allowed = (GROWTH if p.ranges is None else DROPPED) * entries.max()
        return x if (np.diff(entries, axis=1) <= allowed).all() else None  # false for nan

    def neighbours(self, rank: np.ndarray, count: int) -> np.ndarray:
        """For each point its most correlated points of smaller rank, by one reduction; see `Entries`."""
        if not self.n or not count:
            return np.empty((self.points, count), np.int64)
        ranges, order = self.product.ranges, np.arange(self.points)
        if ranges is None:  # sorted by rank, those of smaller rank are the columns to the left
            ranges, order = _triangle(self.points), np.argsort(rank)
        elif self.product.form.axis == 0:
            ranges = ranges.T
        correlation, arguments = self._correlation(np.asarray(rank)[order], order)
        nearest = Reduction(correlation, "KMin_ArgKMin", 1, opt_arg=count, ranges=ranges)
        values, found = nearest(arguments)
        out: np.ndarray = np.empty_like(found)
        out[order] = np.where(values < 0, order[found], -1)
        return out

    def _correlation(self, rank: np.ndarray, order: np.ndarray) -> tuple[Expr, Arguments]:
        """-|k_ij| / sqrt(k_ii k_jj) if j has the smaller rank, else 0, as a formula; and its arrays, in an order."""
        p = self.product
        at = len(p.host.arrays)
        ranks, scales = ([variable(kind, at + 2 * q + k, 1) for k, kind in enumerate(("Vi", "Vj"))] for q in (0, 1))
        squares = reduce(lambda f, g: apply("Add", f, g), (call("SqNorm2", k) for k in self._kernels))
        size = apply("Abs", self._kernels[0]) if self.width == 1 else apply("Sqrt", squares)
        scaled = apply("Mult", apply("Minus", size), apply("Mult", *scales))
        earlier = apply("Subtract", apply("Subtract", *ranks), const(0.5))
        value = call("IfElse", earlier, scaled, const(0.0))

        own = np.abs(p.entries(order, order, FLOAT64))
        top = np.where(own > 0, own, 1.0).max(axis=(1, 2), keepdims=True)
        own = np.sqrt(top[:, 0, 0] * np.sqrt(((own / top) ** 2).sum(axis=(1, 2))))
        scale = np.divide(1.0, own, out=np.zeros_like(own), where=own > 0)
        arguments = self._gather(order, order)
        dtype = compute_dtype(arguments.dtype)
        more = [a[:, None].astype(dtype) for a in (rank, rank, scale, scale)]
        return value, Arguments((*arguments.arrays, *more), dtype, (), self.points, self.points)


def _triangle(points: int) -> Ranges:
    """Blocks of rows with the columns up to their last one."""
    ends = np.minimum(np.arange(0, points + TRIANGLE, TRIANGLE), points)
    clusters = np.stack([ends[:-1], ends[1:]], axis=1)
    clusters = clusters[clusters[:, 0] < clusters[:, 1]]
    return Ranges.from_mask(clusters, clusters, np.tri(len(clusters), dtype=bool))
