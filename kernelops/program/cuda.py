"""Tile programs as CUDA C++: one kernel for each program, as text.

A block of threads takes a task: some rows of the result and the intervals of columns that they meet. Each thread holds
the exports of a few rows in registers; columns are computed once for a block, tile by tile, in shared memory; the pair
stage is straight-line code on a thread's own numbers. Sums run in the working type over ``span`` columns and in double
from there on. The real files in ``cuda/`` hold the rest: the value table as device functions, accumulators.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import ArgumentError, FormulaError
from .cuda_text import Writer, array, block, copies, indented, item, number, plus, scale_name, stage_lines, unrolled
from .instructions import FILLED_LATER, PARAM, ROW, Operand, Program, Stage

BLOCK = 128  # threads
WIDEST_TILE = 256  # columns
SPAN = 64  # columns that are summed one after another before the sum of all takes over
TILE_BYTES, SHARED_BYTES = 1 << 14, 48 << 10  # of a tile, where its columns are short; of any tile
REGISTERS = 48  # numbers of 4 bytes that the rows of a thread may hold before it has fewer rows
COLUMN_IN_REGISTERS = 16  # numbers of a column up to which a thread loads all of them at once
SHELF_IN_REGISTERS = 32  # best values of a row up to which they stand in registers
ITEM_BYTES = {"float32": 4, "float64": 8}
TYPES = {"float32": "float", "float64": "double"}
_RESULTS = {"sum": ("sums",), "exp": ("sums", "maxima"), "best": ("values", "indices"), "entries": ("entries",)}
_WORK = ("tasks", "intervals", "n_tasks", "M", "N", "batches")


@dataclass(frozen=True, slots=True)
class Layout:
    """How the work of a kernel is laid out.

    Attributes
    ----------
    block : int
        Threads of a block.
    rows : int
        Rows of a thread: a block takes ``block * rows`` at a time.
    tile : int
        Columns that are in shared memory at a time.
    span : int
        Columns that are summed in the working type before double takes over.
    width : int
        Numbers of each column of a tile; 0 where the pairs read nothing of the columns.
    """

    block: int
    rows: int
    tile: int
    span: int
    width: int


def include_folders() -> tuple[Path, ...]:
    """Where the files lie that a kernel's text includes: those of ``cuda/`` and ops.h."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "cuda"
    return (shipped if shipped.is_dir() else package.parent / "cuda"), package / "_tile"


def arguments(program: Program) -> tuple[str, ...]:
    """The names of a kernel's arguments in order. Each has 8 bytes: an address or a whole number."""
    names = [f"x{p}{part}" for p in _variables(program) for part in ("", "_row", "_component", "_batch")]
    return (*names, *_RESULTS[program.kind], *_WORK)


def layout(program: Program, dtype: str = "float32", best: int = 1, rows: int | None = None) -> Layout:
    """The layout of a program's kernel; rows of a thread as given, else as many as registers allow."""
    if dtype not in ITEM_BYTES:
        raise ArgumentError(f"dtype: wanted float32 or float64, got {dtype!r}")
    if rows is not None and rows < 1:
        raise ArgumentError(f"rows: wanted at least 1, got {rows}")
    size = ITEM_BYTES[dtype]
    exports, per_pack = _exports(program.col), 16 // size
    width = exports if exports <= 2 else -(-exports // per_pack) * per_pack
    if width * size > SHARED_BYTES:
        raise FormulaError(f"a column of {exports} numbers in {dtype}: a GPU takes {SHARED_BYTES // size} at most")
    tile = WIDEST_TILE
    while tile > 1 and tile * width * size > TILE_BYTES:
        tile //= 2
    span = min(SPAN, tile) if program.kind in ("sum", "exp") else tile
    return Layout(BLOCK, rows or _rows(program, size, best), tile, span, width)


def _rows(program: Program, size: int, best: int) -> int:
    """4, 2 or 1 rows of a thread, so that what they hold stays in registers."""
    kept = {"sum": 3, "exp": 3, "best": 3 * best, "entries": 1}[program.kind] * program.n_out
    numbers = (_exports(program.row) + program.pair.planes) * (size // 4) + kept
    return max([n for n in (1, 2, 4) if n * numbers <= REGISTERS], default=1)


def _exports(stage: Stage) -> int:
    return sum(plane != FILLED_LATER for plane in stage.exports)


def _variables(program: Program) -> list[int]:
    return sorted({p for stage in (program.param, program.row, program.col) for p, *_ in stage.loads})


def cuda_source(
    program: Program,
    dtype: str = "float32",
    best: int = 1,
    largest: bool = False,
    nan_first: bool = True,
    compensated: bool = False,
    wide_sums: bool = False,
    rows: int | None = None,
    name: str = "kernelops_reduce",
) -> str:
    """The text of a program's kernel; the same program gives the same text.

    Parameters
    ----------
    program : Program
    dtype : {"float32", "float64"}
        In which the data are and the kernel computes.
    best, largest, nan_first
        How many values are kept, whether the largest ones, whether a NaN goes before all other values.
    compensated, wide_sums : bool
        Compensated sums across spans of columns; sums in double inside a span too.
    rows : int, optional
        Rows of a thread.
    name : str
        Of the kernel.
    """
    if best < 1:
        raise ArgumentError(f"best: wanted at least 1, got {best}")
    how = layout(program, dtype, best, rows)
    return _Kernel(program, dtype, how, best, largest, nan_first, compensated, wide_sums, name).text()


@dataclass(frozen=True, slots=True)
class _Kernel:
    program: Program
    dtype: str
    layout: Layout
    best: int
    largest: bool
    nan_first: bool
    compensated: bool
    wide_sums: bool
    name: str

    @property
    def sums(self) -> bool:
        return self.program.kind in ("sum", "exp")

    @property
    def shelf_in_registers(self) -> bool:
        return self.best * self.program.n_out <= SHELF_IN_REGISTERS

    def text(self) -> str:
        head = [f"// {line}".rstrip() for line in self._description()]
        signature = [f'extern "C" __global__ void __launch_bounds__({self.layout.block}) {self.name}(']
        signature += [f"    {line}" for line in self._parameters()]
        return "\n".join([*head, '#include "reduce.cuh"', "", *signature, "{", *indented(self._body()), "}", ""])

    def _description(self) -> list[str]:
        p, how = self.program, self.layout
        what = {
            "sum": "sums",
            "exp": "sums of exponentials",
            "best": f"the {self.best} {'largest' if self.largest else 'smallest'} values",
            "entries": "the values of all pairs",
        }[p.kind]
        also = [", compensated"] * self.compensated + [", in double throughout"] * self.wide_sums
        return [
            f"{what[0].upper()}{what[1:]}, {p.n_out} for each row, in {self.dtype}{''.join(also)}:",
            "",
            *(f"    {line}" for line in str(p).splitlines()),
            "",
            f"{how.rows} rows a thread, {how.block} threads a block, tiles of {how.tile} columns.",
            "",
            "Arguments, 8 bytes each; strides and offsets count numbers, not bytes:",
            *(
                f"    x{q}, x{q}_row, x{q}_component, x{q}_batch: variable {q}, its strides, where batch elements begin"
                for q in _variables(p)
            ),
            *(f"    {name}{shape}" for name, shape in self._result_shapes()),
            "    tasks (n_tasks, 4): first row, last row, first interval, last interval; last is excluded",
            "    intervals (., 2): columns from, to",
            "    M, N, batches: rows, columns, batch elements",
            "Grid: x runs through tasks, y through batch elements; each may be smaller than these.",
        ]

    def _result_shapes(self) -> list[tuple[str, str]]:
        n = self.program.n_out
        rows = {
            "sums": f" (batches, M, {n})",
            "maxima": " (batches, M): what the exponents were measured from",
            "values": f" (batches, M, {n}, {self.best})",
            "indices": f" (batches, M, {n}, {self.best}); -1 where there is none",
            "entries": f" (batches, M, N, {n}); only pairs that meet are written",
        }
        return [(name, rows[name]) for name in _RESULTS[self.program.kind]]

    def _parameters(self) -> list[str]:
        t = TYPES[self.dtype]
        results = {"indices": "long long *__restrict__", "entries": f"{t} *__restrict__"}
        lines = [
            f"const {t} *__restrict__ x{q}, long long x{q}_row, long long x{q}_component, "
            f"const long long *__restrict__ x{q}_batch,"
            for q in _variables(self.program)
        ]
        lines.append(
            " ".join(f"{results.get(name, 'double *__restrict__')} {name}," for name in _RESULTS[self.program.kind])
        )
        lines.append("const long long *__restrict__ tasks, const long long *__restrict__ intervals,")
        return [*lines, "long long n_tasks, long long M, long long N, long long batches)"]

    def _body(self) -> list[str]:
        t, how = TYPES[self.dtype], self.layout
        sizes = f"BLOCK = {how.block}, ROWS = {how.rows}, TILE = {how.tile}, SPAN = {how.span}, WIDTH = {how.width}"
        lines = ["using namespace kernelops;", f"typedef {t} T;"]
        lines += [f"typedef {'double' if self.wide_sums else 'T'} S;"] if self.sums else []
        lines += [f"enum {{ {sizes} }};"]
        lines += ["__shared__ __align__(16) T tile[TILE * WIDTH];"] if how.width else []
        tasks = block(
            "for (i64 task = blockIdx.x; task < n_tasks; task += gridDim.x)",
            [
                "const i64 last = tasks[4 * task + 1];",
                *block("for (i64 first = tasks[4 * task]; first < last; first += BLOCK * ROWS)", self._rows_lines()),
            ],
        )
        batches = [*self._param_lines(), *tasks]
        return [*lines, *block("for (i64 batch = blockIdx.y; batch < batches; batch += gridDim.y)", batches)]

    # ---- what runs before the pairs -----------------------------------------------------------------------------

    def _param_lines(self) -> list[str]:
        p = self.program
        lines = array("T", "param", p.n_params)
        lines += [f"param[{k}] = {number(c)};" for k, c in enumerate(p.constants)]
        for q, count, at in p.param.loads:
            lines += copies(count, lambda k, q=q, at=at: f"param[{plus(at, k)}] = {self._load(q, '0', plus(0, k))};")
        if p.param.exports:
            # the exports come last
            after = Stage(p.param.code, p.param.planes, (), p.param.exports)
            export = f"param[{p.n_params - len(p.param.exports)} + {{}}]"
            lines += block("", ["// once", *self._stage(after, "0", export)])
        for x in self._scales(PARAM):
            lines.append(f"const T {scale_name(x)} = scale_of_exp({item(x)});")
        return lines

    def _load(self, position: int, index: str, k: str) -> str:
        row = "" if index == "0" else f" + {index} * x{position}_row"
        component = {"0": "", "1": f" + x{position}_component"}.get(k, f" + {k} * x{position}_component")
        return f"x{position}[x{position}_batch[batch]{row}{component}]"

    def _stage(self, stage: Stage, index: str, export: str) -> list[str]:
        return stage_lines(self.program, stage, lambda position, k: self._load(position, index, k), export)

    def _scales(self, place: str) -> list[Operand]:
        """The factors of exponentials of the pairs that stand in a place."""
        found = {
            p.args[1]: None
            for p in self.program.pair.code
            if p.op == "ExpScaled" and p.args[1].place == place and not p.args[1].stride
        }
        return list(found)

    def _row_lines(self) -> list[str]:
        """The exports of a thread's rows; those past the last row stand in with the last one and write nothing."""
        p, scales = self.program, self._scales(ROW)
        lines = array("T", "row", self.layout.rows, _exports(p.row))
        lines += [f"T {scale_name(x).replace('[r]', '[ROWS]')};" for x in scales]
        inner = []
        if p.row.loads:
            inner = ["const i64 own = first + threadIdx.x + r * BLOCK, i = own < last ? own : last - 1;"]
        inner += self._stage(p.row, "i", "row[r][{}]")
        inner += [f"{scale_name(x)} = scale_of_exp({item(x)});" for x in scales]
        return [*lines, *self._for_rows(["// each row", *inner])] if inner else lines

    def _for_rows(self, lines: list[str], held: bool = False) -> list[str]:
        """A loop over the rows of a thread, or over those only that are rows of the task."""
        lines = ["if (first + threadIdx.x + r * BLOCK >= last) continue;", *lines] if held else lines
        return ["#pragma unroll", *block("for (int r = 0; r < ROWS; r++)", lines)]

    def _col_lines(self) -> list[str]:
        """The exports of a tile's columns into shared memory."""
        p, width = self.program, self.layout.width
        if not width:
            return []
        lines = ["// each column", "const i64 j = from + c;"]
        if width <= COLUMN_IN_REGISTERS:
            exports = _exports(p.col)
            lines += array("T", "col", width)
            lines += self._stage(p.col, "j", "col[{}]")
            lines += [f"col[{k}] = 0;" for k in range(exports, width)]
            lines.append("store_column<WIDTH>(tile + c * WIDTH, col);")
        else:
            lines += self._stage(p.col, "j", "tile[c * WIDTH + {}]")
        return [
            "__syncthreads(); // all threads are done with the tile before",
            *block("for (int c = threadIdx.x; c < n; c += BLOCK)", lines),
            "__syncthreads();",
        ]

    # ---- pairs --------------------------------------------------------------------------------------------------

    def _rows_lines(self) -> list[str]:
        tiles = [
            "const int n = to - from < TILE ? (int)(to - from) : TILE;",
            *self._col_lines(),
            *self._pair_lines(),
        ]
        intervals = [
            "const i64 to = intervals[2 * q + 1];",
            *block("for (i64 from = intervals[2 * q]; from < to; from += TILE)", tiles),
        ]
        return [
            *self._row_lines(),
            *self._clear_lines(),
            *block("for (i64 q = tasks[4 * task + 2]; q < tasks[4 * task + 3]; q++)", intervals),
            *self._deliver_lines(),
        ]

    def _clear_lines(self) -> list[str]:
        """What a row's reduction begins with."""
        p, rows = self.program, self.layout.rows
        if self.sums:
            lines = array("double", "sum", rows, p.n_out, filled=True)
            lines += array("double", "lost", rows, p.n_out, filled=True) if self.compensated else []
            lines += array("S", "part", rows, p.n_out, filled=True)
            if p.kind == "exp":
                lines += [*array("T", "top", rows), *array("T", "top_of_sum", rows)]
                lines += self._for_rows(["top[r] = top_of_sum[r] = -infinity<T>();"])
            return lines
        if p.kind != "best":
            return []
        if not self.shelf_in_registers:
            clear = [self._shelf_place("q"), self._clear_shelf("values + at", "indices + at")]
            return self._for_rows(block(f"for (int q = 0; q < {p.n_out}; q++)", clear), held=True)
        sizes = rows, p.n_out, self.best
        clear = [f"for (int q = 0; q < {p.n_out}; q++) {self._clear_shelf('value[r][q]', 'index[r][q]')}"]
        lines = [*array("T", "value", *sizes), *array("i64", "index", *sizes)]
        return [*lines, *self._for_rows([unrolled(p.n_out), *clear])]

    def _clear_shelf(self, value: str, index: str) -> str:
        return f"clear_shelf<{self.best}, {_bool(self.largest)}>({value}, {index});"

    def _pair_lines(self) -> list[str]:
        """One tile: the pairs of a span, then what they leave."""
        width = self.layout.width
        lines = []
        if 0 < width <= COLUMN_IN_REGISTERS:
            lines = [*array("T", "col", width), "load_column<WIDTH>(col, tile + c * WIDTH);"]
        elif width:
            lines = ["const T *const col = tile + c * WIDTH;"]
        code = self._pair_rows()
        pairs = block("auto pairs = [&](int c)", [*lines, *code])
        pairs[-1] = "};"
        spans = [
            "const int end = begin + SPAN < n ? begin + SPAN : n;",
            "if (end - begin == SPAN) {",
            *indented([f"#pragma unroll {self._unroll()}", "for (int c = 0; c < SPAN; c++) pairs(begin + c);"]),
            "} else",
            "    for (int c = begin; c < end; c++) pairs(c);",
            *self._hand_over_lines(),
        ]
        return [*pairs, *block("for (int begin = 0; begin < n; begin += SPAN)", spans)]

    def _unroll(self) -> int:
        """How many columns go at once: few where the code of a pair is long."""
        length = len(self.program.pair.code) * self.layout.rows
        return min(self.layout.span, 8 if length <= 16 else 4 if length <= 64 else 1)

    def _pair_rows(self) -> list[str]:
        p = self.program
        lines = Writer(p, True, self._kept).lines(p.pair.code)
        held = p.kind == "entries" or (p.kind == "best" and not self.shelf_in_registers)
        return self._for_rows(["// each pair", *array("T", "t", p.pair.planes), *lines], held)

    def _kept(self, value: str, component: str) -> list[str]:
        if self.program.kind == "entries":
            n = self.program.n_out
            row = "(batch * M + first + threadIdx.x + r * BLOCK) * N + from + c"
            return [f"entries[({row}) * {n} + {component}] = {value};"]
        flags = f"<{self.best}, {_bool(self.largest)}, {_bool(self.nan_first)}>"
        if self.shelf_in_registers:
            return [f"offer{flags}(value[r][{component}], index[r][{component}], {value}, from + c);"]
        offered = f"offer_long{flags}(values + at, indices + at, (double){value}, from + c);"
        return block("", [self._shelf_place(component), offered])

    def _shelf_place(self, component: str) -> str:
        n = self.program.n_out
        row = "(batch * M + first + threadIdx.x + r * BLOCK)"
        return f"const i64 at = ({row} * {n} + {component}) * {self.best};"

    def _hand_over_lines(self) -> list[str]:
        if not self.sums:
            return []
        n = self.program.n_out
        lines = []
        if self.program.kind == "exp":
            arrays = ("sum", "lost") if self.compensated else ("sum",)
            lines = [f"rescale<{n}>({a}[r], (double)top_of_sum[r], (double)top[r]);" for a in arrays]
            lines.append("top_of_sum[r] = top[r];")
        lost = "lost[r], " if self.compensated else ""
        return self._for_rows([*lines, f"hand_over<{n}>(sum[r], {lost}part[r]);"])

    def _deliver_lines(self) -> list[str]:
        p, n = self.program, self.program.n_out
        if p.kind == "entries" or (p.kind == "best" and not self.shelf_in_registers):
            return []
        lines = ["const i64 at = batch * M + first + threadIdx.x + r * BLOCK;"]
        loop = [unrolled(n), f"for (int q = 0; q < {n}; q++) "]
        if p.kind == "best":
            inner = [
                unrolled(self.best),
                *block(
                    f"for (int k = 0; k < {self.best}; k++)",
                    [
                        f"values[(at * {n} + q) * {self.best} + k] = (double)value[r][q][k];",
                        f"indices[(at * {n} + q) * {self.best} + k] = index[r][q][k];",
                    ],
                ),
            ]
            return self._for_rows([*lines, loop[0], *block(loop[1].rstrip(), inner)], held=True)
        total = "compensated(sum[r][q], lost[r][q])" if self.compensated else "sum[r][q]"
        lines += [loop[0], f"{loop[1]}sums[at * {n} + q] = {total};"]
        lines += ["maxima[at] = (double)top[r];"] if p.kind == "exp" else []
        return self._for_rows(lines, held=True)


def _bool(value: bool) -> str:
    return "true" if value else "false"
