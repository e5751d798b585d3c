"""The generated CUDA kernels as a machine: what cpu.run does, done by the emulator."""

from concurrent.futures import ThreadPoolExecutor
from ctypes import c_longlong, c_void_p
from math import prod

import numpy as np
from cuda_emulator.emulator import compile_cuda

from kernelops import _core
from kernelops.machines.cpu import Raw
from kernelops.program.cuda import arguments, cuda_source, include_folders, layout
from kernelops.ranges import Ranges

TOGETHER = 24  # kernels of one compilation


def key(program, dtype, best=1, largest=False, nan_first=True, compensated=False, wide_sums=False, rows=None):
    """What a kernel depends on; options that say nothing for its kind of program do not count."""
    if program.kind != "best":
        best, largest, nan_first = 1, False, True
    if program.kind not in ("sum", "exp"):
        compensated = wide_sums = False
    return program, np.dtype(dtype).name, best, largest, nan_first, compensated, wide_sums, rows


class Kernels:
    """Kernels that are compiled many at a time, and run by their program and options."""

    def __init__(self):
        self.names, self.modules = {}, {}

    def want(self, program, dtype, **options):
        found = key(program, dtype, **options)
        self.names.setdefault(found, f"kernel{len(self.names)}")
        return found

    def build(self):
        missing = [k for k in self.names if k not in self.modules]
        lots = [missing[k : k + TOGETHER] for k in range(0, len(missing), TOGETHER)]
        with ThreadPoolExecutor(2) as pool:
            for lot, module in zip(lots, pool.map(self._compiled, lots), strict=True):
                self.modules.update(dict.fromkeys(lot, module))

    def _compiled(self, lot):
        return compile_cuda("\n".join(cuda_source(*k, name=self.names[k]) for k in lot), include_dirs=include_folders())

    def run(self, prepared, bound, axis, ranges, dtype, *, order="forward", rows=None, **how):
        """As machines.cpu.run."""
        program = prepared.program
        found = self.want(program, dtype, rows=rows, **how)
        if found not in self.modules:
            self.build()
        best, largest = found[2:4]
        heights = (bound.M, bound.N) if axis == 1 else (bound.N, bound.M)
        raw = Raw(*_results(program, bound.batch, heights, best, largest, np.dtype(dtype)))
        half = (Ranges.dense(bound.M, bound.N) if ranges is None else ranges).joined(axis)
        ends = np.concatenate([np.zeros(1, np.int64), half.slices])
        tasks = np.column_stack([half.blocks, ends[:-1], ends[1:]])
        count = prod(bound.batch)
        if len(tasks) == 0 or count == 0:
            return raw
        given = {
            "sums": raw.sums,
            "maxima": raw.maxima,
            "values": raw.values,
            "indices": raw.indices,
            "entries": raw.entries,
            "tasks": np.ascontiguousarray(tasks),
            "intervals": np.ascontiguousarray(half.intervals),
            "n_tasks": c_longlong(len(tasks)),
            "M": c_longlong(heights[0]),
            "N": c_longlong(heights[1]),
            "batches": c_longlong(count),
        }
        for position, a in enumerate(bound.arrays):
            if a is not None:
                given |= _variable(position, a.astype(dtype, copy=False), bound.batch)
        how_laid = layout(program, found[1], best, rows)
        grid = (-(-len(tasks) // 2), -(-count // 2))  # smaller than the work, so that blocks take several pieces
        arguments_in_order = [given[name] for name in arguments(program)]
        self.modules[found].launch(self.names[found], grid, how_laid.block, arguments_in_order, order=order)
        return raw


def _results(program, batch, sizes, best, largest, dtype):
    """What _core.reduce returns where no row meets anything."""
    M, N = sizes
    if program.kind == "best":
        values = np.full((*batch, M, program.n_out, best), -np.inf if largest else np.inf)
        return None, None, values, np.full(values.shape, -1, np.int64), None
    if program.kind == "entries":
        return None, None, None, None, np.zeros((*batch, M, N, program.n_out), dtype)
    return np.zeros((*batch, M, program.n_out)), np.full((*batch, M), -np.inf), None, None, None


def _variable(position, a, batch):
    """The arguments that describe an array."""
    spread = np.broadcast_to(a, (*batch, *a.shape[-2:]))
    *lead, row, component = (s // a.itemsize for s in spread.strides)
    offsets = np.zeros(batch, np.int64)
    for axis, stride in enumerate(lead):
        offsets += stride * np.arange(batch[axis]).reshape(-1, *(1,) * (len(batch) - axis - 1))
    name = f"x{position}"
    return {
        name: c_void_p(a.ctypes.data),
        f"{name}_row": c_longlong(row),
        f"{name}_component": c_longlong(component),
        f"{name}_batch": np.ascontiguousarray(offsets.reshape(-1)),
    }
