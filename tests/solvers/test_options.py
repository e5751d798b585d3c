"""SolveOptions is the one list: signatures and docstrings say the same, and every check is made where one is made."""

import inspect
import re
from dataclasses import fields

import numpy as np
import pytest
import usual

import kernelops
from kernelops import ArgumentError, DtypeError, KeywordError, SolveState, solve
from kernelops.frontend import KernelSolve
from kernelops.solvers.options import NAMES, SolveOptions

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
    assert documented(solve) == {"A", "B", *NAMES}


def test_the_signature_of_a_call():
    found = {name: p.default for name, p in parameters(KernelSolve.__call__).items()}
    assert set(found) == {*NAMES, *OWN["__call__"]}
    assert {name: found[name] for name in NAMES} == {**DEFAULTS, "rtol": None}  # None, because eps is another name
    assert documented(KernelSolve.__call__) == {"args", *found}


@pytest.mark.parametrize("method", LEFT_OUT)
def test_the_signatures_beside_the_call(method):
    function = getattr(KernelSolve, method)
    found = {name: p.default for name, p in parameters(function).items()}
    shared = set(NAMES) - LEFT_OUT[method]
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
