"""What every test may ask for."""

import gc
import os
import sys
from pathlib import Path

import pytest

# helpers that stand beside the tests of one folder, and serve those of others
FOLDER = Path(__file__).parent
sys.path += [str(FOLDER / folder) for folder in ("engine", "ranges", "cuda")]

# Threads of BLAS wait by spinning: beside other tests, and for the small matrices of tests, that costs several times
# what they do. Where tests are about threads, they say so.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

SLOW = {  # files of more than ten seconds: they begin first, so that no process waits for the last of them
    "test_benchmarks", "test_coincident_points", "test_cuda_finished", "test_cuda_source", "test_cuda_twofloat",
    "test_docs", "test_engine", "test_engine_threads", "test_examples", "test_first_run", "test_forks",
    "test_hard_kernels", "test_honesty", "test_install", "test_instruction_counts", "test_long_formulas",
    "test_memory", "test_memory_safety", "test_mirrored", "test_neon", "test_nested_forward", "test_quadrature",
    "test_ranged_solves", "test_ranges_everywhere", "test_ranges_memory", "test_ranges_mirrored",
    "test_ranges_threads", "test_scale", "test_soak", "test_solve_benchmarks", "test_tensor_solves",
    "test_vector_math", "test_wide_distances",
}  # fmt: skip


def pytest_collection_modifyitems(items):
    """Mark the tests that coverage is measured by: neither slow ones, nor those that are about torch or a GPU."""
    for item in items:
        if "isa" in item.fixturenames:
            item.add_marker("every_set")
        folders = set(item.path.relative_to(FOLDER).parts)
        if item.path.stem in SLOW or folders & {"torch_door", "cuda"} or item.path.stem == "test_cuda_formulas":
            item.add_marker("no_cover")  # by which pytest-cov traces nothing meanwhile
            continue
        item.add_marker("covering")
    items.sort(key=lambda item: item.path.stem not in SLOW)


def pytest_collection_finish():
    """Keep the garbage collector from what lives as long as the process: torch, and thousands of tests.

    Going through it takes a third of a second, and tests of memory do so again and again.
    """
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc):
    """A test that asks for ``isa`` runs under every instruction set that the processor has.

    Where KERNELOPS_ISA names one it runs under this one only, like all other tests: each_instruction_set.py asks for
    them one after another.
    """
    if "isa" in metafunc.fixturenames:
        from kernelops.engines import cpu  # here, so that tests of the language run where the engine is not built

        wished = os.environ.get("KERNELOPS_ISA")
        metafunc.parametrize("isa", [wished] if wished else cpu.available_instruction_sets(), indirect=True)


@pytest.fixture
def isa(request, monkeypatch):
    """The name of an instruction set, which the engine uses during the test."""
    monkeypatch.setenv("KERNELOPS_ISA", request.param)
    return request.param


@pytest.fixture
def told(monkeypatch):
    """What the engine is told during the test, call by call: whether to evaluate each pair of points once."""
    from kernelops import _core

    calls, reduce = [], _core.reduce

    def spy(*args, **keywords):
        calls.append(keywords["mirrored"])
        return reduce(*args, **keywords)

    monkeypatch.setattr(_core, "reduce", spy)
    return calls
