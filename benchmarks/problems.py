"""What is timed: reductions over all pairs (i, j) of two sets of points, each with its answer in float64.

A problem is data. An engine of ENGINES makes a call without arguments of it, or raises ImportError where the package is
not installed. ``Problem.check`` refuses a wrong answer: wrong and fast is not fast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

K = 10  # neighbours of ArgKMin
CHECKED = 64  # rows of the result that are compared with float64
TOLERANCE = {"float32": 3e-5, "float64": 1e-12}  # of the largest value, or of the largest distance


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
    """

    kind: str
    N: int
    D: int = 3
    Dv: int = 1
    dtype: str = "float32"

    @property
    def name(self) -> str:
        return KINDS[self.kind].title

    @property
    def pairs(self) -> int:
        return self.N**2

    @property
    def aliases(self) -> list[str]:
        """Declarations of the arrays, in KeOps' notation, which is ours too."""
        declared = {"x": f"Vi({self.D})", "y": f"Vj({self.D})", "b": f"Vj({self.Dv})", "e": f"Vi({self.Dv})"}
        return [f"{name} = {declared[name]}" for name in KINDS[self.kind].arrays]

    @cached_property
    def arrays(self) -> list[np.ndarray]:
        """Points in a cube whose pairs are about 0.4 apart for every D, and normally distributed b and e."""
        rng = np.random.default_rng(0)
        x, y = (rng.random((self.N, self.D)) / np.sqrt(self.D) for _ in range(2))
        b, e = (rng.standard_normal((self.N, self.Dv)) for _ in range(2))
        all_arrays = {"x": x, "y": y, "b": b, "e": e}
        return [all_arrays[name].astype(self.dtype) for name in KINDS[self.kind].arrays]

    @cached_property
    def rows(self) -> np.ndarray:
        """The rows that are checked, first and last among them."""
        return np.unique(np.linspace(0, self.N - 1, CHECKED).astype(int))

    def check(self, result: Any) -> float:
        """The error of a result in units of the largest value; ValueError where it is not small."""
        kind = KINDS[self.kind]
        given = dict(zip(kind.arrays, (array.astype(np.float64) for array in self.arrays)))
        given.update({name: given[name][self.rows] for name in ("x", "e") if name in given})
        found = np.asarray(result)[self.rows].reshape(len(self.rows), -1)
        truth = kind.truth(**given)
        if kind.op == "ArgKMin":  # two neighbours that are equally far may change places
            found, truth = (
                np.take_along_axis(truth, index.astype(int), 1) for index in (found, np.argsort(truth)[:, :K])
            )
        error = float(np.abs(found - truth).max() / np.abs(truth).max())
        if not error <= TOLERANCE[self.dtype]:
            raise ValueError(f"{self}: error {error:.1e}, at most {TOLERANCE[self.dtype]:.0e} is right")
        return error


@dataclass(frozen=True)
class Kind:
    """A formula, and the same in NumPy and in torch.

    Attributes
    ----------
    title, formula, op : str
        Its name in the table; what Genred is given.
    truth : callable
        The result in float64, from the arrays with some rows of i.
    dense : callable
        The result from the torch matrix of all distances, and b. With e among the arrays, its gradient to x is wanted.
    arrays : str
        Which of x, y, b and e the formula takes.
    """

    title: str
    formula: str
    truth: Callable[..., np.ndarray]
    dense: Callable[..., Any]
    op: str = "Sum"
    arrays: str = "xyb"

    @property
    def opt_arg(self) -> int | None:
        return K if self.op == "ArgKMin" else None


def squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared distances, by differences: no cancellation."""
    return sum((x[:, None, d] - y[:, d]) ** 2 for d in range(x.shape[1]))


def gradient_truth(x: np.ndarray, y: np.ndarray, b: np.ndarray, e: np.ndarray) -> np.ndarray:
    weights = -2 * np.exp(-squares(x, y)) * (e @ b.T)
    return weights.sum(1, keepdims=True) * x - weights @ y


KINDS = {
    "gaussian": Kind(
        "Gaussian",
        "Exp(-SqDist(x,y))*b",
        lambda x, y, b: np.exp(-squares(x, y)) @ b,
        lambda r, b: (-(r**2)).exp() @ b,
    ),
    "laplace": Kind(
        "Laplace",
        "Exp(-Norm2(x-y))*b",
        lambda x, y, b: np.exp(-np.sqrt(squares(x, y))) @ b,
        lambda r, b: (-r).exp() @ b,
    ),
    "matern": Kind(
        "Matern 3/2",
        "(1+Norm2(x-y))*Exp(-Norm2(x-y))*b",
        lambda x, y, b: ((1 + np.sqrt(squares(x, y))) * np.exp(-np.sqrt(squares(x, y)))) @ b,
        lambda r, b: ((1 + r) * (-r).exp()) @ b,
    ),
    "logsumexp": Kind(
        "LogSumExp",
        "-SqDist(x,y)",
        lambda x, y: np.log(np.exp(-squares(x, y)).sum(1, keepdims=True)),
        lambda r: (-(r**2)).logsumexp(1, keepdim=True),
        op="LogSumExp",
        arrays="xy",
    ),
    "argkmin": Kind(
        f"ArgKMin({K})",
        "SqDist(x,y)",
        squares,
        lambda r: r.topk(K, largest=False).indices,
        op="ArgKMin",
        arrays="xy",
    ),
    "gradient": Kind(
        "Gaussian, gradient to x",
        "Grad(Exp(-SqDist(x,y))*b, x, e)",
        gradient_truth,
        lambda r, b: (-(r**2)).exp() @ b,  # which torch differentiates
        arrays="xybe",
    ),
}


def all_problems(N: int) -> list[Problem]:
    """The rows of the table."""
    return [
        *(Problem("gaussian", N, D, Dv) for D in (1, 3, 10, 30, 100) for Dv in (1, 16)),
        *(Problem("gaussian", N, 3, Dv, "float64") for Dv in (1, 16)),
        *(Problem(kind, N) for kind in KINDS if kind != "gaussian"),
    ]


def with_kernelops(problem: Problem) -> Callable[[], Any]:
    from kernelops.numpy import Genred

    return _genred(Genred, problem)


def with_keops(problem: Problem) -> Callable[[], Any]:
    from pykeops.numpy import Genred

    return _genred(Genred, problem)


def _genred(genred: Any, problem: Problem) -> Callable[[], Any]:
    """The same for both packages."""
    kind = KINDS[problem.kind]
    reduction = genred(kind.formula, problem.aliases, kind.op, axis=1, opt_arg=kind.opt_arg)
    return lambda: reduction(*problem.arrays, backend="CPU")


def with_torch(problem: Problem) -> Callable[[], Any]:
    import torch

    kind = KINDS[problem.kind]
    given = dict(zip(kind.arrays, map(torch.from_numpy, problem.arrays)))
    x, y, b, e = map(given.get, "xybe")

    def call() -> Any:
        if e is None:
            return kind.dense(torch.cdist(x, y), *([] if b is None else [b]))
        at = x.detach().requires_grad_()
        return torch.autograd.grad(kind.dense(torch.cdist(at, y), b), at, e)[0]

    return call


ENGINES = {"kernelops": with_kernelops, "KeOps": with_keops, "dense torch": with_torch}
