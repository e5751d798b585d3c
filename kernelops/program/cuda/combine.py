"""The text of the kernel that combines partial results, those of parts of the columns, and writes the final ones."""

from __future__ import annotations

from ..instructions import Program
from ..options import KernelOptions
from .emit import indent_lines
from .epilogue import truth
from .register_tiles import BLOCK
from .signature import FINAL, PARTIAL, TYPES, describe_results, finish_argument_names, finish_parameters


def finish_text(program: Program, options: KernelOptions, name: str) -> str:
    """The text for a program and its options, ``options.finish`` among them."""
    assert options.finish is not None
    names = finish_argument_names(program, options.finish)
    n, kind = program.n_out, "best" if program.kind == "best" else options.finish
    if program.kind == "best":
        flags = f"{n}, {options.best}, {truth(options.largest)}, {truth(options.nan_first)}, {TYPES[options.result]}"
        finals = [name if name in FINAL[options.finish] else "nullptr" for name in FINAL["both"]]
        names = (*PARTIAL["best"], *finals, "parts", "rows")
    else:
        flags = f"{n}, {truth(options.compensated)}"
    best, finish = options.best, options.finish
    described = [*describe_results(program, best, None), *describe_results(program, best, finish)]
    compensated = ", compensated" * options.compensated
    lines = [
        f"// Combines results of parts of the columns{compensated}: {finish} in {options.result}.",
        "//",
        "// Arguments, 8 bytes each:",
        *(f"//     {line}" for line in described),
        "//     parts, rows: batches * M",
        '#include "finish.cuh"',
        "",
        f'extern "C" __global__ void __launch_bounds__({BLOCK}, 4) {name}(',
        *indent_lines(finish_parameters(program, options)),
        "{",
        f"    kernelops::finish_{kind}<{flags}>({', '.join(names)});",
        "}",
        "",
    ]
    return "\n".join(lines)
