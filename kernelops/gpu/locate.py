"""Locations of NVIDIA's compilers: packages of this Python, a toolkit's folder, the system; the driver's version.

A toolkit is looked for in CUDA_HOME and CUDA_PATH, in the environment of this Python (conda puts one there) and in its
usual place.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

WINDOWS = sys.platform == "win32"
NVRTC_IN_PACKAGES = ("*/bin/nvrtc64_*.dll", "*/bin/*/nvrtc64_*.dll") if WINDOWS else ("*/lib/libnvrtc.so.*",)
NVRTC_IN_TOOLKITS = (
    ("bin/nvrtc64_*.dll", "bin/*/nvrtc64_*.dll") if WINDOWS else ("lib64/libnvrtc.so.*", "lib/libnvrtc.so.*")
)
NVRTC_PARTS = "nvrtc-builtins64_*.dll" if WINDOWS else "libnvrtc-builtins.so.*"
NVRTC_BY_LOADER = () if WINDOWS else ("libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12")
DRIVER_LIBRARY = "nvcuda.dll" if WINDOWS else "libcuda.so.1"
USUAL_TOOLKIT = "/usr/local/cuda"


def find_nvrtc_libraries(tried: list[str]) -> Iterator[str]:
    """Names under which NVRTC may be loaded, the best first; places without one are noted in ``tried``."""
    yield from find_nvrtc_files(tried)
    yield from NVRTC_BY_LOADER


def find_nvrtc_files(tried: list[str]) -> Iterator[str]:
    """The names of :func:`find_nvrtc_libraries` that are existing files."""
    for folder in find_package_folders():
        yield from _find_matching(folder, NVRTC_IN_PACKAGES, tried)
    if not find_package_folders():
        tried.append("packages of NVIDIA's in this Python (none)")
    for toolkit in find_toolkits():
        yield from _find_matching(toolkit, NVRTC_IN_TOOLKITS, tried)


def find_nvrtc_parts(path: str) -> list[str]:
    """The files that NVRTC at a path loads by their names when it compiles: not all builds look beside themselves."""
    return sorted(map(str, Path(path).parent.glob(NVRTC_PARTS))) if os.path.dirname(path) else []


def find_nvcc_programs(tried: list[str]) -> Iterator[str]:
    """Paths of nvcc, the best first; places without one are noted in ``tried``."""
    folders = [str(toolkit / "bin") for toolkit in find_toolkits()]
    for folder in (*folders[:-1], None, *folders[-1:]):  # the usual folder after the PATH
        found = shutil.which("nvcc", path=folder)
        if found is None:
            tried.append("nvcc on the PATH" if folder is None else f"nvcc in {folder}")
        else:
            yield found


def find_package_folders() -> list[Path]:
    """The folders of the namespace "nvidia", in which NVIDIA's packages lie."""
    try:
        spec = find_spec("nvidia")
    except ValueError:  # a module that has no path stands there
        return []
    return [Path(folder) for folder in (spec.submodule_search_locations if spec else None) or ()]


def find_toolkits() -> list[Path]:
    """Folders that may hold a CUDA toolkit."""
    wished = (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), sys.prefix, USUAL_TOOLKIT)
    return [Path(folder) for folder in dict.fromkeys(filter(None, wished))]


def driver_version() -> tuple[int, int] | None:
    """The newest CUDA that the driver of this machine knows, (13, 0); None if there is no driver."""
    version = ctypes.c_int()
    try:
        failed = ctypes.CDLL(DRIVER_LIBRARY).cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return None if failed else (version.value // 1000, version.value % 1000 // 10)


def _find_matching(folder: Path, patterns: tuple[str, ...], tried: list[str]) -> Iterator[str]:
    """The files below a folder that match the patterns, the newest version first."""
    found = [path for pattern in patterns for path in folder.glob(pattern)]
    if not found:
        tried.append(f"NVRTC in {folder}")
    yield from map(str, sorted(found, key=_version_key, reverse=True))


def _version_key(path: Path) -> tuple[list[int], str]:
    """A sort key: by the version in a name, libnvrtc.so.12 before libnvrtc.so.11.2, then by the path."""
    return [int(n) for n in re.findall(r"\d+", path.name)], str(path)
