# One headline a stage, its whole output in a file; sourced, never run. Needs common.sh and TARGET.
# Gives: stage, count_tests.

LOGS=$TARGET/logs
mkdir -p "$LOGS"
STARTED=$SECONDS

# stage NAME COMMAND...: runs it; ends the script with the name and the last lines if it fails.
# VERBOSE=1 shows everything as it comes.
stage() {
  local name=$1 began=$SECONDS status=0
  LOG=$LOGS/${name// /-}.log
  shift
  printf '==> %-28s ' "$name"
  if [ "${VERBOSE:-0}" != 0 ]; then
    echo
    ("$@") 2>&1 </dev/null | tee "$LOG" || status=$?
  else
    # A shell of its own: a function that gives up must not take the headline's end with it.
    ("$@") >"$LOG" 2>&1 </dev/null || status=$?
  fi
  if [ "$status" != 0 ]; then
    printf 'FAILED after %s s\n' "$((SECONDS - began))"
    if [ "${VERBOSE:-0}" = 0 ]; then
      grep -E '^(error|warning: unused|test .* FAILED|---- .* stdout)' "$LOG" | sort -u | head -n 30 || true
      echo '...'
      tail -n "${TAIL:-60}" "$LOG"
    fi
    die "the stage '$name' failed" "all of its output: $LOG"
  fi
  printf 'ok  %5s s%s\n' "$((SECONDS - began))" "$(count_tests "$LOG")"
}

# ", N tests" of a log of cargo test; nothing for other logs.
count_tests() {
  awk '/^test result:/ { seen = 1; passed += $4; ignored += $8 }
    END { if (seen) printf ", %d tests%s", passed, ignored ? " (" ignored " ignored)" : "" }' "$1"
}

# A stage of tests in which none ran has tested nothing.
test_stage() {
  stage "$@"
  local passed
  passed=$(awk '/^test result:/ { passed += $4 } END { print passed + 0 }' "$LOG")
  [ "$passed" -gt 0 ] || die "the stage '$1' ran no test" "all of its output: $LOG"
}
