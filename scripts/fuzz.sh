#!/usr/bin/env bash
# Hostile answers for SECONDS seconds (default 60), in rounds of other cases; a round that fails prints how to see it again.
. "$(dirname "${BASH_SOURCE[0]}")/lib/begin.sh" common tools
for_seconds=${1:-60}

case $for_seconds in
  '' | *[!0-9]*) die "SECONDS is not a number of seconds: $for_seconds" "as in: make fuzz SECONDS=600" ;;
esac
ensure_rust
cd "$ROOT"
cargo test --release --quiet -p autoembed-core --test fuzz --no-run

log=$(mktemp)
trap 'rm -f "$log"' EXIT
cases=0
round=0
SECONDS=0
until [ "$round" -gt 0 ] && [ "$SECONDS" -ge "$for_seconds" ]; do
  round=$((round + 1))
  seed=$(od -An -N8 -tu8 /dev/urandom | tr -d ' ')
  export PROPTEST_RNG_SEED=$seed PROPTEST_CASES=${PROPTEST_CASES:-50000}
  if ! cargo test --release --quiet -p autoembed-core --test fuzz -- --nocapture >"$log" 2>&1; then
    cat "$log"
    die "round $round failed" \
      "again: PROPTEST_RNG_SEED=$seed PROPTEST_CASES=$PROPTEST_CASES cargo test --release -p autoembed-core --test fuzz"
  fi
  ran=$(awk '/fuzz: .* cases$/ { sum += $(NF - 1) } END { print sum + 0 }' "$log")
  [ "$ran" -gt 0 ] || die "round $round ran no case" "cargo test -p autoembed-core --test fuzz"
  cases=$((cases + ran))
  say "round $round, seed $seed: $ran cases, $cases in $SECONDS s"
done
