"""Every example in the documents runs and prints what stands there, and the reference names every operation."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

import kernelops
from kernelops.formula.calculus import CALCULUS
from kernelops.formula.defined import DEFINED
from kernelops.formula.ops import OPS
from kernelops.frontend import KernelSolve
from kernelops.numpy import LazyTensor
from kernelops.solvers.options import OPTION_NAMES

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
PACKAGE = ROOT / "kernelops"
MODULES = [file for file in sorted(PACKAGE.rglob("*.py")) if ">>> " in file.read_text(encoding="utf-8")]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def failures(test):
    """What doctest has to say about the examples of one page; empty where all is well."""
    said = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=said.append)
    return "".join(said)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_of_a_page(page):
    # a fence would be taken for a line of output; an empty line keeps the numbers of the lines
    text = re.sub(r"^ *(```|~~~|:::).*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    if "torch" in text and test.examples:
        pytest.importorskip("torch")
    assert not (said := failures(test)), said


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_examples_of_a_module(file):
    name = ".".join(("kernelops", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    if name.startswith("kernelops.torch"):
        pytest.importorskip("torch")
    module = importlib.import_module(name)
    for test in doctest.DocTestFinder().find(module, extraglobs={"kernelops": kernelops}):
        assert not (said := failures(test)), said


def generator():
    spec = importlib.util.spec_from_file_location("_generate", ROOT / "docs" / "_generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_names_every_operation_once():
    page = generator().operations()
    named = re.findall(r"^\| `(\w+)\(", page, flags=re.MULTILINE)
    assert sorted(named) == sorted([*OPS, *DEFINED, *CALCULUS])


def test_the_table_of_methods_names_every_method_once():
    """Every public method of a LazyTensor stands in a table or in the text of its page."""
    table, page = generator().methods(), (ROOT / "docs" / "lazytensor.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)[(`]", table, flags=re.MULTILINE)
    assert len(named) == len(set(named))
    public = {name for name in dir(LazyTensor) if not name.startswith("_")}
    elsewhere = set(re.findall(r"\w+", page))
    internal = {"library", "complex_class", "expr", "slots", "frame", "names", "looks_complex", "variables"}
    internal |= {
        "symbolic_variables",
        "new_variable_index",
        "batchdims",
        "nbatchdims",
        "ni",
        "nj",
        "formula",
        "is_complex",
    }
    internal |= {
        "matvec",
        "rmatvec",
        "matmat",
        "rmatmat",
        "reduction",
        "elem",
        "extract",
        "factorize",
        "auto_factorize",
    }
    missing = {n for n in public - set(named) - elsewhere - internal if not n.endswith("_reduction")}
    assert not missing


@pytest.mark.parametrize("function", [kernelops.solve, KernelSolve.__call__], ids=["solve", "call"])
def test_the_tables_name_every_option_once(function):
    table = generator().arguments("solve", function)
    heads = re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE)
    named = [name for head in heads for name in re.findall(r"`\*?(\w+)`", head)]
    assert set(OPTION_NAMES) <= set(named) and len(named) == len(set(named))
    assert all(re.search(rf"\b{name}=", table) for name in OPTION_NAMES), "the call itself"


def test_a_wrong_example_is_found():
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert "Expected" in failures(test)
