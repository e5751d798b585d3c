"""A GPU: its memory, its kernels, and what is launched there. Nothing is started before :func:`device` is called."""

from __future__ import annotations

import ctypes
import gc
import operator
import re
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from struct import pack
from typing import Any

import numpy as np

from ...errors import ArgumentError, BackendError
from . import compilers, driver

STATIC_SHARED = 48 << 10  # bytes of shared memory that a block has unless more is asked for
_KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^()]*\) )?(\w+)\(')

_devices: dict[int, Device] = {}  # for the life of the process
_making = threading.Lock()


def device(number: int = -1) -> Device:
    """A GPU by its number; -1 is the one that torch uses at the moment where it uses any, else number 0.

    Raises
    ------
    BackendError
        Where there is no such GPU, or something is missing that it needs, with what to do about it.
    """
    cuda = driver.start()
    number = operator.index(number)
    wished = _torch_device() if number == -1 else number
    found = _devices.get(wished)
    if found is not None:
        return found
    with _making:
        if wished not in _devices:
            count = cuda.Device.count()
            if not 0 <= wished < count:
                there = ", ".join(map(str, range(count))) or "none"
                raise BackendError(f"device: wanted the number of a GPU, got {number}; there are: {there}")
            _devices[wished] = Device(cuda, wished)
        return _devices[wished]


def _torch() -> Any:
    """The module torch.cuda where torch was imported and uses a GPU, else None."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


def _torch_device() -> int:
    torch = _torch()
    return 0 if torch is None else int(torch.current_device())


class _Here(threading.local):
    """The devices whose contexts this thread has made current, one inside the other."""

    def __init__(self) -> None:
        self.entered: list[Device] = []


_here = _Here()


class _Current:
    """``with device.current():`` makes a device's context the current one; may stand inside itself and others."""

    __slots__ = ("_device",)

    def __init__(self, device: Device) -> None:
        self._device = device

    def __enter__(self) -> None:
        entered = _here.entered
        if not (entered and entered[-1] is self._device):
            self._device._push()
        entered.append(self._device)  # after the push, and before the pop: a buffer may be collected at any moment

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        entered = _here.entered
        entered.pop()
        if not (entered and entered[-1] is self._device):
            self._device._pop(quiet=kind is not None)


class Function:
    """A kernel on a device. What is loaded stays loaded for the life of the process."""

    __slots__ = ("_device", "_handle", "_image", "_kernel", "_shared", "name")

    def __init__(self, device: Device, image: bytes, name: str) -> None:
        self.name = name
        self._device, self._image = device, image
        try:
            module = device._cuda.module_from_buffer(image)
        except UnicodeDecodeError:  # PyCUDA shows a log that the driver has not written
            device.library.function(image, name)  # fails, too, and says why
            raise
        _keep(module)  # the destructor of a module unloads it, and ends the process where that fails
        self._kernel = module.get_function(name)
        self._handle: int | None = None
        self._shared = STATIC_SHARED

    def __repr__(self) -> str:
        return f"Function({self.name} on {self._device})"

    def launch(self, grid: tuple[int, ...], block: tuple[int, ...], words: bytes, shared: int, stream: int) -> None:
        """Launch in a context that is current. PyCUDA does it in the default stream.

        In another one the driver does, on a handle of its own: PyCUDA tells nobody its handles, and to send the
        default stream's events back and forth instead would cost four calls a launch, and idle time in between.
        """
        if shared > self._shared:
            self._allow(shared)
        if stream:
            self._device.library.launch(self._own_handle(), grid, block, words, shared, stream)
        else:
            self._kernel._launch_kernel(grid, block, words, shared, None)

    def _own_handle(self) -> int:
        if self._handle is None:
            handle = self._device.library.function(self._image, self.name)
            if self._shared > STATIC_SHARED:
                self._device.library.call("cuFuncSetAttribute", handle, 8, self._shared)
            self._handle = handle
        return self._handle

    def _allow(self, shared: int) -> None:
        attribute = self._device._cuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
        self._kernel.set_attribute(attribute, shared)
        if self._handle is not None:
            self._device.library.call("cuFuncSetAttribute", self._handle, int(attribute), shared)
        self._shared = shared


class Buffer:
    """Memory of a device, freed when it is collected, in whatever thread that happens; its address alone keeps nothing.

    The driver waits for what is at work before it frees, so a buffer need not outlive more than the launches.
    """

    __slots__ = ("__weakref__", "device", "nbytes", "pointer")

    def __init__(self, device: Device, pointer: int, nbytes: int) -> None:
        self.device, self.pointer, self.nbytes = device, pointer, nbytes

    def __repr__(self) -> str:
        return f"Buffer({self.nbytes} bytes at {self.pointer:#x} of {self.device})"

    def __del__(self) -> None:
        self.device._free(self.pointer)


class Device:
    """A GPU, with its primary context, which torch and the CUDA runtime use, too.

    Attributes
    ----------
    number : int
    name : str
    arch : str
        What a compiler calls it, such as "sm_90".
    multiprocessors : int
    shared_bytes : int
        Shared memory that a block may have where it asks for it.
    memory : int
        Bytes in all.
    """

    def __init__(self, cuda: Any, number: int) -> None:
        self._cuda, self.number = cuda, number
        self.library = driver.Library()
        self._errors = cuda.Error, driver.DriverError
        self._lost: str | None = None  # what has ended the context
        self._functions: dict[tuple[str, str | None], Function] = {}
        self._loading = threading.Lock()
        self._current = _Current(self)
        self.name = "?"
        try:
            gpu, attribute = cuda.Device(number), cuda.device_attribute
            self.name = gpu.name()
            self.arch = "sm_{}{}".format(*gpu.compute_capability())
            self.multiprocessors = int(gpu.get_attribute(attribute.MULTIPROCESSOR_COUNT))
            self.shared_bytes = int(gpu.get_attribute(attribute.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN))
            self.memory = int(gpu.total_memory())
            self._context = gpu.retain_primary_context()
        except cuda.Error as error:
            raise BackendError(f"{self} cannot be used: {error}") from error
        _keep(self._context)  # its destructor would release what it has not made

    def __repr__(self) -> str:
        return f"GPU {self.number} ({self.name})"

    # ---- the context ----

    def current(self) -> _Current:
        """The context that this device's memory and kernels belong to, as the current one inside a ``with``."""
        return self._current

    def _push(self) -> None:
        driver.check_process()
        if self._lost:
            raise BackendError(self._lost)
        try:
            self._context.push()
        except self._cuda.Error as error:
            raise self._failure("making it the current one", error) from error

    def _pop(self, quiet: bool) -> None:
        try:
            self._cuda.Context.pop()
        except self._cuda.Error as error:
            with suppress(self._cuda.Error):
                self._context.detach()  # else PyCUDA ends the process for the context that is left on its stack
            self._lose(str(error))
            if not quiet:
                raise BackendError(self._lost) from error

    def _failure(self, doing: str, error: Exception) -> BackendError:
        """What to raise where the driver reports an error; some end the context, and all that follows fails."""
        if self._is_lost():
            self._lose(f"{doing}: {error}")
        return BackendError(self._lost or f"{self}, {doing}: {error}")

    def _lose(self, why: str) -> None:
        self._lost = self._lost or f"{self} is lost to this process, start another one ({why})"

    def _is_lost(self) -> bool:
        if self._lost is None and _here.entered[-1:] == [self]:
            return self.library.status("cuStreamQuery", None) not in (0, driver.NOT_READY)
        return self._lost is not None

    def synchronise(self, stream: int | None = None) -> None:
        """Wait until everything is done, or everything in a stream; errors of kernels are raised here."""
        with self._current:
            try:
                if stream:
                    self.library.call("cuStreamSynchronize", stream)
                else:
                    self._cuda.Context.synchronize()
            except self._errors as error:
                raise self._failure("waiting for it", error) from error

    # ---- kernels ----

    def function(self, source: str, name: str | None = None) -> Function:
        """The kernel of a CUDA text, compiled and loaded when it is first asked for.

        Without a name the text may have one kernel, ``extern "C"``.
        """
        found = self._functions.get((source, name))
        if found is not None:
            driver.check_process()
            return found
        image = compilers.compiled(source, self.arch)
        with self._loading:
            found = self._functions.get((source, name))
            if found is None:
                found = self._functions[source, name] = self._load(image, name or _only_kernel(source))
        return found

    def _load(self, image: bytes, name: str) -> Function:
        with self._current:
            try:
                return Function(self, image, name)
            except self._errors as error:
                raise self._failure(f"loading kernel {name}", error) from error

    def launch(
        self,
        function: Function,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        words: Sequence[int],
        stream: int | None = None,
        shared: int = 0,
    ) -> None:
        """Launch a kernel whose arguments have 8 bytes each: addresses and 64-bit integers.

        Parameters
        ----------
        function : Function
        grid, block : tuple of int
            One to three sizes.
        words : sequence of int
        stream : int, optional
            A stream's handle, such as ``torch.cuda.current_stream().cuda_stream``; None or 0 is the default stream.
        shared : int
            Bytes of dynamic shared memory.
        """
        packed = pack(f"{len(words)}q", *words)
        with self._current:
            try:
                function.launch(grid, block, packed, shared, stream or 0)
            except self._errors as error:
                raise self._failure(f"launching kernel {function.name}", error) from error

    # ---- memory ----

    def allocate(self, nbytes: int) -> Buffer:
        """Memory that holds anything; an address that is a multiple of 256.

        Where it is not enough, what nobody holds any more is collected, and torch gives back what it keeps in reserve.
        """
        with self._current:
            try:
                try:
                    return self._allocated(nbytes)
                except driver.DriverError as error:
                    if error.code != driver.OUT_OF_MEMORY:
                        raise
                gc.collect()
                torch = _torch()
                if torch is not None:
                    torch.empty_cache()
                return self._allocated(nbytes)
            except driver.DriverError as error:
                if error.code == driver.OUT_OF_MEMORY:
                    raise BackendError(self._too_much(nbytes)) from error
                raise self._failure(f"allocating {_amount(nbytes)}", error) from error

    def _allocated(self, nbytes: int) -> Buffer:
        pointer = ctypes.c_uint64()
        self.library.call("cuMemAlloc_v2", ctypes.byref(pointer), max(nbytes, 1))
        return Buffer(self, pointer.value, nbytes)

    def _too_much(self, nbytes: int) -> str:
        free, whole = map(_amount, self._cuda.mem_get_info())
        return f"{self} has too little memory: wanted {_amount(nbytes)}; of {whole}, {free} are free"

    def _free(self, pointer: int, ending: Any = sys.is_finalizing) -> None:
        # at the end of the process the driver may be gone already, and frees everything
        if self._lost is None and not ending() and driver.is_here():
            with suppress(BackendError), self._current:
                self.library.status("cuMemFree_v2", pointer)

    def upload(self, array: np.ndarray, stream: int | None = None) -> Buffer:
        """A copy of an array in C order; the array may change as soon as this returns.

        A kernel that reads the copy in another stream than the default one needs that stream here, too.
        """
        array = np.ascontiguousarray(array)
        buffer = self.allocate(array.nbytes)
        if not array.nbytes:
            return buffer
        with self._current:
            try:
                if stream:
                    to = buffer.pointer, array.ctypes.data, array.nbytes, stream
                    self.library.call("cuMemcpyHtoDAsync_v2", *to)
                    self.library.call("cuStreamSynchronize", stream)
                else:
                    self._cuda.memcpy_htod(buffer.pointer, array)
            except self._errors as error:
                raise self._failure(f"copying {_amount(array.nbytes)} there", error) from error
        return buffer

    def download(
        self, pointer: int, shape: tuple[int, ...], dtype: np.dtype | str | type, stream: int | None = None
    ) -> np.ndarray:
        """What stands at an address, after all that was launched before in that stream."""
        array = np.empty(shape, dtype)
        if not array.nbytes:
            return array
        with self._current:
            try:
                if stream:
                    self.library.call("cuMemcpyDtoHAsync_v2", array.ctypes.data, pointer, array.nbytes, stream)
                    self.library.call("cuStreamSynchronize", stream)
                else:
                    self._cuda.memcpy_dtoh(array, pointer)
            except self._errors as error:
                raise self._failure(f"copying {_amount(array.nbytes)} back", error) from error
        return array


def _only_kernel(source: str) -> str:
    names = _KERNEL.findall(source)
    if len(names) != 1:
        raise ArgumentError(f"name: wanted, where a text has {len(names)} kernels ({', '.join(names)})")
    return str(names[0])


def _keep(thing: Any) -> None:
    """Have an object live until the process ends, whoever lets it go: PyCUDA's destructors end the process at times."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _amount(nbytes: int) -> str:
    """A number of bytes for people, and exactly.

    Examples
    --------
    >>> _amount(12), _amount(3 * 2**30)
    ('12 bytes', '3.0 GiB (3221225472 bytes)')
    """
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit} ({nbytes} bytes)"
    return f"{nbytes} bytes"
