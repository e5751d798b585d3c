"""A kernel that is loaded on a GPU."""

from __future__ import annotations

from typing import Any

from . import driver
from .context import keep

STATIC_SHARED = 48 << 10  # a block has so many bytes of shared memory unless more is asked for


class Function:
    """A kernel on a device, whose context must be current. What is loaded stays for the life of the process."""

    __slots__ = ("_cuda", "_handle", "_image", "_kernel", "_library", "_shared", "name")

    def __init__(self, cuda: Any, library: driver.Library, image: bytes, name: str) -> None:
        self.name = name
        self._cuda, self._library, self._image = cuda, library, image
        try:
            module = cuda.module_from_buffer(image)
        except UnicodeDecodeError:  # PyCUDA shows a log that the driver has not written
            library.function(image, name)  # fails, too, and says why
            raise
        keep(module)  # the destructor of a module unloads it, and ends the process if that fails
        self._kernel = module.get_function(name)
        self._handle: int | None = None
        self._shared = STATIC_SHARED

    def __repr__(self) -> str:
        return f"Function({self.name})"

    def launch(self, grid: tuple[int, ...], block: tuple[int, ...], packed: bytes, shared: int, stream: int) -> None:
        """Launch. PyCUDA does it in the default stream, whose handle is 0.

        In another one the driver does, on a handle of its own: PyCUDA does not show its handles, and to send the
        default stream's events back and forth instead would cost four calls a launch, and idle time in between.
        """
        if shared > self._shared:
            self._allow(shared)
        if stream:
            self._library.launch(self._own_handle(), grid, block, packed, shared, stream)
        else:
            self._kernel._launch_kernel(grid, block, packed, shared, None)

    def _own_handle(self) -> int:
        """The handle by which the driver launches the kernel on a stream; loaded when it is first wanted."""
        if self._handle is None:
            handle = self._library.function(self._image, self.name)
            if self._shared > STATIC_SHARED:
                self._library.call("cuFuncSetAttribute", handle, driver.MOST_SHARED, self._shared)
            self._handle = handle
        return self._handle

    def _allow(self, shared: int) -> None:
        """Allow the kernel so many bytes of dynamic shared memory."""
        self._kernel.set_attribute(self._cuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES, shared)
        if self._handle is not None:
            self._library.call("cuFuncSetAttribute", self._handle, driver.MOST_SHARED, shared)
        self._shared = shared
