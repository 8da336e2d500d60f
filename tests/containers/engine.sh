#!/usr/bin/env bash
# engine.sh COMMAND [ARG ...]: runs COMMAND with a Docker engine, and returns its exit status.
#
# An engine that answers is used as it is. Where none does, root on Debian gets a private one, unpacked
# from Debian's packages, with an image made of the same packages in place of the base image: COMMAND
# then finds BASE_IMAGE and TORCH set, which the Dockerfile takes as build arguments. That engine
# accepts a GPU reservation without having one, keeps its data in $CONTAINER_CACHE (about 20 GB, for
# the next time) and is gone when COMMAND has ended.
#
# What can't be had is said in one line that begins with "containers: skipped", with status 0.
set -uo pipefail
shopt -s nullglob
cd "$(dirname "$0")/../.."
cache=${CONTAINER_CACHE:-/var/cache/audio-voice-containers}
docker_release=trixie    # the oldest Debian with compose 2.24 or newer
free_gb_needed=30
default_base=$(sed -n 's/^ARG BASE_IMAGE=//p' docker/Dockerfile)
work=

say() { printf 'containers: %s\n' "$*" >&2; }
skip() { say "skipped: $*"; exit 0; }

compose_is_new_enough() {
  local version
  version=$(docker compose version --short 2>/dev/null) || return 1
  [ "$(printf '%s\n' 2.24 "${version#v}" | sort -V | head -1)" = 2.24 ]
}

# --- what stands in for the base image ---------------------------------------------------------------

# Debian's own addresses as this machine has them, in the form "deb URI SUITE main".
sources() { # sources RELEASE
  local here uri
  here=$(. /etc/os-release && echo "$VERSION_CODENAME")
  for part in "" -security; do
    uri=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(ORIGIN)' 'Identifier: Packages' |
      awk -v wanted="$here$part" '$2 == wanted && $3 == "Debian" {print $1; exit}')
    [ -n "$uri" ] || { say "apt knows no address of Debian's $here$part"; return 1; }
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $1$part main"
  done
}

make_base() {
  local release; release=$(. /etc/os-release && echo "$VERSION_CODENAME")
  export BASE_IMAGE=localhost/audio-voice-base:$release
  docker image inspect "$BASE_IMAGE" >/dev/null 2>&1 && return
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return
  unpack mmdebstrap "$release" mmdebstrap || return
  # The machine's own certificate authorities and package index hold inside as well.
  sources "$release" | "$cache/mmdebstrap/usr/bin/mmdebstrap" --quiet --variant=apt \
      --include=ca-certificates --aptopt='Acquire::Languages "none"' \
      --customize-hook='sync-in /usr/local/share/ca-certificates /usr/local/share/ca-certificates' \
      --customize-hook='chroot "$1" update-ca-certificates >/dev/null 2>&1' \
      "$release" "$cache/base.tar" - >&2 &&
    docker import --change 'CMD ["bash"]' "$cache/base.tar" "$BASE_IMAGE" >/dev/null &&
    rm "$cache/base.tar"
}

# --- the private engine ------------------------------------------------------------------------------

# Unpacks packages beside the system's own. The list of packages is fetched into the cache, too.
unpack() { # unpack FOLDER RELEASE PACKAGE[/RELEASE] ...
  local folder=$cache/$1 release=$2 apt=$cache/apt-$2; shift 2
  [ -e "$folder/.complete" ] && return
  rm -rf "$folder"; mkdir -p "$folder/debs" "$apt"/{lists/partial,cache/archives/partial} || return
  sources "$release" > "$apt/sources.list" || return
  : > "$apt/status"
  printf '%s;\n' "Dir::Etc::SourceList \"$apt/sources.list\"" 'Dir::Etc::SourceParts "/dev/null"' \
    'Dir::Etc::PreferencesParts "/dev/null"' "Dir::State::Lists \"$apt/lists\"" \
    "Dir::State::Status \"$apt/status\"" "Dir::Cache \"$apt/cache\"" \
    'Acquire::Languages "none"' 'APT::Sandbox::User "root"' > "$apt/apt.conf"
  APT_CONFIG=$apt/apt.conf apt-get -qq update >&2 &&
    (cd "$folder/debs" && APT_CONFIG=$apt/apt.conf apt-get -qq download "$@" >&2) || return
  for deb in "$folder"/debs/*.deb; do dpkg -x "$deb" "$folder" || return; done
  rm -r "$folder/debs" && touch "$folder/.complete"
}

start_engine() {
  local tools=$cache/engine/usr here
  here=$(. /etc/os-release && echo "$VERSION_CODENAME")
  unpack engine "$docker_release" docker.io docker-cli containerd docker-buildx docker-compose &&
    unpack runtime "$here" runc || return
  export PATH=$tools/bin:$tools/sbin:$cache/runtime/usr/sbin:$cache/runtime/usr/bin:$PATH
  command -v iptables >/dev/null ||
    { apt-get -qq update && apt-get -qq install --yes iptables; } >&2 || return
  work=$(mktemp -d /tmp/engine.XXXXXX) || return    # short: a socket's name has 108 bytes at most
  mkdir -p "$work/hook" "$work/client/cli-plugins" "$cache/data" || return
  ln -s "$tools"/libexec/docker/cli-plugins/* "$work/client/cli-plugins/"
  echo '{}' | tee "$work/client/config.json" > "$work/daemon.json"
  # The engine takes this name on its PATH as the sign that it can give GPUs to containers.
  install -m 755 /dev/stdin "$work/hook/nvidia-container-runtime-hook" <<< $'#!/bin/sh\nexit 0'
  iptables-save > "$work/iptables" && cat /proc/sys/net/ipv4/ip_forward > "$work/ip_forward" || return
  export DOCKER_HOST=unix://$work/engine.sock DOCKER_CONFIG=$work/client
  PATH=$work/hook:$PATH dockerd --host "$DOCKER_HOST" --data-root "$cache/data" \
    --exec-root "$work/run" --pidfile "$work/pid" --config-file "$work/daemon.json" \
    --ip6tables=false > "$work/log" 2>&1 9>&- &
  engine=$!
  trap stop_engine EXIT; trap 'exit 130' INT; trap 'exit 143' TERM
  for _ in $(seq 240); do
    if docker version >/dev/null 2>&1; then
      docker volume prune --all --force >/dev/null    # of a run that was killed
      return
    fi
    kill -0 "$engine" 2>/dev/null || break
    sleep 0.5
  done
  tail -5 "$work/log" >&2; return 1
}

stop_engine() {
  local status=$? running
  trap - EXIT
  running=$(docker ps --all --quiet); [ -z "$running" ] || docker rm --force --volumes $running
  docker network prune --force
  kill "$engine"; wait "$engine"
  ip link delete docker0
  for table in filter nat raw; do    # a table that was not there is not in what was saved either
    grep -qx "\*$table" "$work/iptables" && continue
    iptables --table "$table" --flush; iptables --table "$table" --delete-chain
  done
  grep -qx '\*filter' "$work/iptables" || iptables --policy FORWARD ACCEPT
  iptables-restore < "$work/iptables"
  cat "$work/ip_forward" > /proc/sys/net/ipv4/ip_forward
  umount "$work/run/netns/default"
  rm -rf "$work"
  exit "$status"
} >/dev/null 2>&1

# -----------------------------------------------------------------------------------------------------

[ $# -gt 0 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
if ! docker info >/dev/null 2>&1; then
  [ "$(id -u)" = 0 ] || skip "no Docker engine answers, and only root can start one"
  command -v apt-get dpkg >/dev/null && grep -q '^ID=debian' /etc/os-release ||
    skip "no Docker engine answers, and one is only started on Debian"
  mkdir -p "$cache" && exec 9> "$cache/lock" && flock -w 1800 9 || skip "$cache can't be locked"
  free_gb=$(df --output=avail -BG "$cache" | tail -1 | tr -dc 0-9)
  [ -e "$cache/data" ] || [ "$free_gb" -ge "$free_gb_needed" ] ||
    skip "$cache has $free_gb GB free, a first build needs $free_gb_needed"
  start_engine || skip "no Docker engine answers, and a private one can't be started"
fi
compose_is_new_enough || skip "docker compose 2.24 or newer is missing"
if [ -z "${BASE_IMAGE:-}" ] && ! docker image inspect "$default_base" >/dev/null 2>&1 &&
   ! timeout 300 docker pull --quiet "$default_base" >/dev/null 2>&1; then
  make_base || skip "no registry answers for the base image, and nothing can stand in for it here"
  timeout 300 docker run --rm "$BASE_IMAGE" apt-get -qq update ||
    skip "this engine's containers do not run, or have no network to be built over"
fi
if [ -z "${TORCH:-}" ]; then
  # The small build where its index answers; a GPU is not what these tests are about.
  python3 -c 'import urllib.request as r; r.urlopen("https://download.pytorch.org/whl/cpu/torch/", timeout=5)' \
    2>/dev/null && export TORCH=cpu || export TORCH=pypi
fi
say "engine $(docker version --format '{{.Server.Version}}'), compose $(docker compose version --short)," \
  "base ${BASE_IMAGE:-$default_base}, torch $TORCH (after $SECONDS s)"
"$@" 9>&-
