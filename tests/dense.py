"""The reductions of a dense (..., M, N, D) array under a mask, one line of NumPy each."""

import numpy as np


def _columns_last(values, mask, axis):
    """Values (..., rows, D, columns) and the mask (rows, columns)."""
    moved = np.moveaxis(values, -3 + axis, -1)
    mask = np.ones(values.shape[-3:-1], bool) if mask is None else mask
    return moved, (mask if axis == 1 else mask.T)[:, None, :]


def order(values, mask, axis, largest=False, nan_first=False):
    """Sorted values and their indices, (..., rows, D, columns): ties to the earlier index, masked ones last."""
    moved, keep = _columns_last(values, mask, axis)
    keep = np.broadcast_to(keep, moved.shape)
    rank = np.where(np.isnan(moved), -1 if nan_first else 1, 0)
    key = np.where(np.isnan(moved), 0, -moved if largest else moved)
    at = np.lexsort((np.where(keep, key, 0), np.where(keep, rank, 0), ~keep), axis=-1)
    held = np.take_along_axis(keep, at, -1)
    empty = -np.inf if largest else np.inf
    return np.where(held, np.take_along_axis(moved, at, -1), empty), np.where(held, at, -1)


def best(values, mask, axis, K, largest=False, nan_first=False):
    """The K first values and their indices, (..., rows, K, D); where there are fewer, infinity and -1."""
    empty = -np.inf if largest else np.inf
    found = []
    for a, filler in zip(order(values, mask, axis, largest, nan_first), (empty, -1), strict=True):
        short = max(K - a.shape[-1], 0)
        a = np.pad(a[..., :K], [(0, 0)] * (a.ndim - 1) + [(0, short)], constant_values=filler)
        found.append(np.swapaxes(a, -1, -2))
    return tuple(found)


def logsumexp(values, weights, mask, axis):
    """log of the sum of weights*exp(values), (..., rows, D of the weights); -inf where nothing is met."""
    moved, keep = _columns_last(values.astype(np.longdouble), mask, axis)
    moved = np.where(keep, moved, -np.inf)
    top = moved.max(-1, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    weights = np.where(
        keep, _columns_last(np.broadcast_to(weights, values.shape[:-1] + weights.shape[-1:]), None, axis)[0], 0
    )
    with np.errstate(all="ignore"):
        terms = np.where(keep, weights * np.exp(moved - top), 0)
        return np.log(terms.sum(-1)) + top[..., 0]


def softmax(values, weights, mask, axis):
    """The mean of the weights under the softmax of the values; 0 where nothing is met."""
    moved, keep = _columns_last(values.astype(np.longdouble), mask, axis)
    top = np.where(keep, moved, -np.inf).max(-1, keepdims=True, initial=-np.inf)
    with np.errstate(all="ignore"):
        share = np.where(keep, np.exp(moved - np.where(np.isfinite(top), top, 0)), 0)
        weights = _columns_last(np.broadcast_to(weights, values.shape[:-1] + weights.shape[-1:]), None, axis)[0]
        mean = (share * np.where(keep, weights, 0)).sum(-1) / share.sum(-1)
    return np.where(keep.any(-1), mean, 0)


def summed(values, mask, axis):
    moved, keep = _columns_last(values.astype(np.longdouble), mask, axis)
    return np.where(keep, moved, 0).sum(-1)


def reduce(op, values, axis, mask=None, weights=None, K=1):
    """What a reduction of the language gives: an array or two."""
    if op == "Sum":
        return summed(values, mask, axis)
    if op in ("LogSumExp", "LogSumExpWeight"):
        return logsumexp(values, np.ones(1) if weights is None else weights, mask, axis)
    if op in ("SoftMax", "SumSoftMaxWeight"):
        return softmax(values, weights, mask, axis)
    many = "KMin" in op
    found, indices = best(values, mask, axis, K if many else 1, largest="Max" in op, nan_first=not many)
    if not many:
        found, indices = found[..., 0, :], indices[..., 0, :]
    elif found.shape[-1] == 1:
        found, indices = found[..., 0], indices[..., 0]
    if op.startswith("Arg"):
        return indices
    return found if "_" not in op else (found, indices)
