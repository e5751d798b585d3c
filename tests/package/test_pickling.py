"""Everything pickles, and does the same in another process."""

import base64
import copy
import json
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import usual

import kernelops
from kernelops import ConvergenceWarning, KernelOperator, Ranges, SolveError, solve
from kernelops.formula.parse import parse
from kernelops.numpy import Genred, KernelSolve, generic_argkmin

FORMULA, ALIASES = usual.SCALED_GAUSS, usual.aliases(2, 1, "g")
N = 30
X = np.random.default_rng(0).standard_normal((N, 2)).astype(np.float32)
B = np.random.default_rng(1).standard_normal((N, 1)).astype(np.float32)
G = np.array([0.5], np.float32)
HALVES = [[0, 10], [10, N]]
RANGES = Ranges.from_mask(HALVES, HALVES, np.eye(2, dtype=bool))

COPIES = {f"pickle {p}": lambda a, p=p: pickle.loads(pickle.dumps(a, p)) for p in (2, pickle.HIGHEST_PROTOCOL)}
COPIES |= {"copy": copy.copy, "deepcopy": copy.deepcopy}
copies = pytest.mark.parametrize("again", COPIES.values(), ids=COPIES)


def operator(**keywords):
    return KernelOperator(FORMULA, ALIASES, "b", X, X, G, **({"alpha": 0.1} | keywords))


def doors(name):
    if name == "torch":
        torch = pytest.importorskip("torch")
        return kernelops.torch, lambda *arrays: [torch.from_numpy(a) for a in arrays]
    return kernelops.numpy, lambda *arrays: list(arrays)


@copies
@pytest.mark.parametrize("door", ["numpy", "torch"])
def test_genred_and_kernel_solve(door, again):
    module, arrays = doors(door)
    genred = module.Genred(FORMULA, ALIASES, "LogSumExp", axis=1, formula2="2*b", dtype="float32")
    solver = module.KernelSolve(FORMULA, ALIASES, "b", axis=1, dtype_acc="float64")
    for made, keywords in ((genred, {}), (solver, {"alpha": 0.1})):
        other = again(made)
        assert type(other) is type(made) and repr(other) == repr(made)
        data = arrays(X, X, B, G)
        np.testing.assert_array_equal(other(*data, **keywords), made(*data, **keywords))
        np.testing.assert_array_equal(other(*data, ranges=RANGES, **keywords), made(*data, ranges=RANGES, **keywords))
    nearest = module.generic_argkmin("SqDist(x,y)", "k = Vi(3)", "x = Vi(2)", "y = Vj(2)")
    np.testing.assert_array_equal(again(nearest)(*arrays(X, X)), nearest(*arrays(X, X)))


@copies
@pytest.mark.parametrize("keywords", [{}, {"alpha": np.arange(N)}, {"ranges": RANGES}, {"dtype_acc": "float64"}])
def test_operator(again, keywords):
    A = operator(**keywords)
    other = again(A)
    assert type(other) is KernelOperator and repr(other) == repr(A) and other.symmetric == "yes"
    assert other.shape == A.shape and other.dtype == A.dtype
    for v in (B, B.astype(np.float64), B[:, 0] * 1j):
        np.testing.assert_array_equal(other @ v, A @ v)
    np.testing.assert_array_equal(again(A.T) @ B, A.T @ B)
    np.testing.assert_array_equal(again(2 * A - A.H) @ B, (2 * A - A.H) @ B)


@copies
def test_ranges(again):
    other = again(RANGES)
    assert other == RANGES and hash(other) == hash(RANGES) and repr(other) == repr(RANGES)
    assert not other.ranges_i.flags.writeable


@copies
def test_formulas_and_expressions_stay_interned(again):
    formula = parse(FORMULA, ALIASES)
    other = again(formula)
    assert other.expr is formula.expr and other.variables == formula.variables and other.names == formula.names


@copies
def test_solution(again):
    solution = solve(operator(), B)
    other = again(solution)
    assert other.status == "converged" and str(other) == str(solution)
    for name in ("x", "residual", "residual_returned", "history"):
        np.testing.assert_array_equal(getattr(other, name), getattr(solution, name))


@copies
def test_errors(again):
    with pytest.raises(SolveError) as caught:
        solve(operator(), B, maxiter=1, on_fail="raise", method="cg", precond=None)
    other = again(caught.value)
    assert str(other) == str(caught.value) and other.solution.status == "maxiter"
    assert isinstance(again(ConvergenceWarning("text")), ConvergenceWarning)
    for name in kernelops.__all__:
        kind = getattr(kernelops, name)
        if isinstance(kind, type) and issubclass(kind, (ValueError, TypeError, ImportError)):
            error = again(kind("text"))
            assert type(error) is kind and str(error) == "text"
    with pytest.raises(kernelops.FormulaError) as caught:
        parse("Exp(", ALIASES)
    assert str(again(caught.value)) == str(caught.value)


def work(made):
    """What a worker does with what came to it."""
    if isinstance(made, KernelOperator):
        return made @ B
    return made(X, X, B, G) if isinstance(made, Genred) else made(X, X, B, G, alpha=0.1)


def everything():
    return [Genred(FORMULA, ALIASES, axis=1), KernelSolve(FORMULA, ALIASES, "b", axis=1), operator(), operator(alpha=2)]


def test_a_spawned_process():
    made = everything()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for found, a in zip(pool.map(work, made), made, strict=True):
            np.testing.assert_array_equal(found, work(a))


def test_joblib():
    joblib = pytest.importorskip("joblib")
    made = everything() + [generic_argkmin("SqDist(x,y)+0*Sum(b)*g", "k = Vi(3)", *ALIASES)]
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(work)(a) for a in made)
    for got, a in zip(found, made, strict=True):
        np.testing.assert_array_equal(got, work(a))


def of_an_earlier_version():
    """What version 0.1.0 pickled, by a name."""
    text = (Path(__file__).parent / "pickles_of_0_1_0.json").read_text(encoding="utf-8")
    return {name: base64.b85decode(data) for name, data in json.loads(text).items()}


@pytest.mark.parametrize("name", of_an_earlier_version())
def test_pickles_of_an_earlier_version(name):
    """They hold names of modules that have moved, and do what what is made today does."""
    if name.startswith("torch"):
        pytest.importorskip("torch")
    made = pickle.loads(of_an_earlier_version()[name])
    n = 6
    x, b, g = np.linspace(0, 1, 2 * n).reshape(n, 2), np.linspace(1, 2, n)[:, None], np.array([0.5])
    distances = ((x[:, None] - x) ** 2).sum(-1)
    K, eye = np.exp(-0.5 * distances), np.eye(n)
    masked = np.where(Ranges.band(n, 2, 2).mask(n, n), K, 0) + np.diag(np.arange(1.0, n + 1))
    solved = np.linalg.solve(K + 0.1 * eye, b)
    arrays = doors(name.split("_")[0])[1](x, x, b, g)
    products = {
        "operator": K + 0.1 * eye,
        "transposed": K + 0.1 * eye,
        "scaled": K + 0.1 * eye,
        "operator_ranges": masked,
    }
    if name in products:
        np.testing.assert_allclose(made @ b, products[name] @ b, rtol=1e-12)
    elif name.startswith("ranges"):
        assert made == (
            Ranges.band(n, 2, 2) if name == "ranges" else Ranges.band(n, 2, 2).ordered(*[np.arange(n)[::-1]] * 2)
        )
    elif name in ("formula", "expr"):
        formula = parse(FORMULA, ALIASES)
        assert made is formula.expr if name == "expr" else made.expr is formula.expr and made.names == formula.names
    elif name == "solution":
        assert made.status == "converged"
        np.testing.assert_allclose(made.x, solved, rtol=1e-9)
    elif name == "error":
        assert made.solution.status == "maxiter"
    elif name == "state":
        np.testing.assert_allclose(solve(operator_of(x, g), b, state=made).x, solved, rtol=1e-5)
    elif name == "argkmin":
        np.testing.assert_array_equal(made(x, x), np.argsort(distances, axis=1, kind="stable")[:, :3])
    elif name.endswith("solver"):
        np.testing.assert_allclose(made(*arrays, alpha=0.1), solved, rtol=1e-5)
    else:
        expected = np.log((np.exp(K[:, :, None] * b) * 2 * b).sum(1)) if name.startswith("numpy") else K @ b
        np.testing.assert_allclose(made(*arrays), expected, rtol=1e-9)


def operator_of(x, g):
    return KernelOperator(FORMULA, ALIASES, "b", x, x, g, alpha=0.1)
