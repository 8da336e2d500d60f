#!/bin/sh
# lock.sh [--check]: writes requirements*.lock from pyproject.toml, or checks that they are current.
#
# The locks hold every package with its hashes and no index address. torch and what only its CUDA
# build needs are left out: scripts/setup.sh and the image install them by exact version.
set -eu
cd "$(dirname "$0")/.."

compile() { # compile OUTPUT [uv option ...]
  output=$1; shift
  .venv/bin/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
    --no-emit-package torch --no-emit-package torchaudio --no-emit-package triton \
    $(nvidia_packages) pyproject.toml "$@" --output-file "$output"
}

nvidia_packages() {
  for part in cublas cuda-cupti cuda-nvrtc cuda-runtime cudnn cufft cufile curand cusolver \
              cusparse nccl nvjitlink nvtx; do
    printf -- '--no-emit-package nvidia-%s-cu12 ' "$part"
  done
  printf -- '--no-emit-package nvidia-cusparselt-cu12'
}

if [ "${1:-}" = --check ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  cp requirements.lock requirements-dev.lock "$work/"
  compile "$work/requirements.lock"
  compile "$work/requirements-dev.lock" --group dev
  for lock in requirements.lock requirements-dev.lock; do
    cmp -s "$lock" "$work/$lock" || { echo "$lock is not up to date: run make lock" >&2; exit 1; }
  done
else
  compile requirements.lock
  compile requirements-dev.lock --group dev
fi
