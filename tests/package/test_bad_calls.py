"""Bad calls end in an error that names the argument, what was wanted and what came; what is plainly meant is taken."""

import re

import numpy as np
import pytest
from bad_calls import ALIASES, BOTH, FORMULA, NUMPY, TORCH, door
from scipy.sparse.linalg import aslinearoperator

from kernelops import (
    ArgumentError,
    DtypeError,
    FormulaError,
    KernelOperator,
    KeywordError,
    Ranges,
    RangesError,
    ShapeError,
    cg,
    errors,
    solve,
)

DOORS = {}  # made once


def operator(d, *args, **keywords):
    return KernelOperator(FORMULA, ALIASES, "b", *(args or (d.np.x, d.np.x, d.np.g)), **keywords)


def lopsided():
    halves = [[0, 3], [3, 6]]
    return Ranges.from_mask(halves, halves, np.array([[True, True], [False, True]]))


def solver(d, formula, unknown, aliases=ALIASES, axis=1):
    return d.module.KernelSolve(formula, aliases, unknown, axis=axis)


SOLVES = [
    (
        lambda d: solver(d, FORMULA, "bb"),
        ArgumentError,
        "varinvalias: wanted one of x, y, b, g, got 'bb'; did you mean b?",
    ),
    (lambda d: solver(d, FORMULA, None), ArgumentError, "varinvalias: wanted one of x, y, b, g, got None"),
    (lambda d: solver(d, FORMULA, "g"), ArgumentError, "varinvalias = 'g' is a parameter; the unknown is a Vi or a Vj"),
    (lambda d: solver(d, FORMULA, "x", axis=0), ArgumentError, "varinvalias: the formula is not linear in 'x': Exp("),
    (
        lambda d: solver(d, "SqDist(x,y)*(b+1)", "b"),
        ArgumentError,
        "varinvalias: the formula is not linear in 'b': SqD",
    ),
    (lambda d: solver(d, "SqDist(x,y)", "b"), ArgumentError, "varinvalias: the formula is not linear in 'b': SqDist"),
    (lambda d: solver(d, FORMULA, "b", axis=0), ArgumentError, "axis = 0 does not go with b = Vj(...): use axis = 1"),
    (lambda d: solver(d, "x*Sum(y)", "x"), ArgumentError, "axis = 1 does not go with x = Vi(...): use axis = 0"),
    (lambda d: solver(d, "g*Sum(b)", "b"), ArgumentError, "as long as the unknown; it has length 1, 'b' has length 2"),
    (lambda d: d.solver()(*d.args), ShapeError, "a solve needs as many i as j, got 6 rows of Vi and 5 of Vj variables"),
    (
        lambda d: d.solver()(d.x, d.x, d.c[:, 0], d.g),
        ShapeError,
        "b = Vj(2) needs an array of shape (..., rows, 2), got",
    ),
    (lambda d: d.S(ranges=lopsided()), RangesError, "ranges: a solve needs a symmetric pattern"),
    (lambda d: d.S(alpha=-1), ArgumentError, "alpha must be finite and nonnegative, got -1"),
    (lambda d: d.S(alpha=float("nan")), ArgumentError, "alpha must be finite and nonnegative, got nan"),
    (lambda d: d.S(alpha=float("inf")), ArgumentError, "alpha must be finite and nonnegative, got inf"),
    (lambda d: d.S(alpha=-d.c[:, :1]), ArgumentError, "alpha must be finite and nonnegative, got -0."),
    (lambda d: d.S(alpha=d.c[0]), ShapeError, "alpha: wanted shape (), (1,), (6,) or (6, 1), got (2,)"),
    (lambda d: d.S(alpha=d.c), ShapeError, "alpha: wanted shape (), (1,), (6,) or (6, 1), got (6, 2)"),
    (lambda d: d.S(alpha=d.c[:, :1].T), ShapeError, "alpha: wanted shape (), (1,), (6,) or (6, 1), got (1, 6)"),
    (lambda d: d.S(alpha=[[1], [1, 2]]), ShapeError, "alpha: wanted a number or one for each row, got [[1], [1, 2]]"),
    (lambda d: d.S(alpha="1"), DtypeError, "alpha: wanted a number, a numpy array or a torch tensor, got str"),
    (lambda d: d.S(alpha=None), DtypeError, "alpha: wanted a number, ..., got NoneType"),
    (lambda d: d.S(alpha=1j), DtypeError, "alpha: wanted a number, ..., got complex"),
    (lambda d: d.S(alpha=d.cast(d.c[:, 0], "complex64")), DtypeError, "alpha: wanted real numbers, got complex64"),
    (
        lambda d: d.S(eps=1e-3, rtol=1e-3),
        KeywordError,
        "eps is KernelSolve's other name for rtol: give one of them, got",
    ),
    (lambda d: d.S(eps=-1), ArgumentError, "eps must be a number of at least 0, got -1"),
    (lambda d: d.S(rtol=-1), ArgumentError, "rtol must be a number of at least 0, got -1"),
    (lambda d: d.S(rtol=float("nan")), ArgumentError, "rtol must be a number of at least 0, got nan"),
    (
        lambda d: d.S(rtol=10**400),
        ArgumentError,
        "rtol must be a number of at least 0, got one that float64 cannot hold",
    ),
    (lambda d: d.S(eps=10**400), ArgumentError, "eps must be a number of at least 0, got one that float64 cannot hold"),
    (
        lambda d: d.S(alpha=10**400),
        ArgumentError,
        "alpha: wanted a number that float64 can hold, got one beyond 1.8e308",
    ),
    (
        lambda d: d.solver()(d.x, d.x, d.c, -(10**400)),
        ArgumentError,
        "g = Pm(1): wanted a number that float64 can hold, got one beyond 1.8e308",
    ),
    (
        lambda d: d.solver()(*(d.cast(a, "float32") for a in (d.x, d.x, d.c)), 1e300),
        ArgumentError,
        "g = Pm(1): wanted a number that float32 can hold, as the other arrays are, got 1e+300",
    ),
    (lambda d: d.S(atol="0"), ArgumentError, "atol must be a number of at least 0, got '0'"),
    (lambda d: d.S(maxiter=-1), ArgumentError, "maxiter must be a whole number of at least 0, or None, got -1"),
    (lambda d: d.S(maxiter=2.5), ArgumentError, "maxiter must be a whole number of at least 0, or None, got 2.5"),
    (lambda d: d.S(on_fail="stop"), ArgumentError, 'on_fail must be "warn", "raise" or "ignore", got \'stop\''),
    (lambda d: d.S(M=np.eye(5)), ShapeError, "M must have the shape of A, (6, 6), got (5, 5)"),
    (lambda d: d.S(M=np.eye(6)[0]), ShapeError, "M must be square for a solve, (n, n), got shape (6,)"),
    (lambda d: d.S(M=np.ma.array(np.eye(6))), DtypeError, "M is a masked array: wanted a plain one"),
    (lambda d: d.S(M="jacobi"), DtypeError, "M: wanted a LinearOperator or a matrix near the inverse of A, got str"),
    (lambda d: d.S(M=np.eye(6).astype(object)), DtypeError, "M: wanted real or complex numbers, got dtype object"),
    (lambda d: d.S(x0=d.x), ShapeError, "x0 must have the shape of b, (6, 2), got (6, 3)"),
    (lambda d: d.S(x0=d.c[0]), ShapeError, "x0 must have the shape of b, (6, 2), got (2,)"),
    (lambda d: d.S(x0="zero"), ArgumentError, "x0 must be an array, None or \"Mb\", got 'zero'"),
    (lambda d: d.S(x0=[[1], [1, 2]]), ShapeError, "x0 must be an array of numbers, got lists of several lengths"),
    (lambda d: d.S(callback=3), KeywordError, "callback must be a function of the iterate, or None, got int"),
    (lambda d: d.S(precond="ilu"), ArgumentError, 'precond: wanted None or one of "auto", ..., "nystrom", got \'ilu\''),
    (lambda d: d.S(precond=np.eye(6)), ArgumentError, "precond: wanted ...; a matrix or an operator goes to M="),
    (lambda d: d.S(precond=False), ArgumentError, "precond: wanted None or one of ..., got False"),
    (lambda d: d.S(method="lu"), ArgumentError, 'method: wanted one of "auto", "cg", "block_cg", "direct", got \'lu\''),
    (lambda d: d.S(method=None), ArgumentError, 'method: wanted one of "auto", "cg", "block_cg", "direct", got None'),
    (lambda d: d.S(method=["cg"]), ArgumentError, "method: wanted one of ..., got ['cg']"),
    (lambda d: d.S(seed=-1), ArgumentError, "seed: wanted a whole number of at least 0, got -1"),
    (lambda d: d.S(seed=0.5), ArgumentError, "seed: wanted a whole number of at least 0, got 0.5"),
    (lambda d: d.S(seed=True), ArgumentError, "seed: wanted a whole number of at least 0, got True"),
    (lambda d: d.S(state={}), DtypeError, "state: wanted a SolveState or None, got dict"),
    (lambda d: d.S(M=np.eye(6), precond="fsai"), KeywordError, "M and precond = 'fsai' are both preconditioners: give"),
    (lambda d: d.S(M=np.eye(6), method="direct"), KeywordError, 'method = "direct" takes no preconditioner: leave out'),
    (lambda d: d.S(precond="fsai", method="direct"), KeywordError, 'method = "direct" takes no preconditioner'),
    (
        lambda d: d.S(alpha=0, precond="pivoted_cholesky"),
        ArgumentError,
        "alpha must be positive for a low-rank preconditioner, got 0 in row 0; there are 6 such rows",
    ),
]

OPERATORS = [
    (
        lambda d: operator(d, d.np.x, d.np.x),
        ArgumentError,
        "wanted 3 arrays (x = Vi(3)...), the unknown 'b' left out, got 2",
    ),
    (lambda d: operator(d, d.np.x, d.np.x, d.np.c, d.np.g), ArgumentError, "the unknown 'b' left out, got 4"),
    (lambda d: KernelOperator("b", FORMULA, ALIASES), FormulaError, "aliases are a list of texts ..., got 'Exp("),
    (lambda d: KernelOperator(FORMULA, 5, "b"), FormulaError, "aliases are a list of texts ..., got 5"),
    (lambda d: KernelOperator(FORMULA, ALIASES, "q"), ArgumentError, "var: wanted one of x, y, b, g, got 'q'"),
    (lambda d: KernelOperator(FORMULA, ALIASES, "y"), ArgumentError, "var: the formula is not linear in 'y'"),
    (
        lambda d: KernelOperator("g*b", ALIASES[2:], "b", 1.0),
        ArgumentError,
        "wanted a Vi or Vj variable beside the unknown 'b'",
    ),
    (
        lambda d: operator(d, d.np.x[None], d.np.x, d.np.g),
        ShapeError,
        "a KernelOperator takes no batch dimensions, got (1,)",
    ),
    (
        lambda d: operator(d, d.np.x, d.np.g, d.np.y),
        ShapeError,
        "y = Vj(3) needs an array of shape (..., rows, 3), got",
    ),
    (lambda d: operator(d, d.np.x, d.np.y, d.np.g, alpha=1), ArgumentError, "alpha must be 0 where ...; it is 6 x 5"),
    (lambda d: operator(d, alfa=1), KeywordError, "KernelOperator has no keyword 'alfa'; did you mean alpha?"),
    (
        lambda d: operator(d, dtype_acc="float32"),
        ArgumentError,
        "dtype_acc: wanted one of auto, float64 for float64 data",
    ),
    (lambda d: operator(d, sum_scheme=None), ArgumentError, "sum_scheme: wanted one of auto, ..., got None"),
    (lambda d: operator(d) @ np.ones(5), ShapeError, "a vector for (6, 6) needs shape (6,) or (6, k), got (5,)"),
    (
        lambda d: operator(d, d.np.x, d.np.y, d.np.g).T @ np.ones(5),
        ShapeError,
        "for (5, 6) needs shape (6,) or (6, k), got",
    ),
    (lambda d: operator(d).product(np.ones(6)), ShapeError, "a vector for (6, 6) needs shape (6,) or (6, k), got (6,)"),
    (lambda d: operator(d) @ np.ones((2, 6, 1)), ShapeError, "needs shape (6,) or (6, k), got (2, 6, 1)"),
    (lambda d: operator(d) @ np.full(6, "a"), DtypeError, "a vector of <U1: wanted real or complex numbers"),
    (lambda d: operator(d).rows([7]), ArgumentError, "rows: wanted indices from -6 to 5, got 7"),
    (lambda d: operator(d).columns([0.5]), ArgumentError, "columns: wanted a list of whole numbers, got float64"),
    (lambda d: operator(d).to_dense(max_bytes=9), ArgumentError, "an array of 288 bytes, max_bytes is 9; pass more"),
    (lambda d: operator(d).to_dense(max_bytes="9"), ArgumentError, "max_bytes: wanted a number of bytes, got '9'"),
]

SOLVERS = [
    (lambda d: cg("A", d.np.c[:, 0]), DtypeError, "A: wanted a KernelOperator, a LinearOperator or a matrix, got str"),
    (
        lambda d: cg(np.eye(3).astype(object), np.ones(3)),
        DtypeError,
        "A: wanted real or complex numbers, got dtype object",
    ),
    (lambda d: cg(np.ones((3, 2)), np.ones(3)), ShapeError, "A must be square for a solve, (n, n), got shape (3, 2)"),
    (
        lambda d: cg(operator(d), np.ones(5)),
        ShapeError,
        "b must have shape (6,) or (6, 1) to fit A of shape (6, 6), got (5,)",
    ),
    (lambda d: cg(operator(d), d.np.c), ShapeError, "b must have shape (6,) or (6, 1) ..., got (6, 2)"),
    (lambda d: cg(operator(d), None), DtypeError, "b must be an array of numbers, got NoneType"),
    (
        lambda d: cg(operator(d), [[1], [2, 3]]),
        ShapeError,
        "b must be an array of numbers, got lists of several lengths",
    ),
    (lambda d: cg(operator(d), np.ma.ones(6)), DtypeError, "b is a masked array: wanted a plain one"),
    (lambda d: cg(operator(d), np.ones(6), np.ones(5)), ShapeError, "x0 must have shape (6,) or (6, 1)"),
    (
        lambda d: cg(operator(d), np.ones(6), maxiter=True),
        ArgumentError,
        "maxiter must be a whole number ..., got True",
    ),
    (lambda d: cg(operator(d), np.ones(6), rtol=True), ArgumentError, "rtol must be a number of at least 0, got True"),
    (lambda d: cg(operator(d), np.ones(6), callback="f"), KeywordError, "callback must be a function ..., got str"),
    (lambda d: solve(operator(d), 1.0), ShapeError, "B must have shape (6,), (6, k) or (..., 6, k) to fit ..., got ()"),
    (lambda d: solve(operator(d), d.np.c.T), ShapeError, "B must have shape ..., got (2, 6)"),
    (lambda d: solve(operator(d), d.np.c, d.np.x), ShapeError, "x0 must have the shape of B, (6, 2), got (6, 3)"),
    (
        lambda d: solve(operator(d), d.np.c, 1j * d.np.c),
        DtypeError,
        "x0 must be real where A and b are real, got complex128",
    ),
    (
        lambda d: solve(aslinearoperator(np.eye(6)), d.np.c, precond="fsai"),
        ArgumentError,
        "precond = 'fsai' needs entries of A, which a KernelOperator and a real array have; got ...LinearOperator",
    ),
    (
        lambda d: solve(np.eye(6) + 0j, d.np.c, method="direct"),
        ArgumentError,
        'method = "direct" needs entries of A, which a KernelOperator and a real array have; got ndarray',
    ),
    (lambda d: solve(np.eye(6), d.np.c, precond="pivoted_cholesky"), ArgumentError, "alpha must be positive"),
    (lambda d: solve(d.np.c, operator(d)), ShapeError, "A must be square for a solve, (n, n), got shape (6, 2)"),
    (lambda d: solve(np.ones((2, 6, 6)), d.np.c), DtypeError, "A: wanted ..., got ndarray"),
    (lambda d: solve(d.G, d.np.c), DtypeError, "A: wanted ..., got Genred"),
    (
        lambda d: solve(np.triu(np.ones((6, 6))), d.np.c),
        ArgumentError,
        "A must be symmetric for a solve; for ndarray <u, A v>",
    ),
    (
        lambda d: solve(operator(d), d.np.c, on_fail=None),
        ArgumentError,
        'on_fail must be "warn", "raise" or "ignore", got',
    ),
]

TENSORS_TO_NUMPY = [
    (
        lambda d: door("numpy").G(*d.args),
        DtypeError,
        "x = Vi(3) is a torch tensor: use kernelops.torch, or pass its .nu",
    ),
    (lambda d: door("numpy").S(alpha=d.g), DtypeError, "alpha is a torch tensor: use kernelops.torch, or pass its"),
    (lambda d: solve(operator(d), d.c.clone().requires_grad_()), DtypeError, "B is a tensor that requires grad, which"),
]

TABLE = [("numpy", *row) for row in BOTH + SOLVES + NUMPY + OPERATORS + SOLVERS]
TABLE += [("torch", *row) for row in BOTH + SOLVES + TORCH + TENSORS_TO_NUMPY]


def pattern(text):
    return ".*".join(map(re.escape, text.split("...")))


@pytest.mark.parametrize(
    ("where", "call", "error", "text"), TABLE, ids=[f"{where}-{text}" for where, *_, text in TABLE]
)
def test_bad_calls(where, call, error, text):
    if where == "torch":
        pytest.importorskip("torch")
    if where not in DOORS:
        DOORS[where] = door(where)
    with pytest.raises(error) as caught:
        call(DOORS[where])
    message = str(caught.value)
    assert re.search(pattern(text), message, re.DOTALL), message
    assert type(caught.value) is error and error.__module__ == errors.__name__
    assert issubclass(error, (ValueError, TypeError))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "one error, not one during another"


def test_there_are_many():
    assert len({text for *_, text in TABLE}) > 150


TAKEN = {  # arrays of the Gaussian reduction in other forms: nothing about them is in doubt
    "transposed and back": lambda d: (d.x.T.copy().T, d.y, d.b, d.g),
    "strides": lambda d: (np.repeat(d.x, 2, 1)[:, ::2], d.y[::-1][::-1], np.asfortranarray(d.b), d.g),
    "another byte order": lambda d: (d.x.astype(">f8"), d.y.astype("<f8"), d.b.astype(">f8"), d.g),
    "a memory map's kind": lambda d: (d.x.view(np.recarray), d.y, d.b, d.g),
    "a number": lambda d: (d.x, d.y, d.b, float(d.g[0])),
    "a numpy scalar": lambda d: (d.x, d.y, d.b, d.g[0]),
    "no dimensions": lambda d: (d.x, d.y, d.b, np.array(d.g[0])),
}


@pytest.mark.parametrize("form", TAKEN)
def test_what_is_plain_is_taken(form):
    d = door("numpy")
    np.testing.assert_array_equal(d.G(*TAKEN[form](d)), d.G(*d.args))


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_a_position_of_no_variable_takes_anything(name):
    pytest.importorskip(name)
    d = door(name)
    aliases = ["x = Vi(0,3)", "y = Vj(4,3)", "b = Vj(1,2)", "g = Pm(2,1)"]
    genred = d.module.Genred(FORMULA, aliases, axis=1)
    for unused in (None, d.y, "nothing"):
        np.testing.assert_array_equal(genred(d.x, d.b, d.g, unused, d.y), d.G(*d.args))
    with pytest.raises(ArgumentError, match=r"wanted 5 arguments \(x = Vi.*at positions 0, 1, 2, 4\), got 4"):
        genred(d.x, d.b, d.g, d.y)


def test_alpha_of_a_batch_is_never_guessed():
    d = door("numpy")
    x, b = np.stack([d.x[:3], d.x[3:], d.x[1:4]]), np.stack([d.c[:3], d.c[3:], d.c[1:4]])
    K = np.exp(-d.g * ((x[:, :, None] - x[:, None]) ** 2).sum(-1))
    alpha = np.array([0.1, 1.0, 10.0])
    with pytest.raises(ShapeError, match=r"wanted \(1, 3, 1\) for the rows, \(3, 1, 1\) for the batch"):
        d.solver()(x, x, b, d.g, alpha=alpha[:, None])
    for shape, added in (((1, 3, 1), np.diag(alpha)), ((3, 1, 1), alpha[:, None, None] * np.eye(3))):
        got = d.solver()(x, x, b, d.g, alpha=alpha.reshape(shape), rtol=1e-12)
        np.testing.assert_allclose(got, np.linalg.solve(K + added, b), rtol=1e-8)
