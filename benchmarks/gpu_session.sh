#!/usr/bin/env bash
# All GPU checks on a bare machine, in under ten minutes: what `make bench-gpu` and `pytest -m gpu` need, then both.
#
#   benchmarks/gpu_session.sh [--out DIR] [--wheels DIR] [--python PYTHON] [--dry-run]
#
# The machine needs an NVIDIA driver for CUDA 13, Python 3.11 to 3.13 with venv, and this clone. In this order, it
# 1. records the card, the driver and the processor;
# 2. makes a virtual environment of its own and installs the pinned CUDA server, and what the tests need (with --wheels
#    from a folder, for machines without a network);
# 3. runs the tests marked gpu;
# 4. measures the server against bare CUDA, with and without CUDA graphs, until the time is up.
# Save the folder of --out (default: build/gpu-session): it has every output, also of steps that failed, and summary.txt.
# --dry-run prints the commands and their time limits, and runs none.
set -uo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
out=$root/build/gpu-session
wheels=
python=
dry_run=
while (($#)); do
    case $1 in
        --out | --wheels | --python)
            (($# > 1)) || { echo "$1 needs a value; see the head of $0" >&2; exit 2; }
            case $1 in
                --out) out=$2 ;;
                --wheels) wheels=$2 ;;
                --python) python=$2 ;;
            esac
            shift 2
            ;;
        --dry-run) dry_run=yes; shift ;;
        *) echo "unknown option $1; see the head of $0" >&2; exit 2 ;;
    esac
done
if [[ -z $python ]]; then
    for each in python3.12 python3.13 python3.11 python3; do
        if command -v "$each" >/dev/null; then python=$each; break; fi
    done
fi
[[ -n $python ]] || { echo "there is no Python; install 3.12 with venv (Debian: apt install python3-venv)" >&2; exit 1; }
mkdir -p -- "$out" || exit 1
venv=$out/venv
requirements=$out/tests.txt
status=0
if [[ -n $dry_run ]]; then : >"$out/summary.txt"; else date --utc +'%F %T UTC' >"$out/summary.txt"; fi

# step NAME SECONDS COMMAND...: runs a command with a time limit; its output goes to NAME.log.
step() {
    local name=$1 seconds=$2
    shift 2
    if [[ -n $dry_run ]]; then
        printf '%-10s %4s s  ' "$name" "$seconds"
        printf ' %q' "$@"
        printf '\n'
        return 0
    fi
    echo "==> $name"
    local begun=$SECONDS code=0
    timeout --kill-after=10 "$seconds" "$@" >"$out/$name.log" 2>&1 || code=$?
    echo "$name: exit code $code, $((SECONDS - begun)) s" | tee -a "$out/summary.txt"
    if ((code)); then status=1; tail -n 20 -- "$out/$name.log"; fi
    return "$code"
}

# The tests' libraries, at the versions and hashes of the environment for development, without its CPU ONNX Runtime.
write_requirements() {
    awk -v wanted=" iniconfig ml-dtypes onnx pluggy pytest pytest-timeout " '
        /^[^ ]/ { name = $1; sub(/[=[;].*/, "", name); keep = index(wanted, " " name " ") }
        keep
    ' "$root/requirements/dev.txt" >"$requirements"
}

pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
if [[ -n $wheels ]]; then pip+=(--no-index --find-links "$wheels"); fi
cd -- "$root" || exit 1
[[ -n $dry_run ]] || write_requirements

step card 20 bash -c 'nvidia-smi && nvidia-smi -q && lscpu && nproc' || exit 3
step venv 40 "$python" -m venv "$venv" || exit 1
# Hashes only fit what an index serves; check a folder of wheels before you use it.
if [[ -n $wheels ]]; then
    step server 150 "${pip[@]}" -r requirements/build.txt -r requirements/image-cuda.txt || exit 1
else
    step server 150 "${pip[@]}" --require-hashes -r requirements/build.txt -r requirements/image-cuda.txt || exit 1
fi
step tools 40 "${pip[@]}" --no-deps -r "$requirements" || exit 1
step project 20 "${pip[@]}" --no-deps --no-build-isolation --editable . || exit 1
step versions 10 "$venv/bin/python" -m pip freeze
step tests 120 "$venv/bin/python" -m pytest -m gpu -p no:cacheprovider tests/unit/server/test_gpu.py
step rates 180 "$venv/bin/python" benchmarks/gpu_rate.py --rounds 2 --seconds 1 --in-flight 64 256 1024 --out "$out"
if [[ -z $dry_run ]]; then
    rm -rf -- "$venv"
    echo "saved in $out:"
    cat -- "$out/summary.txt"
fi
exit "$status"
