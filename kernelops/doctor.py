"""Report what is installed and used, and whether it computes rightly: ``python -m kernelops.doctor [--json]``.

The exit code is 0 if the self-test passes, else 1.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from . import _core
from .backends import available_backends, find_gpus, installed_version
from .compat import is_installed
from .engines.cpu import available_instruction_sets, instruction_set
from .engines.threads import thread_count, thread_reasons
from .numpy import Genred, KernelSolve

PACKAGES = ("kernelops", "numpy", "scipy", "torch", "matplotlib", "tqdm", "pycuda", "platformdirs", "cython")
ALIASES = ["g = Pm(1)", "x = Vi(3)", "y = Vj(3)", "b = Vj(2)"]
GAUSSIAN = "Exp(-g*SqDist(x,y))*b"


def report() -> dict[str, Any]:
    """All that doctor finds, as a dictionary that json can write.

    Returns
    -------
    dict
        "versions", "cpu", "gpu", "backends", "compat", "paths", "self_test" and "ok", which is True if every self-test
        passed.

    Examples
    --------
    >>> from kernelops.doctor import report
    >>> report()["ok"]
    True
    """
    backends = available_backends()
    tests = {name: _time_test(test) for name, test in SELF_TESTS.items() if backends["GPU"].usable or "GPU" not in name}
    return {
        "versions": {"python": platform.python_version(), **{name: installed_version(name) for name in PACKAGES}},
        "platform": platform.platform(),
        "cpu": {
            "instruction_set": instruction_set(),
            "available": list(available_instruction_sets()),
            "threads": thread_count(),
            "limits": thread_reasons(),
        },
        "gpu": find_gpus(),
        "backends": {name: backend._asdict() for name, backend in backends.items()},
        "compat": {"installed": is_installed(), "pykeops": installed_version("pykeops")},
        "paths": {"python": sys.executable, "package": str(Path(__file__).parent), "core": _core.__file__},
        "self_test": tests,
        "ok": all(test["ok"] for test in tests.values()),
    }


def _gaussian(rows: int, columns: int, dtype: str) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Arguments of the Gaussian formula, and the kernel matrix in float64 of what they hold."""
    rng = np.random.default_rng(0)
    x, y = rng.random((rows, 3)).astype(dtype), rng.random((columns, 3)).astype(dtype)
    g, b = np.array([2.5], dtype), rng.standard_normal((columns, 2)).astype(dtype)
    difference = x[:, None, :].astype(float) - y[None, :, :].astype(float)
    return (g, x, y, b), np.exp(-2.5 * (difference**2).sum(2))


def _product(dtype: str, backend: str = "CPU") -> dict[str, Any]:
    """A product against NumPy's in float64, in units of what rounding the terms may cost."""
    (g, x, y, b), K = _gaussian(300, 517, dtype)
    got = Genred(GAUSSIAN, ALIASES, axis=1)(g, x, y, b, backend=backend)
    scale = abs(K) @ abs(b.astype(float))
    return _verdict(float((abs(got - K @ b.astype(float)) / scale).max()), 64 * float(np.finfo(dtype).eps))


def _solve() -> dict[str, Any]:
    """A solve, judged by its float64 residual; KernelSolve was asked for 1e-8."""
    (g, x, _, b), _ = _gaussian(200, 200, "float64")
    a = KernelSolve(GAUSSIAN, ALIASES, "b", axis=1)(g, x, x, b, alpha=0.1, eps=1e-8)
    difference = x[:, None, :] - x[None, :, :]
    residual = 0.1 * a + np.exp(-2.5 * (difference**2).sum(2)) @ a - b
    return _verdict(float((np.linalg.norm(residual, axis=0) / np.linalg.norm(b, axis=0)).max()), 1.1e-8)


def _verdict(error: float, bound: float) -> dict[str, Any]:
    return {"ok": bool(error <= bound), "error": error, "bound": bound}  # a NaN is not below any bound


SELF_TESTS: dict[str, Callable[[], dict[str, Any]]] = {
    "product float32": lambda: _product("float32"),
    "product float64": lambda: _product("float64"),
    "solve": _solve,
    "product on GPU": lambda: _product("float32", "GPU"),
}


def _time_test(test: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    start = perf_counter()
    try:
        result = test()
    except Exception as error:  # any failure is what this program is there to show
        result = {"ok": False, "exception": "".join(traceback.format_exception_only(error)).strip()}
    return {**result, "seconds": perf_counter() - start}


def as_text(found: dict[str, Any]) -> str:
    """A report as text for people, section by section.

    Parameters
    ----------
    found : dict
        What :func:`report` returns.

    Returns
    -------
    str
    """
    cpu, gpu = found["cpu"], found["gpu"]
    versions = [f"  {name:<13}{number or 'not installed'}" for name, number in found["versions"].items()]
    limits = ", ".join(f"{name} {limit}" for name, limit in cpu["limits"].items())
    machine = [
        f"  instructions {cpu['instruction_set']} (of {', '.join(cpu['available'])})",
        f"  threads      {cpu['threads']} (the least of: {limits})",
        f"  GPUs         {', '.join(gpu['devices']) or 'none found'}",
        f"  GPU driver   {gpu['driver'] or 'not found'}",
        f"  CUDA         {gpu['compiler'] or 'no compiler found'}",
        *(f"    tried      {path}" for path in gpu["tried"]),
    ]
    backends = [
        f"  {name:<13}{'usable' if b['usable'] else 'not usable'}: {b['why']}" for name, b in found["backends"].items()
    ]
    hidden = found["compat"]["pykeops"]
    gives = "kernelops.compat" if found["compat"]["installed"] else hidden and f"KeOps {hidden}"
    compat = [f"  {'pykeops':<13}import pykeops gives {gives or 'nothing'}"]
    paths = [f"  {name:<13}{path}" for name, path in found["paths"].items()]
    tests = [_test_line(name, test) for name, test in found["self_test"].items()]
    sections = {
        "Versions": versions,
        "Machine": machine,
        "Backends": backends,
        "Compat": compat,
        "Paths": paths,
        "Self-test": tests,
    }
    lines = [line for title, body in sections.items() for line in (title, *body, "")]
    return "\n".join([*lines, "All is well." if found["ok"] else "The self-test FAILED."])


def _test_line(name: str, test: dict[str, Any]) -> str:
    what = test.get("exception") or f"error {test['error']:.1e}, allowed {test['bound']:.1e}"
    return f"  {name:<17}{'passed' if test['ok'] else 'FAILED'}: {what} ({test['seconds']:.2f} s)"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, ``["--json"]`` or none; by default those of the command line.

    Returns
    -------
    int
        The exit code: 0 if the self-test passed, else 1.
    """
    parser = argparse.ArgumentParser(
        prog="python -m kernelops.doctor", description="What is installed, and does it compute rightly?"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    asked = parser.parse_args(argv)
    found = report()
    print(json.dumps(found, indent=2) if asked.json else as_text(found))
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
