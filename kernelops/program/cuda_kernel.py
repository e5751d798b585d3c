"""The text around the instructions of a kernel: loops over tasks, rows and tiles, what is kept and delivered."""

from __future__ import annotations

from .cuda_arguments import TASK, TYPES, Options, described, parameters
from .cuda_layout import COLUMN_IN_REGISTERS, Layout, exports_of
from .cuda_results import Results
from .cuda_text import (
    Writer,
    array,
    block,
    copies,
    for_rows,
    indented,
    item,
    number,
    pair_length,
    plus,
    scale_name,
    stage_lines,
)
from .instructions import PARAM, ROW, Operand, Program, Stage

LONGEST_CODE = 256  # instructions that a loop over columns is unrolled to


class Kernel:
    """Writes the text of one kernel."""

    def __init__(self, program: Program, layout: Layout, how: Options, name: str) -> None:
        self.program, self.layout, self.how, self.name = program, layout, how, name
        self.results = Results(program, layout, how)

    def text(self) -> str:
        p, how = self.program, self.how
        head = [f"// {line}".rstrip() for line in self._description()]
        bounds = f"__launch_bounds__({self.layout.block}, {self.layout.resident})"
        signature = [
            f'extern "C" __global__ void {bounds} {self.name}(',
            *indented(parameters(p, how.data, how.finish, how.out)),
        ]
        return "\n".join([*head, '#include "finish.cuh"', "", *signature, "{", *indented(self._body()), "}", ""])

    def _description(self) -> list[str]:
        p, how, size = self.program, self.how, self.layout
        what = {
            "sum": "sums",
            "exp": "sums of exponentials",
            "best": f"the {how.best} {'largest' if how.largest else 'smallest'} values",
            "entries": "the values of all pairs",
        }[p.kind]
        also = [f" of {kind} data" for kind in sorted({kind for _, kind in how.data} - {how.dtype})]
        also += [", compensated"] * how.compensated + [", in double throughout"] * how.wide_sums
        also += [f"; written as {how.finish} in {how.out}"] * (how.finish is not None)
        return [
            f"{what[0].upper()}{what[1:]}, {p.n_out} for each row, in {how.dtype}{''.join(also)}:",
            "",
            *(f"    {line}" for line in str(p).splitlines()),
            "",
            f"{size.rows} rows a thread, {size.block} threads a block, tiles of {size.tile} columns.",
            "",
            "Arguments, 8 bytes each; strides and offsets count numbers, not bytes:",
            *(f"    {line}" for line in described(p, how.best, how.finish)),
            "Grid: x runs through tasks, y through batch elements; each may be smaller than these.",
        ]

    def _body(self) -> list[str]:
        size = self.layout
        sizes = {name.upper(): getattr(size, name) for name in ("block", "rows", "tile", "span", "width")}
        lines = ["using namespace kernelops;", f"typedef {TYPES[self.how.dtype]} T;"]
        lines += [f"typedef {'double' if self.how.wide_sums else 'T'} S;"] if self.results.sums else []
        lines += [f"typedef {TYPES[self.how.out]} O;"] if self.how.finish not in (None, "indices") else []
        lines += [f"enum {{ {', '.join(f'{name} = {n}' for name, n in sizes.items())} }};"]
        lines += ["__shared__ __align__(16) T tile[TILE * WIDTH];"] if size.width else []
        tasks = [
            f"const i64 last = tasks[{TASK} * task + 1];",
            *([f"const i64 piece = tasks[{TASK} * task + 4];"] if self._in_pieces() else []),
            *block(f"for (i64 first = tasks[{TASK} * task]; first < last; first += BLOCK * ROWS)", self._rows_lines()),
        ]
        batches = [
            *self._param_lines(),
            *block("for (i64 task = blockIdx.x; task < n_tasks; task += gridDim.x)", tasks),
        ]
        return [*lines, *block("for (i64 batch = blockIdx.y; batch < batches; batch += gridDim.y)", batches)]

    def _in_pieces(self) -> bool:
        """Whether the results have an axis of parts."""
        return self.how.finish is None and self.program.kind != "entries"

    # ---- what runs before the pairs -----------------------------------------------------------------------------

    def _param_lines(self) -> list[str]:
        p = self.program
        lines = array("T", "param", p.n_params)
        lines += [f"param[{k}] = {number(c)};" for k, c in enumerate(p.constants)]
        for q, count, at in p.param.loads:

            def loaded(k: tuple[int, str], q: int = q, at: int = at) -> str:
                return f"param[{plus(at, k)}] = {self._load(q, '0', plus(0, k))};"

            lines += copies(count, loaded)
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
        cast = "(T)" * (dict(self.how.data)[position] != self.how.dtype)
        return f"{cast}x{position}[x{position}_batch[batch]{row}{component}]"

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
        lines = array("T", "row", self.layout.rows, exports_of(p.row))
        lines += [f"T {scale_name(x).replace('[r]', '[ROWS]')};" for x in scales]
        inner = []
        if p.row.loads:
            inner = ["const i64 i = own + r * BLOCK < last ? own + r * BLOCK : last - 1;"]
        inner += self._stage(p.row, "i", "row[r][{}]")
        inner += [f"{scale_name(x)} = scale_of_exp({item(x)});" for x in scales]
        return [*lines, *for_rows(["// each row", *inner])] if inner else lines

    def _col_lines(self) -> list[str]:
        """The exports of a tile's columns into shared memory."""
        p, width = self.program, self.layout.width
        if not width:
            return []
        lines = ["// each column", "const i64 j = from + c;"]
        if width <= COLUMN_IN_REGISTERS:
            exports = exports_of(p.col)
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
            "const i64 own = first + threadIdx.x; // this thread's first row; the others are BLOCK apart",
            *self._row_lines(),
            *self.results.clear(),
            *block(f"for (i64 q = tasks[{TASK} * task + 2]; q < tasks[{TASK} * task + 3]; q++)", intervals),
            *self.results.deliver(),
        ]

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
            *self.results.hand_over(),
        ]
        return [*pairs, *block("for (int begin = 0; begin < n; begin += SPAN)", spans)]

    def _unroll(self) -> int:
        """How many columns go at once: few where the code of a pair is long."""
        length = pair_length(self.program) * self.layout.rows
        return max([n for n in (1, 2, 4, 8) if n * length <= LONGEST_CODE], default=1)

    def _pair_rows(self) -> list[str]:
        p = self.program
        lines = Writer(p, True, self.results.kept).lines(p.pair.code)
        return for_rows(["// each pair", *array("T", "t", p.pair.planes), *lines], self.results.in_place)
