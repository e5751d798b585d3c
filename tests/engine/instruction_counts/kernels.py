"""The kernels whose instructions are counted. As a script: runs them, and tells callgrind when to count.

valgrind --tool=callgrind --instr-atstart=no ... kernels.py REQUESTS_LIBRARY
"""

import ctypes
import sys
from typing import NamedTuple

import numpy as np

SIZES = (512, 1024)  # rows and columns: what a call costs besides its pairs cancels in the difference


class Kernel(NamedTuple):
    """A sum over j in float32; ``same`` for that of K(x, x)."""

    formula: str
    aliases: tuple[str, ...]
    same: bool = False

    def arrays(self, n):
        """Arrays for n rows and n columns."""
        rng = np.random.default_rng(0)
        found = []
        for alias in self.aliases:
            kind, dim = alias.split(" = ")[1].rstrip(")").split("(")
            found.append(rng.random((n, int(dim)) if kind != "Pm" else int(dim), np.float32))
        if self.same:
            found[1] = found[0]
        return found


def _points(dim, columns=1):
    return f"x = Vi({dim})", f"y = Vj({dim})", f"b = Vj({columns})", "g = Pm(1)"


KERNELS = {
    "Gaussian D=3": Kernel("Exp(-g*SqDist(x,y))*b", _points(3)),
    "Gaussian D=3, x with x": Kernel("Exp(-g*SqDist(x,y))*b", _points(3), same=True),
    "Gaussian D=10": Kernel("Exp(-g*SqDist(x,y))*b", _points(10)),
    "Gaussian D=3, 16 columns": Kernel("Exp(-g*SqDist(x,y))*b", _points(3, 16)),
    "Matern 3/2 D=3": Kernel("(1+g*Norm2(x-y))*Exp(-g*Norm2(x-y))*b", _points(3)),
}


def main(library):
    from kernelops.numpy import Genred

    requests = ctypes.CDLL(library)
    for name, kernel in KERNELS.items():
        call = Genred(kernel.formula, list(kernel.aliases), axis=1)
        for n in SIZES:
            arrays = kernel.arrays(n)
            call(*arrays)  # once without counting, so that everything that is kept is there
            requests.start()
            call(*arrays)
            requests.stop()
            requests.dump(f"{name}@{n}".encode())


if __name__ == "__main__":
    main(sys.argv[1])
