#!/usr/bin/env bash
# matrix.sh [core]: version.sh for each PostgreSQL that the extension supports, or for those that PGS names, and pg_upgrade from the oldest
# of them to each other; one line a version at the end.
. "$(dirname "${BASH_SOURCE[0]}")/lib/begin.sh" common apt built postgres wheel server
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
LOGS=$TARGET/logs
mkdir -p "$LOGS"
unset PG PG_CONFIG OLDER_PG_CONFIG

# The pg_config of a major: as setup finds or makes it, else of a package for Python. In a shell of its own.
config_of() {
  export PG=$1 SETUP_ENV=$TARGET/setup-of-matrix.env
  if "$ROOT/scripts/setup.sh" >"$LOGS/setup-$PG.log" 2>&1; then
    # shellcheck source=/dev/null
    . "$SETUP_ENV"
    printf '%s' "$PG_CONFIG"
  else
    wheel_postgres "$PG" >>"$LOGS/setup-$PG.log" 2>&1 && wheel_pg_config "$PG"
  fi
}

# Where version.sh leaves the copy of a server that has the extension.
installed_config() {
  local copy=pg
  if [ "$2" = core ]; then copy=test-pg; fi
  printf '%s/%s%s%s/pg_config' "$(private_base)" "$copy" "$(pg_major "$1")" "$("$1" --bindir)"
}

lines=()
failed=0
older=
for major in ${PGS:-$(seq "$MIN_PG" "$MAX_PG")}; do
  say "PostgreSQL $major"
  if ! config=$(config_of "$major"); then
    lines+=("PostgreSQL $major: not to be had here, see $LOGS/setup-$major.log")
    # What was asked for by name must be tried; of all that there are, those that can be.
    if [ -n "${PGS-}" ]; then failed=1; fi
    continue
  fi
  status=0
  # The logs of one version are not the next one's.
  OLDER_PG_CONFIG=$older PG_CONFIG=$config "$ROOT/scripts/version.sh" "${1-}" 2>&1 | tee "$LOGS/matrix-$major.log" || status=$?
  if [ "$status" = 0 ]; then
    lines+=("$(sed -n 's/^==> \(PostgreSQL .*: passed in\)/\1/p' "$LOGS/matrix-$major.log" | tail -n 1), $(grep -oE '[0-9]+ tests( \([0-9]+ ignored\))?$' "$LOGS/matrix-$major.log" | paste -sd+ | sed 's/+/ + /g')")
    if [ -z "$older" ]; then older=$(installed_config "$config" "${1-}"); fi
  else
    lines+=("PostgreSQL $major: FAILED, see $LOGS/matrix-$major.log")
    failed=1
  fi
done
if ! printf '%s\n' "${lines[@]}" | grep -q ': passed in'; then failed=1; fi
echo
printf '%s\n' "${lines[@]}"
exit "$failed"
