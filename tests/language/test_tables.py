"""One row per operation in every table of the language, and rows that say the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import TRUTH, evaluate
from strategies import POINT, S, T, X, Y, parameters

from kernelops.errors import FormulaError
from kernelops.formula.defined import DEFINED, call, signature
from kernelops.formula.expr import apply, const, variable
from kernelops.formula.grad import RULES
from kernelops.formula.ops import OPS
from kernelops.formula.parse import parse

M, W = variable("Vj", 4, 6), variable("Pm", 5, 9)
POINT = POINT | {M: np.arange(6) / 4 - 0.6, W: np.cos(np.arange(9))}


def test_one_row_per_operation_in_every_table():
    assert set(OPS) == set(RULES) == set(TRUTH)
    assert not set(DEFINED) & set(OPS)


@pytest.mark.parametrize("name", [*OPS, *DEFINED])
def test_rows_are_complete(name):
    row = OPS.get(name) or DEFINED[name]
    written = signature(name)
    assert row.text and not row.text.endswith(".")
    assert written.startswith(f"{name}(") and written.count(",") + 1 == row.arity + len(row.params)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(OPS)), st.data())
def test_the_length_is_that_of_the_value(name, data):
    args = [data.draw(st.sampled_from([X, Y, S, const(2), const(2, 3)])) for _ in range(OPS[name].arity)]
    node = apply(name, *args, params=data.draw(parameters(name, [a.dim for a in args])))
    assert np.shape(evaluate(node, POINT)) == (node.dim,)


@pytest.mark.parametrize("name", [n for n, row in OPS.items() if row.elementwise])
def test_elementwise_is_elementwise(name):
    """Component k of the result needs only component k of the operands, or their only one."""
    params = {"Pow": (3,), "SinXDivX": (1,)}.get(name, ())
    whole = [X, Y, S][: OPS[name].arity]
    parts = [a if a.dim == 1 else call("Elem", a, params=(1,)) for a in whole]
    one, all_of_it = (evaluate(apply(name, *a, params=params), POINT) for a in (parts, whole))
    np.testing.assert_allclose(one[0], all_of_it[1], rtol=1e-14)


x, y, s, t, m, w = (POINT[v] for v in (X, Y, S, T, M, W))
VALUES = [  # a defined operation, and its value by hand
    ("IntCst(3)", [3]),
    ("IntInv(4)", [0.25]),
    ("RatCst(2,-5)", [-0.4]),
    ("Zero(2)", [0, 0]),
    ("SqNorm2(x)", [x @ x]),
    ("Norm2(x)", [np.linalg.norm(x)]),
    ("Normalize(x)", x / np.linalg.norm(x)),
    ("Normalize(Zero(2))", [0, 0]),
    ("ClampInt(3*x,-1,2)", np.clip(3 * x, -1, 2)),
    ("Elem(x,2)", x[2:]),
    ("ElemT(s,4,2)", [0, 0, s[0], 0]),
    ("SumT(s,3)", np.repeat(s, 3)),
    ("SumT(x|y,2)", np.repeat(x @ y, 2)),
    ("Scalprod(x,y)", [x @ y]),
    ("x|s", [x.sum() * s[0]]),
    ("SqDist(x,y)", [(x - y) @ (x - y)]),
    ("SqDist(s,t)", (s - t) ** 2),
    ("WeightedSqNorm(s,x)", s * (x @ x)),
    ("WeightedSqNorm(y,x)", [x @ np.diag(y) @ x]),
    ("WeightedSqNorm(w,x)", [x @ w.reshape(3, 3) @ x]),
    ("WeightedSqDist(w,x,y)", [(x - y) @ w.reshape(3, 3) @ (x - y)]),
    ("MatVecMult(m,x)", m.reshape(2, 3) @ x),
    ("VecMatMult(x,m)", x @ m.reshape(3, 2)),
    ("TensorProd(x,m)", np.outer(x, m).ravel()),
    ("TensorDot(m,w,[2,3],[3,3],[1],[0])", (m.reshape(2, 3) @ w.reshape(3, 3)).ravel()),
    ("SinXDivX(x)", np.sin(x) / x),
    ("SinXDivX(x,1)", np.cos(x) / x - np.sin(x) / x**2),
    # the dimension at place k of the outer product becomes dimension permute[k], as in KeOps 2.3
    (
        "TensorDot(m,TensorProd(x,m),[2,3],[3,2,3],[],[],[3,0,4,1,2])",
        np.einsum("ab,cde->bdeac", m.reshape(2, 3), np.multiply.outer(x, m.reshape(2, 3))).ravel(),
    ),
]


@pytest.mark.parametrize(("formula", "want"), VALUES)
def test_values(formula, want):
    expr = parse(formula, ["x = Vi(3)", "y = Vj(3)", "s = Vi(1)", "t = Pm(1)", "m = Vj(6)", "w = Pm(9)"]).expr
    got = evaluate(expr, POINT)
    assert got.shape == (expr.dim,)
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-15)


def test_every_defined_operation_has_a_value_by_hand():
    assert all(any(f"{name}(" in formula for formula, _ in VALUES) for name in DEFINED)


def test_call_counts_its_arguments():
    with pytest.raises(FormulaError, match=r"SqDist\(f, g\) got 1 argument"):
        call("SqDist", X)
    with pytest.raises(FormulaError, match="Exp takes 1 argument"):
        call("Exp", X, Y)
