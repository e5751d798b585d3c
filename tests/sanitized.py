"""Builds the engine with AddressSanitizer and UndefinedBehaviorSanitizer, and runs its tests and its campaign so.

    python tests/sanitized.py [options of pytest, or files of tests in place of the usual ones]
    python tests/sanitized.py --build      # builds, and runs nothing

The build lies in build/sanitized, a whole copy of the package, which these tests import. The first fault ends its
process with a report of where it is. The exit code is 0 where there was none and all tests passed. It needs gcc.
"""

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
BUILT = ROOT / "build" / "sanitized"
TESTS = (  # what reaches every loop of the engine and every check of its door, in little time
    "campaigns/test_engine.py",
    "engine/test_verification.py",
    "engine/test_program_fields.py",
    "engine/test_memory_safety.py",
    "engine/test_nonfinite.py",
    "engine/test_mirrored.py",
)
SEEDS = "40"  # of the campaign, unless the environment says how many
# Freed memory of Python is given back, so that a use after free is seen; leaks of an interpreter that ends say nothing.
ENVIRONMENT = {
    "PYTHONMALLOC": "malloc",
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def build():
    """The folder in which the sanitized package lies."""
    parts = ("--build-base", str(BUILT / "temp"), "--build-lib", str(BUILT / "lib"))
    command = [sys.executable, "setup.py", "-q", "build", *parts]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"KERNELOPS_SANITIZE": "1"}, check=True)
    (module,) = (BUILT / "lib" / "kernelops").glob("_core.*")
    if b"__asan_report" not in module.read_bytes():
        sys.exit(f"{module} is not sanitized")
    return BUILT / "lib"


def runtime():
    """The library of AddressSanitizer that belongs to the compiler; it must be the first that a process loads."""
    compiler = os.environ.get("CC", "gcc").split()[0]
    found = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    path = Path(found.stdout.strip())
    if not path.is_absolute():
        sys.exit(f"{compiler} has no libasan.so")
    return path.resolve()


def main(options):
    given = [str(ROOT / option) if (ROOT / option.split("::")[0]).exists() else option for option in options]
    files = [] if given != options else [str(FOLDER / name) for name in TESTS]
    package = build()
    if options == ["--build"]:
        return 0
    variables = {"KERNELOPS_FUZZ_SEEDS": SEEDS} | os.environ | ENVIRONMENT
    variables |= {"LD_PRELOAD": str(runtime()), "PYTHONPATH": f"{package}{os.pathsep}{ROOT}"}
    # reports go to the standard error of the process itself, which pytest must not keep to itself
    command = [sys.executable, "-m", "pytest", "-q", "--capture=sys", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    command += ["-c", str(ROOT / "pyproject.toml"), *files, *given]
    return subprocess.run(command, cwd=package, env=variables, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
