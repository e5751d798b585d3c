"""What KeOps' tutorials and examples compute, a small script for each kind of them, by the names of pykeops."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from scipy.sparse.linalg import aslinearoperator, eigsh

rng = np.random.default_rng(0)
X, Y, B = rng.random((40, 3)), rng.random((30, 3)), rng.standard_normal((30, 2))
D2 = ((X[:, None] - Y[None]) ** 2).sum(-1)
GAUSS = np.exp(-D2 / 0.5)


def close(keops, got, wanted, rtol=1e-10):
    np.testing.assert_allclose(keops.host(got), wanted, rtol=rtol, atol=rtol * abs(wanted).max())


def pair(keops, x=X, y=Y):
    """The points as LazyTensors of i and of j."""
    x, y = keops.array(x), keops.array(y)
    return keops.LazyTensor(x[:, None, :]), keops.LazyTensor(y[None, :, :])


def gaussian(keops, x=X, y=Y):
    x_i, y_j = pair(keops, x, y)
    return (-((x_i - y_j) ** 2).sum(-1) / 0.5).exp()


def logsumexp(a, axis):
    top = a.max(axis, keepdims=True)
    return top + np.log(np.exp(a - top).sum(axis, keepdims=True))


TEXT = "Square(p - a) * Exp(x + y)"
TEXT_ALIASES = ["x = Vi(3)", "y = Vj(3)", "a = Vj(1)", "p = Pm(1)"]


def test_formulas_as_text(keops):
    p, a = np.array([0.7]), rng.random((30, 1))
    terms = (p - a[None]) ** 2 * np.exp(X[:, None] + Y[None])
    arguments = [keops.array(v) for v in (X, Y, a, p)]
    for op, wanted in (("Sum", terms.sum(1)), ("LogSumExp", None), ("Max", terms.max(1))):
        formula = TEXT if op != "LogSumExp" else "Exp(-SqDist(x,y)) * Square(p - a)"
        found = keops.module.Genred(formula, TEXT_ALIASES, reduction_op=op, axis=1)(*arguments, backend="auto")
        if wanted is None:
            wanted = logsumexp(np.exp(-D2) * ((p - a) ** 2)[:, 0], 1)
        close(keops, found, wanted)


def test_neighbours_by_text(keops):
    near = keops.module.Genred("SqDist(x,y)", ["x = Vi(3)", "y = Vj(3)"], reduction_op="ArgKMin", axis=1, opt_arg=3)
    found = keops.host(near(keops.array(X), keops.array(Y)))
    assert (found == np.argsort(D2, 1)[:, :3]).all()


def test_softmax_by_text(keops):
    softmax = keops.module.Genred(
        "SqDist(x,y)", ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"], reduction_op="SumSoftMaxWeight", axis=1, formula2="b"
    )
    weights = np.exp(D2) / np.exp(D2).sum(1, keepdims=True)
    close(keops, softmax(keops.array(X), keops.array(Y), keops.array(B)), weights @ B)


def test_inverse_kernel_by_text(keops):
    solver = keops.module.KernelSolve(
        "Exp(-g*SqDist(x,y))*b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)", "g = Pm(1)"], "b", axis=1
    )
    y, g = keops.array(Y), keops.array(np.array([2.0]))
    K = np.exp(-2 * ((Y[:, None] - Y[None]) ** 2).sum(-1))
    found = solver(y, y, keops.array(B), g, alpha=0.2, eps=1e-10)
    close(keops, found, np.linalg.solve(K + 0.2 * np.eye(30), B), 1e-7)


def test_clusters_and_block_sparse_products(keops):
    cluster = importlib.import_module(f"pykeops.{keops.name}.cluster")
    x, y = keops.array(X), keops.array(Y)
    x_labels, y_labels = cluster.grid_cluster(x, 0.3), cluster.grid_cluster(y, 0.3)
    x_ranges, x_centroids, _ = cluster.cluster_ranges_centroids(x, x_labels)
    y_ranges, y_centroids, _ = cluster.cluster_ranges_centroids(y, y_labels)
    x, x_labels = cluster.sort_clusters(x, x_labels)
    y, y_labels = cluster.sort_clusters(y, y_labels)
    near = ((x_centroids[:, None, :] - y_centroids[None, :, :]) ** 2).sum(-1) < 0.2
    K = gaussian(keops, x, y)
    K.ranges = cluster.from_matrix(x_ranges, y_ranges, near)
    K.backend = "CPU"
    rows = np.repeat(np.arange(len(near)), np.diff(keops.host(x_ranges), axis=1)[:, 0])
    columns = np.repeat(np.arange(len(near[0])), np.diff(keops.host(y_ranges), axis=1)[:, 0])
    dense = np.exp(-((keops.host(x)[:, None] - keops.host(y)[None]) ** 2).sum(-1) / 0.5)
    masked = dense * keops.host(near)[rows][:, columns]
    assert 0 < (masked == 0).mean() < 1
    close(keops, K @ keops.array(B), masked @ B)
    close(keops, K.t() @ keops.array(X), masked.T @ X)


def test_inverse_kernel_by_functions_of_the_class(keops):
    LazyTensor, y = keops.LazyTensor, keops.array(Y)
    y_i, y_j = keops.Vi(y), keops.Vj(y)
    K = LazyTensor.exp(-LazyTensor.sqdist(y_i, y_j) / keops.Pm(keops.array(np.array([0.5]))))
    dense = np.exp(-((Y[:, None] - Y[None]) ** 2).sum(-1) / 0.5)
    found = LazyTensor.solve(K, keops.Vi(keops.array(B)), alpha=0.3, eps=1e-10)
    close(keops, found, np.linalg.solve(dense + 0.3 * np.eye(30), B), 1e-7)
    later = K.solve(keops.Vi(keops.array(B)), alpha=0.3, eps=1e-10, call=False)
    close(keops, later(), np.linalg.solve(dense + 0.3 * np.eye(30), B), 1e-7)


def test_choosing_a_device(keops):
    from pykeops.common.gpu_utils import get_gpu_number
    from pykeops.config import gpu_available

    assert get_gpu_number() >= 0 and gpu_available in (True, False)
    x_i, y_j = keops.Vi(keops.array(X)), keops.Vj(keops.array(Y))
    K = (-((x_i - y_j) ** 2).sum(-1) / 0.5).exp()
    found = keops.LazyTensor.__matmul__(K, keops.array(B), backend="CPU")
    close(keops, found, GAUSS @ B)
    close(keops, (K * keops.Vj(keops.array(B))).sum(axis=1, backend="CPU"), GAUSS @ B)


def test_softmax_by_methods(keops):
    utils = importlib.import_module(f"pykeops.{keops.name}.utils")
    utils.WarmUpGpu()
    x_i, y_j = pair(keops)
    weights = np.exp(D2) / np.exp(D2).sum(1, keepdims=True)
    found = x_i.sqdist(y_j).sumsoftmaxweight(keops.Vj(keops.array(B)), axis=1)
    close(keops, found, weights @ B)


@pytest.mark.parametrize("length", [1, 3, 9])
def test_anisotropic_kernels(keops, length):
    A = rng.random((3, 3))
    weights = {1: np.array([2.0]), 3: np.array([1.0, 2.0, 3.0]), 9: (A @ A.T).ravel()}[length]
    metric = np.diag(np.broadcast_to(weights, 3)) if length < 9 else weights.reshape(3, 3)
    x_i, y_j = keops.Vi(keops.array(X)), keops.Vj(keops.array(Y))
    K = (-x_i.weightedsqdist(y_j, keops.Pm(keops.array(weights)))).exp()
    difference = X[:, None] - Y[None]
    dense = np.exp(-np.einsum("ijd,de,ije->ij", difference, metric, difference))
    close(keops, K @ keops.array(B), dense @ B)


def test_a_first_lesson(keops):
    x_i, y_j = pair(keops)
    D_ij = ((x_i - y_j) ** 2).sum(-1)
    assert D_ij.shape == (40, 30) and D_ij._shape == (40, 30, 1) and D_ij.dim() == 3 and D_ij.ndim == 1
    assert "Sum" in str(D_ij)
    close(keops, D_ij.argmin(dim=1), D2.argmin(1)[:, None])
    M = (2 * (x_i + 3) / (1 + y_j.abs())).sqrt() ** 3 - x_i.sin() * 0.5
    dense = (2 * (X[:, None] + 3) / (1 + abs(Y[None]))) ** 1.5 - np.sin(X[:, None]) * 0.5
    assert M.shape == (40, 30, 3)
    close(keops, M.sum(dim=0), dense.sum(0))
    close(keops, x_i[:, :, 0:2].concat(y_j[:, :, 1:2]).sum(1), np.c_[30 * X[:, :2], np.full(40, Y[:, 1].sum())])
    close(keops, (x_i | y_j).sum(0), (X @ Y.T).sum(0)[:, None])


def test_a_second_lesson_of_reductions(keops):
    x_i, y_j = pair(keops)
    D = x_i.sqdist(y_j)
    value, place = D.min_argmin(dim=1)
    close(keops, value, D2.min(1)[:, None]), close(keops, place, D2.argmin(1)[:, None])
    values, places = D.Kmin_argKmin(2, dim=1)
    close(keops, values, np.sort(D2, 1)[:, :2]), close(keops, places, np.argsort(D2, 1)[:, :2])
    close(keops, D.logsumexp(axis=1), logsumexp(D2, 1))
    weight = rng.random((30, 1))
    found = (-D).logsumexp(dim=1, weight=keops.LazyTensor(keops.array(weight)[None]))
    close(keops, found, np.log(np.exp(-D2) @ weight))
    later = D.sum_reduction(axis=1, call=False)
    close(keops, later(), D2.sum(1)[:, None])


def test_a_third_lesson_of_symbolic_variables(keops):
    x_i, y_j, b_j, p = keops.Vi(0, 3), keops.Vj(1, 3), keops.Vj(2, 2), keops.Pm(3, 1)
    product = ((-x_i.sqdist(y_j) / p).exp() * b_j).sum_reduction(axis=1)
    found = product(*(keops.array(a) for a in (X, Y, B, np.array([0.5]))))
    close(keops, found, GAUSS @ B)
    K = 0
    for sigma in keops.array(np.array([0.3, 0.7])):  # numbers of the array library
        K += (-keops.Vi(keops.array(X)).sqdist(keops.Vj(keops.array(Y))) / sigma**2).exp()
    dense = sum(np.exp(-D2 / s**2) for s in (0.3, 0.7))
    close(keops, K @ keops.array(B), dense @ B)


def test_tensor_contractions(keops):
    f, g = rng.random((40, 2, 3, 4)), rng.random((30, 3, 4, 5))
    x_i = keops.LazyTensor(keops.array(f.reshape(40, 1, 24)))
    y_j = keops.LazyTensor(keops.array(g.reshape(1, 30, 60)))
    found = x_i.keops_tensordot(y_j, (2, 3, 4), (3, 4, 5), (1, 2), (0, 1)).sum(dim=1)
    close(keops, found, np.einsum("iabc,jbcd->iad", f, g).reshape(40, -1))


@pytest.mark.parametrize("keops", ["numpy"], indirect=True)  # SciPy's operators are of numpy's arrays
def test_spectra_by_scipy(keops):
    K = aslinearoperator(gaussian(keops, Y, Y))
    dense = np.exp(-((Y[:, None] - Y[None]) ** 2).sum(-1) / 0.5)
    values = eigsh(K, k=4, return_eigenvectors=False, v0=np.ones(30))
    np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(dense)[-4:], rtol=1e-8)


def test_a_gaussian_mixture(torch_keops):
    torch, keops = torch_keops.library, torch_keops
    mu, w = torch.from_numpy(Y[:5].copy()).requires_grad_(), torch.from_numpy(rng.random((5, 1)))
    A = rng.random((5, 3, 3))
    metric = torch.from_numpy((A @ A.transpose(0, 2, 1)).reshape(5, 9)).requires_grad_()
    w.requires_grad_()
    x = torch.from_numpy(X)
    D = keops.Vi(x).weightedsqdist(keops.Vj(mu), keops.Vj(metric))
    found = (-D).logsumexp(dim=1, weight=keops.Vj(w))
    difference = x[:, None] - mu[None]
    exponents = -torch.einsum("ijd,jde,ije->ij", difference, metric.reshape(5, 3, 3), difference)
    wanted = torch.logsumexp(exponents + w[:, 0].log(), 1, keepdim=True)
    assert torch.allclose(found, wanted, rtol=1e-10)
    for f, g in zip(*(torch.autograd.grad(v.sum(), [mu, metric, w], retain_graph=True) for v in (found, wanted))):
        assert torch.allclose(f, g, rtol=1e-9, atol=1e-10)


def test_interpolation_by_radial_functions(keops):
    K, b = gaussian(keops, Y, Y), keops.array(B[:, :1])
    a = K.solve(b, alpha=0.5)
    dense = np.exp(-((Y[:, None] - Y[None]) ** 2).sum(-1) / 0.5)
    coefficients = np.linalg.solve(dense + 0.5 * np.eye(30), B[:, :1])
    close(keops, a, coefficients, 1e-5)
    close(keops, gaussian(keops) @ a, GAUSS @ coefficients, 1e-5)


def test_k_means(keops):
    c, x = Y[:6].copy(), X
    for _ in range(5):
        x_i, c_j = pair(keops, x, c)
        labels = keops.host(((x_i - c_j) ** 2).sum(-1).argmin(dim=1))[:, 0]
        assert (labels == ((x[:, None] - c[None]) ** 2).sum(-1).argmin(1)).all()
        c = np.stack([x[labels == k].mean(0) if (labels == k).any() else c[k] for k in range(6)])
    x_i, c_j = pair(keops, x / np.linalg.norm(x, axis=1)[:, None], c / np.linalg.norm(c, axis=1)[:, None])
    assert (keops.host((x_i | c_j).argmax(dim=1))[:, 0] < 6).all()


@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "angular", "hyperbolic"])
def test_nearest_neighbours(keops, metric):
    x_i, y_j = pair(keops)
    D, dense = {
        "euclidean": lambda: (((x_i - y_j) ** 2).sum(-1), D2),
        "manhattan": lambda: ((x_i - y_j).abs().sum(-1), abs(X[:, None] - Y[None]).sum(-1)),
        "angular": lambda: (-(x_i | y_j), -X @ Y.T),
        "hyperbolic": lambda: (
            ((x_i - y_j) ** 2).sum(-1) / (x_i[0] * y_j[0]),
            D2 / (X[:, None, 0] * Y[None, :, 0]),
        ),
    }[metric]()
    assert (keops.host(D.argKmin(4, dim=1)) == np.argsort(dense, 1, kind="stable")[:, :4]).all()


def test_registration_by_geodesic_shooting(torch_keops):
    """Hamilton's equations, whose right-hand sides are gradients, and a gradient through the steps."""
    torch, keops = torch_keops.library, torch_keops
    q0, target = torch.from_numpy(X[:8].copy()), torch.from_numpy(Y[:8].copy())
    x, y, b = keops.Vi(0, 3), keops.Vj(1, 3), keops.Vj(2, 3)
    kernel = ((-x.sqdist(y) / 0.5).exp() * b).sum_reduction(axis=1)

    def lazily(q, p):
        return kernel(q, q, p)

    def densely(q, p):
        return (-((q[:, None] - q[None]) ** 2).sum(-1) / 0.5).exp() @ p

    def loss(p, product):
        q = q0.clone().requires_grad_()
        for _ in range(3):
            H = 0.5 * (p * product(q, p)).sum()
            dq, dp = torch.autograd.grad(H, [q, p], create_graph=True)
            q, p = q + dp / 3, p - dq / 3
        return ((q - target) ** 2).sum()

    def step(product):
        p = torch.zeros(8, 3, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([p], max_iter=3)

        def closure():
            optimizer.zero_grad()
            value = loss(p, product)
            value.backward()
            return value

        optimizer.step(closure)
        return p.detach(), float(closure().detach())

    (found, value), (wanted, dense) = step(lazily), step(densely)
    assert torch.allclose(found, wanted, rtol=1e-8, atol=1e-9) and np.isclose(value, dense, rtol=1e-10)
