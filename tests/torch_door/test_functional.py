"""torch.func on reductions and solves: vmap in every way, forward mode, and their compositions."""

import itertools

import pytest
import usual
from reduce_cases import REDUCTIONS, problem
from solve_cases import CASES, D, N
from torch_dense import all_near, assert_near, torch

from kernelops.torch import Genred, KernelSolve

vmap, grad, jvp, jacrev, jacfwd, hessian = (
    getattr(torch.func, name) for name in ("vmap", "grad", "jvp", "jacrev", "jacfwd", "hessian")
)
SOLVES = {case.name: case for case in CASES}
SOLVED = pytest.mark.parametrize("name", ["Gaussian", "over i", "matrix-valued", "ranges", "batches"])
KINDS = pytest.mark.parametrize("name", REDUCTIONS)


def reduction(name):
    ours, dense, leaves = problem(name, 1, "as they are", True)
    return ours, dense, tuple(t.detach() for t in leaves)


def solving(name):
    """With alpha as the first argument."""
    case = SOLVES[name]
    leaves = (torch.tensor(0.3, dtype=torch.float64), *(t.detach() for t in case.leaves()))
    return (
        lambda alpha, *rest: case.ours(*rest, alpha=alpha),
        lambda alpha, *rest: case.dense(*rest, alpha=alpha),
        leaves,
    )


def stacked(leaves, dims, count=3):
    """A leaf that is mapped has count versions along the mapped dimension."""
    scales = torch.linspace(0.8, 1.2, count, dtype=torch.float64)
    return tuple(t if d is None else torch.stack([t * s for s in scales], d) for t, d in zip(leaves, dims, strict=True))


def one_by_one(f, arguments, dims):
    count = next(t.shape[d] for t, d in zip(arguments, dims, strict=True) if d is not None)
    each = [
        f(*(t if d is None else t.select(d, k) for t, d in zip(arguments, dims, strict=True))) for k in range(count)
    ]
    return torch.stack(each)


@KINDS
def test_vmap_of_each_argument_and_of_all(name):
    ours, _, leaves = reduction(name)
    for dims in [[0 if k == j else None for k in range(5)] for j in range(5)] + [
        [0, 1, -1, 0, 1],
        [0, None, 2, None, 0],
    ]:
        arguments = stacked(leaves, dims)
        assert_near(vmap(ours, tuple(dims))(*arguments), one_by_one(ours, arguments, dims))


@SOLVED
def test_vmap_of_solves(name):
    ours, _, leaves = solving(name)
    for mapped in itertools.product((True, False), repeat=len(leaves)):
        if any(mapped):
            dims = [0 if m else None for m in mapped]
            arguments = stacked(leaves, dims)
            assert_near(vmap(ours, tuple(dims))(*arguments), one_by_one(ours, arguments, dims))


@pytest.mark.parametrize("shape", [(), (1,), (N,), (N, 1)])
def test_vmap_of_alpha_in_every_shape(shape):
    ours, _, (_, *leaves) = solving("Gaussian")
    alpha = torch.rand(*shape, 3, dtype=torch.float64) + 0.1  # mapped at the end
    got = vmap(ours, (-1, None, None, None))(alpha, *leaves)
    assert_near(got, torch.stack([ours(alpha[..., k], *leaves) for k in range(3)]))


def test_nested_vmap():
    """All (3, 2) pairs of two mapped dimensions, for each choice of who is mapped in which."""
    ours, dense, leaves = solving("Gaussian")
    for outer, inner in itertools.product(range(4), repeat=2):
        if outer == inner:
            continue
        dims = [[0 if k == which else None for k in range(4)] for which in (outer, inner)]
        arguments = stacked(stacked(leaves, dims[0], 3), dims[1], 2)
        got = vmap(vmap(ours, tuple(dims[0])), tuple(dims[1]))(*arguments)
        want = vmap(vmap(dense, tuple(dims[0])), tuple(dims[1]))(*arguments)
        assert_near(got, want)


def test_vmap_beside_batch_dimensions():
    genred = Genred(usual.SCALED_GAUSS, usual.aliases(2, 1, "g"), axis=1)
    x, y, b, g = (torch.randn(s, dtype=torch.float64) for s in ((4, 2, 1, 5, 2), (3, 6, 2), (4, 6, 1), (2, 1, 1)))
    got = vmap(genred, (0, None, 0, None))(x, y, b, g)
    assert got.shape == (4, 2, 3, 5, 1)
    assert_near(got, torch.stack([genred(x[k], y, b[k], g) for k in range(4)]))


@KINDS
def test_jvp(name):
    ours, dense, leaves = reduction(name)
    tangents = tuple(torch.linspace(-1, 2, t.numel(), dtype=t.dtype).reshape(t.shape) for t in leaves)
    all_near(jvp(ours, leaves, tangents), jvp(dense, leaves, tangents))


@SOLVED
def test_jvp_of_solves(name):
    ours, dense, leaves = solving(name)
    tangents = tuple(torch.linspace(-1, 2, t.numel(), dtype=t.dtype).reshape(t.shape) for t in leaves)
    all_near(jvp(ours, leaves, tangents), jvp(dense, leaves, tangents))


@KINDS
def test_jacobians(name):
    ours, dense, leaves = reduction(name)
    everything = (0, 1, 2, 3, 4)
    want = jacrev(dense, everything)(*leaves)
    all_near(jacrev(ours, everything)(*leaves), want)
    all_near(jacfwd(ours, everything)(*leaves), want)


@SOLVED
def test_jacobians_of_solves(name):
    ours, dense, leaves = solving(name)
    everything = tuple(range(len(leaves)))
    want = jacrev(dense, everything)(*leaves)
    all_near(jacrev(ours, everything)(*leaves), want)
    all_near(jacfwd(ours, everything)(*leaves), want)


def second_derivatives(f, leaves):
    """The Hessian of a functional in all four ways; reverse over reverse is the last."""
    everything = tuple(range(len(leaves)))

    def total(*leaves):
        return f(*leaves).pow(3).sum()

    for outer, inner in ((jacfwd, jacfwd), (jacfwd, jacrev), (jacrev, jacfwd), (jacrev, jacrev)):
        blocks = outer(inner(total, everything), everything)(*leaves)
        yield [block for row in blocks for block in row]


@KINDS
def test_second_derivatives(name):
    ours, dense, leaves = reduction(name)
    *_, want = second_derivatives(dense, leaves)
    for got in second_derivatives(ours, leaves):
        all_near(got, want)


@pytest.mark.parametrize("name", ["Gaussian", "matrix-valued"])
def test_second_derivatives_of_solves(name):
    ours, dense, leaves = solving(name)
    *_, want = second_derivatives(dense, leaves)
    for got in second_derivatives(ours, leaves):
        all_near(got, want)


def test_hessian_by_points_and_their_copy_apart():
    """x and y are one at this point, but their blocks of the Hessian are not."""
    _, _, (alpha, x, b, g) = solving("Gaussian")
    solver = KernelSolve("Exp(-Square(g)*SqDist(x,y))*b", usual.aliases(2, 2, "g"), "b", 1)

    def ours(x, y):
        return solver(x, y, b, g, alpha=alpha, eps=1e-13).pow(3).sum()

    def dense(x, y):
        K = (-(g**2) * ((x[:, None] - y) ** 2).sum(-1)).exp()
        return torch.linalg.solve(K + alpha * torch.eye(N, dtype=x.dtype), b).pow(3).sum()

    for got, want in zip(hessian(ours, (0, 1))(x, x), hessian(dense, (0, 1))(x, x), strict=True):
        all_near(got, want)


def test_gradients_of_many_problems_at_once():
    """vmap of grad, the per-sample gradients."""
    ours, dense, leaves = solving("Gaussian")
    dims = (0, 0, None, 0)
    arguments = stacked(leaves, dims)

    def gradients(f):
        return vmap(grad(lambda *leaves: f(*leaves).square().sum(), (0, 1, 2, 3)), dims)(*arguments)

    all_near(gradients(ours), gradients(dense))


def test_indices_can_be_mapped():
    nearest = Genred("SqDist(x,y)", ["x = Vi(2)", "y = Vj(2)"], "ArgKMin", axis=1, opt_arg=2)
    x, y = torch.randn(3, 5, 2), torch.randn(6, 2)
    assert torch.equal(vmap(nearest, (0, None))(x, y), torch.cdist(x, y).topk(2, largest=False).indices)


def test_forward_mode_without_torch_func():
    ours, dense, leaves = solving("Gaussian")
    tangent = torch.ones(N, D, dtype=torch.float64)
    with torch.autograd.forward_ad.dual_level():
        made = [
            f(leaves[0], torch.autograd.forward_ad.make_dual(leaves[1], tangent), *leaves[2:]) for f in (ours, dense)
        ]
        got, want = (torch.autograd.forward_ad.unpack_dual(m).tangent for m in made)
    assert_near(got, want)
