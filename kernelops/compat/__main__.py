"""Run a program whose pykeops is kernelops: ``python -m kernelops.compat script.py ...``, or ``-m module ...``."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from . import install_as_pykeops

USAGE = """usage: python -m kernelops.compat script.py [argument ...]
       python -m kernelops.compat -m module [argument ...]

Runs a script or a module as Python does; what it imports as pykeops is kernelops."""


def main(arguments: list[str]) -> int:
    """Run the program that the arguments name, with those that follow.

    Parameters
    ----------
    arguments : list of str
        A script or "-m" and a module, and the program's own arguments.

    Returns
    -------
    int
        2 if no program is named; else what the program exits with is raised by it, or 0.
    """
    module = arguments[:1] == ["-m"]
    program = arguments[module:]
    if not program or (not module and program[0].startswith("-")):
        asked = program[:1] in (["-h"], ["--help"])
        print(USAGE, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    if not module and not Path(program[0]).exists():
        print(f"python -m kernelops.compat: there is no file {program[0]}", file=sys.stderr)
        return 2
    install_as_pykeops()
    sys.argv = program
    if module:  # "" or the current folder is at the front of sys.path already
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(program[0]).resolve().parent)
        runpy.run_path(program[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
