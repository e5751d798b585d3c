#!/bin/sh
# tools/gpu_wheels.sh FOLDER [PYTHON]: gathers in FOLDER the wheels that a machine with a GPU needs beside CPython 3.12
# and a torch with CUDA, where it reaches no registry. On that machine: pip install --no-index --no-deps FOLDER/*.whl
#
# PYTHON is a CPython 3.12 with headers, of this machine; it builds PyCUDA's wheel, the only one that has to be built.
# Without one everything else is gathered. NVRTC=1 adds NVIDIA's compiler, 90 MB, for a torch that brings none.
set -eu

VERSION=3.12
[ $# -ge 1 ] && [ $# -le 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
tools=$(cd "$(dirname "$0")" && pwd)
complete=0

is_wanted() {
    [ "$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$VERSION" ]
}

# ---- PyCUDA ----

builder=
for python in ${2:+"$2"} "python$VERSION" python3; do
    if [ -z "$builder" ] && is_wanted "$python"; then
        builder=$python
    fi
done
if [ -n "$builder" ]; then
    "$tools/pycuda_wheel.sh" "$builder" "$folder"
else
    echo "no CPython $VERSION is here, so there is no wheel of PyCUDA: name one as the second argument" >&2
    complete=1
fi

# ---- what is downloaded ----

# pip takes the platforms by their names, one by one, and no others
set -- --platform any
for glibc in 34 31 28 27 24 17 12 5; do
    set -- "$@" --platform "manylinux_2_${glibc}_x86_64"
done
set -- "$@" --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64

download() {
    name=$1
    shift
    "${builder:-python3}" -m pip --disable-pip-version-check download --quiet --no-deps --only-binary :all: \
        --python-version "$VERSION" --implementation cp --abi "cp$(echo $VERSION | tr -d .)" --abi abi3 --abi none \
        --constraint "$tools/../constraints.txt" "$@" --dest "$folder" "$name" || { echo "$name cannot be had" >&2; complete=1; }
}

of_pycuda="pytools siphash24 typing-extensions mako MarkupSafe platformdirs"
of_kernelops="scipy threadpoolctl Cython setuptools"
of_tests="pytest pluggy iniconfig packaging pygments"
for name in $of_pycuda $of_kernelops $of_tests ${NVRTC:+nvidia-cuda-nvrtc}; do
    download "$name" "$@"
done

du -sh "$folder"
exit $complete
