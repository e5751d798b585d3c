"""Python threads, forks, worker processes and Ctrl-C around the engine."""

import multiprocessing
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import usual
from bound_reduction import BoundReduction
from processes import PATIENCE, after_ctrl_c

from kernelops.engines import cpu
from kernelops.formula.parse import parse

FORMULA = usual.GAUSS
ALIASES = usual.aliases(3, 1)


def product(seed=0, count=700):
    rng = np.random.default_rng(seed)
    data = [rng.standard_normal((count, d)) for d in (3, 3, 1)]
    return BoundReduction(parse(FORMULA, ALIASES).expr, "Sum", 1, data)()


@pytest.fixture
def parallel(monkeypatch):
    """All work goes to two threads, and has gone there before."""
    monkeypatch.setattr(cpu, "thread_count", lambda: 2)
    monkeypatch.setattr(cpu, "SERIAL_BELOW", 0)
    return product()


def test_eight_python_threads_on_one_formula(parallel):
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(product, [0] * 40):
            assert got.tobytes() == parallel.tobytes()


def test_python_threads_that_compile_at_once():
    def first_use(k):
        formula = parse(f"Exp(-{k}.25*SqDist(x,y))*b", ALIASES)
        return BoundReduction(formula.expr, "Sum", 1, [np.ones((2, 3)), np.zeros((5, 3)), np.ones((5, 1))])()[0, 0]

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            got = list(pool.map(first_use, [1, 2, 3, 4] * 4))
            np.testing.assert_allclose(got, [5 * np.exp(-3 * (k + 0.25)) for k in (1, 2, 3, 4)] * 4, rtol=1e-14)


def _send(connection):
    connection.send(product())


def _in_a_child():
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_send, args=(there,))
    child.start()
    try:
        assert here.poll(PATIENCE), "the child does not answer"
        return here.recv()
    finally:
        child.kill()
        child.join()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@needs_fork
def test_fork_after_a_parallel_region(parallel):
    for _ in range(2):
        assert _in_a_child().tobytes() == parallel.tobytes()
    assert product().tobytes() == parallel.tobytes(), "the parent goes on"


@needs_fork
def test_fork_of_a_fork(parallel):
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=lambda: there.send(_in_a_child()))
    child.start()
    try:
        assert here.poll(PATIENCE), "the grandchild does not answer"
        assert here.recv().tobytes() == parallel.tobytes()
    finally:
        child.kill()
        child.join()


def test_a_fresh_process(parallel):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply_async(product).get(PATIENCE).tobytes() == parallel.tobytes()


def test_joblib_workers(parallel):
    joblib = pytest.importorskip("joblib")
    for backend in ("loky", "threading"):
        found = joblib.Parallel(2, backend=backend, timeout=PATIENCE)(joblib.delayed(product)() for _ in range(4))
        for got in found:
            assert got.tobytes() == parallel.tobytes()


LONG = """
import numpy as np
from kernelops.formula.parse import parse
from kernelops.arrays.arguments import bind_arguments
from kernelops.reductions.reduction import Reduction
points = np.random.default_rng(0).standard_normal(({count}, {dim}))
formula = parse({formula!r}, ["x = Vi({dim})", "y = Vj({dim})"])
arguments = bind_arguments(formula.variables, [points, points])
call = lambda: Reduction(formula.expr, "Sum", 1)(arguments)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there Ctrl-C is no signal that could be sent")
@pytest.mark.parametrize(
    ("formula", "count", "dim"),
    [("Exp(-SqDist(x,y))", 1_000_000, 3), ("Exp(-SqDist(x,y))", 100_000, 300), ("Sum(Powf(Abs(x),y))", 100_000, 20)],
)
def test_ctrl_c_ends_a_long_product(formula, count, dim):
    """Each of these takes minutes; instructions differ in how long a pair takes."""
    assert after_ctrl_c(LONG.format(formula=formula, count=count, dim=dim), "call()") == "interrupted\n"
