"""Checks of what both doors take besides formulas and arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from inspect import Parameter, signature
from typing import Any, TypeVar

import numpy as np

from ..arrays.arguments import unwrap_whole
from ..errors import ArgumentError, KeywordError
from ..formula.tokens import nearest
from ..reductions.kinds import SUM_SCHEMES
from ..solvers.options import SolveOptions

IGNORED = ("cuda_type", "enable_chunks", "rec_multVar_highdim", "use_fast_math")  # accepted for old scripts
DTYPE_ACC = ("auto", "float16", "float32", "float64")


Function = TypeVar("Function", bound=Callable[..., Any])


def takes_options(*left_out: str) -> Callable[[Function], Function]:
    """A decorator for functions that end in ``**options``, which are those of a solve but for some.

    It writes the options into the signature, where help() and editors look for them.
    """

    def with_signature(function: Function) -> Function:
        """The function, with the options of a solve in its signature."""
        given = signature(function)
        own = [p for p in given.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        options = [
            Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
            for f in fields(SolveOptions)
            if f.name not in left_out
        ]
        function.__signature__ = given.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
        return function

    return with_signature


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
    axis = unwrap_whole(axis)
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


def check_probes(n_probes: Any) -> int:
    """At least 4: a standard error comes from their spread."""
    if isinstance(n_probes, bool) or not isinstance(n_probes, (int, np.integer)) or n_probes < 4:
        raise ArgumentError(f"n_probes: wanted a whole number of at least 4, got {n_probes!r}")
    return min(int(n_probes), 1 << 62)  # more than there are rows are as many
