"""A C compiler that keeps what it has compiled: ``CC="python tests/package/keeping_compiler.py cc"``.

What is kept stands under the preprocessed text, the options and the version of the compiler, so that the same sources
in another folder, or in the next run of the tests, are not compiled again. It does for the tests what ccache would.
"""

import shutil
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))
from kept_builds import kept, key_of


def compile_once(command):
    """The exit code of a compilation, done now or before."""
    at = command.index("-o")
    source = next(word for word in command[1:] if word.endswith(".c"))
    target, rest = command[at + 1], [word for word in (*command[:at], *command[at + 2 :]) if word != "-c"]
    text = subprocess.run([*rest, "-E", "-P"], capture_output=True, check=True).stdout
    text = text.replace(source.encode(), b"")  # Cython writes down the name of the file that it makes
    version = subprocess.run([command[0], "--version"], capture_output=True, check=True).stdout
    options = [word for word in rest if word != source and not word.startswith("-I")]  # they are in the text

    def make(path):
        subprocess.run([*rest, "-c", "-o", str(path)], check=True)

    shutil.copyfile(kept(f"{key_of(version, *options, text)}.o", make), target)
    return 0


def main(command):
    if {"-c", "-o"} <= set(command) and sum(word.endswith(".c") for word in command) == 1:
        try:
            return compile_once(command)
        except subprocess.CalledProcessError as error:
            print((error.stderr or b"").decode(), file=sys.stderr)
            return error.returncode
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
