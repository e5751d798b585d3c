"""Random formulas for Hypothesis, built from the operation table, over x, y (length 3), s, t (length 1)."""

import numpy as np
from hypothesis import strategies as st

from kernelops.formula.expr import apply, const, variable
from kernelops.formula.ops import OPS

X, Y = variable("Vi", 0, 3), variable("Vj", 1, 3)
S, T = variable("Vi", 2, 1), variable("Pm", 3, 1)
POINT = {X: [0.4, -0.8, 0.9], Y: [-0.5, 0.3, 0.6], S: [0.7], T: [1.3]}
POINT = {v: np.array(a) for v, a in POINT.items()}

# smooth on the whole line, with values that stay moderate
TAME = ("Minus", "Square", "Sin", "Cos", "Tanh", "SinXDivX", "Add", "Subtract", "Mult", "Sum")
TAME = (*TAME, "Extract", "ExtractT", "Slice", "SliceT", "Concat")
TAME_TENSOR = (*TAME, "TensorDot")

CONSTANTS = st.builds(const, st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]), st.sampled_from([1, 3]))
LEAVES = st.sampled_from([X, Y, S, T]) | CONSTANTS


@st.composite
def operation(draw, operands, names):
    name = draw(st.sampled_from(names))
    args = [draw(operands) for _ in range(OPS[name].arity)]
    longest = max(a.dim for a in args)
    if OPS[name].elementwise:
        args = [_resized(a, longest) for a in args]
    return apply(name, *args, params=draw(parameters(name, [a.dim for a in args])))


def _resized(a, d):
    if a.dim in (1, d):
        return a
    return apply("Extract", a, params=(0, d)) if a.dim > d else apply("ExtractT", a, params=(d - a.dim, d))


@st.composite
def parameters(draw, name, dims):
    if name == "Pow":
        return (draw(st.integers(-3, 4)),)
    if name == "SinXDivX":
        return (draw(st.integers(0, 2)),)
    if name == "Extract":
        start = draw(st.integers(0, dims[0] - 1))
        return start, draw(st.integers(1, dims[0] - start))
    if name == "Slice":
        start, step = draw(st.integers(0, dims[0] - 1)), draw(st.integers(1, 3))
        return start, draw(st.integers(1, 1 + (dims[0] - 1 - start) // step)), step
    if name == "SliceT":
        start, step = draw(st.integers(0, 2)), draw(st.integers(1, 3))
        return start, start + (dims[0] - 1) * step + 1 + draw(st.integers(0, 2)), step
    if name == "ExtractT":
        start = draw(st.integers(0, 2))
        return start, start + dims[0] + draw(st.integers(0, 2))
    return draw(contraction(dims)) if name == "TensorDot" else ()


@st.composite
def contraction(draw, dims):
    shapes = [draw(st.sampled_from(_factorisations(d))) for d in dims]
    free = [list(range(len(s))) for s in shapes]
    pairs = []
    while draw(st.booleans()):
        fitting = [(a, b) for a in free[0] for b in free[1] if shapes[0][a] == shapes[1][b]]
        if not fitting:
            break
        a, b = draw(st.sampled_from(fitting))
        free[0].remove(a)
        free[1].remove(b)
        pairs.append((a, b))
    permute = draw(st.permutations(range(len(free[0]) + len(free[1]))))
    return (*shapes, tuple(a for a, _ in pairs), tuple(b for _, b in pairs), tuple(permute))


def _factorisations(d):
    found = [(d,), (1, d)]
    return found + [(k, d // k) for k in range(2, d) if d % k == 0]


def formulas(names=tuple(OPS), leaves=12):
    """Expressions made of the named operations."""
    found = st.recursive(LEAVES, lambda operands: operation(operands, names), max_leaves=leaves)
    return found.filter(lambda e: e.dim <= 60)
