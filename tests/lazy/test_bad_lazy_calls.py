"""Bad calls of LazyTensors end in an error that names what was wanted and what came."""

import re

import numpy as np
import pytest
from bad_lazy_calls import ALONE, BOTH, half_with_data

from kernelops import errors

HALVES = {}  # made once


def run(name, calls):
    """Each call raises its error with its text; LazyTensors are as they were."""
    pytest.importorskip("torch")  # the other half is in every other call
    if name not in HALVES:
        HALVES[name] = half_with_data(name)
    d, wrong = HALVES[name], []
    before = repr(d.K), d.K.ranges, np.array(d.host(d.x))
    for number, (call, error, text) in enumerate(calls):
        pattern = ".*".join(map(re.escape, text.split("...")))
        try:
            result = call(d)
        except Exception as raised:
            said = " ".join(str(raised).split())
            if not isinstance(raised, error) or not re.search(pattern, said):
                wrong.append(f"{number}: {type(raised).__name__}: {said}\n   wanted {error}: {text}")
        else:
            wrong.append(f"{number}: gave {result!r}\n   wanted {error}: {text}")
    assert not wrong, "\n".join(wrong)
    assert (repr(d.K), d.K.ranges) == before[:2]
    np.testing.assert_array_equal(d.host(d.x), before[2])


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_bad_calls(name, kind):
    run(name, BOTH[kind])


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("name", ALONE)
def test_bad_calls_of_one_half(name):
    run(name, ALONE[name])


def test_most_errors_are_those_of_the_package():
    """Python's own ones are those of a call with other arguments than a method has, and of what no object can do."""
    calls = [row for table in (*BOTH.values(), *ALONE.values()) for row in table]
    own = [e for _, e, _ in calls if isinstance(e, type) and e.__module__ == errors.__name__]
    assert len(calls) > 180 and len(calls) - len(own) < 16
