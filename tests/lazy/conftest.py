"""The halves that tests of LazyTensors run at."""

import lazy_doors
import pytest

from kernelops import compat


def pytest_configure(config):
    # torch's own forward mode scripts its formulas when it is first used
    config.addinivalue_line("filterwarnings", "ignore:.torch.jit.script. is deprecated:DeprecationWarning")


@pytest.fixture(params=["numpy", "torch"])
def half(request):
    return lazy_doors.half(request.param)


@pytest.fixture
def torch_half():
    return lazy_doors.half("torch")


@pytest.fixture(params=["numpy", "torch"])
def keops(request):
    """One half of pykeops, which is kernelops.compat meanwhile: its names, and how its arrays are made and read."""
    with compat.as_pykeops():
        yield lazy_doors.half(request.param, "pykeops")


@pytest.fixture
def torch_keops():
    """The half of pykeops for tensors."""
    with compat.as_pykeops():
        yield lazy_doors.half("torch", "pykeops")
