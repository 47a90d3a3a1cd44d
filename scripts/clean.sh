#!/usr/bin/env bash
# Removes what the other scripts left for this tree: builds, logs, private servers. The cache of tools stays.
. "$(dirname "${BASH_SOURCE[0]}")/lib/begin.sh" common server

remove_private_servers
rm -rf "${CARGO_TARGET_DIR:-$ROOT/target}"
