#!/usr/bin/env bash
# How many instructions the hot paths outside of Postgres take: a table, the same on a quiet machine and on a busy one.
. "$(dirname "${BASH_SOURCE[0]}")/lib/begin.sh" common apt tools paths

ensure_rust
ensure_valgrind
run build_paths "$ROOT" "$TARGET"
run "$TARGET/counted/paths" measure "$WORK"
