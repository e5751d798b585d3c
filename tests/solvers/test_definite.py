"""What is said to be positive semidefinite is, whatever the points; and nothing is said of what is not."""

from __future__ import annotations

import numpy as np
import pytest
import usual

from kernelops import KernelOperator, Ranges
from kernelops.formula.parse import parse
from kernelops.operators.definite import MOST_NODES

ALIASES = ["x = Vi(3)", "y = Vj(3)", "u = Vi(1)", "v = Vj(1)", "g = Pm(1)", "w = Pm(3)", "S = Pm(9)", "b = Vj(1)"]
N = 40
PROVED = [
    usual.SCALED_GAUSS,
    "Exp(-SqDist(x,y)/(2*g*g))*b",
    "Exp(-SqNorm2((x-y)/g))*b",
    "Exp(-SqDist(x/w,y/w))*b",
    "2.5*g*Exp(-WeightedSqDist(w,x,y))*b",
    "Exp(-WeightedSqNorm(S,x-y))*b",
    "Exp(-Norm2(x-y)/g)*b",
    "Exp(-Sqrt(g*SqDist(x,y)))*b",
    "Exp(-Sum(Abs(x-y)))*b",
    "Exp(-Powf(SqDist(x,y),0.3))*b",
    "(1 + Sqrt(3)*Norm2(x-y)/g)*Exp(-Sqrt(3)*Norm2(x-y)/g)*b",
    "(1 + Sqrt(5)*Norm2(x-y)*g + 5*g*g*SqDist(x,y)/3)*Exp(-Sqrt(5)*g*Norm2(x-y))*b",
    "(1 + Norm2(x-y) + 0.4*SqDist(x,y) + Norm2(x-y)**3/15)*Exp(-Norm2(x-y))*b",
    "g*(2 + Norm2(x-y))*Exp(-Norm2(x-y))*Exp(-SqDist(x,y))*b",
    "(1 + Abs(u-v))*Exp(-Abs(u-v))*b",
    "Inv(g + SqDist(x,y))*b",
    "Rsqrt(1 + SqDist(x,y)/g)*b",
    "Powf(1 + SqDist(x,y)/g, -g)*b",
    "(x|y)/(g + Norm2(x-y))*b",
    "(x|y)*b",
    "(g + (x|y))**3*b",
    "Exp((x|y))*b",
    "u*Exp(-SqDist(x,y))*v*b",
    "Sum(x)*Cos(u-v)*Sum(y)*b",
    "Exp(-2*Square(Sin(3*Norm2(u-v)))/g/g)*b",
    "SinXDivX(g*(u-v))*b",
    "Exp(-Elem(w,1)*Square(u-v) - SqDist(x,y))*b",
    "(Exp(-SqDist(x,y)) + g*(x|y) + 3)*b",
    "Sum(Exp(-w*Square(x-y)))*b",
    "b",
]
NOT_PROVED = [
    "-Exp(-SqDist(x,y))*b",
    "Exp(g*SqDist(x,y))*b",
    "SqDist(x,y)*b",
    "(1 - SqDist(x,y))*b",
    "(Exp(-SqDist(x,y)) - 0.5*Exp(-2*SqDist(x,y)))*b",
    "Exp(-Square(SqDist(x,y)))*b",
    "Exp(-Norm2(x-y)**3)*b",
    "Exp(-Powf(SqDist(x,y),1.1))*b",
    "Sqrt(1 + SqDist(x,y))*b",
    "Inv(SqDist(x,y) - 1)*b",
    "Inv(SqDist(x,y))*b",
    "(1 + 1.01*Norm2(x-y))*Exp(-Norm2(x-y))*b",
    "(1 + Norm2(x-y) + 0.34*SqDist(x,y))*Exp(-Norm2(x-y))*b",
    "(1 - Norm2(x-y))*Exp(-Norm2(x-y))*b",
    "(1 + Norm2(x-y))*Exp(-Norm2(2*(x-y)) + SqDist(x,y))*b",
    "(1 + Norm2(x-y))*Exp(-Abs(u-v))*b",
    "Cos(Norm2(x-y))*b",
    "Cos(Sum(Abs(x-y)))*b",
    "Sin(u-v)*Sin(v-u)*b",
    "Exp(-Square(u-2*v))*b",
    "Exp(-SqDist(x,y))*u*b",
    "u*(v - 1)*b",
    "(u - v)*(v - u)*b",
    "Step(1 - SqDist(x,y))*b",
    "Exp(-WeightedSqDist(w-2,x,y))*b",
    "Exp(-WeightedSqNorm(S-1,x-y))*b",
]


def arguments(seed=0, D=3):
    draw = np.random.default_rng(seed)
    x, u = draw.standard_normal((N, D)), draw.standard_normal((N, 1))
    S = draw.standard_normal((D, D))
    return x, x, u, u, 0.8, np.array([0.5, 1.0, 1.5]), (S @ S.T).ravel() + 0.1 * np.eye(D).ravel()


def operator(formula, *args, **keywords):
    return KernelOperator(formula, ALIASES, "b", *args, **keywords)


def least_eigenvalue(A):
    values = np.linalg.eigvalsh(A.to_dense())
    return values[0] / max(abs(values[0]), abs(values[-1]), 1e-300)


@pytest.mark.parametrize("formula", PROVED)
def test_what_is_proved_is_true(formula):
    for seed in range(3):
        A = operator(formula, *arguments(seed))
        assert A.least == 0.0 and least_eigenvalue(A) > -1e-13


@pytest.mark.parametrize("formula", NOT_PROVED)
def test_of_others_nothing_is_said(formula):
    assert operator(formula, *arguments()).least == -np.inf


def test_the_sign_of_a_parameter_counts():
    x, y, u, v, g, w, S = arguments()
    for g, proved in ((1.0, True), (0.0, True), (-1.0, False), (np.nan, False), (np.inf, False)):
        assert (operator(usual.SCALED_GAUSS, x, y, u, v, g, w, S).least == 0) is proved
        assert (operator("g*Exp(-SqDist(x,y))*b", x, y, u, v, g, w, S).least == 0) is proved
        assert (operator("Exp(-SqDist(x,y)/g)*b", x, y, u, v, g, w, S).least == 0) is (proved and g > 0)
    for k in range(3):
        some = np.where(np.arange(3) == k, -0.1, w)
        assert operator("Exp(-WeightedSqDist(w,x,y))*b", x, y, u, v, 1.0, some, S).least == -np.inf


def test_the_points_must_be_the_same():
    x, y, *others = arguments()
    for formula in (usual.GAUSS, "(x|y)*b", "Inv(1 + SqDist(x,y))*b"):
        assert operator(formula, x, x.copy(), *others).least == 0
        assert operator(formula, x, x + 1e-9, *others).least == -np.inf
        assert operator(formula, x, x[::-1], *others).least == -np.inf
    assert operator("Exp(-SqDist(x,y))*Exp(-Square(u-v))*b", x, x, others[0], others[0][::-1], *others[2:]).least < 0


def test_variables_of_equal_arrays_are_one():
    """x and z hold the same points, and so do y and t: (x|t) and (z|y) are kernels of them."""
    aliases = ["x = Vi(2)", "y = Vj(2)", "z = Vi(2)", "t = Vj(2)", "b = Vj(1)"]
    x = np.random.default_rng(0).standard_normal((N, 2))
    for formula in ("Exp(-SqDist(x,t) - SqDist(z,y))*b", "Sum(x)*Sum(z)*Sum(t)*Sum(y)*b"):
        A = KernelOperator(formula, aliases, "b", x, x, x, x)
        assert A.least == 0 and least_eigenvalue(A) > -1e-13
        assert KernelOperator(formula, aliases, "b", x, x, x[::-1], x[::-1]).least == (
            0 if "Sum" in formula else -np.inf
        )


def test_ranges_prove_nothing_and_truncation_a_little_less():
    x = 10 * np.random.default_rng(0).random((1200, 2))
    cut = Ranges.from_radius(x, x, 0.1, points_per_cluster=8)
    how = usual.SCALED_GAUSS, usual.aliases(2, 1, "g"), "b", x, x, 5.0
    assert KernelOperator(*how).least == 0 and KernelOperator(*how, ranges=cut, alpha=1.0).least == -np.inf
    kept = KernelOperator(*how, alpha=0.5, truncate=0.1)
    assert kept.ranges is not None and kept.least == -0.05
    assert np.linalg.eigvalsh(kept.to_dense())[0] >= 0.5 + kept.least
    assert KernelOperator(*how, truncate=0.1).least == -np.inf  # of a product, relative to K
    assert KernelOperator(*how, alpha=0.5, truncate=0.1).T.least == -0.05


def test_a_matrix_valued_kernel_and_a_long_formula_are_left():
    x = np.random.default_rng(0).random((20, 2))
    aliases = usual.aliases(2, 2)
    H = KernelOperator("Exp(-SqDist(x,y))*(2*b - 4*(x-y|b)*(x-y))", aliases, "b", x, x)
    assert H.least == -np.inf
    terms = " + ".join(f"Exp(-{k}.5*SqDist(x,y))" for k in range(MOST_NODES))
    assert len(parse(f"({terms})*b", aliases).expr.vars) == 3
    assert KernelOperator(f"({terms})*b", aliases, "b", x, x).least == -np.inf


# ---- sums and products of random parts ----

NUMBERS = ["g", "0.5", "(g - 1)", "2", "(-0.3)"]
ATOMS = ["SqDist(x,y)", "Norm2(x-y)", "Sum(Abs(x-y))", "Abs(u-v)", "(x|y)", "u*v", "(u-v)", "Sum(x)", "Sum(y)", "1"]
ONE = [
    "Exp({})",
    "Exp(-{})",
    "Inv(1 + {})",
    "Sqrt(Abs({}))",
    "Square({})",
    "Cos({})",
    "Rsqrt(0.5 + {})",
    "-{}",
    "Sqrt({})",
]
TWO = ["({} + {})", "({} - {})", "{}*{}", "{}/(1 + {})"]


def random_formula(draw, depth):
    if depth == 0 or draw.random() < 0.15:
        atom = ATOMS[draw.integers(len(ATOMS))]
        return f"{NUMBERS[draw.integers(len(NUMBERS))]}*{atom}" if draw.random() < 0.4 else atom
    if draw.random() < 0.5:
        return ONE[draw.integers(len(ONE))].format(f"({random_formula(draw, depth - 1)})")
    parts = (f"({random_formula(draw, depth - 1)})" for _ in range(2))
    return TWO[draw.integers(len(TWO))].format(*parts)


def test_random_formulas():
    draw, proved = np.random.default_rng(1), 0
    args = arguments(5)
    for _ in range(1500):
        formula = f"({random_formula(draw, draw.integers(1, 4))})*b"
        A = operator(formula, *args)
        if A.least < 0:
            continue
        dense = A.to_dense()
        if np.isfinite(dense).all():
            proved += 1
            assert least_eigenvalue(A) > -1e-11, formula
    assert proved > 100
