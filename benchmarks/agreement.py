"""Do kernelops and KeOps give the same numbers? The largest difference over formulas, reductions and axes, in float64
where KeOps has that; and over what the cluster helpers give.

KeOps compiles each of them, so this takes some minutes. Exits with 1 where shapes or values differ.
"""

from __future__ import annotations

import sys

import numpy as np

from kernelops.numpy import Genred, KernelSolve, cluster

ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)", "g = Pm(1)", "s = Pm(9)", "A = Vj(6)"]
KERNEL = "Exp(-g*SqDist(x,y))*b"
ROWS = [  # formula, reduction, further arguments
    (KERNEL, "Sum", {}),
    (f"Grad({KERNEL},x,b)", "Sum", {}),
    ("WeightedSqDist(s,x,y)*b", "Sum", {}),
    ("MatVecMult(A,y)", "Sum", {}),
    ("VecMatMult(b,A)*x", "Sum", {}),
    ("TensorDot(TensorProd(x,y),A,[3,3],[3,2],[1],[0])|Concat(b,Concat(b,b))", "Sum", {}),
    ("Clamp(x,y,g)", "Sum", {}),
    ("Elem(x,1)*ElemT(g,3,1)+Extract(A,2,3)", "Sum", {}),
    ("SinXDivX(x|y)**3 - Normalize(x-y)**2", "Sum", {}),
    ("Abs(x-y)+Cos(x)*Log(y)+Sqrt(x)*Rsqrt(y)+Inv(x)/y+Pow(x,3)", "Sum", {}),
    ("IfElse(x-y,x,y)+ReLU(x-y)+Step(x-y)*Sign(y-x)", "Sum", {}),
    ("Powf(x,y)", "Sum", {"dtype": "float32"}),  # which KeOps computes with the digits of float32 in any case
    ("ClampInt(4*x,1,2)+ExtractT(b,0,3)+SumT(g,3)*IntCst(2)+Zero(3)", "Sum", {}),
    ("Norm2(x-y)*SqNorm2(x)+WeightedSqNorm(y,x)+Scalprod(x,y)+Minus(g)*Sum(x)", "Sum", {}),
    ("Equal(x,x)+NotEqual(x,y)+LessThan(x,y)+LessOrEqual(y,x)", "Sum", {}),
    ("Asin(x)*Acos(y)+Atan(x*y)+Atan2(x-y,y)+XLogX(x)", "Sum", {}),
    ("Floor(4*x)*y+Round(3*x*y,1)+Mod(x,g,y)+DiffClampInt(2*x,0,1)", "Sum", {}),
    ("Max(x*y)*Min(A)+ArgMax(x-y)+ArgMin(A)+(OneHot(Floor(3*Elem(y,0)),3)|x)", "Sum", {}),
    ("SqNormIso(g,x-y)+SqNormDiag(y,x)+SymSqNorm(s,x)+(Kron(x,y,[3],[3])|s)", "Sum", {}),
    ("ComplexMult(ComplexExp(b),A)+ComplexDivide(A,b)+ComplexSumT(ComplexSum(A),6)", "Sum", {}),
    ("ComplexRealScal(g,ComplexSubtract(Conj(A),ComplexAdd(A,b)))", "Sum", {}),
    ("ComplexReal(A)*ComplexImag(Conj(A))*ComplexAbs(A)+ComplexSquareAbs(A)*ComplexAngle(A)", "Sum", {}),
    ("ComplexReal(ComplexExp1j(x))+ComplexImag(Real2Complex(x)+Imag2Complex(y))", "Sum", {}),
    ("SoftDTW_SqDist(-x,-A,g)", "Sum", {}),  # of variables as they are it reads other rows there, on a CPU
    ("Laplacian(Exp(-g*SqDist(x,y)),x)+Divergence(x*y,x)+TraceOperator(x*y,x)", "Sum", {}),
    ("Diff(Exp(-g*SqDist(x,y)),x,y)+Elem(GradMatrix(x*y,x),4)", "Sum", {}),
    ("Factorize(Exp(x-y)*(x-y),x-y)+AutoFactorize(Square(x-y)*Sin(x-y))", "Sum", {}),
    ("BSpline(A,Elem(x,0),2)", "Sum", {"dtype": "float32"}),  # in float64 it does not compile there
    ("-g*SqDist(x,y)", "LogSumExp", {}),
    ("-g*SqDist(x,y)", "LogSumExp", {"formula2": "b"}),
    ("-g*SqDist(x,y)", "SumSoftMaxWeight", {"formula2": "b"}),
    ("x-y", "KMin", {"opt_arg": 2}),
    ("SqDist(x,y)", "ArgKMin", {"opt_arg": 3}),
    ("SqDist(x,y)", "Min_ArgMin", {}),
    ("x*y", "Max", {}),
    ("x*y", "Min", {}),
    ("x-y", "ArgMax", {}),
    ("x-y", "ArgMin", {}),
    ("SqDist(x,y)", "Max_ArgMax", {}),
    ("SqDist(x,y)", "KMin_ArgKMin", {"opt_arg": 3}),
]
LARGEST = 1e-12  # differences of sums of some ten terms of order 1
SOLVED = 1e-4  # both solve to a residual of about 1e-6, and alpha is 0.1


def difference(ours, theirs):
    """The largest difference; inf where the shapes differ."""
    pairs = zip(*((r if isinstance(r, tuple) else (r,)) for r in (ours, theirs)), strict=True)
    return max(float(abs(a - b).max()) if a.shape == b.shape else np.inf for a, b in pairs)


def clustered(helpers, x):
    """Points in the cells of a grid: labels, ranges, centroids, weights, and which meet their neighbours."""
    lab = helpers.grid_cluster(x, 0.3)
    ranges, centroids, weights = helpers.cluster_ranges_centroids(x, lab, abs(x[:, 0]))
    keep = ((centroids[:, None] - centroids) ** 2).sum(-1) < 0.5
    six = helpers.from_matrix(ranges, ranges[::2], keep[:, ::2])
    return lab, helpers.sort_clusters(x, lab)[1], ranges, centroids, weights, *six, *helpers.swap_axes(six)


def main():
    try:
        import pykeops.numpy as keops
        from pykeops.numpy import cluster as keops_cluster
    except ImportError:
        sys.exit("pykeops is not installed: make agree installs it")
    rng = np.random.default_rng(0)
    args = [rng.random(shape) for shape in ((11, 3), (7, 3), (7, 2), (1,), (9,), (7, 6))]
    worst = 0.0
    for formula, op, more in ROWS:
        for axis in (0, 1):
            single = more.get("dtype") == "float32"
            given = [a.astype("float32") for a in args] if single else args
            theirs = keops.Genred(formula, ALIASES, reduction_op=op, axis=axis, **more)(*given, backend="CPU")
            found = difference(Genred(formula, ALIASES, reduction_op=op, axis=axis, **more)(*given), theirs)
            worst = max(worst, found / 2**29 if single else found)  # as many bits less
            print(f"{found:9.1e}  {op}, axis {axis}: {formula}", flush=True)
    for D in (1, 2, 3):
        points = 4 * rng.random((500, D)) - 2
        found = difference(*(clustered(helpers, points) for helpers in (cluster, keops_cluster)))
        worst = max(worst, found)
        print(f"{found:9.1e}  clusters in {D} dimensions", flush=True)
    x, b, aliases = rng.random((40, 3)), rng.random((40, 2)), ALIASES[:4]
    solved = difference(
        *(d(KERNEL, aliases, "b", axis=1)(x, x, b, args[3], alpha=0.1) for d in (KernelSolve, keops.KernelSolve))
    )
    print(f"{solved:9.1e}  KernelSolve")
    print(f"reductions: at most {worst:.1e}, wanted {LARGEST:g}; solve: {solved:.1e}, wanted {SOLVED:g}")
    sys.exit(worst > LARGEST or solved > SOLVED)


if __name__ == "__main__":
    main()
