#!/bin/sh
# tools/pycuda_wheel.sh PYTHON FOLDER: a PyCUDA wheel for this Python in FOLDER; its path is the one line of the output.
# Does nothing where FOLDER holds one. Needs pip, a C++ compiler and Python's headers; no GPU and no driver.
#
# CUDA's headers are those of $CUDA_HOME or of /usr/local/cuda, else those that NVIDIA has put on PyPI. Of the driver
# only the name counts when linking: an empty library that is called libcuda.so.1 stands in for it.
set -eu

VERSION=2026.1
[ $# -eq 2 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
python=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)

kind=$("$python" -c 'import sys, platform; print("cp%d%d-cp%d%d-*%s" % (*sys.version_info[:2] * 2, platform.machine()))')
built() {
    for file in "$folder"/pycuda-*-$kind.whl; do
        [ ! -f "$file" ] || { echo "$file"; return 0; }
    done
    return 1
}
! built || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
pip() { "$python" -m pip --disable-pip-version-check "$@"; }

include=
for root in "${CUDA_HOME:-}" /usr/local/cuda; do
    if [ -z "$include" ] && [ -f "$root/include/cuda.h" ] && [ -f "$root/include/cudaProfiler.h" ]; then
        include=$root/include
    fi
done
if [ -z "$include" ]; then
    pip install -q --no-deps --target "$work/headers" \
        'nvidia-cuda-runtime>=13,<14' 'nvidia-cuda-crt>=13,<14' 'nvidia-cuda-profiler-api>=13,<14' >&2
    include=$(dirname "$(find "$work/headers" -name cuda.h | head -n 1)")
fi

mkdir "$work/driver"
: | "${CC:-cc}" -shared -o "$work/driver/libcuda.so" -Wl,-soname,libcuda.so.1 -x c -

# of what PyCUDA can be told: where things are, no curand, and a quick compilation
cat > "$work/siteconf.py" <<END
CUDA_INC_DIR = ["$include"]
CUDADRV_LIB_DIR = ["$work/driver"]
CUDADRV_LIBNAME = ["cuda"]
CUDA_ENABLE_CURAND = False
CXXFLAGS = ["-O1", "-g0", "-w", "-fvisibility=hidden"]
LDFLAGS = ["-Wl,--strip-all"]
END

build() {
    rm -rf "$work/source"
    mkdir "$work/source"
    pip download -q --no-deps --no-binary pycuda --dest "$work/source" "$1" >&2 || return 1
    tar -xzf "$work"/source/*.tar.gz -C "$work/source" --strip-components=1 || return 1
    cp "$work/siteconf.py" "$work/source/"
    # the library is named though it defines nothing
    LDFLAGS="${LDFLAGS:-} -Wl,--no-as-needed" \
        pip wheel -q --no-deps --wheel-dir "$work/wheel" "$work/source" >&2 || return 1
}

if ! build "pycuda==$VERSION"; then
    echo "PyCUDA $VERSION cannot be built; trying the newest one" >&2
    build pycuda
fi
mv "$work"/wheel/pycuda-*.whl "$folder"/
built
