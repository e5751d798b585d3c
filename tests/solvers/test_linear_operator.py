"""KernelOperator as a matrix: its products, its algebra and its entries, against the dense float64 matrix."""

import numpy as np
import pytest
import usual
from judges import assert_sum_close
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from kernelops import ArgumentError, DtypeError, KernelOperator, Ranges, ShapeError

SCALAR = usual.SCALED_GAUSS
ALIASES = usual.aliases(3, 2, "g")
UNITS = 64  # the exponents are up to 20, and their rounding is multiplied by that


def points(n, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal((n, 3)).astype(dtype)


def gaussian(x, y, g=0.5):
    x, y = (a.astype(np.float64) for a in (x, y))
    return np.exp(-g * ((x[:, None] - y) ** 2).sum(-1))


def make(M=70, N=50, dtype="float64", **keywords):
    """A scalar kernel and its dense matrix, in float64 from data of that dtype."""
    x, y = points(M, dtype), points(N, dtype, 1)
    if keywords.pop("square", False):
        y = x
    return KernelOperator(SCALAR, ALIASES, "b", x, y, np.array([0.5], dtype), **keywords), gaussian(x, y)


def assert_product(got, matrix, vector, dtype):
    assert got.dtype == dtype
    block = vector.reshape(len(vector), -1).astype(np.result_type(vector.dtype, np.float64))
    for part in (np.real, np.imag) if np.iscomplexobj(got) else (np.real,):
        terms = matrix[:, :, None] * part(block)
        assert_sum_close(np.ascontiguousarray(part(got)).reshape(len(matrix), -1), terms, 1, UNITS)
    assert got.shape == (len(matrix), *vector.shape[1:])


DTYPES = [  # of the data, of the vector, of the result
    ("float32", "float32", "float32"),
    ("float32", "float64", "float64"),
    ("float32", "complex64", "complex64"),
    ("float32", "complex128", "complex128"),
    ("float32", "int64", "float64"),
    ("float32", "bool", "float64"),
    ("float32", "float16", "float32"),
    ("float16", "float32", "float32"),
    ("float16", "float16", "float32"),
    ("float16", "float64", "float64"),
    ("float64", "float32", "float64"),
    ("float64", "float64", "float64"),
    ("float64", "complex64", "complex128"),
    ("float64", "int32", "float64"),
]


@pytest.mark.parametrize(("data", "vector", "result"), DTYPES)
@pytest.mark.parametrize("transposed", [False, True])
def test_the_wider_of_data_and_vector_is_the_dtype_of_a_product(data, vector, result, transposed):
    A, K = make(dtype=data)
    A, K = (A.T, K.T) if transposed else (A, K)
    v = np.random.default_rng(2).standard_normal((A.shape[1], 3)) * 2
    v = (v + 1j * v[::-1]).astype(vector) if vector.startswith("complex") else v.astype(vector)
    assert_product(A @ v, K, v, result)
    assert_product(A @ v[:, 0], K, v[:, 0], result)


def test_a_float64_vector_on_float32_data_gets_a_true_float64_product():
    A, K = make(dtype="float32")
    v = np.ones(50)
    assert abs(A @ v - K @ v).max() < 1e-13 < 1e-9 < abs(A @ np.ones(50, "float32") - K @ v).max()


@pytest.mark.parametrize("columns", [None, 0, 1, 3, 65, 200])
@pytest.mark.parametrize("name", ["A", "A.T", "A.H"])
def test_blocks_of_any_width(name, columns):
    A, K = make(40, 30)
    A, K = (A, K) if name == "A" else (A.T if name == "A.T" else A.H, K.T)
    v = np.random.default_rng(3).standard_normal((A.shape[1],) if columns is None else (A.shape[1], columns))
    assert_product(A @ v, K, v, "float64")
    if columns is None or columns == 1:
        assert_product(A.matvec(v), K, v, "float64")
    if columns:
        assert_product(A.matmat(v), K, v, "float64")
        wide = np.asfortranarray(v)
        wide.setflags(write=False)
        np.testing.assert_array_equal(A @ wide, A @ v)


def test_methods_of_scipy():
    A, K = make(dtype="float32")
    assert isinstance(A, LinearOperator) and A.dtype == np.float32 and A.shape == (70, 50)
    assert A.T.shape == (50, 70) and A.T.T is A and A.H.H is A and aslinearoperator(A) is A
    u, v = np.ones(70), np.ones((50, 2))
    for got, want in [(A._matvec(v[:, 0]), K @ v[:, 0]), (A._matmat(v), K @ v), (A._rmatvec(u), K.T @ u)]:
        np.testing.assert_allclose(got, want, rtol=1e-12)
    np.testing.assert_allclose(A._rmatmat(u[:, None]), K.T @ u[:, None], rtol=1e-12)
    np.testing.assert_allclose(A.rmatvec(u), A._adjoint() @ u)
    np.testing.assert_allclose(A(v), A.dot(v))


COMPOSED = {
    "A + B": lambda A, B: A + B,
    "A - B": lambda A, B: A - B,
    "-A": lambda A, B: -A,
    "2*A": lambda A, B: 2 * A,
    "A*1j": lambda A, B: A * 1j,
    "A @ B": lambda A, B: A @ B,
    "A**3": lambda A, B: A @ A @ A if isinstance(A, np.ndarray) else A**3,
    "A.T @ B": lambda A, B: A.T @ B,
    "A.H - B.T*2": lambda A, B: A.T.conj() - B.T * 2 if isinstance(A, np.ndarray) else A.H - B.T * 2,
}


@pytest.mark.parametrize("name", COMPOSED)
@pytest.mark.parametrize("other", ["kernel", "matrix"])
def test_algebra_with_operators(name, other):
    A, K = make(20, square=True, alpha=0.3)
    K += 0.3 * np.eye(20)
    L = np.random.default_rng(4).standard_normal((20, 20))
    B = aslinearoperator(L)
    if other == "kernel":
        y = points(20, seed=5)
        B, L = KernelOperator(SCALAR, ALIASES, "b", y, points(20, seed=6), 0.2), gaussian(y, points(20, seed=6), 0.2)
    got, want = COMPOSED[name](A, B), COMPOSED[name](K, L)
    assert isinstance(got, LinearOperator)
    np.testing.assert_allclose(got @ np.eye(20), want, atol=1e-10)
    np.testing.assert_allclose(got.H @ np.eye(20), want.conj().T, atol=1e-10)


@pytest.mark.parametrize("alpha", [0, 0.25, np.float32(2), np.array([3.0]), np.arange(30.0), np.arange(30.0)[:, None]])
def test_alpha_is_added_to_the_diagonal(alpha):
    A, K = make(30, square=True, alpha=alpha)
    K = K + np.diag(np.broadcast_to(np.ravel(alpha), 30))
    v = np.random.default_rng(7).standard_normal((30, 2))
    assert_product(A @ v, K, v, "float64")
    assert_product(A.T @ v, K.T, v, "float64")
    np.testing.assert_allclose(A.to_dense(), K, rtol=1e-12)
    np.testing.assert_allclose(A.diagonal(), np.diag(K), rtol=1e-12)
    np.testing.assert_allclose(A.block([3, -1, 3], [29, 3]), K[np.ix_([3, -1, 3], [29, 3])], rtol=1e-12)


def test_alpha_wants_a_square_matrix_and_as_many_entries():
    with pytest.raises(ArgumentError, match="alpha must be 0 where the operator is not square; it is 70 x 50"):
        make(alpha=0.1)
    assert make(alpha=0)[0].shape == (70, 50)
    with pytest.raises(ShapeError, match=r"alpha: wanted shape \(\), \(1,\), \(30,\) or \(30, 1\), got \(2,\)"):
        make(30, square=True, alpha=np.ones(2))


MATRIX_VALUED = {  # formula -> blocks (E, Dv) at all pairs, from d[i, j] = x_i - y_j, (M, N, 3)
    "Exp(-SqDist(x,y))*(x-y)*Sum((x-y)*v)": lambda d: gauss(d)[..., None] * d[..., :, None] * d[..., None, :],
    "Exp(-SqDist(x,y))*((x-y)|v)": lambda d: gauss(d)[..., None] * d[..., None, :],
    "Exp(-SqDist(x,y))*Concat(v,(x-y)|v)": lambda d: (
        gauss(d)[..., None] * np.concatenate([np.broadcast_to(np.eye(3), (*d.shape, 3)), d[..., None, :]], axis=-2)
    ),
}


def gauss(d):
    return np.exp(-(d**2).sum(-1))[..., None]


@pytest.mark.parametrize("formula", MATRIX_VALUED)
@pytest.mark.parametrize("unknown", ["Vi", "Vj"])
def test_matrix_valued_kernels(formula, unknown):
    x, y = 0.5 * points(12), 0.5 * points(9, seed=1)
    blocks = MATRIX_VALUED[formula](x[:, None] - y)
    if unknown == "Vi":
        blocks = blocks.swapaxes(0, 1)
    E, D = blocks.shape[2:]
    K = blocks.swapaxes(1, 2).reshape(blocks.shape[0] * E, blocks.shape[1] * D)
    A = KernelOperator(formula, ["x = Vi(3)", "y = Vj(3)", f"v = {unknown}(3)"], "v", x, y)
    assert A.shape == K.shape
    for operator, matrix in ((A, K), (A.T, K.T)):
        for shape in [(matrix.shape[1],), (matrix.shape[1], 4)]:
            v = np.random.default_rng(8).standard_normal(shape)
            np.testing.assert_allclose(operator @ v, matrix @ v, atol=1e-12)
    np.testing.assert_allclose(A.to_dense(), K, atol=1e-13)
    np.testing.assert_allclose(A.block([5, 0], [7, 2, 2]), K[np.ix_([5, 0], [7, 2, 2])], atol=1e-13)
    if E == D:
        np.testing.assert_allclose(A.diagonal(), np.concatenate([np.diag(blocks[p, p]) for p in range(9)]), atol=1e-13)
    else:
        with pytest.raises(ShapeError, match=rf"the blocks of this kernel are \({E}, {D}\)"):
            A.diagonal()


def test_a_vi_unknown_sums_over_i():
    x, y = points(20), points(30, seed=1)
    A = KernelOperator("Exp(-SqDist(x,y))*b*Sum(x)", ["x = Vi(3)", "y = Vj(3)", "b = Vi(1)"], "b", x, y)
    K = (gaussian(x, y, 1.0) * x.sum(1)[:, None]).T
    assert A.shape == (30, 20)
    np.testing.assert_allclose(A @ np.arange(20.0), K @ np.arange(20.0), atol=1e-12)
    np.testing.assert_allclose(A.T @ np.arange(30.0), K.T @ np.arange(30.0), atol=1e-12)
    np.testing.assert_allclose(A.to_dense(), K, atol=1e-13)
    np.testing.assert_allclose(A.diagonal(), np.diag(K), atol=1e-13)


def test_ranges():
    ranges = Ranges.from_mask([[0, 8], [8, 20]], [[0, 5], [5, 30]], np.array([[True, False], [True, True]]))
    A, K = make(20, 30, ranges=ranges)
    K = K * ranges.mask(20, 30)
    v, u = np.random.default_rng(9).standard_normal((30, 2)), np.random.default_rng(9).standard_normal(20)
    assert_product(A @ v, K, v, "float64")
    assert_product(A.T @ u, K.T, u, "float64")
    np.testing.assert_allclose(A.to_dense(), K, atol=1e-14)
    np.testing.assert_allclose(KernelOperator(SCALAR, ALIASES, "b", *A._init[3], ranges=ranges.as_tuple()) @ v, A @ v)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dot_test(dtype):
    A, _ = make(dtype=dtype)
    rng = np.random.default_rng(10)
    u, v = rng.standard_normal(70).astype(dtype), rng.standard_normal(50).astype(dtype)
    left, right = np.dot(u, A @ v), np.dot(A.T @ u, v)
    assert abs(left - right) <= 16 * np.finfo(dtype).eps * np.linalg.norm(u) * np.linalg.norm(A @ v)


def test_entries():
    A, K = make(dtype="float32")
    for got, want in [
        (A.rows([3, -1]), K[[3, -1]]),
        (A.rows(5), K[[5]]),
        (A.columns(np.array([49, 0, 0])), K[:, [49, 0, 0]]),
        (A.columns(np.arange(50) < 2), K[:, :2]),
        (A.block(range(3), []), K[:3, :0]),
        (A.block([], [1]), K[:0, [1]]),
        (A.diagonal(), np.diag(K)),
        (A.to_dense(), K),
    ]:
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-5)
    with pytest.raises(ArgumentError, match="an array of 14000 bytes, max_bytes is 13999"):
        A.to_dense(max_bytes=13999)
    assert A.to_dense(max_bytes=14000).shape == A.shape


@pytest.mark.parametrize(("M", "N"), [(0, 0), (0, 3), (3, 0), (1, 1), (1, 4), (4, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_points_and_one(M, N, dtype):
    A, K = make(M, N, dtype)
    for v in (np.ones(N), np.ones((N, 1)), np.ones((N, 2)), np.ones((N, 0))):
        np.testing.assert_allclose(A @ v, K @ v, atol=1e-12)
        assert (A @ v).dtype == np.float64 and (A @ v.astype(dtype)).dtype == dtype
    np.testing.assert_allclose(A.T @ np.ones(M), K.T @ np.ones(M), atol=1e-12)
    np.testing.assert_allclose(A.to_dense(), K, rtol=1e-5)
    np.testing.assert_allclose(A.diagonal(), np.diag(K) if M * N else np.zeros(0), rtol=1e-5)


def test_positions_in_any_order_with_gaps_and_unused():
    x, y, g = points(6), points(4, seed=1), 0.5
    K, v = gaussian(x, y), np.ones(4)
    A = KernelOperator(SCALAR, ["g = Pm(3,1)", "x = Vi(2,3)", "y = Vj(0,3)", "b = Vj(1,1)"], "b", y, x, g)
    np.testing.assert_allclose(A @ v, K @ v)
    A = KernelOperator(SCALAR, ["x = Vi(1,3)", "b = Vj(2,1)", "y = Vj(7,3)", "g = Pm(4,1)"], "b", x, g, y)
    np.testing.assert_allclose(A @ v, K @ v)
    A = KernelOperator("Exp(-SqNorm2(y))*b", usual.aliases(3, 1), "b", x, y)
    np.testing.assert_allclose(A.to_dense(), np.tile(np.exp(-(y**2).sum(1)), (6, 1)))  # x says no more than how many


def test_without_another_variable_of_an_index_the_matrix_is_square():
    x = points(5)
    w = np.exp(-(x**2).sum(1))
    for place, matrix in (("Vj", np.tile(w, (5, 1))), ("Vi", np.tile(w[:, None], 5))):
        A = KernelOperator("Exp(-SqNorm2(x))*b", [f"x = {place}(3)", "b = Vj(1)"], "b", x, alpha=1.0)
        np.testing.assert_allclose(A.to_dense(), matrix + np.eye(5))
        np.testing.assert_allclose(A @ np.arange(5.0), matrix @ np.arange(5.0) + np.arange(5.0))
    with pytest.raises(ArgumentError, match="wanted a Vi or Vj variable beside the unknown 'b'"):
        KernelOperator("g*b", ["b = Vj(1)", "g = Pm(1)"], "b", 2.0)


def test_repr_says_what_it_is():
    A, _ = make(20, square=True, alpha=0.5, dtype="float32")
    assert repr(A) == "<20x20 KernelOperator of float32: 0.5*I + Exp(-g*Sum(Square(x-y)))*b, symmetric: yes>"
    assert "diag(alpha) + " in repr(make(20, square=True, alpha=np.ones(20))[0])
    assert repr(make(ranges=Ranges.dense(70, 50))[0]).endswith(
        "on Ranges(1 i-blocks, 1 j-blocks, 100% of 70 x 50), symmetric: no>"
    )


def test_infinite_parts_of_complex_vectors_stay_apart():
    v = np.ones(50, complex)
    v[0] = complex(1, np.inf)
    got = make()[0] @ v
    assert np.isfinite(got.real).all() and np.isposinf(got.imag).all()


def test_vectors_that_do_not_fit():
    A, _ = make()
    for call in (lambda: A @ np.ones(70), lambda: A @ np.ones((70, 2)), lambda: A.product(np.ones((70, 1)))):
        with pytest.raises(ShapeError, match=r"a vector for \(70, 50\) needs shape \(50,\) or \(50, k\), got \(70"):
            call()
    with pytest.raises(DtypeError, match="a vector of object: wanted real or complex numbers"):
        A @ np.array([None] * 50)
    with pytest.raises(DtypeError, match="a masked array"):
        A @ np.ma.masked_array(np.ones(50))
