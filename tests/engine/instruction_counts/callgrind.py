"""Instructions per pair, counted by `valgrind --tool=callgrind`: the same on every machine for the same build."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from instruction_counts.kernels import KERNELS, SIZES

import kernelops

ISA = "avx2"  # the best that valgrind knows
# what a process under valgrind may ask of it; elsewhere these do nothing
REQUESTS = """
#include <valgrind/callgrind.h>
void start(void) { CALLGRIND_START_INSTRUMENTATION; }
void stop(void) { CALLGRIND_STOP_INSTRUMENTATION; }
void dump(const char *name) { CALLGRIND_DUMP_STATS_AT(name); }
"""


def missing():
    """The tools that are needed and missing, or None."""
    if shutil.which("valgrind") is None:
        return "valgrind is not installed"
    if compiler() is None:
        return "there is no C compiler"
    if ISA not in kernelops.engines.cpu.available_instruction_sets():
        return f"the processor has no {ISA}"
    return None


def compiler():
    return shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")


def counts(folder):
    """Instructions per pair of every kernel; folder is for files on the way."""
    source, library = folder / "requests.c", folder / "requests.so"
    source.write_text(REQUESTS)
    _run([compiler(), "-shared", "-fPIC", "-O1", source, "-o", library])
    here = Path(__file__).parent
    path = os.pathsep.join([str(Path(kernelops.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    settings = {"KERNELOPS_ISA": ISA, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONPATH": path}
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder / 'out'}"]
    _run([*command, sys.executable, here / "kernels.py", library], env=os.environ | settings)
    totals = {}
    for dump in folder.glob("out.*"):
        text = dump.read_text()
        trigger = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
        total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
        if trigger and total:
            totals[trigger.group(1)] = int(total.group(1))
    small, large = SIZES
    pairs = large**2 - small**2
    return {name: (totals[f"{name}@{large}"] - totals[f"{name}@{small}"]) / pairs for name in KERNELS}


def _run(command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}\n{done.stderr}")
