"""ComplexLazyTensor against complex128 of numpy: every operator and method, sums, products, entries, gradients."""

import cmath
import operator

import numpy as np
import pytest
from lazy_doors import assert_is, dense

from kernelops import DtypeError, KeywordError, Ranges
from kernelops.frontend.lazy.complex import ComplexLazyTensor
from kernelops.frontend.lazy.complex_products import PRODUCTS

rng = np.random.default_rng(4)
Z = rng.uniform(-1, 1, (5, 1, 2)) + 1j * rng.uniform(-1, 1, (5, 1, 2))
W = rng.uniform(-1, 1, (1, 4, 2)) + 1j * rng.uniform(-1, 1, (1, 4, 2))
X, Y = rng.uniform(0.3, 1, (5, 1, 2)), rng.uniform(0.3, 1, (1, 4, 2))


def operands(half):
    """z and x over i, w and y over j: the first of each two is complex."""
    return [half.LazyTensor(half.array(a)) for a in (Z, W, X, Y)]


def assert_complex(half, got, expected):
    """A LazyTensor or a complex one with these values, to the last digits of float64."""
    found = half.host(got.to_dense())
    assert found.dtype.kind == ("c" if got.is_complex else "f")
    wanted = dense(expected, got.shape)
    assert_is(found.real, wanted.real, scale=np.abs(wanted).max())
    assert_is(found.imag, wanted.imag, scale=np.abs(wanted).max())


ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


@pytest.mark.parametrize("symbol", ARITHMETIC)
def test_arithmetic_of_complex_and_real_operands(half, symbol):
    f = ARITHMETIC[symbol]
    z, w, x, y = operands(half)
    pairs = [(z, w, Z, W), (z, y, Z, Y), (x, w, X, W), (z, x, Z, X)]
    vector, real = np.array([1 + 2j, -0.5]), np.array([0.5, 2.0])
    for other in (2, 0.5, 1j, 1.5 - 0.3j, np.complex128(1 + 1j), np.complex64(1 + 2j), np.float64(0.7)):
        pairs.append((z, other, Z, other))
    for given, plain in ((half.array(vector), vector), (half.array(real), real), ([1 + 2j, 3], np.array([1 + 2j, 3]))):
        pairs.append((z, given, Z, plain))
    for other in (1j, 0.3 + 2j, [1j, 2], half.array(vector), half.array(np.array(1 + 2j))):
        pairs.append((x, other, X, np.asarray(other)))
    for a, b, da, db in pairs:
        assert_complex(half, f(a, b), f(da, db))
        assert_complex(half, f(b, a), f(db, da))


@pytest.mark.parametrize("p", [0, 1, 2, 3, -1, -2, 2.0, np.int64(2), np.float64(-1.0)])
def test_whole_powers(half, p):
    z, *_ = operands(half)
    assert_complex(half, z**p, Z ** complex(p))


@pytest.mark.parametrize("p", [0.5, -0.5, 0.3, 1 + 1j])
def test_other_powers(half, p):
    z, w, x, _ = operands(half)
    assert_complex(half, z**p, Z**p)
    assert_complex(half, p**z, complex(p) ** Z)
    assert_complex(half, z**w, Z**W)
    assert_complex(half, x**w, X**W)
    assert_complex(half, x ** (1 + 1j), X ** (1 + 1j))


def test_comparisons(half):
    z, w, x, _ = operands(half)
    joined = z * 1
    for a, b, da, db in ((z, w, Z, W), (z, z, Z, Z), (z, joined, Z, Z), (z, x, Z, X), (x, z, X, Z), (x, 1j, X, 1j)):
        assert_complex(half, a == b, (da == db) * 1.0)
        assert_complex(half, a != b, (da != db) * 1.0)
    for bad in (lambda: z < w, lambda: z >= 1, lambda: 1 > z, lambda: z <= x):
        with pytest.raises(DtypeError, match="complex numbers have no order"):
            bad()
    for bad in (lambda: x < z, lambda: x >= 1j):
        with pytest.raises(DtypeError, match="no complex form"):
            bad()
    with pytest.raises(ValueError, match="no truth value"):
        bool(z)


METHODS = {  # a method of z -> what numpy computes
    "conj": np.conj,
    "__abs__": np.abs,
    "abs": np.abs,
    "square_abs": lambda z: np.abs(z) ** 2,
    "angle": np.angle,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "square": np.square,
    "cos": np.cos,
    "sin": np.sin,
    "sqnorm2": lambda z: (np.abs(z) ** 2).sum(-1, keepdims=True),
    "norm2": lambda z: (np.abs(z) ** 2).sum(-1, keepdims=True) ** 0.5,
    "real2complex": lambda z: z,
    "__neg__": np.negative,
    "__pos__": lambda z: z,
    "sum": lambda z: z.sum(-1, keepdims=True),
}
TRIED_ELSEWHERE = {
    *("of", "of_parts", "dim", "power", "elem", "extract", "concat", "concatenate", "cat", "t", "T", "H"),
    *("matvec", "rmatvec", "sum_reduction", "to_dense", "rows", "block", "diagonal"),
    *PRODUCTS,
}


@pytest.mark.parametrize("name", METHODS)
def test_methods(half, name):
    z, w, *_ = operands(half)
    assert_complex(half, getattr(z, name)(), METHODS[name](Z))
    assert_complex(half, getattr(z * w, name)(), METHODS[name](Z * W))


def test_every_method_is_tried():
    public = {n for n in dir(ComplexLazyTensor) if not n.startswith("_") and callable(getattr(ComplexLazyTensor, n))}
    assert public - set(METHODS) - TRIED_ELSEWHERE == set()


def test_complex_numbers_of_real_ones(half):
    _, w, x, y = operands(half)
    assert_complex(half, (x - y).real2complex(), (X - Y).astype(complex))
    assert_complex(half, (x - y).imag2complex(), 1j * (X - Y))
    assert_complex(half, (x - y).exp1j(), np.exp(1j * (X - Y)))
    assert_complex(half, w.real, W.real)
    assert_complex(half, w.imag, W.imag)


CUT = [-1.0, -1e-150, 0.0, 1e-150, 1.0, 2.0]


def test_the_branch_cut(half):
    """Below the negative axis, on it and above it, and around 0."""
    points = np.array([complex(a, b) for a in CUT for b in (-1.0, -1e-9, 0.0, 1e-9, 1.0)])
    z = half.LazyTensor(half.array(points[:, None]), axis=0)
    roots = half.host(z.sqrt().sum(axis=1))[:, 0]
    wanted = np.array([cmath.sqrt(p) for p in points])
    np.testing.assert_allclose(roots.real, wanted.real, rtol=1e-14)
    np.testing.assert_allclose(roots.imag, wanted.imag, rtol=1e-14)
    np.testing.assert_allclose(half.host(z.angle().sum(axis=1))[:, 0], np.angle(points), rtol=1e-12)


def test_components(half):
    z, w, x, _ = operands(half)
    made, plain = z * w + x, Z * W + X
    for key in (0, -1, np.int64(1), slice(0, 1), slice(0, 9)):
        at = slice(key, key + 1 or None) if not isinstance(key, slice) else key
        assert_complex(half, made[key], plain[..., at])
        assert_complex(half, made[..., key], plain[..., at])
    assert_complex(half, made.elem(1), plain[..., 1:])
    assert_complex(half, made.extract(0, 2), plain)
    full = np.broadcast_arrays(Z, W, X)
    both = np.concatenate(full[:2], -1)
    for joined in (z.concat(w), type(z).cat((z, w)), type(z).concatenate([z, w], -1), type(x).cat((z, w))):
        assert_complex(half, joined, both)
    mixed = np.concatenate((full[2], full[1]), -1)
    for joined in (x.concat(w), type(x).cat((x, w)), type(z).cat((x, w))):
        assert_complex(half, joined, mixed)
    assert_complex(half, z | w, (Z * W).sum(-1, keepdims=True))
    assert_complex(half, x | w, (X * W).sum(-1, keepdims=True))
    assert_complex(half, w | x, (X * W).sum(-1, keepdims=True))


MATRICES = rng.uniform(-1, 1, (5, 1, 6)) + 1j * rng.uniform(-1, 1, (5, 1, 6))  # 3 x 2 or 2 x 3, row by row
BILINEAR = {  # a product of a matrix and a vector -> what numpy computes
    "matvecmult": (lambda m, v: m.matvecmult(v), lambda m, v: np.einsum("...ab,...b->...a", m.reshape(5, 1, 3, 2), v)),
    "vecmatmult": (lambda m, v: v.vecmatmult(m), lambda m, v: np.einsum("...a,...ab->...b", v, m.reshape(5, 1, 2, 3))),
    "tensorprod": (lambda m, v: m.tensorprod(v), lambda m, v: (m[..., :, None] * v[..., None, :]).reshape(5, -1, 12)),
    "keops_tensordot": (
        lambda m, v: m.keops_tensordot(v, (2, 3), 2, 0, 0, (0,)),
        lambda m, v: np.einsum("...ab,...a->...b", m.reshape(5, 1, 2, 3), v),
    ),
    "keops_kron": (
        lambda m, v: m.keops_kron(v, (3, 2), (1, 2)),
        lambda m, v: np.einsum("...ab,...c->...abc", m.reshape(5, 1, 3, 2), v).reshape(5, -1, 12),
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_matrices_and_tensors(half, name):
    product, plain = BILINEAR[name]
    m, (_, w, _, y) = half.LazyTensor(half.array(MATRICES)), operands(half)
    for a, b, da, db in ((m, w, MATRICES, W), (m, y, MATRICES, Y), (m.real, w, MATRICES.real, W)):
        assert_complex(half, product(a, b), plain(da, db))
    vector = np.array([1j, 2.0])
    if name != "vecmatmult":  # arrays have no methods
        assert_complex(half, product(m.real, half.array(vector)), plain(MATRICES.real, vector))


def test_components_that_are_looked_up(half):
    z = half.LazyTensor(half.array(Z))
    places = np.array([1.0, 0.0, 0.0, 1.0])
    looked_up = z[half.LazyTensor(half.array(places[:, None]), axis=1)]
    assert_complex(half, looked_up, Z[:, 0, places.astype(int)])


def test_constructors(half):
    z = half.array(Z)
    pairs = np.stack([Z.real, Z.imag], -1).reshape(5, 1, 4)
    for made, plain in [
        (half.LazyTensor(z), Z),
        (half.ComplexLazyTensor(z), Z),
        (half.Vi(half.array(Z[:, 0])), Z),
        (half.LazyTensor(half.array(Z[:, 0]), 0), Z),
        (half.LazyTensor(half.array(pairs), is_complex=True), Z),
        (half.LazyTensor(1 + 2j), np.full((1, 1, 1), 1 + 2j)),
        (half.LazyTensor(np.complex64(1 + 2j)), np.full((1, 1, 1), 1 + 2j)),
        (half.LazyTensor([1j, 2, 0.5]), np.array([[[1j, 2, 0.5]]])),
        (half.LazyTensor(half.array(np.array(1j))), np.full((1, 1, 1), 1j)),
        (half.Pm(half.array(np.array([1j, 2]))), np.array([[[1j, 2]]])),
        (half.ComplexLazyTensor(half.LazyTensor(half.array(X))), X.astype(complex)),
    ]:
        assert type(made) is half.ComplexLazyTensor and made.is_complex
        assert (made._shape, made.ndim, made.dim()) == (plain.shape, plain.shape[-1], 3)
        assert_complex(half, made, plain)
        assert_is(half.host(made.sum(axis=0)).imag, plain.sum(0).imag)
    w = half.LazyTensor(half.array(W))
    assert (w.dtype, w.ni, w.nj, w.batchdims, w.nbatchdims) == ("complex128", None, 4, None, 0)
    assert half.LazyTensor(half.array(Z.astype(np.complex64))).dtype == "complex64"
    assert repr(w).startswith("<ComplexLazyTensor shape (1, 4, 2) of complex128: ")


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_sums_products_and_transposes(half, dtype):
    real = "float32" if dtype == "complex64" else "float64"
    z, w = (half.LazyTensor(half.array(a.astype(dtype))) for a in (Z, W))
    K, plain = ((z * w).exp() - z / (w + 3)).sum(-1), (np.exp(Z * W) - Z / (W + 3)).sum(-1)
    for axis in (0, 1):
        for got in (K.sum(axis=axis), K.sum(dim=axis), K.sum(axis - 3), K.sum_reduction(axis=axis)):
            assert str(got.dtype).endswith(dtype)
            assert_is(half.host(got).view(real), plain.sum(axis)[:, None].view(float), real)
    v, u = rng.random((4, 2)), rng.random((4, 2)) + 1j
    for columns in (v, u, u[:, 0], v[:, 0]):
        got = half.host(K @ half.array(columns.astype(dtype if np.iscomplexobj(columns) else real)))
        assert_is(got.view(real), (plain @ columns).view(float), real)
    a = (rng.random((2, 5)) + 1j).astype(dtype)
    assert_is(half.host(half.array(a) @ K).copy().view(real), (a @ plain).view(float), real, scale=10)
    assert_is(half.host(half.array(a[0]) @ K).copy().view(real), (a[0] @ plain).view(float), real, scale=10)
    if dtype == "complex128":
        assert_complex(half, K.T, plain.T)
        assert_complex(half, K.H, plain.conj().T)
        assert_is(half.host(K.rmatvec(half.array(a[0]))).view(real), (plain.conj().T @ a[0]).view(float), real)
        assert_is(half.host(K.matvec(half.array(u))).view(real), (plain @ u).view(float), real)


def test_batches_ranges_and_entries(half):
    batch = np.stack([Z, 2 * Z, Z - 1])
    z, w = half.LazyTensor(half.array(batch)), half.LazyTensor(half.array(W))
    f, plain = (z * w).sum(-1), (batch * W).sum(-1)
    assert (f.shape, f.batchdims) == ((3, 5, 4), (3,))
    assert_is(half.host(f.sum(axis=2)).view(float), plain.sum(2)[..., None].view(float))
    u = rng.random((4, 2)) + 1j
    assert_is(half.host(f @ half.array(u)).view(float), (plain @ u).view(float))
    assert_is(half.host(f @ half.array(u[:, 0])).view(float), (plain @ u[:, 0]).view(float))
    assert_is(half.host(f.rows([4, 0])).view(float), plain[:, [4, 0]].view(float))
    assert_is(half.host(f.block([1], [3, 2])).view(float), plain[:, [1]][..., [3, 2]].copy().view(float))

    ranges = Ranges.from_mask([[0, 2], [2, 5]], [[0, 1], [1, 4]], [[True, False], [True, True]])
    mask = ranges.mask(5, 4)
    z, w, x, y = operands(half)
    g = (z * w).sum(-1)
    for made in (g, g.conj()):
        made.ranges = ranges
    assert z.ranges is None and z.real.ranges is None
    plain = (Z * W).sum(-1) * mask
    assert_complex(half, g, plain)
    assert_complex(half, g * 2 + 0, 2 * plain)
    assert_is(half.host(g.sum(axis=1)).view(float), plain.sum(1)[:, None].view(float))
    assert_is(half.host(g @ half.array(u)).view(float), (plain @ u).view(float))
    real = (x - y).sum(-1)
    real.ranges = ranges
    for made, factor in ((real.imag2complex(), 1j), (real.real2complex(), 1), (real * (2 + 1j), 2 + 1j)):
        assert made.ranges is ranges
        wanted = factor * (X - Y).sum(-1) * mask
        assert_is(half.host(made @ half.array(u)).view(float), (wanted @ u).view(float))
        assert_is(half.host(made.sum(axis=0)).view(float), (wanted.sum(0)[:, None] + 0j).view(float))
        assert_complex(half, made, wanted + 0j)
    conjugate = g.conj()
    conjugate.ranges = None
    assert g.ranges is ranges
    square = half.LazyTensor(half.array(Z)) * half.LazyTensor(half.array(Z.swapaxes(0, 1)))
    assert_is(half.host(square.diagonal()).view(float), (Z[:, 0] ** 2).view(float))


def test_symbolic_complex_formulas(half):
    """Those with real variables: their sums are complex, and put off."""
    f = (1j * (half.Vi(0, 2) | half.Vj(1, 2))).exp()
    later = f.sum(axis=1)
    wanted = np.exp(1j * (X[:, 0] @ Y[0].T)).sum(1)
    got = half.host(later(half.array(X[:, 0]), half.array(Y[0])))
    assert_is(got.view(float), wanted[:, None].view(float))
    put_off = operands(half)[0].sum(axis=0, call=False)
    assert_is(half.host(put_off()).view(float), Z.sum(0).view(float))


def test_out_takes_no_complex_numbers(half):
    z, w, *_ = operands(half)
    out = half.array(np.empty((5, 1)))
    for bad in (
        lambda: (z | w).sum(axis=1, out=out),
        lambda: (z | w).__matmul__(half.array(np.ones((4, 1))), out=out),
        lambda: (z | w).real.__matmul__(half.array(np.ones((4, 1)) + 0j), out=out),
    ):
        with pytest.raises(KeywordError, match="out"):
            bad()


# ---- gradients ----

FORMULAS = {
    "exp": lambda z, w, x: (z * w).exp(),
    "quotient": lambda z, w, x: x / (z + w + 3),
    "square": lambda z, w, x: (z - w) ** 2 * x,
    "inverse square": lambda z, w, x: (z * w + 2) ** -2,
    "abs": lambda z, w, x: abs(z - w) * 1j,
    "sqrt": lambda z, w, x: z.sqrt() * x,
    "parts": lambda z, w, x: (z * w).real * (z.imag * 1j + x),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_gradients_to_complex_and_real_data(torch_half, name):
    torch = torch_half.library
    leaves = [torch.from_numpy(a.copy()).requires_grad_() for a in (Z, W, X)]
    weights = torch.from_numpy(rng.random((5, 2)) + 1j * rng.random((5, 2)))

    def both(made):
        loss = (made * weights).abs().square().sum()
        first = torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)
        return [g for g in first if g is not None]

    lazy = both(FORMULAS[name](*map(torch_half.LazyTensor, leaves)).sum(axis=1))
    plain = both(FORMULAS[name](*leaves).sum(1))
    assert len(lazy) == len(plain)
    for got, want in zip(lazy, plain, strict=True):
        assert got.dtype == want.dtype
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    if name == "sqrt":
        return
    seconds = [torch.autograd.grad(sum(g.abs().square().sum() for g in gs), leaves[0])[0] for gs in (lazy, plain)]
    torch.testing.assert_close(*seconds, rtol=1e-9, atol=1e-9)
    value = torch_half.LazyTensor(leaves[0])
    with torch.no_grad():
        assert not value.sum(axis=0).requires_grad


def test_ranges_of_a_second_one_are_its_own(half):
    """What +z and z.real2complex() give is another one, as for real LazyTensors."""
    z, w, _, _ = operands(half)
    ranges = Ranges.from_mask([[0, 5]], [[0, 2], [2, 4]], np.array([[True, False]]))
    product = z * w
    for other in (+product, product.real2complex()):
        other.ranges = ranges
        assert product.ranges is None and other.ranges is ranges
