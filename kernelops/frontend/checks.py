"""Checks of what both doors take besides formulas and arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np

from ..errors import ArgumentError, KeywordError
from ..formula.tokens import nearest
from ..reductions.kinds import SUM_SCHEMES

IGNORED = ("cuda_type", "enable_chunks", "rec_multVar_highdim", "use_fast_math")  # accepted for old scripts
DTYPE_ACC = ("auto", "float16", "float32", "float64")


def check_keywords(
    function: Callable[..., Any],
    keywords: Mapping[str, Any],
    ignored: Sequence[str] = (),
    call: Callable[..., Any] | None = None,
) -> None:
    """Refuse keywords that a function has no parameter for and that are not on the list of the ignored ones.

    Those that belong to the call of what is made, not to its making, are told where they go.
    """
    for name in keywords:
        if name not in ignored:
            known = [p.name for p in signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
            owner = function.__qualname__.removesuffix(".__init__").replace(".__call__", "(...)")
            also = f" (ignored for old scripts are {', '.join(ignored)})" if ignored else ""
            if call is not None and name in signature(call).parameters:
                raise KeywordError(
                    f"{owner} has no keyword {name!r}: it goes to the call, {owner}(...)(..., {name}=...)"
                )
            raise KeywordError(f"{owner} has no keyword {name!r}{also}{nearest(name, known[1:])}")


def check_axis(axis: Any) -> int:
    """0 or 1."""
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)) or axis not in (0, 1):
        raise ArgumentError(f"axis: wanted 1 (reduce over j) or 0 (reduce over i), got {axis!r}")
    return int(axis)


def check_accumulator(dtype_acc: Any, use_double_acc: Any, sum_scheme: Any) -> str:
    """dtype_acc, or what use_double_acc says in its place."""
    if dtype_acc not in DTYPE_ACC:
        raise ArgumentError(f"dtype_acc: wanted one of {', '.join(DTYPE_ACC)}, got {dtype_acc!r}")
    if sum_scheme not in SUM_SCHEMES:
        raise ArgumentError(f"sum_scheme: wanted one of {', '.join(SUM_SCHEMES)}, got {sum_scheme!r}")
    if not isinstance(use_double_acc, (bool, int, np.bool_)):
        raise ArgumentError(f"use_double_acc: wanted True or False, got {use_double_acc!r}")
    if use_double_acc and dtype_acc != "auto":
        raise KeywordError(f'use_double_acc=True means dtype_acc="float64"; dtype_acc = {dtype_acc!r} was given too')
    return "float64" if use_double_acc else dtype_acc


def check_on_fail(on_fail: Any) -> None:
    """One of the three words."""
    if on_fail not in ("warn", "raise", "ignore"):
        raise ArgumentError(f'on_fail must be "warn", "raise" or "ignore", got {on_fail!r}')


def check_probes(n_probes: Any) -> int:
    """At least 4: a standard error comes from their spread."""
    if isinstance(n_probes, bool) or not isinstance(n_probes, (int, np.integer)) or n_probes < 4:
        raise ArgumentError(f"n_probes: wanted a whole number of at least 4, got {n_probes!r}")
    return min(int(n_probes), 1 << 62)  # more than there are rows are as many
