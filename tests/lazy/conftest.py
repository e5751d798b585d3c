"""The halves that tests of LazyTensors run at."""

import lazy_doors
import pytest


def pytest_configure(config):
    # torch's own forward mode scripts its formulas when it is first used
    config.addinivalue_line("filterwarnings", "ignore:.torch.jit.script. is deprecated:DeprecationWarning")


@pytest.fixture(params=["numpy", "torch"])
def half(request):
    return lazy_doors.half(request.param)


@pytest.fixture
def torch_half():
    return lazy_doors.half("torch")
