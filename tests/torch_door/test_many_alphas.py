"""Several alphas for one problem: batch dimensions that alpha alone has, at both doors."""

import numpy as np
import pytest
import usual
from torch_dense import all_near, assert_near, derivatives, squared_distances, torch

import kernelops.numpy
import kernelops.torch
from kernelops import KernelOperator, ShapeError

FORMULA, ALIASES = usual.SCALED_GAUSS, usual.aliases(2, 1, "g")
OURS, NUMPY = (d.KernelSolve(FORMULA, ALIASES, "b", axis=1) for d in (kernelops.torch, kernelops.numpy))
N, M = 12, 3
DRAW = torch.Generator().manual_seed(0)
X, B, AT = (torch.rand(*s, generator=DRAW, dtype=torch.float64) for s in ((N, 2), (N, 1), (M, 2)))
SETS = torch.stack([X, 2 * X, 3 * X])
G = torch.tensor([3.0], dtype=torch.float64)
ALPHAS = {shape: 0.05 + torch.rand(*shape, generator=DRAW, dtype=torch.float64)
          for shape in ((4, 1, 1), (4, N, 1), (2, 1, 1, 1), (1, 1, 1))}  # fmt: skip
CASES = [(X, shape) for shape in ALPHAS] + [(SETS, (2, 1, 1, 1)), (SETS, (1, 1, 1))]
EVERY = pytest.mark.parametrize(("points", "shape"), CASES, ids=lambda c: str(tuple(getattr(c, "shape", c))))
HOW = [{}, {"method": "direct"}, {"method": "block_cg"}] + [
    {"method": "cg", "precond": p} for p in (None, "jacobi", "fsai", "nystrom", "pivoted_cholesky")
]
EXACT = {"rtol": 1e-12}


def kernel(x, y, g):
    return (-g * squared_distances(x, y)).exp()


def system(x, g, alpha):
    return kernel(x, x, g) + alpha * torch.eye(N, dtype=torch.float64)


def solved(A, b):
    return torch.linalg.solve(A, b.expand(*A.shape[:-2], *b.shape[-2:]))


def variance(x, g, alpha):
    A, across = system(x, g, alpha), kernel(x, AT, g)
    return 1 - (across * torch.linalg.solve(A, across.expand(*A.shape[:-2], N, M))).sum(-2)


RESULTS = {  # name -> ours and the dense one
    "solve": (lambda x, b, g, a: OURS(x, x, b, g, alpha=a, **EXACT), lambda x, b, g, a: solved(system(x, g, a), b)),
    "logdet": (lambda x, b, g, a: OURS.logdet(x, x, g, alpha=a)[0], lambda x, b, g, a: torch.logdet(system(x, g, a))),
    "inv_quad": (lambda x, b, g, a: OURS.inv_quad_logdet(x, x, b, g, alpha=a, **EXACT).inv_quad,
                 lambda x, b, g, a: (b * solved(system(x, g, a), b)).sum((-2, -1))),
    "mean": (lambda x, b, g, a: OURS.predict(x, x, b, g, at=AT, alpha=a, **EXACT)[0],
             lambda x, b, g, a: kernel(AT, x, g) @ solved(system(x, g, a), b)),
    "variance": (lambda x, b, g, a: OURS.predict(x, x, b, g, at=AT, alpha=a, **EXACT)[1],
                 lambda x, b, g, a: variance(x, g, a)),
}  # fmt: skip


@EVERY
@pytest.mark.parametrize("how", HOW, ids=str)
def test_solves_of_arrays_and_tensors(points, shape, how):
    alpha = ALPHAS[shape]
    want = solved(system(points, G, alpha), B)
    assert_near(OURS(points, points, B, G, alpha=alpha, **EXACT, **how), want, 1e-9)
    found = NUMPY(*(t.numpy() for t in (points, points, B, G)), alpha=alpha.numpy(), **EXACT, **how)
    assert_near(torch.from_numpy(found), want, 1e-9)


@EVERY
@pytest.mark.parametrize("name", RESULTS)
def test_derivatives(name, points, shape):
    ours, dense = RESULTS[name]
    leaves = [t.clone().requires_grad_() for t in (points, B, G, ALPHAS[shape])]
    got, want = ours(*leaves), dense(*leaves)
    assert_near(got, want, 1e-9)
    all_near(derivatives(got, leaves), derivatives(want, leaves), 1e-8)
    still = tuple(t.detach() for t in leaves)
    all_near(torch.func.jvp(ours, still, still), torch.func.jvp(dense, still, still), 1e-8)


def test_vmap_beside():
    ours, dense = RESULTS["solve"]
    alphas = torch.stack([ALPHAS[4, 1, 1], 2 * ALPHAS[4, 1, 1]])
    want = torch.stack([dense(X, B, G, a) for a in alphas])
    assert_near(torch.func.vmap(ours, (None, None, None, 0))(X, B, G, alphas), want, 1e-9)


def test_arrays_of_numpy():
    alpha = ALPHAS[4, 1, 1]
    x, b, g, at = (t.numpy() for t in (X, B, G, AT))
    leaves = (X, B, G, alpha)
    found = NUMPY.inv_quad_logdet(x, x, b, g, alpha=alpha.numpy(), **EXACT)
    mean, spread = NUMPY.predict(x, x, b, g, at=at, alpha=alpha.numpy(), **EXACT)
    made = {"logdet": found.logdet, "inv_quad": found.inv_quad, "mean": mean, "variance": spread}
    for name, got in made.items():
        assert_near(torch.from_numpy(np.asarray(got)), RESULTS[name][1](*leaves), 1e-9)


@pytest.mark.parametrize("shape", [(N, N), (1, N), (4, N), (4, N - 1, 1), (4, 1)])
def test_what_is_no_alpha(shape):
    """A matrix, a row and several vectors without a last dimension of one are refused."""
    for call in (
        lambda: OURS(X, X, B, G, alpha=torch.ones(shape)),
        lambda: NUMPY(X.numpy(), X.numpy(), B.numpy(), G.numpy(), alpha=np.ones(shape)),
    ):
        with pytest.raises(ShapeError, match="alpha: wanted shape"):
            call()


def test_an_operator_has_no_batches():
    x = X.numpy()
    with pytest.raises(ShapeError, match=r"got \(4, 1, 1\)$"):
        KernelOperator(FORMULA, ALIASES, "b", x, x, 3.0, alpha=np.ones((4, 1, 1)))
