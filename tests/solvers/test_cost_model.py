"""Predicted costs: they grow with what is counted, and the extrapolated rank is the best of those looked at."""

from types import SimpleNamespace

import numpy as np
import pytest

from kernelops.solvers.cost_model import Costs, extrapolate


def entries(n=5000, work=10.0, density=1.0, dimension=3):
    coordinates = None if dimension is None else np.zeros((1, dimension))
    return SimpleNamespace(n=n, work=work, density=density, coordinates=coordinates)


def costs(columns=1, double=True, digits=14.0, **changes):
    return Costs(entries(**changes), columns, double, digits)


GROWS = {  # name -> (cost, changes in the order in which it must grow)
    "iteration by n": (lambda c: c.iteration, [{"n": n} for n in (10, 100, 1000, 10_000)]),
    "iteration by work": (lambda c: c.iteration, [{"work": w} for w in (1, 10, 100)]),
    "iteration by columns": (lambda c: c.iteration, [{"columns": k} for k in (1, 2, 50)]),
    "iteration by density": (lambda c: c.iteration, [{"density": d} for d in (0.01, 0.1, 1)]),
    "iteration by precision": (lambda c: c.iteration, [{"double": d} for d in (False, True)]),
    "direct by n": (lambda c: c.direct(), [{"n": n} for n in (10, 100, 1000, 10_000)]),
    "direct by columns": (lambda c: c.direct(), [{"columns": k} for k in (1, 10, 100)]),
    "an entry by work": (lambda c: c.direct(), [{"work": w} for w in (50, 100, 1000)]),
    "low rank by n": (lambda c: c.low_rank(100, 1.0), [{"n": n} for n in (100, 1000, 10_000)]),
    "low rank by digits": (lambda c: c.low_rank(100, 1.0), [{"digits": d} for d in (5, 10, 20)]),
    "sparse by n": (lambda c: c.sparse(200, 30), [{"n": n} for n in (100, 1000, 10_000)]),
    "sparse by dimension": (lambda c: c.sparse(200, 30), [{"dimension": d} for d in (3, 4)]),
    "plain by digits": (lambda c: c.plain(100.0), [{"digits": d} for d in (5, 10, 20)]),
}


@pytest.mark.parametrize("name", GROWS)
def test_costs_grow(name):
    cost, changes = GROWS[name]
    values = [cost(costs(**change)) for change in changes]
    assert all(0 < a < b for a, b in zip(values, values[1:], strict=False)), values


def test_costs_of_what_is_asked_of_them():
    c = costs()
    assert c.low_rank(100, 1.0) < c.low_rank(100, 4.0) and c.sparse(0, 30) < c.sparse(200, 30) < c.sparse(200, 50)
    assert c.low_rank(200, 1.0) > c.low_rank(100, 1.0)  # where more columns lower nothing
    assert c.plain(1.0) < c.plain(100.0) < c.plain(1e4)
    assert c.direct() == c.direct(1) < c.direct(2) and c.direct(2, single=True) < c.direct(2)
    assert c.single(1e-7) < c.single(1e-3) < c.single(0.5)  # the more a correction leaves, the more of them
    assert c.plain(1e20) == c.plain(1e30) == (1 + 5000) * c.iteration  # no more than n iterations
    assert costs(work=1).entry == costs(work=2).entry  # an entry by itself costs a while whatever it is
    assert [costs(dimension=d).flat for d in (1, 3, 4, None)] == [True, True, False, False]


@pytest.mark.parametrize("n", [1000, 2000, 4000, 8000])
def test_many_columns_are_for_a_dense_factor(n):
    """1,000 of them: iterating takes a product with all of them at each step, a factor two triangular solves in all."""
    for dimension in (2, 6):
        c = costs(columns=1000, double=False, n=n, dimension=dimension)
        assert c.direct() < min(c.sparse(200, 30), c.plain(100.0))
        few = costs(columns=1, double=False, n=n, dimension=dimension)
        # ns of a column: 2 n^2 operations by blocks, and as many of a product; by vectors it would be ten times that
        assert (c.direct() - few.direct()) / 999 < 0.2 * n**2


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("trace", [1e-3, 1.0, 1e4])
def test_the_extrapolated_rank(trace, power):
    """Between k and the most, no worse than either, and as far as the trace falls."""
    c = costs(n=20_000)
    rank, cost = extrapolate(c, 64, trace, power, 1500)
    predicted = {r: c.low_rank(r, trace * (64 / r) ** power) for r in (64, rank, 1500)}
    assert 64 <= rank <= 1500 and cost == predicted[rank] == min(predicted.values())
    if power == 0:
        assert rank == 64
    assert extrapolate(c, 1500, trace, power, 1500) == (1500, c.low_rank(1500, trace))


def test_more_columns_where_the_trace_falls():
    c = costs(n=20_000, work=100)
    assert extrapolate(c, 64, 1e4, 2.0, 1500)[0] > 64
    assert extrapolate(c, 64, 1e8, 1.0, 1500)[0] == 1500
    assert extrapolate(c, 64, 1e-8, 4.0, 1500)[0] == 64
