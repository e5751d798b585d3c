"""Sums in two floats on a GPU that is slow in double: which they are, how exact, and what leaves their range."""

import numpy as np
import pytest
import usual

from kernelops import KernelOperator, Ranges
from kernelops.engines import gpu as machine
from kernelops.gpu import device as devices
from kernelops.numpy import KernelSolve

ALIASES = usual.aliases(3, 1, "g")
FORMULAS = {
    "Gaussian": usual.SCALED_GAUSS,
    "Matern": "(1+Sqrt(3*SqDist(g*x,g*y)))*Exp(-Sqrt(3*SqDist(g*x,g*y)))*b",
    "Laplacian": usual.SCALED_LAPLACE,
    "Cauchy": "Inv(1+g*SqDist(x,y))*b",
}
DENSE = {
    "Gaussian": lambda s, g: np.exp(-g * s),
    "Matern": lambda s, g: (1 + g * np.sqrt(3 * s)) * np.exp(-g * np.sqrt(3 * s)),
    "Laplacian": lambda s, g: np.exp(-g * np.sqrt(s)),
    "Cauchy": lambda s, g: 1 / (1 + g * s),
}


@pytest.fixture
def made(gpu, monkeypatch):
    """The arithmetic of each sum that is launched, on a GPU that is slow in double."""
    monkeypatch.setattr(gpu, "double_ratio", 1 / 64)
    found, kernel = [], machine._first_kernel

    def noted(gpu, prepared, options, partial):
        found.append(options.arithmetic)
        return kernel(gpu, prepared, options, partial)

    monkeypatch.setattr(machine, "_first_kernel", noted)
    return found


def points(M, N, n=1, seed=0):
    draw = np.random.default_rng(seed)
    x, y = (draw.normal(size=(k, 3)).astype("float32") for k in (M, N))
    return x, y, draw.normal(size=(N, n))


def operator(name, x, y, g, **how):
    return KernelOperator(FORMULAS[name], ALIASES, "b", x, y, np.asarray([g], x.dtype), backend="GPU", **how)


def terms(name, x, y, b, g):
    x, y, b = (np.asarray(a, np.longdouble) for a in (x, y, b))
    squares = ((x[:, None] - y) ** 2).sum(-1)
    return DENSE[name](squares, np.longdouble(np.float32(g)))[..., None] * b


@pytest.mark.parametrize(("M", "N"), [(150, 300), (3, 3000)], ids=["rows", "parts"])
@pytest.mark.parametrize("name", FORMULAS)
def test_products_with_a_vector_in_double(name, M, N, made):
    """Within 2^-44 of the sum of magnitudes, and no better than numbers of 48 bits can be; in one pass and in two."""
    x, y, b = points(M, N)
    x[:2] = y[:2]
    found = operator(name, x, y, 0.7) @ b
    assert found.dtype == np.float64 and made == ["twofloat", "again"]
    each = terms(name, x, y, b, 0.7)
    error = abs(found - each.sum(1)) / abs(each).sum(1)
    assert 2.0**-53 < error.max() <= 2.0**-44


def test_when_there_is_nothing_to_gain(made, gpu, monkeypatch):
    x, y, b = points(20, 30)
    operator("Gaussian", x, y, 0.7) @ b.astype("float32")
    operator("Gaussian", x.astype(float), y.astype(float), 0.7) @ b
    operator("Gaussian", x, y, 0.7, sum_scheme="kahan_scheme") @ b
    operator("Gaussian", x, y, 0.7, dtype_acc="float64") @ b
    assert made == [None] * 4
    monkeypatch.setattr(gpu, "double_ratio", 1 / 2)
    operator("Gaussian", x, y, 0.7) @ b
    assert made == [None] * 5


@pytest.mark.parametrize("n", [2, 20])
def test_several_vectors_and_the_transposed_kernel(n, made):
    x, y, b = points(150, 200, n)
    A = operator("Gaussian", x, y, 0.7)
    each = terms("Gaussian", x, y, b, 0.7)
    assert (abs(A @ b - each.sum(1)) <= 2.0**-44 * abs(each).sum(1)).all()
    back = points(200, 150, n, seed=1)[2]
    each = terms("Gaussian", y, x, back, 0.7)
    assert (abs(A.T @ back - each.sum(1)) <= 2.0**-44 * abs(each).sum(1)).all()
    assert set(made) == {"twofloat", "again"}


def test_long_vectors_have_rectangles(made):
    draw = np.random.default_rng(3)
    x, y = (draw.normal(size=(k, 20)).astype("float32") / 4 for k in (150, 200))
    b = draw.normal(size=(200, 1))
    aliases = usual.aliases(20, 1)
    A = KernelOperator(usual.GAUSS, aliases, "b", x, y, backend="GPU")
    each = terms("Gaussian", x, y, b, 1)
    assert (abs(A @ b - each.sum(1)) <= 2.0**-44 * abs(each).sum(1)).all()
    x[5, 3] = 1e30
    x[7, 0] = np.nan
    assert_as_in_double(lambda: KernelOperator(usual.GAUSS, aliases, "b", x, y, backend="GPU") @ b)
    assert set(made) == {"twofloat", "again", None}


def test_ranges_in_two_floats_and_again(made):
    x, y, b = points(200, 200)
    ranges = Ranges.band(200, 30, block=10)
    each = np.where(ranges.mask(200, 200)[..., None], terms("Gaussian", x, y, b, 0.7), 0)
    found = operator("Gaussian", x, y, 0.7, ranges=ranges) @ b
    assert (abs(found - each.sum(1)) <= 2.0**-44 * abs(each).sum(1)).all()
    x[50] = 1e30
    assert_as_in_double(lambda: operator("Gaussian", x, y, 0.7, ranges=ranges) @ b)
    assert set(made) == {"twofloat", "again", None}


# ---- what leaves the range ------------------------------------------------------------------------------------------


def assert_as_in_double(product):
    """What is not finite stands where it does in double; all else is close to it."""
    found = product()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices.device(0), "double_ratio", 1 / 2)
        wanted = product()
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(found[~finite], wanted[~finite])
    largest = abs(wanted[finite]).max(initial=0)
    assert (abs(found[finite] - wanted[finite]) <= 2.0**-43 * largest).all()
    return found, wanted


NUMBERS = {
    "infinite": np.inf,
    "nan": np.nan,
    "large": 1e30,
    "square beyond float": 3e19,
    "small": 1e-20,
    "beyond what is loaded": 2e12,
}


@pytest.mark.parametrize("place", ["x", "y"])
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", FORMULAS)
def test_rows_and_columns_out_of_range(name, number, place, made):
    x, y, b = points(300, 150)
    {"x": x, "y": y}[place][17, 1] = NUMBERS[number]
    assert_as_in_double(lambda: operator(name, x, y, 0.7) @ b)
    assert made == ["twofloat", "again", None]


@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1e-30, 1e-20, 1e-10, 1e10, 1e20, 1e50])
@pytest.mark.parametrize("N", [150, 3000])
def test_vectors_of_any_size(scale, N, made):
    """Those that are too small for two floats are multiplied in double, to the bit."""
    x, y, b = points(30, N)
    found, wanted = assert_as_in_double(lambda: operator("Cauchy", x, y, 0.7) @ (scale * b))
    assert ((found == wanted).all() or scale in (1e-10, 1e10)) and made == ["twofloat", "again", None]


def test_vectors_of_many_sizes_side_by_side(made):
    """In chunks, two for each block of rows: each column is as in double."""
    x, y, b = points(150, 200, 20)
    x[3] = 1e30
    b *= np.resize([1, 1e-30, 1e20, 0, 1e-300], 20)
    A = operator("Cauchy", x, y, 0.7)
    found, wanted = assert_as_in_double(lambda: A @ b)
    assert (abs(found - wanted) <= 2.0**-43 * abs(wanted).max(0)).all()


def test_a_vector_of_zeros_and_infinite_ones(made):
    x, y, b = points(150, 130)
    assert not (operator("Gaussian", x, y, 0.7) @ (0 * b)).any()
    for number in (np.inf, -np.inf, np.nan):
        b[12] = number
        assert_as_in_double(lambda: operator("Gaussian", x, y, 0.7) @ b)


def test_parameters_out_of_range(made):
    x, y, b = points(40, 50)
    for g in (1e-30, 1e-14, 1e14, 1e30, np.inf, np.nan):
        for name in FORMULAS:
            assert_as_in_double(lambda name=name, g=g: operator(name, x, y, g) @ b)


# ---- solves ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Gaussian", "Matern"])
def test_a_refined_solve(name, made):
    """Data in float, a residual of 1e-11: products with the iterate in double are made in two floats."""
    n, g, alpha = 400, np.float32(1.5), 0.1
    x, _, b = points(n, n)
    b = b.astype("float32")
    _, found = KernelSolve(FORMULAS[name], ALIASES, "b", axis=1)(
        x, x, b, np.array([g]), alpha=alpha, rtol=1e-11, method="cg", backend="GPU", return_solution=True
    )
    assert found.converged and "twofloat" in made
    matrix = terms(name, x, x, np.ones((n, 1)), g)[..., 0] + alpha * np.eye(n)
    residual = b - matrix @ found.x.astype(np.longdouble)
    assert np.linalg.norm(residual.astype(float)) <= 1.1e-11 * np.linalg.norm(b)
