"""Everything about a GPU in one command: what is there, whether it computes rightly, how fast it is.

Takes less than eight minutes, whatever the GPU: what there is no time for is left out, and said to be. Ends with status
2 where something is missing, with 1 where a line says FAIL.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
sys.path.append(str(ROOT))  # a package that was built in place
TOTAL, CHECKS, SOLVES = 450.0, 170.0, 75.0  # seconds: of all, and at most of these
SIZES, QUICK_SIZES = (1_000, 10_000, 100_000, 1_000_000), (300, 3_000)
SOLVE_SIZES, QUICK_SOLVE_SIZES = (5_000, 100_000), (300,)
LATE, SLACK = "no time was left", 10.0  # seconds that an answer may come late
SURE = 10_000  # points for which there is time on any GPU
MOST_PROCESSES = 12  # that run checks
PACKAGES = ("kernelops", "numpy", "scipy", "pycuda", "torch", "pykeops")


# ---- what is there ----


def missing() -> list[str]:
    """What is not there and is needed, in words."""
    found = (
        [] if (ROOT / "tests" / "cases.py").is_file() else ["the table of cases, tests/cases.py: this needs a checkout"]
    )
    try:
        from kernelops import BackendError
        from kernelops.gpu import compilers, device
    except ImportError as error:
        return [*found, f"kernelops: {error}; build it by pip install -e ."]
    for ask in (device.device, compilers.find_compiler):
        try:
            ask()
        except BackendError as error:
            found.append(str(error))
    return found


def emulated() -> bool:
    """Whether the driver, or the compiler, is that of the tests."""
    from kernelops.gpu import compilers, driver

    library = ctypes.CDLL(driver.DRIVER_LIBRARY)
    return hasattr(library, "emulated_count") or compilers.find_compiler().name not in ("nvrtc", "nvcc")


def machine() -> dict[str, Any]:
    """The GPU, the driver, the compiler and the versions, without names of hosts or folders."""
    from kernelops.backends import installed_version
    from kernelops.gpu import compilers, device
    from kernelops.gpu import locate as places

    gpu, compiler = device.device(), compilers.find_compiler()
    return {
        "GPU": gpu.name,
        "capability": gpu.arch,
        "multiprocessors": gpu.multiprocessors,
        "clock_mhz": clock_of(gpu.number),
        "memory_gb": round(gpu.memory / 1e9, 1),
        "driver": told("driver_version", gpu.number) or "unknown",
        "CUDA of the driver": ".".join(map(str, places.driver_version() or ())) or "unknown",
        "compiler": f"{compiler.name} {compiler.version}",
        "emulated": emulated(),
        "Python": platform.python_version(),
        **{package: installed_version(package) or "not installed" for package in PACKAGES},
        "CUDA of torch": cuda_of_torch(),
        "cores": os.cpu_count(),
    }


def clock_of(number: int) -> float | None:
    """The highest clock of the multiprocessors, in MHz."""
    import pycuda.driver as cuda

    try:
        return cuda.Device(number).get_attribute(cuda.device_attribute.CLOCK_RATE) / 1000
    except cuda.Error:  # a driver that does not tell it any more
        said = told("clocks.max.sm", number)
        return float(said) if said.isdecimal() else None


def told(what: str, number: int) -> str:
    """What nvidia-smi says of a GPU; nothing where it cannot be asked."""
    asked = ["nvidia-smi", f"--id={number}", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def cuda_of_torch() -> str:
    try:
        import torch
    except ImportError:
        return "no torch"
    return str(torch.version.cuda) if torch.cuda.is_available() else "none: its parts are left out"


# ---- what is measured ----


def problems(quick: bool) -> list[Any]:
    """The rows of the table, whatever their size."""
    from kernels import Problem

    some = [Problem("gaussian", 0), Problem("logsumexp", 0)]
    more = [Problem("gaussian", 0, D) for D in (10, 100)]
    more += [Problem("laplace", 0), Problem("gradient", 0), Problem("gaussian", 0, 3, 16)]
    return some if quick else [*some, *more, Problem("gaussian", 0, dtype="float64")]


class Run:
    """One run, with a time by which it is to end."""

    def __init__(self, results: Any, quick: bool, processes: int, prelude: str) -> None:
        from gpu_worker import Worker

        self.results, self.quick, self.processes, self.prelude = results, quick, processes, prelude
        self.ends = monotonic() + TOTAL
        self.worker = Worker(prelude)

    @property
    def left(self) -> float:
        return self.ends - monotonic()

    def asked(self, what: str, function: Any, *arguments: Any, limit: float) -> Any:
        """The answer of the process apart, or None and a note."""
        from gpu_worker import AwayError

        try:
            if self.left < 0:
                raise AwayError(LATE)
            return self.worker.ask(function, *arguments, limit=min(limit, self.left + SLACK))
        except AwayError as why:
            self.results.notes.append(f"{what}: {why}")
            print(self.results.notes[-1], flush=True)
            return None

    def checks(self) -> None:
        import gpu_cases
        import gpu_report

        wanted = gpu_cases.quick_checks() if self.quick else gpu_cases.all_checks()
        found = gpu_cases.run(wanted, self.processes, min(CHECKS, self.left), self.prelude)
        self.results.findings, self.results.left_out = found
        told = "\n".join(map(str, self.results.wrong[: gpu_report.SHOWN]))
        print(f"\n{gpu_report.checks(self.results)}\n{told}", flush=True)

    def precision(self) -> None:
        import accuracy
        import gpu_timing

        for D in (3,) if self.quick else accuracy.DS:
            found = self.asked(f"precision, D = {D}", gpu_timing.precision, D, self.quick, limit=60.0)
            self.results.errors |= {} if found is None else {D: found}
        print(f"errors of float32 products: {self.results.errors}", flush=True)

    def first(self) -> None:
        import gpu_timing
        from gpu_worker import Worker

        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            for _ in range(2):
                self.worker.close()  # a new process
                self.worker = Worker(self.prelude)
                found = self.asked("first calls", gpu_timing.first_calls, folder, limit=60.0)
                self.results.first += [] if found is None else [found]
        self.worker.close()
        print(f"first calls: {self.results.first}", flush=True)

    def solves(self) -> None:
        import gpu_solves

        if "torch" not in sys.modules:  # of which machine() has asked
            self.results.notes.append("no solves: torch is not installed")
            return
        ends = monotonic() + min(SOLVES, self.left)
        for N in QUICK_SOLVE_SIZES if self.quick else SOLVE_SIZES:
            name = f"solve, N = {N:,}"
            solved = self.asked(name, gpu_solves.ours, N, 3.0, 1 if self.quick else 9, limit=ends - monotonic())
            if solved is None:
                why = self.results.notes.pop()
                solved = gpu_solves.Solved(N, failed=[why]) if bad(why, N) else gpu_solves.Solved(N, said=why)
            for engine, solve in gpu_solves.PEERS.items():
                taken = self.asked(f"{engine}, {name}", solve, N, limit=min(20.0, ends - monotonic()))
                solved.seconds |= {} if taken is None else {engine: taken}
            self.results.solves.append(solved)
            print(f"{solved}", flush=True)

    def rows(self) -> None:
        """All problems in one size after the other, so that a slow GPU has the small ones."""
        from dataclasses import replace

        import gpu_report
        import gpu_timing

        before: dict[Any, Any] = {}
        wanted = [(problem, N) for N in (QUICK_SIZES if self.quick else SIZES) for problem in problems(self.quick)]
        for k, (problem, N) in enumerate(wanted):
            budget = self.left / (len(wanted) - k)
            here = replace(problem, N=N)
            name = f"{here.label}, N = {N:,}"
            row = self.asked(
                name, gpu_timing.row, here, budget, before.get(problem), limit=min(2 * budget, self.left) + 10
            )
            if row is None:
                why = {gpu_timing.OURS: self.results.notes.pop()}
                row = gpu_timing.Timed(here, **{"failed" if bad(*why.values(), N) else "notes": why})
            self.results.rows.append(row)
            before[problem] = row
            print(" | ".join(gpu_report.cells(row, self.results.bound)), row.notes, row.failed or "", flush=True)

    def whole(self) -> None:
        for part in (self.first, self.checks, self.precision, self.solves, self.rows):
            start = monotonic()
            part()
            print(f"-- {part.__name__}: {monotonic() - start:.0f} s", flush=True)
        self.worker.close()


def bad(why: str, N: int) -> bool:
    """Whether it is wrong that there is no answer; a GPU may be too slow for many points."""
    return LATE not in why and ("no answer in" not in why or N <= SURE)


# ---- where it goes ----


def folder_of(asked: Path | None, quick: bool, is_emulated: bool) -> Path | None:
    """Where the results are written; those of an emulated GPU stand with the others of no machine.

    Raises
    ------
    ValueError
        Where they were asked to.
    """
    if asked is None:
        return None if quick or is_emulated else RESULTS
    if is_emulated and RESULTS.resolve() in (asked.resolve(), *asked.resolve().parents):
        raise ValueError(f"--output {asked}: this is the emulated driver, whose figures are no results")
    return asked


def main(arguments: Sequence[str] | None = None, prelude: str = "") -> int:
    """The prelude is run first in every process that this one starts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few cases and small sizes; writes nothing by itself")
    parser.add_argument("--output", type=Path, help="folder of gpu.json and gpu.md; benchmarks/results of a whole run")
    parser.add_argument("--processes", type=int, default=min(MOST_PROCESSES, os.cpu_count() or 1), help="of the checks")
    options = parser.parse_args(arguments)
    lacking = missing()
    if lacking:
        print("\n".join(f"missing: {what}" for what in lacking))
        return 2
    import gpu_report

    results = gpu_report.Results(machine())
    try:
        output = folder_of(options.output, options.quick, results.machine["emulated"])
    except ValueError as error:
        parser.error(str(error))
    print("\n".join(f"{name}: {value}" for name, value in results.machine.items()), flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as kernels:
        os.environ.setdefault("KERNELOPS_CACHE_DIR", kernels)  # for the processes, so that the user's is left alone
        Run(results, options.quick, options.processes, prelude).whole()
    print(f"\n{gpu_report.page(results)}")
    if output:
        output.mkdir(parents=True, exist_ok=True)
        (output / "gpu.json").write_text(json.dumps(gpu_report.as_json(results), indent=1) + "\n", encoding="utf-8")
        (output / "gpu.md").write_text(gpu_report.page(results), encoding="utf-8")
    print("\n".join(map(gpu_report.line, gpu_report.verdicts(results))))
    return 0 if gpu_report.passed(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
