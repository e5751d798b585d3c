"""The functions of pykeops that set things up, say what is there, and read aliases."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..arrays.arguments import is_scalar
from ..backends import available_backends, installed_version
from ..errors import ArgumentError
from ..formula.ops import VARIABLES
from ..formula.parse import parse_alias
from ..gpu import cache

_FOLDER = "KERNELOPS_CACHE_DIR"  # the variable that says where compiled kernels are kept
categories = {kind: place for place, kind in enumerate(VARIABLES)}


def clean_pykeops(recompile_jit_binaries: bool = True) -> None:
    """Do nothing: there is nothing that could be out of date.

    Parameters
    ----------
    recompile_jit_binaries : bool
        Without effect.
    """


def get_build_folder() -> str:
    """The folder of the compiled kernels of a GPU; on the CPU nothing is compiled. Empty if there is none.

    Returns
    -------
    str
    """
    folder = cache.folder()
    return "" if folder is None else str(folder)


def set_build_folder(path: str | os.PathLike[str] | None = None) -> None:
    """Keep the compiled kernels of a GPU in another folder.

    Parameters
    ----------
    path : str or path, optional
        The folder; by default that of the user's caches.
    """
    if path is None:
        os.environ.pop(_FOLDER, None)
    else:
        os.environ[_FOLDER] = os.fspath(path)


set_bin_folder = set_build_folder  # its former name


def _verbose() -> bool:
    return bool(getattr(sys.modules.get("pykeops"), "verbose", True))


def set_verbose(val: bool) -> None:
    """Have the messages of pykeops.common.utils printed, or not.

    Parameters
    ----------
    val : bool
    """
    for name in ("pykeops", "keopscore"):
        if name in sys.modules:
            sys.modules[name].verbose = val  # type: ignore[attr-defined]


def pyKeOps_Print(message: str, **options: Any) -> None:
    """Print a message, unless set_verbose(False) has been called; the options are those of print."""
    if _verbose():
        print(message, **options)


def pyKeOps_Message(message: str, use_tag: bool = True, **options: Any) -> None:
    """Print a message behind "[pyKeOps] "."""
    pyKeOps_Print(("[pyKeOps] " if use_tag else "") + message, **options)


def pyKeOps_Warning(message: str) -> None:
    """Print a message behind "[pyKeOps] Warning : "."""
    pyKeOps_Message("Warning : " + message)


def check_health(config_type: str = "all") -> None:
    """Print which backends can be used; ``python -m kernelops.doctor`` says more.

    Parameters
    ----------
    config_type : str
        Without effect.
    """
    print(f"kernelops {installed_version('kernelops')} in place of pykeops; python -m kernelops.doctor says more")
    for name, backend in available_backends().items():
        print(f"  {name}: {'usable' if backend.usable else 'not usable'}: {backend.why}")


def _test_bindings(half: str, as_array: Any) -> None:
    x, y = np.arange(1.0, 10.0).reshape(3, 3), np.arange(3.0, 9.0).reshape(2, 3)
    wanted = ((x[:, None] - y) ** 2).sum(2).sum(0)
    found = import_module(f"kernelops.compat.{half}").Genred("SqNorm2(x - y)", ["x = Vi(3)", "y = Vj(3)"])(
        as_array(x), as_array(y)
    )
    well = np.allclose(np.asarray(found)[:, 0], wanted)
    pyKeOps_Message(f"pyKeOps with {half} bindings is {'working' if well else 'NOT working'}!", use_tag=False)


def test_numpy_bindings() -> None:
    """Print whether a small formula gives what it ought to, by arrays of numpy."""
    _test_bindings("numpy", np.asarray)


def test_torch_bindings() -> None:
    """Print whether a small formula gives what it ought to, by tensors of PyTorch."""
    if find_spec("torch") is None:
        pyKeOps_Message("PyTorch is not installed", use_tag=False)
        return
    _test_bindings("torch", import_module("torch").from_numpy)


test_numpy_bindings.__test__ = test_torch_bindings.__test__ = False  # type: ignore[attr-defined]  # says pytest


def WarmUpGpu(lang: str = "numpy") -> None:
    """Do nothing: kernels are compiled when a formula is first used, and kept.

    Parameters
    ----------
    lang : {"numpy", "torch"}
        Without effect.
    """


def axis2cat(axis: int) -> int:
    """The category of the variables that a reduction over this axis leaves: 1 for 0, 0 for 1."""
    if not is_scalar(axis) or axis not in (0, 1):
        raise ArgumentError(f"axis: wanted 0 or 1, got {axis!r}")
    return 1 - int(axis)


cat2axis = axis2cat  # its own inverse


def max_tuple(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    """The larger of two numbers, place by place."""
    return tuple(map(max, a, b))


def check_broadcasting(dims_1: tuple[int, ...] | None, dims_2: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The shape that two batch shapes broadcast to; None stands for no batch.

    Raises
    ------
    ValueError
        If they do not fit.
    """
    if dims_1 is None or dims_2 is None:
        return dims_2 if dims_1 is None else dims_1
    return np.broadcast_shapes(dims_1, dims_2)


def get_type(type_str: str, position_in_list: int | None = None) -> tuple[str | None, int, int, int | None]:
    """Name, category, length and position of the variable that an alias declares.

    Parameters
    ----------
    type_str : str
        An alias, as in "x = Vi(3)" or "x = Vi(0, 3)", or a variable without a name.
    position_in_list : int, optional
        The position if the alias does not say it.

    Returns
    -------
    tuple
        (name or None, category 0, 1 or 2, length, position or None)

    Raises
    ------
    FormulaError
        If the alias cannot be read.
    """
    named = "=" in type_str
    alias = type_str if named else f"x = {type_str}"
    (name, found), (_, other) = (parse_alias(alias, place) for place in (0, 1))
    position = found.position if found is other else position_in_list  # what is not given follows the place
    return name if named else None, categories[found.op], found.dim, position


def get_sizes(aliases: Sequence[str], *args: Any) -> tuple[int, int]:
    """The numbers of rows i and j of the arguments; 1 if no argument has such rows.

    Parameters
    ----------
    aliases : sequence of str
    *args : array
    """
    rows: dict[int, int] = {}
    for place, alias in enumerate(aliases):
        _, category, _, position = get_type(alias, place)
        if category < 2 and position is not None:
            rows.setdefault(category, args[position].shape[-2])
    return rows.get(0, 1), rows.get(1, 1)


__all__ = [
    "check_health",
    "clean_pykeops",
    "get_build_folder",
    "set_bin_folder",
    "set_build_folder",
    "set_verbose",
    "test_numpy_bindings",
    "test_torch_bindings",
]
