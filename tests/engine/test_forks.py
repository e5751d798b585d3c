"""Forks of processes whose threads have been used, by the engine, by another library, or by both in either order.

Each case is a process of its own, which forks; a child must answer, with the parent's numbers to the bit.
KERNELOPS_FUZZ_SEEDS asks for more children.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest
from processes import PATIENCE

CHILDREN = int(os.environ.get("KERNELOPS_FUZZ_SEEDS", "2"))
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

BEGIN = """
import ctypes, os, pickle, sys, threading, traceback, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks where there are threads: this is about them

def engine():
    "Products and a solve, of an engine that has two threads and thinks everything worth them."
    import numpy as np
    from kernelops.engines import cpu
    from kernelops.numpy import Genred, KernelSolve
    cpu.thread_count, cpu.SERIAL_BELOW = (lambda: 2), 0
    x, aliases = np.random.default_rng(0).random((1100, 3)), ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"]
    product = Genred("Exp(-SqDist(x,y))*b", aliases, axis=1)
    found = [product(x, x.copy(), x[:, :1]), product(x, x, x[:, :1])]  # by rows; each pair once
    for precond in (None, "pivoted_cholesky", "fsai"):
        solver = KernelSolve("Exp(-30*SqDist(x,y))*b", aliases, "b", axis=1)
        found.append(solver(*[a[:200] for a in (x, x, x[:, :1])], alpha=0.1, precond=precond))
    return b"".join(a.tobytes() for a in found)

def openmp():
    assert ctypes.CDLL(sys.argv[1]).parallel() == 2

def torch():
    import torch
    torch.set_num_threads(2)
    torch.exp(torch.rand(2000, 2000)).sum()

def threads():
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 2

def child(work, depth=1):
    "What work() gives in a child, or in a child of a child."
    here, there = os.pipe()
    process = os.fork()
    if not process:
        try:
            with os.fdopen(there, "wb") as file:
                pickle.dump(work() if depth == 1 else child(work, depth - 1), file)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(there)
    with os.fdopen(here, "rb") as file:
        said = file.read()
    assert os.waitpid(process, 0)[1] == 0
    return pickle.loads(said)

count = int(sys.argv[2])
"""
AGREE = """
before = engine()
assert all(child(engine) == before for _ in range(count)) and engine() == before
"""
OTHERS_FIRST = """
found = [child(engine) for _ in range(count)]
assert set(found) == {engine()}
"""
CASES = {
    "the engine": AGREE,
    "children of children": "before = engine()\nassert child(engine, 3) == before == engine()",
    "another first": "openmp()" + OTHERS_FIRST,
    "another first, the engine imported before": "import kernelops.numpy\nopenmp()" + OTHERS_FIRST,
    "another, then the engine": "openmp()" + AGREE,
    "the engine, then another": "engine()\nopenmp()" + AGREE,
    "torch, then the engine": "torch()" + AGREE,
    "the engine, then torch": "engine()\ntorch()" + AGREE,
    "while threads are inside": """
before, over = engine(), threading.Event()
def work():
    while not over.is_set():
        engine()
inside = [threading.Thread(target=work) for _ in range(2)]
for thread in inside:
    thread.start()
found = [child(engine) for _ in range(count)]
over.set()
for thread in inside:
    thread.join()
assert set(found) == {before}
""",
    "a child has threads of its own": """
engine()
alone, after = child(lambda: (threads(), engine(), threads())[::2])
assert after > alone
""",
    "a signal's handler that forks": """
import signal
before, found = engine(), []
signal.signal(signal.SIGALRM, lambda *_: found.append(child(engine)))
for k in range(count):
    signal.setitimer(signal.ITIMER_REAL, 0.001 + 0.01 * k)  # once
    while len(found) == k:
        assert engine() == before
assert found == [before] * count
""",
    "other ways to begin": """
import multiprocessing
if __name__ == "__main__":
    openmp()
    before = engine()
    for way in ("spawn", "forkserver"):
        with multiprocessing.get_context(way).Pool(1) as pool:
            assert pool.apply_async(engine).get() == before
""",
    "torch first, and workers of a DataLoader": """
torch()
found = [child(engine) for _ in range(count)]
from torch.utils.data import DataLoader
class Data:
    def __len__(self):
        return 4
    def __getitem__(self, k):
        return engine()
found += list(DataLoader(Data(), num_workers=2, batch_size=None, multiprocessing_context="fork"))
assert set(found) == {engine()}
""",
}
PARALLEL = """
#include <omp.h>
int parallel(void) {
    int n = 0;
#pragma omp parallel num_threads(2) reduction(+ : n)
    n += 1;
    return n;
}
"""


@pytest.fixture(scope="module")
def openmp(tmp_path_factory):
    """A library with a parallel region of OpenMP."""
    folder = tmp_path_factory.mktemp("openmp")
    (folder / "parallel.c").write_text(PARALLEL)
    compiler = shutil.which(os.environ.get("CC", "cc"))
    command = [compiler, "-fopenmp", "-shared", "-fPIC", str(folder / "parallel.c"), "-o", str(folder / "parallel.so")]
    if not compiler or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("there is no C compiler with OpenMP")
    return folder / "parallel.so"


@pytest.mark.parametrize("name", CASES)
def test_children_find_the_same(name, request, tmp_path):
    script = CASES[name]
    if "torch" in script:
        pytest.importorskip("torch")
    library = request.getfixturevalue("openmp") if "openmp" in script else ""
    file = tmp_path / "forks.py"
    file.write_text(BEGIN + script)
    command = [sys.executable, str(file), str(library), str(CHILDREN)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            errors = process.communicate(timeout=PATIENCE)[1]
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with its children
    assert process.returncode == 0, errors
