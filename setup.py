"""Build of the one extension module, kernelops._core; nearly all else about the package stands in pyproject.toml.

The files that CUDA kernels include lie in a folder of their own, cuda/, and are shipped inside the package.

OpenMP is used where the compiler has it, which a probe program finds out. Where it has none, or where
KERNELOPS_NO_OPENMP=1 is set, the module is built for one thread and a note says so; `python -m kernelops.doctor`
tells later which of both was built. KERNELOPS_SANITIZE=1 builds it with AddressSanitizer and UndefinedBehaviorSanitizer
(tests/sanitized.py, which puts it into a folder of its own).
"""

import os
import subprocess
import sys
import tempfile
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CCompilerError

# Speed without a change of meaning: no -ffast-math (NaN, infinity and -0.0 count), no -march (instruction sets are
# chosen when the module is imported). -fopenmp-simd heeds the pragmas on loops where there are no threads.
COMPILE_FLAGS = {
    "unix": [
        "-O3",
        "-std=c11",
        "-fno-wrapv",
        "-fno-math-errno",
        "-fno-trapping-math",
        "-ffp-contract=fast",
        "-fopenmp-simd",
        "-fno-semantic-interposition",
        "-fvisibility=hidden",
        "-g0",
    ],
    "msvc": ["/O2", "/std:c11"],
}
# An error in memory, or undefined behaviour, ends the process with a report. -O1: faults may not be optimised away.
SANITIZE_FLAGS = ["-O1", "-g1", "-fno-omit-frame-pointer"]
SANITIZERS = ["-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
NO_OPENMP = "kernelops is built without OpenMP and will use one thread: {why}"
PROBE = """
#include <omp.h>
int main(void) {
    int n = 0;
    #pragma omp parallel reduction(+:n)
    n += 1;
    return n != omp_get_max_threads();
}
"""


def is_set(name):
    """Whether an environment variable asks for something."""
    return os.environ.get(name, "0") not in ("", "0")


def has_avx512():
    """Whether this processor has AVX-512, as far as can be read: a sanitized build takes a third longer with it."""
    cpuinfo = Path("/proc/cpuinfo")
    return not cpuinfo.is_file() or "avx512vl" in cpuinfo.read_text()


def family(compiler):
    """The key of COMPILE_FLAGS for a compiler object of setuptools."""
    return "msvc" if compiler.compiler_type == "msvc" else "unix"


def libomp_folders():
    """Where libomp may lie on macOS, whose own compiler has none."""
    yield from filter(None, [os.environ.get("LIBOMP_PREFIX")])
    yield from ("/opt/homebrew/opt/libomp", "/usr/local/opt/libomp", "/opt/local/libexec/libomp")


def openmp_candidates(compiler):
    """(flags to compile with, flags to link with) that may turn OpenMP on, best first."""
    if family(compiler) == "msvc":
        yield ["/openmp:llvm"], []
        return
    if sys.platform == "darwin":
        for folder in filter(os.path.isdir, libomp_folders()):
            compile_flags = ["-Xpreprocessor", "-fopenmp", f"-I{folder}/include"]
            yield compile_flags, [f"-L{folder}/lib", f"-Wl,-rpath,{folder}/lib", "-lomp"]
        yield ["-Xpreprocessor", "-fopenmp"], ["-lomp"]
    yield ["-fopenmp"], ["-fopenmp"]


def builds(compiler, compile_flags, link_flags):
    """Whether the probe program compiles and links with these flags."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(PROBE)
        try:
            objects = compiler.compile([str(source)], output_dir=folder, extra_postargs=compile_flags)
            compiler.link_executable(objects, "probe", output_dir=folder, extra_postargs=link_flags)
        except (CCompilerError, OSError, subprocess.SubprocessError):
            return False
    return True


def openmp_flags(compiler):
    """(flags to compile with, flags to link with) that turn OpenMP on; where it is off, a note says so."""
    if is_set("KERNELOPS_NO_OPENMP"):
        why = "KERNELOPS_NO_OPENMP is set"
    else:
        for compile_flags, link_flags in openmp_candidates(compiler):
            if builds(compiler, compile_flags, link_flags):
                return compile_flags, link_flags
        why = "the C compiler has none (the probe program does not build)"
    print("\n" + "*" * 100 + "\n  " + NO_OPENMP.format(why=why) + "\n" + "*" * 100 + "\n", file=sys.stderr, flush=True)
    return [], []


class BuildExt(build_ext):
    """build_ext that translates Cython outside of the source tree and chooses flags by the compiler at hand."""

    def build_extensions(self):
        from Cython.Build import cythonize  # only a build needs it: sdist and metadata do without

        compile_flags, link_flags = openmp_flags(self.compiler)
        if is_set("KERNELOPS_SANITIZE"):
            compile_flags, link_flags = [*compile_flags, *SANITIZE_FLAGS, *SANITIZERS], [*link_flags, *SANITIZERS]
            compile_flags += [] if has_avx512() else ["-DKERNELOPS_WITHOUT_AVX512"]
        for extension in self.extensions:
            extension.extra_compile_args = COMPILE_FLAGS[family(self.compiler)] + compile_flags
            extension.extra_link_args = link_flags
        translated = cythonize(
            self.extensions,
            build_dir=os.path.join(self.build_temp, "cython"),
            compiler_directives={"language_level": 3},
            force=self.force,
        )
        for extension, c in zip(self.extensions, translated, strict=True):
            extension.sources = c.sources
        super().build_extensions()


class BuildPy(build_py):
    """build_py that puts cuda/*.cuh into the package; where it is edited in place they are found where they lie."""

    def cuda_files(self):
        target = os.path.join(self.build_lib, "kernelops", "cuda")
        return [(source, os.path.join(target, os.path.basename(source))) for source in sorted(glob("cuda/*.cuh"))]

    def run(self):
        super().run()
        for source, target in () if self.editable_mode else self.cuda_files():
            self.mkpath(os.path.dirname(target))
            self.copy_file(source, target, preserve_mode=False)

    def get_outputs(self, include_bytecode=True):
        return [*super().get_outputs(include_bytecode), *(target for _, target in self.cuda_files())]


if __name__ == "__main__":
    core = Extension(
        "kernelops._core",
        ["kernelops/_core.pyx"],
        include_dirs=["kernelops", "kernelops/_tile"],
        depends=["kernelops/_core.pxd", *sorted(glob("kernelops/_tile/*.h"))],
        language="c",
    )
    setup(ext_modules=[core], cmdclass={"build_ext": BuildExt, "build_py": BuildPy})
