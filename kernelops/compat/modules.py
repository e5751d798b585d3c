"""What each module of pykeops and keopscore holds here: the names that packages and scripts import from KeOps 2.3.

MODULES has a function for each module, which makes its names when it is first imported; COMPUTED has values that take a
look at the machine, and are found when they are asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from ..arrays.device_array import on_device
from ..backends import available_backends, find_gpus
from . import dense, numpy, settings, truthy

VERSION = "2.3"  # the version of KeOps whose names these are

Names = dict[str, Any]
CLUSTER = "cluster"


def _half(name: str) -> ModuleType:
    """kernelops.compat.numpy or kernelops.compat.torch, which imports PyTorch."""
    return numpy if name == "numpy" else import_module("kernelops.compat.torch")


def _public(module: ModuleType, *wanted: str) -> Names:
    """The public names of a module but its cluster helpers, or those that are wanted."""
    names = wanted or tuple(name for name in module.__all__ if name != CLUSTER)
    return {name: getattr(module, name) for name in names} | {"__all__": list(names)}


def _top() -> Names:
    return {
        "__version__": VERSION,
        "verbose": os.environ.get("PYKEOPS_VERBOSE") != "0",
        "default_device_id": 0,
        **_found(),
        **_public(settings),
    }


def _found() -> Names:
    return {"numpy_found": True, "torch_found": find_spec("torch") is not None}


def _config() -> Names:
    return {**_found(), "get_build_folder": settings.get_build_folder}


def _keopscore() -> Names:
    return {
        "__version__": VERSION,
        "verbose": os.environ.get("KEOPS_VERBOSE") != "0",
        "auto_factorize": False,
        "debug_ops": False,
        "debug_ops_at_exec": False,
        "check_health": settings.check_health,
        "clean_keops": settings.clean_pykeops,
        "set_build_folder": settings.set_build_folder,
    }


def _keopscore_config() -> Names:
    return {"get_build_folder": settings.get_build_folder, "set_different_build_folder": settings.set_build_folder}


def _cuda() -> Names:
    return {"get_use_cuda": gpu_is_usable}


def _utils() -> Names:
    names = ("WarmUpGpu", "axis2cat", "cat2axis", "check_broadcasting", "max_tuple")
    return _public(settings, *names, "pyKeOps_Message", "pyKeOps_Print", "pyKeOps_Warning")


def _lazy_tensor() -> Names:
    return _public(truthy, "ComplexGenericLazyTensor", "GenericLazyTensor", "is_complex_lazytensor")


def gpu_is_usable() -> bool:
    """Whether reductions can be computed on a GPU here."""
    return available_backends()["GPU"].usable


def is_on_device(x: Any) -> bool:
    """Whether an array or a tensor is on a GPU."""
    return on_device(x)


def get_gpu_number() -> int:
    """The number of GPUs that the driver names."""
    return len(find_gpus()["devices"])


def _of_half(half: str) -> dict[str, Callable[[], Names]]:
    """The modules of pykeops.numpy or pykeops.torch."""
    root = f"pykeops.{half}"
    lazy = ("ComplexLazyTensor", "LazyTensor", "Pm", "Var", "Vi", "Vj")
    generic = ("generic_argkmin", "generic_argmin", "generic_logsumexp", "generic_sum")
    return {
        root: lambda: _public(_half(half)),
        f"{root}.cluster": lambda: _public(_half(half).cluster),
        f"{root}.generic": lambda: _public(_half(half), "Genred", *generic),
        f"{root}.generic.generic_red": lambda: _public(_half(half), "Genred"),
        f"{root}.generic.generic_ops": lambda: _public(_half(half), *generic),
        f"{root}.lazytensor": dict,
        f"{root}.lazytensor.LazyTensor": lambda: _public(_half(half), *lazy),
        f"{root}.operations": lambda: _public(_half(half), "KernelSolve"),
        f"{root}.utils": lambda: {
            **_public(_half(half), "Genred", "KernelSolve"),
            **dense.functions(half),
            "IsGpuAvailable": gpu_is_usable,
            "WarmUpGpu": settings.WarmUpGpu,
            "is_on_device": is_on_device,
        },
    }


MODULES: dict[str, Callable[[], Names]] = {
    "pykeops": _top,
    "pykeops.config": _config,
    "pykeops.config.cuda": lambda: {
        "is_available": gpu_is_usable
    },  # what KeOps' newest scripts ask instead of gpu_available
    "pykeops.common": dict,
    "pykeops.common.gpu_utils": lambda: {"get_gpu_number": get_gpu_number},
    "pykeops.common.lazy_tensor": _lazy_tensor,
    "pykeops.common.parse_type": lambda: _public(settings, "categories", "get_sizes", "get_type"),
    "pykeops.common.utils": _utils,
    **_of_half("numpy"),
    **_of_half("torch"),
    "keopscore": _keopscore,
    "keopscore.config": _keopscore_config,
    "keopscore.config.config": _keopscore_config,
    "keopscore.config.cuda_config": _cuda,
}
COMPUTED: dict[str, Callable[[], Any]] = {
    "pykeops.config.gpu_available": gpu_is_usable,
    "pykeops.show_cuda_status": gpu_is_usable,
    "keopscore.show_cuda_status": gpu_is_usable,
    "keopscore.config.use_cuda": gpu_is_usable,
    "keopscore.config.config.use_cuda": gpu_is_usable,
    "keopscore.build_folder": settings.get_build_folder,
}

__all__ = ["COMPUTED", "MODULES", "VERSION", "get_gpu_number", "gpu_is_usable", "is_on_device"]
