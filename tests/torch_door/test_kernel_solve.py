"""KernelSolve of tensors: what comes back, the keywords, torch's modes, what is refused, and a script from KeOps."""

import copy
import pickle
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
import usual
from judges import assert_solves
from scipy.sparse.linalg import aslinearoperator
from torch_dense import all_near, assert_near, squared_distances, torch

import kernelops.numpy
from kernelops import ArgumentError, BackendError, ConvergenceWarning, DtypeError, KeywordError, ShapeError, SolveError
from kernelops.torch import KernelSolve

ALIASES = usual.aliases(3, 2, "g")
GAUSS = usual.SCALED_GAUSS
SOLVER = KernelSolve(GAUSS, ALIASES, "b", axis=1)
ITERATE = {"method": "cg", "precond": None}  # small systems would be factored
N = 40


def data(dtype=torch.float64):
    draw = torch.Generator().manual_seed(8)
    x, b = (
        torch.randn(N, 3, generator=draw, dtype=torch.float64),
        torch.randn(N, 2, generator=draw, dtype=torch.float64),
    )
    return x.to(dtype), b.to(dtype), torch.tensor([0.6], dtype=dtype)


def matrix(x, g, alpha):
    x, g = x.double(), g.double()
    return (-g * squared_distances(x, x)).exp() + alpha * torch.eye(len(x), dtype=torch.float64)


@pytest.mark.parametrize(
    ("dtype", "asked"), [(torch.float16, 1e-3), (torch.float32, 1e-6), (torch.float64, 1e-12)], ids=str
)
def test_what_comes_back(dtype, asked):
    """a like b; the Solution detached, its float64 iterate judged by the dense matrix."""
    x, b, g = data(dtype)
    x.requires_grad_()
    a, solution = SOLVER(x, x, b, g, alpha=0.5, eps=asked, return_solution=True)
    assert (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device) and a.requires_grad
    assert isinstance(solution.x, np.ndarray) and solution.x.dtype == np.float64 and solution.converged
    assert solution.residual.shape == (2,) and (solution.residual <= asked).all()
    assert_solves(matrix(x.detach(), g, 0.5), solution.x, b, asked)
    assert_near(a.detach().double(), torch.from_numpy(solution.x), 2 * torch.finfo(dtype).eps)
    assert not np.shares_memory(a.detach().numpy(), solution.x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_same_bits_as_of_arrays(dtype):
    x, b, g = data(dtype)
    array = kernelops.numpy.KernelSolve(GAUSS, ALIASES, "b", axis=1)(
        x.numpy(), x.numpy(), b.numpy(), g.numpy(), alpha=0.1
    )
    np.testing.assert_array_equal(SOLVER(x, x, b, g, alpha=0.1).numpy(), array)


def test_gradients_of_float16():
    leaves = [t.requires_grad_() for t in data(torch.float16)]
    x, b, g = leaves
    got = torch.autograd.grad(SOLVER(x, x, b, g, alpha=1.0, eps=1e-4).float().square().sum(), leaves)
    doubles = [t.detach().double().requires_grad_() for t in leaves]
    dense = torch.linalg.solve(matrix(doubles[0], doubles[2], 1.0), doubles[1]).square().sum()
    for half, want in zip(got, torch.autograd.grad(dense, doubles), strict=True):
        assert half.dtype == torch.float16
        assert_near(half.double(), want, 5e-3)


@pytest.mark.parametrize("alpha", [1, 0.25, np.float32(0.25), np.full(N, 0.25), [0.25] * N, torch.tensor(1)], ids=repr)
def test_alpha_of_any_kind(alpha):
    x, b, g = data()
    x.requires_grad_()
    a = SOLVER(x, x, b, g, alpha=alpha, eps=1e-12)
    want = torch.linalg.solve(matrix(x, g, float(np.ravel(np.asarray(alpha))[0])), b)
    assert_near(a, want)
    assert torch.autograd.grad(a.sum(), x)[0].isfinite().all()


def test_b_from_another_computation():
    x, b, g = data()
    w = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    a = SOLVER(x, x, b * w, g, alpha=0.3, eps=1e-12)
    (gradient,) = torch.autograd.grad((a**2).sum(), w)
    assert_near(gradient, (a.detach() ** 2).sum())  # a is linear in w = 2


def test_tolerances():
    x, b, g = data()
    loose = SOLVER(x, x, b, g, alpha=0.3, rtol=1e-2, **ITERATE, return_solution=True)[1]
    same = SOLVER(x, x, b, g, alpha=0.3, eps=1e-2, **ITERATE, return_solution=True)[1]
    tight = SOLVER(x, x, b, g, alpha=0.3, **ITERATE, return_solution=True)[1]
    assert loose.iterations == same.iterations < tight.iterations and (tight.residual <= 1e-6).all()
    far = SOLVER(x, x, b, g, alpha=0.3, rtol=0, atol=float(b.norm()), return_solution=True)[1]
    assert far.converged and far.iterations == 0
    with pytest.raises(KeywordError, match="eps is KernelSolve's other name for rtol"):
        SOLVER(x, x, b, g, alpha=0.3, eps=1e-6, rtol=1e-6)


@pytest.mark.parametrize("made", [lambda t: t, lambda t: t.numpy(), lambda t: t.clone().requires_grad_()])
def test_where_to_start(made):
    x, b, g = data()
    exact = torch.linalg.solve(matrix(x, g, 0.3), b)
    start = made(exact.clone())
    solution = SOLVER(x, x, b, g, alpha=0.3, x0=start, return_solution=True)[1]
    assert solution.iterations == 0
    np.testing.assert_array_equal(exact, torch.as_tensor(start).detach())  # not overwritten


def test_a_preconditioner():
    x, b, g = data()
    exact = aslinearoperator(np.linalg.inv(matrix(x, g, 0.3).numpy()))
    a, solution = SOLVER(x, x, b, g, alpha=0.3, M=exact, eps=1e-10, return_solution=True)
    assert solution.iterations <= 2
    assert_solves(matrix(x, g, 0.3), a, b, 1e-10)


def test_the_callback_can_stop():
    x, b, g = data()
    x.requires_grad_()
    seen = []

    def callback(iterate):
        seen.append(iterate)
        if len(seen) == 3:
            raise StopIteration

    a, solution = SOLVER(x, x, b, g, alpha=0.3, callback=callback, **ITERATE, return_solution=True)
    assert solution.status == "stopped" and len(seen) == 3 and all(s.shape == (N, 2) for s in seen)
    np.testing.assert_array_equal(a.detach(), solution.x)


def test_progress(capsys):
    x, b, g = data()
    x.requires_grad_()
    a = SOLVER(x, x, b, g, alpha=0.3, progress=True)
    said = capsys.readouterr().err
    torch.autograd.grad(a.sum(), x)
    assert capsys.readouterr().err == ""  # the backward solve is silent
    # without tqdm there is nothing to say in under two seconds
    assert ("solve" in said) == (find_spec("tqdm") is not None)


def test_a_failure_is_told_where_it_was_called():
    x, b, g = data()
    with pytest.warns(ConvergenceWarning, match="after maxiter = 1 iterations") as told:
        a, solution = SOLVER(x, x, b, g, alpha=0.01, maxiter=1, **ITERATE, return_solution=True)
    assert len(told) == 1 and told[0].filename == __file__
    with pytest.warns(ConvergenceWarning) as told:
        torch.func.jvp(lambda b: SOLVER(x, x, b, g, alpha=0.01, maxiter=1, **ITERATE), (b,), (b,))
    assert {w.filename for w in told if w.category is ConvergenceWarning} == {__file__}  # torch warns of itself too
    with pytest.warns(ConvergenceWarning) as told:
        SOLVER(x, x, b.clone().requires_grad_(), g, alpha=0.01, maxiter=1, **ITERATE).sum().backward()
    assert len(told) == 2 and {w.filename for w in told} == {__file__}
    assert solution.status == "maxiter" and a.isfinite().all()
    with pytest.raises(SolveError) as failed:
        SOLVER(x, x, b, g, alpha=0.01, maxiter=1, **ITERATE, on_fail="raise")
    assert failed.value.solution.status == "maxiter"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SOLVER(x, x, b, g, alpha=0.01, maxiter=1, **ITERATE, on_fail="ignore")


@pytest.mark.parametrize("place", ["x", "b", "g"])
def test_nan_in_the_data(place):
    x, b, g = data()
    dict(x=x, b=b, g=g)[place].ravel()[0] = torch.nan
    with pytest.warns(ConvergenceWarning, match="NaN or Inf"):
        a, solution = SOLVER(x, x, b, g, alpha=0.3, return_solution=True)
    assert solution.status == "nonfinite" and a.isnan().all()


def test_without_gradients():
    x, b, g = data()
    want = SOLVER(x, x, b, g, alpha=0.3)
    assert not want.requires_grad
    with torch.inference_mode():
        found = SOLVER(x * 1, x * 1, b, g, alpha=0.3)
        assert found.is_inference() and torch.equal(found, want)
    x.requires_grad_()
    with torch.no_grad():
        assert torch.equal(SOLVER(x, x, b, g, alpha=0.3), want) and not SOLVER(x, x, b, g, alpha=0.3).requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(SOLVER(x, x, b, g, alpha=0.3), want)


def test_a_graph_used_twice_with_cotangents_of_any_strides():
    x, b, g = (t.requires_grad_() for t in data())
    a = SOLVER(x, x, b, g, alpha=0.3)
    want = torch.autograd.grad(a, (x, b, g), torch.ones_like(a), retain_graph=True)
    ones = torch.ones(N, 4, dtype=torch.float64)
    for cotangent in (ones[:, ::2], ones[:2].new_ones(2, N).T, ones[0, 0].expand(N, 2)):
        all_near(torch.autograd.grad(a, (x, b, g), cotangent, retain_graph=True), want)


def test_copies_and_pickles():
    x, b, g = data()
    for twin in (copy.copy(SOLVER), copy.deepcopy(SOLVER), pickle.loads(pickle.dumps(SOLVER))):
        assert repr(twin) == repr(SOLVER)
        assert torch.equal(twin(x, x, b, g, alpha=0.3), SOLVER(x, x, b, g, alpha=0.3))


X, B, G = data()
REFUSED = [  # arguments, keywords, error, text; all else that is refused is refused at both doors alike
    ((X, X.bfloat16(), B, G), {}, DtypeError, r"y = Vj\(3\) is bfloat16: wanted float16, float32 or float64"),
    ((X, X + 1, B, G), {}, ArgumentError, "symmetric"),
    ((X, X, B, G), {"alpha": torch.tensor(torch.nan)}, ArgumentError, "alpha must be finite and nonnegative, got nan"),
    ((X, X, B, G), {"alpha": torch.ones(3)}, ShapeError, r"alpha: wanted shape \(\), \(1,\), \(40,\) or \(40, 1\)"),
    ((X, X, B, G), {"alpha": torch.tensor(1j)}, DtypeError, "alpha: wanted real numbers, got complex64"),
    ((X, X, B, G), {"alpha": torch.ones((), device="meta")}, BackendError, "alpha is on meta"),
    ((X, X, B, G), {"x0": torch.ones(3)}, ShapeError, "x0 must have the shape of b"),
]


@pytest.mark.parametrize(("arguments", "keywords", "error", "text"), REFUSED, ids=[text[:40] for *_, text in REFUSED])
def test_refused(arguments, keywords, error, text):
    with pytest.raises(error, match=text):
        SOLVER(*arguments, **{"alpha": 0.3, **keywords})


def test_a_script_written_for_keops():
    """But for its import, as one finds it in scripts: positional dtype-less constructor, eps, ridge, a gradient."""
    torch.manual_seed(0)
    npoints, dim, dimb = 200, 3, 2
    formula = "Exp(- g * SqDist(x,y)) * b"
    aliases = ["x = Vi(" + str(dim) + ")", "y = Vj(" + str(dim) + ")", "b = Vj(" + str(dimb) + ")", "g = Pm(1)"]
    Kinv = KernelSolve(formula, aliases, "b", axis=1)
    x = torch.rand(npoints, dim, requires_grad=True)
    b = torch.randn(npoints, dimb)
    g = torch.Tensor([0.5 / 0.1**2])
    alpha = 0.8
    c = Kinv(x, x, b, g, alpha=alpha, eps=1e-6, backend="CPU")

    K = torch.exp(-g.double() * ((x.double()[:, None, :] - x.double()[None, :, :]) ** 2).sum(-1))
    dense = torch.linalg.solve(K + alpha * torch.eye(npoints), b.double())
    assert (c - dense).norm() < 1e-5 * dense.norm()
    e = torch.randn(npoints, dimb)
    (u,) = torch.autograd.grad(c, x, e)
    (v,) = torch.autograd.grad(dense, x, e.double())
    assert u.shape == x.shape and (u - v).norm() < 1e-4 * v.norm()
