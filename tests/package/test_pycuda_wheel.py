"""tools/pycuda_wheel.sh, where there is nothing to build."""

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "tools" / "pycuda_wheel.sh"
pytestmark = pytest.mark.skipif(shutil.which("sh") is None, reason="there is no sh")


def run(*arguments):
    return subprocess.run(["sh", str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False)


def test_a_wheel_that_is_there_is_named_and_left(tmp_path):
    tag = "cp{}{}".format(*sys.version_info)
    wheel = tmp_path / f"pycuda-2026.1-{tag}-{tag}-linux_{platform.machine()}.whl"
    wheel.write_bytes(b"built")
    (tmp_path / f"pycuda-2026.1-cp27-cp27-linux_{platform.machine()}.whl").write_bytes(b"for another Python")
    done = run(sys.executable, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{wheel}\n", "")
    assert wheel.read_bytes() == b"built"


def test_wrong_arguments():
    done = run(sys.executable)
    assert done.returncode == 2 and done.stderr.startswith("tools/pycuda_wheel.sh PYTHON FOLDER: a PyCUDA wheel")
