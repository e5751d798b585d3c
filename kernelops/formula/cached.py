"""A property that is computed once, without a lock; and locks that a forked child finds open.

Before Python 3.12 functools.cached_property holds a lock while it computes, one for all objects: threads wait for each
other, and a child that is forked meanwhile waits for ever, for a thread that it does not have.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from functools import cached_property
else:

    class cached_property:  # noqa: N801
        """The value of a method, kept in the object; two threads may both compute it."""

        def __init__(self, function: Any) -> None:
            self.function, self.__doc__ = function, function.__doc__

        def __set_name__(self, owner: type, name: str) -> None:
            self.name = name

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            if instance is None:
                return self
            kept = instance.__dict__
            if self.name not in kept:
                kept[self.name] = self.function(instance)
            return kept[self.name]


def make_lock() -> threading.Lock:
    """A lock for a dictionary or the like; in a forked child it is open, even if it was held at the fork."""
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lock._at_fork_reinit)  # type: ignore[attr-defined]
    return lock


__all__ = ["cached_property", "make_lock"]
