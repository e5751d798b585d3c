"""Reductions and solves as text, which stands for them in the graphs that torch records.

An operator of ``torch.library`` takes tensors, numbers and strings. So all of a reduction but its arrays is written as
text, and read where the operator runs, which may be in another process: torch keeps graphs in files. The text is JSON.
It lists the operations of the formula, one after another, and holds nothing that is executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any

import numpy as np

from ..formula.expr import Expr, apply, const, topological, variable
from ..formula.ops import VARIABLES
from ..operators.system import SolveSpec
from ..reductions.reduction import Reduction
from ..solvers.options import SolveOptions

# what else a text has of a Reduction and of a SolveSpec, as it stands there
_OF_REDUCTION = ("op", "axis", "opt_arg", "dtype_acc", "sum_scheme", "parts")
_OF_SOLVE = ("dtype_acc", "sum_scheme", "lost", "wide")
_OBJECTS = ("M", "state", "callback")  # options that no text can hold


def text_of(spec: Reduction | SolveSpec) -> str | None:
    """The text of a reduction or of a solve; None for one that has what no text can hold.

    The numbers of rows (``sizes``) and the state of a solve are left out.
    """
    options = spec.options if isinstance(spec, SolveSpec) else None
    if spec.ranges is not None or spec.device is not None or (options is not None and not _is_plain(options)):
        return None
    second = spec.unknown if isinstance(spec, SolveSpec) else spec.weight
    roots = [spec.expr, *spec.variables, *([] if second is None else [second])]
    nodes = list(topological(*roots))
    place = {id(node): k for k, node in enumerate(nodes)}
    names = [[place[id(v)], name] for v, name in spec.names.items() if id(v) in place]
    found: dict[str, Any] = {
        "nodes": [[node.op, [place[id(a)] for a in node.args], node.params, node.dim] for node in nodes],
        "expr": place[id(spec.expr)],
        "second": None if second is None else place[id(second)],
        "variables": [place[id(v)] for v in spec.variables],
        "names": names,
        "dtype": None if spec.dtype is None else spec.dtype.name,
    }
    found |= {name: getattr(spec, name) for name in (_OF_REDUCTION if options is None else _OF_SOLVE)}
    if options is not None:
        found["options"] = {f.name: getattr(options, f.name) for f in fields(options) if f.name not in _OBJECTS}
    return json.dumps(found, separators=(",", ":"), default=_number)


@lru_cache(maxsize=4096)
def reduction_of(text: str) -> Reduction:
    """The reduction that a text stands for."""
    read = json.loads(text)
    nodes, common = _read_common(read)
    weight = None if read["second"] is None else nodes[read["second"]]
    read["parts"] = tuple(read["parts"])
    return Reduction(**common, weight=weight, **{name: read[name] for name in _OF_REDUCTION})


@lru_cache(maxsize=4096)
def solve_of(text: str) -> SolveSpec:
    """The solve that a text stands for."""
    read = json.loads(text)
    nodes, common = _read_common(read)
    options = SolveOptions(**read["options"])
    return SolveSpec(
        **common, unknown=nodes[read["second"]], options=options, **{name: read[name] for name in _OF_SOLVE}
    )


def _is_plain(options: SolveOptions) -> bool:
    """Whether all of the options are words and numbers. (The state that is made for every solve is left out.)"""
    return options.M is None and options.callback is None and (options.x0 is None or isinstance(options.x0, str))


def _number(a: Any) -> Any:
    """A number of numpy as one of Python."""
    if isinstance(a, np.generic):
        return a.item()
    raise TypeError(f"a text cannot hold {type(a).__name__}")


def _read_common(read: Mapping[str, Any]) -> tuple[list[Expr], dict[str, Any]]:
    """The nodes of a text, and what reductions and solves both have."""
    nodes: list[Expr] = []
    for op, operands, params, dim in read["nodes"]:
        if op in VARIABLES:
            nodes.append(variable(op, params[0], dim))
        elif op == "Const":
            nodes.append(const(params[0], dim))
        else:
            nodes.append(apply(op, *(nodes[k] for k in operands), params=_tuples(params)))
    return nodes, {
        "expr": nodes[read["expr"]],
        "variables": tuple(nodes[k] for k in read["variables"]),
        "names": {nodes[k]: name for k, name in read["names"]},
        "dtype": None if read["dtype"] is None else np.dtype(read["dtype"]),
    }


def _tuples(a: Any) -> Any:
    return tuple(map(_tuples, a)) if isinstance(a, list) else a
