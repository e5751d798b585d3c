"""Instructions of a tile program as lines of CUDA C++: what one thread does with its own numbers.

In the text ``t`` holds the planes of a stage, ``param``, ``row[r]`` and ``col`` what earlier stages have exported, and
``part[r]``, ``top[r]``, ``value`` and ``index`` what a reduction keeps; kernel.py declares them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from math import inf, prod

from ...formula.ops import OPS
from ..instructions import COL, PARAM, ROW, TILE, Instruction, Operand, Program, Stage

CONTRACTIONS = ("SqDist", "Dot", "L1Dist", "WeightedSqDist")
UNROLLED = 128  # a loop of at most so many rounds becomes straight-line code, as in cuda/vector.cuh
# Loops are unrolled to so many instructions, if fewer than 8 rounds would remain: a compiler takes a tenth of a
# millisecond for each, and minutes for all components of a long vector of sines.
LONGEST_LOOP = 4096
# Operations that are no single instruction -> about how many they are in float; in double all are at least 50.
LENGTHS = {
    **dict.fromkeys(("Sqrt", "Rsqrt", "Inv", "Divide", "Exp"), 10),
    **dict.fromkeys(("Sin", "Cos", "Tanh", "Log", "Pow", "Powf", "Atan2", "SinXDivX"), 50),
}
DOUBLE_LENGTHS = dict.fromkeys((*LENGTHS, "ExpScaled", "OutExp"), 50)
_SPACE_NAMES = {TILE: "t", ROW: "row[r]", COL: "col", PARAM: "param"}


def indent_lines(lines: Sequence[str], depth: int = 1) -> list[str]:
    """Lines indented by levels of 4 spaces; preprocessor lines and empty ones stay as they are."""
    return ["    " * depth + line if line and not line.startswith("#") else line for line in lines]


def wrap_block(head: str, lines: Sequence[str]) -> list[str]:
    """Lines in braces behind a head."""
    return [f"{head} {{".lstrip(), *indent_lines(lines), "}"]


def write_unroll(count: int) -> str:
    """The pragma that unrolls a loop of so many rounds, wholly or by 8."""
    return f"#pragma unroll {count if count <= UNROLLED else 8}"


def loop_over_rows(lines: Sequence[str], inside: bool = False) -> list[str]:
    """A loop over the rows of a thread, or over those only that are rows of the task."""
    lines = ["if (own + r * STEP >= last) continue;", *lines] if inside else lines
    return ["#pragma unroll", *wrap_block("for (int r = 0; r < ROWS; r++)", lines)]


def declare_array(type_name: str, name: str, *sizes: int, filled: bool = False) -> list[str]:
    """The declaration of an array, or nothing if it would have no elements."""
    if 0 in sizes:
        return []
    return [f"{type_name} {name}{''.join(f'[{n}]' for n in sizes)}{' = {}' if filled else ''};"]


def write_number(value: float) -> str:
    """A constant of the working type."""
    if value != value:
        return "infinity<T>() - infinity<T>()"
    if value in (inf, -inf):
        return f"{'-' if value < 0 else ''}infinity<T>()"
    return f"(T){value!r}"


def write_sum(base: int, *steps: tuple[int, str]) -> str:
    """base + stride * counter + ..., as short as it can be written; a step without a counter is a number."""
    base += sum(stride for stride, k in steps if not k)
    found = [k if stride == 1 else f"{stride} * {k}" for stride, k in steps if stride and k]
    return " + ".join([str(base)] * (base > 0 or not found) + found)


def write_item(x: Operand) -> str:
    """One number; ``k`` counts the rounds of the surrounding loop."""
    return f"{_SPACE_NAMES.get(x.space, x.space)}[{write_sum(x.base, (x.stride, 'k'))}]"


def write_pointer(x: Operand) -> str:
    """The address of a vector's first component."""
    return _SPACE_NAMES.get(x.space, x.space) + f" + {x.base}" * (x.base > 0)


Step = tuple[int, str]  # of a counter: how far it moves and its name; or a number and no name


def write_copies(count: int, line: Callable[[Step], str]) -> list[str]:
    """A line for each of some components, in a loop if there are many; ``line`` takes a step for :func:`write_sum`."""
    if count <= 4:
        return [line((k, "")) for k in range(count)]
    return [write_unroll(count), f"for (int k = 0; k < {count}; k++) {line((1, 'k'))}"]


def scale_name(x: Operand) -> str:
    """The factor of an ExpScaled of the pairs, times log2(e): computed before the pairs run."""
    return f"scale_of_row_{x.base}[r]" if x.space == ROW else f"scale_{x.base}"


class Writer:
    """Writes the instructions of one stage.

    Parameters
    ----------
    program : Program
    pairs : bool
        Whether the stage is that of the pairs, for which the factors of exponentials have been made before.
    kept : callable, optional
        The lines that offer a value (its text) to component (text) of the result: for "best" and "entries".
    chunk : int
        How many components of a sum, from ``q0``, are kept; all, if 0.
    copies : int
        How many times the lines will stand there when the loops around them are unrolled.
    double : bool
        Whether numbers are double.
    """

    def __init__(
        self,
        program: Program,
        pairs: bool = False,
        kept: Callable[[str, str], list[str]] | None = None,
        chunk: int = 0,
        copies: int = 1,
        double: bool = False,
    ) -> None:
        self.program, self.pairs, self.kept, self.chunk = program, pairs, kept, chunk
        self.copies, self.lengths = copies, DOUBLE_LENGTHS if double else LENGTHS
        self.looping = False

    def lines(self, code: Sequence[Instruction]) -> list[str]:
        """The lines of some instructions, with their loops."""
        out: list[str] = []
        for at, p in enumerate(code):
            if p.op == "Loop":
                out += [self._unroll(p.aux0, code[at + 1 :]), f"for (int k = 0; k < {p.aux0}; k++) {{"]
            elif p.op == "End":
                out.append("}")
            else:
                out += indent_lines(self.instruction(p), int(self.looping))
            self.looping = p.op == "Loop" or (self.looping and p.op != "End")
        return out

    def _unroll(self, count: int, rest: Sequence[Instruction]) -> str:
        """The pragma that unrolls a loop whose body the rest begins with."""
        body = list(takewhile(lambda p: p.op != "End", rest))
        length = self.copies * sum(self.lengths.get(p.op, 1) for p in body)
        if count * length <= LONGEST_LOOP:
            return write_unroll(count)
        return f"#pragma unroll {max(1, min(8, LONGEST_LOOP // length))}"

    def instruction(self, p: Instruction) -> list[str]:
        """The lines of one instruction."""
        if p.op.startswith("Out"):
            return self._result(p)
        if p.op == "TensorDot":
            return self._tensor_dot(p)
        assert p.out is not None
        return [f"{write_item(p.out)} {'+=' if p.op == 'Accum' else '='} {self._value(p)};"]

    def _value(self, p: Instruction) -> str:
        """The expression that an instruction computes."""
        if p.op in CONTRACTIONS or p.op == "WideSqDist":
            # one thread has no use for the product form: it computes x - y of the vectors as they are
            name, vectors = ("SqDist", p.args[:2]) if p.op == "WideSqDist" else (p.op, p.args)
            return f"op::{name}<{p.aux0}>({', '.join(map(write_pointer, vectors))})"
        args = ", ".join(map(write_item, p.args))
        if p.op == "Zero":
            return "0"
        if p.op in ("Accum", "Copy"):
            return args
        if p.op == "ExpScaled":
            a, b = p.args
            fits = self.pairs and b.space in (ROW, PARAM) and not b.stride
            return f"v_exp2({write_item(a)} * {scale_name(b) if fits else f'scale_of_exp({write_item(b)})'})"
        static = f"<{p.aux0}>" if OPS[p.op].params else ""
        return f"op::{p.op}{static}({args})"

    def _result(self, p: Instruction) -> list[str]:
        """The lines that add to, or offer to, the result of a pair."""
        part = "part[r]" + f" + {p.aux0}" * (p.aux0 > 0)
        if p.op == "OutExp":
            assert p.out is not None
            v = " * ".join(map(write_item, p.args))
            return [f"{write_item(p.out)} = shifted_exp<{self.program.n_out}>({v}, top[r], part[r]);"]
        if p.op == "OutDiff" or (p.op == "OutDot" and p.aux1 > 1):
            vectors = ", ".join(map(write_pointer, p.args[1:]))
            name = "add_diff" if p.op == "OutDiff" else "add_dot"
            if self.chunk:
                return [f"{name}_within<{p.aux1}, CHUNK>(part[r], {p.aux0} - q0, {write_item(p.args[0])}, {vectors});"]
            return [f"{name}<{p.aux1}>({part}, {write_item(p.args[0])}, {vectors});"]
        component = write_sum(p.aux0, (int(self.looping), "k"))
        if p.op in ("OutSum", "OutDot"):
            value = " * ".join(f"(S){write_item(x)}" for x in p.args)
            if self.chunk:
                return [f"if ({component} >= q0 && {component} < q0 + CHUNK) part[r][{component} - q0] += {value};"]
            return [f"part[r][{component}] += {value};"]
        assert self.kept is not None
        return self.kept(write_item(p.args[0]), component)

    def _tensor_dot(self, p: Instruction) -> list[str]:
        """Loops over the axes of the result around loops over those that are contracted (their table: lowering.py)."""
        assert p.out is not None
        table = self.program.contractions[p.aux0 :]
        n_out, n_cont = table[:2]
        kept = [table[2 + 4 * d : 6 + 4 * d] for d in range(n_out)]
        rest = table[2 + 4 * n_out : 2 + 4 * n_out + 3 * n_cont]
        summed = [(rest[3 * d], 0, *rest[3 * d + 1 : 3 * d + 3]) for d in range(n_cont)]
        axes = [(f"k{d}", axis) for d, axis in enumerate([*kept, *summed])]

        def at(x: Operand, q: int) -> str:
            steps = ((axis[q], k) for k, axis in axes if axis[0] > 1)
            return f"{_SPACE_NAMES.get(x.space, x.space)}[{write_sum(x.base, *steps)}]"

        def loops(some: Sequence[tuple[str, Sequence[int]]], body: list[str]) -> list[str]:
            for k, (size, *_) in reversed(some):
                if size > 1:
                    body = [write_unroll(size), *wrap_block(f"for (int {k} = 0; {k} < {size}; {k}++)", body)]
            return body

        a, b = p.args
        body = ["T sum = 0;", *loops(axes[n_out:], [f"sum += {at(a, 2)} * {at(b, 3)};"]), f"{at(p.out, 1)} = sum;"]
        return wrap_block("", loops(axes[:n_out], body))


def count_instructions(program: Program) -> int:
    """About how many instructions of the processor a pair takes; a library function counts as one."""
    total, rounds = 0, 1
    for p in program.pair.code:
        if p.op in ("Loop", "End"):
            rounds = p.aux0 if p.op == "Loop" else 1
        elif p.op in CONTRACTIONS or p.op == "WideSqDist":
            total += 2 * p.aux0 * rounds
        elif p.op == "TensorDot":
            n_out, n_cont = program.contractions[p.aux0 : p.aux0 + 2]
            body = program.contractions[p.aux0 + 2 :]
            total += prod(body[: 4 * n_out : 4]) * prod(body[4 * n_out : 4 * n_out + 3 * n_cont : 3])
        else:
            total += max(p.aux1, 1) * rounds
    return total


def write_stage(program: Program, stage: Stage, load: Callable[[int, str], str], export: str) -> list[str]:
    """Loads, instructions and exports of a stage; ``load`` gives a component (text) of a variable.

    What is exported as it was loaded goes past the planes.
    """
    raw, lines = find_raw_planes(stage), list[str]()
    wanted = find_read_planes(stage) | {plane for plane in stage.exports if plane not in raw}
    loaded = {plane + k: (position, k) for position, count, plane in stage.loads for k in range(count)}
    for position, _, plane in stage.loads:
        for start, count in _split_runs([k for k in loaded if k in wanted and loaded[k] == (position, k - plane)]):

            def stored(k: Step, position: int = position, plane: int = plane, start: int = start) -> str:
                return f"t[{write_sum(start, k)}] = {load(position, write_sum(start - plane, k))};"

            lines += write_copies(count, stored)
    lines += Writer(program).lines(stage.code)
    loaded = {plane: source for plane, source in loaded.items() if plane in raw}
    at = 0
    while at < len(stage.exports):
        plane, count = stage.exports[at], 1
        source = loaded.get(plane)
        while at + count < len(stage.exports) and stage.exports[at + count] == plane + count:
            after = loaded.get(plane + count)
            if after != (None if source is None else (source[0], source[1] + count)):
                break
            count += 1

        def copied(k: Step, at: int = at, plane: int = plane, source: tuple[int, int] | None = source) -> str:
            value = f"t[{write_sum(plane, k)}]" if source is None else load(source[0], write_sum(source[1], k))
            return f"{export.format(write_sum(at, k))} = {value};"

        lines += write_copies(count, copied)
        at += count
    planes = stage.planes if any("t[" in line for line in lines) else 0
    return [*declare_array("T", "t", planes), *lines]


def find_read_planes(stage: Stage) -> set[int]:
    """The planes that a stage's instructions read, of those that variables are loaded into."""
    return _find_named_planes(stage, [p.args for p in stage.code])


def find_raw_planes(stage: Stage) -> set[int]:
    """The planes that hold what was loaded into them to the end; some that do may be missing."""
    planes = {plane + k for _, count, plane in stage.loads for k in range(count)}
    return planes - _find_named_planes(stage, [(p.out,) if p.out else () for p in stage.code])


def _find_named_planes(stage: Stage, operands: Sequence[tuple[Operand, ...]]) -> set[int]:
    """The planes of variables that some operands of each instruction name, or may name."""
    planes = {plane + k for _, count, plane in stage.loads for k in range(count)}
    found, rounds = set[int](), 0
    for p, some in zip(stage.code, operands, strict=True):
        rounds = p.aux0 if p.op == "Loop" else 0 if p.op == "End" else rounds
        for x in some:
            if x.space == TILE and x.stride and not rounds:  # a vector of unknown length
                found |= {plane for plane in planes if plane >= x.base}
            elif x.space == TILE:
                found |= {x.base + k * x.stride for k in range(rounds if x.stride else 1)}
    return found & planes


def _split_runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Increasing numbers as runs: (first, how many)."""
    found: list[tuple[int, int]] = []
    for n in numbers:
        if found and sum(found[-1]) == n:
            found[-1] = found[-1][0], found[-1][1] + 1
        else:
            found.append((n, 1))
    return found
