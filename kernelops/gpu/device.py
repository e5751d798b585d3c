"""A GPU: its memory, its kernels and their launches. Nothing is started before :func:`device` is called."""

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

from ..errors import ArgumentError, BackendError
from . import compilers, driver
from .context import Context
from .function import Function

_KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^()]*\) )?(\w+)\(')

_devices: dict[int, Device] = {}  # for the life of the process
_making = threading.Lock()


def device(number: int = -1) -> Device:
    """A GPU by its number; -1 is the one that torch uses at the moment if it uses any, else number 0.

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
    """The module torch.cuda if torch was imported and uses a GPU, else None."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


def _torch_device() -> int:
    torch = _torch()
    return 0 if torch is None else int(torch.current_device())


class Buffer:
    """Memory of a device, freed when it is collected, in any thread; its address alone keeps nothing alive.

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
    """A GPU.

    Attributes
    ----------
    number : int
    name : str
    arch : str
        What a compiler calls it, such as "sm_90".
    multiprocessors : int
    shared_bytes : int
        Shared memory that a block may have if it asks for it.
    memory : int
        Bytes in all.
    double_ratio : float
        The speed of arithmetic in double beside that in float.
    """

    def __init__(self, cuda: Any, number: int) -> None:
        self._cuda, self.number = cuda, number
        self.library = driver.Library()
        self._errors = cuda.Error, driver.DriverError
        self._functions: dict[tuple[str, str | None], Function] = {}
        self._loading = threading.Lock()
        self.name = "?"
        try:
            gpu, attribute = cuda.Device(number), cuda.device_attribute
            self.name = gpu.name()
            capability = gpu.compute_capability()
            self.arch = "sm_{}{}".format(*capability)
            self.double_ratio = double_ratio(capability)
            self.multiprocessors = int(gpu.get_attribute(attribute.MULTIPROCESSOR_COUNT))
            self.shared_bytes = int(gpu.get_attribute(attribute.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN))
            self.memory = int(gpu.total_memory())
            self._context = Context(cuda, self.library, gpu, repr(self))
        except cuda.Error as error:
            raise BackendError(f"{self} cannot be used: {error}") from error

    def __repr__(self) -> str:
        return f"GPU {self.number} ({self.name})"

    def current(self) -> Context:
        """The context that this device's memory and kernels belong to, as the current one inside a ``with``."""
        return self._context

    def synchronise(self, stream: int | None = None) -> None:
        """Wait until everything is done, or everything in a stream; errors of kernels are raised here."""
        with self._context:
            try:
                if stream:
                    self.library.call("cuStreamSynchronize", stream)
                else:
                    self._cuda.Context.synchronize()
            except self._errors as error:
                raise self._context.failure("waiting for it", error) from error

    # ---- kernels ----

    def function(self, source: str, name: str | None = None) -> Function:
        """The kernel of a CUDA text, compiled and loaded when it is first asked for.

        Without a name the text may have one kernel, ``extern "C"``.
        """
        found = self._functions.get((source, name))
        if found is not None:
            driver.check_process()
            return found
        image = compilers.compile_cached(source, self.arch)
        with self._loading:
            found = self._functions.get((source, name))
            if found is None:
                found = self._functions[source, name] = self._load(image, name or _only_kernel(source))
        return found

    def _load(self, image: bytes, name: str) -> Function:
        """Load the module of a kernel."""
        with self._context:
            try:
                return Function(self._cuda, self.library, image, name)
            except self._errors as error:
                raise self._context.failure(f"loading kernel {name}", error) from error

    def launch(
        self,
        function: Function,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        kernel_arguments: Sequence[int],
        stream: int | None = None,
        shared: int = 0,
    ) -> None:
        """Launch a kernel whose arguments have 8 bytes each: addresses and 64-bit integers.

        Parameters
        ----------
        function : Function
        grid, block : tuple of int
            One to three sizes.
        kernel_arguments : sequence of int
        stream : int, optional
            A stream's handle, such as ``torch.cuda.current_stream().cuda_stream``; None or 0 is the default stream.
        shared : int
            Bytes of dynamic shared memory.
        """
        packed = pack(f"{len(kernel_arguments)}q", *kernel_arguments)
        with self._context:
            try:
                function.launch(grid, block, packed, shared, stream or 0)
            except self._errors as error:
                raise self._context.failure(f"launching kernel {function.name}", error) from error

    # ---- memory ----

    def allocate(self, nbytes: int) -> Buffer:
        """Memory that holds anything; an address that is a multiple of 256.

        Where it is not enough, garbage is collected, and torch gives back what it keeps in reserve.
        """
        with self._context:
            try:
                try:
                    return self._try_allocate(nbytes)
                except driver.DriverError as error:
                    if error.code != driver.OUT_OF_MEMORY:
                        raise
                gc.collect()
                torch = _torch()
                if torch is not None:
                    torch.empty_cache()
                return self._try_allocate(nbytes)
            except driver.DriverError as error:
                if error.code == driver.OUT_OF_MEMORY:
                    raise BackendError(self._out_of_memory(nbytes)) from error
                raise self._context.failure(f"allocating {_amount(nbytes)}", error) from error

    def _try_allocate(self, nbytes: int) -> Buffer:
        """Allocate memory; raise DriverError if there is too little."""
        pointer = ctypes.c_uint64()
        self.library.call("cuMemAlloc_v2", ctypes.byref(pointer), max(nbytes, 1))
        return Buffer(self, pointer.value, nbytes)

    def _out_of_memory(self, nbytes: int) -> str:
        """The message that there is too little memory."""
        free, whole = map(_amount, self._cuda.mem_get_info())
        return f"{self} has too little memory: wanted {_amount(nbytes)}; of {whole}, {free} are free"

    def _free(self, pointer: int, ending: Any = sys.is_finalizing) -> None:
        """Free memory, unless the process ends."""
        # at the end of the process the driver may be gone already, and frees everything
        if not ending():
            with suppress(BackendError), self._context:  # a context that is lost, a process that was forked
                self.library.status("cuMemFree_v2", pointer)

    def upload(self, array: np.ndarray, stream: int | None = None) -> Buffer:
        """A copy of an array in C order; the array may change as soon as this returns.

        A kernel that reads the copy in another stream than the default one needs that stream here, too.
        """
        array = np.ascontiguousarray(array)
        buffer = self.allocate(array.nbytes)
        if not array.nbytes:
            return buffer
        with self._context:
            try:
                if stream:
                    to = buffer.pointer, array.ctypes.data, array.nbytes, stream
                    self.library.call("cuMemcpyHtoDAsync_v2", *to)
                    self.library.call("cuStreamSynchronize", stream)
                else:
                    self._cuda.memcpy_htod(buffer.pointer, array)
            except self._errors as error:
                raise self._context.failure(f"copying {_amount(array.nbytes)} there", error) from error
        return buffer

    def check(self, pointer: int) -> None:
        """Refuse memory of another device, or of another context than the one that torch and CuPy use, too."""
        with self.current():
            try:
                number, here = self.library.belongs(pointer)
            except driver.DriverError as error:
                raise BackendError(f"an array lies at {pointer:#x}, which {self} does not know ({error})") from error
        if number != self.number:
            raise BackendError(f"an array is on GPU {number}, the call is for {self}: give device_id={number}")
        if not here:
            raise BackendError(
                f"an array is in another CUDA context than the primary one of {self}, which torch and CuPy use, too: "
                "import pycuda.autoprimaryctx in place of pycuda.autoinit before it is made"
            )

    def download(
        self, pointer: int, shape: tuple[int, ...], dtype: np.dtype | str | type, stream: int | None = None
    ) -> np.ndarray:
        """A copy of the memory at an address, after all that was launched before in that stream."""
        array = np.empty(shape, dtype)
        if not array.nbytes:
            return array
        with self._context:
            try:
                if stream:
                    self.library.call("cuMemcpyDtoHAsync_v2", array.ctypes.data, pointer, array.nbytes, stream)
                    self.library.call("cuStreamSynchronize", stream)
                else:
                    self._cuda.memcpy_dtoh(array, pointer)
            except self._errors as error:
                raise self._context.failure(f"copying {_amount(array.nbytes)} back", error) from error
        return array


def double_ratio(capability: tuple[int, int]) -> float:
    """The speed of arithmetic in double beside that in float, by the throughputs of the CUDA programming guide.

    Examples
    --------
    >>> [double_ratio(c) for c in ((7, 0), (7, 5), (8, 9), (9, 0), (12, 0))]
    [0.5, 0.03125, 0.015625, 0.5, 0.015625]
    """
    if capability in ((6, 0), (7, 0), (8, 0), (9, 0), (10, 0)):
        return 1 / 2
    return 1 / 64 if capability > (8, 0) else 1 / 32


def _only_kernel(source: str) -> str:
    """The name of the one kernel of a text."""
    names = _KERNEL.findall(source)
    if len(names) != 1:
        raise ArgumentError(f"name: wanted, where a text has {len(names)} kernels ({', '.join(names)})")
    return str(names[0])


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
