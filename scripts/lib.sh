# Helpers shared by the scripts in this folder and by the tests: source it, do not run it.
# shellcheck shell=bash

set -euo pipefail

REPO_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${INFERENCE_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/inference-operator}
export REPO_ROOT CACHE

# Seconds between two "still at it" lines of a long step.
HEARTBEAT_SECONDS=15

# say MESSAGE... : a progress line. Progress goes to stderr, results to stdout.
say() {
  printf '%s\n' "==> $*" >&2
}

# fail MESSAGE... : say what is wrong and what to do, and end the script.
fail() {
  printf '%s\n' "error: $*" >&2
  exit 1
}

# need_command COMMAND HINT : end with the hint when a command is missing.
need_command() {
  command -v "$1" >/dev/null 2>&1 || fail "the command '$1' is missing: $2"
}

# need_linux_root : end with a clear message where a one-machine cluster cannot run.
need_linux_root() {
  [ "$(uname -s)" = Linux ] ||
    fail "this needs Linux (here: $(uname -s)). docs/install.md says how to install the operator into a cluster that you have."
  [ "$(id -u)" = 0 ] ||
    fail "this needs root, because it makes namespaces, mounts and cgroups. Run it with sudo."
  need_command unshare "install util-linux"
  unshare --mount --net --pid --fork true 2>/dev/null ||
    fail "this machine lets nobody make a network, mount and process namespace ('unshare --mount --net --pid' fails). In a container, give it --privileged."
}

# content_of PATH... : the names and hashes of the files (folders: all files below).
content_of() {
  local path
  for path in "$@"; do
    (cd "$REPO_ROOT" && find "$(realpath --relative-to=. "$path")" -type f -print0 | sort -z | xargs -0 sha256sum)
  done
}

# short_hash : a key made of all that comes in on stdin.
short_hash() {
  sha256sum | cut -c1-16
}

# cache_key PATH... : a key over the names and contents of the files, and over the compilers.
cache_key() {
  {
    go version 2>/dev/null || true
    rustc --version 2>/dev/null || true
    content_of "$@"
  } | short_hash
}

# heartbeat LABEL : prints a line every HEARTBEAT_SECONDS until it is killed.
heartbeat() {
  local began=$SECONDS never
  # A pipe that nobody writes to: waiting on it needs no child, so killing the heartbeat leaves nothing behind.
  exec {never}<> <(:)
  while true; do
    read -r -t "$HEARTBEAT_SECONDS" -u "$never" || true
    say "$1: $((SECONDS - began)) s so far"
  done
}

# with_progress LABEL COMMAND... : run a slow command quietly, with heartbeat lines; on failure show the end of what it
# printed and end the script. Call it plainly: inside "if" or "||" bash would let COMMAND go on after an error.
with_progress() {
  local label=$1 began=$SECONDS log beat status
  shift
  log=$(mktemp)
  say "$label"
  heartbeat "$label" >/dev/null &
  beat=$!
  set +e
  (set -e; "$@") >"$log" 2>&1 </dev/null
  status=$?
  set -e
  kill "$beat" 2>/dev/null || true
  wait "$beat" 2>/dev/null || true
  if [ "$status" -ne 0 ]; then
    tail -n 40 "$log" >&2
    rm -f "$log"
    fail "$label: failed with status $status after $((SECONDS - began)) s; its last lines are above"
  fi
  rm -f "$log"
  say "$label: done in $((SECONDS - began)) s"
}

# build_once FOLDER LABEL COMMAND... : run COMMAND with a fresh folder as its last argument and move that to FOLDER when it
# went well; nothing where FOLDER is there already. So a folder in the cache is always whole. One build runs at a time, of
# those with the same BUILD_LOCK.
build_once() {
  local folder=$1 label=$2 lock fresh
  shift 2
  [ ! -d "$folder" ] || return 0
  mkdir -p "$(dirname "$folder")"
  exec {lock}>"$CACHE/${BUILD_LOCK:-build}.lock"
  flock -n "$lock" || { say "waiting for another build" && flock "$lock"; }
  if [ ! -d "$folder" ]; then
    rm -rf "$(dirname "$folder")"/*.tmp.* # left by builds that were killed
    fresh=$(mktemp -d "$folder.tmp.XXXXXX")
    chmod 755 "$fresh"
    with_progress "$label" "$@" "$fresh"
    mv -T "$fresh" "$folder"
  fi
  exec {lock}>&-
}

# pack_image NAME:TAG FOLDER ENTRYPOINT OUT.tar : a one-layer docker archive of a folder, without any registry or builder.
pack_image() {
  local name=$1 folder=$2 entrypoint=$3 out=$4 work layer config
  work=$(mktemp -d)
  tar -C "$folder" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$work/layer.tar" .
  layer=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
  printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["%s"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$(go env GOARCH)" "$entrypoint" "$layer" >"$work/config"
  config=$(sha256sum "$work/config" | cut -d' ' -f1).json
  mv "$work/config" "$work/$config"
  printf '[{"Config":"%s","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$config" "$name" >"$work/manifest.json"
  tar -C "$work" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$out" manifest.json "$config" layer.tar
  rm -rf "$work"
}

# keep_newest COUNT FOLDER... : remove all but the COUNT folders used last, so that a cache does not grow for ever.
keep_newest() {
  local count=$1 folder
  shift
  # shellcheck disable=SC2012 # names in the cache are plain: a word and a hash
  ls -dt "$@" | tail -n "+$((count + 1))" | while read -r folder; do
    rm -rf "$folder"
  done
}

# python_tools REQUIREMENT... : a folder in the cache with these Python packages, as the last line of stdout. Its programs are in bin/.
python_tools() {
  local folder
  need_command python3 "install Python 3 with its venv module (Debian: python3-venv)"
  folder=$CACHE/python/${1%%=*}-$(printf '%s\n' "$@" | short_hash)
  build_once "$folder" "fetching $*" install_python_tools "$@"
  echo "$folder"
}

# install_python_tools REQUIREMENT... FOLDER : by a pip of its own, because Debian's refuses to install beside its packages.
install_python_tools() {
  local folder=${*: -1} requirements=("${@:1:$#-1}")
  python3 -m venv "$folder.venv"
  "$folder.venv/bin/pip" --disable-pip-version-check --quiet install --target "$folder" "${requirements[@]}"
  rm -rf "$folder.venv"
}
