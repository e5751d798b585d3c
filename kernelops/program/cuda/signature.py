"""The arguments of kernels: their names in order, and the forms in which results are written."""

from __future__ import annotations

from ...errors import ArgumentError
from ..instructions import Program
from ..options import KernelOptions

TYPES = {"float16": "kernelops::half", "float32": "float", "float64": "double"}
PARTIAL = {"sum": ("sums",), "exp": ("sums", "maxima"), "best": ("values", "indices"), "entries": ("entries",)}
FINAL = {
    **dict.fromkeys(("sum", "log", "mean"), ("result",)),
    "values": ("result_values",),
    "indices": ("result_indices",),
    "both": ("result_values", "result_indices"),
    "entries": ("entries",),
}
FINISHES = {"sum": ("sum",), "exp": ("log", "mean"), "best": ("values", "indices", "both"), "entries": ("entries",)}
WORK = ("tasks", "intervals", "n_tasks", "M", "N", "batches")
TASK = 5  # a task is so many numbers


def check_options(program: Program, options: KernelOptions) -> None:
    """Refuse options that a kernel of this program cannot have."""
    if options.dtype not in ("float32", "float64"):
        raise ArgumentError(f"dtype: wanted float32 or float64, got {options.dtype!r}")
    for name, wanted in (*(("data", kind) for _, kind in options.data), ("out", options.out or options.dtype)):
        if wanted not in TYPES:
            raise ArgumentError(f"{name}: wanted {', '.join(TYPES)}, got {wanted!r}")
    if options.best < 1:
        raise ArgumentError(f"best: wanted at least 1, got {options.best}")
    check_finish(program, options.finish)
    if options.arithmetic is not None:
        _check_arithmetic(program, options)


def argument_names(program: Program, finish: str | None = None) -> tuple[str, ...]:
    """The names of a kernel's arguments in order. Each has 8 bytes: an address or a whole number."""
    names = [f"x{p}{part}" for p in variables_of(program) for part in ("", "_row", "_component", "_batch")]
    return (*names, *results_of(program, finish), *WORK)


def finish_argument_names(program: Program, finish: str) -> tuple[str, ...]:
    """The same for the kernel that combines partial results."""
    check_finish(program, finish)
    if program.kind == "entries":
        raise ArgumentError("finish: there is nothing to combine in the values of all pairs")
    return (*PARTIAL[program.kind], *FINAL[finish], "parts", "rows")


def results_of(program: Program, finish: str | None) -> tuple[str, ...]:
    """The names of what a kernel writes."""
    return PARTIAL[program.kind] if finish is None else FINAL[finish]


def check_finish(program: Program, finish: str | None) -> None:
    """Refuse what a program of this kind cannot end in."""
    wanted = FINISHES[program.kind]
    if finish is not None and finish not in wanted:
        raise ArgumentError(f"finish: wanted {' or '.join(wanted)} for this program ({program.kind}), got {finish!r}")
    if finish == "mean" and program.n_out < 2:
        raise ArgumentError("finish: a mean needs a program that sums the weights, too")


def _check_arithmetic(program: Program, options: KernelOptions) -> None:
    """Refuse double-float arithmetic for programs that cannot use it."""
    arithmetic, wider = options.arithmetic, options.compensated or options.wide_sums
    if arithmetic not in ("twofloat", "again"):
        raise ArgumentError(f"arithmetic: wanted twofloat, again or None, got {arithmetic!r}")
    if options.dtype != "float64" or program.kind != "sum" or wider:
        raise ArgumentError(
            f"arithmetic: {arithmetic!r} is for sums in float64, neither compensated nor wide; "
            f"got {program.kind} in {options.dtype}"
        )


def parameters(program: Program, options: KernelOptions) -> list[str]:
    """The parameters of a kernel, in lines."""
    lines, finish = [], options.finish
    for q in variables_of(program):
        name = TYPES[options.data_of(q)]
        strides = f"long long x{q}_row, long long x{q}_component"
        lines.append(f"const {name} *__restrict__ x{q}, {strides}, const long long *__restrict__ x{q}_batch,")
    lines += [f"{_type(result, finish, options)} *__restrict__ {result}," for result in results_of(program, finish)]
    lines.append("const long long *__restrict__ tasks, const long long *__restrict__ intervals,")
    return [*lines, "long long n_tasks, long long M, long long N, long long batches)"]


def finish_parameters(program: Program, options: KernelOptions) -> list[str]:
    """The same for the kernel that combines partial results."""
    assert options.finish is not None
    lines = [f"const {_type(name, None, options)} *__restrict__ {name}," for name in PARTIAL[program.kind]]
    lines += [f"{_type(name, options.finish, options)} *__restrict__ {name}," for name in FINAL[options.finish]]
    return [*lines, "long long parts, long long rows)"]


def _type(result: str, finish: str | None, options: KernelOptions) -> str:
    """The type of a result's numbers: partial ones are in double."""
    if result.endswith("indices"):
        return "long long"
    return "double" if finish is None and result != "entries" else TYPES[options.result]


def describe_arguments(program: Program, best: int, finish: str | None) -> list[str]:
    """A line for each argument of a kernel that says what it is."""
    lines = [
        f"x{q}, x{q}_row, x{q}_component, x{q}_batch: variable {q}, its strides, where batch elements begin"
        for q in variables_of(program)
    ]
    return [
        *lines,
        *describe_results(program, best, finish),
        f"tasks (n_tasks, {TASK}): first row, last row, first interval, last interval, part; last is excluded",
        "intervals (., 2): columns from, to",
        "M, N, batches: rows, columns, batch elements",
    ]


def describe_results(program: Program, best: int, finish: str | None) -> list[str]:
    """A line for each result with its shape."""
    n = program.n_out
    lead = "(parts, batches, M" if finish is None else "(batches, M"
    shapes = {
        "sums": f"{lead}, {n})",
        "maxima": f"{lead}): what the exponents were measured from",
        "values": f"{lead}, {n}, {best})",
        "indices": f"{lead}, {n}, {best}); -1 where there is none",
        "entries": f"(batches, M, N, {n}); only pairs that meet are written",
        "result": f"{lead}, {n - (finish == 'mean')})",
        "result_values": f"{lead}, {best}, {n})",
        "result_indices": f"{lead}, {best}, {n}); -1 where there is none",
    }
    return [f"{name} {shapes[name]}" for name in results_of(program, finish)]


def variables_of(program: Program) -> list[int]:
    """The positions of the variables that a program reads."""
    return sorted({p for stage in (program.param, program.row, program.col) for p, *_ in stage.loads})
