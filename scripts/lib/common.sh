# Shared by the scripts of this folder; sourced, never run.
# Gives: say, warn, die, have, as_root, writable, for_dir, cargo_version, MIN_PG, MAX_PG, CACHE, ROOT.

# The PostgreSQL majors for which the extension has a cargo feature.
MIN_PG=15
MAX_PG=18

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/autoembed

say() { printf '==> %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }

# die SENTENCE [HINT]: ends the script.
die() {
  printf 'error: %s\n' "$1" >&2
  if [ -n "${2-}" ]; then printf 'hint:  %s\n' "$2" >&2; fi
  exit 1
}

# cargo_version FILE: the version that a Cargo.toml gives its crate.
cargo_version() { sed -nE 's/^version *= *"(.*)"/\1/p' "$1" | head -n 1; }

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root: directly, or through sudo for everybody else.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif have sudo; then
    sudo -- "$@"
  else
    die "this step needs root and there is no sudo: $*" \
      "run that command as root yourself, then run this again"
  fi
}

# A path is writable by us, or would be once it is created.
writable() {
  local path=$1
  while [ ! -e "$path" ]; do path=$(dirname "$path"); done
  [ -w "$path" ]
}

# Runs a command as root only where DIR cannot be written by us.
for_dir() {
  local dir=$1
  shift
  if writable "$dir"; then "$@"; else as_root "$@"; fi
}
