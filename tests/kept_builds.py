"""A folder of the user's own in which the tests keep what takes long to compile, each file under a key of its content.

All lanes of a run share it, and so does the next run. Whoever makes a file writes it beside its place and renames it,
so that two processes may do so at the same time.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from functools import cache
from pathlib import Path

KEPT = 30 * 86400  # seconds for which a file stays after its last use


@cache
def folder() -> Path:
    """The folder, which others may not write to; one that goes with this process if there can be none such."""
    owner = os.getuid() if hasattr(os, "getuid") else 0
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        found = base / "kernelops-tests"
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = found.lstat()
        safe = not found.is_symlink() and facts.st_uid == owner and not facts.st_mode & 0o022
    except OSError:  # a home that is read-only, or none
        safe = False
    if not safe:
        found = Path(tempfile.mkdtemp())
        atexit.register(shutil.rmtree, found, ignore_errors=True)
    for file in found.iterdir():
        with contextlib.suppress(OSError):  # another process may remove it at the same time
            if file.is_file() and file.stat().st_mtime < time.time() - KEPT:
                file.unlink()
    return found


def key_of(*parts: str | bytes) -> str:
    """A name for what is made from these texts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


def kept(name: str, make) -> Path:
    """The file of that name; ``make(path)`` writes it to a path if it is not there yet."""
    path = folder() / name
    if not path.is_file():
        unfinished = Path(tempfile.mkdtemp(dir=folder())) / name
        try:
            make(unfinished)
            os.replace(unfinished, path)
        finally:
            shutil.rmtree(unfinished.parent, ignore_errors=True)
    os.utime(path)
    return path
