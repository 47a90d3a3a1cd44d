#!/usr/bin/env bash
# quality.sh [SET...]: builds the extension into a private copy of the server and measures searches on it; the report is Markdown.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh" stage checks

run_program quality "$@"
