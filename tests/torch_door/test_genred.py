"""Genred of tensors: the same numbers as of arrays, torch's modes, what it accepts and what it refuses."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import usual
from torch_dense import assert_near, torch

import kernelops.numpy
from kernelops import BackendError, DtypeError, Ranges, ShapeError
from kernelops.reductions.kinds import REDUCTIONS
from kernelops.torch import Genred

ALIASES = usual.aliases(3, 2, "g")
GAUSS = usual.SCALED_GAUSS
DTYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
BINARY = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def data(dtype=torch.float64, M=7, N=300):
    draw = torch.Generator().manual_seed(5)
    return [torch.randn(s, generator=draw, dtype=torch.float64).to(dtype) for s in ((M, 3), (N, 3), (N, 2), (1,))]


@DTYPES
@pytest.mark.parametrize("op", REDUCTIONS)
def test_the_same_bits_as_of_arrays(op, dtype):
    """Values that are differentiated too: they are what the reduction compared, not what the gradient's path makes."""
    kind = REDUCTIONS[op]
    formula = "-SqDist(x,y)*g" if kind.accumulator == "exp" else GAUSS
    options = {"opt_arg": 3 if kind.many else None, "formula2": "b*2" if kind.weighted else None}
    arguments = [t.requires_grad_() for t in data(dtype)]
    ours = Genred(formula, ALIASES, op, 1, **options)(*arguments)
    arrays = kernelops.numpy.Genred(formula, ALIASES, op, 1, **options)(*(t.detach().numpy() for t in arguments))
    pairs = zip(ours, arrays, strict=True) if isinstance(ours, tuple) else [(ours, arrays)]
    for tensor, array in pairs:
        assert tensor.dtype == (dtype if tensor.is_floating_point() else torch.int64)
        np.testing.assert_array_equal(tensor.detach().numpy(), array)


@BINARY
def test_numbers_and_tensors_agree_to_the_bit(dtype):
    x, y, b, _ = data(dtype)
    genred = Genred(GAUSS, ALIASES, axis=1)
    for value, others in [(2, [2, np.int64(2), torch.tensor(2)]), (0.3, [])]:
        want = genred(x, y, b, torch.tensor([value], dtype=dtype))
        others = [*others, float(value), np.float64(value), np.array(value), torch.tensor(value, dtype=torch.float64)]
        for number in others:
            assert torch.equal(genred(x, y, b, number), want), repr(number)


def test_a_parameter_without_dimensions_is_differentiated():
    x, y, b, _ = data()
    g = torch.tensor(0.7, requires_grad=True)  # of another dtype than the arrays
    whole = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    genred = Genred(GAUSS, ALIASES, axis=1)
    (got,) = torch.autograd.grad(genred(x, y, b, g).sum(), g)
    (want,) = torch.autograd.grad(genred(x, y, b, whole).sum(), whole)
    assert got.dtype == torch.float32 and got.shape == ()
    assert_near(got.double(), want[0], 1e-5)


def test_strides_do_not_matter():
    x, y, b, g = data()
    genred = Genred(GAUSS, ALIASES, axis=1)
    want = genred(x, y, b, g)
    laid_out = [
        (x.T.contiguous().T, y, b, g),
        (x, torch.stack([y, y], -1)[..., 1], b, g),
        (x, y, b.repeat(1, 2)[:, ::2] * 0 + b, g.expand(1, 1)[0]),
        (torch.cat([x, x], 1)[:, 3:], y.repeat_interleave(2, 0)[::2], b, g),
    ]
    assert all(torch.equal(genred(*arguments), want) for arguments in laid_out)


def test_cotangents_of_any_strides():
    x, y, b, g = (t.requires_grad_() for t in data())
    found = Genred(GAUSS, ALIASES, axis=1)(x, y, b, g)
    want = torch.autograd.grad(found, (x, y, b, g), torch.ones_like(found), retain_graph=True)
    for cotangent in (
        torch.ones(()).double().expand_as(found),
        torch.ones(2, 7).double().T,
        torch.ones(7, 4).double()[:, ::2],
    ):
        got = torch.autograd.grad(found, (x, y, b, g), cotangent, retain_graph=True)
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_without_gradients():
    x, y, b, g = data()
    genred = Genred(GAUSS, ALIASES, axis=1)
    want = genred(x, y, b, g)
    assert not want.requires_grad
    x.requires_grad_()
    assert genred(x, y, b, g).requires_grad
    with torch.no_grad():
        assert torch.equal(genred(x, y, b, g), want) and not genred(x, y, b, g).requires_grad
    with torch.inference_mode():
        found = genred(x * 1, y, b, g)
        assert found.is_inference() and torch.equal(found, want)


def test_only_what_is_asked_is_computed():
    x, y, b, g = data()
    x.requires_grad_()
    found = Genred(GAUSS, ALIASES, axis=1)(x, y, b, g)
    found.sum().backward()
    assert x.grad is not None and y.grad is b.grad is g.grad is None


def test_a_graph_used_twice():
    x, y, b, g = (t.requires_grad_() for t in data())
    found = Genred(GAUSS, ALIASES, axis=1)(x, y, b, g)
    found.sum().backward(retain_graph=True)
    first = x.grad.clone()
    found.sum().backward()
    assert torch.equal(x.grad, 2 * first)


def test_autocast_changes_nothing():
    x, y, b, g = data(torch.float32)
    x.requires_grad_()
    genred = Genred(GAUSS, ALIASES, axis=1)
    (want,) = torch.autograd.grad(genred(x, y, b, g).sum(), x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = genred(x, y, b, g)
        (got,) = torch.autograd.grad(found.sum(), x)
    assert found.dtype == torch.float32 and torch.equal(got, want)


def test_ranges_as_tensors():
    x, y, b, g = data(N=9)
    ranges = Ranges.from_mask([[0, 3], [3, 7]], [[0, 4], [4, 9]], np.array([[True, False], [True, True]]))
    genred = Genred(GAUSS, ALIASES, axis=1)
    want = genred(x, y, b, g, ranges=ranges)
    assert not torch.equal(want, genred(x, y, b, g))
    for dtype in (torch.int32, torch.int64):
        six = tuple(torch.as_tensor(np.array(a)).to(dtype) for a in ranges.as_tuple())
        assert torch.equal(genred(x, y, b, g, ranges=six), want)


def test_out():
    x, y, b, g = data()
    genred = Genred(GAUSS, ALIASES, axis=1)
    out = torch.empty(7, 2, dtype=torch.float64)
    assert genred(x, y, b, g, out=out) is out and torch.equal(out, genred(x, y, b, g))
    with pytest.raises(ShapeError, match=r"out: wanted shape \(7, 2\)"):
        genred(x, y, b, g, out=torch.empty(2, 7, dtype=torch.float64))


def test_copies_and_pickles():
    arguments = data()
    genred = Genred("-g*SqDist(x,y)", ALIASES, "LogSumExp", axis=0, formula2="b")
    for twin in (copy.copy(genred), copy.deepcopy(genred), pickle.loads(pickle.dumps(genred))):
        assert repr(twin) == repr(genred)
        np.testing.assert_array_equal(twin(*arguments), genred(*arguments))


def test_eight_threads_on_one_formula():
    x, y, b, g = data()
    x.requires_grad_()
    genred = Genred(GAUSS, ALIASES, axis=1)

    def gradient(_):
        return torch.autograd.grad(genred(x, y, b, g).square().sum(), x)[0]

    want = gradient(0)
    with ThreadPoolExecutor(8) as pool:
        assert all(torch.equal(found, want) for found in pool.map(gradient, range(32)))


def test_the_number_of_torch_threads_does_not_matter():
    arguments, genred, before = data(), Genred(GAUSS, ALIASES, axis=1), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(genred(*arguments))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


X, Y, B, G = data(N=9)
REFUSED = [  # arguments, error, text; all else that is refused is refused at both doors alike
    ((X.numpy(), Y, B, G), DtypeError, "wanted a torch tensor, got ndarray; kernelops.numpy takes arrays"),
    ((X.bfloat16(), Y, B, G), DtypeError, r"x = Vi\(3\) is bfloat16: wanted float16, float32 or float64"),
    ((X, Y, B, G.float()), DtypeError, r"g = Pm\(1\) is float32"),
    ((X.to(torch.complex128), Y, B, G), DtypeError, r"x = Vi\(3\): wanted float16, float32 or float64, got complex128"),
    ((X.to_sparse(), Y, B, G), DtypeError, r"x = Vi\(3\) is a tensor of layout torch.sparse_coo"),
    ((X, Y.to("meta"), B, G), BackendError, "is on meta, an earlier one on cpu"),
]


@pytest.mark.parametrize(("arguments", "error", "text"), REFUSED, ids=[text[:40] for *_, text in REFUSED])
def test_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        Genred(GAUSS, ALIASES, axis=1)(*arguments)


def test_the_numpy_door_refuses_tensors():
    for door, options in ((kernelops.numpy.Genred, {}), (kernelops.numpy.KernelSolve, {"varinvalias": "b"})):
        with pytest.raises(DtypeError, match="is a torch tensor: use kernelops.torch"):
            door(GAUSS, ALIASES, axis=1, **options)(Y, Y, B, G)


def test_an_unused_position():
    """Explicit positions may leave one out; what stands there is not looked at."""
    genred = Genred("SqDist(x,y)", ["x = Vi(0,3)", "y = Vj(2,3)"], axis=1)
    x = X.clone().requires_grad_()
    want = Genred("SqDist(x,y)", ["x = Vi(3)", "y = Vj(3)"], axis=1)(x, Y)
    for nothing in (None, torch.zeros(5), "nothing"):
        found = genred(x, nothing, Y)
        assert torch.equal(found, want) and torch.autograd.grad(found.sum(), x)[0].isfinite().all()
    assert torch.func.vmap(lambda x: genred(x, None, Y))(x[None]).shape == (1, 7, 1)
