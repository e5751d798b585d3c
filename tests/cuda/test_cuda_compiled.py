"""Every kind of generated kernel, compiled for GPUs: it fits into registers, and its inner loop is as short as it was.

NVRTC or nvcc is needed, and no GPU. Kernels are compiled for sm_90; KERNELOPS_CUDA_ARCHS="sm_80 sm_120" names others,
KERNELOPS_CUDA_ARCHS=all all of them. What the compiler said of a kernel is kept for the next run.

Kernels that use local memory, to be mended, are listed in cuda_spills.json for one version of the compiler; one that
no longer does is to be taken out (``python tests/cuda/compiled.py`` writes the list).
"""

import os

import compiled
import pytest
import sass
import usual
from compiled import ARCHS, KERNELS, Use, in_local_memory, program, use_of, uses, written
from cuda_texts import kernel_text
from tools import needs

from kernelops.errors import ArgumentError
from kernelops.gpu.compilers import find_compiler

INNER_LOOP = 9.5  # instructions of a pair, at most, of a Gaussian sum in three dimensions on sm_90
RECORD = "python tests/cuda/compiled.py"


def archs():
    """The architectures that are asked for."""
    wished = os.environ.get("KERNELOPS_CUDA_ARCHS", "").replace(",", " ").split()
    return ARCHS if wished == ["all"] else tuple(wished) or ("sm_90",)


@pytest.fixture(scope="module")
def compiler():
    try:
        return find_compiler()
    except ArgumentError as error:
        needs(str(error))


def verdict(bad, listed):
    """What is wrong, in words: kernels that use local memory and are not listed, or the other way round."""
    new, mended = sorted(bad - listed), sorted(listed - bad)
    said = [f"uses local memory: {label}" for label in new]
    return said + [f"uses none any more, well done; take it out ({RECORD}): {label}" for label in mended]


@pytest.mark.parametrize("arch", archs())
def test_kernels_stay_in_registers(arch, compiler):
    with compiled.kept_here():
        found = uses(KERNELS, compiler, arch)
    bad = {k.label for k in KERNELS if in_local_memory(k, found[k.label])}
    for label in sorted(bad):
        print(f"{arch}: {label}: {found[label]}")
    listed = written()
    if listed["compiler"] != repr(compiler) or arch not in listed:
        needs(f"the list is for {listed['compiler']}, and this is {compiler!r} for {arch} ({RECORD})")
    assert not (said := verdict(bad, set(listed[arch]))), "\n".join(said)


def test_the_inner_loop_of_a_gaussian_sum(compiler):
    needs(sass.missing())
    aliases = usual.aliases(3, 1, "g")
    text = kernel_text(program("sum", compiled.GAUSS, aliases), "float32", finish="sum")
    found = sass.per_pair(sass.listing(compiler(text, "sm_90")), "MUFU.EX2")
    print(f"{found:.2f} instructions of a pair by {compiler!r}")
    assert 6 < found <= INNER_LOOP


# ---- the judges -----------------------------------------------------------------------------------------------------

LOG = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'kernel1_' for 'sm_90'
ptxas info    : Function properties for slow_path
ptxas         .     7 bytes stack frame, 7 bytes spill stores, 7 bytes spill loads
ptxas info    : Function properties for kernel1_
ptxas         .     40 bytes stack frame, 36 bytes spill stores, 44 bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers, 40 bytes cumulative stack size, 4096 bytes smem
ptxas info    : Compiling entry function 'kernel11_' for 'sm_90'
ptxas info    : Function properties for kernel11_
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers
"""
LISTING = """
.text.kernel:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   IADD3 R2, R2, 0x1, RZ ;
.L_x_0:
        /*0020*/                   LDS.128 R4, [R8] ;
        /*0030*/              @!P0 MUFU.EX2 R5, R5 ;
        /*0040*/                   MUFU.EX2 R6, R6 ;
        /*0050*/                   FFMA R7, R5, R6, R7 ;
        /*0060*/               @P1 BRA `(.L_x_0) ;
.L_x_2:
        /*0070*/                   FFMA R7, R5, R6, R7 ;
        /*0080*/                   BRA.U UP1, `(.L_x_2) ;
        /*0090*/               @P2 BRA 0x10 ;
        /*00a0*/                   EXIT ;
.L_x_3:
        /*00b0*/                   BRA `(.L_x_3);
"""


def test_what_ptxas_says():
    assert use_of("kernel1_", LOG) == Use(128, 40, 80) and use_of("kernel11_", LOG) == Use(32, 0, 0)


def test_what_counts_as_local_memory():
    short, long = (next(k for k in KERNELS if k.label.startswith(f"Gaussian, D={D},")) for D in (64, 100))
    for k, use, want in (
        (short, Use(90, 0, 0), False),
        (short, Use(90, 40, 0), True),
        (short, Use(90, 8, 4), True),
        (long, Use(90, 400, 4), False),
    ):
        assert in_local_memory(k, use) is want


def test_the_verdict():
    assert verdict({"a", "b"}, {"b", "a"}) == []
    first, second = verdict({"a", "b"}, {"b", "c"})
    assert first == "uses local memory: a" and second.startswith("uses none any more") and second.endswith(": c")


def test_loops_of_a_listing():
    assert [len(loop.codes) for loop in sass.loops(LISTING)] == [5, 2, 1]
    assert sass.per_pair(LISTING, "MUFU.EX2") == 2.5


def test_architectures(monkeypatch):
    monkeypatch.delenv("KERNELOPS_CUDA_ARCHS", raising=False)
    assert archs() == ("sm_90",)
    for given, want in (
        ("", ("sm_90",)),
        ("all", ARCHS),
        ("sm_80,sm_120", ("sm_80", "sm_120")),
        ("sm_100", ("sm_100",)),
    ):
        monkeypatch.setenv("KERNELOPS_CUDA_ARCHS", given)
        assert archs() == want


def test_the_table():
    labels = {k.label for k in KERNELS}
    assert {k.program.kind for k in KERNELS} == {"sum", "exp", "best", "entries"}
    listed = {label for arch in ARCHS for label in written().get(arch, ())}
    assert listed <= labels, f"no kernels any more ({RECORD}): {sorted(listed - labels)}"
