#!/usr/bin/env bash
# An embedding server that nobody here wrote: llama.cpp's llama-server from Debian testing, with a tiny random model.
#
#   real_server.sh [PORT]     prints its base URL when it is ready, and runs until it is ended
#   REAL_KEY=...              requests need this key
#
# The packages are unpacked into the cache folder with their own C library: nothing is installed, and any Linux with
# apt and the keys of the Debian archive will do. Vectors have 64 dimensions, texts at most 512 tokens.
set -euo pipefail
export LC_ALL=C.UTF-8
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/common.sh"
# shellcheck source=/dev/null
. "$ROOT/tests/judge/serve.sh"

REAL=$CACHE/real
TOKENIZER=$ROOT/share/builtin/tokenizer.json
PACKAGE=llama.cpp-tools
SUITE=testing

# fetch DIR: the package and all it needs, as .deb files, checked by apt against the archive's signature. The machine's
# own lists, sources and packages play no part.
fetch() {
  local dir=$1 keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  have apt-get && have dpkg-deb || die "apt-get and dpkg-deb are needed to fetch $PACKAGE" "this needs Debian or Ubuntu"
  [ -r "$keyring" ] || die "the keys of the Debian archive are missing" "install the package debian-archive-keyring"
  mkdir -p "$dir/lists/partial" "$dir/archives/partial"
  : >"$dir/status"
  printf 'deb [signed-by=%s] http://deb.debian.org/debian %s main\n' "$keyring" "$SUITE" >"$dir/sources.list"
  cat >"$dir/apt.conf" <<CONF
Dir::Etc::SourceList "$dir/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "$dir";
Dir::State::Lists "$dir/lists";
Dir::State::status "$dir/status";
Dir::Cache "$dir";
Dir::Cache::archives "$dir/archives";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";
Debug::NoLocking "true";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
CONF
  # apt's download user may not enter this private folder; the signature is what is trusted.
  if [ "$(id -u)" = 0 ]; then echo 'APT::Sandbox::User "root";' >>"$dir/apt.conf"; fi
  APT_CONFIG=$dir/apt.conf apt-get -qq update
  APT_CONFIG=$dir/apt.conf apt-get -qq -y --no-install-recommends --download-only install "$PACKAGE"
}

# Unpacks the server and writes its model, once; whole or not at all.
prepare() {
  [ -x "$REAL/root/usr/bin/llama-server" ] && [ -s "$REAL/tiny.gguf" ] && return
  local work deb
  work=$(mktemp -d "$REAL/new.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT
  say "fetching $PACKAGE of Debian $SUITE into $REAL (20 MB, once)" >&2
  fetch "$work" >"$REAL/fetch.log" 2>&1 || {
    tail -n 20 "$REAL/fetch.log" >&2
    die "$PACKAGE could not be fetched" "all of the output: $REAL/fetch.log"
  }
  mkdir "$work/root"
  for deb in "$work"/archives/*.deb; do dpkg-deb -x "$deb" "$work/root"; done
  python3 "$ROOT/tests/judge/tiny_model.py" "$TOKENIZER" "$work/tiny.gguf"
  rm -rf "$REAL/root"
  mv "$work/root" "$REAL/root"
  mv "$work/tiny.gguf" "$REAL/tiny.gguf"
  rm -rf "$work"
  trap - EXIT
}

# Sets RUN to the server's command: its own loader and libraries, since it is from a newer system than this one may be.
command_line() {
  local root=$REAL/root loader libraries backend name
  loader=$(find "$root/usr" -type f -name 'ld-linux*' -print -quit)
  libraries=$(dirname "$(find "$root/usr/lib" -name 'libllama.so.0' -print -quit)")
  # The plainest code for this kind of processor: the sums are the same on every machine.
  for name in cpu-x64 cpu-armv8.0_1 cpu 'cpu-*'; do
    backend=$(find "$libraries/ggml" -name "libggml-$name.so" -print -quit)
    if [ -n "$backend" ]; then break; fi
  done
  [ -n "$loader" ] && [ -n "$backend" ] || die "the unpacked server is not whole" "remove $REAL and run this again"
  export GGML_BACKEND_PATH=$backend
  RUN=("$loader" --library-path "$libraries:$libraries/llama" "$root/usr/bin/llama-server")
}

have python3 || die "python3 is missing" "install it"
mkdir -p "$REAL"
# One prepares, whoever else starts meanwhile waits for it.
exec 9>"$REAL/lock"
flock 9
prepare
exec 9>&-
command_line
port=${1:-$(free_port)}
options=(-m "$REAL/tiny.gguf" --alias tiny --embedding -c 2048 -np 4 -b 512 -ub 512 --offline --no-ui)
if [ -n "${REAL_KEY-}" ]; then options+=(--api-key "$REAL_KEY"); fi
serve "http://127.0.0.1:$port/v1" "http://127.0.0.1:$port/health" "$REAL/server-$port.log" \
  "${RUN[@]}" "${options[@]}" --host 127.0.0.1 --port "$port"
