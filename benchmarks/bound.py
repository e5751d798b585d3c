"""The bound: a Gaussian product as one fused loop in C with intrinsics, its columns in the first-level cache.

``bound.c`` is compiled for the processor that it then runs on. Of its blockings in registers the fastest is kept for
each D, after its answer was compared with float64.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from kernelops.engines.cpu import instruction_set
from kernelops.engines.threads import thread_count

SOURCE = Path(__file__).with_name("bound.c")
FORMS = ("differences", "products")  # the order of the enumeration in bound.c
TILE_BYTES = 24 * 1024  # of a first-level cache of at least 32 kB
WORST = 3e-7  # of the sum of |terms|: what the engine promises
ROWS = 2_000  # of x, while the fastest blocking is looked for
# instructions in use -> flags: the engine is held against a loop of the same ones
FLAGS = {"avx512": [], "avx2": ["-mno-avx512f"]}


class BoundError(Exception):
    """There is no bound here, and why."""


@dataclass(frozen=True)
class Variant:
    """A loop of bound.c: D, the way to the squared distance, and the rows and vectors that are in registers at once."""

    number: int
    D: int
    form: str
    R: int
    V: int


class Bound:
    """The loops, compiled."""

    def __init__(self, optimisation: str = "-O3") -> None:
        self.threads = thread_count()
        self.library = compiled([optimisation, *flags()])
        self.lanes = int(self.library.bound_lanes())
        self.variants = list(self._variants())

    def _variants(self):
        what = (ctypes.c_int * 4)()
        number = 0
        while self.library.bound_variant(number, what):
            D, form, R, V = what
            yield Variant(number, D, FORMS[form], R, V)
            number += 1

    def fastest(self, D: int, form: str) -> Variant:
        """The blocking that takes the least time for each pair, by the least of several short runs in turn."""
        runs = {v: Run(self, v, ROWS, 1) for v in self.variants if (v.D, v.form) == (D, form)}
        least = dict.fromkeys(runs, np.inf)
        for _ in range(8):
            for variant, run in runs.items():
                start = perf_counter()
                run()
                least[variant] = min(least[variant], (perf_counter() - start) / run.pairs)
        return min(least, key=least.__getitem__)

    def run(self, D: int, form: str, N: int) -> Run:
        """The fastest loop on N rows and about as many columns."""
        variant = self.fastest(D, form)
        columns = Run(self, variant, ROWS, 1).columns
        return Run(self, variant, N, max(1, round(N / columns)))


class Run:
    """A call of one loop, checked when it is made; ``pairs`` says how many pairs it takes."""

    def __init__(self, bound: Bound, variant: Variant, N: int, times: int) -> None:
        D, width, rng = variant.D, bound.lanes * variant.V, np.random.default_rng(0)
        groups = max(1, TILE_BYTES // (4 * (D + 2) * width))
        self.columns, rows = groups * width, max(1, N // variant.R) * variant.R
        self.pairs = rows * self.columns * times
        x, y = ((rng.random((n, D)) - 0.5) / np.sqrt(D) for n in (rows, self.columns))
        b, scale = rng.standard_normal(self.columns), np.sqrt(np.log2(np.e))
        factor = 2 * scale if variant.form == "products" else scale
        self.x, y_scaled = (factor * x).astype(np.float32), (scale * y).astype(np.float32)
        norms = (y_scaled.astype(np.float64) ** 2).sum(1)
        planes = np.array([*y_scaled.T, b, -norms], np.float32)
        self.tile = np.ascontiguousarray(planes.reshape(D + 2, groups, width).swapaxes(0, 1))
        self.sums = np.zeros(rows)
        self.row_factor = np.exp2(-((scale * x) ** 2).sum(1)) if variant.form == "products" else 1.0
        pointers = (ctypes.c_void_p(a.ctypes.data) for a in (self.x, self.tile, self.sums))
        counts = (ctypes.c_int64(n) for n in (rows, times, groups))
        self.call: Callable[[], object] = lambda args=(variant.number, bound.threads, *counts, *pointers): (
            bound.library.bound_run(*args)
        )
        self.error = self._check(x[:64], y, b, times)

    def __call__(self) -> np.ndarray:
        self.sums[:] = 0
        self.call()
        return self.sums * self.row_factor

    def _check(self, x: np.ndarray, y: np.ndarray, b: np.ndarray, times: int) -> float:
        kernel = np.exp(-((x[:, None] - y) ** 2).sum(-1)) * times
        error = float((abs(self()[: len(x)] - kernel @ b) / (kernel @ abs(b))).max())
        if not error <= WORST:
            raise ValueError(f"the bound is wrong: error {error:.1e} of the sum of |terms|, wanted at most {WORST:.0e}")
        return error


def flags() -> list[str]:
    """Those that choose the instructions that the engine is using."""
    if instruction_set() not in FLAGS:
        raise BoundError(f"no bound is written for {instruction_set()}")
    return ["-march=native", *FLAGS[instruction_set()]]


def compiled(options: list[str]) -> ctypes.CDLL:
    """The loops as a library, which is in memory by the time its folder goes."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        target = Path(folder, "bound.so")
        command = [os.environ.get("CC", "cc"), "-std=gnu11", *options, "-fopenmp", "-shared", "-fPIC"]
        try:
            subprocess.run([*command, str(SOURCE), "-o", str(target)], check=True, capture_output=True, text=True)
        except OSError as error:
            raise BoundError(f"no C compiler: {error}") from None
        except subprocess.CalledProcessError as error:
            raise BoundError(f"bound.c does not compile: {error.stderr.strip().splitlines()[-1:]}") from None
        return ctypes.CDLL(str(target))
