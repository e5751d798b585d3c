"""geomloss by kernelops: its losses by LazyTensors and Genred against its own dense ones, with two gradients.

Its dense distances are sqrt(max(d2, 1e-4)) in all but the squared ones, so that losses of distances differ by that
before it differs by anything else; where it takes clusters, the second gradients of its
kernels are of another function, by KeOps as well, and are not compared.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

MULTISCALE = {"backend": "multiscale", "truncate": 8}


def loss_and_gradients(name, dimension, dtype=torch.float64, **options):
    from geomloss import SamplesLoss

    torch.manual_seed(0)
    x, y, a, b = (torch.rand(shape, dtype=torch.float64) for shape in ((60, dimension), (50, dimension), 60, 50))
    x, y, a, b = (t.to(dtype) for t in (x, y, a / a.sum(), b / b.sum()))
    x.requires_grad_(), a.requires_grad_()
    value = SamplesLoss(name, blur=0.3, scaling=0.9, **options)(a, x, b, y)
    first = torch.autograd.grad(value, [x, a], create_graph=True)
    second = torch.autograd.grad(first[0].square().sum(), x)
    return [t.detach().double() for t in (value, *first, *second)]


def largest_difference(found, wanted):
    return max(float((f - w).abs().max() / w.abs().max()) for f, w in zip(found, wanted))


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize(
    ("name", "bound"), [("sinkhorn", 1e-6), ("gaussian", 1e-12), ("laplacian", 5e-4), ("energy", 5e-4)]
)
def test_online_losses(name, bound, dimension):
    dense = loss_and_gradients(name, dimension, backend="tensorized")
    assert largest_difference(loss_and_gradients(name, dimension, backend="online"), dense) < bound


def test_multiscale_sinkhorn():
    dense = loss_and_gradients("sinkhorn", 2, backend="tensorized")
    assert largest_difference(loss_and_gradients("sinkhorn", 2, **MULTISCALE), dense) < 1e-4


@pytest.mark.parametrize("name", ["gaussian", "laplacian"])
def test_multiscale_kernels(name):
    dense = loss_and_gradients(name, 2, backend="online")
    assert largest_difference(loss_and_gradients(name, 2, **MULTISCALE)[:3], dense[:3]) < 1e-6


def test_float32():
    dense = loss_and_gradients("sinkhorn", 3, torch.float32, backend="tensorized")
    assert largest_difference(loss_and_gradients("sinkhorn", 3, torch.float32, backend="online"), dense) < 1e-4


def test_batches_and_potentials():
    from geomloss import SamplesLoss

    torch.manual_seed(0)
    x, y = torch.rand(3, 20, 2, dtype=torch.float64), torch.rand(3, 25, 2, dtype=torch.float64)
    options = {"blur": 0.3, "scaling": 0.9}
    found, wanted = (SamplesLoss("sinkhorn", backend=b, **options)(x, y) for b in ("online", "tensorized"))
    assert found.shape == (3,) and torch.allclose(found, wanted, rtol=1e-6, atol=0)
    found, wanted = (
        SamplesLoss("sinkhorn", backend=b, potentials=True, **options)(x, y) for b in ("online", "tensorized")
    )
    for f, w in zip(found, wanted):
        assert torch.allclose(f.reshape(w.shape), w, rtol=1e-5, atol=1e-6)
