"""kernelops: solves (alpha I + K) a = b where K is a kernel matrix written as a formula and never stored.

`KernelOperator` is a SciPy linear operator, `cg` and `solve` solve with it; `kernelops.numpy` and `kernelops.torch`
hold LazyTensor, Genred and KernelSolve for arrays and for tensors.
"""

from importlib import import_module as _import_module

from .backends import available_backends
from .errors import (
    ArgumentError,
    BackendError,
    ConvergenceWarning,
    DtypeError,
    FormulaError,
    KeywordError,
    MissingExtraError,
    RangesError,
    ShapeError,
    SolveError,
)
from .operators import former as _former
from .operators.linear_operator import KernelOperator
from .ranges import Ranges
from .solvers import Solution, SolveState, cg, solve

__version__ = "0.1.0"

_former.register()

__all__ = [
    "ArgumentError",
    "BackendError",
    "ConvergenceWarning",
    "DtypeError",
    "FormulaError",
    "KernelOperator",
    "KeywordError",
    "MissingExtraError",
    "Ranges",
    "RangesError",
    "ShapeError",
    "Solution",
    "SolveError",
    "SolveState",
    "available_backends",
    "cg",
    "solve",
]


def __getattr__(name: str):  # type: ignore[no-untyped-def]
    if name in ("numpy", "torch"):  # the front doors, loaded when they are first asked for
        return _import_module(f"kernelops.{name}")
    raise AttributeError(f"module 'kernelops' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "numpy", "torch"])
