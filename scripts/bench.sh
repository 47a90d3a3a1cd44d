#!/usr/bin/env bash
# bench.sh [quick] [NAME,NAME]: builds the extension into a private copy of the server and measures how fast it is; the report is Markdown.
# A full run of everything goes into docs/, others into target/bench/.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh" stage checks

arguments=()
folder=$TARGET/bench
if [ "${1-}" = quick ]; then
  arguments+=(--quick)
elif [ -z "${2-}" ]; then
  folder=$ROOT/docs
fi
if [ -n "${2-}" ]; then arguments+=(--only "$2"); fi

say "figures and pictures go to $folder/performance.*"
run_program bench "${arguments[@]}" --to "$folder"
