"""Solve with a Gaussian kernel on random points of the unit square, differentiate, compare with dense float64.

The right-hand sides are float32, and so is the answer c. For a random e of the same shape, the gradient of <c, e> with
respect to the points comes from one more solve. Prints times, statuses and relative errors, draws the first 40 entries
of both beside the dense ones, and exits with 1 if an error is larger than it should be.
"""

from __future__ import annotations

import argparse
import time

import torch
from matplotlib.figure import Figure

from kernelops.torch import KernelSolve

SIGMA = 0.1
ALPHA = 0.01
COLUMNS = 2
SHOWN = 40  # entries in a panel
LARGEST = {"solution": 1e-6, "gradient": 1e-5}  # relative errors


def problem(n, seed=0):
    """Points x, right-hand sides b and the cotangent e, in float32."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 2, generator=generator)
    b = torch.randn(n, COLUMNS, generator=generator)
    e = torch.randn(n, COLUMNS, generator=generator)
    return x, b, e


def ours(x, b, e):
    """The solution, its gradient for e, the Solution, and the seconds of both."""
    g = torch.tensor([0.5 / SIGMA**2])
    inverse = KernelSolve("Exp(-g*SqDist(x,y))*b", ["x = Vi(2)", "y = Vj(2)", "b = Vj(2)", "g = Pm(1)"], "b", axis=1)
    x = x.clone().requires_grad_()
    start = time.perf_counter()
    c, account = inverse(x, x, b, g, alpha=ALPHA, return_solution=True)
    solved = time.perf_counter()
    (gradient,) = torch.autograd.grad((c * e).sum(), x)
    return c.detach(), gradient, account, (solved - start, time.perf_counter() - solved)


def dense(x, b, e):
    """The same by a Cholesky factor of the matrix in float64."""
    x, b, e = x.double().requires_grad_(), b.double(), e.double()
    start = time.perf_counter()
    squares = (x**2).sum(1)
    matrix = torch.exp((2 * x @ x.T - squares[:, None] - squares) * (0.5 / SIGMA**2))
    factor = torch.linalg.cholesky(matrix + ALPHA * torch.eye(len(x), dtype=x.dtype))
    c = torch.cholesky_solve(b, factor)
    solved = time.perf_counter()
    (gradient,) = torch.autograd.grad((c * e).sum(), x)
    return c.detach(), gradient, (solved - start, time.perf_counter() - solved)


def relative_error(found, truth):
    return float((found.double() - truth).norm() / truth.norm())


def report(account, errors, seconds, dense_seconds):
    """Print the figures; whether they are what they should be."""
    print(account)
    print(f"\n{'':10}{'seconds':>10}{'dense':>10}{'relative error':>17}{'wanted':>10}")
    passed = account.converged
    print(f"{'status':10}{account.status:>37}{'converged':>10}  {'PASS' if passed else 'FAIL'}")
    for name, error, ours_took, dense_took in zip(LARGEST, errors, seconds, dense_seconds, strict=True):
        good = error < LARGEST[name]
        passed = passed and good
        print(
            f"{name:10}{ours_took:10.2f}{dense_took:10.2f}{error:17.1e}{LARGEST[name]:>10.0e}  "
            f"{'PASS' if good else 'FAIL'}"
        )
    return passed


def draw(rows, titles, output):
    """Our first entries and the dense ones, a quantity a row, a component a column."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = figure.subplots(len(rows), COLUMNS, sharex=True)
    for panel_row, (label, found, truth), title in zip(panels, rows, titles, strict=True):
        for k, panel in enumerate(panel_row):
            panel.axhline(0, color="0.8", linewidth=0.8, zorder=0)
            panel.plot(truth[:SHOWN, k], "o", color="#f2b155", markersize=9, label="dense, float64")
            panel.plot(found[:SHOWN, k], ".", color="#1f4e79", markersize=6, label="kernelops, float32")
            panel.set_title(f"{title}, column {k + 1}", fontsize=10)
            panel.set_ylabel(label)
    for panel in panels[-1]:
        panel.set_xlabel("point")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(output, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=5000, help="number of points")
    parser.add_argument("--output", default="kernel_solve.png", help="the picture")
    options = parser.parse_args()

    x, b, e = problem(options.n)
    c, gradient, account, seconds = ours(x, b, e)
    true_c, true_gradient, dense_seconds = dense(x, b, e)
    errors = relative_error(c, true_c), relative_error(gradient, true_gradient)

    print(f"{options.n} points, Gaussian kernel of sigma {SIGMA}, alpha {ALPHA}, {COLUMNS} right-hand sides, float32")
    passed = report(account, errors, seconds, dense_seconds)
    titles = [f"{name}: relative error {error:.1e}" for name, error in zip(("solution c", "gradient to x"), errors)]
    draw([("c", c, true_c), ("gradient of <c, e>", gradient, true_gradient)], titles, options.output)
    print(f"\n{options.output} shows the first {min(SHOWN, options.n)} entries")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
