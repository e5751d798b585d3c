"""The CUDA text of random formulas, run by the emulator, against NumPy on dense arrays."""

from functools import partial

import numpy as np
import pytest
from bound_reduction import BoundReduction
from campaigns.formulas import dense, kernel, leaves, named, one_of, points, random_expr, random_ranges, seeds, values
from cuda_emulator.emulator import missing
from emulated import compiled

from kernelops.engines import cpu
from kernelops.formula.expr import const, topological, variable
from kernelops.formula.grad import grad

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

USUAL = 16  # seeds: g++ takes half a second for each
JUMPS = ("Sign", "Step", "Equal", "NotEqual", "LessThan", "LessOrEqual", "IfElse")  # which rounding may turn round
LARGEST = 1e4  # of what a formula computes on its way, so that what cancels can be judged
SIZES = (1, 2, 9, 37, 70)


def drawn(r):
    """A formula of few components, or its gradient, with arrays at which all that it computes is moderate."""
    while True:
        variables = leaves(r, 8)
        expr = kernel(r, variables) if r.random() < 0.4 else random_expr(r, variables, int(r.integers(1, 5)))
        if r.random() < 0.3 and expr.vars:
            expr = grad(expr, one_of(r, expr.vars), variable("Vi", 20, expr.dim) if r.random() < 0.5 else const(1))
        nodes = list(topological(expr))
        if not expr.vars or expr.dim > 40 or len(nodes) > 80 or any(n.op in JUMPS for n in nodes):
            continue
        M, N = one_of(r, SIZES), one_of(r, SIZES)
        dtype = one_of(r, (np.float32, np.float64))
        data = points(r, expr.vars, M, N, dtype)
        wide = values(expr, data, np.longdouble)
        if all(np.isfinite(a).all() and np.abs(a).max() < LARGEST for a in wide.values()):
            return expr, data, M, N, dtype, max(1.0, *(float(np.abs(a).max()) for a in wide.values()))


def judge(seed):
    """A sum, or the largest values, of what a seed draws."""
    r = np.random.default_rng(seed)
    with named(seed):
        expr, data, M, N, dtype, size = drawn(r)
        op, axis = one_of(r, ("Sum", "Sum", "Sum", "Max")), int(r.integers(2))
        ranges = random_ranges(r, M, N).plain if r.random() < 0.4 else None  # orders are the engines' common business
        arrays = [data.get(position) for position in range(1 + max(data))]
        found = BoundReduction(expr, op, axis, arrays, ranges=ranges, sizes=(M, N))()
        held = np.ones((M, N, 1), bool) if ranges is None else ranges.mask(M, N)[..., None]
        terms, eps = dense(expr, data, M, N), float(np.finfo(dtype).eps)
        # what rounding does to NumPy's value it may do to the kernel's, in another order of operations
        slack = 100 * np.abs(dense(expr, data, M, N, dtype) - terms) + 64 * eps * size
        if op == "Sum":
            want, allowed = (np.where(held, a, 0).sum(axis) for a in (terms, slack))
        else:
            want = np.where(held, terms, -np.inf).max(axis, initial=-np.inf)
            allowed = slack.max(axis, initial=0)
        apart = np.where(found == want, 0, np.abs(found - want))
        assert found.shape == want.shape and (apart <= allowed).all(), (str(expr), op, axis, M, N, dtype, apart.max())


@pytest.fixture(scope="module")
def kernels():
    return compiled([partial(judge, seed) for seed in seeds(USUAL)])


@pytest.mark.parametrize("seed", seeds(USUAL))
def test_a_random_formula(seed, kernels, monkeypatch):
    monkeypatch.setattr(cpu, "run", kernels.run)
    with np.errstate(all="ignore"):
        judge(seed)


def test_the_judge_can_convict(monkeypatch):
    """A result that is off by what single precision has no excuse for."""
    run, seen = cpu.run, []

    def off(*args, **options):
        raw = run(*args, **options)
        seen.append(raw.sums)
        return raw if raw.sums is None else raw._replace(sums=raw.sums + 1)

    monkeypatch.setattr(cpu, "run", off)
    convicted = 0
    with np.errstate(all="ignore"):
        for seed in range(20):
            try:
                judge(seed)
            except AssertionError:
                convicted += 1
    assert convicted > 8
