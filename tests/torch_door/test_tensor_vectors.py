"""The operations on tensors do what they do on numpy arrays, on any device that torch has."""

import numpy as np
import pytest
from torch_dense import torch

from kernelops.solvers.vectors import HOST, NumpyVectors
from kernelops.torch import tensors as blocks
from kernelops.torch.vectors import TensorVectors

SHAPES = [(40, 1), (40, 5), (3, 40, 2), (2, 3, 7, 4), (40, 0), (0, 3), (0, 5, 2)]
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
DTYPES = ["float32", "float64", "complex64", "complex128"]


@pytest.fixture(params=DEVICES)
def vectors(request, monkeypatch):
    monkeypatch.setattr(blocks, "PROMOTED", 30)  # so that a block has several pieces
    return TensorVectors(request.param)


def block(shape, dtype="float64", seed=0):
    draw = np.random.default_rng(seed)
    values = draw.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * draw.standard_normal(shape)
    return values.astype(dtype)


def numbers(x, seed=9):
    return np.random.default_rng(seed).standard_normal(x.shape[:-2] + x.shape[-1:])


def close(found, wanted):
    assert found.shape == wanted.shape and found.dtype == wanted.dtype
    eps = np.finfo(wanted.dtype).eps
    np.testing.assert_allclose(found, wanted, rtol=40 * eps, atol=40 * eps)


def test_every_verb_is_there():
    for name in vars(NumpyVectors):
        assert name.startswith("_") or hasattr(TensorVectors, name), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
class TestVectors:
    def test_scalars(self, vectors, shape, dtype):
        x, y, z = (block(shape, d, k) for k, d in enumerate((dtype, dtype, "float64")))
        tx, ty, tz = map(vectors.from_host, (x, y, z))
        close(vectors.dot(tx, ty), HOST.dot(x, y))
        close(vectors.dot(tx, tx), HOST.dot(x, x))
        close(vectors.dot(tz, tx), HOST.dot(z, x))  # of two precisions
        close(vectors.gram(tx, ty), HOST.gram(x, y))
        np.testing.assert_allclose(vectors.largest(tx), HOST.largest(x), rtol=1e-6)
        before = vectors.waits
        found = vectors.scalars([(tx, ty), (ty, ty)], [(tx, tx), (ty, tx)])
        assert vectors.waits == before + 1
        for f, w in zip(found, HOST.scalars([(x, y), (y, y)], [(x, x), (y, x)]), strict=True):
            close(f, w)
        assert vectors.scalars() == []

    def test_sums(self, vectors, shape, dtype):
        x, y, a = block(shape, dtype), block(shape, dtype, 1), numbers(block(shape))
        for verb in ("axpy", "aypx"):
            wanted, found = y.copy(), vectors.copy(vectors.from_host(y))
            getattr(HOST, verb)(a, x, wanted)
            getattr(vectors, verb)(a, vectors.from_host(x), found)
            close(vectors.to_host(found), wanted)
        wanted, found = y.copy(), vectors.copy(vectors.from_host(y))
        HOST.scale(a, wanted)
        vectors.scale(a, found)
        close(vectors.to_host(found), wanted)

    def test_sums_of_two_precisions(self, vectors, shape, dtype):
        short = "complex64" if np.dtype(dtype).kind == "c" else "float32"
        long = "complex128" if np.dtype(dtype).kind == "c" else "float64"
        for one, other in ((short, long), (long, short)):
            x, y, a = block(shape, one), block(shape, other, 1), numbers(block(shape))
            found = vectors.copy(vectors.from_host(y))
            vectors.axpy(a, vectors.from_host(x), found)
            HOST.axpy(a, x, y)
            got = vectors.to_host(found)
            assert got.dtype == y.dtype
            np.testing.assert_allclose(got, y, rtol=1e-5, atol=1e-5)

    def test_columns(self, vectors, shape, dtype):
        x, k = block(shape, dtype), shape[-1]
        tx = vectors.from_host(x)
        for columns in (np.arange(k), np.arange(k)[::2].copy(), np.arange(k)[1:]):
            part = vectors.take(tx, columns)
            assert part.is_contiguous() and part.data_ptr() != tx.data_ptr() or not part.numel()
            np.testing.assert_array_equal(vectors.to_host(part), HOST.take(x, columns))
            wider = vectors.take(tx, columns, np.result_type(dtype, np.float64))
            assert vectors.dtype(wider) == np.result_type(dtype, np.float64)
            new = block((*shape[:-1], len(columns)), dtype, 3)
            draw = np.random.default_rng(1).random((*shape[:-2], len(columns))) < 0.5
            for where in (None, draw, np.zeros_like(draw), np.ones_like(draw)):
                wanted, found = x.copy(), vectors.copy(tx)
                HOST.put(wanted, columns, new, where)
                vectors.put(found, columns, vectors.from_host(new), where)
                np.testing.assert_array_equal(vectors.to_host(found), wanted)
        np.testing.assert_array_equal(vectors.to_host(vectors.join(tx, tx)), HOST.join(x, x))

    def test_combinations(self, vectors, shape, dtype):
        x = block(shape, dtype)
        c = block((*shape[:-2], shape[-1], 3), np.result_type(dtype, np.float64), 4)
        close(vectors.to_host(vectors.combine(vectors.from_host(x), c)), HOST.combine(x, c))

    def test_a_step(self, vectors, shape, dtype):
        p, x, r = (block(shape, dtype, k) for k in range(3))
        q = (2 * p).astype(dtype)
        rz = numbers(p) ** 2
        running, least = np.random.default_rng(0).random((2, *rz.shape)) > 0.3
        least = np.where(least, -1.0, 1e9)
        there = [vectors.copy(vectors.from_host(a)) for a in (p, q, x, r)]
        tp, tq, tx, tr = there
        before = vectors.waits
        found = vectors.read(vectors.cg_update(*there, rz, least, running, [(tx, tx), (tp, tr)]))
        assert vectors.waits == before + 1
        wanted = HOST.read(HOST.cg_update(p, q, x, r, rz, least, running, [(x, x), (p, r)]))
        for f, w in zip(found, wanted, strict=True):
            assert f.dtype == np.float64
            np.testing.assert_allclose(f, w, rtol=1e-4, atol=1e-4)
        close(vectors.to_host(tx), x)
        close(vectors.to_host(tr), r)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_turn(vectors, shape, dtype):
    p, q, x, r, z = (block(shape, dtype, k) for k in range(5))
    previous = numbers(p) ** 2 + 1
    running = np.random.default_rng(0).random(previous.shape) > 0.3
    for plain in (False, True):
        tp, tq, tx, tr, tz = (vectors.copy(vectors.from_host(a)) for a in (p, q, x, r, z))
        before = vectors.waits
        step = vectors.cg_update(tp, tq, tx, tr, previous, previous, running)
        turned = vectors.next_direction(step, tr, tr if plain else tz, tp, previous, running)
        (rz,), (_, _, rr) = vectors.read(turned), vectors.read(step)
        assert vectors.waits == before  # there is something to do meanwhile
        r_new, z_new = vectors.to_host(tr), vectors.to_host(tr if plain else tz)
        wanted = HOST.dot(r_new, z_new).real
        np.testing.assert_allclose(rz, wanted, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(rr, HOST.dot(r_new, r_new).real, rtol=1e-12)
        new = p.copy()
        HOST.aypx(np.where(running, wanted / previous, 0.0), z_new, new)
        close(vectors.to_host(tp), new)


def test_a_step_that_is_not_taken(vectors):
    p, q = np.ones((3, 4)), np.ones((3, 4)) * [1.0, np.nan, np.inf, -1.0]
    x, r = (vectors.from_host(np.ones((3, 4))) for _ in range(2))
    step = vectors.cg_update(*map(vectors.from_host, (p, q)), x, r, np.ones(4), np.zeros(4), np.ones(4, bool))
    found = vectors.read(step)
    np.testing.assert_array_equal(found[0], [3, np.nan, np.inf, -3])
    np.testing.assert_array_equal(vectors.to_host(x)[0, 1:], 1)
    assert vectors.to_host(x)[0, 0] == pytest.approx(4 / 3)


def test_what_is_not_finite(vectors):
    x = np.ones((50, 3))
    x[3, 0], x[40, 1] = np.nan, -np.inf
    np.testing.assert_array_equal(vectors.largest(vectors.from_host(x)), [np.nan, np.inf, 1])
    big = vectors.from_host(np.ones((2, 1), "float32"))
    vectors.scale(np.array([1e300]), big)  # beyond float32
    assert np.isinf(vectors.to_host(big)).all()


def test_small_things(vectors):
    zeros = vectors.zeros((2, 3), np.dtype("float32"))
    assert vectors.dtype(zeros) == np.float32 and not zeros.any()
    vectors.fill(zeros, np.nan)
    assert zeros.isnan().all()
    x = vectors.from_host(np.array([[1 / 3]]))
    assert (
        float(vectors.round(x, np.float32)) == np.float32(1 / 3) and vectors.dtype(vectors.round(x, "f")) == np.float64
    )
    twice = vectors.via_host(lambda a: 2 * a)
    assert (
        float(twice(x)) == 2 / 3 and vectors.is_block(x) and not vectors.is_block(np.ones(3)) and not HOST.is_block(x)
    )
    begin = vectors.timestamp()
    assert 0 <= vectors.seconds(begin, vectors.timestamp()) < 1
    readonly = np.broadcast_to(np.ones(3), (2, 3))
    vectors.fill(vectors.from_host(readonly), 2.0)
    assert (readonly == 1).all()


def test_the_same_bits_again(vectors):
    x, y = (vectors.from_host(block((2000, 3), "float32", k)) for k in range(2))
    first = vectors.scalars([(x, y)], [(x, y)])
    for _ in range(3):
        for f, g in zip(first, vectors.scalars([(x, y)], [(x, y)]), strict=True):
            np.testing.assert_array_equal(f, g)


def test_sums_are_of_float64(vectors):
    x = np.full((1000, 1), 1 + 2**-12, "float32")
    assert vectors.dot(*[vectors.from_host(x)] * 2)[0] == 1000 * (1 + 2**-12) ** 2
    assert vectors.gram(*[vectors.from_host(x)] * 2)[0, 0] == 1000 * (1 + 2**-12) ** 2
