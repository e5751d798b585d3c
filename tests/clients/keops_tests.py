"""A plugin of pytest for KeOps' own tests, which `make test-keops` runs in a process whose pykeops is kernelops.

They lie where pip has put them, in pykeops.test. Each begins with the same random numbers: one of them has no seed and
fails for some. The session fails if fewer pass than KeOps 2.3 has for a CPU, whatever was not collected or skipped.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from kernelops import compat

WANTED = 72  # the tests of KeOps 2.3 that need no GPU


def pytest_configure(config):
    if not compat.is_installed():
        raise pytest.UsageError("these tests are about kernelops: python -m kernelops.compat -m pytest ...")


def pytest_runtest_setup(item):
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def passed(config):
    reports = config.pluginmanager.get_plugin("terminalreporter").stats.get("passed", [])
    return len({report.nodeid for report in reports if report.when == "call"})


def pytest_sessionfinish(session):
    if session.config.option.keyword or session.exitstatus != pytest.ExitCode.OK:
        return
    if passed(session.config) < WANTED:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    terminalreporter.write_line(f"{passed(config)} of KeOps' tests pass by kernelops, of {WANTED} that need no GPU")
