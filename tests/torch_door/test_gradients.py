"""Derivatives of reductions: every reduction, axis, kind of variable and way to lay out the arguments."""

import gc
import weakref

import pytest
import usual
from pairwise import pairwise
from reduce_cases import ALIASES, LAYOUTS, REDUCTIONS, M, N, dense_formulas, leaf, problem, ranges
from torch_dense import all_near, assert_near, derivatives, reduce, squared_distances, torch

from kernelops.torch import Genred

EVERYWHERE = pytest.mark.parametrize("name", REDUCTIONS)
AXES = pytest.mark.parametrize("axis", [0, 1])
LAID_OUT = pytest.mark.parametrize("layout", LAYOUTS)
MASKED = pytest.mark.parametrize("masked", [False, True], ids=["dense", "ranges"])


@MASKED
@LAID_OUT
@AXES
@EVERYWHERE
def test_against_torch(name, axis, layout, masked):
    ours, dense, leaves = problem(name, axis, layout, masked)
    got, want = ours(*leaves), dense(*leaves)
    assert_near(got, want)
    all_near(derivatives(got, leaves), derivatives(want, leaves))


@pytest.mark.parametrize(
    ("name", "axis", "layout", "masked"),
    pairwise(
        ["Sum", "LogSumExp of a weight", "SumSoftMaxWeight", "KMin"],
        [0, 1],
        ["as they are", "the same twice", "batches"],
        [False, True],
    ),
)
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@AXES
@EVERYWHERE
def test_over_several_tiles(name, axis, dtype):
    """Sizes beyond one tile of rows and of columns; float32 as near to float64 as torch's own (where much cancels)."""
    op, formula, weight, K = REDUCTIONS[name]
    shapes = [(37, 2), (300, 2), (300, 2), (1,), (2,)]
    leaves = [leaf(*shape, seed=k).detach().to(dtype).requires_grad_() for k, shape in enumerate(shapes)]

    def dense(leaves):
        formulas = dense_formulas(*leaves)
        weights = None if weight is None else formulas[weight]
        return derivatives(reduce(op, formulas[formula], axis, None, weights, K or 1), leaves)

    found = Genred(formula, ALIASES, op, axis, opt_arg=K, formula2=weight)(*leaves)
    got = derivatives(found[0] if isinstance(found, tuple) else found, leaves)
    truth = dense([t.detach().double().requires_grad_() for t in leaves])
    for g, own, want in zip(got, dense(leaves), truth, strict=True):
        assert g.dtype == dtype
        cancelled = float((own - want).abs().max() / want.abs().max().clamp(min=0.1))
        assert_near(g.double(), want, 1e-10 if dtype == torch.float64 else 1e-5 + 4 * cancelled)


def test_many_columns():
    """More components than ride on one evaluation of a kernel."""
    x, y, b = leaf(5, 2, seed=0), leaf(6, 2, seed=1), leaf(6, 70, seed=2)
    found = Genred(usual.GAUSS, usual.aliases(2, 70), axis=1)(x, y, b)
    dense = (-squared_distances(x, y)).exp() @ b
    assert_near(found, dense)
    all_near(derivatives(found, [x, y, b]), derivatives(dense, [x, y, b]))


def test_explicit_positions_in_any_order():
    x, y, b = leaf(5, 2, seed=0), leaf(6, 2, seed=1), leaf(6, 2, seed=2)
    aliases = ["b = Vj(2,2)", "x = Vi(1,2)", "y = Vj(0,2)"]
    found = Genred(usual.GAUSS, aliases, axis=1)(y, x, b)
    dense = (-squared_distances(x, y)).exp() @ b
    all_near(derivatives(found, [x, y, b]), derivatives(dense, [x, y, b]))


def test_nothing_is_kept_when_the_result_is_gone():
    """No reference cycle holds the arrays until the next garbage collection."""
    x, y, b = leaf(5, 2, seed=0), leaf(6, 2, seed=1), leaf(6, 2, seed=2)
    genred = Genred("-SqDist(x,y)", usual.aliases(2, 2), "SumSoftMaxWeight", axis=1, formula2="b")
    gc.disable()
    try:
        moved = x * 1
        found = genred(moved, y, b)
        torch.autograd.grad(found.sum(), x, create_graph=True)[0].sum().backward()
        seen = weakref.ref(moved), weakref.ref(found)
        del moved, found
        assert [ref() for ref in seen] == [None, None]
    finally:
        gc.enable()
