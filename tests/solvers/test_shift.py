"""Shift adds alpha V, wherever V is, in the dtype of what it is added to; and nothing at all for alpha = 0."""

import numpy as np
import pytest

from kernelops.operators.shift import Shift

SHAPES = {"number": (), "rows": (6, 1), "batch": (2, 6, 1), "number a batch": (2, 1, 1)}


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_adds_alpha_times_v(shape, dtype, library):
    r = np.random.default_rng(0)
    alpha = r.random(shape) if shape else np.array(0.3)
    V, image = (r.standard_normal((2, 6, 3)).astype(dtype) for _ in range(2))
    expected = image.astype(np.float64) + alpha * V
    if library == "torch":
        torch = pytest.importorskip("torch")
        found = Shift(alpha).add(torch.from_numpy(image.copy()), torch.from_numpy(V)).numpy()
    else:
        found = Shift(alpha).add(image.copy(), V)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=4 * np.finfo(dtype).eps * np.abs(expected).max())


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("alpha", [np.zeros(()), np.zeros((4, 1))])
def test_zero_times_infinity_is_not_added(alpha, library):
    V, image = np.array([[np.inf], [1.0], [np.nan], [2.0]]), np.arange(4.0)[:, None]
    if library == "torch":
        torch = pytest.importorskip("torch")
        V, image = torch.from_numpy(V), torch.from_numpy(image)
    np.testing.assert_array_equal(np.asarray(Shift(alpha).add(image, V)), np.arange(4.0)[:, None])
