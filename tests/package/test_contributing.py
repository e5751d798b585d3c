"""The examples of CONTRIBUTING.md are made in a copy of the tree, which is built and tried."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
ROOT = next(folder for folder in ROOT.parents if (folder / "setup.py").exists())
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
HEADER = re.compile(r"^(?:#|/\*) ([\w/.]+)(?:, (in (\w+)|among the imports))?(?: \*/)?\n")

TRIED = """
import numpy as np
from kernelops import KernelOperator, solve
from kernelops.numpy import Genred, KernelSolve
from kernelops.formula.expr import apply, variable
from kernelops.formula.grad import grad
from kernelops.formula.parse import parse
from kernelops.formula.simplify import simplify
from kernelops.truncation.intervals import interval_of

r = np.random.default_rng(0)
x, y, b = r.standard_normal((40, 2)), r.standard_normal((50, 2)), r.standard_normal((50, 1))
aliases = ["x = Vi(2)", "y = Vj(2)", "b = Vj(1)"]
truth = ((x[:, None] - y) ** 3).sum(-1)
for dtype, rtol in (("float64", 1e-12), ("float32", 1e-4)):
    found = Genred("Sum(Cube(x-y))*b", aliases, axis=1)(*(a.astype(dtype) for a in (x, y, b)))
    np.testing.assert_allclose(found, truth @ b, rtol=rtol, atol=rtol * np.abs(truth @ b).max())
assert simplify(parse("Cube(3)", []).expr).value == 27.0

slope = 3 * x**2 * b.sum()
formula = parse("Sum(Cube(x))*b", aliases)
v = formula.find("x")
derivative = grad(formula.expr, v, variable("Vi", 3, 1))
from kernelops.reductions.reduction import Reduction
spec = Reduction(derivative, "Sum", 1, (v, formula.find("y"), formula.find("b"), variable("Vi", 3, 1)))
np.testing.assert_allclose(spec(spec.bind([x, y, b, np.ones((40, 1))])), slope, rtol=1e-12)

w = variable("Vi", 0, 1)
lo, hi = interval_of(apply("Cube", w), {w: (np.array([[-2.0]]), np.array([[3.0]]))})
assert lo.item() <= -8 and 27 <= hi.item() < 28

largest = Genred("SqDist(x,y)", aliases[:2], "KMax", axis=1, opt_arg=3)(x, y)
np.testing.assert_allclose(largest, -np.sort(-((x[:, None] - y) ** 2).sum(-1), axis=1)[:, :3], rtol=1e-12)

A = KernelOperator("Exp(-SqDist(x,y))*b", aliases, "b", y, y, alpha=0.1)
solution = solve(A, b, precond="trace")
K = np.exp(-((y[:, None] - y) ** 2).sum(-1)) + 0.1 * np.eye(50)
np.testing.assert_allclose(solution.x, np.linalg.solve(K, b), rtol=1e-4)
assert solution.precond == "trace" and "the mean of the diagonal" in solution.reason
solver = KernelSolve("Exp(-SqDist(x,y))*b", aliases, "b", axis=1)
value, stderr = solver.logdet(y, y, alpha=0.1, precond="trace", n_probes=50)
np.testing.assert_allclose(value, np.linalg.slogdet(K)[1], rtol=1e-6)
print("tried")
"""


def run_python(folder, *arguments):
    """Python in the copy, which it imports."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, *arguments]
    environment["PYTHONPATH"] = str(folder)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def examples():
    """(file, where it goes or None, text) of each block of code that names a file."""
    found = []
    for block in re.findall(r"^```\w+\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL):
        head = HEADER.match(block)
        if head:
            found.append((head[1], head[3] or head[2], block[head.end() :]))
    return found


def insert(text, where, row):
    """The text of a file with a row at the beginning of a table, or behind its imports."""
    if where == "among the imports":
        last = list(re.finditer(r"^from \.\S+ import .*\n", text, flags=re.MULTILINE))[-1]
        return text[: last.end()] + row + text[last.end() :]
    begin = re.search(rf"^(?:{where}\b.*[{{(].*|#define {where}\(ROW\).*)\n", text, flags=re.MULTILINE)
    assert begin is not None, f"{where} is not where CONTRIBUTING.md says"
    return text[: begin.end()] + row + text[begin.end() :]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of what a build takes, changed as the page says, and built without optimisation or AVX-512."""
    folder = tmp_path_factory.mktemp("contributing")
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
    for name in ("kernelops", "cuda", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    setup = folder / "setup.py"
    quick = {'"-O3"': '"-O0", "-DKERNELOPS_WITHOUT_AVX512"', '"/O2"': '"/Od"'}
    text = setup.read_text()
    for given, wanted in quick.items():
        text = text.replace(given, wanted)
    setup.write_text(text)
    for name, where, code in examples():
        file = folder / name
        file.write_text(insert(file.read_text(), where, code) if where else code)
    built = run_python(folder, "setup.py", "-q", "build_ext", "--inplace")
    assert built.returncode == 0, built.stderr
    return folder


def test_the_page_has_the_examples():
    files = [name for name, _, _ in examples()]
    assert len(files) == 11 and all((ROOT / name).exists() or name.endswith("/trace.py") for name in files)


def test_the_files_that_the_page_names_are_there():
    inside = {"formula", "program", "gpu", "ranges", "arrays", "engines", "reductions", "truncation", "solvers"}
    inside |= {"operators", "frontend", "numpy", "torch", "compat", "_tile"}
    for name in re.findall(r"`([\w/.]+/[\w.]*)`", PAGE):
        first = name.split("/")[0]
        file = ROOT / "kernelops" / name if first in inside else ROOT / name
        assert file.exists() or first in ("docs", "benchmarks"), name


@pytest.mark.slow_install
def test_the_examples_work(tree):
    run = run_python(tree, "-W", "error", "-c", TRIED)
    assert run.returncode == 0 and run.stdout == "tried\n", run.stderr


@pytest.mark.slow_install
def test_the_tables_are_complete(tree):
    """The test of all tables finds nothing missing but the places where an operation may be left out."""
    file = next((tree / "tests").rglob("test_operation_tables.py"))
    run = run_python(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file))
    failed = set(re.findall(r"^FAILED \S+::(\S+?)(?: |$)", run.stdout, flags=re.MULTILINE))
    optional = (
        "simplifications",
        "arithmetic of proofs",
        "proofs",
        "lengths in float on a GPU",
        "lengths in double on a GPU",
    )
    assert run.returncode == 1 and "KeyError" not in run.stdout
    assert all(any(name in case for name in optional) for case in re.findall(r"\[(.*?)\]", " ".join(failed))), failed
