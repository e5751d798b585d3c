"""The engines that can compute here, and why; nothing is loaded or started to find out."""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from .engines.cpu import instruction_set
from .engines.threads import thread_count
from .gpu.locate import DRIVER_LIBRARY, find_nvcc_programs, find_nvrtc_files

PROC_GPUS = Path("/proc/driver/nvidia/gpus")


class Backend(NamedTuple):
    """Whether a backend can be used, and why or why not."""

    usable: bool
    why: str


def available_backends() -> dict[str, Backend]:
    """Every backend by name, with whether it is usable here and why.

    Returns
    -------
    dict
        "CPU" and "GPU", each with ``(usable, why)``.

    See Also
    --------
    kernelops.doctor : a report of all that is installed, with a self-test: ``python -m kernelops.doctor``.

    Examples
    --------
    >>> available_backends()["CPU"].usable
    True
    """
    threads = thread_count()
    cpu = Backend(True, f"{instruction_set()} instructions, {threads} thread{'s' * (threads != 1)}")
    return {"CPU": cpu, "GPU": _gpu(find_gpus())}


def find_gpus() -> dict[str, Any]:
    """The parts that the GPU engine needs, and which of them are here.

    Returns
    -------
    dict
        "devices" (names), "driver" (path of the CUDA driver library or None), "pycuda" (version or None), "compiler"
        (path of NVRTC or nvcc, or None) and "tried" (every path that was looked at).
    """
    candidates = [folder / DRIVER_LIBRARY for folder in _library_folders()]
    found = [path for path in candidates if path.exists()]
    reports = sorted(PROC_GPUS.glob("*/information"))
    tried: list[str] = []
    return {
        "devices": [name for name in map(_model, reports) if name],
        "driver": str(found[0]) if found else None,
        "pycuda": installed_version("pycuda"),
        "compiler": next(chain(find_nvrtc_files(tried), find_nvcc_programs(tried)), None),
        "tried": [str(PROC_GPUS), *map(str, candidates), *tried],
    }


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, found without importing it, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _gpu(found: dict[str, Any]) -> Backend:
    missing = []
    if not found["devices"] and not found["driver"]:
        missing.append("no NVIDIA GPU or driver is found here")
    elif not found["driver"]:
        missing.append(f"the driver library {DRIVER_LIBRARY} is not found")
    if not found["pycuda"]:
        missing.append('PyCUDA is not installed (pip install "kernelops[cuda]")')
    if not found["compiler"]:
        missing.append("no CUDA compiler is found (pip install nvidia-cuda-nvrtc)")
    if missing:
        return Backend(False, "; ".join(missing))
    gpus = ", ".join(found["devices"]) or "a driver, which names no GPU"
    return Backend(True, f"{gpus}; PyCUDA {found['pycuda']}")


def _model(report: Path) -> str | None:
    """The name of a GPU in the driver's report on it."""
    try:
        lines = report.read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Model:")), None)


def _library_folders() -> list[Path]:
    """Where the CUDA driver library may lie, without asking the loader, which would load it."""
    if sys.platform == "win32":
        folders = [os.path.join(os.environ.get("SystemRoot", r"C:\Windows"), "System32")]
    else:
        machine = f"{os.uname().machine}-linux-gnu"
        folders = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
        folders += [f"/usr/lib/{machine}", f"/lib/{machine}", "/usr/lib64", "/usr/lib", "/usr/lib/wsl/lib"]
        folders += ["/usr/local/nvidia/lib64", "/usr/local/cuda/compat", "/run/opengl-driver/lib"]
    return [Path(folder) for folder in dict.fromkeys(folders)]
