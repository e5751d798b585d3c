"""How good the log-determinant's standard error is: ten problems, each against a dense determinant in float64.

Every problem is solved iteratively (method="cg") with the preconditioner that precond= says; the script prints value,
dense value, standard error and how many of them they differ by, and exits with 1 where that is more than three.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from kernelops.numpy import KernelSolve

NORM = "Norm2(x-y)"
KERNELS = {  # formula of a length scale 1, and the same for squared distances
    "Gaussian": ("Exp(-SqDist(x,y))", lambda d: np.exp(-d)),
    "exponential": (f"Exp(-{NORM})", lambda d: np.exp(-np.sqrt(d))),
    "Matern 3/2": (f"(1+{NORM})*Exp(-{NORM})", lambda d: (1 + np.sqrt(d)) * np.exp(-np.sqrt(d))),
    "rational": ("Inv(1+SqDist(x,y))", lambda d: 1 / (1 + d)),
}
PROBLEMS = [  # kernel, dimension, length scale, alpha, dtype
    ("Gaussian", 2, 0.1, 1e-2, "float64"),
    ("Gaussian", 2, 0.02, 1e-3, "float32"),
    ("Gaussian", 9, 1.0, 1e-2, "float64"),
    ("exponential", 2, 0.1, 1e-2, "float32"),
    ("exponential", 5, 1.0, 1e-3, "float64"),
    ("Matern 3/2", 2, 0.05, 1e-2, "float64"),
    ("Matern 3/2", 9, 1.0, 1e-1, "float32"),
    ("Matern 3/2", 3, 0.2, 1e-4, "float64"),
    ("rational", 2, 0.1, 1e-1, "float32"),
    ("rational", 5, 0.3, 1e-2, "float64"),
]


def squares(x):
    s = (x**2).sum(1)
    return np.maximum(s[:, None] + s - 2 * x @ x.T, 0.0) * (1 - np.eye(len(x)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=2000, help="points")
    parser.add_argument("--probes", type=int, default=10)
    parser.add_argument("--precond", default="auto", help='as of KernelSolve.logdet, or "none"')
    options = parser.parse_args()
    precond = None if options.precond == "none" else options.precond

    print(f"{options.n} points, {options.probes} probes, precond = {precond!r}")
    print(f"{'':46}{'value':>12}{'dense':>12}{'stderr':>9}{'apart':>7}{'seconds':>9}{'dense':>7}")
    good = True
    for number, (name, dim, length, alpha, dtype) in enumerate(PROBLEMS):
        x = (np.random.default_rng(number).random((options.n, dim)) / length).astype(dtype)
        formula, kernel = KERNELS[name]
        solver = KernelSolve(f"{formula}*b", [f"x = Vi({dim})", f"y = Vj({dim})", "b = Vj(1)"], "b", axis=1)
        start = time.perf_counter()
        value, stderr = solver.logdet(x, x, alpha=alpha, n_probes=options.probes, method="cg", precond=precond)
        took = time.perf_counter() - start
        start = time.perf_counter()
        wanted = np.linalg.slogdet(kernel(squares(x.astype(np.float64))) + alpha * np.eye(options.n))[1]
        dense = time.perf_counter() - start
        apart = abs(value - wanted) / stderr
        passed = apart <= 3
        good = good and passed
        title = f"{name}, {dim}-D, scale {length:g}, {alpha:g}, {dtype}"
        print(
            f"{title:46}{value:12.2f}{wanted:12.2f}{stderr:9.3f}{apart:7.2f}{took:9.2f}{dense:7.2f}  "
            f"{'PASS' if passed else 'FAIL'}"
        )
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
