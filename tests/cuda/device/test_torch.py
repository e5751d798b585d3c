"""The torch door on a GPU: tensors of the host that are sent there, and tensors that are there already.

The emulated GPU has the memory of the host, so that a tensor of the host can pass for one that is there.
"""

from functools import partial

import numpy as np
import pytest
import torch
import usual

from kernelops import KernelOperator
from kernelops.arrays import arguments as arrays
from kernelops.arrays import backend as backend_choice
from kernelops.arrays import device_array
from kernelops.operators import scipy_base
from kernelops.torch import Genred, KernelSolve
from kernelops.torch.vectors import TensorVectors

pytestmark = pytest.mark.usefixtures("gpu")
GAUSS = usual.SCALED_GAUSS, usual.aliases(2, 1, "g")


SIMPLE = usual.GAUSS, usual.aliases(2, 1)


def points(n=60, dtype=torch.float64, seed=0):
    draw = torch.Generator().manual_seed(seed)
    given = torch.randn(n, 2, generator=draw), torch.randn(n, 1, generator=draw), torch.tensor([0.7])
    return [t.to(dtype).requires_grad_() for t in given]


@pytest.fixture
def there(monkeypatch):
    """Lets tensors of the host pass for some that are on the GPU."""
    for module in (arrays, device_array, backend_choice, scipy_base):
        monkeypatch.setattr(
            module, "on_device", lambda a: isinstance(a, torch.Tensor) or device_array._gives_gpu_memory(a)
        )
    monkeypatch.setattr(arrays, "as_numpy_view", lambda a: a if type(a) is np.ndarray else None)
    return lambda t: t


def gradients(call, x, b, g):
    """Value, gradients, and gradients of gradients."""
    value = call(x, x, b, g)
    first = torch.autograd.grad((value**2).sum(), (x, b, g), create_graph=True)
    second = torch.autograd.grad(sum((f**2).sum() for f in first), (x, b, g))
    return [t.detach().cpu() for t in (value, *first, *second)]


def assert_all_close(found, wanted, rtol):
    for f, w in zip(found, wanted, strict=True):
        torch.testing.assert_close(f, w, rtol=rtol, atol=rtol * float(w.abs().max()))


@pytest.mark.parametrize("axis", [0, 1])
def test_gradients_of_tensors_that_are_sent(axis):
    call, given = Genred(*GAUSS, axis=axis), points()
    if axis == 0:
        call = Genred(usual.SCALED_GAUSS, ["y = Vj(2)", "x = Vi(2)", "b = Vi(1)", "g = Pm(1)"], axis=0)
    assert_all_close(gradients(partial(call, backend="GPU"), *given), gradients(call, *given), 1e-11)


def test_gradients_of_tensors_that_are_there(there):
    call, given = Genred(*GAUSS, axis=1), points()
    wanted = gradients(call, *given)
    x, b, g = map(there, given)
    found = call(x, x, b, g)
    assert found.device == x.device and found.dtype == x.dtype
    assert_all_close(gradients(call, x, b, g), wanted, 1e-11)


@pytest.mark.parametrize("op", ["LogSumExp", "SumSoftMaxWeight", "Min", "KMin"])
def test_other_reductions(op, there):
    how = {"formula2": "b"} if op == "SumSoftMaxWeight" else {"opt_arg": 3} if op == "KMin" else {}
    call = Genred("-g*SqDist(x,y)+0*Elem(b,0)", GAUSS[1], op, axis=1, **how)
    given = points()
    wanted = gradients(call, *given)
    assert_all_close(gradients(call, *map(there, given)), wanted, 1e-10)


def test_a_solve_and_its_gradients(there):
    solver, given = KernelSolve(*GAUSS, "b", axis=1), points()
    alpha = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def run(x, b, g, alpha):
        a, solution = solver(x, x, b, g, alpha=alpha, rtol=1e-12, return_solution=True)
        assert solution.converged and a.device == b.device
        found = torch.autograd.grad((a**2).sum(), (x, b, g, alpha), create_graph=True)
        again = torch.autograd.grad(sum((f**2).sum() for f in found), (x, b, g, alpha))
        return [t.detach().cpu() for t in (a, *found, *again)]

    wanted = run(*given, alpha)
    assert_all_close(run(*map(there, given), alpha), wanted, 1e-8)


def test_a_solve_of_tensors_that_are_sent():
    solver, (x, b, g) = KernelSolve(*GAUSS, "b", axis=1), points(dtype=torch.float32)

    def run(**how):
        a = solver(x, x, b, g, alpha=0.1, **how)
        return [t.detach() for t in (a, *torch.autograd.grad(a.sum(), (x, b, g)))]

    assert_all_close(run(backend="GPU"), run(), 1e-4)


def test_a_determinant_and_a_prediction(there):
    solver, (x, b, g) = KernelSolve(*GAUSS, "b", axis=1), points()
    new = x.detach() + 0.1

    def run(x, b, g, new):
        value, _ = solver.logdet(x, x, b, g, alpha=0.1)
        mean, variance = solver.predict(x, x, b, g, at=new, alpha=0.1)
        total = value + mean.sum() + variance.sum()
        return [t.detach().cpu() for t in (value, mean, variance, *torch.autograd.grad(total, (x, b, g)))]

    wanted = run(x, b, g, new)
    assert_all_close(run(*map(there, (x, b, g, new))), wanted, 1e-6)


def test_an_array_that_is_written(there):
    call, given = Genred(*GAUSS, axis=1), [t.detach() for t in points()]
    x, b, g = map(there, given)
    out = torch.empty_like(b)
    assert call(x, x, b, g, out=out) is out
    torch.testing.assert_close(out.cpu(), call(*[given[0]] * 2, *given[1:], backend="GPU"))


def test_an_operator_on_tensors(there):
    x, b, _ = (t.detach() for t in points())
    for alpha in (0.0, 0.5, np.linspace(0.1, 1, 60)):
        wanted = KernelOperator(*SIMPLE, "b", x.numpy(), x.numpy(), alpha=alpha) @ b.numpy()
        A = KernelOperator(*SIMPLE, "b", there(x), there(x), alpha=alpha)
        for found in (A @ there(b), A.T @ there(b), A.matvec(there(b[:, 0]))[:, None]):
            assert isinstance(found, torch.Tensor)
            np.testing.assert_allclose(found.cpu().numpy(), wanted, rtol=1e-12)


@pytest.mark.parametrize("precond", [None, "jacobi", "fsai", "pivoted_cholesky"])
def test_vectors_of_a_solve_stay_there(precond, there, monkeypatch):
    solver, (x, b, g) = KernelSolve(*GAUSS, "b", axis=1), (t.detach() for t in points(150, torch.float32))
    how = {"alpha": 0.1, "precond": precond, "method": "cg", "return_solution": True}
    blocks, cg_update = [], TensorVectors.cg_update
    monkeypatch.setattr(
        TensorVectors, "cg_update", lambda self, *args: blocks.extend(args[:4]) or cg_update(self, *args)
    )
    tx, tb, tg = map(there, (x, b, g))
    a, found = solver(tx, tx, tb, tg, **how)
    assert found.converged and found.products.keys() == {"float32", "float64"}
    assert blocks and all(v.device == a.device == tb.device for v in blocks) and a.dtype == tb.dtype
    assert isinstance(found.x, np.ndarray) and found.x.dtype == np.float64
    z = x.double()
    A = (-g * ((z[:, None] - z) ** 2).sum(-1)).exp() + 0.1 * torch.eye(150, dtype=torch.float64)
    r = torch.linalg.norm(b - A @ torch.from_numpy(found.x)) / torch.linalg.norm(b)
    assert r <= 1.1e-6 and abs(float(found.residual[0]) - float(r)) <= 1e-3 * float(r) + 1e-10
