#!/usr/bin/env bash
# mutants.sh [PART_OF_A_NAME]: takes one mechanism after the other out of a copy of the tree (tests/mutants/), and sees the
# tests of its guarantee fail.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh" stage

private_server
tree=$PRIVATE_BASE/mutants/tree
server=$PRIVATE_BASE/mutants/pg$PG
config=$server$("$PG_CONFIG" --bindir)/pg_config
rm -rf "$PRIVATE_BASE/mutants"
mkdir -p "$tree"
cp -a "$PRIVATE_BASE/pg$PG" "$server"
git -C "$ROOT" ls-files -z | (cd "$ROOT" && xargs -0 cp --parents -t "$tree")

build() {
  cd "$tree" && CARGO_TARGET_DIR=$TARGET/mutants "$CARGO_PGRX" pgrx install --package autoembed --pg-config "$config" \
    --no-default-features --features "pg$PG pg_test" && chmod -R a+rX "$server"
}

try() {
  env -u RUST_BACKTRACE PG_CONFIG="$config" TEST_BUILD_PG_CONFIG="$config" \
    cargo test -p autoembed-tests --test cases -- "$@" 2>&1 </dev/null | tee "$LOGS/mutant-tests.log"
}

stage "build the tests" cargo test -p autoembed-tests --test cases --no-run
# What fails anyhow proves nothing.
read -ra all < <(sed -n 's/^# tests: //p' "$ROOT"/tests/mutants/*"${1:-}"*.patch | tr ' ' '\n' | sort -u | tr '\n' ' '; echo)
stage "nothing taken out" build
stage "its tests pass" try "${all[@]}"
survived=0
for patch in "$ROOT"/tests/mutants/*"${1:-}"*.patch; do
  name=$(basename "$patch" .patch)
  read -ra tests < <(sed -n 's/^# tests: //p' "$patch")
  (cd "$tree" && git apply "$patch") || die "$name does not fit the code any more" "make the patch anew"
  stage "$name" build
  if try "${tests[@]}" >/dev/null; then
    say "    SURVIVED: no test of ${tests[*]} failed"
    survived=$((survived + 1))
  else
    grep -q '^test result: FAILED' "$LOGS/mutant-tests.log" || die "the tests did not run" "$LOGS/mutant-tests.log"
    sed -n 's/^test result: FAILED\. \([0-9]*\) passed; \([0-9]*\) failed.*/    killed by \2 tests, unseen by \1:/p' "$LOGS/mutant-tests.log"
    sed -n 's/^test \(.*\) \.\.\. FAILED$/      \1/p' "$LOGS/mutant-tests.log" | sort
  fi
  (cd "$tree" && git apply -R "$patch")
done
rm -rf "$PRIVATE_BASE/mutants"
[ "$survived" = 0 ] || die "$survived mechanisms can be taken out and no test fails" "see above"
say "every mechanism that was taken out was missed"
