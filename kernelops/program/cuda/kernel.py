"""The text around the instructions of a kernel: loops over tasks, rows and tiles, what is kept and delivered."""

from __future__ import annotations

from ..instructions import COL, PARAM, ROW, Operand, Program, Stage
from ..options import KernelOptions
from . import double_float as twofloat
from . import register_tiles as tiles
from .emit import (
    Writer,
    count_instructions,
    declare_array,
    indent_lines,
    loop_over_rows,
    scale_name,
    wrap_block,
    write_copies,
    write_item,
    write_number,
    write_stage,
    write_sum,
    write_unroll,
)
from .epilogue import Results
from .layout import COLUMN_IN_REGISTERS, ITEM_BYTES, Layout, shorten
from .rewrite import View, find_chunks, without_shifts
from .signature import TASK, TYPES, describe_arguments, parameters

LONGEST_CODE = 256  # a loop over columns is unrolled to at most so many instructions
COLUMN_REGISTERS = 32  # the columns of an unrolled loop may take so many registers


class KernelText:
    """Writes the text of one kernel."""

    def __init__(self, program: Program, layout: Layout, options: KernelOptions, name: str) -> None:
        self.whole, self.layout, self.options, self.name = program, layout, options, name
        self.program, self.views = without_shifts(program), list[View]()
        self.twofloat = options.arithmetic == "twofloat"
        self.tiled = tiles.find_contraction(self.program) if layout.rectangle else None
        if self.tiled:
            self.program = self.tiled.program
        else:
            self.program, self.views = shorten(self.program, options.dtype)
        self.chunked = find_chunks(self.program) if layout.passes > 1 else None
        self.results = Results(self.program, layout, options, self.chunked.weights if self.chunked else 0)
        if self.chunked:  # from here on the program is that of a chunk
            self.program = self.chunked.of(layout.chunk)

    def text(self) -> str:
        """The whole text: description, includes, signature and body."""
        p, options = self.whole, self.options
        head = [f"// {line}".rstrip() for line in self._description()]
        includes = ['#include "finish.cuh"', *(['#include "tiles.cuh"'] if self.tiled else [])]
        includes += ['#include "twofloat.cuh"'] if options.arithmetic else []
        bounds = f"__launch_bounds__({self.layout.block}, {self.layout.resident})"
        signature = [
            f'extern "C" __global__ void {bounds} {self.name}(',
            *indent_lines(parameters(p, options)),
        ]
        return "\n".join([*head, *includes, "", *signature, "{", *indent_lines(self._body()), "}", ""])

    def _description(self) -> list[str]:
        p, options, size = self.whole, self.options, self.layout
        what = {
            "sum": "sums",
            "exp": "sums of exponentials",
            "best": f"the {options.best} {'largest' if options.largest else 'smallest'} values",
            "entries": "the values of all pairs",
        }[p.kind]
        also = [f" of {kind} data" for kind in sorted({kind for _, kind in options.data} - {options.dtype})]
        also += [", compensated"] * options.compensated + [", in double throughout"] * options.wide_sums
        also += [f"; written as {options.finish} in {options.result}"] * (options.finish is not None)
        return [
            f"{what[0].upper()}{what[1:]}, {p.n_out} for each row, in {options.dtype}{''.join(also)}:",
            *twofloat.describe_arithmetic(options),
            "",
            *(f"    {line}" for line in str(p).splitlines()),
            "",
            f"{size.held} rows a thread, {size.block} threads a block, tiles of {size.tile} columns.",
            *([f"{size.passes} passes, {size.chunk} components each."] if size.passes > 1 else []),
            "",
            "Arguments, 8 bytes each; strides and offsets count numbers, not bytes:",
            *(f"    {line}" for line in describe_arguments(p, options.best, options.finish)),
            "Grid: x runs through tasks, y through batch elements, z through passes; each may be smaller than these.",
        ]

    def _body(self) -> list[str]:
        """The lines of the body: constants, parameters, and the loops over batch elements and tasks."""
        size = self.layout
        sizes = {"BLOCK": size.block, "ROWS": size.held, "HEIGHT": size.height, "STEP": 1 if self.tiled else size.block}
        sizes |= {"TILE": size.tile, "SPAN": size.span, "WIDTH": size.width}
        if self.tiled:
            sizes |= tiles.tile_constants(self.tiled, ITEM_BYTES[self.options.dtype])
        if size.passes > 1:
            sizes |= {"CHUNK": size.chunk, "PASSES": size.passes}
        options = self.options
        lines = ["using namespace kernelops;", f"typedef {'twofloat' if self.twofloat else TYPES[options.dtype]} T;"]
        lines += [f"typedef {'double' if options.wide_sums else 'T'} S;"] if self.results.sums else []
        lines += [f"typedef {TYPES[options.result]} O;"] if options.finish not in (None, "indices") else []
        lines += [f"enum {{ {', '.join(f'{name} = {n}' for name, n in sizes.items())} }};"]
        lines += ["__shared__ __align__(16) T tile[TILE * WIDTH];"] if size.width else []
        lines += tiles.declare_shared(self.tiled) if self.tiled else []
        tasks = self._task_lines() if self.program.kind != "entries" else self._entries_lines()
        tasks = wrap_block("for (i64 task = blockIdx.x; task < n_tasks; task += gridDim.x)", tasks)
        batches = [*self._param_lines(), *(self._passes(tasks) if size.passes > 1 else tasks)]
        return [*lines, *wrap_block("for (i64 batch = blockIdx.y; batch < batches; batch += gridDim.y)", batches)]

    def _passes(self, lines: list[str]) -> list[str]:
        """The work once for each chunk of the result's components, of which ``q0`` is the first."""
        if self.chunked:
            first = f"const int q0 = pass * {self.layout.chunk - self.chunked.weights};"
            return wrap_block("for (int pass = blockIdx.z; pass < PASSES; pass += gridDim.z)", [first, *lines])
        # places of registers must be known, so this is written out
        mine = ["if (pass % gridDim.z != blockIdx.z) continue;", "const int q0 = pass * CHUNK;"]
        return ["#pragma unroll", *wrap_block("for (int pass = 0; pass < PASSES; pass++)", [*mine, *lines])]

    # ---- what runs before the pairs -----------------------------------------------------------------------------

    def _param_lines(self) -> list[str]:
        """The lines that load the parameters and compute what depends on them alone."""
        p = self.program
        lines = declare_array("T", "param", p.n_params)
        lines += [f"param[{k}] = {write_number(c)};" for k, c in enumerate(p.constants)]
        for q, count, at in p.param.loads:

            def loaded(k: tuple[int, str], q: int = q, at: int = at) -> str:
                return f"param[{write_sum(at, k)}] = {self._load(q, '0', write_sum(0, k))};"

            lines += write_copies(count, loaded)
        if p.param.exports:
            # the exports come last
            after = Stage(p.param.code, p.param.planes, (), p.param.exports)
            export = f"param[{p.n_params - len(p.param.exports)} + {{}}]"
            lines += wrap_block("", ["// once", *self._stage(after, "0", export)])
        for x in self._scales(PARAM):
            lines.append(f"const T {scale_name(x)} = scale_of_exp({write_item(x)});")
        return lines

    def _load(self, position: int, index: str, k: str) -> str:
        """The expression of a component of a variable in global memory."""
        row = "" if index == "0" else f" + {index} * x{position}_row"
        component = {"0": "", "1": f" + x{position}_component"}.get(k, f" + {k} * x{position}_component")
        cast = "(T)" * (self.twofloat or self.options.data_of(position) != self.options.dtype)
        return f"{cast}x{position}[x{position}_batch[batch]{row}{component}]"

    def _view_type(self, v: View) -> str:
        return f"view<T, {TYPES[self.options.data_of(v.position)]}>"

    def _view(self, v: View, index: str) -> str:
        """A row or a column of a variable as it lies in memory."""
        q = f"x{v.position}"
        return f"{{{q} + {q}_batch[batch] + {index} * {q}_row, {q}_component}}"

    def _stage(self, stage: Stage, index: str, export: str) -> list[str]:
        return write_stage(self.program, stage, lambda position, k: self._load(position, index, k), export)

    def _scales(self, space: str) -> list[Operand]:
        """The factors of exponentials of the pairs that stand in a space."""
        found = {
            p.args[1]: None
            for p in self.program.pair.code
            if p.op == "ExpScaled" and p.args[1].space == space and not p.args[1].stride
        }
        return list(found)

    def _row_lines(self) -> list[str]:
        """The exports of a thread's rows; those past the last row stand in with the last one and write nothing."""
        p, scales = self.program, self._scales(ROW)
        lines = declare_array("T", "row", self.layout.held, len(p.row.exports))
        lines += [f"T {scale_name(x).replace('[r]', '[ROWS]')};" for x in scales]
        inner, views = list[str](), [v for v in self.views if v.space == ROW]
        lines += [f"{self._view_type(v)} {v.name.replace('[r]', '[ROWS]')};" for v in views]
        if p.row.loads or views:
            inner = ["const i64 i = own + r * STEP < last ? own + r * STEP : last - 1;"]
        inner += [f"{v.name} = {self._view(v, 'i')};" for v in views]
        inner += self._stage(p.row, "i", "row[r][{}]")
        inner += [f"{scale_name(x)} = scale_of_exp({write_item(x)});" for x in scales]
        return [*lines, *loop_over_rows(["// each row", *inner])] if inner else lines

    def _col_lines(self) -> list[str]:
        """The exports of a tile's columns into shared memory."""
        p, width = self.program, self.layout.width
        if not width:
            return []
        lines = ["// each column", "const i64 j = from + c;"]
        if width <= COLUMN_IN_REGISTERS:
            exports = len(p.col.exports) + (self.layout.chunk if self.chunked else 0)
            lines += declare_array("T", "col", width)
            lines += self._stage(p.col, "j", "col[{}]") + self._chunk_lines("col[{}]")
            lines += [f"col[{k}] = 0;" for k in range(exports, width)]
            lines.append("store_column<WIDTH>(tile + c * WIDTH, col);")
        else:
            lines += self._stage(p.col, "j", "tile[c * WIDTH + {}]") + self._chunk_lines("tile[c * WIDTH + {}]")
        return [
            "__syncthreads(); // all threads are done with the tile before",
            *wrap_block("for (int c = threadIdx.x; c < n; c += BLOCK)", lines),
            "__syncthreads();",
        ]

    def _chunk_lines(self, export: str) -> list[str]:
        """A column's chunk of the vector that is summed; behind it a one for the weights, or to fill the last chunk."""
        found = self.chunked
        if not found:
            return []
        k = write_sum(found.first, (1, "(q0 + k)"))
        inside = "k < CHUNK - 1 && " * found.weights
        load = f"{inside}q0 + k < {found.count} ? {self._load(found.position, 'j', f'({k})')} : 1"
        to = export.format(write_sum(found.at, (1, "k")))
        return [write_unroll(self.layout.chunk), f"for (int k = 0; k < CHUNK; k++) {to} = {load};"]

    # ---- pairs --------------------------------------------------------------------------------------------------

    def _task_lines(self) -> list[str]:
        """Some rows at a time, with all intervals of columns."""
        tiled, own = self.tiled is not None, self._own_lines("row")
        again, chunk = self.options.arithmetic == "again", self.layout.chunk
        sums = tiles.write_sum_over_threads(self.program.kind, chunk, self.options.compensated) if tiled else []
        rows = [
            *own[:1],
            *(twofloat.skip_good_rows(self.whole, self.results.row(), self.options) if again else []),
            *own[1:],
            *self.results.clear(),
            *_loop_over_intervals(["const i64 to = intervals[2 * q + 1];", *self._tiles("intervals[2 * q]")]),
            *sums,
            *self.results.deliver(),
        ]
        return [
            f"const i64 last = tasks[{TASK} * task + 1];",
            *([f"const i64 piece = tasks[{TASK} * task + 4];"] if self.options.finish is None else []),
            *wrap_block(f"for (i64 first = tasks[{TASK} * task]; first < last; first += HEIGHT)", rows),
        ]

    def _own_lines(self, kind: str) -> list[str]:
        """The declarations of what a thread keeps of its rows."""
        place = " / LANES * ROWS" if self.tiled else ""
        lines = [f"const i64 own = first + threadIdx.x{place}; // this thread's first {kind}", *self._row_lines()]
        return [*lines, "bool fresh = true;"] if self.tiled else lines

    def _entries_lines(self) -> list[str]:
        """Some columns at a time, which are rows to all else here, with the rows of the task in place of columns."""
        columns = [
            *self._own_lines("column"),
            *self._tiles(f"tasks[{TASK} * task]"),
        ]
        interval = [
            "const i64 last = intervals[2 * q + 1];",
            *wrap_block("for (i64 first = intervals[2 * q]; first < last; first += HEIGHT)", columns),
        ]
        return [f"const i64 to = tasks[{TASK} * task + 1];", *_loop_over_intervals(interval)]

    def _tiles(self, start: str) -> list[str]:
        """The loop over the tiles of an interval of columns."""
        lines = [
            "const int n = to - from < TILE ? (int)(to - from) : TILE;",
            *self._col_lines(),
            *(self._rectangle_lines(self.tiled) if self.tiled else self._pair_lines()),
        ]
        return wrap_block(f"for (i64 from = {start}; from < to; from += TILE)", lines)

    def _rectangle_lines(self, found: tiles.Tiled) -> list[str]:
        """One tile: what is contracted, the pairs, and what they leave."""
        lines = [*tiles.write_contraction(found, self._load), *tiles.write_pairs(self.layout.width, self._pair_rows())]
        return [*lines, *self.results.hand_over()]

    def _pair_lines(self) -> list[str]:
        """One tile: the pairs of a span, then what they leave."""
        width = self.layout.width
        lines = []
        if 0 < width <= COLUMN_IN_REGISTERS:
            lines = [*declare_array("T", "col", width), "load_column<WIDTH>(col, tile + c * WIDTH);"]
        elif width:
            lines = ["const T *const col = tile + c * WIDTH;"]
        views = [v for v in self.views if v.space == COL]
        if views or (not width and self.program.col.exports):
            lines.append("const i64 j = from + c;")
            lines += [f"const {self._view_type(v)} {v.name} = {self._view(v, 'j')};" for v in views]
        if not width and self.program.col.exports:  # too long for shared memory
            lines += declare_array("T", "col", len(self.program.col.exports))
            lines += self._stage(self.program.col, "j", "col[{}]")
        code = self._pair_rows()
        pairs = wrap_block("auto pairs = [&](int c)", [*lines, *code])
        pairs[-1] = "};"
        spans = [
            "const int end = begin + SPAN < n ? begin + SPAN : n;",
            "if (end - begin == SPAN) {",
            *indent_lines([f"#pragma unroll {self._unroll()}", "for (int c = 0; c < SPAN; c++) pairs(begin + c);"]),
            "} else",
            "    for (int c = begin; c < end; c++) pairs(c);",
            *self.results.hand_over(),
        ]
        return [*pairs, *wrap_block("for (int begin = 0; begin < n; begin += SPAN)", spans)]

    def _unroll(self) -> int:
        """The number of columns that a loop is unrolled to: few if the code of a pair is long."""
        shelves = 4 * self.options.best * self.program.n_out if self.program.kind == "best" else 0
        each = twofloat.LENGTH if self.twofloat else 1  # instructions in the place of one
        length = (count_instructions(self.program) + shelves) * self.layout.rows * each
        numbers = min(self.layout.width, COLUMN_IN_REGISTERS) * (2 if self.options.dtype == "float64" else 1)
        fitting = [n for n in (1, 2, 4, 8) if n * length <= LONGEST_CODE and n * numbers <= COLUMN_REGISTERS]
        return max(fitting, default=1)

    def _chunk(self) -> int:
        """Components that are left of a sum of more, if the program is one of all."""
        return self.layout.chunk if self.layout.passes > 1 and not self.chunked else 0

    def _pair_rows(self) -> list[str]:
        """The lines of a pair, in a loop over the rows of a thread."""
        p = self.program
        columns = self.layout.rectangle[1] if self.layout.rectangle else self._unroll()
        copies, double = self.layout.held * columns, self.options.dtype == "float64"
        lines = Writer(p, True, self.results.kept, self._chunk(), copies, double).lines(p.pair.code)
        return loop_over_rows(["// each pair", *declare_array("T", "t", p.pair.planes), *lines], self.results.in_place)


def _loop_over_intervals(lines: list[str]) -> list[str]:
    return wrap_block(f"for (i64 q = tasks[{TASK} * task + 2]; q < tasks[{TASK} * task + 3]; q++)", lines)
