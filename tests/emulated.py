"""Generated CUDA kernels as a machine: what machines.cpu.run does, done by the emulator.

What a test computes it computes by a call that knows nothing of kernels. Every call runs once while kernels are only
noted, so that many are compiled together, and again in its test.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ctypes import c_longlong
from math import prod

import numpy as np
import pytest
from cuda_emulator.emulator import compile_cuda

from kernelops.machines import cpu
from kernelops.machines.cpu import Raw
from kernelops.program.cuda import arguments, cuda_source, include_folders, layout
from kernelops.ranges import Ranges

TOGETHER = 24  # kernels of one compilation


def key(program, dtype, best=1, largest=False, nan_first=True, compensated=False, wide_sums=False, rows=None):
    """The arguments of cuda_source; those that say nothing for a kind of program have one value."""
    if program.kind != "best":
        best, largest, nan_first = 1, False, True
    if program.kind not in ("sum", "exp"):
        compensated = wide_sums = False
    return program, np.dtype(dtype).name, best, largest, nan_first, compensated, wide_sums, rows


class Kernels:
    """Kernels that are noted first, then compiled many at a time, and run by their programs and options."""

    def __init__(self):
        self.names, self.modules = {}, {}

    def build(self, sanitize=False):
        missing = [k for k in self.names if k not in self.modules]
        lots = [missing[k : k + TOGETHER] for k in range(0, len(missing), TOGETHER)]
        with ThreadPoolExecutor(2) as pool:
            for lot, module in zip(lots, pool.map(lambda lot: self._compiled(lot, sanitize), lots), strict=True):
                self.modules.update(dict.fromkeys(lot, module))

    def _compiled(self, lot, sanitize):
        text = "\n".join(cuda_source(*k, name=self.names[k]) for k in lot)
        return compile_cuda(text, include_dirs=include_folders(), sanitize=sanitize)

    def note(self, prepared, bound, axis, ranges, dtype, *, order="forward", **how):
        """As run, for a kernel that will be wanted: the results are those of no pairs."""
        found = key(prepared.program, dtype, **how)
        self.names.setdefault(found, f"kernel{len(self.names)}")
        return _results(found, bound, axis)

    def run(self, prepared, bound, axis, ranges, dtype, *, order="forward", **how):
        """As machines.cpu.run; ranges in no order of their own."""
        found, program = key(prepared.program, dtype, **how), prepared.program
        if found not in self.modules:
            self.note(prepared, bound, axis, ranges, dtype, **how)
            self.build()
        raw = _results(found, bound, axis)
        half = (Ranges.dense(bound.M, bound.N) if ranges is None else ranges).joined(axis)
        ends = np.concatenate([np.zeros(1, np.int64), half.slices])
        tasks = np.column_stack([half.blocks, ends[:-1], ends[1:]])
        counts = (len(tasks), *((bound.M, bound.N) if axis == 1 else (bound.N, bound.M)), prod(bound.batch))
        given = raw._asdict() | {"tasks": tasks, "intervals": np.ascontiguousarray(half.intervals)}
        given |= {name: c_longlong(n) for name, n in zip(("n_tasks", "M", "N", "batches"), counts, strict=True)}
        for position, a in enumerate(bound.arrays):
            if a is not None:
                given |= _variable(f"x{position}", a.astype(dtype, copy=False), bound.batch)
        grid = -(-counts[0] // 2), -(-counts[3] // 2)  # smaller than the work: blocks take several pieces
        threads = layout(program, found[1], found[2], found[-1]).block
        if min(grid) > 0:
            in_order = [given[name] for name in arguments(program)]
            self.modules[found].launch(self.names[found], grid, threads, in_order, order=order, seed=7)
        return raw


def compiled(calls):
    """The kernels that some calls need."""
    found = Kernels()
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(cpu, "run", found.note)
        for call in calls:
            with suppress(AssertionError):  # of a test that is called as a whole
                call()
    found.build()
    return found


def _results(found, bound, axis):
    """What the engine returns where no row meets anything."""
    program, dtype, best, largest = found[:4]
    rows, columns = (bound.M, bound.N) if axis == 1 else (bound.N, bound.M)
    lead = (*bound.batch, rows)
    if program.kind == "best":
        values = np.full((*lead, program.n_out, best), -np.inf if largest else np.inf)
        return Raw(None, None, values, np.full(values.shape, -1, np.int64), None)
    if program.kind == "entries":
        return Raw(None, None, None, None, np.zeros((*lead, columns, program.n_out), dtype))
    maxima = np.full(lead, -np.inf) if program.kind == "exp" else None
    return Raw(np.zeros((*lead, program.n_out)), maxima, None, None, None)


def _variable(name, a, batch):
    """The arguments that describe an array whose leading axes broadcast to the batch."""
    *lead, row, component = (s // a.itemsize for s in np.broadcast_to(a, (*batch, *a.shape[-2:])).strides)
    starts = np.zeros(batch, np.int64)
    for axis, stride in enumerate(lead):
        starts += stride * np.arange(batch[axis]).reshape(-1, *(1,) * (len(batch) - axis - 1))
    strides = {f"{name}_row": c_longlong(row), f"{name}_component": c_longlong(component)}
    return {name: a, f"{name}_batch": starts.reshape(-1), **strides}
