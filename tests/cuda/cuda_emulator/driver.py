"""PyCUDA on a CPU: an emulated libcuda.so.1, and a compiler whose kernels it runs.

:func:`load` must come before PyCUDA is imported: PyCUDA then finds a library of the name that it wants loaded already.
Only processes that are made for it should do that, for there is no way back.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import re
import sys
from functools import cache
from pathlib import Path

from kept_builds import kept, key_of

from . import emulator
from .emulator import HEADER, EmulatorError, _run, _version, compile_cuda

SOURCE = Path(__file__).parent / "libcuda.cpp"
NAME = "libcuda.so.1"
NOT_HERE = 'extern "C" __attribute__((weak, visibility("default"))) int %s() { return 801; }\n'  # not supported
FLAGS = ["-std=c++17", "-O1", "-g1", "-shared", "-fPIC", "-fvisibility=hidden", f"-Wl,-soname,{NAME}", "-pthread"]


def missing():
    """The tools that are needed and missing, or None."""
    if importlib.util.find_spec("pycuda") is None:
        return "PyCUDA is not installed (tools/pycuda_wheel.sh builds it on a machine without a GPU)"
    return emulator.missing()


@cache
def load():
    """The emulated driver library, with PyCUDA to be imported upon it; its functions emulated_... are for tests."""
    if "pycuda._driver" in sys.modules:
        raise RuntimeError("PyCUDA was imported before the emulated driver was loaded")
    library = ctypes.CDLL(str(_built()), ctypes.RTLD_GLOBAL)
    library.emulated_count.restype = ctypes.c_long
    library.emulated_said.restype = ctypes.c_char_p
    return library


def count(what):
    """How often something was done, or how many of it there are.

    pushed, popped, depth (contexts of this thread), retained, released, allocations, copies, modules, launches,
    "launches in other streams".
    """
    return load().emulated_count(what.encode())


def plant(call, error, after=0):
    """A call of the driver fails once, after so many that go well, or always where that is -1.

    Examples
    --------
    plant("cuMemFree_v2", 700)
    """
    load().emulated_plant(call.encode(), error, after)


def said():
    """What the emulator has said of the last kernel that failed."""
    return load().emulated_said().decode()


class EmulatedCompiler:
    """A compiler of CUDA sources for the emulated driver, in place of one for GPUs."""

    name = "emulator"
    version = hashlib.sha256(HEADER.read_bytes() + Path(emulator.__file__).read_bytes()).hexdigest()[:16]

    def __call__(self, source, arch):
        from kernelops.program.cuda.source import include_folders

        return compile_cuda(source, include_dirs=include_folders()).binary.read_bytes()


COMPILER = EmulatedCompiler()


def install():
    """Load the driver, and have kernelops compile for it; for a process that does nothing else."""
    load()
    from kernelops.gpu import compilers

    compilers.find_compiler = lambda: COMPILER


def _built():
    """The library, compiled where it was not compiled before."""
    source, others = SOURCE.read_text(), "".join(NOT_HERE % name for name in _wanted())

    def make(library):
        rest = library.with_name("rest.cpp")
        rest.write_text(others)
        _run([emulator.COMPILER, *FLAGS, str(SOURCE), str(rest), "-o", str(library), "-ldl"], "")

    return kept(f"libcuda-{key_of(_version(), *FLAGS, source, others)}.so", make)


def _wanted():
    """Names in PyCUDA's extension that may be functions of the driver."""
    package = Path(importlib.util.find_spec("pycuda").origin).parent
    found = set()
    for file in package.glob("_driver*"):
        found |= set(re.findall(rb"(?<=\0)cu[A-Z]\w*(?=\0)", file.read_bytes()))
    if not found:
        raise EmulatorError(f"there is no extension of PyCUDA in {package}")
    return sorted(name.decode() for name in found)
