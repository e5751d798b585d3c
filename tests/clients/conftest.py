"""Packages that compute by pykeops, here by kernelops: `make test-clients` installs them and runs what is here."""

import importlib.util
import os

import pytest

from kernelops import compat

PACKAGES = ("geomloss", "gpytorch", "linear_operator")


def find_reason_to_skip():
    """What the tests of this folder lack; empty if nothing."""
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}; make test-clients does it"
    return "" if compat.is_installed() else "pykeops is not kernelops here; make test-clients has it so"


REASON = find_reason_to_skip()


@pytest.fixture(autouse=True)
def have_the_clients():
    """Skip, or fail if nothing may be skipped."""
    if REASON:
        (pytest.fail if os.environ.get("KERNELOPS_CI") else pytest.skip)(REASON)
