"""The two halves of LazyTensor for tests that are about both, and dense arrays to compare with.

A test takes ``half``, of the fixture in conftest.py: the classes of one library, and how its arrays are made and read.
"""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest

RTOL = {"float16": 4e-3, "float32": 2e-5, "float64": 1e-12}


def half(name, package="kernelops"):
    """LazyTensor and its kin of the numpy or the torch of a package, with functions that make and read their arrays."""
    if name == "numpy":
        module = importlib.import_module(f"{package}.numpy")
        library, array, host = np, np.asarray, np.asarray
    else:
        library = pytest.importorskip("torch")
        module = importlib.import_module(f"{package}.torch")
        array, host = library.as_tensor, lambda t: t.detach().resolve_conj().numpy()
    names = ("LazyTensor", "ComplexLazyTensor", "Vi", "Vj", "Pm", "Var")
    return SimpleNamespace(
        name=name,
        module=module,
        library=library,
        array=array,
        host=host,
        other="torch" if name == "numpy" else "numpy",
        **{n: getattr(module, n) for n in names},
    )


def dense(expected, shape):
    """An array of the shape (..., M, N, D), or (..., M, N) for D = 1, of one that broadcasts to the former."""
    expected = np.asarray(expected)
    full = shape if expected.ndim == 0 or expected.shape[-1] == shape[-1] and shape[-1] != 1 else (*shape, 1)
    return np.broadcast_to(expected, full).reshape(shape)


def assert_is(got, expected, dtype="float64", scale=None):
    """The same numbers as float64 gives, to the precision of the dtype, NaN and infinities at the same places."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, f"shape {got.shape}, wanted {expected.shape}"
    finite = expected[np.isfinite(expected)]
    atol = RTOL[dtype] * (scale or (np.abs(finite).max() if finite.size else 1))
    np.testing.assert_allclose(got, expected, rtol=RTOL[dtype], atol=atol)
