"""Compilers of CUDA text: which is taken, what it is given, what is said where there is none or where it refuses."""

import re
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import usual
from cuda_texts import kernel_text
from tools import needs

from kernelops.errors import ArgumentError, BackendError
from kernelops.formula.parse import parse
from kernelops.gpu import compilers
from kernelops.gpu import locate as places
from kernelops.gpu.compilers import compile_cached, find_compiler, headers_of, target_of
from kernelops.program.compile import compile_sum

GAUSS = compile_sum(parse(usual.SCALED_GAUSS, usual.aliases(3, 1, "g")).expr, 1)
WRONG = 'extern "C" __global__ void k() {\n    int a;\n    a = nothing;\n' + "    wrong(1);\n" * 10 + "}\n"
posix = pytest.mark.skipif(sys.platform == "win32", reason="a script is no program there")


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """Nothing is remembered, kept or wished."""
    monkeypatch.delenv("KERNELOPS_CUDA_COMPILER", raising=False)
    monkeypatch.setenv("KERNELOPS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(compilers, "driver_version", lambda: None)
    compilers._find.cache_clear()
    compilers._compile.cache_clear()
    yield
    compilers._find.cache_clear()


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine without anything of NVIDIA's; what is put into the folder is its toolkit."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(places, "USUAL_TOOLKIT", str(tmp_path / "toolkit"))
    monkeypatch.setattr(places, "find_package_folders", lambda: [])
    monkeypatch.setattr(places, "NVRTC_BY_LOADER", ("libnvrtc-of-nobody.so",))
    return tmp_path / "toolkit"


class Dummy:
    def __init__(self, name="dummy", version="13.0"):
        self.name, self.version, self.asked = name, version, []

    def __call__(self, source, arch):
        self.asked.append((source, arch))
        return f"{self.name} {self.version}: {source} for {arch}".encode()


# ---- no compiler, or which ------------------------------------------------------------------------------------------


def test_without_any_compiler(bare):
    with pytest.raises(BackendError) as caught:
        find_compiler()
    said = str(caught.value)
    for part in (
        "no CUDA compiler is found. Tried: packages of NVIDIA's in this Python (none)",
        f"NVRTC in {bare}",
        "libnvrtc-of-nobody.so",
        "nvcc on the PATH",
        f"nvcc in {bare}",
        "Do this: pip install nvidia-cuda-nvrtc, or install a CUDA toolkit and set CUDA_HOME to its folder",
    ):
        assert part in said, said


@pytest.mark.parametrize(
    ("wished", "tried", "other"), [("nvcc", "nvcc on the", "NVRTC in"), ("nvrtc", "NVRTC in", "nvcc")]
)
def test_without_the_compiler_that_is_wished(wished, tried, other, bare, monkeypatch):
    monkeypatch.setenv("KERNELOPS_CUDA_COMPILER", wished)
    with pytest.raises(BackendError, match=f"KERNELOPS_CUDA_COMPILER = '{wished}', and no {wished} is found") as caught:
        compile_cached("text", "sm_90")
    assert tried in str(caught.value) and other not in str(caught.value)


def test_a_wish_that_is_no_compiler(monkeypatch):
    monkeypatch.setenv("KERNELOPS_CUDA_COMPILER", "clang")
    with pytest.raises(ArgumentError, match="KERNELOPS_CUDA_COMPILER = 'clang': wanted nvrtc or nvcc"):
        find_compiler()


def test_which_compiler_is_taken(monkeypatch):
    old, new, other = Dummy("nvrtc", "12.9"), Dummy("nvrtc", "13.1"), Dummy("nvcc", "12.8.61")
    monkeypatch.setattr(compilers, "_KINDS", {"nvrtc": lambda tried: [new, old], "nvcc": lambda tried: [other]})
    for driver, wished, want in (
        (None, "", new),
        ((13, 0), "", new),  # of one major version a binary runs on an older driver
        ((12, 4), "", old),
        ((12, 4), "nvcc", other),
        ((11, 8), "", new),
    ):
        monkeypatch.setattr(compilers, "driver_version", lambda driver=driver: driver)
        monkeypatch.setenv("KERNELOPS_CUDA_COMPILER", wished)
        compilers._find.cache_clear()
        assert find_compiler() is want and find_compiler() is want


def test_where_compilers_are_looked_for(bare, tmp_path, monkeypatch):
    packages, home, prefix = (tmp_path / name for name in ("packages", "home", "prefix"))
    monkeypatch.setattr(places, "find_package_folders", lambda: [packages])
    monkeypatch.setenv("CUDA_HOME", str(home))
    monkeypatch.setattr(sys, "prefix", str(prefix))
    wanted = [
        packages / "cu13/lib/libnvrtc.so.13",
        packages / "cuda_nvrtc/lib/libnvrtc.so.12",
        packages / "cuda_nvrtc/lib/libnvrtc.so.11.2",
        home / "lib64/libnvrtc.so.12",
        prefix / "lib/libnvrtc.so.13",
    ]
    others = [packages / "cu13/lib/libnvrtc-builtins.so.13.0", packages / "cu13/lib/libnvrtc.alt.so.13"]
    for path in (*wanted, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert places.WINDOWS or list(places.find_nvrtc_libraries([])) == [*map(str, wanted), *places.NVRTC_BY_LOADER]


def test_the_namespace_of_packages():
    assert all(folder.name == "nvidia" for folder in places.find_package_folders())


def test_the_version_of_the_driver():
    found = places.driver_version()
    assert found is None or found > (8, 0)


# ---- compilers that are broken, and what stands in for one ----------------------------------------------------------


def program(folder, text):
    """A program called nvcc."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "nvcc"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


STANDIN = """
import os, sys
if "--version" in sys.argv:
    print("nvcc: NVIDIA (R) Cuda compiler driver\\nCuda compilation tools, release 12.4, V12.4.131")
elif "--list-gpu-arch" in sys.argv:
    print("compute_80\\ncompute_90")
else:
    text = open(sys.argv[-1]).read()
    if "wrong" in text:
        print(f"{sys.argv[-1]}(3): error: wrong", file=sys.stderr)
        sys.exit(2)
    with open(sys.argv[sys.argv.index("-o") + 1], "w") as file:
        print(*sys.argv[1:-3], text, sep="|", end="", file=file)
    print("all is well")
"""


@posix
def test_nvcc(bare, monkeypatch):
    program(bare / "bin", STANDIN)
    found = find_compiler()
    assert (found.name, found.version, repr(found)) == ("nvcc", "12.4.131", "nvcc 12.4.131")
    assert compile_cached("text", "sm_90").decode().split("|")[:3] == ["-arch=sm_90", "-cubin", "-std=c++17"]
    assert compile_cached("text", "sm_90").endswith(b"|text")
    binary, log = found.compile("text", "sm_120", "--ptxas-options=-v")
    *flags, text = binary.decode().split("|")
    assert flags[:2] == ["-arch=compute_90", "-ptx"] and flags[-1] == "--ptxas-options=-v" and text == "text"
    assert {Path(flag[2:]) for flag in flags if flag[:2] == "-I"} == set(compilers.include_folders())
    assert log == "all is well\n"
    with pytest.raises(
        BackendError, match=re.escape("nvcc 12.4.131 cannot compile a kernel for sm_90:\n  kernel.cu(3)")
    ):
        compile_cached("wrong", "sm_90")
    with pytest.raises(BackendError, match="nvcc 12.4.131 compiles for sm_80 and newer, and the GPU is sm_70"):
        compile_cached("text", "sm_70")


@posix
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("print('hello')", "it does not say its version"),
        ("import sys; sys.exit(3)", "it ended with status 3"),
        ("import sys; sys.exit('no licence')", "no licence"),
    ],
)
def test_an_nvcc_that_is_broken(text, why, bare):
    path = program(bare / "bin", text)
    with pytest.raises(BackendError, match=re.escape(f"{path} ({why})")):
        find_compiler()


@posix
def test_an_nvcc_that_does_not_start(bare):
    path = program(bare / "bin", "")
    path.write_text("#!nobody\n")
    with pytest.raises(BackendError, match=re.escape(f"{path} (")):
        find_compiler()


@posix
def test_a_library_that_is_broken(bare, tmp_path):
    library = bare / "lib64" / "libnvrtc.so.13"
    library.parent.mkdir(parents=True)
    library.write_text("nothing of the kind")
    with pytest.raises(BackendError, match=re.escape(str(library))):
        find_compiler()
    program(tmp_path / "programs", STANDIN)
    assert find_compiler().name == "nvcc"


@posix
def test_a_library_that_is_another_one(monkeypatch):
    import _ctypes

    monkeypatch.setattr(compilers, "find_nvrtc_libraries", lambda tried: [_ctypes.__file__])
    tried = []
    assert list(compilers._find_nvrtc(tried)) == [] and _ctypes.__file__ in tried[0]


# ---- what is compiled -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "want"),
    [("sm_80", "sm_80"), ("sm_90", "sm_90"), ("sm_90a", "sm_90a"), ("sm_87", "compute_80"), ("sm_120", "compute_90")],
)
def test_targets(arch, want):
    assert target_of(arch, [75, 80, 90], "nvcc 13.0") == want


def test_targets_that_are_none():
    with pytest.raises(BackendError, match="NVRTC 13.0 compiles for sm_75 and newer, and the GPU is sm_61: .*-cu12"):
        target_of("sm_61", [90, 75], "NVRTC 13.0")
    for arch in ("90", "sm_", "compute_90", "sm_90x"):
        with pytest.raises(ArgumentError, match=f"arch: wanted one like sm_90, got '{arch}'"):
            target_of(arch, [90], "nvcc")


def test_included_files():
    names = list(headers_of(kernel_text(GAUSS)))
    assert {"reduce.cuh", "ops.cuh", "ops.h", "vector.cuh"} <= set(names)
    assert headers_of('#include <reduce.cuh>\n// #include "ops.h"\n#include "nobody.h"\nint a; /* "ops.h" */') == {}


def test_what_a_kept_binary_depends_on(tmp_path, monkeypatch):
    """On the text and the files that it includes, on the architecture, on the compiler; and it is made once."""
    headers = tmp_path / "headers"
    headers.mkdir()
    (headers / "a.cuh").write_text('#include "b.cuh"\n')
    (headers / "b.cuh").write_text("1")
    monkeypatch.setattr(compilers, "include_folders", lambda: (headers,))
    text, asked = '#include "a.cuh"\n', []

    def ask(name="dummy", version="13.0", source=text, arch="sm_90"):
        """Whether a compiler was asked, in a process that remembers nothing."""
        compilers._compile.cache_clear()
        dummy = Dummy(name, version)
        monkeypatch.setattr(compilers, "find_compiler", lambda: dummy)
        assert compile_cached(source, arch) == compile_cached(source, arch)
        asked.append(len(dummy.asked))
        return asked[-1] == 1

    assert ask() and not ask()
    assert ask(arch="sm_80") and ask(version="13.1") and ask(name="other") and ask(source=f"{text} ")
    (headers / "b.cuh").write_text("2")
    assert ask() and not ask()
    monkeypatch.setattr(compilers, "FLAGS", ("-std=c++20",))
    assert ask() and not ask()
    monkeypatch.setattr(sys.modules["kernelops"], "__version__", "0.0.0")
    assert ask() and not ask()
    assert max(asked) == 1


def test_a_refusal_is_not_kept(monkeypatch):
    dummy = Dummy()
    monkeypatch.setattr(compilers, "find_compiler", lambda: dummy)
    with monkeypatch.context() as patch:
        patch.setattr(Dummy, "__call__", lambda *a: (_ for _ in ()).throw(BackendError("no")))
        with pytest.raises(BackendError, match="no"):
            compile_cached("text", "sm_90")
    assert compile_cached("text", "sm_90") == b"dummy 13.0: text for sm_90"


# ---- the real ones --------------------------------------------------------------------------------------------------


@pytest.fixture(params=["nvrtc", "nvcc"])
def real(request):
    tried = []
    found = next(iter(compilers._KINDS[request.param](tried)), None)
    if found is None:
        missing = f"there is no {request.param} (tried: {'; '.join(tried)})"
        needs(missing) if request.param == "nvrtc" else pytest.skip(missing)  # one of both is enough
    return found


def test_a_kernel(real):
    assert real.name in ("nvrtc", "nvcc") and int(real.version.partition(".")[0]) >= 11
    text = kernel_text(GAUSS, name="gauss")
    cubin, log = real.compile(text, "sm_90")
    assert cubin[:4] == b"\x7fELF" and b"gauss" in cubin and "error" not in log
    assert real(text, "sm_90")[:4] == b"\x7fELF"


def test_a_gpu_that_is_newer_than_the_compiler(real):
    text = real(kernel_text(GAUSS, name="gauss"), "sm_999").decode()
    assert re.search(r"^\.target sm_\d+", text, re.M) and ".visible .entry gauss(" in text


def test_a_gpu_that_is_older_than_the_compiler(real):
    with pytest.raises(BackendError, match=rf"{real!r} compiles for sm_\d+ and newer, and the GPU is sm_20"):
        real("", "sm_20")


def test_a_text_that_does_not_compile(real):
    with pytest.raises(BackendError) as caught:
        real("#warning heed this\n" + WRONG, "sm_90")
    first, second, *others = str(caught.value).splitlines()
    assert first == f"{real!r} cannot compile a kernel for sm_90:"
    assert second.startswith("  kernel.cu(4): error: identifier") and "nothing" in second
    assert len(others) == compilers.LOG_LINES and re.match(r"  \.\.\. and \d+ more lines", others[-1])


def test_a_file_that_is_not_there(real):
    with pytest.raises(BackendError, match="nobody.cuh"):
        real('#include "nobody.cuh"\n', "sm_90")


def test_two_threads_at_once(real):
    texts = [kernel_text(GAUSS, dtype, name=f"gauss{n}") for n, dtype in enumerate(("float32", "float64"))]
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda text: real(text, "sm_90"), texts))
    assert b"gauss0" in both[0] and b"gauss1" in both[1] and b"gauss1" not in both[0]


def test_parts_of_nvrtc(tmp_path):
    for name in ("libnvrtc.so.13", "libnvrtc-builtins.so.13.0", "libnvrtc-builtins.alt.so.13.0"):
        (tmp_path / name).touch()
    if sys.platform == "linux":
        assert places.find_nvrtc_parts(str(tmp_path / "libnvrtc.so.13")) == [
            str(tmp_path / "libnvrtc-builtins.so.13.0")
        ]
    assert places.find_nvrtc_parts("libnvrtc.so") == []
