"""GPUs: tile programs as CUDA kernels, run on arrays and ranges."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..arrays.arguments import Arguments
from ..arrays.device_array import DeviceArray
from ..arrays.libraries import ArrayLibrary, arguments_to_host, library_of
from ..arrays.permute import permute_rows, restore_order
from ..arrays.transfer import upload
from ..gpu.device import Buffer, Device, Function, device
from ..program.cuda.double_float import unknown_in_double
from ..program.cuda.layout import Layout, finishes, layout, parts
from ..program.cuda.signature import FINAL, argument_names, finish_argument_names, variables_of
from ..program.cuda.source import cuda_source, finish_source
from ..program.instructions import Program
from ..program.options import KernelOptions
from ..ranges import Ranges
from .cpu import Prepared
from .tasks import cut_in_parts

FINISH_BLOCK = 128  # threads of a block in the second pass
LEGACY = 1  # __cuda_array_interface__'s number for the default stream
MOST_BLOCKS = 65535  # a grid has at most so many blocks in y or z
MOST_ACROSS = 2**31 - 1  # and so many in x
SLOW_DOUBLE = 1 / 16  # a GPU whose speed in double is less than this times that in float sums in two floats
INT64 = np.dtype(np.int64)


class Kernel(NamedTuple):
    """A function on a GPU, and the names of its arguments in order."""

    function: Function
    names: tuple[str, ...]


class Work(NamedTuple):
    """Tasks in the memory of a GPU, one array after the other."""

    memory: Buffer
    tasks: int
    intervals: int
    n_tasks: int


def run(
    prepared: Prepared, arguments: Arguments, axis: int, ranges: Ranges | None, options: KernelOptions
) -> tuple[Any, ...]:
    """Run a program on the arrays of a call, and bring its results into their final form.

    Layouts and kernels are kept with the prepared program: nothing is made, or hashed, at the next call.

    Parameters
    ----------
    options : KernelOptions
        With a ``finish`` and the precision ``out`` of the results; the precisions of the data are those of the arrays.

    Returns
    -------
    tuple of arrays
        In the library of the call: (*batch, rows, n) sums, (*batch, rows, K, n) values and indices.
    """
    if ranges is not None and ranges.plain is not ranges:
        return _run_permuted(prepared, arguments, axis, ranges, options)
    program = prepared.program
    assert arguments.device is not None and options.finish is not None
    gpu = device(arguments.device)
    library = library_of(arguments, gpu)
    rows, columns = (arguments.M, arguments.N) if axis == 1 else (arguments.N, arguments.M)
    count = prod(arguments.batch)
    shapes = [((*arguments.batch, rows, *shape), kind) for shape, kind in _shapes(program, options)]
    for shape, kind in shapes:
        _core.product("results * bytes", (*shape, kind.itemsize))
    with gpu.current():
        results = [library.empty(shape, kind) for shape, kind in shapes]
        if not all(r.size for r in results):
            return tuple(library.wrap(r) for r in results)
        inputs = {p: _on_gpu(arguments.arrays[p], gpu, library) for p in variables_of(program)}
        for a in inputs.values():
            if a.library == "pycuda" and a.size:  # which does not say where it is
                gpu.check(a.pointer)
        for stream in {a.stream for a in inputs.values()} - {None, LEGACY, library.stream}:
            gpu.synchronise(stream)  # another library's stream, which has still to write the numbers
        data = tuple((p, a.dtype.name) for p, a in inputs.items())
        options = options._replace(data=data)
        lay = _layout(prepared, options)
        pieces = parts(lay, rows, columns, count, gpu.multiprocessors)
        partial = pieces > 1 or not finishes(program, options.best)
        work = _work(ranges, axis, rows, columns, lay, pieces, gpu)
        held = [work.memory]  # caches may let go of it before it is read
        kernel_arguments = {"M": rows, "N": columns, "batches": count, "parts": pieces, "rows": count * rows}
        kernel_arguments |= {"tasks": work.tasks, "intervals": work.intervals, "n_tasks": work.n_tasks}
        for p, a in inputs.items():
            more, table = _describe_variable(f"x{p}", a, arguments.batch, gpu)
            kernel_arguments |= more
            held.append(table)
        kernel_arguments |= zip(FINAL[options.finish], (r.pointer for r in results), strict=True)
        between = _partials(program, options, pieces * count * rows, library) if partial else {}
        kernel_arguments |= {name: a.pointer for name, a in between.items()}
        grid = min(work.n_tasks, MOST_ACROSS), min(count, MOST_BLOCKS), min(lay.passes, MOST_BLOCKS)
        for arithmetic in ("twofloat", "again") if _use_two_floats(gpu, program, options) else (None,):
            kernel = _first_kernel(gpu, prepared, options._replace(arithmetic=arithmetic), partial)
            values = [kernel_arguments[name] for name in kernel.names]
            gpu.launch(kernel.function, grid, (lay.block,), values, library.stream)
        if partial:
            second = _second_kernel(gpu, prepared, options)
            numbers = count * rows * program.n_out
            grid = min(-(-numbers // FINISH_BLOCK), MOST_BLOCKS), 1
            values = [kernel_arguments[name] for name in second.names]
            gpu.launch(second.function, grid, (FINISH_BLOCK,), values, library.stream)
        return tuple(library.wrap(r) for r in results)


def _use_two_floats(gpu: Device, program: Program, options: KernelOptions) -> bool:
    """Whether a sum in double of data in float, but for the unknown, is faster in two floats, about 48 bits.

    Results that leave the range in which these are good are computed again in double by a second kernel; which ones
    do only that kernel knows, so it is launched always.
    """
    wider = options.compensated or options.wide_sums
    wanted = gpu.double_ratio < SLOW_DOUBLE and options.dtype == options.out == "float64" and not wider
    return wanted and unknown_in_double(program, dict(options.data)) is not None


def _shapes(program: Program, options: KernelOptions) -> list[tuple[tuple[int, ...], np.dtype]]:
    """Shape of a row, and dtype, of each result."""
    n, best, finish, dtype = program.n_out, options.best, options.finish, np.dtype(options.result)
    kept = {"values": [dtype], "indices": [INT64], "both": [dtype, INT64]}
    return [((best, n), kind) for kind in kept[finish]] if finish in kept else [((n - (finish == "mean"),), dtype)]


def _on_gpu(a: Any, gpu: Device, library: ArrayLibrary) -> DeviceArray:
    """An array in the memory of the GPU: as it stands, or a copy."""
    return a if isinstance(a, DeviceArray) else upload(a, gpu, library.stream)


def _describe_variable(name: str, a: DeviceArray, batch: tuple[int, ...], gpu: Device) -> tuple[dict[str, int], Buffer]:
    """The arguments that describe an array whose leading axes broadcast to the batch, and what holds their table."""
    size = a.dtype.itemsize
    lead = (0,) * (len(batch) + 2 - a.ndim) + a.strides[:-2]
    shape = (1,) * (len(batch) + 2 - a.ndim) + a.shape[:-2]
    _core.product("batch * bytes", (*batch, INT64.itemsize))
    starts = np.zeros(batch, np.int64)
    for axis, (stride, length) in enumerate(zip(lead, shape, strict=True)):
        if length > 1:
            starts += (stride // size * np.arange(length)).reshape(-1, *(1,) * (len(batch) - axis - 1))
    table = _batch_table(gpu, starts.tobytes())
    steps = {f"{name}_row": a.strides[-2] // size, f"{name}_component": a.strides[-1] // size}
    return {name: a.pointer, f"{name}_batch": table.pointer} | steps, table


@lru_cache(maxsize=256)
def _batch_table(gpu: Device, numbers: bytes) -> Buffer:
    """The offsets of batch elements in the memory of the GPU; the same for most calls."""
    return _upload_tasks(gpu, np.frombuffer(numbers, np.int64))


def _upload_tasks(gpu: Device, numbers: np.ndarray) -> Buffer:
    """A copy that kernels in any stream may read from now on."""
    memory = gpu.upload(numbers)
    gpu.synchronise()
    return memory


def _work(ranges: Ranges | None, axis: int, rows: int, columns: int, lay: Layout, pieces: int, gpu: Device) -> Work:
    """The tasks of a call; they are kept with its ranges."""
    height, grain = lay.height, lay.tile
    if ranges is None:
        return _dense_work(gpu, rows, columns, height, pieces, grain)
    key = "gpu", gpu.number, axis, rows, height, pieces, grain
    found: Work | None = ranges.cache.get(key)
    if found is None:
        found = ranges.cache[key] = _cut(ranges, axis, rows, height, pieces, grain, gpu)
    return found


@lru_cache(maxsize=64)
def _dense_work(gpu: Device, rows: int, columns: int, height: int, pieces: int, grain: int) -> Work:
    """The tasks of all pairs, kept on the GPU."""
    return _cut(Ranges.dense(rows, columns), 1, rows, height, pieces, grain, gpu)


def _cut(ranges: Ranges, axis: int, rows: int, height: int, pieces: int, grain: int, gpu: Device) -> Work:
    """Cut the block rows of ranges into tasks, and upload them."""
    tasks, intervals = cut_in_parts(ranges.joined(axis), rows, height, pieces, grain)
    memory = _upload_tasks(gpu, np.concatenate([tasks.ravel(), intervals.ravel()]))
    return Work(memory, memory.pointer, memory.pointer + tasks.nbytes, len(tasks))


def _partials(program: Program, options: KernelOptions, rows: int, library: ArrayLibrary) -> dict[str, Any]:
    """Memory for what the parts of a sum, or of best values, leave; rows counts those of all parts."""
    n, wide = program.n_out, np.dtype(np.float64)
    _core.product("parts * batch * rows * results * bytes", (rows, n, options.best, wide.itemsize))
    if program.kind == "best":
        return {
            "values": library.empty((rows, n, options.best), wide),
            "indices": library.empty((rows, n, options.best), INT64),
        }
    found = {"sums": library.empty((rows, n), wide)}
    return found | ({"maxima": library.empty((rows,), wide)} if program.kind == "exp" else {})


def _cache_of(prepared: Prepared) -> dict[Any, Any]:
    """The cache that lives as long as the prepared program."""
    assert prepared.cache is not None
    return prepared.cache


def _layout(prepared: Prepared, options: KernelOptions) -> Layout:
    """The layout of the kernel of a program, found once."""
    key = "layout", options
    found: Layout | None = _cache_of(prepared).get(key)
    if found is None:
        found = _cache_of(prepared)[key] = layout(prepared.program, options)
    return found


def _first_kernel(gpu: Device, prepared: Prepared, options: KernelOptions, partial: bool) -> Kernel:
    """The kernel that goes over the pairs; it writes partial results, or the final ones."""
    if partial:
        options = options._replace(finish=None, out=None)
    key, program = ("first", gpu.number, options), prepared.program
    found: Kernel | None = _cache_of(prepared).get(key)
    if found is None:
        function = gpu.function(cuda_source(program, options), "kernelops_reduce")
        found = _cache_of(prepared)[key] = Kernel(function, argument_names(program, options.finish))
    return found


def _second_kernel(gpu: Device, prepared: Prepared, options: KernelOptions) -> Kernel:
    """The kernel that combines partial results."""
    key, program = ("second", gpu.number, options), prepared.program
    found: Kernel | None = _cache_of(prepared).get(key)
    if found is None:
        function = gpu.function(finish_source(program, options), "kernelops_finish")
        found = _cache_of(prepared)[key] = Kernel(function, finish_argument_names(program, options.finish))
    return found


def _run_permuted(
    prepared: Prepared, arguments: Arguments, axis: int, ranges: Ranges, options: KernelOptions
) -> tuple[Any, ...]:
    """Run with ranges that have orders of their own: the arrays are put into these on the host."""
    by_row, by_column = (ranges.order_i, ranges.order_j) if axis == 1 else (ranges.order_j, ranges.order_i)
    row, col = prepared.program.row, prepared.program.col
    orders = {p: by_row for p, *_ in row.loads} | {p: by_column for p, *_ in col.loads}
    here = permute_rows(arguments_to_host(arguments), orders)._replace(device=arguments.device)
    results = run(prepared, here, axis, ranges.plain, options)
    library = library_of(arguments, device(arguments.device or 0))
    kinds = {"values": [2], "indices": [3], "both": [2, 3]}.get(options.finish, [0])
    raw: list[Any] = [None] * 5
    for place, a in zip(kinds, results, strict=True):
        raw[place] = a
    back = restore_order(raw, by_row, by_column, len(arguments.batch))
    return tuple(library.from_host(back[place]) for place in kinds)
