#!/usr/bin/env bash
# soak.sh [SECONDS]: builds the extension into a private copy of the server and runs the soak on it; the report is Markdown.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh"
. "$ROOT/scripts/lib/stage.sh"
. "$ROOT/scripts/lib/checks.sh"

private_server
stage "build the extension" install_private
stage "build the soak" cargo build --release -p autoembed-tests --bin soak
exec env -u RUST_BACKTRACE PG_CONFIG="$PRIVATE_PG_CONFIG" "$TARGET/release/soak" "$@"
