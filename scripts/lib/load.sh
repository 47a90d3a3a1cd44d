# What scripts start with that build or run the extension; sourced, never run, with the names of the further parts that they need.
# Gives: common.sh, server.sh, faults.sh, released.sh, package.sh; what setup.sh found (PG, PG_CONFIG, PGRX_HOME, CARGO_PGRX); TARGET.
. "$(dirname "${BASH_SOURCE[0]}")/begin.sh" common server faults released package

TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
export SETUP_ENV=${SETUP_ENV:-$TARGET/setup.env}
"$ROOT/scripts/setup.sh"
# shellcheck source=/dev/null
. "$SETUP_ENV"
cd "$ROOT"
for part in "$@"; do
  # shellcheck source=/dev/null
  . "$lib/$part.sh"
done
