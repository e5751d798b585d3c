"""Copies of LazyTensors: copy, deepcopy, pickle, and what another process makes of them."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest
from lazy_doors import assert_is
from processes import PATIENCE

from kernelops import Ranges

rng = np.random.default_rng(5)
x, y = rng.random((5, 2)), rng.random((7, 2))
PATTERN = Ranges.from_mask([[0, 2], [2, 5]], [[0, 3], [3, 7]], [[True, False], [True, True]])
COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda a: pickle.loads(pickle.dumps(a)),
    "oldest pickle": lambda a: pickle.loads(pickle.dumps(a, protocol=2)),
}


def kernel(half):
    x_i, y_j = half.Vi(half.array(x)), half.Vj(half.array(y))
    return x_i, (-(((x_i - y_j) * [0.5, 0.7]) ** 2).sum(-1) * 0.3).exp()


@pytest.mark.parametrize("way", COPIES)
def test_copies_compute_the_same(half, way):
    x_i, K = kernel(half)
    K.ranges = PATTERN
    z = half.LazyTensor(half.array(x[:, None] + 1j)) * 2
    for original in (K, K.T, K + 1, z, half.Vi(0, 2), half.LazyTensor(2.5)):
        copied = COPIES[way](original)
        assert type(copied) is type(original) and repr(copied) == repr(original)
        if original.shape != (1, 1, 2):
            np.testing.assert_array_equal(half.host(copied.sum(axis=1)), half.host(original.sum(axis=1)))
    assert COPIES[way](K).ranges == PATTERN
    f = COPIES[way](half.Vi(0, 2).sum(axis=0)) if way != "copy" else half.Vi(0, 2).sum(axis=0)
    assert_is(half.host(f(half.array(x))), x.sum(0)[None])


@pytest.mark.parametrize("way", list(COPIES)[1:])
def test_a_kernel_and_its_variable_stay_together(half, way):
    x_i, K = kernel(half)
    for pair in ((K, x_i), [x_i, K]):
        copied = COPIES[way](pair)
        K2, x2 = copied if isinstance(pair, tuple) else reversed(copied)
        assert len((K2 + x2).slots) == len(K.slots)
        got, want = K2.grad(x2, 1).sum(axis=1), K.grad(x_i, 1).sum(axis=1)
        np.testing.assert_array_equal(half.host(got), half.host(want))


@pytest.mark.parametrize("way", list(COPIES)[1:])
def test_a_copy_has_arrays_of_its_own(half, way):
    array = half.array(x.copy())
    made = half.Vi(array) * 2
    copied = COPIES[way](made)
    array[0] = 7.0
    assert_is(half.host(copied.sum(axis=0)), 2 * x.sum(0)[None])


def test_long_formulas_are_copied(half):
    x_i = half.Vi(half.array(x))
    long = x_i
    for k in range(200):
        long = (long + k / 1000).abs()
    want = half.host(long.sum(axis=0))
    for way in ("deepcopy", "pickle"):
        np.testing.assert_array_equal(half.host(COPIES[way](long).sum(axis=0)), want)


def _row_sums(K):
    return K.sum(axis=1)


def test_another_process_computes_with_it():
    from lazy_doors import half

    _, K = kernel(half("numpy"))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.map_async(_row_sums, [K, K.exp()]).get(PATIENCE)
    np.testing.assert_array_equal(found[0], K.sum(axis=1))
    np.testing.assert_array_equal(found[1], K.exp().sum(axis=1))
