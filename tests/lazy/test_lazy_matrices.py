"""LazyTensors as matrices: products, transposes, solves, SciPy's operators, and single entries."""

import numpy as np
import pytest
from lazy_doors import assert_is
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from kernelops import ArgumentError, KeywordError, Ranges, ShapeError, Solution

rng = np.random.default_rng(3)
x, y = rng.uniform(-1, 1, (5, 2)), rng.uniform(-1, 1, (7, 2))
RECTANGLE = Ranges.from_mask([[0, 2], [2, 5]], [[0, 3], [3, 7]], [[True, False], [True, True]])
SQUARE = Ranges.from_mask([[0, 2], [2, 5]], [[0, 2], [2, 5]], [[True, False], [False, True]])


def gauss(half, a, b):
    """exp(-|a - b|^2) as a LazyTensor and as a dense array (..., M, N)."""
    ta, tb = half.array(a[..., :, None, :]), half.array(b[..., None, :, :])
    K = (-((half.LazyTensor(ta) - half.LazyTensor(tb)) ** 2).sum(-1)).exp()
    return K, np.exp(-((a[..., :, None, :] - b[..., None, :, :]) ** 2).sum(-1))


@pytest.mark.parametrize("ranges", [None, RECTANGLE], ids=["all pairs", "ranges"])
def test_products_from_either_side(half, ranges):
    K, dense = gauss(half, x, y)
    if ranges is not None:
        K.ranges, dense = ranges, dense * ranges.mask(5, 7)
    v, w = rng.random((7, 3)), rng.random((5, 3))
    for columns in (v, v[:, :1], v[:, 0], np.stack([v, 2 * v])):
        for product in (K @ half.array(columns), K.matvec(half.array(columns)), K.T.T @ half.array(columns)):
            assert_is(half.host(product), dense @ columns)
    for rows in (w.T, w.T[:1], w[:, 0], np.stack([w.T, 2 * w.T])):
        assert_is(half.host(half.array(rows) @ K), rows @ dense)
    for columns in (w, w[:, 0]):
        for product in (K.T @ half.array(columns), K.t() @ half.array(columns), K.rmatvec(half.array(columns))):
            assert_is(half.host(product), dense.T @ columns)
    got = type(K).__matmul__(K, half.array(v), backend="CPU", sum_scheme="kahan_scheme")
    assert_is(half.host(got), dense @ v)
    z = v + 1j * v[::-1]
    assert_is(half.host(K @ half.array(z)), dense @ z)


def test_more_columns_than_share_one_evaluation(half):
    K, dense = gauss(half, x, y)
    for count in (64, 65, 130):
        v = rng.random((7, count))
        assert_is(half.host(K @ half.array(v)), dense @ v)
        out = half.array(np.empty((5, count)))
        assert K.__matmul__(half.array(v), out=out) is out
        assert_is(half.host(out), dense @ v)
    with pytest.raises(KeywordError, match="out: a complex product"):
        K.__matmul__(half.array(v + 0j), out=out)


def test_a_kernel_plus_its_transpose(half):
    x_i, x_j = half.LazyTensor(half.array(x[:, None])), half.LazyTensor(half.array(x[None]))
    K, dense = (x_i[0] * x_j[1]).exp(), np.exp(x[:, None, 0] * x[None, :, 1])
    v = rng.random((5, 1))
    assert_is(half.host((K + K.T) @ half.array(v)), (dense + dense.T) @ v)
    K.ranges = Ranges.from_mask([[0, 2], [2, 5]], [[0, 2], [2, 5]], [[True, True], [False, True]])
    dense = dense * K.ranges.mask(5, 5)
    assert_is(half.host(K.T @ half.array(v)), dense.T @ v)
    with pytest.raises(ArgumentError, match="operands differ in ranges"):
        K + K.T


# ---- solves ----


@pytest.mark.parametrize("ranges", [None, SQUARE], ids=["all pairs", "ranges"])
def test_solves_of_every_right_hand_side(half, ranges):
    K, dense = gauss(half, x, x)
    if ranges is not None:
        K.ranges, dense = ranges, dense * ranges.mask(5, 5)
    A, b, one = dense + 0.1 * np.eye(5), rng.random((5, 2)), rng.random(5)
    want, want_one = np.linalg.solve(A, b), np.linalg.solve(A, one)
    assert_is(half.host(K.solve(half.array(b), alpha=0.1)), want)
    assert_is(half.host(K.solve(half.array(one), alpha=0.1)), want_one)
    for rhs in (half.LazyTensor(half.array(b[:, None])), half.Vi(half.array(b)), half.Vj(half.array(b))):
        assert_is(half.host(K.solve(rhs, alpha=0.1)), want)
    found, solution = K.solve(half.array(one), alpha=0.1, return_solution=True)
    assert isinstance(solution, Solution) and solution.status == "converged"
    assert_is(half.host(found), want_one)
    later = K.solve(half.array(one), alpha=0.1, call=False)
    assert_is(half.host(later()), want_one)
    assert_is(half.host(later(alpha=0.2)), np.linalg.solve(dense + 0.2 * np.eye(5), one))
    many = rng.uniform(0.1, 1, 5)
    for alpha in (many, many[:, None]):
        got = K.solve(half.array(b), alpha=half.array(alpha))
        assert_is(half.host(got), np.linalg.solve(dense + np.diag(many), b))
    value, spread = K.logdet(alpha=0.1)
    assert_is(half.host(half.array(value)), np.linalg.slogdet(A)[1])
    assert float(spread) == 0
    for rhs, plain in ((b, b), (one, one[:, None])):
        both = K.inv_quad_logdet(half.array(rhs), alpha=0.1)
        assert_is(half.host(half.array(both.inv_quad)), (plain * np.linalg.solve(A, plain)).sum())
        assert_is(half.host(half.array(both.logdet)), np.linalg.slogdet(A)[1])


def test_solves_of_batches(half):
    many = rng.uniform(-1, 1, (3, 5, 2))
    K, dense = gauss(half, many, many)
    A = dense + 0.1 * np.eye(5)
    for b in (many, many[0], many[0, :, 0]):
        columns = b if b.ndim > 1 else b[:, None]
        want = np.linalg.solve(A, np.broadcast_to(columns, (3, *columns.shape[-2:])))
        assert_is(half.host(K.solve(half.array(b), alpha=0.1)), want if b.ndim > 1 else want[..., 0])
    got = K.solve(half.LazyTensor(half.array(many[:, :, None])), alpha=0.1)
    assert_is(half.host(got), np.linalg.solve(A, many))
    assert_is(half.host(K.logdet(alpha=0.1)[0]), np.linalg.slogdet(A)[1])
    quadratic = K.inv_quad_logdet(half.array(many), alpha=0.1).inv_quad
    assert_is(half.host(quadratic), (many * np.linalg.solve(A, many)).sum((1, 2)))


def test_a_solve_of_a_kernel_of_matrices(half):
    """var= names the vector in which the formula is linear."""
    x_i, x_j, b_j = half.Vi(half.array(x)), half.Vj(half.array(x)), half.Vj(9, 2)
    offset = x_i - x_j
    kernel = (-offset.sqnorm2()).exp()
    formula = kernel * b_j + kernel * (offset | b_j) * offset
    b = rng.random((5, 2))
    got = formula.solve(half.array(b), var=b_j, alpha=0.3)
    d = x[:, None] - x[None]
    k = np.exp(-(d**2).sum(-1))
    A = k[..., None, None] * (np.eye(2) + d[..., :, None] * d[..., None, :])
    A = A.transpose(0, 2, 1, 3).reshape(10, 10) + 0.3 * np.eye(10)
    assert_is(half.host(got), np.linalg.solve(A, b.ravel()).reshape(5, 2))


def test_symbolic_solves(half):
    K = (-((half.Vi(0, 2) - half.Vj(0, 2)) ** 2).sum(-1)).exp()
    solve, b = K.solve(half.Vi(3, 1), alpha=0.1), rng.random((5, 1))
    _, dense = gauss(half, x, x)
    assert_is(half.host(solve(half.array(x), half.array(b))), np.linalg.solve(dense + 0.1 * np.eye(5), b))


def test_what_no_solve_takes(half):
    K, _ = gauss(half, x, x)
    R, _ = gauss(half, x, y)
    b = half.array(x)
    for bad, match in (
        (lambda: R.solve(b, alpha=0.1), "wanted a square matrix, as many i as j, got 5 and 7"),
        (lambda: R.logdet(alpha=0.1), "wanted a square matrix"),
        (lambda: K.solve(half.array(y), alpha=0.1), "other: wanted a right-hand side of 5 rows, got 7"),
        (lambda: (K * half.Vi(b)[0]).solve(b, alpha=0.1), "must be symmetric"),
        (lambda: K.solve(b, 0.1), "var: wanted a variable of i or j, .* got float 0.1"),
        (lambda: K.solve(half.Vi(b) * 2, alpha=0.1), "other: wanted a right-hand side indexed by i or by j"),
        (lambda: K.solve(b, var=half.Vj(b)), "not linear in var|as long as"),
        (lambda: K.solve(b, alpha=-1), "alpha must be finite and nonnegative"),
    ):
        with pytest.raises(ArgumentError, match=match):
            bad()


# ---- operators and entries ----


def test_operators_of_scipy(half):
    K, dense = gauss(half, x, y)
    v, w = rng.random(7), rng.random(5)
    operator = (K * 2.3).operator()
    assert isinstance(operator, LinearOperator) and operator.shape == (5, 7)
    assert_is(operator @ v, 2.3 * dense @ v)
    assert_is(operator.T @ w, 2.3 * dense.T @ w)
    if half.name == "numpy":
        wrapped = aslinearoperator(K)
        assert_is(wrapped @ v, dense @ v)
        assert_is(wrapped.T @ w, dense.T @ w)
    S, square = gauss(half, x, x)
    shifted = S.operator(alpha=0.5)
    assert shifted.symmetric == "yes"  # the same points are known by their memory
    assert_is(shifted.to_dense(), square + 0.5 * np.eye(5))
    assert_is(np.asarray(shifted.diagonal()), np.full(5, 1.5))
    S.ranges = SQUARE
    assert_is(S.operator().to_dense(), square * SQUARE.mask(5, 5))
    assert_is((0 * K + 1).operator().to_dense(), np.ones((5, 7)))
    with pytest.raises(ShapeError, match="no batch dimensions"):
        gauss(half, x[None], y[None])[0].operator()
    with pytest.raises(ArgumentError, match="wanted arrays for all variables, got symbolic ones"):
        (half.Vi(0, 1) * half.Vj(1, 1)).operator()


@pytest.mark.parametrize("ranges", [None, RECTANGLE], ids=["all pairs", "ranges"])
@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_entries(half, ranges, length, batch):
    scale = rng.uniform(1, 2, (*batch[:1], *(1,) * len(batch[1:]), 1, 1, 2))
    xs, ys = rng.random((*batch, 5, 1, 2)), rng.random((*batch[1:], 1, 7, 2))
    x_i, y_j, p = (half.LazyTensor(half.array(a)) for a in (xs, ys, scale))
    f, dense = (x_i - y_j) * p, (xs - ys) * scale
    if length == 1:
        f, dense = f.sum(-1), dense.sum(-1)
    if ranges is not None:
        mask = ranges.mask(5, 7)
        f.ranges, dense = ranges, dense * (mask if length == 1 else mask[..., None])
    at = len(batch)
    assert f.shape == dense.shape
    assert_is(half.host(f.to_dense()), dense)
    I, J = [4, 0, 4], np.array([6, 1])
    rows = dense.take(I, at)
    assert_is(half.host(f.rows(I)), rows)
    assert_is(half.host(f.block(I, J)), rows.take(J, at + 1))
    assert half.host(f.rows([])).shape == dense.take([], at).shape


def test_the_diagonal(half):
    K, dense = gauss(half, x, x + 0.1)
    assert_is(half.host(K.diagonal()), dense.diagonal())
    many = rng.random((3, 5, 2))
    B, batch = gauss(half, many, many + 0.1)
    assert_is(half.host(B.diagonal()), batch.diagonal(axis1=1, axis2=2))
    K.ranges = Ranges.from_mask([[0, 2], [2, 5]], [[0, 2], [2, 5]], [[True, False], [False, False]])
    assert_is(half.host(K.diagonal()), np.where(np.arange(5) < 2, dense.diagonal(), 0))
    x_i = half.Vi(half.array(x))
    assert_is(half.host(x_i.diagonal()), x)
    with pytest.raises(ShapeError, match="wanted as many i as j, got 5 and 7"):
        gauss(half, x, y)[0].diagonal()


def test_entries_that_are_not_there(half):
    K, _ = gauss(half, x, y)
    for bad in (lambda: K.rows([5]), lambda: K.rows([-1]), lambda: K.rows([0.5]), lambda: K.block([0], [7])):
        with pytest.raises(ArgumentError, match="rows|columns"):
            bad()
    with pytest.raises(ArgumentError, match="an array of 280 bytes, max_bytes is 279"):
        K.to_dense(max_bytes=279)
    assert half.host(K.to_dense(max_bytes=280)).shape == (5, 7)
    with pytest.raises(ArgumentError, match="symbolic"):
        (half.Vi(0, 2) - half.Vj(1, 2)).to_dense()
    with pytest.raises(ArgumentError, match="out of bounds, there are M = 5"):
        K.ranges = Ranges.from_mask([[0, 2], [2, 6]], [[0, 3], [3, 7]], [[True, False], [True, True]])
    x_i, y_j = half.Vi(half.array(x)), half.Vj(half.array(y))
    x_i.ranges = Ranges.from_mask([[0, 2], [2, 5]], [[0, 3], [3, 9]], [[True, False], [True, True]])
    for entries in ((x_i + y_j).to_dense, lambda: (x_i + y_j).rows([1]), lambda: (x_i + y_j).sum(axis=1)):
        with pytest.raises(ArgumentError, match="out of bounds, there are N = 7"):
            entries()
