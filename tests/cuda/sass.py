"""Machine code of a GPU, as nvdisasm shows it: the instructions of its loops."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from kernelops.gpu.locate import find_package_folders, find_toolkits

LABEL = re.compile(r"^\s*(\.L[\w.$]*):")
CODE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")
TARGET = re.compile(r"`\((\.L[\w.$]*)\)|\b0x([0-9a-f]+)\s*$")


class Loop(NamedTuple):
    """The text from a label to a jump back to it."""

    codes: tuple[str, ...]

    def count(self, code):
        return sum(c.startswith(code) for c in self.codes)


def disassembler():
    """The path of nvdisasm, or None."""
    folders = [folder / "bin" for place in find_package_folders() for folder in sorted(place.glob("*"))]
    folders += [toolkit / "bin" for toolkit in find_toolkits()]
    return shutil.which("nvdisasm") or shutil.which("nvdisasm", path=os.pathsep.join(map(str, folders)))


def missing():
    return None if disassembler() else "there is no nvdisasm (pip install nvidia-cuda-nvdisasm)"


def listing(cubin):
    """The machine code of a cubin, as text."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.cubin")
        file.write_bytes(cubin)
        command = [disassembler(), "-c", str(file)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def loops(text):
    """The innermost loops of a listing of one kernel."""
    labels, jumps, codes, waiting = {}, [], [], []
    for line in text.splitlines():
        if found := LABEL.match(line):
            waiting.append(found[1])
        elif found := CODE.match(line):
            address, code, rest = int(found[1], 16), found[2], found[3]
            labels |= dict.fromkeys(waiting, address)
            waiting = []
            codes.append((address, code))
            if code.startswith("BRA") and (to := TARGET.search(rest)):
                jumps.append((address, to[1] or int(to[2], 16)))
    spans = {(labels.get(to, to), at) for at, to in jumps if labels.get(to, to) <= at}
    inner = [s for s in spans if not any(o != s and s[0] <= o[0] and o[1] <= s[1] for o in spans)]
    return [Loop(tuple(code for at, code in codes if s[0] <= at <= s[1])) for s in sorted(inner)]


def per_pair(text, mark):
    """Instructions for each one that is marked, in the loop with the most of them."""
    longest = max(loops(text), key=lambda loop: loop.count(mark))
    return len(longest.codes) / longest.count(mark)
