#!/bin/sh
# setup.sh runtime|dev: makes .venv and installs what the program (or its tests) need.
#
# Needs Python 3.10-3.12 and a package index. Packages come from the lock with their hashes; torch
# comes apart from it, by exact version, because the build that fits depends on the machine.
set -eu
cd "$(dirname "$0")/.."
kind=${1:-runtime}
torch_version=2.7.1   # the last release with CUDA 11.8 builds; the same in pyproject.toml
uv_version=0.13.8
cpu_index=https://download.pytorch.org/whl/cpu

say() { printf '%s\n' "setup: $*" >&2; }
die() { say "$*"; exit 2; }

find_python() {
  for candidate in ${PYTHON:-} python3.11 python3.12 python3.10 python3; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13))' 2>/dev/null
    then printf '%s' "$candidate"; return; fi
  done
  die "no Python 3.10, 3.11 or 3.12 found: install one, or name it with PYTHON=/path/to/python"
}

if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
  python=$(find_python)
  rm -rf .venv
  "$python" -m venv .venv || die "venv is missing: install it (Debian, Ubuntu: apt-get install python3-venv) and try again"
fi

# uv installs the same packages several times faster; pip does where uv can't be had.
if .venv/bin/uv --version 2>/dev/null | grep -q "^uv $uv_version" ||
   .venv/bin/pip install --quiet --disable-pip-version-check "uv==$uv_version" 2>/dev/null
then install() { .venv/bin/uv pip install --quiet --python .venv/bin/python "$@"; }
else install() { .venv/bin/pip install --quiet --disable-pip-version-check "$@"; }
fi

cpu_index_answers() {
  .venv/bin/python - "$cpu_index/torch/" <<'PY' 2>/dev/null
import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=5).read(1)
PY
}

# The lock names every package but torch's own, so nothing is left to resolve.
case $kind in
  runtime) lock=requirements.lock ;;
  dev) lock=requirements-dev.lock ;;
  *) die "unknown kind '$kind': runtime or dev" ;;
esac
say "installing packages of $lock"
install --no-deps --require-hashes -r "$lock"

if ! .venv/bin/python -c "
import importlib.metadata as m, sys
sys.exit(any(m.version(p).split('+')[0] != '$torch_version' for p in ('torch', 'torchaudio')))" 2>/dev/null
then
  # Without an NVIDIA GPU the CPU build does: a tenth of the download.
  if [ ! -e /proc/driver/nvidia/version ] && cpu_index_answers; then
    say "installing torch $torch_version (CPU build)"
    install --index-url "$cpu_index" "torch==$torch_version" "torchaudio==$torch_version"
  else
    say "installing torch $torch_version (with its CUDA libraries, several GB)"
    install "torch==$torch_version" "torchaudio==$torch_version"
  fi
fi
touch ".venv/.$kind"
