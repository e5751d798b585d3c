"""Docstrings of the public interface: they begin well, name every parameter and show an example."""

from __future__ import annotations

import inspect
import re

import kernelops
from kernelops import compat, doctor
from kernelops import numpy as numpy_door
from kernelops.formula.cached import cached_property
from kernelops.solvers.options import OPTION_NAMES
from kernelops.solvers.precond.base import Preconditioner

FRAGMENTS = {"What", "How", "Where", "Which", "Who", "Of", "That", "By", "This", "It"}  # no noun phrase, no imperative
WITHOUT_EXAMPLE = {  # called by solvers and engines, or documented by the function of SciPy that they replace
    *(f"SolveState.{name}" for name in ("adjoint", "hold", "leave", "lookup", "start")),
    *(f"KernelOperator.{name}" for name in ("dot", "matmat", "matvec", "rmatmat", "rmatvec")),
    *("Ranges.joined", "Ranges.tiles"),
    *("doctor.as_text", "doctor.main"),
    *("KernelOperator.of", "KernelOperator.with_product", "Genred.of", "KernelSolve.of"),  # for what has no text
}
SHOWN_TOGETHER = re.compile(r"(numpy|torch)\.(Complex)?LazyTensor\.|(numpy|torch)\.(V[ij]|Pm|Var)$")  # in one page
NOT_NAMED = {"self", "unknown"}  # ``**unknown`` collects the keywords that are refused


def doors():
    """The public modules that can be imported here."""
    yield from (kernelops, numpy_door, numpy_door.cluster)
    try:
        from kernelops import torch
    except kernelops.MissingExtraError:
        return
    yield from (torch, torch.cluster)


def members(name, value):
    """(name, function, whether a property) of what a class of this package adds to its base classes."""
    for key in dir(value) if inspect.isclass(value) else ():
        member = inspect.getattr_static(value, key)
        is_property = isinstance(member, (property, cached_property))
        member = getattr(member, "fget", None) or getattr(member, "function", None) or getattr(value, key)
        ours = str(getattr(member, "__module__", "")).startswith("kernelops")
        if ours and inspect.isroutine(member) and (key == "__call__" or not key.startswith("_")):
            yield f"{name}.{key}", member, is_property


def public():
    """(name, object, whether a property) of every public class, function, method and property."""
    found = [(f"doctor.{name}", getattr(doctor, name), False) for name in ("report", "as_text", "main")]
    found += [(f"compat.{name}", getattr(compat, name), False) for name in compat.__all__]
    found.append(("Preconditioner", Preconditioner, False))
    for module in doors():
        door = module.__name__.removeprefix("kernelops").removeprefix(".")
        values = {name: getattr(module, name) for name in module.__all__}
        found += [(f"{door}.{n}".removeprefix("."), v, False) for n, v in values.items() if not inspect.ismodule(v)]
    return [*found, *(member for name, value, _ in found for member in members(name, value))]


PUBLIC = public()
CALLED = [
    (name, value)
    for name, value, is_property in PUBLIC
    if not is_property
    and not name.startswith("Preconditioner")
    and not (inspect.isclass(value) and issubclass(value, Exception))
]


def parameters(value):
    """The names that a docstring has to explain: of a data class, those of the fields that its repr shows."""
    fields = getattr(value, "__dataclass_fields__", {}) if inspect.isclass(value) else {}
    hidden = {name for name, field in fields.items() if not field.repr}
    return set(inspect.signature(value).parameters) - hidden - NOT_NAMED


def undocumented(docstring, wanted):
    """The parameters that a docstring does not name; ``**options``, if it is explained, stands for those of a solve."""
    named = set(re.findall(r"\w+", docstring))
    if re.search(r"^\*\*options$", docstring, re.MULTILINE):
        named |= set(OPTION_NAMES) | {"state", "verbose"}
    return wanted - named


def test_a_docstring_begins_with_what_is_returned_or_done():
    for name, value, _ in PUBLIC:
        first = (inspect.getdoc(value) or "").split("\n", 1)[0]
        assert first.endswith("."), f"{name}: wanted one sentence, got {first!r}"
        assert first.split()[0] not in FRAGMENTS, f"{name}: {first}"


def test_a_docstring_names_every_parameter():
    missing = {name: undocumented(inspect.getdoc(value) or "", parameters(value)) for name, value in CALLED}
    assert not {name: left for name, left in missing.items() if left}


def test_a_docstring_shows_an_example():
    without = {
        name for name, value in CALLED if not re.search(r"^Examples\n-+\n(.*\n)*?>>> ", inspect.getdoc(value), re.M)
    }
    without = {name for name in without if not SHOWN_TOGETHER.match(name)}
    assert {re.sub(r"^(numpy|torch)\.", "", name) for name in without} == WITHOUT_EXAMPLE


def test_what_is_missing_is_found():
    assert undocumented("x : array\n", {"x", "seed"}) == {"seed"}
    assert undocumented("x : array\n**options\n    Those of a solve.\n", {"x", "seed", "weights"}) == {"weights"}
