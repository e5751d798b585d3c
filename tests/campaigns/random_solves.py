"""Random solves, each made of one whole number: matrix, right-hand sides, scales, options and the door it goes through.

The matrix is known in long double, from the arrays as they are stored, so that what a solve claims can be judged.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from kernelops import KernelOperator, Ranges, SolveState, cg, solve
from kernelops.numpy import KernelSolve

WIDE = np.longdouble
KERNELS = {  # formula; the same of squared distances s and products d; whether it is positive semidefinite
    "gauss": ("Exp(-g*SqDist(x,y))", lambda s, d, g: np.exp(-g * s), True),
    "laplace": ("Exp(-g*Norm2(x-y))", lambda s, d, g: np.exp(-g * np.sqrt(s)), True),
    "cauchy": ("Inv(1+g*SqDist(x,y))", lambda s, d, g: 1 / (1 + g * s), True),
    "linear": ("g*(x|y)", lambda s, d, g: g * d, True),
    "polynomial": ("Square(1+g*(x|y))", lambda s, d, g: (1 + g * d) ** 2, True),
    "constant": ("g*IntCst(1)+0*SqDist(x,y)", lambda s, d, g: g + 0 * s, True),
    "minus squares": ("-g*SqDist(x,y)", lambda s, d, g: -g * s, False),
    "distance": ("g*Norm2(x-y)", lambda s, d, g: g * np.sqrt(s), False),
    "multiquadric": ("Sqrt(1+g*SqDist(x,y))", lambda s, d, g: np.sqrt(1 + g * s), False),
    "inverse distance": ("g*Inv(SqDist(x,y))", lambda s, d, g: g / s, False),  # infinite on the diagonal
}
DTYPES = ("float16", "float32", "float32", "float64", "float64", "float64")
SPANS = {"float16": 3, "float32": 36, "float64": 300}  # decades of scales on either side of 1
DOORS = ("kernel", "kernel", "batch", "operator", "operator", "array", "sparse", "products", "cg")
SIZES = (0, 1, 1, 2, 3, 5, 10, 30, 64, 65, 100)
METHODS = ("auto", "auto", "cg", "block_cg", "direct")
PRECONDS = ("auto", "auto", None, "pivoted_cholesky", "fsai", "nystrom", "jacobi")
LOW_RANK = ("pivoted_cholesky", "nystrom")
TOLERANCES = (1e-6, 1e-6, 1e-6, 1e-2, 1e-9, 1e-12, 0.0, 1.0)


@dataclass
class Case:
    """One solve. A, (..., n, n), and b, (..., n, k), are in long double; options are those of the door."""

    door: str
    kernel: str
    dtype: str
    scale: Any
    alpha: Any
    b_scale: float
    options: dict
    x0: str
    M: str
    A: np.ndarray = field(repr=False)
    b: np.ndarray = field(repr=False)
    data: dict = field(repr=False)

    @property
    def refusable(self):
        """Whether the options do not go with the matrix: low rank without alpha, entries of what has products alone."""
        precond, alpha = self.options.get("precond"), np.min(self.alpha, initial=np.inf)
        if self.door in ("sparse", "products"):
            return precond in ("pivoted_cholesky", "fsai", "jacobi") or self.options["method"] == "direct"
        if self.door == "array":
            return precond == "pivoted_cholesky"
        return precond in LOW_RANK and not alpha > 0

    @property
    def clean(self):
        """Whether nothing but the matrix and the tolerance can keep the solve from converging."""
        return self.M == "none" and self.x0 in ("none", "Mb", "random") and self.options["maxiter"] is None


def make(seed):
    """The case that belongs to a number."""
    r = np.random.default_rng(seed)
    door, name, dtype = (str(_any(r, of)) for of in (DOORS, KERNELS, DTYPES))
    n, D, k = (int(_any(r, of)) for of in (SIZES, (1, 2, 3, 5), (1, 1, 2, 3, 5)))
    k = 1 if door == "cg" else k
    elements = 2 if door == "batch" else 1
    x, g = _points(r, n, D).astype(dtype), np.dtype(dtype).type(10.0 ** r.uniform(-1, 1.5))
    span = SPANS[dtype]
    scale = 10.0 ** (r.uniform(-span, span, (elements, 1)) if r.random() < 0.5 else np.zeros((elements, 1)))
    scale = scale.astype(dtype)
    alpha = 10.0 ** r.uniform(-8, 1) * scale.astype(np.float64) * (r.random() > 0.15)
    if r.random() < 0.2 and n:
        alpha = alpha * r.random((elements, n)) * (r.random((elements, n)) > 0.2 * r.integers(2))
    b_span = {"float16": 2, "float32": 30, "float64": 280}[dtype]
    b_scale = 10.0 ** r.uniform(-b_span, b_span) if r.random() < 0.4 else 1.0
    b = _right_hand_sides(r, (elements, n, k) if door == "batch" else (n, k)) * b_scale
    b = b.astype(dtype)

    text, function, _ = KERNELS[name]
    wide = x.astype(WIDE)
    squares = ((wide[:, None] - wide) ** 2).sum(-1)
    with np.errstate(all="ignore"):
        K = scale.astype(WIDE)[:, :, None] * function(squares, wide @ wide.T, g.astype(WIDE))
    ranges = _pattern(r, n) if r.random() < 0.15 and n > 3 and door in ("kernel", "operator") else None
    if ranges is not None:
        K = np.where(ranges.mask(n, n), K, 0)
    A = K + alpha.astype(WIDE)[:, :, None] * np.eye(n, dtype=WIDE)
    A = A if door == "batch" else A[0]
    if door in ("array", "sparse", "products"):
        with np.errstate(all="ignore"):
            A = A.astype("float32" if dtype == "float32" else "float64").astype(WIDE)

    options = {"rtol": float(_any(r, TOLERANCES)), "maxiter": _any(r, (None, None, None, None, 0, 1, 7))}
    options["atol"] = float(_any(r, (0, 0, 0, 0, 1e-3))) * float(np.abs(b[np.isfinite(b)]).max(initial=0))
    M = (
        str(_any(r, ("jacobi", "minus", "zero", "skew", "nan", "tiny", "huge", "random")))
        if r.random() < 0.15
        else "none"
    )
    M = "none" if door == "batch" else M
    x0 = str(_any(r, ("Mb", "random", "1e30", "1e300", "nan"))) if r.random() < 0.2 else "none"
    if door != "cg":
        method = str(_any(r, METHODS if M == "none" else METHODS[:-1]))
        precond = _any(r, PRECONDS) if M == "none" and method != "direct" else "auto"
        options |= {"method": method, "precond": precond, "on_fail": "ignore"}
        if r.random() < 0.15:
            options["state"] = SolveState()
    with np.errstate(all="ignore"):
        if M != "none":
            options["M"] = _preconditioner(r, M, A.astype(np.float64))
        if x0 != "none":
            options["x0"] = _start(r, x0, b.shape)
    data = {"text": text, "x": x, "g": g, "ranges": ranges, "given": b, "again": bool(r.integers(2))}
    return Case(door, name, dtype, scale, alpha, b_scale, options, x0, M, A, b.astype(WIDE), data)


def run(case):
    """What comes out: the array that is returned, and the Solution, or the info of cg."""
    d, o = case.data, case.options
    x, b, k = d["x"], d["given"], d["given"].shape[-1]
    aliases = [f"x = Vi({x.shape[1]})", f"y = Vj({x.shape[1]})", f"b = Vj({k})", "g = Pm(1)", "c = Pm(1)"]
    formula = f"c*({d['text']})*b"
    if case.door in ("kernel", "batch"):
        alpha, c = (case.alpha[0], case.scale[0]) if case.door == "kernel" else (case.alpha[:, :, None], case.scale)
        solver = KernelSolve(formula, aliases, "b", axis=1)

        def once():
            return solver(x, x, b, d["g"], c, alpha=alpha, ranges=d["ranges"], return_solution=True, **o)

        return once() if "state" in o and d["again"] and once() is None else once()
    with np.errstate(all="ignore"):
        A = case.A.astype("float32" if case.dtype == "float32" and case.door == "array" else "float64")
    if case.door in ("operator", "cg"):
        arrays = x, x, d["g"], case.scale[0]
        A = KernelOperator(formula, aliases, "b", *arrays, alpha=case.alpha[0], ranges=d["ranges"])
    elif case.door == "sparse":
        A = csr_array(A)
    elif case.door == "products":
        A = aslinearoperator(A) if d["again"] else LinearOperator(A.shape, matvec=lambda v, A=A: A @ v, dtype=A.dtype)
    if case.door == "cg":
        o = {**o, "x0": o["x0"] if isinstance(o.get("x0"), (str, type(None))) else o["x0"][:, 0]} if "x0" in o else o
        found, info = cg(A, b[:, 0], **o)
        return found[:, None], info
    solution = solve(A, b, **o)
    return None, solution


def _any(r, of):
    of = list(of)
    return of[int(r.integers(len(of)))]


def _points(r, n, D):
    x = r.random((n, D)) * float(_any(r, (0.01, 1, 1, 1, 10)))
    if n > 1 and r.random() < 0.15:
        x = x[r.integers(0, max(1, n // 2), n)]  # some of them twice
    return np.repeat(x[:1], n, axis=0) if r.random() < 0.03 else x


def _right_hand_sides(r, shape):
    b = r.standard_normal(shape)
    if r.random() < 0.1:
        b[..., 0] = 0
    if r.random() < 0.1 and shape[-1] > 1:
        b[..., 0] = b[..., 1]
    if r.random() < 0.03 and b.size:
        b.reshape(-1)[int(r.integers(b.size))] = _any(r, (np.nan, np.inf))
    return b


def _pattern(r, n):
    cuts = np.unique(np.concatenate([[0, n], r.integers(0, n, 4)]))
    blocks = np.stack([cuts[:-1], cuts[1:]], 1)
    kept = r.random((len(blocks), len(blocks))) < 0.6
    return Ranges.from_mask(blocks, blocks, kept | kept.T | np.eye(len(blocks), dtype=bool))


def _preconditioner(r, name, A):
    n = len(A)
    if name == "jacobi":
        diagonal = np.abs(np.diagonal(A))
        return np.diag(1 / np.where(np.isfinite(diagonal) & (diagonal > 0), diagonal, 1.0))
    root = r.standard_normal((n, n)) / max(1, n) ** 0.5
    made = {
        "minus": -np.eye(n),
        "zero": np.zeros((n, n)),
        "skew": root,
        "nan": np.eye(n) * np.where(np.arange(n) == 0, np.nan, 1.0)[:, None] if n else np.eye(n),
        "tiny": 1e-300 * np.eye(n),
        "huge": 1e200 * np.eye(n),
        "random": root @ root.T + 0.01 * np.eye(n),
    }
    return made[name]


def _start(r, name, shape):
    if name == "Mb":
        return "Mb"
    if name == "nan":
        return np.full(shape, np.nan)
    return r.standard_normal(shape) * {"random": 1.0, "1e30": 1e30, "1e300": 1e300}[name]
