#!/usr/bin/env bash
# Everything that must hold before a change is done; one headline a stage. VERBOSE=1 shows all output. PG_ALSO=17: then what version.sh
# calls the core, on that version too.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh" stage checks apt clients beside

say "autoembed on PostgreSQL $("$PG_CONFIG" --version | cut -d' ' -f2), logs in $LOGS"
private_server
trap clean_in_server_tests EXIT

style_checks
test_stage "unit tests" cargo test
test_stage "in-server tests" in_server_tests
keep_test_build
# The shipped build, as users get it; the in-server tests have left a test build in the copy.
stage "build and install" install_private
if [ "$(uname -s)" = Linux ]; then stage "packages" env VERBOSE=1 "$ROOT/scripts/package.sh" --built "$TARGET/release/autoembed-pg$PG"; fi
printf 'export PG_CONFIG=%q TEST_BUILD_PG_CONFIG=%q\n' "$PRIVATE_PG_CONFIG" "$TEST_BUILD_PG_CONFIG" >"$LOGS/servers.env"
clients_stages
test_stage "tests through SQL" scenarios
beside_stages
say_failed_once
if [ -n "$CLIENTS_NOT_RUN$BESIDE_NOT_RUN" ]; then warn "not run: $CLIENTS_NOT_RUN${BESIDE_NOT_RUN:+${CLIENTS_NOT_RUN:+, }$BESIDE_NOT_RUN}"; fi
for other in ${PG_ALSO-}; do
  if [ "$other" = "$PG" ]; then
    warn "PG_ALSO=$other is the version that everything ran on: no other was tried"
    continue
  fi
  older=
  if [ "$other" -gt "$PG" ]; then older=$PRIVATE_PG_CONFIG; fi
  env -u PG_CONFIG PG="$other" OLDER_PG_CONFIG="$older" "$ROOT/scripts/version.sh" core
done
say "all passed in $(((SECONDS - STARTED) / 60)) min $(((SECONDS - STARTED) % 60)) s"
