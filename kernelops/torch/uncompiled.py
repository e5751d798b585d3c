"""What torch.compile does not look into: our functions run as they are, compiled parts end and begin there.

Python code that makes and checks formulas is nothing to compile, and the work is done by the engine. Of calls that a
graph can hold torch.compile sees an operator (compiled.py), and does not come here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from inspect import getattr_static
from typing import Any

import torch

Function = Callable[..., Any]


def leave_uncompiled(owner: Any, *names: str) -> None:
    """Have torch.compile leave functions of a class or module alone, with all that they call.

    The marks are on the functions and on their code, so that a call costs nothing more and torch's compiler, which
    takes seconds to import, is imported by nobody who does not compile.
    """
    for name in names:
        found = getattr_static(owner, name)
        kind = type(found) if isinstance(found, (staticmethod, classmethod)) else None
        function = found if kind is None else found.__func__
        if not _code_is_skipped(function.__code__):
            function = _disabled_when_compiling(function)
            setattr(owner, name, function if kind is None else kind(function))
        _mark(function)


def _mark(function: Any) -> None:
    """Have torch.compile, where it compiles a caller, break the graph at a function."""
    function._torchdynamo_disable = True
    function._torchdynamo_disable_msg = "kernelops: no graph holds this call, or what was given is wrong"


def leave_class_uncompiled(owner: type, looked_into: str = "") -> None:
    """Have torch.compile leave alone all methods and properties of a class and of its bases in this package.

    One method of the class itself may be looked into.
    """
    for base in owner.__mro__:
        if base.__module__.startswith("kernelops."):
            for name, found in list(vars(base).items()):
                if base is owner and name == looked_into:
                    compile_within_callers(owner, name)
                elif isinstance(found, property):
                    for function in filter(None, (found.fget, found.fset)):
                        _mark(function)
                        _code_is_skipped(function.__code__)
                elif inspect.isfunction(found) or isinstance(found, (staticmethod, classmethod)):
                    leave_uncompiled(base, name)


def compile_within_callers(owner: type, name: str) -> None:
    """Have torch.compile look into a method where it compiles a caller, but not compile the method by itself.

    After a graph break the method would else be compiled once more, to no end.
    """
    found = getattr_static(owner, name)
    _code_is_skipped((found.__func__ if isinstance(found, staticmethod) else found).__code__)


def _code_is_skipped(code: Any) -> bool:
    """Whether this torch takes the mark that a frame of this code, and what it calls, is not to be compiled."""
    try:
        from torch._C._dynamo import eval_frame

        skip = eval_frame._FrameAction.SKIP
        eval_frame.set_code_exec_strategy(code, eval_frame._FrameExecStrategy(skip, skip))
    except (ImportError, AttributeError, TypeError):
        return False
    return True


def _disabled_when_compiling(function: Function) -> Function:
    """The function, called with the compiler off where it has been imported."""

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        return torch.compiler.disable(function)(*args, **kwargs)

    return called
