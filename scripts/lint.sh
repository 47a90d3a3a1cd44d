#!/usr/bin/env bash
# The checks of style, documentation and licences alone.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh" stage apt checks

style_checks
