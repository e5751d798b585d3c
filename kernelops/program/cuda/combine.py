"""The text of the kernel that combines partial results, those of parts of the columns, and writes the final ones."""

from __future__ import annotations

from ..instructions import Program
from .emit import indented
from .epilogue import truth
from .register_tiles import BLOCK
from .signature import FINAL, PARTIAL, TYPES, Options, described_results, finish_argument_names, finish_parameters


def finish_text(program: Program, how: Options, name: str) -> str:
    """The text for a program and its options, ``how.finish`` among them."""
    assert how.finish is not None
    names = finish_argument_names(program, how.finish)
    n, kind = program.n_out, "best" if program.kind == "best" else how.finish
    if program.kind == "best":
        flags = f"{n}, {how.best}, {truth(how.largest)}, {truth(how.nan_first)}, {TYPES[how.out]}"
        finals = [name if name in FINAL[how.finish] else "nullptr" for name in FINAL["both"]]
        names = (*PARTIAL["best"], *finals, "parts", "rows")
    else:
        flags = f"{n}, {truth(how.compensated)}"
    described = [*described_results(program, how.best, None), *described_results(program, how.best, how.finish)]
    lines = [
        f"// Combines results of parts of the columns{', compensated' * how.compensated}: {how.finish} in {how.out}.",
        "//",
        "// Arguments, 8 bytes each:",
        *(f"//     {line}" for line in described),
        "//     parts, rows: batches * M",
        '#include "finish.cuh"',
        "",
        f'extern "C" __global__ void __launch_bounds__({BLOCK}, 4) {name}(',
        *indented(finish_parameters(program, how.finish, how.out)),
        "{",
        f"    kernelops::finish_{kind}<{flags}>({', '.join(names)});",
        "}",
        "",
    ]
    return "\n".join(lines)
