"""Generated kernels, compiled for GPUs: a table of them, and what ptxas says that each uses.

``python tests/cuda/compiled.py`` prints what those kernels use that have something in local memory, and writes down
which these are, for all architectures or those that are named.
"""

import json
import os
import re
import sys
from bisect import bisect_left
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import pytest
import usual

sys.path.append(str(Path(__file__).parent.parent))  # where it is run as a script
from cases import CASES
from cuda_texts import kernel_text, second_text
from kept_builds import folder

from kernelops.engines import cpu
from kernelops.formula.parse import parse
from kernelops.gpu import cache
from kernelops.gpu.compilers import FLAGS, find_compiler, headers_of
from kernelops.program.cuda.source import finishes

ARCHS = ("sm_80", "sm_90", "sm_120")
TOGETHER = 12  # kernels of one compilation
WIDE = 64  # components of a vector up to which everything is to stay in registers
FIGURES = Path(__file__).parent / "cuda_spills.json"

# what ptxas says is wanted; an index that nothing reads, number 177, is in some texts and costs nothing
OPTIONS = ("--ptxas-options=-v", "--diag-suppress=177")

ALIASES = usual.aliases(3, 2, "g")
SCALAR, VECTOR, WEIGHT = "Square((x|y)-1)-2", "(x-y)*Exp(-SqDist(x,y))", "b*Elem(x,0)"
MATERN = usual.MATERN
GAUSS, GRADIENT = usual.SCALED_GAUSS, "Exp(-g*SqDist(x,y))*(x-y)*Elem(b,0)"
SIZES = (1, 2, 3, 5, 8, 16, 17, 32, 33, 64, 100, 1000)
FINISH = {"sum": "sum", "exp": "log", "best": "both", "entries": "entries"}


class Kernel(NamedTuple):
    """A row of the table: its name, and what makes its text."""

    label: str
    source: Callable[..., str]
    program: object
    dtype: str
    options: dict
    components: int = 3  # of its longest vector

    def text(self, name="kernel_"):
        return self.source(self.program, self.dtype, **self.options, name=name)


class Use(NamedTuple):
    """What ptxas says that a kernel uses."""

    registers: int
    frame: int  # bytes of local memory
    spilled: int  # bytes that are stored there and loaded again for want of registers


# ---- the table ------------------------------------------------------------------------------------------------------


def program(kind, formula, aliases=ALIASES, axis=1, weight=None, normalise=False):
    expr = parse(formula, aliases).expr
    return cpu.prepare(kind, expr, weight and parse(weight, aliases).expr, normalise, axis).program


def kernel(what, source, found, dtype, components=3, **options):
    said = [f"{name}={value}" for name, value in options.items()]
    label = ", ".join([what, dtype, *said, *["second pass"] * (source is second_text)])
    return Kernel(label, source, found, dtype, options, components)


def of_cases():
    """The table of cases: sums in both types, and values by turns."""
    for n, case in enumerate(CASES):
        for kind, dtype, axis in (
            ("sum", "float32", n % 2),
            ("sum", "float64", 1 - n % 2),
            (("entries", "best")[n % 2], ("float32", "float64")[n // 2 % 2], 1),
        ):
            found = program(kind, case.formula, case.aliases, axis)
            finish = FINISH[kind] if finishes(found) else None
            yield kernel(case.name, kernel_text, found, dtype, finish=finish)


def of_reductions():
    """Every way to reduce, in one pass, and half of them in two, whose second pass is another kernel."""
    sums = [{}, {"compensated": True}, {"wide_sums": True}, {"compensated": True, "wide_sums": True}]
    ways = [("sum", "sum", SCALAR, o) for o in sums] + [("sum", "sum", VECTOR, o) for o in sums[::3]]
    ways += [("exp", finish, SCALAR, o) for o in sums[::3] for finish in ("log", "log", "mean")]
    ways += [("best", "both", SCALAR, {"best": best}) for best in (1, 2, 5, 12, 40)]
    ways += [("best", "both", VECTOR, {"best": best, "largest": True, "nan_first": False}) for best in (1, 3, 40)]
    ways += [("best", finish, SCALAR, {"best": 3}) for finish in ("values", "indices")]
    for n, (kind, finish, formula, options) in enumerate(ways):
        weight = WEIGHT if finish == "mean" or (finish == "log" and n % 2) else None
        found = program(kind, formula, weight=weight, normalise=finish == "mean", axis=n % 2)
        what = f"{kind} of {formula}, weighted" if weight else f"{kind} of {formula}"
        once = finishes(found, options.get("best", 1))
        for dtype in ("float32",) if "wide_sums" in options else ("float32", "float64"):
            if once:
                yield kernel(what, kernel_text, found, dtype, **options, finish=finish)
            if not once or n % 2 == 0:
                yield kernel(what, kernel_text, found, dtype, **options)
            if "wide_sums" not in options:
                yield kernel(what, second_text, found, dtype, **options, finish=finish)


def of_types():
    """Arrays in another type than that of the computation, and rows of a thread."""
    found = program("sum", GAUSS)
    for dtype, data, out in (("float32", "float16", "float16"), ("float64", "float32", "float32")):
        for kind, text in (("sum", GAUSS), ("entries", SCALAR), ("entries", VECTOR), ("best", SCALAR)):
            how = {"data": data, "finish": FINISH[kind], "out": out}
            yield kernel(f"{kind} of {text}", kernel_text, program(kind, text), dtype, **how)
    for rows in (1, 2, 4):
        yield kernel("Gaussian", kernel_text, found, "float32", rows=rows, finish="sum")


def of_vectors():
    """Gaussian sums, gradients and values with vectors of any length, and results of any number."""
    for dtype in ("float32", "float64"):
        for D in SIZES:
            aliases = [f"x = Vi({D})", f"y = Vj({D})", "b = Vj(1)", "g = Pm(1)"]
            for name, formula in (("Gaussian", GAUSS), ("gradient", GRADIENT)):
                found = program("sum", formula, aliases)
                yield kernel(f"{name}, D={D}", kernel_text, found, dtype, D, finish="sum")
        for D in (16, 64, 1000):
            found = program("entries", "Exp(-SqDist(x,y))", [f"x = Vi({D})", f"y = Vj({D})"])
            yield kernel(f"entries, D={D}", kernel_text, found, dtype, D, finish="entries")
        for n in (4, 16, 64):
            aliases = ["x = Vi(3)", "y = Vj(3)", f"b = Vj({n})", "g = Pm(1)"]
            found = program("sum", GAUSS, aliases)
            yield kernel(f"Gaussian, Dv={n}", kernel_text, found, dtype, n, finish="sum")


def of_two_floats():
    """Sums in two floats of data in float, the unknown in double, and what computes some of their rows again."""
    wide = {0: "float32", 1: "float32", 2: "float64", 3: "float32"}
    for name, formula in (("Gaussian", GAUSS), ("Matern", MATERN)):
        for D, n in ((3, 1), (3, 16), (32, 1)):
            found = program("sum", formula, [f"x = Vi({D})", f"y = Vj({D})", f"b = Vj({n})", "g = Pm(1)"])
            for arithmetic in ("twofloat", "again"):
                how = {"arithmetic": arithmetic, "finish": "sum"}
                what = f"{name}, D={D}, Dv={n}"
                yield kernel(what, partial(kernel_text, data=wide), found, "float64", max(D, n), **how)


TABLES = of_cases, of_reductions, of_types, of_vectors, of_two_floats
# one name, one kernel: what two tables have is in it once
KERNELS = list({k.label: k for table in TABLES for k in table()}.values())


# ---- compiling ------------------------------------------------------------------------------------------------------


@contextmanager
def kept_here():
    """What is compiled is kept where the tests keep such things, not among the user's own kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERNELOPS_CACHE_DIR", str(folder() / "compiled"))
        patch.delenv("KERNELOPS_CACHE_SIZE", raising=False)
        yield


def uses(kernels, compiler, arch):
    """label -> Use. What is said of a kernel is kept: of a change only what has changed is compiled again."""
    keys = {k.label: _key(k.text(), compiler, arch) for k in kernels}
    found = {label: _kept(key) for label, key in keys.items()}
    missing = [k for k in kernels if found[k.label] is None]
    lots, warned = -(-len(missing) // TOGETHER), []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for said, warnings in pool.map(lambda n: compiled(missing[n::lots], compiler, arch), range(lots)):
            warned += warnings
            for label, use in {} if warnings else said.items():
                found[label] = cache.get_or_make(keys[label], json.dumps(use).encode)
    assert not warned, "\n".join(warned)
    return {label: Use(*json.loads(use)) for label, use in found.items()}


def compiled(kernels, compiler, arch):
    """label -> Use of some kernels, compiled together; and what they are warned of, each line with its kernel."""
    texts = [k.text(f"kernel{n}_") for n, k in enumerate(kernels)]
    log = compiler.compile("\n".join(texts), arch, *OPTIONS)[1]
    ends = list(accumulate(text.count("\n") + 1 for text in texts))
    warnings = [
        f"{kernels[bisect_left(ends, int(found[1]))].label}: {found[2]}"
        for found in re.finditer(r"kernel\.cu\((\d+)\): (warning.*)", log)
    ]
    if not warnings and "warning" in log:
        warnings = [log]
    return {k.label: use_of(f"kernel{n}_", log) for n, k in enumerate(kernels)}, warnings


def use_of(name, log):
    """What ptxas says of one kernel; of its own frame, not of those of functions that it calls."""
    frame = re.search(
        rf"properties for {name}\n\D*(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log
    )
    registers = re.search(rf"entry function '{name}'(?:.|\n)*?Used (\d+) registers", log)
    return Use(int(registers[1]), int(frame[1]), int(frame[2]) + int(frame[3]))


def in_local_memory(k, use):
    """Whether a kernel has something in local memory that it should have in registers."""
    return k.components <= WIDE and (use.frame > 0 or use.spilled > 0)


def _key(text, compiler, arch):
    files = (part for file in headers_of(text).items() for part in file)
    return cache.key_of((compiler.name, compiler.version, arch, *FLAGS, text, *files))


def _kept(key):
    """What is kept under a key, or None."""
    try:
        return cache.get_or_make(key, _nothing)
    except LookupError:
        return None


def _nothing():
    raise LookupError


# ---- what is written down -------------------------------------------------------------------------------------------


def written():
    """{"compiler": its name and version, arch: the labels of kernels that use local memory}."""
    return json.loads(FIGURES.read_text(encoding="utf-8"))


def record(archs):
    compiler = find_compiler()
    figures = written()
    if figures["compiler"] != repr(compiler):
        figures = {"compiler": repr(compiler)}
    with kept_here():
        for arch in archs:
            found = uses(KERNELS, compiler, arch)
            figures[arch] = sorted(k.label for k in KERNELS if in_local_memory(k, found[k.label]))
            for label in figures[arch]:
                use = found[label]
                print(f"{arch}: {label}: {use.registers} registers, frame {use.frame}, spilled {use.spilled}")
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record(sys.argv[1:] or ARCHS)
