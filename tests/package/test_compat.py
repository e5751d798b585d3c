"""kernelops.compat: programs that import pykeops get kernelops, and only if they have asked for it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import kernelops.numpy
from kernelops import FormulaError, compat, doctor
from kernelops.compat.__main__ import main
from kernelops.compat.modules import COMPUTED, MODULES

HAS_TORCH = importlib.util.find_spec("torch") is not None
HERE = [name for name in MODULES if HAS_TORCH or not name.startswith("pykeops.torch")]


@pytest.fixture(autouse=True)
def no_pykeops():
    if not compat.is_installed() and any(name.split(".")[0] == "pykeops" for name in sys.modules):
        pytest.skip("another pykeops has been imported in this process")


@pytest.fixture
def pykeops():
    with compat.as_pykeops() as module:
        yield module


def run(*arguments, **options):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **options)


def run_code(code):
    return run("-c", code)


# ---- putting it in place ----


def test_importing_kernelops_does_nothing():
    code = (
        "import sys, kernelops, kernelops.numpy, kernelops.compat, kernelops.doctor as d; "
        "print([m for m in sys.modules if 'keops' in m.split('.')[0]], d.report()['compat']['installed'])"
    )
    assert run_code(code).stdout == "[] False\n"


def test_install_and_uninstall():
    before = list(sys.meta_path)
    module = compat.install_as_pykeops()
    try:
        assert compat.is_installed() and sys.modules["pykeops"] is module
        assert compat.install_as_pykeops() is module and importlib.import_module("pykeops") is module
        importlib.import_module("pykeops.numpy.cluster")
        importlib.import_module("keopscore.config")
    finally:
        compat.uninstall()
    assert sys.meta_path == before and not compat.is_installed()
    assert not [name for name in sys.modules if name.split(".")[0] in ("pykeops", "keopscore")]
    compat.uninstall()  # once more does nothing
    assert sys.meta_path == before


def test_contexts_leave_what_they_found():
    with compat.as_pykeops() as outer:
        with compat.as_pykeops() as inner:
            assert inner is outer
        assert compat.is_installed()
    assert not compat.is_installed()
    with pytest.raises(KeyError), compat.as_pykeops():
        raise KeyError
    assert not compat.is_installed()


def test_classes_stay_the_same_when_it_is_installed_again():
    with compat.as_pykeops() as module:
        first = module.numpy.LazyTensor
    with compat.as_pykeops() as module:
        assert module.numpy.LazyTensor is first


@pytest.mark.parametrize("name", ["pykeops", "pykeops.torch", "keopscore"])
def test_another_pykeops_is_not_replaced(monkeypatch, name):
    other = type(sys)(name)
    other.__file__ = "elsewhere/__init__.py"
    monkeypatch.setitem(sys.modules, name, other)
    with pytest.raises(ImportError, match=f"{name} has been imported already, from elsewhere/__init__.py: install"):
        compat.install_as_pykeops()
    assert not compat.is_installed() and sys.modules[name] is other


def test_an_installed_pykeops_is_hidden_meanwhile_and_its_tests_are_found(tmp_path):
    package = tmp_path / "pykeops"
    (package / "test").mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = 'another'\n")
    (package / "test" / "__init__.py").write_text("")
    (package / "test" / "test_one.py").write_text("import pykeops\nversion = pykeops.__version__\n")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import kernelops.compat as compat
with compat.as_pykeops() as module:
    from pykeops.test.test_one import version
    print(module.__version__, version)
import pykeops
print(pykeops.__version__)
try:
    compat.install_as_pykeops()
except ImportError as error:
    print("refused")
"""
    found = run_code(code)
    assert found.stdout.splitlines() == ["2.3 2.3", "another", "refused"], found.stderr


def test_it_says_so_in_the_log(caplog):
    with caplog.at_level(logging.INFO, "kernelops.compat"), compat.as_pykeops():
        pass
    assert [record.message for record in caplog.records] == [
        "pykeops and keopscore are kernelops in this process",
        "pykeops and keopscore are no longer kernelops",
    ]


def test_doctor_lists_it(pykeops):
    found = doctor.report()
    assert found["compat"]["installed"] is True
    assert "import pykeops gives kernelops.compat" in doctor.as_text(found)
    other = {**found, "compat": {"installed": False, "pykeops": "2.3"}}
    assert "import pykeops gives KeOps 2.3" in doctor.as_text(other)
    neither = {**found, "compat": {"installed": False, "pykeops": None}}
    assert "import pykeops gives nothing" in doctor.as_text(neither)


# ---- what it holds ----


@pytest.mark.parametrize("name", HERE)
def test_every_module_can_be_imported(pykeops, name):
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", ()):
        assert getattr(module, public) is not None
    with pytest.raises(AttributeError, match=rf"{name}\.nothing is not in kernelops\.compat"):
        _ = module.nothing
    assert not hasattr(module, "nothing")


@pytest.mark.parametrize("name", COMPUTED)
def test_values_that_are_computed(pykeops, name):
    module, _, attribute = name.rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), attribute), (bool, str))


def test_two_ways_to_ask_for_a_gpu(pykeops):
    assert pykeops.config.cuda.is_available() is pykeops.config.gpu_available


def test_submodules_are_attributes_without_an_import_of_their_own(pykeops):
    assert pykeops.numpy.cluster.__name__ == "pykeops.numpy.cluster"
    assert pykeops.common.lazy_tensor.GenericLazyTensor


def test_what_is_not_there_says_so(pykeops):
    with pytest.raises(ModuleNotFoundError, match=r"pykeops\.sandbox is not in kernelops\.compat"):
        importlib.import_module("pykeops.sandbox")
    with pytest.raises(ImportError, match=r"cannot import name 'eig'.*compat"):
        exec("from pykeops.numpy import eig", {})


def test_names_are_those_of_kernelops(pykeops):
    from pykeops.numpy import Genred, KernelSolve, generic_sum
    from pykeops.numpy.cluster import grid_cluster
    from pykeops.numpy.generic.generic_red import Genred as GenredByFile
    from pykeops.numpy.lazytensor.LazyTensor import Vi

    assert Genred is GenredByFile is kernelops.numpy.Genred and KernelSolve is kernelops.numpy.KernelSolve
    assert generic_sum is kernelops.numpy.generic_sum and grid_cluster is kernelops.numpy.cluster.grid_cluster
    assert Vi(np.zeros((3, 2))).shape == (3, 1, 2)


def test_lazy_tensors_have_a_common_base(pykeops):
    from pykeops.common.lazy_tensor import ComplexGenericLazyTensor, GenericLazyTensor, is_complex_lazytensor

    halves = [pykeops.numpy] + ([pykeops.torch] if HAS_TORCH else [])
    for half in halves:
        assert issubclass(half.LazyTensor, GenericLazyTensor)
        assert issubclass(half.ComplexLazyTensor, ComplexGenericLazyTensor)
        assert not issubclass(half.ComplexLazyTensor, half.LazyTensor)
    x = pykeops.numpy.Vi(np.ones((3, 1)))
    z = x * 1j
    assert is_complex_lazytensor(z) and not is_complex_lazytensor(x) and isinstance(z.real, pykeops.numpy.LazyTensor)
    assert isinstance(z.abs(), pykeops.numpy.LazyTensor) and isinstance(z.t(), pykeops.numpy.ComplexLazyTensor)


def test_lazy_tensors_are_true_and_warn_once(pykeops):
    x = pykeops.numpy.Vi(np.ones((3, 1)))
    with pytest.warns(UserWarning, match="always true, as in KeOps") as caught:
        assert x.abs() >= 0 and x == 2 and not (not x * 1j)
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert x
    with pytest.raises(kernelops.ArgumentError, match="no truth value"):
        bool(kernelops.numpy.Vi(np.ones((3, 1))))


def test_pickles_do_not_need_it():
    with compat.as_pykeops() as module:
        x = module.numpy.Vi(np.arange(3.0)[:, None])
        written = pickle.dumps((x * x, module.numpy.Genred("x*x", ["x = Vi(1)"])))
    square, genred = pickle.loads(written)
    assert square.sum(axis=0) == genred(np.arange(3.0)[:, None]) == 5


# ---- the functions of pykeops and keopscore ----


def test_settings(pykeops, capsys, monkeypatch, tmp_path):
    from pykeops.common.utils import WarmUpGpu, pyKeOps_Message, pyKeOps_Warning

    pykeops.clean_pykeops()
    WarmUpGpu("numpy")
    pykeops.test_numpy_bindings()
    pyKeOps_Warning("late")
    assert capsys.readouterr().out == "pyKeOps with numpy bindings is working!\n[pyKeOps] Warning : late\n"
    pykeops.set_verbose(False)
    pyKeOps_Message("silent")
    assert capsys.readouterr().out == ""
    pykeops.check_health()
    assert "CPU: usable" in capsys.readouterr().out
    monkeypatch.setenv("KERNELOPS_CACHE_DIR", "")
    usual = pykeops.get_build_folder()
    pykeops.set_build_folder(tmp_path)
    assert pykeops.get_build_folder() == pykeops.config.get_build_folder() == str(tmp_path)
    pykeops.set_bin_folder()
    assert pykeops.get_build_folder() == usual


@pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch")
def test_torch_bindings(pykeops, capsys):
    pykeops.test_torch_bindings()
    assert capsys.readouterr().out == "pyKeOps with torch bindings is working!\n"


def test_settings_of_keopscore(pykeops):
    import keopscore
    import keopscore.config.config

    keopscore.auto_factorize = True
    assert (
        keopscore.config.config.use_cuda is pykeops.config.gpu_available is keopscore.config.cuda_config.get_use_cuda()
    )
    assert pykeops.numpy.utils.IsGpuAvailable() is pykeops.config.gpu_available
    assert pykeops.numpy.utils.is_on_device(np.zeros(3)) is False
    assert pykeops.common.gpu_utils.get_gpu_number() == len(doctor.report()["gpu"]["devices"])


def test_types_of_aliases(pykeops):
    from pykeops.common.parse_type import categories, get_sizes, get_type

    assert list(categories.items()) == [("Vi", 0), ("Vj", 1), ("Pm", 2)]
    assert get_type("x = Vi(3)") == ("x", 0, 3, None)
    assert get_type("x = Vj(3)", 4) == ("x", 1, 3, 4)
    assert get_type("p = Pm(2, 1)", 4) == ("p", 2, 1, 2)
    assert get_type("Vj(1, 3)") == (None, 1, 3, 1)
    assert get_sizes(["y = Vj(2)", "p = Pm(1)", "x = Vi(2)"], np.ones((4, 2)), np.ones(1), np.ones((3, 2))) == (3, 4)
    assert get_sizes(["y = Vj(2)"], np.ones((4, 2))) == (1, 4)
    with pytest.raises(FormulaError):
        get_type("nonsense")


def test_small_helpers(pykeops):
    from pykeops.common.utils import axis2cat, cat2axis, check_broadcasting, max_tuple

    assert [axis2cat(0), axis2cat(1), cat2axis(1)] == [1, 0, 0]
    with pytest.raises(ValueError, match="axis: wanted 0 or 1, got 2"):
        axis2cat(2)
    assert max_tuple((1, 5), (3, 2)) == (3, 5)
    assert check_broadcasting((4, 1), (3,)) == (4, 3) and check_broadcasting(None, (3,)) == (3,)
    with pytest.raises(ValueError):
        check_broadcasting((4,), (3,))


def test_dense_kernels_agree_with_their_definitions(pykeops):
    from pykeops.numpy import utils

    rng = np.random.default_rng(1)
    x, y, p, q = (rng.standard_normal(shape) for shape in ((4, 3), (5, 3), (5, 2), (4, 2)))
    s, d = 1.3, np.linalg.norm(x[:, None] - y[None], axis=2)
    assert np.allclose(utils.squared_distances(x, y), d**2) and utils.differences(x, y).shape == (3, 4, 5)
    kernels = {
        "gaussian": lambda r: np.exp(-((r / s) ** 2)),
        "laplacian": lambda r: np.exp(-r / s),
        "cauchy": lambda r: 1 / (1 + (r / s) ** 2),
        "inverse_multiquadric": lambda r: 1 / np.sqrt(1 + (r / s) ** 2),
    }
    for name, kernel in kernels.items():
        assert np.allclose(utils.np_kernel(x, y, s, name), kernel(d))
        assert np.allclose(utils.log_np_kernel(x, y, s, name), np.log(kernel(d)))
        h = 1e-6  # the derivative by the squared distance, from central differences
        slope = (kernel(np.sqrt(d**2 + h)) - kernel(np.sqrt(d**2 - h))) / (2 * h)
        assert np.allclose(utils.grad_np_kernel(x, y, s, name), slope, rtol=1e-6)
    moved = x.copy()
    moved[1, 2] += 1e-6
    change = (q * ((utils.np_kernel(moved, y, s, "gaussian") - utils.np_kernel(x, y, s, "gaussian")) @ p)).sum() / 1e-6
    gradient = utils.chain_rules(q, x, y, utils.grad_np_kernel(x, y, s, "gaussian"), p)
    assert np.isclose(gradient[1, 2], change, rtol=1e-4)
    assert np.allclose(utils.log_sum_exp(1000 * d, axis=1), np.logaddexp.reduce(1000 * d, axis=1))
    unit, other = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y))
    assert np.allclose(
        utils.np_kernel_sphere(unit, other, s, "gaussian_oriented"), utils.np_kernel(unit, other, s, "gaussian")
    )
    assert np.allclose(utils.np_kernel_sphere(unit, other, s, "binet"), (unit @ other.T) ** 2)
    with pytest.raises(ValueError, match="wanted one of gaussian, laplacian"):
        utils.np_kernel(x, y, s, "sinc")


@pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch")
def test_dense_kernels_of_tensors(pykeops):
    import torch
    from pykeops.torch.utils import torch_kernel

    x, y = torch.rand(4, 3, dtype=torch.float64), torch.rand(5, 3, dtype=torch.float64)
    for name in ("gaussian", "laplacian", "cauchy", "inverse_multiquadric"):
        dense = pykeops.numpy.utils.np_kernel(x.numpy(), y.numpy(), 0.7, name)
        assert np.allclose(torch_kernel(x, y, 0.7, name).numpy(), dense)


# ---- python -m kernelops.compat ----


def test_running_a_script(tmp_path):
    script = tmp_path / "script.py"
    (tmp_path / "beside.py").write_text("value = 7\n")
    script.write_text(
        "import sys, json, beside\nfrom pykeops.numpy import Vi\n"
        "print(json.dumps([__name__, sys.argv, beside.value, Vi.__module__, __file__]))\nsys.exit(5)\n"
    )
    found = run("-m", "kernelops.compat", str(script), "-v", "two")
    assert (found.returncode, found.stderr) == (5, "")
    name, arguments, value, module, file = json.loads(found.stdout)
    assert (name, arguments, value, file) == ("__main__", [str(script), "-v", "two"], 7, str(script))
    assert module.startswith("kernelops")


def test_running_a_module(tmp_path):
    (tmp_path / "program.py").write_text("import sys, pykeops\nprint(pykeops.__version__, sys.argv[1:], __name__)\n")
    found = run("-m", "kernelops.compat", "-m", "program", "-m", "x", cwd=tmp_path)
    assert (found.returncode, found.stdout, found.stderr) == (0, "2.3 ['-m', 'x'] __main__\n", "")


def test_an_error_of_the_script_is_shown_as_by_python(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import pykeops\npykeops.numpy.LazyTensor('text')\n")
    found = run("-m", "kernelops.compat", str(script))
    assert found.returncode == 1 and f'File "{script}", line 2' in found.stderr
    assert "DtypeError" in found.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "usage: python -m kernelops.compat"),
        (["--help"], 0, "usage: python -m kernelops.compat"),
        (["-m"], 2, "usage"),
        (["--other"], 2, "usage"),
        (["nowhere.py"], 2, "there is no file nowhere.py"),
    ],
)
def test_what_is_said_if_no_program_is_named(capsys, arguments, code, said):
    assert main(arguments) == code
    assert said in "".join(capsys.readouterr()) and not compat.is_installed()
