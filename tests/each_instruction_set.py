"""Runs tests of numbers under every instruction set but the best one, which the rest of the suite has run under.

    python tests/each_instruction_set.py [options of pytest]

Tests that ask for ``isa`` run under every set in any case, and are left out here. Those of ranges, of pairs that are
evaluated once, and of random formulas are about which pairs are met, which is the same code under every set. A set that
this processor has not got is named. The exit code is 0 if the tests passed under all others.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).parent
KNOWN = ("baseline", "avx2", "avx512")  # plainest first
ENGINE = (  # the tests in which numbers come out of registers: of each operation, and of what keeps sums exact
    "engine/test_vector_math",
    "engine/test_operations",
    "engine/test_reductions",
    "language/test_program",
    "engine/test_accumulation",
    "engine/test_nonfinite",
    "language/test_symmetry",
    "engine/test_evaluate",
    "engine/test_invariance",
    "engine/test_small_numbers",
    "engine/test_wide_distances",
)


def run(name, options):
    """Whether the engine's tests pass under one instruction set."""
    files = [str(FOLDER / f"{file}.py") for file in ENGINE]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not every_set", *files, *options]
    start = time.monotonic()
    environment = os.environ | {"KERNELOPS_ISA": name}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    said = f"KERNELOPS_ISA={name}: exit code {done.returncode}, {time.monotonic() - start:.0f} s"
    print(f"{done.stdout.decode(errors='replace')}{said}", flush=True)
    return done.returncode == 0


def main(options):
    from kernelops.engines.cpu import available_instruction_sets

    *plainer, best = available_instruction_sets()
    for name in KNOWN:
        if name not in (*plainer, best):
            print(f"KERNELOPS_ISA={name}: NOT TESTED, this processor has not got it")
    print(f"KERNELOPS_ISA={best}: the best here, the whole suite runs under it", flush=True)
    with ThreadPoolExecutor(2) as pool:  # a process for each, two at a time
        passed = list(pool.map(lambda name: run(name, options), plainer))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
