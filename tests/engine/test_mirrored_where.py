"""Where symmetric sums evaluate each pair of points once, and where they must not."""

import numpy as np
import pytest
import usual
from mirrored_sums import GAUSS, NAMES, declared, points, summed

from kernelops import KernelOperator, _core
from kernelops.engines import cpu
from kernelops.formula.parse import parse
from kernelops.formula.structure import is_mirrored
from kernelops.numpy import KernelSolve


def test_other_memory_is_not_the_same(told):
    wide = points(2400, 6, seed=3)
    x, b = wide[:1200, :3], wide[:1200, :2]
    others = [
        x.copy(),
        np.asfortranarray(x),
        wide[1:1201, :3],
        wide[:1200, 1:4],
        wide[::2, :3],
        x[::-1],
        x[:, ::-1],
        x[None],
    ]
    for y in others:
        summed(GAUSS, NAMES, [x, y, b])
    assert not any(told)


TWO = ["x = Vi(2)", "y = Vj(2)", "u = Vi(2)", "w = Vj(2)", "b = Vj(1)"]


@pytest.mark.parametrize("formula", ["Exp(-SqDist(x,y))*(2+(u|w))*b", "Exp(-SqDist(x,y))*Exp(-SqDist(u,w))*b"])
def test_two_pairs_of_variables(formula, told):
    p, q, b = points(1100, 2), points(1100, 2, seed=1), points(1100, 1, seed=2)
    found = {}
    for name, data in {"both": [p, p, q, q], "first": [p, p, q, q.copy()], "none": [p, p.copy(), q, q.copy()]}.items():
        found[name] = summed(formula, TWO, [*data, b])
    np.testing.assert_allclose(found["both"], found["none"], atol=1e-11)  # 1100 terms below 100
    crossed = [summed(formula, TWO, [p, q, r, s, b]) for r, s in ((q, p), (q.copy(), p.copy()))]
    np.testing.assert_allclose(*crossed, atol=1e-11)
    # k(p_i, q_j) k(q_i, p_j) is symmetric only where both factors are the same function
    assert told == [True, False, False, "u,w" in formula, False]


ASYMMETRIC = [
    "Sum(x-y)*b",
    "Exp(-Elem(x,0)*Elem(y,1))*b",
    "Exp(-SqNorm2(x))*Exp(-SqDist(x,y))*b",
    "Exp(-SqNorm2(x))*Exp(-SqDist(x,y))*Exp(-SqNorm2(y))*b",  # what stands at the columns is multiplied with b
    "Exp(-SqDist(x,y))*e*b",
    "Exp(-SqDist(x,y))*e",
    "Sum(x)/Sum(x)*Exp(-SqDist(x,y))*b",  # infinite or nan in the rows of x alone
    "(Exp(-SqDist(x,y))+Sum(x)-Sum(x))*b",
    "Exp(-(Sum(x)+1.0000000000001*Sum(y)))*b",
    "Step(Sum(x-y))*b",
    "b",
    "Sum(x)",
]
VECTORS = ["Exp(-SqDist(x,y))*(x-y)", "TensorProd(x,y)", "MatVecMult(TensorProd(x,y),y)", "Exp(-SqDist(x,y))*x"]


@pytest.mark.parametrize("formula", ASYMMETRIC + VECTORS)
def test_formulas_that_are_not_symmetric(formula, told):
    x, b, e = points(1100), points(1100, 1, seed=1), points(1100, 1, seed=2)
    names = [*declared(3, 1)[:3], "e = Vi(1)"]
    found, want = (summed(formula, names, [x, y, b, e]) for y in (x, x.copy()))
    assert told == [False, False] and found.tobytes() == want.tobytes()


def test_other_ways_of_adding(told):
    x, b = points(1100, dtype="float32"), points(1100, 2, "float32", 1)
    for options in ({"sum_scheme": "kahan_scheme"}, {"dtype_acc": "float64"}):
        summed(GAUSS, NAMES, [x, x, b], **options)
    for op in ("LogSumExp", "Min", "ArgMax"):
        summed("SqDist(x,y)", NAMES, [x, x], op=op)
    half = [a.astype(np.float16) for a in (x, x, b)]
    np.testing.assert_allclose(*(summed(GAUSS, NAMES, [half[0], y, half[2]]) for y in (half[0], half[1])), rtol=0)
    assert not any(told), "float16 is computed on copies in float32"


def test_misuse_is_refused():
    x, b = np.ones((9, 1)), np.ones((9, 1))
    names = usual.aliases(1, 1)

    def call(kind="sum", formula=usual.GAUSS, M=9, **options):
        program = cpu.prepare(kind, parse(formula, names).expr, None, False, 1).encoded
        return _core.reduce(program, (x, x, b), (), M, 9, None, float64=True, mirrored=True, **options)

    assert call()[0].shape == (9, 1)
    wrong = [{"kind": "exp"}, {"kind": "best"}, {"M": 8}, {"wide_sums": True}, {"compensated": True}]
    wrong += [{"formula": f} for f in ("b", "x", "Concat(x*y*b,x*y)", "Exp(-SqDist(x,y))*x")]
    for options in wrong:
        with pytest.raises(ValueError, match="a mirrored sum of . rows and 9 columns"):
            call(**options)


def test_what_cancels_counts():
    expr = [parse(f, NAMES).expr for f in ("Inv(Sum(x))*Sum(x)*(x|y)", "Inv(Sum(x*y))*Sum(y*x)*(x|y)", "Sum(x)+Sum(y)")]
    assert [is_mirrored(e, ((0, 1),)) for e in expr] == [False, True, True]


# ---- on top of it -------------------------------------------------------------------------------------------------


def test_operators_and_solvers(told):
    x, b = points(1500, 2), points(1500, 3, seed=1)
    names = usual.aliases(2, 1)
    operators = [KernelOperator(GAUSS, names, "b", x, y, alpha=0.1) for y in (x, x.copy())]
    for product in (lambda A: A.matvec(b[:, 0]), lambda A: A.matmat(b), lambda A: A.rmatvec(b[:, 0])):
        told.clear()
        found, want = map(product, operators)
        np.testing.assert_allclose(found, want, atol=1e-11)  # 1500 terms below 4
        assert told[0] and not told[-1]
    told.clear()
    solve = KernelSolve(GAUSS, names, "b", axis=1)
    found = solve(x, x, b[:, :1], alpha=0.1, eps=1e-8, method="cg", precond=None)
    assert all(told[-4:]) and told.count(True) > 3  # before the first product, the diagonal is looked at
    residual = operators[1].matvec(found[:, 0]) - b[:, 0]
    assert np.linalg.norm(residual) <= 1.1e-8 * np.linalg.norm(b[:, 0])


def test_gradients(told):
    torch = pytest.importorskip("torch")
    from kernelops.torch import Genred

    gauss = Genred(GAUSS, usual.aliases(2, 1), axis=1)
    found = []
    for same in (True, False):
        x, b = (torch.from_numpy(points(1500, d, seed=d)).requires_grad_() for d in (2, 1))
        value = gauss(x, x if same else x.clone(), b)
        found.append(
            (value.detach(), *torch.autograd.grad((value * torch.linspace(-1, 1, 1500)[:, None]).sum(), (x, b)))
        )
        assert any(told) == same
        told.clear()
    for got, want in zip(*found, strict=True):
        np.testing.assert_allclose(got.numpy(), want.numpy(), atol=1e-10)  # 1500 terms below 40


@pytest.mark.parametrize(("d", "most"), [(3, 12), (10, 24)])
def test_wide_results_take_the_ordinary_way(d, most, told):
    """A distance of d components and an exponential count for 2 + d//4, six results each."""
    for v in (most, most + 1):
        x, b = points(1024, d), points(1024, v, seed=1)
        summed(usual.GAUSS, declared(d, v)[:3], [x, x, b])
    assert told == [True, False]
