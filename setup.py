"""Build of the one extension module, kernelops._core; nearly all else about the package stands in pyproject.toml.

The files that CUDA kernels include lie in a folder of their own, cuda/, and are shipped inside the package.

KERNELOPS_SANITIZE=1 builds the module with AddressSanitizer and UndefinedBehaviorSanitizer (tests/sanitized.py, which
puts it into a folder of its own).
"""

import os
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

# Speed without a change of meaning: no -ffast-math (NaN, infinity and -0.0 count), no -march (instruction sets are
# chosen when the module is imported). -fopenmp-simd heeds the pragmas on loops, without the threads of OpenMP.
COMPILE_FLAGS = {
    "unix": [
        "-O3",
        "-std=c11",
        "-fno-wrapv",
        "-fno-math-errno",
        "-fno-trapping-math",
        "-ffp-contract=fast",
        "-fopenmp-simd",
        "-pthread",
        "-fno-semantic-interposition",
        "-fvisibility=hidden",
        "-g0",
    ],
    "msvc": ["/O2", "/std:c11"],
}
LINK_FLAGS = {"unix": ["-pthread"], "msvc": []}
# An error in memory, or undefined behaviour, ends the process with a report. -O1: faults may not be optimised away.
SANITIZE_FLAGS = ["-O1", "-g1", "-fno-omit-frame-pointer"]
SANITIZERS = ["-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]


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


class BuildExt(build_ext):
    """build_ext that translates Cython outside of the source tree and chooses flags by the compiler at hand."""

    def build_extensions(self):
        from Cython.Build import cythonize  # only a build needs it: sdist and metadata do without

        compile_flags, link_flags = COMPILE_FLAGS[family(self.compiler)], LINK_FLAGS[family(self.compiler)]
        if is_set("KERNELOPS_SANITIZE"):
            compile_flags, link_flags = [*compile_flags, *SANITIZE_FLAGS, *SANITIZERS], [*link_flags, *SANITIZERS]
            compile_flags += [] if has_avx512() else ["-DKERNELOPS_WITHOUT_AVX512"]
        for extension in self.extensions:
            extension.extra_compile_args = compile_flags
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
