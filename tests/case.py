"""What one row of the table of cases is: a formula, its line of NumPy, and data for both."""

from dataclasses import dataclass
from typing import Any

import numpy as np

DECLARED = {
    "x": ("Vi", 3),
    "s": ("Vi", 1),
    "p": ("Vi", 3),
    "y": ("Vj", 3),
    "b": ("Vj", 2),
    "q": ("Vj", 3),
    "g": ("Pm", 1),
    "m": ("Pm", 6),
    "w": ("Pm", 9),
    "r": ("Pm", 3),
}
POSITIVE = "pqrg"


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes
    ----------
    name : str
        What it is called in the tests' names.
    formula : str
        Over the variables of the table above.
    truth : callable
        The variables of the formula, by name -> array (M, N, D) or one that broadcasts to it.
    units : float
        How many eps of the sum of magnitudes the formula may be off: each operation has its own rounding.
    """

    name: str
    formula: str
    truth: Any
    units: float = 16

    @property
    def variables(self) -> tuple[str, ...]:
        return self.truth.__code__.co_varnames[: self.truth.__code__.co_argcount]

    @property
    def aliases(self) -> list[str]:
        """The declarations, in the order of the truth's arguments."""
        return [f"{v} = {DECLARED[v][0]}({DECLARED[v][1]})" for v in self.variables]

    def data(self, M, N, dtype, seed=0):
        """Arrays by position: (M, d), (N, d) and (d,)."""
        rng = np.random.default_rng(seed)
        arrays = []
        for v in self.variables:
            place, d = DECLARED[v]
            a = rng.uniform(0.3, 1.6, {"Vi": (M, d), "Vj": (N, d), "Pm": (d,)}[place])
            arrays.append((a if v in POSITIVE else a * rng.choice([-1, 1], a.shape)).astype(dtype))
        return arrays

    def dense(self, arrays, dtype=np.float64):
        """The truth at all pairs: (..., M, N, D), computed in dtype."""
        at = {"Vi": (slice(None), None), "Vj": (None, slice(None)), "Pm": (None, None)}
        spread = [
            np.asarray(a, dtype)[(..., *at[DECLARED[v][0]], slice(None))]
            for v, a in zip(self.variables, arrays, strict=True)
        ]
        sizes = [1 if DECLARED[v][0] == "Pm" else a.shape[-2] for v, a in zip(self.variables, arrays, strict=True)]
        M, N = (
            max([n for v, n in zip(self.variables, sizes, strict=True) if DECLARED[v][0] == place], default=1)
            for place in ("Vi", "Vj")
        )
        found = np.asarray(self.truth(*spread))
        lead = np.broadcast_shapes(*(a.shape[:-3] for a in spread))
        return np.broadcast_to(found, (*lead, M, N, found.shape[-1]))


# ---- what the lines of NumPy are written with: vectors along the last axis ----


def dot(f, g):
    return (f * g).sum(-1, keepdims=True)


def alike(f):
    """All arrays of f stretched to the same leading dimensions."""
    lead = np.broadcast_shapes(*(a.shape[:-1] for a in f))
    return [np.broadcast_to(a, (*lead, a.shape[-1])) for a in f]


def join(*f):
    return np.concatenate(alike(f), axis=-1)


def embed(f, before, after):
    return np.pad(f, [(0, 0)] * (f.ndim - 1) + [(before, after)])


def as_rows(a, n):
    return a.reshape(*a.shape[:-1], n, -1)


def norm(f):
    return np.sqrt(dot(f, f))


def square(f):
    return (f * f).sum(-1, keepdims=True)


def flat(a):
    return a.reshape(*a.shape[:-2], -1)


def outer(f, g):
    return flat(f[..., :, None] * g[..., None, :])


def times(a, f):
    """The matrix a, row by row, times f."""
    return (as_rows(a, a.shape[-1] // f.shape[-1]) @ f[..., None])[..., 0]


def before(f, a):
    """The row vector f times the matrix a, row by row."""
    return (f[..., None, :] @ as_rows(a, f.shape[-1]))[..., 0, :]


def numbers(f):
    """Complex numbers from (re, im, re, im, ...)."""
    return f[..., ::2] + 1j * f[..., 1::2]


def pairs(z):
    return np.stack([z.real, z.imag], -1).reshape(*z.shape[:-1], -1)


def b_splines(knots, x, degree):
    """By the recursion as it is defined, function by function."""
    t = np.moveaxis(knots, -1, 0)[..., None]

    def value(i, d):
        if d == 0:
            return np.where((t[i] <= x) & (x < t[i + 1]), 1.0, 0.0)
        rising, falling = t[i + d] - t[i], t[i + d + 1] - t[i + 1]
        left = np.where(rising > 0, (x - t[i]) / np.where(rising > 0, rising, 1), 0)
        right = np.where(falling > 0, (t[i + d + 1] - x) / np.where(falling > 0, falling, 1), 0)
        return left * value(i, d - 1) + right * value(i + 1, d - 1)

    return join(*(value(i, degree) for i in range(len(t) - degree - 1)))


def soft_dtw(x, y, gamma):
    """By the table of alignments, cell by cell."""
    cells = {}
    for i in range(x.shape[-1]):
        for j in range(y.shape[-1]):
            ways = [cells[w] for w in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if w in cells]
            cost = (x[..., i : i + 1] - y[..., j : j + 1]) ** 2
            cells[i, j] = cost - gamma * np.log(sum(np.exp(-w / gamma) for w in ways)) if ways else cost
    return cells[i, j]


def sinc2(t):  # the second derivative of sin(t)/t
    return -np.sin(t) / t - 2 * np.cos(t) / t**2 + 2 * np.sin(t) / t**3
