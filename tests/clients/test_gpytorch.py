"""GPyTorch's KeOps kernels by kernelops, against its plain kernels: products, gradients, and the training of a GP."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

KERNELS = {
    "RBF": ("RBFKernel", {}),
    "RBF with a length for each dimension": ("RBFKernel", {"ard_num_dims": 3}),
    "Matern 1/2": ("MaternKernel", {"nu": 0.5}),
    "Matern 3/2": ("MaternKernel", {"nu": 1.5}),
    "Matern 5/2": ("MaternKernel", {"nu": 2.5}),
    "periodic": ("PeriodicKernel", {}),
}


def kernel_pair(name, **options):
    """The KeOps kernel and the plain one, with the same lengths."""
    import gpytorch
    from gpytorch.kernels import keops

    kind, more = KERNELS[name]
    pair = [getattr(module, kind)(**more, **options) for module in (keops, gpytorch.kernels)]
    for kernel in pair:
        kernel.lengthscale = torch.linspace(0.5, 0.9, kernel.lengthscale.numel()).reshape(kernel.lengthscale.shape)
    return pair


def points(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def product_and_gradients(kernel, x, y, v):
    """The product, and the gradients of its square by x and by the lengths; by kernelops from 2 points on."""
    import gpytorch

    x = x.clone().requires_grad_()
    with gpytorch.settings.max_cholesky_size(2):
        product = kernel(x, y) @ v
        gradients = torch.autograd.grad(product.square().sum(), [x, kernel.raw_lengthscale])
    return [product.detach(), *gradients]


def assert_close(found, wanted, rtol):
    for f, w in zip(found, wanted):
        assert f.shape == w.shape
        assert float((f - w).detach().abs().max()) <= rtol * float(w.detach().abs().max())


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("batch", [(), (2,)])
def test_products_and_gradients(name, batch):
    x, y, v = points(*batch, 40, 3), points(*batch, 30, 3, seed=1), points(*batch, 30, 2, seed=2)
    found, wanted = (product_and_gradients(kernel, x, y, v) for kernel in kernel_pair(name))
    assert_close(found, wanted, 2e-4 if name == "periodic" else 1e-5)


def test_kernelops_computes_them(monkeypatch):
    """What is compared with the plain kernel is a product of a LazyTensor."""
    from pykeops.torch import LazyTensor

    called, multiply = [], LazyTensor.__matmul__

    def spy(self, *args, **options):
        called.append(self.shape)
        return multiply(self, *args, **options)

    monkeypatch.setattr(LazyTensor, "__matmul__", spy)
    product_and_gradients(kernel_pair("RBF")[0], points(40, 3), points(30, 3, seed=1), points(30, 2, seed=2))
    assert (40, 30) in called


@pytest.mark.parametrize("name", ["RBF", "Matern 3/2"])
def test_dense_transposed_and_diagonal(name):
    import gpytorch

    x, y = points(20, 3), points(15, 3, seed=1)
    with gpytorch.settings.max_cholesky_size(2):
        found, wanted = (kernel(x, y) for kernel in kernel_pair(name))
        assert_close([found.to_dense(), found.mT @ x], [wanted.to_dense(), wanted.mT @ x], 1e-5)
        found, wanted = (kernel(x) for kernel in kernel_pair(name))
        assert_close([found.diagonal(dim1=-1, dim2=-2)], [wanted.diagonal(dim1=-1, dim2=-2)], 1e-5)


def train(base, x, y, steps):
    """The losses of some steps of Adam on an exact GP, and its mean and variance at new points."""
    import gpytorch

    class GP(gpytorch.models.ExactGP):
        def __init__(self, likelihood):
            super().__init__(x, y, likelihood)
            self.mean_module = gpytorch.means.ConstantMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(base)

        def forward(self, at):
            return gpytorch.distributions.MultivariateNormal(self.mean_module(at), self.covar_module(at))

    likelihood = gpytorch.likelihoods.GaussianLikelihood()
    model = GP(likelihood)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    loss_of = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    losses = []
    for step in range(steps):
        torch.manual_seed(step)  # the probe vectors of the log-determinant
        optimizer.zero_grad()
        loss = -loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    model.eval(), likelihood.eval()
    with torch.no_grad():
        prediction = likelihood(model(points(10, 2, seed=3)))
        return torch.tensor(losses), prediction.mean, prediction.variance


@pytest.mark.filterwarnings("ignore::UserWarning")  # of linear_operator, about the accuracy of CG
def test_training_a_gp():
    import gpytorch

    x = points(100, 2)
    y = torch.sin(6 * x[:, 0]) + x[:, 1] ** 2 + 0.1 * torch.randn(100, generator=torch.Generator().manual_seed(1))
    settings = gpytorch.settings
    with settings.max_cholesky_size(2), settings.cg_tolerance(1e-4), settings.eval_cg_tolerance(1e-4):
        found, wanted = (train(kernel, x, y, 3) for kernel in kernel_pair("RBF"))
    assert_close(found[:2], wanted[:2], 1e-3)
    assert_close(found[2:], wanted[2:], 1e-3)
