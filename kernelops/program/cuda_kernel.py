"""The text around the instructions of a kernel: loops over tasks, rows and tiles, what is kept and delivered."""

from __future__ import annotations

from dataclasses import dataclass

from .cuda_layout import COLUMN_IN_REGISTERS, SHELF_IN_REGISTERS, TYPES, Layout, described, exports_of, parameters
from .cuda_text import (
    Writer,
    array,
    block,
    copies,
    indented,
    item,
    number,
    pair_length,
    plus,
    scale_name,
    stage_lines,
    unrolled,
)
from .instructions import PARAM, ROW, Operand, Program, Stage

LONGEST_CODE = 256  # instructions that a loop over columns is unrolled to


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the text of one kernel is made from; the arguments are those of :func:`.cuda.cuda_source`."""

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
        bounds = f"__launch_bounds__({self.layout.block}, {self.layout.resident})"
        signature = [
            f'extern "C" __global__ void {bounds} {self.name}(',
            *indented(parameters(self.program, self.dtype)),
        ]
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
            *(f"    {line}" for line in described(p, self.best)),
            "Grid: x runs through tasks, y through batch elements; each may be smaller than these.",
        ]

    def _body(self) -> list[str]:
        name, how = TYPES[self.dtype], self.layout
        sizes = f"BLOCK = {how.block}, ROWS = {how.rows}, TILE = {how.tile}, SPAN = {how.span}, WIDTH = {how.width}"
        lines = ["using namespace kernelops;", f"typedef {name} T;"]
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
        lines = array("T", "row", self.layout.rows, exports_of(p.row))
        lines += [f"T {scale_name(x).replace('[r]', '[ROWS]')};" for x in scales]
        inner = []
        if p.row.loads:
            inner = ["const i64 i = own + r * BLOCK < last ? own + r * BLOCK : last - 1;"]
        inner += self._stage(p.row, "i", "row[r][{}]")
        inner += [f"{scale_name(x)} = scale_of_exp({item(x)});" for x in scales]
        return [*lines, *self._for_rows(["// each row", *inner])] if inner else lines

    def _for_rows(self, lines: list[str], inside: bool = False) -> list[str]:
        """A loop over the rows of a thread, or over those only that are rows of the task."""
        lines = ["if (own + r * BLOCK >= last) continue;", *lines] if inside else lines
        return ["#pragma unroll", *block("for (int r = 0; r < ROWS; r++)", lines)]

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
            return self._for_rows(block(f"for (int q = 0; q < {p.n_out}; q++)", clear), inside=True)
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
        length = pair_length(self.program) * self.layout.rows
        return max([n for n in (1, 2, 4, 8) if n * length <= LONGEST_CODE], default=1)

    def _pair_rows(self) -> list[str]:
        p = self.program
        lines = Writer(p, True, self._kept).lines(p.pair.code)
        inside = p.kind == "entries" or (p.kind == "best" and not self.shelf_in_registers)
        return self._for_rows(["// each pair", *array("T", "t", p.pair.planes), *lines], inside)

    def _kept(self, value: str, component: str) -> list[str]:
        if self.program.kind == "entries":
            n = self.program.n_out
            row = "(batch * M + own + r * BLOCK) * N + from + c"
            return [f"entries[({row}) * {n} + {component}] = {value};"]
        flags = f"<{self.best}, {_bool(self.largest)}, {_bool(self.nan_first)}>"
        if self.shelf_in_registers:
            return [f"offer{flags}(value[r][{component}], index[r][{component}], {value}, from + c);"]
        offered = f"offer_long{flags}(values + at, indices + at, (double){value}, from + c);"
        return block("", [self._shelf_place(component), offered])

    def _shelf_place(self, component: str) -> str:
        n = self.program.n_out
        row = "(batch * M + own + r * BLOCK)"
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
        lines = ["const i64 at = batch * M + own + r * BLOCK;"]
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
            return self._for_rows([*lines, loop[0], *block(loop[1].rstrip(), inner)], inside=True)
        total = "compensated(sum[r][q], lost[r][q])" if self.compensated else "sum[r][q]"
        lines += [loop[0], f"{loop[1]}sums[at * {n} + q] = {total};"]
        lines += ["maxima[at] = (double)top[r];"] if p.kind == "exp" else []
        return self._for_rows(lines, inside=True)


def _bool(value: bool) -> str:
    return "true" if value else "false"
