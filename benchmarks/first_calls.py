"""What does the first call of a formula cost, before anything of it is kept?

Milliseconds of CPU time on one thread, median (greatest) of many formulas that differ in their operations, each called
once, with 16 x 12 points: the product of a formula of so many operations, its first gradient in torch by points and
parameters, and what of these is reading and differentiating the formula and making its program. Python is warm: other
formulas were called before. A second table has sums of up to thousands of different Gaussians. Exits with 1 if the
median of formulas of 20 operations is above its limit.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from statistics import median

import numpy as np

from kernelops.formula.expr import const, topological
from kernelops.formula.grad import grad
from kernelops.formula.parse import parse
from kernelops.numpy import Genred
from kernelops.program.compile import compile_sum

try:
    import torch

    from kernelops.torch import Genred as TorchGenred
except ImportError:
    torch = None

ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)", "g = Pm(1)", "p = Vi(1)"]
LIMIT = 20.0  # milliseconds of a product and of a gradient, of 20 operations
OPERATIONS = 20
UNARY = (
    "Exp(-Square({}))",
    "Sin({})",
    "Cos({})",
    "Sqrt(1+Square({}))",
    "Log(1+Square({}))",
    "Abs({})",
    "Inv(2+Abs({}))",
)
LEAVES = ("SqDist(x,y)", "(x|y)", "g", "p", "b", "Norm2(x-y)", "Elem(y,1)")


def formula(seed: int, operations: int) -> str:
    """A formula of length 1 of about so many operations, another one for each seed."""
    draw = random.Random(seed)
    parts = ["SqDist(x,y)", "g*b"]
    while True:
        parts.append(draw.choice(LEAVES))
        draw.shuffle(parts)
        a, b = parts.pop(), parts.pop()
        parts.append(draw.choice(UNARY).format(f"{a}{draw.choice('+-*')}{draw.randint(1, 9)}*{b}"))
        text = "+".join(f"({part})" for part in parts)
        if sum(1 for n in topological(parse(text, ALIASES).expr) if n.args) >= operations:
            return text


def data():
    """Arrays for the aliases."""
    rng = np.random.default_rng(0)
    return [rng.random((16, 3)), rng.random((12, 3)), rng.random((12, 1)), np.ones(1), rng.random((16, 1))]


def milliseconds(call) -> float:
    start = time.process_time()
    call()
    return 1e3 * (time.process_time() - start)


def stages(text: str, arrays) -> dict[str, float]:
    """Milliseconds of each stage of one formula, which must be new."""
    taken = {}
    taken["product"] = milliseconds(lambda: Genred(text, ALIASES, axis=1)(*arrays))
    if torch is not None:
        tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
        result = TorchGenred(text, ALIASES, axis=1)(*tensors).sum()
        taken["torch gradient"] = milliseconds(result.backward)
    return taken


def table_of_formulas(count: int) -> bool:
    """Print the first table; whether all medians are within the limit."""
    arrays, good = data(), True
    for seed in range(1000, 1010):  # what Python and NumPy do for the first time
        stages(formula(seed, OPERATIONS), arrays)
    for operations in (5, 10, OPERATIONS, 40):
        texts = list(dict.fromkeys(formula(2000 + 1000 * operations + k, operations) for k in range(count)))
        found = [stages(text, arrays) for text in texts]
        cells = []
        for name in found[0]:
            times = [row[name] for row in found]
            cells.append(f"{name} {median(times):7.1f} ({max(times):7.1f})")
            good = good and (operations != OPERATIONS or median(times) <= LIMIT)
        print(f"{operations:5} operations: {'   '.join(cells)}", flush=True)
    return good


def table_of_sums(lengths) -> None:
    """Print the second table: seconds of long sums."""
    for n in lengths:
        text = "(" + "+".join(f"Exp(SqDist(x,y)*{-(k + 1) / n!r})" for k in range(n)) + ")*b"
        taken = {}
        start = time.process_time()
        read = parse(text, ALIASES)
        taken["read"] = time.process_time() - start
        start = time.process_time()
        compile_sum(read.expr, 1)
        taken["compiled"] = time.process_time() - start
        start = time.process_time()
        derivative = grad(read.expr, read.find("x"), const(1))
        taken["differentiated"] = time.process_time() - start
        start = time.process_time()
        compile_sum(derivative, 1)
        taken["its derivative compiled"] = time.process_time() - start
        print(f"{n:5} terms: " + "   ".join(f"{name} {1e3 * t:7.0f}" for name, t in taken.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=40, help="formulas of each number of operations")
    count = parser.parse_args().count
    print("milliseconds of CPU time, median (greatest)")
    good = table_of_formulas(count)
    table_of_sums((500, 1000, 2000))
    sys.exit(0 if good else f"above {LIMIT:g} ms at {OPERATIONS} operations")


if __name__ == "__main__":
    main()
