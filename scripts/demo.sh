#!/usr/bin/env bash
# Builds the extension into a private copy of the server and runs the demo on it; the installed server is not touched.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh"
. "$ROOT/scripts/lib/stage.sh"
. "$ROOT/scripts/lib/checks.sh"

private_server
stage "build the extension" install_private
stage "build the demo" cargo build --release -p autoembed-tests --bin demo
PG_CONFIG=$PRIVATE_PG_CONFIG exec "$TARGET/release/demo"
