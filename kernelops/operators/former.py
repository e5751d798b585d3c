"""Names of modules of version 0.1.0 that have moved: its pickles hold them, and find here what they named."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from ..reductions.reduction import Reduction
from . import linear_operator
from .system import SolveSpec

# module -> what pickles ask it for
MODULES: dict[str, dict[str, Any]] = {
    "linear_operator": {"_rebuilt": linear_operator._rebuilt, "KernelOperator": linear_operator.KernelOperator},
    "specs": {"ReduceSpec": Reduction, "SolveSpec": SolveSpec},
}


def register() -> None:
    """Let the former modules be imported under their names."""
    package = __name__.split(".")[0]
    for name, contents in MODULES.items():
        module = ModuleType(f"{package}.{name}", f"What {name} was in version 0.1.0; see {__name__}.")
        module.__dict__.update(contents)
        sys.modules.setdefault(module.__name__, module)
