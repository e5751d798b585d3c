"""Sizes that no memory has, numbers at odd addresses, threads in odd modes: an error or the right result, no crash."""

import ctypes
import ctypes.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bound_reduction import BoundReduction
from processes import PATIENCE

from kernelops import _core
from kernelops.arrays.device_array import DeviceArray
from kernelops.engines import cpu, gpu
from kernelops.formula.parse import parse
from kernelops.numpy import Genred
from kernelops.program.options import KernelOptions

SANITIZED = b"__asan_report" in Path(_core.__file__).read_bytes()  # which takes all addresses there are
BEGIN = """
import numpy as np
from kernelops.numpy import Genred
x = np.linspace(0, 1, 12).reshape(4, 3)
def wide(a, *shape):
    return np.broadcast_to(a, shape)
def call(formula, x, y, d, op="Sum", **options):
    try:
        Genred(formula, [f"x = Vi({d})", f"y = Vj({d})"], op, axis=1, **options)(x, y)
    except MemoryError as error:
        print("MemoryError:", error)
"""
HUGE = {  # arrays of a few bytes, whose strides are 0
    "batch": "call('SqDist(x,y)', wide(x, 2**31, 1, 4, 3), wide(x, 1, 2**31, 4, 3), 3)",
    "addresses": "call('SqDist(x,y)', wide(x, 2**30, 1, 4, 3), wide(x, 1, 2**29, 4, 3), 3)",
    "packed columns": "call('Exp(SumT(x,4096))*Exp(SumT(y,4096))', x[:1, :1], wide(x[:1, :1], 2**52, 1), 1)",
    "eight components": "call('Exp(SumT(x,8))*Exp(SumT(y,8))', x[:1, :1], wide(x[:1, :1], 2**59, 1), 1)",
    "rows": "call('SqDist(x,y)', wide(x[:1, :1], 2**59, 1), x[:1, :1], 1)",
    "both": "call('SqDist(x,y)', wide(x[:1, :1], 2**59, 1), wide(x[:1, :1], 2**59, 1), 1)",
    "best values": "call('SqDist(x,y)', wide(x[:1, :1], 2**40, 1), x[:1, :1], 1, 'KMin', opt_arg=2**31 - 1)",
    "many best values": "call('SqDist(x,y)', x, x, 3, 'KMin', opt_arg=2**31 - 1)",
}


def child(code):
    """What a process of its own, which may take 8 GB and a minute, says."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))\n"
    program = ("" if SANITIZED or sys.platform != "linux" else limit) + BEGIN + code
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_sizes_beyond_all_memory():
    """One process tries them all, and says what it tries: a crash is the last one's."""
    done = child("\n".join(f"print({name!r}, end=': ', flush=True)\n{code}" for name, code in HUGE.items()))
    said = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr[-1000:]
    for name, line in zip(HUGE, said, strict=True):
        assert line.startswith(f"{name}: MemoryError:") and any(c.isdigit() for c in line), line


def test_nothing_is_packed_for_no_rows():
    done = child("print(Genred('x*y', ['x = Vi(1)', 'y = Vj(1)'], axis=1)(x[:0, :1], wide(x[:1, :1], 2**40, 1)).shape)")
    assert done.stdout == "(0, 1)\n", done.stderr[-1000:]


def test_a_product_that_is_too_large_names_its_factors():
    assert _core.product("a", ()) == 1 and _core.product("a", (2**30, 2**30)) == 2**60
    assert _core.product("a", (2**63, 2**63, 0)) == 0
    with pytest.raises(MemoryError, match=r"rows \* bytes = 1152921504606846976 \* 2: more than any memory has"):
        _core.product("rows * bytes", (2**60, 2))


def reduce(M=1, N=1, batch=(), kind="sum", **options):
    formula = "x*y" if kind != "exp" else "x"
    program = cpu.prepare(kind, parse(formula, ["x = Vi(1)", "y = Vj(1)"]).expr, None, False, 1).encoded
    one = np.ones((1, 1))
    arrays = tuple(np.broadcast_to(one, (rows, 1)) for rows in (min(M, 2**59), min(N, 2**59)))
    work = _core.Work(np.zeros((0, 4), np.int64), np.zeros((0, 2), np.int64))
    return _core.reduce(program, arrays, batch, M, N, work, float64=True, **options)


@pytest.mark.parametrize(
    "sizes",
    [
        {"batch": (2**40, 2**40)},
        {"M": 2**59},
        {"M": 2**57, "batch": (2**57,)},
        {"N": 2**59},
        {"kind": "best", "best": 2**31 - 1, "M": 2**40},
        {"kind": "entries", "M": 2**40, "N": 2**40},
        {"threads": 2**31 - 1, "kind": "best", "best": 2**31 - 1},
    ],
    ids=str,
)
def test_sizes_at_the_door_of_the_engine(sizes):
    with pytest.raises(MemoryError):
        reduce(**sizes)


@pytest.mark.parametrize("sizes", [{"M": 2**61}, {"N": 2**63 - 1}])
def test_counts_that_no_array_has(sizes):
    with pytest.raises(ValueError, match="sizes"):
        reduce(**sizes)


def test_pairs_that_do_not_fit_64_bits_are_many():
    tasks = np.tile([[0, 64, 0, 8]], (2, 1))
    assert _core.Work(tasks, np.tile([[0, 2**60]], (8, 1))).pairs == 2**62
    assert _core.Work(tasks, np.tile([[3, 10]], (8, 1))).pairs == 2 * 64 * 8 * 7


@pytest.mark.parametrize("shape", [(2**40, 2**40), (2**32, 2**32, 3)])
def test_arrays_of_a_gpu_that_no_memory_holds(shape):
    """Their sizes are whole numbers that do not wrap around, and what is asked for them is refused before a GPU is."""
    a = DeviceArray(256, (*shape, 1, 1), None, np.dtype(np.float32), 0, None, "host")
    assert a.size == np.prod(np.array(shape, object)) and a.strides[0] == 4 * a.size // shape[0]
    with pytest.raises(MemoryError, match=r"batch \* bytes"):
        gpu._describe_variable("x0", a, shape, None)
    program = cpu.prepare("best", parse("x*y", ["x = Vi(1)", "y = Vj(1)"]).expr, None, False, 1).program
    options = KernelOptions("float32", best=2**31 - 1, finish="values", out="float32")
    with pytest.raises(MemoryError, match="parts"):
        gpu._partials(program, options, 2**40, None)


# ---- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [1, 2, 3, 5])
def test_numbers_at_any_address(dtype, offset):
    """Rows, columns and parameters in a packed record, whatever they are computed in."""
    rng = np.random.default_rng(offset)
    record = np.zeros(300, np.dtype([("before", "u1", offset), ("x", dtype, 3), ("p", dtype, 3)]))
    record["x"], record["p"] = rng.random((300, 3)), rng.random(3)
    x, p = record["x"], next(row for row in record["p"] if not row.flags.aligned)
    assert not x.flags.aligned
    expr = parse("Exp(-WeightedSqDist(p,x,y))*y", ["x = Vi(3)", "y = Vj(3)", "p = Pm(3)"]).expr
    for accumulator in ("auto", "float64"):
        found, want = (
            BoundReduction(expr, "Sum", 1, [a, a, q], dtype_acc=accumulator)()
            for a, q in ((x, p), (x.copy(), p.copy()))
        )
        np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", ["Sin", "Cos", "Exp", "Log", "Sqrt", "Rsqrt", "Square", "Sign", "SinXDivX"])
def test_every_nan_is_one(op, dtype, isa):
    """All bits set, and other patterns that are no number: an operation gives a NaN, and no sum of bits overflows."""
    whole = np.dtype(dtype.replace("float", "int"))
    limit, exponent = np.iinfo(whole), (255 << 23) if dtype == "float32" else (2047 << 52)
    bits = np.array([-1, limit.max, exponent + 1, exponent + 1 + limit.min], whole)
    x = np.repeat(bits.view(dtype), 20)[:, None]
    formula = f"{op}(x{',0' if op == 'SinXDivX' else ''})*y"
    with np.errstate(invalid="ignore"):
        found = Genred(formula, ["x = Vi(1)", "y = Vj(1)"], axis=1)(x, np.ones((3, 1), dtype))
    assert np.isnan(found).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_powers_of_every_nan(dtype, isa):
    whole = np.dtype(dtype.replace("float", "int"))
    x = np.full((40, 1), -1, whole).view(dtype)
    aliases, y = ["x = Vi(1)", "y = Vj(1)"], np.full((3, 1), 2.5, dtype)
    for formula in ("Powf(x,y)", "Powf(y,x)", "Pow(x,3)*y", "Exp(-SqDist(x,y))"):
        assert np.isnan(Genred(formula, aliases, axis=1)(x, y)).all()


# ---- modes of threads -----------------------------------------------------------------------------------------------

UPWARD, DOWNWARD, TOWARD_0 = 0x800, 0x400, 0xC00  # of fesetround, on x86


@pytest.mark.skipif(sys.platform != "linux", reason="fesetround by its name in the C library of Linux")
@pytest.mark.parametrize("direction", [UPWARD, DOWNWARD, TOWARD_0])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_result_does_not_hang_on_how_a_thread_rounds(direction, threads, isa):
    """Neither on the mode of the caller nor on that of the workers, which have the one in which they were made."""
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    before = library.fegetround()
    rng = np.random.default_rng(0)
    x = rng.random((300, 2))
    for formula, mirrored in (
        ("Exp(-SqDist(x,y))*y", False),
        ("Sqrt(SqDist(x,y))+Log(2+x*y)", False),
        ("Exp(-SqDist(x,y))", True),
    ):
        prepared = cpu.prepare("sum", parse(formula, ["x = Vi(2)", "y = Vj(2)"]).expr, None, False, 1)
        work = None if mirrored else cpu._dense_work(300, 300, 8)
        call = (prepared.encoded, (x, x), (), 300, 300, work)
        words = {"float64": True, "isa": _core.INSTRUCTION_SETS[isa], "mirrored": mirrored}
        want = _core.reduce(*call, threads=1, **words)[0]
        if library.fesetround(direction) != 0:
            pytest.skip("this processor has not got it")
        try:
            found = _core.reduce(*call, threads=threads, **words)[0]
            kept = library.fegetround()
        finally:
            library.fesetround(before)
        np.testing.assert_array_equal(found, want)
        assert kept == direction
