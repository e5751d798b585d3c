"""Tools that a test needs and that a machine may lack."""

import os

import pytest


def needs(missing):
    """Skip the test where something is missing; fail it where KERNELOPS_CI says that all must be there."""
    if missing:
        (pytest.fail if os.environ.get("KERNELOPS_CI") else pytest.skip)(missing)
