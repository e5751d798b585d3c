"""truncate=tol: what is left out is as small as promised, against dense float64 matrices."""

import re

import dense
import numpy as np
import pytest
import usual
from truncated import GAUSS, KERNELS, XYB, M, N, chosen, cloud, distances, lost, operator

from kernelops import ArgumentError, KernelOperator
from kernelops.numpy import Genred, KernelSolve
from kernelops.truncation import truncate as truncation


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 32 points, so that small clouds have many."""
    monkeypatch.setattr(truncation, "POINTS_PER_BLOCK", 32)


# ---- solves ----


@pytest.mark.parametrize("formula", KERNELS)
@pytest.mark.parametrize("alpha", [0.05, "rows"])
@pytest.mark.parametrize("tol", [0.5, 1e-3])
def test_a_solve_loses_less_than_its_smallest_alpha(formula, alpha, tol):
    x = cloud(size=40)
    alpha = np.r_[np.full(N - 1, 2.0), 0.005] if alpha == "rows" else alpha
    ranges = operator(formula, x, x, alpha=alpha, truncate=tol).ranges
    mask, K = ranges.mask(N, N), KERNELS[formula](distances(x, x))
    assert mask.mean() < 0.9 and ranges.is_symmetric() and (mask == mask.T).all() and mask.diagonal().all()
    worst = lost(K, mask).max()
    assert worst <= tol * np.min(alpha)
    shift = np.diag(np.broadcast_to(alpha, N))
    A = np.where(mask, K, 0) + shift
    before, after = (np.linalg.eigvalsh(a)[0] for a in (K + shift, A))
    assert after >= before - tol * np.min(alpha) - 1e-10
    if "Inv" not in formula:  # the others are positive definite kernels
        assert after >= (1 - tol) * np.min(alpha) - 1e-10
        b = np.random.default_rng(1).standard_normal((N, 1))
        a = KernelSolve(formula, XYB, "b", axis=1)(x, x, b, alpha=alpha, truncate=tol, rtol=1e-10)
        np.testing.assert_allclose(A @ a, b, atol=1e-7)


def test_what_is_left_out_is_not_less_than_it_could_be():
    """Half of the pairs, no fewer, where clumps are far from each other."""
    x = np.r_[cloud(320, size=2), 1000 + cloud(320, 1, size=2)][np.random.default_rng(0).permutation(640)]
    ranges = operator(GAUSS, x, x, alpha=1.0, truncate=1e-6).ranges
    far = distances(x, x) > 500
    assert not (ranges.mask(640, 640) & far).any()


def test_the_data_in_a_kernel_count():
    """Only the unknown is a vector of ones: a factor that the formula is linear in belongs to the matrix."""
    x, w = cloud(), 300 * np.random.default_rng(0).random((N, 1))
    aliases = [*XYB, "w = Vi(1)", "z = Vj(1)"]
    K = np.exp(-(distances(x, x) ** 2)) * w * w.T
    for options in ({"alpha": 0.1}, {}):
        A = KernelOperator("w*Exp(-SqDist(x,y))*z*b", aliases, "b", x, x, w, w, truncate=0.1, **options)
        mask = A.ranges.mask(N, N)
        allowed = 0.1 * (0.1 if options else np.abs(K).sum(1).max())
        assert not mask.all() and lost(K, mask).max() <= allowed
    solver = KernelSolve("w*Exp(-SqDist(x,y))*z*b", aliases, "b", axis=1)
    b = np.ones((N, 1))
    a = solver(x, x, b, w, w, alpha=0.1, truncate=0.5, rtol=1e-9)
    np.testing.assert_allclose(K @ a + 0.1 * a, b, atol=0.06 * np.abs(a).max())


def test_unknown_over_i():
    x = cloud()
    b = np.random.default_rng(0).standard_normal((N, 1))
    aliases = ["x = Vi(2)", "y = Vj(2)", "b = Vi(1)"]
    a, solution = KernelSolve(GAUSS, aliases, "b", axis=0)(
        x, x, b, alpha=0.1, truncate=1e-4, rtol=1e-9, return_solution=True
    )
    K = np.exp(-(distances(x, x) ** 2))
    assert solution.status == "converged"
    np.testing.assert_allclose(K @ a + 0.1 * a, b, atol=1e-4 * np.abs(a).max())


@pytest.mark.parametrize("names", [("x", "y"), ("y", "x")])
def test_several_variables_of_points(names):
    """Two of i and two of j, in aliases that do not stand in one order."""
    x, u = cloud(d=1), cloud(seed=3, d=1)
    first, second = names
    aliases = ["x = Vi(1)", f"{'v' if first == 'x' else 'y'} = Vj(1)", "u = Vi(1)", "w = Vj(1)", "b = Vj(1)"]
    p, q = ("w", "v") if first == "x" else ("y", "w")
    formula = f"Exp(-SqDist(x,{p}) - SqDist(u,{q}))*b"
    args = (x, u, u, x) if first == "x" else (x, x, u, u)
    A = KernelOperator(formula, aliases, "b", *args, alpha=0.1, truncate=1e-2)
    K = np.exp(-(distances(x, x) ** 2) - distances(u, u) ** 2)
    mask = A.ranges.mask(N, N)
    assert mask.mean() < 0.7 and lost(K, mask).max() <= 1e-3


def test_matrix_valued():
    """Rows of blocks: the derivative of a Gaussian, and a Gaussian times a matrix of the points."""
    x = cloud()
    aliases = usual.aliases(2, 2)
    formula = "Exp(-SqDist(x,y))*(x-y)*Scalprod(x-y,b)"
    difference = x[:, None] - x[None]
    K = np.exp(-(difference**2).sum(-1))[..., None, None] * difference[..., :, None] * difference[..., None, :]
    rows = np.abs(K).sum(-1)  # of |K| for one j, (i, j, component)
    A = KernelOperator(formula, aliases, "b", x, x, alpha=0.2, truncate=0.1)
    mask = A.ranges.mask(N, N)
    assert not mask.all() and np.where(mask[..., None], 0, rows).sum(1).max() <= 0.02
    matrix = np.where(mask[..., None, None], K, 0).transpose(0, 2, 1, 3).reshape(2 * N, 2 * N)
    whole = K.transpose(0, 2, 1, 3).reshape(2 * N, 2 * N)
    assert np.linalg.eigvalsh(matrix)[0] >= np.linalg.eigvalsh(whole)[0] - 0.02
    b = np.random.default_rng(0).standard_normal((N, 2))
    product = Genred(formula, aliases, axis=1)(x, x, b, truncate=1e-3)
    plain = KernelOperator(formula, aliases, "b", x, x, truncate=1e-3)
    mask = plain.ranges.mask(N, N)
    assert not mask.all()
    assert np.where(mask[..., None], 0, rows).sum(1).max() <= 1e-3 * rows.sum(1).max()
    np.testing.assert_allclose(product, np.einsum("ijde,je,ij->id", K, b, mask), atol=1e-10)


def test_an_alpha_that_is_too_small_names_one_that_would_do():
    x, wide = cloud(), []
    for formula, tol in ((GAUSS, 1e-3), (usual.LAPLACE, 0.3), ("b*Inv(1 + Pow(SqDist(x,y),4))", 1e-2)):
        with pytest.raises(ArgumentError, match="truncate = .* take a larger alpha, or leave truncate out") as caught:
            operator(formula, x, x, alpha=1e-100, truncate=tol)
        enough = float(re.search(r"With alpha = ([^ ]+) some would be", str(caught.value)).group(1))
        assert operator(formula, x, x, alpha=enough, truncate=tol).ranges is not None
        wide.append(enough * tol > 1e-10)  # far above the rounding of a row: then K is wide, and alpha no mistake
        if wide[-1]:
            assert operator(formula, x, x, alpha=enough / 1.2, truncate=tol).ranges is None
        else:
            with pytest.raises(ArgumentError, match="With alpha = "):
                operator(formula, x, x, alpha=enough / 1.2, truncate=tol)
        with pytest.raises(ArgumentError, match=re.escape(f"With alpha = {enough:.1e} ")):
            KernelSolve(formula, XYB, "b", axis=1)(x, x, x[:, :1], alpha=1e-100, truncate=tol)
    assert set(wide) == {False, True}


def test_compact_kernels_need_no_alpha():
    x, formula = cloud(), "Pow(ReLU(1 - Norm2(x-y)),4)*(1 + 4*Norm2(x-y))*b"
    r = distances(x, x)
    for tol, alpha in ((0, 0.0), (0, 0.1), (0.5, 1e-9)):
        mask = operator(formula, x, x, truncate=tol, alpha=alpha).ranges.mask(N, N)
        assert mask[r < 1].all() and not mask.all()
    b = np.random.default_rng(0).standard_normal((N, 1))
    exact = KernelSolve(formula, XYB, "b", axis=1)
    for tol in (0, 1e-3):
        a = exact(x, x, b, alpha=0.0, truncate=tol, rtol=1e-9, maxiter=5000)
        np.testing.assert_allclose(np.maximum(1 - r, 0) ** 4 * (1 + 4 * r) @ a, b, atol=1e-6)
    product = Genred(formula, XYB, axis=1)
    np.testing.assert_allclose(product(x, x, b, truncate=0), product(x, x, b), rtol=1e-12, atol=1e-13)


# ---- products ----


@pytest.mark.parametrize("formula", KERNELS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("tol", [0.1, 1e-4])
def test_a_product_loses_less_than_its_largest_row_sum(formula, axis, tol):
    """Rectangular; what is lost for the worst b, whose entries are signs, is the neglected row sum."""
    x, y = cloud(M), cloud(N, 1)
    aliases = XYB if axis == 1 else ["x = Vi(2)", "y = Vj(2)", "b = Vi(1)"]
    K = KERNELS[formula](distances(x, y))
    allowed = tol * K.sum(axis).max()
    mask = KernelOperator(formula, aliases, "b", x, y, truncate=tol).ranges.mask(M, N)
    assert not mask.all() and lost(K, mask, axis).max() <= allowed
    square = KernelOperator(formula, aliases, "b", x, x, truncate=tol)
    assert square.ranges.is_symmetric() and square.symmetric == "yes"
    b = np.random.default_rng(2).standard_normal((N if axis == 1 else M, 1))
    got = Genred(formula, aliases, axis=axis)(x, y, b, truncate=tol)
    kept = np.where(mask, K, 0)
    np.testing.assert_allclose(got, (kept if axis == 1 else kept.T) @ b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sign", ["", "-"])
def test_a_sum_of_nothing_but_the_kernel(sign):
    x, y = cloud(M), cloud(N, 1)
    K = np.exp(-distances(x, y))
    reduction = Genred(f"{sign}Exp(-Norm2(x-y))", XYB[:2], axis=1)
    mask = chosen(reduction, (x, y), 0.01).mask(M, N)
    assert not mask.all() and lost(K, mask).max() <= 0.01 * K.sum(1).max()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("axis", [0, 1])
def test_precisions(dtype, axis):
    x, y = cloud(M, dtype=dtype), cloud(N, 1, dtype=dtype)
    b = np.ones((N, 1), dtype)
    r, product = distances(x, y), Genred("Exp(-SqDist(x,y))", XYB[:2], axis=axis)
    got, K = product(x, y, truncate=1e-3).astype(float)[:, 0], np.exp(-(r**2))
    assert product(x, y, truncate=1e-3).dtype == dtype
    assert np.abs(got - K.sum(axis)).max() <= (1e-3 + 2 * np.finfo(dtype).eps) * K.sum(axis).max() + 1e-5
    if axis == 1:
        mask = operator(GAUSS, x, y, truncate=1e-3).ranges.mask(M, N)
        assert not mask.all() and lost(K, mask).max() <= 1e-3 * K.sum(1).max()
        z = y[:M]
        a = KernelSolve(GAUSS, XYB, "b", axis=1)(z, z, b[:M], alpha=0.5, truncate=1e-3)
        assert a.dtype == dtype
        A = np.exp(-(distances(z, z) ** 2)) + 0.5 * np.eye(M)
        assert np.abs(A @ a.astype(float) - 1).max() < 1e-3 + 20 * np.finfo(dtype).eps * M**0.5


def test_large_sums_in_float16():
    """The row sums leave float16's range, and do not count as unknown for that."""
    x = cloud(dtype=np.float16)
    got = Genred("4096*Exp(-SqDist(x,y))*b", XYB, axis=1)(x, x, np.full((N, 1), 2.0**-10, np.float16), truncate=1e-3)
    want = 4 * np.exp(-(distances(x, x) ** 2)).sum(1, keepdims=True)
    assert np.abs(got - want).max() <= 2e-3 * want.max()
    assert truncation.truncate_product(*product_of("4096*Exp(-SqDist(x,y))*b", x), 1e-3) is not None


def product_of(formula, x):
    from kernelops.arrays.arguments import bind_arguments
    from kernelops.formula.parse import parse

    read = parse(formula, XYB)
    *points, b = read.variables
    return read.expr, b, bind_arguments(points, [x, x])


def test_the_pattern_does_not_depend_on_b():
    """Nor on whether there is one that is 0: only the points count."""
    x, patterns = cloud(), []
    product = Genred(GAUSS, XYB, axis=1)
    K = np.exp(-(distances(x, x) ** 2))
    for b in (np.zeros((N, 1)), np.ones((N, 1)), np.random.default_rng(0).standard_normal((N, 1)) * 1e6):
        got = product(x, x, b, truncate=1e-3)
        pattern = [r for r in patterns if np.allclose(got, r @ b, rtol=1e-9, atol=1e-9 * np.abs(b).max())]
        patterns = pattern or [np.where(operator(GAUSS, x, x, truncate=1e-3).ranges.mask(N, N), K, 0)]
        assert np.allclose(got, patterns[0] @ b, rtol=1e-9, atol=1e-9 * (1 + np.abs(b).max()))
    # column by column it is the same linear map
    E = np.eye(N)[:, :5]
    columns = [product(x, x, e[:, None], truncate=1e-3) for e in E.T]
    np.testing.assert_allclose(np.hstack(columns), patterns[0][:, :5], atol=1e-12)


def test_any_order_of_points():
    x, b = cloud(), np.random.default_rng(0).standard_normal((N, 1))
    shuffle = np.random.default_rng(1).permutation(N)
    for order in (shuffle, np.lexsort(x.T), np.arange(N)[::-1]):
        for call in (
            lambda x, b: Genred(GAUSS, XYB, axis=1)(x, x, b, truncate=1e-9),
            lambda x, b: KernelSolve(GAUSS, XYB, "b", axis=1)(x, x, b, alpha=0.1, truncate=1e-9, rtol=1e-12),
        ):
            np.testing.assert_allclose(call(x[order], b[order]), call(x, b)[order], atol=1e-7)


# ---- exponentials ----


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("tol", [0.05, 1e-6])
@pytest.mark.parametrize("op", ["LogSumExp", "LogSumExpWeight", "SumSoftMaxWeight"])
def test_exponentials_lose_a_share_of_their_own_row(op, axis, tol):
    x, y = cloud(M), cloud(N, 1)
    weights = np.random.default_rng(0).uniform(0.1, 3, (N if axis == 1 else M, 2)) ** 4
    aliases = [*XYB[:2], f"w = {'Vj' if axis == 1 else 'Vi'}(2)"]
    second = {} if op == "LogSumExp" else {"formula2": "w"}
    args = (x, y) if op == "LogSumExp" else (x, y, weights)
    reduction = Genred(
        "-SqDist(x,y)", aliases[: len(args)], op.removesuffix("Weight") if op[0] == "L" else op, axis, **second
    )
    values = -(distances(x, y) ** 2)[..., None]
    spread = None if op == "LogSumExp" else (weights[None] if axis == 1 else weights[:, None])
    want = dense.reduce(op, values, axis, weights=spread)
    got = reduction(*args, truncate=tol)
    if op[0] == "L":
        assert (got <= want + 1e-9).all() and (got >= want + np.log1p(-tol) - 1e-9).all()
    else:
        assert np.abs(got - want).max() <= tol * np.ptp(weights) + 1e-9
    from_far = chosen(reduction, args, tol)
    assert from_far is not None and from_far.mask(M, N).any(axis).all()


def test_a_large_block_far_away_counts_by_its_points():
    """One point nearby, and in another block 32 that are each a hundredth of it."""
    x = np.array([[np.log(100), 0.0]])
    y = np.r_[np.zeros((32, 2)), x]
    reduction = Genred("-Norm2(x-y)", XYB[:2], "LogSumExp", axis=1)
    assert chosen(reduction, (x, y), 0.32 / 1.32 - 0.001) is None
    assert (chosen(reduction, (x, y), 0.32 / 1.32 + 0.001).mask(1, 33) == [[False] * 32 + [True]]).all()


def test_signed_and_vanishing_weights():
    x = cloud()
    w = np.random.default_rng(0).standard_normal((N, 1))
    w[::3] = 0
    reduction = Genred("-SqDist(x,y)", [*XYB[:2], "w = Vj(1)"], "LogSumExp", axis=1, formula2="w")
    K = np.exp(-(distances(x, x) ** 2))
    for weights in (w, 0 * w, np.where(w > 0, 1.0, 2.0), np.where(w > 0, 1.0, -2.0)):
        pattern = chosen(reduction, (x, x, weights), 1e-2)
        if pattern is None:  # nothing is known of a row's own sum where a weight of each block may be 0
            assert weights.min() <= 0
            continue
        assert (lost(K * weights.T, pattern.mask(N, N)) <= 1e-2 * (K * np.abs(weights.T)).sum(1)).all()


# ---- the smallest and the largest ----


def at_equal_values(x, y, axis, got, want, eps):
    """Where two results of a search, (rows, K), name points at the same distance, to rounding."""
    D = distances(x, y) if axis == 1 else distances(x, y).T
    rows = np.arange(len(D))[:, None]
    return np.abs(D[rows, got] - D[rows, want]) <= 4 * eps * D[rows, want]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", ["Min", "Max", "ArgMin", "ArgMax", "Min_ArgMin", "KMin", "ArgKMin", "KMin_ArgKMin"])
def test_minima_and_their_kin_lose_nothing(op, axis, dtype):
    x, y = cloud(M, dtype=dtype), cloud(N, 1, dtype=dtype)
    for K in (1, 30) if "KMin" in op else (None,):
        formula = "Norm2(x-y)" if "Max" not in op else "Exp(-SqDist(x,y)/50)"
        reduction = Genred(formula, XYB[:2], op, axis, opt_arg=K)
        found, plain = (reduction(x, y, **o) for o in ({"truncate": 0.9}, {}))
        found, plain = (r if isinstance(r, tuple) else (r,) for r in (found, plain))
        for got, want in zip(found, plain, strict=True):
            same = got == want
            if got is found[-1] and "Arg" in op:  # of values that are equal in this precision either may be named
                same |= at_equal_values(x, y, axis, got, want, np.finfo(dtype).eps)
            assert same.all()
        assert not chosen(reduction, (x, y), 0.0).mask(M, N).all()


def test_more_are_wanted_than_there_are():
    x, y = cloud(40), cloud(70, 1)
    for K in (69, 70, 71, 200):
        reduction = Genred("Norm2(x-y)", XYB[:2], "KMin_ArgKMin", 1, opt_arg=K)
        for got, want in zip(reduction(x, y, truncate=0), reduction(x, y), strict=True):
            np.testing.assert_array_equal(got, want)
        assert chosen(reduction, (x, y), 0.0) is None


def test_of_equal_values_any_may_be_named():
    """The values are those of the whole row, each as often; which of them come first goes by the pattern's order."""
    x, y = cloud(M), cloud(N, 1)
    y[::7] = y[3]
    r = distances(x, y)
    for op, K in (("ArgMin", None), ("ArgKMin", 5), ("ArgKMin", 120)):
        at = Genred("Norm2(x-y)", XYB[:2], op, 1, opt_arg=K)(x, y, truncate=0)
        assert all(len(set(row)) == len(row) for row in at)
        np.testing.assert_allclose(np.take_along_axis(r, at, 1), np.sort(r, 1)[:, : K or 1], rtol=1e-12)


def test_vectors_of_minima():
    x, y = cloud(M), cloud(N, 1)
    reduction = Genred("Square(x-y)", XYB[:2], "KMin_ArgKMin", 1, opt_arg=3)
    for got, want in zip(reduction(x, y, truncate=0), reduction(x, y), strict=True):
        np.testing.assert_array_equal(got, want)


# ---- batches ----


def test_batches():
    """One pattern holds for the whole batch: of parameters, of b, of points; and every element keeps the promise."""
    x, g = cloud(), np.array([[4.0], [0.3], [1.0]])
    b, scaled = np.random.default_rng(0).standard_normal((2, 1, N, 1)), cloud() * np.array([[[2.0]], [[0.5]]])
    formula, aliases = usual.SCALED_GAUSS, [*XYB, "g = Pm(1)"]
    product, solver = Genred(formula, aliases, axis=1), KernelSolve(formula, aliases, "b", axis=1)
    K = np.exp(-g[:, :, None] * distances(x, x) ** 2)
    for args, matrices in (
        ((x, x, b, g), K),
        ((scaled, scaled, b[:, 0], 1.0), np.exp(-(np.stack([distances(z, z) for z in scaled]) ** 2))),
    ):
        for tol in (1e-4, 0.02):
            mask = chosen(product, args, tol).mask(N, N)
            assert not mask.all()
            for each in matrices:
                assert lost(each, mask).max() <= tol * each.sum(1).max()
            np.testing.assert_allclose(product(*args, truncate=tol), np.where(mask, matrices, 0) @ args[2], atol=1e-10)
    product = Genred("(Exp(-Norm2(x-y)) + g*Exp(-9*SqDist(x,y)))*b", aliases, axis=1)
    r, mask = distances(x, x), chosen(product, (x, x, b[0, 0], np.array([[0.0], [1000.0]])), 0.02)
    far = np.exp(-r)  # of the element whose rows sum to less, by far
    assert mask is None or lost(far, mask.mask(N, N)).max() <= 0.02 * far.sum(1).max()
    alpha = np.array([0.2, 0.5, 1.0])[:, None]
    a = solver(x, x, b, g, alpha=alpha, truncate=1e-4, rtol=1e-9)
    assert np.abs(K @ a + alpha[..., None] * a - b).max() <= 1e-4 * 0.2 * np.abs(a).max() + 1e-6


def test_few_points_that_meet_many_are_not_worth_an_order():
    """Choosing a pattern takes the time of some thousand rows."""
    few, many = truncation.FEW_BLOCKS * truncation.POINTS_PER_BLOCK, truncation.ASPECT_RATIO
    x, y = np.random.default_rng(0).random((2, 3 * many * truncation.POINTS_PER_BLOCK, 2))
    reduction = Genred("Exp(-900*SqDist(x,y))*b", XYB, axis=1)
    for rows, worth in ((2 * truncation.POINTS_PER_BLOCK, False), (4 * truncation.POINTS_PER_BLOCK, True)):
        assert rows <= few
        found = chosen(reduction, (x[:rows], y, np.ones((len(y), 1))), 1e-3)
        assert (found is not None) == worth
