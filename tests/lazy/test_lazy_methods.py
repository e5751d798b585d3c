"""Methods and operators of LazyTensors by tables, compared with dense arrays of float64; and the tables themselves."""

import operator

import numpy as np
import pytest
from lazy_doors import assert_is, dense, half

from kernelops.formula.defined import DEFINED
from kernelops.formula.ops import LEAVES, OPS
from kernelops.frontend.lazy.methods import METHODS
from kernelops.frontend.lazy.reductions import REDUCTION_METHODS

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (5, 1, 3))
Y = rng.uniform(-1, 1, (1, 4, 3))
P = rng.uniform(0.2, 1, (1, 1, 3))
SCALAR = rng.uniform(0.2, 1, (1, 1, 1))
X[0, 0, 0] = 0  # where sinxdivx, rsqrt, xlogx and sign are special
X[1] = 0
X[2, 0, :2] = X[2, 0, 2]  # where the first of equal components counts
FOUR = rng.uniform(-1, 1, (5, 1, 4))


def row_sum(a):
    return a.sum(-1, keepdims=True)


def rounded(a, d=0):
    """Rounded with halves away from 0."""
    return np.sign(a) * np.floor(np.abs(a) * 10.0**d + 0.5) / 10.0**d


def soft_alignment(x, y, gamma):
    """Soft dynamic time warping by its recursion, cell by cell."""
    n, m = x.shape[-1], y.shape[-1]
    x, y = np.broadcast_arrays(x[..., :, None], y[..., None, :])
    cost = (x - y) ** 2
    table = np.full((*cost.shape[:-2], n + 1, m + 1), np.inf)
    table[..., 0, 0] = 0
    for i in range(n):
        for j in range(m):
            before = np.stack([table[..., i, j], table[..., i, j + 1], table[..., i + 1, j]])
            soft = -gamma[..., 0] * np.logaddexp.reduce(-before / gamma[..., 0])
            table[..., i + 1, j + 1] = cost[..., i, j] + soft
    return table[..., n, m][..., None]


def splines(knots, x, order):
    """B-splines by the recursion of de Boor and Cox."""
    found = ((knots[..., :-1] <= x) & (x < knots[..., 1:])).astype(float)
    for k in range(1, order + 1):
        n = found.shape[-1] - 1
        left, right = knots[..., :n], knots[..., k : k + n]
        next_left, next_right = knots[..., 1 : 1 + n], knots[..., k + 1 : k + 1 + n]
        rising = (x - left) / (right - left) * found[..., :n]
        falling = (next_right - x) / (next_right - next_left) * found[..., 1 : n + 1]
        found = rising + falling
    return found


def safe(f, at_zero):
    """f, with a value where its argument is 0."""
    return lambda a: np.where(a == 0, at_zero, f(np.where(a == 0, 1, a)))


INSIDE = ("log", "sqrt", "rsqrt", "xlogx", "norm2")  # taken of absolute values, which are below 1

# the name of a method -> what numpy computes for x alone
ELEMENTWISE = {
    "exp": np.exp,
    "log": safe(np.log, -np.inf),
    "xlogx": safe(lambda a: a * np.log(a), 0),
    "sqrt": np.sqrt,
    "rsqrt": safe(lambda a: a**-0.5, 0),
    "square": np.square,
    "abs": np.abs,
    "sin": np.sin,
    "cos": np.cos,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "tanh": np.tanh,
    "sinxdivx": safe(lambda a: np.sin(a) / a, 1),
    "sinc": np.sinc,
    "relu": lambda a: np.maximum(a, 0),
    "sign": np.sign,
    "step": lambda a: (a >= 0) * 1.0,
    "floor": np.floor,
    "round": rounded,
    "sqnorm2": lambda a: row_sum(a**2),
    "norm2": lambda a: row_sum(a**2) ** 0.5,
    "norm": lambda a: row_sum(a**2) ** 0.5,
    "normalize": lambda a: a * safe(lambda b: 1 / b, 0)(row_sum(a**2) ** 0.5),
    "sum": row_sum,
    "min": lambda a: a.min(-1, keepdims=True),
    "max": lambda a: a.max(-1, keepdims=True),
    "argmin": lambda a: a.argmin(-1)[..., None] * 1.0,
    "argmax": lambda a: a.argmax(-1)[..., None] * 1.0,
}

# the name of a method -> the call, and what numpy computes; x over i, y over j, p a parameter, s one number, m 2 x 2
CALLS = {
    "atan2": (lambda x, y, p, s, m: x.atan2(y), lambda x, y, p, s, m: np.arctan2(x, y)),
    "round": (lambda x, y, p, s, m: (x + y).round(1), lambda x, y, p, s, m: rounded(x + y, 1)),
    "mod": (lambda x, y, p, s, m: x.mod(p, y), lambda x, y, p, s, m: x - p * np.floor((x - y) / p)),
    "mod number": (lambda x, y, p, s, m: (x + y).mod(0.3), lambda x, y, p, s, m: np.mod(x + y, 0.3)),
    "ifelse": (lambda x, y, p, s, m: x.ifelse(y, p), lambda x, y, p, s, m: np.where(x >= 0, y, p)),
    "ifelse inf": (lambda x, y, p, s, m: x.ifelse(np.inf, 1), lambda x, y, p, s, m: np.where(x >= 0, np.inf, 1)),
    "clamp": (lambda x, y, p, s, m: x.clamp(-0.3, y.abs()), lambda x, y, p, s, m: np.clip(x, -0.3, np.abs(y))),
    "clamp min": (lambda x, y, p, s, m: x.clamp(min=y), lambda x, y, p, s, m: np.maximum(x, y)),
    "clamp max": (lambda x, y, p, s, m: x.clamp(max=0.1), lambda x, y, p, s, m: np.minimum(x, 0.1)),
    "norm": (lambda x, y, p, s, m: (x - y).norm(dim=2), lambda x, y, p, s, m: row_sum((x - y) ** 2) ** 0.5),
    "sqdist": (lambda x, y, p, s, m: x.sqdist(y), lambda x, y, p, s, m: row_sum((x - y) ** 2)),
    "weightedsqnorm": (lambda x, y, p, s, m: x.weightedsqnorm(p), lambda x, y, p, s, m: row_sum(p * x**2)),
    "weightedsqdist": (
        lambda x, y, p, s, m: x.weightedsqdist(y, s),
        lambda x, y, p, s, m: row_sum(s * (x - y) ** 2),
    ),
    "weightedsqdist matrix": (
        lambda x, y, p, s, m: x[:2].weightedsqdist(y[1:], m),
        lambda x, y, p, s, m: np.einsum(
            "ija,iab,ijb->ij", x[..., :2] - y[..., 1:], m.reshape(-1, 2, 2), x[..., :2] - y[..., 1:]
        )[..., None],
    ),
    "elem": (lambda x, y, p, s, m: (x + y).elem(1), lambda x, y, p, s, m: (x + y)[..., 1:2]),
    "extract": (lambda x, y, p, s, m: (x + y).extract(1, 2), lambda x, y, p, s, m: (x + y)[..., 1:3]),
    "concat": (lambda x, y, p, s, m: x.concat(y), lambda x, y, p, s, m: np.concatenate(np.broadcast_arrays(x, y), -1)),
    "concatenate": (
        lambda x, y, p, s, m: type(x).concatenate([x, 2.5, y], 2),
        lambda x, y, p, s, m: np.concatenate(np.broadcast_arrays(x, 2.5 + 0 * x, y), -1)[..., [0, 1, 2, 3, 6, 7, 8]],
    ),
    "cat": (
        lambda x, y, p, s, m: type(x).cat((x, [0.1, 0.2, 0.3]), dim=-1),
        lambda x, y, p, s, m: np.concatenate(np.broadcast_arrays(x, np.array([0.1, 0.2, 0.3])), -1),
    ),
    "matvecmult": (
        lambda x, y, p, s, m: m.matvecmult(y[:2]),
        lambda x, y, p, s, m: np.einsum("iab,xjb->ija", m.reshape(-1, 2, 2), y[..., :2]),
    ),
    "vecmatmult": (
        lambda x, y, p, s, m: y[:2].vecmatmult(m),
        lambda x, y, p, s, m: np.einsum("iba,xjb->ija", m.reshape(-1, 2, 2), y[..., :2]),
    ),
    "tensorprod": (
        lambda x, y, p, s, m: x.tensorprod(y),
        lambda x, y, p, s, m: np.einsum("ixa,xjb->ijab", x, y).reshape(5, 4, 9),
    ),
    "keops_tensordot": (
        lambda x, y, p, s, m: m.keops_tensordot(y[:2], (2, 2), (2,), (1,), (0,)),
        lambda x, y, p, s, m: np.einsum("iab,xjb->ija", m.reshape(-1, 2, 2), y[..., :2]),
    ),
    "keops_tensordot permuted": (
        lambda x, y, p, s, m: m.keops_tensordot(y, (2, 2), 3, (), (), (2, 0, 1)),
        lambda x, y, p, s, m: np.einsum("iab,xjc->ijbca", m.reshape(-1, 2, 2), y).reshape(5, 4, 12),
    ),
    "keops_kron": (
        lambda x, y, p, s, m: m.keops_kron(y, [2, 2], [1, 3]),
        lambda x, y, p, s, m: np.einsum("iab,xjcd->ijacbd", m.reshape(-1, 2, 2), y[..., None, :]).reshape(5, 4, 12),
    ),
    "one_hot": (
        lambda x, y, p, s, m: ((x + y)[0] * 2 + 1).one_hot(3),
        lambda x, y, p, s, m: (np.floor((x + y)[..., :1] * 2 + 1.5) == np.arange(3)) * 1.0,
    ),
    "bspline": (
        lambda x, y, p, s, m: type(x)([-1.0, -0.4, 0.1, 0.5, 0.8, 1.1]).bspline(y[0], 2),
        lambda x, y, p, s, m: splines(np.array([-1.0, -0.4, 0.1, 0.5, 0.8, 1.1]), y[..., :1], 2),
    ),
    "softdtw_sqdist": (
        lambda x, y, p, s, m: x.softdtw_sqdist(y[:2], s),
        lambda x, y, p, s, m: soft_alignment(x, y[..., :2], s),
    ),
    "power": (lambda x, y, p, s, m: x.power(3), lambda x, y, p, s, m: x**3),
    "factorize": (lambda x, y, p, s, m: (x - y).factorize(x), lambda x, y, p, s, m: x - y),
    "auto_factorize": (lambda x, y, p, s, m: (x - y).auto_factorize(), lambda x, y, p, s, m: x - y),
}
WHAT_NEEDS_MORE = {  # methods that are tried in other tests: derivatives, complex numbers, matrices
    *("grad", "diff", "grad_matrix", "divergence", "laplacian", "trace_operator", "reduction"),
    *("real2complex", "imag2complex", "exp1j", "dim", "names", "looks_complex", "new_variable_index"),
    *("t", "T", "matvec", "rmatvec", "matmat", "rmatmat", "solve", "operator", "logdet", "inv_quad_logdet"),
    *("to_dense", "rows", "block", "diagonal"),
}


def operands(half, dtype="float64"):
    """x, y, p, s and m as LazyTensors, each made in another way."""
    x, y, p, s, m = (half.array(a.astype(dtype)) for a in (X, Y, P, SCALAR, FOUR))
    return half.LazyTensor(x), half.Vj(y[0]), half.LazyTensor(p), half.Pm(s[0, 0]), half.Vi(m[:, 0])


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_function_of_one_operand(half, name):
    x = half.LazyTensor(half.array(np.abs(X) if name in INSIDE else X))
    made = getattr(x, name)()
    with np.errstate(divide="ignore"):
        expected = ELEMENTWISE[name](np.abs(X) if name in INSIDE else X)
    assert made._shape == (5, 1, expected.shape[-1])
    assert_is(half.host(made.to_dense()), dense(expected, made.shape))
    assert_is(half.host(getattr(half.LazyTensor, name)(x).to_dense()), dense(expected, made.shape))


@pytest.mark.parametrize("name", CALLS)
def test_a_call_with_operands(half, name):
    call, wanted = CALLS[name]
    made, expected = call(*operands(half)), wanted(X, Y, P, SCALAR, FOUR)
    assert_is(half.host(made.to_dense()), dense(expected, made.shape))
    full = np.broadcast_to(dense(expected, made.shape).reshape(made._shape), (*made._shape[:2], made.ndim))
    for axis in (0, 1):
        over = full.sum(axis)
        assert_is(half.host(made.sum_reduction(axis=axis)), over)


BINARY = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "|": lambda a, b: a | b if hasattr(a, "expr") or hasattr(b, "expr") else row_sum(a * b + 0 * X),
}


@pytest.mark.parametrize("symbol", BINARY)
def test_an_operator_with_every_kind_of_operand(half, symbol):
    f, base = BINARY[symbol], np.abs(X) + 0.5
    x = half.LazyTensor(half.array(base))
    values = [0.5, 1.5, 2.5]
    kinds = {
        "another index": (half.LazyTensor(half.array(Y)), Y),
        "the same index": (half.LazyTensor(half.array(base + 1)), base + 1),
        "an array over j": (half.array(Y), Y),
        "a vector": (half.array(np.array(values)), np.array(values)),
        "a list": (values, np.array(values)),
        "an array of one number": (half.array(np.array(1.7)), 1.7),
    }
    if symbol != "|":
        numbers = (2, -1, 0, 0.5, -0.5, 0.7, np.float64(1.3), np.float32(0.5), np.int64(2))
        kinds |= {f"{type(n).__name__} {n}": (n, float(n)) for n in numbers}
    with np.errstate(all="ignore"):
        for kind, (lazy, plain) in kinds.items():
            for got, expected in ((f(x, lazy), f(base, plain)), (f(lazy, x), f(plain, base))):
                found = half.host(got.to_dense())
                np.testing.assert_allclose(
                    found, dense(np.float64(expected), got.shape), rtol=1e-13, atol=1e-14, err_msg=f"{symbol} {kind}"
                )


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan, 2**60, -(10**30), 1e300, 0.0, -0.0, 1 / 3, 1024, 1025.5])
def test_every_number_counts_as_it_is(half, number):
    x = half.LazyTensor(half.array(X))
    with np.errstate(all="ignore"):
        for got, expected in [
            (x + number, X + float(number)),
            (x * number, X * float(number)),
            (number - x * 0, float(number) - X * 0),
            (x / number, X / np.float64(number)),
            ((x > number), X > number),
        ]:
            assert_is(half.host(got.to_dense()), np.float64(expected))


def test_the_sign_of_zero(half):
    one, zero, minus = half.LazyTensor(1.0), half.LazyTensor(0.0), half.LazyTensor(-0.0)
    assert half.host((one / zero).sum(0)) == np.inf
    assert half.host((one / minus).sum(0)) == -np.inf
    assert half.host((one / half.array(-0.0)).sum(0)) == -np.inf


POWERS = [2, 2.0, np.int64(2), np.float64(2.0), 3, 3.0, 0, -1, -2, 7, -3.0]


@pytest.mark.parametrize("p", POWERS)
def test_a_whole_power_of_negative_numbers(half, p):
    base = X + 2 * (X >= 0) - 1  # between -2 and -1 or between 1 and 2
    assert_is(half.host((half.LazyTensor(half.array(base)) ** p).to_dense()), base ** float(p))


@pytest.mark.parametrize("p", [0.5, -0.5, 1.5, 0.3, np.float32(0.25)])
def test_a_power_that_is_not_whole(half, p):
    base = np.abs(X) + 0.1
    x = half.LazyTensor(half.array(base))
    assert_is(half.host((x**p).to_dense()), base ** float(p))
    assert np.isnan(half.host(((-x) ** p).to_dense())).all()


def test_a_bound_on_either_side_keeps_nan(half):
    x = half.LazyTensor(half.array(np.array([[[np.nan, -2.0, 2.0, np.inf, -np.inf]]])))
    for made, want in (
        (x.clamp(min=0), [np.nan, 0, 2, np.inf, 0]),
        (x.clamp(max=0), [np.nan, -2, 0, 0, -np.inf]),
        (x.clamp(-1, 1), [np.nan, -1, 1, 1, -1]),
        (x.clamp(min=-np.inf), [np.nan, -2, 2, np.inf, -np.inf]),
    ):
        np.testing.assert_array_equal(half.host(made.to_dense())[0, 0], want)


def test_a_class_of_the_users_own(half):
    class Mine(half.LazyTensor):
        pass

    mine, theirs = Mine(half.array(X)), half.LazyTensor(half.array(Y))
    for made, cls in ((mine - theirs, Mine), (theirs - mine, half.LazyTensor)):
        assert type(made) is cls
        assert_is(half.host(made.sqnorm2().to_dense()), ((X - Y) ** 2).sum(-1))
    assert type(mine * 1j) is half.ComplexLazyTensor


COMPONENTS = {
    "0": lambda a: a[..., 0:1],
    "-1": lambda a: a[..., 2:3],
    "-3": lambda a: a[..., 0:1],
    "np.int64(1)": lambda a: a[..., 1:2],
    "..., 2": lambda a: a[..., 2:3],
    ":, :, 1": lambda a: a[..., 1:2],
    "0:2": lambda a: a[..., 0:2],
    ":": lambda a: a,
    "1:": lambda a: a[..., 1:],
    "-2:": lambda a: a[..., 1:],
    "0:100": lambda a: a,
    ":-1": lambda a: a[..., :2],
    "..., 1:3": lambda a: a[..., 1:3],
    "0:3:1": lambda a: a,
}


@pytest.mark.parametrize("key", COMPONENTS)
def test_components(half, key):
    made = eval(f"x[{key}]", {"x": half.LazyTensor(half.array(X)), "np": np})
    assert_is(half.host(made.to_dense()), dense(COMPONENTS[key](X), made.shape))


def test_components_that_are_looked_up(half):
    """A component for each (i, j), by a formula; beyond the first and the last there are zeros."""
    table, row, column = np.array([3.0, 1.0, 4.0, 1.5, 9.0]), np.array([0.0, 1.0, 2.0]), np.array([-1.0, 0.2, 2.8])
    i, j = half.Vi(half.array(row[:, None])), half.Vj(half.array(column[:, None]))
    found = half.LazyTensor(half.array(table))[i + j]
    places = np.rint(row[:, None] + column).astype(int)
    expected = np.where((places < 0) | (places > 4), 0, table[places.clip(0, 4)])
    assert places.min() < 0 and places.max() > 4
    assert_is(half.host(found.to_dense()), expected)
    vectors = half.LazyTensor(half.array(X))
    assert_is(half.host(vectors[..., j * 0 + 2].sum(axis=0)), np.full((3, 1), X[..., 2].sum()))


def test_gradients_to_what_is_looked_up(torch_half):
    torch = torch_half.library
    table = torch.tensor([3.0, 1.0, 4.0, 1.5], dtype=torch.float64, requires_grad=True)
    rows, columns = torch.tensor([[0.0], [2.0]]).double(), torch.tensor([[1.0], [0.0], [1.0]]).double()
    weights = torch.tensor([[2.0], [5.0]]).double()
    lazy = torch_half.LazyTensor(table)[torch_half.Vi(rows) + torch_half.Vj(columns)].sum(axis=1)
    plain = table[(rows + columns.T).long()].sum(1, keepdim=True)
    got, expected = (torch.autograd.grad((f * weights).square().sum(), table)[0] for f in (lazy, plain))
    torch.testing.assert_close(got, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_precision(half, dtype):
    x, y, p, s, m = operands(half, dtype)
    K = (-p * (x - y).square() * 0.3).sum(-1).exp() * s + (x | y) / 3
    assert K.dtype == dtype
    numbers = [a.astype(dtype).astype(float) for a in (X, Y, P, SCALAR)]
    xd, yd, pd, sd = numbers
    expected = np.exp(row_sum(-pd * (xd - yd) ** 2 * 0.3)) * sd + row_sum(xd * yd) / 3
    for axis in (0, 1):
        got = K.sum(axis)
        assert str(got.dtype).endswith(dtype)
        assert_is(half.host(got).astype(float), expected.sum(axis), dtype)


def test_every_operation_has_a_method_or_needs_none():
    operators = {"Add", "Subtract", "Mult", "Divide", "Minus", "Abs", "Powf", "Pow", "Scalprod", "Equal", "NotEqual"}
    operators |= {"LessThan", "LessOrEqual", "Extract"}
    of_several = {"Clamp", "Concat", "TensorDot", "Kron", "WeightedSqDist", "Norm2", "SinXDivX", "Sum"}
    calculus = {"GradMatrix", "Diff", "Divergence", "Laplacian", "TraceOperator", "Grad", "Factorize", "AutoFactorize"}
    by_other_means = {
        "Inv": "1/x",
        **{name: "a number" for name in ("IntCst", "IntInv", "RatCst", "Zero")},
        **{name: "another length" for name in ("ElemT", "ExtractT", "SumT", "Slice", "SliceT")},
        **{name: "clamp" for name in ("ClampInt", "DiffClampInt")},
        **{name: "weightedsqnorm" for name in ("SqNormIso", "SqNormDiag", "SymSqNorm")},
        **{name: "min, max, argmin, argmax" for name in ("Min", "Max", "ArgMin", "ArgMax")},
    }
    have = operators | of_several | calculus | set(by_other_means) | {row.op for row in METHODS.values()}
    language = {*OPS, *DEFINED} - set(LEAVES)
    without = {op for op in language - have if not op.startswith(("Complex", "Real", "Imag", "Conj"))}
    assert without == set()


def test_every_method_is_tried():
    cls = half("numpy").LazyTensor
    methods = {name for name in dir(cls) if not name.startswith("_") and callable(getattr(cls, name))}
    methods -= {name for name in methods if isinstance(getattr(cls, name), type)}
    tried = set(ELEMENTWISE) | {name.split()[0] for name in CALLS} | WHAT_NEEDS_MORE
    tried |= set(REDUCTION_METHODS) | {f"{name}_reduction" for name in REDUCTION_METHODS}
    assert methods - tried == set()
    assert set(METHODS) <= set(ELEMENTWISE) | {name.split()[0] for name in CALLS}
