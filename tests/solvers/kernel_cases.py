"""Kernel systems as formulas, with the matrices that the truth is computed with."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from judges import assert_solves

from kernelops import KernelOperator, Ranges, solve
from kernelops.numpy import KernelSolve
from kernelops.solvers.options import PRECONDS

NAMES = [*PRECONDS, None]
BUILT = [name for name in PRECONDS if name != "auto"]
LOW_RANK = ("pivoted_cholesky", "nystrom")
DIVIDE = ("pivoted_cholesky",)  # by alpha
ALIASES = ["x = Vi(2)", "y = Vj(2)", "b = Vj(2)"]
SMOOTH, ROUGH = "Exp(-20*SqDist(x,y))*b", "Exp(-5*Norm2(x-y))*b"
N, ASKED = 240, 1e-6


def points(n=N, seed=0, dtype="float64"):
    """The same numbers in either dtype."""
    return np.random.default_rng(seed).random((n, 2)).astype(np.float32).astype(dtype)


def squares(x):
    return ((x[..., :, None, :] - x[..., None, :, :]) ** 2).sum(-1)


def smooth(x):
    return np.exp(-20 * squares(x))


def rough(x):
    return np.exp(-5 * np.sqrt(squares(x)))


def hessian(x, g=4.0):
    """d/dx d/dy exp(-g |x-y|^2) = 2 g (1 - 2 g (x-y)(x-y)^T) exp(-g |x-y|^2), (2 n, 2 n)."""
    d = x[:, None] - x
    blocks = 2 * g * np.eye(2) - 4 * g * g * d[..., :, None] * d[..., None, :]
    return (blocks * np.exp(-g * squares(x))[..., None, None]).swapaxes(1, 2).reshape(2 * len(x), -1)


CLUSTERS = [[k, k + 60] for k in range(0, N, 60)]
KEEP = np.abs(np.subtract.outer(range(4), range(4))) <= 1
MASK = np.kron(KEEP, np.ones((60, 60)))


@dataclass(frozen=True)
class Case:
    """A system as a formula, and the matrix without alpha."""

    formula: str
    matrix: Any
    alpha: Any
    x: np.ndarray = field(default_factory=points)
    ranges: Any = None
    positive: bool = True  # whether alpha is, in every row

    def b(self):
        return np.random.default_rng(1).standard_normal((*self.x.shape[:-1], 2)).astype(np.float32)

    def operator(self, dtype):
        x = self.x.astype(dtype)
        return KernelOperator(self.formula, ALIASES, "b", x, x, alpha=self.alpha, ranges=self.ranges)

    def by_operator(self, dtype, **keywords):
        b = self.b().astype(dtype)
        A = self.operator(dtype)
        return solve(A, b.reshape(-1) if A.shape[0] != len(b) else b, **keywords)

    def by_solver(self, dtype, **keywords):
        x, b = self.x.astype(dtype), self.b().astype(dtype)
        solver = KernelSolve(self.formula, ALIASES, "b", axis=1)
        return solver(x, x, b, alpha=self.alpha, ranges=self.ranges, return_solution=True, **keywords)[1]

    def check(self, solution):
        """Converged, by the dense float64 matrix, in every element of a batch."""
        assert solution.converged, solution.message
        K = self.matrix(self.x)
        n = self.x.shape[-2]
        if self.x.ndim == 2:
            width = len(K) // n
            diagonal = np.repeat(np.broadcast_to(np.ravel(self.alpha), n), width)
            shape = (n, 2) if width == 1 else (2 * n, 1)
            assert_solves(K + np.diag(diagonal), solution.x.reshape(shape), self.b().reshape(shape), ASKED)
        else:
            for k in np.ndindex(self.x.shape[:-2]):
                assert_solves(K[k] + self.alpha[k] * np.eye(n), solution.x[k], self.b()[k], ASKED)


CASES = {
    "scalar alpha": Case(SMOOTH, smooth, 1e-3),
    "alpha by rows": Case(SMOOTH, smooth, np.geomspace(1e-3, 10, N)),
    "alpha with zeros": Case(ROUGH, rough, np.where(np.arange(N) % 2, 0.1, 0.0), positive=False),
    "alpha 0": Case(ROUGH, rough, 0.0, positive=False),
    "matrix-valued": Case("Exp(-4*SqDist(x,y))*(8*b-64*(x-y|b)*(x-y))", hessian, 0.1, points(N // 2)),
    "ranges": Case(SMOOTH, lambda x: smooth(x) * MASK, 20.0, ranges=Ranges.from_mask(CLUSTERS, CLUSTERS, KEEP)),
}
BATCH = Case(
    SMOOTH, smooth, np.array([1e-3, 0.1, 10.0])[:, None, None], np.stack([points(N // 2, s) for s in range(3)])
)
