#!/usr/bin/env bash
# chaos.sh [SECONDS [SEED [MIX]]]: builds the extension into a private copy of the server and runs the chaos on it.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh" stage checks

run_program chaos "$@"
