"""Whatever the solvers are given for vectors and for an operator satisfies the protocols that they are written for."""

import numpy as np
import pytest
from conformity import (
    CHECKS,
    DTYPES,
    SHAPES,
    block,
    check_operator,
    check_signatures,
    close,
    preconditioned,
    preconditioned_of_numpy,
)
from scipy.sparse import csr_array
from scipy.sparse.linalg import aslinearoperator
from shared_rows import Group, RowBlock, SharedVectors
from systems import kernel, right_hand_sides, spd

from kernelops import KernelOperator, Ranges, cg, solve
from kernelops.formula.parse import parse
from kernelops.operators.shift import alpha_for_solve
from kernelops.operators.system import SolveSpec
from kernelops.solvers.operator import as_system
from kernelops.solvers.vectors import HOST, NumpyVectors


def tensors():
    pytest.importorskip("torch")
    from kernelops.torch.vectors import TensorVectors

    return TensorVectors("cpu")


def on_one(vectors):
    """function(vectors, *blocks) of numpy arrays, in one process."""

    def run(function, *arrays):
        blocks, scalars = function(vectors, *map(vectors.from_whole, arrays))
        return [np.asarray(vectors.to_host(b)) for b in blocks], list(scalars)

    return run


def on_ranks(shares):
    """The same with rows shared out: the blocks of all processes below each other; scalars are the same in all."""

    def run(function, *arrays):
        n = arrays[0].shape[-2]
        group = Group([round(n * share) for share in shares])

        def work(rank):
            vectors = SharedVectors(group, rank)
            return function(vectors, *map(vectors.from_whole, arrays))

        found = group.run(work)
        for _, scalars in found:
            for a, first in zip(scalars, found[0][1], strict=True):
                np.testing.assert_array_equal(a, first)
        blocks = zip(*(blocks for blocks, _ in found), strict=True)
        return [np.concatenate(parts, axis=-2) for parts in blocks], list(found[0][1])

    return run


RUNS = {
    "numpy": lambda: on_one(HOST),
    "tensors": lambda: on_one(tensors()),
    "two ranks": lambda: on_ranks((0, 0.4, 1)),
    "three ranks": lambda: on_ranks((0, 0.7, 0.7, 1)),
}


@pytest.fixture(params=RUNS)
def run(request):
    return RUNS[request.param]()


@pytest.mark.parametrize("make", [NumpyVectors, tensors, lambda: SharedVectors(None, 0)])
def test_every_operation_is_there(make):
    check_signatures(make())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CHECKS)
def test_operations(name, shape, dtype, run):
    check, of_numpy, count = CHECKS[name]
    arrays = [block(shape, dtype, seed) for seed in range(count)]
    before = [a.copy() for a in arrays]
    blocks, scalars = run(check, *arrays)
    for found, wanted in zip((found_all := (*blocks, *scalars)), sum(map(tuple, of_numpy(*before)), ()), strict=True):
        close(found, wanted, dtype)
    assert found_all
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("shape", [(40, 3), (2, 40, 3)])
def test_preconditioners(shape, dtype, run):
    x, diagonal = block(shape, dtype), 1 + np.random.default_rng(1).random((40, 1))
    blocks, _ = run(preconditioned, x, diagonal)
    for found, wanted in zip(blocks, preconditioned_of_numpy(x, diagonal)[0], strict=True):
        close(found, wanted, dtype)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_largest_tells_what_is_not_finite(bad, run):
    x = block((30, 3), "float64")
    x[29, 1] = bad
    _, (largest,) = run(lambda vectors, x: ((), (vectors.largest(x),)), x)
    np.testing.assert_array_equal(np.isfinite(largest), [True, False, True])


def test_eigenvectors_of_small_matrices(run):
    a = np.stack([spd(5, seed=s) for s in (1, 2)])
    _, (values, vectors) = run(lambda vectors, x: ((), vectors.eigh(a)), np.zeros((4, 1)))
    np.testing.assert_allclose(a @ vectors, vectors * values[:, None, :], atol=1e-10)


def test_time_and_functions_of_the_host(run):
    def check(vectors, x):
        begin = vectors.timestamp()
        assert 0 <= vectors.seconds(begin, vectors.timestamp()) < 60
        return (vectors.via_host(lambda a: 2 * a)(x),), ()

    x = block((10, 2), "float64")
    np.testing.assert_array_equal(run(check, x)[0][0], 2 * x)


# ---- operators ----

N = 40
X = np.random.default_rng(0).random((N, 2))
ALIASES = ["x = Vi(2)", "y = Vj(2)", "b = Vj(%d)"]
GAUSS = "Exp(-3*SqDist(x,y))*b"
K = np.exp(-3 * ((X[:, None] - X) ** 2).sum(-1))
ALPHA = np.linspace(0.1, 0.2, N)
KEEP = np.eye(2, dtype=bool)
HALVES = [[0, N // 2], [N // 2, N]]


def operator(dtype, **keywords):
    x = X.astype(dtype)
    return KernelOperator(GAUSS, [a.replace("%d", "1") for a in ALIASES], "b", x, x, **keywords)


def system(alpha, *batch, formula=GAUSS, width=1):
    """alpha I + K as KernelSolve makes it for a right-hand side with these batch dimensions."""
    parsed = parse(formula, [a.replace("%d", str(width)) for a in ALIASES])
    spec = SolveSpec(parsed.expr, parsed.find("b"), parsed.variables, parsed.names)
    arguments = spec.bind([X, X, np.ones((*batch, N, width))])
    return spec.system(arguments, alpha_for_solve(alpha, arguments))


COUPLED = "(x-y)*((x-y)|b)+b"
D = X[:, None] - X
BLOCKS = (D[..., :, None] * D[..., None, :] + np.eye(2)).swapaxes(1, 2).reshape(2 * N, 2 * N)
OPERATORS = {
    "KernelOperator": lambda: (operator("float64", alpha=0.1), K + 0.1 * np.eye(N), np.full(N, 0.1)),
    "of float32": lambda: (operator("float32", alpha=ALPHA), K + np.diag(ALPHA), ALPHA),
    "with ranges": lambda: (
        operator("float64", ranges=Ranges.from_mask(HALVES, HALVES, KEEP)),
        K * np.kron(KEEP, np.ones((N // 2, N // 2))),
        np.zeros(N),
    ),
    "KernelSystem": lambda: (system(0.1), K + 0.1 * np.eye(N), np.full(N, 0.1)),
    "KernelSystem of a batch": lambda: (
        system(ALPHA, 3),
        np.broadcast_to(K + np.diag(ALPHA), (3, N, N)),
        np.broadcast_to(ALPHA, (3, N)),
    ),
    "KernelSystem of blocks": lambda: (
        system(5.0, formula=COUPLED, width=2),
        BLOCKS + 5.0 * np.eye(2 * N),
        np.full(2 * N, 5.0),
    ),
    "LinearOperator": lambda: (as_system(aslinearoperator(K)), K, np.zeros(N)),
    "sparse": lambda: (as_system(csr_array(K)), K, np.zeros(N)),
    "array": lambda: (as_system(K), K, np.zeros(N)),
    "of the tests": lambda: (kernel(N), kernel(N).truth, np.zeros(N)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name):
    A, dense, alpha = OPERATORS[name]()
    check_operator(A, dense, alpha)
    assert as_system(A) is A  # nothing is wrapped that is an operator already


def test_a_rectangular_operator_is_no_system():
    A = KernelOperator(GAUSS, [a.replace("%d", "1") for a in ALIASES], "b", X[:5], X)
    with pytest.raises(ValueError, match="square"):
        as_system(A)


# ---- the solvers with rows shared out ----

SHARES = {"two": (0, 0.4, 1), "uneven": (0, 0.9, 1), "an empty one": (0, 0.5, 0.5, 1)}


def solve_on_ranks(shares, a, dtype, function):
    group = Group([round(len(a) * share) for share in shares])
    return group, group.run(lambda rank: function(RowBlock(a, dtype, group, rank), group.rows[rank]))


@pytest.mark.parametrize("shares", SHARES.values(), ids=SHARES)
@pytest.mark.parametrize("method", ["cg", "block_cg"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_solves_with_rows_shared_out(dtype, method, shares):
    a, b = kernel(120).truth, right_hand_sides(120, 4)
    _, found = solve_on_ranks(shares, a, dtype, lambda A, rows: solve(A, b[rows], rtol=1e-8, method=method))
    alone = solve(kernel(120, dtype), b, rtol=1e-8, method=method)
    for solution in found:
        assert solution.status == "converged" and solution.method == method
        assert abs(solution.iterations - alone.iterations) <= 0.1 * alone.iterations + 2
        np.testing.assert_array_equal(solution.history, found[0].history)
        np.testing.assert_array_equal(solution.residual, found[0].residual)
    x = np.concatenate([solution.x for solution in found])
    assert (np.linalg.norm(a @ x - b, axis=0) <= 1.1e-8 * np.linalg.norm(b, axis=0)).all()


def test_limits_and_failures_are_those_of_the_whole_matrix():
    """The default limit goes by all rows, and every process ends in the same way."""
    a, b = spd(60, 1e13), right_hand_sides(60)
    _, found = solve_on_ranks((0, 0.1, 1), a, "float64", lambda A, rows: solve(A, b[rows], rtol=0, on_fail="ignore"))
    assert len({(s.status, s.iterations, s.message) for s in found}) == 1 and found[0].iterations > 100
    b[7] = np.nan
    _, found = solve_on_ranks((0, 0.5, 1), a, "float64", lambda A, rows: solve(A, b[rows], on_fail="ignore"))
    assert [s.status for s in found] == ["nonfinite"] * 2


def test_scipys_signature_with_rows_shared_out():
    a, b = spd(80), right_hand_sides(80)
    _, found = solve_on_ranks((0, 0.3, 1), a, "float64", lambda A, rows: cg(A, b[rows], rtol=1e-10))
    assert [info for _, info in found] == [0, 0]
    np.testing.assert_allclose(a @ np.concatenate([x for x, _ in found]), b, atol=1e-8 * np.abs(b).max())


def test_an_error_in_one_process_ends_all():
    def work(A, rows):
        if rows.start:
            raise ValueError("mine")
        return solve(A, np.ones(A.n))

    with pytest.raises(ValueError, match="mine"):
        solve_on_ranks((0, 0.5, 1), spd(20), "float64", work)
