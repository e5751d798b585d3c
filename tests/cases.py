"""The table of cases: a formula, and the same written by hand as a line of NumPy that shares nothing with the package.

In a formula the letters say what a variable is; in its line of NumPy they are arrays that broadcast:

====================  =======================================================================================
x (3), s (1), p (3)   indexed by i, arrays (M, 1, d)
y (3), b (2), q (3)   indexed by j, arrays (1, N, d)
g (1), m (6), w (9)   parameters, arrays (1, 1, d)
r (3)                 a parameter
p, q, r, g            positive; the others have both signs
====================  =======================================================================================

Every operation of the language is in the table, primitive or defined (test_operations.py holds that), and every
primitive one at every place where it can be computed: once, for each row, for each column, for each pair.
"""

import numpy as np
from case import (
    Case,
    as_rows,
    b_splines,
    before,
    dot,
    embed,
    flat,
    join,
    norm,
    numbers,
    outer,
    pairs,
    sinc2,
    soft_dtw,
    square,
    times,
)


def _everywhere(name, f, positive=False, units=16.0):
    """An operation of one operand, computed once, for each row, for each column and for each pair, on vectors."""
    op, _, rest = name.partition(",")
    rest = rest and "," + rest
    if positive:
        text = f"{op}(g{rest})*{op}(p{rest})+{op}(q{rest})*{op}(p+q{rest})"
        return Case(name, text, lambda g, p, q: f(g) * f(p) + f(q) * f(p + q), units)
    text = f"{op}(r{rest})*{op}(x{rest})+{op}(y{rest})*{op}(x-y{rest})"
    return Case(name, text, lambda r, x, y: f(r) * f(x) + f(y) * f(x - y), units)


ONE_OPERAND = [
    _everywhere("Minus", lambda t: -t),
    _everywhere("Inv", lambda t: 1 / t, positive=True),
    _everywhere("Exp", np.exp, units=32),
    _everywhere("Log", np.log, positive=True),
    _everywhere("Sqrt", np.sqrt, positive=True),
    _everywhere("Rsqrt", lambda t: 1 / np.sqrt(t), positive=True),
    _everywhere("Square", lambda t: t * t),
    _everywhere("Abs", np.abs),
    _everywhere("Sin", np.sin),
    _everywhere("Cos", np.cos),
    _everywhere("Pow,3", lambda t: t * t * t),
    _everywhere("Pow,0", np.ones_like),
    _everywhere("Pow,-2", lambda t: 1 / (t * t), positive=True),
    _everywhere("ReLU", lambda t: np.maximum(t, 0)),
    _everywhere("Sign", np.sign),
    _everywhere("Step", lambda t: np.where(t >= 0, 1.0, 0.0)),
    _everywhere("SinXDivX", lambda t: np.sinc(t / np.pi)),
    _everywhere("SinXDivX,2", sinc2, positive=True, units=64),
    _everywhere("ClampInt,-1,1", lambda t: np.clip(t, -1, 1)),
    _everywhere("SqNorm2", lambda t: dot(t, t)),
    _everywhere("Norm2", norm),
    _everywhere("Normalize", lambda t: t / norm(t)),
    _everywhere("Sum", lambda t: t.sum(-1, keepdims=True)),
    _everywhere("Elem,2", lambda t: t[..., 2:3]),
    _everywhere("Extract,1,2", lambda t: t[..., 1:3]),
    _everywhere("ExtractT,1,5", lambda t: embed(t, 1, 1)),
]

OPERATORS = [
    Case("Add", "(r+g)*(x+s)+(y+q)+(x+y)", lambda r, g, x, s, y, q: (r + g) * (x + s) + (y + q) + (x + y)),
    Case("Subtract", "(r-g)*(x-s)-(y-q)-(x-y)", lambda r, g, x, s, y, q: (r - g) * (x - s) - (y - q) - (x - y), 32),
    Case("Mult", "(r*g)*(x*s)+(y*q)*(x*y)", lambda r, g, x, s, y, q: r * g * x * s + y * q * x * y),
    Case(
        "Divide",
        "r/g+x/p+y/q+x/q+y/p+(x-y)/(p+q)",
        lambda r, g, x, p, y, q: r / g + x / p + y / q + x / q + y / p + (x - y) / (p + q),
        32,
    ),
    Case(
        "Powf",
        "Powf(r,g)*Powf(p,x)+Powf(q,y)*Powf(p,y)+q**x",
        lambda r, g, p, x, q, y: r**g * p**x + q**y * p**y + q**x,
        64,
    ),
    Case("Minus of a product", "-x*y-(-(s*b|b))", lambda x, y, s, b: -x * y + dot(s * b, b)),
    Case("dot product", "x-y|x-y", lambda x, y: dot(x - y, x - y)),
    Case(
        "powers",
        "x**2*y**3+p**0.5+q**(-1)+p**1.5*(p+q)**g",
        lambda x, y, p, q, g: x * x * y * y * y + np.sqrt(p) + 1 / q + p * np.sqrt(p) * (p + q) ** g,
        64,
    ),
    Case(
        "Equal",
        "(g==r)+(s==x)+(Elem(y,0)==y)+(Sign(x)==Sign(y))",
        lambda g, r, s, x, y: 0.0 + (g == r) + (s == x) + (y[..., :1] == y) + (np.sign(x) == np.sign(y)),
    ),
    Case(
        "NotEqual",
        "(g!=r)+(s!=x)+(Elem(y,0)!=y)+(Sign(x)!=Sign(y))",
        lambda g, r, s, x, y: 0.0 + (g != r) + (s != x) + (y[..., :1] != y) + (np.sign(x) != np.sign(y)),
    ),
    Case(
        "LessThan",
        "(g<r)+(s<x)+(y<q)+(x<y)+(x>q)",
        lambda g, r, s, x, y, q: 0.0 + (g < r) + (s < x) + (y < q) + (x < y) + (x > q),
    ),
    Case(
        "LessOrEqual",
        "(g<=r)+(s<=x)+(y<=q)+(x<=y)+(x>=q)",
        lambda g, r, s, x, y, q: 0.0 + (g <= r) + (s <= x) + (y <= q) + (x <= y) + (x >= q),
    ),
    Case(
        "Clamp",
        "Clamp(g,0,1)*Clamp(x,-1,g)+Clamp(y,-q,q)*Clamp(x,-q,p)",
        lambda g, x, y, q, p: (
            np.clip(g, 0, 1) * np.minimum(np.maximum(x, -1), g) + np.clip(y, -q, q) * np.clip(x, -q, p)
        ),
    ),
    Case(
        "IfElse",
        "IfElse(g-1,r,2)*IfElse(x,p,s)+IfElse(y,q,-3)*IfElse(x-y,y,x)+IfElse(g-1,x,y)",
        lambda g, r, x, p, s, y, q: (
            np.where(g >= 1, r, 2) * np.where(x >= 0, p, s)
            + np.where(y >= 0, q, -3) * np.where(x >= y, y, x)
            + np.where(g >= 1, x, y)
        ),
    ),
]

VECTORS = [
    Case(
        "Sum of vectors",
        "Sum(x)*Sum(y)*Sum(r)+Sum(x*y)+Sum(Exp(x-y))",
        lambda x, y, r: (
            x.sum(-1, keepdims=True) * y.sum(-1, keepdims=True) * r.sum(-1, keepdims=True)
            + dot(x, y)
            + np.exp(x - y).sum(-1, keepdims=True)
        ),
        32,
    ),
    Case(
        "Extract of pairs",
        "Extract(m,1,3)*x+Extract(x*y,0,3)-Elem(Extract(x-y,1,2),1)",
        lambda m, x, y: m[..., 1:4] * x + x * y - (x - y)[..., 2:3],
    ),
    Case(
        "ExtractT of pairs",
        "ExtractT(x*y,1,5)+ExtractT(g*Exp(y),0,5)-ExtractT(Extract(m,0,3),2,5)*ExtractT(x,2,5)",
        lambda x, y, g, m: embed(x * y, 1, 1) + embed(g * np.exp(y), 0, 2) - embed(m[..., :3], 2, 0) * embed(x, 2, 0),
    ),
    Case(
        "ElemT",
        "ElemT(s,3,1)*y+ElemT(g,3,0)*x+ElemT(Elem(y,1),3,2)+ElemT(s*g,3,2)",
        lambda s, y, g, x: embed(s, 1, 1) * y + embed(g, 0, 2) * x + embed(y[..., 1:2], 2, 0) + embed(s * g, 2, 0),
    ),
    Case(
        "Concat",
        "Concat(Concat(g,r),Concat(s,x))*Concat(Concat(y,b),x*y)",
        lambda g, r, s, x, y, b: join(g, r, s, x) * join(y, b, x * y),
    ),
    Case(
        "SumT",
        "(SumT(g,3)*x+SumT(s,3)*y|r)+(SumT(s*Sum(y),2)|b)",
        lambda g, x, s, y, r, b: dot(g * x + s * y, r) + s * y.sum(-1, keepdims=True) * b.sum(-1, keepdims=True),
    ),
    Case(
        "constants",
        "IntCst(3)*x+IntInv(4)*y-RatCst(2,3)*x*y+Zero(3)+0.5+Zero(3)*g",
        lambda x, y, g: 3 * x + y / 4 - 2 / 3 * x * y + 0.5 + 0 * g,
    ),
    Case("a constant alone", "IntCst(2)", lambda x, y: 2 + 0 * x[..., :1] + 0 * y[..., :1]),
    Case("zero alone", "Zero(2)", lambda s, b: 0 * s * b),
    Case("a parameter alone", "r", lambda r, s, b: r + 0 * s),
    Case("a row alone", "x", lambda x, b: x + 0),
    Case("a column alone", "y", lambda s, y: y + 0),
    Case(
        "Scalprod",
        "Scalprod(r,r)*Scalprod(x,p)*Scalprod(y,q)+Scalprod(x,y)+Scalprod(x-y,y)+Scalprod(s,y)",
        lambda r, x, p, y, q, s: dot(r, r) * dot(x, p) * dot(y, q) + dot(x, y) + dot(x - y, y) + dot(s, y),
    ),
    Case(
        "SqDist",
        "SqDist(x,y)+SqDist(x,r)*SqDist(y,r)+SqDist(y,x)*SqDist(r,g)+SqDist(Exp(x),Sin(y))+SqDist(s,y)",
        lambda x, y, r, g, s: (
            square(x - y)
            + square(x - r) * square(y - r)
            + square(y - x) * square(r - g)
            + square(np.exp(x) - np.sin(y))
            + square(s - y)
        ),
    ),
    Case(
        "WeightedSqNorm",
        "WeightedSqNorm(g,x-y)+WeightedSqNorm(p,x-y)+WeightedSqNorm(w,x)+WeightedSqNorm(w,x-y)",
        lambda g, x, y, p, w: (
            g * square(x - y) + dot(p, (x - y) ** 2) + dot(x, times(w, x)) + dot(x - y, times(w, x - y))
        ),
        32,
    ),
    Case(
        "WeightedSqDist",
        "WeightedSqDist(g,x,y)+WeightedSqDist(q,x,y)+WeightedSqDist(w,x,y)+WeightedSqDist(TensorProd(x,y),x,y)",
        lambda g, x, y, q, w: (
            g * square(x - y) + dot(q, (x - y) ** 2) + dot(x - y, times(w, x - y)) + dot(x - y, x) * dot(y, x - y)
        ),
        32,
    ),
    Case(
        "MatVecMult",
        "MatVecMult(m,x)+MatVecMult(m,r)+MatVecMult(m,y)*b+MatVecMult(m,x*y)+MatVecMult(TensorProd(b,x),x-y)",
        lambda m, x, r, y, b: times(m, x) + times(m, r) + times(m, y) * b + times(m, x * y) + b * dot(x, x - y),
        32,
    ),
    Case(
        "VecMatMult",
        "VecMatMult(x,m)+VecMatMult(r,m)+VecMatMult(y,m)*b+VecMatMult(x*y,m)+VecMatMult(x-y,TensorProd(x,b))",
        lambda x, m, r, y, b: before(x, m) + before(r, m) + before(y, m) * b + before(x * y, m) + dot(x, x - y) * b,
        32,
    ),
    Case(
        "TensorProd",
        "TensorProd(x,y)+TensorProd(r,x)*TensorProd(y,q)+TensorProd(r,r)+w",
        lambda x, y, r, q, w: outer(x, y) + outer(r, x) * outer(y, q) + outer(r, r) + w,
    ),
    Case(
        "TensorDot",
        "TensorDot(m,w,[2,3],[3,3],[1],[1],[1,0])+TensorDot(TensorProd(x,p),m,[3,3],[2,3],[1],[1])"
        "+TensorDot(TensorProd(y,q),m,[3,3],[3,2],[0],[0])+TensorDot(TensorProd(x,y),m,[3,3],[3,2],[0],[0])",
        lambda m, w, x, p, y, q: (
            flat(as_rows(w, 3) @ as_rows(m, 2).swapaxes(-1, -2))
            + outer(x, times(m, p))
            + outer(q, before(y, m))
            + outer(y, before(x, m))
        ),
        32,
    ),
    Case(
        "TensorDot of three axes",
        "TensorDot(TensorProd(x,Concat(r,2*r)),TensorProd(q,b),[3,2,3],[3,2],[2],[0],[2,0,1])",
        lambda x, r, q, b: outer(outer(dot(r, q) * np.array([1, 2]), b), x),
    ),
    Case(
        "TensorDot of scalars",
        "TensorDot(s,y,[1],[3],[],[])+TensorDot(x,x-y,[3],[3],[0],[0])*TensorDot(g,g,[1],[1],[],[])",
        lambda s, y, x, g: s * y + dot(x, x - y) * g * g,
    ),
]

KERNELS = [
    Case("Gaussian", "Exp(-g*SqDist(x,y))*b", lambda g, x, y, b: np.exp(-g * square(x - y)) * b, 32),
    Case("Laplacian kernel", "Exp(-Norm2(x-y)/g)*b", lambda x, y, g, b: np.exp(-norm(x - y) / g) * b, 32),
    Case(
        "Matern",
        "(1+Norm2(x-y)+Square(Norm2(x-y))/3)*Exp(-Norm2(x-y))*y",
        lambda x, y: (1 + norm(x - y) + square(x - y) / 3) * np.exp(-norm(x - y)) * y,
        32,
    ),
    Case(
        "rational quadratic",
        "Powf(1+SqDist(x,y)/(2*g),-g)*b",
        lambda x, y, g, b: (1 + square(x - y) / (2 * g)) ** -g * b,
        64,
    ),
    Case("polynomial", "((x|y)+1)**3*b", lambda x, y, b: (dot(x, y) + 1) ** 3 * b, 64),
    Case(
        "periodic", "Exp(-2*SqNorm2(Sin(x-y))/g)*b", lambda x, y, g, b: np.exp(-2 * square(np.sin(x - y)) / g) * b, 32
    ),
    Case(
        "a matrix-valued kernel",
        "Exp(-SqDist(x,y))*(x-y)*((x-y)|y)",
        lambda x, y: np.exp(-square(x - y)) * (x - y) * dot(x - y, y),
        32,
    ),
    Case(
        "a gradient",
        "Grad(Exp(-g*SqDist(x,y))*b,x,Extract(x,0,2))",
        lambda g, x, y, b: -2 * g * (x - y) * np.exp(-g * square(x - y)) * dot(x[..., :2], b),
        64,
    ),
    Case("a gradient by the other side", "Grad(Norm2(x-y)*s,y,s)", lambda x, y, s: s * s * (y - x) / norm(x - y), 32),
    Case(
        "a second gradient",
        "Grad(Grad(Exp(-SqDist(x,y)),x,s),y,p)",
        lambda x, y, s, p: 2 * s * np.exp(-square(x - y)) * (p - 2 * (x - y) * dot(x - y, p)),
        128,
    ),
    Case(
        "factors at every place",
        "-(g*x)*(-(s*(2*y)))*(x-y)*-Elem(m,0)*Elem(y,2)",
        lambda g, x, s, y, m: -2 * g * s * m[..., :1] * y[..., 2:] * x * y * (x - y),
    ),
    Case(
        "one part used twice",
        "Exp(x-y)*y+Sum(Exp(x-y))*Square(x*y)+x*y",
        lambda x, y: np.exp(x - y) * y + np.exp(x - y).sum(-1, keepdims=True) * (x * y) ** 2 + x * y,
        64,
    ),
]

REST = [  # what came later
    _everywhere("Floor", np.floor),
    _everywhere("Tanh", np.tanh),
    Case(
        "Atan2",
        "Atan2(r,g)*Atan2(x,-p)+Atan2(y,q)*Atan2(-y,q)+Atan2(x-y,x*y)",
        lambda r, g, x, p, y, q: (
            np.arctan2(r, g) * np.arctan2(x, -p) + np.arctan2(y, q) * np.arctan2(-y, q) + np.arctan2(x - y, x * y)
        ),
        32,
    ),
    Case(
        "inverse functions",
        "Asin(x/2)*Acos(y/2)+Atan(x*y)+XLogX(q)*pi",
        lambda x, y, q: np.arcsin(x / 2) * np.arccos(y / 2) + np.arctan(x * y) + np.pi * q * np.log(q),
        32,
    ),
    Case(
        "rounding",
        "Round(x*q,1)+Round(y,0)*DiffClampInt(x,0,1)+Mod(x,g,p)*q",
        lambda x, q, y, g, p: (
            np.sign(x) * np.floor(10 * (abs(x) * q) + 0.5) / 10
            + np.sign(y) * np.floor(abs(y) + 0.5) * ((x >= 0) & (x <= 1))
            + (x - g * np.floor((x - p) / g)) * q
        ),
        64,
    ),
    Case(
        "Slice",
        "Slice(m,1,3,2)*x+SliceT(Slice(x*y,0,2,2)*b,0,3,2)-Extract(SliceT(x-y,1,8,3),0,3)+SliceT(b,0,3,2)",
        lambda m, x, y, b: (
            m[..., 1::2] * x
            + ((x * y)[..., ::2] * b)[..., [0, 0, 1]] * np.array([1, 0, 1])
            - (x - y)[..., :1] * np.array([0, 1, 0])
            + b[..., :1] * np.array([1, 0, 0])
            + b[..., 1:] * np.array([0, 0, 1])
        ),
    ),
    Case(
        "components",
        "Max(x*y)*Min(m)+ArgMax(x)*ArgMin(Concat(x,y))+(OneHot(1-ArgMax(x-y),4)|Concat(y,s))",
        lambda x, y, m, s: (
            np.max(x * y, -1, keepdims=True) * np.min(m, -1, keepdims=True)
            + np.argmax(x, -1, keepdims=True) * np.argmin(join(x, y), -1, keepdims=True)
            + dot((1 - np.argmax(x - y, -1, keepdims=True)) == np.arange(4), join(y, s))
        ),
    ),
    Case(
        "norms and Kron",
        "SqNormIso(s,x-y)+SqNormDiag(q,x-y)+SymSqNorm(w,x)+Kron(Factorize(x,y),AutoFactorize(y),[3],[3])",
        lambda s, x, y, q, w: s * square(x - y) + dot(q, (x - y) ** 2) + dot(x, times(w, x)) + outer(x, y),
        32,
    ),
    Case(
        "BSpline",
        "BSpline(Concat(-2-Elem(r,0),Concat(-1,Concat(Extract(q,0,2)/4+Elem(q,0)*ExtractT(2,1,2),Concat(6,7)))),s,2)*g",
        lambda r, q, s, g: (
            b_splines(
                join(
                    -2 - r[..., :1], -1 + 0 * g, q[..., :1] / 4, q[..., 1:2] / 4 + 2 * q[..., :1], 6 + 0 * g, 7 + 0 * g
                ),
                s,
                2,
            )
            * g
        ),
        64,
    ),
    Case("SoftDTW_SqDist", "SoftDTW_SqDist(x,Concat(y,s),g)", lambda x, y, s, g: soft_dtw(x, join(y, s), g), 64),
    Case(
        "complex numbers",
        "ComplexExp(ComplexMult(Real2Complex(x),Imag2Complex(y)))+ComplexDivide(Conj(m),b)+ComplexSumT(b,6)"
        "+ComplexRealScal(s,ComplexSubtract(ComplexExp1j(y),ComplexAdd(m,ComplexSum(m))))",
        lambda x, y, m, b, s: pairs(
            np.exp(1j * x * y)
            + numbers(m).conj() / numbers(b)
            + numbers(b)
            + s * (np.exp(1j * y) - numbers(m) - numbers(m).sum(-1, keepdims=True))
        ),
        64,
    ),
    Case(
        "parts of complex numbers",
        "ComplexReal(m)*ComplexImag(Concat(x,y))+ComplexAbs(b)*ComplexSquareAbs(m)*ComplexAngle(Concat(y,x))",
        lambda m, x, y, b: (
            m[..., ::2] * join(x, y)[..., 1::2] + abs(numbers(b)) * abs(numbers(m)) ** 2 * np.angle(numbers(join(y, x)))
        ),
        64,
    ),
    Case(
        "symbolic calculus",
        "Laplacian(Exp(-g*SqDist(x,y)),x)+Divergence(x*y,x)+Diff(x|y,x,p)+TraceOperator(r*x,x)+Elem(GradMatrix(x*y,x),4)",
        lambda g, x, y, p, r: (
            (4 * g * g * square(x - y) - 6 * g) * np.exp(-g * square(x - y))
            + y.sum(-1, keepdims=True)
            + dot(p, y)
            + r.sum(-1, keepdims=True)
            + y[..., 1:2]
        ),
        64,
    ),
]

CASES = [*ONE_OPERAND, *OPERATORS, *VECTORS, *KERNELS, *REST]
