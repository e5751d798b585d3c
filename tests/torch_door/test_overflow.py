"""What is returned counts, from both doors: x in the dtype of b may be infinite where the iterate is not."""

import warnings

import numpy as np
import pytest
import torch
import usual
from tensor_systems import DEVICES, pair

from kernelops import ConvergenceWarning, KernelOperator, SolveError, solve
from kernelops.numpy import KernelSolve
from kernelops.torch import KernelSolve as TorchKernelSolve

N = 60
ALIASES = usual.aliases(2, 1, "g")
FORMULA = usual.SCALED_GAUSS
LARGE = {"float16": 10.0, "float32": 1e37}  # right-hand sides of this size have larger solutions than the dtype holds
DOORS = ["numpy", "torch"]


def arrays(dtype, size, columns=1):
    draw = np.random.default_rng(0)
    x, b = draw.random((N, 2)), size * draw.standard_normal((N, columns))
    return x.astype(dtype), b.astype(dtype)


def solver(door, columns=1):
    aliases = [*ALIASES[:2], f"b = Vj({columns})", ALIASES[3]]
    return (KernelSolve if door == "numpy" else TorchKernelSolve)(FORMULA, aliases, "b", axis=1)


def given(door, *arrays):
    return arrays if door == "numpy" else [torch.from_numpy(a) for a in arrays]


def called(door, dtype, size, columns=1, g=20.0, alpha=1e-4, **keywords):
    x, b = arrays(dtype, size, columns)
    args = given(door, x, x, b, np.array([g], dtype))
    return solver(door, columns)(*args, alpha=alpha, return_solution=True, **keywords)


@pytest.mark.parametrize("method", ["cg", "direct"])
@pytest.mark.parametrize("dtype", LARGE)
@pytest.mark.parametrize("door", DOORS)
def test_an_infinite_result_is_said(door, dtype, method):
    with pytest.warns(ConvergenceWarning, match=f"beyond {dtype}, so that Inf is returned") as caught:
        a, found = called(door, dtype, LARGE[dtype], method=method)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert found.status == "overflow" and not found.converged and found.info == -1
    assert np.isinf(np.asarray(a)).any() and np.isfinite(found.x).all()
    assert (found.residual <= 1e-6).all() and np.isinf(found.residual_returned).all()
    with pytest.raises(SolveError) as raised:
        called(door, dtype, LARGE[dtype], method=method, on_fail="raise")
    assert raised.value.solution.status == "overflow"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert called(door, dtype, LARGE[dtype], method=method, on_fail="ignore")[1].status == "overflow"


@pytest.mark.parametrize("dtype", [*LARGE, "float64"])
@pytest.mark.parametrize("door", DOORS)
def test_what_fits_is_returned_without_a_word(door, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        a, found = called(door, dtype, 1e-3)
    assert found.converged and np.isfinite(np.asarray(a)).all() and np.isfinite(found.residual_returned).all()


def test_the_columns_are_judged_by_themselves():
    x, b = arrays("float16", 10.0, 3)
    b[:, 1] *= 1e-3
    _, found = solver("numpy", 3)(x, x, b, 20.0, alpha=1e-4, return_solution=True, on_fail="ignore")
    assert np.isinf(found.residual_returned).tolist() == [True, False, True]
    assert (found.residual_returned[1] < 1).all() and found.status == "overflow"


def test_under_vmap_and_in_a_batch():
    x, b = given("torch", *arrays("float16", 10.0))
    both, g = torch.stack([b, b / 1000]), torch.tensor([20.0], dtype=torch.float16)
    run = solver("torch")
    for found in (
        lambda: torch.func.vmap(lambda b: run(x, x, b, g, alpha=1e-4))(both),
        lambda: run(x, x, both, g, alpha=1e-4),
    ):
        with pytest.warns(ConvergenceWarning, match="beyond float16"):
            a = found()
        assert a[0].isinf().any() and a[1].isfinite().all()


def test_solve_itself_returns_the_iterate():
    x, b = arrays("float16", 10.0)
    found = solve(KernelOperator(FORMULA, ALIASES, "b", x, x, np.float16(20), alpha=1e-4), b)
    assert found.converged and np.isfinite(found.x).all() and found.x.dtype == np.float64
    assert np.isinf(found.residual_returned).all()


@pytest.mark.parametrize("device", DEVICES)
def test_vectors_that_are_tensors(device):
    x, b = arrays("float16", 10.0, 3)
    b[:, 1] *= 1e-3
    wide = x.astype(float)
    A, _ = pair(np.exp(-20 * ((wide[:, None] - wide) ** 2).sum(-1)) + 1e-4 * np.eye(N), device=device)
    found = solve(A, torch.from_numpy(b).to(device), method="cg")
    assert found.converged and np.isinf(found.residual_returned).tolist() == [True, False, True]
    assert found.residual_returned[1] < 1


@pytest.mark.parametrize("door", DOORS)
def test_predictions(door):
    """The mean goes far beyond the observations, and the variance is that of a large kernel."""
    aliases = usual.aliases(1, 1, "g")
    run = (KernelSolve if door == "numpy" else TorchKernelSolve)("(1+g*(x|y))*b", aliases, "b", axis=1)
    x = np.linspace(0, 1, 20, dtype=np.float16)[:, None]
    x, b, g, at = given(door, x, 1000 * x, np.ones(1, np.float16), np.array([[100.0], [0.5]], np.float16))
    with pytest.warns(ConvergenceWarning, match=r"the mean goes up to 1.*beyond float16") as caught:
        mean, _ = run.predict(x, x, b, g, at=at, alpha=1e-3, variance=False)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert np.isinf(np.asarray(mean)).ravel().tolist() == [True, False]
    big = given(door, np.full((1, 1), 1e4, np.float16))[0]
    with pytest.warns(ConvergenceWarning, match="the variance goes up to .*beyond float16") as caught:
        run.predict(x, x, 0 * b, g, at=big, alpha=10.0)
    assert caught[-1].filename == __file__
    with pytest.raises(SolveError, match="mean") as raised:
        run.predict(x, x, b, g, at=at, alpha=1e-3, variance=False, on_fail="raise")
    assert float(abs(raised.value.solution.values).max()) > 65504
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.predict(x, x, b, g, at=at, alpha=1e-3, on_fail="ignore")


def test_a_rounded_prediction_has_its_derivatives():
    aliases = usual.aliases(1, 1)
    x = torch.linspace(0, 1, 20)[:, None]
    found = []
    for dtype in (torch.float32, torch.float64):
        run = TorchKernelSolve("Exp(-10*SqDist(x,y))*b", aliases, "b", axis=1)
        at = torch.tensor([[0.3], [0.7]], dtype=dtype)

        def value(at, dtype=dtype, run=run):
            mean, variance = run.predict(x.to(dtype), x.to(dtype), torch.sin(x).to(dtype), at=at, alpha=0.1)
            return (mean[:, 0] + variance).sum()

        found.append((torch.func.grad(value)(at), torch.func.jvp(value, (at,), (torch.ones_like(at),))[1]))
        assert found[-1][0].dtype == dtype
    for single, double in zip(*found, strict=True):
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)
