"""CUDA sources on a CPU: :func:`compile_cuda` gives a :class:`Module`, whose kernels :meth:`Module.launch` runs.

The source is what a GPU's compiler would read. g++ preprocesses it behind ``emulator.h``, which describes what runs
how; three things that no macro can say are replaced in the preprocessed text, and g++ compiles that. With
``sanitize=True`` it becomes a program with the address sanitizer, and each launch a process of its own.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

import numpy as np
from kept_builds import kept, key_of

HEADER = Path(__file__).parent / "emulator.h"
COMPILER = "g++"
ORDERS = {"forward": 0, "reverse": 1, "random": 2}
COMMON = ["-std=c++20", "-Og", "-w", "-ffp-contract=off", "-U_FORTIFY_SOURCE"]
COMMON += ["-fPIC", "-fvisibility=hidden", "-fno-gnu-unique"]  # two modules share nothing, whatever their names
FAST = ["-shared", "-fno-aggressive-loop-optimizations"]
CHECKED = ["-DEMULATOR_MAIN", "-g1", "-fsanitize=address,alignment,bounds", "-fno-sanitize-recover=all"]
SANITIZER = {"ASAN_OPTIONS": "detect_leaks=0:redzone=2048:detect_stack_use_after_return=0"}
LONGEST = 300  # seconds that a launch under the sanitizer may take

_BALANCED = r"\(((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)"
_BOUNDS = rf"(?:__launch_bounds__\s*{_BALANCED}\s*)?"
_KERNEL = re.compile(rf"\b__global__\s+(?:static\s+)?{_BOUNDS}void\s+{_BOUNDS}(\w+)\s*\(")
_QUALIFIER = re.compile(rf"\b__global__\b|\b__launch_bounds__\s*{_BALANCED}")
_DYNAMIC = re.compile(r"\bextern\s+__shared__\b([^;]*?)(\w+)\s*\[\s*\]\s*;")
_STATIC = re.compile(rf"(?:\bstatic\s+)?\b__shared__\s+((?:alignas\s*{_BALANCED})?)((?:[^;{{}}]|{{[^{{}}]*}})*);")
_PTX = re.compile(
    r'\b(?:asm|__asm__)\s*(?:volatile\s*|__volatile__\s*)?\(\s*"\s*([a-z][\w.]*)\s[^"]*%0[^"]*"\s*'
    r':\s*"=\w+"\s*\(([^()]*)\)\s*:([^;]*?)\)\s*;'
)


class EmulatorError(Exception):
    """A source that does not compile, or a launch that a GPU might not survive or would answer with anything."""


def missing(sanitize=False):
    """The tools that are needed and missing, or None."""
    if sys.platform != "linux":
        return "the emulator is for Linux"
    if shutil.which(COMPILER) is None:
        return f"there is no {COMPILER}"
    return _cannot(sanitize)


@cache
def _cannot(sanitize):
    try:
        compile_cuda('extern "C" __global__ void nothing() {}', sanitize=sanitize).launch("nothing", 1, 1, [])
    except EmulatorError as error:
        what = "programs with the address sanitizer" if sanitize else "the emulator"
        return f"{COMPILER} cannot make {what}: {' '.join(str(error).splitlines()[:4])}"
    return None


def compile_cuda(source, *, include_dirs=(), sanitize=False, kernels=(), defines=(), options=(), name="kernel.cu"):
    """The kernels of a CUDA source, ready to be launched.

    Kernels at the level of the file are found; ``kernels`` names others, such as instances of templates,
    ``"sum<float, 3>"``. ``defines`` are like ``"DIM=3"``, ``options`` are g++'s, and ``name`` is what messages call the
    source. What was compiled before, in this process or another one, is not compiled again.
    """
    folders = tuple(str(Path(folder).resolve()) for folder in include_dirs)
    return _module(source, folders, bool(sanitize), tuple(kernels), tuple(defines), tuple(options), name)


@cache
def _module(source, folders, sanitize, kernels, defines, options, name):
    lines = [f"#define {d.replace('=', ' ', 1)}" for d in defines]  # here, so that they do not reach the header
    text = "\n".join([*lines, f'#line 1 "{name}"', source, ""])
    command = [COMPILER, *COMMON, *(CHECKED if sanitize else FAST), *options]
    includes = [f"-I{folder}" for folder in folders]
    text = _run([*command, "-E", "-x", "c++", "-", "-include", str(HEADER), *includes], text)
    text, found = _rewritten(text, kernels)
    name = f"{key_of(_version(), *command, text)}.so"
    binary = kept(name, lambda path: _run([*command, "-x", "c++-cpp-output", "-", "-o", str(path)], text))
    return Module(binary, found, sanitize)


def _run(command, text):
    done = subprocess.run(command, check=False, input=text, capture_output=True, text=True)
    if done.returncode:
        raise EmulatorError(f"{COMPILER} refuses the source:\n{done.stderr}")
    return done.stdout


@cache
def _version():
    return _run([COMPILER, "--version"], "") + _run([COMPILER, "-dumpmachine"], "")


# ---- what no macro can say ----


def _rewritten(text, kernels):
    """The preprocessed text as C++ with a table of its kernels, and their names."""
    found = {name: "" for name in kernels}
    for match in _KERNEL.finditer(text):
        start = max(text.rfind(end, 0, match.start()) for end in ";{}")
        if not re.search(r"\btemplate\b", text[start + 1 : match.start()]):
            found.setdefault(match[3], match[1] or match[2] or "")
    text = _QUALIFIER.sub("", text)
    text = _DYNAMIC.sub(r"\1 *const \2 = emulator::dynamic_shared;", text)
    text = _STATIC.sub(_static, text)
    text = _PTX.sub(_ptx, text)
    rows = [
        f'    emulator::function<{name}>::named("{name}"{bounds and ", "}{bounds}),' for name, bounds in found.items()
    ]
    if not rows:
        raise EmulatorError("the source has no kernel, or only templates, of which `kernels` must name instances")
    table = ["const emulator::kernel emulator_kernels[] = {", *rows, "};"]
    return "\n".join([text, *table, f"const int emulator_kernel_count = {len(rows)};", ""]), tuple(found)


def _static(match):
    """A shared variable as a static one between guards, which is filled when its first thread in a block meets it."""
    align, declaration = match[1], match[3]
    return " ".join(
        f"{align} static struct {{ emulator::guard before; {align} {kind} {declarator}; emulator::guard behind; }} "
        f"emulator_{name}; auto &{name} = emulator_{name}.{name}; "
        f'{{ static uint64_t met; emulator::meet(met, "{name}", emulator_{name}, &{name}, sizeof {name}); }}'
        for kind, declarator, name in _declared(declaration)
    )


def _declared(declaration):
    """Type, declarator and name for each variable in ``float a[2][f(3, 4)], *b``."""
    masked = declaration  # what stands in brackets is of no interest here
    while found := re.search(r"\([^()]*\)|\[[^\[\]]*\]|<[^<>]*>|{[^{}]*}", masked):
        masked = masked[: found.start()] + "\0" * len(found[0]) + masked[found.end() :]
    ends = [m.start() for m in re.finditer(",", masked)] + [len(masked)]
    first = re.search(r"[*&\s]*\b\w+[\s\0]*$", masked[: ends[0]]).start()
    for start, end in zip([first, *(e + 1 for e in ends)], ends):
        yield declaration[:first], declaration[start:end], re.findall(r"\w+", masked[start:end])[-1]


def _ptx(match):
    """``asm("ex2.approx.f32 %0, %1;" : "=f"(out) : "f"(a));`` as ``emulator::ptx::ex2_approx_f32(out, (a));``."""
    operands = re.sub(r'"\w+"', "", match[3])
    return f"emulator::ptx::{match[1].replace('.', '_')}({match[2]}, {operands});"


# ---- launches ----

_STACKS = (ctypes.c_void_p * 1024)()  # of threads in whatever module runs
_ONE_AT_A_TIME = threading.Lock()  # while one runs, its handlers of signals are those of the process


class Module:
    """Compiled kernels; their names are ``kernels``."""

    def __init__(self, binary, kernels, sanitize):
        self.binary, self.kernels, self.sanitize = binary, kernels, sanitize
        if not sanitize:
            library = ctypes.CDLL(str(binary))
            library.emulator_share_stacks(_STACKS)
            self._launch = library.emulator_launch
            self._launch.restype = ctypes.c_char_p

    def __repr__(self):
        return f"Module({', '.join(self.kernels)}{', sanitize=True' if self.sanitize else ''})"

    def launch(self, kernel, grid, block, args, shared_bytes=0, order="forward", seed=0):
        """Run a kernel to its end; arrays among the arguments are the memory that it reads and writes.

        An argument is an array (a pointer to its first element), a value of NumPy or ctypes, None (a null pointer) or
        a tuple of arguments: a struct by value, laid out as C does. ``order`` is that of threads and of blocks:
        forward, reverse, or random by ``seed``. Under the sanitizer the kernel sees each array alone, in memory of
        its own; arrays that overlap share it.
        """
        if kernel not in self.kernels:
            raise EmulatorError(f"there is no kernel {kernel}, only {', '.join(self.kernels)}")
        call = [self.kernels.index(kernel), _three(grid), _three(block), shared_bytes, ORDERS[order], seed]
        packed = [_packed(argument) for argument in args]
        kept = [(i, a, a.tobytes()) for i, p in enumerate(packed) for _, a in p.pointers if not a.flags.writeable]
        (self._in_a_process if self.sanitize else self._here)(call, packed)
        for i, array, before in kept:
            if array.tobytes() != before:
                raise EmulatorError(f"kernel {kernel} has written to a read-only array of argument {i}")

    def _here(self, call, packed):
        number, grid, block, shared, order, seed = call
        data = []
        for argument in packed:
            filled = bytearray(argument.data)
            for at, array in argument.pointers:
                struct.pack_into("P", filled, at, array.ctypes.data)
            data.append(ctypes.create_string_buffer(bytes(filled), max(len(filled), 1)))
        pointers = (ctypes.c_void_p * len(data))(*[ctypes.addressof(d) for d in data])
        sizes = (ctypes.c_size_t * len(data))(*[len(a.data) for a in packed])
        three = ctypes.c_uint * 3
        with _ONE_AT_A_TIME:
            failed = self._launch(
                number, three(*grid), three(*block), ctypes.c_size_t(shared), pointers, sizes, len(data), order,
                ctypes.c_uint64(seed),
            )  # fmt: skip
        if failed:
            raise EmulatorError(failed.decode())

    def _in_a_process(self, call, packed):
        number, grid, block, shared, order, seed = call
        buffers = _buffers([array for argument in packed for _, array in argument.pointers])
        said = [_words(number, *grid, *block, shared, order, seed, len(buffers))]
        for low, high in buffers:
            said += [_words(high - low, low % 256), ctypes.string_at(low, high - low)]
        said.append(_words(len(packed)))
        for argument in packed:
            said += [_words(len(argument.data)), argument.data, _words(len(argument.pointers))]
            for at, array in argument.pointers:
                place = array.ctypes.data
                buffer = max((low, i) for i, (low, _) in enumerate(buffers) if low <= place)[1]
                said.append(_words(at, buffer, place - buffers[buffer][0]))
        options = {"capture_output": True, "timeout": LONGEST, "env": {**os.environ, **SANITIZER}}
        try:
            done = subprocess.run([self.binary], check=False, input=b"".join(said), **options)
        except subprocess.TimeoutExpired:
            raise EmulatorError(f"kernel {self.kernels[number]} has not ended after {LONGEST} s") from None
        if done.returncode:
            raise EmulatorError(_summary(self.kernels[number], done))
        start = 0
        for low, high in buffers:
            ctypes.memmove(low, done.stdout[start : start + high - low], high - low)
            start += high - low


def _three(sizes):
    sizes = (sizes,) if isinstance(sizes, (int, np.integer)) else tuple(sizes)
    return [int(n) for n in (*sizes, 1, 1, 1)[:3]]


class _Packed:
    """Bytes of an argument, and the arrays whose addresses stand in them, with the places of these."""

    def __init__(self, data, align, pointers=()):
        self.data, self.align, self.pointers = data, align, pointers


def _packed(argument):
    if isinstance(argument, np.ndarray):
        return _Packed(bytes(8), 8, [(0, argument)])
    if argument is None:
        return _Packed(bytes(8), 8)
    if isinstance(argument, np.generic):
        return _Packed(argument.tobytes(), argument.dtype.alignment)
    if isinstance(argument, (ctypes._SimpleCData, ctypes.Structure, ctypes.Array, ctypes.Union)):
        return _Packed(bytes(argument), ctypes.alignment(argument))
    if isinstance(argument, (tuple, list)):
        return _packed_struct([_packed(member) for member in argument])
    raise TypeError(f"an argument must be an array, a value of NumPy or ctypes, None or a tuple, got {argument!r}")


def _packed_struct(members):
    data, pointers, align = bytearray(), [], max((m.align for m in members), default=1)
    for member in members:
        data += bytes(-len(data) % member.align)
        pointers += [(len(data) + at, array) for at, array in member.pointers]
        data += member.data
    data += bytes(-len(data) % align)
    return _Packed(bytes(data), align, pointers)


def _buffers(arrays):
    """Ranges of addresses that hold the arrays, those that overlap in one; in the order of their first arrays."""
    bounds = np.lib.array_utils.byte_bounds
    ranges = [bounds(array) if array.size else (array.ctypes.data,) * 2 for array in arrays]
    merged = []
    for low, high in sorted(set(ranges)):
        if merged and low < merged[-1][1]:
            merged[-1][1] = max(high, merged[-1][1])
        else:
            merged.append([low, high])
    return sorted(merged, key=lambda m: next(i for i, (low, high) in enumerate(ranges) if m[0] <= low <= high <= m[1]))


def _words(*numbers):
    return struct.pack(f"={len(numbers)}q", *numbers)


def _summary(kernel, done):
    """What the sanitizer, or the emulator, has said: the essential lines first, the report after them."""
    report = done.stderr.decode(errors="replace")
    said = re.search(r"^EMULATOR (.*)", report, re.M)
    found = re.search(r"(?:ERROR: AddressSanitizer|runtime error): (.*)", report)
    if said and not found:
        return said[1]
    lines = [said[1] if said else f"kernel {kernel}: "]
    if found:
        lines[0] += re.sub(r" on (unknown )?address.*", "", found[1])
        lines += re.findall(r"^(?:READ|WRITE) of .*|^ *#0 .*|^.* is located .*|^.*: runtime error.*", report, re.M)[:3]
    else:
        lines[0] += f"ended with status {done.returncode}"
    return "\n".join([*lines, "", report])
