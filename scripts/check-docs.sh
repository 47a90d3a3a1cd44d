#!/usr/bin/env bash
# check-docs.sh: whether the documentation holds together; needs no server and no network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo run --quiet -p autoembed-tests --bin check_docs
