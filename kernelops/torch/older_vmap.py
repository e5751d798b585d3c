"""Functions that torch's older vmap can map too, which is behind ``is_grads_batched`` and ``vectorize``.

Its tensors pass for tensors of the shape that one element has, until their numbers are asked for. torch.func's vmap
never shows its own to a Function, whose vmap rule it calls; here the rule is called for the older one.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch.autograd import forward_ad


class Function(torch.autograd.Function):
    """A Function with a vmap rule for both.

    Nothing is looked at until the numbers of a tensor cannot be had: then torch raises a RuntimeError. (It is too late
    in forward, where no graph is made.)
    """

    @classmethod
    def apply(cls, *args: Any) -> Any:
        try:
            return cls.forward(*args) if _is_plain(args) else super().apply(*args)
        except RuntimeError:
            if not any(map(_is_mapped, args)):
                raise
        return _by_rule(cls, args)


def _is_plain(args: tuple[Any, ...]) -> bool:
    """Whether nothing will be derived or mapped, so that forward is all there is to do, without torch's apply."""
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return False
    return not (torch.is_grad_enabled() and any(isinstance(a, torch.Tensor) and a.requires_grad for a in args))


def _is_mapped(a: Any) -> bool:
    return isinstance(a, torch.Tensor) and torch._C._functorch.is_legacy_batchedtensor(a)


def _by_rule(function: type[Function], args: tuple) -> Any:
    """The results of a Function by its vmap rule, mapped as the arguments are."""
    mapped = [_is_mapped(a) for a in args]
    level = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    # a tensor that only another level maps gets a dimension of length 1, which broadcasts
    whole = [torch._remove_batch_dim(a, level, 1, 0) if m else a for a, m in zip(args, mapped, strict=True)]
    size = max(a.shape[0] for a, m in zip(whole, mapped, strict=True) if m)
    torch._C._vmapmode_decrement_nesting()
    try:  # outside of this level
        info = SimpleNamespace(batch_size=size, randomness="error")
        found, dims = function.vmap(info, tuple(0 if m else None for m in mapped), *whole)
    finally:
        torch._C._vmapmode_increment_nesting()
    if not isinstance(found, tuple):
        return _back(found, dims, size, level)
    return tuple(_back(t, d, size, level) for t, d in zip(found, dims, strict=True))


def _back(t: torch.Tensor, d: int | None, size: int, level: int) -> torch.Tensor:
    """A result, mapped again; at its dimension all have the length of the map. What is not mapped stays so."""
    if d is None:
        return t
    t = t.movedim(d, 0)
    return torch._add_batch_dim(t.expand(size, *t.shape[1:]), 0, level)
