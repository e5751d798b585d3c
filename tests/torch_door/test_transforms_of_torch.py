"""x0 as a tensor under torch.func; is_grads_batched and vectorize=True, behind which is an older vmap of torch."""

import pytest
import usual
from torch_dense import assert_near, torch

from kernelops.errors import ShapeError
from kernelops.torch import Genred, KernelSolve

ALIASES = usual.aliases(2, 1)
SOLVER = KernelSolve(usual.GAUSS, ALIASES, "b", axis=1)
DRAW = torch.Generator().manual_seed(0)
N = 5
X, B, START = (torch.rand(*s, generator=DRAW, dtype=torch.float64) for s in ((N, 2), (3, N, 1), (3, N, 1)))
ITERATE = {"alpha": 0.1, "method": "cg", "precond": None, "rtol": 1e-12}
vmap, grad, jvp = torch.func.vmap, torch.func.grad, torch.func.jvp


def solve(b, start, x=X):
    return SOLVER(x, x, b, x0=start, **ITERATE)


@pytest.mark.parametrize("dims", [(0, 0), (0, None), (None, 0)], ids=str)
def test_x0_under_vmap(dims):
    b, start = (t if d == 0 else t[0] for t, d in zip((B, START), dims, strict=True))
    want = torch.stack([solve(b if dims[0] is None else b[k], None) for k in range(3)])
    assert_near(vmap(solve, dims)(b, start), want)
    once = [t if d is None else t[None] for t, d in zip((b, start), dims, strict=True)]
    assert_near(vmap(vmap(solve, dims), dims)(*once), want[None])


def test_x0_beside_batch_dimensions():
    batch = torch.stack([X, 2 * X])
    want = torch.stack([solve(b, None, batch) for b in B])
    assert_near(vmap(lambda b, start: solve(b, start, batch))(B, START), want)
    assert_near(vmap(lambda start: solve(B[0], start, batch))(START), want[:1].expand(3, -1, -1, -1))


def test_x0_is_where_the_iteration_starts():
    exact = solve(B[0], None)
    found = []

    def steps(b):
        a, solution = SOLVER(X, X, b, x0=exact + 0 * b, return_solution=True, **(ITERATE | {"rtol": 1e-6}))
        found.append(solution.iterations)
        return a.sum()

    grad(steps)(B[0])
    assert found == [0]


def test_x0_has_no_derivative():
    want = grad(lambda b: solve(b, None).pow(2).sum())(B[0])
    assert_near(grad(lambda b: solve(b, b).pow(2).sum())(B[0]), want)
    assert_near(grad(lambda s: solve(B[0], s).sum())(START[0]), torch.zeros(N, 1, dtype=torch.float64))
    moved = jvp(lambda b: solve(b, b), (B[0],), (START[0],))[1]
    assert_near(moved, jvp(lambda b: solve(b, None), (B[0],), (START[0],))[1])

    def twice(start):
        return jvp(lambda x: jvp(lambda x: solve(B[0], start(x), x), (x,), (X.cos(),))[1], (X,), (X.sin(),))[1]

    assert_near(twice(lambda x: x[:, :1]), twice(lambda x: None), 1e-8)
    assert not solve(B[0], START[0].clone().requires_grad_()).requires_grad


def test_x0_of_another_shape_is_named():
    with pytest.raises(ShapeError, match="x0 must have the shape of b"):
        vmap(solve)(B, START[:, 1:])


SUM, LOGSUM = Genred(usual.GAUSS, ALIASES, axis=1), Genred("-SqDist(x,y)", ALIASES[:2], "LogSumExp", axis=1)
MEAN = Genred("-SqDist(x,y)", ALIASES, "SumSoftMaxWeight", axis=1, formula2="b")
LEAST, NEAREST = Genred("x-y", ALIASES[:2], "Min", 1), Genred("SqDist(x,y)", ALIASES[:2], "KMin", 1, opt_arg=2)
AT, EXACT = X[:2] + 0.1, {"alpha": 0.1, "rtol": 1e-12}
FUNCTIONS = {
    "Sum": lambda x: SUM(x, x.cos(), B[0]),
    "LogSumExp": lambda x: LOGSUM(x, x.cos()),
    "SumSoftMaxWeight": lambda x: MEAN(x, x.cos(), B[0]),
    "Min": lambda x: LEAST(x, 2 * x.cos()),
    "KMin": lambda x: NEAREST(x, 2 * x.cos()),
    "KernelSolve": lambda x: SOLVER(x, x, B[0], **EXACT),
    "logdet": lambda x: SOLVER.logdet(x, x, alpha=0.1)[0] * x[0],
    "inv_quad": lambda x: SOLVER.inv_quad_logdet(x, x, B[0], **EXACT).inv_quad * x[0],
    "mean": lambda x: SOLVER.predict(x, x, B[0], at=AT, **EXACT)[0],
    "variance": lambda x: SOLVER.predict(x, x, B[0], at=AT, **EXACT)[1],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_vectorize(name):
    """Jacobians and Hessians, forward and backward, and gradients in a batch."""
    f = FUNCTIONS[name]

    def total(x):
        return f(x).pow(2).sum()

    functional = torch.autograd.functional
    jacobian, hessian = torch.func.jacrev(f)(X), torch.func.hessian(total)(X)
    assert_near(functional.jacobian(f, X, vectorize=True), jacobian)
    assert_near(functional.jacobian(f, X, vectorize=True, strategy="forward-mode"), jacobian)
    assert_near(functional.hessian(total, X, vectorize=True), hessian)
    assert_near(functional.hessian(total, X, vectorize=True, outer_jacobian_strategy="forward-mode"), hessian)
    x = X.clone().requires_grad_()
    found = f(x)
    every = torch.eye(found.numel(), dtype=torch.float64).reshape(-1, *found.shape)
    (rows,) = torch.autograd.grad(found, x, every, is_grads_batched=True)
    assert_near(rows.reshape(jacobian.shape), jacobian)


def test_vectorize_twice():
    """A jacobian of a jacobian, one older vmap in the other."""

    def inner(x):
        return torch.autograd.functional.jacobian(FUNCTIONS["KernelSolve"], x, create_graph=True, vectorize=True)

    got = torch.autograd.functional.jacobian(inner, X, vectorize=True)
    assert_near(got, torch.func.jacrev(torch.func.jacrev(FUNCTIONS["KernelSolve"]))(X), 1e-9)


def test_other_errors_stay_what_they_are(monkeypatch):
    def broken(*_):
        raise RuntimeError("out of something")

    monkeypatch.setattr("kernelops.reductions.reduction.Reduction.__call__", broken)
    with pytest.raises(RuntimeError, match="out of something"):
        SUM(X, X, B[0])
