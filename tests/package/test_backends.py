"""available_backends: what it says with and without a driver, a GPU and PyCUDA; it loads and starts nothing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import usual

import kernelops
import kernelops.numpy
from kernelops import backends
from kernelops.gpu import driver


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without any GPU; returns the folder that holds its driver library and its driver's reports."""
    monkeypatch.setattr(backends, "PROC_GPUS", tmp_path / "gpus")
    monkeypatch.setattr(backends, "_library_folders", lambda: [tmp_path / "none", tmp_path / "lib"])
    monkeypatch.setattr(backends, "installed_version", lambda name: None)
    monkeypatch.setattr(backends, "find_nvrtc_files", lambda tried: iter(()))
    monkeypatch.setattr(backends, "find_nvcc_programs", lambda tried: tried.append("nvcc on the PATH") or iter(()))
    return tmp_path


def add_gpu(machine, model="NVIDIA Something"):
    report = machine / "gpus" / "0000:01:00.0" / "information"
    report.parent.mkdir(parents=True)
    report.write_text(f"Model: \t\t {model}\nIRQ:   \t\t 42\n")


def add_driver(machine):
    (machine / "lib").mkdir()
    (machine / "lib" / backends.DRIVER_LIBRARY).touch()


def test_cpu_is_usable_and_says_what_it_uses():
    usable, why = kernelops.available_backends()["CPU"]
    assert usable is True
    assert why.endswith(("1 thread", "threads")) and "instructions" in why


def test_the_names_are_the_two_engines():
    assert list(kernelops.available_backends()) == ["CPU", "GPU"]


def test_bare_machine(machine):
    usable, why = backends.available_backends()["GPU"]
    assert usable is False
    assert why == (
        "no NVIDIA GPU or driver is found here; "
        'PyCUDA is not installed (pip install "kernelops[cuda]"); '
        "no CUDA compiler is found (pip install nvidia-cuda-nvrtc)"
    )
    found = backends.find_gpus()
    assert found["devices"] == [] and found["driver"] is None and found["pycuda"] is None
    assert found["tried"] == [
        str(machine / "gpus"),
        *(str(machine / f / backends.DRIVER_LIBRARY) for f in ("none", "lib")),
        "nvcc on the PATH",
    ]


def test_a_gpu_without_its_driver_library(machine):
    add_gpu(machine)
    assert f"the driver library {backends.DRIVER_LIBRARY} is not found" in backends.available_backends()["GPU"].why
    assert backends.find_gpus()["devices"] == ["NVIDIA Something"]


def test_everything_there(machine, monkeypatch):
    add_gpu(machine)
    add_driver(machine)
    monkeypatch.setattr(backends, "installed_version", lambda name: "2026.1")
    monkeypatch.setattr(backends, "find_nvrtc_files", lambda tried: iter(["/somewhere/libnvrtc.so.13"]))
    assert backends.available_backends()["GPU"] == (True, "NVIDIA Something; PyCUDA 2026.1")
    assert backends.find_gpus()["compiler"] == "/somewhere/libnvrtc.so.13"
    assert backends.find_gpus()["driver"] == str(machine / "lib" / backends.DRIVER_LIBRARY)


def test_a_report_that_cannot_be_read_is_passed_over(machine):
    (machine / "gpus" / "0" / "information").mkdir(parents=True)
    assert backends.find_gpus()["devices"] == []


def test_library_folders_follow_the_environment(monkeypatch):
    if sys.platform == "win32":
        pytest.skip("there the folder is the system's")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/some/lib::/opt/other")
    folders = [str(folder) for folder in backends._library_folders()]
    assert folders[:2] == ["/opt/some/lib", "/opt/other"] and "/usr/lib" in folders


def test_installed_imports_nothing():
    assert backends.installed_version("numpy") and backends.installed_version("no-such-distribution") is None


def test_asking_imports_neither_torch_nor_pycuda():
    script = "import sys, kernelops; kernelops.available_backends(); print({'torch', 'pycuda'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("set()\n", "")


@pytest.mark.parametrize("door", ["Genred", "KernelSolve"])
def test_a_gpu_is_asked_for_and_pycuda_is_missing(door, monkeypatch):
    class Hidden:
        def find_spec(self, name, *_):
            if name == "pycuda":
                raise ModuleNotFoundError("No module named 'pycuda'", name=name)

    monkeypatch.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])
    monkeypatch.setattr(driver, "_started_in", None)
    x, aliases = np.zeros((5, 1)), usual.aliases(1, 1)
    more = {} if door == "Genred" else {"varinvalias": "b"}
    made = getattr(kernelops.numpy, door)(usual.GAUSS, aliases, axis=1, **more)
    with pytest.raises(
        kernelops.BackendError, match=r'the GPU needs PyCUDA, which is not installed: pip install "kern'
    ):
        made(x, x, x, backend="GPU")
