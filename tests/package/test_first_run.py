"""What a first import does and does not do; each in a fresh process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import PATIENCE

ROOT = Path(__file__).parent.parent.parent
WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
SOLVE = """
import numpy as np
from kernelops.numpy import KernelSolve
x, b = np.random.rand(200, 3), np.random.rand(200, 1)
solver = KernelSolve("Exp(-SqDist(x,y))*b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"], "b", axis=1)
assert solver(x, x, b, alpha=0.1).shape == (200, 1)
"""


def python(code, *options, **environment):
    """Run code in a process of its own, every warning an error; what it wrote."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    result = subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def without(*names):
    return WITHOUT.format(names=names)


def test_an_import_is_silent_and_loads_no_optional_dependency():
    optional = ("torch", "pycuda", "cupy", "matplotlib", "tqdm", "platformdirs", "hypothesis")
    code = f"import kernelops, sys; print([name for name in {optional} if name in sys.modules])"
    assert python(code) == "[]\n"


def test_a_solve_works_with_numpy_and_scipy_alone_and_says_nothing():
    assert python(without("torch", "pycuda", "cupy", "matplotlib", "tqdm", "platformdirs") + SOLVE) == ""


def test_no_process_is_started_and_no_file_written(tmp_path):
    """No compiler, in particular; and a home that cannot be written does not matter."""
    watch = """
import sys
def hook(event, arguments):
    started = event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork")
    written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if started or written or event in ("os.mkdir", "socket.connect"):
        raise SystemExit(f"{event} {arguments}")
sys.addaudithook(hook)
"""
    assert python(watch + SOLVE, "-B", PATH="", HOME=str(tmp_path / "none")) == ""
    assert list(tmp_path.iterdir()) == []


def test_without_torch_the_torch_door_says_how_to_get_it():
    code = """
import kernelops
for load in (lambda: kernelops.torch, lambda: __import__("kernelops.torch")):
    try:
        load()
    except kernelops.MissingExtraError as error:
        assert isinstance(error, ImportError)
        print(error)
kernelops.numpy.Genred
"""
    text = 'kernelops.torch needs PyTorch, which is not installed: pip install "kernelops[torch]"\n'
    assert python(without("torch") + code) == 2 * text


def test_without_matplotlib_the_plot_says_how_to_get_it():
    code = """
import numpy as np, kernelops
solution = kernelops.solve(np.eye(3), np.ones(3))
try:
    solution.plot()
except kernelops.MissingExtraError as error:
    print(error)
"""
    assert python(without("matplotlib") + code) == 'Solution.plot needs matplotlib: pip install "kernelops[plot]"\n'


def test_without_tqdm_progress_is_lines_on_stderr():
    code = "import numpy as np, kernelops\nassert kernelops.solve(np.eye(3), np.ones(3), progress=True).converged"
    assert python(without("tqdm") + code) == ""  # nothing to say in so short a time


def test_the_numpy_door_is_an_attribute_loaded_on_demand():
    code = """
import sys, kernelops
assert "kernelops.numpy" not in sys.modules
assert kernelops.numpy.Genred is sys.modules["kernelops.numpy"].Genred
assert "torch" not in sys.modules
"""
    assert python(code) == ""


def test_the_torch_door_is_an_attribute_loaded_on_demand():
    pytest.importorskip("torch")
    code = 'import sys, kernelops as k; assert "torch" not in sys.modules; k.torch.Genred; sys.modules["torch"]'
    assert python(code) == ""


def test_names():
    code = """
import numpy, kernelops
before = set(globals())
from kernelops import *
assert set(globals()) - before - {"before"} == set(kernelops.__all__)
assert set(kernelops.__all__) | {"numpy", "torch", "__version__"} <= set(dir(kernelops))
assert numpy.__name__ == "numpy", "a star import does not hide numpy"
try:
    kernelops.Genred
except AttributeError as error:
    print(error)
assert all(getattr(kernelops, name) is not None for name in kernelops.__all__)
"""
    assert python(code) == "module 'kernelops' has no attribute 'Genred'\n"


def test_both_doors_have_the_same_names():
    pytest.importorskip("torch")
    assert python("import kernelops; assert kernelops.numpy.__all__ == kernelops.torch.__all__") == ""


def test_errors_are_value_errors_and_type_errors():
    import kernelops

    for name in ("FormulaError", "ArgumentError", "ShapeError", "RangesError", "BackendError"):
        assert issubclass(getattr(kernelops, name), ValueError)
    for name in ("DtypeError", "KeywordError"):
        assert issubclass(getattr(kernelops, name), TypeError)
    assert issubclass(kernelops.MissingExtraError, ImportError)
    assert issubclass(kernelops.ConvergenceWarning, UserWarning)
