"""What the check of a GPU machine says: its judges convict what is wrong, and only what was measured can fail."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from kernelops.numpy import Genred
from kernelops.reductions.kinds import REDUCTIONS

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """Imports a benchmark by its bare name."""
    if not BENCHMARKS.is_dir():
        pytest.skip("not a checkout: no benchmarks")
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


# ---- judges ----


@pytest.fixture
def by_cpu(script, monkeypatch):
    """What the checks compute is computed on the CPU; the value of "spoil" is applied to every result."""
    cases, spoiled = script("gpu_cases"), {"spoil": lambda a: a}

    def reduced(door, words, arrays, ranges=None, **how):
        found = Genred(*words, **how)(*arrays, ranges=ranges)
        return [spoiled["spoil"](a.copy()) for a in (found if isinstance(found, tuple) else (found,))]

    monkeypatch.setattr(cases, "reduced", reduced)
    monkeypatch.setattr(cases, "doors", lambda: ["numpy"])
    return cases, spoiled


def somewhat(a):
    """One finite number is another one."""
    place = np.flatnonzero(np.isfinite(a.ravel()))[-1]
    a.flat[place] += 1 if a.dtype.kind == "i" else 1 + 0.1 * abs(a.flat[place])
    return a


def wrong_shape(a):
    return a[..., :-1]


def unknown(a):
    return np.full_like(a, -1 if a.dtype.kind == "i" else np.nan)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("axis", [0, 1])
def test_reductions_that_are_right(by_cpu, dtype, axis):
    cases, _ = by_cpu
    for op in REDUCTIONS:
        found = cases.findings_of(cases.Check(op, axis, dtype))
        assert len(found) == 5 and all(finding.good for finding in found), list(map(str, found))


@pytest.mark.parametrize("spoil", [somewhat, wrong_shape, unknown])
@pytest.mark.parametrize("op", ["Sum", "LogSumExp", "SumSoftMaxWeight", "KMin", "ArgKMin", "Max_ArgMax"])
def test_reductions_that_are_wrong(by_cpu, op, spoil):
    cases, spoiled = by_cpu
    spoiled["spoil"] = spoil
    found = cases.findings_of(cases.Check(op, 1, "float16"))
    assert len(found) == 5 and not any(finding.good for finding in found), list(map(str, found))


def test_cases_are_judged(by_cpu):
    cases, spoiled = by_cpu
    checks = [c for c in cases.all_checks() if not isinstance(c.what, str)]
    for check in checks[::9]:
        assert all(finding.good for finding in cases.findings_of(check))
    spoiled["spoil"] = lambda a: somewhat(somewhat(a * 2 + 1))
    for check in checks[::9]:
        assert not any(finding.good for finding in cases.findings_of(check))

    def raises(a):
        raise RuntimeError(f"GPU 0 {script_lost}\nand more")

    script_lost, spoiled["spoil"] = cases.LOST, raises
    (found,) = cases.findings_of(checks[0])
    assert not found.good and str(found).endswith("one part, numpy: RuntimeError: GPU 0 is lost to this process")


def test_errors_that_have_no_size(script):
    error = script("gpu_cases").error_over
    one = np.ones(2, np.float32)
    assert error(one, np.ones(3), 1.0) == np.inf and error(one, np.array([1, np.nan]), 1.0) == np.inf
    assert error(np.array([np.inf, np.nan], "f4"), np.array([np.inf, np.nan]), 1.0) == 0
    assert error(np.array([np.inf], "f4"), np.array([1.0]), 1.0) == np.inf
    assert error(np.array([np.inf], "f2"), np.array([1e5]), 1e5) == 0, "float16 ends before"
    assert error(np.array([np.inf], "f4"), np.array([1e5]), 1e5) == np.inf
    assert error(one, np.array([1.0, 1.5]), 2.0) == 0.25


def test_indices_lead_to_values(script):
    led_to = script("gpu_cases").led_to
    values, mask = np.arange(6.0).reshape(2, 3, 1), np.array([[True, True, False], [False, False, False]])
    at = np.array([[[0], [2]], [[-1], [-1]]])
    np.testing.assert_array_equal(led_to(values, None, 1, at, False)[0, :, 0], [0, 2])
    np.testing.assert_array_equal(led_to(values, mask, 1, at - [[[0], [1]], [[0], [0]]], False)[0, :, 0], [0, 1])
    np.testing.assert_array_equal(led_to(values, mask, 1, np.full((2, 1, 1), -1), True), np.full((2, 1, 1), -np.inf))
    with pytest.raises(ValueError, match="not met"):
        led_to(values, mask, 1, at, False)
    with pytest.raises(ValueError, match="twice"):
        led_to(values, None, 1, np.zeros((2, 2, 1), int), False)


# ---- clocks and verdicts ----


def test_rounds_keep_to_their_budget(script):
    timing = script("gpu_timing")

    class Place:
        def seconds(self, call, times):
            call()
            return 3.0

    calls = []
    ours = {"kernelops": lambda: calls.append(1)}
    assert timing.rounds(Place(), ours, {"kernelops": 5.0}, 0.0) == {"kernelops": 5.0} and not calls
    assert timing.rounds(Place(), ours, {"kernelops": 5.0}, 100.0) == {"kernelops": 3.0} and len(calls) == timing.ROUNDS
    problem = script("kernels").Problem("gaussian", 1000)
    before = timing.Timed(problem, {"kernelops": 0.5})
    ten = script("kernels").Problem("gaussian", 10_000)
    assert timing.foretold("kernelops", ten, before) == pytest.approx(50)
    assert timing.foretold("KeOps", ten, before) == timing.foretold("kernelops", ten, None) == 0


def test_few_rows_of_a_large_problem_are_compared(script):
    OnGpu = script("gpu_timing").OnGpu
    assert len(OnGpu("gaussian", 1000).rows) == 64
    assert len(OnGpu("gaussian", 1_000_000, 100).rows) == 4


def test_the_dense_answer_of_a_solve(script):
    torch = pytest.importorskip("torch")
    solves = script("gpu_solves")
    x, b, e = solves.problem(40)
    c, gradient = solves.truth(x.numpy(), b.numpy(), e.numpy())
    at = x.double().requires_grad_()
    A = torch.exp(-solves.rate() * ((at[:, None] - at) ** 2).sum(2)) + solves.ALPHA * torch.eye(40, dtype=torch.double)
    wanted = torch.linalg.solve(A, b.double())
    np.testing.assert_allclose(c, wanted.detach().numpy(), rtol=1e-9)
    slope = torch.autograd.grad((wanted * e).sum(), at)[0].numpy()
    np.testing.assert_allclose(gradient, slope, rtol=1e-8, atol=1e-9 * abs(slope).max())
    assert solves.residual(x.numpy(), b.numpy(), c) < 1e-12 < 1e-3 < solves.residual(x.numpy(), b.numpy(), c + 0.1)


def made_up(script, error=1e-7, ratio=2.0, wide=4.0, milliseconds=10.0, keops=True):
    """Results of round figures."""
    report, cases, timing, solves = (script(f"gpu_{name}") for name in ("report", "cases", "timing", "solves"))
    Problem = script("kernels").Problem
    check = cases.quick_checks()[0]
    results = report.Results({"clock_mhz": 2000.0, "multiprocessors": 100})
    results.findings = [cases.Finding(check, "one part, numpy", error, 3e-6)]
    results.errors = {3: error, 10: error / 2}
    for D, times, N in ((3, ratio, 1_000_000), (3, 9.0, 100_000), (100, wide, 100_000), (100, 9.0, 10_000)):
        theirs = {"KeOps": times} if keops else {}
        notes = {} if keops else {"KeOps": "not installed"}
        results.rows.append(timing.Timed(Problem("gaussian", N, D), {"kernelops": 1.0, **theirs}, notes=notes))
    seconds = {"kernelops": milliseconds / 1000}
    results.solves = [solves.Solved(5000, seconds, dict(seconds), 1.0, {"error": 1e-8}, "converged")]
    results.first = [{"import": 0.1, "first call": 1.0}, {"import": 0.1, "first call": 0.1}]
    return results


def heads(script, results):
    return [script("gpu_report").line(v)[:4] for v in script("gpu_report").verdicts(results)]


def test_verdicts(script):
    report = script("gpu_report")
    good = made_up(script)
    assert heads(script, good) == ["PASS"] * 8 and report.passed(good)
    lines = [report.line(v) for v in report.verdicts(good)]
    assert lines[3] == "PASS  KeOps / kernelops, Gaussian, D = 3: 2.00 (wanted at least 1.30); N = 1,000,000"
    assert lines[4] == "PASS  KeOps / kernelops, Gaussian, D = 100: 4.00 (wanted at least 3.00); N = 100,000"
    bad = made_up(script, error=4e-6, ratio=1.2, wide=2.9, milliseconds=31.0)
    bad.rows[0].failed = {"kernelops": "ValueError: wrong"}
    bad.solves[0].failed = ["wrong"]
    assert heads(script, bad) == ["FAIL"] * 8 and not report.passed(bad)
    assert "FAIL  results that are wrong: 1 (wanted at most 0); of 1" in "\n".join(
        map(report.line, report.verdicts(bad))
    )


def test_what_has_no_peer_or_was_not_measured_does_not_fail(script):
    report = script("gpu_report")
    alone, empty = made_up(script, keops=False), report.Results()
    assert heads(script, alone)[3:5] == ["-   "] * 2 and report.passed(alone)
    told = report.line(report.verdicts(alone)[3])
    assert told == "-     KeOps / kernelops, Gaussian, D = 3: not measured (wanted at least 1.30); KeOps: not installed"
    assert heads(script, empty) == ["-   "] * 8 and report.passed(empty)


def test_the_page_and_the_json(script):
    report, results = script("gpu_report"), made_up(script)
    page = report.page(results)
    assert "| Gaussian  | float32 |   3 |  1 | 1,000,000 |          1000 | 1.00e+12 |          31% |" in page
    assert "| compiled before |  0.100 |      0.100 |" in page and "1.0e-07" in page
    found = json.loads(json.dumps(report.as_json(results)))
    assert found["bound"] == 3.2e12 and [v["good"] for v in found["verdicts"]] == [True] * 8
    assert report.page(report.Results()) and report.as_json(report.Results())
