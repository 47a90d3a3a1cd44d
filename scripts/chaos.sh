#!/usr/bin/env bash
# chaos.sh [SECONDS [SEED [MIX]]]: builds the extension into a private copy of the server and runs the chaos on it.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh"
. "$ROOT/scripts/lib/stage.sh"
. "$ROOT/scripts/lib/checks.sh"

private_server
stage "build the extension" install_private
stage "build the chaos" cargo build --release -p autoembed-tests --bin chaos
# A server that has RUST_BACKTRACE puts backtraces into the details that clients see.
exec env -u RUST_BACKTRACE PG_CONFIG="$PRIVATE_PG_CONFIG" "$TARGET/release/chaos" "$@"
