"""What arrays, numbers and tuples become; shapes, batches, and which variables are one."""

import numpy as np
import pytest
from lazy_doors import assert_is

from kernelops import ArgumentError, ShapeError

rng = np.random.default_rng(1)


def squared(x, y):
    return ((x - y) ** 2).sum(-1, keepdims=True)


MADE = [  # the shape of an array and the axis -> kind, _shape, batch, ni, nj
    ((5, 1, 2), None, 0, (5, 1, 2), (), 5, None),
    ((1, 7, 2), None, 1, (1, 7, 2), (), None, 7),
    ((1, 1, 2), None, 2, (1, 1, 2), (), None, None),
    ((0, 1, 2), None, 0, (0, 1, 2), (), 0, None),
    ((1, 0, 2), None, 1, (1, 0, 2), (), None, 0),
    ((3, 4, 5, 1, 2), None, 0, (3, 4, 5, 1, 2), (3, 4), 5, None),
    ((3, 1, 7, 1), None, 1, (3, 1, 7, 1), (3,), None, 7),
    ((3, 1, 1, 2), None, 2, (3, 1, 1, 2), (3,), None, None),
    ((5, 2), 0, 0, (5, 1, 2), (), 5, None),
    ((7, 2), 1, 1, (1, 7, 2), (), None, 7),
    ((1, 2), 0, 0, (1, 1, 2), (), 1, None),
    ((1, 2), 1, 1, (1, 1, 2), (), None, 1),
    ((0, 2), 1, 1, (1, 0, 2), (), None, 0),
    ((3, 5, 2), 0, 0, (3, 5, 1, 2), (3,), 5, None),
    ((3, 7, 2), 1, 1, (3, 1, 7, 2), (3,), None, 7),
    ((3, 2), 2, 2, (3, 1, 1, 2), (3,), None, None),
    ((2,), None, 2, (1, 1, 2), (), None, None),
    ((2,), 2, 2, (1, 1, 2), (), None, None),
    ((), None, 2, (1, 1, 1), (), None, None),
]


@pytest.mark.parametrize("shape, axis, kind, full, batch, ni, nj", MADE)
def test_what_an_array_becomes(half, shape, axis, kind, full, batch, ni, nj):
    values = rng.random(shape)
    x = half.LazyTensor(half.array(values), axis)
    assert (x.axis, x._shape, x.batchdims, x.ni, x.nj) == (kind, full, batch or None, ni, nj)
    assert x.shape == (full if full[-1] > 1 else full[:-1])
    assert (x.ndim, x.dim(), x.nbatchdims) == (full[-1], len(full), len(batch))
    assert x.dtype == ("float64" if shape else None)  # one number takes on the dtype of what it meets
    assert (x.ranges, x.backend, x.is_complex, x.symbolic_variables) == (None, None, False, ())
    assert_is(half.host(x.to_dense()), values.reshape(x.shape))
    (held,) = x.variables  # never a copy: the same points are known by their memory
    assert not values.size or np.shares_memory(half.host(held), values)


def test_short_names_of_variables(half):
    x = half.array(rng.random((5, 2)))
    for short, axis in ((half.Vi, 0), (half.Vj, 1)):
        for made in (short(x), half.Var(x, cat=axis), half.LazyTensor(x, axis=axis)):
            assert made.axis == axis and made.variables == (x,)
    for made in (half.Pm(x[0]), half.Var(x[0], cat=2), half.LazyTensor(x[0])):
        assert made.axis == 2 and made._shape == (1, 1, 2)
    assert half.Pm(2.5).variables == (2.5,) or half.host(half.Pm(2.5).sum(0)) == 2.5
    assert half.LazyTensor([1, 2.5]).variables == ((1.0, 2.5),)


@pytest.mark.parametrize("M, N", [(5, 7), (1, 7), (5, 1), (1, 1), (0, 7), (5, 0), (0, 0)])
@pytest.mark.parametrize("by_axis", [False, True])
def test_one_row_and_no_row(half, M, N, by_axis):
    x, y = rng.random((M, 2)), rng.random((N, 2))
    tx, ty = half.array(x), half.array(y)
    if by_axis:
        x_i, y_j = half.Vi(tx), half.Vj(ty)
    else:
        x_i, y_j = half.LazyTensor(tx[:, None]), half.LazyTensor(ty[None])
    K, expected = (-((x_i - y_j) ** 2).sum(-1)).exp(), np.exp(-squared(x[:, None], y[None]))
    assert K.shape == (M, N)
    assert_is(half.host(K.sum(axis=1)), expected.sum(1))
    assert_is(half.host(K.sum(axis=0)), expected.sum(0))
    assert_is(half.host(K.to_dense()), expected[..., 0])
    v = rng.random((N, 3))
    assert_is(half.host(K @ half.array(v)), expected[..., 0] @ v)
    assert_is(half.host(K @ half.array(v[:, 0])), expected[..., 0] @ v[:, 0])
    assert half.host(K.argmin(axis=1)).shape == (M, 1)
    assert_is(half.host(K.min(axis=1)), expected.min(1, initial=np.inf))
    with np.errstate(divide="ignore"):
        assert_is(half.host(K.logsumexp(axis=0)), np.log(np.exp(expected).sum(0)))


BATCHES = [((), ()), ((3,), (3,)), ((3,), ()), ((), (3,)), ((3,), (1,)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((1,), (1,))]


@pytest.mark.parametrize("first, second", BATCHES)
def test_batches_broadcast(half, first, second):
    x, y, p = rng.random((*first, 5, 1, 2)), rng.random((*second, 1, 4, 2)), rng.random((*second, 1, 1, 2))
    x_i, y_j, scale = (half.LazyTensor(half.array(a)) for a in (x, y, p))
    K, expected = (-((x_i - y_j) ** 2 * scale).sum(-1)).exp(), np.exp(-((x - y) ** 2 * p).sum(-1, keepdims=True))
    batch = np.broadcast_shapes(first, second)
    n = len(batch)
    assert (K.shape, K.batchdims, K.nbatchdims) == ((*batch, 5, 4), batch or None, n)
    for over, rows in ((0, -3), (1, -2)):
        for axis in (n + over, rows):
            assert_is(half.host(K.sum(axis=axis)), expected.sum(n + over))
    assert_is(half.host(K.logsumexp(dim=n + 1)), np.log(np.exp(expected).sum(n + 1)))
    assert_is(half.host(K.to_dense()), expected[..., 0])
    v = rng.random((4, 2))
    assert_is(half.host(K @ half.array(v)), expected[..., 0] @ v)
    assert_is(half.host(K @ half.array(v[:, 1])), expected[..., 0] @ v[:, 1])
    w = rng.random((2, 5))
    assert_is(half.host(half.array(w) @ K), w @ expected[..., 0])
    assert_is(half.host(half.array(w[0]) @ K), w[0] @ expected[..., 0])
    many = rng.random((*batch, 4, 2))
    assert_is(half.host(K @ half.array(many)), expected[..., 0] @ many)


LOST = {  # formulas from which simplification takes the variables, and their values
    "0*K": (lambda K: 0 * K, 0.0),
    "K*0.0": (lambda K: K * 0.0, 0.0),
    "K - K": (lambda K: K - K, 0.0),
    "K**0": (lambda K: K**0, 1.0),
    "0/K": (lambda K: 0 / K, 0.0),
}


@pytest.mark.parametrize("name", LOST)
@pytest.mark.parametrize("batch", [(), (3,)])
def test_sizes_outlive_the_variables(half, name, batch):
    make, value = LOST[name]
    x, y = half.array(rng.random((*batch, 5, 1, 2))), half.array(rng.random((*batch, 1, 4, 2)))
    gone, n = make((half.LazyTensor(x) | half.LazyTensor(y)) + 3), len(batch)
    assert gone.shape == (*batch, 5, 4)
    assert_is(half.host(gone.sum(axis=n + 1)), np.full((*batch, 5, 1), 4 * value))
    assert_is(half.host(gone.sum(axis=n)), np.full((*batch, 4, 1), 5 * value))
    assert_is(half.host(gone.max(axis=n + 1)), np.full((*batch, 5, 1), value))
    assert_is(half.host(gone @ half.array(np.ones((4, 2)))), np.full((*batch, 5, 2), 4 * value))
    assert_is(half.host(gone @ half.array(np.ones(4))), np.full((*batch, 5), 4 * value))
    assert_is(half.host(gone.to_dense()), np.full((*batch, 5, 4), value))
    assert_is(half.host(gone.rows([1, 0])), np.full((*batch, 2, 4), value))
    assert_is(half.host(gone.block([1], [3, 2])), np.full((*batch, 1, 2), value))
    assert str(gone.sum(axis=n).dtype).endswith("float64")


def test_formulas_of_one_index_alone(half):
    x, p, many = rng.random((5, 2)), rng.random(2), rng.random((4, 1, 1, 2))
    x_i = half.Vi(half.array(x))
    assert_is(half.host(x_i.sum(axis=1)), x)
    assert_is(half.host(x_i.sum(axis=0)), x.sum(0)[None])
    assert_is(half.host(half.LazyTensor(half.array(p)).sum(axis=0)), p[None])
    assert_is(half.host(half.LazyTensor(half.array(many)).sum(axis=2)), many[:, 0])  # the batch is kept
    assert_is(half.host(half.LazyTensor(2.5).sum(0)), np.array([[2.5]]))
    for made in (half.LazyTensor(0.1), half.LazyTensor([0.1])):  # numbers alone are computed in float64
        assert half.host(made.sum(0)).item() == 0.1


def test_numbers_take_on_the_dtype_of_arrays(half):
    x = half.array(np.float32(rng.random((5, 2))))
    for number in (0.1, np.float64(0.1), half.array(np.array(0.1)), half.array(np.array(3)), [0.1, 0.2]):
        made = half.Vi(x) * number
        assert made.dtype == "float32"
        assert str(made.sum(0).dtype).endswith("float32")


# ---- which variables are one ----


def test_the_same_object_is_one_variable(half):
    x = half.array(rng.random((5, 2)))
    assert len((half.Vi(x) + half.Vi(x)).slots) == 1
    assert len((half.Vi(x) + half.Vj(x)).slots) == 2
    assert len((half.Vi(x[:]) + half.Vi(x[:])).slots) == 2  # another view is another variable
    assert half.host(half.Vi(x).grad(half.Vi(x), 1).sum(1)).tolist() == [[1.0, 1.0]] * 5


def test_operands_keep_their_places_in_either_order(half):
    a, b, c = (rng.random((5, 2)) for _ in range(3))
    A, B, C = (half.Vi(half.array(z)) for z in (a, b, c))
    made, expected = C - (A / (B + C) - B), c - (a / (b + c) - b)
    assert len(made.slots) == 3
    assert_is(half.host(made.sum(1)), expected)
    total = sum([A, B, C])
    assert_is(half.host(total.sum(1)), a + b + c)
    total = 0
    for z in (A, B, C):
        total += z
    assert_is(half.host(total.sum(1)), a + b + c)


def test_a_change_in_place_counts_until_the_reduction(half):
    x = rng.random((5, 2))
    array = half.array(x.copy())
    made = half.Vi(array) * 2
    assert_is(half.host(made.sum(0)), 2 * x.sum(0)[None])
    array[0] = 100.0
    assert half.host(made.sum(0)).min() > 200


# ---- symbolic variables ----


def test_symbolic_variables_take_arrays_by_position(half):
    x, y = rng.random((5, 2)), rng.random((4, 2))
    tx, ty = half.array(x), half.array(y)
    expected = ((x[:, None] - y) ** 2).sum(-1).sum(1)[:, None]
    for first, second in ((0, 1), (0, 2), (3, 7)):  # gaps are nothing
        f = ((half.Vi(first, 2) - half.Vj(second, 2)) ** 2).sum(-1).sum(axis=1)
        assert_is(half.host(f(tx, ty)), expected)
    swapped = ((half.Vj(0, 2) - half.Vi(1, 2)) ** 2).sum(-1).sum(axis=1)
    assert_is(half.host(swapped(ty, tx)), expected)
    assert_is(half.host(swapped(half.array(np.stack([y, y])), half.array(np.stack([x, x])))), np.stack([expected] * 2))


def test_one_position_as_i_and_as_j(half):
    x = rng.random((5, 2))
    f = (half.Vi(0, 2) - half.Vj(0, 2)).abs().sum(axis=1)
    assert f.symbolic == [0]
    assert_is(half.host(f(half.array(x))), np.abs(x[:, None] - x).sum(1))
    K = (half.Vi(0, 2)[0] * half.Vj(0, 2)[1]).exp()
    dense = np.exp(x[:, None, 0] * x[None, :, 1])
    assert_is(half.host((K + K.T).sum(axis=1)(half.array(x))), (dense + dense.T).sum(1)[:, None])
    assert_is(half.host(K.T.sum(axis=1)(half.array(x))), dense.T.sum(1)[:, None])


def test_symbolic_variables_beside_data_numbers_and_lists(half):
    x, y, p = rng.random((5, 2)), rng.random((4, 2)), rng.random(2)
    f = (half.Vi(1, 2) * half.LazyTensor(half.array(p)) - half.Vj(half.array(y)) * 0.3 + half.Pm(0, 2)) * [1.0, 0.1]
    got = f.sum(axis=1)(half.array(p + 1), half.array(x))
    assert_is(half.host(got), ((x[:, None] * p - y * 0.3 + p + 1) * np.array([1.0, 0.1])).sum(1))
    single = (half.Vi(0, 2) * 0.3 + [0.1, 0.2]).sum(axis=0)(half.array(np.float32(x)))
    assert str(single.dtype).endswith("float32")
    assert half.LazyTensor((2, 3, 1)).symbolic_variables == ((2, 3, 1),)
    assert (f.new_variable_index(), half.Vi(half.array(x)).new_variable_index()) == (2, 0)


def test_a_formula_that_has_lost_its_symbolic_variables_still_waits_for_them(half):
    x = half.array(rng.random((5, 2)))
    for f in (half.Vi(0, 2) * 0, half.Vi(0, 2) - half.Vi(0, 2)):
        assert_is(half.host(f.sum(axis=0)(x)), np.zeros((1, 2)))
        assert_is(half.host(f.sum(axis=1)(x)), np.zeros((5, 2)))


def test_one_position_of_two_lengths_is_refused(half):
    with pytest.raises(ArgumentError, match="symbolic variable 0 has lengths 2 and 3"):
        half.Vi(0, 2) + half.Vj(0, 3)[:2]


def test_calls_with_other_counts_and_shapes(half):
    f = (half.Vi(0, 2) - half.Vj(1, 2)).sum(axis=1)
    x = half.array(rng.random((5, 2)))
    with pytest.raises(ArgumentError, match=r"wanted 2 arrays for .* positions \[0, 1\], got 1"):
        f(x)
    with pytest.raises(ShapeError, match="needs 2 columns"):
        f(x, x[:, :1])


def test_repr_says_what_it_is(half):
    x, y = half.array(rng.random((5, 2))), half.array(rng.random((4, 2)))
    K = (-((half.Vi(x) - half.Vj(y)) ** 2).sum(-1)).exp()
    assert repr(K) == str(K) == "<LazyTensor shape (5, 4) of float64: Exp(-Sum(Square(x0-y1)))>"
    assert "symbolic: [(0, 2, 0)]" in repr(half.Vi(0, 2))
    long = K
    for _ in range(200):
        long = long + K.exp()
    assert len(repr(long)) < 400
    assert repr(half.LazyTensor(3)) == "<LazyTensor shape (1, 1): 3>"


def test_a_batch_set_by_hand(half):
    K = half.Vi(half.array(rng.random((5, 2)))) * 1
    K.batchdims = [3]
    assert (K.shape, K.batchdims) == ((3, 5, 1, 2), (3,))
    assert half.host(K.sum(axis=1)).shape == (3, 1, 2)
    K.batchdims = None
    assert (K.shape, K.batchdims) == ((5, 1, 2), None)
