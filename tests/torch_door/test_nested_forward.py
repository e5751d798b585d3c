"""Forward levels around forward levels, with vmap and reverse levels between them, through everything that has a jvp.

What is right comes from reverse levels alone: torch's own forward over forward is not right everywhere.
"""

import itertools

import pytest
import usual
from reduce_cases import REDUCTIONS, problem
from torch_dense import assert_near, squared_distances, torch

from kernelops.torch import Genred, KernelSolve

pytestmark = pytest.mark.thorough

forward_ad = torch.autograd.forward_ad
jacfwd, jacrev, jvp, vmap, grad = (getattr(torch.func, name) for name in ("jacfwd", "jacrev", "jvp", "vmap", "grad"))

N = 6
ALIASES = usual.aliases(2, 1, "g")
GAUSS = KernelSolve(usual.SCALED_GAUSS, ALIASES, "b", axis=1)
HOW = {"method": "direct", "rtol": 1e-12}
LOGSUM = Genred("-g*SqDist(x,y)+b", ALIASES, "LogSumExp", axis=1)
SUM = Genred(usual.SCALED_GAUSS, ALIASES, axis=1)
DRAW = torch.Generator().manual_seed(0)
X, B, AT = (torch.randn(n, d, generator=DRAW, dtype=torch.float64) for n, d in ((N, 2), (N, 1), (3, 2)))
G, ALPHA = torch.tensor([0.7], dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
AWAY = X + 0.1 * torch.randn(N, 2, generator=DRAW, dtype=torch.float64)  # no y_j is an x_i


def kernel(x, y, g):
    return (-g * squared_distances(x, y)).exp()


def system(x, g, alpha):
    return kernel(x, x, g) + alpha * torch.eye(N, dtype=torch.float64)


def variance(x, g, alpha):
    across = kernel(AT, x, g)
    return 1 - (across * torch.linalg.solve(system(x, g, alpha), across.T).T).sum(-1)


FUNCTIONS = {  # name -> ours and the dense one, of x, g and alpha
    "Sum": (lambda x, g, a: SUM(x, AWAY, a * B, g), lambda x, g, a: kernel(x, AWAY, g) @ (a * B)),
    "LogSumExp": (lambda x, g, a: LOGSUM(x, AWAY, a * B, g),
                  lambda x, g, a: (-g * squared_distances(x, AWAY) + a * B[:, 0]).logsumexp(-1, True)),
    "KernelSolve": (lambda x, g, a: GAUSS(x, x, B, g, alpha=a, **HOW),
                    lambda x, g, a: torch.linalg.solve(system(x, g, a), B)),
    "logdet": (lambda x, g, a: GAUSS.logdet(x, x, g, alpha=a, **HOW)[0],
               lambda x, g, a: torch.logdet(system(x, g, a))),
    "inv_quad": (lambda x, g, a: GAUSS.inv_quad_logdet(x, x, B, g, alpha=a, **HOW).inv_quad,
                 lambda x, g, a: (B * torch.linalg.solve(system(x, g, a), B)).sum()),
    "mean": (lambda x, g, a: GAUSS.predict(x, x, B, g, at=AT, alpha=a, **HOW)[0],
             lambda x, g, a: kernel(AT, x, g) @ torch.linalg.solve(system(x, g, a), B)),
    "variance": (lambda x, g, a: GAUSS.predict(x, x, B, g, at=AT, alpha=a, **HOW)[1], variance),
}  # fmt: skip
NAMED = pytest.mark.parametrize("name", FUNCTIONS)


def along(name):
    """Our functional and the dense one of one number, by which x, g and alpha all change."""

    def total(f):
        def by_number(t):
            way = torch.linspace(-1, 1, 2 * N, dtype=torch.float64).reshape(N, 2)
            return f(X + t.sin() * way, G * (0.3 * t).exp(), ALPHA + 0.1 * t * t).pow(3).sum()

        return by_number

    return tuple(total(f) for f in FUNCTIONS[name])


@NAMED
def test_every_composition_of_levels(name):
    """Second derivatives by all sequences of two levels, third ones where two or three of the levels are forward."""
    ours, dense = along(name)
    t = torch.tensor(0.3, dtype=torch.float64)
    second = jacrev(jacrev(dense))
    wanted = {2: second(t), 3: jacrev(second)(t)}
    for order, want in wanted.items():
        for levels in itertools.product((jacfwd, jacrev), repeat=order):
            if levels.count(jacfwd) < 2 * (order - 2):
                continue
            got = ours
            for level in levels:
                got = level(got)
            assert_near(got(t), want, 1e-8)


@NAMED
def test_jvp_of_jvp(name):
    """With tangents that are the arguments themselves, and with vmap between the levels."""
    ours, dense = along(name)
    first, second = jacrev(dense), jacrev(jacrev(dense))
    t = torch.tensor(0.3, dtype=torch.float64)
    got = jvp(lambda t: jvp(ours, (t,), (t,))[1], (t,), (t,))[1]  # (t f')' t
    assert_near(got, t * first(t) + t**2 * second(t), 1e-9)
    several = torch.tensor([0.2, 0.3, -0.4], dtype=torch.float64)
    got = jvp(vmap(lambda s: jvp(ours, (s,), (s * s,))[1]), (several,), (several.cos(),))[1]
    want = torch.stack([(2 * s * first(s) + s**2 * second(s)) * s.cos() for s in several])
    assert_near(got, want, 1e-9)


@NAMED
def test_autograd_under_a_forward_level(name):
    """A gradient by torch.autograd.grad, without create_graph, carries the tangent of a dual number."""
    ours, dense = along(name)
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(t, torch.ones_like(t))
        (slope,) = torch.autograd.grad(ours(dual), dual)
        got = forward_ad.unpack_dual(slope).tangent
    assert_near(got, jacrev(jacrev(dense))(t), 1e-9)


@pytest.mark.parametrize("layout", ["as they are", "the same twice", "batches"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name, axis, layout):
    """Second derivatives along all arguments at once; third ones where nothing else is special.

    Other compositions of three levels take the same ways, and are tried with the functions above.
    """
    ours, dense, leaves = problem(name, axis, layout, True)
    leaves = tuple(t.detach() for t in leaves)
    ways = tuple(torch.linspace(-1, 2, t.numel(), dtype=t.dtype).reshape(t.shape) for t in leaves)
    s = torch.zeros((), dtype=torch.float64)

    def line(f):
        return lambda s: f(*(t + s.sin() * w for t, w in zip(leaves, ways, strict=True))).pow(2).sum()

    second = jacrev(jacrev(line(dense)))
    assert_near(jacfwd(jacfwd(line(ours)))(s), second(s), 1e-9)
    if axis == 1 and layout == "as they are":
        assert_near(jacfwd(jacfwd(jacrev(line(ours))))(s), jacrev(second)(s), 1e-9)


def test_components_that_are_infinite_at_the_winner_of_another():
    """The winner of one component lies where the other has no finite value or derivative."""
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    y = torch.tensor([[0.5, 2.0], [1.0, 0.25]], dtype=torch.float64)
    largest = Genred("Log((x-y)*(x-y))", ["x = Vi(2)", "y = Vj(2)"], "Max", axis=1)

    def total(x):
        return largest(x, y).sum()

    want = 2 / (x - torch.tensor([[0.5, 0.25]], dtype=torch.float64))
    assert_near(grad(total)(x), want)
    assert_near(jacfwd(total)(x), want)
    assert_near(jacfwd(jacfwd(total))(x).reshape(2, 2), torch.diag(-(want.ravel() ** 2) / 2))


def test_predictions_of_float32():
    """Which are rounded from float64, by a function with a jvp of its own."""
    tensors = [t.float() for t in (X, B, AT)]
    for q in (0, 1):

        def total(g, q=q):
            x, b, at = tensors
            return GAUSS.predict(x, x, b, g, at=at, alpha=0.4)[q].pow(2).sum()

        assert_near(jacfwd(jacfwd(total))(G.float()), jacrev(jacrev(total))(G.float()), 1e-4)
