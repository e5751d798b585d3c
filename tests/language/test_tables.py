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
    ("SqNormIso(s,x)", s * (x @ x)),
    ("SqNormDiag(y,x)", [x @ np.diag(y) @ x]),
    ("SymSqNorm(w,x)", [x @ w.reshape(3, 3) @ x]),
    ("Kron(m,w,[2,3],[3,3])", np.kron(m.reshape(2, 3), w.reshape(3, 3)).ravel()),
    ("Kron(x,y,[3],[3])", np.kron(x, y)),
    ("Factorize(Exp(x*y)+x*y,x*y)", np.exp(x * y) + x * y),
    ("AutoFactorize(x-y)", x - y),
    ("DiffClampInt(3*x,-1,2)", (3 * x >= -1) & (3 * x <= 2)),
    ("Asin(x)", np.arcsin(x)),
    ("Asin(Concat(Concat(1,-1),Concat(0,2)))", [np.pi / 2, -np.pi / 2, 0, np.nan]),
    ("Acos(Concat(x,Concat(1,-1)))", [*np.arccos(x), 0, np.pi]),
    ("Acos(1.5*pi)", [np.nan]),
    ("Atan(1e30*x)", np.arctan(1e30 * x)),
    ("XLogX(Concat(y*y,0))", [*(y * y * np.log(y * y)), 0]),
    ("Round(Concat(Concat(0.5,-1.5),Concat(0.49999999999999994,2.4)),0)", [1, -2, 0, 2]),
    ("Round(Concat(4503599627370497.0,-0.25),0)", [4503599627370497.0, 0]),
    ("Round(x*y,2)", np.round(x * y, 2)),
    ("Round(1000*x,-2)", np.round(10 * x) * 100),
    ("Mod(5*x,2,0)", np.mod(5 * x, 2)),
    ("Mod(5*x,t,-1)", np.mod(5 * x + 1, t) - 1),
    ("Max(x)", [x.max()]),
    ("Min(m)", [m.min()]),
    ("ArgMax(Concat(x,y))", [np.argmax([*x, *y])]),
    ("ArgMin(m)", [np.argmin(m)]),
    ("ArgMax(Concat(s,Concat(SumT(s,2),0)))", [0]),
    ("OneHot(2.4,4)", [0, 0, 1, 0]),
    ("OneHot(Concat(s,4)|Concat(0,1),3)", [0, 0, 0]),
    ("BSpline(Concat(SumT(0,3),SumT(1,3)),0.25,2)", [0.75**2, 2 * 0.25 * 0.75, 0.25**2]),
    ("BSpline(Concat(0,Concat(1,Concat(2,3))),1.5,1)", [0.5, 0.5]),
    ("SoftDTW_SqDist(s,t,1)", (s - t) ** 2),
    ("SoftDTW_SqDist(Concat(1,2),2,0.5)", [1]),
    ("SoftDTW_SqDist(Concat(1,2),Concat(0,2),1)", [-np.log(np.exp(-1) + np.exp(-5) + np.exp(-2))]),
    ("Real2Complex(x)", [x[0], 0, x[1], 0, x[2], 0]),
    ("Imag2Complex(x)", [0, x[0], 0, x[1], 0, x[2]]),
    ("ComplexReal(m)", m[::2]),
    ("ComplexImag(m)", m[1::2]),
    ("Conj(m)", m * [1, -1, 1, -1, 1, -1]),
    ("ComplexAbs(m)", np.hypot(m[::2], m[1::2])),
    ("ComplexSquareAbs(m)", m[::2] ** 2 + m[1::2] ** 2),
    ("ComplexAngle(m)", np.arctan2(m[1::2], m[::2])),
    ("ComplexExp(m)", np.exp(m.view(complex)).view(float)),
    ("ComplexExp1j(x)", np.exp(1j * x).view(float)),
    ("ComplexSum(m)", [m[::2].sum(), m[1::2].sum()]),
    ("ComplexSumT(Concat(s,t),4)", [s[0], t[0]] * 2),
    ("ComplexAdd(m,Concat(s,t))", m + np.tile([s[0], t[0]], 3)),
    ("ComplexSubtract(Concat(s,t),m)", np.tile([s[0], t[0]], 3) - m),
    ("ComplexMult(m,ComplexExp1j(x))", (m.view(complex) * np.exp(1j * x)).view(float)),
    ("ComplexDivide(m,Concat(s,t))", (m.view(complex) / (s[0] + 1j * t[0])).view(float)),
    ("ComplexRealScal(s,m)", s * m),
    ("ComplexRealScal(m,t)", t * m),
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
