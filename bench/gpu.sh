#!/usr/bin/env bash
# Runs the tests and benchmarks of ntkfast on the device of this machine, in 400 seconds.
#
#     bench/gpu.sh --wheels FOLDER gpu.json       # a bare machine without a network: docs/guide/gpu.md fills the folder
#     bench/gpu.sh gpu.json                       # builds first, into a new environment, from the package index
#     PYTHON=/opt/python/bin/python bench/gpu.sh --no-install gpu.json     # builds first, without a network
#     PYTHON=/opt/python/bin/python bench/gpu.sh --no-build gpu.json       # ntkfast is in it already
#
# What follows the file goes to bench/gpu.py, for example --parts gram,matmul; no option counts twice. With
# --no-install PYTHON must have what a build and the tests need: pip, scikit-build-core, pybind11, cmake, ninja,
# NumPy, SciPy, Numba, mpmath, hypothesis, scikit-learn, pytest, pytest-timeout. The CUDA compiler is CUDACXX, or
# nvcc of the path, of CUDA_HOME, or of the package index; a build takes minutes on top. NTKFAST_COMMIT names the
# commit where there is no git. The table comes last; the exit status is 1 if a part failed.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
invocation="bench/gpu.sh $*"
mode=install
case "${1:-}" in
    --no-install) mode=site && shift ;;
    --no-build) mode=none && shift ;;
    --wheels) mode=wheels && wheels=$(cd "${2:-}" 2>/dev/null && pwd) || { echo "--wheels: no folder ${2:-}" >&2 && exit 2; }
        shift 2 ;;
esac
case "${1:-}" in
    "" | -*) sed -n '2,16s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
json=$(cd "$(dirname "$1")" && pwd)/$(basename "$1") || exit 2
shift
cd "$root" || exit 2
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export NTKFAST_PURE=0 PIP_DISABLE_PIP_VERSION_CHECK=1
failed=()
step() { printf '\n== %s  [%d s]\n' "$*" "$SECONDS"; }
try() { # try NAME COMMAND...: a failure is remembered, and the rest goes on
    local name=$1
    shift
    step "$name"
    "$@" || failed+=("$name")
}

environment() {
    "$python" -m venv "$work/venv" && python=$work/venv/bin/python &&
        "$python" -m pip install -q scikit-build-core pybind11 cmake ninja numpy scipy numba mpmath hypothesis pytest \
            pytest-timeout threadpoolctl scikit-learn nvidia-cublas
}
unpack() { # no pip: wheels are archives
    local wheel
    ls "$wheels"/ntkfast-*.whl >/dev/null || return
    for wheel in "$wheels"/*.whl; do "$python" -m zipfile -e "$wheel" "$work/site" || return; done
    export PYTHONPATH="$work/site${PYTHONPATH:+:$PYTHONPATH}"
    "$python" -c 'import ntkfast; print("ntkfast", ntkfast.__version__)'
}
compiler() { # of the system, else of the package index
    CUDACXX=${CUDACXX:-$(command -v nvcc || command -v "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc")}
    if [ -z "$CUDACXX" ] && [ $mode = install ]; then
        "$python" -m pip install -q nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-runtime nvidia-cuda-cccl
        CUDACXX=$("$python" -c 'import nvidia; print(next(f"{p}/cu13/bin/nvcc" for p in nvidia.__path__))')
    fi
    export CUDACXX
    "$CUDACXX" --version | tail -n 2
}
sanitizer() { # optional: without it the parts say so
    command -v compute-sanitizer >/dev/null || [ -x "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer" ] ||
        "$python" -m pip install -q nvidia-cuda-sanitizer-api || true
}
build() {
    local capability options
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1) || return
    options=(-C cmake.define.NTKFAST_CUDA=ON -C "cmake.define.CMAKE_CUDA_ARCHITECTURES=${capability/./}-real")
    echo "compute capability $capability"
    "$python" -m pip wheel -q --no-index --no-deps --no-build-isolation --wheel-dir "$work" "${options[@]}" . || return
    if [ $mode = install ]; then
        "$python" -m pip install -q --no-index --no-deps "$work"/ntkfast-*.whl
    else
        "$python" -m pip install -q --no-index --no-deps --target "$work/site" "$work"/ntkfast-*.whl
        export PYTHONPATH="$work/site${PYTHONPATH:+:$PYTHONPATH}"
    fi
}

if [ $mode = install ]; then
    try environment environment
    try sanitizer sanitizer
fi
if [ $mode = wheels ]; then
    try wheels unpack
elif [ $mode != none ]; then
    try compiler compiler
    try build build
fi
spent=$SECONDS
if [ $mode = install ] || [ $mode = site ]; then spent=0; fi
step "tests and benchmarks"
"$python" bench/gpu.py --json "$json" --spent $spent --command "$invocation" \
    ${failed[@]+--failed "${failed[@]}"} "$@"
