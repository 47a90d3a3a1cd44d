#!/usr/bin/env bash
# Removes what the other scripts left for this tree: builds, logs, private servers. The cache of tools stays.
set -euo pipefail
lib=$(dirname "${BASH_SOURCE[0]}")/lib
. "$lib/common.sh"
. "$lib/server.sh"

remove_private_servers
rm -rf "${CARGO_TARGET_DIR:-$ROOT/target}"
