#!/usr/bin/env bash
# quality.sh [SET...]: builds the extension into a private copy of the server and measures searches on it; the report is Markdown.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh"
. "$ROOT/scripts/lib/stage.sh"
. "$ROOT/scripts/lib/checks.sh"

private_server
stage "build the extension" install_private
stage "build the program" cargo build --release -p autoembed-tests --bin quality
exec env -u RUST_BACKTRACE PG_CONFIG="$PRIVATE_PG_CONFIG" "$TARGET/release/quality" "$@"
