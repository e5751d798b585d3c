"""Compilers of CUDA text: NVRTC, a library that needs nothing besides, and nvcc, a program that needs a C++ compiler.

Both work without a GPU. What comes back is machine code for the GPU (a cubin); if a compiler is older than the GPU
it is PTX, which the driver translates.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from ..errors import ArgumentError, BackendError
from ..program.cuda.source import include_folders
from .cache import get_or_make, key_of
from .locate import driver_version, find_nvcc_programs, find_nvrtc_libraries, find_nvrtc_parts

FLAGS = ("-std=c++17",)
LOG_LINES = 8  # a message shows so many lines of a compiler's complaints
INSTALL = "pip install nvidia-cuda-nvrtc, or install a CUDA toolkit and set CUDA_HOME to its folder"
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)
_VERSION = re.compile(r"\bV(\d+(?:\.\d+)+)")


class Compiler(Protocol):
    """A compiler of the text of kernels into binaries for an architecture such as "sm_90"."""

    name: str
    version: str

    def __call__(self, source: str, arch: str) -> bytes:
        """The binary."""

    def __hash__(self) -> int: ...


def compile_cached(source: str, arch: str) -> bytes:
    """The binary of a CUDA text for an architecture such as "sm_90", kept in this process and in the user's cache."""
    return _compile(find_compiler(), source, arch)


@lru_cache(maxsize=512)
def _compile(compiler: Compiler, source: str, arch: str) -> bytes:
    """Compile a text, or read its binary from the cache of the user."""
    package = sys.modules[__name__.partition(".")[0]].__version__  # of what stands above: not to be imported from here
    files = (part for file in headers_of(source).items() for part in file)
    key = key_of((compiler.name, compiler.version, package, arch, *FLAGS, source, *files))
    return get_or_make(key, lambda: compiler(source, arch))


def find_compiler() -> Compiler:
    """NVRTC if a library is found, else nvcc; KERNELOPS_CUDA_COMPILER=nvrtc or nvcc chooses.

    One that is newer than the driver comes last: the driver would refuse what it makes.
    """
    wished = os.environ.get("KERNELOPS_CUDA_COMPILER", "")
    if wished and wished not in _KINDS:
        raise ArgumentError(f"KERNELOPS_CUDA_COMPILER = {wished!r}: wanted {' or '.join(_KINDS)}")
    return _find(wished)


@lru_cache(maxsize=8)
def _find(wished: str) -> Compiler:
    """The first compiler that the driver is new enough for, else the first one."""
    tried: list[str] = []
    too_new, driver = None, driver_version()
    for kind in [wished] if wished else _KINDS:
        for compiler in _KINDS[kind](tried):
            if driver is None or int(compiler.version.partition(".")[0]) <= driver[0]:
                return compiler
            too_new = too_new or compiler
    if too_new is not None:
        return too_new
    what = f"KERNELOPS_CUDA_COMPILER = {wished!r}, and no {wished}" if wished else "no CUDA compiler"
    raise BackendError(f"{what} is found. Tried: {'; '.join(tried)}. Do this: {INSTALL}")


def headers_of(source: str) -> dict[str, str]:
    """The files that a text includes, and those that these include: names and texts."""
    found: dict[str, str] = {}
    texts = [source]
    while texts:
        for name in _INCLUDE.findall(texts.pop(0)):
            path = next((folder / name for folder in include_folders() if (folder / name).is_file()), None)
            if path is not None and name not in found:
                found[name] = path.read_text(encoding="utf-8")
                texts.append(found[name])
    return found


def target_of(arch: str, known: Sequence[int], who: str) -> str:
    """The target of a compilation among those that a compiler knows: arch, or the newest one below it as PTX.

    Examples
    --------
    >>> target_of("sm_90", [80, 90], "nvcc"), target_of("sm_120", [80, 90], "nvcc")
    ('sm_90', 'compute_90')
    """
    match = re.fullmatch(r"sm_(\d+)[af]?", arch)
    if match is None:
        raise ArgumentError(f"arch: wanted one like sm_90, got {arch!r}")
    number = int(match[1])
    if number in known:
        return arch
    below = [n for n in known if n < number]
    if not below:
        raise BackendError(
            f"{who} compiles for sm_{min(known)} and newer, and the GPU is {arch}: it needs an older CUDA"
            " (pip install nvidia-cuda-nvrtc-cu12)"
        )
    return f"compute_{max(below)}"


def _compile_error(who: str, arch: str, log: str) -> BackendError:
    """The error of a text that does not compile, with what the compiler says from its first error on."""
    lines = [line for line in log.strip("\0\n ").splitlines() if line.strip()]
    first = next((at for at, line in enumerate(lines) if "error" in line.lower()), 0)
    shown = lines[first : first + LOG_LINES]
    more = [f"... and {len(lines) - first - LOG_LINES} more lines"] * (len(lines) - first > LOG_LINES)
    return BackendError("\n  ".join([f"{who} cannot compile a kernel for {arch}:", *shown, *more]))


# ---- NVRTC ----------------------------------------------------------------------------------------------------------


class Nvrtc:
    """NVIDIA's library that compiles in this process; files that are included are handed over as texts."""

    name = "nvrtc"

    def __init__(self, path: str) -> None:
        for part in find_nvrtc_parts(path):
            with suppress(OSError):  # then it is looked for in the loader's way
                ctypes.CDLL(part)
        self._library = library = ctypes.CDLL(path)  # OSError if it cannot be loaded
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._do("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"
        count = ctypes.c_int()
        self._do("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        known = (ctypes.c_int * count.value)()
        self._do("nvrtcGetSupportedArchs", known)
        self._known = tuple(known)

    def __repr__(self) -> str:
        return f"NVRTC {self.version}"

    def __call__(self, source: str, arch: str) -> bytes:
        return self.compile(source, arch)[0]

    def compile(self, source: str, arch: str, *options: str) -> tuple[bytes, str]:
        """The binary, and the output of the compiler."""
        target, headers = target_of(arch, self._known, str(self)), headers_of(source)
        flags = [f"-arch={target}", *FLAGS, *options]
        program = ctypes.c_void_p()
        given = _c_strings(headers.values()), _c_strings(headers)
        self._do("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"kernel.cu", len(headers), *given)
        try:
            failed = self._library.nvrtcCompileProgram(program, len(flags), _c_strings(flags))
            log = self._read("ProgramLog", program).rstrip(b"\0").decode(errors="replace")
            if failed:
                raise _compile_error(str(self), arch, log or self._library.nvrtcGetErrorString(failed).decode())
            return self._read("CUBIN" if target.startswith("sm_") else "PTX", program), log
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, what: str, program: ctypes.c_void_p) -> bytes:
        """A result of a program, by NVRTC's name for it."""
        size = ctypes.c_size_t()
        self._do(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self._do(f"nvrtcGet{what}", program, text)
        return text.raw

    def _do(self, function: str, *arguments: Any) -> None:
        """Call a function of NVRTC; raise BackendError if it fails."""
        failed = getattr(self._library, function)(*arguments)
        if failed:
            raise BackendError(f"{function} of NVRTC failed: {self._library.nvrtcGetErrorString(failed).decode()}")


def _c_strings(texts: Any) -> Any:
    encoded = [text.encode() for text in texts]
    return (ctypes.c_char_p * len(encoded))(*encoded)


def _find_nvrtc(tried: list[str]) -> Iterator[Compiler]:
    """All NVRTC libraries that can be loaded, the best first."""
    for path in find_nvrtc_libraries(tried):
        try:
            yield Nvrtc(path)
        except OSError as error:  # its text names the file
            tried.append(str(error))
        except (AttributeError, BackendError) as error:  # another library, or a broken one
            tried.append(f"{path} ({error})")


# ---- nvcc -----------------------------------------------------------------------------------------------------------


class Nvcc:
    """NVIDIA's compiler as a program of its own."""

    name = "nvcc"

    def __init__(self, path: str) -> None:
        self._path = path
        match = _VERSION.search(self._run("--version"))
        if match is None:
            raise BackendError("it does not say its version")
        self.version = match[1]
        self._known = tuple(map(int, re.findall(r"compute_(\d+)\b", self._run("--list-gpu-arch"))))

    def __repr__(self) -> str:
        return f"nvcc {self.version}"

    def __call__(self, source: str, arch: str) -> bytes:
        return self.compile(source, arch)[0]

    def compile(self, source: str, arch: str, *options: str) -> tuple[bytes, str]:
        """The binary, and what the compiler said."""
        target = target_of(arch, self._known, str(self))
        folders = (f"-I{folder}" for folder in include_folders())
        kind = "-cubin" if target.startswith("sm_") else "-ptx"
        with tempfile.TemporaryDirectory(prefix="kernelops-") as folder:
            text, binary = Path(folder, "kernel.cu"), Path(folder, "kernel.bin")
            text.write_text(source, encoding="utf-8")
            flags = [f"-arch={target}", kind, *FLAGS, *folders, *options]
            try:
                log = self._run(*flags, "-o", str(binary), str(text))
            except BackendError as error:
                raise _compile_error(str(self), arch, str(error).replace(str(text), "kernel.cu")) from None
            return binary.read_bytes(), log

    def _run(self, *arguments: str) -> str:
        """The output of the program; raise BackendError if it fails."""
        try:
            done = subprocess.run(
                [self._path, *arguments], capture_output=True, check=False, encoding="utf-8", errors="replace"
            )
        except OSError as error:
            raise BackendError(str(error)) from None
        said = done.stdout + done.stderr
        if done.returncode:
            raise BackendError(said.strip() or f"it ended with status {done.returncode}")
        return said


def _find_nvcc(tried: list[str]) -> Iterator[Compiler]:
    """All nvcc programs that can be run, the best first."""
    for path in find_nvcc_programs(tried):
        try:
            yield Nvcc(path)
        except BackendError as error:
            tried.append(f"{path} ({error})")


_KINDS = {"nvrtc": _find_nvrtc, "nvcc": _find_nvcc}
