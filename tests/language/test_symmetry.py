"""Whether alpha I + K is symmetric: what the formula and the arrays say, and what two probes say where they do not."""

import numpy as np
import pytest
import usual

from kernelops import ArgumentError, KernelOperator, Ranges, RangesError, cg, solve
from kernelops.numpy import KernelSolve

N = 30
GAUSS = usual.GAUSS
ALIASES = usual.aliases(2, 1)


def points(seed=0, dtype="float64"):
    return np.random.default_rng(seed).standard_normal((N, 2)).astype(dtype)


def symmetric(x, y, formula=GAUSS, aliases=ALIASES, **keywords):
    return KernelOperator(formula, aliases, "b", x, y, **keywords).symmetric


def test_the_same_points_in_any_guise_are_the_same():
    x = points()
    torch = pytest.importorskip("torch")
    read_only = x.copy()
    read_only.setflags(write=False)
    wide = np.zeros((N, 7))
    wide[:, 2:4] = x
    tensor = torch.from_numpy(x.copy()).requires_grad_()
    for y in (x, x[:], x.copy(), np.asfortranarray(x), wide[:, 2:4], read_only, x[::-1][::-1], tensor, tensor.detach()):
        assert symmetric(x, y) == symmetric(y, x) == "yes"


def test_other_points_are_not():
    x = points()
    nudged = x.copy()
    nudged[-1, -1] = np.nextafter(nudged[-1, -1], 9)
    for y in (points(1), x[::-1], nudged, -x):
        assert symmetric(x, y) == "unknown", "which does not say that it is not symmetric"
    assert symmetric(x, x[:-1]) == "no", "not square"


FORMULAS = {  # text -> the answer for y = x
    usual.GAUSS: "yes",
    "Exp(-SqDist(y,x))*b": "yes",
    "b*(x|y)": "yes",
    "(x|y)*b + Exp(-Norm2(x-y))*b": "yes",
    "Square(1+(x|y))*b": "yes",
    "Inv(1+SqDist(x,y))*Abs(Sum(x-y))*b": "yes",
    "Exp(-SqNorm2(x))*b*Exp(-SqNorm2(y))": "yes",
    "Exp(-SqNorm2(x))*b": "unknown",
    "Sum(x-y)*b": "unknown",
    "Exp(-Elem(x,0)*Elem(y,1))*b": "unknown",
}


@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas(formula):
    x = 0.5 * points()
    A = KernelOperator(formula, ALIASES, "b", x, x)
    dense = A.to_dense()
    if A.symmetric == "yes":
        np.testing.assert_allclose(dense, dense.T, rtol=1e-12)
    else:
        assert abs(dense - dense.T).max() > 1e-3
    assert A.symmetric == FORMULAS[formula] or (A.symmetric, FORMULAS[formula]) == ("no", "unknown")


def test_weights_must_be_equal_on_both_sides_too():
    x, w = points(), points(2)[:, :1]
    aliases = [*ALIASES, "v = Vi(1)", "w = Vj(1)"]
    formula = "v*Exp(-SqDist(x,y))*w*b"
    for right, answer in ((w, "yes"), (w.copy(), "yes"), (2 * w, "unknown"), (-w, "unknown")):
        A = KernelOperator(formula, aliases, "b", x, x, w, right)
        assert A.symmetric == answer
    # a weight that happens to equal a variable of the other index, but not the one that stands in its place
    A = KernelOperator(formula, aliases, "b", x, x, w, points(3)[:, :1])
    assert A.symmetric != "yes"


def test_matrix_valued_kernels():
    x = points()
    aliases = usual.aliases(2, 2)
    assert symmetric(x, x, "Exp(-SqDist(x,y))*(x-y)*((x-y)|b)", aliases) == "yes"
    turned = "Exp(-SqDist(x,y))*Concat(Elem(b,1),-Elem(b,0))"
    assert symmetric(x, x, turned, aliases) != "yes"
    with pytest.raises(ArgumentError, match="A must be symmetric for a solve"):
        solve(KernelOperator(turned, aliases, "b", x, x, alpha=1.0), np.ones(2 * N))


def test_ranges_must_be_symmetric_too():
    x, halves = points(), [[0, 10], [10, N]]
    lopsided = Ranges.from_mask(halves, halves, np.array([[True, True], [False, True]]))
    blocks = Ranges.from_mask(halves, halves, np.eye(2, dtype=bool))
    assert symmetric(x, x, ranges=blocks) == "yes"
    assert symmetric(x, x, ranges=lopsided) == "no"
    with pytest.raises(ArgumentError, match="A must be symmetric for a solve; KernelOperator says that it is not"):
        solve(KernelOperator(GAUSS, ALIASES, "b", x, x, ranges=lopsided, alpha=1.0), np.ones(N))
    with pytest.raises(RangesError, match="ranges: a solve needs a symmetric pattern"):
        KernelSolve(GAUSS, ALIASES, "b", axis=1)(x, x, np.ones((N, 1)), alpha=1.0, ranges=lopsided)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probes_refuse_what_is_not_symmetric(dtype):
    x, y = points(dtype=dtype), points(1, dtype)
    b = np.ones((N, 1), dtype)
    with pytest.raises(ArgumentError, match=r"for KernelOperator <u, A v> and <A u, v> differ by \d.\de-0\d"):
        solve(KernelOperator(GAUSS, ALIASES, "b", x, y, alpha=1.0), b)
    with pytest.raises(ArgumentError, match="A must be symmetric for a solve"):
        KernelSolve(GAUSS, ALIASES, "b", axis=1)(x, y, b, alpha=1.0)
    # of a batch, whichever element it is
    batch = np.stack([y, x, x])
    with pytest.raises(ArgumentError, match="A must be symmetric for a solve"):
        KernelSolve(GAUSS, ALIASES, "b", axis=1)(batch, np.stack([y, x, y]), b, alpha=1.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probes_let_pass_what_is_symmetric_though_not_by_its_formula(dtype):
    x = points(dtype=dtype)
    nearly = x.copy()  # not the same points, and the same matrix but for rounding
    nearly[0] = np.nextafter(x[0], np.array(9, dtype))
    A = KernelOperator(GAUSS, ALIASES, "b", x, nearly, alpha=1.0)
    assert A.symmetric == "unknown"
    assert solve(A, np.ones(N)).converged


def test_two_probes_cost_one_product_and_a_proof_costs_none():
    x = points()
    proven = solve(KernelOperator(GAUSS, ALIASES, "b", x, x, alpha=1.0), np.ones(N))
    probed = solve(KernelOperator(GAUSS, ALIASES, "b", x, np.nextafter(x, 9), alpha=1.0), np.ones(N))
    assert probed.products["float64"] == proven.products["float64"] + 1


def test_cg_leaves_it_to_the_caller_as_scipy_does():
    x = points()
    A = KernelOperator(GAUSS, ALIASES, "b", x, np.nextafter(x, 9), alpha=1.0)
    assert cg(A, np.ones(N))[1] == 0
