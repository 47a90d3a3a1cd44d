# What bench-core.sh and bench-compare.sh share; sourced, never run. Needs common.sh, apt.sh, tools.sh.
# Gives: WORK (a folder that is removed at the end), ensure_valgrind, build_paths, run.

TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
# Inside the tree: what is built there finds the tree's own settings of cargo.
WORK=$TARGET/comparing
CHILD=

# Each command has a process group of its own: a signal to this script alone ends all of it, too.
set -m
run() {
  "$@" &
  CHILD=$!
  local status=0
  wait "$CHILD" || status=$?
  CHILD=
  return "$status"
}

clean_up() {
  if [ -n "$CHILD" ]; then
    kill -TERM -- "-$CHILD" 2>/dev/null || true
    wait "$CHILD" 2>/dev/null || true
  fi
  rm -rf "$WORK"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

rm -rf "$WORK"
mkdir -p "$WORK"

ensure_valgrind() {
  if have valgrind; then return; fi
  apt_install "valgrind, which counts instructions" valgrind
}

# build_paths TREE TARGET [OPTION...]: into TARGET/counted. In one unit: where there are several, what is inlined in one function
# depends on which others are compiled beside it, and paths differ by 10 % that nobody has touched.
build_paths() {
  local tree=$1 target=$2 profile=profile.counted
  shift 2
  (cd "$tree" && CARGO_TARGET_DIR=$target cargo build --quiet -p autoembed-paths --profile counted \
    --config "$profile.inherits='release'" --config "$profile.codegen-units=1" --config "$profile.lto='fat'" "$@")
}
