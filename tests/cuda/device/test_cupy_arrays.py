"""Arrays of CuPy, for which something stands in that has what kernelops asks of it."""

import sys
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import usual

from kernelops import KernelOperator, Ranges
from kernelops.numpy import Genred, KernelSolve, LazyTensor, Vi, Vj

GAUSS = usual.GAUSS, usual.aliases(2, 1)


class ndarray:  # noqa: N801 - CuPy's name
    """A CuPy array on the memory of one of PyCUDA's."""

    __module__ = "cupy"

    def __init__(self, kept, shape=None, strides=None):
        self.kept, self.dtype = kept, kept.dtype
        self.shape = kept.shape if shape is None else tuple(shape)
        self.strides = np.empty(self.shape, self.dtype).strides if strides is None else tuple(strides)
        self.data, self.device = SimpleNamespace(ptr=int(kept.gpudata)), SimpleNamespace(id=0)

    @property
    def __cuda_array_interface__(self):
        how = {"shape": self.shape, "strides": self.strides, "typestr": self.dtype.str}
        return how | {"data": (self.data.ptr, False), "version": 3, "stream": 1}

    def get(self):
        return np.lib.stride_tricks.as_strided(self.kept.get(), self.shape, self.strides).copy()

    def reshape(self, *shape):
        shape = shape[0] if isinstance(shape[0], tuple) else shape
        return ndarray(self.kept, np.empty(self.shape).reshape(shape).shape)

    @property
    def T(self):  # noqa: N802 - as everywhere
        return ndarray(self.kept, self.shape[::-1], self.strides[::-1])


@contextmanager
def nothing(_number):
    yield


@pytest.fixture(autouse=True)
def cupy(gpu, monkeypatch):
    from pycuda.gpuarray import empty, to_gpu

    stand_in = SimpleNamespace(
        ndarray=ndarray,
        empty=lambda shape, dtype: ndarray(empty(shape, dtype)),
        asarray=lambda a: ndarray(to_gpu(np.ascontiguousarray(a))),
        cuda=SimpleNamespace(Device=nothing, get_current_stream=lambda: SimpleNamespace(ptr=0)),
        lib=SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=lambda a, *how: ndarray(a.kept, *how))),
    )
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    with gpu.current():
        yield stand_in


def points(n=80):
    draw = np.random.default_rng(0)
    return draw.normal(size=(n, 2)).astype("float32"), draw.normal(size=(n, 1)).astype("float32")


def close(found, wanted):
    assert isinstance(found, ndarray)
    np.testing.assert_allclose(found.get(), wanted, rtol=1e-4, atol=1e-4)


def test_reductions(cupy):
    x, b = points()
    there = [cupy.asarray(a) for a in (x, x, b)]
    close(Genred(*GAUSS, axis=1)(*there), Genred(*GAUSS, axis=1)(x, x, b))
    values, indices = Genred("SqDist(x,y)", GAUSS[1][:2], "Min_ArgMin", axis=1)(*there[:2])
    close(values, np.zeros((80, 1)))
    close(indices, np.arange(80)[:, None])


def test_ranges_in_any_order(cupy):
    x, b = points()
    ranges = Ranges.from_mask(np.arange(80) % 3, np.arange(80) % 3, np.eye(3, dtype=bool))
    call = Genred(*GAUSS, axis=1)
    close(call(*(cupy.asarray(a) for a in (x, x, b)), ranges=ranges), call(x, x, b, ranges=ranges))


def test_solves(cupy):
    x, b = points()
    solver = KernelSolve(*GAUSS, "b", axis=1)
    close(solver(*(cupy.asarray(a) for a in (x, x, b)), alpha=0.1), solver(x, x, b, alpha=0.1))


def test_operators(cupy):
    x, b = points()
    V = np.random.default_rng(1).normal(size=(160, 3)).astype("float32")
    matrix = "Exp(-SqDist(x,y))*b+(x-y)*Sum(b)", usual.aliases(2, 2), "b"
    for how, v in (((*GAUSS, "b"), b), ((*GAUSS, "b"), V[:80]), (matrix, V)):
        for alpha in (0.0, 0.5):
            here, there = (KernelOperator(*how, a, a, alpha=alpha) for a in (x, cupy.asarray(x)))
            close(there @ cupy.asarray(v), here @ v)
            close(there.rmatmat(cupy.asarray(v)), here.rmatmat(v))
            close(there.matvec(cupy.asarray(v[:, 0].copy())), here.matvec(v[:, 0]))


def kernel(x, y):
    return (-Vi(x).sqdist(Vj(y)) / 0.7).exp()


def test_lazy_tensors(cupy):
    """Sums, products and solves are where the arrays are; numbers and lists go there."""
    x, b = points()
    there, c = cupy.asarray(x), cupy.asarray(b)
    close(kernel(there, there) @ c, kernel(x, x) @ b)
    close(
        (kernel(there, there) * LazyTensor([1.0, 0.3])).sum(axis=0), (kernel(x, x) * LazyTensor([1.0, 0.3])).sum(axis=0)
    )
    close(
        LazyTensor(there.reshape(80, 1, 2)).sqdist(Vj(there)).argKmin(2, axis=1), Vi(x).sqdist(Vj(x)).argKmin(2, axis=1)
    )
    close(kernel(there, there).solve(c, alpha=0.5), kernel(x, x).solve(b, alpha=0.5))


def test_lazy_tensors_of_pycuda(gpu):
    from pycuda.gpuarray import GPUArray, to_gpu

    x, b = points()
    there = to_gpu(x)
    found = kernel(there, there) @ to_gpu(b)
    assert isinstance(found, GPUArray)
    np.testing.assert_allclose(found.get(), kernel(x, x) @ b, rtol=1e-4, atol=1e-4)
