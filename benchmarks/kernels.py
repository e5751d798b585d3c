"""What is timed: reductions over all pairs (i, j) of two sets of points, each with its answer in float64.

A problem is data, and ``Problem.check`` refuses a wrong answer: wrong and fast is not fast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

K = 10  # neighbours of ArgKMin
CHECKED = 64  # rows of the result that are compared with float64
# of the largest value, or of the largest distance; the sums are a hundredth of their terms' magnitudes
TOLERANCE = {"float32": 1e-4, "float64": 1e-12}


@dataclass(frozen=True)
class Problem:
    """One reduction over j, with the points that it is timed on.

    Attributes
    ----------
    kind : str
        A key of KINDS.
    N : int
        Points of i and of j: N**2 pairs.
    D, Dv : int
        Lengths of a point and of the vector that a kernel multiplies.
    dtype : str
    same : bool
        Whether y is x, the same array object: K(x, x), whose kernel matrix is symmetric.
    """

    kind: str
    N: int
    D: int = 3
    Dv: int = 1
    dtype: str = "float32"
    same: bool = False

    @property
    def name(self) -> str:
        return KINDS[self.kind].title

    @property
    def pairs(self) -> int:
        return self.N**2

    @property
    def label(self) -> str:
        """The name with what else tells it from other rows of the table."""
        if self.kind != "gaussian":
            return self.name
        more = ["", f", Dv = {self.Dv}"][self.Dv > 1] + ["", f", {self.dtype}"][self.dtype != "float32"]
        return f"{self.name}, D = {self.D}{more}"

    @property
    def aliases(self) -> list[str]:
        """Declarations of the arrays, in KeOps' notation, which is ours too."""
        declared = {"x": f"Vi({self.D})", "y": f"Vj({self.D})", "b": f"Vj({self.Dv})", "e": f"Vi({self.Dv})"}
        return [f"{name} = {declared[name]}" for name in KINDS[self.kind].arrays]

    @cached_property
    def named(self) -> dict[str, np.ndarray]:
        """Points in a cube whose pairs are about 0.4 apart for every D, and normally distributed b and e."""
        rng = np.random.default_rng(0)
        x, y = ((rng.random((self.N, self.D)) / np.sqrt(self.D)).astype(self.dtype) for _ in range(2))
        b, e = (rng.standard_normal((self.N, self.Dv)).astype(self.dtype) for _ in range(2))
        return {"x": x, "y": x if self.same else y, "b": b, "e": e}

    @property
    def arrays(self) -> list[np.ndarray]:
        """Those that the formula takes, in their order."""
        return [self.named[name] for name in KINDS[self.kind].arrays]

    @cached_property
    def rows(self) -> np.ndarray:
        """The rows that are checked, first and last among them."""
        return np.unique(np.linspace(0, self.N - 1, CHECKED).astype(int))

    @cached_property
    def truth(self) -> np.ndarray:
        """The checked rows of the result in float64; of ArgKMin, all distances of these rows."""
        given = {name: self.named[name].astype(np.float64) for name in KINDS[self.kind].arrays}
        given.update({name: given[name][self.rows] for name in ("x", "e") if name in given})
        return KINDS[self.kind].truth(**given)

    def check(self, result: Any, engine: str = "the result") -> float:
        """The error of a result in units of the largest value; ValueError where it is not small."""
        found, truth = np.asarray(result)[self.rows].reshape(len(self.rows), -1), self.truth
        if KINDS[self.kind].op == "ArgKMin":  # two neighbours that are equally far may change places
            found, truth = (
                np.take_along_axis(truth, index.astype(int), 1) for index in (found, np.argsort(truth)[:, :K])
            )
        error = float(np.abs(found - truth).max() / np.abs(self.truth).max())
        if not (found.shape == truth.shape and error <= TOLERANCE[self.dtype]):
            raise ValueError(f"{engine} of {self}: error {error:.1e}, at most {TOLERANCE[self.dtype]:.0e} is right")
        return error


@dataclass(frozen=True)
class Kind:
    """A formula, and the same in NumPy.

    Attributes
    ----------
    title, formula, op : str
        Its name in the table; what Genred is given.
    truth : callable
        The result in float64, from the arrays with some rows of i.
    arrays : str
        Which of x, y, b and e the formula takes.
    """

    title: str
    formula: str
    truth: Callable[..., np.ndarray]
    op: str = "Sum"
    arrays: str = "xyb"

    @property
    def opt_arg(self) -> int | None:
        return K if self.op == "ArgKMin" else None


def squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared distances, by differences: no cancellation."""
    return sum((x[:, None, d] - y[:, d]) ** 2 for d in range(x.shape[1]))


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(squares(x, y))


def matern52(r: np.ndarray) -> np.ndarray:
    return (1 + r + r**2 / 3) * np.exp(-r)


def gradient_truth(x: np.ndarray, y: np.ndarray, b: np.ndarray, e: np.ndarray) -> np.ndarray:
    weights = -2 * np.exp(-squares(x, y)) * (e @ b.T)
    return weights.sum(1, keepdims=True) * x - weights @ y


KINDS = {
    "gaussian": Kind("Gaussian", "Exp(-SqDist(x,y))*b", lambda x, y, b: np.exp(-squares(x, y)) @ b),
    "laplace": Kind("Laplace", "Exp(-Norm2(x-y))*b", lambda x, y, b: np.exp(-distances(x, y)) @ b),
    "matern32": Kind(
        "Matern 3/2",
        "(1+Norm2(x-y))*Exp(-Norm2(x-y))*b",
        lambda x, y, b: ((1 + distances(x, y)) * np.exp(-distances(x, y))) @ b,
    ),
    "matern52": Kind(
        "Matern 5/2",
        "(1+Norm2(x-y)+SqDist(x,y)/3)*Exp(-Norm2(x-y))*b",
        lambda x, y, b: matern52(distances(x, y)) @ b,
    ),
    "logsumexp": Kind(
        "LogSumExp",
        "-SqDist(x,y)",
        lambda x, y: np.log(np.exp(-squares(x, y)).sum(1, keepdims=True)),
        op="LogSumExp",
        arrays="xy",
    ),
    "argkmin": Kind(f"ArgKMin({K})", "SqDist(x,y)", squares, op="ArgKMin", arrays="xy"),
    "gradient": Kind("Gaussian, gradient to x", "Grad(Exp(-SqDist(x,y))*b, x, e)", gradient_truth, arrays="xybe"),
}
