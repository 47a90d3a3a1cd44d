#!/usr/bin/env bash
# Builds the extension for the server of PG_CONFIG, and puts it nowhere: install.sh finds all of it compiled.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh" stage

stage "build the extension" build_package "$TARGET/release/autoembed-pg$PG"
