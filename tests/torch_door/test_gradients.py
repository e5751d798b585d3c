"""Derivatives of reductions: every reduction, axis, kind of variable and way to lay out the arguments."""

import pytest
from torch_dense import all_near, assert_near, derivatives, reduce, torch

from kernelops import Ranges
from kernelops.torch import Genred

ALIASES = ["x = Vi(2)", "y = Vj(2)", "b = Vj(2)", "g = Pm(1)", "c = Pm(2)"]
SCALAR = "-g*SqDist(x,c*y)+Elem(b,0)"
VECTOR = "Exp(-g*SqDist(x,c*y))*(x-b)"
WEIGHT = "b+x*Elem(c,1)"
REDUCTIONS = {  # name -> reduction, formula, weight, K
    "Sum": ("Sum", VECTOR, None, None),
    "LogSumExp": ("LogSumExp", SCALAR, None, None),
    "LogSumExp of a weight": ("LogSumExp", SCALAR, "Exp(" + WEIGHT + ")", None),
    "SumSoftMaxWeight": ("SumSoftMaxWeight", SCALAR, WEIGHT, None),
    "Min": ("Min", VECTOR, None, None),
    "Max_ArgMax": ("Max_ArgMax", SCALAR, None, None),
    "KMin": ("KMin", VECTOR, None, 3),
    "KMin_ArgKMin of a scalar": ("KMin_ArgKMin", SCALAR, None, 2),
}
M, N = 6, 5
MASK = torch.ones(M, N, dtype=torch.bool)  # blocks of rows 0:2 and 2:6, of columns 0:4 and 4:5
MASK[:2, 4] = False


def ranges(mask):
    """Ranges of one row by one column that hold the same pairs as a mask."""
    rows, columns = ([[k, k + 1] for k in range(n)] for n in mask.shape)
    return Ranges.from_mask(rows, columns, mask.numpy())


def dense_formulas(x, y, b, g, c):
    """The three formulas at all pairs, (..., M, N, D)."""
    g, c = g[..., None, None, :], c[..., None, None, :]
    x, y, b = x[..., :, None, :], y[..., None, :, :], b[..., None, :, :]
    scalar = -g * ((x - c * y) ** 2).sum(-1, keepdim=True)
    weight = b + x * c[..., 1:]
    return {
        SCALAR: scalar + b[..., :1],
        VECTOR: scalar.exp() * (x - b),
        WEIGHT: weight,
        "Exp(" + WEIGHT + ")": weight.exp(),
    }


def leaf(*shape, seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draw, dtype=torch.float64, requires_grad=True)


LAYOUTS = {  # name -> shapes of the leaves, and what is made of them
    "as they are": ([(M, 2), (N, 2), (N, 2), (1,), (2,)], lambda x, y, b, g, c: (x, y, b, g, c)),
    "the same twice": ([(N, 2), (1,), (2,)], lambda x, g, c: (x, x, x, g, c)),
    "expanded": ([(1, 2), (N, 1), (N, 2), (), (1,)], lambda x, y, b, g, c: (
        x.expand(M, 2), y.expand(N, 2), b, g, c.expand(2))),
    "transposed": ([(2, M), (2, N), (4, N), (1,), (2,)], lambda x, y, b, g, c: (
        x.T, y.T.flip(0), b.T[:, ::2], g, c.flip(0))),
    "batches": ([(2, 1, M, 2), (3, N, 2), (N, 2), (2, 1, 1), (3, 2)], lambda x, y, b, g, c: (x, y, b, g, c)),
}  # fmt: skip
EVERYWHERE = pytest.mark.parametrize("name", REDUCTIONS)
AXES = pytest.mark.parametrize("axis", [0, 1])
LAID_OUT = pytest.mark.parametrize("layout", LAYOUTS)
MASKED = pytest.mark.parametrize("masked", [False, True], ids=["dense", "ranges"])


def problem(name, axis, layout, masked):
    """Our function of the leaves, the dense one, and the leaves."""
    op, formula, weight, K = REDUCTIONS[name]
    shapes, laid_out = LAYOUTS[layout]
    leaves = [leaf(*shape, seed=k) for k, shape in enumerate(shapes)]
    mask = None if not masked else MASK[:N] if layout == "the same twice" else MASK
    options = {} if mask is None else {"ranges": ranges(mask)}
    genred = Genred(formula, ALIASES, op, axis, opt_arg=K, formula2=weight)

    def ours(*leaves):
        found = genred(*laid_out(*leaves), **options)
        return found[0] if isinstance(found, tuple) else found

    def dense(*leaves):
        formulas = dense_formulas(*laid_out(*(t.reshape(1) if t.ndim == 0 else t for t in leaves)))
        weights = None if weight is None else formulas[weight]
        return reduce(op, formulas[formula], axis, mask, weights, K or 1)

    return ours, dense, leaves


@MASKED
@LAID_OUT
@AXES
@EVERYWHERE
def test_against_torch(name, axis, layout, masked):
    ours, dense, leaves = problem(name, axis, layout, masked)
    got, want = ours(*leaves), dense(*leaves)
    assert_near(got, want)
    all_near(derivatives(got, leaves), derivatives(want, leaves))


@MASKED
@pytest.mark.parametrize("layout", ["as they are", "the same twice", "batches"])
@AXES
@pytest.mark.parametrize("name", ["Sum", "LogSumExp of a weight", "SumSoftMaxWeight", "KMin"])
def test_gradcheck(name, axis, layout, masked):
    """Against differences, which know nothing of torch's derivatives either."""
    ours, _, leaves = problem(name, axis, layout, masked)
    assert torch.autograd.gradcheck(ours, leaves, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(ours, leaves, fast_mode=True)


@AXES
@EVERYWHERE
def test_rows_that_meet_nothing_have_gradient_0(name, axis):
    op, formula, weight, K = REDUCTIONS[name]
    leaves = [leaf(*shape, seed=k) for k, shape in enumerate(LAYOUTS["as they are"][0])]
    mask = torch.ones(M, N, dtype=torch.bool)
    mask[1:3] = mask[:, 2] = False
    found = Genred(formula, ALIASES, op, axis, opt_arg=K, formula2=weight)(*leaves, ranges=ranges(mask))
    found = found[0] if isinstance(found, tuple) else found
    first = torch.autograd.grad(torch.where(found.isfinite(), found, 0.0).sum(), leaves, create_graph=True)
    straight = torch.autograd.grad(found.sum(), leaves, retain_graph=True)  # infinities included
    second = torch.autograd.grad(sum((g**2).sum() for g in first), leaves, materialize_grads=True)
    assert all(g.isfinite().all() for g in (*first, *straight, *second))
    assert all((g[1:3] == 0).all() for g in (first[0], straight[0], second[0]))
    assert all((g[2] == 0).all() for g in (first[1], straight[1], second[1]))
    for g, h in zip(first, straight, strict=True):
        assert_near(h, g)


@pytest.mark.parametrize("name", ["LogSumExp", "LogSumExp of a weight", "SumSoftMaxWeight"])
def test_terms_of_minus_infinity_have_gradient_0(name):
    op, formula, weight, K = REDUCTIONS[name]
    x, y, b, g, c = (leaf(*shape, seed=k) for k, shape in enumerate(LAYOUTS["as they are"][0]))
    b = b.detach().clone()
    b[1:3, 0] = -torch.inf
    b.requires_grad_()
    genred = Genred(formula, ALIASES, op, 1, formula2=None if weight is None else "Exp(y)")
    found = genred(x, y, b, g, c)
    gradients = torch.autograd.grad(found.sum(), (x, y, b, g, c), create_graph=True, materialize_grads=True)
    assert all(t.isfinite().all() for t in (found, *gradients))
    assert (gradients[2][1:3] == 0).all()
    second = torch.autograd.grad(sum((t**2).sum() for t in gradients), (x, y, g, c), materialize_grads=True)
    assert all(t.isfinite().all() for t in second)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_no_columns_at_all(name):
    op, formula, weight, K = REDUCTIONS[name]
    x, y, b, g, c = (leaf(*shape, seed=0) for shape in ((M, 2), (0, 2), (0, 2), (1,), (2,)))
    found = Genred(formula, ALIASES, op, 1, opt_arg=K, formula2=weight)(x, y, b, g, c)
    found = found[0] if isinstance(found, tuple) else found
    gradients = torch.autograd.grad(found.sum(), (x, y, b, g, c), materialize_grads=True)
    assert all((t == 0).all() for t in gradients) and gradients[1].shape == (0, 2)


def test_ties_give_the_gradient_to_the_first_winner():
    x, y = torch.zeros(1, 1), torch.tensor([[2.0], [1.0], [3.0], [1.0], [-1.0]], requires_grad=True)
    values = Genred("Abs(x-y)", ["x = Vi(1)", "y = Vj(1)"], "Min", axis=1)(x, y)
    (gradient,) = torch.autograd.grad(values.sum(), y)
    assert values.item() == 1 and gradient.ravel().tolist() == [0, 1, 0, 0, 0]
    three = Genred("Abs(x-y)", ["x = Vi(1)", "y = Vj(1)"], "KMin", axis=1, opt_arg=4)(x, y)
    (gradient,) = torch.autograd.grad((three * torch.tensor([1.0, 10, 100, 1000])).sum(), y)
    assert gradient.ravel().tolist() == [1000, 1, 0, 10, -100]


def test_more_wanted_than_there_are():
    x, y = leaf(3, 1, seed=0), leaf(2, 1, seed=1)
    values, indices = Genred("SqDist(x,y)", ["x = Vi(1)", "y = Vj(1)"], "KMin_ArgKMin", axis=1, opt_arg=4)(x, y)
    assert (values[:, 2:] == torch.inf).all() and (indices[:, 2:] == -1).all()
    (gradient,) = torch.autograd.grad(values.sum(), x)
    assert_near(gradient, 2 * (2 * x - y.sum()))


def test_indices_have_no_derivative():
    x, y = leaf(3, 1, seed=0), leaf(2, 1, seed=1)
    for op in ("ArgMin", "ArgMax", "ArgKMin"):
        found = Genred("SqDist(x,y)", ["x = Vi(1)", "y = Vj(1)"], op, 1, opt_arg=2 if op == "ArgKMin" else None)(x, y)
        assert found.dtype == torch.int64 and not found.requires_grad
