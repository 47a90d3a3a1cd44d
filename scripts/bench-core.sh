#!/usr/bin/env bash
# How many instructions the hot paths outside of Postgres take: a table, the same on a quiet machine and on a busy one.
set -euo pipefail
export LC_ALL=C.UTF-8
lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/lib
for part in common apt tools paths; do
  # shellcheck source=/dev/null
  . "$lib/$part.sh"
done

ensure_rust
ensure_valgrind
run build_paths "$ROOT" "$TARGET"
run "$TARGET/counted/paths" measure "$WORK"
