"""Limits of memory: MemoryError, or the result on fewer threads, and never the end of the process.

Each case is a process of its own, whose address space ends a little above what it has in use.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from processes import PATIENCE

from kernelops.engines import blas, threads

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are Linux's")

BEGIN = """
import os, resource, warnings
import numpy as np
from kernelops.engines import cpu
from kernelops.numpy import Genred, KernelSolve
warnings.simplefilter("ignore")
cpu.thread_count, cpu.SERIAL_BELOW = (lambda: wanted), 1 << 62
x, aliases = np.random.default_rng(0).random((2000, 3)), ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"]
y, b, wanted = x.copy(), x[:, :1].copy(), 2
product = Genred("Exp(-SqDist(x,y))*b", aliases, axis=1)
solver = KernelSolve("Exp(-30*SqDist(x,y))*b", aliases, "b", axis=1)
alone = product(x, y, b)

def threads():
    return len(os.listdir("/proc/self/task"))

def limit(mega):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(mega * 2**20), resource.RLIM_INFINITY))

def outcome(call):
    try:
        call()
        return "done"
    except MemoryError:
        return "MemoryError"
    finally:
        limit(2**20)  # and after that all is as before
        assert product(x, y, b).tobytes() == alone.tobytes()
"""
CASES = {
    "no thread": """
cpu.SERIAL_BELOW, before = 0, threads()
limit(1.5)
assert product(x, y, b).tobytes() == alone.tobytes() and threads() == before
limit(2**20)
assert product(x, y, b).tobytes() == alone.tobytes() and threads() == before + 1
""",
    "fewer threads than wanted": """
cpu.SERIAL_BELOW, before, wanted = 0, threads(), 64
limit(16)
assert product(x, y, b).tobytes() == alone.tobytes() and before < threads() < before + 63
""",
    "a result that is too large": """
many = np.ones((1 << 20, 3))
limit(4)
assert outcome(lambda: product(many, many[:1], many[:1, :1])) == "MemoryError"
""",
    **{
        f"a solve with {precond}": f"""
seen = set()
for mega in (0.5, 4, 20, 40, 1000):
    limit(mega)
    seen.add(outcome(lambda: solver(x, x, b, alpha=0.1, precond={precond!r}, maxiter=3)))
assert seen == {{"MemoryError", "done"}}
"""
        for precond in (None, "pivoted_cholesky", "nystrom", "fsai")
    },
}


@pytest.mark.parametrize("name", CASES)
def test_the_process_lives(name):
    command = [sys.executable, "-c", BEGIN + CASES[name]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, (done.returncode, done.stderr)


class NoThread(threads.Thread):
    """One that the system does not start."""

    def start(self):
        raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("kind", [threads.Thread, NoThread])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_python_threads_or_fewer(monkeypatch, kind, count):
    monkeypatch.setattr(threads, "Thread", kind)
    assert threads.map_on_threads(pow, range(100), [2] * 100, threads=count) == [k * k for k in range(100)]
    assert threads.map_on_threads(pow, [], [], threads=count) == []
    with pytest.raises(ZeroDivisionError):
        threads.map_on_threads(lambda k: 1 // (k - 7), range(20), threads=count)


def test_memory_of_blas_is_asked_for_before_it_is_taken(monkeypatch):
    monkeypatch.setattr(blas, "has_room", lambda threads: False)
    blas.take_memory.cache_clear()
    with pytest.raises(MemoryError, match="BLAS"), blas.one_blas_thread():
        pass
    monkeypatch.undo()
    with blas.one_blas_thread():
        assert blas.has_room(1)


def test_blas_is_on_one_thread_meanwhile():
    """In a process whose BLAS has two; in those of the other tests it has one anyway."""
    code = (
        "from threadpoolctl import threadpool_info\n"
        "from kernelops.engines.blas import one_blas_thread\n"
        "def counts():\n"
        "    return {pool['num_threads'] for pool in threadpool_info() if pool['user_api'] == 'blas'}\n"
        "before = counts()\n"
        "with one_blas_thread():\n"
        "    with one_blas_thread():\n"
        "        pass\n"
        "    within = counts()\n"
        "print(before, within, counts())\n"
    )
    variables = os.environ | dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "2")
    said = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    before, within, after = said.stdout.split()
    assert within == "{1}" and before == after, said.stdout
