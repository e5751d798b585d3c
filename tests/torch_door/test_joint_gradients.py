"""Gradients that share a pass over the pairs: what the engine runs, how often, and that nothing depends on it."""

import numpy as np
import pytest
import usual
from reduce_cases import ALIASES as ALIASES_OF_REDUCTIONS
from reduce_cases import REDUCTIONS, leaf, ranges
from solve_cases import CASES
from torch_dense import all_near, assert_near, derivatives, torch

from kernelops.engines import cpu
from kernelops.formula.expr import variable
from kernelops.formula.grad import grad
from kernelops.formula.parse import parse
from kernelops.numpy import Genred as ArrayGenred
from kernelops.program.compile import compile_sum
from kernelops.torch import Genred, autograd
from kernelops.torch.fusion import joined, passes

M, N = 7, 300  # more columns than a tile has
ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)", "g = Pm(1)", "c = Pm(3)", "z = Vi(3)"]
SHAPES = {"x": (M, 3), "y": (N, 3), "b": (N, 2), "g": (1,), "c": (3,), "z": (M, 3)}
FORMULAS = {  # name -> formula; each uses its variables from the first on
    "Gaussian": usual.SCALED_GAUSS,
    "Gaussian of a sum": "Exp(-Sum(g*Square(x-y)))*b",
    "Laplace": usual.SCALED_LAPLACE,
    "Matern": usual.MATERN,
    "Cauchy": "Inv(1+g*SqDist(x,y))*b",
    "a quotient": "b/(1+g*SqDist(x,y))",
    "a vector parameter": "Exp(-g*SqDist(c*x,c*y))*b",
    "weights": "Exp(-g*Sum(c*Square(x-y)))*b",
    "two at i": "Exp(-g*SqDist(x,c*y))*Exp(-SqDist(z,y))*b",
    "a matrix of b": "Exp(-g*SqDist(x,y))*(Elem(b,0)*(x-y)+Elem(b,1)*c)",
    "componentwise": "Sin(x-y)*Exp(g*(x-y))*Elem(b,0)",
    "a Concat": "Concat(Exp(-g*SqDist(x,y))*b,SqDist(x,c)*y)",
}
EVERY = pytest.mark.parametrize("name", FORMULAS)
AXES = pytest.mark.parametrize("axis", [0, 1])


def leaves_of(formula):
    """Arguments up to the last that the formula names."""
    used = {v.position for v in parse(formula, ALIASES).expr.vars}
    return [leaf(*shape, seed=k) for k, shape in enumerate(list(SHAPES.values())[: max(used) + 1])]


def aliases_of(leaves):
    return ALIASES[: len(leaves)]


def gradients_apart(f, leaves, order=1):
    """Derivatives with respect to one tensor at a time, through a call that differentiates nothing else."""
    found = []
    for k, t in enumerate(leaves):
        alone = [u.detach() for u in leaves]
        alone[k] = t.detach().requires_grad_()
        found += derivatives(f(*alone), [alone[k]], order)
    return found


@pytest.fixture
def reductions(monkeypatch):
    """The formulas that are reduced from now on."""
    seen = []
    run = cpu.run
    monkeypatch.setattr(cpu, "run", lambda prepared, *args, **options: (
        seen.append(prepared.program) or run(prepared, *args, **options)
    ))  # fmt: skip
    return seen


def operations(program):
    return [i.op for i in program.pair.code]


# ---- the programs ----


def joint_programs(formula, axis=1):
    """The program of each pass over the pairs that all gradients of a sum make."""
    expr = parse(formula, ALIASES).expr
    e = variable("Vi" if axis == 1 else "Vj", len(ALIASES), expr.dim)
    formulas = [autograd._without_number(grad(expr, v, e), v.op)[1] for v in expr.vars]
    made = passes(tuple(formulas), tuple(v.op for v in expr.vars), axis)
    return [compile_sum(joined([formulas[k] for k in members]), over) for over, members in made]


@AXES
@pytest.mark.parametrize("name", ["Gaussian", "Gaussian of a sum", "Laplace", "Matern", "Cauchy"])
def test_a_kernel_is_evaluated_once_for_each_axis(name, axis):
    programs = joint_programs(FORMULAS[name], axis)
    assert len(programs) == 2
    for program in programs:
        names = operations(program)
        assert names.count("SqDist") == 1 and sum(n.startswith(("Exp", "Inv")) for n in names) == 1
        assert program.pair.planes <= 8, "a vector is stored for each pair"


def test_the_differences_stand_in_the_last_loop_alone():
    """All of length 1 is computed before: a component costs a difference and a sum."""
    for program in joint_programs(usual.SCALED_GAUSS):
        code = program.pair.code
        loops = [code[k + 1 : i.aux1] for k, i in enumerate(code) if i.op == "Loop"]
        assert all(len(body) <= 2 and body[-1].op.startswith("Out") for body in loops)
        assert "Minus" not in operations(program)


def test_what_shares_nothing_stays_apart():
    expr = parse("Concat(Sin(x-y),Cos(z-y))", ALIASES).expr
    programs = joint_programs("Concat(Sin(x-y),Cos(z-y))")
    assert len(programs) == len(expr.vars) == 3
    x, y, g, c = (parse(t, ALIASES).expr for t in ("Sin(x-y)", "Exp(x-y)", "Sin(x-y)*g", "Exp(x-y)*c"))
    assert passes((x, y), ("Vi", "Vi"), 1) == ((1, (0,)), (1, (1,)))
    assert passes((x, x, g), ("Vi", "Vj", "Pm"), 1)[0][1] == (0, 2), "the first of two that share as much"
    assert passes((c, x, y), ("Pm", "Vi", "Vj"), 1) == ((1, (1,)), (0, (2, 0))), "the one that shares something"
    assert passes((c,), ("Pm",), 0) == ((0, (0,)),) and passes((c,), ("Pm",), 1) == ((1, (0,)),)


def test_a_concat_is_added_part_by_part():
    """Each part stands where it should, stored or not, computed for the pairs or before."""
    rng = np.random.default_rng(0)
    x, y, b, g = (rng.standard_normal(SHAPES[name]) for name in "xybg")
    square = ((x[:, None] - y) ** 2).sum(-1, keepdims=True)
    kernel, ones = np.exp(-square), np.ones((M, N, 1))
    parts = {
        usual.GAUSS: kernel * b,
        "x": x[:, None] * ones,
        "Exp(y)": np.exp(y) * ones,
        "g": g * ones,
        "SqDist(x,y)": square,
        "Sin(x-y)": np.sin(x[:, None] - y),
        "Sin(x-y)*Sin(x-y)": np.sin(x[:, None] - y) ** 2,
    }
    names = list(parts)
    for order in (names, names[::-1], [names[0], names[0]], names[1:4], names[5:]):
        left = right = order[-1]
        for name in order[-2::-1]:
            left, right = f"Concat({left},{name})", f"Concat({name},{right})"
        for text, listed in ((right, order), (left, [order[-1], *order[-2::-1]])):
            for axis in (0, 1):
                found = ArrayGenred(text, ALIASES[:4], axis=axis)(x, y, b, g)
                terms = np.concatenate([parts[name] for name in listed], -1)
                assert found.shape[-1] == terms.shape[-1]
                # both sums of at most 300 terms in float64, in different orders
                size = abs(terms).sum(axis)
                assert (abs(found - terms.sum(axis)) <= 300 * np.finfo(float).eps * size).all()
    program = compile_sum(parse("Concat(Exp(-SqDist(x,y))*b,Concat(x-y,SqDist(x,y)*y))", ALIASES).expr, 1)
    assert program.pair.planes <= 3, "no part is stored"


# ---- the values ----

# The terms of both ways differ by the order of a few products, 10 eps or so; sums of differences may cancel to a
# thousandth of the terms: 1e-12 of the largest component, and as much again for the sums.
SAME = 3e-12


@AXES
@EVERY
def test_at_once_as_one_by_one(name, axis):
    leaves = leaves_of(FORMULAS[name])
    genred = Genred(FORMULAS[name], aliases_of(leaves), axis=axis)
    all_near(derivatives(genred(*leaves), leaves, 1), gradients_apart(genred, leaves), SAME)


@AXES
@pytest.mark.parametrize("name", ["Gaussian", "Matern", "a vector parameter", "componentwise"])
def test_batches_and_ranges(name, axis):
    """Every variable has its own batch dimensions, and gets a gradient of its own shape."""
    shapes = {"x": (2, 1, M, 3), "y": (3, N, 3), "b": (N, 2), "g": (2, 1, 1), "c": (3, 3)}
    leaves = [leaf(*shape, seed=k) for k, shape in enumerate(list(shapes.values())[: len(leaves_of(FORMULAS[name]))])]
    genred = Genred(FORMULAS[name], aliases_of(leaves), axis=axis)
    mask = torch.ones(M, N, dtype=torch.bool)
    mask[2:4] = mask[:, 5:290] = False

    def masked(*tensors):
        return genred(*tensors, ranges=ranges(mask))

    for f in (genred, masked):
        all_near(derivatives(f(*leaves), leaves, 1), gradients_apart(f, leaves), SAME)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_other_reductions(name):
    op, formula, weight, K = REDUCTIONS[name]
    leaves = [leaf(*shape, seed=k) for k, shape in enumerate([(M, 2), (N, 2), (N, 2), (1,), (2,)])]
    genred = Genred(formula, ALIASES_OF_REDUCTIONS, op, axis=1, opt_arg=K, formula2=weight)

    def values(*tensors):
        found = genred(*tensors)
        return found[0] if isinstance(found, tuple) else found

    all_near(derivatives(values(*leaves), leaves, 1), gradients_apart(values, leaves), SAME)


@AXES
@pytest.mark.parametrize("name", ["Gaussian", "Matern", "two at i", "a Concat"])
def test_gradcheck(name, axis):
    leaves = [t[:4].detach().requires_grad_() if t.ndim == 2 else t for t in leaves_of(FORMULAS[name])]
    genred = Genred(FORMULAS[name], aliases_of(leaves), axis=axis)
    assert torch.autograd.gradcheck(genred, leaves, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(genred, leaves, fast_mode=True)


def test_transforms_of_joint_gradients():
    """The pass for several gradients is mapped and differentiated forward like any other reduction."""
    x, y, b, g = (t.detach() for t in leaves_of(FORMULAS["Gaussian"]))
    y, b = y[:5], b[:5]
    genred = Genred(FORMULAS["Gaussian"], ALIASES[:4], axis=1)

    def dense(x, y, b, g):
        return (-g * ((x[:, None] - y) ** 2).sum(-1)).exp() @ b

    hessians = []
    for f in (genred, dense):
        first = torch.func.grad(lambda *t, f=f: (f(*t) ** 2).sum(), (0, 1, 2, 3))
        for jacobian in (torch.func.jacfwd, torch.func.jacrev):
            hessians.append([h for row in jacobian(first, (0, 1, 2, 3))(x, y, b, g) for h in row])
    for other in hessians[:2]:
        all_near(other, hessians[2])


NORM = "Norm2(x-y)"
SMOOTH = [(f"(1+{NORM})*Exp(-{NORM})", -1.0), (f"(1+2*{NORM}+4*Square({NORM})/3)*Exp(-2*{NORM})", -4 / 3)]


@pytest.mark.parametrize(("formula", "curvature"), SMOOTH, ids=["Matern 3/2", "Matern 5/2"])
def test_smooth_kernels_of_a_norm_are_so_at_0_too(formula, curvature):
    """The norm and its inverse cancel before they are computed, at equal points and near them."""
    genred = Genred(formula, ["x = Vi(3)", "y = Vj(3)"], axis=1)
    zero = torch.zeros(1, 3, dtype=torch.float64)
    hessian = torch.func.hessian(lambda x: genred(x, zero).sum())(zero).reshape(3, 3)
    assert_near(hessian, curvature * torch.eye(3, dtype=torch.float64), 1e-15)
    near = torch.tensor([[1e-6, 0.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(genred(near, torch.zeros(1, 3)).sum(), near)
    # the derivative is curvature * r, but for a relative error of r; in float32 each factor is off by half an eps
    assert_near(gradient / 1e-6, curvature * torch.tensor([[1.0, 0.0, 0.0]]), 4e-6)


# ---- how many passes ----


@AXES
def test_two_passes_for_four_gradients(axis, reductions):
    leaves = leaves_of(usual.SCALED_GAUSS)
    result = Genred(usual.SCALED_GAUSS, ALIASES[:4], axis=axis)(*leaves)
    assert len(reductions) == 1
    torch.autograd.grad(result.sum(), leaves)
    assert len(reductions) == 3


def test_the_gradients_of_a_solve_share_passes(reductions):
    case = next(case for case in CASES if case.name == "Gaussian")
    x, b, g = case.leaves()
    for wanted, passes_made in ((x,), 2), ((g,), 1), ((x, b, g), 2):  # x stands at i and at j
        leaves = [t.detach().requires_grad_(any(t is w for w in wanted)) for t in (x, b, g)]
        a = case.ours(*leaves)
        reductions.clear()
        torch.autograd.grad(a.sum(), [t for t in leaves if t.requires_grad])
        pairs = [p for p in reductions if p.row.loads and p.col.loads]  # the diagonal, for units, is no pass over pairs
        products = [p for p in pairs if p.n_out != b.shape[-1] or "SqDist" not in operations(p)[:1]]
        assert len(products) == passes_made


def test_a_gradient_that_is_not_differentiated_again_costs_nothing(reductions, monkeypatch):
    leaves = leaves_of(usual.SCALED_GAUSS)
    result = Genred(usual.SCALED_GAUSS, ALIASES[:4], axis=1)(*leaves)

    def second():
        """The formulas of the derivatives of the gradient to x alone."""
        gradients = torch.autograd.grad(result.sum(), leaves, create_graph=True)
        reductions.clear()
        found = torch.autograd.grad((gradients[0] ** 2).sum(), leaves)
        return found, sum(p.n_out for p in reductions)

    together, components = second()
    with monkeypatch.context() as patch:
        patch.setattr(autograd, "passes", lambda formulas, kinds, axis: [
            ({"Vi": 1, "Vj": 0}.get(kind, axis), (k,)) for k, kind in enumerate(kinds)
        ])  # fmt: skip
        apart, wanted = second()
    assert components == wanted
    all_near(together, apart, SAME)
