"""The context of a GPU: made current, restored even after an exception, and given up when it is lost."""

from __future__ import annotations

import atexit
import ctypes
import threading
from contextlib import suppress
from typing import Any

from ..errors import BackendError
from . import driver


class _Here(threading.local):
    """The contexts that this thread has made current, one inside the other."""

    def __init__(self) -> None:
        self.entered: list[Context] = []


_here = _Here()
_made: list[Any] = []  # PyCUDA's contexts


class Context:
    """A GPU's primary context, which torch and the CUDA runtime use, too, as the current one inside a ``with``.

    May stand inside itself, where it costs next to nothing, and inside others.

    Attributes
    ----------
    lost : str or None
        What to say if an error has ended the context: nothing can be done with it in this process any more.
    """

    def __init__(self, cuda: Any, library: driver.Library, gpu: Any, owner: str) -> None:
        self._cuda, self._library, self._owner = cuda, library, owner
        self.lost: str | None = None
        self._context = gpu.retain_primary_context()  # once, and for the life of the process
        keep(self._context)  # its destructor would release what it has not made
        if not _made:
            atexit.register(_clear, cuda)
        _made.append(self._context)

    def __enter__(self) -> None:
        entered = _here.entered
        if not (entered and entered[-1] is self):
            self._push()
        entered.append(self)  # after the push, and before the pop: a buffer may be collected at any moment

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        entered = _here.entered
        entered.pop()
        if not (entered and entered[-1] is self):
            self._pop(quiet=kind is not None)

    def _push(self) -> None:
        """Make the context the current one."""
        driver.check_process()
        if self.lost:
            raise BackendError(self.lost)
        try:
            self._context.push()
        except self._cuda.Error as error:
            raise self.failure("making it the current one", error) from error

    def _pop(self, quiet: bool) -> None:
        """Make the context before it the current one; if that fails this one is lost."""
        try:
            self._cuda.Context.pop()
        except self._cuda.Error as error:
            _forget(self._cuda, self._context)
            if driver.is_forked():
                return
            self._lose(str(error))
            if not quiet:
                raise BackendError(self.lost) from error

    def failure(self, doing: str, error: Exception) -> BackendError:
        """The exception for an error that the driver reports; some errors end the context."""
        said = str(error).rstrip("- ")  # PyCUDA puts a dash before what a compiler says, even if it says nothing
        if self.lost is None and _here.entered[-1:] == [self]:
            status = self._library.status("cuStreamQuery", None)
            if status not in (0, driver.NOT_READY) and status not in driver.OF_CAPTURES:
                self._lose(f"{doing}: {said}")
        return BackendError(self.lost or f"{self._owner}, {doing}: {said}")

    def _lose(self, why: str) -> None:
        """Note that the context has ended, and why."""
        self.lost = self.lost or f"{self._owner} is lost to this process, start another one ({why})"


def _clear(cuda: Any) -> None:
    """Take off PyCUDA's stack, as the process ends, what interrupts within a push or a pop have left on it."""
    while any((top := cuda.Context.get_current()) is context for context in _made):
        try:
            cuda.Context.pop()
        except cuda.Error:
            _forget(cuda, top)


def _forget(cuda: Any, context: Any) -> None:
    """Take a context off PyCUDA's stack that cannot be popped: PyCUDA ends the process, or the thread, with an abort
    if one is left; and what is detached it finds no more."""
    with suppress(cuda.Error):
        context.detach()


def keep(thing: Any) -> None:
    """Keep an object alive until the process ends: PyCUDA's destructors end the process at times."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
