"""Generated CUDA kernels as a machine: what engines.cpu.run does, done by the emulator, and results in final form.

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

from kernelops.engines import cpu
from kernelops.engines.cpu import Raw
from kernelops.program.cuda.signature import variables_of
from kernelops.program.cuda.source import (
    BLOCK,
    argument_names,
    cuda_source,
    finish_argument_names,
    finish_source,
    finishes,
    include_folders,
    layout,
)
from kernelops.program.options import KernelOptions
from kernelops.ranges import Ranges

TOGETHER = 24  # kernels of one compilation
PLAIN = KernelOptions()
UNUSED = 77  # what is in memory before a kernel writes to it


def key(program, options, data=None, rows=None, second=False):
    """What tells kernels apart: program, options that matter to it, rows of a thread, whether it is the second pass."""
    default = KernelOptions()
    if isinstance(data, str):
        options = options._replace(data=tuple((p, data) for p in variables_of(program)))
    if program.kind != "best":
        options = options._replace(best=default.best, largest=default.largest, nan_first=default.nan_first)
    if program.kind not in ("sum", "exp"):
        options = options._replace(compensated=False, wide_sums=False)
    if second:
        options, rows = options._replace(data=(), wide_sums=False, arithmetic=None), None
    return program, options, rows, second


class Kernels:
    """Kernels that are noted first, then compiled many at a time, and run by their programs and options."""

    def __init__(self):
        self.names, self.modules, self.noting = {}, {}, False

    def build(self, sanitize=False):
        self.noting = False
        missing = [k for k in self.names if k not in self.modules]
        lots = [missing[k : k + TOGETHER] for k in range(0, len(missing), TOGETHER)]
        with ThreadPoolExecutor(2) as pool:
            for lot, module in zip(lots, pool.map(lambda lot: self._compiled(lot, sanitize), lots), strict=True):
                self.modules.update(dict.fromkeys(lot, module))

    def _compiled(self, lot, sanitize):
        texts = []
        for found in lot:
            program, options, rows, second = found
            name = self.names[found]
            text = finish_source(program, options, name=name) if second else None
            texts.append(text or cuda_source(program, options, rows=rows, name=name))
        return compile_cuda("\n".join(texts), include_dirs=include_folders(), sanitize=sanitize)

    def _launch(self, found, grid, threads, in_order, order):
        self.names.setdefault(found, f"kernel{len(self.names)}")
        if self.noting:
            return
        if found not in self.modules:
            self.build()
        if min(grid) > 0:
            self.modules[found].launch(self.names[found], grid, threads, in_order, order=order, seed=7)

    def note(self, *args, **how):
        """As run, for a kernel that will be wanted."""
        self.noting = True
        return self.run(*args, **how)

    def run(self, prepared, arguments, axis, ranges, options=PLAIN, *, data=None, rows=None, order="forward", **more):
        """As engines.cpu.run; ranges in no order of their own. More options take the place of those that are given."""
        program, sizes = prepared.program, _sizes(arguments, axis)
        options = options._replace(finish=None, out=None, **more)
        written = _partial(program, 1, prod(arguments.batch), *sizes, options)
        self._reduce(key(program, options, data, rows), arguments, axis, ranges, written, 1, order)
        found = {name: a if name == "entries" else a[0] for name, a in written.items()}
        found = {name: a.reshape(*arguments.batch, *a.shape[1:]) for name, a in found.items()}
        return Raw(*(found.get(name) for name in Raw._fields))

    def finished(self, prepared, arguments, axis, ranges, options, *, data=None, parts=1, order="forward"):
        """The results in final form: of one kernel, or of one for parts of the columns and one that combines those."""
        program, (rows, columns) = prepared.program, _sizes(arguments, axis)
        batches = prod(arguments.batch)
        final = _final(program, batches, rows, columns, options)
        if parts == 1 and finishes(program, options.best):
            self._reduce(key(program, options, data), arguments, axis, ranges, final, 1, order)
        else:
            first = options._replace(finish=None, out=None)
            partial = _partial(program, parts, batches, rows, columns, first)
            self._reduce(key(program, first, data), arguments, axis, ranges, partial, parts, order)
            given = partial | final | {"parts": c_longlong(parts), "rows": c_longlong(batches * rows)}
            in_order = [given[name] for name in finish_argument_names(program, options.finish)]
            found = key(program, options, second=True)
            self._launch(found, (2 * (rows * batches > 0),), BLOCK, in_order, order)
        return tuple(a.reshape(*arguments.batch, *a.shape[1:]) for a in final.values())

    def _reduce(self, found, arguments, axis, ranges, written, parts, order):
        program, options, rows_of_a_thread, _ = found
        rows, columns = _sizes(arguments, axis)
        block_rows = (Ranges.dense(arguments.M, arguments.N) if ranges is None else ranges).joined(axis)
        tasks, intervals = tasks_of(block_rows, rows, parts)
        counts = (len(tasks), rows, columns, prod(arguments.batch))
        given = written | {"tasks": tasks, "intervals": intervals}
        given |= {name: c_longlong(n) for name, n in zip(("n_tasks", "M", "N", "batches"), counts, strict=True)}
        for position, a in enumerate(arguments.arrays):
            if a is not None:
                a = a.astype(options.data_of(position), copy=False)
                given |= _variable(f"x{position}", a, arguments.batch)
        lay = layout(program, options, rows_of_a_thread)
        # smaller than the work: blocks take several pieces
        grid = -(-counts[0] // 2), -(-counts[3] // 2), -(-lay.passes // 2)
        in_order = [given[name] for name in argument_names(program, options.finish)]
        self._launch(found, grid, lay.block, in_order, order)


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


def tasks_of(block_rows, rows, parts):
    """Tasks and intervals: those of each block of rows cut into parts, and empty ones for rows that meet nothing."""
    tasks, intervals, begins = [], [], 0
    done = np.zeros(rows, bool)
    for (first, last), ends in zip(block_rows.blocks.tolist(), block_rows.slices.tolist(), strict=True):
        own = block_rows.intervals[begins:ends].tolist()
        begins = ends
        done[first:last] = True
        total = sum(to - start for start, to in own)
        for part in range(parts):
            low, high = total * part // parts, total * (part + 1) // parts
            at, some = 0, len(intervals)
            for start, to in own:
                cut = max(start, start + low - at), min(to, start + high - at)
                at += to - start
                if cut[0] < cut[1]:
                    intervals.append(cut)
            tasks.append((first, last, some, len(intervals), part))
    for row in np.flatnonzero(~done).tolist():
        tasks += [(row, row + 1, 0, 0, part) for part in range(parts)]
    return np.array(tasks, np.int64).reshape(-1, 5), np.array(intervals, np.int64).reshape(-1, 2)


def _sizes(arguments, axis):
    return (arguments.M, arguments.N) if axis == 1 else (arguments.N, arguments.M)


def _partial(program, parts, batches, rows, columns, options):
    """Partial results, by the names of their arguments."""
    lead, n = (parts, batches, rows), program.n_out
    if program.kind == "best":
        shape = (*lead, n, options.best)
        return {"values": np.full(shape, float(UNUSED)), "indices": np.full(shape, UNUSED, np.int64)}
    if program.kind == "entries":
        return {"entries": np.zeros((batches, rows, columns, n), options.dtype)}
    sums = {"sums": np.full((*lead, n), float(UNUSED))}
    return sums | ({"maxima": np.full(lead, float(UNUSED))} if program.kind == "exp" else {})


def _final(program, batches, rows, columns, options):
    lead, n, best, finish, out = (batches, rows), program.n_out, options.best, options.finish, options.result
    if finish == "entries":
        return {"entries": np.zeros((*lead, columns, n), out)}
    if finish in ("sum", "log", "mean"):
        return {"result": np.full((*lead, n - (finish == "mean")), UNUSED, out)}
    both = {"result_values": np.full((*lead, best, n), UNUSED, out)}
    both["result_indices"] = np.full((*lead, best, n), UNUSED, np.int64)
    return both if finish == "both" else {f"result_{finish}": both[f"result_{finish}"]}


def _variable(name, a, batch):
    """The arguments that describe an array whose leading axes broadcast to the batch."""
    *lead, row, component = (s // a.itemsize for s in np.broadcast_to(a, (*batch, *a.shape[-2:])).strides)
    starts = np.zeros(batch, np.int64)
    for axis, stride in enumerate(lead):
        starts += stride * np.arange(batch[axis]).reshape(-1, *(1,) * (len(batch) - axis - 1))
    strides = {f"{name}_row": c_longlong(row), f"{name}_component": c_longlong(component)}
    return {name: a, f"{name}_batch": starts.reshape(-1), **strides}
