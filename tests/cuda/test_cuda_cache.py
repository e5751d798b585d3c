"""Compiled kernels that are kept: made once, by however many processes, and again where a file is not what it was."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from processes import PATIENCE

from kernelops.errors import ArgumentError
from kernelops.gpu import cache, compilers
from kernelops.gpu.cache import folder, get_or_make, key_of

fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


class Counted:
    """A compiler whose binaries are its sources, each line of the file one compilation."""

    name, version = "counted", "1.0"

    def __init__(self, log, seconds=0.0):
        self.log, self.seconds = log, seconds

    def __call__(self, source, arch):
        with open(self.log, "a") as file:
            file.write("once\n")
        time.sleep(self.seconds)
        return f"{source} for {arch}".encode()

    @property
    def count(self):
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


class Maker:
    """What makes a binary, and how often it did."""

    def __init__(self, content=b"binary"):
        self.content, self.count = content, 0

    def __call__(self):
        self.count += 1
        return self.content


@pytest.fixture(autouse=True)
def where(tmp_path, monkeypatch):
    """A folder of the test's own, which is not made yet, and a process that has not warned."""
    monkeypatch.setenv("KERNELOPS_CACHE_DIR", str(tmp_path / "some" / "cache"))
    monkeypatch.delenv("KERNELOPS_CACHE_SIZE", raising=False)
    monkeypatch.setattr(cache, "_warned", False)
    return tmp_path / "some" / "cache"


def keys(n):
    return [key_of([str(k)]) for k in range(n)]


def test_made_once(where):
    make, key = Maker(), key_of(["a"])
    assert [get_or_make(key, make) for _ in range(3)] == [b"binary"] * 3 and make.count == 1
    assert [file.name for file in where.iterdir()] == [f"{key}.kernel"]
    assert get_or_make(key_of(["b"]), Maker(b"")) == b"" and get_or_make(key_of(["b"]), Maker(b"never")) == b""


def test_a_key_depends_on_every_text_and_where_it_ends():
    given = [[], [""], ["", ""], ["a"], ["b"], ["a", "b"], ["b", "a"], ["ab"], ["a", "", "b"], ["a1:b"], ["ä"]]
    assert len({key_of(parts) for parts in given}) == len(given)
    assert key_of(["a", "b"]) == key_of(iter(("a", "b")))


# ---- processes ------------------------------------------------------------------------------------------------------

SECOND = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1], str(Path(sys.argv[1]).parent)
from test_cuda_cache import Counted
from kernelops.gpu import compilers
compilers.find_compiler = lambda: Counted(Path(sys.argv[2]))
print(b"".join(compilers.compile_cached("text", arch) for arch in ("sm_90", "sm_80", "sm_90")))
"""


def test_a_second_process_compiles_nothing(tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-c", SECOND, str(Path(__file__).parent), str(log)]
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "b'text for sm_90text for sm_80text for sm_90'\n"
        assert Counted(log).count == 2


def cold(compiler, texts, start, results):
    """What a process of its own does: it knows nothing yet of these texts."""
    compilers.find_compiler = lambda: compiler
    start.wait(PATIENCE)
    results.put([compilers.compile_cached(text, "sm_90") for text in texts])


@fork
def test_sixteen_cold_processes_at_once(tmp_path, where):
    context, texts = multiprocessing.get_context("fork"), [f"{tmp_path} {k}" for k in range(5)]
    compiler, start, results = Counted(tmp_path / "log", 0.02), context.Barrier(16), context.Queue()
    processes = [context.Process(target=cold, args=(compiler, texts, start, results)) for _ in range(16)]
    for process in processes:
        process.start()
    got = [results.get(timeout=PATIENCE) for _ in processes]
    for process in processes:
        process.join(PATIENCE)
    assert got == [[f"{text} for sm_90".encode() for text in texts]] * 16
    assert 5 <= compiler.count <= 80
    assert len(list(where.iterdir())) == 5, "unfinished files are left"
    before = compiler.count
    context.Process(target=cold, args=(compiler, texts, context.Barrier(1), results)).start()
    assert results.get(timeout=PATIENCE) == got[0] and compiler.count == before


# ---- files that are not what they were ------------------------------------------------------------------------------


def test_a_file_that_is_cut_or_changed_is_made_again(where):
    key, content = key_of(["a"]), bytes(range(256)) * 3
    make = Maker(content)
    get_or_make(key, make)
    file = where / f"{key}.kernel"
    whole = file.read_bytes()
    spoilt = [whole[:n] for n in (0, 1, 18, 19, 20, 50, 51, 52, len(whole) - 1)]
    spoilt += [whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :] for n in (0, 17, 19, 50, 51, 300, len(whole) - 1)]
    spoilt += [whole + b"\0", whole * 2, bytes(len(whole)), b"kernelops kernel 2\n" + whole[19:]]
    for count, data in enumerate(spoilt, 2):
        file.write_bytes(data)
        assert get_or_make(key, make) == content and make.count == count, f"{len(data)} bytes"
        assert file.read_bytes() == whole
    assert get_or_make(key, make) == content and make.count == count


def test_a_folder_in_place_of_a_file(where):
    key, make = key_of(["a"]), Maker()
    (where / f"{key}.kernel").mkdir(parents=True)
    with pytest.warns(UserWarning, match="compiled kernels cannot be kept"):
        assert get_or_make(key, make) == b"binary"
    assert get_or_make(key, make) == b"binary" and make.count == 2
    assert [file.name for file in where.iterdir()] == [f"{key}.kernel"]


# ---- what somebody else could have put there -------------------------------------------------------------------------

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no modes and owners of this kind")


def give_away(path, monkeypatch):
    """Somebody else's from now on: chown for root, for others another user asks."""
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    else:
        another = os.geteuid() + 1
        monkeypatch.setattr(cache.os, "geteuid", lambda: another)


@posix
def test_folders_and_files_are_the_users_alone(where):
    before = os.umask(0)
    try:
        get_or_make(key_of(["a"]), Maker())
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (where, *where.iterdir())]
    assert modes == [0o700, 0o644]


@posix
@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_may_write_to(where, mode):
    """Neither read nor written: what is in it could be anybody's."""
    planted, make = Maker(b"planted"), Maker()
    get_or_make(keys(1)[0], planted)
    where.chmod(mode)
    with pytest.warns(UserWarning, match="others may write to .*cache and could put any kernel there; chmod go-w"):
        assert get_or_make(keys(1)[0], make) == b"binary"
    assert get_or_make(keys(2)[1], make) == b"binary" and len(list(where.iterdir())) == 1
    where.chmod(0o755)
    assert get_or_make(keys(1)[0], make) == b"planted" and make.count == 2


@posix
@pytest.mark.parametrize("what", ["a folder", "a link to one"])
def test_a_folder_of_somebody_else(where, tmp_path, monkeypatch, what):
    make = Maker()
    get_or_make(keys(1)[0], Maker(b"planted"))
    if what == "a folder":
        give_away(where, monkeypatch)
    else:
        (tmp_path / "link").symlink_to(where)
        monkeypatch.setenv("KERNELOPS_CACHE_DIR", str(tmp_path / "link"))
        give_away(tmp_path / "link", monkeypatch)
    with pytest.warns(
        UserWarning, match=r"belongs to user \d+, who could put any kernel there; take a folder of your own"
    ):
        assert get_or_make(keys(1)[0], make) == get_or_make(keys(2)[1], make) == b"binary"
    assert len(list(where.iterdir())) == 1


@posix
def test_a_link_of_ones_own_to_a_folder(where, tmp_path, monkeypatch):
    get_or_make(keys(1)[0], Maker())
    (tmp_path / "link").symlink_to(where)
    monkeypatch.setenv("KERNELOPS_CACHE_DIR", str(tmp_path / "link"))
    assert get_or_make(keys(1)[0], Maker(b"never")) == b"binary"


@posix
@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_write_to_is_made_again(where, mode):
    key, make = key_of(["a"]), Maker()
    get_or_make(key, Maker(b"planted"))
    (where / f"{key}.kernel").chmod(mode)
    assert get_or_make(key, make) == get_or_make(key, make) == b"binary" and make.count == 1
    assert (where / f"{key}.kernel").stat().st_mode & 0o022 == 0


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_made_again(where):
    key, make = key_of(["a"]), Maker()
    get_or_make(key, Maker(b"planted"))
    os.chown(where / f"{key}.kernel", 65534, 65534)
    assert get_or_make(key, make) == get_or_make(key, make) == b"binary" and make.count == 1


@posix
def test_a_link_in_place_of_a_file_is_replaced(where, tmp_path):
    """What it points to is a whole file, and stays what it is."""
    key, make = key_of(["a"]), Maker()
    get_or_make(key, Maker(b"planted"))
    (where / f"{key}.kernel").rename(tmp_path / "elsewhere")
    (where / f"{key}.kernel").symlink_to(tmp_path / "elsewhere")
    assert get_or_make(key, make) == get_or_make(key, make) == b"binary" and make.count == 1
    assert not (where / f"{key}.kernel").is_symlink() and b"planted" in (tmp_path / "elsewhere").read_bytes()


@posix
@pytest.mark.parametrize("written", [False, True])
def test_a_pipe_in_place_of_a_file_is_replaced(where, written):
    """Nobody waits for what comes out of it."""
    key, make = key_of(["a"]), Maker()
    where.mkdir(mode=0o700, parents=True)
    os.mkfifo(where / f"{key}.kernel")
    held = os.open(where / f"{key}.kernel", os.O_RDWR) if written else None
    try:
        assert get_or_make(key, make) == get_or_make(key, make) == b"binary" and make.count == 1
    finally:
        if held is not None:
            os.close(held)


# ---- folders that cannot be used ------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_made_is_one_warning(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("KERNELOPS_CACHE_DIR", str(tmp_path / "file" / "cache"))
    make = Maker()
    message = r"cannot be kept \(.*cache: .*\): every process compiles its own. KERNELOPS_CACHE_DIR names another"
    with pytest.warns(UserWarning, match=message) as told:
        assert [get_or_make(key, make) for key in keys(3)] == [b"binary"] * 3
    assert len(told) == 1 and make.count == 3


def test_without_a_home(monkeypatch):
    for name in ("KERNELOPS_CACHE_DIR", "XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cache, "_users_folder", lambda: Path("~/.cache/kernelops"))
    assert folder() is None
    with pytest.warns(UserWarning, match="there is no home folder"):
        assert get_or_make(key_of(["a"]), Maker()) == b"binary"


def readers(where, results):
    """What a user does who may read the folder and not write to it."""
    import warnings

    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    make = Maker(b"new")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = [get_or_make(keys(2)[0], make), len(told)]
        found += [get_or_make(keys(2)[1], make), get_or_make(keys(2)[1], make), len(told), make.count]
    results.put(found)


@fork
def test_a_folder_that_can_only_be_read(monkeypatch):
    context, where = multiprocessing.get_context("fork"), tempfile.mkdtemp()
    monkeypatch.setenv("KERNELOPS_CACHE_DIR", where)
    try:
        get_or_make(keys(1)[0], Maker(b"old"))
        os.chmod(where, 0o555)
        results = context.Queue()
        process = context.Process(target=readers, args=(where, results))
        process.start()
        assert results.get(timeout=PATIENCE) == [b"old", 0, b"new", b"new", 1, 2]
        process.join(PATIENCE)
        assert os.listdir(where) == [f"{keys(1)[0]}.kernel"]
    finally:
        os.chmod(where, 0o755)
        shutil.rmtree(where)


def test_a_full_disk_leaves_nothing(where, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "replace", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert get_or_make(key_of(["a"]), Maker()) == b"binary"
    assert list(where.iterdir()) == []


# ---- size -----------------------------------------------------------------------------------------------------------


def test_what_was_used_longest_ago_goes_first(where, monkeypatch):
    monkeypatch.setenv("KERNELOPS_CACHE_SIZE", "0.01")  # 10485 bytes: three files
    for age, key in enumerate(keys(3)):
        get_or_make(key, Maker(bytes(3000)))
        os.utime(where / f"{key}.kernel", (1e9 + age, 1e9 + age))
    assert get_or_make(keys(3)[0], Maker(b"never")) == bytes(3000)  # is the newest now
    mine = where / "notes.txt"
    mine.write_bytes(bytes(20000))
    get_or_make(keys(4)[3], Maker(bytes(3000)))
    assert {file.name for file in where.iterdir()} == {f"{keys(4)[k]}.kernel" for k in (0, 2, 3)} | {mine.name}
    get_or_make(keys(5)[4], Maker(bytes(9000)))
    assert {file.name for file in where.iterdir()} == {f"{keys(5)[4]}.kernel", mine.name}


def test_what_is_too_large_is_not_kept(where, monkeypatch):
    monkeypatch.setenv("KERNELOPS_CACHE_SIZE", "0.01")
    get_or_make(keys(1)[0], Maker())
    make = Maker(bytes(11000))
    assert get_or_make(keys(2)[1], make) == get_or_make(keys(2)[1], make) == bytes(11000) and make.count == 2
    assert [file.name for file in where.iterdir()] == [f"{keys(1)[0]}.kernel"]


def test_unfinished_files_of_the_dead_are_removed(where):
    where.mkdir(parents=True)
    old, young = (where / f"{key_of(['b'])}.kernel.{name}.part" for name in ("0a", "0f"))
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (1e9, 1e9))
    get_or_make(key_of(["a"]), Maker())
    assert young.exists() and not old.exists()


def test_no_size_is_no_folder(where, monkeypatch):
    monkeypatch.setenv("KERNELOPS_CACHE_SIZE", "0")
    make = Maker()
    assert get_or_make(key_of(["a"]), make) == get_or_make(key_of(["a"]), make) == b"binary" and make.count == 2
    assert not where.exists()


@pytest.mark.parametrize("given", ["lots", "-1", "nan", "inf", "1e400"])
def test_a_size_that_is_none(given, monkeypatch):
    monkeypatch.setenv("KERNELOPS_CACHE_SIZE", given)
    with pytest.raises(ArgumentError, match=f"KERNELOPS_CACHE_SIZE = '{given}': wanted megabytes"):
        get_or_make(key_of(["a"]), Maker())


# ---- where ----------------------------------------------------------------------------------------------------------


def test_the_folder(tmp_path, monkeypatch):
    assert folder() == tmp_path / "some" / "cache"
    monkeypatch.setenv("KERNELOPS_CACHE_DIR", "here")
    assert folder() == Path.cwd() / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KERNELOPS_CACHE_DIR", os.path.join("~", "there"))
    assert sys.platform == "win32" or folder() == tmp_path / "there"
    monkeypatch.delenv("KERNELOPS_CACHE_DIR")
    assert folder().is_absolute() and "kernelops" in folder().parts


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="other systems have other folders")
def test_the_folder_with_and_without_platformdirs(tmp_path, monkeypatch):
    monkeypatch.delenv("KERNELOPS_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))

    class Platformdirs:
        @staticmethod
        def user_cache_path(name, appauthor):
            return tmp_path / "theirs" / name

    for xdg, want in ((None, ".cache"), (str(tmp_path / "xdg"), "xdg"), ("not/absolute", ".cache")):
        monkeypatch.setitem(sys.modules, "platformdirs", None)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        if xdg is not None:
            monkeypatch.setenv("XDG_CACHE_HOME", xdg)
        assert folder() == tmp_path / want / "kernelops"
        monkeypatch.setitem(sys.modules, "platformdirs", Platformdirs)
        assert folder() == tmp_path / "theirs" / "kernelops"
