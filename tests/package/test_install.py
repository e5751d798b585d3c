"""Every way to install: an sdist, `pip install .` and a wheel made from it, a wheel without a compiler, editable.

All three compile the same sources, which keeping_compiler.py does once. Fresh environments see NumPy and SciPy of the
environment that runs the tests, and nothing else of it that matters.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent
COMPILER = Path(__file__).with_name("keeping_compiler.py")
pytestmark = [
    pytest.mark.slow_install,
    pytest.mark.skipif(sys.platform == "win32", reason="folders of environments differ"),
]

USE = """
import json, sys
import numpy as np
import kernelops, kernelops.doctor
from kernelops.numpy import Genred
x = np.linspace(0, 1, 5)[:, None]
total = Genred("Exp(-SqDist(x,y))", ["x = Vi(1)", "y = Vj(1)"], axis=1)(x, x)
np.testing.assert_allclose(total, np.exp(-(x - x.T)**2).sum(1, keepdims=True))
found = kernelops.doctor.report()
print(json.dumps({"file": kernelops.__file__, "ok": found["ok"]}))
"""


def run(*command, **options):
    """A command that must succeed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def outside():
    """The variables of a process that knows nothing of this source tree, nor of a compiler."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CC", "CXX")}


def environment(folder):
    """A fresh virtual environment that finds the NumPy of this one but none of its start-up files; its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
    (site / "outside.pth").write_text(f"{Path(np.__file__).parent.parent}\n")
    return python


def pip(python, *arguments, **options):
    """pip of this environment at work in another one, without a network."""
    options["env"] = outside() | {"CC": shlex.join([sys.executable, str(COMPILER), os.environ.get("CC", "cc")])}
    quiet = ("--disable-pip-version-check", "--python", python)
    return run(sys.executable, "-m", "pip", *quiet, *arguments, **options)


def use(python, folder, path=None):
    """What a process of that environment says of the package, outside of any source tree."""
    variables = outside()
    if path is not None:
        variables["PATH"] = str(path)
    return json.loads(run(python, "-c", USE, cwd=folder, env=variables).stdout)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("install")


@pytest.fixture(scope="module")
def sources(place):
    """The folder that the sdist unpacks to."""
    generated = shutil.ignore_patterns(
        ".*", "build", "dist", "_build", "*.egg-info", "*.so", "__pycache__", "_operations.md", "_*.c"
    )
    copy = shutil.copytree(ROOT, place / "copy", ignore=generated)
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, place, cwd=copy)
    with tarfile.open(*place.glob("*.tar.gz")) as archive:
        archive.extractall(place, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (folder,) = (path for path in place.glob("kernelops-*") if path.is_dir())
    return folder


@pytest.fixture(scope="module")
def installed(place, sources):
    """Python of an environment with `pip install .`; what it compiled stays in the build folder of the sources."""
    python = environment(place / "plain")
    pip(python, "install", "--no-build-isolation", "--no-deps", sources)
    return python


@pytest.fixture(scope="module")
def wheel(place, sources, installed):
    pip(installed, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", place, sources)
    (wheel,) = place.glob("*.whl")
    return wheel


def test_sdist_holds_what_a_build_needs_and_nothing_generated(sources):
    names = {str(path.relative_to(sources)) for path in sources.rglob("*") if path.is_file()}
    headers = {f"kernelops/_tile/{path.name}" for path in (ROOT / "kernelops" / "_tile").glob("*.h")}
    assert headers and headers <= names
    assert {"setup.py", "pyproject.toml", "LICENSE", "Makefile"} <= names
    assert {"kernelops/_core.pyx", "kernelops/_core.pxd", "kernelops/py.typed"} <= names
    assert {"tests/package/test_install.py", "constraints.txt", "CONTRIBUTING.md"} <= names
    assert not [name for name in names if name.endswith((".so", ".pyc"))]
    assert {name for name in names if name.endswith(".c")} == {"benchmarks/bound.c", "tests/neon/driver.c"}


def test_pip_install(place, installed):
    found = use(installed, place)
    assert found["ok"] and Path(found["file"]).is_relative_to(place / "plain")


def test_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        described = message_from_string(archive.read(metadata).decode())
    assert {name.split("/")[0].split("-")[0] for name in names} == {"kernelops"}
    assert {"kernelops/py.typed", "kernelops/_tile/ops.h", "kernelops/numpy/__init__.py"} <= set(names)
    assert not [name for name in names if name.endswith((".pyx", ".c"))]
    needed = [line for line in described.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(line.split(">")[0] for line in needed) == ["numpy", "scipy", "threadpoolctl"]
    assert described["License-Expression"] == "MIT"
    assert {"torch", "cuda", "plot", "test", "docs"} <= set(described.get_all("Provides-Extra"))


def test_wheel_made_from_the_sdist_works_without_a_compiler(place, wheel):
    python = environment(place / "bare")
    pip(python, "install", "--no-index", "--no-deps", wheel)
    assert not [c for c in ("cc", "gcc", "clang", "g++", "nvcc", "make") if shutil.which(c, path=str(python.parent))]
    found = use(python, place, path=python.parent)
    assert found["ok"] and Path(found["file"]).is_relative_to(place / "bare")


def test_editable_install(place, sources):
    copy = shutil.copytree(sources, place / "editable", ignore=shutil.ignore_patterns("build"))
    python = environment(place / "edit")
    pip(python, "install", "--no-build-isolation", "--no-deps", "-e", copy)
    found = use(python, place)
    assert found == {"file": str(copy / "kernelops" / "__init__.py"), "ok": True}
    (copy / "kernelops" / "__init__.py").write_text("raise SystemExit('this file counts')")
    options = {"cwd": place, "env": outside(), "capture_output": True, "text": True}
    done = subprocess.run([python, "-c", "import kernelops"], check=False, **options)
    assert "this file counts" in done.stderr
    assert not list((copy / "kernelops").glob("*.c")), "generated C stays out of the source tree"


@pytest.fixture(scope="module")
def setup_py():
    spec = importlib.util.spec_from_file_location("kernelops_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_flags_keep_the_meaning_of_numbers_and_run_on_every_machine(setup_py):
    for flags in setup_py.COMPILE_FLAGS.values():
        assert not [
            f
            for f in flags
            if f.startswith(("-ffast-math", "-Ofast", "-march", "-mtune", "-funsafe", "-ffinite", "/fp:fast"))
        ]
    for flags in setup_py.LINK_FLAGS.values():
        assert not [f for f in flags if f.startswith("-f")]
