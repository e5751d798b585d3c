"""Idioms of packages that use KeOps, in a few lines each, by the names of pykeops, against dense arrays."""

from __future__ import annotations

import numpy as np
import pytest

rng = np.random.default_rng(1)
X, Y = rng.random((25, 3)), rng.random((20, 3))
D2 = ((X[:, None] - Y[None]) ** 2).sum(-1)
XX = ((X[:, None] - X[None]) ** 2).sum(-1)


def close(keops, got, wanted, rtol=1e-10):
    np.testing.assert_allclose(keops.host(got), wanted, rtol=rtol, atol=rtol * abs(wanted[np.isfinite(wanted)]).max())


def pair(keops, x=X, y=Y):
    """The points as LazyTensors of i and of j."""
    x, y = keops.array(x), keops.array(y)
    return keops.LazyTensor(x[:, None, :]), keops.LazyTensor(y[None, :, :])


def test_affinities_without_the_diagonal(keops):
    """TorchDR: an identity by steps, a large number on the diagonal, and normalizations that go back into formulas."""
    x_i, x_j = pair(keops, X, X)
    i, j = pair(keops, np.arange(25.0)[:, None], np.arange(25.0)[:, None])
    identity = (0.5 - (i - j) ** 2).step()
    C = x_i.sqdist(x_j) + 1e12 * identity
    values, places = C.Kmin_argKmin(K=4, dim=1)
    dense = XX + 1e12 * np.eye(25)
    close(keops, values, np.sort(dense, 1)[:, :4])
    assert (keops.host(places) == np.argsort(dense, 1)[:, :4]).all()
    log_P = -C / 0.1
    log_P = log_P - log_P.logsumexp(1)[:, None]
    log_P -= np.log(25)
    P = log_P.exp()
    wanted = np.exp(-dense / 0.1)
    wanted /= wanted.sum(1, keepdims=True) * 25
    close(keops, P.sum(1), wanted.sum(1, keepdims=True))
    symmetric = (P + P.T) / 2
    close(keops, symmetric @ keops.array(X), (wanted + wanted.T) / 2 @ X)
    mean = keops.array(X).mean()
    close(keops, (mean + P).sum(0), (X.mean() + wanted).sum(0)[:, None])


def test_conditions_on_formulas_hold(torch_keops):
    x_i, x_j = pair(torch_keops, X, X)
    P = (-x_i.sqdist(x_j)).exp()
    with pytest.warns(UserWarning, match="always true"):
        assert P.min() >= 0


def test_products_into_a_given_array(keops):
    """Falkon: Genred with an array for the result, and keywords of KeOps that need do nothing here."""
    formula, aliases = "Exp(-SqDist(x,y)*g)*v", ["x = Vi(3)", "y = Vj(3)", "v = Vj(2)", "g = Pm(1)"]
    v, out = Y[:, :2].copy(), keops.array(np.zeros((25, 2)))
    product = keops.module.Genred(formula, aliases, reduction_op="Sum", axis=1, rec_multVar_highdim=2)
    found = product(*(keops.array(a) for a in (X, Y, v, np.array([2.0]))), out=out, backend="CPU")
    close(keops, out, np.exp(-2 * D2) @ v)
    close(keops, found, np.exp(-2 * D2) @ v)


def test_moments_within_a_radius(keops):
    """scikit-shapes: local averages and covariances by tensor products."""
    x_i, y_j = pair(keops)
    near = (0.25 - x_i.sqdist(y_j)).step()
    difference = y_j - x_i
    mask = (D2 <= 0.25).astype(float)
    close(keops, near.sum(1), mask.sum(1, keepdims=True))
    close(keops, (near * y_j).sum(1), mask @ Y)
    covariance = (near * difference.tensorprod(difference)).sum(1)
    d = Y[None] - X[:, None]
    close(keops, covariance, np.einsum("ij,ija,ijb->iab", mask, d, d).reshape(25, 9))


def test_rows_of_patches_as_int32_ranges(keops):
    """dMaSIF: two batches of points in one array, which must not meet, and a matrix times a vector for each pair."""
    ends_i, ends_j = np.array([0, 10, 25]), np.array([0, 12, 20])
    blocks = [np.stack([e[:-1], e[1:]], 1).astype(np.int32) for e in (ends_i, ends_j)]
    slices = np.arange(1, 3, dtype=np.int32)
    six = [keops.array(a) for a in (blocks[0], slices, blocks[1], blocks[1], slices, blocks[0])]
    x_i, y_j = pair(keops)
    frames = rng.random((25, 9))
    A_i = keops.LazyTensor(keops.array(frames)[:, None, :])
    local = A_i.matvecmult(y_j - x_i)
    window = (-x_i.sqdist(y_j)).exp() * local.relu()
    window.ranges = tuple(six)
    rotated = np.einsum("iab,ijb->ija", frames.reshape(25, 3, 3), Y[None] - X[:, None])
    mask = np.zeros((25, 20))
    mask[:10, :12], mask[10:, 12:] = 1, 1
    close(keops, window.sum(1), ((np.exp(-D2) * mask)[..., None] * np.maximum(rotated, 0)).sum(1))


@pytest.mark.parametrize("p", [1, 2, 3.5, np.inf])
def test_neighbours_in_any_norm(keops, p):
    """gudhi: distances of order p, and the largest component."""
    x_i, y_j = pair(keops)
    d = abs(X[:, None] - Y[None])
    if p == np.inf:
        D, wanted = (x_i - y_j).abs().max(-1), d.max(-1)
    else:
        D, wanted = ((x_i - y_j).abs() ** p).sum(-1), (d**p).sum(-1)
    assert (keops.host(D.argKmin(3, dim=1)) == np.argsort(wanted, 1)[:, :3]).all()
    close(keops, D.Kmin(3, axis=1), np.sort(wanted, 1)[:, :3])


def test_purely_symbolic_kernels(keops):
    """geomstats, multipers, xIV-LDDMM: formulas of positions, with a position for what is added later."""
    x, y, b = keops.Vi(0, 3), keops.Vj(1, 3), keops.Vj(2, 1)
    kernel = (-x.sqdist(y) / 0.3).exp() * b
    place = kernel.new_variable_index()
    assert place == 3
    signed = (kernel * keops.Vi(place, 1)).sum_reduction(dim=1)
    sign, weights = np.where(rng.random((25, 1)) < 0.5, -1.0, 1.0), rng.random((20, 1))
    found = signed(*(keops.array(a) for a in (X, Y, weights, sign)))
    close(keops, found, sign * (np.exp(-D2 / 0.3) @ weights))


def test_gradients_of_symbolic_kernels(keops):
    x, y, e = keops.Vi(0, 3), keops.Vj(1, 3), keops.Vi(2, 1)
    slope = (-x.sqdist(y) / 2).exp().grad(x, e).sum_reduction(axis=1)
    found = slope(*(keops.array(a) for a in (X, Y, np.ones((25, 1)))))
    close(keops, found, (np.exp(-D2 / 2)[..., None] * (Y[None] - X[:, None])).sum(1))


def test_covariances_of_arrays(keops):
    """probnum: numpy's arrays by Vi and Vj, products with the matrix and its transpose."""
    K = (-keops.Vi(keops.array(X)).sqdist(keops.Vj(keops.array(Y)))).exp()
    v = rng.random(25)
    assert K.T.shape == (20, 25)
    close(keops, K.T @ keops.array(v), np.exp(-D2).T @ v)


def test_drifts_by_axis_and_backend(keops):
    """gempy: arrays of two dimensions with their axis, sums over i, and the arrays of a formula."""
    x = keops.array(X)
    x_i, y_j = keops.LazyTensor(x, axis=0), keops.LazyTensor(keops.array(Y), axis=1)
    K = (x_i.sqdist(y_j) + 1e-8).sqrt()
    weights = keops.LazyTensor(keops.array(X[:, :1].copy()), axis=0)
    found = (K * weights).sum(axis=0, backend="CPU")
    close(keops, found, (np.sqrt(D2 + 1e-8) * X[:, :1]).sum(0)[:, None])
    assert x_i.variables[0] is x


def test_attention_with_a_causal_mask(keops):
    """Attention, as a mean by soft weights; what is later counts -inf."""
    Q, K, V = rng.random((25, 4)), rng.random((25, 4)), rng.random((25, 3))
    q_i, k_j = pair(keops, Q, K)
    i, j = pair(keops, np.arange(25.0)[:, None], np.arange(25.0)[:, None])
    scores = (i - j).ifelse((q_i | k_j) / 2, -np.inf)
    found = scores.sumsoftmaxweight(keops.Vj(keops.array(V)), axis=1)
    weights = np.exp(np.where(np.tri(25) > 0, Q @ K.T / 2, -np.inf))
    close(keops, found, weights / weights.sum(1, keepdims=True) @ V)


def test_batches_of_sinkhorn_steps(torch_keops):
    """geomloss: batches, potentials inside LogSumExp, a temperature that changes at each step, a detached twin."""
    torch, keops = torch_keops.library, torch_keops
    x = torch.from_numpy(rng.random((2, 12, 3))).requires_grad_()
    y = torch.from_numpy(rng.random((2, 9, 3)))
    g = torch.zeros(2, 9, dtype=torch.float64)

    def lazily(eps, x, y, h):
        C = ((keops.LazyTensor(x[:, :, None, :]) - keops.LazyTensor(y[:, None, :, :])) ** 2).sum(-1) / 2
        assert hasattr(C, "_shape") and C._shape == (2, x.shape[1], y.shape[1], 1)
        return -eps * (keops.LazyTensor(h[:, None, :, None]) - C / eps).logsumexp(2).squeeze(-1)

    def densely(eps, x, y, h):
        return -eps * (h[:, None, :] - ((x[:, :, None] - y[:, None]) ** 2).sum(-1) / 2 / eps).logsumexp(2)

    def potentials(softmin):
        h = g
        for eps in (1.0, 0.5, 0.27):
            f = softmin(eps, x, y, h / eps)
            h = softmin(eps, y, x.detach(), f / eps)
        return softmin(0.1, x, y, h / 0.1)

    found, wanted = potentials(lazily), potentials(densely)
    assert torch.allclose(found, wanted, rtol=1e-10)
    gradients = (torch.autograd.grad(v.square().sum(), x)[0] for v in (found, wanted))
    assert torch.allclose(*gradients, rtol=1e-8, atol=1e-12)


def test_both_halves_in_one_process(torch_keops):
    """geomloss' ot: a plan of tensors beside one of arrays, which do not mix."""
    import pykeops.numpy as arrays

    x_i, x_j = pair(torch_keops, X, X)
    y_i, y_j = arrays.Vi(X), arrays.Vj(X)
    found, wanted = x_i.sqdist(x_j).sum(1), y_i.sqdist(y_j).sum(1)
    close(torch_keops, found, wanted)
    assert pykeops_base() in type(x_i).__mro__ and pykeops_base() in type(y_i).__mro__
    with pytest.raises(TypeError):
        x_i + y_j


def pykeops_base():
    from pykeops.common.lazy_tensor import GenericLazyTensor

    return GenericLazyTensor


def test_second_derivatives_of_an_energy(torch_keops):
    """LDDMM: the square of a gradient, differentiated again by torch."""
    torch, keops = torch_keops.library, torch_keops
    q, p = torch.from_numpy(X.copy()).requires_grad_(), torch.from_numpy(rng.standard_normal((25, 3)))

    def energy(product):
        return (p * product(q)).sum()

    def lazily(q):
        return (-keops.Vi(q).sqdist(keops.Vj(q)) / 0.4).exp() @ p

    def densely(q):
        return (-((q[:, None] - q[None]) ** 2).sum(-1) / 0.4).exp() @ p

    seconds = []
    for product in (lazily, densely):
        (first,) = torch.autograd.grad(energy(product), q, create_graph=True)
        seconds += torch.autograd.grad(first.square().sum(), q)
    assert torch.allclose(*seconds, rtol=1e-9, atol=1e-10)
