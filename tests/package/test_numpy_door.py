"""The numpy door: Genred, KernelSolve and the generic functions of arrays, and what importing them brings along."""

import copy
import pickle
import subprocess
import sys

import dense
import numpy as np
import pytest
import usual
from judges import assert_solves, assert_sum_close
from processes import PATIENCE

from kernelops import ArgumentError, ConvergenceWarning, DtypeError, Ranges, ShapeError, SolveError
from kernelops.numpy import (
    Genred,
    KernelSolve,
    generic_argkmin,
    generic_argmin,
    generic_logsumexp,
    generic_sum,
)
from kernelops.reductions.kinds import REDUCTIONS

ALIASES = usual.aliases(3, 2, "g")
GAUSS = usual.SCALED_GAUSS
SOLVER = KernelSolve(GAUSS, ALIASES, "b", axis=1)
ITERATE = {"method": "cg", "precond": None}  # small systems would be factored


def data(M=7, N=30, dtype="float64"):
    rng = np.random.default_rng(4)
    return [rng.standard_normal(shape).astype(dtype) for shape in ((M, 3), (N, 3), (N, 2))] + [np.array([0.6], dtype)]


def squares(x, y):
    return ((x[:, None] - y) ** 2).sum(-1).astype(np.longdouble)


# ---- Genred ----


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_every_reduction(op, axis):
    x, y, b, g = data()
    kind = REDUCTIONS[op]
    formula = "-g*SqDist(x,y)" if kind.accumulator == "exp" else GAUSS
    values = -0.6 * squares(x, y)[..., None]
    values = values if kind.accumulator == "exp" else np.exp(values) * b
    options = {"opt_arg": 2 if kind.many else None, "formula2": "b" if kind.weighted else None}
    weights = np.broadcast_to(b, (7, 30, 2)) if kind.weighted else None
    with np.errstate(invalid="ignore"):
        got = Genred(formula, ALIASES, op, axis, **options)(x, y, b, g)
        want = dense.reduce(op, values.astype(float), axis, weights=weights, K=2)
    for g, w in zip(got, want, strict=True) if isinstance(got, tuple) else [(got, want)]:
        np.testing.assert_allclose(g, w.astype(float), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dtypes(dtype):
    x, y, b, g = data(dtype=dtype)
    terms = np.exp(-g[0].astype(np.longdouble) * squares(*(a.astype(np.longdouble) for a in (x, y)))[..., None]) * b
    for wanted in (None, dtype, np.dtype(dtype), {"float16": "half", "float32": "float", "float64": "double"}[dtype]):
        got = Genred(GAUSS, ALIASES, axis=1, dtype=wanted)(x, y, b, g)
        assert got.dtype == dtype
        assert_sum_close(got, terms, 1, 64)
    other = "float32" if dtype == "float64" else "float64"
    with pytest.raises(DtypeError, match=rf"x = Vi\(3\) is {dtype}: dtype = {other} was asked for"):
        Genred(GAUSS, ALIASES, axis=1, dtype=other)(x, y, b, g)


def test_the_default_axis_is_0():
    x, y, b, g = data()
    np.testing.assert_array_equal(Genred(GAUSS, ALIASES)(x, y, b, g), Genred(GAUSS, ALIASES, "Sum", 0)(x, y, b, g))
    assert Genred(GAUSS, ALIASES)(x, y, b, g).shape == (30, 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_and_arrays_agree_to_the_bit(dtype):
    x, y, b, _ = data(dtype=dtype)
    genred = Genred(GAUSS, ALIASES, axis=1)
    for value in (2, 0.3):
        want = genred(x, y, b, np.array([value], dtype))
        same = [float(value), np.float64(value), np.array(value, "float64"), np.array(value, dtype)]
        for number in [*same, *([2, np.int32(2), np.array(2)] if value == 2 else [])]:
            np.testing.assert_array_equal(genred(x, y, b, number), want)


def test_out():
    x, y, b, g = data()
    genred, out = Genred(GAUSS, ALIASES, axis=1), np.empty((7, 2))
    assert genred(x, y, b, g, out=out) is out
    np.testing.assert_array_equal(out, genred(x, y, b, g))
    for wrong, error in ((np.empty((7, 3)), ShapeError), (np.empty((7, 2), "f"), ShapeError), ([], ArgumentError)):
        with pytest.raises(error, match="^out: wanted"):
            genred(x, y, b, g, out=wrong)
    with pytest.raises(ArgumentError, match="out is for reductions with one result"):
        Genred("SqDist(x,y)", ALIASES[:2], "Min_ArgMin", 1)(x, y, out=out)


@pytest.mark.parametrize("backend", ["auto", "CPU"])
def test_backends(backend):
    x, y, b, g = data()
    genred = Genred(GAUSS, ALIASES, axis=1)
    np.testing.assert_array_equal(genred(x, y, b, g, backend=backend, device_id=0), genred(x, y, b, g))


def test_what_old_scripts_pass_is_ignored():
    x, y, b, g = data()
    old = {"cuda_type": "float32", "enable_chunks": True, "rec_multVar_highdim": None, "use_fast_math": True}
    np.testing.assert_array_equal(
        Genred(GAUSS, ALIASES, "Sum", 1, **old)(x, y, b, g), Genred(GAUSS, ALIASES, axis=1)(x, y, b, g)
    )
    KernelSolve(GAUSS, ALIASES, "b", 1, **old)


def test_copies_and_pickles():
    arguments = data(30)
    for made, options in (
        (Genred("-g*SqDist(x,y)", ALIASES, "LogSumExp", 1, formula2="b*b"), {}),
        (SOLVER, {"alpha": 1}),
    ):
        arguments[0] = arguments[1]
        for twin in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            assert repr(twin) == repr(made)
            np.testing.assert_array_equal(twin(*arguments, **options), made(*arguments, **options))


# ---- generic functions ----


def test_generic_functions():
    x, y, b, g = data()
    d = squares(x, y).astype(float)
    two = ALIASES[:2]
    np.testing.assert_allclose(generic_sum("SqDist(x,y)", "a = Vi(1)", *two)(x, y), d.sum(1)[:, None])
    np.testing.assert_allclose(generic_sum("SqDist(x,y)", "a = Vj(1)", *two)(x, y), d.sum(0)[:, None])
    want = np.log(np.exp(-d).sum(1))[:, None]
    np.testing.assert_allclose(generic_logsumexp("-SqDist(x,y)", "a = Vi(1)", *two)(x, y), want)
    np.testing.assert_array_equal(generic_argmin("SqDist(x,y)", "a = Vj(1)", *two)(x, y), d.argmin(0)[:, None])
    np.testing.assert_array_equal(generic_argkmin("SqDist(x,y)", "a = Vi(4)", *two)(x, y), d.argsort(1)[:, :4])


# ---- KernelSolve ----


def problem(dtype="float64", N=30):
    _, x, b, g = data(N=N, dtype=dtype)
    wide = x.astype(np.float64)
    return x, b, g, np.exp(-np.float64(g[0]) * squares(wide, wide).astype(float))


@pytest.mark.parametrize(("dtype", "asked"), [("float16", 1e-3), ("float32", 1e-6), ("float64", 1e-12)])
def test_a_solve(dtype, asked):
    x, b, g, K = problem(dtype)
    a, solution = SOLVER(x, x, b, g, alpha=0.4, eps=asked, return_solution=True)
    assert a.dtype == dtype and a.shape == b.shape and solution.converged
    assert_solves(K + 0.4 * np.eye(30), solution.x, b, asked)
    np.testing.assert_array_equal(a, solution.x.astype(dtype))
    np.testing.assert_array_equal(SOLVER(x, x, b, g, alpha=0.4, rtol=asked), a)


def test_over_i():
    x, b, g, K = problem()
    solver = KernelSolve(GAUSS, ["x = Vi(3)", "y = Vj(3)", "b = Vi(2)", "g = Pm(1)"], "b")
    assert_solves(K + 0.4 * np.eye(30), solver(x, x, b, g, alpha=0.4, eps=1e-10), b, 1e-10)


@pytest.mark.parametrize("shape", [(), (1,), (30,), (30, 1)])
def test_alpha_for_each_row(shape):
    x, b, g, K = problem()
    alpha = np.linspace(0.2, 0.9, int(np.prod(shape))).reshape(shape)
    a = SOLVER(x, x, b, g, alpha=alpha, eps=1e-10)
    assert_solves(K + np.diag(np.broadcast_to(alpha.ravel(), 30)), a, b, 1e-10)


def test_batches_broadcast():
    """Points in batches, the right-hand side and alpha in others."""
    x, b, g, _ = problem(N=8)
    points = x[:8] + np.arange(3)[:, None, None]
    sides = np.stack([b[:8], b[:8] ** 2])[:, None]
    alpha = np.linspace(0.2, 0.5, 6).reshape(2, 3, 1)
    a = SOLVER(points, points, sides, g, alpha=alpha, eps=1e-10)
    assert a.shape == (2, 3, 8, 2)
    for k, l in np.ndindex(2, 3):
        K = np.exp(-g * squares(points[l], points[l]).astype(float))
        assert_solves(K + alpha[k, l] * np.eye(8), a[k, l], sides[k, 0], 1e-10)


def test_a_matrix_valued_kernel():
    x, b, g, K = problem()
    P = np.array([[2.0, 0.5], [0.5, 1.0]])
    aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)", "g = Pm(1)", "P = Pm(4)"]
    a = KernelSolve("Exp(-g*SqDist(x,y))*MatVecMult(P,b)", aliases, "b", axis=1)(
        x, x, b, g, P.ravel(), alpha=0.3, eps=1e-10
    )
    assert_solves(np.kron(K, P) + 0.3 * np.eye(60), a.reshape(60, 1), b.reshape(60, 1), 1e-10)


def test_ranges():
    x, b, g, K = problem()
    blocks = [[0, 10], [10, 25]]
    ranges = Ranges.from_mask(blocks, blocks, np.array([[True, False], [False, True]]))
    a = SOLVER(x, x, b, g, alpha=0.4, eps=1e-10, ranges=ranges)
    assert_solves(np.where(ranges.mask(30, 30), K, 0) + 0.4 * np.eye(30), a, b, 1e-10)
    np.testing.assert_allclose(a[25:], b[25:] / 0.4)


def test_scale_does_not_matter():
    x, b, g, _ = problem("float32")
    a, solution = SOLVER(x, x, b, g, alpha=0.1, return_solution=True)
    for power in (-30, 30):
        scaled, other = SOLVER(x, x, b * np.float32(2.0**power), g, alpha=0.1, return_solution=True)
        np.testing.assert_array_equal(scaled, a * np.float32(2.0**power))
        assert other.iterations == solution.iterations
    nothing, solution = SOLVER(x, x, 0 * b, g, alpha=0.1, return_solution=True)
    assert solution.iterations == 0 and solution.converged and not nothing.any()


def test_failures():
    x, b, g, _ = problem()
    with pytest.warns(ConvergenceWarning) as told:
        SOLVER(x, x, b, g, alpha=0.0, maxiter=2, **ITERATE)
    assert told[0].filename == __file__
    with pytest.raises(SolveError):
        SOLVER(x, x, b, g, alpha=0.0, maxiter=2, on_fail="raise", **ITERATE)
    x[3, 1] = np.nan
    a, solution = SOLVER(x, x, b, g, alpha=0.1, on_fail="ignore", return_solution=True)
    assert solution.status == "nonfinite" and np.isnan(a).all()


# ---- imports ----


def fresh(code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("imported", ["kernelops", "kernelops.numpy", "kernelops.doctor"])
def test_no_import_brings_torch_or_pycuda(imported):
    code = f"import sys, {imported}; print([m for m in ('torch', 'pycuda', 'tqdm', 'matplotlib') if m in sys.modules])"
    assert fresh(code).strip() == "[]"


def test_a_solve_brings_no_torch():
    code = (
        "import sys, numpy as np; import kernelops; "
        "x = np.linspace(0, 1, 9)[:, None]; "
        "s = kernelops.numpy.KernelSolve('Exp(-SqDist(x,y))*b', ['x = Vi(1)', 'y = Vj(1)', 'b = Vj(1)'], 'b', axis=1); "
        "s(x, x, x, alpha=1.0); print('torch' in sys.modules)"
    )
    assert fresh(code).strip() == "False"


def test_the_torch_door_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from kernelops import MissingExtraError\n"
        "try: import kernelops.torch\n"
        "except MissingExtraError as error: print(error)"
    )
    assert 'pip install "kernelops[torch]"' in fresh(code)


@pytest.mark.parametrize("shape", [(), (30,), (30, 1), (3, 30, 1), (3, 1, 1)])
def test_alpha_counts_points_where_the_kernel_is_matrix_valued(shape):
    rng = np.random.default_rng(0)
    x, b, P = rng.random((3, 30, 2)), rng.standard_normal((30, 2)), np.array([2.0, 0.5, 0.5, 1.0])
    alpha = rng.random(shape) + 0.1
    solver = KernelSolve(
        "Exp(-SqDist(x,y))*MatVecMult(P,b)", ["x = Vi(2)", "y = Vj(2)", "b = Vj(2)", "P = Pm(4)"], "b", axis=1
    )
    a = solver(x, x, b, P, alpha=alpha, eps=1e-10)
    for points, found, own in zip(x, a, alpha if len(shape) == 3 else [alpha] * 3, strict=True):
        K = np.kron(np.exp(-((points[:, None] - points) ** 2).sum(-1)), P.reshape(2, 2))
        diagonal = np.broadcast_to(own.reshape(-1, 1), (30, 2)).ravel()
        residual = K @ found.ravel() + diagonal * found.ravel() - b.ravel()
        assert np.linalg.norm(residual) <= 1.1e-10 * np.linalg.norm(b)
