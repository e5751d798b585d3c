"""The table of solves: a formula, its arguments made from leaves, and its dense kernel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch_dense import solve, squared_distances, torch

from kernelops import Ranges
from kernelops.torch import KernelSolve

N, D = 6, 2
KEEP = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)  # clusters of rows 0:2, 2:4, 4:6
CLUSTERS = [[0, 2], [2, 4], [4, 6]]
MASK = KEEP.repeat_interleave(2, 0).repeat_interleave(2, 1)
RANGES = Ranges.from_mask(CLUSTERS, CLUSTERS, KEEP.numpy())
ALIASES = ["x = Vi(2)", "y = Vj(2)", "b = Vj(2)", "g = Pm(1)"]
ITERATE = {"method": "cg", "precond": None}  # small systems would be factored


@dataclass(frozen=True)
class SolveCase:
    """One row.

    Attributes
    ----------
    name, formula, aliases : str, str, list of str
        The unknown is b.
    shapes : list of tuple
        Of the leaves; b is the leaf of that number.
    arguments : callable
        The leaves -> the arguments of the solve.
    kernel : callable
        The arguments -> K, (..., n, n) or (..., n, d, n, d).
    axis, alpha, options
        Of the solve.
    """

    name: str
    formula: str
    aliases: list[str]
    shapes: list[tuple[int, ...]]
    arguments: Callable[..., tuple]
    kernel: Callable[..., torch.Tensor]
    axis: int = 1
    alpha: Any = 0.3
    options: dict[str, Any] | None = None

    def leaves(self, dtype=torch.float64, seed=0):
        draw = torch.Generator().manual_seed(seed)
        drawn = [torch.randn(s, generator=draw, dtype=torch.float64).to(dtype) for s in self.shapes]
        return [t.requires_grad_() for t in drawn]

    @property
    def place(self):
        """The position of b among the arguments."""
        return next(k for k, alias in enumerate(sorted(self.aliases, key=_position)) if alias.startswith("b "))

    def ours(self, *leaves, alpha=None, **keywords):
        keywords = {"eps": 1e-13, **ITERATE, **(self.options or {}), **keywords}
        solver = KernelSolve(self.formula, self.aliases, "b", axis=self.axis)
        return solver(*self.arguments(*leaves), alpha=self.alpha if alpha is None else alpha, **keywords)

    def matrix(self, *leaves):
        return self.kernel(*self.arguments(*leaves))

    def dense(self, *leaves, alpha=None):
        b = self.arguments(*leaves)[self.place]
        return solve(self.matrix(*leaves), self.alpha if alpha is None else alpha, b)


def _position(alias):
    inside = alias.split("(")[1].split(",")
    return int(inside[0]) if len(inside) > 1 else 0  # sorted() is stable: without positions the order is that given


def gauss(x, y, b, g):
    return (-(g[..., None] ** 2) * squared_distances(x, y)).exp()


def bilinear(x, y, b, P):
    k = (-squared_distances(x, y)).exp()
    return torch.einsum("ij,de->idje", k, P.reshape(D, D))


def hessian(x, y, b, g):
    """d/dx d/dy exp(-g |x-y|^2) = 2 g (1 - 2 g (x-y)(x-y)^T) exp(-g |x-y|^2)."""
    d = x[:, None] - y
    blocks = 2 * g * torch.eye(D, dtype=x.dtype) - 4 * g**2 * d[..., :, None] * d[..., None, :]
    return (blocks * (-g * squared_distances(x, y)).exp()[..., None, None]).swapaxes(1, 2)


def laplace(x, y, b):
    off = ~torch.eye(x.shape[-2], dtype=torch.bool)  # torch's own gradient of a distance is NaN at 0
    r = torch.where(off, squared_distances(x, y), 1.0).sqrt()
    return torch.where(off, (-r).exp(), 1.0)


POINTS, RHS, NUMBER = (N, D), (N, 2), (1,)
GAUSS = "Exp(-Square(g)*SqDist(x,y))*b"
CASES = [
    SolveCase("Gaussian", GAUSS, ALIASES, [POINTS, RHS, NUMBER], lambda x, b, g: (x, x, b, g), gauss),
    SolveCase("y an equal copy", GAUSS, ALIASES, [POINTS, RHS, NUMBER], lambda x, b, g: (x, x + 0, b, g), gauss),
    SolveCase(
        "over i", GAUSS, ["x = Vi(2)", "y = Vj(2)", "b = Vi(2)", "g = Pm(1)"], [POINTS, RHS, NUMBER],
        lambda x, b, g: (x, x, b, g), gauss, axis=0,
    ),
    SolveCase(
        "positions out of order", GAUSS, ["g = Pm(3,1)", "b = Vj(0,2)", "y = Vj(2,2)", "x = Vi(1,2)"],
        [POINTS, RHS, NUMBER], lambda x, b, g: (b, x, x, g), lambda b, x, y, g: gauss(x, y, b, g),
    ),
    SolveCase(
        "linear kernel", "(x|y)*b+b*g**2", ALIASES, [POINTS, RHS, NUMBER], lambda x, b, g: (x, x, b, g),
        lambda x, y, b, g: x @ y.T + g**2,
    ),
    SolveCase(
        "exponential of a distance", "Exp(-Norm2(x-y))*b", ALIASES[:3], [POINTS, RHS], lambda x, b: (x, x, b), laplace,
    ),
    SolveCase(
        "matrix-valued", "Exp(-SqDist(x,y))*MatVecMult(P,b)", [*ALIASES[:3], "P = Pm(4)"], [POINTS, RHS, (D, D)],
        lambda x, b, L: (x, x, b, (L @ L.T + torch.eye(D, dtype=L.dtype)).reshape(-1)), bilinear,
    ),
    SolveCase(
        "derivatives of a kernel", "Grad(Grad(Exp(-g*SqDist(x,y)),y,1)|b,x,1)", ALIASES, [POINTS, RHS],
        lambda x, b: (x, x, b, torch.full((1,), 0.7, dtype=x.dtype)), hessian,
    ),
    SolveCase(
        "ranges", GAUSS, ALIASES, [POINTS, RHS, NUMBER], lambda x, b, g: (x, x, b, g),
        lambda *args: torch.where(MASK, gauss(*args), 0.0), options={"ranges": RANGES},
    ),
    SolveCase(
        "batches", GAUSS, ALIASES, [(3, *POINTS), RHS, (2, 1, 1)], lambda x, b, g: (x, x, b, g), gauss,
    ),
    SolveCase(
        "batches of right-hand sides", GAUSS, ALIASES, [POINTS, (3, *RHS), NUMBER], lambda x, b, g: (x, x, b, g), gauss,
    ),
    SolveCase(
        "batches with ranges", GAUSS, ALIASES, [(2, *POINTS), RHS, NUMBER], lambda x, b, g: (x, x, b, g),
        lambda *args: torch.where(MASK, gauss(*args), 0.0), options={"ranges": RANGES},
    ),
    SolveCase(
        "expanded and transposed", GAUSS, ALIASES, [(D, 1), (2, N), ()],
        lambda x, b, g: (_spread(x), _spread(x), b.T, g.expand(1)), gauss,
    ),
]  # fmt: skip


def _spread(x):
    """Points (N, D) along a curve, seen through a transpose."""
    return (x * torch.linspace(0.5, 2, N, dtype=x.dtype) + torch.linspace(-1, 1, N, dtype=x.dtype)).T
