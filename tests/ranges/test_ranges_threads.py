"""Python threads that share one Ranges, and Ctrl-C in the middle of a sum under ranges."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import usual
from processes import after_ctrl_c
from range_patterns import PATTERNS

from kernelops import Ranges
from kernelops.engines import cpu
from kernelops.numpy import Genred

ALIASES = usual.aliases(2, 1)
N = 1100
X, B = np.random.default_rng(0).random((N, 2)), np.random.default_rng(1).random((N, 1))
MAKE = {
    "a radius": lambda: Ranges.from_radius(X, X, 0.2),
    "small clusters": lambda: Ranges.from_radius(X, X, 0.1, points_per_cluster=20),
    "both orders": lambda: PATTERNS["both orders"](N, N),
}


@pytest.mark.parametrize("name", MAKE)
def test_eight_python_threads_share_new_ranges(name, monkeypatch):
    """What is kept on ranges is made by whoever comes first, or by several at once."""
    monkeypatch.setattr(cpu, "thread_count", lambda: 2)
    monkeypatch.setattr(cpu, "SERIAL_BELOW", 0)
    genred = Genred(usual.GAUSS, ALIASES, axis=1)
    want = genred(X, X, B, ranges=MAKE[name]()).tobytes()
    for _ in range(5):
        ranges = MAKE[name]()
        with ThreadPoolExecutor(8) as pool:
            for got in pool.map(lambda _, ranges=ranges: genred(X, X, B, ranges=ranges), range(16)):
                assert got.tobytes() == want


LONG = """
import numpy as np
from kernelops import Ranges
from kernelops.numpy import Genred
x = np.random.default_rng(0).random(({count}, 3))
ranges = {ranges}
genred = Genred({formula!r}, ["x = Vi(3)", "y = Vj(3)"], axis=1)
genred(x[:5], x[:5])
"""
SHUFFLED = "Ranges.band({0}, 1000 * 256, 256).ordered(*[np.random.default_rng(1).permutation({0})] * 2)"


@pytest.mark.skipif(sys.platform == "win32", reason="there Ctrl-C is no signal that could be sent")
@pytest.mark.parametrize(
    ("formula", "y", "ranges"),
    [
        ("Exp(-SqDist(x,y))", "x", SHUFFLED),
        ("Exp(-SqDist(x,y))", "x.copy()", SHUFFLED),
        ("SqDist(x,y)", "x", "Ranges.lower_triangular({0}, 1000)"),
    ],
)
def test_ctrl_c_ends_a_long_sum(formula, y, ranges):
    """Each of these takes minutes; the first evaluates each pair once."""
    count = 1_000_000
    prepare = LONG.format(count=count, formula=formula, y=y, ranges=ranges.format(count))
    assert after_ctrl_c(prepare, f"genred(x, {y}, ranges=ranges)") == "interrupted\n"
