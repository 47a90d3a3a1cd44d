#!/usr/bin/env bash
# Finds, or installs, what building and testing needs, and writes it down in target/setup.env.
# Says nothing when everything is there.
#
#   scripts/setup.sh [--without-apt]
#
# PG=17 or PG_CONFIG=/path choose the server; otherwise the newest supported one that has its headers. A major that is asked
# for and is neither here nor among the system's packages is built from Debian's source package, into the cache.
# --without-apt installs nothing on the system and names what is missing instead.
. "$(dirname "${BASH_SOURCE[0]}")/lib/begin.sh" common apt built postgres tools pgvector

for argument in "$@"; do
  case $argument in
    --without-apt) WITHOUT_APT=1 ;;
    -h | --help)
      sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *) die "unknown argument: $argument" "try --help" ;;
  esac
done

# Root through sudo would leave files in the tree and the cache that their owner cannot change.
if [ "$(id -u)" = 0 ] && [ -n "${SUDO_UID-}" ] && [ "$SUDO_UID" != 0 ] && [ "$(stat -c %u "$ROOT")" = "$SUDO_UID" ]; then
  die "do not use sudo here: files in your tree would end up as root's" \
    "run it as yourself; the steps that need root ask for sudo on their own"
fi

ensure_rust
ensure_build_tools
ensure_postgres
ensure_pgvector
ensure_cargo_pgrx
ensure_pgrx_home

target=${CARGO_TARGET_DIR:-$ROOT/target}
mkdir -p "$target"
# Written whole or not at all: two makes may run at once.
SETUP_ENV=${SETUP_ENV:-$target/setup.env}
env_file=$(mktemp "$SETUP_ENV.XXXXXX")
{
  printf 'export PG=%q\n' "$PG"
  printf 'export PG_CONFIG=%q\n' "$PG_CONFIG"
  printf 'export PGRX_HOME=%q\n' "$PGRX_HOME"
  printf 'export CARGO_PGRX=%q\n' "$CARGO_PGRX"
  printf 'export PATH=%q:"$PATH"\n' "$(dirname "$CARGO_PGRX"):$(dirname "$(command -v cargo)")"
} >"$env_file"
chmod 644 "$env_file"
mv "$env_file" "$SETUP_ENV"
