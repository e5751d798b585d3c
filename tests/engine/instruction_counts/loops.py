"""Instructions of innermost loops, read from the machine code by objdump: where no simulator knows the instructions.

A loop is the text between a jump and its target above; it is innermost where no other loop lies inside. Of a function's
loops the one with the most arithmetic on whole registers counts: the others are what is left at the end of a row.
"""

import re
import shutil
import subprocess
from typing import NamedTuple

from kernelops import _core

FUNCTIONS = {  # what is recorded: name -> symbol
    "exp, float32": r"Exp_f32_avx512",
    "exp of a product, float32": r"ExpScaled_f32_avx512",
    "exp of a product, float64": r"ExpScaled_f64_avx512",
    "squared distance, float32": r"SqDist4_f32_avx512",
    "squared distance, float64": r"SqDist4_f64_avx512",
    "long squared distance, float32": r"wide_many_f32_avx512",
    "sum of products, float32": r"TIMES8by1_f32_avx512",
    "sums of products, float32": r"TIMES4by4_f32_avx512",
}
REGISTER = {"avx512": "%zmm", "avx2": "%ymm", "baseline": "%xmm"}
# reading, writing and moving about are no arithmetic
MOVES = re.compile(r"v?p?(mov|broadcast|extract|insert|perm|shuf|unpck|align|expand|compress|gather|scatter)")
ADDRESS = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*?)\s*(?:#.*)?$")
HEADER = re.compile(r"^[0-9a-f]+ <([^>]+)>:$")


class Loop(NamedTuple):
    """Instructions of one round, and those that are arithmetic on whole registers."""

    instructions: int
    arithmetic: int


def missing():
    """The tools that are needed and missing, or None."""
    if shutil.which("objdump") is None:
        return "objdump (binutils) is not installed"
    if "elf64-x86-64" not in _objdump("-f"):
        return "the module is not compiled for x86-64 and Linux"
    return None


def _objdump(*options):
    command = ["objdump", *options, _core.__file__]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def compiler():
    """Name and major version of the compiler that built the module: "GCC 12"."""
    text = "".join(line[43:].rstrip("\n") for line in _objdump("-s", "-j", ".comment").splitlines()[4:])
    found = re.search(r"(GCC|clang)\b.*?(\d+)\.\d+\.\d+", text)
    return f"{found.group(1)} {found.group(2)}" if found else "an unknown compiler"


def functions():
    """name -> [(address, mnemonic, operands)] of every function of the module."""
    found, code = {}, []
    for line in _objdump("-d", "--no-show-raw-insn").splitlines():
        if header := HEADER.match(line):
            code = found.setdefault(header.group(1), [])
        elif instruction := ADDRESS.match(line):
            code.append((int(instruction.group(1), 16), instruction.group(2), instruction.group(3)))
    return found


def innermost(code, register="%zmm"):
    """The innermost loops of a function, in the order of the code."""
    at = {address: k for k, (address, _, _) in enumerate(code)}
    spans = []
    for k, (_, name, operands) in enumerate(code):
        target = re.match(r"([0-9a-f]+)\b", operands) if name.startswith("j") else None
        start = at.get(int(target.group(1), 16), k + 1) if target else k + 1
        if start <= k:
            spans.append((start, k))
    inner = [s for s in spans if not any(t != s and s[0] <= t[0] and t[1] <= s[1] for t in spans)]
    return [_loop(code[start : end + 1], register) for start, end in inner]


def _loop(code, register):
    real = [(name, operands) for _, name, operands in code if not name.startswith(("nop", "cs", "data16", "xchg"))]
    arithmetic = sum(register in operands and not MOVES.match(name) for name, operands in real)
    return Loop(len(real), arithmetic)


def main_loops(pattern, register="%zmm"):
    """function -> its loop with the most arithmetic, for all functions whose name matches the pattern."""
    wanted = re.compile(rf"(?:{pattern})(?:\.(?!cold).*)?")
    chosen = {}
    for name, code in functions().items():
        loops = innermost(code, register) if wanted.fullmatch(name) else []
        if loops:
            chosen[name] = max(loops, key=lambda loop: loop.arithmetic)
    return chosen


def counts():
    """[instructions, arithmetic] of the main loop of every function of the table."""
    found = {}
    for name, pattern in FUNCTIONS.items():
        loops = main_loops(pattern)
        if not loops:
            raise LookupError(f"{name}: no function of the module is called {pattern}, or it has no loop")
        found[name] = list(max(loops.values(), key=lambda loop: loop.arithmetic))
    return found
