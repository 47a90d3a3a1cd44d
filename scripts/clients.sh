#!/usr/bin/env bash
# The programs of examples/clients, in SQL, Python, JavaScript and Rust, each run against a private server.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh" stage checks apt clients

# Here they are what was asked for, so nothing is left out.
ensure_python || die "python3 is missing or too old" "install Python 3.11 or later with venv (packages on Debian and Ubuntu: python3 python3-venv)"
ensure_node || die "node is missing or too old" "install Node 18 or later with npm (packages on Debian and Ubuntu: nodejs npm)"
private_server
stage "build and install" install_private
test_stage "clients in SQL and Rust" env PG_CONFIG="$PRIVATE_PG_CONFIG" cargo test -p autoembed-tests --test cases -- clients::
clients_stages
say "all passed in $(((SECONDS - STARTED) / 60)) min $(((SECONDS - STARTED) % 60)) s"
