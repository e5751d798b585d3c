"""What do all gradients of a Gaussian product cost in one backward pass, and what one by one?

The sum over j of exp(-g |x_i - y_j|^2) b_j, D = 3, float32, is differentiated with respect to x, y, b and g.
Nanoseconds per pair of the backward pass alone, the median of interleaved repetitions: all four wanted at once, four
passes that want one each, and KeOps where it is installed. Every answer is checked against float64.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from timing import interleaved

from kernelops.engines.cpu import instruction_set
from kernelops.engines.threads import thread_count
from kernelops.torch import Genred

FORMULA, ALIASES = "Exp(-g*SqDist(x,y))*b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)", "g = Pm(1)"]
TOLERANCE = 3e-5  # of the largest component: float32, and sums of differences that cancel
BLOCK = 256  # rows that are checked at a time
Gradients = tuple[torch.Tensor, ...]


def data(N: int) -> list[np.ndarray]:
    """x, y, b, g and the cotangent: points in the unit cube, positive weights."""
    rng = np.random.default_rng(0)
    shapes = [(N, 3), (N, 3), (N, 1), (1,), (N, 1)]
    return [(0.5 + rng.random(s) if s == (1,) else rng.random(s)).astype(np.float32) for s in shapes]


def truth(x: np.ndarray, y: np.ndarray, b: np.ndarray, g: np.ndarray, e: np.ndarray) -> list[np.ndarray]:
    """The four gradients in float64."""
    found = [np.zeros(t.shape) for t in (x, y, b, g)]
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        difference = x[rows, None] - y
        square = (difference**2).sum(-1)
        kernel = np.exp(-g * square)
        weight = kernel * e[rows] * b.T
        found[0][rows] = -2 * g * np.einsum("ij,ijd->id", weight, difference)
        found[1] += 2 * g * np.einsum("ij,ijd->jd", weight, difference)
        found[2] += kernel.T @ e[rows]
        found[3] -= (weight * square).sum()
    return found


def at_once(genred: Callable, tensors: list[torch.Tensor], e: torch.Tensor) -> Callable[[], Gradients]:
    """One backward pass for all."""
    leaves = [t.clone().requires_grad_() for t in tensors]
    result = genred(*leaves, backend="CPU")
    return lambda: torch.autograd.grad(result, leaves, e, retain_graph=True)


def one_by_one(genred: Callable, tensors: list[torch.Tensor], e: torch.Tensor) -> Callable[[], Gradients]:
    """A backward pass for each, through a product of which nothing else is differentiated."""
    leaves = [t.clone().requires_grad_() for t in tensors]
    results = [genred(*tensors[:k], leaf, *tensors[k + 1 :], backend="CPU") for k, leaf in enumerate(leaves)]
    return lambda: tuple(
        torch.autograd.grad(result, leaf, e, retain_graph=True)[0] for result, leaf in zip(results, leaves, strict=True)
    )


def check(name: str, found: Gradients, wanted: list[np.ndarray]) -> None:
    for letter, got, want in zip("xybg", found, wanted, strict=True):
        error = np.abs(got.detach().numpy() - want).max() / np.abs(want).max()
        if not error <= TOLERANCE:
            raise ValueError(f"{name}: the gradient to {letter} is off by {error:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeat", type=int, default=20, help="calls of each")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 3000, 10000], help="N of i and of j")
    options = parser.parse_args()
    genreds = {"at once": (at_once, Genred), "one by one": (one_by_one, Genred)}
    try:
        from pykeops.torch import Genred as KeOpsGenred

        genreds["KeOps"] = (at_once, KeOpsGenred)
    except ImportError:
        print("KeOps is not installed")
    print(f"{thread_count()} threads, {instruction_set()}; nanoseconds per pair, and times 'at once'")
    print(f"{'N':>6}" + "".join(f"{name:>20}" for name in genreds))
    for N in options.sizes:
        arrays = data(N)
        *tensors, e = map(torch.from_numpy, arrays)
        wanted = truth(*(a.astype(np.float64) for a in arrays))
        calls = {name: way(genred(FORMULA, ALIASES, axis=1), tensors, e) for name, (way, genred) in genreds.items()}
        for name, call in calls.items():
            check(name, call(), wanted)
        seconds = interleaved(calls, options.repeat, budget=20.0)
        cells = [f"{1e9 * s / N**2:12.2f} ({s / seconds['at once']:5.2f})" for s in seconds.values()]
        print(f"{N:6}" + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    main()
