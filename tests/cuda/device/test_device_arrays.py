"""Arrays that are on a GPU already: results are of the same library, and stay there."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import usual

from kernelops import BackendError, DtypeError, KernelOperator, Ranges, ShapeError
from kernelops.numpy import Genred, KernelSolve

GAUSS = usual.GAUSS, usual.aliases(2, 1)


@pytest.fixture(autouse=True)
def on_the_gpu(gpu):
    with gpu.current():
        yield


def to_gpu(a):
    from pycuda.gpuarray import to_gpu

    return to_gpu(a)


def is_on_gpu(a):
    from pycuda.gpuarray import GPUArray

    return isinstance(a, GPUArray)


def points(n=80, dtype="float32"):
    draw = np.random.default_rng(0)
    return draw.normal(size=(n, 2)).astype(dtype), draw.normal(size=(n, 1)).astype(dtype)


class Shown:
    """What no library made, and says where it lies."""

    def __init__(self, array):
        self.kept, self.__cuda_array_interface__ = array, dict(array.__cuda_array_interface__)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_arrays_of_pycuda(dtype):
    call = Genred(*GAUSS, axis=1)
    x, b = points(dtype=dtype)
    found = call(to_gpu(x), to_gpu(x), to_gpu(b))
    assert is_on_gpu(found) and found.dtype == dtype
    np.testing.assert_allclose(found.get().astype(float), call(x, x, b).astype(float), rtol=2e-3, atol=2e-3)


def test_two_results_and_whole_numbers():
    call = Genred("SqDist(x,y)", GAUSS[1][:2], "Min_ArgMin", axis=1)
    x, _ = points()
    values, indices = call(to_gpu(x), to_gpu(x))
    assert indices.dtype == np.int64 and (indices.get()[:, 0] == np.arange(80)).all() and not values.get().any()


def test_any_array_that_shows_its_memory():
    call = Genred(*GAUSS, axis=1)
    x, b = points()
    np.testing.assert_array_equal(
        call(*(Shown(to_gpu(a)) for a in (x, x, b))).get(), call(*(to_gpu(a) for a in (x, x, b))).get()
    )


def test_numbers_may_be_anywhere():
    call = Genred(usual.SCALED_GAUSS, [*GAUSS[1], "g = Pm(1)"], axis=1)
    x, b = points()
    there = [to_gpu(a) for a in (x, x, b)]
    wanted = call(x, x, b, 2.0)
    for g in (2.0, np.float32(2), np.array(2.0)):
        np.testing.assert_allclose(call(*there, g).get(), wanted, rtol=1e-5, atol=1e-6)


def test_a_part_of_an_array():
    call = Genred(*GAUSS, axis=1)
    x, b = points()
    part = to_gpu(x)[10:50]
    np.testing.assert_allclose(call(part, to_gpu(x), to_gpu(b)).get(), call(x[10:50], x, b), rtol=1e-5, atol=1e-6)


def test_what_is_refused():
    call = Genred(*GAUSS, axis=1)
    x, b = points()
    with pytest.raises(BackendError, match=r"y = Vj\(2\) is on the host, x = Vi\(2\) is on GPU 0: all arrays"):
        call(to_gpu(x), x, b)
    with pytest.raises(BackendError, match='backend = "CPU", but argument 0 is on a GPU'):
        call(to_gpu(x), x, b, backend="CPU")
    telling = [Shown(to_gpu(a)) for a in (x, x, b)]
    for a in telling:
        a.device = SimpleNamespace(id=1)  # as CuPy's arrays have it
    with pytest.raises(BackendError, match=r"device_id = 0, but x = Vi\(2\) is on GPU 1"):
        call(*telling, backend="GPU", device_id=0)
    with pytest.raises(DtypeError, match=r"x = Vi\(2\): wanted float16, float32 or float64, got int32"):
        call(to_gpu(x.astype("int32")), to_gpu(x), to_gpu(b))


def test_a_solve():
    solver = KernelSolve(*GAUSS, "b", axis=1)
    x, b = points(200)
    found = solver(to_gpu(x), to_gpu(x), to_gpu(b), alpha=0.1)
    assert is_on_gpu(found)
    np.testing.assert_allclose(found.get(), solver(x, x, b, alpha=0.1), rtol=1e-4, atol=1e-5)


def test_an_operator_with_noise_for_each_row_and_a_matrix_valued_one():
    x, b = points(90)
    for formula, alpha in ((GAUSS[0], np.linspace(0.1, 1, 90)), (GAUSS[0], np.ones((90, 1))), ("(x-y)*((x-y)|c)", 0.0)):
        how = (formula, [*GAUSS[1][:2], "c = Vj(2)"], "c") if "c" in formula else (formula, GAUSS[1], "b")
        v = np.random.default_rng(1).normal(size=(180 if "c" in formula else 90, 1)).astype("float32")
        here, there = (KernelOperator(*how, a, a, alpha=alpha) for a in (x, to_gpu(x)))
        np.testing.assert_allclose((there @ to_gpu(v)).get(), here @ v, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose((there.T @ to_gpu(v)).get(), here.T @ v, rtol=1e-4, atol=1e-4)


def test_an_operator_refuses():
    x, b = points(50)
    there, here = KernelOperator(*GAUSS, "b", to_gpu(x), to_gpu(x)), KernelOperator(*GAUSS, "b", x, x)
    with pytest.raises(BackendError, match="the vector is on a GPU, the operator's arrays are on the host"):
        here @ to_gpu(b)
    with pytest.raises(ShapeError, match=r"an operator of shape \(50, 50\) does not fit a vector of shape \(49, 1\)"):
        there @ to_gpu(b[1:])
    with pytest.raises(DtypeError, match="the vector: wanted float32 or float64, got int64"):
        there @ to_gpu(np.arange(50))


def test_an_operator():
    x, b = points(200)
    here, there = (KernelOperator(*GAUSS, "b", a, a, alpha=0.5) for a in (x, to_gpu(x)))
    sent = KernelOperator(*GAUSS, "b", x, x, alpha=0.5, backend="GPU")
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    for A in (there, sent):
        close(A @ b, here @ b)
        close((A @ to_gpu(b)).get(), here @ b)
        close((A.T @ to_gpu(b)).get(), here @ b)
        close(A.matvec(to_gpu(b[:, 0].copy())).get(), here @ b[:, 0])
        close(A.rmatvec(to_gpu(b[:, 0].copy())).get(), here @ b[:, 0])
        close(A.matmat(to_gpu(np.hstack([b, 2 * b]))).get(), here @ np.hstack([b, 2 * b]))
    np.testing.assert_allclose(there.T @ b, here.T @ b, rtol=1e-5, atol=1e-5)
    I = np.arange(5)
    np.testing.assert_allclose(there.entries[0].columns(I), here.entries[0].columns(I))


def test_an_operator_of_vectors_with_ranges_in_any_order():
    x, _ = points(60)
    labels = np.arange(60) % 4
    ranges = Ranges.from_mask(labels, labels, np.abs(np.subtract.outer(np.arange(4), np.arange(4))) < 2)
    how = "Exp(-SqDist(x,y))*b+(x-y)*Sum(b)", usual.aliases(2, 2), "b"
    V = np.random.default_rng(0).normal(size=(120, 3)).astype("float32")
    here, there = (KernelOperator(*how, a, a, ranges=ranges) for a in (x, to_gpu(x)))
    np.testing.assert_allclose((there @ to_gpu(V)).get(), here @ V, rtol=1e-4, atol=1e-4)


def test_an_operator_and_no_vectors():
    x, b = points(30)
    for alpha in (0.0, 1.0):
        there = KernelOperator(*GAUSS, "b", to_gpu(x), to_gpu(x), alpha=alpha)
        assert (there @ to_gpu(b[:, :0])).shape == (30, 0)


def test_a_number_on_a_gpu_beside_arrays_of_the_host():
    x, b = points(30)
    with pytest.raises(BackendError, match="a number is on a GPU, the arrays are on the host: give it as a number"):
        Genred(usual.SCALED_GAUSS, [*GAUSS[1], "g = Pm(1)"], axis=1)(x, x, b, to_gpu(np.array(2.0, "float32")))


def test_an_array_that_another_stream_is_still_to_write(gpu, monkeypatch):
    waited = []
    monkeypatch.setattr(type(gpu), "synchronise", lambda self, stream=None: waited.append(stream))
    call, (x, b) = Genred(*GAUSS, axis=1), points()
    given = [Shown(to_gpu(a)) for a in (x, x, b)]
    for a, stream in zip(given, (None, 1, 77), strict=True):
        a.__cuda_array_interface__ |= {"version": 3, "stream": stream}
    call(*given)
    assert 77 in waited and 1 not in waited


def test_an_array_of_another_context(gpu, only_emulated):
    import pycuda.driver as cuda

    call, (x, b) = Genred(*GAUSS, axis=1), points()
    here = [to_gpu(a) for a in (x, b)]
    other = cuda.Device(0).make_context()  # as pycuda.autoinit does
    try:
        there = to_gpu(x)
    finally:
        other.pop()
    with pytest.raises(
        BackendError, match="in another CUDA context than the primary one .* pycuda.autoprimaryctx in pl"
    ):
        call(here[0], there, here[1])
    other.push()
    del there
    other.pop()
    other.detach()


def test_an_array_of_another_gpu(gpu, only_emulated):
    from kernelops.gpu.device import device

    call, (x, b) = Genred(*GAUSS, axis=1), points()
    with device(1).current():
        given = [to_gpu(a) for a in (x, x, b)]
        with pytest.raises(BackendError, match=r"an array is on GPU 1, the call is for GPU 0 .*: give device_id=1"):
            call(*given)
        np.testing.assert_allclose(call(*given, device_id=1, backend="GPU").get(), call(x, x, b), rtol=1e-5, atol=1e-6)
        del given
