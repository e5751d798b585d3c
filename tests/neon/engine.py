"""The tile engine for ARM, on any machine: cross-compiled as a program (driver.c) that qemu runs, one call at a time.

An :class:`Emulated` stands in for ``kernelops._core``, so that everything above it runs as it is.
"""

import importlib.util
import shutil
import subprocess
from math import prod
from pathlib import Path

import numpy as np

from kernelops import _core

ROOT = Path(__file__).parent.parent.parent
COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
ROWS_PER_TILE = 4  # as good as any


def missing():
    """The tools that are needed and missing, or None."""
    absent = [name for name in (COMPILER, EMULATOR) if shutil.which(name) is None]
    if not (Path(__file__).parent / "driver.c").is_file():
        absent.append("driver.c")
    return f"there is no {' and no '.join(absent)}" if absent else None


def build(folder):
    """The driver, compiled for 64-bit ARM with the flags of the package; where it lies."""
    spec = importlib.util.spec_from_file_location("kernelops_setup", ROOT / "setup.py")
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    program = folder / "driver"
    source = Path(__file__).parent / "driver.c"
    flags = [*setup.COMPILE_FLAGS["unix"], "-static", f"-I{ROOT / 'kernelops'}"]
    subprocess.run([COMPILER, *flags, str(source), "-o", str(program), "-lm"], check=True)
    return program


class _Program:
    """What ``_core.Program`` is given, which it checks, and keeps to itself."""

    def __init__(self, kind, n_out, constants, n_params, contractions, param, row, col, pair, centred=()):
        stages = param, row, col, pair
        checked = _core.Program(kind, n_out, constants, n_params, contractions, *stages, centred)
        self.cost, self.two_sided, self.decays = checked.cost, checked.two_sided, checked.decays
        self.kind, self.n_out, self.constants, self.n_params = kind, n_out, constants, n_params
        self.contractions, self.centred, self.stages = contractions, centred, stages


class _Work:
    """What ``_core.Work`` is given, which it checks, and keeps to itself."""

    def __init__(self, tasks, intervals):
        self.pairs = _core.Work(tasks, intervals).pairs
        self.tasks, self.intervals = tasks, intervals


class Emulated:
    """``kernelops._core`` with the calls computed by the driver."""

    Program, Work = _Program, _Work

    def __init__(self, driver):
        self._driver, self.calls, self.mirrored = driver, 0, 0

    def __getattr__(self, name):
        return getattr(_core, name)

    def reduce(self, program, arrays, batch, M, N, work, *, float64, best=1, mirrored=False, met=None, **options):
        """As ``_core.reduce``; threads and instruction sets are those of the driver."""
        assert met is None, "the driver has no table of tiles"
        flags = [int(options.get(name, False)) for name in ("largest", "nan_first", "wide_sums", "compensated")]
        head = [int(float64), program.kind, program.n_out, program.n_params, prod(batch), M, N, best, *flags]
        said = [_block([*head, ROWS_PER_TILE, mirrored, program.decays], np.int64)]
        for code, planes, loads, exports in program.stages:
            said += [_block(code, np.int32, _core.WIDTH), _block([planes], np.int32)]
            said += [_block(loads, np.int32, 3), _block(exports, np.int32)]
        said += [_block(program.contractions, np.int32), _block(program.centred, np.int32, 5)]
        said.append(_block(program.constants, np.float64))
        tasks, intervals = ([], []) if work is None else (work.tasks, work.intervals)  # a mirrored sum has none
        said += [_block(tasks, np.int64, 4), _block(intervals, np.int64, 2)]
        said.append(_block([len(arrays)], np.int64))
        for array in arrays:
            said += _variable(np.zeros((1, 1)) if array is None else array, batch)
        self.calls += 1
        self.mirrored += mirrored
        command = [EMULATOR, str(self._driver)]
        found = subprocess.run(command, input=b"".join(said), capture_output=True, check=True).stdout
        return self._results(found, program, (*batch, M, program.n_out), best)

    def _results(self, found, program, shape, best):
        out, rows = prod(shape), prod(shape[:-1])
        sums, maxima, values, indices = np.split(
            np.frombuffer(found, np.float64), np.cumsum([out, rows, out * best]), axis=0
        )
        kept = (*shape, best)
        if program.kind == _core.KINDS["best"]:
            return None, None, values.reshape(kept), indices.view(np.int64).reshape(kept), None
        return sums.reshape(shape), maxima.reshape(shape[:-1]), None, None, None


def _block(items, dtype, width=1):
    array = np.ascontiguousarray(items, dtype).reshape(-1, width)
    return np.int64(len(array)).tobytes() + array.tobytes()


def _variable(array, batch):
    """An array of a call with its batch elements one after another (broadcast ones repeated), without gaps."""
    whole = np.ascontiguousarray(np.broadcast_to(array, (*batch, *array.shape[-2:])))
    layout = [*array.shape[-2:], array.dtype == np.float64]
    return [_block(layout, np.int64), _block(whole.reshape(-1).view(np.uint8), np.uint8)]
