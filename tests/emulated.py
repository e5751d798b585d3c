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
from kernelops.ranges import Ranges

TOGETHER = 24  # kernels of one compilation
OF_BEST, OF_SUMS = {"best": 1, "largest": False, "nan_first": True}, {"compensated": False, "wide_sums": False}
UNUSED = 77  # what is in memory before a kernel writes to it


def key(program, dtype, second=False, **how):
    """What tells kernels apart: program, precision, whether it is the second pass, and the options that matter."""
    options = {"rows": None, "data": None, "finish": None, "out": None, "arithmetic": None} | OF_BEST | OF_SUMS
    unknown = set(how) - set(options)
    assert not unknown, unknown
    options |= how
    if program.kind != "best":
        options |= OF_BEST
    if program.kind not in ("sum", "exp"):
        options |= OF_SUMS
    if second:
        options |= {"rows": None, "data": None, "wide_sums": False}
        del options["arithmetic"]
    return program, np.dtype(dtype).name, second, tuple(options.items())


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
            program, dtype, second, options = found
            source = finish_source if second else cuda_source
            texts.append(source(program, dtype, **dict(options), name=self.names[found]))
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

    def run(self, prepared, arguments, axis, ranges, dtype, *, order="forward", **how):
        """As engines.cpu.run; ranges in no order of their own."""
        program, rows, columns = prepared.program, *_sizes(arguments, axis)
        written = _partial(program, 1, prod(arguments.batch), rows, columns, how.get("best", 1), dtype)
        self._reduce(key(program, dtype, **how), arguments, axis, ranges, written, 1, order)
        found = {name: a if name == "entries" else a[0] for name, a in written.items()}
        found = {name: a.reshape(*arguments.batch, *a.shape[1:]) for name, a in found.items()}
        return Raw(*(found.get(name) for name in Raw._fields))

    def finished(self, prepared, arguments, axis, ranges, dtype, *, finish, out=None, parts=1, order="forward", **how):
        """The results in final form: of one kernel, or of one for parts of the columns and one that combines those."""
        program, rows, columns = prepared.program, *_sizes(arguments, axis)
        batches, best = prod(arguments.batch), how.get("best", 1)
        final = _final(program, finish, batches, rows, columns, best, out or dtype)
        if parts == 1 and finishes(program, best):
            self._reduce(key(program, dtype, finish=finish, out=out, **how), arguments, axis, ranges, final, 1, order)
        else:
            partial = _partial(program, parts, batches, rows, columns, best, dtype)
            self._reduce(key(program, dtype, **how), arguments, axis, ranges, partial, parts, order)
            given = partial | final | {"parts": c_longlong(parts), "rows": c_longlong(batches * rows)}
            in_order = [given[name] for name in finish_argument_names(program, finish)]
            found = key(program, dtype, True, finish=finish, out=out, **how)
            self._launch(found, (2 * (rows * batches > 0),), BLOCK, in_order, order)
        return tuple(a.reshape(*arguments.batch, *a.shape[1:]) for a in final.values())

    def _reduce(self, found, arguments, axis, ranges, written, parts, order):
        program, dtype, _, options = found
        how = dict(options)
        rows, columns = _sizes(arguments, axis)
        block_rows = (Ranges.dense(arguments.M, arguments.N) if ranges is None else ranges).joined(axis)
        tasks, intervals = tasks_of(block_rows, rows, parts)
        counts = (len(tasks), rows, columns, prod(arguments.batch))
        given = written | {"tasks": tasks, "intervals": intervals}
        given |= {name: c_longlong(n) for name, n in zip(("n_tasks", "M", "N", "batches"), counts, strict=True)}
        for position, a in enumerate(arguments.arrays):
            if a is not None:
                given |= _variable(f"x{position}", a.astype(how["data"] or dtype, copy=False), arguments.batch)
        lay = layout(program, dtype, how["best"], how["rows"], how["compensated"], how["wide_sums"])
        # smaller than the work: blocks take several pieces
        grid = -(-counts[0] // 2), -(-counts[3] // 2), -(-lay.passes // 2)
        in_order = [given[name] for name in argument_names(program, how["finish"])]
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


def _partial(program, parts, batches, rows, columns, best, dtype):
    """Partial results, by the names of their arguments."""
    lead, n = (parts, batches, rows), program.n_out
    if program.kind == "best":
        shape = (*lead, n, best)
        return {"values": np.full(shape, float(UNUSED)), "indices": np.full(shape, UNUSED, np.int64)}
    if program.kind == "entries":
        return {"entries": np.zeros((batches, rows, columns, n), dtype)}
    sums = {"sums": np.full((*lead, n), float(UNUSED))}
    return sums | ({"maxima": np.full(lead, float(UNUSED))} if program.kind == "exp" else {})


def _final(program, finish, batches, rows, columns, best, out):
    lead, n = (batches, rows), program.n_out
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
