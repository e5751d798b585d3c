"""An emulated GPU. PyCUDA is imported upon an emulated driver, so these tests have a process of their own.

With KERNELOPS_TEST_REAL_GPU=1 the GPU is a real one, and tests of what an emulator counts and plants are left out.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_emulator import driver as emulated
from processes import PATIENCE
from tools import needs

TESTS = Path(__file__).parent.parent.parent
REAL = os.environ.get("KERNELOPS_TEST_REAL_GPU") == "1"

# what a process of its own begins with
PRELUDE = """
from cuda_emulator import driver as emulated
emulated.install()
import numpy as np
from kernelops.errors import BackendError
from kernelops.gpu.device import device
"""


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    """The folder in which compiled kernels are kept."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def gpu(monkeypatch, kernels):
    """The first GPU; no context is current when a test ends, and none was lost."""
    needs(None if REAL else emulated.missing())
    from kernelops.gpu import compilers, device

    monkeypatch.setenv("KERNELOPS_CACHE_DIR", str(kernels))
    if not REAL:
        emulated.load()
        monkeypatch.setattr(compilers, "find_compiler", lambda: emulated.COMPILER)
    yield device.device(0)
    if not REAL:
        assert emulated.count("depth") == 0 and emulated.count("pushed") == emulated.count("popped")
    device.device(0).synchronise()


@pytest.fixture
def only_emulated():
    """For tests that count calls of the driver, or have them fail."""
    if REAL:
        pytest.skip("the GPU is a real one")


@pytest.fixture
def child(kernels):
    """Runs a script in a process of its own, upon the emulated driver unless told otherwise: status, output, errors."""
    needs(emulated.missing())

    def run(script, prelude=PRELUDE, **environment):
        paths = [str(TESTS.parent), str(TESTS), str(TESTS / "cuda"), os.environ.get("PYTHONPATH", "")]
        given = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "KERNELOPS_CACHE_DIR": str(kernels)}
        done = subprocess.run(
            [sys.executable, "-c", prelude + script],
            env={**os.environ, **given, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout, done.stderr

    return run
