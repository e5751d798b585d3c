"""LazyTensors as text: the steps that make one, and what these steps give for tensors or for stand-ins of them.

While torch.compile traces a function there are tensors without data, and a formula is no value that it can hold. It can
hold text: the code of a LazyTensor, in JSON, lists one after another the calls that made it. The code is carried out
with the tensors, or with stand-ins of the device meta, which have shapes and no data, by the methods of LazyTensor
itself. So the formula, the order of its variables and all checks are those of plain calls.

The functions marked constant are called while torch.compile traces, and take and return constants of Python alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch

from ..frontend import lazy
from ..frontend.lazy.reductions import Call
from .compiled import constant
from .spec_text import text_of

# The rows of stand-ins are this number and more: one for each number of rows that tensors have, to tell these apart.
FIRST_SIZE = 1 << 10
_FIRST_NUMBER = float(1 << 30) + 0.5  # numbers are told apart likewise, and are no constants of a formula
SURELY_HELD = 6e4  # every dtype holds a finite value near each number up to this one
_classes: dict[str, type] = {}


def connect(cls: type, complex_cls: type) -> None:
    """Have codes be carried out by a class of LazyTensors, and by one like it for stand-ins."""
    members = {"library": cls.library, "complex_class": complex_cls}  # type: ignore[attr-defined]
    _classes["real"] = cls
    _classes["stand-in"] = type("LazyTensor", (lazy.LazyTensor,), members)


@constant
def write(name: str, operands: tuple, keywords: tuple) -> str:
    """The code of a call: a method's name, or "" for the class; operands are pairs, keywords are names with them.

    Parameters
    ----------
    name : str
        A method of LazyTensor, called with the operands.
    operands : tuple
        ("code", (text, places)), of which tensor k becomes tensor places[k], ("tensor", k), ("number", k) or
        ("constant", value).
    keywords : tuple
        (name, operand) each.
    """
    steps: list[str] = []
    places: dict[str, int] = {}
    given = [_operand(a, steps, places) for a in operands]
    named = {key: _operand(a, steps, places) for key, a in keywords}
    _add([name, given, named], steps, places)
    return "[" + ",".join(steps) + "]"


def _operand(operand: tuple, steps: list[str], places: dict[str, int]) -> list[Any]:
    """An operand as it stands in a step; the steps of a code are added to those there are."""
    kind, value = operand
    if kind == "constant":
        return [kind, _write_constant(value)]
    if kind != "code":
        return [kind, value]
    text, tensors = value
    moved: list[int] = []

    def move(a: list[Any]) -> list[Any]:
        kind, value = a
        return [kind, moved[value] if kind == "step" else value if kind == "constant" else tensors[value]]

    for name, given, named in json.loads(text):
        step = [name, [move(a) for a in given], {key: move(a) for key, a in named.items()}]
        moved.append(_add(step, steps, places))
    return ["step", moved[-1]]


def _add(step: list[Any], steps: list[str], places: dict[str, int]) -> int:
    """The place of a step, which is added if it is not there."""
    written = json.dumps(step, separators=(",", ":"))
    if written not in places:
        places[written] = len(steps)
        steps.append(written)
    return places[written]


def _write_constant(value: Any) -> Any:
    if isinstance(value, slice):
        return {"slice": [value.start, value.stop, value.step]}
    if isinstance(value, tuple):
        return {"tuple": [_write_constant(v) for v in value]}
    if isinstance(value, list):
        return [_write_constant(v) for v in value]
    return {"ellipsis": 0} if value is Ellipsis else value


def _read_constant(value: Any) -> Any:
    if isinstance(value, list):
        return [_read_constant(v) for v in value]
    if not isinstance(value, dict):
        return value
    ((kind, found),) = value.items()
    if kind == "tuple":
        return tuple(_read_constant(v) for v in found)
    return slice(*found) if kind == "slice" else Ellipsis


def carry_out(code: str, tensors: Sequence[Any], number: Callable[[int], float], cls: type) -> Any:
    """What a code gives with these tensors, with a function for the numbers among them."""
    found: list[Any] = []

    def operand(a: list[Any]) -> Any:
        kind, value = a
        if kind == "constant":
            return _read_constant(value)
        return found[value] if kind == "step" else number(value) if kind == "number" else tensors[value]

    for name, given, named in json.loads(code):
        args, keywords = [operand(a) for a in given], {key: operand(a) for key, a in named.items()}
        found.append(getattr(args[0], name)(*args[1:], **keywords) if name else cls(*args, **keywords))
    return found[-1]


def made_real(code: str, tensors: Sequence[torch.Tensor]) -> Any:
    """The LazyTensor of a code."""
    return carry_out(code, tensors, lambda k: float(tensors[k]), _classes["real"])


@lru_cache(maxsize=256)
def _stand_in(code: str, forms: tuple) -> tuple[Any, list[Any]] | None:
    """What a code gives for tensors of these forms, (dtype, shape), and these; None if it is refused."""
    try:
        tensors = [torch.empty(shape, dtype=getattr(torch, dtype), device="meta") for dtype, shape in forms]
        return carry_out(code, tensors, lambda k: _FIRST_NUMBER + k, _classes["stand-in"]), tensors
    except Exception:  # noqa: BLE001  # the plain call will raise it, with the tensors themselves
        return None


@constant
def describe_lazy(code: str, forms: tuple) -> tuple | None:
    """batch, M, N, D and dtype of the LazyTensor of a code; None for what is none."""
    found = _stand_in(code, forms)
    if found is None or not isinstance(found[0], _classes["stand-in"]):
        return None
    made: Any = found[0]
    frame = made.frame
    return frame.batch, frame.M, frame.N, made.expr.dim, frame.dtype


@constant
def describe_call(code: str, forms: tuple) -> tuple | None:
    """The text of the reduction or solve that a code ends with, its arguments by position and its numbers of rows.

    An argument is ("tensor", k, axes to drop), ("number", k), ("constant", value), ("list", values) or None.
    """
    found = _stand_in(code, forms)
    if found is None or not isinstance(found[0], Call):
        return None
    call, tensors = found
    if set(call.options) - {"alpha"} or call.frame.backend is not None or call.frame.ranges is not None:
        return None
    spec = call.function.spec
    text = text_of(spec) if spec.variables else None
    arguments = [_argument(slot, tensors, call.frame.dtype) for slot in call._slots]
    if text is None or None in [a for a, slot in zip(arguments, call._slots, strict=True) if slot is not None]:
        return None
    if call.frame.batch and not _keeps_batch(call):
        return None
    return text, tuple(arguments), tuple(getattr(spec, "sizes", (None, None)))


def _argument(slot: Any, tensors: list[Any], dtype: str | None) -> tuple | None:
    if slot is None:
        return None
    values = slot.values
    if isinstance(values, tuple):
        return "list", values
    if isinstance(values, float):
        if values >= _FIRST_NUMBER:
            return "number", int(values - _FIRST_NUMBER)
        return ("constant", values) if abs(values) <= SURELY_HELD or dtype == "float64" else None
    for whole in (slot.given, values):
        for k, tensor in enumerate(tensors):
            if tensor is whole:
                return "tensor", k, _dropped(tuple(whole.shape), values.ndim)
    return None


def _dropped(shape: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """The axes of length 1 that LazyTensor drops of an array of pairs to be left with so many."""
    if ndim == len(shape):
        return ()
    if ndim == len(shape) - 2:
        return -3, -2
    return (-2,) if shape[-3] != 1 else (-3,)


def _keeps_batch(call: Any) -> bool:
    """Whether the arguments have all the batch dimensions that the result is to have."""
    arrays = [(s.values, 1 if s.kind == "Pm" else 2) for s in call._slots if s is not None]
    leads = [a.shape[:-core] for a, core in arrays if isinstance(a, torch.Tensor) and a.ndim]
    return torch.broadcast_shapes(*leads) == tuple(call.frame.batch)
