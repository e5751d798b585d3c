"""Compiled kernels that are kept from one process to the next: one file a key, in a folder of the user's.

A file is written under a name of its own and then renamed, so no process sees half of it; it holds a checksum of its
content, so one that was cut or changed is made again. Nothing waits: processes that want the same at once each make it.
If the folder cannot be used, kernels are compiled in every process, and one warning says so.

A kernel is a program, and a checksum is no signature: what another user could have put there is not run. The folder
and the files must be the user's or root's, and writable by no other user (on Windows the user's folders are private).
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from ..errors import ArgumentError

MEGABYTES = 256.0  # the folder may hold so many unless KERNELOPS_CACHE_SIZE says otherwise
MAGIC = b"kernelops kernel 1\n"  # the number changes with the layout of the files
HEAD = len(MAGIC) + hashlib.sha256().digest_size  # bytes before the content of a file
FILE = re.compile(r"[0-9a-f]{64}\.kernel")
UNFINISHED = re.compile(r"[0-9a-f]{64}\.kernel\.[0-9a-f]+\.part")
OTHERS = stat.S_IWGRP | stat.S_IWOTH  # the modes in which other users may write
READING = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
WRITING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_BINARY"))
ABANDONED = 3600.0  # seconds after which a file that was never renamed may be removed

_warned = False


def key_of(parts: Iterable[str]) -> str:
    """The key of what is made from some texts; it depends on each of them, and on where one ends."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()


def get_or_make(key: str, make: Callable[[], bytes]) -> bytes:
    """The result of make(), read from the folder if it is there, else made and written to it."""
    limit = _limit()
    path = None if limit == 0 else _path(key)
    found = None if path is None else _read(path)
    if found is None:
        found = make()
        if path is not None and HEAD + len(found) <= limit:
            _write(path, found, limit)
    return found


def folder() -> Path | None:
    """The folder of compiled kernels: KERNELOPS_CACHE_DIR, else "kernelops" in the user's cache folder, or None.

    Nothing is made or looked at.
    """
    wished = os.environ.get("KERNELOPS_CACHE_DIR")
    if wished:
        return Path(os.path.expanduser(wished)).absolute()
    found = _users_folder()
    return found if found.is_absolute() else None  # "~" stays as it is if there is no home


def _users_folder() -> Path:
    """The folder of caches that the system has for a user, extended by this package's name."""
    try:
        from platformdirs import user_cache_path
    except ImportError:
        pass
    else:
        return Path(user_cache_path("kernelops", appauthor=False))
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/AppData/Local"), "kernelops", "Cache")
    if sys.platform == "darwin":
        return Path(os.path.expanduser("~/Library/Caches/kernelops"))
    given = os.environ.get("XDG_CACHE_HOME", "")
    return Path(given if os.path.isabs(given) else os.path.expanduser("~/.cache"), "kernelops")


def _limit() -> int:
    """Bytes that the folder may hold; 0 means that nothing is kept."""
    given = os.environ.get("KERNELOPS_CACHE_SIZE", "").strip()
    try:
        megabytes = float(given) if given else MEGABYTES
    except ValueError:
        megabytes = -1.0
    if not 0 <= megabytes < float("inf"):
        raise ArgumentError(f"KERNELOPS_CACHE_SIZE = {given!r}: wanted megabytes, a number that is at least 0")
    return int(megabytes * 2**20)


def _path(key: str) -> Path | None:
    """The file of a key; None, with a warning, if its folder must not be used."""
    where = folder()
    why = "there is no home folder" if where is None else _reason_for_distrust(where)
    if where is None or why is not None:
        _warn(str(why))
        return None
    return where / f"{key}.kernel"


def _reason_for_distrust(where: Path) -> str | None:
    """Why a folder must not be used, with what would help; None if it may be used, or does not exist."""
    try:
        link, facts = os.lstat(where), os.stat(where)
    except OSError:
        return None
    for some in (link, facts):
        if not _is_own(some):
            return f"{where} belongs to user {some.st_uid}, who could put any kernel there; take a folder of your own"
    if _is_writable_by_others(facts):
        return f"others may write to {where} and could put any kernel there; chmod go-w takes that away"
    return None


def _is_own(facts: os.stat_result) -> bool:
    """Whether a file or folder belongs to the user or to root."""
    return not hasattr(os, "geteuid") or facts.st_uid in (os.geteuid(), 0)


def _is_writable_by_others(facts: os.stat_result) -> bool:
    """Whether other users may write to it."""
    return hasattr(os, "geteuid") and bool(facts.st_mode & OTHERS)


def _read(path: Path) -> bytes | None:
    """The content of a file, or None if it is missing, not whole or not to be trusted."""
    try:
        file = os.open(path, READING)  # a link is refused, and a pipe does not wait for a writer
    except OSError:
        return None
    try:
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode) or not _is_own(facts) or _is_writable_by_others(facts):
            return None
        with open(file, "rb", closefd=False) as opened:
            data = opened.read()
        content = data[HEAD:]
        if data[:HEAD] != _head(content):
            return None
        with suppress(OSError):  # a folder that only can be read
            os.utime(file if os.utime in os.supports_fd else path)  # when it was used last
    except OSError:
        return None
    finally:
        os.close(file)
    return content


def _head(content: bytes) -> bytes:
    """The bytes in front of a content, by which a damaged file is recognised."""
    return MAGIC + hashlib.sha256(content).digest()


def _write(path: Path, content: bytes, limit: int) -> None:
    """Write a file under another name, then rename it; warn if that fails."""
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        why = _reason_for_distrust(path.parent)  # another user may have made it
        if why is not None:
            _warn(why)
            return
        try:
            with open(os.open(unfinished, WRITING, 0o644), "wb") as file:
                file.write(_head(content) + content)
            os.replace(unfinished, path)
        except OSError:
            with suppress(OSError):
                unfinished.unlink()
            raise
        _shrink(path, limit)
    except OSError as error:
        _warn(f"{path.parent}: {error.strerror or error}")


def _shrink(newest: Path, limit: int) -> None:
    """Remove what was used longest ago until the rest fits, and what was never finished; but not what is newest."""
    files, size = [], 0
    with os.scandir(newest.parent) as entries:
        for entry in entries:
            with suppress(OSError):  # another process has removed it
                facts = entry.stat(follow_symlinks=False)
                if FILE.fullmatch(entry.name):
                    size += facts.st_size
                    files.append((entry.name != newest.name, -facts.st_mtime_ns, facts.st_size, entry.path))
                elif UNFINISHED.fullmatch(entry.name) and facts.st_mtime < time.time() - ABANDONED:
                    os.unlink(entry.path)
    for _, _, freed, path in sorted(files)[:0:-1]:
        if size <= limit:
            return
        with suppress(OSError):  # the same, or the file belongs to another user
            os.unlink(path)
            size -= freed


def _warn(why: str) -> None:
    """Say once in a process that the folder cannot be used."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"compiled kernels cannot be kept ({why}): every process compiles its own."
            " KERNELOPS_CACHE_DIR names another folder, KERNELOPS_CACHE_SIZE=0 turns keeping off",
            stacklevel=2,
        )
