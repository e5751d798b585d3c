"""python -m kernelops.doctor: what it reports, and that it notices a product or a solve that is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy

from kernelops import doctor
from kernelops.engines import threads


def run_doctor(*options):
    return subprocess.run(
        [sys.executable, "-m", "kernelops.doctor", *options], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def found():
    return doctor.report()


def test_json():
    run = run_doctor("--json")
    assert (run.returncode, run.stderr) == (0, "")
    found = json.loads(run.stdout)
    assert found["ok"] is True
    assert set(found) == {"versions", "platform", "cpu", "gpu", "backends", "compat", "paths", "self_test", "ok"}
    assert found["versions"]["numpy"] == np.__version__ and found["versions"]["scipy"] == scipy.__version__
    assert found["cpu"]["threads"] == min(found["cpu"]["limits"].values())
    assert found["cpu"]["instruction_set"] in found["cpu"]["available"]
    assert found["backends"]["CPU"]["usable"] is True and found["gpu"]["tried"]
    assert all(Path(path).exists() for path in found["paths"].values())
    assert all(test["seconds"] > 0 for test in found["self_test"].values())


def test_text(found):
    text = doctor.as_text(found)
    assert text.endswith("All is well.")
    for word in (
        "Versions",
        "numpy",
        "instructions",
        "threads",
        "GPUs",
        "tried",
        "CPU",
        "Self-test",
        "product float32",
    ):
        assert word in text, word
    assert str(threads.thread_count()) in text


def test_versions_are_found_without_imports():
    script = (
        "import sys, kernelops.doctor as d; d.report(); print({'torch', 'pycuda', 'matplotlib'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def test_what_is_not_installed_is_said(found):
    versions = {**found["versions"], "torch": None}
    assert "torch        not installed" in doctor.as_text({**found, "versions": versions})


@pytest.mark.parametrize("factor", [1.001, np.nan])
def test_a_wrong_product_is_noticed(monkeypatch, capsys, factor):
    class Wrong(doctor.Genred):
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs) * np.float32(factor)

    monkeypatch.setattr(doctor, "Genred", Wrong)
    assert doctor.main(["--json"]) == 1
    tests = json.loads(capsys.readouterr().out)["self_test"]
    assert [tests[name]["ok"] for name in tests] == [False, False, True]


def test_a_wrong_solve_is_noticed(monkeypatch, capsys):
    class Wrong(doctor.KernelSolve):
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs) + 1e-6

    monkeypatch.setattr(doctor, "KernelSolve", Wrong)
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    assert "solve            FAILED: error" in text and text.endswith("The self-test FAILED.\n")


def test_an_exception_in_a_self_test_is_reported(monkeypatch, capsys):
    def broken(*args, **kwargs):
        raise RuntimeError("no luck today")

    monkeypatch.setattr(doctor, "Genred", broken)
    assert doctor.main([]) == 1
    assert "FAILED: RuntimeError: no luck today" in capsys.readouterr().out


def test_a_wrong_option_is_refused():
    run = run_doctor("--yaml")
    assert run.returncode == 2 and "--yaml" in run.stderr
