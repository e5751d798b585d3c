"""A campaign of solves: whatever a status claims is true in long double, nothing but the package's errors comes out.

KERNELOPS_FUZZ_SEEDS solves from number KERNELOPS_FUZZ_FIRST on; the suite has some that are always the same.
"""

import os
import warnings
from functools import cache

import pytest
from random_solves import make, run
from solve_judge import judge

from kernelops import errors

FIRST, SEEDS = (int(os.environ.get(f"KERNELOPS_FUZZ_{name}", usual)) for name, usual in (("FIRST", 0), ("SEEDS", 400)))
TOGETHER = 50
REFUSALS = (errors.ArgumentError,)


@cache
def outcome(seed):
    """What is wrong with the solve of a number; its status, and the text of the case."""
    case = make(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            returned, solution = run(case)
    except REFUSALS as error:
        return ([] if case.refusable else [f"refused: {error}"]), "refused", str(case)
    except Exception as error:  # whatever it is: it should not have come out
        return [f"{type(error).__module__}.{type(error).__name__}: {error}"], "error", str(case)
    return judge(case, returned, solution), getattr(solution, "status", solution), str(case)


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, TOGETHER))
def test_what_a_solve_says(first):
    found = []
    for seed in range(first, min(first + TOGETHER, FIRST + SEEDS)):
        wrong, _, case = outcome(seed)
        found += [f"seed {seed}: {sentence}\n  {case}" for sentence in wrong]
    assert not found, "\n".join(found)


def test_the_campaign_reaches_every_status():
    """What is judged above are not refusals all the time."""
    seen = {outcome(seed)[1] for seed in range(150)}
    assert {"converged", "nonfinite", "not positive definite", "stagnated", "maxiter", "refused", 0} <= seen
