#!/usr/bin/env bash
# version.sh [core]: the extension for the PostgreSQL that PG or PG_CONFIG names: compiled without a warning, tested in the server and through
# SQL, in a release build. `core`: a test build for everything, and those scenarios that see most of the server.
# OLDER_PG_CONFIG names a server that has the extension: its data are then brought over by pg_upgrade.
[ -n "${PG-}${PG_CONFIG-}" ] || { echo "error: give PG=17, or PG_CONFIG" >&2; exit 1; }
SETUP_ENV=${CARGO_TARGET_DIR:-$(dirname "${BASH_SOURCE[0]}")/../target}/setup-of-version.env
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh" stage checks

# What meets the server's own workings: the queue's pages, plans, locks, snapshots, dumps, processes, replication.
CORE=(quickstart:: atomic:: stale:: bulk:: search:: plans:: partitions:: upgrade:: dumps:: lifecycle:: standby:: metrics:: indexes::
  text_index:: log:: versions::)

release=$("$PG_CONFIG" --version | cut -d' ' -f2)
say "autoembed on PostgreSQL $release, logs in $LOGS"
private_server
trap clean_in_server_tests EXIT
stage "clippy on $PG" clippy_extension
test_stage "in-server tests on $PG" in_server_tests
keep_test_build
if [ "${1-}" = core ]; then
  PRIVATE_PG_CONFIG=$TEST_BUILD_PG_CONFIG
  filters=("${CORE[@]}")
else
  stage "build and install on $PG" install_private
  filters=()
fi
test_stage "tests through SQL on $PG" scenarios "${filters[@]}"
say_failed_once
if [ -n "${OLDER_PG_CONFIG-}" ]; then
  test_stage "pg_upgrade to $PG" env PG_CONFIG="$OLDER_PG_CONFIG" NEWER_PG_CONFIG="$PRIVATE_PG_CONFIG" \
    cargo test -p autoembed-tests --test cases -- --ignored --exact upgrade::servers::g34_pg_upgrade_to_a_later_version
fi
say "PostgreSQL $release: passed in $(((SECONDS - STARTED) / 60)) min $(((SECONDS - STARTED) % 60)) s"
