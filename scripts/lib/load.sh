# What every script but setup.sh starts with; sourced, never run.
# Gives: common.sh, server.sh, released.sh, package.sh; what setup.sh found (PG, PG_CONFIG, PGRX_HOME, CARGO_PGRX); TARGET.
set -euo pipefail
export LC_ALL=C.UTF-8
umask 022
lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for part in common server released package; do
  # shellcheck source=/dev/null
  . "$lib/$part.sh"
done

TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
export SETUP_ENV=${SETUP_ENV:-$TARGET/setup.env}
"$ROOT/scripts/setup.sh"
# shellcheck source=/dev/null
. "$SETUP_ENV"
cd "$ROOT"
