#!/usr/bin/env bash
# The checks of style, documentation and licences alone.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh"
. "$ROOT/scripts/lib/stage.sh"
. "$ROOT/scripts/lib/apt.sh"
. "$ROOT/scripts/lib/checks.sh"

style_checks
