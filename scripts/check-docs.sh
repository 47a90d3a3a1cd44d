#!/usr/bin/env bash
# check-docs.sh: whether the documentation holds together; needs no server.
. "$(dirname "${BASH_SOURCE[0]}")/lib/begin.sh" common tools

ensure_rust
cd "$ROOT"
cargo run --quiet -p autoembed-tests --bin check_docs ||
  die "the documentation does not hold together" "each line above names a page and a line; tests/documented.txt lists who runs its code"
