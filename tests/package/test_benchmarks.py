"""The benchmarks measure what they say: problems are built and checked, the arithmetic of the verdicts is right."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def on_path(monkeypatch, tmp_path):
    """The scripts import each other by their bare names; what they write goes to a folder of its own."""
    if not BENCHMARKS.is_dir():
        pytest.skip("not a checkout: no benchmarks")
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def script():
    return importlib.import_module


def rows_of(script, N):
    """Every row of the tables, in both versions, with few points."""
    rows = [row.at_most(N if row.problem.D < 100 else 60) for row in script("plan").all_rows()]
    return [version for row in rows for version in (row, row.of_one_array())]


def test_every_problem_is_built_and_answered(script):
    call = script("engines").ENGINES["kernelops"].call
    problems = [row.problem for row in rows_of(script, 200)]
    assert len(problems) == 2 * (7 * 4 * 2 + 6)
    for problem in problems:
        assert (problem.named["x"] is problem.named["y"]) == problem.same
        assert problem.check(call(problem)()) <= script("kernels").TOLERANCE[problem.dtype]


def test_wrong_answers_are_refused(script):
    call = script("engines").ENGINES["kernelops"].call
    for problem in {row.problem.kind: row.problem for row in rows_of(script, 150)}.values():
        result = call(problem)()
        wrong = result.copy()
        wrong[-1] = (wrong[-1] + 1) % len(wrong) if problem.kind == "argkmin" else wrong[-1] + 1e-3 * abs(wrong).max()
        for bad in (wrong, np.full_like(result, np.nan) if result.dtype.kind == "f" else np.zeros_like(result)):
            with pytest.raises(ValueError, match="is right"):
                problem.check(bad)


def test_another_package_that_is_wrong_is_left_out_and_ours_is_an_error(script, monkeypatch):
    measuring, engines = script("measuring"), script("engines")
    row = script("plan").Row(script("kernels").Problem("laplace", 100), ("kernelops", "KeOps"))
    good, bad = engines.ENGINES["kernelops"], replace(engines.ENGINES["KeOps"], call=lambda p: lambda: np.zeros(p.N))
    monkeypatch.setattr(measuring, "ENGINES", {"kernelops": good, "KeOps": bad})
    found = measuring.measure(row, ["kernelops", "KeOps"], None, 1)
    assert list(found.ns) == list(found.first) == ["kernelops"] and found.ratio("KeOps") is None
    assert len(found.wrong) == 1 and found.wrong[0].startswith("KeOps of Problem(kind='laplace'")
    monkeypatch.setattr(measuring, "ENGINES", {"kernelops": bad})
    with pytest.raises(ValueError, match="is right"):
        measuring.measure(row, ["kernelops"], None, 1)


@pytest.mark.parametrize("engine", ["dense torch", "scikit-learn"])
def test_the_dense_ways_are_right(script, engine):
    column = script("engines").ENGINES[engine]
    pytest.importorskip(column.package)
    asked = [row.problem for row in rows_of(script, 150) if engine in row.engines]
    assert {problem.kind for problem in asked} == set(script("kernels").KINDS) - {column.without}
    for problem in asked:
        problem.check(column.call(problem)())


def test_the_plan_measures_what_the_verdicts_read(script):
    plan, engines = script("plan"), script("engines").ENGINES
    rows = {plan.key(row.problem): row for row in plan.all_rows()}
    for problem in plan.JUDGED:
        assert rows[plan.key(problem)].problem.N == 10_000
        assert rows[plan.key(problem)].engines == tuple(engines)
    assert {"kernelops", "dense torch"} <= set(rows[plan.key(plan.WIDE)].engines)
    assert {plan.key(row.problem) for row in plan.quick_rows()} <= set(rows)
    assert all(2_000 <= row.problem.N <= 10_000 for row in rows.values())
    assert all(len(set(row.engines)) == len(row.engines) for row in rows.values())


def test_the_bound_is_right(script):
    """Every loop compares itself with float64 when it is made; a wrong tile is noticed."""
    module = script("bound")
    try:
        bound = module.Bound("-O1")
    except module.BoundError as why:
        pytest.skip(str(why))
    assert {(v.D, v.form) for v in bound.variants} == {(D, f) for D in (3, 10, 100) for f in module.FORMS}
    for variant in bound.variants:
        run = module.Run(bound, variant, 96, 3)
        assert run.pairs == 96 * run.columns * 3
        assert run.error <= module.WORST
    run.tile[:] += 0.01
    rng = np.random.default_rng(0)
    x, y = ((rng.random((n, 100)) - 0.5) / 10 for n in (96, run.columns))
    with pytest.raises(ValueError, match="the bound is wrong"):
        run._check(x[:64], y, rng.standard_normal(run.columns), 3)


def made_up(script, ours=1.0, theirs=16.0, bound=0.8, dense=0.8):
    """Results of round figures, for which every verdict is known."""
    plan, measuring, report = (script(name) for name in ("plan", "measuring", "report"))
    results = report.Results()
    for row in plan.all_rows():
        for version in (row, row.of_one_array()):
            half = 2 if version.problem.same else 1
            ns = {"kernelops": ours / half, "KeOps": theirs, "dense torch": dense, "scikit-learn": 50.0}
            found = measuring.Measured(version.problem, {name: ns[name] for name in row.engines})
            if measuring.bounded(version.problem):
                found.bound = {"differences": bound, "products": bound / 2}
            results.rows.append(found)
    results.curve = {
        "kernelops": {100: 3.0, 200: 1.0, 1000: 2.0},
        "KeOps": {100: 0.1, 200: 0.1, 1000: 0.1},
        "dense torch": {100: 1.0, 200: 1.5},
        "scikit-learn": {100: 9.0, 200: 9.0, 1000: 2.4},
    }
    results.errors = {3: 1e-7, 10: 2e-7}
    results.peaks = [script("memory").Peak(n, same, 100 * n, 28 * n) for n in (2000, 10_000) for same in (False, True)]
    return results


def verdicts_of(results):
    return {verdict.text: verdict for verdict in results.summary() if verdict.wanted is not None}


def test_the_arithmetic_of_the_verdicts(script):
    found = verdicts_of(made_up(script))
    values = {text: verdict.found for text, verdict in found.items()}
    assert values == pytest.approx(
        {
            "KeOps / kernelops, x and y different arrays: geometric mean": 16,
            "KeOps / kernelops, K(x, x): geometric mean": 32,
            "KeOps / kernelops, the least of all": 16,
            "speed over that of the bound by differences, Gaussian, D = 3": 0.8,
            "speed over that of the bound by differences, Gaussian, D = 10": 0.8,
            "kernelops / dense torch, D = 1000, x and y different arrays": 1.25,
            "kernelops / dense torch, D = 1000, K(x, x)": 0.625,
            "times as fast as dense torch and scikit-learn, the least from N = 200 on": 1.2,
            "largest |error| / sum of |terms|": 2e-7,
            "bytes for each point": 100,
        }
    )
    assert all(verdict.good for verdict in found.values())
    assert script("verdicts").geometric_mean([1, 4, 16]) == pytest.approx(4)


@pytest.mark.parametrize(
    ("what", "failing"),
    [
        ({"theirs": 14.0}, {"x and y different arrays: geometric mean"}),
        ({"theirs": 3.9}, {"x and y different arrays: geometric mean", "K(x, x): geometric mean", "the least of all"}),
        ({"bound": 0.69}, {"differences, Gaussian, D = 3", "differences, Gaussian, D = 10"}),
        ({"dense": 0.6}, {"D = 1000, x and y different arrays"}),
    ],
)
def test_verdicts_can_be_missed(script, what, failing):
    missed = [verdict for verdict in verdicts_of(made_up(script, **what)).values() if not verdict.good]
    assert len(missed) == len(failing)
    assert all(any(verdict.text.endswith(end) for end in failing) for verdict in missed)
    assert all("NOT reached" in str(verdict) for verdict in missed)


def test_precision_memory_and_crossover_can_be_missed(script):
    results = made_up(script)
    results.errors[100] = 3.1e-7
    results.peaks.append(script("memory").Peak(10_000, True, 501 * 10_000, 0))
    results.curve["dense torch"][200] = 0.99
    missed = [str(verdict) for verdict in verdicts_of(results).values() if not verdict.good]
    assert len(missed) == 3
    assert "0.99 (N = 200, dense torch); wanted at least 1.00" in missed[0]
    assert "3.1e-07 (D = 100); wanted at most 3.0e-07" in missed[1]
    assert "501; wanted at most 500" in missed[2]


def test_what_was_not_measured_is_said(script):
    results = script("report").Results(notes=["KeOps is not installed"])
    assert all(verdict.good is None and "not measured" in str(verdict) for verdict in results.summary())
    results = made_up(script)
    del script("verdicts").find(results.rows, script("plan").JUDGED[0], False).ns["KeOps"]
    text = script("report").page(results)
    assert "x and y different arrays: geometric mean: not measured" in text
    assert "K(x, x): geometric mean: 32.0; wanted at least 20.0: reached" in text


def tables_of(text):
    """Every Markdown table of a text: lists of cells."""
    blocks = [block for block in text.split("\n\n") if block.lstrip().startswith("| ")]
    return [[[c.strip() for c in line.strip("|").split("|")] for line in b.strip().splitlines()] for b in blocks]


def test_the_page(script):
    results = made_up(script)
    text = script("report").page(results)
    for block in (block for block in text.split("\n\n") if block.startswith("| ")):
        assert len({len(line) for line in block.strip().splitlines()}) == 1, "a ragged table"
    two, one, curve, errors, peaks = tables_of(text)
    count = len(script("plan").all_rows())
    assert len(two) == len(one) == count + 2
    assert [len(line) for line in (two[0], one[0])] == [15, 12]
    first = next(line for line in two[2:] if line[:4] == ["Gaussian", "float32", "3", "1"])
    assert first[4:13] == ["10,000", "1.00", "16.00", "0.80", "50.00", "0.80", "16.0", "0.8", "50.0"]
    assert curve[2:] == [
        ["100", "3000.000", "100.000", "1000.000", "9000.000"],
        ["200", "1000.000", "100.000", "1500.000", "9000.000"],
        ["1,000", "2000.000", "100.000", "-", "2400.000"],
    ]
    assert errors[2:] == [["3", "1.0e-07"], ["10", "2.0e-07"]]
    assert len(peaks) == 2 + 4


def test_a_whole_run(script, monkeypatch, tmp_path, capsys):
    """All but the sizes, the accuracy of long points and the memory of many, which take their time."""
    pytest.importorskip("matplotlib")
    products, bound = script("products"), script("bound")

    def none():
        raise bound.BoundError("not asked for")

    monkeypatch.setattr(products, "present", lambda: ["kernelops"])
    monkeypatch.setattr(products, "Bound", none)
    monkeypatch.setattr(script("measuring"), "BLOCK", 0.0)
    monkeypatch.setattr(script("accuracy"), "DS", (1, 3))
    page = tmp_path / "page.md"
    options = ["--n", "200", "--repeat", "1", "--output", page, "--pictures", tmp_path]
    monkeypatch.setattr("sys.argv", ["products.py", *map(str, options)])
    assert products.main() == 0
    text = page.read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    for note in ("KeOps is not installed", "dense torch is not installed", "no bound: not asked for"):
        assert f"- {note}" in text
    two, one, *_ = tables_of(text)
    for cells in (*two[2:], *one[2:]):
        assert float(cells[5]) > 0
        assert cells[6:9] == ["-"] * 3
    for name in ("products.png", "crossover.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_curve_takes_the_faster_torch(script, monkeypatch):
    pytest.importorskip("torch")
    crossover = script("crossover")
    asked = []

    def seconds(calls, *_, **__):
        asked.append(list(calls))
        return {"kernelops": 2.0, "dense torch": 3.0, "dense torch on one thread": 1.0}

    monkeypatch.setattr(crossover, "interleaved", seconds)
    curve = crossover.measure(["kernelops", "dense torch"], 300, 1)
    assert asked == [["kernelops", "dense torch", "dense torch on one thread"]] * 3
    assert curve == {"kernelops": {100: 2.0, 200: 2.0, 300: 2.0}, "dense torch": {100: 1.0, 200: 1.0, 300: 1.0}}
    assert crossover.least_lead(curve) == (0.5, 200, "dense torch")
    assert not crossover.fits("dense torch", 50_000) and crossover.fits("KeOps", 50_000)


def test_turns_are_interleaved_and_end(script, monkeypatch):
    timing, order = script("timing"), []
    clock = iter(range(10_000))
    monkeypatch.setattr(timing, "perf_counter", lambda: next(clock))
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    assert timing.interleaved(calls, 2, 1e9) == {"a": 1, "b": 1}
    assert order == ["a", "b"] * 2
    order.clear()
    timing.interleaved(calls, 9, 0)
    assert order == ["a", "b"] * 3, "the least number of rounds"
    order.clear()
    timing.interleaved({"a": calls["a"]}, 1, 0, block=8)
    assert order == ["a"] * 3, "a turn goes on until its time is spent"


def test_the_median_of_a_turn_leaves_out_its_first_call(script, monkeypatch):
    timing = script("timing")
    times = iter([0, 0, 100, 101, 101, 103, 104, 104, 107, 120])  # starts and ends of calls: 100, 2 and 3 long
    monkeypatch.setattr(timing, "perf_counter", lambda: next(times))
    assert timing.turn(lambda: None, 110) == 2.5
