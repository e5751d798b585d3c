"""The text of CUDA kernels: the same for the same program, laid out for the memory there is, accepted by NVRTC."""

import ctypes
import hashlib
import importlib.util
import itertools
import os
import re
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import pytest
import usual
from cases import CASES
from cuda_texts import kernel_text, second_text

from kernelops.engines import cpu
from kernelops.errors import ArgumentError
from kernelops.formula.parse import parse
from kernelops.program.compile import compile_best, compile_entries, compile_exp, compile_sum
from kernelops.program.cuda.source import (
    argument_names,
    finish_argument_names,
    include_folders,
    layout,
    parts,
)
from kernelops.program.options import KernelOptions

ALIASES = usual.aliases(3, 1, "g")
GAUSS = compile_sum(parse(usual.SCALED_GAUSS, ALIASES).expr, 1)
HASH = """
import hashlib
from kernelops.formula.parse import parse
from kernelops.program.cuda.source import cuda_source
from kernelops.program.compile import compile_exp
f, w = (parse(t, ["x = Vi(3)", "y = Vj(3)", "g = Pm(2)"]).expr for t in ("Sum(Exp(-g*Norm2(x-y)))", "x*y*Elem(g,1)"))
print(hashlib.sha256(cuda_source(compile_exp(f, w, True, 1)).encode()).hexdigest())
"""


def test_the_text_is_the_same_in_every_process():
    found = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", HASH], env=environment, capture_output=True, text=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1 and len(found.pop().strip()) == len(hashlib.sha256().hexdigest())


def test_the_text_says_what_it_does():
    text = kernel_text(GAUSS, name="gauss", compensated=True)
    head = "\n".join(line.removeprefix("//").removeprefix("     ") for line in text.splitlines() if line[:2] == "//")
    assert str(GAUSS) in head and "Sums, 1 for each row, in float32, compensated:" in head
    assert all(name in head for name in argument_names(GAUSS))
    signature = re.search(r"gauss\((.*?)\)\n", text, re.S)[1]
    assert tuple(re.findall(r"(\w+)(?:,|$)", signature)) == argument_names(GAUSS)
    for line in (
        "t[0] = op::SqDist<3>(row[r], col);",
        "t[0] = v_exp2(t[0] * scale_1);",
        "part[r][0] += (S)t[0] * (S)col[3];",
    ):
        assert line in text, line
    assert max(map(len, text.splitlines())) <= 140


def test_lists_of_arguments():
    f, w = parse("Norm2(x-y)", ALIASES).expr, parse("b", ALIASES).expr
    ends = ("tasks", "intervals", "n_tasks", "M", "N", "batches")
    for program, results in (
        (compile_exp(f, w, True, 1), ("sums", "maxima")),
        (compile_best(f, 0), ("values", "indices")),
        (compile_entries(f, 1), ("entries",)),
    ):
        names = argument_names(program)
        assert names[-6:] == ends and names[-6 - len(results) : -6] == results
        assert names[:4] == ("x0", "x0_row", "x0_component", "x0_batch")


def test_arguments_of_finished_results():
    f, w = parse("Norm2(x-y)", ALIASES).expr, parse("b", ALIASES).expr
    mean, best = compile_exp(f, w, True, 1), compile_best(f, 1)
    for program, finish, partial, final in (
        (mean, "mean", ("sums", "maxima"), ("result",)),
        (GAUSS, "sum", ("sums",), ("result",)),
        (best, "both", ("values", "indices"), ("result_values", "result_indices")),
        (best, "indices", ("values", "indices"), ("result_indices",)),
    ):
        assert argument_names(program, finish)[-6 - len(final) : -6] == final
        assert finish_argument_names(program, finish) == (*partial, *final, "parts", "rows")
        for text, names in (
            (kernel_text(program, finish=finish, out="float16", name="one"), argument_names(program, finish)),
            (second_text(program, finish=finish, out="float16", name="one"), finish_argument_names(program, finish)),
        ):
            signature = re.search(r" one\((.*?)\)\n{", text, re.S)[1]
            assert tuple(re.findall(r"(\w+)(?:,|$)", signature)) == names


def test_parts_fill_the_machine():
    how = layout(GAUSS)
    height = how.block * how.rows
    assert parts(how, 10**8, 10**7, 1, 132) == 1
    assert parts(how, height, 10**7, 1, 132) == 4 * 132 * how.resident
    assert parts(how, height, 10**7, 33, 132) == 16 * how.resident
    assert parts(how, height, 1000, 1, 132) == 3 and parts(how, height, 100, 1, 132) == 1
    assert parts(how, 0, 100, 1, 132) == parts(how, 10, 0, 1, 132) == 1


def test_layouts():
    assert layout(GAUSS).rows == 4 and layout(GAUSS).width == 4 and layout(GAUSS).tile == 256
    assert layout(GAUSS, KernelOptions("float64"), rows=2).rows == 2
    for D in (1, 2, 3, 17, 100, 1000, 6143, 12287, 100_000):
        program = compile_sum(parse("SqDist(x,y)*b", [f"x = Vi({D})", f"y = Vj({D})", "b = Vj(1)"]).expr, 1)
        for dtype, size in (("float32", 4), ("float64", 8)):
            found = layout(program, KernelOptions(dtype))
            longer = (D + 1) * size > 48 << 10  # than shared memory
            assert found.width == 1 if longer or found.rectangle else found.width >= D + 1
            assert (found.rectangle is not None) == (D >= 100)
            assert found.height == (128 if found.rectangle else found.block * found.rows)
            assert found.tile * found.width * size <= 48 << 10
            assert found.tile % found.span == 0 and found.rows in (1, 2, 4)
            assert found.width * size % 16 == 0 or found.width <= 2
            one_by_one = layout(program, KernelOptions(dtype), rows=1)
            assert one_by_one.rectangle is None
            assert one_by_one.width == 1 if longer else one_by_one.width >= D + 1


def test_passes():
    for D, n, dtype in itertools.product((1, 3, 33), (1, 8, 9, 100, 5000), ("float32", "float64")):
        for text in ("SqDist(x,y)*b", "Exp(x-y)"):
            aliases = [f"x = Vi({D if text[0] == 'S' else n})", f"y = Vj({D if text[0] == 'S' else n})", f"b = Vj({n})"]
            found = layout(compile_sum(parse(text, aliases).expr, 1), KernelOptions(dtype))
            assert found.chunk * (found.passes - 1) < n <= found.chunk * found.passes
            assert text == "Exp(x-y)" or found.chunk < 64


def test_bad_arguments():
    with pytest.raises(ArgumentError, match="dtype: wanted float32 or float64, got 'float16'"):
        kernel_text(GAUSS, "float16")
    with pytest.raises(ArgumentError, match="rows: wanted at least 1, got 0"):
        kernel_text(GAUSS, rows=0)
    with pytest.raises(ArgumentError, match="best: wanted at least 1, got 0"):
        kernel_text(GAUSS, best=0)
    with pytest.raises(ArgumentError, match="data: wanted float16, float32, float64, got 'int8'"):
        kernel_text(GAUSS, data="int8")
    with pytest.raises(ArgumentError, match=r"finish: wanted sum for this program \(sum\), got 'log'"):
        second_text(GAUSS, finish="log")
    best = compile_best(parse("x-y", ALIASES).expr, 1)
    with pytest.raises(ArgumentError, match="finish: 40 values of 3 components need a second pass, got 'both'"):
        kernel_text(best, best=40, finish="both")
    with pytest.raises(ArgumentError, match="finish: there is nothing to combine"):
        second_text(compile_entries(parse("x-y", ALIASES).expr, 1), finish="entries")


def test_the_files_that_are_included_are_there():
    held = {file.name for folder in include_folders() for file in folder.iterdir()}
    assert {"ops.h", "ops.cuh", "reduce.cuh", "vector.cuh"} <= held
    for file in (Path(__file__).parent.parent.parent / "cuda").glob("*.cuh"):
        assert max(map(len, file.read_text().splitlines())) <= 140
        assert set(re.findall(r'#include "(.*)"', file.read_text())) <= held


# ---- what NVRTC, which needs no GPU, makes of it --------------------------------------------------------------------


def nvrtc():
    """The library, where one is found: of the system, or of a package of CUDA's in this environment."""
    found = [find_library("nvrtc")]
    for name in ("nvidia.cuda_nvrtc", "nvidia.cu13", "nvidia.cu12"):
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            continue
        for folder in spec.submodule_search_locations if spec else ():
            found += sorted(str(file) for file in Path(folder, "lib").glob("libnvrtc.so*"))
    for path in filter(None, found):
        try:
            return ctypes.CDLL(path)
        except OSError:
            continue
    return None


def compiled(library, text, *options):
    """The log of a compilation to machine code for sm_90."""
    handle, size = ctypes.c_void_p(), ctypes.c_size_t()
    flags = ["-arch=sm_90", "-std=c++17", *(f"-I{folder}" for folder in include_folders()), *options]
    assert library.nvrtcCreateProgram(ctypes.byref(handle), text.encode(), b"kernel.cu", 0, None, None) == 0
    failed = library.nvrtcCompileProgram(handle, len(flags), (ctypes.c_char_p * len(flags))(*map(str.encode, flags)))
    library.nvrtcGetProgramLogSize(handle, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(handle, log)
    library.nvrtcDestroyProgram(ctypes.byref(handle))
    assert not failed, log.value.decode()
    return log.value.decode()


def some_kernels():
    """A few of each kind."""
    f, w = parse("-SqDist(x,y)", ALIASES).expr, parse("b*x", ALIASES).expr
    yield kernel_text(GAUSS, name="gauss")
    yield kernel_text(GAUSS, "float64", compensated=True, name="gauss64")
    yield kernel_text(GAUSS, wide_sums=True, name="wide")
    yield kernel_text(compile_exp(f, w, True, 1), name="softmax")
    for best in (1, 5, 100):
        yield kernel_text(compile_best(f, 1), best=best, name=f"best{best}")
    yield kernel_text(compile_entries(f, 1), data="float16", finish="entries", out="float16", name="entries")
    for D, n, dtype in ((64, 1, "float32"), (100, 2, "float64"), (3, 33, "float32"), (20_000, 1, "float64")):
        aliases = [f"x = Vi({D})", f"y = Vj({D})", f"b = Vj({n})", "g = Pm(1)"]
        program = compile_sum(parse(usual.SCALED_GAUSS, aliases).expr, 1)
        yield kernel_text(program, dtype, data="float16", finish="sum", out="float16", name=f"long_{D}_{n}")
    yield second_text(compile_exp(f, w, True, 1), finish="mean", out="float16", compensated=True, name="mean")
    yield second_text(compile_best(f, 1), best=100, finish="both", name="both")
    for number, case in enumerate(CASES[::6]):
        program = cpu.prepare("sum", parse(case.formula, case.aliases).expr, None, False, 1).program
        yield kernel_text(program, ("float32", "float64")[number % 2], name=f"case{number}")


def test_nvrtc_compiles_it():
    library = nvrtc()
    if library is None:
        pytest.skip("there is no NVRTC (pip install nvidia-cuda-nvrtc)")
    assert "warning" not in compiled(library, "\n".join(some_kernels()))


def test_a_gaussian_sum_stays_in_registers():
    library = nvrtc()
    if library is None:
        pytest.skip("there is no NVRTC (pip install nvidia-cuda-nvrtc)")
    for rows in (1, 2, 4):
        log = compiled(library, kernel_text(GAUSS, rows=rows), "--ptxas-options=-v")
        registers, spilled = re.search(r"Used (\d+) registers", log), re.search(r"(\d+) bytes spill stores", log)
        assert registers and int(registers[1]) <= 128, log
        assert spilled and int(spilled[1]) == 0, log


def test_rectangles_fit_into_shared_memory():
    """Columns that are long besides the vectors that are contracted would not."""
    for D, wide in ((100, 64), (100, 150), (2000, 300)):
        aliases = [f"x = Vi({D})", f"y = Vj({D})", f"b = Vj({wide})"]
        for dtype, size in (("float32", 4), ("float64", 8)):
            program = compile_sum(parse("Sum(Sin((x|y)*b))", aliases).expr, 1)
            text = kernel_text(program, dtype)
            found = layout(program, KernelOptions(dtype))
            declared = re.findall(r"__shared__ __align__\(16\) T (.*);", text)
            sizes = {"TILE": found.tile, "WIDTH": found.width} | dict(re.findall(r"(\w+) = (\d+)", text))
            total = sum(
                eval(length, {}, {k: int(v) for k, v in sizes.items()})
                for names in declared
                for length in re.findall(r"\[(.*?)\]", names)
            )
            assert total * size <= 48 << 10, (D, wide, dtype)
