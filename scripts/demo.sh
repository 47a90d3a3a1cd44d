#!/usr/bin/env bash
# Builds the extension into a private copy of the server and runs the demo on it; the installed server is not touched.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh" stage checks

run_program demo
