"""verbose and progress: what is said, on stderr, and nothing else."""

import builtins
import sys

import numpy as np
import pytest
import usual

from kernelops import KernelOperator, SolveState, cg, solve
from kernelops.numpy import KernelSolve
from kernelops.solvers import progress
from kernelops.solvers.progress import ProgressBar

ALIASES = usual.aliases(2, 1)
FORMULA = "Exp(-20*SqDist(x,y))*b"
X = np.random.default_rng(0).random((200, 2))
A, B = KernelOperator(FORMULA, ALIASES, "b", X, X, alpha=1e-3), np.random.default_rng(1).standard_normal((200, 3))
ITERATE = {"method": "cg", "precond": None}


@pytest.fixture
def without_tqdm(monkeypatch):
    """As if tqdm were not installed; a line at every look."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)


class Bar:
    """What is done to a tqdm bar."""

    made = []

    def __init__(self, **keywords):
        self.keywords, self.n, self.updates, self.words, self.closed = keywords, 0.0, [], [], False
        Bar.made.append(self)

    def update(self, more):
        self.n += more
        self.updates.append(more)

    def set_postfix_str(self, words, refresh=True):
        self.words.append(words)

    def close(self):
        self.closed = True


@pytest.fixture
def bars(monkeypatch):
    module = type(sys)("tqdm")
    module.tqdm, Bar.made = Bar, []
    monkeypatch.setitem(sys.modules, "tqdm", module)
    return Bar.made


def test_silence(capfd):
    for keywords in ({}, {"method": "direct"}, {"precond": "fsai"}, {"state": SolveState()}, ITERATE):
        solve(A, B, **keywords)
    cg(A, B[:, 0])
    KernelSolve(FORMULA, ALIASES, "b", axis=1)(X, X, B[:, :1], alpha=1e-3)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"method": "direct"}, "direct, dense Cholesky factor, as asked for"),
        ({"precond": "jacobi"}, "cg, the diagonal, as asked for"),
        (ITERATE, "cg, no preconditioner, as asked for"),
        ({"M": np.eye(200)}, "cg, preconditioner given: ndarray"),
        ({}, "predicted to be faster than iterating"),
    ],
    ids=str,
)
def test_verbose(keywords, words, capfd):
    """The choice before the iteration, the report after it."""
    solution = solve(A, B, verbose=True, **keywords)
    out, err = capfd.readouterr()
    first, _, rest = err.partition("\n")
    assert out == "" and first.startswith("solve: 200 unknowns, 3 right-hand sides: ") and words in first
    assert rest == f"solve: {solution}\n"


def test_verbose_of_one_column_and_of_a_batch(capfd):
    solve(A, B[:, 0], verbose=True)
    assert "200 unknowns, 1 right-hand side: " in capfd.readouterr().err
    solver, x = KernelSolve(FORMULA, ALIASES, "b", axis=1), np.stack([X, X + 1])
    solver(x, x, B[:, :1], alpha=1e-3, verbose=True)
    assert "200 unknowns, 2 right-hand sides: " in capfd.readouterr().err


def test_verbose_of_nan(capfd):
    solve(A, np.full(200, np.nan), verbose=True, on_fail="ignore")
    assert "nonfinite" in capfd.readouterr().err


def test_verbose_comes_before_the_iteration(capfd):
    def stop(x):
        assert "200 unknowns" in capfd.readouterr().err
        raise StopIteration

    solve(A, B, verbose=True, callback=stop)


@pytest.mark.parametrize("keywords", [ITERATE, {"method": "direct"}, {"precond": "pivoted_cholesky"}], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bar_goes_up_to_its_end(bars, keywords, dtype):
    x = X.astype(dtype)
    solution = solve(
        KernelOperator(FORMULA, ALIASES, "b", x, x, alpha=1e-3), B.astype(dtype), progress=True, **keywords
    )
    (bar,) = bars
    assert bar.closed and bar.keywords["total"] == 1.0 and min(bar.updates) >= 0
    assert bar.n == pytest.approx(1.0) and len(bar.updates) == solution.iterations + 1
    assert bar.words[-1] == f"{solution.iterations} iterations, residual {solution.residual.max():.1e}"


def test_the_bar_of_what_stopped_short(bars):
    needed = solve(A, B, **ITERATE).iterations
    solve(A, B, progress=True, maxiter=needed - 5, on_fail="ignore", **ITERATE)
    assert bars[0].closed and 0 < bars[0].n < 1


def test_the_bar_is_closed_by_an_interrupt(bars):
    def interrupt(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve(A, B, progress=True, callback=interrupt, **ITERATE)
    assert bars[0].closed


def test_lines_without_tqdm(without_tqdm, capfd):
    solution = solve(A, B, progress=True, **ITERATE)
    out, err = capfd.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == solution.iterations + 1
    shares = [int(line.split(", ")[2].removesuffix(" %")) for line in lines]
    assert all(0 <= share <= 100 for share in shares) and shares[-1] == 100
    assert lines[-1].startswith(f"solve: {solution.iterations} iterations, residual ")


def test_no_line_in_the_first_seconds(without_tqdm, monkeypatch, capfd):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 2.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    clock = [100.0]
    show = ProgressBar(1e-6)
    for now, lines in ((101.9, 0), (102.1, 1), (104.0, 0), (104.2, 1)):
        clock[0] = now
        show.show(3, 0.5)
        assert capfd.readouterr().err.count("\n") == lines


def test_progress_at_once_without_importing_tqdm(monkeypatch):
    """A solve that shows nothing does not look for tqdm."""
    real = builtins.__import__

    def guarded(name, *rest):
        assert name != "tqdm"
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", guarded)
    assert solve(A, B).converged


@pytest.mark.parametrize(
    ("asked", "residuals", "shares"),
    [
        (1e-6, [1.0, 1e-3, 1e-6, 1e-9], [0.0, 0.5, 1.0, 1.0]),  # decades count, not differences
        (1e-6, [1.0, 10.0, 1e-3, 1e-2], [0.0, 0.0, 0.5, 1 / 3]),
        (1e-4, [1e-2, 1e-3], [0.0, 0.5]),  # from where it begins
        (1e-6, [1e-7], [1.0]),  # begun at its end
        (0.0, [1.0, 1e-300], [0.0, 300 / 307.65]),
        (1e-6, [0.0, 0.0], [1.0, 1.0]),
        (1e-6, [1.0, float("nan")], [0.0, 1.0]),
    ],
)
def test_the_share_that_is_done(without_tqdm, asked, residuals, shares):
    watched = ProgressBar(asked)
    for residual, share in zip(residuals, shares, strict=True):
        watched.show(1, residual)
        assert watched._share(residual) == pytest.approx(share, abs=1e-3)


def test_the_bar_never_goes_back(bars):
    watched = ProgressBar(1e-6)
    for residual in (1.0, 1e-3, 1e-1, 1e-4, 1e-6):
        watched.show(1, residual)
    np.testing.assert_allclose(np.cumsum(bars[0].updates), [0, 1 / 2, 1 / 2, 2 / 3, 1], atol=1e-12)
