#!/usr/bin/env bash
# soak.sh [SECONDS]: builds the extension into a private copy of the server and runs the soak on it; the report is Markdown.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh" stage checks

run_program soak "$@"
