"""Random calls of the engine, each made of one whole number: formula, reduction, sizes, layouts in memory, ranges."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kernelops.formula.defined import call
from kernelops.formula.expr import apply, const, topological, variable
from kernelops.formula.grad import grad
from kernelops.formula.ops import OPS
from kernelops.formula.simplify import simplify
from kernelops.ranges import Ranges
from kernelops.reductions.kinds import REDUCTIONS

LENGTHS = (1, 1, 1, 2, 3, 3, 4, 5, 8, 17, 32, 33, 64, 70)  # of vectors; from 32 on their distances are wide ones
SIZES = (
    0,
    1,
    2,
    3,
    31,
    63,
    64,
    65,
    255,
    256,
    257,
    300,
    513,
)  # of arrays, around tasks of 64 rows and tiles of 256 columns
MIRRORED = (1024, 1025, 1300)  # points from which a symmetric sum evaluates each pair once
BATCHES = ((), (), (), (1,), (2,), (2, 3), (3, 1), (0,))
KEPT = (1, 2, 3, 4, 7, 8, 9, 16, 17, 40, 300)
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-310, 1e-40, 1e38, 1e300)
MOST_WORK = 1.5e6  # numbers of a dense oracle
ACCUMULATORS = {
    "float16": ("auto", "float16", "float32"),
    "float32": ("auto", "float32", "float64"),
    "float64": ("auto", "float64"),
}
SCHEMES = ("auto", "block_sum", "direct_sum", "kahan_scheme")


@dataclass
class Case:
    """One call. ``same`` holds what must not change a bit of its result."""

    expr: Any
    weight: Any
    op: str  # of REDUCTIONS, or "entries"
    axis: int
    kept: int | None
    M: int
    N: int
    batch: tuple
    dtype: str
    accumulator: str
    scheme: str
    arrays: list
    ranges: Any
    special: bool

    def __str__(self):
        shapes = [None if a is None else (a.shape, a.strides) for a in self.arrays]
        return (
            f"{self.op} (K = {self.kept}) over axis {self.axis} of {self.expr}, weight {self.weight}; "
            f"M, N = {self.M}, {self.N}, batch {self.batch}, {self.dtype}, {self.accumulator}, {self.scheme}, "
            f"ranges {self.ranges}, arrays {shapes}"
        )


def make(seed):
    """The call that belongs to a number."""
    rng = np.random.default_rng(seed)
    leaves = _leaves(rng)
    expr = _known(rng, leaves) if rng.random() < 0.5 else _grown(rng, leaves, int(rng.integers(1, 5)))
    if rng.random() < 0.25 and expr.vars:
        expr = grad(expr, _any(rng, expr.vars), variable(_any(rng, ("Vi", "Vj", "Pm")), 20, expr.dim))
    expr = simplify(expr) if rng.random() < 0.3 else expr
    op = "Sum" if rng.random() < 0.4 else _any(rng, [*REDUCTIONS, "entries"])
    kind = REDUCTIONS.get(op)
    weight = None
    if kind is not None and kind.accumulator == "exp":
        expr = expr if expr.dim == 1 else apply("Sum", expr)
        if kind.weighted or (kind.weighted is None and rng.random() < 0.5):
            weight = _grown(rng, leaves, 1)
    kept = int(_any(rng, KEPT)) if kind is not None and kind.many else None
    M, N = int(_any(rng, SIZES)), int(_any(rng, SIZES))
    square = rng.random() < 0.3
    if square:
        M = N = (
            int(_any(rng, MIRRORED)) if rng.random() < 0.3 and expr.dim == 1 and len(list(topological(expr))) < 8 else M
        )
    wide = sum(node.dim for e in (expr, weight) if e is not None for node in topological(e))
    while M * N * wide > MOST_WORK and max(M, N) > 2 and not (M == N and M in MIRRORED and wide < 20):
        M, N = (M // 2, N) if M >= N else (M, N // 2)
    batch = () if M * N * wide > MOST_WORK / 8 else _any(rng, BATCHES)
    dtype = str(_any(rng, ("float16", "float32", "float32", "float64", "float64")))
    if not any(e.vars for e in (expr, weight) if e is not None):
        dtype = "float64"  # that of a call without arrays
    special = bool(rng.random() < 0.15)
    arrays = _arrays(
        rng, [e for e in (expr, weight) if e is not None], {"Vi": (M,), "Vj": (N,), "Pm": ()}, batch, dtype, special
    )
    if square and M == N and rng.random() < 0.8:
        _share(arrays, [v for e in (expr, weight) if e is not None for v in e.vars], M)
    leads = [arrays[v.position].shape[: -1 - (v.op != "Pm")] for e in (expr, weight) if e is not None for v in e.vars]
    batch = np.broadcast_shapes(*leads)
    ranges = _ranges(rng, M, N) if rng.random() < 0.3 else None
    accumulator, scheme = str(_any(rng, ACCUMULATORS[dtype])), str(_any(rng, SCHEMES))
    if op == "entries":
        accumulator = scheme = "auto"
    return Case(
        expr, weight, op, int(rng.integers(2)), kept, M, N, batch, dtype, accumulator, scheme, arrays, ranges, special
    )


def _any(rng, items):
    return items[int(rng.integers(len(items)))]


# ---- formulas -------------------------------------------------------------------------------------------------------


def _leaves(rng):
    """Variables of three kinds and of some lengths."""
    d = int(_any(rng, LENGTHS))
    lengths = [sorted({1, d, int(_any(rng, (1, 2, 3, d)))}) for _ in range(3)]
    found = [(kind, n) for kind, some in zip(("Vi", "Vj", "Pm"), lengths, strict=True) for n in some]
    return [variable(kind, place, n) for place, (kind, n) in enumerate(found)]


def _fitted(rng, expr, d):
    """A part of a vector, or the vector among zeros: of length d; of length 1 as it is."""
    if expr.dim in (1, d):
        return expr
    if expr.dim > d:
        return apply("Extract", expr, params=(int(rng.integers(expr.dim - d + 1)), d))
    return apply("ExtractT", expr, params=(int(rng.integers(d - expr.dim + 1)), d))


def _grown(rng, leaves, depth):
    """A tree of any operations."""
    if depth == 0 or rng.random() < 0.1:
        return const(float(_any(rng, (-2, -1, 0, 0.5, 1, 3)))) if rng.random() < 0.15 else _any(rng, leaves)
    name = _any(rng, list(OPS))
    args = [_grown(rng, leaves, depth - 1 - int(rng.integers(2) * (depth > 1))) for _ in range(OPS[name].arity)]
    if OPS[name].elementwise:
        longest = max(a.dim for a in args)
        args = [_fitted(rng, a, longest) for a in args]
    if name in ("Log", "Sqrt", "Rsqrt", "Powf") and rng.random() < 0.7:  # of something positive, mostly
        args[0] = apply("Add", const(0.25), apply("Square", args[0]))
    if name == "Exp" and rng.random() < 0.7:
        args[0] = apply("Minus", apply("Abs", args[0]))
    if (name == "Concat" and args[0].dim + args[1].dim > 100) or (name == "SliceT" and args[0].dim > 50):
        return args[0]
    if name == "TensorDot":
        return _contraction(rng, *args)
    return apply(name, *args, params=_parameters(rng, name, args))


def _parameters(rng, name, args):
    if name == "Pow":
        return (int(_any(rng, (-3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 12))),)
    if name == "SinXDivX":
        return (int(_any(rng, (0, 1, 2, 3, 7))),)
    if name == "Extract":
        start = int(rng.integers(args[0].dim))
        return start, int(rng.integers(1, args[0].dim - start + 1))
    if name == "ExtractT":
        start = int(rng.integers(4))
        return start, start + args[0].dim + int(rng.integers(4))
    if name == "Slice":
        start, step = int(rng.integers(args[0].dim)), int(rng.integers(1, 4))
        return start, int(rng.integers(1, 2 + (args[0].dim - 1 - start) // step)), step
    if name == "SliceT":
        start, step = int(rng.integers(4)), int(rng.integers(1, 3))
        return start, start + (args[0].dim - 1) * step + 1 + int(rng.integers(4)), step
    return ()


def _contraction(rng, f, g):
    """TensorDot over some axes that fit; a sum of both where it would be large."""
    shapes = [_any(rng, [(e.dim,), *((k, e.dim // k) for k in range(1, e.dim + 1) if e.dim % k == 0)]) for e in (f, g)]
    over_f, over_g = [], []
    for i, n in enumerate(shapes[0]):
        fitting = [k for k, m in enumerate(shapes[1]) if m == n and k not in over_g]
        if fitting and rng.random() < 0.6:
            over_f.append(i)
            over_g.append(int(_any(rng, fitting)))
    kept = [n for k, n in enumerate(shapes[0]) if k not in over_f] + [
        n for k, n in enumerate(shapes[1]) if k not in over_g
    ]
    if np.prod(kept, dtype=float) > 100:
        longest = max(f.dim, g.dim)
        return apply("Add", _fitted(rng, f, longest), _fitted(rng, g, longest))
    order = tuple(int(k) for k in rng.permutation(len(kept)))
    return apply("TensorDot", f, g, params=(*shapes, tuple(over_f), tuple(over_g), order))


def _known(rng, leaves):
    """Kernels that have instructions of their own, times something or nothing."""
    x, y, w = (_any(rng, [v for v in leaves if v.op == kind]) for kind in ("Vi", "Vj", "Pm"))
    y = y if y.dim == x.dim else _any(rng, [v for v in leaves if v.op == "Vj" and v.dim in (1, x.dim)])
    if rng.random() < 0.2:
        x, y = y, x
    longest, number = max(x.dim, y.dim), _any(rng, [v for v in leaves if v.dim == 1])
    difference = apply("Subtract", x, y)
    distances = [
        lambda: call("SqDist", x, y),
        lambda: call("SqDist", x, y),
        lambda: call("SqDist", apply("Mult", x, number), apply("Mult", y, number)),
        lambda: apply("Sum", apply("Mult", x, y)) if longest > 1 else apply("Mult", x, y),
        lambda: apply("Sum", apply("Abs", difference)) if longest > 1 else apply("Abs", difference),
        lambda: call("WeightedSqDist", _fitted(rng, w, longest), x, y),
        lambda: call("Norm2", difference),
    ]
    distance = _any(rng, distances)()
    profiles = [
        lambda: apply("Exp", apply("Minus", distance)),
        lambda: apply("Exp", apply("Mult", distance, apply("Minus", apply("Square", number)))),
        lambda: apply(
            "Mult", apply("Add", const(1), distance), apply("Exp", apply("Mult", const(-0.3), apply("Abs", distance)))
        ),
        lambda: apply("Inv", apply("Add", const(1), apply("Square", distance))),
        lambda: apply("Cos", distance),
        lambda: distance,
    ]
    kernel = _any(rng, profiles)()
    factor = _any(rng, [None, *leaves, difference, difference])
    if factor is None:
        return kernel
    if rng.random() < 0.15:
        return apply("Concat", apply("Mult", kernel, factor), kernel)
    return apply("Mult", kernel, factor) if rng.random() < 0.7 else apply("Mult", factor, kernel)


# ---- arrays ---------------------------------------------------------------------------------------------------------


def _arrays(rng, exprs, rows, batch, dtype, special):
    used = {v.position: v for e in exprs for v in e.vars}
    arrays = [None] * (max(used, default=-1) + 1)
    for place, v in used.items():
        lead = tuple(1 if rng.random() < 0.3 else n for n in batch)[int(rng.integers(len(batch) + 1)) :]
        numbers = rng.uniform(0.2, 1.3, (*lead, *rows[v.op], v.dim))
        numbers = numbers * rng.choice([-1, 1], numbers.shape)
        if special and numbers.size:
            places = rng.integers(numbers.size, size=int(rng.integers(1, 4)))
            numbers.reshape(-1)[places] = rng.choice(SPECIAL, len(places))
        with np.errstate(all="ignore"):
            arrays[place] = _laid(rng, numbers.astype(dtype))
    return arrays


def _laid(rng, a):
    """The same numbers in another place, order or distance in memory."""
    how = int(rng.integers(8)) if a.ndim > 1 else 6 + int(rng.integers(2))
    if how == 0:  # rows and components apart
        around = np.zeros((*a.shape[:-2], 2 * a.shape[-2], a.shape[-1] + 3), a.dtype)
        around[..., ::2, 1 : 1 + a.shape[-1]] = a
        return around[..., ::2, 1 : 1 + a.shape[-1]]
    if how == 1:  # rows from the last to the first
        return np.ascontiguousarray(a[..., ::-1, :])[..., ::-1, :]
    if how == 2:
        return np.asfortranarray(a)
    if how == 3:  # components from the last to the first
        return np.ascontiguousarray(a[..., ::-1])[..., ::-1]
    if how == 4 and a.shape[-2]:  # all rows one
        return np.broadcast_to(a[..., :1, :], a.shape)
    if how == 7:  # behind one byte of something else
        record = np.zeros(a.shape[:-1], np.dtype([("flag", "u1"), ("numbers", a.dtype, a.shape[-1:])]))
        record["numbers"] = a
        return record["numbers"]
    return a


def _share(arrays, variables, rows):
    """Variables of i and of j that have one shape are one array."""
    kept = {}
    for v in variables:
        a = arrays[v.position]
        if v.op in ("Vi", "Vj") and a.shape[-2] == rows:
            arrays[v.position] = kept.setdefault(a.shape, a)


def _ranges(rng, M, N):
    blocks = [_blocks(rng, n) for n in (M, N)]
    found = Ranges.from_mask(*blocks, rng.random((len(blocks[0]), len(blocks[1]))) < _any(rng, (0.1, 0.5, 0.9)))
    if rng.random() < 0.3:
        found = found.ordered(rng.permutation(M), rng.permutation(N) if rng.random() < 0.7 else None)
    return found


def _blocks(rng, n):
    """Intervals that share nothing: in any order, some left out."""
    cuts = np.unique(rng.integers(0, n + 1, int(rng.integers(2, 12))))
    found = np.stack([cuts[:-1], cuts[1:]], axis=1)
    found = found[rng.random(len(found)) < 0.8]
    return rng.permutation(found) if rng.random() < 0.3 else found
