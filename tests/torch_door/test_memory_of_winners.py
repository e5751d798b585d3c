"""What Min, Max and KMin take beside their arguments and results: no row for each winner, no square of lengths."""

import pytest
from tensor_footprint import peak_of_all
from torch_dense import torch

from kernelops.torch import Genred

MB = 1 << 20
CASES = {  # name -> formula, reduction, K, components of the points, rows, columns; bytes of values and indices
    "vectors": ("x-y", "Min", None, 60, 3000, 40),
    "many": ("SqDist(x,y)", "KMin_ArgKMin", 30, 60, 3000, 100),
    "many vectors": ("x-y", "KMin", 6, 20, 3000, 40),
    "vectors over i": ("y-x", "Max_ArgMax", None, 60, 40, 3000),
}
NAMED = pytest.mark.parametrize("name", CASES)


def called(name):
    formula, op, K, D, rows, columns = CASES[name]
    axis = 0 if name == "vectors over i" else 1
    genred = Genred(formula, [f"x = Vi({D})", f"y = Vj({D})"], op, axis=axis, opt_arg=K)
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, D, generator=draw) for n in (rows, columns))
    winners = max(rows, columns) * (K or 1) * (1 if formula == "SqDist(x,y)" else D)
    return genred, x, y, 12 * winners  # a float32 and an int64 each


def test_a_tensor_is_counted():
    assert 4 * MB <= peak_of_all(lambda: torch.zeros(MB, dtype=torch.float32) + 0) < 9 * MB


@NAMED
@pytest.mark.parametrize("way", ["no gradient wanted", "under no_grad", "wanted, not asked for"])
def test_values(name, way):
    genred, x, y, results = called(name)
    x.requires_grad_(way != "no gradient wanted")
    with torch.set_grad_enabled(way != "under no_grad"):
        assert peak_of_all(lambda: genred(x, y)) < 3 * results + 2 * MB


@NAMED
def test_gradients(name):
    """Beside what the forward pass has: the gradients, accumulated in float64, and a piece of gathered rows."""
    genred, x, y, results = called(name)
    x.requires_grad_()
    y.requires_grad_()

    def call():
        found = genred(x, y)
        found = found[0] if isinstance(found, tuple) else found
        return torch.autograd.grad(found.sum(), (x, y))

    assert peak_of_all(call) < 4 * results + 4 * 12 * (x.numel() + y.numel()) + 16 * MB


@NAMED
def test_tangents(name):
    genred, x, y, results = called(name)

    def call():
        return torch.func.jvp(lambda x: genred(x, y), (x,), (torch.ones_like(x),))

    assert peak_of_all(call) < 4 * results + 4 * 12 * x.numel() + 16 * MB
