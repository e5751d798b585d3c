"""What is solved: (alpha I + K) a = b on real data, with the residual of an answer in float64.

Lengths are in units in which the longer side of the terrain is 1, and the columns of the other data have variance 1.
The numbers of plain iterations that stand with the TABLES were counted on these very systems; rounding of g or another
sum order moves them by about one in a hundred.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import datasets
import numpy as np

ROWS = 64  # that check the product of a large problem
CHUNK = 2**23  # entries of K that are there at once
DENSE = 16_000  # points up to which residuals are computed without this package
AGREEMENT = 1e-13  # of the sum of magnitudes, between the float64 product and the rows that check it


@dataclass(frozen=True)
class Kernel:
    """A kernel of the distance, as a formula and in NumPy.

    Attributes
    ----------
    title, formula : str
        Its name; what KernelSolve is given, with g for the rate and a for the unknown.
    rate : callable
        Length -> g.
    length : callable
        g -> length.
    of : callable
        Squared distances and g -> values, in place where it can be.
    """

    title: str
    formula: str
    rate: Callable[[float], float]
    length: Callable[[float], float]
    of: Callable[[np.ndarray, float], np.ndarray]


def _matern32(squares: np.ndarray, g: float) -> np.ndarray:
    r = g * np.sqrt(squares)
    return (1 + r) * np.exp(-r)


KERNELS = {
    "gaussian": Kernel(
        "Gaussian",
        "Exp(-g*SqDist(x,y))*a",
        lambda length: 0.5 / length**2,
        lambda g: (0.5 / g) ** 0.5,
        lambda squares, g: np.exp(-g * squares),
    ),
    "matern32": Kernel(
        "Matern 3/2",
        "(1+g*Norm2(x-y))*Exp(-g*Norm2(x-y))*a",
        lambda length: 3**0.5 / length,
        lambda g: 3**0.5 / g,
        _matern32,
    ),
    "exponential": Kernel(
        "exponential",
        "Exp(-g*Norm2(x-y))*a",
        lambda length: 1 / length,
        lambda g: 1 / g,
        lambda squares, g: np.exp(-g * np.sqrt(squares)),
    ),
}


@dataclass(frozen=True)
class Solve:
    """One system: rows of a data set, a kernel, alpha and right-hand sides.

    Attributes
    ----------
    data, kernel : str
        Keys of datasets.LOADERS and of KERNELS.
    length, alpha : float
    N : int
        Rows that are drawn, in random order.
    columns : int
        Right-hand sides: the target of the data set, then standard normal ones.
    seed : int
        Of the rows and of the right-hand sides.
    plain : int or None
        Iterations of conjugate gradients without a preconditioner, float64, to a relative residual of 1e-6.
    """

    data: str
    kernel: str
    length: float
    alpha: float
    N: int = 8_000
    columns: int = 1
    seed: int = 0
    plain: int | None = None

    @property
    def name(self) -> str:
        return f"{self.data}, {KERNELS[self.kernel].title}, length {self.length:g}, alpha {self.alpha:g}"

    @property
    def formula(self) -> str:
        return KERNELS[self.kernel].formula

    @property
    def aliases(self) -> list[str]:
        D = self.x.shape[1]
        return [f"x = Vi({D})", f"y = Vj({D})", f"a = Vj({self.columns})", "g = Pm(1)"]

    @cached_property
    def _rows(self) -> datasets.Data:
        return datasets.sample(self.data, self.N, self.seed)

    @property
    def x(self) -> np.ndarray:
        """Points, (N, D) float32."""
        return self._rows[0]

    @cached_property
    def b(self) -> np.ndarray:
        """Right-hand sides, (N, columns) float32."""
        random = np.random.default_rng(self.seed + 1).standard_normal((self.N, self.columns - 1))
        return np.column_stack([self._rows[1], random]).astype(np.float32)

    @cached_property
    def g(self) -> np.ndarray:
        """The rate, (1,) float32: everybody solves with the kernel that this rounding leaves."""
        return np.array([KERNELS[self.kernel].rate(self.length)], np.float32)

    @property
    def rounded_length(self) -> float:
        """The length that g stands for, in float64."""
        return KERNELS[self.kernel].length(float(self.g[0]))

    def blocks(self, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Slices of `rows` and these rows of K, in float64."""
        x, g = self.x.astype(np.float64), float(self.g[0])
        step = max(1, CHUNK // self.N)
        for start in range(0, len(rows), step):
            part = slice(start, min(start + step, len(rows)))
            yield part, KERNELS[self.kernel].of(_squares(x[rows[part]], x), g)

    def matrix(self) -> np.ndarray:
        """alpha I + K, in float64."""
        A = np.empty((self.N, self.N))
        for part, block in self.blocks(np.arange(self.N)):
            A[part] = block
        A[np.diag_indices(self.N)] += self.alpha
        return A

    def image(self, a: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """These rows of (alpha I + K) a, in float64, by NumPy."""
        found = self.alpha * a[rows]
        for part, block in self.blocks(rows):
            found[part] += block @ a
        return found

    def residual(self, a: np.ndarray) -> np.ndarray:
        """|b - (alpha I + K) a| / |b| of each column, in float64.

        Up to DENSE points by NumPy alone; beyond, by this package's float64 product, of which some rows are held
        against NumPy's.
        """
        a = np.asarray(a, np.float64).reshape(self.N, self.columns)
        if not np.isfinite(a).all():
            return np.full(self.columns, np.nan)
        image = self.image(a, np.arange(self.N)) if self.N <= DENSE else self._checked_product(a)
        b = self.b.astype(np.float64)
        return np.linalg.norm(b - image, axis=0) / np.linalg.norm(b, axis=0)

    def _checked_product(self, a: np.ndarray) -> np.ndarray:
        from kernelops.numpy import Genred

        x = self.x.astype(np.float64)
        image = Genred(self.formula, self.aliases, axis=1)(x, x, a, self.g.astype(np.float64)) + self.alpha * a
        rows = np.sort(np.random.default_rng(2).choice(self.N, ROWS, replace=False))
        error = (np.abs(image[rows] - self.image(a, rows)) / np.abs(a).sum(0)).max()
        if not error <= AGREEMENT:
            raise ValueError(f"the float64 product of {self} is wrong by {error:.1e}")
        return image


def _squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared distances, by differences: no cancellation."""
    from scipy.spatial.distance import cdist

    return cdist(x, y, "sqeuclidean")


TABLES = (
    Solve("terrain", "matern32", 0.05, 1e-2, plain=670),
    Solve("terrain", "matern32", 0.2, 1e-2, plain=822),
    Solve("terrain", "gaussian", 0.05, 1e-2, plain=702),
    Solve("terrain", "gaussian", 0.02, 1e-2, plain=353),
    Solve("terrain", "exponential", 0.1, 1e-2, plain=494),
    Solve("diamonds", "gaussian", 3.0, 4e-3, plain=938),
    Solve("diamonds", "gaussian", 1.0, 4e-3, plain=1105),
    Solve("diamonds", "matern32", 3.0, 4e-3, plain=1111),
    Solve("diamonds", "exponential", 5.0, 4e-3, plain=789),
    # other rows of the data, and for the diamonds the alpha of twice as many points
    Solve("terrain", "matern32", 0.05, 1e-2, seed=1, plain=668),
    Solve("terrain", "gaussian", 0.05, 1e-2, seed=1, plain=711),
    Solve("diamonds", "matern32", 3.0, 8e-3, seed=1, plain=789),
    Solve("diamonds", "gaussian", 1.0, 8e-3, seed=1, plain=780),
    Solve("diamonds", "gaussian", 3.0, 8e-3, seed=1, plain=680),
)
