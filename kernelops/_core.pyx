# cython: language_level=3
"""The door to the tile engine: checks and encodes, releases the GIL, calls C.

A :class:`Program` is verified once, when it is made (by program/verify.py); :func:`reduce` checks the arrays of a call
against it. The C code behind (``_tile/*.h``) trusts both.
"""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_STRIDES, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.string cimport memset

import numpy as np

from .program.verify import Encoded, Names, Stage, decays, pair_cost, two_sided, verify

OPCODES = {OP_NAMES[k].decode(): k for k in range(OP_COUNT)}
PLACES = {None: IN_NONE, "tile": IN_TILE, "row": IN_ROW, "col": IN_COL, "param": IN_PARAM}
INSTRUCTION_SETS = {ISA_NAMES[k].decode(): k for k in range(ISA_COUNT) if isa_usable(k)}
TASK_ROWS = ROWS_PER_TASK_MAX
TILE = TILE_WIDTH
WIDTH = CODE_WIDTH
KINDS = {"sum": 0, "exp": REDUCE_EXP, "best": REDUCE_BEST, "entries": REDUCE_ENTRIES}

cdef int64_t PAIRS_PER_CALL = 1 << 27  # work between two checks for Ctrl-C: a tenth of a second or so

cdef int64_t STRIPS_LEAST = 8, STRIPS_MOST = 64  # strips of a mirrored sum: enough for many threads, in little memory
cdef int64_t STRIP_BYTES = 1 << 28  # the buffers of all strips together have at most so many bytes
cdef int64_t BUFFER_WORK = 2048  # another strip is worth its buffer if each point has so much counted work of pairs

MOST_BYTES = 1 << 60  # no machine has as many bytes; a few times that, and counts of rows, fit 64 bits

_NAMES = Names(
    operations=tuple(OPCODES),
    places={number: name for name, number in PLACES.items()},
    kinds={number: name for name, number in KINDS.items()},
)


if pool_open():
    raise MemoryError("the threads of the engine cannot be prepared for a fork")


cpdef int64_t product(str what, tuple sizes) except -1:
    """The product of some sizes, in Python's numbers, which do not overflow.

    All counts of bytes and of pieces of work are made here, before memory is allocated.

    Raises
    ------
    MemoryError
        With the sizes, if their product is more than any memory has.
    """
    total = 1
    for size in sizes:
        total = total * size
    if total > MOST_BYTES:
        raise MemoryError(f"{what} = {' * '.join(map(str, sizes))}: more than any memory has")
    return total


cdef int32_t _count(Py_ssize_t size) except -1:
    """A length as the C code counts it."""
    if size > 2**31 - 1:
        raise ValueError(f"tile program: a table of {size} rows")
    return <int32_t> size


cdef class _Stage:
    """Copies of the arrays of one stage, which nothing else can change, and the C view of them."""

    cdef stage c
    cdef object code, loads, exports

    def __cinit__(self, code, int planes, loads, exports):
        cdef int32_t[:, ::1] code_view
        cdef int32_t[:, ::1] loads_view
        cdef int32_t[::1] exports_view
        self.code, self.loads = _copy(code, np.int32).reshape(-1, CODE_WIDTH), _copy(loads, np.int32).reshape(-1, 3)
        self.exports = _copy(exports, np.int32)
        code_view, loads_view, exports_view = self.code, self.loads, self.exports
        self.c.length, self.c.n_loads = _count(code_view.shape[0]), _count(loads_view.shape[0])
        self.c.n_exports = _count(exports_view.shape[0])
        self.c.planes = planes
        self.c.code = <const instruction *> &code_view[0, 0] if self.c.length else NULL
        self.c.loads = &loads_view[0, 0] if self.c.n_loads else NULL
        self.c.exports = &exports_view[0] if self.c.n_exports else NULL

    cdef object numbers(self):
        return Stage(self.code.tolist(), self.c.planes, self.loads.tolist(), self.exports.tolist())


cdef object _copy(array, dtype):
    return np.array(array, dtype).reshape(-1)


cdef class Program:
    """A verified tile program in the form that the C code reads; see program/instructions.py for the meaning.

    It is verified where it is made, and cannot be made otherwise or changed afterwards.
    """

    cdef readonly int kind, n_out, n_params
    cdef readonly int64_t cost
    cdef readonly bint two_sided  # its values could serve the rows of both points of a pair
    cdef readonly bint decays  # many of its values may be too small for a normal number
    cdef object contractions, centred, constants
    cdef _Stage param, row, col, pair

    def __cinit__(self, int kind, int n_out, constants, int n_params, contractions, param, row, col, pair, centred=()):
        self.kind, self.n_out, self.n_params = kind, n_out, n_params
        self.constants, self.contractions = _copy(constants, np.float64), _copy(contractions, np.int32)
        self.centred = _copy(centred, np.int32).reshape(-1, 5)
        for table in (self.constants, self.contractions, self.centred):
            _count(len(table))
        self.param, self.row, self.col, self.pair = _Stage(*param), _Stage(*row), _Stage(*col), _Stage(*pair)
        encoded = Encoded(
            _NAMES, kind, n_out, len(self.constants), n_params, self.contractions.tolist(), self.param.numbers(),
            self.row.numbers(), self.col.numbers(), self.pair.numbers(), self.centred.tolist(),
        )
        verify(encoded)
        self.cost, self.two_sided, self.decays = pair_cost(encoded), two_sided(encoded), decays(encoded)


cdef int _height(int64_t planes, int itemsize, bint wide):
    """The number of rows of a tile: as many as fit, with all live planes, into half of a small L1 cache, in blocks of
    rows. If long vectors are contracted, reading these takes the time, and all rows of a task share it."""
    cdef int64_t rows = 24 * 1024 // (TILE_WIDTH * itemsize * max(planes, 1))
    if wide:
        return ROWS_PER_TASK_MAX
    rows = min(max(rows, 1), ROWS_PER_TILE_MAX)
    return rows - rows % (8 if rows >= 8 else 4 if rows >= 4 else 1)


cdef class Work:
    """Tasks and the intervals of columns that they meet, checked when they are made; nothing can change them later.

    Parameters
    ----------
    tasks : (T, 4) int64
        First row, last row (excluded), first interval, last interval (excluded); at most ``TASK_ROWS`` rows each.
    intervals : (K, 2) int64
        Columns from, to (excluded).

    Attributes
    ----------
    rows, columns : int
        The least numbers of rows and columns that the arrays must have.
    pairs : int
        The number of pairs of a row and a column that meet; exact up to 2^53, at most 2^62.
    """

    cdef const int64_t[:, ::1] tasks, intervals
    cdef readonly int64_t rows, columns, pairs

    def __cinit__(self, tasks, intervals):
        tasks, intervals = np.array(tasks, np.int64, order="C"), np.array(intervals, np.int64, order="C")
        if tasks.shape[1] != 4 or intervals.shape[1] != 2:
            raise ValueError(f"tasks {tasks.shape}, intervals {intervals.shape}")
        height = tasks[:, 1] - tasks[:, 0]
        if tasks.min(initial=0) < 0 or height.min(initial=0) < 0 or height.max(initial=0) > ROWS_PER_TASK_MAX:
            raise ValueError("a task lies outside the rows")
        if tasks[:, 3].max(initial=0) > len(intervals):
            raise ValueError("a task names intervals that do not exist")
        if intervals.min(initial=0) < 0:
            raise ValueError("an interval lies outside the columns")
        self.rows, self.columns = tasks[:, 1].max(initial=0), intervals.max(initial=0)
        self.tasks, self.intervals = tasks, intervals
        met = np.concatenate([np.zeros(1), np.cumsum(intervals[:, 1] - intervals[:, 0], dtype=np.float64)])
        pairs = height * np.maximum(met[tasks[:, 3]] - met[tasks[:, 2]], 0)
        # whole numbers are exact up to 2^53, and more pairs than that are never evaluated
        self.pairs = int(min(pairs.sum(), float(1 << 62)))


cdef class _Arrays:
    """The arrays of a call as the C code reads them, held while this lives.

    ``variables`` has a record for each position, whose ``start`` is the list of addresses of the batch elements.
    """

    cdef variable *variables
    cdef Py_buffer *views
    cdef const char **starts
    cdef Py_ssize_t count, batch

    def __cinit__(self, Program program, tuple arrays, tuple batch, int64_t M, int64_t N):
        self.count, self.batch = len(arrays), product("elements of a batch", batch)
        self.variables = <variable *> _zeroed(self.count * sizeof(variable))
        self.views = <Py_buffer *> _zeroed(self.count * sizeof(Py_buffer))
        self.starts = <const char **> _zeroed(product("arrays * batch * bytes", (self.count, *batch, sizeof(char *))))
        self._read(&program.param.c, 1, arrays, batch)
        self._read(&program.row.c, M, arrays, batch)
        self._read(&program.col.c, N, arrays, batch)

    def __dealloc__(self):
        cdef Py_ssize_t k
        if self.views != NULL:
            for k in range(self.count):
                PyBuffer_Release(&self.views[k])  # nothing, where none was got
        PyMem_RawFree(self.variables)
        PyMem_RawFree(self.views)
        PyMem_RawFree(self.starts)

    cdef int _read(self, const stage *s, int64_t rows, tuple arrays, tuple batch) except -1:
        """The arrays that a stage loads; rows is how many of them it may read."""
        cdef int32_t position, components
        cdef int q, is_double
        cdef Py_buffer *view
        for q in range(s.n_loads):
            position, components = s.loads[3 * q], s.loads[3 * q + 1]
            array = arrays[position] if position < self.count else None
            if array is None:
                raise ValueError(f"argument {position} is missing")
            view = &self.views[position]
            if self.variables[position].start == NULL:
                PyObject_GetBuffer(array, view, PyBUF_STRIDES | PyBUF_FORMAT)
            is_double = _is_double(view.format)
            fits = view.ndim >= 2 and view.shape[view.ndim - 1] >= components and view.shape[view.ndim - 2] >= rows
            if not fits or is_double < 0:
                what = f"an array {array.shape} of {array.dtype}"
                raise ValueError(f"argument {position}: {what} for {rows} rows of {components}")
            self.variables[position].start = &self.starts[position * self.batch]
            self.variables[position].row = view.strides[view.ndim - 2]
            self.variables[position].component = view.strides[view.ndim - 1]
            self.variables[position].is_double = is_double
            self._locate(view, &self.starts[position * self.batch], position, batch)
        return 0

    cdef int _locate(self, const Py_buffer *view, const char **starts, int32_t position, tuple batch) except -1:
        """The offset of each batch element, in C order; the leading axes of the array are broadcast to the batch."""
        cdef Py_ssize_t lead = view.ndim - 2, missing = len(batch) - lead, repeat = 1, d, k, t, size
        if missing < 0:
            raise ValueError(f"argument {position}: {lead} batch dimensions for {batch}")
        if self.batch == 0:
            return 0
        for t in range(self.batch):
            starts[t] = <const char *> view.buf
        for d in range(len(batch) - 1, missing - 1, -1):
            size, k = batch[d], d - missing
            if view.shape[k] != size and view.shape[k] != 1:
                raise ValueError(f"argument {position}: batch dimension {d} is {view.shape[k]}, wanted {size} or 1")
            if view.shape[k] > 1:
                for t in range(self.batch):
                    starts[t] += t // repeat % size * view.strides[k]
            repeat *= size
        return 0


cdef int _is_double(const char *format) noexcept:
    """1 for float64, 0 for float32 in this machine's order of bytes, -1 for anything else."""
    if format[0] in (b"@", b"=", b"^"):
        format += 1
    if format[0] == 0 or format[1] != 0:
        return -1
    return 1 if format[0] == b"d" else 0 if format[0] == b"f" else -1


cdef class _Memory:
    """Bytes whose contents are undefined, from an address that 64 divides; given back when this goes."""

    cdef char *block
    cdef char *start

    def __cinit__(self, int64_t size):
        self.block = <char *> PyMem_RawMalloc(size + 64)
        if self.block == NULL:
            raise MemoryError
        self.start = <char *> ((<uintptr_t> self.block + 63) // 64 * 64)

    def __dealloc__(self):
        PyMem_RawFree(self.block)


cdef void *_zeroed(int64_t size) except NULL:
    """Memory full of zeros, to be given back by PyMem_RawFree."""
    cdef void *found = PyMem_RawCalloc(size + 1, 1)
    if found == NULL:
        raise MemoryError(f"{size} bytes")
    return found


cdef void *_start(array) except? NULL:
    """Address of the first number of a C-contiguous array, or NULL for None; holds while the array does."""
    cdef Py_buffer view
    if array is None:
        return NULL
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    PyBuffer_Release(&view)
    return view.buf


cdef int64_t _padded(int64_t size) noexcept:
    return (size + 63) // 64 * 64


def reduce(Program program not None, tuple arrays not None, tuple batch not None, int64_t M, int64_t N, Work work, *,
           bint float64, int best=1, bint largest=False, bint nan_first=True, bint wide_sums=False,
           bint compensated=False, int threads=1, int isa=0, bint mirrored=False, met=None):
    """Run a program.

    Parameters
    ----------
    program : Program
    arrays : tuple of (array or None)
        By position: float32 or float64 arrays whose last two axes are rows (one, for a parameter) and components; the
        axes in front broadcast to batch. None at positions that the program does not read.
    batch : tuple of int
        The batch dimensions.
    M, N : int
        Rows of the result, columns.
    work : Work or None
        Which rows meet which columns, for every batch element.
    float64 : bool
        Compute in float64, else in float32.
    best, largest, nan_first
        The number of values kept for each row, whether the largest ones, whether a NaN goes before all others.
    wide_sums, compensated : bool
        Sums in float64 inside a tile too; compensated sums across tiles.
    threads, isa : int
        The number of threads; the instruction set (a value of ``INSTRUCTION_SETS``).
    mirrored : bool
        Evaluate each pair (i, j) once, for both its rows: the caller says that the values of the pairs, without the
        factor of the columns, stay the same when i and j are exchanged. M = N, a two-sided program; work is None.
    met : (T, T) uint8 array or None
        Of a mirrored sum: which tiles of rows meet which tiles of columns, symmetric; all, if None.

    Returns
    -------
    (sums, maxima, values, indices, entries)
        float64 (*batch, M, n_out), (*batch, M), (*batch, M, n_out, best), int64 like values, and (*batch, M, N, n_out)
        in the precision of the call; None where not made.
    """
    cdef job w
    cdef const machine *m = isa_machine(isa)
    cdef int itemsize = 8 if float64 else 4
    cdef int64_t tiles = N // TILE_WIDTH + (N % TILE_WIDTH != 0), first, last, step, total
    cdef int64_t bytes_each, params_bytes, packed_bytes, sides_bytes
    cdef char *scratch
    cdef _Arrays held
    cdef _Memory memory
    cdef const unsigned char[:, ::1] tile_pairs
    if not isa_usable(isa):
        raise ValueError(f"isa = {isa} is not usable on this processor")
    if (batch and min(batch) < 0) or not 0 <= M <= MOST_BYTES or not 0 <= N <= MOST_BYTES or best < 1:
        raise ValueError(f"sizes {batch}, {M}, {N}, {best}")
    if mirrored and not (program.two_sided and M == N and not (wide_sums or compensated)):
        raise ValueError(f"a mirrored sum of {M} rows and {N} columns")
    if met is not None and (not mirrored or met.shape != (tiles, tiles)):
        raise ValueError(f"a table of {met.shape} tiles for {tiles}")
    if not mirrored and work is None:
        raise ValueError("work is missing")
    if not mirrored and work.rows > M:
        raise ValueError("a task lies outside the rows")
    if not mirrored and work.columns > N:
        raise ValueError("an interval lies outside the columns")

    w.param, w.row, w.col, w.pair = program.param.c, program.row.c, program.col.c, program.pair.c
    w.contractions, w.constants = <int32_t *> _start(program.contractions), <double *> _start(program.constants)
    w.centred, w.n_centred = <int32_t *> _start(program.centred), len(program.centred)
    w.n_centres = program.centred[:, 4].sum()
    w.n_constants, w.n_params = len(program.constants), program.n_params
    w.M, w.N = M, N
    if not mirrored:
        w.tasks, w.n_tasks = (&work.tasks[0, 0] if work.tasks.shape[0] else NULL), work.tasks.shape[0]
        w.intervals = &work.intervals[0, 0] if work.intervals.shape[0] else NULL
    w.kind, w.n_out = program.kind, program.n_out
    w.best, w.largest, w.nan_first = best, largest, nan_first
    w.wide_sums, w.compensated, w.mirrored = wide_sums, compensated, mirrored
    w.flush = 0
    w.rows_per_tile = _height(w.pair.planes, itemsize, w.n_centred > 0)

    held = _Arrays(program, arrays, batch, M, N)
    w.variables, w.batch = held.variables, held.batch

    results = _results(program.kind, (*batch, M), N, program.n_out, best, float64)
    sums, maxima, values, indices, entries = results
    w.sums, w.maxima = <double *> _start(sums), <double *> _start(maxima)
    w.values, w.indices, w.entries = <double *> _start(values), <int64_t *> _start(indices), _start(entries)

    if w.batch == 0 or M == 0:
        return results
    threads = max(threads, 1)
    share = 1.0
    if met is not None:
        share = max(1e-3, np.count_nonzero(met) / max(1, met.size))
    # a few tiles that meet are not worth many buffers
    _cut_strips(&w, STRIPS_MOST if met is None else <int64_t> min(share * N * program.cost / BUFFER_WORK, STRIPS_MOST))
    if met is not None:
        tile_pairs = met
        w.strips.held = &tile_pairs[0, 0] if tiles else NULL
    side = w.strips.count, w.strips.window, TILE_WIDTH, w.n_out, sizeof(double)
    sides_bytes = product("strips * blocks * rows * results * bytes", side)
    product("rows * results * best values * bytes", (ROWS_PER_TASK_MAX, w.n_out, best, 16))  # a part of the next
    bytes_each = product("threads * scratch", (threads, _padded(m.scratch_bytes[float64](&w) + 64))) // threads
    of_batch = w.n_params + <int64_t> w.n_centres
    params_bytes = _padded(product("batch * parameters * bytes", (w.batch, of_batch, itemsize)))
    packed = w.batch, tiles, w.col.n_exports, TILE_WIDTH, itemsize
    packed_bytes = product("batch * tiles * components * columns * bytes", packed) + 2 * SLACK * itemsize
    asked = params_bytes + packed_bytes + threads * bytes_each + sides_bytes
    try:
        memory = _Memory(asked)
    except MemoryError:
        what = f"{threads} threads, {N} columns of {w.col.n_exports} numbers and a batch {batch}"
        raise MemoryError(f"{asked} bytes of scratch for {what}") from None
    if program.kind == REDUCE_BEST:
        values.fill(-np.inf if largest else np.inf)
        indices.fill(-1)
    w.params, w.packed = memory.start, memory.start + params_bytes
    w.centres = memory.start + w.batch * w.n_params * itemsize  # a part of params_bytes
    scratch = memory.start + params_bytes + packed_bytes
    w.sides = <double *> (scratch + threads * bytes_each)
    memset(scratch - 2 * SLACK * itemsize, 0, 2 * SLACK * itemsize)

    with nogil:
        run_pieces(m.params[float64], &w, 0, w.batch, 1, scratch, bytes_each)
        if w.col.n_exports:
            run_pieces(m.pack[float64], &w, 0, w.batch * tiles, threads, scratch, bytes_each)
        if w.n_centred and N:
            run_pieces(m.centre[float64], &w, 0, w.batch * w.n_centres, threads, scratch, bytes_each)
            run_pieces(m.shift[float64], &w, 0, w.batch * tiles, threads, scratch, bytes_each)
    w.flush = program.decays
    if mirrored:
        _run_strips(m, &w, float64, program.cost, share, threads, scratch, bytes_each)
        return results
    total = product("batch * tasks", (w.batch, w.n_tasks))
    # as many tasks as have so much work on the average
    step = max(threads, 4 * PAIRS_PER_CALL // program.cost // max(1, work.pairs // max(1, w.n_tasks)))
    first = 0
    while first < total:
        last = min(first + step, total)
        with nogil:
            run_pieces(m.task[float64], &w, first, last, threads, scratch, bytes_each)
        PyErr_CheckSignals()
        first = last
    return results


cdef void _cut_strips(job *w, int64_t wanted) noexcept:
    """Cut a mirrored sum into strips, by the sizes and the pattern alone: of one block each, of more if there are many
    blocks or the buffers, of half the points for each strip, would be large."""
    cdef int64_t most
    memset(&w.strips, 0, sizeof(strips))
    if not w.mirrored or w.N == 0:
        return
    w.strips.blocks = (w.N + TILE_WIDTH - 1) // TILE_WIDTH
    most = min(min(STRIPS_MOST, wanted), STRIP_BYTES // ((w.N // 2 + 1) * w.n_out * <int64_t> sizeof(double)))
    most = max(STRIPS_LEAST, most)
    w.strips.width = max(1, (w.strips.blocks + most - 1) // most)
    w.strips.count = (w.strips.blocks + w.strips.width - 1) // w.strips.width
    w.strips.window = min(w.strips.width + w.strips.blocks // 2, w.strips.blocks)


cdef int _run_strips(const machine *m, job *w, bint float64, int64_t cost, double share, int threads, char *scratch,
                     int64_t bytes_each) except -1:
    """Run all strips of one batch element after another, and check for Ctrl-C after some blocks of some strips;
    share is the share of the pairs that are held."""
    cdef int64_t batch, begin, end, first, count = w.strips.count
    cdef int64_t pairs = <int64_t> (TILE_WIDTH * share * max(w.N // 2, 1)) + 1
    cdef int64_t blocks = 4 * PAIRS_PER_CALL // cost // pairs, step = max(1, blocks // max(count, 1))
    cdef int64_t together = max(threads, min(blocks // threads * threads, count))
    for batch in range(w.batch if count else 0):
        memset(w.sides, 0, count * w.strips.window * TILE_WIDTH * w.n_out * sizeof(double))
        begin = batch * count
        for first in range(0, count, together):
            end = begin + min(first + together, count)
            w.strips.first = 0
            while w.strips.first < w.strips.width:
                w.strips.last = w.strips.first + step
                with nogil:
                    run_pieces(m.strip[float64], w, begin + first, end, threads, scratch, bytes_each)
                PyErr_CheckSignals()
                w.strips.first = w.strips.last
        with nogil:
            begin, end = batch * w.strips.blocks, (batch + 1) * w.strips.blocks
            run_pieces(m.merge[float64], w, begin, end, 1, scratch, bytes_each)
    return 0


def _results(int kind, tuple rows, int64_t N, int n_out, int best, bint float64):
    """Arrays for the results; those of best values are still to be filled, when all memory has been got."""
    if kind == REDUCE_BEST:
        product("results * best values * bytes", (*rows, n_out, best, 8))
        return None, None, np.empty((*rows, n_out, best)), np.empty((*rows, n_out, best), np.int64), None
    if kind == REDUCE_ENTRIES:
        product("entries * bytes", (*rows, N, n_out, 8))
        return None, None, None, None, np.zeros((*rows, N, n_out), np.float64 if float64 else np.float32)
    product("results * bytes", (*rows, n_out, 8))
    return np.zeros((*rows, n_out)), np.full(rows, -np.inf) if kind == REDUCE_EXP else None, None, None, None
