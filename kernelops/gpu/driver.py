"""The CUDA driver by PyCUDA, which is imported when it is first wanted, and what goes wrong with either, in words.

Two things PyCUDA does not do. It has no launch and no copy in a stream that it has not made itself, such as torch's.
And what it allocates is freed in a destructor that ends the process if the context is lost, and that does nothing in
another thread than the first. For these :class:`Library` calls the driver's library, the one that PyCUDA has loaded.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

from ..errors import BackendError
from .locate import DRIVER_LIBRARY

OUT_OF_MEMORY = 2
NOT_READY = 600
OF_CAPTURES = range(900, 910)  # errors of calls that are not allowed while a graph is captured; nothing is lost
MOST_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_CONTEXT, _ORDINAL = 1, 9  # CU_POINTER_ATTRIBUTE_CONTEXT and _DEVICE_ORDINAL
_PARAM_BUFFER_POINTER = 1  # CU_LAUNCH_PARAM_BUFFER_POINTER
_PACKED_BYTES = 2  # CU_LAUNCH_PARAM_BUFFER_SIZE

_pointer, _size, _handle, _uint = ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_uint
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuGetErrorString": (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)),
    "cuMemAlloc_v2": (ctypes.POINTER(_pointer), _size),
    "cuMemFree_v2": (_pointer,),
    "cuMemcpyHtoDAsync_v2": (_pointer, ctypes.c_void_p, _size, _handle),
    "cuMemcpyDtoHAsync_v2": (ctypes.c_void_p, _pointer, _size, _handle),
    "cuPointerGetAttribute": (ctypes.c_void_p, ctypes.c_int, _pointer),
    "cuCtxGetCurrent": (ctypes.POINTER(_handle),),
    "cuStreamSynchronize": (_handle,),
    "cuStreamQuery": (_handle,),
    "cuModuleLoadData": (ctypes.POINTER(_handle), ctypes.c_char_p),
    "cuModuleGetFunction": (ctypes.POINTER(_handle), _handle, ctypes.c_char_p),
    "cuFuncSetAttribute": (_handle, ctypes.c_int, ctypes.c_int),
    "cuLaunchKernel": (_handle, *[_uint] * 7, _handle, ctypes.c_void_p, ctypes.c_void_p),
}

_started_in: int | None = None  # the process


class DriverError(Exception):
    """A call of the driver's library that has failed."""

    def __init__(self, call: str, code: int, text: str) -> None:
        super().__init__(f"{call} failed: {text}")
        self.code = code


class Library:
    """The driver's own functions, for handles and addresses that are plain numbers; a context must be current."""

    def __init__(self) -> None:
        self._library = getattr(ctypes, "WinDLL", ctypes.CDLL)(DRIVER_LIBRARY)
        for name, types in _SIGNATURES.items():
            getattr(self._library, name).argtypes = types

    def status(self, name: str, *arguments: Any) -> int:
        """The status of a call: 0, or the number of an error."""
        return int(getattr(self._library, name)(*arguments))

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the library; raise DriverError if it fails."""
        code = self.status(name, *arguments)
        if code:
            text = ctypes.c_char_p()
            self.status("cuGetErrorString", code, ctypes.byref(text))
            raise DriverError(name, code, (text.value or b"unknown error").decode())

    def belongs(self, pointer: int) -> tuple[int, bool]:
        """The device of an address, and whether the memory is of the context that is current, or of a pool of none."""
        ordinal, context, current = ctypes.c_int(), _handle(), _handle()
        self.call("cuPointerGetAttribute", ctypes.byref(ordinal), _ORDINAL, pointer)
        self.call("cuPointerGetAttribute", ctypes.byref(context), _CONTEXT, pointer)
        self.call("cuCtxGetCurrent", ctypes.byref(current))
        return ordinal.value, context.value in (None, current.value)

    def function(self, image: bytes, name: str) -> int:
        """The handle of a kernel; its module is never unloaded."""
        module, function = _handle(), _handle()
        self.call("cuModuleLoadData", ctypes.byref(module), image)
        self.call("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
        return int(function.value or 0)

    def launch(
        self, function: int, grid: tuple[int, ...], block: tuple[int, ...], packed: bytes, shared: int, stream: int
    ) -> None:
        """Launch a kernel with packed arguments and ``shared`` bytes of dynamic shared memory on a stream."""
        size = _size(len(packed))
        pointer = ctypes.cast(ctypes.c_char_p(packed), _handle)
        told = (_handle * 5)(_PARAM_BUFFER_POINTER, pointer.value, _PACKED_BYTES, ctypes.addressof(size), None)
        sizes = (*(*grid, 1, 1)[:3], *(*block, 1, 1)[:3])
        self.call("cuLaunchKernel", function, *sizes, shared, stream, None, told)


def start() -> Any:
    """The module pycuda.driver, after CUDA has started in this process.

    Raises
    ------
    BackendError
        Where something is missing, with what to do about it.
    """
    global _started_in
    if _started_in is not None:
        check_process()
        return sys.modules["pycuda.driver"]
    try:
        import pycuda.driver as cuda
    except ImportError as error:
        raise BackendError(_not_imported(error)) from error
    try:
        cuda.init()
    except cuda.Error as error:
        raise BackendError(_not_started(str(error))) from error
    _started_in = os.getpid()
    return cuda


def is_forked() -> bool:
    """Whether this process was forked after CUDA had started."""
    return _started_in is not None and _started_in != os.getpid()


def check_process() -> None:
    """Raise BackendError in a process that was forked after CUDA had started: nothing of CUDA works there."""
    if is_forked():
        raise BackendError(
            "CUDA was started before this process was forked, and cannot be used in it; start workers without forking,"
            ' multiprocessing.set_start_method("spawn"), or use the GPU in them only'
        )


def _not_imported(error: ImportError) -> str:
    """The reason why PyCUDA cannot be imported, and what to do."""
    text = str(error)
    if error.name == "pycuda":
        return 'the GPU needs PyCUDA, which is not installed: pip install "kernelops[cuda]"'
    if "undefined symbol" in text:
        return f"PyCUDA was built for a newer NVIDIA driver than there is ({text}): update the driver"
    if DRIVER_LIBRARY.partition(".")[0] in text or "DLL load failed" in text:
        return (
            f"the NVIDIA driver is missing: its library {DRIVER_LIBRARY} cannot be loaded ({text});"
            " install the driver, and see by nvidia-smi whether it works"
        )
    return f'PyCUDA cannot be imported ({text}): pip install --force-reinstall "kernelops[cuda]"'


def _not_started(text: str) -> str:
    """The reason why CUDA does not start, and what to do."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    limit = "" if visible is None else f" that CUDA_VISIBLE_DEVICES={visible} allows"
    advice = f"nvidia-smi lists the GPUs{limit} and says what is wrong"
    if "initialization error" in text:
        advice = "a process that was forked after CUDA had started cannot use it; otherwise " + advice
    return f"CUDA does not start ({text}); {advice}"
