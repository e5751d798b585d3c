"""Instructions per pair and instructions of inner loops, beside the recorded ones: speed that no noisy clock judges.

Figures belong to a compiler. They may move by a tenth either way, which other versions of the C library and of Python
take up at most; what is lost beyond that is a failure, what is won beyond it has to be recorded, so that it cannot be
lost unseen:

    python tests/engine/instruction_counts/record.py

What is not installed makes a test a skip, and a failure where KERNELOPS_CI is set.
"""

import platform

import numpy as np
import pytest
from instruction_counts import callgrind, loops
from instruction_counts.kernels import KERNELS
from instruction_counts.record import recorded
from tools import needs

MARGIN = 0.10
on_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="figures are those of x86-64")
RECORD = "python tests/engine/instruction_counts/record.py"


def figures(kind):
    found = recorded().get(loops.compiler(), {}).get(kind)
    needs(None if found else f"no figures of {loops.compiler()} are recorded; {RECORD}")
    return found


def verdict(name, count, wanted):
    """A sentence where a count has moved by more than the margin, or ''."""
    if abs(count - wanted) <= MARGIN * wanted:
        return ""
    what = "too many: find out why" if count > wanted else "an improvement: record it"
    return f"{name}: {count:.4g} instructions, {wanted:.4g} are recorded ({count / wanted - 1:+.0%}); {what} ({RECORD})"


def assert_as_recorded(counts, wanted):
    assert counts.keys() == wanted.keys(), f"what is counted has changed: {RECORD}"
    said = [verdict(name, counts[name], wanted[name]) for name in counts]
    assert not any(said), "\n".join(filter(None, said))


@on_x86
def test_instructions_per_pair(tmp_path):
    needs(callgrind.missing())
    needs(loops.missing())  # which knows the compiler
    wanted = figures("per pair, avx2")
    assert_as_recorded(callgrind.counts(tmp_path), wanted)


@on_x86
def test_instructions_of_loops():
    needs(loops.missing())
    wanted = figures("loop, avx512")
    counts = loops.counts()
    for k in range(2):  # all instructions, and the arithmetic among them: an unrolled loop has more of both
        assert_as_recorded({n: c[k] for n, c in counts.items()}, {n: c[k] for n, c in wanted.items()})


# ---- the tools themselves -----------------------------------------------------------------------------------------


def test_a_missing_tool_is_a_skip_and_in_ci_a_failure(monkeypatch):
    monkeypatch.delenv("KERNELOPS_CI", raising=False)
    needs(None)
    with pytest.raises(pytest.skip.Exception, match="no valgrind"):
        needs("no valgrind")
    monkeypatch.setenv("KERNELOPS_CI", "1")
    with pytest.raises(pytest.fail.Exception, match="no valgrind"):
        needs("no valgrind")


def test_the_verdict():
    assert verdict("a", 10.9, 10) == verdict("a", 9.1, 10) == ""
    assert "12 instructions, 10 are recorded (+20%); too many" in verdict("a", 12.0, 10)
    assert "-50%); an improvement: record it" in verdict("a", 5.0, 10)
    with pytest.raises(AssertionError, match="too many"):
        assert_as_recorded({"a": 12.0}, {"a": 10.0})
    with pytest.raises(AssertionError, match="has changed"):
        assert_as_recorded({"a": 10.0}, {"b": 10.0})


LISTING = """
   10:\tvxorps %xmm0,%xmm0,%xmm0
   14:\tvmovups (%rsi,%rax,1),%zmm1
   1a:\tvsubps (%rdx,%rax,1),%zmm1,%zmm1
   20:\tvfmadd231ps %zmm1,%zmm1,%zmm0
   26:\tadd    $0x40,%rax
   2a:\tnopw   0x0(%rax,%rax,1)
   30:\tjne    14 <f+0x14>
   32:\tvmovups %zmm0,(%rdi)
   38:\tdec    %ecx
   3a:\tjne    10 <f+0x10>
   3c:\tjmp    50 <f+0x50>
   50:\tret
"""


def test_innermost_loops_of_a_listing():
    matches = [loops.ADDRESS.match(line) for line in LISTING.strip("\n").splitlines()]
    code = [(int(m.group(1), 16), m.group(2), m.group(3)) for m in matches]
    assert loops.innermost(code) == [loops.Loop(5, 2)]
    assert loops.innermost(code, "%ymm") == [loops.Loop(5, 0)]


def test_kernels_have_their_arrays():
    for kernel in KERNELS.values():
        arrays = kernel.arrays(7)
        assert len(arrays) == len(kernel.aliases) and all(a.dtype == np.float32 for a in arrays)
        assert (arrays[0] is arrays[1]) == kernel.same
