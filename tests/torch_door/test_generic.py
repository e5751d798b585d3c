"""generic_sum and its kin at both doors: the axis, and K, are read off the output."""

import numpy as np
import pytest
from torch_dense import torch

import kernelops.numpy
import kernelops.torch
from kernelops import ArgumentError, KeywordError

ALIASES = ("x = Vi(3)", "y = Vj(3)")
X, Y = np.random.default_rng(0).standard_normal((5, 3)), np.random.default_rng(1).standard_normal((8, 3))
SQUARES = ((X[:, None] - Y) ** 2).sum(-1)
DOORS = {"numpy": (kernelops.numpy, np.asarray), "torch": (kernelops.torch, torch.from_numpy)}
DOOR = pytest.mark.parametrize("door", DOORS)
WANTED = {  # function -> formula, output over j, what it gives for axis 1
    "generic_sum": ("Exp(-SqDist(x,y))", "a = Vi(1)", lambda s: np.exp(-s).sum(1, keepdims=True)),
    "generic_logsumexp": ("-SqDist(x,y)", "a = Vi(1)", lambda s: np.log(np.exp(-s).sum(1, keepdims=True))),
    "generic_argmin": ("SqDist(x,y)", "a = Vi(1)", lambda s: s.argmin(1)[:, None]),
    "generic_argkmin": ("SqDist(x,y)", "a = Vi(3)", lambda s: s.argsort(1)[:, :3]),
}


@DOOR
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", WANTED)
def test_axis_and_length_are_read_off_the_output(name, axis, door):
    module, made = DOORS[door]
    formula, output, want = WANTED[name]
    genred = getattr(module, name)(formula, output if axis else output.replace("Vi", "Vj"), *ALIASES)
    assert type(genred) is module.Genred
    got = genred(made(X), made(Y))
    assert type(got) is type(made(X))
    np.testing.assert_allclose(np.asarray(got), want(SQUARES if axis else SQUARES.T), rtol=1e-13)


@DOOR
def test_keywords_reach_genred(door):
    module, made = DOORS[door]
    genred = module.generic_sum(
        "Exp(-SqDist(x,y))", "a = Vi(1)", *ALIASES, dtype_acc="float64", sum_scheme="kahan_scheme"
    )
    np.testing.assert_allclose(np.asarray(genred(made(X), made(Y))), np.exp(-SQUARES).sum(1, keepdims=True), rtol=1e-13)
    with pytest.raises(KeywordError, match="axis is settled by the function and its output"):
        module.generic_sum("x|y", "a = Vi(1)", *ALIASES, axis=1)


@DOOR
@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("a = Vi(2)", "the output 'a = Vi\\(2\\)' has length 2, the result"),
        ("a = Pm(1)", "must be indexed by i or by j"),
    ],
)
def test_outputs_that_do_not_fit(output, text, door):
    with pytest.raises(ArgumentError, match=text):
        DOORS[door][0].generic_sum("SqDist(x,y)", output, *ALIASES)


def test_gradients():
    x = torch.from_numpy(X).requires_grad_()
    found = kernelops.torch.generic_logsumexp("-SqDist(x,y)", "a = Vi(1)", *ALIASES)(x, torch.from_numpy(Y))
    (gradient,) = torch.autograd.grad(found.sum(), x)
    share = np.exp(-SQUARES) / np.exp(-SQUARES).sum(1, keepdims=True)
    np.testing.assert_allclose(gradient, 2 * (share @ Y - X), rtol=1e-12)
