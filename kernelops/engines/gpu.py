"""GPUs: tile programs as CUDA kernels, run on arrays and ranges."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..arrays.arguments import Arguments, compute_dtype
from ..arrays.device_array import DeviceArray
from ..arrays.libraries import ArrayLibrary, arguments_to_host, library_of
from ..arrays.permute import permute_rows, restore_order
from ..arrays.transfer import upload
from ..gpu.device import Buffer, Device, Function, device
from ..program.cuda.double_float import unknown
from ..program.cuda.layout import Layout, finishes, layout, parts
from ..program.cuda.signature import FINAL, argument_names, finish_argument_names, variables_of
from ..program.cuda.source import cuda_source, finish_source
from ..program.instructions import Program
from ..ranges import Ranges
from .cpu import Prepared
from .tasks import cut_in_parts

FINISH_BLOCK = 128  # threads of a block in the second pass
LEGACY = 1  # the default stream, in the words of __cuda_array_interface__
MOST_BLOCKS = 65535  # of a grid in y
MOST_ACROSS = 2**31 - 1  # in x
SLOW = 1 / 16  # of the speed in float: a GPU slower than that in double computes some sums in two floats
INT64 = np.dtype(np.int64)


class How(NamedTuple):
    """What a kernel is made for, beside its program: the arguments of :func:`..program.cuda.cuda_source`."""

    dtype: str
    data: tuple[tuple[int, str], ...]
    best: int
    largest: bool
    nan_first: bool
    compensated: bool
    wide_sums: bool
    finish: str
    out: str
    arithmetic: str | None = None

    def words(self, *, partial: bool = False) -> dict[str, Any]:
        words = self._asdict() | {"data": dict(self.data)}
        del words["dtype"]
        return words | ({"finish": None, "out": None} if partial else {})

    @property
    def second(self) -> dict[str, Any]:
        """The arguments of :func:`..program.cuda.finish_source`."""
        words = self.words()
        del words["arithmetic"]
        return words


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
    prepared: Prepared,
    arguments: Arguments,
    axis: int,
    ranges: Ranges | None,
    dtype: np.dtype,
    *,
    finish: str,
    best: int = 1,
    largest: bool = False,
    nan_first: bool = True,
    wide_sums: bool = False,
    compensated: bool = False,
) -> tuple[Any, ...]:
    """Run a program on the arrays of a call, and bring what it leaves into its final form.

    What was made of the program (layouts, kernels) is kept with it: nothing is made, or hashed, at the next call.

    Parameters
    ----------
    dtype : dtype
        Of the results that are no indices; what is computed in is its working precision.
    finish : str
        "sum", "log", "mean", "values", "indices" or "both" (values and indices).

    Returns
    -------
    tuple of arrays
        In the library of the call: (*batch, rows, n) sums, (*batch, rows, K, n) values and indices.
    """
    how: dict[str, Any] = {"finish": finish, "best": best, "largest": largest, "nan_first": nan_first}
    how |= {"wide_sums": wide_sums, "compensated": compensated}
    if ranges is not None and ranges.plain is not ranges:
        return _in_order(prepared, arguments, axis, ranges, dtype, how)
    program = prepared.program
    assert arguments.device is not None
    gpu = device(arguments.device)
    library = library_of(arguments, gpu)
    rows, columns = (arguments.M, arguments.N) if axis == 1 else (arguments.N, arguments.M)
    count = prod(arguments.batch)
    shapes = [((*arguments.batch, rows, *shape), kind) for shape, kind in _shapes(program, dtype, how)]
    for shape, kind in shapes:
        _core.product("results * bytes", (*shape, kind.itemsize))
    with gpu.current():
        results = [library.empty(shape, kind) for shape, kind in shapes]
        if not all(r.size for r in results):
            return tuple(library.wrap(r) for r in results)
        inputs = {p: _resident(arguments.arrays[p], gpu, library) for p in variables_of(program)}
        for a in inputs.values():
            if a.library == "pycuda" and a.size:  # which does not say where it is
                gpu.check(a.pointer)
        for stream in {a.stream for a in inputs.values()} - {None, LEGACY, library.stream}:
            gpu.synchronise(stream)  # somebody else's, which has still to write the numbers
        data = tuple((p, a.dtype.name) for p, a in inputs.items())
        asked = How(
            compute_dtype(dtype).name, data, best, largest, nan_first, compensated, wide_sums, finish, dtype.name
        )
        lay = _layout(prepared, asked)
        pieces = parts(lay, rows, columns, count, gpu.multiprocessors)
        partial = pieces > 1 or not finishes(program, best)
        work = _work(ranges, axis, rows, columns, lay, pieces, gpu)
        held = [work.memory]  # caches may let go of it before it is read
        kernel_arguments = {"M": rows, "N": columns, "batches": count, "parts": pieces, "rows": count * rows}
        kernel_arguments |= {"tasks": work.tasks, "intervals": work.intervals, "n_tasks": work.n_tasks}
        for p, a in inputs.items():
            more, table = _variable(f"x{p}", a, arguments.batch, gpu)
            kernel_arguments |= more
            held.append(table)
        kernel_arguments |= zip(FINAL[finish], (r.pointer for r in results), strict=True)
        between = _partials(program, asked, pieces * count * rows, library) if partial else {}
        kernel_arguments |= {name: a.pointer for name, a in between.items()}
        grid = min(work.n_tasks, MOST_ACROSS), min(count, MOST_BLOCKS), min(lay.passes, MOST_BLOCKS)
        for arithmetic in ("twofloat", "again") if _in_two_floats(gpu, program, asked) else (None,):
            kernel = _kernel(gpu, prepared, asked._replace(arithmetic=arithmetic), partial)
            values = [kernel_arguments[name] for name in kernel.names]
            gpu.launch(kernel.function, grid, (lay.block,), values, library.stream)
        if partial:
            second = _second(gpu, prepared, asked)
            numbers = count * rows * program.n_out
            grid = min(-(-numbers // FINISH_BLOCK), MOST_BLOCKS), 1
            values = [kernel_arguments[name] for name in second.names]
            gpu.launch(second.function, grid, (FINISH_BLOCK,), values, library.stream)
        return tuple(library.wrap(r) for r in results)


def _in_two_floats(gpu: Device, program: Program, how: How) -> bool:
    """Whether a sum in double of data in float, but for the unknown, is faster in two floats, about 48 bits.

    Results that leave the range in which these are good are computed again in double by a second kernel; which ones
    do only that kernel knows, so it is launched always.
    """
    wanted = gpu.double_ratio < SLOW and how.dtype == how.out == "float64" and not (how.compensated or how.wide_sums)
    return wanted and unknown(program, dict(how.data)) is not None


def _shapes(program: Program, dtype: np.dtype, how: dict[str, Any]) -> list[tuple[tuple[int, ...], np.dtype]]:
    """Shape of a row, and dtype, of each result."""
    n, best, finish = program.n_out, how["best"], how["finish"]
    kept = {"values": [dtype], "indices": [INT64], "both": [dtype, INT64]}
    return [((best, n), kind) for kind in kept[finish]] if finish in kept else [((n - (finish == "mean"),), dtype)]


def _resident(a: Any, gpu: Device, library: ArrayLibrary) -> DeviceArray:
    """An array in the memory of the GPU: as it stands, or a copy."""
    return a if isinstance(a, DeviceArray) else upload(a, gpu, library.stream)


def _variable(name: str, a: DeviceArray, batch: tuple[int, ...], gpu: Device) -> tuple[dict[str, int], Buffer]:
    """The arguments that describe an array whose leading axes broadcast to the batch, and what holds their table."""
    size = a.dtype.itemsize
    lead = (0,) * (len(batch) + 2 - a.ndim) + a.strides[:-2]
    shape = (1,) * (len(batch) + 2 - a.ndim) + a.shape[:-2]
    _core.product("batch * bytes", (*batch, INT64.itemsize))
    starts = np.zeros(batch, np.int64)
    for axis, (stride, length) in enumerate(zip(lead, shape, strict=True)):
        if length > 1:
            starts += (stride // size * np.arange(length)).reshape(-1, *(1,) * (len(batch) - axis - 1))
    table = _table(gpu, starts.tobytes())
    steps = {f"{name}_row": a.strides[-2] // size, f"{name}_component": a.strides[-1] // size}
    return {name: a.pointer, f"{name}_batch": table.pointer} | steps, table


@lru_cache(maxsize=256)
def _table(gpu: Device, numbers: bytes) -> Buffer:
    """Where batch elements begin, in the memory of the GPU; the same for most calls."""
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
    return _cut(Ranges.dense(rows, columns), 1, rows, height, pieces, grain, gpu)


def _cut(ranges: Ranges, axis: int, rows: int, height: int, pieces: int, grain: int, gpu: Device) -> Work:
    tasks, intervals = cut_in_parts(ranges.joined(axis), rows, height, pieces, grain)
    memory = _upload_tasks(gpu, np.concatenate([tasks.ravel(), intervals.ravel()]))
    return Work(memory, memory.pointer, memory.pointer + tasks.nbytes, len(tasks))


def _partials(program: Program, how: How, rows: int, library: ArrayLibrary) -> dict[str, Any]:
    """Memory for what the parts of a sum, or of best values, leave; rows counts those of all parts."""
    n, wide = program.n_out, np.dtype(np.float64)
    _core.product("parts * batch * rows * results * bytes", (rows, n, how.best, wide.itemsize))
    if program.kind == "best":
        return {
            "values": library.empty((rows, n, how.best), wide),
            "indices": library.empty((rows, n, how.best), INT64),
        }
    found = {"sums": library.empty((rows, n), wide)}
    return found | ({"maxima": library.empty((rows,), wide)} if program.kind == "exp" else {})


def _kept_with(prepared: Prepared) -> dict[Any, Any]:
    assert prepared.cache is not None
    return prepared.cache


def _layout(prepared: Prepared, how: How) -> Layout:
    key = "layout", how.dtype, how.best, how.compensated, how.wide_sums
    found: Layout | None = _kept_with(prepared).get(key)
    if found is None:
        found = _kept_with(prepared)[key] = layout(
            prepared.program, how.dtype, how.best, compensated=how.compensated, wide_sums=how.wide_sums
        )
    return found


def _kernel(gpu: Device, prepared: Prepared, how: How, partial: bool) -> Kernel:
    key, program = ("first", gpu.number, how, partial), prepared.program
    found: Kernel | None = _kept_with(prepared).get(key)
    if found is None:
        text = cuda_source(program, how.dtype, **how.words(partial=partial))
        names = argument_names(program, None if partial else how.finish)
        found = _kept_with(prepared)[key] = Kernel(gpu.function(text, "kernelops_reduce"), names)
    return found


def _second(gpu: Device, prepared: Prepared, how: How) -> Kernel:
    key, program = ("second", gpu.number, how), prepared.program
    found: Kernel | None = _kept_with(prepared).get(key)
    if found is None:
        text = finish_source(program, how.dtype, **how.second)
        found = _kept_with(prepared)[key] = Kernel(
            gpu.function(text, "kernelops_finish"), finish_argument_names(program, how.finish)
        )
    return found


def _in_order(
    prepared: Prepared, arguments: Arguments, axis: int, ranges: Ranges, dtype: np.dtype, how: dict[str, Any]
) -> tuple[Any, ...]:
    """With ranges that have orders of their own: the arrays are put into these on the host."""
    by_row, by_column = (ranges.order_i, ranges.order_j) if axis == 1 else (ranges.order_j, ranges.order_i)
    row, col = prepared.program.row, prepared.program.col
    orders = {p: by_row for p, *_ in row.loads} | {p: by_column for p, *_ in col.loads}
    here = permute_rows(arguments_to_host(arguments), orders)._replace(device=arguments.device)
    results = run(prepared, here, axis, ranges.plain, dtype, **how)
    library = library_of(arguments, device(arguments.device or 0))
    kinds = {"values": [2], "indices": [3], "both": [2, 3]}.get(how["finish"], [0])
    raw: list[Any] = [None] * 5
    for place, a in zip(kinds, results, strict=True):
        raw[place] = a
    back = restore_order(raw, by_row, by_column, len(arguments.batch))
    return tuple(library.from_host(back[place]) for place in kinds)
