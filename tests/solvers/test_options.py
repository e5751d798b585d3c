"""SolveOptions is the one list: signatures and docstrings say the same, and every check is made where one is made."""

import inspect
import re
from dataclasses import fields

import numpy as np
import pytest
import usual
from scipy.sparse.linalg import LinearOperator

import kernelops
from kernelops import ArgumentError, ConvergenceWarning, DtypeError, KeywordError, SolveError, SolveState, solve
from kernelops.frontend import KernelSolve
from kernelops.operators.kernel_product import KernelProduct
from kernelops.solvers.options import OPTION_NAMES, SolveOptions

# what the methods beside the call leave out, because a start and a callback are for one solve alone, the determinant of
# a caller's own preconditioner is not known, and an estimate has no iterations to show
LEFT_OUT = {
    "logdet": {"x0", "M", "callback", "progress"},
    "inv_quad_logdet": {"x0", "M", "callback"},
    "predict": {"x0", "callback"},
}
OWN = {
    "__call__": {"backend", "device_id", "alpha", "eps", "ranges", "truncate", "return_solution"},
    "logdet": {"backend", "device_id", "alpha", "n_probes", "ranges", "truncate"},
    "inv_quad_logdet": {"backend", "device_id", "alpha", "n_probes", "ranges", "truncate"},
    "predict": {"at", "backend", "device_id", "alpha", "variance"},
}
DEFAULTS = {f.name: f.default for f in fields(SolveOptions)}


def parameters(function):
    return {n: p for n, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}


def documented(function):
    """The names in the Parameters section of a docstring."""
    section = re.search(r"Parameters\n-+\n(.*?)\n\n", inspect.getdoc(function), re.DOTALL)[1]
    return {name.lstrip("*") for line in re.findall(r"^(\S.*?)(?: : .*)?$", section, re.M) for name in line.split(", ")}


def test_the_signature_of_solve():
    found = {name: p.default for name, p in inspect.signature(solve).parameters.items() if name not in ("A", "B")}
    assert found == DEFAULTS
    assert documented(solve) == {"A", "B", *OPTION_NAMES}


def test_the_signature_of_a_call():
    found = {name: p.default for name, p in parameters(KernelSolve.__call__).items()}
    assert set(found) == {*OPTION_NAMES, *OWN["__call__"]}
    assert {name: found[name] for name in OPTION_NAMES} == {**DEFAULTS, "rtol": None}  # None: eps is another name
    assert documented(KernelSolve.__call__) == {"args", *found}


@pytest.mark.parametrize("method", LEFT_OUT)
def test_the_signatures_beside_the_call(method):
    function = getattr(KernelSolve, method)
    found = {name: p.default for name, p in parameters(function).items()}
    shared = set(OPTION_NAMES) - LEFT_OUT[method]
    assert set(found) == shared | OWN[method]
    assert {name: found[name] for name in shared} == {name: DEFAULTS[name] for name in shared}
    assert documented(function) == {"args", "options", *OWN[method]}
    described = inspect.getdoc(function)
    section = re.search(r"\*\*options\n(.*?)\n\n", described, re.DOTALL)[1]
    listed = re.match(r"\s*Those of a solve, without (.*?) and (\w+)[.;]", section)
    assert {*listed[1].split(", "), listed[2]} == LEFT_OUT[method]


@pytest.mark.parametrize("method", LEFT_OUT)
def test_what_is_left_out_is_refused_by_name(method):
    solver = kernelops.numpy.KernelSolve(usual.GAUSS, usual.aliases(1, 1), "b", axis=1)
    x = np.linspace(0, 1, 5)[:, None]
    more = {"at": x} if method == "predict" else {}
    for name in LEFT_OUT[method]:
        with pytest.raises(KeywordError, match=f"KernelSolve.{method} has no keyword '{name}'"):
            getattr(solver, method)(x, x, x, alpha=0.1, **more, **{name: None})


@pytest.mark.parametrize("field", OWN)
def test_the_public_classes_show_them(field):
    for door in (kernelops.numpy, pytest.importorskip("kernelops.torch")):
        assert parameters(getattr(door.KernelSolve, field)) == parameters(getattr(KernelSolve, field))


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"rtol": -1}, ArgumentError, "rtol must be a number of at least 0, got -1"),
        ({"atol": "x"}, ArgumentError, "atol must be a number of at least 0, got 'x'"),
        ({"maxiter": 1.5}, ArgumentError, "maxiter must be a whole number of at least 0, or None, got 1.5"),
        ({"maxiter": True}, ArgumentError, "maxiter must be a whole number of at least 0, or None, got True"),
        ({"precond": "ilu"}, ArgumentError, "precond: wanted None or one of"),
        ({"method": "gmres"}, ArgumentError, "method: wanted one of"),
        ({"seed": -1}, ArgumentError, "seed: wanted a whole number of at least 0, got -1"),
        ({"state": {}}, DtypeError, "state: wanted a SolveState or None, got dict"),
        ({"callback": 1}, KeywordError, "callback must be a function of the iterate, or None, got int"),
        ({"on_fail": "cry"}, ArgumentError, 'on_fail must be "warn", "raise" or "ignore", got \'cry\''),
        ({"x0": "MB"}, ArgumentError, "x0 must be an array, None or \"Mb\", got 'MB'"),
        ({"M": np.eye(2), "precond": "fsai"}, KeywordError, "are both preconditioners: give one of them"),
        ({"M": np.eye(2), "method": "direct"}, KeywordError, 'method = "direct" takes no preconditioner'),
    ],
)
def test_every_option_is_checked_when_the_list_is_made(wrong, error, text):
    with pytest.raises(error, match=re.escape(text)):
        SolveOptions(**wrong)
    with pytest.raises(error, match=re.escape(text)):
        solve(np.eye(2), np.ones(2), **wrong)


def test_the_options_of_further_solves():
    state = SolveState()
    options = SolveOptions(x0="Mb", callback=print, progress=True, verbose=True, state=state, maxiter=7, seed=3)
    again = options.for_other_right_hand_side()
    assert (again.x0, again.callback, again.progress, again.verbose) == (None, None, False, False)
    assert again.state is state.adjoint() and (again.maxiter, again.seed) == (7, 3)
    assert options.with_state() is options and not SolveOptions().with_state().state.warm
    assert options.without_warm_start().state is not state and options.without_warm_start().x0 == "Mb"
    assert options.most_iterations(1000) == 7 and SolveOptions().most_iterations(1000) == 10000
    assert SolveOptions().most_iterations(2) == 100


X = np.random.default_rng(0).random((40, 2))
B = np.random.default_rng(1).standard_normal((40, 1))
AT = np.random.default_rng(2).random((3, 2))
ALIASES = ["x = Vi(2)", "y = Vj(2)", "b = Vj(1)"]
CALLS = {"inv_quad_logdet": {}, "predict": {"at": AT}}


def kernel(x, y):
    return np.exp(-4 * ((x[:, None] - y) ** 2).sum(-1))


def gaussian(door):
    return door.KernelSolve("Exp(-4*SqDist(x,y))*b", ALIASES, "b", axis=1)


@pytest.mark.parametrize("method", CALLS)
def test_the_iterations_of_an_estimate_are_limited(method):
    call = getattr(gaussian(kernelops.numpy), method)
    with pytest.raises(SolveError, match="after maxiter = 1 iterations"):
        options = {"method": "cg", "precond": None, "maxiter": 1, "on_fail": "raise"}
        call(X, X, B, alpha=0.1, **CALLS[method], **options)


@pytest.mark.parametrize("method", ["logdet", *CALLS])
def test_an_estimate_says_on_stderr_what_it_does(method, capsys):
    call = getattr(gaussian(kernelops.numpy), method)
    call(X, X, B, alpha=0.1, **CALLS.get(method, {}))
    assert capsys.readouterr().err == ""
    call(X, X, B, alpha=0.1, verbose=True, **CALLS.get(method, {}))
    assert capsys.readouterr().err.startswith("solve: 40 unknowns: ")


@pytest.mark.parametrize("method", ["logdet", *CALLS])
def test_an_estimate_takes_a_backend(method):
    call = getattr(gaussian(kernelops.numpy), method)
    here, default = (call(X, X, B, alpha=0.1, **CALLS.get(method, {}), **k) for k in ({"backend": "CPU"}, {}))
    for found, wanted in zip(here, default, strict=True):
        np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ArgumentError, match="backend"):
        call(X, X, B, alpha=0.1, backend="TPU", **CALLS.get(method, {}))


def test_an_absolute_tolerance_holds_in_a_prediction():
    options = {"method": "cg", "precond": None, "variance": False}
    mean, _ = gaussian(kernelops.numpy).predict(X, X, B, at=AT, alpha=0.1, atol=1e9, **options)
    np.testing.assert_array_equal(mean, 0)


@pytest.mark.parametrize("door", ["numpy", "torch"])
def test_a_prediction_takes_a_preconditioner_of_the_caller(door):
    module = kernelops.numpy if door == "numpy" else pytest.importorskip("kernelops.torch")
    A, calls = kernel(X, X) + 0.1 * np.eye(40), []
    inverse = np.linalg.inv(A)

    def apply(v):
        calls.append(v)
        return inverse @ v

    M = LinearOperator((40, 40), matvec=apply, matmat=apply, dtype=np.float64)
    arrays = [X, X, B, AT]
    if door == "torch":
        torch = pytest.importorskip("torch")
        arrays = [torch.from_numpy(a) for a in arrays]
    mean, variance = gaussian(module).predict(*arrays[:3], at=arrays[3], alpha=0.1, M=M, rtol=1e-10)
    K = kernel(AT, X)
    np.testing.assert_allclose(np.asarray(mean), K @ inverse @ B, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(np.asarray(variance), 1 - ((K @ inverse) * K).sum(-1), rtol=1e-7, atol=1e-9)
    assert calls


def test_the_gradient_of_a_logdet_obeys_maxiter():
    module, torch = pytest.importorskip("kernelops.torch"), pytest.importorskip("torch")
    x = torch.from_numpy(X).requires_grad_()
    value, _ = gaussian(module).logdet(x, x, alpha=0.1, method="cg", precond=None, maxiter=1)
    with pytest.warns(ConvergenceWarning, match="after maxiter = 1 iterations"):
        value.backward()


class Doubled(KernelProduct):
    def on_columns(self, V, transposed=False):
        return 2 * super().on_columns(V, transposed)


def test_an_operator_takes_another_product():
    A = kernelops.KernelOperator("Exp(-4*SqDist(x,y))*b", ALIASES, "b", X, X, alpha=0.1)
    own = A.kernel_product
    doubled = A.with_product(Doubled(own.form, own.arguments))
    np.testing.assert_allclose(doubled @ B, 2 * kernel(X, X) @ B + 0.1 * B, rtol=1e-12)
    np.testing.assert_allclose(doubled.T @ B, 2 * kernel(X, X).T @ B + 0.1 * B, rtol=1e-12)
    np.testing.assert_allclose(A @ B, kernel(X, X) @ B + 0.1 * B, rtol=1e-12)
    assert doubled.symmetric == "yes" and doubled.shape == A.shape


def test_a_system_takes_another_product():
    """What multiplies by K may be given, as long as it does what a KernelProduct does."""
    spec = gaussian(kernelops.numpy).spec
    arguments = spec.bind([X, X, B])

    system = spec.system(arguments, np.array(0.1), Doubled(spec.form, arguments))
    np.testing.assert_allclose(system.product(B), 2 * kernel(X, X) @ B + 0.1 * B, rtol=1e-12)
