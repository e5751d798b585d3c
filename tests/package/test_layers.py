"""Imports point down a written list and never in a circle; optional dependencies are imported late."""

from __future__ import annotations

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "kernelops"
LAYERS = [
    "errors",
    "formula",
    "program",
    "_core",
    "gpu",
    "ranges",
    "arrays",
    "engines",
    "reductions",
    "truncation",
    "solvers",
    "operators",
    "backends",
    "frontend",
    "numpy",
    "torch",
    "compat",
    "doctor",
    "__init__",
]
FORMULA = [
    "cached",
    "ops",
    "expr",
    "definition",
    "elementary",
    "components",
    "complex",
    "sequences",
    "defined",
    "fold",
    "simplify",
    "identities",
    "polynomial",
    "distances",
    "series",
    "expansion",
    "limits",
    "grad",
    "structure",
    "calculus",
    "tokens",
    "parse",
    "linear",
    "__init__",
]
OPTIONAL = {"torch", "pycuda", "tqdm", "matplotlib", "platformdirs"}
HOME = {"torch": "torch", "pycuda": "gpu"}  # the one place that may import it at its top
REQUIRED = {"numpy", "scipy", "threadpoolctl", "kernelops"}

FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(file):
    """A module's name below the package: "formula.grad", "ranges", "formula.__init__"."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts)


def imports(file):
    """(name, late) for each import of a file: a module's name below the package with a dot before it, or as it stands.

    An import is late where it stands in a function; what only a type checker reads is left out.
    """
    own = file.relative_to(PACKAGE).parts[:-1]
    found = []

    def visit(node, late):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = own[: len(own) - node.level + 1]
            if node.module:
                found.append(("." + ".".join((*base, node.module)), late))
            else:  # from . import a, b: each may be a module
                found.extend(("." + ".".join((*base, alias.name)), late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module, late))
        for child in ast.iter_child_nodes(node):
            visit(child, late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    visit(ast.parse(file.read_text(encoding="utf-8")), False)
    return found


def own_imports(file):
    """Names below the package that a file imports."""
    return [name[1:] for name, _ in imports(file) if name.startswith(".")]


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_point_down(file):
    layer = name_of(file).split(".")[0]
    assert layer in LAYERS, f"{file.name} stands in no layer"
    for name in own_imports(file):
        below = name.split(".")[0]
        assert below in LAYERS, f"{name} stands in no layer"
        inside = below == layer and file.parent != PACKAGE
        assert inside or LAYERS.index(below) < LAYERS.index(layer), f"{name_of(file)} imports {name}, which is above it"


def test_the_engine_imports_what_is_below_it():
    """It verifies programs by program.verify, which therefore cannot need it."""
    found = re.findall(
        r"^ *from \.([\w.]*) c?import", (PACKAGE / "_core.pyx").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert "program.verify" in found
    for name in found:
        assert LAYERS.index(name.split(".")[0]) < LAYERS.index("_core"), f"_core imports {name}, which is above it"


@pytest.mark.parametrize("file", sorted((PACKAGE / "formula").glob("*.py")), ids=name_of)
def test_the_language_needs_nothing_but_python(file):
    for name, _ in imports(file):
        if name.startswith("."):
            assert name[1:].split(".")[0] in ("errors", "formula"), name
            inner = name.removeprefix(".formula.")
            if inner != name:
                assert FORMULA.index(inner) < FORMULA.index(file.stem), (
                    f"{file.stem} imports {inner}, which is above it"
                )
        else:
            assert name.split(".")[0] in sys.stdlib_module_names, name


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_optional_dependencies_are_imported_late_and_nothing_else_is(file):
    for name, late in imports(file):
        top = name.split(".")[0]
        if top in OPTIONAL:
            at_home = name_of(file).startswith(HOME.get(top, "?"))
            assert late or at_home, f"{name_of(file)} imports {name} at its top"
        else:
            assert name.startswith(".") or top in REQUIRED or top in sys.stdlib_module_names, name
            assert not late or top in sys.stdlib_module_names, f"{name_of(file)} imports {name} in a function"


def test_nothing_imports_in_a_circle():
    graph = {name_of(file): set(own_imports(file)) - {name_of(file)} for file in FILES}
    assert list(TopologicalSorter(graph).static_order())
