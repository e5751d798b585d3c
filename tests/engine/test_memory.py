"""What a reduction takes besides its arguments: copies of the columns, scratch for each thread, and the result."""

import gc
import tracemalloc

import numpy as np
import pytest
import usual
from bound_reduction import BoundReduction
from footprint import peak

from kernelops.engines import cpu
from kernelops.formula.parse import parse
from kernelops.ranges import Ranges

GAUSSIAN = parse(usual.GAUSS, usual.aliases(3, 2))


def points(M, N, dtype="float32"):
    rng = np.random.default_rng(0)
    return [rng.standard_normal((n, d)).astype(dtype) for n, d in ((M, 3), (N, 3), (N, 2))]


@pytest.mark.parametrize("sizes", [(5000, 5000), (100, 100_000), (100_000, 100)])
def test_no_matrix_is_stored(sizes, monkeypatch):
    monkeypatch.setattr(cpu, "thread_count", lambda: 2)
    M, N = sizes
    data = points(M, N)
    packed = 5 * 4 * N
    result = M * 2 * (8 + 4)  # accumulated in float64
    assert peak(BoundReduction(GAUSSIAN.expr, "Sum", 1, data)) < 1.1 * (packed + result) + 500_000


def test_any_strides_are_read_in_place():
    wide = points(4000, 4000, "float64")
    data = [np.repeat(a, 2, 0)[::2] for a in wide]
    expr = GAUSSIAN.expr
    assert abs(peak(BoundReduction(expr, "Sum", 1, data)) - peak(BoundReduction(expr, "Sum", 1, wide))) < 50_000
    assert peak(lambda: BoundReduction(expr, "Sum", 1, data)) < 50_000


def test_many_calls_with_changing_ranges_leave_memory_flat():
    x, y, b = points(60, 60)

    def calls(count):
        for k in range(count):
            cut = 1 + k % 59
            ranges = Ranges.from_mask(
                [[0, cut], [cut, 60]], [[0, cut], [cut, 60]], np.array([[True, False], [k % 2, 1]], bool)
            )
            BoundReduction(GAUSSIAN.expr, "Sum", k % 2, [x, y, b] if k % 2 else [y, x, b], ranges=ranges)()

    def held():
        gc.collect()  # also empties what Python itself keeps for the next object
        return tracemalloc.get_traced_memory()[0]

    calls(60)
    tracemalloc.start()
    try:
        calls(100)
        before = held()
        calls(300)
        assert held() - before < 30_000, "100 bytes a call; an array that stays would be 500"
    finally:
        tracemalloc.stop()
