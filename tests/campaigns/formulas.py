"""Random formulas, arrays and ranges, each made from a seed; and what a formula is at all pairs of points.

KERNELOPS_FUZZ_SEEDS says how many seeds a campaign tries (each has a small number of its own), KERNELOPS_FUZZ_FIRST
which is the first. A failure names its seed: KERNELOPS_FUZZ_SEEDS=1 KERNELOPS_FUZZ_FIRST=that repeats it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from language.interpreter import TRUTH

from kernelops.formula.defined import call
from kernelops.formula.expr import Expr, apply, const, topological, variable
from kernelops.formula.ops import OPS
from kernelops.ranges import Ranges

LENGTHS = (1, 1, 1, 2, 3, 3, 4, 5, 7, 8, 16, 17, 31, 32, 33, 48, 64, 70)  # of vectors, about the widths of registers
LONGEST = 150
CONSTANTS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0)
SWITCHES = (
    "Sign",
    "Step",
    "Floor",
    "Atan2",
    "Equal",
    "NotEqual",
    "LessThan",
    "LessOrEqual",
    "IfElse",
    "Clamp",
    "ReLU",
    "Abs",
)
PARTIAL = ("Log", "Sqrt", "Rsqrt", "Inv", "Divide", "Powf", "Pow")  # infinite or undefined somewhere
POWERS = (-3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 12)
EXTREMES = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-310, 1e-40, 1e38, 1e300, 60000.0)


def seeds(usual: int) -> range:
    """The seeds of a campaign that tries so many of them unless the environment says otherwise."""
    first = int(os.environ.get("KERNELOPS_FUZZ_FIRST", "0"))
    return range(first, first + int(os.environ.get("KERNELOPS_FUZZ_SEEDS", usual)))


@contextmanager
def named(seed: int) -> Iterator[None]:
    """Whatever is raised inside says of which seed it is."""
    try:
        yield
    except Exception as error:
        again = f"KERNELOPS_FUZZ_FIRST={seed} KERNELOPS_FUZZ_SEEDS=1"
        raise AssertionError(f"seed {seed} ({again}): {type(error).__name__}: {error}") from error


def one_of(r: np.random.Generator, some):
    return some[int(r.integers(len(some)))]


# ---- formulas ----------------------------------------------------------------------------------------------------


def leaves(r: np.random.Generator, longest: int = 70) -> list[Expr]:
    """The variables of a formula: of each kind some of length 1, of a common length and of another one."""
    d = one_of(r, [n for n in LENGTHS if n <= longest])
    lengths = [(kind, n) for kind in ("Vi", "Vj", "Pm") for n in sorted({1, d, one_of(r, (1, 2, 3, d))})]
    return [variable(kind, position, n) for position, (kind, n) in enumerate(lengths)]


def resized(r: np.random.Generator, e: Expr, d: int) -> Expr:
    """e with length d, or 1."""
    if e.dim in (1, d):
        return e
    if e.dim > d:
        return apply("Extract", e, params=(int(r.integers(0, e.dim - d + 1)), d))
    return apply("ExtractT", e, params=(int(r.integers(0, d - e.dim + 1)), d))


def random_expr(r: np.random.Generator, variables: list[Expr], depth: int, tame: bool = True) -> Expr:
    """Operations of all kinds; a tame formula has none that is infinite or undefined somewhere."""
    if depth <= 0 or r.random() < 0.08:
        if r.random() < 0.12:
            return const(one_of(r, CONSTANTS), one_of(r, (1, 1, max(v.dim for v in variables))))
        return one_of(r, variables)
    name = one_of(r, [n for n in OPS if not (tame and n in PARTIAL)])
    args = [random_expr(r, variables, depth - 1 - int(r.integers(2)), tame) for _ in range(OPS[name].arity)]
    if OPS[name].elementwise:
        longest = max(a.dim for a in args)
        args = [resized(r, a, longest) for a in args]
    if name == "Exp" and tame:
        return apply("Exp", apply("Minus", apply("Square", args[0])))
    if (name == "Concat" and args[0].dim + args[1].dim > LONGEST) or (name == "SliceT" and 2 * args[0].dim > LONGEST):
        return args[0]
    if name == "TensorDot":
        return tensor_dot(r, *args)
    return apply(name, *args, params=parameters(r, name, args[0].dim))


def parameters(r: np.random.Generator, name: str, d: int) -> tuple[int, ...]:
    """Static parameters of an operation whose operand has length d."""
    if name == "Pow":
        return (one_of(r, POWERS),)
    if name == "SinXDivX":
        return (one_of(r, (0, 0, 1, 2, 3, 5)),)
    if name == "Extract":
        start = int(r.integers(0, d))
        return start, int(r.integers(1, d - start + 1))
    if name == "ExtractT":
        start = int(r.integers(0, 4))
        return start, start + d + int(r.integers(0, 4))
    if name == "Slice":
        start, step = int(r.integers(0, d)), int(r.integers(1, 4))
        return start, int(r.integers(1, 2 + (d - 1 - start) // step)), step
    if name == "SliceT":
        start, step = int(r.integers(0, 4)), int(r.integers(1, 3))
        return start, start + (d - 1) * step + 1 + int(r.integers(0, 4)), step
    return ()


def _factorisations(d: int) -> list[tuple[int, ...]]:
    return [(d,), (1, d), (d, 1), *((k, d // k) for k in range(2, d) if d % k == 0)]


def tensor_dot(r: np.random.Generator, f: Expr, g: Expr) -> Expr:
    """A contraction of f with g over axes that fit; a sum where the result would be long."""
    dims = [
        one_of(r, [(d,), (1, d), (d, 1), *((k, d // k) for k in range(2, d) if d % k == 0)]) for d in (f.dim, g.dim)
    ]
    fitting = [(a, b) for a in range(len(dims[0])) for b in range(len(dims[1])) if dims[0][a] == dims[1][b]]
    pairs: list[tuple[int, int]] = []
    for k in r.permutation(len(fitting)):
        a, b = fitting[k]
        if r.random() < 0.6 and all(a != p and b != q for p, q in pairs):
            pairs.append((a, b))
    axes = [tuple(p[k] for p in pairs) for k in (0, 1)]
    kept = [d for k in (0, 1) for place, d in enumerate(dims[k]) if place not in axes[k]]
    if np.prod(kept) > LONGEST:
        longest = max(f.dim, g.dim)
        return apply("Add", resized(r, f, longest), resized(r, g, longest))
    permute = tuple(int(k) for k in r.permutation(len(kept)))
    return apply("TensorDot", f, g, params=(*dims, *axes, permute))


def _distances(r: np.random.Generator, x: Expr, y: Expr, scale: Expr) -> Expr:
    """What a kernel is a function of."""
    apart = apply("Subtract", x, y)
    choices: list[Callable[[], Expr]] = [
        lambda: call("SqDist", x, y),
        lambda: call("Scalprod", x, y),
        lambda: call("Norm2", apart),
        lambda: apply("Sum", apply("Abs", apart)),
        lambda: call("WeightedSqDist", scale, x, y),
        lambda: call("WeightedSqDist", apply("Square", x), x, y),
        lambda: apply("Add", call("SqDist", x, y), call("SqDist", x, y)),
        lambda: apply("Add", call("SqDist", x, y), apply("Mult", scale, call("Scalprod", x, y))),
        lambda: call("SqDist", apply("Mult", x, scale), apply("Mult", y, scale)),
    ]
    return one_of(r, choices)()


def _profiles(r: np.random.Generator, t: Expr, scale: Expr) -> Expr:
    choices: list[Callable[[], Expr]] = [
        lambda: apply("Exp", apply("Minus", t)),
        lambda: apply("Exp", apply("Mult", t, apply("Minus", scale))),
        lambda: apply("Exp", apply("Mult", const(-0.3), t)),
        lambda: apply("Mult", apply("Add", const(1), t), apply("Exp", apply("Minus", t))),
        lambda: apply("Inv", apply("Add", const(1), apply("Square", t))),
        lambda: apply("Cos", t),
        lambda: t,
    ]
    return one_of(r, choices)()


def kernel(r: np.random.Generator, variables: list[Expr]) -> Expr:
    """A formula that has instructions of its own: a kernel of a row's and a column's vector, times something."""
    x = one_of(r, [v for v in variables if v.op == "Vi"])
    y = one_of(r, [v for v in variables if v.op == "Vj" and v.dim == x.dim] or [v for v in variables if v.op == "Vj"])
    if y.dim != x.dim:
        longest = max(x.dim, y.dim)
        x, y = resized(r, x, longest), resized(r, y, longest)
    if r.random() < 0.25:
        x, y = y, x
    scale = one_of(r, [v for v in variables if v.dim == 1])
    if x.dim != y.dim:  # one of length 1
        t = call("SqDist", x, y)
    else:
        t = _distances(r, x, y, scale)
    k = _profiles(r, t, scale)
    b = one_of(r, variables)
    choices: list[Callable[[], Expr]] = [
        lambda: k,
        lambda: apply("Mult", k, b),
        lambda: apply("Mult", b, k),
        lambda: apply("Mult", k, apply("Subtract", x, y)),
        lambda: apply("Concat", apply("Mult", k, b), k),
    ]
    return one_of(r, choices)()


def random_formula(r: np.random.Generator, longest: int = 70, tame: bool = True) -> Expr:
    """A formula of either sort, over variables of its own."""
    variables = leaves(r, longest)
    if r.random() < 0.5:
        return kernel(r, variables)
    return random_expr(r, variables, int(r.integers(1, 6)), tame)


# ---- what they are at all pairs ----------------------------------------------------------------------------------


def values(expr: Expr, data, dtype) -> dict[Expr, np.ndarray]:
    """Every node of the formula at all pairs, by NumPy in dtype, (M or 1, N or 1, its length); data by position."""
    place = {"Vi": (slice(None), None), "Vj": (None, slice(None)), "Pm": (None, None)}
    done: dict[Expr, np.ndarray] = {}
    with np.errstate(all="ignore"):
        for node in topological(expr):
            if node.op == "Const":
                found = np.full((1, 1, node.dim), node.value, dtype)
            elif not node.args:
                found = np.asarray(data[node.position], dtype)[place[node.op]]
            else:
                args = [np.broadcast_to(done[a], (*done[a].shape[:-1], a.dim)) for a in node.args]
                found = np.asarray(TRUTH[node.op](*args, *node.params))
            done[node] = np.asarray(found, dtype)
    return done


def dense(expr: Expr, data, M: int, N: int, dtype=np.longdouble) -> np.ndarray:
    """The formula at all pairs, (M, N, its length)."""
    return np.broadcast_to(values(expr, data, dtype)[expr], (M, N, expr.dim))


# ---- data --------------------------------------------------------------------------------------------------------


def points(r: np.random.Generator, variables, M: int, N: int, dtype=np.float64, wild: bool = False) -> dict:
    """Arrays by position; those of a wild call hold infinities, NaN and numbers at the ends of the range."""
    shapes = {"Vi": (M,), "Vj": (N,), "Pm": ()}
    return {v.position: _array(r, (*shapes[v.op], v.dim), dtype, wild) for v in variables}


def _array(r: np.random.Generator, shape: tuple[int, ...], dtype, wild: bool) -> np.ndarray:
    found = r.uniform(0.2, 1.4, shape) * r.choice([-1, 1], shape)
    if wild and found.size:
        for k in r.integers(0, found.size, 3):
            found.flat[k] = one_of(r, EXTREMES)
    with np.errstate(all="ignore"):
        return found.astype(dtype)


def laid_out(r: np.random.Generator, a: np.ndarray) -> np.ndarray:
    """The same numbers in memory of another layout: strided, by columns, with the other order of bytes, unaligned."""
    how = int(r.integers(6))
    if how == 0 and a.ndim >= 2:
        wide = np.zeros((*a.shape[:-2], 2 * a.shape[-2], a.shape[-1] + 3), a.dtype)
        wide[..., ::2, 1 : 1 + a.shape[-1]] = a
        return wide[..., ::2, 1 : 1 + a.shape[-1]]
    if how == 1:
        return np.asfortranarray(a)
    if how == 2:
        return a.astype(a.dtype.newbyteorder(">"))
    if how == 3 and a.size:
        moved = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
        moved[...] = a
        return moved
    return a


def random_ranges(r: np.random.Generator, M: int, N: int) -> Ranges:
    """Blocks of rows and columns, some absent, in any order, sometimes with an order of the points."""

    def cuts(n: int) -> np.ndarray:
        edges = np.unique(r.integers(0, n + 1, 2 * int(r.integers(1, 6))))
        found = np.stack([edges[:-1], edges[1:]], 1)
        if r.random() < 0.4:
            found = found[r.random(len(found)) < 0.7]
        return found[r.permutation(len(found))] if r.random() < 0.3 else found

    rows, columns = cuts(M), cuts(N)
    found = Ranges.from_mask(rows, columns, r.random((len(rows), len(columns))) < one_of(r, (0.1, 0.5, 0.9)))
    if r.random() < 0.3:
        found = found.ordered(r.permutation(M), r.permutation(N) if r.random() < 0.7 else None)
    return found
