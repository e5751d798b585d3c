"""Sums in two floats instead of double, for GPUs that are slow in double (``cuda/twofloat.cuh``).

A number of two floats has about 48 bits and the range of a float. What leaves that range becomes NaN and stays so, and
a second kernel, in double, computes those rows again whose results are not finite, or small because the unknown is.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...formula.ops import OPS
from ..instructions import Program
from ..options import KernelOptions
from .emit import loop_over_rows, wrap_block
from .signature import variables_of

LENGTH = 16  # one instruction of a program becomes about so many of the processor
# After one of these a row that left the range may have a number, and would not be computed again.
_MASKING = frozenset(name for name, op in OPS.items() if op.masks_nan)


def unknown_in_double(program: Program, data: Mapping[int, str]) -> int | None:
    """The position of the one variable in double, of columns, if a program may be computed in two floats, else None.

    All others are in float: arrays of several types come from products with the unknown of a formula only, which is
    linear in it.
    """
    wide = [p for p, kind in data.items() if kind == "float64"]
    if program.kind != "sum" or len(wide) != 1 or set(data.values()) != {"float32", "float64"}:
        return None
    stages = program.param, program.row, program.col, program.pair
    if any(p.op in _MASKING for stage in stages for p in stage.code):
        return None
    of_columns = [stage is program.col for stage in stages for p, *_ in stage.loads if p == wide[0]]
    return wide[0] if all(of_columns) else None


def describe_arithmetic(options: KernelOptions) -> list[str]:
    """The line of a kernel's head that names its arithmetic."""
    said = {"twofloat": "pairs in two floats instead of double,", "again": "where two floats have left their range,"}
    return [said[options.arithmetic]] if options.arithmetic else []


def skip_good_rows(program: Program, row: str, options: KernelOptions) -> list[str]:
    """Skip the rows that a block takes at a time if all results that stand there may stay."""
    n, name = program.n_out, "sums" if options.finish is None else "result"
    rows = loop_over_rows([f"left |= leaves_range((double){name}[({row}) * {n} + q]);"], inside=True)
    position = unknown_in_double(program, {p: options.data_of(p) for p in variables_of(program)})
    lines = ["int left = 0;", *rows, "again |= __syncthreads_or(left & 1);"]
    if position is not None:
        u, count = f"x{position}", next(d for p, d, _ in program.col.loads if p == position)
        own = "q, q + 1" if count == n else f"0, {count}"
        vector = f"{u} + {u}_batch[batch], {u}_row, {u}_component, {own}, N"
        lines.append(f"if (!again && __syncthreads_or(left & 2)) again = vector_is_small<BLOCK>({vector});")
    return [
        "__syncthreads(); // what the pass before has written",
        "bool again = false;",
        "#pragma unroll 1",
        *wrap_block(f"for (int q = 0; q < {n} && !again; q++)", lines),
        "if (!again) continue;",
    ]
