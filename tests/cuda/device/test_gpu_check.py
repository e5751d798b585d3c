"""The check of a GPU machine: a quick run goes through, what is missing is said, and processes may die."""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cuda_emulator import driver as emulated
from tools import needs

from kernelops.errors import BackendError
from kernelops.gpu import compilers, device

ROOT = Path(__file__).parents[3]
BENCHMARKS = ROOT / "benchmarks"
EMULATED = "from cuda_emulator import driver as emulated\nemulated.install()\n"
RUN = """
import gpu_check
raise SystemExit(gpu_check.main({arguments!r}, {prelude!r}))
"""


@pytest.fixture
def script(monkeypatch):
    """Imports a benchmark by its bare name."""
    if not BENCHMARKS.is_dir():
        pytest.skip("not a checkout: no benchmarks")
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture
def checked(kernels, script):
    """Runs the whole command on the emulated driver, in a process of its own: status, output."""
    needs(emulated.missing())

    def run(*arguments, **environment):
        paths = [BENCHMARKS, ROOT, ROOT / "tests", ROOT / "tests" / "cuda", os.environ.get("PYTHONPATH", "")]
        given = {"PYTHONPATH": os.pathsep.join(map(str, filter(None, paths))), "KERNELOPS_CACHE_DIR": str(kernels)}
        done = subprocess.run(
            [sys.executable, "-c", EMULATED + RUN.format(arguments=arguments, prelude=EMULATED)],
            env={**os.environ, "OMP_NUM_THREADS": "1", **given, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        return done.returncode, done.stdout + done.stderr

    return run


# ---- the command ----


def test_a_quick_run(checked, tmp_path):
    before = set((BENCHMARKS / "results").iterdir())
    status, said = checked("--quick", "--processes", "2", "--output", str(tmp_path))
    assert status == 0, said
    assert "GPU: Emulated GPU 0" in said and "PASS  results that are wrong: 0 (wanted at most 0); of 12" in said
    assert "| Gaussian  | float32 | 3 |  1 | 3,000 |" in said and "FAIL" not in said
    assert "-     KeOps / kernelops, Gaussian, D = 3: not measured" in said
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["machine"]["emulated"] and found["checks"]["wrong"] == [] and found["notes"] == []
    assert [row["problem"]["N"] for row in found["rows"]] == [300, 300, 3000, 3000]
    assert all(row["seconds"]["kernelops"] > 0 and not row["failed"] for row in found["rows"])
    assert [list(process) for process in found["first"]] == [["import", "start", "first call", "second call"]] * 2
    assert found["solves"][0]["errors"]["gradient error"] < 1e-5 and found["errors"]["3"] < 3e-7
    assert (tmp_path / "gpu.md").read_text() in said
    assert set((BENCHMARKS / "results").iterdir()) == before


def test_what_is_missing_is_said(checked):
    status, said = checked("--quick", EMULATED_CUDA_DEVICES="0")
    assert status == 2 and said.startswith("missing: CUDA does not start"), said


def test_everything_that_is_missing(script, monkeypatch, tmp_path):
    check = script("gpu_check")

    def fails(what):
        def ask():
            raise BackendError(what)

        return ask

    monkeypatch.setattr(device, "device", fails("no driver"))
    monkeypatch.setattr(compilers, "find_compiler", fails("no compiler"))
    assert check.missing() == ["no driver", "no compiler"]
    monkeypatch.setattr(check, "ROOT", tmp_path)
    assert check.missing()[0].startswith("the table of cases")
    assert check.main([]) == 2


def test_figures_of_an_emulated_gpu_are_no_results(script, checked):
    check = script("gpu_check")
    results = BENCHMARKS / "results"
    assert check.folder_of(None, False, False) == results
    for quick, is_emulated in ((True, False), (False, True), (True, True)):
        assert check.folder_of(None, quick, is_emulated) is None
    assert check.folder_of(results, True, False) == results
    for folder in (results, results / "more", BENCHMARKS / "results" / ".." / "results"):
        with pytest.raises(ValueError, match="emulated"):
            check.folder_of(folder, False, True)
    status, said = checked("--output", str(results))
    assert status == 2 and "the emulated driver, whose figures are no results" in said


def test_too_slow_is_not_wrong_where_there_are_many_points(script):
    check = script("gpu_check")
    bad = check.bad
    assert bad("no answer in 30 s", 5000) and bad("its process died", 1_000_000)
    assert not bad("no answer in 30 s", 100_000) and not bad(check.LATE, 300)
    results = script("gpu_report").Results()
    run = check.Run(results, True, 1, "")
    run.ends = time.monotonic() - 1
    run.rows(), run.solves()
    assert [row.notes for row in results.rows][0]["kernelops"].endswith("N = 300: no time was left")
    assert script("gpu_report").passed(results) and not any(row.failed for row in results.rows)


# ---- processes apart ----


def test_a_process_that_fails_is_started_again(script):
    module = script("gpu_worker")
    with module.Worker("import os; os.environ['SEEN'] = 'yes'") as worker:
        assert worker.ask(os.getenv, "SEEN") == "yes"
        first = worker.process.pid
        with pytest.raises(module.AwayError, match="^ValueError: invalid literal"):
            worker.ask(int, "x")
        assert worker.process.pid == first
        with pytest.raises(module.AwayError, match=r"its process died \(status 3\)"):
            worker.ask(os._exit, 3)
        assert worker.ask(len, "four") == 4 and worker.process.pid != first
        with pytest.raises(module.AwayError, match="no answer in 0 s"):
            worker.ask(time.sleep, 100, limit=0.1)
        assert worker.process is None and worker.ask(len, "four") == 4
        with pytest.raises(module.AwayError, match="lost"):
            worker.ask(exec, f"raise OSError('GPU 0 {module.LOST}')")
        assert worker.process is None
    assert worker.process is None


def test_checks_whose_process_dies_and_checks_that_are_left_out(script):
    cases = script("gpu_cases")
    checks = cases.quick_checks()
    found, left = cases.run(checks, 2, 60.0, "raise SystemExit(7)")
    assert left == [] and {f.check for f in found} == set(checks)
    assert not any(f.good for f in found)
    assert {f.why for f in found if "its process died" not in f.why} == set()
    assert cases.run(checks, 1, 0.0) == ([], checks)


# ---- where torch has CUDA ----

AS_IF = """
# tensors of the host pass for some that are on the emulated GPU, which has the host's memory
import sys, time, types
from importlib.machinery import ModuleSpec
import numpy, torch
from kernelops.arrays import arguments as arrays, backend as backend_choice, device_array

class Event:
    def __init__(self, enable_timing):
        assert enable_timing
    def record(self):
        self.at = time.perf_counter()
    def synchronize(self):
        pass
    def elapsed_time(self, other):
        return 1000 * (other.at - self.at)

torch.cuda.is_available, torch.cuda.init, torch.cuda.synchronize = (lambda: True), (lambda: None), (lambda: None)
torch.cuda.Event, torch.Tensor.cuda, to = Event, (lambda a: a), torch.Tensor.to
torch.Tensor.to = lambda a, *given, **how: a if given == ("cuda",) else to(a, *given, **how)
for module in (arrays, backend_choice, device_array):
    module.on_device = lambda a: isinstance(a, torch.Tensor) or device_array._gives_gpu_memory(a)
arrays.as_numpy_view = lambda a: a if type(a) is numpy.ndarray else None
import kernelops.torch
pykeops = sys.modules["pykeops"] = types.ModuleType("pykeops")
pykeops.__spec__, pykeops.__path__, pykeops.set_verbose = ModuleSpec("pykeops", None), [], lambda verbose: None
pykeops.torch = sys.modules["pykeops.torch"] = kernelops.torch

import gpu_cases, gpu_solves, gpu_timing
from kernels import Problem
findings = gpu_cases.findings_of(gpu_cases.quick_checks()[0])
assert len(findings) == 4 and all(f.good for f in findings), list(map(str, findings))
before = None
for N in (200, 1000):
    before = gpu_timing.row(Problem("gaussian", N), 5.0, before)
    assert not before.failed and not before.notes, before
    assert list(before.seconds) == list(before.first) == ["kernelops", "KeOps", "dense torch"], before
left = gpu_timing.Timed(before.problem, {**before.seconds, "KeOps": 9.0})
assert gpu_timing.row(Problem("gaussian", 2000), 2.0, left).notes["KeOps"] == "no time for it, at about 36 s"
solved = gpu_solves.ours(150, 1.0, 2)
assert not solved.failed and solved.errors["gradient error"] < 1e-5, solved
assert gpu_solves.keops(150) > 0 and gpu_solves.dense(150) > 0 and gpu_solves.dense(60_000) is None
"""


def test_with_tensors_on_the_gpu(child, script):
    """What runs where torch has CUDA and KeOps is there."""
    pytest.importorskip("torch")
    status, said, errors = child(AS_IF, EMULATED + f"import sys\nsys.path.insert(0, {str(BENCHMARKS)!r})\n")
    assert status == 0, said + errors


# ---- wheels ----


def test_the_wheels_say_how_they_are_asked_for():
    if not (ROOT / "tools").is_dir():
        pytest.skip("not a checkout: no tools")
    done = subprocess.run(["sh", ROOT / "tools" / "gpu_wheels.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("tools/gpu_wheels.sh FOLDER [PYTHON]: gathers")
