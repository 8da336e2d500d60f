#!/bin/sh
# check_containers.sh: the Dockerfile by hadolint, the compose files by docker compose itself.
set -eu
cd "$(dirname "$0")/.."
.venv/bin/hadolint --failure-threshold warning docker/Dockerfile
if ! docker compose version >/dev/null 2>&1; then
  echo "check: skipped: the compose files, for want of docker compose" >&2
  exit 0
fi
for file in docker-compose-gpu.yml docker-compose-training.yml; do
  docker compose -f "$file" config --quiet
  over=docker/compose.$(test "$file" = docker-compose-gpu.yml || echo training-)cpu.yml
  docker compose -f "$file" -f "$over" config --quiet
done
