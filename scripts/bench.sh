#!/usr/bin/env bash
# bench.sh [quick] [NAME,NAME]: builds the extension into a private copy of the server and measures how fast it is; the report is Markdown.
# A full run of everything goes into docs/, others into target/bench/.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh"
. "$ROOT/scripts/lib/stage.sh"
. "$ROOT/scripts/lib/checks.sh"

arguments=()
folder=$TARGET/bench
if [ "${1-}" = quick ]; then
  arguments+=(--quick)
elif [ -z "${2-}" ]; then
  folder=$ROOT/docs
fi
if [ -n "${2-}" ]; then arguments+=(--only "$2"); fi

private_server
stage "build the extension" install_private
stage "build the benchmark" cargo build --release -p autoembed-tests --bin bench
say "figures and pictures go to $folder/performance.*"
exec env -u RUST_BACKTRACE PG_CONFIG="$PRIVATE_PG_CONFIG" "$TARGET/release/bench" "${arguments[@]}" --to "$folder"
