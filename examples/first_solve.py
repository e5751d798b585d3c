"""The first script of a KernelSolve user: solve for many points, check the residual, differentiate.

K[i, j] = exp(-|x_i - x_j|) for points of a normal distribution in R^3, and two right-hand sides, in float32. The
gradients are compared with dense float64 ones on fewer points. Exits with 1 if a figure is larger than it should be.
"""

from __future__ import annotations

import argparse

import torch

from kernelops.torch import Genred, KernelSolve

FORMULA = "Exp(-Norm2(x-y))*a"
ALIASES = ["x = Vi(3)", "y = Vj(3)", "a = Vj(2)"]
ALPHA = 0.1
LARGEST = 1e-4  # mean absolute residual, and relative error of a gradient


def problem(n, seed=0):
    """Points and right-hand sides."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=generator), torch.randn(n, 2, generator=generator)


def verdict(name, figure):
    """Print a figure and whether it is small enough."""
    good = figure <= LARGEST
    print(f"{name:44}{figure:12.1e}   at most {LARGEST:g}: {'PASS' if good else 'FAIL'}")
    return good


def residual(n):
    """Solve for n points; whether the residual is small. Prints the shapes of the solution and of a gradient."""
    x, b = problem(n)
    x.requires_grad_()
    K, inverse = Genred(FORMULA, ALIASES, axis=1), KernelSolve(FORMULA, ALIASES, "a", axis=1)
    a = inverse(x, x, b, alpha=ALPHA)
    print(f"{'shape of a':44}{tuple(a.shape)!s:>12}")
    with torch.no_grad():
        size = ((((ALPHA * a + K(x, x, a) - b) ** 2).sqrt()).sum() / len(x)).item()
    good = verdict("sum of |alpha a + K a - b| / n", size)
    (gradient,) = torch.autograd.grad((a**2).sum(), x)
    print(f"{'shape of the gradient of |a|^2 to x':44}{tuple(gradient.shape)!s:>12}")
    return good and gradient.shape == x.shape


def dense(x, b, alpha):
    """The solution by a dense matrix."""
    return torch.linalg.solve(torch.exp(-torch.cdist(x, x)) + alpha * torch.eye(len(x), dtype=x.dtype), b)


def gradients(n):
    """Whether the gradients of |a|^2 to x and alpha agree with dense float64 ones."""
    x, b = problem(n)
    inverse = KernelSolve(FORMULA, ALIASES, "a", axis=1)

    def found(solve, dtype):
        leaves = x.to(dtype).requires_grad_(), torch.tensor(ALPHA, dtype=dtype, requires_grad=True)
        return torch.autograd.grad((solve(leaves[0], b.to(dtype), leaves[1]) ** 2).sum(), leaves)

    ours = found(lambda x, b, alpha: inverse(x, x, b, alpha=alpha), torch.float32)
    truth = found(dense, torch.float64)
    errors = [float((g.double() - t).norm() / t.norm()) for g, t in zip(ours, truth)]
    return all([verdict(f"relative error of the gradient to {name}", e) for name, e in zip(("x", "alpha"), errors)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000, help="points of the solve")
    parser.add_argument("--n-dense", type=int, default=800, help="points of the comparison with dense gradients")
    options = parser.parse_args()
    print(f"{options.n} points in R^3, {FORMULA}, alpha = {ALPHA}")
    passed = residual(options.n)
    print(f"\n{options.n_dense} points, beside a dense float64 solve")
    passed = gradients(options.n_dense) and passed
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
